"""Training: batch_norm and BatchNorm against exact arithmetic; refused calls leave everything unchanged."""

import functools
import itertools

import numpy as np
import pytest
from support.arrays import BFLOAT16, DTYPES, LAYOUTS, NATIVE_PLACES, normal, of_dtype, rng
from support.batchnorm_oracle import Batch, assert_within, batch_axes, worst_share
from support.cases import pairwise, thorough
from support.oracle import assert_within as assert_moments
from support.oracle import exact_states
from support.states import layer

import bnstream
from bnstream import BatchNorm, batch_norm

SHAPES = {
    "table": ((300, 5), 1), "wide": ((9, 1300), -1), "7 x 7": ((5, 9, 7, 7), 1), "56 x 56": ((2, 3, 56, 56), 1),
    "channels last": ((3, 8, 9, 3), 3), "five": ((2, 3, 2, 4, 5), 2), "rows": ((4, 310), 0), "two rows": ((2, 17), 1),
    "one image": ((1, 70, 7, 15), 1), "long rows": ((130, 270), 0),
}


@functools.cache
def case(shape, dtype):
    dims, channel_axis = SHAPES[shape]
    x = of_dtype(dtype, dims)
    gamma, beta = rng(3).standard_normal((2, dims[channel_axis]))
    return x, gamma, beta, channel_axis, Batch(x, gamma, beta, 1e-3, channel_axis)


@pytest.mark.parametrize(("layout", "shape", "dtype"), pairwise(LAYOUTS, SHAPES, DTYPES), ids=str)
def test_grid(layout, shape, dtype):
    values, gamma, beta, channel_axis, batch = case(shape, dtype)
    x = LAYOUTS[layout](values)
    before = x.tobytes()
    options = {"eps": 1e-3, "channel_axis": channel_axis}
    bn = layer(gamma, beta, momentum=1.0, running_ddof=0, **options)
    y = bn(x)
    assert y.dtype == (x.dtype.newbyteorder("=") if dtype.kind == "f" or dtype == BFLOAT16 else np.float32)
    assert_within(y, batch.y, batch.slack)
    batch.assert_estimates(bn.running_mean, bn.running_var)
    again = batch_norm(x, None, None, gamma, beta, training=True, **options)
    assert again.tobytes() == y.tobytes()
    for i, place in enumerate(NATIVE_PLACES.values()):
        out = place(x.shape, y.dtype)
        result = bn(x, out) if i % 2 else batch_norm(x, None, None, gamma, beta, training=True, **options, out=out)
        assert result is out
        assert_within(out, batch.y, batch.slack)
    assert x.tobytes() == before
    assert bn.num_batches_tracked == 3
    x = LAYOUTS[layout](values.copy())
    if x.flags.writeable and dtype == y.dtype:
        assert bn(x, out=x) is x
        assert_within(x.astype(y.dtype), batch.y, batch.slack)


def test_worked_example():
    x = np.array([[2.0], [4.0], [6.0], [8.0]])
    xhat = [[-1.34], [-0.45], [0.45], [1.34]]
    np.testing.assert_array_equal(batch_norm(x, None, None, training=True).round(2), xhat)
    y = batch_norm(x, None, None, [2.0], [0.5], training=True)
    np.testing.assert_allclose(y, [[-2.18], [-0.40], [1.40], [3.18]], atol=0.006)
    bn = layer([2.0], [0.5], momentum=1, running_ddof=0)
    assert bn(x).tobytes() == y.tobytes()
    assert (bn.running_mean.tolist(), bn.running_var.tolist()) == ([5.0], [5.0])


@pytest.mark.parametrize("ratio", [1.0, 1e2, 1e4, 1e6])
@pytest.mark.parametrize("shape", [(4000, 3), (5, 3, 30, 30)])
def test_far_from_zero(shape, ratio):
    """Within the bound and 2 ulp, absolute where y is near 0. Single precision exceeds the bound."""
    x = (normal(shape) + ratio).astype("f4")
    gamma, beta = np.array([1.5, -2, 0.3]), np.array([0.1, 3, -1])
    batch = Batch(x, gamma, beta, 1e-5, 1)
    y = batch_norm(x, None, None, gamma, beta, training=True)
    assert_within(y, batch.y, batch.slack)
    error = np.abs((y - batch.y[0]) - batch.y[1])
    assert (error <= 2 * np.spacing(np.maximum(np.abs(y), 1e-3))).all()
    single = (x - x.mean(batch.axes, keepdims=True)) / np.sqrt(x.var(batch.axes, keepdims=True) + np.float32(1e-5))
    if ratio >= 1e4:
        wrong = single * np.expand_dims(gamma, batch.axes) + np.expand_dims(beta, batch.axes)
        assert worst_share(wrong.astype("f4"), batch.y, batch.slack) > 100


@pytest.mark.parametrize("ratio", [1.0, 1e4, 1e8, 1e15])
@pytest.mark.parametrize("shape", [(4000, 3), (5, 3, 30, 30), (70000, 3)])
def test_far_from_zero_in_double(shape, ratio):
    """The mean is a pair of doubles, so no digit is lost even for float64."""
    x = normal(shape) * 2 + ratio
    gamma, beta = np.array([1.5, -2, 0.3]), np.array([0.1, 3, -1])
    batch = Batch(x, gamma, beta, 1e-5, 1)
    assert_within(batch_norm(x, None, None, gamma, beta, training=True), batch.y, batch.slack)
    again = x.copy()
    assert_within(batch_norm(again, None, None, gamma, beta, training=True, out=again), batch.y, batch.slack)


LARGE = [(20000, 96), (8, 16, 40, 40), (6, 40, 40, 32), (70000, 3), (2100, 2100)]


@pytest.mark.parametrize(("dtype", "shape"), thorough(
    list(itertools.product(["f4", "u1", "f2"], LARGE)),
    [*itertools.product(["f4"], LARGE), ("u1", LARGE[0]), ("u1", LARGE[1]), ("f2", LARGE[2]), ("f2", LARGE[3])],
), ids=str)
def test_large(dtype, shape):
    """Arrays that several threads process in parts, with the second pass from the cache or from memory."""
    x = of_dtype(dtype, shape)
    channel_axis = 1 if shape[1] == 16 else -1
    axes = batch_axes(x.ndim, channel_axis)
    wide = x.astype(np.float64)
    wide -= wide.mean(axes, keepdims=True)
    wanted = wide / np.sqrt((wide * wide).mean(axes, keepdims=True) + 1e-5)
    y = batch_norm(x, None, None, training=True, channel_axis=channel_axis)
    assert_within(y, (wanted, np.zeros_like(wanted)), 1e-12)


@pytest.mark.parametrize("shape", [(5, 4), (64, 16, 17, 17), (64, 16, 7, 7), (4096, 64), (40, 64, 33, 33)])
@pytest.mark.parametrize("dtype", ["f4", "f8", ">f4", "f2"])
def test_bits_over_x(dtype, shape):
    """With out=x the statistics are computed before anything is written, with the same bits."""
    x = of_dtype(dtype, shape)
    y = batch_norm(x, None, None, training=True)
    np.testing.assert_array_equal(batch_norm(x, None, None, training=True, out=x), y)


def states_of(bn):
    """Return everything that a refused call must leave unchanged."""
    state = bn.state_dict()
    gradients = [None if g is None else g.tobytes() for g in (bn.grad_gamma, bn.grad_beta)]
    return {name: a.tobytes() for name, a in state.items()}, gradients, bn.diagnose().mean_gap.tobytes()


def trained(**options):
    """Return a layer with estimates and gradients."""
    bn = BatchNorm(3, track_pooled=True, **options)
    x = of_dtype("f4", (20, 3), 5)
    bn(x)
    bn.backward(x)
    return bn


def refused(bn, x, message, **options):
    before, bytes_before = states_of(bn), x.tobytes()
    with pytest.raises(ValueError, match=message):
        bn(x, **options)
    assert states_of(bn) == before
    assert x.tobytes() == bytes_before


BIG = (40000, 3)


@pytest.mark.parametrize(("shape", "dtype", "bad", "renorm"), pairwise(
    [(8, 3), BIG, (4, 3, 300, 300)], ["f2", BFLOAT16, "f4", ">f4", "f8"], [np.nan, np.inf, -np.inf], [False, True],
), ids=str)
def test_not_finite_is_refused(shape, dtype, bad, renorm):
    """Estimates, gradients and x are unchanged, even for out=x."""
    x = np.broadcast_to(np.linspace(-1, 1, shape[0]).reshape(-1, *[1] * (len(shape) - 1)), shape).astype(dtype)
    x[shape[0] // 2, 1] = bad
    bn = trained(renorm=renorm)
    message = r"NaN or inf in 1 of 3 channels, the first in channel 1; clean the data, or pass nan_policy='omit'"
    refused(bn, x, message)
    refused(bn, x, message, out=x)
    mean, var = np.full(3, 7.0), np.full(3, 8.0)
    before = x.tobytes()
    for out in (None, x):
        with pytest.raises(ValueError, match=message):
            batch_norm(x, mean, var, training=True, out=out)
        assert x.tobytes() == before
        assert (mean.tolist(), var.tolist()) == ([7] * 3, [8] * 3)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_propagate(bad):
    """NaN and inf reach y and the running estimates of their channel alone."""
    x = of_dtype("f4", (20, 3))
    good = batch_norm(x, None, None, training=True)
    x[4, 1] = bad
    for out in (None, x.copy()):
        bn = BatchNorm(3, nan_policy="propagate")
        y = bn(x if out is None else out, out)
        assert np.isnan(y[:, 1]).all()
        assert y[:, [0, 2]].tobytes() == good[:, [0, 2]].tobytes()
        assert np.isfinite(bn.running_mean).tolist() == np.isfinite(bn.running_var).tolist() == [True, False, True]
        assert bn.num_batches_tracked == 1


@pytest.mark.parametrize("dtype", ["f4", "f8", "f2"])
@pytest.mark.parametrize("place", ["new", "x", "out"])
def test_omit(dtype, place):
    """The statistics are those of the finite elements; the others stay NaN or inf."""
    x = of_dtype(dtype, (60, 3))
    bad = x.copy()
    bad[10, 0], bad[11:14, 1] = np.nan, [np.inf, -np.inf, np.nan]
    finite = np.isfinite(bad)
    bn = BatchNorm(3, nan_policy="omit", momentum=1.0, running_ddof=0)
    given = bad.copy()
    y = bn(given, {"new": None, "x": given, "out": np.empty_like(bad)}[place])
    for c in range(3):
        rows = bad[finite[:, c], c][:, None]
        batch = Batch(rows, np.ones(1), np.zeros(1), 1e-5, 1)
        assert_within(y[finite[:, c], c][:, None], batch.y, batch.slack)
        assert_moments(bn.running_mean[[c]], bn.running_var[[c]], exact_states(rows))
    assert not np.isfinite(y[~finite]).any()


@pytest.mark.parametrize(("shape", "got"), [((1, 3), "one value"), ((0, 3), "an empty batch"), ((1, 3, 1), "one value"),
                                            ((2, 3, 0), "an empty batch"), ((0, 3, 4, 4), "an empty batch")])
@pytest.mark.parametrize("policy", ["raise", "omit", "propagate"])
@pytest.mark.parametrize("renorm", [False, True])
def test_batch_that_is_too_small(shape, got, policy, renorm):
    """Training refuses it; inference does not."""
    x = np.ones(shape, "f4")
    message = rf"at least 2 values in each channel, got {got} from x of shape .*; use a larger batch, or inference mode"
    bn = trained(nan_policy=policy, renorm=renorm)
    refused(bn, x, message)
    refused(bn, x, message, out=x)
    with pytest.raises(ValueError, match=message):
        batch_norm(x, None, None, training=True, nan_policy=policy)
    assert bn.eval()(x).shape == shape


def test_omit_needs_two_finite_values():
    x = np.ones((4, 3))
    x[:3, 2] = np.nan
    message = "training needs at least 2 values in each channel, got 1 in channel 2, not counting those that"
    for renorm in (False, True):
        bn = trained(nan_policy="omit", renorm=renorm)
        refused(bn, x, message)
        refused(bn, x, message, out=x)


def test_no_channels():
    assert BatchNorm(1)(np.zeros((4, 1))).tolist() == [[0]] * 4
    assert batch_norm(np.zeros((4, 0)), np.zeros(0), np.zeros(0), training=True).shape == (4, 0)


def test_constant_channel():
    """The variance is exactly 0, and y is beta."""
    x = np.full((1000, 3), 0.1)
    bn = layer([1, 2, 3], [4, 5, 6])
    np.testing.assert_array_equal(bn(x), np.broadcast_to([4, 5, 6], x.shape))
    assert bn.running_var.tolist() == [0.9] * 3


def test_two_threads_by_default():
    """Two threads give the same bits as one; test_bits has more cases."""
    x = of_dtype("f4", (30000, 33))
    bnstream.set_num_threads(1)
    one = BatchNorm(33)
    y = one(x)
    bnstream.set_num_threads(2)
    two = BatchNorm(33)
    assert two(x).tobytes() == y.tobytes()
    assert one == two
