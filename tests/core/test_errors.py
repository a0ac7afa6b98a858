"""Refused calls: the message says what came and what was expected, and the state is unchanged."""

import ml_dtypes
import numpy as np
import pytest
from support.arrays import of_dtype

import bnstream
from bnstream import BatchNorm, Moments, batch_norm, mean_var, normalize

X = of_dtype("f8", (8, 3))
ACCEPTED = r"expected float16, bfloat16, float32, float64, bool, or integers of 8 to 64 bits: "

FLOAT = r"convert it with x\.astype\(float\)"
PARTS = r"pass x\.real and x\.imag separately"
REFUSED_DTYPES = {
    "complex64": (X.astype("c8"), "complex64", PARTS),
    "complex128": (X.astype("c16"), "complex128", PARTS),
    "object": (X.astype(object), "object", FLOAT),
    "string": (X.astype("U5"), "<U5", FLOAT),
    "bytes": (X.astype("S5"), r"\|S5", FLOAT),
    "new string": (X.astype(np.dtypes.StringDType()), "StringDType.*", FLOAT),
    "list of strings": ([["a", "b", "c"]], "<U1", FLOAT),
    "structured": (np.zeros((8, 3), [("a", "f4")]), r"\[\('a', '<f4'\)\]", r"pass one field, x\['name'\], at a time"),
    "void": (np.zeros((8, 3), "V8"), r"\|V8", ""),
    "datetime64": (np.zeros((8, 3), "M8[s]"), r"datetime64\[s\]", r"pass x\.astype\('int64'\)"),
    "timedelta64": (np.zeros((8, 3), "m8[D]"), r"timedelta64\[D\]", r"pass x\.astype\('int64'\)"),
    "int4": (np.zeros((8, 3), ml_dtypes.int4), "int4", r"convert it with x\.astype"),
    "float8": (np.zeros((8, 3), ml_dtypes.float8_e4m3fn), "float8_e4m3fn", r"convert it with x\.astype"),
}
if np.dtype("g").itemsize > 8:
    REFUSED_DTYPES["longdouble"] = X.astype("g"), str(np.dtype("g")), rf"{FLOAT}, which rounds"

# Batches of three channels that mean_var and update refuse: error, message.
REFUSED_BATCHES = {
    **{name: (x, TypeError, f"dtype {got}; {ACCEPTED}{advice}") for name, (x, got, advice) in REFUSED_DTYPES.items()},
    "masked": (np.ma.array(X, mask=X > 20), TypeError,
               r"masked array; fill it with x\.filled\(value\), or pass np\.asarray\(x\) with where=~x\.mask"),
    "masked, nothing hidden": (np.ma.array(X), TypeError, "masked array"),
    "ragged": ([[1, 2, 3], [4, 5]], ValueError, "nested sequences of equal lengths, got list: "),
    "ragged tuple": (([1.0], [2.0, 3.0]), ValueError, "nested sequences of equal lengths, got tuple: "),
    "0-d": (np.array(1.0), ValueError, "at least 1 dimension, got a 0-d array"),
    "number": (3.5, ValueError, "at least 1 dimension, got a 0-d array"),
}


@pytest.mark.parametrize("name", REFUSED_BATCHES)
def test_arrays(name, unchanged):
    x, error, message = REFUSED_BATCHES[name]
    with pytest.raises(error, match=message):
        mean_var(x)
    for policy in ("raise", "omit", "propagate"):
        unchanged(Moments(nan_policy=policy).update(X), error, message, lambda m: m.update(x))
        unchanged(Moments(nan_policy=policy), error, message, lambda m: m.update(x))


@pytest.mark.parametrize(("axis", "error", "message"), [
    (2, np.exceptions.AxisError, r"axis 2 is out of range for an array of 2 dimensions; expected -2 to 1"),
    (-3, ValueError, r"axis -3 is out of range for an array of 2 dimensions; expected -2 to 1"),
    ((0, 5), ValueError, r"axis 5 is out of range"),
    (10**30, ValueError, r"axis 10{30} is out of range"),
    (-10**30, ValueError, r"axis -10{30} is out of range"),
    ((0, 0), ValueError, r"axis 0 is given twice in axis=\(0, 0\)"),
    ((1, -1), ValueError, r"axis -1 is given twice in axis=\(1, -1\)"),
    (0.0, TypeError, r"axis must be an int, a tuple of ints or None, got 0\.0"),
    ("0", TypeError, r"axis must be an int, a tuple of ints or None, got '0'"),
    ((0, None), TypeError, r"axis must be an int, a tuple of ints or None, got None"),
    (((0,),), TypeError, r"axis must be an int, a tuple of ints or None, got \(0,\)"),
])
def test_axis(axis, error, message, unchanged):
    with pytest.raises(error, match=message):
        mean_var(X, axis)
    if axis in (2, -3, (0, 5), (1, -1)):        # some arrays have such axes
        unchanged(Moments(axis), error, message, lambda m: m.update(X))
    else:
        with pytest.raises(error, match="axis"):
            Moments(axis)


NORMALIZATIONS = {
    "normalize": lambda x: normalize(x, 0, 1), "batch_norm": lambda x: batch_norm(x, np.zeros(3), np.ones(3)),
    "training": lambda x: batch_norm(x, np.zeros(3), np.ones(3), training=True),
    "training, omit": lambda x: batch_norm(x, None, None, training=True, nan_policy="omit"),
}


@pytest.mark.parametrize("call", NORMALIZATIONS)
@pytest.mark.parametrize("name", REFUSED_BATCHES)
def test_arrays_to_normalize(name, call):
    x, error, message = REFUSED_BATCHES[name]
    if error is TypeError and "masked" not in name:
        message = message.partition(";")[0]
    with pytest.raises(error, match=message):
        NORMALIZATIONS[call](x)


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("name", REFUSED_BATCHES)
def test_arrays_for_a_layer(name, training, unchanged):
    x, error, message = REFUSED_BATCHES[name]
    for options in ({}, {"renorm": True}, {"nan_policy": "omit"}, {"nan_policy": "propagate", "momentum": None}):
        bn = BatchNorm(3, **options)
        bn(X)
        bn.backward(X)
        unchanged(bn.train(training), error, message.partition(";")[0], lambda m: m(x))


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize(("x", "message"), [
    (X[0], r"at least 2 dimensions, .* got shape \(3,\); make a batch of one sample with x\[None\]"),
    (X[:, :2], r"expected 3 channels along axis 1, got 2 from x of shape \(8, 2\); channel_axis says which axis holds"),
    (X.T, r"expected 3 channels along axis 1, got 8 from x of shape \(3, 8\)"),
    (X[:, :0], "expected 3 channels along axis 1, got 0"),
])
def test_channels_of_a_layer(x, message, training, unchanged):
    bn = BatchNorm(3)
    bn(X)
    unchanged(bn.train(training), ValueError, message, lambda m: m(x))
    with pytest.raises(ValueError, match=r"at least 2 dimensions|axis 1 is out of range|shape"):
        batch_norm(x, np.zeros(3), np.ones(3), training=training)


@pytest.mark.parametrize(("change", "error", "message"), [
    ({"mean": np.zeros(2)}, ValueError, r"mean of shape \(2,\) does not broadcast against x of shape \(8, 3\);"),
    ({"mean": np.zeros((1, 8, 3))}, ValueError, r"mean of shape \(1, 8, 3\) does not broadcast"),
    ({"mean": np.zeros(8)}, ValueError, "or pass channel_axis for parameters of one axis"),
    ({"mean": np.zeros((1, 3)), "channel_axis": 1}, ValueError, r"shape of the channels, \(3,\), .* got \(1, 3\)"),
    ({"var": np.ones(2), "channel_axis": 1}, ValueError, r"var must have the shape of the channels"),
    ({"mean": np.zeros(3, "c8")}, TypeError, "mean must be of real numbers, got dtype complex64"),
    ({"mean": ["a", "b", "c"]}, TypeError, "mean must be of real numbers, got dtype <U1"),
    ({"mean": np.zeros(3, object)}, TypeError, "mean must be of real numbers, got dtype object"),
    ({"mean": None}, TypeError, "mean"), ({"var": None}, TypeError, "var"),
    ({"var": np.ones(4)}, ValueError, r"var of shape \(4,\) does not broadcast"),
    ({"var": [1, -1, 1]}, ValueError, r"var must not be negative, got -1\.0 in channel 1"),
    ({"var": -1e-300}, ValueError, r"var must not be negative, got -1e-300$"),
    ({"gamma": np.ones(2)}, ValueError, r"gamma of shape \(2,\) does not broadcast"),
    ({"beta": np.ones((3, 1))}, ValueError, r"beta of shape \(3, 1\) does not broadcast"),
    ({"gamma": "abc"}, TypeError, "expected an array of numbers, got str"),
    ({"gamma": np.ma.ones(3)}, TypeError, "masked array"),
    ({"eps": -1e-9}, ValueError, "eps must be a finite number of at least 0, got -1e-09"),
    ({"eps": np.nan}, ValueError, "eps must be a finite number of at least 0, got nan"),
    ({"eps": np.inf}, ValueError, "eps must be a finite number of at least 0, got inf"),
    ({"eps": "0"}, TypeError, "eps must be a real number, got '0'"),
    ({"eps": None}, TypeError, "eps must be a real number, got None"),
    ({"channel_axis": (1, 0)}, ValueError, r"channel_axis must name axes in the order of the array, got \(1, 0\)"),
    ({"channel_axis": 2}, np.exceptions.AxisError, "axis 2 is out of range for an array of 2 dimensions; expected -2"),
    ({"channel_axis": -3}, ValueError, "axis -3 is out of range"),
    ({"channel_axis": (0, -2)}, ValueError, "axis -2 is given twice"),
    ({"channel_axis": 1.0}, TypeError, "axis must be an int"), ({"n_threads": 0}, ValueError, "number of threads"),
])
def test_parameters_of_normalize(change, error, message):
    """A refused call writes nothing."""
    out = np.full(X.shape, 7.0)
    given = {"mean": np.zeros(3), "var": np.ones(3), "out": out, **change}
    with pytest.raises(error, match=message):
        normalize(X, **given)
    given["running_mean"], given["running_var"] = given.pop("mean"), given.pop("var")
    with pytest.raises((TypeError, error)):         # batch_norm takes parameters of one axis only.
        batch_norm(X, **given)
    assert (out == 7).all()


WHOLE = r"running_mean must be a writeable floating array of shape \(3,\), got shape "
REFUSED_TRAINING = [
    ({"momentum": -0.1}, ValueError, r"momentum must be from 0 to 1, the weight of the batch, got -0\.1"),
    ({"momentum": 1.5}, ValueError, r"momentum must be from 0 to 1, the weight of the batch, got 1\.5"),
    ({"momentum": np.nan}, ValueError, "momentum must be from 0 to 1, the weight of the batch, got nan"),
    ({"momentum": None}, TypeError, "momentum must be a real number, got None"),
    ({"eps": -1}, ValueError, "eps must be"),
    ({"running_mean": None}, TypeError, "running_mean and running_var go together; pass both, or None for both"),
    ({"running_mean": [0, 0, 0]}, TypeError, "running_mean must be an array, as training updates it in place, or None"),
    ({"running_mean": np.zeros(2)}, ValueError, WHOLE + r"\(2,\) of float64"),
    ({"running_mean": np.zeros(3, "i4")}, ValueError, WHOLE + r"\(3,\) of int32"),
    ({"running_mean": np.broadcast_to(0.0, 3)}, ValueError, WHOLE + r"\(3,\) of float64, read-only"),
    ({"running_mean": np.zeros(3, "c8")}, ValueError, WHOLE + r"\(3,\) of complex64"),
    ({"nan_policy": "ignore"}, ValueError, "nan_policy must be 'propagate', 'raise' or 'omit', got 'ignore'"),
    ({"gamma": np.ones(2)}, ValueError, "gamma must have the shape of the channels"),
    ({"running_ddof": "1"}, TypeError, "running_ddof must be a real number, got '1'"),
    ({"channel_axis": 2}, ValueError, "axis 2 is out of range"),
    ({"out": np.ones((3, 8))}, ValueError, "out must have the shape"),
]


@pytest.mark.parametrize(("change", "error", "message"), REFUSED_TRAINING)
def test_parameters_of_training(change, error, message):
    """A refused call writes nothing and updates nothing."""
    mean, var, out = np.full(3, 5.0), np.full(3, 6.0), np.full(X.shape, 7.0)
    with pytest.raises(error, match=message):
        batch_norm(X, **{"running_mean": mean, "running_var": var, "out": out, "training": True, **change})
    assert (np.unique(mean), np.unique(var), np.unique(out)) == (5, 6, 7)


def test_inference_without_estimates():
    message = "inference needs running_mean and running_var; pass them, or training=True"
    for mean, var in ((None, np.ones(3)), (np.ones(3), None), (None, None)):
        with pytest.raises(TypeError, match=message):
            batch_norm(X, mean, var)


@pytest.mark.parametrize("axis", [64, -65, (0, 0), 1.5, "rows", [0, 0]])
def test_axis_that_no_array_has(axis):
    with pytest.raises((TypeError, ValueError), match="axis"):
        Moments(axis)


@pytest.mark.parametrize("x", [None, "abc", b"abc", {}, {1}, iter([1.0]), list])
def test_no_array(x, unchanged):
    with pytest.raises(TypeError, match=f"expected an array of numbers, got {type(x).__name__}"):
        mean_var(x)
    unchanged(Moments().update(X), TypeError, "expected an array of numbers", lambda m: m.update(x))


def test_more_channels_than_memory(unchanged):
    for n in (2**62, 461168601842738792):
        x = np.broadcast_to(np.uint8(1), (1, n))
        unchanged(Moments(), MemoryError, "no memory for the state", lambda m, x=x: m.update(x))


@pytest.mark.parametrize(("batch", "got"), [
    (np.ones((4, 2)), r"\(2,\)"), (np.ones((4, 3, 1)), r"\(3, 1\)"), (np.ones((3, 4)), r"\(4,\)"),
    (np.ones(3), r"\(\)"), (np.ones((4, 1)), r"\(1,\)"),
])
def test_channels(batch, got, unchanged):
    message = (rf"expected channels of shape \(3,\) as in the batches before, got {got} "
               r"from a batch of shape \(.*\) with axis=0")
    unchanged(Moments().update(X), ValueError, message, lambda m: m.update(batch))
    large = np.ones((20000, *np.shape(batch)[1:]))
    if large.ndim > 1 and large.size:
        unchanged(Moments().update(X), ValueError, message, lambda m: m.update(large))


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("dtype", ["f2", "f4", "f8", ml_dtypes.bfloat16])
@pytest.mark.parametrize("n", [1, 8, 30000])
def test_not_finite(n, dtype, bad, unchanged):
    x = np.ones((n, 3), dtype)
    x[n // 2, 1:] = bad
    message = (r"NaN or inf in 2 of 3 channels, the first at index 1; clean the data, or pass nan_policy='omit' .*, "
               r"or 'propagate'")
    unchanged(Moments().update(X), ValueError, message, lambda m: m.update(x))
    unchanged(Moments(), ValueError, message, lambda m: m.update(x))
    with pytest.raises(ValueError, match=message):
        mean_var(x, nan_policy="raise")
    x[n // 2, 1] = 1        # in the last channel alone
    unchanged(Moments().update(X), ValueError, "in 1 of 3 channels, the first at index 2", lambda m: m.update(x))
    planes = np.ones((2, 3, 4))
    planes[0, 2, 1] = bad
    with pytest.raises(ValueError, match=r"in 1 of 12 channels, the first at index \(2, 1\)"):
        mean_var(planes, nan_policy="raise")
    with pytest.raises(ValueError, match="NaN or inf in the only channel"):
        mean_var(planes, None, nan_policy="raise")


@pytest.mark.parametrize("value", [1e300, 1e306, 1.7e308])
def test_finite_but_large(value):
    """Sums are of deviations: equal numbers never overflow, and others up to 1e300 do not."""
    x = np.full((1000, 2), value)
    assert np.isfinite(mean_var(x, nan_policy="raise")[0]).all()
    assert np.isfinite(Moments().update(x).update(x).mean).all()
    half, _ = mean_var(x, dtype="f2", nan_policy="raise")       # overflow of the result is no error of x
    assert (half == np.inf).all()
    x = np.clip(x, None, 1e300)
    x[::2] *= -1
    assert np.isfinite(mean_var(x, nan_policy="raise")[0]).all()
    assert np.isfinite(Moments().update(x).update(x).mean).all()


@pytest.mark.parametrize("policy", ["ignore", "", None, 0, "RAISE", b"raise", ["omit"]])
def test_nan_policy(policy):
    message = "nan_policy must be 'propagate', 'raise' or 'omit', got "
    with pytest.raises(ValueError, match=message):
        mean_var(X, nan_policy=policy)
    with pytest.raises(ValueError, match=message):
        Moments(nan_policy=policy)


@pytest.mark.parametrize("dtype", ["i4", int, bool, "c16", "U", object, "M8[s]", "g"])
def test_dtype(dtype):
    if np.dtype(dtype) == np.float64:
        pytest.skip("long double is double here")
    with pytest.raises(TypeError, match=r"dtype must be float16, bfloat16, float32 or float64, got "):
        mean_var(X, dtype=dtype)


def test_dtype_that_is_none():
    with pytest.raises(TypeError, match=r"not understood|nonsense"):
        mean_var(X, dtype="nonsense")


@pytest.mark.parametrize("ddof", ["1", None, [1], 1j])
def test_ddof(ddof, unchanged):
    with pytest.raises(TypeError):
        mean_var(X, ddof=ddof)
    unchanged(Moments().update(X), TypeError, None, lambda m: m.var(ddof))


@pytest.mark.parametrize(("n", "error", "message"), [
    (0, ValueError, "the number of threads must be from 1 to 65536, got 0"),
    (-1, ValueError, "the number of threads must be from 1 to 65536, got -1"),
    (65537, ValueError, "from 1 to 65536, got 65537"),
    (10**30, ValueError, "from 1 to 65536, got 1000"),
    (1.5, TypeError, "the number of threads must be an integer, got float"),
    ("2", TypeError, "the number of threads must be an integer, got str"),
    ([1], TypeError, "the number of threads must be an integer, got list"),
])
def test_n_threads(n, error, message):
    before = bnstream.get_num_threads()
    with pytest.raises(error, match=message):
        bnstream.set_num_threads(n)
    with pytest.raises(error, match=message):
        mean_var(X, n_threads=n)
    assert bnstream.get_num_threads() == before


@pytest.mark.parametrize("other", [None, 1, X, [X], "Moments", Moments], ids=repr)
def test_merge_with_others(other, unchanged):
    message = rf"expected a Moments to merge, got {type(other).__name__}; update\(\) takes arrays"
    unchanged(Moments().update(X), TypeError, message, lambda m: m.merge(other))


def test_merge_other_channels(unchanged):
    message = r"expected channels of shape \(3,\) as here, got \(2,\) in the other Moments"
    other = Moments().update(X[:, :2])
    unchanged(Moments().update(X), ValueError, message, lambda m: m.merge(other))
    unchanged(Moments().update(X), ValueError, message, lambda m: m + other)
    unchanged(other, ValueError, "expected channels", lambda m: Moments().update(X).merge(m))
    deeper = Moments().update(X[..., None])
    unchanged(Moments().update(X), ValueError, r"got \(3, 1\) in the other", lambda m: m.merge(deeper))


def test_keyword_only():
    with pytest.raises(TypeError, match="positional"):
        mean_var(X, 0, 1)
    with pytest.raises(TypeError, match="positional"):
        Moments(0, "omit")
    with pytest.raises(TypeError, match="unexpected keyword"):
        mean_var(X, out=None)


def test_show_config():
    with pytest.raises(ValueError, match=r"mode must be 'stdout' or 'dicts', got 'json'"):
        bnstream.show_config("json")


def test_more_channels_than_memory_holds():
    for n in (1 << 50, 1 << 61):
        with pytest.raises(MemoryError, match=f"no memory for the parameters of {n} channels"):
            normalize(np.empty((0, n), np.uint8), 0, 1, channel_axis=1)


@pytest.mark.parametrize("ddof", [2, -1, np.nan])
def test_running_ddof(ddof):
    """With running_ddof equal to the size of a batch the variance would be infinite; with more, negative."""
    mean, var = np.zeros(3), np.ones(3)
    with pytest.raises(ValueError, match="running_ddof must be from 0 to below 2: 1 as in PyTorch, 0 elsewhere, got"):
        batch_norm(X, mean, var, training=True, running_ddof=ddof)
    assert (mean.tolist(), var.tolist()) == ([0] * 3, [1] * 3)


def test_one_array_for_both_estimates():
    both = np.ones(6)
    for mean, var in ((both[:3], both[:3]), (both[:3], both[2:5]), (both[:3], both[2::-1]), (both[::2], both[2:5])):
        with pytest.raises(ValueError, match="running_mean and running_var share memory"):
            batch_norm(X, mean, var, training=True)
    assert both.tolist() == [1] * 6
    batch_norm(X, both[::2], both[1::2], training=True)


class Masked(np.ndarray):
    """An array with a mask that is not of NumPy's class, such as those of Astropy."""

    mask = np.array([True] * 3)


@pytest.mark.parametrize("call", [
    lambda x: mean_var(x), lambda x: Moments().update(x), lambda x: Moments().update(np.ones(3), weights=x),
    lambda x: normalize(X, x, 1), lambda x: normalize(X, 0, 1, gamma=x), lambda x: BatchNorm(3).load_state_dict(
        BatchNorm(3).state_dict() | {"running_mean": x}), lambda x: setattr(BatchNorm(3), "gamma", x),
    lambda x: batch_norm(X, x, x), lambda x: normalize(np.ones(3), 0, 1, out=x), lambda x: bnstream.fit(x),
])
def test_masked_arrays_of_other_libraries(call):
    """NumPy would read what is masked."""
    for x in (np.ones(3).view(Masked), np.ma.array(np.ones(3), mask=True)):
        with pytest.raises((TypeError, ValueError), match=r"masked|plain array, got Masked"):
            call(x)
