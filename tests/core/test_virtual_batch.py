"""Ghost batch normalization: every part of a batch as a batch of its own."""

import numpy as np
import pytest
from support.arrays import BFLOAT16, DTYPES, LAYOUTS, normal, of_dtype
from support.cases import pairwise

from bnstream import BatchNorm
from bnstream.core.batchnorm import running_of

SHAPES = {      # shape, channel axis, rows of a part
    "table": ((40, 7), 1, 10),
    "parts of two": ((40, 7), -1, 2),
    "images": ((12, 3, 5, 4), 1, 4),
    "one image a part": ((6, 3, 5, 4), 1, 1),
    "channels last": ((12, 5, 4, 6), -1, 3),
    "channels in the middle": ((4, 9, 5, 70), 2, 2),
    "large parts": ((2048, 130), 1, 1024),
}
OPTIONS = [{}, {"momentum": None}, {"track_pooled": True}, {"track_pooled": "exact"},
           {"renorm": True, "r_max": 1.5, "d_max": 0.5},
           {"affine": False}, {"nan_policy": "omit"}, {"nan_policy": "propagate"}]


def layers(shape, axis, rows, **options):
    """A layer with virtual batches, and one without that is to be called on the parts."""
    n = shape[axis]
    options = {"dtype": "f8", "channel_axis": axis, **options}
    pair = BatchNorm(n, virtual_batch=rows, **options), BatchNorm(n, **options)
    for bn in pair:
        if bn.affine:
            bn.gamma, bn.beta = normal(n, 1), normal(n, 2)
    return pair


def parts(a, rows):
    return np.split(a, len(a) // rows)


def calls_on(plain, parts, masks=None):
    """Call a layer on one part after the other. All are renormalized by the estimates before the first."""
    before, calls = plain.copy(), []
    for part, mask in zip(parts, masks or [None] * len(parts), strict=True):
        call = plain.vjp(part, where=mask)
        calls.append(before.copy().vjp(part, where=mask) if plain.renorm else call)
    return calls


def assert_alike(ours, parts):
    """Within rounding: a part of a view may be summed in another order than an array."""
    wanted = np.concatenate(parts)
    eps = 2.0**-7 if wanted.dtype == BFLOAT16 else np.finfo(wanted.dtype).eps
    np.testing.assert_allclose(ours.astype(np.float64), wanted.astype(np.float64), rtol=2 * eps, atol=1e-11)


def assert_same_estimates(a, b):
    np.testing.assert_allclose(running_of(a).rows[:4], running_of(b).rows[:4], rtol=1e-13, atol=1e-15)
    assert a.num_batches_tracked == b.num_batches_tracked
    if a.pooled is not None:
        np.testing.assert_allclose(a.pooled.mean, b.pooled.mean, rtol=1e-14)
        np.testing.assert_allclose(a.pooled.m2, b.pooled.m2, rtol=1e-14)
        assert a.pooled.n.tolist() == b.pooled.n.tolist()


@pytest.mark.parametrize(("name", "layout", "dtype", "options"), pairwise(SHAPES, LAYOUTS, DTYPES, OPTIONS), ids=str)
def test_parts(name, layout, dtype, options):
    """A call and its backward pass are those of calls on the parts."""
    shape, axis, rows = SHAPES[name]
    ghost, plain = layers(shape, axis, rows, **options)
    for seed in range(2):
        values = of_dtype(dtype, shape) + dtype.type(seed)
        x = LAYOUTS[layout](values)
        y, backward = ghost.vjp(x)
        calls = calls_on(plain, parts(values, rows))
        assert y.dtype == calls[0][0].dtype
        assert_alike(y, [part for part, _ in calls])
        assert_same_estimates(ghost, plain)
        dy = normal(shape, seed).astype(y.dtype)
        dx, *of_parameters = backward(LAYOUTS[layout](dy))
        gradients = [call(part) for (_, call), part in zip(calls, parts(dy, rows), strict=True)]
        assert_alike(dx, [part for part, *_ in gradients])
        for ours, theirs in zip(of_parameters, zip(*(rest for _, *rest in gradients), strict=True), strict=True):
            if ghost.affine:
                np.testing.assert_allclose(ours, sum(theirs), rtol=1e-13, atol=1e-11)
            else:
                assert ours is None


def test_statistics_of_each_part():
    """Without a second implementation: means of 0 and variances of 1 in every part, far from each other."""
    x = normal((12, 3, 50)) * 3 + 1e4 * np.arange(12).reshape(12, 1, 1)
    y = BatchNorm(3, virtual_batch=1, eps=0)(x)
    np.testing.assert_allclose(y.mean(2), 0, atol=1e-9)
    np.testing.assert_allclose(y.var(2), 1, rtol=1e-9)
    assert np.abs(BatchNorm(3, eps=0)(x)).max() < 3


def test_running_estimates():
    """They move once a part, and the last batch of `diagnose` is the last part."""
    bn = BatchNorm(1, virtual_batch=2, momentum=0.5, running_ddof=0)
    bn(np.array([[0.0], [2.0], [6.0], [10.0]]))
    assert bn.running_mean.tolist() == [0.5 * (0.5 * 0 + 0.5 * 1) + 0.5 * 8]
    assert bn.running_var.tolist() == [0.5 * (0.5 * 1 + 0.5 * 1) + 0.5 * 4]
    assert bn.num_batches_tracked == 2
    assert bn.diagnose().batch_n.tolist() == [2]
    assert running_of(bn).rows[4:].tolist() == [[8], [4]]


def test_bits_of_a_part():
    """They depend on no other part, and on no thread."""
    for (shape, axis, rows), dtype in pairwise(list(SHAPES.values()), ["f4", "f8", "u1"]):
        x = of_dtype(np.dtype(dtype), shape)
        ghost, _ = layers(shape, axis, rows, nan_policy="propagate")
        y = ghost(x)
        other = x[::-1].copy()
        other[:rows] = x[:rows]
        assert ghost(other)[:rows].tobytes() == y[:rows].tobytes()
        for n_threads in (1, 3):
            assert ghost(x, n_threads=n_threads).tobytes() == y.tobytes()


@pytest.mark.parametrize("n", [2, 9, 10])
def test_one_part(n):
    """A batch that is no longer than a virtual batch is normalized as a whole."""
    ghost, plain = layers((n, 7), 1, 10)
    x = normal((n, 7)).astype("f4")
    assert ghost(x).tobytes() == plain(x).tobytes()
    assert ghost.backward(x).tobytes() == plain.backward(x).tobytes()
    assert running_of(ghost) == running_of(plain)


@pytest.mark.parametrize("shape", [(12, 1, 4), (12, 5, 1), (1, 5, 4), (12, 4)])
@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_masks(shape, options):
    """Of elements, of positions, and of positions that broadcast over the batch."""
    x = normal((12, 5, 4))
    where = np.random.default_rng(1).random(shape) < 0.7
    x[~np.broadcast_to(where if len(shape) == 3 else where[:, None], x.shape)] = np.nan
    ghost, plain = layers(x.shape, 1, 4, **options)
    y, backward = ghost.vjp(x, where=where)
    masks = parts(where, 4) if len(where) == 12 else 3 * [where]
    calls = calls_on(plain, parts(x, 4), masks)
    assert_alike(y, [part for part, _ in calls])
    dy = normal(x.shape, 3)
    gradients = [call(part) for (_, call), part in zip(calls, parts(dy, 4), strict=True)]
    dx, of_gamma, of_beta = backward(dy)
    assert_alike(dx, [part for part, *_ in gradients])
    if ghost.affine:
        np.testing.assert_allclose(of_gamma, sum(part[1] for part in gradients), rtol=1e-12)
        np.testing.assert_allclose(of_beta, sum(part[2] for part in gradients), rtol=1e-12)
    assert_same_estimates(ghost, plain)


@pytest.mark.parametrize("options", [{}, {"momentum": None}, {"renorm": True}], ids=str)
def test_a_part_left_out(options, unchanged):
    """Under "omit" it is skipped, as a whole batch is; the other policies refuse it."""
    x, where = normal((12, 5)), np.repeat([True, False, True], 4)
    for policy in ("raise", "propagate"):
        ghost, _ = layers(x.shape, 1, 4, nan_policy=policy, **options)
        unchanged(ghost, ValueError, "got 0 in channel 0 of virtual batch 1, not counting",
                  lambda layer: layer(x, where=where))
    ghost, plain = layers(x.shape, 1, 4, nan_policy="omit", **options)
    y, backward = ghost.vjp(x, where=where)
    first, _, last = parts(x, 4)
    (first, _), (last, _) = calls_on(plain, [first, last])
    assert_alike(y, [first, np.zeros((4, 5)), last])
    assert_same_estimates(ghost, plain)
    assert ghost.num_batches_tracked == 2
    dx, of_gamma, of_beta = backward(np.ones_like(x))
    assert np.isfinite([*dx.ravel(), *of_gamma, *of_beta]).all()
    assert not dx[4:8].any()
    np.testing.assert_allclose(of_beta, 8)
    x[4:8] = np.nan                 # That no value is finite is another thing than that none is selected.
    unchanged(ghost, ValueError, "got 0 in channel 0 of virtual batch 1, not counting", lambda layer: layer(x))
    x, where[4] = normal((12, 5)), True
    unchanged(ghost, ValueError, "got 1 in channel 0 of virtual batch 1, not counting",
              lambda layer: layer(x, where=where))


def test_inference_and_settings():
    ghost, plain = layers((40, 7), 1, 10)
    x = normal((39, 7)).astype("f4")            # of any length
    assert ghost.eval()(x).tobytes() == plain.eval()(x).tobytes()
    assert BatchNorm(7).virtual_batch is None
    ghost.virtual_batch = None
    assert ghost.train()(x).tobytes() == plain.train()(x).tobytes()
    ghost.virtual_batch = np.int64(13)
    assert type(ghost.virtual_batch) is int
    assert "virtual_batch=13" in repr(ghost)
    assert ghost.copy().virtual_batch == 13
    assert ghost != plain
    for bad, error in ((0, ValueError), (-1, ValueError), (2.0, TypeError), ("2", TypeError)):
        with pytest.raises(error, match="virtual_batch must be"):
            BatchNorm(7, virtual_batch=bad)


def test_in_place_and_out():
    ghost, _ = layers((12, 5, 4), 1, 4)
    x = normal((12, 5, 4)).astype("f4")
    y = ghost(x)
    for place in (np.empty_like(x), np.empty_like(x, order="F"), np.empty((24, 5, 4), "f4")[::2], x):
        assert ghost(x, out=place) is place
        assert np.array_equal(place, y)


def test_large_values():
    """Their squares exceed float64 in one part alone: that is seen, and said where."""
    x = normal((12, 3))
    x[5:8, 1] *= 1e200
    with pytest.raises(ValueError, match="in channel 1 of virtual batch 1; scale x down"):
        BatchNorm(3, virtual_batch=4)(x)
    bn = BatchNorm(3, virtual_batch=4, nan_policy="propagate")
    x[5, 1] = np.inf
    y = bn(x)
    assert np.isfinite(y[[*range(4), *range(8, 12)]]).all()
    assert np.isnan(y[4:8, 1]).all()


@pytest.mark.parametrize("options", [{}, {"virtual_batch": 2}], ids=str)
@pytest.mark.parametrize("policy", ["raise", "propagate", "omit"])
def test_large_values_in_place(options, policy, unchanged):
    """A batch that is refused is not lost, under any policy."""
    x = np.array([[1.0, 2], [3, 4], [5, 7], [1e200, 8]])
    before = x.copy()
    unchanged(BatchNorm(2, nan_policy=policy, **options), ValueError, "squared deviations of the batch sum to more",
              lambda layer: layer(x, out=x))
    assert np.array_equal(x, before)


@pytest.mark.parametrize(("rows", "shape", "message"), [
    (4, (10, 3), r"must divide the rows of the batch, got virtual_batch=4 and x of shape \(10, 3\); leave 2 rows out"),
    (1, (10, 3), r"got one value from x of shape \(10, 3\) in virtual batches of 1; use a larger"),
    (4, (0, 3), "got an empty batch"),
    (4, (12, 4), r"expected 3 channels along axis 1, got 4"),
    (4, (8, 3) + 62 * (1,), "virtual_batch needs x of at most 63 dimensions, got 64"),
])
def test_refused(rows, shape, message, unchanged):
    unchanged(BatchNorm(3, virtual_batch=rows), ValueError, message, lambda layer: layer(np.ones(shape)))


def test_channels_along_the_batch():
    """Axis 0 cannot be both."""
    for axis in (0, -2):
        with pytest.raises(ValueError, match="virtual_batch divides axis 0, which holds the channels"):
            BatchNorm(3, channel_axis=axis, virtual_batch=4)(normal((3, 12)))


def test_nan_is_refused(unchanged):
    x = normal((12, 3))
    x[7, 2] = np.nan
    message = "NaN or inf in 1 of 9 channels, the first in channel 2 of virtual batch 1"
    unchanged(BatchNorm(3, virtual_batch=4), ValueError, message, lambda layer: layer(x))
