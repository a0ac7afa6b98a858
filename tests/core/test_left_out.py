"""NaN and inf that are left out, wherever they first are. The kernels look for them once a sum is not finite."""

import numpy as np
import pytest
from support.arrays import rng
from support.oracle import assert_within, exact_states, exact_weighted

from bnstream import Moments

# Several blocks each: by columns, also with folded rows; by runs, of several pieces, and of images.
LAYOUTS = {
    "columns": ((3000, 24), 0), "folded": ((9000, 3), 0), "runs": ((3, 40000), 1),
    "images": ((40, 3, 30, 30), (0, 2, 3)),
}
PLACES = {"first": slice(0, 1), "last": slice(-1, None), "middle": slice(1700, 1703), "many": slice(900, None, 7)}


def positions(x, axis):
    """Return a view of x whose channels are last."""
    return {2: x.T if axis == 1 else x, 4: np.moveaxis(x, 1, -1)}[x.ndim]


def sample(layout, place, value, dtype, channels=slice(1, 2)):
    """Return an array with a value in some of its channels, its axis, and its elements as (positions, channels)."""
    shape, axis = LAYOUTS[layout]
    x = rng(3).normal(5, 2, shape).astype(dtype)
    elements = positions(x, axis)
    flat = elements.reshape(-1, elements.shape[-1])         # a copy of images
    flat[PLACES[place], channels] = value
    elements[...] = flat.reshape(elements.shape)
    return x, axis, flat


def of_shape(weights, x, axis):
    """Return a weight for each batch position in the shape of the batch axes."""
    return weights.reshape([x.shape[i] for i in (axis if isinstance(axis, tuple) else (axis,))])


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("dtype", ["float32", "float64", "float16"])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_clean_data(layout, dtype, weighted):
    """Where nothing is left out, "omit" gives the bits of "raise"."""
    shape, axis = LAYOUTS[layout]
    x = rng(1).normal(5, 2, shape).astype(dtype)
    n = positions(x, axis)[..., 0].size
    weights = of_shape(rng(2).random(n) + 0.1, x, axis) if weighted else None
    omit, other = (Moments(axis, nan_policy=policy).update(x, weights=weights) for policy in ("omit", "raise"))
    assert omit == other
    assert np.array_equal(omit.effective_n, other.effective_n)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_omit(layout, place, value):
    x, axis, flat = sample(layout, place, value, "float32")
    m = Moments(axis, nan_policy="omit").update(x, n_threads=2)
    finite = [column[np.isfinite(column)] for column in flat.T]
    assert m.n.tolist() == [len(column) for column in finite]
    assert_within(m.mean, m.var(), np.array([exact_states(column[:, None])[0] for column in finite]))
    clean = Moments(axis).update(np.where(np.isfinite(x), x, np.float32(5)))
    for statistic in ("mean", "m2"):        # the other channels keep their bits
        others = np.delete(getattr(m, statistic), 1), np.delete(getattr(clean, statistic), 1)
        assert np.array_equal(*others)


@pytest.mark.parametrize("policy", ["raise", "omit", "propagate"])
@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_weight_0(layout, place, policy):
    """A row of weight 0 may hold anything, in any block."""
    x, axis, flat = sample(layout, place, np.nan, "float64", slice(None))
    weights = rng(4).integers(1, 4, len(flat)) / 4
    weights[PLACES[place]] = 0
    given = of_shape(weights, x, axis)
    m = Moments(axis, nan_policy=policy).update(x, weights=given)
    kept = weights > 0
    assert_within(m.mean, m.var(), np.array([exact_weighted(column[kept], weights[kept]) for column in flat.T]))
    assert m.n.tolist() == [weights.sum()] * flat.shape[1]
    if policy != "omit":
        refused = Moments(axis, nan_policy=policy)
        given.flat[np.flatnonzero(weights == 0)[-1]] = 1
        if policy == "propagate":
            assert np.isnan(refused.update(x, weights=given).mean).all()
        else:
            with pytest.raises(ValueError, match="NaN or inf in"):
                refused.update(x, weights=given)


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_omit_with_weights(layout, place):
    """n and effective_n are those of what is left, channel by channel, in one pass over x."""
    x, axis, flat = sample(layout, place, np.nan, "float32")
    weights = rng(5).integers(0, 4, len(flat)) / 4
    given = of_shape(weights, x, axis)
    m = Moments(axis, nan_policy="omit").update(x, weights=given)
    finite = np.isfinite(flat)
    assert m.n.tolist() == (weights @ finite).tolist()
    np.testing.assert_allclose(m.effective_n, (weights @ finite) ** 2 / (weights**2 @ finite), rtol=1e-15)
    states = [exact_weighted(column[some], weights[some]) for column, some in zip(flat.T, finite.T, strict=True)]
    assert_within(m.mean, m.var(), np.array(states))
    masked = Moments(axis).update(np.where(np.isnan(x), 7, x), weights=given, where=np.isfinite(x))
    assert masked.n.tolist() == m.n.tolist()
    assert masked.effective_n.tolist() == m.effective_n.tolist()


def test_omit_with_weights_of_large_numbers():
    """A second look at data whose squares overflow counts the same elements."""
    x, weights = rng(6).normal(5, 2, (3000, 5)), rng(7).random(3000) + 0.1
    x[700, 2] = np.nan
    large = Moments(nan_policy="omit").update(x * 1e200, weights=weights)
    finite = np.isfinite(x)
    np.testing.assert_allclose(large.n, weights @ finite, rtol=1e-14)
    np.testing.assert_allclose(large.effective_n, (weights @ finite) ** 2 / (weights**2 @ finite), rtol=1e-14)
    small = Moments(nan_policy="omit").update(x, weights=weights)
    np.testing.assert_allclose(large.mean / 1e200, small.mean, rtol=1e-14)
    np.testing.assert_allclose(large.std() / 1e200, small.std(), rtol=1e-14)


@pytest.mark.parametrize("dtype", ["uint8", "int8"])
@pytest.mark.parametrize("n", [1, 15, 63, 64, 65, 100, 196, 400, 1000, 70000])
def test_runs_of_bytes(n, dtype):
    x = rng(n).integers(np.iinfo(dtype).min, np.iinfo(dtype).max + 1, (3, n)).astype(dtype)
    x[2] = np.iinfo(dtype).min          # the largest squares
    m = Moments(1).update(x)
    assert_within(m.mean, m.var(), exact_states(x, 1))
    assert m.m2[2] == 0
    assert np.array_equal(m.mean, x.sum(1, dtype=np.int64) / n)
