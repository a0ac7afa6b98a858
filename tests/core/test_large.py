"""Data whose squares exceed float64: mean, variance and standard deviation against exact arithmetic."""

import copy
import itertools
import math
import pickle
from fractions import Fraction

import ml_dtypes
import numpy as np
import pytest
from support.arrays import LAYOUTS, first_row, normal, random_cuts, rng, with_gaps
from support.oracle import EPS, exact_states, exact_weighted, share, tolerance
from support.states import state

from bnstream import Moments, load, mean_var, normalize, save
from bnstream.core.affine import Affine
from bnstream.core.moments import moments_from, rows_of
from bnstream.core.rows import EXPONENT, M2, MEAN, POWER, SQUARES, of_one_height
from bnstream.runningmeanstd import RunningMeanStd
from bnstream.statefiles import StateError

MAX = np.finfo("f8").max
N = 700
LARGE = {
    "1e150": normal((N, 3)) * 1e150,
    "1e154": normal((N, 3)) * 1e154,
    "1e200": normal((N, 3)) * 1e200,
    "1e307": np.clip(normal((N, 3)) * 1e307, -MAX, MAX),
    "far": 1e300 + normal((N, 3)) * 1e290,
    "to the limit": (np.linspace(-1 / 3, 1, N) * MAX)[:, None] * np.array([1, -1, 0.5]),
    "both limits": np.where(rng(1).random((N, 3)) < 0.5, -MAX, MAX),
    "constant": np.full((N, 3), [MAX, -1e160, 0.0]),
    "one outlier": first_row(normal((N, 3)), MAX),
    "one outlier at the end": first_row(normal((N, 3)), -1e200)[::-1].copy(),
    "large, small, tiny": normal((N, 3)) * np.array([1e300, 1.0, 1e-150]),
}


def of(m):
    return m.mean, m.var(), m.std()


def chunked(x):
    return of(state(*(x[a:b] for a, b in random_cuts(len(x), rng(2)))))


def merged(x):
    parts = [state(part) for part in np.array_split(x, 11)]
    return of(parts[3] + sum(parts[:3], Moments()) + sum(parts[4:], Moments()))


def wide(x):
    """Results of `mean_var` with more channels than a block takes."""
    return [values[300:303] for values in mean_var(np.tile(x, (1, 201)))]


WAYS = {
    "mean_var": mean_var,
    "raise": lambda x: mean_var(x, nan_policy="raise"),
    "rows": lambda x: mean_var(np.ascontiguousarray(x.T), 1),
    "omit": lambda x: mean_var(x, nan_policy="omit"),
    "gaps": lambda x: mean_var(with_gaps(x), nan_policy="omit"),
    "gaps, state": lambda x: of(state(with_gaps(x)[:90], with_gaps(x)[90:], nan_policy="omit")),
    "weights of 1": lambda x: mean_var(x, weights=np.ones(len(x))),
    "where": lambda x: mean_var(np.concatenate([x, np.full((5, 3), np.nan)]), where=np.arange(len(x) + 5) < len(x)),
    "mask": lambda x: mean_var(y := with_gaps(x), where=np.isfinite(y)),
    "mask, state": lambda x: of(Moments().update(y := with_gaps(x), where=np.isfinite(y))),
    "mask, weights": lambda x: of(Moments().update(y := with_gaps(x), where=np.isfinite(y), weights=np.ones(len(y)))),
    "many columns": wide,
    "one update": lambda x: of(state(x)),
    "row by row": lambda x: of(state(*x[:, None])),
    "chunked": chunked,
    "merged": merged,
    "channels first": lambda x: mean_var(np.ascontiguousarray(x.reshape(N // 7, 7, 3).transpose(0, 2, 1)), (0, 2)),
}


def root(value):
    """The square root of a fraction, to 100 bits."""
    shift = max(0, 200 - value.numerator.bit_length() + value.denominator.bit_length()) // 2 * 2
    return Fraction(math.isqrt((value.numerator << shift) // value.denominator), 2 ** (shift // 2))


def check(results, states):
    mean, var, *std = results
    for c, exactly in enumerate(states):
        spread = exactly.m2 / exactly.n
        of_mean, of_var = tolerance(exactly, np.dtype("f8"))
        assert share(mean[c], exactly.mean, of_mean, "f8") <= 1
        assert share(var[c], spread, of_var, "f8") <= 1
        if std and spread:
            assert share(std[0][c], root(spread), root(spread) * (of_var / spread + EPS), "f8") <= 1


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", LARGE)
def test_large_sets(name, way):
    check(WAYS[way](LARGE[name]), exact_states(LARGE[name]))


@pytest.mark.parametrize("layout", LAYOUTS)
def test_layouts(layout):
    x = LARGE["to the limit"]
    check(of(state(LAYOUTS[layout](x))), exact_states(x))


@pytest.mark.parametrize("dtype", ["f8", ml_dtypes.bfloat16])
@pytest.mark.parametrize("power", [-100, 0, 100])
def test_weights(power, dtype):
    """Weights up to 1e100 of numbers up to the largest of the dtype."""
    x = (LARGE["to the limit"] * (1 if dtype == "f8" else 1e-270)).astype(dtype)
    w = rng(3).uniform(1, 2, N) * 10.0**power / (2 if power > 0 else 1)
    states = [exact_weighted(x[:, c], w) for c in range(3)]
    check(mean_var(x.astype("f8"), weights=w), states)
    check(of(Moments().update(x, weights=w)), states)
    halves = Moments().update(x[:200], weights=w[:200]) + Moments().update(x[200:], weights=w[200:])
    check(of(halves), states)
    assert halves.n.dtype == np.float64
    assert pickle.loads(pickle.dumps(halves)).n.dtype == np.float64
    gaps = np.where(rng(4).random(x.shape) < 0.2, np.nan, x.astype("f8"))
    omitted = Moments(nan_policy="omit").update(gaps, weights=w)
    check(of(omitted), [exact_weighted(column[(ok := np.isfinite(column))], w[ok]) for column in gaps.T])


@pytest.mark.parametrize("policy", ["propagate", "omit"])
def test_channels_with_nan_keep_their_results(policy):
    """Beside channels of large data, those with NaN or inf have the results that they have alone."""
    x = normal((900, 4))
    x[5, 0], x[800, 1] = np.nan, np.inf
    both = np.concatenate([x, np.repeat(LARGE["1e200"][:, :1], 2, 0)[:900], np.full((900, 1), np.nan)], axis=1)
    for alone, beside in ((mean_var(x, nan_policy=policy), mean_var(both, nan_policy=policy)),
                          (of(state(x, nan_policy=policy)), of(state(both, nan_policy=policy)))):
        for some, more in zip(alone, beside, strict=True):
            np.testing.assert_allclose(more[:4], some, rtol=1e-13)
            assert np.isnan(more[5])
    with pytest.raises(ValueError, match=r"NaN or inf in 3 of 6 channels, the first at index 0; clean the data"):
        mean_var(both, nan_policy="raise")


def test_nan_after_large_data():
    """NaN and inf merge into large states as into others."""
    for bad, mean in ((np.nan, math.nan), (np.inf, math.inf)):
        m = state(LARGE["1e200"][:, :1], nan_policy="propagate").update(np.array([[bad]]))
        np.testing.assert_equal([m.mean[0], m.var()[0], m.std()[0]], [mean, math.nan, math.nan])
        assert len(rows_of(m)) == 5


def test_channels_of_any_axes():
    x = normal((5, 4, 30)) * 1e200
    flat = np.moveaxis(x, 1, 2).reshape(-1, 4)
    check(mean_var(x, (0, 2)), exact_states(flat))
    check(of(Moments((0, 2)).update(x[:, :, :7]).update(x[:, :, 7:])), exact_states(flat))
    three = Moments(1).update(x)
    check([values.ravel() for values in of(three)], exact_states(np.moveaxis(x, 1, 0).reshape(4, -1)))
    np.testing.assert_array_equal(mean_var(np.array([[MAX, -MAX]]), ()), [[[MAX, -MAX]], [[0, 0]]])
    np.testing.assert_array_equal(mean_var(np.array([[np.inf, 1.0]]), ())[0], [[np.inf, 1]])


def test_exponents_only_where_they_are_needed():
    """A state does not depend on how its m2 came to exceed float64. Without such an m2 it has its usual rows."""
    x = LARGE["large, small, tiny"]
    m = state(x)
    assert rows_of(m)[EXPONENT].tolist() == [POWER, 0, 0]
    others = state(np.where([True, False, False], 1.0, x))
    np.testing.assert_array_equal(rows_of(m)[:5, 1:], rows_of(others)[:, 1:])
    assert rows_of(m)[SQUARES].tolist() == [0, 0, 0]
    assert len(rows_of(state(LARGE["constant"]))) == 5
    assert len(rows_of(state(LARGE["1e150"]))) == 5
    copies = [m, m.copy(), copy.deepcopy(m), pickle.loads(pickle.dumps(m)), moments_from(rows_of(m))]
    for a, b in itertools.pairwise(copies):
        assert a == b
        assert (a.n.dtype, a.n.tolist()) == (np.int64, [N] * 3)
    np.testing.assert_array_equal(m.m2, [math.inf, *others.m2[1:]])
    np.testing.assert_array_equal(m.effective_n, [N] * 3)
    assert m != state(x[:-1])


@pytest.mark.parametrize("weights", [None, np.linspace(1, 2, N)], ids=["counts", "weights"])
@pytest.mark.parametrize("name", LARGE)
def test_state_files(name, weights, tmp_path):
    m = Moments().update(LARGE[name], weights=weights)
    save(tmp_path / "m.npz", m)
    back = load(tmp_path / "m.npz")
    assert back == m
    assert back.n.dtype == m.n.dtype
    with np.load(tmp_path / "m.npz") as file:
        assert ("exponent.npy" in file.files or "exponent" in file.files) == (len(rows_of(m)) > EXPONENT)
        assert ("sum_of_squared_weights" in file.files) == (weights is not None)
    repr(back), back._repr_html_()


def altered(**values):
    """A state whose channel 0 has other values."""
    rows = rows_of(state(LARGE["large, small, tiny"]))
    for name, value in values.items():
        rows[{"exponent": EXPONENT, "m2": M2, "mean": MEAN}[name], 0] = value
    return moments_from(rows)


@pytest.mark.parametrize("values", [
    {"exponent": 600}, {"exponent": -POWER}, {"exponent": math.nan}, {"m2": 1e-120}, {"m2": math.inf}, {"m2": 0.0},
    {"m2": math.nan}, {"mean": 1e200}, {"mean": math.nan},
], ids=str)
def test_impossible_exponents(values, tmp_path):
    save(tmp_path / "m.npz", altered(**values))
    with pytest.raises(StateError, match=r"exponent must be 0, or 700 where m2 .* exceeds the largest float"):
        load(tmp_path / "m.npz")


def test_counts_beyond_int64(tmp_path):
    """They double from 10 to beyond 2**63 and stay positive."""
    m = Moments().update(np.arange(10.0))
    for doublings in range(1, 80):
        m.merge(m)
        assert m.n == 10 * 2**doublings
        assert m.n.dtype == (np.int64 if 10 * 2**doublings < 2**63 else np.float64)
    assert (m.mean, m.var()) == (4.5, 8.25)
    assert "n    6.0" in repr(m)
    assert m.copy() == pickle.loads(pickle.dumps(m)) == m
    with pytest.raises(ValueError, match=r"^n must be at most 2\*\*53, up to which counts are exact, got "):
        save(tmp_path / "m.npz", m)


@pytest.mark.parametrize(("var", "count"), [(1e300, 1e10), (1e308, 3), (MAX, 1e300), (1e10, 1e300), (1e-300, 1e10)])
def test_given_variances(var, count):
    r = RunningMeanStd().update_from_moments(0.5, var, count)
    assert r.var == pytest.approx(var, rel=1e-15)
    assert (r.mean, r.count) == (0.5, count)
    r.update_from_moments(0.5, var, count)
    assert r.var == pytest.approx(var, rel=1e-15)


def test_normalize_far_from_zero():
    """x - mean exceeds float64, and the result does not."""
    x = np.array([[MAX, -MAX], [-MAX, 0], [-MAX, 1e300]])
    mean = x.mean(0, dtype=np.longdouble)
    wanted = ((x - mean) / 1e200).astype("f8")
    for y in (x, x.astype(">f8"), np.asfortranarray(x), x.T.copy().T):
        np.testing.assert_allclose(normalize(y, mean.astype("f8"), 1, 1e-200, 0), wanted, rtol=1e-14)
    np.testing.assert_allclose(normalize(x, mean.astype("f8"), 1, 1e-200, 0, out=x), wanted, rtol=1e-14)


@pytest.mark.parametrize("policy", ["propagate", "omit"])
def test_nan_is_searched_in_any_axes(policy):
    """Channels along two axes, one with NaN late in x, one with NaN where there is a mask."""
    x = normal((400, 3, 50, 2)) * 1e200
    x[399, 0, 49, 0], x[:, 2, 0, 1] = np.nan, np.nan
    where = np.ones((400, 50), np.bool_)
    where[:, 0] = False
    used = x[:, :, 1:]
    mean, var = mean_var(x, (0, 2), where=where, nan_policy=policy)
    m = Moments((0, 2), nan_policy=policy).update(x, where=where).update(x, weights=where * 2.0)
    for i, j in itertools.product(range(3), range(2)):
        if policy == "propagate" and (i, j) == (0, 0):
            assert np.isnan([mean[i, j], var[i, j], m.std()[i, j]]).all()
            continue
        values = used[:, i, :, j][np.isfinite(used[:, i, :, j])][:, None]
        check([mean[[i], j], var[[i], j]], exact_states(values))
        check([m.mean[[i], j], m.var()[[i], j], m.std()[[i], j]], exact_states(np.concatenate([values] * 3)))


def test_states_of_different_rows_beside_each_other():
    large, plain = state(LARGE["1e200"]), state(normal((N, 3)))
    weighted = Moments().update(normal((N, 3)), weights=np.full(N, 2.0))
    joined = moments_from(np.concatenate(of_one_height([rows_of(m) for m in (plain, large)]), axis=1))
    assert joined.n.dtype == np.int64
    np.testing.assert_array_equal(joined.std(), [*plain.std(), *large.std()])
    joined = moments_from(np.concatenate(of_one_height([rows_of(m) for m in (plain, weighted, large)]), axis=1))
    assert joined.n.dtype == np.float64
    np.testing.assert_array_equal(joined.std(1), [*plain.std(1), *weighted.std(1), *large.std(1)])
    np.testing.assert_array_equal(joined.effective_n, [N] * 9)


@pytest.mark.parametrize("eps", [0, 3.0])
def test_normalization_by_a_state(eps):
    """A variance beyond float64 is no obstacle to the result of apply and of Dask's normalize."""
    x = LARGE["large, small, tiny"]
    m = state(x)
    y = Affine(m, eps, gamma=[2, 3, 4], beta=1.0).of_array(x, 1)
    np.testing.assert_allclose(y[:, 0], (x[:, 0] - m.mean[0]) / m.std()[0] * 2 + 1, rtol=1e-13, atol=1e-13)
    others = [normalize(x[:, i:i + 1], m.mean[i], m.var()[i], i + 2, 1, eps=eps)[:, 0] for i in (1, 2)]
    np.testing.assert_array_equal(y[:, 1:].T, others)
