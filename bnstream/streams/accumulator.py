"""The moments of the pieces of a source, and of all of them."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from bnstream.core.batches import batch_of
from bnstream.core.blocks import one_by_one, side_by_side
from bnstream.core.moments import Moments
from bnstream.streams.sources import Piece, Source
from bnstream.streams.sources.errors import reading

Policy = Literal["raise", "omit", "propagate"]


class Accumulator:
    """The moments of arrays, or of each column of a table by itself: columns are separate in memory."""

    def __init__(self, source: Source, nan_policy: Policy, weights: str | None, exact: bool) -> None:
        Moments(nan_policy=nan_policy)      # refuses an unknown policy before anything is read
        self.source, self.nan_policy, self.weights, self.exact = source, nan_policy, weights, exact
        self.parts: dict[str, Moments] = {}     # by column, in the order of arrival; one part for arrays
        self.n_rows = 0         # of a piece

    def part(self, name: str) -> Moments:
        """The moments of a column, or of arrays."""
        if name not in self.parts:
            axes, names = (0, None) if self.source.batch_axes is None else (self.source.batch_axes, self.source.names)
            self.parts[name] = Moments(axes, nan_policy=self.nan_policy, names=names, exact=self.exact)
        return self.parts[name]

    def of_piece(self, source: Source, piece: Piece) -> Accumulator:
        """The moments of one piece alone."""
        part = Accumulator(self.source, self.nan_policy, self.weights, self.exact)
        with reading(f"{source.name}, {piece.place}"):
            for values in piece.load():
                part.update(values)
        part.n_rows = part.n_rows if piece.n_rows is None else piece.n_rows
        return part

    def update(self, values: Any) -> None:
        """Add what a piece loads. The kernel runs on one thread, as the threads work on pieces."""
        if self.source.batch_axes is not None:
            batch, positions = batch_of(values)
            self.part("").update(batch, **positions, n_threads=1)
            return
        from bnstream.streams.sources.columns import weights_in

        self.n_rows += values.num_rows
        weights = None
        if self.weights is not None:
            omit = self.nan_policy == "omit"
            weights = weights_in(values.column(self.weights), self.weights, omit=omit, exact=self.exact)
        for name, column in zip(values.schema.names, values.columns, strict=True):
            if name != self.weights:
                self.update_column(name, column, weights)

    def update_column(self, name: str, column: Any, weights: NDArray[Any] | None) -> None:
        """Add a column of a record batch. Missing values in rows of weight 0 do not matter."""
        from bnstream.streams.sources.columns import filled, present

        positions: dict[str, Any] = {}
        if weights is None:
            x, n_missing = present(column, name)
            of_missing = None
        else:
            x, mask = filled(column, name)
            positions = {"weights": weights, "where": mask}
            of_missing = weights[:0] if mask is None else weights[~mask & (weights > 0)]
            n_missing = len(of_missing)
        if n_missing and self.nan_policy == "raise":
            raise ValueError(f"column {name!r} has {n_missing:,} missing values; omit missing values with "
                             "nan_policy='omit' (--nan omit), or select other columns")
        try:
            self.part(name).update(x, **positions, n_threads=1)
            if n_missing and self.nan_policy == "propagate":
                self.part(name).update(np.full(n_missing, np.nan), weights=of_missing, n_threads=1)
        except ValueError as error:
            raise ValueError(f"column {name!r}: {error}") from error

    def merge(self, other: Accumulator) -> None:
        for name, part in other.parts.items():
            self.part(name).merge(part)

    def result(self) -> Moments:
        if self.source.batch_axes is not None:
            return self.part("").copy()
        names = self.source.names or ()
        nothing = Moments(nan_policy=self.nan_policy, exact=self.exact)
        nothing.update(np.zeros(1), where=np.zeros(1, np.bool_))
        parts = [nothing if (part := self.parts.get(name)) is None or part.shape is None else part for name in names]
        return side_by_side(parts, [len(parts)], names)

    def restore(self, moments: Moments) -> None:
        """Continue from the result of another pass."""
        if self.source.batch_axes is not None:
            self.parts = {"": moments.copy()}
        elif moments.shape is not None:
            self.parts = dict(zip(self.source.names or (), one_by_one(moments), strict=True))
