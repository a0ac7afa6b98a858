"""The moments by group of a piece of a table, and of all pieces."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from bnstream.core.groups.arrangement import joined, parted
from bnstream.core.groups.grouped import GroupedMoments
from bnstream.core.groups.keys import Keys, Missing, keys_of
from bnstream.streams.accumulator import Accumulator, Policy, numbers_of
from bnstream.streams.keys import keys_in
from bnstream.streams.sources import Source


class GroupAccumulator(Accumulator):
    """The moments by group of a table, of each column separately. All columns have the same groups."""

    def __init__(
        self, source: Source, nan_policy: Policy, weights: str | None, exact: bool, track: str | Sequence[str],
        by: Sequence[str], missing_keys: Missing,
    ) -> None:
        super().__init__(source, nan_policy, weights, exact, track)
        self.by, self.missing_keys = by, missing_keys
        self.groups: dict[str, GroupedMoments] = {}     # by column, in the order of arrival

    def new(self) -> Self:
        return type(self)(self.source, self.nan_policy, self.weights, self.exact, self.track, self.by,
                          self.missing_keys)

    def part_of(self, name: str) -> GroupedMoments:
        """The moments of a column."""
        if name not in self.groups:
            self.groups[name] = GroupedMoments(nan_policy=self.nan_policy, missing_keys=self.missing_keys,
                                               key_names=self.by, exact=self.exact, track=self.track)
        return self.groups[name]

    def update(self, values: Any) -> None:
        """Add a record batch. The keys of its rows are found once."""
        self.n_rows += values.num_rows
        if not values.num_rows:
            return
        keys = keys_of(keys_in(values, self.by, self.source), values.num_rows, "the table", self.missing_keys, 1)
        weights = self.weights_of(values)
        for name, column in zip(values.schema.names, values.columns, strict=True):
            if name in self.source.fields:
                self.add_column(name, column, keys, weights)

    def add_column(self, name: str, column: Any, keys: Keys, weights: NDArray[Any] | None) -> None:
        from bnstream.streams.sources.tables.embeddings import is_list

        field = self.source.fields[name]
        if is_list(column.type) and not field.shape:
            raise ValueError(f"the lists of column {name!r} are pooled, but a key is for a row; leave out element_axis "
                             "(--element-axis), or by (--by)")
        x, mask, missing, weights = numbers_of(column, name, field, weights, self.nan_policy, whole=True)
        part = self.part_of(name)
        try:
            part.update(x, keys, weights=weights, where=mask, n_threads=1)
            if self.nan_policy == "propagate" and missing.any():
                part.update(np.full(missing.shape, np.nan), keys, weights=weights, where=missing, n_threads=1)
            elif "missing" in self.track and missing.any():
                part._add_missing(keys, missing, weights)
        except ValueError as error:
            raise ValueError(f"column {name!r}: {error}") from error

    def merge(self, other: Accumulator) -> None:
        assert isinstance(other, GroupAccumulator)
        for name, part in other.groups.items():
            self.part_of(name).merge(part)

    def result(self) -> Any:
        parts = [self.part_of(name) for name in self.source.fields]
        return joined(parts, self.source.names)

    def restore(self, moments: Any) -> None:
        """Continue from the result of another pass."""
        fields = self.source.fields
        self.groups = dict(zip(fields, parted(moments, [field.shape for field in fields.values()]), strict=True))
