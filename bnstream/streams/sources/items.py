"""The items of an iterable: batches, or rows, which are gathered into batches."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from bnstream.core.batches import KEYS
from bnstream.core.dlpack import as_numpy
from bnstream.core.labels import counted
from bnstream.core.optional import needing
from bnstream.streams.sources.arrays.array import is_array
from bnstream.streams.sources.arrays.lazyarrays import is_dataset
from bnstream.streams.sources.errors import SourceError, reading
from bnstream.streams.sources.files import is_path

MOST_ROWS = 4096            # Rows that are gathered into a batch, at most.
MOST_BYTES = 8 << 20        # Bytes of the arrays of such a batch; its last row may exceed them.


class Items:
    """The items of an iterable. The first decides whether all are batches or all are rows.

    A row holds a value of every channel. A mapping of numbers by name is a row, and so is what a database cursor
    yields; a table or an array of several axes is a batch. Where an item may be either, the caller says which.
    """

    def __init__(self, source: Any, options: Mapping[str, Any]) -> None:
        self.name = f"the {type(source).__name__}"
        self.columns = columns_of_cursor(source)        # the names of the values in a row
        if self.columns is not None and options.get("item") == "batch":
            raise SourceError(f"{self.name} yields rows; leave out item='batch'")
        keys = options.get("key", ())
        self.keys: Sequence[Any] = keys if isinstance(keys, list | tuple) else (keys,)
        self.items = enumerate(iterator_of(source))
        first = next(self.items, None)
        if first is None:
            raise SourceError(f"{self.name} is empty; expected at least one array, table or row")
        self.first = self.picked(*first)
        self.are_mappings = is_mapping_of_columns(self.first)
        self.are_rows = self.columns is not None or is_row(self.first, options.get("item"), self.place(0))
        if self.are_rows and self.are_mappings:
            self.columns = list(self.first)

    def place(self, index: int, stop: int | None = None) -> str:
        return f"item {index} of {self.name}" if stop is None else f"items {index} to {stop} of {self.name}"

    def picked(self, index: int, item: Any) -> Any:
        """The part of an item that the caller chose, or all of it."""
        for key in self.keys:
            try:
                item = item[key]
            except (LookupError, TypeError) as error:
                raise SourceError(f"{self.place(index)} is {described(item)}, which has no {key!r}; choose with key= "
                                  "what every item has") from error
        while isinstance(item, list | tuple) and len(item) == 1 and has_axes(item[0]):      # a batch of a TensorDataset
            item = item[0]
        return item

    def all(self) -> Iterator[tuple[int, Any]]:
        yield 0, self.first
        for index, item in self.items:
            yield index, self.picked(index, item)

    def batches(self) -> Iterator[tuple[str, Any]]:
        """Yield each batch, or batches of the rows, with its place."""
        if self.are_rows:
            yield from self.gathered()
            return
        for index, item in self.all():
            yield self.place(index), self.table(index, item) if self.are_mappings else item

    def gathered(self) -> Iterator[tuple[str, Any]]:
        rows: list[Any] = []
        start = n_bytes = 0
        for index, item in self.all():
            with reading(self.place(index)):
                rows.append(self.row(item))
            n_bytes += getattr(rows[-1], "nbytes", 0)
            if len(rows) == MOST_ROWS or n_bytes >= MOST_BYTES:
                yield self.place(start, index + 1), self.gather(start, rows)
                rows, start, n_bytes = [], index + 1, 0
        if rows:
            yield self.place(start, start + len(rows)), self.gather(start, rows)

    def row(self, item: Any) -> Any:
        """The values of a row. An array is copied, because the iterable may reuse its buffer.

        Raises
        ------
        ValueError
            If it has other columns, or another shape, than the first row.
        """
        row: Any = list(item) if isinstance(item, list | tuple) else item
        if self.columns is None:
            row = row if isinstance(row, list) else np.array(as_numpy(row))
            if np.shape(row) != np.shape(self.first):
                raise ValueError(f"it has the shape {np.shape(row)}, but the first row has {np.shape(self.first)}; all "
                                 "rows must have the same shape")
        elif isinstance(row, Mapping):
            if row.keys() != self.first.keys():
                raise ValueError(f"it is {described(row)}, but the first row is {described(self.first)}; all rows must "
                                 "have the same keys")
            row = [row[column] for column in self.columns]
        return row

    def gather(self, start: int, rows: list[Any]) -> Any:
        """Rows as an array with the rows first, or as a table where the columns have names."""
        if self.columns is not None:
            return self.table(start, dict(zip(self.columns, map(list, zip(*rows, strict=True)), strict=True)))
        return np.stack(rows) if isinstance(rows[0], np.ndarray) else rows

    def table(self, index: int, item: Any) -> Any:
        with reading(self.place(index)):
            return table_of(item)


def iterator_of(source: Any) -> Iterator[Any]:
    """Iterate over an iterable, or over what has a length and indices alone, as a map-style data set of PyTorch."""
    if not hasattr(source, "__iter__") and hasattr(source, "__len__") and hasattr(source, "__getitem__"):
        return (source[i] for i in range(len(source)))
    try:
        return iter(source)
    except TypeError:
        raise TypeError("expected a path, an array, a table or an iterable of these, got "
                        f"{type(source).__name__}") from None


def columns_of_cursor(source: Any) -> list[str] | None:
    """The names of the columns of a cursor of a database (PEP 249); None for anything else."""
    if not hasattr(source, "fetchmany") or not hasattr(source, "description"):
        return None
    if source.description is None:
        raise SourceError(f"the {type(source).__name__} has no rows; execute a query first")
    names = [str(column[0]) for column in source.description]
    twice = [name for name in names if names.count(name) > 1]
    if twice:
        raise SourceError(f"the {type(source).__name__} has more than one column {twice[0]!r}; its columns are "
                          f"{', '.join(names)}; give each a name of its own in the query, with AS")
    return names


def is_row(item: Any, chosen: str | None, place: str) -> bool:
    """Whether an item is a row.

    Raises
    ------
    SourceError
        If it may be a row or a batch and the caller did not say which, or holds several arrays.
    """
    if is_path(item):
        raise SourceError(f"{place} is a path, {str(item)!r}; give a list that holds only paths")
    if is_mapping_of_columns(item):
        if chosen is None and any(map(has_axes, item.values())):
            raise SourceError(f"{place} is {described(item)}; choose one of these with key=, or say item='row' or "
                              "item='batch' if they are the columns of a row or of a batch")
        return chosen != "batch"
    if isinstance(item, list | tuple) and any(map(has_axes, item)) and not is_array(item):
        raise SourceError(f"{place} is {described(item)}; choose one of these with key=, as in key=0")
    if not is_array(item) or is_dataset(item):
        return False
    ndim = np.ndim(item)
    if ndim == 1 and chosen is None:
        raise SourceError(f"{place} has one axis, of {counted(len(item), 'value', 'values')}; say item='row' if each "
                          "is of a channel of its own, or item='batch' if all are of one channel")
    return chosen == "row" or ndim == 0


def is_mapping_of_columns(item: Any) -> bool:
    """Whether it is a mapping of anything but the arguments of `Moments.update`."""
    return isinstance(item, Mapping) and not is_dataset(item) and not {*KEYS} & {*item}


def has_axes(value: Any) -> bool:
    """Whether a value is more than one number or text."""
    if isinstance(value, str | bytes) or value is None or np.isscalar(value):
        return False
    return isinstance(value, Mapping | list | tuple) or getattr(value, "ndim", 1) > 0


def described(item: Any) -> str:
    """What an item holds, for a message."""
    kind = type(item).__name__
    if isinstance(item, Mapping):
        return f"a {kind} with the keys {', '.join(map(repr, item))}"
    if isinstance(item, list | tuple):
        return f"a {kind} of {', '.join(type(value).__name__ for value in item[:4])}{', ...' * (len(item) > 4)}"
    return f"a {kind}"


def table_of(columns: Mapping[str, Any]) -> Any:
    """A table of columns: sequences of numbers, or arrays of one axis, or of two for a column of vectors."""
    with needing("reading rows with names", '"bnstream[streams]"'):
        import pyarrow as pa  # type: ignore[import-untyped]

    def column_of(values: Any) -> Any:
        if getattr(values, "ndim", 1) != 2:
            return pa.array(values)
        return pa.FixedSizeListArray.from_arrays(pa.array(np.ravel(values)), values.shape[1])

    return pa.table({str(name): column_of(values) for name, values in columns.items()})
