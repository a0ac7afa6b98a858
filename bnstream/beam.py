"""Moments in pipelines of Apache Beam. They need the extra ``beam``."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Literal, SupportsIndex

from numpy.typing import ArrayLike

from bnstream.core.moments import Moments

try:
    from apache_beam import CombineFn  # type: ignore[import-not-found,unused-ignore]
except ModuleNotFoundError as error:
    raise ModuleNotFoundError(
        'MomentsFn needs apache_beam, which is not installed; install it with: pip install "bnstream[beam]"',
        name=error.name,
    ) from error

__all__ = ["MomentsFn"]


class MomentsFn(CombineFn):
    """The moments of all elements, for ``beam.CombineGlobally`` and ``beam.CombinePerKey``: a `Moments`.

    Parameters
    ----------
    axis : int, tuple of int or None, default 0
        The batch axes of every element, which is a batch, as `Moments.update` takes it. With ``axis=()`` every element
        is a row.
    nan_policy : {"raise", "omit", "propagate"}, default "raise"
        What to do about NaN and inf, as for `Moments`.
    names : sequence of str, optional
        Names of the channels.

    See Also
    --------
    Moments : what comes out, and what the accumulators are.

    Notes
    -----
    A batch costs hardly more than a row: read the data in batches, or let ``beam.BatchElements`` make them of rows or
    numbers. Beam merges in any order, so the last bits may differ from run to run, within the bound of `Moments`. No
    elements give an empty one.

    Examples
    --------
    >>> from bnstream.beam import MomentsFn
    >>> fn = MomentsFn()
    >>> parts = [fn.add_input(fn.create_accumulator(), batch) for batch in ([[1.0], [2.0]], [[6.0]])]
    >>> fn.extract_output(fn.merge_accumulators(parts)).mean.tolist()
    [3.0]
    """

    def __init__(
        self,
        axis: SupportsIndex | Sequence[SupportsIndex] | None = 0,
        *,
        nan_policy: Literal["raise", "omit", "propagate"] = "raise",
        names: Iterable[str] | None = None,
    ) -> None:
        self.empty = Moments(axis, nan_policy=nan_policy, names=names)  # what is wrong is refused here, by no worker

    def create_accumulator(self) -> Moments:
        return self.empty.copy()

    def add_input(self, accumulator: Moments, batch: ArrayLike) -> Moments:
        return accumulator.update(batch, n_threads=1)       # the workers are the threads

    def merge_accumulators(self, accumulators: Iterable[Moments]) -> Moments:
        total = self.create_accumulator()
        for accumulator in accumulators:
            total.merge(accumulator)
        return total

    def extract_output(self, accumulator: Moments) -> Moments:
        return accumulator
