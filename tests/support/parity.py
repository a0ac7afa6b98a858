"""PyTorch's batch normalization compared with ours, and the sum of both error bounds."""

import numpy as np
import pytest

from bnstream import BatchNorm

torch = pytest.importorskip("torch")

SHAPES = [(16, 5), (64, 3), (8, 5, 30), (4, 3, 6, 7), (5, 16, 8, 8), (3, 4, 3, 5, 6)]
UNIT = {"f4": 2.0**-24, "f8": 2.0**-53}


class Bounds:
    """Bounds on the rounding errors of PyTorch and of ours, together.

    PyTorch computes in the dtype of x, with unit roundoff u. Its sums of n terms, vectorized and cascaded, have errors
    of (log2(n) + 8) u times the sum of magnitudes; let e be this factor, h the largest |xhat| and k the largest
    |x| / sd. Then the error of the mean is e k sd, that of xhat e k, and the relative error of the variance e (1 + k).
    The error of x * alpha + beta' is u times its terms, of size k gamma. Each bound is 4 e times the size of the terms,
    with 4 for the rounding of scale and shift. Our bound is that of double precision, with u = 2**-53 and 16 in place
    of 4, plus half an ulp of the result.
    """

    def __init__(self, x, dy, mean, var, gamma, beta, dtype):
        self.axes = axes = (0, *range(2, x.ndim))
        n, u = x.size // x.shape[1], UNIT[dtype]
        self.e = 4 * (np.log2(n) + 8) * u + 16 * (np.log2(n) + 8) * UNIT["f8"] + u
        self.sd = np.sqrt(var + 1e-5)
        self.k = np.abs(x).max(axes) / self.sd
        self.h = (np.abs(x - np.expand_dims(mean, axes)).max(axes)) / self.sd
        self.dy, self.sum = np.abs(dy).max(axes), np.abs(dy).sum(axes, np.float64)
        self.gamma, self.beta = np.abs(gamma), np.abs(beta)

    def of(self, size):
        return self.e * size

    def of_y(self):
        return self.of(np.expand_dims(self.gamma * (1 + self.k) * (1 + self.h) + self.beta, self.axes))

    def of_dx(self):
        size = self.gamma / self.sd * self.dy * (1 + self.h) * (2 + self.h + self.k)
        return self.of(np.expand_dims(size, self.axes))

    def of_grads(self):
        return self.of(self.sum * (self.h + self.k)), self.of(self.sum)

    def of_estimates(self):
        return self.of(self.sd * self.k), self.of(self.sd**2 * (1 + self.k) + 1)


def data(shape, dtype, ratio, seed):
    r = np.random.default_rng(seed)
    channels = [1, shape[1], *[1] * (len(shape) - 2)]
    x = (r.standard_normal(shape) + ratio * r.choice([-1, 1], channels)) * r.uniform(0.5, 2, channels)
    return x.astype(dtype)


def tensor(x, layout):
    t = torch.from_numpy(x.copy())
    if layout == "channels_last" and x.ndim > 3:
        return t.contiguous(memory_format=torch.channels_last if x.ndim == 4 else torch.channels_last_3d)
    return t.transpose(1, -1).contiguous().transpose(1, -1) if layout == "channels_last" else t


def pair(shape, dtype, momentum, affine):
    """The same layer, ours and PyTorch's."""
    rank = {2: "1d", 3: "1d", 4: "2d", 5: "3d"}[len(shape)]
    kind = getattr(torch.nn, f"BatchNorm{rank}")
    real = torch.float32 if dtype == "f4" else torch.float64
    theirs = kind(shape[1], momentum=momentum, affine=affine, dtype=real)
    if affine:
        with torch.no_grad():
            theirs.weight.copy_(torch.linspace(-1, 2.5, shape[1]))
            theirs.bias.copy_(torch.linspace(1, -3, shape[1]))
    ours = BatchNorm(shape[1], momentum=momentum, affine=affine, dtype=dtype)
    ours.load_state_dict(theirs.state_dict())
    return ours, theirs


def assert_close(ours, theirs, bound):
    share = (np.abs(ours.astype("f8") - theirs.detach().numpy()) / bound).max()
    assert share <= 1, f"the difference is {share:.3g} of the bound"


def compare(ours, theirs, x, dy, layout, dtype):
    """Run one batch forward and backward through both, in their mode."""
    t = tensor(x, layout).requires_grad_()
    given = t.detach().numpy()
    before = ours.running_mean.copy(), ours.running_var.copy()
    (y, backward), their_y = ours.vjp(given), theirs(t)
    their_y.backward(tensor(dy, layout))
    dx, ours.grad_gamma, ours.grad_beta = backward(dy)
    wide, axes = x.astype("f8"), (0, *range(2, x.ndim))
    mean, var = (wide.mean(axes), wide.var(axes)) if ours.training else before
    gamma, beta = np.ones(1) if ours.gamma is None else ours.gamma, np.zeros(1) if ours.beta is None else ours.beta
    bounds = Bounds(x, dy, mean, var, gamma, beta, dtype)
    assert y.dtype == dx.dtype == np.dtype(dtype)
    assert_close(y, their_y, bounds.of_y())
    assert_close(dx, t.grad, bounds.of_dx())
    for running, wanted, bound in zip((ours.running_mean, ours.running_var), (theirs.running_mean, theirs.running_var),
                                      bounds.of_estimates(), strict=True):
        assert_close(running, wanted, bound)
    for grad, parameter, bound in zip((ours.grad_gamma, ours.grad_beta), (theirs.weight, theirs.bias),
                                      bounds.of_grads(), strict=True):
        assert (grad is None) == (parameter is None)
        if parameter is not None:
            assert_close(grad, parameter.grad, bound)
            parameter.grad = None
    assert ours.num_batches_tracked == int(theirs.num_batches_tracked)
