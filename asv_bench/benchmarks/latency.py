"""Calls on data so small that the call itself is the cost. The yardstick is np.add of the same array."""

from functools import partial

import numpy as np

import bnstream

from . import layers
from .base import TimedShort, named, once, repeated
from .data import array, need
from .reductions import by_numpy

OPTIONS = {"mean_var": {}, "mean_var of a dtype": {"dtype": np.float64}}


class Update(TimedShort):
    """One batch of the size that is usual in reinforcement learning."""

    params = (["Moments.update", "np.add"],)
    param_names = ("call",)

    @once
    def setup(self, call):
        x = array((8, 17), "float64")
        self.call = partial(np.add, x, x)
        if call == "Moments.update":
            need("Moments")
            self.call = partial(bnstream.Moments().update(x).update, x)

    @named("small, update by 8 x 17")
    def time_update(self, call):
        repeated(self.call)


class Merge(TimedShort):
    params = ([17, 4096],)
    param_names = ("channels",)

    @once
    def setup(self, channels):
        need("Moments")
        x = array((8, channels), "float64")
        self.call = partial(bnstream.Moments().update(x).merge, bnstream.Moments().update(x + 1))

    @named("small, merge by channels")
    def time_merge(self, channels):
        repeated(self.call)


class MeanVar(TimedShort):
    params = ([(8, 17), (100, 7), (1000, 7)], [*OPTIONS, "np.add", "mean and var of NumPy"])
    param_names = ("shape", "call")

    @once
    def setup(self, shape, call):
        x = array(shape, "float64")
        self.call = partial(np.add, x, x) if call == "np.add" else by_numpy(x, 0)
        if call in OPTIONS:
            need("mean_var")
            self.call = partial(bnstream.mean_var, x, **OPTIONS[call])

    @named("small, mean_var")
    def time_mean_var(self, shape, call):
        repeated(self.call)


class Layer(TimedShort):
    params = (["training", "inference", "backward", "np.add"], ["to out", "fresh"])
    param_names = ("call", "result")

    @once
    def setup(self, call, result):
        x = array((8, 17), "float32")
        if call == "np.add":
            self.call = partial(np.add, x, x) if result == "fresh" else partial(np.add, x, x, np.ones_like(x))
        else:
            self.call = layers.of_bnstream(x)[f"{call}, fresh" if result == "fresh" else call]

    @named("small, BatchNorm of 8 x 17")
    def time_layer(self, call, result):
        repeated(self.call)
