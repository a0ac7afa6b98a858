"""Batch normalization as a share of the bandwidth of a parallel copy of x, medians of interleaved runs."""

import numpy as np

from . import floor, layers
from .batchnorm import Threads
from .data import array
from .timing import interleaved

ROUNDS = 9


class ShareOfCopy(Threads):
    """Backward reads two arrays and writes one: two thirds are the most it can reach."""

    params = (list(layers.CHANNEL_AXIS), [1, 2])
    param_names = ("shape", "n_threads")
    unit = "of a parallel copy"

    def setup(self, shape, n_threads):
        super().setup(n_threads)
        self.x = array(shape, "float32")
        self.out = np.ones_like(self.x)
        self.calls = layers.of_bnstream(self.x, layers.CHANNEL_AXIS[shape], out=self.out)

    def share(self, name, n_threads):
        calls = {"copy": lambda: floor.copy(self.x, self.out, n_threads), "call": self.calls[name]}
        seconds = interleaved(calls, ROUNDS)
        return seconds["copy"] / seconds["call"]

    def track_training(self, shape, n_threads):
        return self.share("training", n_threads)

    def track_inference(self, shape, n_threads):
        return self.share("inference", n_threads)

    def track_backward(self, shape, n_threads):
        return self.share("backward", n_threads)


class ShareOfCopyTorch(ShareOfCopy):
    """To a new array."""

    def setup(self, shape, n_threads):
        super().setup(shape, n_threads)
        self.calls = layers.of_torch(self.x, layers.CHANNEL_AXIS[shape], n_threads)
