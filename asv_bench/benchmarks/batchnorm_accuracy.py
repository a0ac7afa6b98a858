"""Errors of batch normalization in training against exact arithmetic, in ulp of float32, by |mean| / sd."""

import math
from fractions import Fraction

import numpy as np

import bnstream

from . import layers
from .base import digits, named
from .data import array, need
from .timing import optional

N, CHANNELS = 4096, 4
RATIOS = [1, 10, 100, 10**3, 10**4, 10**5, 10**6]
GAMMA, BETA = np.float32([1, 0.5, -2, 3]), np.float32([0, 1, -0.25, 2])


def hard(ratio):
    """x with sd 1 and this mean, and dy."""
    return (array((N, CHANNELS), "float64") + ratio).astype("float32"), array((N, CHANNELS), "float32", 1)


def of_bnstream(x, dy):
    """(y, dx, grad_gamma)."""
    need("BatchNorm")
    bn = bnstream.BatchNorm(CHANNELS)
    bn.gamma, bn.beta = GAMMA, BETA
    return bn(x), bn.backward(dy), bn.grad_gamma


def of_torch(x, dy):
    """(y, dx, grad_gamma)."""
    torch = optional("torch")
    if torch is None:
        raise NotImplementedError("torch is not installed")
    x, dy, gamma, beta = (torch.from_numpy(a) for a in (x, dy, GAMMA, BETA))
    forward, backward = torch.native_batch_norm, torch.ops.aten.native_batch_norm_backward
    y, mean, invstd = forward(x, gamma, beta, None, None, True, 0.1, layers.EPS)
    dx, grad_gamma, _ = backward(dy, x, gamma, None, None, mean, invstd, True, layers.EPS, [True, True, True])
    return y.numpy(), dx.numpy(), grad_gamma.numpy()


WAYS = {"bnstream": of_bnstream, "torch": of_torch}


def ulps(result, exact):
    """The largest error in a channel, in ulp of the exact value or of the channel's rms, whichever is larger."""
    size = np.maximum(np.abs(exact), np.sqrt(np.mean(exact**2))).astype("float32")
    return float(np.max(np.abs(result - exact) / np.spacing(size)))


def channel_errors(x, dy, gamma, beta, y, dx, grad_gamma):
    """The errors of one channel. Mean and variance are rational; the rounding to double after them is 1e-9 ulp."""
    values = [Fraction(v) for v in x.tolist()]
    mean = sum(values) / len(values)
    var = sum((v - mean) ** 2 for v in values) / len(values)
    invstd = 1 / math.sqrt(var + Fraction(layers.EPS))
    xhat = np.float64([float(v - mean) for v in values]) * invstd
    dy, scale = dy.astype("float64"), float(gamma) * invstd
    of_beta, of_gamma = math.fsum(dy), math.fsum(dy * xhat)
    exact_dx = scale * (dy - of_beta / len(dy) - xhat * of_gamma / len(dy))
    return ulps(y, float(gamma) * xhat + float(beta)), ulps(dx, exact_dx), ulps(grad_gamma, np.float64(of_gamma))


def errors(way, ratio):
    """The largest errors of all channels: of y, of dx and of grad_gamma."""
    x, dy = hard(ratio)
    channels = zip(x.T, dy.T, GAMMA, BETA, *(result.T for result in WAYS[way](x, dy)), strict=True)
    return np.max([channel_errors(*channel) for channel in channels], 0).tolist()


class Error:
    params = (RATIOS[::2],)
    param_names = ("mean / sd",)
    unit = "ulp"

    def setup(self, ratio):
        self.of_y, self.of_dx, self.of_grad_gamma = errors("bnstream", ratio)

    @named("error, y of BatchNorm by mean / sd")
    def track_forward(self, ratio):
        return digits(self.of_y)

    @named("error, dx of BatchNorm by mean / sd")
    def track_backward(self, ratio):
        return digits(self.of_dx)

    @named("error, grad_gamma of BatchNorm by mean / sd")
    def track_grad_gamma(self, ratio):
        return digits(self.of_grad_gamma)
