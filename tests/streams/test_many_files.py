"""Folders of many small tables, each of which is opened when its turn comes."""

import numpy as np
import pytest
from support.passes import Stop, stop_after

from bnstream import SourceError, apply, fit
from bnstream.streams.sources import deferred
from bnstream.streams.sources.tables import parquet as parquet_files

pa = pytest.importorskip("pyarrow")
parquet = pytest.importorskip("pyarrow.parquet")
X = np.random.default_rng(0).normal(size=(40, 5, 2))


@pytest.fixture
def many(folder, monkeypatch):
    """More files than are opened before the pass."""
    monkeypatch.setattr("bnstream.streams.sources.files.MANY", 10)
    (folder / "data").mkdir()
    for i, x in enumerate(X):
        parquet.write_table(pa.table({"a": x[:, 0], "b": x[:, 1]}), f"data/{i:02}.parquet")
    return folder / "data"


def test_the_same_numbers(many, monkeypatch):
    m = fit("data", exact=True)
    assert m == fit(X.reshape(-1, 2), exact=True, columns=["a", "b"])
    opened = []
    for module in (deferred, parquet_files):
        monkeypatch.setattr(module, "SMALL_BYTES", 0)
    make = parquet.ParquetFile.__init__
    monkeypatch.setattr(parquet.ParquetFile, "__init__",
                        lambda *args, **options: (opened.append(1), make(*args, **options))[1])
    assert fit("data", exact=True, n_threads=1) == m
    n_first = len(opened)
    for module in (deferred, parquet_files):
        monkeypatch.setattr(module, "SMALL_BYTES", 1 << 20)
    opened.clear()
    assert fit("data", exact=True, n_threads=1) == m
    assert len(opened) == len(X) < n_first


def test_a_file_that_differs(many):
    parquet.write_table(pa.table({"a": [1.0]}), many / "20.parquet")
    with pytest.raises(SourceError, match=r"20\.parquet lacks 'b', unlike data/00\.parquet; select columns that all"):
        fit("data")
    assert fit("data", columns=["a"]).n.tolist() == [len(X) * 5 - 4]
    (many / "20.parquet").write_bytes(b"PAR1")
    with pytest.raises(SourceError, match=r"20\.parquet"):
        fit("data", "out.npz")


def test_resume(many):
    m = fit("data")
    with pytest.raises(Stop):
        fit("data", "out.npz", progress=stop_after(17), checkpoint_every=0)
    assert fit("data", "out.npz", resume=True) == m


def test_partitions_and_apply(many):
    assert apply(fit("data"), "data", "y.parquet") == X.shape[0] * X.shape[1]
    for i in range(40):
        (target := many / f"k={i % 3}").mkdir(exist_ok=True)
        (many / f"{i:02}.parquet").rename(target / f"{i:02}.parquet")
    assert fit("data", columns=["a", "k"]).mean[1] == np.mean([i % 3 for i in range(40)])
