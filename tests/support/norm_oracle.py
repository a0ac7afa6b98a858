"""Layer, RMS, group and instance norm to 100 bits, and the error bounds of ours.

Each is a normalization of the rows of a table, one row for each group of values that share their statistics.
"""

from fractions import Fraction

import numpy as np
from support.batchnorm_oracle import EPS, add, inverse_sd, log2, multiply, negative, pair, pair_of_numbers, total
from support.oracle import exact_states

import bnstream


class Kind:
    """One of the norms with its arguments, for x of a shape. The parameters have `shape`."""

    def __init__(self, name, shape, *, n_axes=1, groups=None, channel_axis=1, affine=True):
        self.name, self.dims, self.channel_axis, self.affine = name, shape, channel_axis, affine
        self.of_rows = name in ("layer_norm", "rms_norm")
        self.shape = shape[len(shape) - n_axes:] if self.of_rows else (shape[channel_axis],)
        self.groups = shape[channel_axis] if groups is None else groups
        self.about_zero = name == "rms_norm"

    def parameters(self, seed=3):
        if not self.affine:
            return {}
        values = np.random.default_rng(seed).standard_normal((2, *self.shape))
        return {"gamma": values[0]} if self.about_zero else {"gamma": values[0], "beta": values[1]}

    def arguments(self):
        """The arguments between x and the parameters, and those after."""
        if self.of_rows:
            return (self.shape,), {}
        return (self.groups,) if self.name == "group_norm" else (), {"channel_axis": self.channel_axis}

    def __call__(self, x, vjp=False, **options):
        first, named = self.arguments()
        return getattr(bnstream, self.name + "_vjp" * vjp)(x, *first, **named, **options)

    def table(self, x):
        """x as a table of the rows that are normalized."""
        if self.of_rows:
            return x.reshape(-1, int(np.prod(self.shape)))
        x = np.moveaxis(x, self.channel_axis, 1)
        return x.reshape(len(x) * self.groups, -1)

    def spread(self, parameter, default):
        """A parameter as the table of the values that each element has."""
        if parameter is None:
            return np.full_like(self.table(np.empty(self.dims)), default)
        if self.of_rows:
            return np.broadcast_to(parameter.ravel(), self.table(np.empty(self.dims)).shape)
        shape = [-1 if axis == self.channel_axis % len(self.dims) else 1 for axis in range(len(self.dims))]
        return self.table(np.broadcast_to(parameter.reshape(shape), self.dims))

    def summed(self, table):
        """The sums of a table of pairs that belong to one parameter."""
        if self.of_rows:
            return tuple(part.reshape(self.shape) for part in total(table, (0,)))
        n_channels = self.shape[0]
        return total(tuple(part.reshape(self.dims[0], n_channels, -1) for part in table), (0, 2))


class Instances:
    """The exact result for x, and exact gradients, each with the error bound in double."""

    def __init__(self, kind, x, eps, gamma=None, beta=None):
        self.kind, self.z = kind, kind.table(x)
        self.n = self.z.shape[1]
        states = exact_states(self.z, (1,))
        mean = [Fraction(0) if kind.about_zero else state.mean for state in states.flat]
        var = [state.m2 / state.n + (state.mean**2 if kind.about_zero else 0) for state in states.flat]
        self.mean = tuple(part[:, None] for part in pair_of_numbers(np.array(mean, object)))
        self.invstd = tuple(part[:, None] for part in inverse_sd(var, eps))
        self.gamma, beta = (pair(kind.spread(values, default)) for values, default in ((gamma, 1.0), (beta, 0.0)))
        self.xhat = multiply(add(pair(self.z), negative(self.mean)), self.invstd)
        scaled = multiply(self.xhat, self.gamma)
        self.y = add(scaled, beta)
        # As for a batch: see batchnorm_oracle.
        self.of_mean = 8 + (np.abs(self.mean[0] * self.invstd[0]) / 2 if x.dtype.itemsize < 8 else 0 * self.mean[0])
        self.error = 4 + 8 * log2(self.n)
        size = self.error * np.maximum(np.abs(scaled[0]), np.abs(beta[0])) + np.abs(self.gamma[0]) * self.of_mean
        if x.dtype.kind in "iu" and x.dtype.itemsize == 8:
            size = 2 * size.max()
        self.slack = EPS * size

    def gradients(self, dy):
        """Return (value, slack) of dx as a table, of grad_gamma and of grad_beta."""
        k = 2 * (1 + log2(self.n)) * EPS
        dy = pair(self.kind.table(dy))
        g = multiply(dy, self.gamma)
        products = multiply(g, self.xhat)
        g_size, products_size = (np.abs(part[0]).sum(1, keepdims=True) for part in (g, products))
        sums = [tuple(part[:, None] for part in total(values, (1,))) for values in (g, products)]
        if self.kind.about_zero:
            sums[0] = (0 * sums[0][0], 0 * sums[0][1])
        one_nth = pair_of_numbers(np.array(Fraction(1, self.n), object))
        rest = multiply(add(sums[0], multiply(self.xhat, sums[1])), one_nth)
        dx = multiply(self.invstd, add(g, negative(rest)))
        size = k * g_size + np.abs(self.xhat[0]) * (self.error * EPS * products_size + EPS * self.of_mean * g_size)
        size += EPS * self.of_mean * products_size
        slack = np.abs(self.invstd[0]) * (self.error * EPS * np.abs(g[0]) + size / self.n)
        terms = multiply(dy, self.xhat)
        grad_beta, grad_gamma = self.kind.summed(dy), self.kind.summed(terms)
        zero = np.zeros_like(dy[0])
        beta_size, gamma_size, of_mean = (self.kind.summed((np.abs(part), zero))[0] for part in (
            dy[0], terms[0], self.of_mean * dy[0]))
        k = (2 * (1 + log2(dy[0].size)) + self.error) * EPS
        return (dx, slack), (grad_gamma, k * gamma_size + EPS * of_mean), (grad_beta, k * beta_size)
