"""Moments of the data of all MPI ranks, with mpi4py. They need the extra ``mpi``.

`MERGE` is an operation for the lower-case methods of communicators, which take Python objects:
``comm.allreduce(m, op=MERGE)``, ``reduce``, ``scan``, ``exscan``. It merges `Moments`, or `RunningMeanStd`, into a new
object and leaves those of the ranks unchanged. The merges follow the order of the ranks, in a tree that depends only on
their number: the bits are the same in every run, and ``allreduce`` gives the same bits on every rank.

>>> import numpy as np
>>> from mpi4py import MPI
>>> from bnstream import Moments
>>> from bnstream.mpi import MERGE
>>> m = Moments().update(np.array([[1.0], [3.0]]))
>>> MPI.COMM_SELF.allreduce(m, op=MERGE).mean.tolist()
[2.0]
"""

from __future__ import annotations

from bnstream.core.moments import Moments
from bnstream.core.optional import needing
from bnstream.core.runningmeanstd import RunningMeanStd

with needing("bnstream.mpi", '"bnstream[mpi]"'):
    from mpi4py import MPI  # type: ignore[import-not-found,unused-ignore]

__all__ = ["MERGE"]


def merge(a: object, b: object, datatype: object = None) -> Moments | RunningMeanStd:
    if isinstance(a, Moments) and isinstance(b, Moments):
        return a + b
    if isinstance(a, RunningMeanStd) and isinstance(b, RunningMeanStd):
        return a + b
    raise TypeError("MERGE takes a Moments from every rank, or a RunningMeanStd from every rank, got "
                    f"{type(a).__name__} and {type(b).__name__}")


# Not commutative: a + b and b + a may differ in the last bits.
MERGE = MPI.Op.Create(merge, commute=False)  # type: ignore[arg-type,unused-ignore]
