"""Tables that are read from the first row to the last, in record batches: what those of all kinds share."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from typing import Any, NamedTuple

from bnstream.streams.sources.places.file import File
from bnstream.streams.sources.source import Piece, Source, Wanted
from bnstream.streams.sources.tables.columns import fields_in
from bnstream.streams.sources.tables.embeddings import channel_names
from bnstream.streams.sources.tables.table import TAKES, TableFile, arrow_errors, pieces_of, sliced, table_rows


class Batches(NamedTuple):
    """A table that is read in record batches."""

    schema: Any
    read: Callable[[list[str], int], Iterator[Any]]
    """Returns the record batches of some columns, with about as many rows."""
    look: Callable[[str], Iterator[Any]]
    """Returns arrays of a column, to look at before `read`."""
    files: Sequence[File] = ()
    """The files that are read, where these are known and lie on this machine."""
    marks: Sequence[Any] = ()
    """What a resumed pass compares of all files."""

    def rows(self, wanted: Wanted, n_channels: int, chunk_rows: int | None) -> int:
        """How many rows to read at a time."""
        beside = len(self.schema) if wanted.whole_rows else 0
        return chunk_rows or table_rows(max(beside, n_channels))

    def columns(self, wanted: Wanted, fields: Sequence[str]) -> list[str]:
        """The columns to read."""
        return [*self.schema.names] if wanted.whole_rows else [*fields, *wanted.beside]


class BatchSource(Source):
    """A table in memory, or one that another library reads."""

    takes = TAKES
    extent = None
    batch_axes = None
    rows_first = True
    in_turn = False

    def __init__(self, name: str, batches: Batches, wanted: Wanted) -> None:
        self.name, self.batches, self.wanted = name, batches, wanted
        with arrow_errors(name):
            self.fields = fields_in(name, batches.schema, wanted, batches.look)
        self.names = channel_names(self.fields)
        self.n_channels, self.schema = len(self.names), batches.schema
        self.columns = batches.columns(wanted, [*self.fields])
        self.files = batches.files
        types = [str(batches.schema.field(column).type) for column in self.fields]
        self.mark = [[name, list(self.names), types, list(batches.marks)]]

    def select(self, columns: Sequence[str]) -> None:
        self.columns = list(columns)

    def pieces(self, start: int, chunk_rows: int | None) -> Iterator[Piece]:
        rows = self.batches.rows(self.wanted, self.n_channels, chunk_rows)
        with arrow_errors(self.name):
            yield from pieces_of(sliced(self.batches.read(self.columns, rows), chunk_rows), start)


class BatchFile(TableFile):
    """A file of a format that is read in order."""

    def open(self) -> AbstractContextManager[Batches]:
        """The table in the open file."""
        raise NotImplementedError

    def inspect(self, wanted: Wanted) -> None:
        self.wanted = wanted
        with self.open() as batches:
            self.fields, self.schema = fields_in(self.name, batches.schema, wanted, batches.look), batches.schema
            self.columns = batches.columns(wanted, [*self.fields])

    def select(self, columns: Sequence[str]) -> None:
        self.columns = list(columns)

    def pieces(self, start: int, chunk_rows: int | None) -> Iterator[Piece]:
        with arrow_errors(self.name), self.open() as batches:
            rows = batches.rows(self.wanted, self.n_channels, chunk_rows)
            yield from pieces_of(sliced(batches.read(self.columns, rows), chunk_rows), start)
