"""Peak memory of a process that makes one call. The floor is a process that only holds the arrays."""

import numpy as np

import bnstream

from . import layers
from .base import named
from .data import array, need, set_num_threads

WAYS = {
    "array alone": id,
    "mean_var": lambda x: bnstream.mean_var(x),
    "Moments.update": lambda x: bnstream.Moments().update(x),
    "NumPy": lambda x: (x.mean(0), x.var(0)),
}
NEEDS = {"mean_var": ["mean_var"], "Moments.update": ["Moments"]}
SHAPES = [(32, 64, 56, 56), (65536, 256)]
CALLS = ["arrays alone", "training", "inference", "training and backward"]


def touched(shape, dtype, seed=0):
    """An array that is filled in parts, so that temporaries of the setup are not the peak."""
    x = np.empty(shape, dtype)
    for rows in np.split(x, 32):
        rows[:] = array(rows.shape, dtype, seed)
    return x


class MeanVar:
    """(65536, 256)."""

    params = (["float32", "uint8"], ["C order", "Fortran order"], list(WAYS))
    param_names = ("dtype", "order", "way")

    def setup(self, dtype, order, way):
        need(*NEEDS.get(way, ()))
        self.x = touched((65536, 256), dtype)
        if order == "Fortran order":
            self.x = self.x.reshape(256, 65536).T

    @named("peak memory, mean and var")
    def peakmem_mean_var(self, dtype, order, way):
        WAYS[way](self.x)


def batch_norm(call, axis, x, dy, out):
    bn = bnstream.BatchNorm(x.shape[axis], channel_axis=axis).train(call != "inference")
    bn(x, out)
    if call == "training and backward":
        bn.backward(dy, out)


class BatchNorm:
    """float32, on two threads, with x, dy and out given."""

    params = (SHAPES, CALLS)
    param_names = ("shape", "call")

    def setup(self, shape, call):
        need("BatchNorm")
        set_num_threads(2)
        self.arrays = [touched(shape, "float32", seed) for seed in range(3)]

    @named("peak memory, BatchNorm")
    def peakmem_batch_norm(self, shape, call):
        if call != "arrays alone":
            batch_norm(call, layers.CHANNEL_AXIS[shape], *self.arrays)
