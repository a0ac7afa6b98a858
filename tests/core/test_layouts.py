"""mean_var and Moments for every dtype, layout and choice of axes; shapes and dtypes of the results."""

import functools
import itertools

import numpy as np
import pytest
from support.arrays import BFLOAT16, DTYPES, LAYOUTS, of_dtype, with_single_axes
from support.cases import pairwise
from support.oracle import assert_within, exact_states

from bnstream import Moments, mean_var

SHAPES = {"table": ((1100, 5), 0), "rows": ((5, 1100), 1), "images": ((5, 9, 6, 7), (0, 2, 3)),
          "planes": ((3, 4, 300), (0, 2)),
          "one image": ((1, 70, 7, 9), (0, 2, 3)), "long rows": ((130, 270), 1),
          "channels last": ((6, 9, 7, 3), (0, 1, 2)), "wide": ((9, 530), 0), "between": ((4, 30, 5, 2), (0, 2))}


@functools.cache
def case(shape, dtype):
    dims, axis = SHAPES[shape]
    x = of_dtype(dtype, dims)
    return x, axis, exact_states(x, axis)


@pytest.mark.parametrize(("layout", "shape", "dtype"), pairwise(LAYOUTS, SHAPES, DTYPES), ids=str)
def test_layout(layout, shape, dtype):
    x, axis, states = case(shape, dtype)
    y = LAYOUTS[layout](x)
    assert y.shape == x.shape
    before = y.tobytes()
    assert_within(*mean_var(y, axis, dtype=np.float64), states)
    m = Moments(axis).update(y)
    assert_within(m.mean, m.var(), states)
    assert y.tobytes() == before
    if dtype.itemsize < 8 or dtype.kind == "f":     # Results in the dtype of x may err by half an ulp more.
        assert_within(*mean_var(y, axis), states)


@functools.cache
def small_states(dtype, axes):
    return exact_states(of_dtype(dtype, (3, 4, 5, 2)), axes)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", ["f4", "f8", "i2", "i8"])
def test_axes(dtype, layout):
    """Every set of axes, in any order, positive and negative."""
    x = of_dtype(dtype, (3, 4, 5, 2))
    y = LAYOUTS[layout](x)
    for count in range(5):
        for axes in itertools.combinations(range(4), count):
            states = small_states(dtype, axes)
            mean, var = mean_var(y, axes, dtype="f8")
            assert_within(mean, var, states)
            mixed = tuple(a - 4 if i % 2 else a for i, a in enumerate(axes))
            for given in (axes[::-1], list(axes), mixed, tuple(np.array(axes, int))):
                again = mean_var(y, given, dtype="f8")
                assert again[0].tobytes() == mean.tobytes()
                assert again[1].tobytes() == var.tobytes()
            kept = mean_var(y, axes, keepdims=True, dtype="f8")
            assert kept[0].shape == kept[1].shape == tuple(1 if a in axes else n for a, n in enumerate(x.shape))
            assert kept[0].tobytes() == mean.tobytes()
            assert kept[1].tobytes() == var.tobytes()
            if count < 4:
                m = Moments(axes).update(y)
                assert m.shape == mean.shape
                assert_within(m.mean, m.var(), states)
    for axis in range(-4, 4):
        assert_within(*mean_var(y, axis, dtype="f8"), small_states(dtype, axis))
    assert_within(*mean_var(y, None, dtype="f8"), small_states(dtype, None))


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_without_batch_axes(dtype):
    """With axis=() every element is a channel."""
    x = of_dtype(dtype, (3, 4))
    mean, var = mean_var(x, ())
    np.testing.assert_array_equal(mean, x.astype(mean.dtype))
    np.testing.assert_array_equal(var, 0)
    assert np.isnan(mean_var(x, (), ddof=1)[1]).all()


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_single_axes(dtype):
    x, _, states = case("table", dtype)
    y = with_single_axes(x)
    assert_within(*mean_var(y, (0, 1, 3), dtype="f8"), states)
    mean, var = mean_var(y, 0, dtype="f8")
    assert mean.shape == (1, 5, 1)
    assert_within(mean.ravel(), var.ravel(), states)
    assert_within(*mean_var(x[None].transpose(1, 0, 2), (0, 1), dtype="f8"), states)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_five_dimensions(dtype):
    x = of_dtype(dtype, (3, 1, 4, 7, 9))
    for axis in [(0, 1, 3, 4), (0, 2), (4, 2, 0), 3, (1, 3)]:
        assert_within(*mean_var(x, axis, dtype="f8"), exact_states(x, axis))
        y = np.ascontiguousarray(x.transpose(4, 2, 0, 1, 3)).transpose(2, 3, 1, 4, 0)
        assert_within(*mean_var(y, axis, dtype="f8"), exact_states(x, axis))


def test_sixty_four_dimensions():
    """64 dimensions are NumPy's limit."""
    x = of_dtype("f4", (2, 3, *[1] * 60, 4, 5))
    assert_within(*[y.ravel() for y in mean_var(x, (0, 63), dtype="f8")], exact_states(x, (0, 63)).ravel())


@pytest.mark.parametrize(
    ("part", "axis", "dtype"), pairwise(["row", "column", "element"], [0, 1, (0, 1)], DTYPES), ids=str)
def test_broadcast(part, axis, dtype):
    """Arrays with strides of 0."""
    shape = {"row": (1, 6), "column": (800, 1), "element": (1, 1)}[part]
    x = np.broadcast_to(of_dtype(dtype, shape), (800, 6))
    assert_within(*mean_var(x, axis, dtype="f8"), exact_states(x, axis))


@pytest.mark.parametrize("dtype", ["f2", "f4", "u1", "i4"])
def test_memmap(dtype, tmp_path):
    x = of_dtype(dtype, (500, 7))
    x.tofile(tmp_path / "x")
    y = np.memmap(tmp_path / "x", dtype, "r", shape=x.shape)
    assert_within(*mean_var(y, dtype="f8"), exact_states(x))
    m = Moments().update(y[:200]).update(y[200:])
    assert_within(m.mean, m.var(), exact_states(x))


@pytest.mark.parametrize("dtype", ["f2", BFLOAT16], ids=str)
def test_every_half(dtype):
    """All 65536 numbers, with denormals, infinities and NaN, each as a channel."""
    x = np.arange(2**16, dtype=np.uint16).view(dtype)
    with np.errstate(invalid="ignore"):     # raised by signaling NaN
        wanted = x.astype(np.float64)
    wanted[~np.isfinite(wanted)] = np.nan
    for y in (x[None], x[None].repeat(2, 0), LAYOUTS["byte-swapped"](x)[None]):
        np.testing.assert_array_equal(mean_var(y, dtype="f8", nan_policy="omit")[0], wanted)
    np.testing.assert_array_equal(mean_var(x[:, None], 1, dtype="f8", nan_policy="omit")[0], wanted)


def test_overlapping_windows():
    x = np.lib.stride_tricks.sliding_window_view(of_dtype("f4", 300), 17)
    for axis in (0, 1, (0, 1)):
        assert_within(*mean_var(x, axis), exact_states(x, axis))


@pytest.mark.parametrize("x", [[1, 2, 4], [[1.5, 2], [3, 4]], (True, False, False), range(5), bytearray(b"abc"),
                               memoryview(b"abc"), np.arange(6).reshape(2, 3).view(np.recarray)], ids=repr)
def test_other_sequences(x):
    a = np.asarray(x)
    assert_within(*[np.asarray(y) for y in mean_var(x)], exact_states(a))


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_result_dtype(dtype):
    """As in NumPy: the floating dtype of the input, else float64."""
    x = of_dtype(dtype, (20, 3))
    expected = dtype if dtype.kind == "f" or dtype == BFLOAT16 else np.dtype("f8")
    for y in (x, x.T, LAYOUTS["byte-swapped"](x)):
        mean, var = mean_var(y, 0)
        assert mean.dtype == var.dtype == expected
        assert mean.dtype.isnative
        for result in mean_var(y, None):
            assert isinstance(result, np.generic)
            assert result.dtype == expected
        kept = mean_var(y, None, keepdims=True)[0]
        assert kept.shape == (1, 1)
        assert kept.dtype == expected
    m = Moments().update(x)
    assert m.mean.dtype == m.m2.dtype == m.var().dtype == m.std().dtype == np.float64


@pytest.mark.parametrize("asked", ["f2", BFLOAT16, "f4", "f8", np.float32, ">f4", float], ids=str)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_dtype(dtype, asked):
    """Results are accumulated in double and rounded once."""
    x = of_dtype(dtype, (400, 3))
    if dtype.kind in "iu":
        x = (x % 100).astype(dtype)
    mean, var = mean_var(x, dtype=asked)
    assert mean.dtype == var.dtype == np.dtype(asked).newbyteorder("=")
    assert_within(mean, var, exact_states(x))


@pytest.mark.parametrize("ddof", [0, 1, 2, 3, 4, 0.5, 2.5, 100, -1, np.float32(1), np.int64(1)])
@pytest.mark.parametrize("n", [1, 2, 3])
def test_ddof(n, ddof):
    """The variance for n - ddof <= 0 is NaN, without a warning."""
    x = of_dtype("f8", (n, 4))
    assert_within(*mean_var(x, ddof=ddof), exact_states(x), float(ddof))
    assert_within(*mean_var(np.ascontiguousarray(x.T), 1, ddof=ddof), exact_states(x), float(ddof))
    m = Moments().update(x)
    assert_within(m.mean, m.var(ddof), exact_states(x), float(ddof))
    np.testing.assert_array_equal(m.std(ddof), np.sqrt(m.var(ddof)))


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("policy", ["propagate", "raise", "omit"])
def test_empty(policy, dtype):
    """The mean of no values is NaN, without a warning; without channels the results are empty."""
    options = {"nan_policy": policy}
    for shape, axis, left in [((0, 3), 0, (3,)), ((3, 0), 1, (3,)), ((0, 0), 0, (0,)), ((2, 0, 3), (0, 1), (3,)),
                              ((2, 0), 0, (0,)), ((0,), 0, ()), ((0, 3), None, ()), ((0, 3), (), (0, 3)),
                              ((4, 0, 5), 0, (0, 5))]:
        mean, var = mean_var(np.empty(shape, dtype), axis, **options)
        assert mean.shape == var.shape == left
        assert np.isnan(mean).all()
        assert np.isnan(var).all()
    mean, var = mean_var(np.empty((0, 3), dtype), keepdims=True, **options)
    assert mean.shape == (1, 3)


def test_results_are_new():
    x = of_dtype("f8", (1, 3))
    mean, var = mean_var(x)
    assert not np.shares_memory(mean, x)
    assert not np.shares_memory(mean, var)
    assert mean.flags.owndata
    assert mean.flags.writeable


def test_bool_is_zero_or_not():
    """As in NumPy, any nonzero byte is True."""
    x = np.array([[2], [255], [0], [1]], "u1").view("?")
    mean, var = mean_var(x)
    assert (mean, var) == (0.75, 0.1875)
