"""The cost of what Moments track beside mean and variance, beside the same updates without it."""

from functools import partial

import numpy as np

import bnstream

from .base import Timed, named, once
from .data import array

SHAPES = {(65536, 256): 0, (512, 256): 0, (64, 256, 512): (0, 2)}      # the second one stays in the cache
TRACKED = {"nothing": (), "missing": "missing", "min and max": "min", "skewness and kurtosis": "skewness",
           "all": ("min", "missing", "skewness")}


def need_track():
    if not hasattr(getattr(bnstream, "Moments", None), "track"):
        raise NotImplementedError("this bnstream tracks nothing")


class Update(Timed):
    """Updates of a state that has seen the array before."""

    params = (list(SHAPES), ["float32", "float64", "uint8"], list(TRACKED))
    param_names = ("shape", "dtype", "tracked")

    @once
    def setup(self, shape, dtype, tracked):
        need_track()
        self.call = partial(bnstream.Moments(SHAPES[shape], track=TRACKED[tracked]).update, array(shape, dtype))

    @named("Moments.update, track")
    def time_update(self, shape, dtype, tracked):
        self.call()


class Small(Timed):
    """Batches of (8, 17), where the call is the cost."""

    params = (list(TRACKED),)
    param_names = ("tracked",)

    @once
    def setup(self, tracked):
        need_track()
        self.call = partial(bnstream.Moments(track=TRACKED[tracked]).update, array((8, 17), "float32"))

    @named("Moments.update of (8, 17), track")
    def time_update(self, tracked):
        self.call()


class NumPy(Timed):
    """What NumPy takes for the extremes alone."""

    params = (list(SHAPES),)
    param_names = ("shape",)

    @once
    def setup(self, shape):
        need_track()
        self.x, self.axis = array(shape, "float32"), SHAPES[shape]

    @named("numpy min and max")
    def time_numpy(self, shape):
        np.min(self.x, self.axis)
        np.max(self.x, self.axis)
