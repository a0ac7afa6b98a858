"""Peak memory of a process that normalizes an array, on two threads; that of one that only holds x, dy and out is the
floor."""

import numpy as np

import bnstream

from . import layers
from .data import array, need
from .timing import optional


def touched(shape, seed):
    """Filled in parts: all at once, the temporaries of setup would be the peak."""
    x = np.empty(shape, "float32")
    for rows in np.split(x, 32):
        rows[:] = array(rows.shape, "float32", seed)
    return x


def of_bnstream(call, axis, x, dy, out):
    bnstream.set_num_threads(2)
    bn = bnstream.BatchNorm(x.shape[axis], channel_axis=axis).train(call != "inference")
    bn(x, out)
    if call == "training and backward":
        bn.backward(dy, out)


def of_torch(call, axis, x, dy):
    torch = optional("torch")
    torch.set_num_threads(2)
    x, dy = (torch.from_numpy(a).movedim(axis, 1) for a in (x, dy))
    n = x.shape[1]
    gamma, mean, var = torch.ones(n), torch.zeros(n), torch.ones(n)
    y, *saved = torch.native_batch_norm(x, gamma, mean, mean, var, call != "inference", 0.1, layers.EPS)
    if call == "training and backward":
        del y
        torch.ops.aten.native_batch_norm_backward(dy, x, gamma, mean, var, *saved, True, layers.EPS, [True] * 3)


class Peak:
    """All that comes on top of the floor is scratch."""

    params = (list(layers.CHANNEL_AXIS), ["arrays alone", "training", "inference", "training and backward"])
    param_names = ("shape", "call")

    def setup(self, shape, call):
        need("BatchNorm")
        self.arrays = [touched(shape, seed) for seed in range(3)]

    def teardown(self, shape, call):
        bnstream.set_num_threads(None)

    def peakmem_batch_norm(self, shape, call):
        if call != "arrays alone":
            of_bnstream(call, layers.CHANNEL_AXIS[shape], *self.arrays)


class PeakTorch:
    """Its function has no `out`: one result comes on top of the floor, which is without, and scratch."""

    params = Peak.params
    param_names = Peak.param_names

    def setup(self, shape, call):
        if optional("torch") is None:
            raise NotImplementedError("no torch")
        self.arrays = [touched(shape, seed) for seed in range(2)]

    def peakmem_batch_norm(self, shape, call):
        if call != "arrays alone":
            of_torch(call, layers.CHANNEL_AXIS[shape], *self.arrays)
