"""Weights of exact statistics: a row of weight w counts like w equal rows, to the last bit."""

import numpy as np
import pytest
from support.arrays import BFLOAT16, DTYPES, LAYOUTS, normal, of_dtype, rng
from support.cases import pairwise
from support.exact_oracle import VIEWS, assert_exact, channels_of, wild

import bnstream
from bnstream import Moments


def repeated(values, weights, axis, ndim):
    """The batch positions along the first axis, each as often as its weight says; also of a mask that broadcasts."""
    axes = [i % ndim for i in (range(ndim) if axis is None else np.atleast_1d(axis))]
    values = np.moveaxis(values, axes, range(len(axes)))
    positions = np.broadcast_to(values, (*np.shape(weights), *values.shape[len(axes):]))
    return np.repeat(positions.reshape(-1, *values.shape[len(axes):]), np.ravel(weights), axis=0)


@pytest.mark.parametrize(("view", "layout", "dtype", "data"),
                         pairwise(VIEWS, LAYOUTS, DTYPES, ["ordinary", "wild", "with NaN"]), ids=str)
def test_weights_count_rows(view, layout, dtype, data):
    """Of weight 3 a row counts as three equal rows, with a mask as well; of weight 0 it is left out."""
    shape, axis = VIEWS[view]
    x = of_dtype(dtype, shape) if data != "wild" else wild(dtype, shape)
    if data == "with NaN" and x.dtype.kind not in "iub":
        x.flat[::5], x.flat[1::7], x.flat[2::11] = np.nan, np.inf, -np.inf
    x = LAYOUTS[layout](x)
    axes = range(x.ndim) if axis is None else np.atleast_1d(axis)
    weights = rng(4).integers(0, 6, [shape[i] for i in axes])
    rows = repeated(x, weights, axis, x.ndim)
    elements, positions = rng(5).random(shape) < 0.6, rng(6).random(weights.shape) < 0.6
    for policy in ("omit", "propagate") if data == "with NaN" else ("raise",):
        def of(*arguments, policy=policy, **options):
            return Moments(*arguments, exact=True, nan_policy=policy).update(options.pop("x", x), **options)

        m = of(axis, weights=weights)
        assert (m.digest(), m.n.dtype) == (of(x=rows).digest(), np.int64)
        assert np.array_equal(m.effective_n, m.n)
        assert m.var(1.5).tobytes() == of(x=rows).var(1.5).tobytes()
        masked = of(axis, weights=weights, where=elements)
        assert masked.digest() == of(x=rows, where=repeated(elements, weights, axis, x.ndim)).digest()
        selected = of(axis, weights=weights, where=positions)
        assert selected.digest() == of(axis, weights=weights * positions).digest()
        assert masked.merge(of(axis, weights=weights, where=~elements)) == m


@pytest.mark.parametrize("dtype", ["?", "u1", "i2", "i8", "u8", "f2", BFLOAT16, "f4", "f8", ">f4"], ids=str)
def test_dtypes_of_weights(dtype):
    x, weights = normal((40, 3)), (np.arange(40) % (2 if dtype == "?" else 7)).astype(dtype)
    wanted = Moments(exact=True).update(np.repeat(x, weights.astype(int), axis=0))
    for given in (weights, weights[:, np.newaxis], list(weights)):
        assert Moments(exact=True).update(x, weights=given).digest() == wanted.digest()


def test_weights_that_broadcast():
    x = normal((6, 5, 4, 2))
    for shape in ((6, 1), (1, 4), (1, 1)):
        weights = rng(1).integers(0, 9, shape)
        m = Moments((0, 2), exact=True).update(x, weights=weights)
        rows = repeated(x, np.broadcast_to(weights, (6, 4)), (0, 2), 4)
        assert m.digest() == Moments(exact=True).update(rows).digest()


def test_what_rows_of_weight_0_hold():
    """It does not matter, under any policy."""
    x, weights = normal((20, 3)), np.arange(20) % 3
    holes = np.where(weights[:, np.newaxis] == 0, [np.nan, np.inf, 1e300], x)
    for policy in ("raise", "omit", "propagate"):
        m = Moments(exact=True, nan_policy=policy).update(holes, weights=weights)
        assert m.digest() == Moments(exact=True).update(x, weights=weights).digest()
    nothing = Moments(exact=True).update(x, weights=np.zeros(20))
    assert nothing.n.tolist() == [0, 0, 0]
    assert np.isnan(nothing.mean).all()


@pytest.mark.parametrize("dtype", ["f8", "f4", "i8", "u8"])
def test_large_weights(dtype):
    """Counts beyond 2**53 and sums beyond the range of the values are exact."""
    x = wild(dtype, (12, 3))
    for exponent in (20, 40, 52, 53):
        weights = [2**exponent - i for i in range(1, 13)]
        assert_exact(Moments(exact=True).update(x, weights=weights), channels_of(x, 0), 1, weights)
        parts = [Moments(exact=True).update(x[i:i + 1], weights=weights[i:i + 1]) for i in range(12)]
        assert sum(parts).digest() == Moments(exact=True).update(x, weights=weights).digest()


def test_as_many_values_as_there_is_room_for(unchanged):
    """They are 2**62 in each channel, of weights or of merges."""
    x, weights = normal((1024, 2)), np.full(1024, 2**52)
    m = Moments(exact=True).update(x, weights=weights)
    assert m.n.tolist() == [2**62] * 2
    assert_exact(m, channels_of(x, 0), 1, [2**52] * 1024)
    more = Moments(exact=True).update([[1.0, 2.0]])
    unchanged(m, OverflowError, r"expected at most 2\*\*62 values in a channel, got 4,611,686,018,427,387,905",
              lambda m: m.merge(more))
    unchanged(m, OverflowError, "expected at most", lambda m: m.update([[1.0, 2.0]]))
    unchanged(m, OverflowError, "expected at most", lambda m: m.merge(m))
    unchanged(m, OverflowError, "expected at most", lambda m: m.update(x, weights=weights))
    weights[0] += 1
    unchanged(more, OverflowError, r"expected weights that add up to at most 2\*\*62, got 4,611,686,018,427,387,905",
              lambda m: m.update(x, weights=weights))
    half = Moments(exact=True).update(x[:512], weights=np.full(512, 2**52))
    unchanged(m, OverflowError, "expected at most", lambda m: m.merge(half))
    assert half.merge(half).n.tolist() == [2**62] * 2
    largest = Moments(exact=True).update(np.full((512, 1), np.finfo("f8").max), weights=np.full(512, 2**53 - 1))
    assert (largest.mean[0], largest.var()[0]) == (np.finfo("f8").max, 0)


@pytest.mark.parametrize("options", [{}, {"ddof": 1}, {"keepdims": True}, {"dtype": "f4"}], ids=str)
def test_mean_var(options):
    """ddof is subtracted from the sum of the weights, which counts rows."""
    x, weights = normal((20, 3)), np.arange(20.0) % 4
    rows = np.repeat(x, weights.astype(int), axis=0)
    for positions in ({}, {"where": np.arange(20) % 3 > 0}, {"where": x > 0}):
        repeats = {name: np.repeat(mask, weights.astype(int), axis=0) for name, mask in positions.items()}
        found = bnstream.mean_var(x, weights=weights, exact=True, **positions, **options)
        wanted = bnstream.mean_var(rows, exact=True, **repeats, **options)
        assert [(part.tobytes(), part.shape, part.dtype) for part in found] == [
            (part.tobytes(), part.shape, part.dtype) for part in wanted]
    _, reliable = bnstream.mean_var(x, weights=weights, ddof=1)
    _, counted = bnstream.mean_var(x, weights=weights, ddof=1, exact=True)
    assert (counted < reliable).all()


@pytest.mark.parametrize("policy", ["omit", "propagate"])
def test_tables(policy):
    """Each column by itself, with the missing values of nullable dtypes, along rows and along columns."""
    pandas = pytest.importorskip("pandas")
    table = pandas.DataFrame({
        "a": pandas.array([2**62 + 1, None, 2**62 + 5, None], "Int64"), "b": [0.1, np.nan, 0.3, 0.4],
        "c": [True, False, True, True], "d": np.float32([1, 2, 3, np.nan])})
    weights = [3, 4, 1, 0]
    for axis, times, rows in ((0, weights, table.iloc[np.repeat(range(4), weights)]),
                              (1, [2, 0, 1, 5], table[["a"] * 2 + ["c"] + ["d"] * 5])):
        if axis == 1:
            rows.columns = range(8)
        m = Moments(axis, exact=True, nan_policy=policy).update(table, weights=times)
        assert m.digest() == Moments(axis, exact=True, nan_policy=policy).update(rows).digest()
        where = np.array([True, True, False, True])
        m = Moments(axis, exact=True, nan_policy=policy).update(table, weights=times, where=where)
        assert m.digest() == Moments(axis, exact=True, nan_policy=policy).update(table, weights=times * where).digest()
    with pytest.raises(ValueError, match="weights of exact statistics count"):
        Moments(exact=True).update(table, weights=[0.5, 1, 1, 1])
    for m in (Moments(exact=True).update(table.iloc[[0, 2]], weights=np.int64([2**53 - 1, 1])),
              Moments(exact=True).update(table.iloc[[2]]).merge(
                  Moments(exact=True).update(table.iloc[[0]], weights=[2**53 - 1]))):
        assert m.n.tolist() == [2**53] * 4
        assert m.mean[2] == 1


def test_what_where_leaves_out_may_have_any_weight():
    x, rows = normal((3, 2)), np.array([True, True, False])
    wanted = Moments(exact=True).update(x[:2], weights=[1, 2])
    for weight in (np.nan, 0.5, -1, 1e300):
        assert Moments(exact=True).update(x, weights=[1, 2, weight], where=rows) == wanted
    counts = np.full(2000, 2**52)
    assert Moments(exact=True).update(np.ones((2000, 1)), weights=counts, where=np.arange(2000) < 1).n.item() == 2**52


def test_room_is_that_of_each_channel():
    ones, counts = np.ones((1024, 2)), np.full(1024, 2**51)
    a, b = (Moments(exact=True).update(ones, weights=counts, where=np.broadcast_to(channels, ones.shape))
            for channels in ([True, False], [False, True]))
    a.update([[1.0, 1.0]], where=np.array([[True, False]]))
    assert (a + b).n.tolist() == [2**61 + 1, 2**61]


def test_weights_of_high_bits_alone():
    x = normal((100, 2))
    assert Moments(exact=True).update(x, weights=np.full(100, 2**52)).n.tolist() == [100 * 2**52] * 2
    assert Moments(exact=True).update(x, weights=np.zeros(100)).n.tolist() == [0, 0]
