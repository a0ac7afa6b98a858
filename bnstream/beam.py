"""Moments in Apache Beam pipelines. They need the extra ``beam``."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal, SupportsIndex

from numpy.typing import ArrayLike

from bnstream.core.batches import batch_of
from bnstream.core.moments import Moments
from bnstream.core.optional import needing

with needing("bnstream.beam", '"bnstream[beam]"'):
    from apache_beam import CombineFn  # type: ignore[import-not-found,unused-ignore]

__all__ = ["MomentsFn"]


class MomentsFn(CombineFn):
    """Combine all elements into a `Moments`, for ``beam.CombineGlobally`` and ``beam.CombinePerKey``.

    Parameters
    ----------
    axis : int, tuple of int or None, default 0
        The batch axes of every element. An element is a batch, as for `Moments.update`; with ``axis=()`` it is a
        single row. With weights or a mask an element is ``{"batch": x, "weights": weights, "where": mask}``, a mapping
        of the arguments of `Moments.update`.
    nan_policy : {"raise", "omit", "propagate"}, default "raise"
        How to treat NaN and inf, as for `Moments`.
    names : sequence of str, optional
        Names of the channels.
    exact : bool, default False
        Combine exact statistics, as ``Moments(exact=True)`` keeps them: the same state and `digest` in every run.
        Weights are whole numbers then, and count rows.

    track : str or sequence of str, optional
        What to find beside count, mean and variance, as for `Moments`.

    See Also
    --------
    Moments : the result, and the accumulators.

    Notes
    -----
    A batch takes hardly longer than a row: read the data in batches, or let ``beam.BatchElements`` make batches of rows
    or numbers. Beam merges in any order, so the last bits may differ between runs, within the bound of `Moments`; those
    of exact statistics do not. Without elements the result is an empty `Moments`.

    Examples
    --------
    >>> from bnstream.beam import MomentsFn
    >>> fn = MomentsFn()
    >>> parts = [fn.add_input(fn.create_accumulator(), batch) for batch in ([[1.0], [2.0]], [[6.0]])]
    >>> fn.extract_output(fn.merge_accumulators(parts)).mean.tolist()
    [3.0]
    >>> fn.add_input(fn.create_accumulator(), {"batch": [[1.0], [3.0]], "weights": [3, 1]}).mean.tolist()
    [1.5]
    """

    def __init__(
        self,
        axis: SupportsIndex | Sequence[SupportsIndex] | None = 0,
        *,
        nan_policy: Literal["raise", "omit", "propagate"] = "raise",
        names: Iterable[str] | None = None,
        exact: bool = False,
        track: str | Sequence[str] = (),
    ) -> None:
        # This raises here rather than in a worker.
        self.empty = Moments(axis, nan_policy=nan_policy, names=names, exact=exact, track=track)

    def create_accumulator(self) -> Moments:
        return self.empty.copy()

    def add_input(self, accumulator: Moments, element: ArrayLike | Mapping[str, Any]) -> Moments:
        batch, positions = batch_of(element)
        return accumulator.update(batch, **positions, n_threads=1)      # Beam runs the workers in parallel

    def merge_accumulators(self, accumulators: Iterable[Moments]) -> Moments:
        total = self.create_accumulator()
        for accumulator in accumulators:
            total.merge(accumulator)
        return total

    def extract_output(self, accumulator: Moments) -> Moments:
        return accumulator
