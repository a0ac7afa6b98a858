"""PyTorch's batch normalization and ours differ by at most the sum of both error bounds."""

import numpy as np
import pytest
from support.parity import SHAPES, Bounds, assert_close, compare, data, pair

from bnstream import batch_norm, normalize

torch = pytest.importorskip("torch")


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("layout", ["contiguous", "channels_last"])
@pytest.mark.parametrize(("momentum", "affine"), [(0.1, True), (1.0, True), (0.01, False)])
@pytest.mark.parametrize("dtype", ["f4", "f8"])
@pytest.mark.parametrize("ratio", [0, 100])
def test_layers(shape, layout, momentum, affine, dtype, ratio):
    """Training on three batches, then inference, each with its backward pass."""
    ours, theirs = pair(shape, dtype, momentum, affine)
    for i in range(4):
        ours.train(i < 3)
        theirs.train(i < 3)
        compare(ours, theirs, data(shape, dtype, ratio, i), data(shape, dtype, 0, 10 + i), layout, dtype)


def test_the_bounds_can_be_broken():
    """A wrong eps, ddof, sense of momentum or gamma breaks them."""
    shape = (16, 5)
    x, dy = data(shape, "f4", 0, 0), data(shape, "f4", 0, 1)
    for spoil in ({"eps": 1e-3}, {"running_ddof": 0}, {"momentum": 0.9}, {"gamma": np.ones(5)}):
        ours, theirs = pair(shape, "f4", 0.1, True)
        for name, value in spoil.items():
            setattr(ours, name, value)
        with pytest.raises(AssertionError, match="of the bound"):
            compare(ours, theirs, x, dy, "contiguous", "f4")


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("dtype", ["f4", "f8"])
def test_functions(dtype, training):
    """F.batch_norm and batch_norm, with running estimates that both update."""
    shape = (6, 4, 5, 5)
    x = data(shape, dtype, 2, 0)
    mean, var = np.linspace(-1, 1, 4).astype(dtype), np.linspace(1, 4, 4).astype(dtype)
    gamma, beta = np.linspace(1, 2, 4).astype(dtype), np.linspace(-2, 0, 4).astype(dtype)
    theirs = [torch.from_numpy(a.copy()) for a in (x, mean, var, gamma, beta)]
    if not training:
        assert_close(normalize(x, mean, var, gamma, beta, eps=1e-5, channel_axis=1),
                     torch.nn.functional.batch_norm(*theirs), Bounds(x, x, mean, var, gamma, beta, dtype).of_y())
    wanted = torch.nn.functional.batch_norm(*theirs, training=training)
    y = batch_norm(x, mean, var, gamma, beta, training=training)
    wide = x.astype("f8")
    by = (wide.mean((0, 2, 3)), wide.var((0, 2, 3))) if training else (mean, var)
    bounds = Bounds(x, x, *by, gamma, beta, dtype)
    assert_close(y, wanted, bounds.of_y())
    for ours, tensors, bound in zip((mean, var), theirs[1:3], bounds.of_estimates(), strict=True):
        assert_close(ours, tensors, bound)
