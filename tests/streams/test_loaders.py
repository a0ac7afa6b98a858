"""What loads data for training: DataLoader of PyTorch, shards and the library of WebDataset."""

import io
import tarfile

import numpy as np
import pytest

from bnstream import SourceError, fit

X = np.random.default_rng(0).normal(1, 2, (30, 3)).astype(np.float32)
EXACT = fit(X, exact=True)


def test_data_loaders():
    torch = pytest.importorskip("torch")
    data = torch.utils.data
    x, y = torch.from_numpy(X), torch.arange(30)
    for workers in (0, 2):
        # A forked worker might wait for ever: other tests leave threads of JAX and of OpenMP in this process.
        loader = data.DataLoader(data.TensorDataset(x), batch_size=7, num_workers=workers,
                                 multiprocessing_context="spawn" if workers else None)
        assert fit(loader, exact=True) == EXACT
    pairs = data.DataLoader(data.TensorDataset(x, y), batch_size=7)
    with pytest.raises(SourceError, match="key="):
        fit(pairs)
    assert fit(pairs, exact=True, key=0) == EXACT
    with pytest.raises(SourceError, match="item='row'"):
        fit([row for (row,) in data.TensorDataset(x)])
    assert fit(data.TensorDataset(x), exact=True, item="row") == EXACT
    mappings = data.DataLoader([{"x": row, "label": 1} for row in x], batch_size=7)
    assert fit(mappings, exact=True, key="x") == EXACT


def shard(path, samples):
    """Write a shard as WebDataset lays it out: files of one name and several suffixes are one sample."""
    with tarfile.open(path, "w") as tar:
        for name, parts in samples.items():
            for suffix, content in parts.items():
                info = tarfile.TarInfo(f"{name}.{suffix}")
                info.size = len(content)
                tar.addfile(info, io.BytesIO(content))


@pytest.fixture
def images(folder):
    """Two shards of images beside their labels, and the images."""
    image = pytest.importorskip("PIL.Image")
    x = np.random.default_rng(1).integers(0, 255, (6, 4, 5, 3), np.uint8)
    for first in (0, 3):
        samples = {}
        for i in range(first, first + 3):
            image.fromarray(x[i]).save(content := io.BytesIO(), "png")
            samples[f"{i:03}"] = {"png": content.getvalue(), "cls": b"1", "json": b'{"a": 1}'}
        shard(f"shard-{first}.tar", samples)
    return x


def test_shards(images):
    pytest.importorskip("fsspec")
    m = fit("shard-*.tar", exact=True)
    assert (m.names, m.n.tolist()) == (("R", "G", "B"), [120] * 3)
    np.testing.assert_array_equal(m.mean, images.reshape(-1, 3).mean(0))


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")     # The library leaves shards open.
def test_webdataset(images, folder):
    webdataset = pytest.importorskip("webdataset")
    samples = webdataset.WebDataset(str(folder / "shard-{0,3}.tar"), shardshuffle=False).decode("rgb8")
    m = fit(samples, exact=True, key="png", channel_axis=-1)
    np.testing.assert_array_equal(m.mean, images.reshape(-1, 3).mean(0))
