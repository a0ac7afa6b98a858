"""normalize, and inference of batch_norm and BatchNorm: every dtype, layout and out; results are rounded once."""

import functools

import ml_dtypes
import mpmath
import numpy as np
import pytest
from support.arrays import BFLOAT16, DTYPES, LAYOUTS, PLACES, normal, of_dtype, rng
from support.batchnorm_oracle import (
    EPS,
    affine,
    assert_within,
    batch_axes,
    folded,
    inverse_sd,
    normalized,
    pair,
    worst_share,
)
from support.cases import pairwise

from bnstream import BatchNorm, batch_norm, mean_var, normalize
from bnstream.core.forward import normalize_and_look

SHAPES = {
    "table": ((300, 5), -1), "wide": ((9, 1300), 1), "one channel": ((700, 1), 1), "rows": ((4, 310), 0),
    "7 x 7": ((5, 9, 7, 7), 1), "3 x 3": ((6, 4, 3, 3), 1), "56 x 56": ((2, 3, 56, 56), 1),
    "channels last": ((3, 8, 9, 3), -1), "two channel axes": ((4, 3, 5, 6), (1, 3)),
    "channels at both ends": ((3, 7, 4, 2), (0, -1)), "no batch axis": ((4, 6), (0, 1)),
    "no channel axis": ((40, 3), ()), "vector": ((50,), 0), "five": ((2, 3, 2, 4, 5), 2),
    "one image": ((1, 70, 7, 7), 1), "long rows": ((130, 270), 0),
}


def result_dtype(x):
    return x.dtype.newbyteorder("=") if x.dtype.kind == "f" or x.dtype == BFLOAT16 else np.dtype("f4")


@functools.cache
def case(shape, dtype):
    """Return (x, mean, var, gamma, beta, channel_axis) and the exact result with its error bound."""
    dims, channel_axis = SHAPES[shape]
    x = of_dtype(dtype, dims)
    axes = batch_axes(x.ndim, channel_axis)
    wide = x.astype(np.float64)
    r = rng(7)
    channels = wide.mean(axes).shape
    mean = wide.mean(axes) + 0.1 * wide.std() * r.standard_normal(channels)
    var = ((wide.std(axes) + 0.1 * np.abs(mean) + 0.1) * r.uniform(0.5, 2, channels)) ** 2
    gamma, beta = r.standard_normal((2, *channels))
    return (x, mean, var, gamma, beta, channel_axis), normalized(x, mean, var, gamma, beta, 1e-3, channel_axis)


@pytest.mark.parametrize(("layout", "shape", "dtype"), pairwise(LAYOUTS, SHAPES, DTYPES), ids=str)
def test_grid(layout, shape, dtype):
    (values, mean, var, gamma, beta, channel_axis), exact = case(shape, dtype)
    if values.ndim == 1 and layout == "first two swapped":
        pytest.skip("there are no two axes")
    x = LAYOUTS[layout](values)
    before = x.tobytes()
    given = {"eps": 1e-3, "channel_axis": channel_axis}
    y = normalize(x, mean, var, gamma, beta, **given)
    assert x.tobytes() == before
    assert y.dtype == result_dtype(x)
    assert y.dtype.isnative
    assert not np.shares_memory(x, y)
    assert_within(y, *exact)
    for name, place in PLACES.items():
        out = place(x.shape, y.dtype)
        assert normalize(x, mean, var, gamma, beta, **given, out=out) is out
        assert out.astype(y.dtype).tobytes() == y.tobytes(), name
    assert x.tobytes() == before
    x = LAYOUTS[layout](values.copy())
    if x.flags.writeable and dtype == y.dtype:
        assert normalize(x, mean, var, gamma, beta, **given, out=x) is x
        assert x.astype(y.dtype).tobytes() == y.tobytes()


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("shape", [name for name in SHAPES if isinstance(SHAPES[name][1], int) and name != "vector"])
def test_batch_norm_and_layer(shape, dtype):
    """Inference is normalize by the running estimates, bit for bit."""
    (x, mean, var, gamma, beta, channel_axis), _ = case(shape, dtype)
    wanted = normalize(x, mean, var, gamma, beta, eps=1e-3, channel_axis=channel_axis)
    y = batch_norm(x, mean, var, gamma, beta, eps=1e-3, channel_axis=channel_axis)
    assert y.dtype == wanted.dtype
    assert y.tobytes() == wanted.tobytes()
    bn = BatchNorm(mean.size, eps=1e-3, channel_axis=channel_axis, dtype="f8").eval()
    bn.gamma, bn.beta, bn.running_mean, bn.running_var = gamma, beta, mean, var
    before = bn.copy()
    assert bn(x).tobytes() == wanted.tobytes()
    for place in PLACES.values():
        source, out = x.copy(), place(x.shape, y.dtype)
        assert bn(source, out) is out
        np.testing.assert_array_equal(out, wanted)
        out[...] = 0
        given = {"eps": 1e-3, "channel_axis": channel_axis, "out": out}
        assert batch_norm(source, mean, var, gamma, beta, **given) is out
        np.testing.assert_array_equal(out, wanted)
    if x.dtype == y.dtype:
        again = x.copy()
        assert bn(again, again) is again
        np.testing.assert_array_equal(again, wanted)
    assert bn == before


def test_oracle():
    """The oracle agrees with 60 digits, and a changed result exceeds the bound."""
    (x, mean, var, gamma, beta, _), ((hi, lo), slack) = case("table", np.dtype("f8"))
    with mpmath.workdps(60):
        for i in range(20):
            for c in range(5):
                scale = mpmath.mpf(gamma[c]) / mpmath.sqrt(mpmath.mpf(var[c]) + mpmath.mpf(1e-3))
                wanted = (mpmath.mpf(x[i, c]) - mpmath.mpf(mean[c])) * scale + mpmath.mpf(beta[c])
                assert abs(mpmath.mpf(hi[i, c]) + mpmath.mpf(lo[i, c]) - wanted) < 1e-28 * slack[i, c] / EPS
    y = normalize(x, mean, var, gamma, beta, eps=1e-3)
    y[7, 3] += 8 * slack[7, 3] + 4 * EPS * abs(y[7, 3])
    assert worst_share(y, (hi, lo), slack) > 1


def far(ratio, dtype="f4"):
    """Return data of sd 1 and mean `ratio`, its statistics, gamma and beta."""
    x = (normal((2000, 6)) + ratio).astype(dtype)
    wide = x.astype(np.float64)
    gamma, beta = np.linspace(-2, 2, 6), np.linspace(1, -1, 6)
    return x, wide.mean(0), wide.var(0), gamma, beta


@pytest.mark.parametrize("ratio", [1.0, 1e2, 1e4, 1e6])
def test_far_from_zero(ratio):
    """Within half an ulp for any |mean| / sd, or within 2**-50 of the summands where y is near 0.

    PyTorch's formula loses digits to cancellation.
    """
    x, mean, var, gamma, beta = far(ratio)
    wanted, slack = normalized(x, mean, var, gamma, beta, 1e-5, -1)
    y = normalize(x, mean, var, gamma, beta, eps=1e-5)
    assert_within(y, wanted, slack)
    error = np.abs((y.astype("f8") - wanted[0]) - wanted[1])
    assert (error <= np.maximum(0.501 * np.spacing(np.abs(y)), slack)).all()
    theirs = folded(x, mean, var, gamma, beta, 1e-5)
    if ratio >= 1e4:
        assert worst_share(theirs, wanted, slack) > ratio / 20


@pytest.mark.parametrize("ratio", [1.0, 1e4, 1e8, 1e15])
def test_far_from_zero_in_double(ratio):
    x, mean, var, gamma, beta = far(ratio, "f8")
    assert_within(normalize(x, mean, var, gamma, beta, eps=1e-5), *normalized(x, mean, var, gamma, beta, 1e-5, -1))
    wrong = (x * (gamma / np.sqrt(var + 1e-5))) + (beta - mean * (gamma / np.sqrt(var + 1e-5)))
    if ratio >= 1e4:
        assert worst_share(wrong, *normalized(x, mean, var, gamma, beta, 1e-5, -1)) > 10


def nearest(values, dtype):
    """Return the bits of the nearest half-precision numbers, ties to even, by a search among all of them."""
    infinity = int(np.array(np.inf, dtype).view(np.uint16))
    table = np.arange(infinity + 1, dtype=np.uint16).view(dtype).astype(np.float64)
    table[-1] = 2 * table[-2] - table[-3]
    size = np.abs(values)
    below = np.minimum(np.searchsorted(table, size, "right") - 1, infinity - 1)
    middle = (table[below] + table[below + 1]) / 2
    bits = below + ((size > middle) | (size == middle) & (below % 2 == 1) | (size >= table[-1]))
    return (bits | np.signbit(values) * 0x8000).astype(np.uint16)


def hard_to_round(dtype):
    """Return every half-precision number, the midpoints, the doubles next to these, and some out of range."""
    infinity = int(np.array(np.inf, dtype).view(np.uint16))
    table = np.arange(infinity, dtype=np.uint16).view(dtype).astype(np.float64)
    step = np.diff(table, append=2 * table[-1] - table[-2])
    middle = table + step / 2
    out = [table, middle, np.nextafter(middle, np.inf), np.nextafter(middle, 0), middle * (1 + 2.0**-30),
           middle * (1 - 2.0**-30), table + step / 4, table[1:] - step[:-1] * 2.0**-26, table + step * 2.0**-26,
           np.array([5e-324, 1e-320, 2.0**-149, 2.0**-150, 1e39, 1e300, np.finfo("f8").max, np.inf])]
    values = np.concatenate(out)
    values = np.concatenate([values, -values])
    return values[values != 0]


@pytest.mark.parametrize("dtype", ["f2", BFLOAT16], ids=str)
def test_rounding_to_half(dtype):
    """Rounded once from double, ties to even, with subnormals and overflow to inf.

    As x is 0, y is beta, which may be any double.
    """
    values = hard_to_round(dtype)
    x = np.zeros((2, len(values)), dtype)
    y = normalize(x, 0, 1, beta=values)
    wanted = nearest(values, dtype)
    columns = normalize(np.asfortranarray(x), 0, 1, beta=values)
    for row in (*y, columns[1], normalize(x.T, 0, 1, None, values, channel_axis=0).T[0]):
        np.testing.assert_array_equal(row.view(np.uint16), wanted)
    if np.dtype(dtype) == np.float16:       # NumPy rounds once as well
        with np.errstate(over="ignore", under="ignore"):
            np.testing.assert_array_equal(values.astype(dtype).view(np.uint16), wanted)
    else:                                   # rounding to float32 first gives other results
        with np.errstate(over="ignore", under="ignore"):
            assert (values.astype("f4").astype(dtype).view(np.uint16) != wanted).any()


@pytest.mark.parametrize("gamma", [1.0, -1 / 3, 2.0**-12, 1 + 2.0**-11, 1 + 2.0**-9 - 2.0**-44, 1e3, 3e-8, 1e38])
@pytest.mark.parametrize("dtype", ["f2", BFLOAT16], ids=str)
def test_every_half(dtype, gamma):
    """The product of each of the 65536 numbers with gamma; NaN and inf are kept."""
    x = np.arange(2**16, dtype=np.uint16).view(dtype)
    with np.errstate(invalid="ignore"):
        values = x.astype(np.float64) * gamma
    y = normalize(x[:, None], 0, 1, gamma)[:, 0]
    nan = np.isnan(values)
    assert np.isnan(y[nan].astype("f8")).all()
    some = ~nan & (values != 0)
    np.testing.assert_array_equal(y[some].view(np.uint16), nearest(values[some], dtype))
    assert not y[values == 0].astype("f4").any()


def test_rounding_to_single():
    """Rounded once from double, ties to even, with subnormals and overflow to inf."""
    r = rng(5)
    table = np.abs(r.integers(0, 0x7f800000, 20000, dtype=np.uint32)).view("f4").astype(np.float64)
    step = np.spacing(table.astype("f4")).astype(np.float64)
    values = np.concatenate([table + step / 2, np.nextafter(table + step / 2, 0), table + step / 4,
                             [1e-46, 2.0**-150, 1.5 * 2.0**-149, 3.5e38, np.finfo("f4").max * (1 + 2.0**-25), np.inf]])
    with np.errstate(over="ignore", under="ignore"):
        wanted = values.astype("f4")
    np.testing.assert_array_equal(normalize(np.zeros((1, len(values)), "f4"), 0, 1, beta=values)[0], wanted)
    np.testing.assert_array_equal(normalize(np.zeros((1, len(values)), ">f4"), 0, 1, beta=-values)[0], -wanted)


@pytest.mark.parametrize("dtype", ["f2", BFLOAT16, "f4", "f8"], ids=str)
def test_not_finite(dtype):
    """NaN and inf pass through without affecting other elements."""
    x = of_dtype(dtype, (200, 3))
    bad = x.copy()
    bad[5, 0], bad[6, 1], bad[7, 2] = np.nan, np.inf, -np.inf
    y, wanted = normalize(bad, 20, 9, gamma=-1), normalize(x, 20, 9, gamma=-1)
    assert np.isnan(y[5, 0])
    assert (float(y[6, 1]), float(y[7, 2])) == (-np.inf, np.inf)
    y[5, 0], y[6, 1], y[7, 2] = wanted[5, 0], wanted[6, 1], wanted[7, 2]
    assert y.tobytes() == wanted.tobytes()


def test_without_variance():
    """A channel of variance 0 is centered and not divided."""
    x = np.array([[1.0, 2.0], [3.0, 3.0]])
    np.testing.assert_array_equal(normalize(x, [1, 2], [0.0, 1.0]), [[0, 0], [2, 1]])
    np.testing.assert_array_equal(normalize(x, [1, 2], 0, [3, 1], [5, 0]), [[5, 0], [11, 1]])
    np.testing.assert_array_equal(normalize(x, [1, 2], 0, eps=0.25), (x - [1, 2]) * 2)
    assert np.isnan(normalize(x, [np.nan, 0], 1)).tolist() == [[True, False], [True, False]]
    assert np.isnan(normalize(x, 0, [np.nan, 1])).tolist() == [[True, False], [True, False]]


@pytest.mark.parametrize("kind", [list, tuple, np.float32, np.float16, ml_dtypes.bfloat16, np.int64, np.uint8, ">f8"])
def test_parameters_of_any_kind(kind):
    """Parameters may be lists, or arrays of any dtype and layout; they are read as float64."""
    x = of_dtype("f4", (50, 4))
    numbers = [np.array([20, 21, 19, 22]), np.array([9, 4, 16, 25]), np.array([1, 2, 3, 4]), np.array([5, 0, 7, 1])]
    wanted = normalize(x, *(a.astype("f8") for a in numbers))
    given = [kind(a.tolist()) if kind in (list, tuple) else a.astype(kind) for a in numbers]
    assert normalize(x, *given).tobytes() == wanted.tobytes()
    if kind not in (list, tuple):
        assert normalize(x, *(a.repeat(2)[::2] for a in given)).tobytes() == wanted.tobytes()
        assert normalize(x, *(a[::-1].copy()[::-1] for a in given)).tobytes() == wanted.tobytes()
    assert batch_norm(x, *given, eps=0).tobytes() == wanted.tobytes()


def test_one_number_for_all():
    x = of_dtype("u1", (9, 8, 3))
    rows = [np.full(3, v) for v in (120.0, 64.0, 2.0, -1.0)]
    wanted = normalize(x, *rows)
    assert wanted.dtype == np.float32
    for kind in (float, int, np.float32, np.array):
        assert normalize(x, *(kind(row[0]) for row in rows)).tobytes() == wanted.tobytes()
    np.testing.assert_array_equal(normalize(x, 0, 1), x)


def test_result_lies_as_x():
    x = of_dtype("f4", (4, 5, 6))
    for turned in (x, x.transpose(2, 0, 1), np.asfortranarray(x), x.transpose(0, 2, 1)):
        y = normalize(turned, 0, 1)
        assert y.strides == turned.strides
        assert y.flags.owndata
        assert y.flags.writeable


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("shape", [(0, 3), (2, 0, 3), (3, 0), (0, 0)])
def test_empty(shape, dtype):
    x = np.empty(shape, dtype)
    y = normalize(x, 0, 1)
    assert y.shape == shape
    assert y.dtype == result_dtype(x)
    assert normalize(x, 0, 1, out=y) is y
    channels = shape[1]
    assert batch_norm(x, np.zeros(channels), np.ones(channels)).shape == shape


def test_sequences_and_subclasses():
    x = [[1, 2, 4], [3, 5, 9]]
    wanted = normalize(np.array(x), [1, 2, 3], 4)
    assert wanted.dtype == np.float32
    assert normalize(x, [1, 2, 3], 4).tobytes() == wanted.tobytes()
    got = normalize(np.array(x).view(np.recarray), [1, 2, 3], 4)
    assert type(got) is np.ndarray
    assert got.tobytes() == wanted.tobytes()


def test_broadcast_and_windows():
    """x may have strides of 0 or overlapping elements."""
    row = of_dtype("f4", (1, 6))
    x = np.broadcast_to(row, (800, 6))
    y = normalize(x, 20, 4)
    assert y.tobytes() == np.broadcast_to(normalize(row, 20, 4), x.shape).tobytes()
    assert y.size * 4 == y.nbytes
    windows = np.lib.stride_tricks.sliding_window_view(of_dtype("f8", 300), 17)
    assert normalize(windows, 20, 4).tobytes() == normalize(windows.copy(), 20, 4).tobytes()


def test_64_bit_integers_about_their_mean():
    """Small differences of integers beyond 2**53 are exact."""
    x = np.arange(40, dtype=np.uint64).reshape(20, 2) + np.uint64(2**63)
    y = normalize(x, 2.0**63, 4.0)
    np.testing.assert_array_equal(y, np.arange(40).reshape(20, 2) / 2)
    z = (x - np.uint64(2**63)).astype(np.int64) - 2**62
    np.testing.assert_array_equal(normalize(z, -(2.0**62), 4.0), y)
    exact = affine(x, pair(np.full(2, 2.0**63)), inverse_sd(np.full(2, 4.0), 0), np.ones(2), np.zeros(2), (0,))[0]
    np.testing.assert_array_equal(exact[0], y)


@pytest.mark.parametrize(("layout", "dtype", "shape"), pairwise(
    LAYOUTS, ["f2", "f4", "f8", BFLOAT16, "i4", "u1", "i2"], [(300, 17), (9, 1300), (700, 1), (5000, 3), (1, 1)],
), ids=str)
def test_a_look_for_inf_on_the_way(layout, dtype, shape):
    """inf is found anywhere in x, NaN does not count, and the result is that of normalize."""
    x = LAYOUTS[layout](of_dtype(dtype, shape))
    places = [0, x.size - 1, *rng(4).integers(x.size, size=6)] if x.dtype.kind not in "iu" else []
    y, has_inf = normalize_and_look(x, 3.0, None, None)
    assert not has_inf
    np.testing.assert_array_equal(y, normalize(x, 3.0, 1.0))
    for place in places:
        for value, found in ((np.nan, False), (np.inf, True), (-np.inf, True)):
            bad = x.copy(order="K")
            bad[np.unravel_index(place, x.shape)] = value
            assert normalize_and_look(LAYOUTS[layout](bad), 3.0, None, None)[1] is found


BROADCASTS = {
    "channels last": ((6, 5, 4), [(4,), (1, 4), (1, 1, 4), ()]),
    "channels second": ((6, 4, 5, 3), [(4, 1, 1), (1, 4, 1, 1), (), (1,)]),
    "two axes": ((6, 4, 5), [(4, 5), (1, 4, 1), (5,), ()]),
    "rows": ((6, 4), [(6, 1), (6, 1), (), (4,)]),
    "every element": ((3, 4), [(3, 4), (4,), (3, 1), (1, 1)]),
    "one axis": ((7,), [(1,), (), (7,), (7,)]),
    "an axis of length 1": ((6, 1, 4), [(1, 4), (4,), (6, 1, 1), ()]),
}


@pytest.mark.parametrize("name", BROADCASTS)
@pytest.mark.parametrize("dtype", ["f4", "f8", "u1"])
def test_parameters_broadcast_as_in_numpy(name, dtype):
    """As the same parameters written out for every element do, bit for bit."""
    shape, shapes = BROADCASTS[name]
    x, r = of_dtype(dtype, shape), np.random.default_rng(1)
    mean, var, gamma, beta = (r.uniform(0.5, 2, each) for each in shapes)
    full = [np.ascontiguousarray(np.broadcast_to(each, shape)).ravel() for each in (mean, var, gamma, beta)]
    wanted = normalize(x.reshape(1, -1), *full, eps=0.1).reshape(shape)
    for given in ([mean, var, gamma, beta], [each.tolist() for each in (mean, var, gamma, beta)]):
        np.testing.assert_array_equal(normalize(x, *given, eps=0.1), wanted)
    out = np.empty_like(wanted)
    assert normalize(x, mean, var, gamma, beta, eps=0.1, out=out) is out
    np.testing.assert_array_equal(out, wanted)


@pytest.mark.parametrize("axis", [0, 1, (0, 2), (0, 2, 3), None])
def test_statistics_with_keepdims_go_in_as_they_are(axis):
    x = np.random.default_rng(0).normal(5, 3, (8, 3, 5, 4))
    y = normalize(x, *mean_var(x, axis=axis, keepdims=True))
    np.testing.assert_allclose(y.mean(axis), 0, atol=1e-13)
    np.testing.assert_allclose(y.var(axis), 1, rtol=1e-13)


def test_channel_axis_takes_one_axis_and_several():
    x = np.random.default_rng(0).normal(size=(4, 3, 5))
    mean, table = np.arange(3.0), np.arange(15.0).reshape(3, 5)
    np.testing.assert_array_equal(normalize(x, mean, 4, channel_axis=1), normalize(x, mean[:, None], 4))
    np.testing.assert_array_equal(normalize(x, table, 4, channel_axis=(1, 2)), normalize(x, table, 4))


def test_constant_channels_are_centred_and_not_divided():
    """By functions and by the layer, in training and in inference; their gradients are finite."""
    x = np.random.default_rng(0).normal(size=(8, 3))
    x[:, 1] = 7
    mean, var = mean_var(x)
    y = normalize(x, mean, var, [1, 2, 3], [4, 5, 6])
    assert (y[:, 1] == 5).all()
    np.testing.assert_array_equal(normalize(x, mean, var, [1, 2, 3], [4, 5, 6]), y)
    np.testing.assert_array_equal(batch_norm(x, mean, var, [1, 2, 3], [4, 5, 6], eps=0), y)
    trained = batch_norm(x, None, None, [1, 2, 3], [4, 5, 6], training=True, eps=0)
    assert (trained[:, 1] == 5).all()
    bn = BatchNorm(3, eps=0, dtype="f8")
    bn.running_mean, bn.running_var = mean, var
    weight, bias = bn.fold(np.eye(3))
    np.testing.assert_allclose(x @ weight.T + bias, bn.copy().eval()(x), atol=1e-14)
    assert (bn(x)[:, 1] == 0).all()
    assert np.isfinite(bn.backward(np.ones((8, 3)))).all()


def rounded_to_bfloat16(x):
    """The bits of float64 rounded once: first to odd in float32, which loses no information about ties."""
    with np.errstate(all="ignore"):
        single = x.astype(np.float32)
    bits = single.view(np.int32).astype(np.int64)
    bits -= np.abs(single.astype(np.float64)) > np.abs(x)
    bits |= single.astype(np.float64) != x
    return ((bits + 0x7FFF + (bits >> 16 & 1)) >> 16).astype(np.uint16)


@pytest.mark.parametrize("beta", [0.0, 1e-3, 1.5 * 2.0**-130, -1.0])
@pytest.mark.parametrize("gamma", [1.0, 1 + 2.0**-9, 1 / 3, -1e-30, 3e-39, 1e30, 2.0**-20, -(1 + 2.0**-8) * 2.0**-126])
@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_every_number_of_half_precision_is_rounded_once(dtype, gamma, beta):
    numbers = np.arange(65536, dtype=np.uint16).view(np.float16 if dtype == "float16" else ml_dtypes.bfloat16)
    with np.errstate(invalid="ignore"):     # signaling NaN
        numbers = numbers[np.isfinite(numbers.astype(np.float64))]
    y = normalize(np.stack([numbers, numbers]), 0, 1, gamma=gamma, beta=beta, eps=0)[1]
    exact = numbers.astype(np.float64) * gamma + beta
    with np.errstate(all="ignore"):
        expected = exact.astype(np.float16).view(np.uint16) if dtype == "float16" else rounded_to_bfloat16(exact)
    np.testing.assert_array_equal(y.view(np.uint16), expected)
