"""Exact statistics beside plain ones: arrays in the cache and past it, and small updates."""

import numpy as np

import bnstream

from .base import Timed, TimedShort, named, once, repeated
from .data import array, need, set_num_threads

SHAPES = {"(65536, 256)": ((65536, 256), 0), "(4096, 16)": ((4096, 16), 0),
          "(32, 64, 56, 56)": ((32, 64, 56, 56), (0, 2, 3))}


def moments(axis, exact):
    need("Moments")
    if not hasattr(bnstream.Moments, "digest"):
        raise NotImplementedError("this commit has no exact statistics")
    set_num_threads(2)
    return bnstream.Moments(axis, exact=exact)


class Exact(Timed):
    """`Moments.update` on two threads."""

    params = (list(SHAPES), ["float32", "float64", "uint8", "int64"], [False, True])
    param_names = ("shape", "dtype", "exact")

    @once
    def setup(self, shape, dtype, exact):
        shape, axis = SHAPES[shape]
        self.m, self.x = moments(axis, exact), array(shape, dtype)

    @named("exact statistics")
    def time_update(self, shape, dtype, exact):
        self.m.update(self.x)


class SmallExact(TimedShort):
    """(8, 17), float64: an update, and mean and variance of it."""

    params = ([False, True],)
    param_names = ("exact",)

    @once
    def setup(self, exact):
        self.m, self.x = moments(0, exact).update(np.ones((8, 17))), array((8, 17), "float64")

    @named("exact statistics, small updates")
    def time_update(self, exact):
        repeated(lambda: self.m.update(self.x))

    @named("exact statistics, mean and variance")
    def time_results(self, exact):
        repeated(lambda: (self.m.mean, self.m.var()))
