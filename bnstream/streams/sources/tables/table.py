"""Tables: what their formats share. Pieces are made of pyarrow record batches."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import pyarrow as pa  # type: ignore[import-untyped]

from bnstream.streams.sources.errors import SourceError, reading
from bnstream.streams.sources.places.file import File
from bnstream.streams.sources.source import FileSource, Piece, Wanted
from bnstream.streams.sources.tables.embeddings import Field, channel_names

COLUMN_ROWS = 1 << 17       # Rows of a column that are read at a time; 1 MiB of float64.
TABLE_VALUES = 1 << 22      # Values of all columns that are read at a time; 32 MiB of float64.
LOOK_ROWS = 1 << 10         # Rows that are read at a time to find the length of lists.

TAKES = frozenset({"exclude", "numeric", "element_axis"})       # The options of reading that all tables take.


class TableFile(FileSource):
    """A file that holds a table."""

    takes = FileSource.takes | TAKES
    batch_axes = None
    rows_first = True

    def __init__(self, file: File, wanted: Wanted) -> None:
        super().__init__(file)
        self.names: tuple[str, ...] = ()
        self.extent: int | None = None
        with reading(self.name), arrow_errors(self.name):
            self.inspect(wanted)
        if self.fields:
            self.names = channel_names(self.fields)
        else:
            self.fields = dict.fromkeys(self.names, Field())
        self.n_channels = len(self.names)

    def inspect(self, wanted: Wanted) -> None:
        """Find the fields with the channels, or the names of columns of numbers, and the extent."""
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
