"""What must not matter to an instance: the others, their number and layout, threads. Edges, masks and errors."""

import math
from fractions import Fraction

import numpy as np
import pytest
from support.arrays import BFLOAT16, every_other, normal, padded, rng
from support.norm_oracle import Kind

import bnstream

# For each kind the shape of an instance. The batch axis comes first.
SHAPES = {
    "rows": ("layer_norm", (1024,), {}), "short rows": ("layer_norm", (17,), {}),
    "long rows": ("layer_norm", (300_007,), {}),
    "rows without parameters": ("layer_norm", (130,), {"affine": False}),
    "rows of two axes": ("layer_norm", (5, 9), {"n_axes": 2}), "rms": ("rms_norm", (1024,), {}),
    "groups": ("group_norm", (6, 11, 7), {"groups": 3}), "one group": ("group_norm", (4, 300, 300), {"groups": 1}),
    "groups last": ("group_norm", (11, 7, 32), {"groups": 4, "channel_axis": 3}),
    "few groups last": ("group_norm", (40, 6), {"groups": 2, "channel_axis": 2}),
    "large groups last": ("group_norm", (3000, 64), {"groups": 2, "channel_axis": 2}),
    "instances": ("instance_norm", (5, 13, 7), {}), "instances last": ("instance_norm", (500, 40), {"channel_axis": 2}),
    "large instances": ("instance_norm", (2, 250_000), {}),
    "wide instances": ("instance_norm", (30, 600), {"channel_axis": 2}),
}
BATCH = {
    "reversed": lambda x: x[::-1].copy()[::-1],
    "every other": lambda x: every_other(x, 0),
    "padded": lambda x: padded(x.reshape(len(x), -1)).reshape(x.shape),
    "instances last in memory": lambda x: np.moveaxis(np.moveaxis(x, 0, -1).copy(), -1, 0),
    "instances before the last axis": lambda x: np.moveaxis(np.moveaxis(x, 0, -2).copy(), -2, 0),
}


def results(kind, x, dy, n_threads=None, of_parameters=False):
    """y and dx, as bytes of each instance, and perhaps the gradients of the parameters."""
    y, backward = kind(x, vjp=True, n_threads=n_threads, **kind.parameters())
    dx, *rest = backward(dy, n_threads=n_threads)
    found = [a.tobytes() + b.tobytes() for a, b in zip(y, dx, strict=True)]
    return found + [a.tobytes() for a in rest if a is not None] * of_parameters


def made(name, n, dtype="f4"):
    function, shape, options = SHAPES[name]
    kind = Kind(function, (n, *shape), **options)
    x = (normal(kind.dims, 1) * 2 + 100).astype(dtype)
    return kind, x, normal(kind.dims, 2).astype(dtype)


@pytest.mark.parametrize("name", SHAPES)
@pytest.mark.parametrize("dtype", ["f4", "f8", BFLOAT16], ids=str)
def test_instances_do_not_depend_on_others(name, dtype):
    """Alone, in a batch of any size, beside NaN: the same bits, in the results and in dx."""
    n = 5 if np.prod(SHAPES[name][1]) > 50_000 else 70
    kind, x, dy = made(name, n, dtype)
    together = results(kind, x, dy)
    for i in (0, n // 2, n - 1):
        assert results(kind, x[i:i + 1], dy[i:i + 1]) == [together[i]]
    for some in (slice(0, 2), slice(1, n - 1), slice(n - 3, None)):
        assert results(kind, x[some], dy[some]) == together[some]
    spoilt = x.copy()
    spoilt[::2] = [[np.nan], [np.inf], [1e30]][n % 3][0]
    assert results(kind, spoilt, dy)[1::2] == together[1::2]
    many = np.concatenate([x] * (2 if x.nbytes > 1 << 20 else 40))
    assert results(kind, many, np.resize(dy, many.shape))[-n:] == together


@pytest.mark.parametrize("name", SHAPES)
@pytest.mark.parametrize("layout", BATCH)
@pytest.mark.parametrize("dtype", ["f4", "f8"])
def test_layout_of_the_batch(name, layout, dtype):
    """Where the instances lie does not matter. Neighboring channels stay neighbors."""
    if layout == "instances last in memory" and SHAPES[name][2].get("channel_axis", 1) > 1:
        pytest.skip("the channels of an instance are not neighbours then")
    kind, x, dy = made(name, 4 if np.prod(SHAPES[name][1]) > 50_000 else 9, dtype)
    assert results(kind, BATCH[layout](x), BATCH[layout](dy)) == results(kind, x, dy)


@pytest.mark.parametrize("name", [name for name in SHAPES if "last" not in name and "wide" not in name])
def test_layout_of_an_instance(name):
    """Unless channels come last, the bits are those of the order of the axes."""
    kind, x, dy = made(name, 4, "f8")
    wanted = results(kind, x, dy)
    for layout in (np.asfortranarray, lambda a: every_other(a, a.ndim - 1), lambda a: a[..., ::-1].copy()[..., ::-1]):
        assert results(kind, layout(x), layout(dy)) == wanted


@pytest.mark.parametrize("name", SHAPES)
@pytest.mark.parametrize("dtype", ["f4", "f8"])
def test_threads(name, dtype):
    """Not even the gradients of the parameters depend on their number."""
    kind, x, dy = made(name, 6 if np.prod(SHAPES[name][1]) > 50_000 else 600, dtype)
    wanted = results(kind, x, dy, 1, True)
    assert all(results(kind, x, dy, n_threads, True) == wanted for n_threads in (2, 3, 7))


def test_integers_of_64_bits():
    """Differences from a mean of 2**62 are exact, and depend on the row alone."""
    x = 2**62 + rng().integers(0, 100, (9, 40))
    y = bnstream.layer_norm(x, 40)
    assert np.array_equal(y, np.concatenate([bnstream.layer_norm(row[None], 40) for row in x]))
    np.testing.assert_allclose(y, bnstream.layer_norm((x - 2**62).astype("f8"), 40), rtol=1e-6, atol=1e-7)


def test_results_that_go_around_the_caches():
    """From 16 MiB on; the bits are those of a smaller part."""
    kind = Kind("layer_norm", (4500, 1000))
    x, dy = normal(kind.dims).astype("f4"), normal(kind.dims, 1).astype("f4")
    assert x.nbytes > 1 << 24
    assert results(kind, x, dy)[:200] == results(kind, x[:200], dy[:200])


@pytest.mark.parametrize(("dtype", "n_rows"), [("f4", 4500), ("f8", 2300), (BFLOAT16, 9000)])
def test_gradients_that_go_around_the_caches(dtype, n_rows):
    """They have the bits of gradients in the place of dy, which do not go around. Rows end amid a piece of 16 bytes."""
    x, dy = (normal((n_rows, 1001), seed).astype(dtype) for seed in (0, 1))
    backward = bnstream.layer_norm_vjp(x, 1001, normal(1001, 2), normal(1001, 3))[1]
    room = np.empty((n_rows, 1008), dtype)
    assert x.nbytes > 1 << 24
    around, within = backward(dy, room[:, :1001]), backward(dy.copy(), dy)
    assert all(a.tobytes() == b.tobytes() for a, b in zip(around, within, strict=True))


def test_gradients_of_many_rows():
    """The sums of a task and of a team are added to pairs of doubles: those of equal terms are exact."""
    n = 20_000
    x, dy = np.tile([[-1.0, 1.0, 0.5, -0.5]], (n, 25)).astype("f4"), np.full((n, 100), 0.1, "f4")
    gradients = []
    for n_threads in (1, 2, 7):
        _, backward = bnstream.layer_norm_vjp(x, 100, np.ones(100), np.zeros(100), n_threads=n_threads)
        gradients.append(backward(dy, n_threads=n_threads))
    assert len({tuple(part.tobytes() for part in parts) for parts in gradients}) == 1
    _, of_gamma, of_beta = gradients[0]
    exact = Fraction(float(np.float32(0.1))) * n
    assert of_beta.tolist() == [float(exact)] * 100
    xhat = bnstream.layer_norm(x[:1].astype("f8"), 100)
    np.testing.assert_allclose(of_gamma, float(exact) * xhat[0], rtol=4e-16)
    rows = normal((n, 100), 1)
    _, backward = bnstream.layer_norm_vjp(rows, 100, np.ones(100), np.zeros(100))
    of_beta = backward(rows)[2]
    np.testing.assert_allclose(of_beta, [math.fsum(column) for column in rows.T], rtol=1e-15, atol=1e-13)


def test_groups_past_the_cache():
    """Statistics and gradients are then taken in two passes, of several groups in a chunk, and of channels last."""
    for dims, groups, axis in (((2, 8, 700, 500), 2, 1), ((2, 250_000, 4), 1, 2), ((1, 300, 1200), 2, 2)):
        kind = Kind("group_norm", dims, groups=groups, channel_axis=axis)
        x, dy = normal(kind.dims) + 3, normal(kind.dims, 1)
        y, backward = kind(x, vjp=True, **kind.parameters())
        z, gamma = kind.table(x), kind.spread(kind.parameters()["gamma"], 1.0)
        xhat = (z - z.mean(1, keepdims=True)) / np.sqrt(z.var(1, keepdims=True) + 1e-5)
        np.testing.assert_allclose(kind.table(y), xhat * gamma + kind.spread(kind.parameters()["beta"], 0.0),
                                   rtol=1e-9, atol=1e-9)
        g = kind.table(dy) * gamma
        wanted = (g - g.mean(1, keepdims=True) - xhat * (g * xhat).mean(1, keepdims=True)) / np.sqrt(
            z.var(1, keepdims=True) + 1e-5)
        np.testing.assert_allclose(kind.table(backward(dy)[0]), wanted, rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("name", SHAPES)
def test_empty(name):
    kind, x, dy = made(name, 0)
    parameters = kind.parameters()
    y, backward = kind(x, vjp=True, **parameters)
    dx, grad_gamma, grad_beta = backward(dy)
    assert y.shape == dx.shape == x.shape
    if parameters:
        assert grad_gamma.shape == kind.shape
        assert not grad_gamma.any()
        assert grad_beta is None or not grad_beta.any()


def test_no_elements():
    assert bnstream.layer_norm(np.empty((3, 0)), 0).shape == (3, 0)
    assert bnstream.layer_norm_vjp(np.empty((3, 0)), 0, np.empty(0))[1](np.empty((3, 0)))[1].shape == (0,)
    assert bnstream.group_norm(np.empty((2, 4, 0)), 2).shape == (2, 4, 0)
    assert bnstream.instance_norm(np.empty((2, 4, 0, 3))).shape == (2, 4, 0, 3)
    for shape in ((2, 0, 3), (2, 0, 0), (0, 0, 3), (2, 0)):
        y, backward = bnstream.group_norm_vjp(np.empty(shape), 1, np.empty(0))
        assert y.shape == shape
        assert backward(y)[1].shape == (0,)
    assert bnstream.instance_norm(np.empty((2, 0, 3))).shape == (2, 0, 3)


def test_constant_rows_become_beta():
    """Also where eps is 0, and of one value; its gradient is that of a row which is centered and not divided."""
    x = np.full((3, 4), 1e6, "f4")
    beta = np.array([1, 2, 3, 4], "f4")
    for eps in (0, 1e-5):
        assert (bnstream.layer_norm(x, 4, [7, 8, 9, 10], beta, eps) == beta).all()
        assert (bnstream.group_norm(x, 2, None, beta, eps) == beta).all()
        y, backward = bnstream.layer_norm_vjp(x, 4, eps=eps)
        assert not y.any()
        assert np.isfinite(backward(normal((3, 4)).astype("f4"))[0]).all()
    assert (bnstream.layer_norm(x[:, :1], 1, None, beta[:1]) == 1).all()
    assert (bnstream.group_norm(x, 4, None, beta) == beta).all()
    assert (bnstream.rms_norm(np.zeros((2, 4)), 4, eps=0) == 0).all()


@pytest.mark.parametrize("value", [0.1, 1e6 + 0.1, -1e-300, 2**53 + 1, 3])
@pytest.mark.parametrize("shape", [(1, 3), (2, 6, 7), (3, 3, 20_000)])
def test_constant_groups(value, shape):
    """The mean of equal means is exact, so that nothing is divided by a rounding error."""
    x = np.full(shape, value)
    y, backward = bnstream.group_norm_vjp(x, 1, np.ones(shape[1]), np.full(shape[1], 5.0), 0)
    assert (y == 5).all()
    dx, grad_gamma, _ = backward(np.ones(shape))
    assert np.abs(dx).max() < 1e-12
    assert not grad_gamma.any()


def test_nan_and_inf_stay_in_their_row():
    x = normal((4, 8))
    wanted = bnstream.layer_norm(x, 8)
    for value in (np.nan, np.inf, -np.inf):
        for function in (bnstream.layer_norm, bnstream.rms_norm):
            spoilt = x.copy()
            spoilt[2, 3] = value
            y = function(spoilt, 8)
            assert np.isnan(y[2, 3])
            assert np.isfinite(y[[0, 1, 3]]).all()
        assert np.array_equal(np.delete(bnstream.layer_norm(spoilt, 8), 2, 0), np.delete(wanted, 2, 0))


def test_squares_that_overflow():
    """float64 alone: refused, and x is not lost. float32 never overflows."""
    with pytest.raises(ValueError, match="the values of x sum to more than float64 can hold in 1 of 2 groups"):
        bnstream.layer_norm([[1.7e308, -1.7e308], [1, 2]], 2)
    assert np.isnan(bnstream.layer_norm([[np.inf, -1.7e308], [1, 2]], 2)[0]).all()
    x = normal((3, 8))
    x[1] *= 1e200
    for out in (None, x.copy()):
        kept = x.copy() if out is None else out
        with pytest.raises(ValueError, match="the squares of x sum to more than float64 can hold in 1 of 3 groups"):
            bnstream.layer_norm(kept, 8, out=out)
        assert np.array_equal(kept, x)
        with pytest.raises(ValueError, match=r"in 1 of 3 groups of values; scale x down"):
            bnstream.rms_norm(kept, 8, out=out)
    for function in (bnstream.layer_norm, bnstream.rms_norm):
        y = function(np.array([[1e38, -3e38, 2e38, 0]], "f4"), 4)
        np.testing.assert_allclose(y, function(np.array([[1, -3, 2, 0.0]]), 4, eps=0), rtol=1e-6, atol=1e-7)


# Masks.

MASKED = {name: SHAPES[name] for name in SHAPES if SHAPES[name][0] in ("group_norm", "instance_norm")}


@pytest.mark.parametrize("name", MASKED)
@pytest.mark.parametrize("dtype", ["f4", "f8", "u1"])
def test_masked_positions(name, dtype):
    """Of padded sequences, each of another length: as the sequences alone."""
    kind, x, dy = made(name, 4, dtype)
    parameters, axis = kind.parameters(), kind.channel_axis
    positions = tuple(n for i, n in enumerate(kind.dims) if i != axis)
    where = rng().random(positions) < 0.6
    spoilt, expanded = x.copy(), np.expand_dims(where, axis)
    spoilt[np.broadcast_to(~expanded, x.shape)] = 77 if dtype == "u1" else np.nan
    y, backward = kind(spoilt, vjp=True, where=where, **parameters)
    dy = dy.astype(y.dtype)
    dx, *grads = backward(dy)
    sums = [0, 0]
    for i in range(4):
        alone = Kind(kind.name, (1, kind.shape[0], where[i].sum()), groups=kind.groups)
        part, of_part = (np.moveaxis(a[i], axis - 1, 0)[:, where[i]][None] for a in (x, dy))
        wanted, back = alone(part, vjp=True, **parameters)
        of_x, *of_parameters = back(of_part)
        for got, other in ((y, wanted), (dx, of_x)):
            got = np.moveaxis(got[i], axis - 1, 0)
            np.testing.assert_allclose(got[:, where[i]], other[0], rtol=1e-6, atol=1e-7)
            assert not got[:, ~where[i]].any()
        sums = [a + b for a, b in zip(sums, of_parameters, strict=True)]
    for got, wanted in zip(grads, sums, strict=True):
        np.testing.assert_allclose(got, wanted, rtol=1e-5, atol=1e-5)
    assert np.array_equal(kind(spoilt, where=np.broadcast_to(expanded, x.shape), **parameters), y)


def test_mask_of_elements():
    x, where = normal((2, 4, 30)), rng(5).random((2, 4, 30)) < 0.5
    y = bnstream.group_norm(x, 2, where=where)
    for i in range(2):
        for g in range(2):
            part, mask = x[i, 2 * g:2 * g + 2], where[i, 2 * g:2 * g + 2]
            wanted = bnstream.layer_norm(part[mask], mask.sum())
            np.testing.assert_allclose(y[i, 2 * g:2 * g + 2][mask], wanted, rtol=1e-12)
    assert not y[~where].any()


def test_mask_that_broadcasts():
    """The shape without the channel axis comes first, then that of NumPy."""
    x, where = normal((4, 6, 5)), rng().random((6, 5)) < 0.7
    assert np.array_equal(bnstream.group_norm(x, 2, where=where), bnstream.group_norm(x, 2, where=where[None]))
    square = normal((6, 6, 5))
    assert np.array_equal(bnstream.group_norm(square, 2, where=where),
                          bnstream.group_norm(square, 2, where=where[:, None]))


def test_mask_that_leaves_nothing():
    """Of a whole instance: its result and gradients are 0. The running estimates leave it out."""
    x, where = normal((3, 4, 5)), np.ones((3, 5), bool)
    where[1], where[2, 1:] = False, False
    parameters = {"gamma": np.ones(4), "beta": np.ones(4)}
    y, backward = bnstream.group_norm_vjp(x, 2, where=where, **parameters)
    dx, grad_gamma, grad_beta = backward(np.ones_like(x))
    assert not y[1].any()
    assert not dx[1].any()
    assert np.isfinite(dx).all()
    assert grad_beta.tolist() == [6] * 4
    assert np.isfinite(grad_gamma).all()
    assert np.array_equal(grad_gamma, bnstream.group_norm_vjp(x[::2], 2, where=where[::2], **parameters)[1](
        np.ones((2, 4, 5)))[1])
    mean, var = np.zeros(4), np.ones(4)
    bnstream.instance_norm(x, mean, var, where=where, momentum=1)
    np.testing.assert_allclose(mean, x[0].mean(1))
    np.testing.assert_allclose(var, x[0].var(1, ddof=1))
    bnstream.instance_norm(x, mean, var, where=np.zeros((3, 5), bool), momentum=1)
    np.testing.assert_allclose(mean, x[0].mean(1))


X = normal((4, 6, 5))
FAULTS = {
    "not the last lengths": (lambda: bnstream.layer_norm(X, 6), ValueError,
                             r"normalized_shape must be the last lengths of x, of shape \(4, 6, 5\), got 6; move"),
    "more lengths": (lambda: bnstream.rms_norm(X, (2, 4, 6, 5)), ValueError, "normalized_shape must be the last"),
    "no lengths": (lambda: bnstream.layer_norm(X, ()), ValueError, "normalized_shape must be the last lengths"),
    "lengths of floats": (lambda: bnstream.layer_norm(X, 5.0), TypeError, "must be an int or a tuple of ints, got 5.0"),
    "gamma of another shape": (lambda: bnstream.layer_norm(X, 5, np.ones(6)), ValueError,
                               r"gamma must have shape \(5,\), got \(6,\)"),
    "beta of strings": (lambda: bnstream.layer_norm(X, 5, None, ["a"] * 5), TypeError, "beta must be of real numbers"),
    "eps": (lambda: bnstream.layer_norm(X, 5, eps=-1), ValueError, "eps must be a finite number of at least 0, got -1"),
    "eps of groups": (lambda: bnstream.group_norm(X, 2, eps="a"), TypeError, "eps must be a finite number"),
    "complex": (lambda: bnstream.rms_norm(X * 1j, 5), TypeError, "cannot read dtype complex128"),
    "groups": (lambda: bnstream.group_norm(X, 4), ValueError,
               r"num_groups must divide the number of channels, 6 along axis 1 of x of shape \(4, 6, 5\), got 4"),
    "no groups": (lambda: bnstream.group_norm(X, 0), ValueError, "num_groups must be at least 1, got 0"),
    "groups of floats": (lambda: bnstream.group_norm(X, 2.0), TypeError, "num_groups must be an integer, got 2.0"),
    "axis 0": (lambda: bnstream.group_norm(X, 2, channel_axis=0), ValueError,
               r"channel_axis must be from 1 to 2, or from -2 to -1, .* whose axis 0 holds the instances; got 0"),
    "axis": (lambda: bnstream.instance_norm(X, channel_axis=3), np.exceptions.AxisError, "from 1 to 2, .* got 3"),
    "axis of floats": (lambda: bnstream.group_norm(X, 2, channel_axis=1.0), TypeError, "channel_axis must be an int"),
    "one dimension": (lambda: bnstream.group_norm(X[0, 0], 1), ValueError, "expected an array of at least 2"),
    "mask": (lambda: bnstream.group_norm(X, 2, where=np.ones((4, 6))), TypeError, "where must be a mask of bool"),
    "mask that does not broadcast": (lambda: bnstream.group_norm(X, 2, where=np.ones((4, 4), bool)), ValueError,
                                     "where"),
    "out": (lambda: bnstream.layer_norm(X, 5, out=np.empty((4, 6, 5), "f4")), ValueError, "out must have dtype"),
    "one value": (lambda: bnstream.instance_norm(X[..., :1]), ValueError,
                  r"needs at least 2 values in each channel of an instance, got one from x of shape \(4, 6, 1\)"),
    "one estimate": (lambda: bnstream.instance_norm(X, np.zeros(6)), TypeError, "go together; pass both"),
    "estimates of a list": (lambda: bnstream.instance_norm(X, [0] * 6, np.ones(6)), TypeError,
                            "running_mean must be an array, as training updates it in place"),
    "shared estimates": (lambda: bnstream.instance_norm(X, *[np.ones(6)] * 2), ValueError, "share memory; pass two"),
    "momentum": (lambda: bnstream.instance_norm(X, np.zeros(6), np.ones(6), momentum=2), ValueError, "momentum must"),
    "no estimates": (lambda: bnstream.instance_norm(X, use_input_stats=False), TypeError,
                     "use_input_stats=False needs running_mean and running_var, got None; pass them, or leave"),
    "None groups": (lambda: bnstream.group_norm(X, None), TypeError, "num_groups must be an integer, got None"),
    "None eps": (lambda: bnstream.layer_norm(X, 5, eps=None), TypeError, "eps must be a real number, got None"),
    "gamma of an empty batch": (lambda: bnstream.group_norm(X[:0], 2, np.ones(7)), ValueError,
                                r"gamma must have shape \(6,\), got \(7,\)"),
    "too many elements": (lambda: bnstream.layer_norm(np.empty((0, 2**60), "i1"), 2**60,
                                                      beta=np.broadcast_to(np.int8(0), (2**60,))), MemoryError,
                          "no memory for the parameters"),
    "dy": (lambda: bnstream.layer_norm_vjp(X, 5)[1](X[:2]), ValueError, "dy must have the shape of x"),
}


@pytest.mark.parametrize("name", FAULTS)
def test_errors(name):
    call, error, message = FAULTS[name]
    before = X.copy()
    with pytest.raises(error, match=message):
        call()
    assert np.array_equal(X, before)
