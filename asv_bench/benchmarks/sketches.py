"""Quantiles by sketches, beside mean and variance of the same columns, and NumPy's exact quantiles."""

from functools import partial

import numpy as np

import bnstream

from .base import Timed, named, once
from .data import array, need


def by_sketch(x):
    try:
        import datasketches  # noqa: F401

        from bnstream.sketches import Quantiles
    except ImportError as error:
        raise NotImplementedError("this bnstream has no sketches, or datasketches is not installed") from error
    return lambda: Quantiles(x.shape[1]).update(x)


def by_moments(x):
    need("Moments")
    return lambda: bnstream.Moments().update(x)


def by_numpy(x):
    return partial(np.quantile, x, [0.25, 0.5, 0.75], axis=0)


WAYS = {"Quantiles": by_sketch, "Moments": by_moments, "NumPy": by_numpy}


class Columns(Timed):
    """All in one call."""

    params = ([(1_000_000, 1), (100_000, 8), (4096, 64)], ["float32", "float64"], list(WAYS))
    param_names = ("shape", "dtype", "way")

    @once
    def setup(self, shape, dtype, way):
        self.call = WAYS[way](array(shape, dtype))

    @named("quantiles of columns")
    def time_update(self, shape, dtype, way):
        self.call()
