"""Errors on hard data against exact arithmetic, in eps, relative to max(|mean|, sd) or to the variance."""

import math
from fractions import Fraction

import numpy as np

import bnstream

from .base import digits, named
from .data import array, need

N = 4096
EPS = Fraction(float(np.finfo(np.float64).eps))


def wild_first_row():
    x = array(N, "float64")
    x[0] = 1e15
    return x


DATA = {
    "offset 1e8": lambda: array(N, "float64") + 1e8,
    "offset 1e15": lambda: array(N, "float64") * 8 + 1e15,
    "drift": lambda: array(N, "float64") + np.linspace(0, 1e8, N),
    "wild first row": wild_first_row,
    "heavy tails": lambda: np.exp(5 * array(N, "float64")),
    "float32, mean 1e6, sd 0.1": lambda: (array(N, "float64") / 10 + 1e6).astype("float32"),
}


def one_call(x):
    need("mean_var")
    return bnstream.mean_var(x, dtype="float64")


def chunked(x):
    need("Moments")
    moments = bnstream.Moments()
    for chunk in np.array_split(x, N // 8):
        moments.update(chunk)
    return moments.mean, moments.var()


def numpy(x):
    return x.mean(dtype="float64"), x.var(dtype="float64")


WAYS = {"mean_var": one_call, "Moments, 8 rows a chunk": chunked, "NumPy": numpy}


class Error:
    params = (list(DATA), list(WAYS))
    param_names = ("data", "way")
    unit = "eps"

    def setup(self, data, way):
        x = DATA[data]()
        values = [Fraction(v) for v in x.tolist()]
        self.exact_mean = sum(values) / N
        self.exact_var = sum((v - self.exact_mean) ** 2 for v in values) / N
        self.mean, self.var = WAYS[way](x)

    @named("error, mean")
    def track_mean(self, data, way):
        scale = max(abs(self.exact_mean), Fraction(math.sqrt(self.exact_var)))
        return digits(abs(Fraction(float(self.mean)) - self.exact_mean) / scale / EPS)

    @named("error, variance")
    def track_var(self, data, way):
        return digits(abs(Fraction(float(self.var)) - self.exact_var) / self.exact_var / EPS)
