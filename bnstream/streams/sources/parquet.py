"""Parquet files."""

from collections.abc import Iterable, Iterator
from functools import partial
from typing import Any

from pyarrow import parquet  # type: ignore[import-untyped]

from bnstream.streams.sources.columns import selected_names
from bnstream.streams.sources.errors import SourceError
from bnstream.streams.sources.source import Piece, Wanted
from bnstream.streams.sources.tables import COLUMN_ROWS, TableFile, arrow_errors, pieces_of, table_rows

SPAN_ROWS = 1 << 20         # Rows of the row groups that are read together; a pass can resume between such spans.
BUFFER_BYTES = 1 << 20      # Bytes of a stored column that are buffered in memory.


class ParquetFile(TableFile):
    """A Parquet file, of which only the selected columns are read.

    A piece is one column of a span of row groups, so that no column waits for another and little is held in memory. The
    weights are read beside each column.
    """

    def inspect(self, wanted: Wanted) -> None:
        with parquet.ParquetFile(self.file.for_library()) as file:
            self.names = selected_names(self.name, file.schema_arrow, wanted)
            self.metadata, self.extent = file.metadata, file.metadata.num_rows
        self.whole_rows, self.beside = wanted.whole_rows, wanted.beside

    def pieces(self, start: int, chunk_rows: int | None) -> Iterator[Piece]:
        return self.row_pieces(start, chunk_rows) if self.whole_rows else self.column_pieces(start, chunk_rows)

    def row_pieces(self, start: int, chunk_rows: int | None) -> Iterator[Piece]:
        """All columns of a few rows at a time, because all columns of a span may exceed the memory."""
        rows = chunk_rows or table_rows(self.metadata.num_columns)
        with arrow_errors(self.name), self.open() as file:
            batches = file.iter_batches(rows, use_threads=False)    # threads of pyarrow may take three times the memory
            yield from pieces_of(self.complete(batches, self.metadata.num_rows), start)

    def column_pieces(self, start: int, chunk_rows: int | None) -> Iterator[Piece]:
        for first, stop, row_groups in spans(self.metadata):
            for name in self.names if stop > start else []:
                last = name == self.names[-1]
                load = partial(self.load, row_groups, [name, *self.beside], chunk_rows or COLUMN_ROWS, stop - first)
                yield Piece(load, stop - first if last else 0, stop if last else None, f"rows {first:,} to {stop:,}")

    def open(self) -> Any:
        return parquet.ParquetFile(self.file.for_library(), metadata=self.metadata, pre_buffer=False,
                                   buffer_size=BUFFER_BYTES)

    def load(self, row_groups: list[int], columns: list[str], rows: int, n_rows: int) -> Iterator[Any]:
        with arrow_errors(self.name), self.open() as file:
            yield from self.complete(file.iter_batches(rows, row_groups, columns, use_threads=False), n_rows)

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


def spans(metadata: Any) -> Iterator[tuple[int, int, list[int]]]:
    """The spans of row groups that are read together: the first row, the row after the last, and the groups."""
    first = stop = 0
    groups: list[int] = []
    for group in range(metadata.num_row_groups):
        groups.append(group)
        stop += metadata.row_group(group).num_rows
        if stop - first >= SPAN_ROWS or group == metadata.num_row_groups - 1:
            yield first, stop, groups
            first, groups = stop, []
