"""BatchNorm(track_pooled="exact"): the pooled statistics do not depend on the cut and the order of the batches."""

import copy
import pickle
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from support.arrays import BFLOAT16, normal, of_dtype, rng
from support.states import trained

from bnstream import BatchNorm, Moments, load, save

X = normal((60, 3)) * [1, 1e3, 1e-9] + [0, 1e6, 1]
HOLED = X.copy()
HOLED[3, 1] = np.nan


def exact(x=None, axis=0, **options):
    m = Moments(axis, exact=True, **options)
    return m if x is None else m.update(x)


def layer(n=3, **options):
    return BatchNorm(n, **{"track_pooled": "exact", **options})


def of(*batches, **options):
    """A layer after these batches."""
    bn = layer(**options)
    for batch in batches:
        bn(batch)
    return bn


def estimates(bn):
    return bn.running_mean.tobytes(), bn.running_var.tobytes()


@pytest.mark.parametrize("momentum", [0.1, None])
def test_any_cut_and_order(momentum):
    """Without a momentum the running estimates have the same bits as well: correctly rounded ones."""
    whole = exact(X)
    for seed in range(5):
        cuts = 2 * np.sort(rng(seed).choice(np.arange(1, 30), 5, replace=False))
        bn = of(*np.split(rng(seed).permutation(X), cuts), momentum=momentum)
        assert bn.pooled == whole
        assert bn.pooled.digest() == whole.digest()
        if momentum is None:
            assert estimates(bn) == (whole.mean.tobytes(), whole.var(1).tobytes())


@pytest.mark.parametrize("dtype", ["f2", "f4", "f8", BFLOAT16, "u1", "i8"], ids=str)
@pytest.mark.parametrize("axis", [1, -1])
def test_images(dtype, axis):
    x = of_dtype(np.dtype(dtype), (4, 3, 5, 3))
    bn = of(x[:1], x[1:], channel_axis=axis)
    assert bn.pooled.digest() == exact(x, (0, 2, 3) if axis == 1 else (0, 1, 2)).digest()
    assert bn.pooled.axis == 0


@pytest.mark.parametrize("options", [{}, {"renorm": True}, {"virtual_batch": 10}, {"momentum": None}], ids=str)
def test_result_over_x(options):
    """The statistics are those of x before; results, gradients and estimates are those of other layers."""
    bn, other, plain = layer(**options), layer(**options), BatchNorm(3, **options)
    y, z = X.copy(), X.copy()
    bn(y, out=y)
    plain(z, out=z)
    assert other(X, n_threads=2).tobytes() == y.tobytes() == z.tobytes()
    assert bn.pooled == other.pooled == exact(X)
    if "momentum" not in options:
        assert estimates(bn) == estimates(plain)
    backward = bn.vjp(X)[1]
    assert backward(X)[0].tobytes() == plain.vjp(X)[1](X)[0].tobytes()
    assert bn.pooled.n.tolist() == [120] * 3


@pytest.mark.parametrize("form", ["rows", "elements"])
@pytest.mark.parametrize("policy", ["raise", "omit"])
def test_masks(form, policy):
    x = normal((20, 3, 8))
    mask = rng(1).random((20, 8) if form == "rows" else x.shape) < 0.7
    left_out = ~mask[:, np.newaxis] if form == "rows" else ~mask
    x = np.where(left_out, np.nan, x)
    bn = layer(nan_policy=policy)
    for some in (slice(5), slice(5, 20)):
        bn(x[some], where=mask[some])
    m = exact(axis=(0, 2)).update(x, where=~left_out)
    assert bn.pooled.digest() == m.digest()


def test_virtual_batches():
    """A part that is masked as a whole is skipped, also in the pooled statistics."""
    mask = np.arange(60) % 30 < 20
    bn = layer(virtual_batch=10, nan_policy="omit")
    bn(X, where=mask)
    assert bn.num_batches_tracked == 4
    assert bn.pooled.digest() == exact(X[mask]).digest()
    bn(X, where=np.zeros(60, bool))         # skipped
    assert (bn.num_batches_tracked, bn.pooled.digest()) == (4, exact(X[mask]).digest())


def test_not_finite():
    x = HOLED.copy()
    x[4, 2] = np.inf
    assert of(x, nan_policy="omit").pooled.digest() == exact(x, nan_policy="omit").digest()
    assert of(x, nan_policy="propagate").pooled.digest() == exact(x, nan_policy="propagate").digest()


@pytest.mark.parametrize(("call", "message"), [
    (lambda bn: bn(HOLED), "NaN or inf in 1 of 3 channels, the first in channel 1"),
    (lambda bn: bn(X[:1]), "at least 2 values|two values"),
    (lambda bn: bn(X[:, :2]), "channel"),
    (lambda bn: bn(X, where=np.zeros(60, bool)), "value"),
    (lambda bn: bn(X, out=np.empty(3)), "out"),
    (lambda bn: bn.recalibrate([{"batch": X, "weights": np.full(60, 0.5)}]), "^weights of exact statistics count how"),
    (lambda bn: bn.recalibrate(Moments().update(X)), "^expected exact statistics, as track_pooled='exact' keeps, got "
                                                     r"plain ones; make them with Moments\(exact=True\)$"),
    (lambda bn: bn.load_state_dict(trained(track_pooled=True).state_dict()), "^expected exact statistics, as"),
    (lambda bn: setattr(bn, "pooled", exact(X[:, :2])), r"pooled must have channels of shape \(3,\)"),
    (lambda bn: setattr(bn, "pooled", exact([[np.nan] * 3], nan_policy="propagate")), "there is NaN or inf in the"),
])
@pytest.mark.parametrize("momentum", [0.1, None])
def test_refused(call, message, momentum, unchanged):
    unchanged(of(X, momentum=momentum), ValueError, message, call)


def test_track_pooled():
    assert [BatchNorm(3, track_pooled=value).track_pooled for value in (False, True, "exact", np.True_)] == [
        False, True, "exact", True]
    assert (BatchNorm(3, momentum=None).track_pooled, layer(momentum=None).track_pooled) == (True, "exact")
    for value in ("Exact", "true", ""):
        with pytest.raises(ValueError, match=f"^track_pooled must be False, True or 'exact', got '{value}'$"):
            BatchNorm(3, track_pooled=value)
    with pytest.raises(AttributeError):
        layer().track_pooled = True
    assert "virtual_batch=None, track_pooled='exact'): training, 0 batches" in repr(layer())
    assert "track_pooled" not in repr(BatchNorm(3))
    for text in (repr(layer(momentum=None)), repr(layer())):
        made = eval(text[:text.rindex(":")])
        assert made.track_pooled == "exact"


@pytest.mark.parametrize("momentum", [0.1, None])
def test_copies_and_files(momentum, tmp_path):
    bn = of(X[:30], X[30:], momentum=momentum, nan_policy="omit")
    save(tmp_path / "bn.npz", bn)
    loaded = layer(momentum=momentum, nan_policy="omit")
    loaded.load_state_dict(bn.state_dict())
    copies = [bn.copy(), copy.copy(bn), copy.deepcopy(bn), pickle.loads(pickle.dumps(bn)), load(tmp_path / "bn.npz")]
    for other in (*copies, loaded):
        assert (other, other.track_pooled) == (bn, "exact")
        assert other.pooled.digest() == bn.pooled.digest()
        other(X)
        assert bn.pooled.n.tolist() == [60] * 3
        assert other.pooled.digest() == exact(np.concatenate([X, X])).digest()
    assert bn != of(X[:30], X[30:], momentum=momentum, nan_policy="omit", track_pooled=True)
    save(tmp_path / "new.npz", layer(momentum=momentum))
    assert load(tmp_path / "new.npz").track_pooled == "exact"


def test_between_the_kinds():
    """A layer that tracks plainly, or not at all, takes exact statistics; pooled decides from then on."""
    plain, none = BatchNorm(3, track_pooled=True), BatchNorm(3)
    for bn in (plain, none):
        bn.load_state_dict(of(X).state_dict())
        bn.recalibrate(exact(X))
        assert estimates(bn) == (exact(X).mean.tobytes(), exact(X).var(1).tobytes())
    assert (plain.track_pooled, none.track_pooled) == (True, False)
    np.testing.assert_allclose(plain.pooled.var(), exact(X).var(), rtol=1e-15)
    for bn in (plain, none):
        bn.pooled = exact(X)
        bn(X)
        assert bn.pooled == exact(X).update(X)
        bn.nan_policy = "omit"
        assert (bn.track_pooled, bn.pooled.nan_policy) == ("exact", "omit")
        bn.pooled = Moments()
        assert bn.track_pooled is True
        bn.pooled = None
        assert bn.track_pooled is False
    fresh = layer()
    fresh.load_state_dict(BatchNorm(3, track_pooled=True).state_dict())         # no data, so no digits that are lost
    assert fresh.track_pooled == "exact"


def test_recalibrate_and_reset():
    bn = of(X + 1)
    m = bn.recalibrate(np.split(X, 4))
    assert m == bn.pooled == exact(X)
    assert estimates(bn) == (m.mean.tobytes(), m.var(1).tobytes())
    parts = [bn.copy().recalibrate([part]) for part in np.split(X, [7, 50])]
    assert bn.recalibrate(sum(parts[::-1])).digest() == m.digest()
    masked = bn.recalibrate([{"batch": X, "where": X[:, 0] > 0}])
    assert masked == exact(X[X[:, 0] > 0])
    weights = rng(1).integers(0, 5, 60)
    weighted = bn.recalibrate({"batch": X[some], "weights": weights[some].astype(dtype)}
                              for some, dtype in ((slice(9), "u1"), (slice(9, 60), "f4")))
    assert weighted.digest() == bn.pooled.digest() == exact(np.repeat(X, weights, axis=0)).digest()
    assert estimates(bn) == (weighted.mean.tobytes(), weighted.var(1).tobytes())
    images = normal((4, 3, 5, 2))
    m = bn.recalibrate([{"batch": images, "weights": np.arange(4).reshape(4, 1, 1)}])
    assert m.digest() == exact(np.repeat(images, range(4), axis=0), (0, 2, 3)).digest()
    bn.reset_running_stats()
    assert (bn.pooled, bn.track_pooled) == (exact(), "exact")
    drift = of(X, X).diagnose()
    assert np.isfinite(drift.mean_drift).all()


def test_threads():
    """Every batch of every thread is in the statistics, without a momentum also in the estimates."""
    batches = np.split(normal((960, 3)) * 1e3, 48)
    bn = layer(momentum=None)
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(bn, batches))
    whole = exact(np.concatenate(batches))
    assert bn.pooled.digest() == whole.digest()
    assert estimates(bn) == (whole.mean.tobytes(), whole.var(1).tobytes())
