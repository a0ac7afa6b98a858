"""mean_var of arrays larger than the caches, by shape, dtype, layout and threads; NumPy's mean and var beside it."""

import numpy as np

import bnstream

from .data import array, need

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


class Shapes:
    params = (list(AXES), DTYPES, [1, 2])
    param_names = ("shape", "dtype", "n_threads")

    def setup(self, shape, dtype, n_threads):
        need("mean_var")
        self.x = array(shape, dtype)

    def time_mean_var(self, shape, dtype, n_threads):
        bnstream.mean_var(self.x, AXES[shape], n_threads=n_threads)


class ShapesNumPy:
    params = (list(AXES), DTYPES)
    param_names = ("shape", "dtype")

    def setup(self, shape, dtype):
        self.x = array(shape, dtype)

    def time_mean_and_var(self, shape, dtype):
        self.x.mean(AXES[shape])
        self.x.var(AXES[shape])


class Layouts:
    params = (list(LAYOUTS), [1, 2])
    param_names = ("layout", "n_threads")

    def setup(self, layout, n_threads):
        need("mean_var")
        self.x = LAYOUTS[layout]()

    def time_mean_var(self, layout, n_threads):
        bnstream.mean_var(self.x, n_threads=n_threads)


class LayoutsNumPy:
    params = (list(LAYOUTS),)
    param_names = ("layout",)

    def setup(self, layout):
        self.x = LAYOUTS[layout]()

    def time_mean_and_var(self, layout):
        self.x.mean(0)
        self.x.var(0)
