"""State files: a state is restored to the last bit, also from files of older versions."""

import json
import pickle
import sys
import zipfile
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from support.arrays import BFLOAT16, normal
from support.processes import python
from support.states import SAVED, bits, holed, trained

import bnstream
from bnstream import BatchNorm, Moments
from bnstream.core.batchnorm import running_of
from bnstream.core.layer import settings_of
from bnstream.core.moments import sums_of
from bnstream.statefiles import StateError, load, read, save, write

STATES = Path(__file__).parent / "states"
SAVE = """
import sys
from support.states import trained
from bnstream.statefiles import save
save(sys.argv[1], trained())
"""


@pytest.fixture
def path(tmp_path):
    return tmp_path / "state"


@pytest.mark.parametrize("name", SAVED)
def test_round_trip(name, path):
    """Every bit, every setting and the names are restored, and are saved to the same bytes again."""
    state = SAVED[name]()
    save(path, state)
    loaded = load(path)
    assert loaded == state
    assert type(loaded) is type(state)
    assert bits(loaded) == bits(state)
    first = path.read_bytes()
    save(path, loaded)
    assert path.read_bytes() == first
    assert read(path).metadata["completeness"] == "complete"


@pytest.mark.parametrize("name", SAVED)
def test_further_updates(name, path):
    """They give the same bits as to a state that was never saved."""
    state = SAVED[name]()
    save(path, state)
    loaded = load(path)
    shape = {"images": (4, 3, 5, 2), "one feature": (9, 1), "columns": (9, 2), "many updates": (9, 2),
             "empty, named": (2, 9)}.get(name, (9, 2, 3) if " norm" in name else (9, 3))
    for one in (state, loaded):
        if isinstance(one, Moments):
            one.update(normal(shape, 9))
        else:
            one.train()(normal(shape, 9))
    assert bits(loaded) == bits(state)


def test_gradients_are_left_out(path):
    bn = trained()
    _, backward = bn.vjp(normal((20, 3)))
    backward(normal((20, 3)), accumulate=True)
    save(path, bn)
    assert bn.grad_gamma is not None
    assert load(path).grad_gamma is load(path).grad_beta is None


def test_the_bytes_depend_on_the_state_alone(tmp_path):
    """They do not depend on the file name, the time or the process."""
    save(tmp_path / "a", trained())
    python("-c", SAVE, str(tmp_path / "b.npz"))
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b.npz").read_bytes()
    with zipfile.ZipFile(tmp_path / "a") as archive:
        infos = archive.infolist()
    assert {(info.date_time, info.create_system) for info in infos} == {((1980, 1, 1, 0, 0, 0), 3)}
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a", "b.npz"]


def test_numpy_reads_it(path):
    m = holed()
    save(path, m)
    arrays = np.load(path, allow_pickle=False)
    np.testing.assert_array_equal(arrays["n"], m.n)
    np.testing.assert_array_equal(arrays["m2"], m.m2)
    assert arrays["mean"][:2].tolist() == m.mean[:2].tolist()
    assert json.loads(arrays["bnstream.json"])["names"] == list(m.names)


def test_metadata(path):
    """The file has the conventions in words, and every setting."""
    save(path, holed())
    metadata = read(path).metadata
    assert metadata["conventions"]["m2"].startswith("m2 + m2_lo is the sum of squared deviations")
    del metadata["conventions"]
    assert metadata == {"format": "bnstream", "version": 1, "bnstream": bnstream.__version__, "kind": "moments",
                        "completeness": "complete", "axis": 0, "nan_policy": "omit",
                        "names": list(holed().names), "shape": [3]}
    save(path, trained(momentum=None, names=["a", "b", "c"]))
    metadata = read(path).metadata
    assert metadata["conventions"]["momentum"].startswith("weight of the new batch, as in PyTorch")
    assert metadata["settings"] == {
        "num_features": 3, "eps": 1e-5, "momentum": None, "scale": True, "bias": True, "channel_axis": 1,
        "dtype": "float32", "result_dtype": None, "running_ddof": 1, "nan_policy": "raise", "renorm": False,
        "r_max": 3.0, "d_max": 5.0, "virtual_batch": None}
    assert (metadata["names"], metadata["training"], metadata["num_batches_tracked"]) == (["a", "b", "c"], True, 3)
    assert metadata["pooled"]["nan_policy"] == "raise"


def test_checkpoints(path):
    """They record the progress, and `load` refuses them."""
    m = Moments().update(np.ones((2, 3)))
    progress = {"sources": ["a.csv", 0.5, None], "rows": np.int64(7), "done": True}
    write(path, m, progress=progress)
    with pytest.raises(ValueError, match=r"state is the checkpoint of an unfinished pass; resume it with") as info:
        load(path)
    assert not isinstance(info.value, StateError)
    file = read(path)
    assert file.state == m
    assert file.metadata["completeness"] == "partial"
    assert file.metadata["progress"] == progress
    write(path, m, progress={})
    assert read(path).metadata["completeness"] == "partial"


def test_imported(path):
    write(path, trained(), lacks=["n", "eps"])
    assert load(path) == trained()
    assert read(path).metadata["completeness"] == "imported"
    assert read(path).metadata["lacks"] == ["n", "eps"]


@pytest.mark.parametrize(("state", "progress", "message"), [
    (np.ones(3), None, "expected a Moments, a GroupedMoments or a layer to save, got ndarray"),
    (None, None, "got NoneType"),
    (Moments(), {"at": object()}, "expected a value that JSON can hold, got object"),
])
def test_what_cannot_be_saved(state, progress, message, path):
    path.write_bytes(b"old")
    with pytest.raises(TypeError, match=message):
        write(path, state, progress=progress)
    assert path.read_bytes() == b"old"
    assert list(path.parent.iterdir()) == [path]


def test_bfloat16_without_its_package(path, monkeypatch):
    save(path, trained(dtype=BFLOAT16))
    monkeypatch.setitem(sys.modules, "ml_dtypes", None)
    with pytest.raises(ModuleNotFoundError, match="dtype bfloat16 needs ml_dtypes, which is not installed"):
        load(path)


def test_version_1_of_moments():
    """The values are those of states/make.py."""
    m = load(STATES / "moments-1.npz")
    assert (m.axis, m.nan_policy, m.names, m.shape) == (0, "omit", ("height", "weight"), (2,))
    assert (m.n.tolist(), m.mean.tolist(), m.m2.tolist()) == ([3, 2], [3.0, 20.0], [14.0, 200.0])


def test_version_1_of_exact_moments():
    """Their digests are those that this version computes for the same data, whatever wrote the file."""
    x = [[1e300, 0.1], [-5e-324, 0.2], [2.0**60, 0.3]]
    m = load(STATES / "exact-1.npz")
    assert (m.exact, m.axis, m.nan_policy, m.names, m.shape) == (True, 0, "raise", ("wide", "tenth"), (2,))
    assert m.n.tolist() == [3, 3]
    assert m.mean.tolist() == [float(sum(map(Fraction, column)) / 3) for column in zip(*x, strict=True)]
    assert m.digest() == "1c38db73d999342940cab35b9d0ecd456b4274ce820c106b680a9dada463707f"
    assert m == Moments(exact=True, names=m.names).update(x)
    assert (m - m.copy().unmerge(Moments(exact=True).update(x[:1]))).mean.tolist() == x[0]
    m = load(STATES / "exact_not_finite-1.npz")
    assert (m.exact, m.axis, m.nan_policy, m.names, m.shape) == (True, (0, -1), "propagate", None, (3,))
    assert sums_of(m).counts.tolist() == [[2, 3, 3], [2, 0, 0], [0, 1, 0], [0, 0, 1]]
    assert np.array_equal(m.mean, [np.nan, np.inf, -np.inf], equal_nan=True)
    assert m.digest() == "d2d35b5fe1e94ae3b1605203f0d9644bfd8c722d316ef5f1ab42776daa5e4e7e"


def test_version_1_of_a_layer():
    bn = load(STATES / "batchnorm-1.npz")
    assert bn.names == ("u", "v")
    assert settings_of(bn) == {
        "num_features": 2, "eps": 0.25, "momentum": 0.5, "scale": True, "bias": True, "channel_axis": -1,
        "dtype": np.float32, "result_dtype": None, "running_ddof": 0, "nan_policy": "raise", "renorm": False,
        "r_max": 3.0, "d_max": 5.0, "virtual_batch": None}
    assert (bn.training, bn.num_batches_tracked) == (False, 1)
    assert (bn.gamma.tolist(), bn.beta.tolist()) == ([2.0, -1.0], [0.5, 0.0])
    assert running_of(bn).rows.tolist() == [[1.0, 2.0], [1.0, 2.5], [0.125, 0.125], [0.5, 0.5], [2.0, 4.0], [1.0, 4.0]]
    assert (bn.pooled.n.tolist(), bn.pooled.mean.tolist(), bn.pooled.m2.tolist()) == ([2, 2], [2.0, 4.0], [2.0, 8.0])


def test_version_1_of_other_layers():
    norm = load(STATES / "layernorm-1.npz")
    assert (norm.normalized_shape, norm.eps, norm.gamma.tolist(), norm.beta) == ((1, 2), 0.25, [[2.0, -1.0]], None)
    assert (norm.names, norm.training, norm.dtype) == (("u", "v"), False, np.float32)
    norm = load(STATES / "rmsnorm-1.npz")
    assert (norm.normalized_shape, norm.eps, norm.dtype, norm.result_dtype) == ((2,), None, np.float64, np.float32)
    norm = load(STATES / "groupnorm-1.npz")
    assert (norm.num_groups, norm.channel_axis, norm.beta.tolist()) == (1, -1, [0.5, 0.0])
    norm = load(STATES / "instancenorm-1.npz")
    assert (norm.momentum, norm.num_batches_tracked, norm.affine) == (None, 1, False)
    assert (norm.running_mean.tolist(), norm.running_var.tolist()) == ([11.0], [101.0])
    assert norm.state_dict().pooled.n.tolist() == [2, 2]


def test_tracked_moments_groups_and_domains():
    m = load(STATES / "tracked-2.npz")
    assert (m.track, m.n.tolist(), m.missing.tolist()) == (("min", "max", "missing", "skewness", "kurtosis"), [3], [1])
    assert (m.min.tolist(), m.max.tolist(), m.mean.tolist(), m.m2.tolist()) == ([1.0], [6.0], [3.0], [14.0])
    g = load(STATES / "groups-1.npz")
    assert (list(g), g.key_names) == ([("AA", 1), ("AA", 2), ("UA", 1)], ("carrier", "month"))
    assert (g.names, g.mean.tolist()) == (("delay",), [[1.0], [5.0], [3.0]])
    bn = load(STATES / "domainbatchnorm-1.npz")
    assert (list(bn), bn.training, bn["a"].names, bn["a"].momentum) == (["a", "b"], False, ("u",), 0.5)
    assert [layer.running_mean.tolist() for layer in bn.values()] == [[1.0], [10.0]]
    assert [layer.running_var.tolist() for layer in bn.values()] == [[1.0], [50.5]]
    assert [layer.gamma.tolist() for layer in bn.values()] == [[1.0], [2.0]]


def test_names_of_a_layer():
    bn = BatchNorm(2, names=["a", "b"])
    assert bn.names == ("a", "b")
    assert bn == BatchNorm(2)
    assert bn.copy().names == pickle.loads(pickle.dumps(bn)).names == ("a", "b")
    for names, error, message in ((["a"], ValueError, "expected 2 names, one for each channel or element, got 1"),
                                  (["a", "a"], ValueError, "names must differ, got 'a' twice"),
                                  ("ab", TypeError, "names must be a sequence of str, got the str 'ab'"),
                                  ([1, 2], TypeError, "names must be of str, got 1 of type int")):
        with pytest.raises(error, match=message):
            bn.names = names
        with pytest.raises(error, match=message):
            BatchNorm(2, names=names)
    assert bn.names == ("a", "b")
    bn.names = None
    assert bn.names is BatchNorm(2).names is None
