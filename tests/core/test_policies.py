"""NaN, inf and overflow under each nan_policy."""

import math
import pickle

import numpy as np
import pytest
from support.arrays import normal, of_dtype
from support.oracle import assert_within, exact, exact_states

from bnstream import BatchNorm, Moments, mean_var


@pytest.mark.parametrize("dtype", ["f2", "f4", "f8"])
@pytest.mark.parametrize("shape", [(40, 6), (700, 6), (300, 530), (9000, 6)])
def test_propagate(shape, dtype):
    """The results are NumPy's for one call, chunks and merges, and other channels are unaffected."""
    x = normal(shape).astype(dtype)
    x[0, 0] = np.nan
    x[-1, 1] = np.inf
    x[3, 2] = -np.inf
    x[2, 3], x[-2, 3] = np.inf, -np.inf
    x[5, 4], x[6, 4] = np.inf, np.nan
    with np.errstate(all="ignore"):
        mean, var = x.astype("f8").mean(0), x.astype("f8").var(0)
    assert np.isinf(mean[[1, 2]]).all()
    assert np.isnan(mean[[0, 3, 4]]).all()
    cut = shape[0] // 3
    m = Moments(nan_policy="propagate").update(x[:cut]).update(x[cut:])
    turned = Moments(nan_policy="propagate").update(x[cut:]) + Moments(nan_policy="propagate").update(x[:cut])
    rows = mean_var(np.ascontiguousarray(x.T), 1, dtype="f8")
    answers = [mean_var(x, dtype="f8"), rows, (m.mean, m.var()), (turned.mean, turned.var())]
    good = np.isfinite(mean)
    states = exact_states(x[:, good])
    for got_mean, got_var in answers:
        np.testing.assert_array_equal(got_mean[~good], mean[~good])
        np.testing.assert_array_equal(got_var[~good], var[~good])
        assert_within(got_mean[good], got_var[good], states)
    assert np.all(m.n == shape[0])


@pytest.mark.parametrize("value", [1e200, -1e300, 1e306])
def test_overflow(value):
    """If squared deviations overflow, the variance is inf and the mean finite, without a warning."""
    x = np.zeros((40, 2))
    x[::2, 0] = value
    x[:, 1] = np.arange(40)
    halves = Moments().update(x[:10]) + Moments().update(x[10:])
    rows = mean_var(np.ascontiguousarray(x.T), 1)
    for mean, var in (mean_var(x), rows, (halves.mean, halves.var()), mean_var(x, nan_policy="omit")):
        assert mean[0] == pytest.approx(value / 2, rel=1e-14)
        assert var[0] == math.inf
        assert_within(mean[1:], var[1:], exact_states(x[:, 1:]))


def test_results_too_large_for_their_dtype():
    """Results that overflow their dtype are inf, without a warning."""
    x = np.array([[-6e4], [6e4]])
    for dtype in ("f2", "f4"):
        for y in (x.astype("f2"), x.astype("f4") * 1e30, x * 1e30):
            mean, var = mean_var(y, dtype=dtype)
            assert mean == 0
            assert var == (pytest.approx(3.6e9, rel=1e-3) if (dtype, y.dtype) == ("f4", "f2") else math.inf)
    assert mean_var(x.astype("f2"))[1] == math.inf


@pytest.mark.parametrize("dtype", ["f2", "f4", "f8"])
@pytest.mark.parametrize("shape", [(40, 4), (900, 4), (300, 530)])
def test_omit(shape, dtype):
    """n counts per channel, omitted elements have no effect, and a channel without values is NaN."""
    generator = np.random.default_rng(1)
    x = (normal(shape) + 9).astype(dtype)
    x[generator.random(shape) < 0.3] = np.nan
    x[generator.random(shape) < 0.1] = np.inf
    x[:, 1] = -np.inf
    x[:-1, 2] = np.nan
    x[-1, 2] = 5
    good = np.isfinite(x)
    counts = good.sum(0)
    halves = [Moments(nan_policy="omit").update(x[:7]), Moments(nan_policy="omit").update(x[7:])]
    m = halves[0] + halves[1]
    np.testing.assert_array_equal(m.n, counts)
    assert m.n.dtype == np.int64
    np.testing.assert_array_equal(halves[0].n, good[:7].sum(0))
    rows = mean_var(np.ascontiguousarray(x.T), 1, nan_policy="omit", dtype="f8")
    states = [exact(x[good[:, c], c]) for c in range(shape[1]) if c != 1]
    for mean, var in (mean_var(x, nan_policy="omit", dtype="f8"), rows, (m.mean, m.var())):
        assert np.isnan([mean[1], var[1]]).all()
        assert (mean[2], var[2]) == (5, 0)
        assert_within(np.delete(mean, 1), np.delete(var, 1), states)
    unbiased = mean_var(x, nan_policy="omit", ddof=1, dtype="f8")[1]
    np.testing.assert_array_equal(np.isnan(unbiased), counts < 2)
    np.testing.assert_array_equal(np.isnan(m.var(1)), counts < 2)


@pytest.mark.parametrize("policy", ["propagate", "raise", "omit"])
def test_policies_agree_on_numbers(policy):
    """All policies agree on finite data and on integers."""
    for dtype in ("f4", "f8", "u1", "i4"):
        x = of_dtype(dtype, (300, 3))
        assert_within(*mean_var(x, nan_policy=policy, dtype="f8"), exact_states(x))
        m = Moments(nan_policy=policy).update(x)
        assert_within(m.mean, m.var(), exact_states(x))
        np.testing.assert_array_equal(m.n, 300)


HOLED = Moments(nan_policy="propagate").update([[1.0, np.nan], [2.0, 1.0]])


@pytest.mark.parametrize("policy", ["raise", "omit"])
@pytest.mark.parametrize("batch", [None, [[1.0, 2.0], [4.0, 8.0]]], ids=["empty", "filled"])
def test_merging_nan_where_it_is_not_let_through(policy, batch):
    m = Moments(nan_policy=policy)
    if batch is not None:
        m.update(batch)
    before = pickle.dumps(m)
    message = f"^expected finite statistics, as nan_policy='{policy}' has them here, got NaN or inf in the other "
    for merge in (m.merge, m.__add__):
        with pytest.raises(ValueError, match=message):
            merge(HOLED)
    assert pickle.dumps(m) == before
    total = sum([HOLED, HOLED], Moments(nan_policy="propagate"))
    assert total.merge(m) is total
    assert np.isnan(total.mean).tolist() == [False, True]


def test_merging_finite_statistics_of_large_values():
    part = Moments(nan_policy="propagate").update([[1e200], [-1e200]])
    assert Moments().merge(part).std().tolist() == [1e200]


@pytest.mark.parametrize(("place", "value", "message"), [
    ((3, 0), -1.0, "m2, a sum of squares, must not be negative"), ((1, 1), np.nan, "mean and m2 must be finite"),
    ((3, 0), np.inf, "mean and m2 must be finite"), ((0, 0), 1.0, "m2 must be 0 where n is 1"),
    ((0, 0), -1.0, "n must be finite and not negative"), ((2, 0), 1e-9, "mean_lo must be the rounding error of mean"),
    ((0, 0), 0.0, "mean and m2 must be 0 where n is 0"),
])
def test_a_state_of_no_data(place, value, message):
    """A serializer's state is checked as that of a file is."""
    m = Moments().update([[1.0, 2.0], [4.0, 8.0]])
    state = m.__getstate__()
    state["rows"][place] = value
    with pytest.raises(ValueError, match=message):
        m.__setstate__(state)
    assert m == Moments().update([[1.0, 2.0], [4.0, 8.0]])


def test_pooled_statistics_of_another_policy():
    """They take the policy and the batch axes of the layer, if it can have them."""
    bn = BatchNorm(2, track_pooled=True)
    with pytest.raises(ValueError, match="there is NaN or inf in the statistics"):
        bn.pooled = HOLED
    images = Moments((0, 2)).update(np.arange(24.0).reshape(3, 2, 4))
    bn.pooled = images
    assert (bn.pooled.axis, bn.pooled) == (0, images)
    bn.nan_policy = "propagate"
    assert bn.pooled.nan_policy == "propagate"
    bn.pooled = HOLED
    with pytest.raises(ValueError, match="there is NaN or inf in the statistics"):
        bn.nan_policy = "omit"
    assert (bn.nan_policy, bn.pooled) == ("propagate", HOLED)
