"""Moments of the data of all MPI ranks, with mpi4py. They need the extra ``mpi``.

`MERGE` is an operation for the lower-case methods of communicators, which take Python objects:
``comm.allreduce(m, op=MERGE)``, ``reduce``, ``scan``, ``exscan``. It merges `Moments`, or `RunningMeanStd`, into a new
object and leaves those of the ranks unchanged. The merges follow the order of the ranks, in a tree that depends only on
their number: the bits are the same in every run, and ``allreduce`` gives the same bits on every rank.

`MERGE_EXACT` takes exact `Moments` alone. It is commutative: whatever the order, the tree and the distribution of the
data over ranks, equal data gives the same state and `digest`.

An error in one merge would leave the other ranks waiting. Where states do not merge, as exact ones with others, the
result is a `Refused`, and whatever is asked of it raises the error: on every rank that has the result.

>>> import numpy as np
>>> from mpi4py import MPI
>>> from bnstream import Moments
>>> from bnstream.mpi import MERGE, MERGE_EXACT
>>> m = Moments().update(np.array([[1.0], [3.0]]))
>>> MPI.COMM_SELF.allreduce(m, op=MERGE).mean.tolist()
[2.0]
>>> a, b = (Moments(exact=True).update(np.array([[x]])) for x in (0.1, 0.2))
>>> MERGE_EXACT(a, b) == MERGE_EXACT(b, a)
True
>>> MERGE(a, m)
Refused: expected exact statistics as here, got plain ones; make both with exact=True, or neither
"""

from __future__ import annotations

from typing import Any, NoReturn

from bnstream.core.moments import Moments
from bnstream.core.optional import needing
from bnstream.core.runningmeanstd import RunningMeanStd

with needing("bnstream.mpi", '"bnstream[mpi]"'):
    from mpi4py import MPI  # type: ignore[import-not-found,unused-ignore]

__all__ = ["MERGE", "MERGE_EXACT", "Refused"]


class Refused:
    """The result of a reduction whose states do not merge. Access to any attribute of a state raises the error.

    Parameters
    ----------
    error : Exception
        What the merge raised.
    """

    def __init__(self, error: Exception) -> None:
        self.error = error

    def __getattr__(self, name: str) -> NoReturn:
        if name.startswith("_"):        # Python and notebooks ask for these.
            raise AttributeError(name)
        raise self.error

    def __reduce__(self) -> tuple[Any, ...]:
        return Refused, (self.error,)

    def __repr__(self) -> str:
        return f"Refused: {self.error}"


def merge(a: Any, b: Any, datatype: object = None) -> Any:
    """The merge of two states of one kind, or a `Refused`."""
    if datatype is not None:        # MPI calls this with buffers, which nothing would be written to.
        raise TypeError("MERGE and MERGE_EXACT merge objects, got buffers; use the methods in lower case, as allreduce")
    for part in (a, b):
        if isinstance(part, Refused):
            return part
    try:
        if isinstance(a, Moments) and isinstance(b, Moments):
            return a + b
        if isinstance(a, RunningMeanStd) and isinstance(b, RunningMeanStd):
            return a + b
        raise TypeError("MERGE takes a Moments from every rank, or a RunningMeanStd from every rank, got "
                        f"{type(a).__name__} and {type(b).__name__}")
    except (TypeError, ValueError, OverflowError) as error:
        return Refused(error)


def merge_exact(a: Any, b: Any, datatype: object = None) -> Any:
    """The same for exact statistics alone, of one policy: a + b would have that of a."""
    if isinstance(a, Moments) and isinstance(b, Moments) and a.nan_policy != b.nan_policy:
        return Refused(ValueError("MERGE_EXACT takes statistics of one nan_policy from every rank, got "
                                  f"{' and '.join(sorted({a.nan_policy, b.nan_policy}))}"))
    total = merge(a, b, datatype)
    for part in (a, b, total):      # The first error is kept.
        if isinstance(part, Refused):
            return part
        if not (isinstance(part, Moments) and part.exact):
            got = "plain statistics" if isinstance(part, Moments) else f"a {type(part).__name__}"
            return Refused(TypeError(f"MERGE_EXACT takes exact statistics from every rank, got {got}; make them with "
                                     "Moments(exact=True)"))
    return total


# Not commutative: a + b and b + a may differ in the last bits.
MERGE = MPI.Op.Create(merge, commute=False)  # type: ignore[arg-type,unused-ignore]
MERGE_EXACT = MPI.Op.Create(merge_exact, commute=True)  # type: ignore[arg-type,unused-ignore]
