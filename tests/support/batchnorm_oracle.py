"""Batch normalization to 100 bits in pairs of doubles, its error bounds, and a wrong algorithm that exceeds them.

A pair (hi, lo) is two arrays of doubles whose sum is the number. Sums err by 2**-100 of the larger term, products by
2**-100, far less than any bound below.
"""

import math
from fractions import Fraction

import ml_dtypes
import mpmath
import numpy as np
from support.oracle import exact_states

EPS = 2.0**-52


def two_sum(a, b):
    s = a + b
    t = s - a
    return s, (a - (s - t)) + (b - t)


def halves(a):
    """Split into two parts of 26 bits, whose products are exact (Veltkamp)."""
    c = 134217729.0 * a
    hi = c - (c - a)
    return hi, a - hi


def add(a, b):
    hi, lo = two_sum(a[0], b[0])
    return two_sum(hi, lo + (a[1] + b[1]))


def negative(a):
    return -a[0], -a[1]


def multiply(a, b):
    p = a[0] * b[0]
    (ah, al), (bh, bl) = halves(a[0]), halves(b[0])
    rest = ((ah * bh - p) + ah * bl + al * bh) + al * bl
    return two_sum(p, rest + (a[0] * b[1] + a[1] * b[0]))


def total(a, axes):
    """Sum over some axes by a tree."""
    hi, lo = (np.moveaxis(part, axes, range(len(axes))).reshape(-1, *np.delete(part.shape, axes)) for part in a)
    while len(hi) > 1:
        if len(hi) % 2:
            hi, lo = (np.concatenate([part, np.zeros_like(part[:1])]) for part in (hi, lo))
        hi, lo = add((hi[::2], lo[::2]), (hi[1::2], lo[1::2]))
    return hi[0], lo[0]


def pair(x):
    """Return an array of any real dtype as an exact pair."""
    if x.dtype.kind in "iu" and x.dtype.itemsize == 8:
        return two_sum((x >> 32).astype(np.float64) * 2.0**32, (x & 0xffffffff).astype(np.float64))
    x = x.astype(np.float64)
    return x, np.zeros_like(x)


def pair_of_numbers(values):
    """Return an array of fractions or mpmath numbers as a pair."""
    hi = np.array([float(v) for v in values.flat]).reshape(values.shape)
    lo = np.array([float(v - (mpmath.mpf(h) if isinstance(v, mpmath.mpf) else Fraction(h)))
                   for v, h in zip(values.flat, hi.ravel().tolist(), strict=True)]).reshape(values.shape)
    return hi, lo


def inverse_sd(var, eps):
    """Return 1 / sqrt(var + eps) for an array of any numbers."""
    out = np.empty(np.shape(var), object)
    with mpmath.workdps(60):
        for i, v in enumerate(np.asarray(var, object).flat):
            v = Fraction(v) + Fraction(eps)
            out.flat[i] = 1 / mpmath.sqrt(mpmath.mpf(v.numerator) / v.denominator)
        return pair_of_numbers(out)


def broad(a, axes):
    """Return a pair of shape (channels,) that broadcasts against the array."""
    return tuple(np.expand_dims(np.asarray(part, np.float64), axes) for part in a)


def batch_axes(ndim, channel_axis):
    kept = [a % ndim for a in (channel_axis if isinstance(channel_axis, tuple) else (channel_axis,))]
    return tuple(a for a in range(ndim) if a not in kept)


def affine(x, mean, invstd, gamma, beta, axes):
    """Return y as a pair, and its largest summand, |scale * (x - mean)| or |beta|."""
    scale = multiply(invstd, pair(np.asarray(gamma)))
    beta = broad(pair(np.asarray(beta)), axes)
    t = multiply(add(pair(x), negative(broad(mean, axes))), broad(scale, axes))
    return add(t, beta), np.maximum(np.abs(t[0]), np.abs(beta[0]))


def normalized(x, mean, var, gamma, beta, eps, channel_axis):
    """Return the exact result of `normalize` and its error bound in double.

    For 64-bit integers the bound depends on how far they differ.
    """
    axes = batch_axes(x.ndim, channel_axis)
    y, size = affine(x, pair(np.asarray(mean)), inverse_sd(var, eps), gamma, beta, axes)
    if x.dtype.kind in "iu" and x.dtype.itemsize == 8:
        size = 2 * size.max(axes, keepdims=True)
    return y, 4 * EPS * size


def log2(n):
    return max(1.0, math.log2(n))


class Batch:
    """Training on a batch: exact statistics, y and gradients, with their error bounds in double."""

    def __init__(self, x, gamma, beta, eps, channel_axis):
        self.x, self.gamma, self.axes = x, gamma, batch_axes(x.ndim, channel_axis)
        states = exact_states(x, self.axes)
        self.n = x.size // states.size
        self.mean = np.array([state.mean for state in states.flat], object).reshape(states.shape)
        self.var = np.array([state.m2 / state.n for state in states.flat], object).reshape(states.shape)
        self.means, self.invstd = pair_of_numbers(self.mean), inverse_sd(self.var, eps)
        self.y, size = affine(x, self.means, self.invstd, gamma, beta, self.axes)
        # The mean is subtracted in double from elements of up to 4 bytes, and as a pair from others.
        self.of_mean = np.abs(self.means[0] * self.invstd[0]) / 2 if x.dtype.itemsize < 8 else 0 * self.means[0]
        # var errs by 16 eps log2(n), and the scale by half of it. The mean, as a pair, errs by 8 eps of the sd.
        of_mean = np.expand_dims(np.abs(np.asarray(gamma, np.float64)) * (8 + self.of_mean), self.axes)
        size = (4 + 8 * log2(self.n)) * size + of_mean
        if x.dtype.kind in "iu" and x.dtype.itemsize == 8:
            size = 2 * size.max(self.axes, keepdims=True)
        self.slack = EPS * size

    def assert_estimates(self, mean, var):
        """Check the estimates for momentum 1 and ddof 0 against the bounds of moments."""
        exact = self.means[0], self.var.astype(np.float64)
        bounds = 8 * EPS * np.maximum(np.abs(exact[0]), np.sqrt(exact[1])), 16 * log2(self.n) * EPS * exact[1]
        assert (np.abs(mean - exact[0]) <= bounds[0]).all()
        assert (np.abs(var - exact[1]) <= bounds[1]).all()

    def gradients(self, dy):
        """Return (value, slack) of dx, grad_gamma and grad_beta.

        A sum, and what follows from it, errs by 2 eps (1 + log2(n)) of the sum of magnitudes.
        """
        axes, k = self.axes, 2 * (1 + log2(self.n)) * EPS
        xhat = multiply(add(pair(self.x), negative(broad(self.means, axes))), broad(self.invstd, axes))
        dy = pair(dy)
        weighted = multiply(dy, xhat)
        grad_beta, grad_gamma = total(dy, axes), total(weighted, axes)
        beta_size, gamma_size = np.abs(dy[0]).sum(axes), np.abs(weighted[0]).sum(axes)
        scale = broad(multiply(self.invstd, pair(np.asarray(self.gamma))), axes)
        one_nth = pair_of_numbers(np.array(Fraction(1, self.n), object))
        rest = add(broad(grad_beta, axes), multiply(xhat, broad(grad_gamma, axes)))
        dx = multiply(scale, add(dy, negative(multiply(rest, one_nth))))
        gamma_slack = k * gamma_size + EPS * self.of_mean * beta_size
        size = k * np.expand_dims(beta_size, axes) + np.abs(xhat[0]) * np.expand_dims(gamma_slack, axes)
        size += EPS * np.expand_dims(self.of_mean * gamma_size, axes)
        dx_slack = np.abs(scale[0]) * (k * np.abs(dy[0]) + size / self.n)
        return (dx, dx_slack), (grad_gamma, gamma_slack), (grad_beta, k * beta_size)


def half_ulps(values, dtype):
    """Return the largest error of rounding numbers to a dtype."""
    info = ml_dtypes.finfo(dtype)
    exponent = np.maximum(np.frexp(values)[1] - 1, int(info.minexp))
    return np.ldexp(0.5, exponent - int(info.nmant))


def worst_share(got, wanted, slack):
    """Return the largest error as a share of its bound, half an ulp of the dtype plus the slack."""
    assert got.shape == wanted[0].shape
    if got.size == 0:
        return 0.0
    error = np.abs((got.astype(np.float64) - wanted[0]) - wanted[1])
    share = error / (half_ulps(wanted[0], got.dtype) + slack)
    return float(np.where(np.isnan(share), np.inf, share).max())


def assert_within(got, wanted, slack):
    share = worst_share(got, wanted, slack)
    assert share <= 1, f"errs by {share:.4g} of its bound"


def folded(x, mean, var, gamma, beta, eps):
    """Return x * alpha + beta' in single precision, as PyTorch for channels last. It cancels."""
    alpha = (gamma / np.sqrt(var + eps)).astype(np.float32)
    shift = (beta - mean * alpha).astype(np.float32)
    return x * alpha + shift
