"""Moments and normalization of Dask arrays on two threads of one process, beside Dask's own mean and variance, and
beside one call of bnstream on the whole array: 256 MiB of float32 in memory, in 64 chunks."""

import bnstream

from .base import Timed, named, once
from .data import array
from .timing import optional

CHUNKS, ROWS, CHANNELS = 64, 1024, 1024


def dask_array():
    """An array, and a Dask array whose chunks are views of it; from_array of Dask would copy it first."""
    da = optional("dask.array")
    if da is None or optional("bnstream.dask") is None:
        raise NotImplementedError("dask is not installed, or this bnstream has no bnstream.dask")
    x = array((CHUNKS * ROWS, CHANNELS), "float32")
    views = {("x", i, 0): x[i * ROWS:(i + 1) * ROWS] for i in range(CHUNKS)}
    return x, da.Array(views, "x", ((ROWS,) * CHUNKS, (CHANNELS,)), dtype=x.dtype)


def in_memory(x, _):
    return lambda: bnstream.mean_var(x, n_threads=2)


def by_bnstream(_, x):
    from bnstream.dask import moments

    return lambda: moments(x).compute(scheduler="threads", num_workers=2)


def by_dask(_, x):
    import dask

    return lambda: dask.compute(x.mean(axis=0), x.var(axis=0), scheduler="threads", num_workers=2)


def normalized(_, x):
    from bnstream.dask import moments, normalize

    y = normalize(x, moments(x))[::ROWS]        # All chunks are computed, and one row of each is kept.
    return lambda: y.compute(scheduler="threads", num_workers=2)


WAYS = {"mean_var of the whole": in_memory, "bnstream.dask.moments": by_bnstream, "dask mean and var": by_dask,
        "bnstream.dask.normalize": normalized}


class Dask(Timed):
    """float32."""

    repeat = (3, 10, 1.0)
    params = (list(WAYS),)
    param_names = ("way",)

    @once
    def setup(self, way):
        self.call = WAYS[way](*dask_array())

    @named("dask, 64 chunks of 4 MiB on 2 threads")
    def time_dask(self, way):
        self.call()
