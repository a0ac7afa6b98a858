"""Tables: what their formats share. Pieces are made of pyarrow record batches."""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Any

import pyarrow as pa  # type: ignore[import-untyped]

from bnstream.streams.sources.errors import SourceError, reading
from bnstream.streams.sources.places.file import File
from bnstream.streams.sources.source import FileSource, Piece, Source, Wanted
from bnstream.streams.sources.tables.embeddings import Field, channel_names

COLUMN_ROWS = 1 << 17       # Rows of a column that are read at a time; 1 MiB of float64.
TABLE_VALUES = 1 << 22      # Values of all columns that are read at a time; 32 MiB of float64.
LOOK_ROWS = 1 << 10         # Rows that are read at a time to find the length of lists.


class Table(Source):
    """A source of record batches."""

    takes = frozenset({"exclude", "numeric", "element_axis"})
    batch_axes = None

    def hold(self, fields: Mapping[str, Field]) -> None:
        """Have the channels that these columns hold."""
        self.fields, self.names = fields, channel_names(fields)
        self.n_channels = len(self.names)


class TableFile(Table, FileSource):
    """A file that holds a table."""

    takes = FileSource.takes | Table.takes

    def __init__(self, file: File, wanted: Wanted) -> None:
        super().__init__(file)
        with reading(self.name), arrow_errors(self.name):
            self.hold(self.inspect(wanted))
        if self.schema is not None:
            self.columns_there = self.schema.names

    def inspect(self, wanted: Wanted) -> Mapping[str, Field]:
        """Find out how the table is read; return the columns that hold the channels."""
        raise NotImplementedError


@contextmanager
def arrow_errors(name: str) -> Iterator[None]:
    """Raise errors of pyarrow as SourceError, with the name of what was read."""
    try:
        yield
    except pa.ArrowException as error:
        raise SourceError(f"{name} cannot be read: {error}") from error


def table_rows(n_columns: int) -> int:
    """Number of rows to read at a time where all columns are read together."""
    return max(1 << 7, min(1 << 12, TABLE_VALUES // max(1, n_columns)), 4 * COLUMN_ROWS // max(1, n_columns))


def sliced(batches: Iterable[Any], chunk_rows: int | None) -> Iterator[Any]:
    """Slice record batches to at most `chunk_rows` rows, without a copy."""
    for batch in batches:
        rows = chunk_rows or max(1, batch.num_rows)
        for first in range(0, batch.num_rows, rows):
            yield batch.slice(first, rows)


def pieces_of(batches: Iterable[Any], start: int) -> Iterator[Piece]:
    """Record batches as pieces, without the first `start` rows."""
    first = 0
    for batch in batches:
        stop = first + batch.num_rows
        if stop > start:
            first = max(first, start)
            batch = batch.slice(batch.num_rows - (stop - first))
            yield Piece(partial(list, [batch]), batch.num_rows, stop, f"rows {first:,} to {stop:,}")
        first = stop
