"""Every class that holds a state survives every way of copying it, whole and independent."""

import pickle

import numpy as np
import pytest
from support.arrays import BFLOAT16
from support.copies import COPIES

from bnstream import BatchNorm, Moments
from bnstream.core.affine import Affine
from bnstream.runningmeanstd import RunningMeanStd

ml_dtypes = pytest.importorskip("ml_dtypes")
X = np.random.default_rng(0).standard_normal((20, 3)) + 5
NAMES = ["a", "b", "c"]
WEIGHTS = np.linspace(0.1, 1, 20)


class Named(Moments):
    """A subclass with attributes of its own."""

    title = "a"


class Titled(Moments):
    """A subclass whose constructor needs an argument."""

    def __init__(self, title):
        super().__init__(nan_policy="omit")
        self.title = title


def layer(dtype="float32", **options):
    bn = BatchNorm(3, dtype=dtype, names=NAMES, **options)
    for batch in (X, X * 2):
        bn.backward(bn(batch))
    return bn.eval()


OBJECTS = {
    "Moments": lambda: Moments().update(X),
    "Moments, weighted": lambda: Moments(nan_policy="omit", names=NAMES).update(X, weights=WEIGHTS),
    "Moments, empty": lambda: Moments((0, 2), nan_policy="propagate", names=["a"]),
    "Moments, axis=None": lambda: Moments(None).update(X),
    "Moments, tracking": lambda: Moments(track=("min", "missing", "kurtosis"), names=NAMES).update(X),
    "subclass": lambda: Named().update(X),
    "subclass with an argument": lambda: Titled("a").update(X),
    "RunningMeanStd": lambda: RunningMeanStd().update(X),
    "RunningMeanStd, bfloat16": lambda: RunningMeanStd(shape=3, dtype=BFLOAT16).update(X),
    "RunningMeanStd, byte-swapped": lambda: RunningMeanStd(shape=3, dtype=">f4").update(X),
    **{f"BatchNorm, {dtype}": lambda dtype=dtype: layer(dtype) for dtype in ("float16", "float32", "float64")},
    "BatchNorm, bfloat16": lambda: layer(ml_dtypes.bfloat16),
    "BatchNorm, pooled": lambda: layer(momentum=None),
    "BatchNorm, not affine": lambda: layer(affine=False, renorm=True),
    "Affine": lambda: Affine(Moments().update(X), eps=1e-3, gamma=[1, 2, 3]),
}


def shown(value):
    """All that an object shows, to the last bit."""
    names = [name for name in dir(value) if not name.startswith("_") and not callable(getattr(value, name, callable))]
    return {name: pickle.dumps(getattr(value, name)) for name in names if name != "moments"}


@pytest.mark.parametrize("name", OBJECTS)
@pytest.mark.parametrize("way", COPIES)
@pytest.mark.filterwarnings("default")      # those of skops
def test_copies(name, way):
    if way in ("joblib", "cloudpickle", "skops"):
        pytest.importorskip(way)
    value = OBJECTS[name]()
    before = shown(value)
    twin = COPIES[way](value)
    assert type(twin) is type(value)
    assert shown(twin) == before
    if isinstance(value, Affine):
        assert twin.of_array(X, 1).tobytes() == value.of_array(X, 1).tobytes()
        return
    assert twin == value
    assert repr(twin) == repr(value)
    if isinstance(value, BatchNorm):
        assert twin(X).tobytes() == value(X).tobytes()
        twin.train()(X)
    elif name != "Moments, empty":
        twin.update(X)
        assert twin != value
    assert shown(value) == before


@pytest.mark.parametrize("kind", [Moments, Named, Titled])
def test_moments_without_init(kind):
    """An object made by `__new__` alone is a whole one."""
    bare = kind.__new__(kind)
    assert bare == Moments()
    assert repr(bare) == repr(Moments())
    assert bare.update(X) == Moments().update(X)


@pytest.mark.parametrize("kind", [RunningMeanStd, BatchNorm])
@pytest.mark.parametrize("use", ["repr", "==", "mean", "call", "update", "state"])
def test_others_without_init(kind, use):
    """Any use of it raises."""
    bare = kind.__new__(kind)
    uses = {"repr": repr, "==": lambda value: value == value, "mean": lambda value: value.mean,
            "call": lambda value: value(X), "update": lambda value: value.update(X),
            "state": lambda value: pickle.dumps(value)}
    with pytest.raises((AttributeError, TypeError)):
        uses[use](bare)


@pytest.mark.parametrize("state", [
    {"rows": np.zeros((5, 3), np.float32)}, {"rows": np.zeros((6, 3))}, {"rows": np.zeros((5, 3)), "names": ["a"]},
    {"nan_policy": "unknown"}, {"axis": (0, 0)},
])
def test_a_state_that_is_wrong(state, unchanged):
    """It is refused, and the object stays as it was."""
    m = Moments().update(X)
    unchanged(m, ValueError, "expected|names|nan_policy|axis", lambda m: m.__setstate__({**m.__getstate__(), **state}))


def out_of_band(value):
    """The buffers of a pickle may be read-only, as they are in Dask and in Ray, which share them."""
    buffers = []
    data = pickle.dumps(value, 5, buffer_callback=buffers.append)
    return pickle.loads(data, buffers=[bytes(buffer) for buffer in buffers])


def mapped(value, path):
    joblib = pytest.importorskip("joblib")
    joblib.dump(value, path)
    return joblib.load(path, mmap_mode="r")


@pytest.mark.parametrize("name", [name for name in OBJECTS if name not in ("Moments, empty", "Affine")])
@pytest.mark.parametrize("way", [lambda value, path: out_of_band(value), mapped], ids=["out of band", "mapped"])
def test_read_only_memory(name, way, tmp_path):
    """An object that was loaded from it can be changed like any other."""
    value = OBJECTS[name]()
    twin = way(value, tmp_path / "file")
    assert twin == value
    if isinstance(value, BatchNorm):
        for bn in (value, twin):
            bn.train()(X)
            if bn.affine:
                bn.gamma = [1, 2, 3]
            bn.running_mean = [4, 5, 6]
    else:
        value.update(X)
        twin.update(X)
    assert shown(twin) == shown(value)


WRONG = {
    "dtype": {"_dtype": "M8[s/0]"}, "more features": {"_shape": (4,)}, "no features": {"_shape": (0,)},
    "gamma": {"_gamma": np.ones(2, "f4")}, "beta": {"_beta": np.ones((3, 1), "f4")},
    "gradient": {"grad_gamma": np.ones(99, "f4")}, "no estimates": {"_running": None},
    "estimates": {"_running": np.zeros((6, 3))},
}


@pytest.mark.parametrize("name", WRONG)
def test_a_state_of_a_layer_that_is_wrong(name, unchanged):
    """It is refused, and the layer stays as it was. The kernels would read and write beyond its arrays."""
    unchanged(layer(), ValueError, "dtype|num_features|shape|estimates",
              lambda bn: bn.__setstate__({**bn.__getstate__(), **WRONG[name]}))


SHAPES = [np.zeros((5, 3)), np.zeros(18), np.zeros((6, 3, 1)), np.zeros((6, 2)), np.zeros((3, 6)).T]


@pytest.mark.parametrize("rows", SHAPES, ids=lambda rows: str(rows.shape))
def test_estimates_that_are_wrong(rows):
    """Rows in another order of memory are copied, other shapes refused."""
    state = layer().__getstate__()
    running = type(state["_running"]).__new__(type(state["_running"]))
    bare = BatchNorm.__new__(BatchNorm)
    if rows.shape == (6, 3):
        running.__setstate__({"rows": rows + np.arange(1, 7)[:, None], "n_batches": [0]})
        bare.__setstate__({**state, "_running": running})
        assert (bare.running_mean.tolist(), bare.running_var.tolist()) == ([1.0] * 3, [2.0] * 3)
        assert bare(X).shape == X.shape
        return
    if rows.shape == (6, 2):
        running.__setstate__({"rows": rows, "n_batches": [0]})
        with pytest.raises(ValueError, match=r"expected running estimates of shape \(3,\)"):
            bare.__setstate__({**state, "_running": running})
    else:
        with pytest.raises(ValueError, match="expected 6 rows of running estimates, got shape"):
            running.__setstate__({"rows": rows, "n_batches": [0]})


def test_a_dtype_that_is_wrong():
    rms = RunningMeanStd()
    with pytest.raises(ValueError, match="dtype must be one of float16, bfloat16, float32, float64, got 'M8"):
        rms.__setstate__({**rms.__getstate__(), "_dtype": "M8[s/0]"})


@pytest.mark.parametrize("way", COPIES)
@pytest.mark.filterwarnings("default")      # those of skops
def test_diagnosis(way):
    if way in ("joblib", "cloudpickle", "skops"):
        pytest.importorskip(way)
    diagnosis = layer(track_pooled=True).diagnose()
    assert shown(COPIES[way](diagnosis)) == shown(diagnosis)
