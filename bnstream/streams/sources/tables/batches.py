"""Tables that are read from the first row to the last, in record batches: what those of all kinds share."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, NamedTuple

from bnstream.streams.sources.places.file import File
from bnstream.streams.sources.source import Piece, Wanted
from bnstream.streams.sources.tables.columns import fields_in
from bnstream.streams.sources.tables.embeddings import Field
from bnstream.streams.sources.tables.table import (
    LOOK_ROWS,
    Table,
    TableFile,
    arrow_errors,
    pieces_of,
    sliced,
    table_rows,
)


class Batches(NamedTuple):
    """A table that is read in record batches."""

    schema: Any
    read: Callable[[list[str], int], Iterator[Any]]
    """Returns the record batches of some columns, with about as many rows."""
    look: Callable[[str], Iterator[Any]] | None = None
    """Returns arrays of a column, to look at before the rest is read; by default, `read` does."""
    files: Sequence[File] = ()
    """The files that are read, where these are known and lie on this machine."""
    marks: Sequence[Any] = ()
    """What a resumed pass compares of all files."""

    def arrays(self, column: str) -> Iterator[Any]:
        """Arrays of a column, to look at."""
        if self.look is not None:
            return self.look(column)
        return (batch.column(0) for batch in self.read([column], LOOK_ROWS))


class BatchTable(Table):
    """A table that is read in record batches, from its first row to its last."""

    columns: list[str]
    """The columns to read."""

    def open(self) -> AbstractContextManager[Batches]:
        """The table, ready to be read."""
        raise NotImplementedError

    def inspect(self, wanted: Wanted) -> Mapping[str, Field]:
        self.wanted = wanted
        with self.open() as batches:
            self.schema = batches.schema
            fields = fields_in(self.name, self.schema, wanted, batches.arrays)
        self.columns = list(self.schema.names) if wanted.whole_rows else [*fields, *wanted.beside]
        return fields

    def select(self, columns: Sequence[str]) -> None:
        self.columns = list(columns)

    def pieces(self, start: int, chunk_rows: int | None) -> Iterator[Piece]:
        in_row = max(self.n_channels, len(self.schema) if self.wanted.whole_rows else 0)
        with arrow_errors(self.name), self.open() as batches:
            read = batches.read(self.columns, chunk_rows or table_rows(in_row))
            yield from pieces_of(sliced(read, chunk_rows), start)


class BatchSource(BatchTable):
    """A table in memory, or one that another library reads."""

    def __init__(self, name: str, batches: Batches, wanted: Wanted) -> None:
        self.name, self.batches, self.files = name, batches, batches.files
        with arrow_errors(name):
            self.hold(self.inspect(wanted))
        types = [str(self.schema.field(column).type) for column in self.fields]
        self.mark = [[name, list(self.names or ()), types, list(batches.marks)]]

    def open(self) -> AbstractContextManager[Batches]:
        return nullcontext(self.batches)


class BatchFile(BatchTable, TableFile):
    """A file of a format that is read in order."""
