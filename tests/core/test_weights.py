"""Weights and masks: the moments are those of rows repeated as often as their weights say."""

import math
import pickle
from fractions import Fraction

import ml_dtypes
import numpy as np
import pytest
from support.arrays import every_other, rng, swapped
from support.cases import CAMPAIGN, pairwise, thorough
from support.oracle import assert_within, exact_states, exact_weighted

import bnstream
from bnstream import BatchNorm, Moments, batch_norm, mean_var
from bnstream.exchange.conventions import from_arrays, to_arrays

LAYOUTS = {
    "table": ((300, 40), 0), "fold": ((400, 3), 0), "wide": ((40, 700), 0), "one channel": ((5000,), 0),
    "all": ((30, 40), None), "rows": ((3, 9000), 1), "channels last": ((5, 30, 33), (0, 1)),
    "channels first": ((6, 33, 70), (0, 2)), "long runs": ((2, 3, 10000), (0, 2)), "images": ((5, 20, 7, 7), (0, 2, 3)),
    "RGB": ((3, 20, 20, 3), (0, 1, 2)), "crossed": ((5, 6, 7, 4), (0, 2)),
}
WAYS = {
    "float32": lambda x: x.astype("f4"), "float64": lambda x: x, "uint8": lambda x: np.abs(x).astype("u1"),
    "int64": lambda x: x.astype("i8"), "bfloat16": lambda x: x.astype(ml_dtypes.bfloat16),
    "Fortran": lambda x: np.asfortranarray(x, "f4"), "reversed": lambda x: x.astype("f4")[::-1],
    "swapped": lambda x: swapped(x.astype("f4")), "sliced": lambda x: every_other(x.astype("f4"), 0),
}


# Every layout with two dtypes that are read in place and one other kind; every kind with two layouts.
FEW = [pair for i, layout in enumerate(LAYOUTS) for pair in ((layout, way) for way in WAYS)
       if CAMPAIGN or layout in ("table", "channels first") or pair[1] in ("float32", "float64", [*WAYS][2 + i % 7])]


def axes_of(x, axis):
    return tuple(range(x.ndim)) if axis is None else axis if isinstance(axis, tuple) else (axis,)


def rows_of(x, axis):
    """Return x as (batch positions, channels)."""
    axes = axes_of(x, axis)
    channels = [i for i in range(x.ndim) if i not in axes]
    n = math.prod(x.shape[i] for i in axes)
    return np.ascontiguousarray(x.transpose(*axes, *channels)).reshape(n, -1)


def sample(layout, way, seed=0):
    """Return an array, its axis, and integer weights of its batch positions, a third of them 0."""
    shape, axis = LAYOUTS[layout]
    generator = rng(seed)
    x = WAYS[way](generator.normal(30, 10, shape))
    weights = generator.integers(0, 4, [shape[i] for i in axes_of(x, axis)])
    weights[generator.random(weights.shape) < 0.2] = 0
    weights.flat[0] = 0         # the first guess of a shift must skip it
    return x, axis, weights


def poisoned(x, axis, present):
    """Return x with NaN, inf or extreme values where `present` is false."""
    x = x.copy()
    axes = axes_of(x, axis)
    shape = [n if i in axes else 1 for i, n in enumerate(x.shape)]
    absent = np.broadcast_to(~present.reshape(shape), x.shape)
    poison = [np.nan, np.inf, -np.inf, 1e300]
    if x.dtype.kind in "iu":
        poison = [np.iinfo(x.dtype).min, np.iinfo(x.dtype).max]
    with np.errstate(over="ignore"):
        x[absent] = rng(1).choice(np.array(poison, None if x.dtype.kind == "f" else x.dtype), absent.sum())
    return x


@pytest.mark.parametrize(("layout", "way"), FEW)
def test_weights(layout, way):
    """Integer weights repeat rows; weights of an eighth of that give the same mean and variance."""
    x, axis, weights = sample(layout, way)
    rows, times = rows_of(x, axis), weights.ravel()
    states = exact_states(np.repeat(rows, times, axis=0))
    given = poisoned(x, axis, weights > 0)
    m = Moments(axis).update(given, weights=weights / 8)
    assert_within(m.mean.ravel(), m.var().ravel(), states)
    assert np.all(m.n == times.sum() / 8)
    assert m.effective_n == pytest.approx(times.sum() ** 2 / (times**2).sum(), rel=1e-15)
    assert m == Moments(axis).update(given, weights=weights / 8, n_threads=3)


@pytest.mark.parametrize(("layout", "way"), FEW)
def test_where(layout, way):
    x, axis, weights = sample(layout, way)
    mask = weights > 0
    states = exact_states(rows_of(x, axis)[mask.ravel()])
    given = poisoned(x, axis, mask)
    mean, var = mean_var(given, axis, dtype="f8", where=mask, ddof=1)
    assert_within(np.ravel(mean), np.ravel(var), states, ddof=1)
    m = Moments(axis).update(given, where=mask)
    assert (m.mean.tobytes(), m.var(1).tobytes()) == (np.asarray(mean).tobytes(), np.asarray(var).tobytes())
    assert np.all(m.n == mask.sum())
    assert np.array_equal(m.n, m.effective_n)
    assert m.n.dtype == np.int64
    weighted = Moments(axis).update(given, weights=np.where(mask, 1, 9), where=mask)
    assert_within(weighted.mean.ravel(), weighted.var(1).ravel(), states, ddof=1)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_missing_values_with_weights(layout):
    x, axis, weights = sample(layout, "float64")
    axes = axes_of(x, axis)
    x[rng(2).random(x.shape) < 0.1] = np.nan
    m = Moments(axis, nan_policy="omit").update(x, weights=weights, where=weights < 3)
    columns, times = rows_of(x, axis).T, np.where(weights < 3, weights, 0).ravel()
    present = [times * np.isfinite(column) for column in columns]
    repeated = map(np.repeat, columns, present)
    states = np.concatenate([exact_states(column[:, None]) for column in repeated])
    assert_within(m.mean.ravel(), m.var().ravel(), states)
    assert m.n.ravel().tolist() == [n.sum() for n in present]
    expected = [n.sum() ** 2 / (n**2).sum() for n in present]
    np.testing.assert_allclose(m.effective_n.ravel(), expected, rtol=1e-15)
    assert m.n.shape == tuple(n for i, n in enumerate(x.shape) if i not in axes)


def test_variance_of_reliability_weights():
    """The variance is that of numpy.cov with aweights."""
    generator = rng(3)
    x, weights = generator.normal(size=(200, 3)), generator.random(200)
    m = Moments().update(x, weights=weights)
    for ddof in (0, 1):
        np.testing.assert_allclose(m.var(ddof), np.diag(np.cov(x.T, aweights=weights, ddof=ddof)), rtol=1e-13)
    assert np.isnan(Moments().update(x[:1], weights=[0.3]).var(1)).all()


def test_any_chunks_and_merges():
    x, _, weights = sample("table", "float64")
    weights = weights / 7
    states = exact_states(np.repeat(x, np.rint(weights * 7).astype(int), axis=0))
    one, parts = Moments(), []
    for i in range(0, len(x), 7):
        one.update(x[i:i + 7], weights=weights[i:i + 7])
        parts.append(Moments().update(x[i:i + 7], weights=weights[i:i + 7]))
    for m in (one, sum(parts[::-1], Moments())):
        assert_within(m.mean, m.var(), states)
        assert m.n == pytest.approx(math.fsum(weights), rel=2**-52)
        assert m.effective_n == pytest.approx(math.fsum(weights) ** 2 / math.fsum(weights**2), rel=1e-14)


def test_sums_of_weights_do_not_drift():
    """The sum of many weights of 0.1 is exact; plain addition errs by 1e-11 after 100,000."""
    m, x, n, n_rows = Moments(), np.ones((1, 2)), thorough(100_000, 20_000), thorough(1_000_000, 100_000)
    for _ in range(n):
        m.update(x, weights=[0.1])
    half = Moments().merge(m).merge(m)
    many = Moments().update(np.ones((n_rows, 40)), weights=np.full(n_rows, 0.1))
    assert np.all(m.n == math.fsum([0.1] * n))
    assert np.all(half.n == math.fsum([0.1] * 2 * n))
    assert many.n == pytest.approx(math.fsum([0.1] * n_rows), rel=2**-51)


@pytest.mark.parametrize("backwards", [False, True])
@pytest.mark.parametrize("unit", [1.0, 1e-90, 1e90])
def test_weights_of_any_size(unit, backwards):
    """Decaying weights from 1e-100 to 1e100: only their ratios matter, for any chunks."""
    x = np.rint(rng(9).normal(50, 10, (600, 3)) * 1024) / 1024
    decay = 2.0 ** -(np.arange(600) // 20)
    times = exactly(decay / decay.min())        # too large to repeat rows
    n, sums = times.sum(), (times[:, None] * exactly(x)).sum(0)
    m2 = (times[:, None] * exactly(x) ** 2).sum(0) - sums**2 / n
    parts = [slice(i, i + 50) for i in range(0, 600, 50)]
    one, many = Moments().update(x, weights=decay * unit), Moments()
    for part in parts[::-1] if backwards else parts:
        many.update(x[part], weights=decay[part] * unit)
    for m in (one, many):
        np.testing.assert_allclose(m.mean, (sums / n).astype(float), rtol=8e-15)
        np.testing.assert_allclose(m.var(), (m2 / n).astype(float), rtol=8e-15)
        assert m.effective_n == pytest.approx(float(n**2 / sum(times**2)), rel=1e-14)


@pytest.mark.parametrize("seed", range(thorough(300, 40)))
def test_weights_over_200_decades(seed):
    """A part far heavier than all before it, or far lighter, costs no digit, however the rows are cut and merged."""
    generator = rng(seed)
    n = int(generator.integers(2, 60))
    weights = 10.0 ** generator.uniform(-100, 100, n)
    if seed % 2:
        weights = 10.0 ** np.clip(generator.normal(0, 8, n), -100, 100)
    x = generator.normal(size=n) * 10.0 ** generator.uniform(*(-60, 60) if seed % 3 else (-3, 9), n)
    cuts = np.unique(generator.integers(0, n, generator.integers(1, n + 1)))
    parts = [Moments().update(*part, weights=weight) for *part, weight in
             zip(np.split(x, cuts), np.split(weights, cuts), strict=True)]
    one = Moments().update(x, weights=weights)
    for m in (one, sum(parts, Moments()), sum(parts[::-1], Moments())):
        states = np.array(exact_weighted(x, weights), object)
        assert_within(m.mean, m.var(), states, var_eps=16 * math.ceil(math.log2(n) + 1e-9))
        assert m.n == pytest.approx(math.fsum(weights), rel=2**-50)


@pytest.mark.parametrize("far", [1e20, 1e40, 1e60, 1e77, -1e100])
@pytest.mark.parametrize("shape", [(3, 1), (400, 1), (400, 3), (5000, 64)])
def test_far_values_of_next_to_no_weight(far, shape):
    """The first estimate of the mean is as far away, and has no digit of the others."""
    x, n_far = rng(3).random(shape), max(1, shape[0] // 3)
    x[:n_far] *= far
    weights = np.where(np.arange(shape[0]) < n_far, 1e-99, 1e99)
    m = Moments().update(x, weights=weights)
    states = np.array([exact_weighted(column, weights) for column in x[:, :3].T], object)
    assert_within(m.mean[:3], m.var()[:3], states)


def test_tasks_of_different_weight():
    """The partial results of tasks are merged likewise."""
    n = 400_000
    x = rng(14).normal(size=n)
    x[:n // 2] += 1e8
    weights = np.where(np.arange(n) < n // 2, 1e-12, 1.0)
    m = Moments().update(x, weights=weights)
    assert_within(m.mean, m.var(), np.array(exact_weighted(x, weights), object), var_eps=16 * 19)


def exactly(x):
    return np.frompyfunc(Fraction, 1, 1)(x)


def test_a_mask_may_change_after_the_call():
    x, dy, mask = rng(10).normal(size=(30, 4)), rng(11).normal(size=(30, 4)), rng(12).random(30) < 0.6
    bn = BatchNorm(4)
    given = mask.copy()
    bn(x, where=given)
    given[:] = True
    assert not bn.backward(dy)[~mask].any()


def test_counts_of_weights():
    """What needs the number of values uses effective_n, whatever the scale of the weights."""
    x = rng(13).normal(size=(50, 3))
    few, one = Moments().update(x, weights=np.full(50, 0.01)), Moments().update(x[:1], weights=[100])
    bn = BatchNorm(3)
    bn.recalibrate([x])
    assert to_arrays(few, "pytorch")["running_var"] == pytest.approx(bn.running_var)
    with pytest.raises(ValueError, match="has ddof 1 and needs n > 1 in every channel, got n = 1"):
        to_arrays(one, "pytorch")
    back = from_arrays(to_arrays(few, "scikit-learn"), "scikit-learn")
    assert back.n == pytest.approx(0.5)
    assert np.array_equal(back.n, few.n)
    np.testing.assert_allclose(back.var(), few.var(), rtol=1e-15)


def test_another_thread_comes_first(monkeypatch):
    """If another thread's first update has other channels, one of the two is refused and the state stays valid."""
    m, zeros = Moments(), np.zeros

    def slow(*arguments):
        monkeypatch.undo()
        m.update(np.ones((5, 3000)))
        return zeros(*arguments)

    monkeypatch.setattr(np, "zeros", slow)
    with pytest.raises(ValueError, match=r"expected channels of shape \(3000,\) as here, got \(2,\)"):
        m.update(np.ones((4, 2)), weights=np.ones(4))
    assert (set(m.n.tolist()), m.shape) == ({5}, (3000,))


def test_with_and_without_weights():
    """A row without a weight has weight 1."""
    x, _, weights = sample("table", "float64")
    plain, weighted = Moments().update(x), Moments().update(x, weights=weights)
    both = plain + weighted
    states = exact_states(np.repeat(x, weights + 1, axis=0))
    assert_within(both.mean, both.var(), states)
    assert both == Moments().update(x).update(x, weights=weights)
    squares = len(x) + (weights**2).sum()
    assert np.all(both.effective_n == (len(x) + weights.sum()) ** 2 / squares)
    assert np.array_equal((weighted + plain).effective_n, both.effective_n)
    assert np.all(plain.n == len(x))
    assert np.array_equal(plain.n, plain.effective_n)


@pytest.mark.parametrize("shape", [(30, 1), (1,), (1, 1), (30,)])
def test_shapes_of_weights(shape):
    x = rng(4).normal(size=(30, 5))
    weights = np.full(shape, 2.0)
    m = Moments().update(x, weights=weights)
    assert np.all(m.n == 60)
    np.testing.assert_allclose(mean_var(x, where=weights > 1), mean_var(x), rtol=1e-13)
    images = rng(5).normal(size=(4, 3, 5, 6))
    per_image = np.array([1, 0, 2, 1])[:, None, None]
    states = exact_states(rows_of(images[[0, 2, 2, 3]], (0, 2, 3)))
    m = Moments((0, 2, 3)).update(images, weights=per_image)
    assert_within(m.mean, m.var(), states)


def test_nothing_counts():
    x = np.full((4, 2), np.nan)
    m = Moments().update(x, where=np.zeros(4, bool)).update(x, weights=np.zeros(4))
    assert (m.n.tolist(), m.shape) == ([0, 0], (2,))
    assert np.isnan(m.mean).all()
    assert np.isnan(mean_var(x, where=np.zeros(4, bool), nan_policy="raise")).all()


@pytest.mark.parametrize(("weights", "where", "error", "message"), [
    ([1, 2], None, ValueError, r"weights must have the shape of the batch positions, \(4,\), or 1 in place of any of "
                               r"these, for a batch of shape \(4, 2\); got \(2,\)"),
    (np.ones((4, 2)), None, ValueError, r"weights must have the shape of the batch positions, \(4,\).*got \(4, 2\)"),
    ([1, -1, 1, 1], None, ValueError, "weights must be finite and not negative, 0 or from 1e-100 to 1e100, got -1"),
    ([1, np.nan, 1, 1], None, ValueError, "weights must be finite and not negative, .* got NaN in 1 of 4; scale them"),
    ("abcd", None, TypeError, "weights: expected an array of numbers, got str"),
    ([1, np.inf, 1, 1], None, ValueError, "0 or from 1e-100 to 1e100, got 1.0 to inf; scale them, or leave rows out"),
    ([1, 1e-101, 0, 1], None, ValueError, "0 or from 1e-100 to 1e100, got 0.0 to 1.0"),
    ([1, 1e101, 0, 1], None, ValueError, "0 or from 1e-100 to 1e100"),
    (["a"] * 4, None, TypeError, "weights must be of real numbers, got dtype <U1"),
    (np.ones(4, complex), None, TypeError, "weights must be of real numbers, got dtype complex128"),
    (np.ma.array(np.ones(4)), None, TypeError, r"weights must be .* masked array; weights\.filled\(0\)"),
    (None, np.ma.array([True] * 4), TypeError, r"where must be .* masked array; where\.filled\(0\)"),
    (None, [1, 0, 1, 1], TypeError, "mask of bool, True for the elements to use, got dtype int64; compare"),
    (None, np.ones(3, bool), ValueError, r"where must have the shape of the batch positions, \(4,\).*got \(3,\)"),
])
def test_refused(weights, where, error, message):
    m = Moments().update(np.ones((4, 2)))
    before = pickle.dumps(m)
    with pytest.raises(error, match=message):
        m.update(np.ones((4, 2)), weights=weights, where=where)
    assert pickle.dumps(m) == before
    if weights is None:
        with pytest.raises(error, match=message):
            mean_var(np.ones((4, 2)), where=where)
        with pytest.raises(error, match=message):
            BatchNorm(2)(np.ones((4, 2)), where=where)


def test_nan_where_it_counts():
    x = np.ones((4, 2))
    x[1, 1] = np.nan
    m = Moments()
    with pytest.raises(ValueError, match="NaN or inf in 1 of 2 channels, the first at index 1"):
        m.update(x, weights=[1, 0.5, 1, 1])
    with pytest.raises(ValueError, match="NaN or inf in 1 of 2 channels, the first at index 1"):
        mean_var(x, where=[True, True, False, True], nan_policy="raise")
    assert m.shape is None
    assert np.all(m.update(x, weights=[1, 0, 1, 1]).n == 3)
    assert mean_var(x, where=[True, False, True, True], nan_policy="raise")[0].tolist() == [1, 1]


@pytest.mark.parametrize("policy", ["raise", "omit"])
def test_kept(tmp_path, policy):
    """Pickle, copy and file keep every row of the state."""
    x, _, weights = sample("table", "float64")
    m = Moments(nan_policy=policy, names=[f"c{i}" for i in range(40)])
    for i in range(0, len(x), 9):
        m.update(x[i:i + 9], weights=weights[i:i + 9] / 3)
    bnstream.save(tmp_path / "m.npz", m)
    for other in (pickle.loads(pickle.dumps(m)), m.copy(), bnstream.load(tmp_path / "m.npz"), Moments() + m):
        assert other == m
        assert np.array_equal(other.n, m.n)
        assert np.asarray(other.n).dtype == np.float64
        assert np.array_equal(other.effective_n, m.effective_n)
    assert "  n           200" in repr(Moments().update(np.ones((50, 2)), weights=np.full(50, 4)))
    assert m != Moments(nan_policy=policy).update(x, weights=weights / 3 + 1)


LAYERS = {"table": (300, 40), "few": (300, 3), "NLC": (5, 30, 33), "NCL": (6, 33, 70), "NCHW": (5, 20, 7, 7),
          "long": (2, 3, 10000)}


@pytest.mark.parametrize(
    ("layout", "dtype", "policy"), pairwise(LAYERS, ["f4", "f8", "f2", "u1"], ["raise", "omit", "propagate"]))
def test_layer(layout, dtype, policy):
    """Forward and backward are those of the selected positions alone; the others become 0."""
    shape = LAYERS[layout]
    channel_axis = 2 if layout == "NLC" else 1
    generator = rng(6)
    x, dy = generator.normal(30, 10, shape).astype(dtype), generator.normal(size=shape)
    axes = tuple(i for i in range(x.ndim) if i != channel_axis)
    mask = generator.random([shape[i] for i in axes]) < 0.7
    bn, alone = (BatchNorm(shape[channel_axis], channel_axis=axis, nan_policy=policy, dtype="f8", track_pooled=True)
                 for axis in (channel_axis, 1))
    bn.gamma = alone.gamma = generator.normal(size=bn.num_features)
    bn.beta = alone.beta = generator.normal(size=bn.num_features)
    given, given_dy = poisoned(x, axes, mask), poisoned(dy, axes, mask)
    rows, dy_rows = (np.moveaxis(a, channel_axis, -1)[mask] for a in (x, dy))
    for training in (True, False):
        y, backward = bn.train(training).vjp(given, where=mask)
        y_rows, alone_backward = alone.train(training).vjp(rows)
        eps = np.finfo(y.dtype).eps
        check(y, y_rows, mask, channel_axis, 4 * eps)
        if dtype != "u1":
            (dx, *gradients), (dx_rows, *wanted) = backward(given_dy), alone_backward(dy_rows)
            check(dx, dx_rows, mask, channel_axis, 4 * eps)
            np.testing.assert_allclose(gradients, wanted, rtol=1e-11, atol=1e-11)
        np.testing.assert_allclose(bn.running_mean, alone.running_mean, rtol=1e-14)
        np.testing.assert_allclose(bn.running_var, alone.running_var, rtol=1e-14)
    assert np.array_equal(bn.pooled.n, alone.pooled.n)
    assert np.max(bn.pooled.n) == mask.sum()
    mean, var = np.zeros(bn.num_features), np.ones(bn.num_features)
    y = batch_norm(given, mean, var, bn.gamma, bn.beta, training=True, channel_axis=channel_axis, where=mask,
                   nan_policy=policy)
    assert y.tobytes() == bn.train()(given, where=mask).tobytes()
    assert mean.tolist() == (0.1 * bn.pooled.mean).tolist()
    if dtype != "u1":
        bn(given, out=given, where=mask)        # in place of x
        assert given.tobytes() == y.tobytes()


def check(y, rows, mask, channel_axis, eps):
    y = np.moveaxis(y, channel_axis, -1)
    np.testing.assert_allclose(y[mask].astype(float), rows.astype(float), rtol=eps, atol=eps)
    assert not y[~mask].any()


def test_renorm_where():
    x, mask = rng(7).normal(5, 3, (6, 4, 50)), rng(8).random((6, 50)) < 0.6
    bn, alone = BatchNorm(4, renorm=True, dtype="f8"), BatchNorm(4, renorm=True, dtype="f8")
    for _ in range(3):
        y, rows = bn(poisoned(x, (0, 2), mask), where=mask), alone(np.moveaxis(x, 1, -1)[mask])
    check(y, rows, mask, 1, 1e-13)


@pytest.mark.parametrize("policy", ["raise", "propagate"])
def test_too_few_count(policy):
    x, mask = np.ones((4, 3, 5)), np.zeros((4, 5), bool)
    mask[0, 0] = True
    bn = BatchNorm(3, nan_policy=policy)
    for out in (None, x):
        with pytest.raises(ValueError, match="2 values in each channel, got 1 in channel 0, not counting those"):
            bn(x, where=mask, out=out)
    assert (x == 1).all()
    assert bn.num_batches_tracked == 0
    assert not bn.eval()(x, where=mask)[~np.broadcast_to(mask[:, None], x.shape)].any()


@pytest.mark.parametrize("dtype", ["f2", "f4", "f8", "i4"])
@pytest.mark.parametrize("policy", ["raise", "omit", "propagate"])
def test_mean_var_takes_weights(dtype, policy):
    """The mean and variance of `Moments`, rounded to the dtype of the results."""
    r = np.random.default_rng(3)
    x, weights, where = r.integers(-50, 50, (40, 3)).astype(dtype), r.integers(0, 5, 40), r.random(40) < 0.8
    m = Moments(nan_policy=policy).update(x, weights=weights, where=where)
    mean, var = mean_var(x, ddof=1, nan_policy=policy, weights=weights, where=where)
    assert mean.dtype == var.dtype == (dtype if dtype != "i4" else "f8")
    np.testing.assert_array_equal(mean, m.mean.astype(mean.dtype))
    np.testing.assert_array_equal(var, m.var(1).astype(mean.dtype))
    kept = mean_var(x.T, axis=1, weights=weights, where=where, keepdims=True)
    assert [each.shape for each in kept] == [(3, 1), (3, 1)]
    alone, _ = mean_var(x[:, 0], weights=weights, where=where)
    assert alone == mean[0]


def test_mean_var_with_weights_of_nothing():
    mean, var = mean_var(np.ones((0, 2)), weights=np.ones(0))
    assert np.isnan([mean, var]).all()
    assert np.isnan(mean_var(np.ones((3, 2)), weights=np.zeros(3))).all()
    with pytest.raises(ValueError, match="weights must have the shape of the batch positions"):
        mean_var(np.ones((3, 2)), weights=np.ones(2))
