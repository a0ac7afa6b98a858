"""The share of the bandwidth of a plain parallel read of the same bytes, medians of interleaved runs."""

import bnstream

from . import floor
from .data import array, need
from .timing import interleaved

ROUNDS = 15
AXES = {(65536, 256): 0, (32, 64, 56, 56): (0, 2, 3), (64, 224, 224, 3): (0, 1, 2)}


def share_of_read(call, x, n_threads, rounds=ROUNDS):
    """Median seconds of a plain read over those of the call."""
    seconds = interleaved({"read": lambda: floor.read(x, n_threads), "call": call}, rounds)
    return seconds["read"] / seconds["call"]


class Share:
    params = (list(AXES), ["float32", "float64", "uint8"], [1, 2])
    param_names = ("shape", "dtype", "n_threads")
    unit = "of a plain read"

    def setup(self, shape, dtype, n_threads):
        need("mean_var")
        self.x = array(shape, dtype)
        floor.read(self.x, n_threads)

    def track_mean_var(self, shape, dtype, n_threads):
        return share_of_read(lambda: bnstream.mean_var(self.x, AXES[shape], n_threads=n_threads), self.x, n_threads)


class ShareNumPy:
    """NumPy, which runs on one thread."""

    params = (list(AXES), ["float32", "float64", "uint8"])
    param_names = ("shape", "dtype")
    unit = "of a plain read"

    def setup(self, shape, dtype):
        self.x = array(shape, dtype)
        floor.read(self.x, 1)

    def track_mean_and_var(self, shape, dtype):
        return share_of_read(lambda: (self.x.mean(AXES[shape]), self.x.var(AXES[shape])), self.x, 1, rounds=3)
