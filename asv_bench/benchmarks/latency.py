"""Calls on data so small that the call itself is what costs."""

import numpy as np

import bnstream

from .data import array, need


class Update:
    """One batch of (8, 17), as a reinforcement learner sees it; np.add of it is the yardstick."""

    def setup(self):
        need("Moments")
        self.x = array((8, 17), "float64")
        self.moments = bnstream.Moments().update(self.x)

    def time_update(self):
        self.moments.update(self.x)


class Merge:
    """Two states of so many channels."""

    params = ([17, 4096],)
    param_names = ("n_channels",)

    def setup(self, n_channels):
        need("Moments")
        x = array((8, n_channels), "float64")
        self.a, self.b = bnstream.Moments().update(x), bnstream.Moments().update(x + 1)

    def time_merge(self, n_channels):
        self.a.merge(self.b)


class Small:
    """mean_var of a small array."""

    params = ([(8, 17), (100, 7), (1000, 7)],)
    param_names = ("shape",)

    def setup(self, shape):
        need("mean_var")
        self.x = array(shape, "float64")

    def time_mean_var(self, shape):
        bnstream.mean_var(self.x)


class NumPy:
    """The yardsticks."""

    params = ([(8, 17), (100, 7), (1000, 7)],)
    param_names = ("shape",)

    def setup(self, shape):
        self.x = array(shape, "float64")

    def time_add(self, shape):
        np.add(self.x, self.x)

    def time_mean_and_var(self, shape):
        self.x.mean(0)
        self.x.var(0)
