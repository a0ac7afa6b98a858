"""Peak memory of a process that reduces an array of 16 Mi elements; that of one that only holds it is the floor."""

import numpy as np

import bnstream

from .data import array, need


def mean_var(x):
    bnstream.mean_var(x)


def update(x):
    bnstream.Moments().update(x)


def numpy(x):
    x.mean(0)
    x.var(0)


WAYS = {"array alone": id, "mean_var": mean_var, "Moments.update": update, "numpy": numpy}
NEEDS = {"mean_var": ["mean_var"], "Moments.update": ["Moments"]}


class Peak:
    params = (["float32", "uint8", "float16"], ["C", "F"], list(WAYS))
    param_names = ("dtype", "order", "way")

    def setup(self, dtype, order, way):
        need(*NEEDS.get(way, ()))
        self.x = np.empty((65536, 256), dtype)
        for rows in np.split(self.x, 64):       # all at once, the temporaries of setup would be the peak
            rows[:] = array(rows.shape, dtype)
        if order == "F":
            self.x = self.x.reshape(256, 65536).T

    def peakmem_mean_and_var(self, dtype, order, way):
        WAYS[way](self.x)
