"""mean_var of 3 to 10 million elements, by shape, dtype, layout and threads, beside mean and var of NumPy."""

import numpy as np

from .base import Timed, named, once
from .data import array
from .reductions import THREADS, by_threads

AXES = {
    (32768, 256): 0,                # a table
    (1000000, 3): 0,                # few channels
    (200, 50000): 0,                # many
    (32, 64, 56, 56): (0, 2, 3),    # NCHW
    (32, 224, 224, 3): (0, 1, 2),   # images, channels last
}
DTYPES = ["float32", "float64", "uint8", "int16", "float16"]
LAYOUTS = {
    "transposed": lambda: array((256, 16384), "float32").T,
    "every second column": lambda: array((16384, 512), "float32")[:, ::2],
    "Fortran order": lambda: np.asfortranarray(array((16384, 256), "float32")),
    "byte-swapped": lambda: array((16384, 256), "float32").astype(">f4"),
}
BY = [*THREADS, "NumPy"]


class MeanVar(Timed):
    params = (list(AXES), DTYPES, BY)
    param_names = ("shape", "dtype", "by")

    @once
    def setup(self, shape, dtype, by):
        self.call = by_threads(array(shape, dtype), AXES[shape], by)

    @named("mean_var")
    def time_mean_var(self, shape, dtype, by):
        self.call()


class Layouts(Timed):
    """float32."""

    params = (list(LAYOUTS), BY)
    param_names = ("layout", "by")

    @once
    def setup(self, layout, by):
        self.call = by_threads(LAYOUTS[layout](), 0, by)

    @named("mean_var, other layouts")
    def time_mean_var(self, layout, by):
        self.call()


class Timestamps(Timed):
    """Nanoseconds of a year, int64."""

    params = (["sorted", "shuffled"], BY)
    param_names = ("order", "by")

    @once
    def setup(self, order, by):
        rng = np.random.default_rng(0)
        x = 1_700_000_000_000_000_000 + rng.integers(0, 31_536_000_000_000_000, 1 << 22)
        self.call = by_threads(np.sort(x) if order == "sorted" else x, 0, by)

    @named("mean_var of timestamps")
    def time_mean_var(self, order, by):
        self.call()
