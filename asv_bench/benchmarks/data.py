"""The data of the benchmarks, and the check for names that an old commit lacks."""

import numpy as np

import bnstream


def need(*names):
    """Skip the benchmark, in its setup, on a commit that lacks one of these public names."""
    for name in names:
        if not hasattr(bnstream, name):
            raise NotImplementedError(f"this bnstream has no {name}")


def set_num_threads(n):
    """Set the threads of the layers, for the whole process; asv has one process per set of parameters."""
    need("set_num_threads")
    bnstream.set_num_threads(n)


def array(shape, dtype, seed=0):
    """Random numbers of a dtype. Every page of the array has been touched."""
    rng = np.random.default_rng(seed)
    dtype = np.dtype(dtype)
    if dtype.kind in "iu":
        info = np.iinfo(dtype)
        return rng.integers(info.min, info.max, shape, dtype=dtype, endpoint=True)
    return rng.standard_normal(shape, dtype=dtype) if dtype.itemsize >= 4 else rng.standard_normal(shape).astype(dtype)
