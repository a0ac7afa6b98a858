"""What the benchmarks run on."""

import numpy as np

import bnstream


def need(*names):
    """Skip a benchmark on a commit that has not got these public names yet; for use in setup."""
    for name in names:
        if not hasattr(bnstream, name):
            raise NotImplementedError(f"this bnstream has no {name}")


def set_num_threads(n):
    """For the layers, which have no argument for it. It holds for the process, which has one set of parameters."""
    need("set_num_threads")
    bnstream.set_num_threads(n)


def array(shape, dtype, seed=0):
    """Numbers of a dtype, every page touched."""
    rng = np.random.default_rng(seed)
    dtype = np.dtype(dtype)
    if dtype.kind in "iu":
        info = np.iinfo(dtype)
        return rng.integers(info.min, info.max, shape, dtype=dtype, endpoint=True)
    return rng.standard_normal(shape, dtype=dtype) if dtype.itemsize >= 4 else rng.standard_normal(shape).astype(dtype)
