"""bnstream beside its peers on the same data and, where they have threads, on two. A peer that is not installed is
skipped: the environments that asv makes have only NumPy. CONTRIBUTING.md says how to run with the others."""

from functools import partial

import numpy as np

import bnstream

from . import batchnorm_accuracy, layers, memory, reductions
from .base import Timed, TimedShort, digits, named, once, repeated
from .data import array, need, set_num_threads
from .timing import set_pages

AXES = {(32768, 256): 0, (32, 64, 56, 56): (0, 2, 3)}
IMAGES = (32, 64, 56, 56)


class MeanVar(Timed):
    """float32."""

    params = (list(AXES), list(reductions.ALL))
    param_names = ("shape", "by")

    @once
    def setup(self, shape, by):
        self.call = reductions.ALL[by](array(shape, "float32"), AXES[shape])

    @named("peers, mean and var")
    def time_mean_var(self, shape, by):
        self.call()


class Omit(Timed):
    """(32768, 256); one element in a hundred is NaN."""

    params = (["float32", "float64"], list(reductions.OF_FINITE))
    param_names = ("dtype", "by")

    @once
    def setup(self, dtype, by):
        x = array((32768, 256), dtype)
        x[np.random.default_rng(1).random(x.shape) < 0.01] = np.nan
        self.call = reductions.OF_FINITE[by](x, 0)

    @named("peers, mean and var without NaN")
    def time_omit(self, dtype, by):
        self.call()


class Update(TimedShort):
    """float64."""

    params = (["bnstream", "gymnasium"],)
    param_names = ("by",)

    @once
    def setup(self, by):
        x = array((8, 17), "float64")
        if by == "bnstream":
            need("Moments")
            self.call = partial(bnstream.Moments().update, x)
        else:
            running = reductions.installed("gymnasium.wrappers.utils").RunningMeanStd(shape=(17,))
            self.call = partial(running.update, x)

    @named("peers, update by 8 x 17")
    def time_update(self, by):
        repeated(self.call)


def of_onnxruntime(x):
    return {"inference": layers.of_onnxruntime(x, np.ones_like(x), 2)}


LAYERS = {
    "bnstream, fresh": lambda x: {name.removesuffix(", fresh"): call for name, call in layers.of_bnstream(x).items()},
    "PyTorch, fresh": lambda x: layers.of_torch(x, n_threads=2),
    "bnstream, to out": layers.of_bnstream,
    "ONNX Runtime, to out": of_onnxruntime,
    "NumPy, fresh": layers.of_numpy,
}
CALLS = ["training", "inference", "backward"]


def layer(x, call, by):
    """A call on x by one of the LAYERS. Large new results of all of them are on pages that are new to the process."""
    set_pages("new")
    set_num_threads(2)
    calls = LAYERS[by](x)
    if call not in calls:
        raise NotImplementedError(f"{by} has no {call}")
    return calls[call]


class Layer(Timed):
    """(32, 64, 56, 56) float32."""

    params = (CALLS, list(LAYERS))
    param_names = ("call", "by")

    @once
    def setup(self, call, by):
        self.call = layer(array(IMAGES, "float32"), call, by)

    @named("peers, batch normalization")
    def time_layer(self, call, by):
        self.call()


class SmallLayer(TimedShort):
    """float32."""

    params = (CALLS, [by for by in LAYERS if not by.startswith("ONNX")])
    param_names = ("call", "by")

    @once
    def setup(self, call, by):
        self.call = layer(array((8, 17), "float32"), call, by)

    @named("peers, batch normalization of 8 x 17")
    def time_layer(self, call, by):
        repeated(self.call)


class Error:
    """Errors in training against exact arithmetic, float32."""

    params = (["bnstream", "PyTorch"], ["y", "dx", "grad_gamma"], batchnorm_accuracy.RATIOS[::3])
    param_names = ("by", "of", "mean / sd")
    unit = "ulp"

    def setup(self, by, of, ratio):
        way = {"bnstream": "bnstream", "PyTorch": "torch"}[by]
        self.errors = dict(zip(["y", "dx", "grad_gamma"], batchnorm_accuracy.errors(way, ratio), strict=True))

    @named("peers, error of batch normalization")
    def track_error(self, by, of, ratio):
        return digits(self.errors[of])


def batch_norm_by_torch(call, x, dy):
    """PyTorch's function has no `out`, so a new result is allocated."""
    torch = reductions.installed("torch")
    torch.set_num_threads(2)
    x, dy = torch.from_numpy(x), torch.from_numpy(dy)
    n = x.shape[1]
    gamma, mean, var = torch.ones(n), torch.zeros(n), torch.ones(n)
    y, *saved = torch.native_batch_norm(x, gamma, mean, mean, var, call != "inference", 0.1, layers.EPS)
    if call == "training and backward":
        del y
        torch.ops.aten.native_batch_norm_backward(dy, x, gamma, mean, var, *saved, True, layers.EPS, [True] * 3)


class Memory:
    """The floor of each is its arrays alone, x, dy and for bnstream out, with what its import takes."""

    params = (memory.CALLS, ["bnstream", "PyTorch"])
    param_names = ("call", "by")

    def setup(self, call, by):
        need("BatchNorm")
        set_num_threads(2)
        if by == "PyTorch":
            reductions.installed("torch")
        self.arrays = [memory.touched(IMAGES, "float32", seed) for seed in range(3 if by == "bnstream" else 2)]

    @named("peers, peak memory of batch normalization")
    def peakmem_batch_norm(self, call, by):
        if call == "arrays alone":
            return
        if by == "bnstream":
            memory.batch_norm(call, 1, *self.arrays)
        else:
            batch_norm_by_torch(call, *self.arrays)
