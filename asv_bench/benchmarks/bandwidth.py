"""The share of the machine's bandwidth: the time of a plain parallel read or copy of the same bytes, divided by that of
the call; medians of interleaved runs. More is better, although asv reports any growing number as a regression."""

import numpy as np

from . import floor, layers
from .base import digits, named
from .data import array, set_num_threads
from .reductions import by_bnstream
from .timing import interleaved

ROUNDS = 9
AXES = {(65536, 256): 0, (32, 64, 56, 56): (0, 2, 3), (64, 224, 224, 3): (0, 1, 2)}
LAYERS = [shape for shape in layers.CHANNEL_AXIS if shape != (4096, 256)]      # It fits the caches.


class Read:
    params = (list(AXES), ["float32", "float64", "uint8"], [1, 2])
    param_names = ("shape", "dtype", "threads")
    unit = "of a plain read"

    def setup(self, shape, dtype, threads):
        x = array(shape, dtype)
        call = by_bnstream(x, AXES[shape], threads)
        self.calls = {"read": lambda: floor.read(x, threads), "call": call}
        self.calls["read"]()

    @named("share of a plain read, mean_var")
    def track_mean_var(self, shape, dtype, threads):
        seconds = interleaved(self.calls, ROUNDS)
        return digits(seconds["read"] / seconds["call"])


class Copy:
    """Training has to read x and to write the result once. backward reads two arrays and writes one, so its share is at
    most two thirds."""

    params = (LAYERS, [1, 2])
    param_names = ("shape", "threads")
    unit = "of a parallel copy"

    def setup(self, shape, threads):
        set_num_threads(threads)
        x = array(shape, "float32")
        out = np.ones_like(x)
        self.calls = layers.of_bnstream(x, layers.CHANNEL_AXIS[shape], out=out)
        self.copy = lambda: floor.copy(x, out, threads)
        self.copy()

    def share(self, name):
        seconds = interleaved({"copy": self.copy, "call": self.calls[name]}, ROUNDS)
        return digits(seconds["copy"] / seconds["call"])

    @named("share of a copy, BatchNorm training")
    def track_training(self, shape, threads):
        return self.share("training")

    @named("share of a copy, BatchNorm inference")
    def track_inference(self, shape, threads):
        return self.share("inference")

    @named("share of a copy, BatchNorm backward")
    def track_backward(self, shape, threads):
        return self.share("backward")
