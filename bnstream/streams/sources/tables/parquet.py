"""Parquet files."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import partial
from itertools import chain, product
from typing import Any

import pyarrow as pa  # type: ignore[import-untyped]
from pyarrow import parquet, types

from bnstream.streams.sources.errors import SourceError
from bnstream.streams.sources.places.file import File
from bnstream.streams.sources.source import Piece, UnlikeError, Wanted
from bnstream.streams.sources.tables.columns import fields_in
from bnstream.streams.sources.tables.embeddings import Field
from bnstream.streams.sources.tables.table import (
    COLUMN_ROWS,
    LOOK_ROWS,
    TableFile,
    arrow_errors,
    pieces_of,
    sliced,
    table_rows,
)

SPAN_ROWS = 1 << 20         # Rows of the row groups that are read together; a pass can resume between such spans.
PIECE_VALUES = 1 << 20      # Values in the columns that are read together.
BUFFER_BYTES = 1 << 20      # Bytes of a stored column that are buffered in memory.


class ParquetFile(TableFile):
    """A Parquet file, of which only the selected columns are read.

    A piece is one column of a span of row groups, so that no column waits for another and little is held in memory, or
    as many columns of a short span as hold about `PIECE_VALUES`. The weights and the keys are read beside each.
    """

    def inspect(self, wanted: Wanted) -> Mapping[str, Field]:
        self.waits = self.file.remote
        with parquet.ParquetFile(self.file.for_library(), page_checksum_verification=True) as file:
            def look(column: str) -> Iterator[Any]:
                return (batch.column(0) for batch in file.iter_batches(LOOK_ROWS, columns=[column], use_threads=False))

            fields = fields_in(self.name, file.schema_arrow, wanted, look)
            self.metadata, self.extent, self.schema = file.metadata, file.metadata.num_rows, file.schema_arrow
        self.columns: list[str] | None = None
        self.whole_rows, self.beside, self.by = wanted.whole_rows, wanted.beside, list(wanted.by)
        return fields

    def select(self, columns: Sequence[str]) -> None:
        self.columns = None if len(columns) == len(self.schema) else list(columns)

    def pieces(self, start: int, chunk_rows: int | None) -> Iterator[Piece]:
        return self.row_pieces(start, chunk_rows) if self.whole_rows else self.column_pieces(start, chunk_rows)

    def row_pieces(self, start: int, chunk_rows: int | None) -> Iterator[Piece]:
        """All columns of a few rows at a time, because all columns of a span may exceed the memory."""
        n_columns = len(self.schema) if self.columns is None else len(self.columns)
        # Several batches are on their way to the output.
        rows = chunk_rows or table_rows(4 * (n_columns - len(self.fields) + self.n_channels))
        groups = range(self.metadata.num_row_groups)
        together = [[group] for group in groups] if self.waits else [list(groups)]      # fetched at the same time
        with arrow_errors(self.name):
            batches = chain.from_iterable(self.rows_of(row_groups, rows) for row_groups in together)
            yield from pieces_of(self.complete(batches, self.metadata.num_rows), start)

    def rows_of(self, row_groups: list[int], rows: int) -> Iterator[Any]:
        with self.open(row_groups, self.columns or self.schema.names) as file:
            # Threads of pyarrow may take three times the memory.
            yield from file.iter_batches(rows, row_groups, self.columns, use_threads=False)

    def column_pieces(self, start: int, chunk_rows: int | None) -> Iterator[Piece]:
        opened: list[Any] = []
        span_rows = max(1, SPAN_ROWS // max(field.width for field in self.fields.values()))
        for first, stop, row_groups in spans(self.metadata, span_rows):
            n_rows, place = stop - first, f"rows {first:,} to {stop:,}"
            groups = together(self.fields, n_rows) if stop > start else []
            for columns in groups:
                last = columns is groups[-1]
                rows = chunk_rows or max(1, COLUMN_ROWS // max(self.fields[column].width for column in columns))
                load = partial(self.load, opened, row_groups, [*columns, *self.beside], rows, n_rows)
                yield Piece(load, n_rows if last else 0, stop if last else None, place)

    def together(self, files: Sequence[File], chunk_rows: int | None) -> Iterable[Any]:
        """Load files of the same schema, each read as a whole, which costs less than to open it."""
        columns, tables, left = [*self.fields, *self.beside], [], PIECE_VALUES
        for path in files:
            with pa.OSFile(str(path)) as content:
                stored = pa.BufferReader(content.read_buffer())
            with parquet.ParquetFile(stored, page_checksum_verification=True) as file:
                n_rows = file.metadata.num_rows
                left -= n_rows * self.n_channels
                if left < 0 or file.schema_arrow != self.schema:
                    raise UnlikeError
                tables.append(file.read(columns, use_threads=False))
                if tables[-1].num_rows != n_rows:
                    raise UnlikeError
        return sliced(pa.concat_tables(tables).combine_chunks().to_batches(), chunk_rows)

    def open(self, row_groups: list[int], columns: Sequence[str]) -> Any:
        ranges = list(self.ranges(row_groups, set(columns))) if self.waits else []
        # Keys that are text are read as the indices of a dictionary, which are faster to group by.
        texts = [] if self.whole_rows else [name for name in self.by if types.is_string(self.schema.field(name).type)]
        return parquet.ParquetFile(self.file.for_library(ranges), metadata=self.metadata, pre_buffer=False,
                                   buffer_size=BUFFER_BYTES, page_checksum_verification=True, read_dictionary=texts)

    def ranges(self, row_groups: list[int], columns: set[str]) -> Iterator[tuple[int, int]]:
        """The bytes of columns in row groups."""
        schema = self.metadata.schema
        chosen = [i for i in range(len(schema)) if schema.column(i).path.partition(".")[0] in columns]
        for group, i in product(row_groups, chosen):
            stored = self.metadata.row_group(group).column(i)
            first = stored.dictionary_page_offset if stored.has_dictionary_page else stored.data_page_offset
            yield first, first + stored.total_compressed_size

    def load(
        self, opened: list[Any], row_groups: list[int], columns: list[str], rows: int, n_rows: int
    ) -> Iterator[Any]:
        """Read with a file that is `opened` and not in use; it is closed when the last piece is dropped.

        Opening takes some microseconds for each column of the file. A remote file is opened by what will be read.
        """
        with arrow_errors(self.name):
            try:
                file = self.open(row_groups, columns) if self.waits else opened.pop()
            except IndexError:
                file = self.open(row_groups, columns)
            yield from self.complete(file.iter_batches(rows, row_groups, columns, use_threads=False), n_rows)
        if self.waits:
            file.close()
        else:
            opened.append(file)

    def complete(self, batches: Iterable[Any], n_rows: int) -> Iterator[Any]:
        """Yield the batches; raise SourceError unless they have `n_rows` rows.

        pyarrow may end without an error where pages are truncated.
        """
        left = n_rows
        for batch in batches:
            left -= batch.num_rows
            yield batch
        if left:
            raise SourceError(f"{self.name} has {n_rows - left:,} rows, expected {n_rows:,}: it is truncated, or "
                              "changed while it was read")


def together(fields: Mapping[str, Field], n_rows: int) -> list[list[str]]:
    """The columns that are read together."""
    groups: list[list[str]] = []
    room = 0
    for column, field in fields.items():
        if field.width > room:
            groups.append([])
            room = PIECE_VALUES // max(1, n_rows)
        groups[-1].append(column)
        room -= field.width
    return groups


def spans(metadata: Any, span_rows: int) -> Iterator[tuple[int, int, list[int]]]:
    """The spans of row groups that are read together: the first row, the row after the last, and the groups."""
    first = stop = 0
    groups: list[int] = []
    for group in range(metadata.num_row_groups):
        groups.append(group)
        stop += metadata.row_group(group).num_rows
        if stop - first >= span_rows or group == metadata.num_row_groups - 1:
            yield first, stop, groups
            first, groups = stop, []
