"""The moments of the pieces of a source, and of all of them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Literal, Self

import numpy as np
from numpy.typing import NDArray

from bnstream.core.batches import batch_of
from bnstream.core.blocks import apart, empty_of_shape, side_by_side
from bnstream.core.columnwise import left_out
from bnstream.core.moments import Moments, add_missing
from bnstream.streams.sources import Piece, Source
from bnstream.streams.sources.errors import reading

Policy = Literal["raise", "omit", "propagate"]


class Accumulator:
    """The moments of arrays, or of each column of a table by itself: columns are separate in memory."""

    def __init__(
        self, source: Source, nan_policy: Policy, weights: str | None, exact: bool, track: str | Sequence[str] = ()
    ) -> None:
        # What is wrong is refused before anything is read.
        self.track = Moments(nan_policy=nan_policy, exact=exact, track=track).track
        self.source, self.nan_policy, self.weights, self.exact = source, nan_policy, weights, exact
        self.parts: dict[str, Moments] = {}     # by column, in the order of arrival; one part for arrays
        self.n_rows = 0         # of a piece

    def new(self) -> Self:
        """An empty accumulator with the same settings."""
        return type(self)(self.source, self.nan_policy, self.weights, self.exact, self.track)

    def part(self, name: str) -> Moments:
        """The moments of a column, or of arrays."""
        if name not in self.parts:
            axes, names = (0, None) if self.source.is_table else (self.source.batch_axes, self.source.names)
            self.parts[name] = self.moments(axes, names)
        return self.parts[name]

    def moments(self, axes: Any, names: Any = None) -> Moments:
        """Moments of nothing yet."""
        return Moments(axes, nan_policy=self.nan_policy, names=names, exact=self.exact, track=self.track)

    def of_piece(self, source: Source, piece: Piece) -> Self:
        """The moments of one piece alone."""
        part = self.new()
        try:
            with reading(f"{source.name}, {piece.place}"):
                for values in piece.load():
                    part.update(values)
        except ValueError:
            if piece.parts is None:
                raise
            return self.of_parts(piece.parts())     # which can be read, or name the one at fault
        part.n_rows = part.n_rows if piece.n_rows is None else piece.n_rows
        return part

    def of_parts(self, parts: Iterable[tuple[Source, Piece]]) -> Self:
        """The moments of several pieces together."""
        total = self.new()
        for source, piece in parts:
            part = self.of_piece(source, piece)
            with reading(source.name):
                total.merge(part)
            total.n_rows += part.n_rows
        return total

    def update(self, values: Any) -> None:
        """Add what a piece loads. The kernel runs on one thread, as the threads work on pieces."""
        if not self.source.is_table:
            batch, positions = batch_of(values)
            self.part("").update(batch, **positions, n_threads=1)
            return
        self.n_rows += values.num_rows
        weights = self.weights_of(values)
        for name, column in zip(values.schema.names, values.columns, strict=True):
            if name != self.weights:
                self.update_column(name, column, weights)

    def weights_of(self, batch: Any) -> NDArray[Any] | None:
        """The weights of the rows of a record batch; None if all count the same."""
        from bnstream.streams.sources.tables.columns import weights_in

        if self.weights is None:
            return None
        return weights_in(batch.column(self.weights), self.weights, omit=self.nan_policy == "omit", exact=self.exact)

    def update_column(self, name: str, column: Any, weights: NDArray[Any] | None) -> None:
        """Add a column of a record batch."""
        x, mask, missing, weights = numbers_of(column, name, self.source.fields.get(name), weights, self.nan_policy)
        try:
            part = self.part(name)
            part.update(x, weights=weights, where=mask, n_threads=1)
            if missing.any() and self.nan_policy == "propagate":
                part.update(np.full(missing.shape, np.nan), weights=weights, where=missing, n_threads=1)
            elif missing.any() and "missing" in self.track:
                if part.shape is None:
                    part.merge(self.without_values(name))
                add_missing(part, left_out(missing, weights, self.exact))
        except ValueError as error:
            raise ValueError(f"column {name!r}: {error}") from error

    def without_values(self, name: str) -> Moments:
        """The moments of a column of which no value is there."""
        return empty_of_shape(self.source.fields[name].shape, self.moments(0))

    def merge(self, other: Accumulator) -> None:
        for name, part in other.parts.items():
            self.part(name).merge(part)

    def result(self) -> Moments:
        if not self.source.is_table:
            return self.part("").copy()
        parts = []
        for name in self.source.fields:
            part = self.parts.get(name)
            if part is None or part.shape is None:
                part = self.without_values(name)
            parts.append(part)
        return side_by_side(parts, [len(parts)], self.source.names)

    def restore(self, moments: Any) -> None:
        """Continue from the result of another pass."""
        if not self.source.is_table:
            self.parts = {"": moments.copy()}
        elif moments.shape is not None:
            fields = self.source.fields
            self.parts = dict(zip(fields, apart(moments, [field.shape for field in fields.values()]), strict=True))


def numbers_of(
    column: Any, name: str, field: Any, weights: NDArray[Any] | None, nan_policy: Policy, *, whole: bool = False
) -> tuple[NDArray[Any], NDArray[np.bool_] | None, NDArray[np.bool_], NDArray[Any] | None]:
    """The numbers in a column of a record batch.

    Missing values in rows of weight 0 do not matter.

    Parameters
    ----------
    field : Field
        What the column holds, which matters for lists.
    whole : bool
        Whether x must have all rows. Otherwise missing values may be left out of it.

    Returns
    -------
    x : ndarray
    mask : ndarray of bool or None
        Marks the values of x that are present; None if all are.
    missing : ndarray of bool
        Marks the missing values that matter, in the shape of the mask; without a mask, one element for each of them.
    weights : ndarray or None
        The weights of the rows of x.

    Raises
    ------
    ValueError
        If a missing value matters under the policy "raise".
    """
    from bnstream.streams.sources.tables.columns import filled, in_lists, present
    from bnstream.streams.sources.tables.embeddings import is_list

    mask: NDArray[np.bool_] | None = None
    n_missing = 0
    if is_list(column.type):
        x, mask, weights = in_lists(column, name, field, weights)
    elif weights is None and not whole:
        x, n_missing = present(column, name)
    else:
        x, mask = filled(column, name)
    missing = np.ones(n_missing, np.bool_)
    if mask is not None:
        missing = ~mask if weights is None else ~mask & (weights > 0).reshape(-1, *(1,) * (mask.ndim - 1))
        n_missing = int(np.count_nonzero(missing))
    if n_missing and nan_policy == "raise":
        raise ValueError(f"column {name!r} has {n_missing:,} missing values; omit missing values with "
                         "nan_policy='omit' (--nan omit), or select other columns")
    return x, mask, missing, weights
