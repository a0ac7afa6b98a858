"""Masks of elements: each channel has the moments, and the normalization, of its own selected elements."""

import pickle

import ml_dtypes
import numpy as np
import pytest
from support.arrays import BFLOAT16, LAYOUTS, of_dtype, rng
from support.cases import pairwise
from support.oracle import assert_within, exact

import bnstream
from bnstream import BatchNorm, GroupedMoments, Moments, batch_norm, mean_var
from bnstream.core.moments import rows_of as rows_of_state
from bnstream.runningmeanstd import RunningMeanStd

SHAPES = {
    "table": ((300, 40), 0), "fold": ((2000, 3), 0), "wide": ((40, 700), 0), "one channel": ((5000, 1), (0,)),
    "rows": ((3, 9000), 1), "channels last": ((5, 30, 33), (0, 1)), "channels first": ((6, 33, 70), (0, 2)),
    "images": ((5, 20, 7, 7), (0, 2, 3)), "long runs": ((2, 3, 40000), (0, 2)), "crossed": ((5, 6, 7, 4), (0, 2)),
    "few": ((7, 5), 0),
}
DTYPES = ["f4", "f8", "f2", "bfloat16", "i8", "u8", "i4", "u1", "?"]
POLICIES = ["propagate", "raise", "omit"]


def axes_of(x, axis):
    return tuple(range(x.ndim)) if axis is None else tuple(a % x.ndim for a in np.atleast_1d(axis).tolist())


def rows_of(x, axis):
    """Return x as (batch positions, channels)."""
    axes = axes_of(x, axis)
    kept = [i for i in range(x.ndim) if i not in axes]
    return np.ascontiguousarray(x.transpose(*axes, *kept)).reshape(-1, np.prod([x.shape[i] for i in kept], dtype=int))


def mask_for(shape, share=0.6, seed=1):
    """Return a mask of elements. A channel along the last axis has few, and the first row has none."""
    mask = rng(seed).random(shape) < share
    mask[..., 0] &= rng(seed + 1).random(shape[:-1]) < 0.3
    mask[0] &= shape[0] < 4
    return mask


def poisoned(x, mask):
    """Return x with NaN, inf or extreme values where the mask is False."""
    x = x.copy()
    poison = [np.nan, np.inf, -np.inf, ml_dtypes.finfo(x.dtype).max] if x.dtype.kind in "fV" else [True, False]
    if x.dtype.kind in "iu":
        poison = [np.iinfo(x.dtype).min, np.iinfo(x.dtype).max]
    x[~mask] = rng(2).choice(np.array(poison, np.float64 if x.dtype.kind in "fV" else x.dtype), (~mask).sum())
    return x


def states_of(x, axis, mask, times=None):
    """Return the exact states of the selected elements of every channel, repeated `times`."""
    rows, flags = rows_of(x, axis).T, rows_of(mask, axis).T
    times = np.ones(rows.shape[1], int) if times is None else times
    return np.array([exact(np.repeat(row[flag], times[flag])) for row, flag in zip(rows, flags, strict=True)], object)


@pytest.mark.parametrize(("name", "dtype", "layout", "policy", "weighted"),
                         pairwise(SHAPES, DTYPES, LAYOUTS, POLICIES, [False, True]))
def test_exact(name, dtype, layout, policy, weighted):
    shape, axis = SHAPES[name]
    x = of_dtype(BFLOAT16 if dtype == "bfloat16" else dtype, shape)
    mask = mask_for(shape)
    weights = rng(3).integers(0, 4, [shape[i] for i in axes_of(x, axis)])
    times = weights.ravel() if weighted else np.ones(weights.size, int)
    states = states_of(x, axis, mask, times)
    some = np.array([state.n > 0 for state in states])
    given = LAYOUTS[layout](poisoned(x, mask))
    options = {"where": mask, "weights": weights / 8 if weighted else None}
    m = Moments(axis, nan_policy=policy).update(given, **options)
    assert_within(m.mean.ravel()[some], m.var().ravel()[some], states[some])
    counts = times @ rows_of(mask, axis)
    assert np.array_equal(m.n.ravel(), counts / 8 if weighted else counts)
    assert m.n.dtype == (np.float64 if weighted else np.int64)
    squares = times**2 @ rows_of(mask, axis)
    np.testing.assert_allclose(m.effective_n.ravel()[some], counts[some] ** 2 / squares[some], rtol=1e-14)
    assert np.isnan(m.mean.ravel()[~some]).all()
    for n_threads in (1, 3):
        assert Moments(axis, nan_policy=policy).update(given, **options, n_threads=n_threads) == m
    mean, var = mean_var(given, axis, ddof=1, dtype="f8", nan_policy=policy, **options)
    assert (mean.tobytes(), var.tobytes()) == (m.mean.tobytes(), m.var(1).tobytes())


@pytest.mark.parametrize("dtype", ["f8", "f4", "i4"])
@pytest.mark.parametrize(("axis", "shape"), [
    (0, ()), (0, (1,)), (0, (5,)), (0, (4, 1)), (0, (1, 4, 5)), (0, (30, 1, 1)), (0, (30, 4, 5)), (0, (30, 1, 5)),
    (1, (5,)), (1, (4, 1)), (1, (30, 4, 5)), ((0, 2), (4, 1)), ((0, 2), (4, 5)), ((0, 2), (1, 4, 1)), ((0, 2), (5,)),
    (None, (5,)), (None, (4, 1)), (None, (30, 4, 5)), (-1, (30, 1, 5)), ((), (30, 4, 5)), ((1, 2), (4, 5)),
])
def test_numpy(axis, shape, dtype):
    """`where` broadcasts as in `numpy.mean` and `numpy.var`."""
    x, mask = (rng(4).normal(20, 5, (30, 4, 5))).astype(dtype), rng(5).random(shape) < 0.7
    for keepdims, ddof in ((False, 0), (True, 1)):
        with np.errstate(all="ignore"), pytest.warns(RuntimeWarning) if not mask.all() else np.errstate():
            wanted = [f(x.astype("f8"), axis, keepdims=keepdims, where=mask, **options)
                      for f, options in ((np.mean, {}), (np.var, {"ddof": ddof}))]
            np.mean(np.ones(1), where=np.zeros(1, bool))        # warns
        got = mean_var(x, axis, ddof=ddof, keepdims=keepdims, where=mask, dtype="f8")
        for mine, theirs in zip(got, wanted, strict=True):
            assert mine.shape == theirs.shape
            with np.errstate(all="ignore"):
                np.testing.assert_allclose(mine, np.where(np.isinf(theirs), np.nan, theirs), rtol=1e-12)
    n = Moments(axis).update(x, where=mask).n
    assert np.array_equal(n, np.broadcast_to(mask, x.shape).sum(axes_of(x, axis)))


def test_batch_positions_come_first():
    """A mask that fits the batch positions is of these; with every axis it broadcasts as in NumPy."""
    x, mask = rng(6).normal(size=(5, 5)), np.array([True, False, True, True, False])
    assert Moments().update(x, where=mask).n.tolist() == [3] * 5
    assert Moments().update(x, where=mask[:, np.newaxis]).n.tolist() == [3] * 5
    assert Moments().update(x, where=mask[np.newaxis]).n.tolist() == [5, 0, 5, 5, 0]
    assert Moments().update(x[:3], where=mask).n.tolist() == [3, 0, 3, 3, 0]


@pytest.mark.parametrize("yes", [True, np.True_, np.array(True)])
def test_scalars(yes):
    """True is no mask, to the last bit; False selects nothing."""
    x = rng(7).normal(size=(50, 3))
    assert Moments().update(x, where=yes) == Moments().update(x)
    assert np.array_equal(mean_var(x, where=yes), mean_var(x))
    assert np.array_equal(BatchNorm(3)(x, where=yes), BatchNorm(3)(x))
    assert Moments().update(x, where=False).n.tolist() == [0, 0, 0]
    assert np.isnan(mean_var(x, where=np.False_)).all()
    assert not BatchNorm(3).eval()(x, where=False).any()


@pytest.mark.parametrize("name", SHAPES)
def test_the_same_in_all_channels(name):
    """A mask that does not differ between channels gives the bits of the mask of positions."""
    shape, axis = SHAPES[name]
    x = rng(8).normal(size=shape)
    axes = axes_of(x, axis)
    positions = rng(9).random([n if i in axes else 1 for i, n in enumerate(shape)]) < 0.6
    wanted = Moments(axis).update(x, where=positions)
    broadcast = np.broadcast_to(positions, shape)
    for mask in (broadcast, broadcast.copy(), np.asfortranarray(broadcast)):
        assert Moments(axis).update(x, where=mask) == wanted


@pytest.mark.parametrize("policy", POLICIES)
def test_far_integers(policy):
    """The first selected integer of a channel is its anchor: garbage elsewhere costs no digit."""
    x = rng(10).integers(0, 1000, (500, 3)) + np.array([2**62, -2**62, 0])
    mask = rng(11).random(x.shape) < 0.4
    mask[:200, 0] = False
    given = poisoned(x, mask)
    one = Moments(nan_policy=policy).update(given, where=mask)
    assert_within(one.mean, one.var(), states_of(x, 0, mask))
    many = Moments()
    for i in range(0, 500, 60):
        many.update(given[i:i + 60], where=mask[i:i + 60])
    assert (many.mean.tolist(), many.m2.tolist()) == (one.mean.tolist(), one.m2.tolist())
    weights = rng(12).integers(0, 3, 500)
    used = mask & (weights > 0)[:, np.newaxis]
    m = Moments().update(poisoned(x, used), where=mask, weights=weights)
    assert_within(m.mean, m.var(), states_of(x, 0, mask, weights))


@pytest.mark.parametrize("mask", [False, [[False, True]]])
def test_an_empty_channel_of_far_integers(mask, tmp_path):
    """Its state is all zeros, as a state file has it."""
    m = Moments().update(np.full((5, 2), 2**62), where=mask)
    assert not rows_of_state(m)[:, 0].any()
    bnstream.save(tmp_path / "m.npz", m)
    assert bnstream.load(tmp_path / "m.npz") == m


def test_large_squares_of_integers():
    """Sums of squares past 2**53 are summed exactly, and a channel without elements stays empty."""
    x, mask = rng(13).integers(-2**31, 2**31, (4000, 3)), rng(14).random((4000, 3)) < 0.5
    mask[:, 1] = False
    m = Moments().update(x.astype("i4"), where=mask)
    assert (m.n[1], m.m2[1]) == (0, 0)
    assert_within(m.mean[[0, 2]], m.var()[[0, 2]], states_of(x, 0, mask)[[0, 2]])


def test_nan_and_inf():
    x, mask = np.ones((40, 4)), np.ones((40, 4), bool)
    x[3, 0], x[4, 1], x[5, 2] = np.nan, np.inf, np.nan
    mask[5, 2], mask[:, 3] = False, False
    mean, _ = mean_var(x, where=mask)
    assert np.isnan(mean[[0, 3]]).all()
    assert mean[1:3].tolist() == [np.inf, 1]
    assert Moments(nan_policy="propagate").update(x, where=mask).n.tolist() == [40, 40, 39, 0]
    assert Moments(nan_policy="omit").update(x, where=mask).n.tolist() == [39, 39, 39, 0]
    for call in (lambda: mean_var(x, where=mask, nan_policy="raise"), lambda: Moments().update(x, where=mask)):
        with pytest.raises(ValueError, match="NaN or inf in 2 of 4 channels, the first at index 0"):
            call()
    mask[3:5] = False
    assert mean_var(x, where=mask, nan_policy="raise")[0][:3].tolist() == [1, 1, 1]     # no element in the last
    assert Moments().update(x, where=mask).n.tolist() == [38, 38, 37, 0]


def test_omit_with_weights():
    x, mask, weights = rng(15).normal(size=(300, 4)), mask_for((300, 4)), rng(16).integers(0, 4, 300)
    x[rng(17).random(x.shape) < 0.2] = np.nan
    m = Moments(nan_policy="omit").update(x, where=mask, weights=weights)
    used = mask & np.isfinite(x)
    assert_within(m.mean, m.var(), states_of(x, 0, used, weights))
    assert m.n.tolist() == (weights @ used).tolist()
    np.testing.assert_allclose(m.effective_n, m.n**2 / (weights**2 @ used), rtol=1e-14)


def test_any_chunks():
    x, mask = rng(18).normal(1e6, 1, (500, 6)), mask_for((500, 6), 0.1)
    parts = [Moments().update(x[i:i + 7], where=mask[i:i + 7]) for i in range(0, 500, 7)]
    m = sum(parts, Moments())
    assert_within(m.mean, m.var(), states_of(x, 0, mask))
    assert m.n.tolist() == mask.sum(0).tolist()


@pytest.mark.parametrize("shape", [(5,), (4, 3), (4, 2, 1), (2, 4), (4, 2, 4, 2), (0,)])
def test_shapes_that_are_refused(shape):
    x, mask = np.ones((4, 2)), np.ones(shape, bool)
    m, bn = Moments().update(x), BatchNorm(2)
    before = pickle.dumps((m, bn))
    message = (r"^where must have the shape of the batch positions, \(4,\), or broadcast to that of the batch, "
               r"\(4, 2\); got \(\d")
    for call in (lambda: m.update(x, where=mask), lambda: bn(x, where=mask), lambda: mean_var(x, where=mask),
                 lambda: batch_norm(x, None, None, training=True, where=mask)):
        with pytest.raises(ValueError, match=message):
            call()
    assert pickle.dumps((m, bn)) == before


LAYERS = {"table": (300, 40), "few": (300, 3), "NLC": (5, 30, 33), "NCL": (6, 33, 70), "NCHW": (5, 20, 7, 7),
          "long": (2, 3, 10000)}


@pytest.mark.parametrize(("layout", "dtype", "policy", "order"),
                         pairwise(LAYERS, ["f4", "f8", "f2", "u1", "i8"], POLICIES, "CF"))
def test_layer(layout, dtype, policy, order):
    """Each channel is normalized by its selected elements alone, forward and backward; the others become 0."""
    shape, axis = LAYERS[layout], 2 if layout == "NLC" else 1
    n = shape[axis]
    generator = rng(19)
    x, dy = generator.normal(30, 10, shape).astype(dtype), generator.normal(size=shape)
    mask = generator.random(shape) < 0.7
    given, given_dy = np.array(poisoned(x, mask), order=order), poisoned(dy, mask)
    bn = BatchNorm(n, channel_axis=axis, nan_policy=policy, dtype="f8", track_pooled=True)
    bn.gamma, bn.beta = generator.normal(size=n), generator.normal(size=n)
    alone = [BatchNorm(1, nan_policy=policy, dtype="f8", track_pooled=True) for _ in range(n)]
    for c in range(n):
        alone[c].gamma, alone[c].beta = bn.gamma[c:c + 1], bn.beta[c:c + 1]
    selected = [(np.moveaxis(a, axis, 0)[c][np.moveaxis(mask, axis, 0)[c]])[:, None] for a in (x, dy) for c in range(n)]
    for training in (True, False):
        y, backward = bn.train(training).vjp(given, where=mask)
        assert not y[~mask].any()
        dx, *gradients = backward(given_dy)
        assert not dx[~mask].any()
        eps = 8 * max(np.finfo(y.dtype).eps, 2.0**-48)
        for c in range(n):
            here = np.moveaxis(mask, axis, 0)[c]
            wanted_y, backward = alone[c].train(training).vjp(selected[c])
            wanted_dx, *wanted_gradients = backward(selected[n + c])
            for got, wanted in ((y, wanted_y), (dx, wanted_dx)):
                np.testing.assert_allclose(np.moveaxis(got, axis, 0)[c][here].astype(float), wanted[:, 0].astype(float),
                                           rtol=eps, atol=eps)
            for got, (wanted,) in zip(gradients, wanted_gradients, strict=True):
                np.testing.assert_allclose(got[c], wanted, rtol=1e-10, atol=1e-10)
            np.testing.assert_allclose(bn.running_mean[c], alone[c].running_mean[0], rtol=1e-14)
            np.testing.assert_allclose(bn.running_var[c], alone[c].running_var[0], rtol=1e-13)
    assert bn.pooled.n.tolist() == rows_of(mask, tuple(i for i in range(len(shape)) if i != axis)).sum(0).tolist()
    mean, var = np.zeros(n), np.ones(n)
    y = batch_norm(given, mean, var, bn.gamma, bn.beta, training=True, channel_axis=axis, where=mask, nan_policy=policy)
    assert y.tobytes() == bn.train()(given, where=mask).tobytes()
    if dtype[0] == "f":
        bn(given, out=given, where=mask)        # in place of x
        assert given.tobytes() == y.tobytes()


def test_layer_is_the_same_on_any_number_of_threads():
    shape = (64, 16, 900)
    x, dy, mask = rng(20).normal(size=shape), rng(21).normal(size=shape), rng(22).random(shape) < 0.5
    found = set()
    for n_threads in (1, 2, 5):
        bn = BatchNorm(16)
        found.add((bn(x, where=mask, n_threads=n_threads).tobytes(), bn.backward(dy, n_threads=n_threads).tobytes(),
                   bn.grad_gamma.tobytes(), bn.running_var.tobytes()))
    assert len(found) == 1


def test_layer_broadcasts():
    """The mask of one image for all, by channel."""
    x, mask = rng(23).normal(size=(6, 3, 5, 4)), rng(24).random((3, 5, 4)) < 0.6
    one, other = BatchNorm(3), BatchNorm(3)
    y = one(x, where=mask)
    assert y.tobytes() == other(x, where=np.broadcast_to(mask, x.shape)).tobytes()
    assert one.backward(x).tobytes() == other.backward(x).tobytes()
    assert one == other


def test_a_mask_may_change_after_the_call():
    x, mask = rng(25).normal(size=(30, 4)), rng(26).random((30, 4)) < 0.6
    bn, given = BatchNorm(4), mask.copy()
    bn(x, where=given)
    given[:] = True
    assert not bn.backward(x)[~mask].any()


def test_renorm():
    x, mask = rng(27).normal(5, 3, (6, 4, 50)), rng(28).random((6, 4, 50)) < 0.6
    bn, alone = BatchNorm(4, renorm=True, dtype="f8"), BatchNorm(1, renorm=True, dtype="f8")
    for _ in range(3):
        y, one = bn(poisoned(x, mask), where=mask), alone(x[:, 2][mask[:, 2]][:, np.newaxis])
    np.testing.assert_allclose(y[:, 2][mask[:, 2]], one[:, 0], rtol=1e-12, atol=1e-12)
    assert not y[~mask].any()


@pytest.mark.parametrize("policy", ["raise", "propagate"])
@pytest.mark.parametrize("shape", [(), (4, 1), (4, 3)])
def test_a_batch_that_is_left_out_is_refused(policy, shape):
    x, mask = np.ones((4, 3)), np.zeros(shape, bool)
    bn, mean, var = BatchNorm(3, nan_policy=policy), np.zeros(3), np.ones(3)
    before = pickle.dumps(bn)
    message = ("^where leaves out every value of the batch, and training needs at least 2 in each channel; leave the "
               "batch out, pass nan_policy='omit' to skip it, or use inference mode$")
    for out in (None, x):
        with pytest.raises(ValueError, match=message):
            bn(x, out=out, where=mask)
        with pytest.raises(ValueError, match=message):
            batch_norm(x, mean, var, training=True, out=out, where=mask, nan_policy=policy)
    assert pickle.dumps(bn) == before
    assert (mean == 0).all()
    assert (x == 1).all()


@pytest.mark.parametrize("options",
                         [{}, {"momentum": None}, {"track_pooled": True}, {"renorm": True}, {"affine": False}])
@pytest.mark.parametrize("shape", [(), (40, 1), (40, 3)])
def test_a_batch_that_is_left_out_is_skipped(options, shape):
    """Under nan_policy='omit': the result and all gradients are 0, and the estimates stay as they were."""
    x, mask = rng(29).normal(size=(40, 3)), np.zeros(shape, bool)
    bn = BatchNorm(3, nan_policy="omit", **options)
    bn.backward(bn(x))
    before = pickle.dumps(bn)
    y, backward = bn.vjp(x * np.nan, where=mask)
    assert (y.shape, y.any()) == (x.shape, False)
    assert pickle.dumps(bn) == before
    assert not any(gradient.any() for gradient in backward(x) if gradient is not None)
    mean, var = np.zeros(3), np.ones(3)
    assert not batch_norm(x, mean, var, training=True, nan_policy="omit", where=mask, eps=0).any()
    assert (mean.tolist(), var.tolist()) == ([0] * 3, [1] * 3)
    out = x.copy()
    assert not bn(out, out=out, where=mask).any()
    assert not out.any()
    with pytest.raises(ValueError, match="training needs at least 2 values in each channel, got an empty batch"):
        bn(x[:0], where=np.zeros((0, 3), bool))


@pytest.mark.parametrize("policy", POLICIES)
def test_a_channel_that_is_left_out_is_refused(policy):
    x, mask = np.ones((4, 3)), np.ones((4, 3), bool)
    mask[1:, 1] = False
    with pytest.raises(ValueError, match="2 values in each channel, got 1 in channel 1, not counting those that where"):
        BatchNorm(3, nan_policy=policy)(x, where=mask)


def test_recalibrate():
    x, mask = rng(30).normal(size=(6, 3, 50)), rng(31).random((6, 3, 50)) < 0.6
    bn = BatchNorm(3, running_ddof=0)
    m = bn.recalibrate([{"batch": x, "where": mask}, {"batch": x, "where": mask[:, :1]}])
    assert m.n.tolist() == (mask.sum((0, 2)) + 3 * [mask[:, 0].sum()]).tolist()


def test_tables():
    """Integers of a table that are summed by column."""
    pd = pytest.importorskip("pandas")
    table = pd.DataFrame({"t": np.arange(6) + 2**60, "f": np.arange(6) / 2})
    mask = np.array([[1, 0], [1, 1], [0, 1], [1, 1], [0, 0], [1, 1]], bool)
    m = Moments().update(table, where=mask)
    assert m.n.tolist() == [4, 4]
    assert m.mean.tolist() == [2**60 + 2.25, 1.375]
    named = pd.DataFrame(mask, columns=["t", "f"])
    assert Moments().update(table, where=named).n.tolist() == [4, 4]
    for x in (table, table[["t", "f"]] / 2):
        for call in (Moments().update, mean_var, lambda x, where: GroupedMoments().update(x, [0] * 6, where=where)):
            with pytest.raises(ValueError, match="expected columns of where in the order t, f as here, got f, t; pass"):
                call(x, where=named[["f", "t"]])
    assert Moments().update(table, where=[True, False]).n.tolist() == [6, 0]
    assert Moments().update(table, where=True).n.tolist() == [6, 6]
    rows = Moments(1).update(table, where=mask)
    assert rows.n.tolist() == mask.sum(1).tolist()


def test_running_mean_std_counts_samples():
    x, rms = rng(32).normal(size=(30, 3)), RunningMeanStd(shape=(3,))
    rms.update(x, where=rng(33).random((30, 1)) < 0.5).update(x, where=True)
    before = pickle.dumps(rms)
    for mask in (np.ones((30, 3), bool), np.ones(3, bool)):
        with pytest.raises(ValueError, match=r"^where must select samples, with shape \(30,\), got \(\d+"):
            rms.update(x, where=mask)
    assert pickle.dumps(rms) == before


@pytest.mark.parametrize("chunk_rows", [None, 7])
def test_streams(chunk_rows):
    x, mask = rng(34).normal(size=(90, 4)), rng(35).random((90, 4)) < 0.6
    m = bnstream.fit([{"batch": x, "where": mask}], chunk_rows=chunk_rows)
    assert_within(m.mean, m.var(), states_of(x, 0, mask))
    some = bnstream.fit([{"batch": x, "where": mask}], chunk_rows=chunk_rows, columns=[2, 0])
    assert some.n.tolist() == m.n[[2, 0]].tolist()
    assert bnstream.fit([{"batch": x, "where": True}], chunk_rows=chunk_rows).n.tolist() == [90] * 4


CALLS = {
    "mean_var": lambda x: mean_var(x, 2), "a tuple": lambda x: mean_var(x, (0, -3)),
    "Moments": lambda x: Moments(2).update(x), "64": lambda x: Moments(64),
    "normalize": lambda x: bnstream.normalize(x, 0, 1, channel_axis=2),
    "batch_norm": lambda x: batch_norm(x, None, None, training=True, channel_axis=-3),
    "layer": lambda x: BatchNorm(3, channel_axis=2)(x), "inference": lambda x: BatchNorm(3, channel_axis=2).eval()(x),
    "recalibrate": lambda x: BatchNorm(3, channel_axis=2).recalibrate([x]),
    "fold": lambda x: BatchNorm(3).fold(x.T, output_axis=2), "fit": lambda x: bnstream.fit(x, channel_axis=2),
}


@pytest.mark.parametrize("name", CALLS)
def test_an_axis_out_of_range(name):
    """It is NumPy's AxisError: a ValueError and an IndexError."""
    with pytest.raises(np.exceptions.AxisError, match=r"out of range|has 2 axes, got channel_axis=2"):
        CALLS[name](np.ones((4, 3)))


@pytest.mark.parametrize("policy", POLICIES)
def test_vjp(policy):
    """It is the call with its backward, also where the batch is skipped."""
    x, dy = rng(36).normal(size=(50, 3)), rng(37).normal(size=(50, 3))
    for mask in (rng(38).random((50, 3)) < 0.6, np.zeros((50, 3), bool)):
        if policy != "omit" and not mask.any():
            continue
        one, other = BatchNorm(3, nan_policy=policy), BatchNorm(3, nan_policy=policy)
        y, backward = one.vjp(x, where=mask)
        assert y.tobytes() == other(x, where=mask).tobytes()
        dx, grad_gamma, grad_beta = backward(dy)
        assert dx.tobytes() == other.backward(dy).tobytes()
        assert (grad_gamma.tobytes(), grad_beta.tobytes()) == (other.grad_gamma.tobytes(), other.grad_beta.tobytes())
        assert one == other
        y, backward = bnstream.batch_norm_vjp(x, None, None, training=True, nan_policy=policy, where=mask)
        assert np.array_equal(backward(dy)[0], dx)
