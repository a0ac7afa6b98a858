"""Files of the IPC formats of Arrow."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa  # type: ignore[import-untyped]
from pyarrow import ipc

from bnstream.streams.sources.columns import fields_in
from bnstream.streams.sources.source import Piece, Wanted
from bnstream.streams.sources.tables import TableFile, arrow_errors, pieces_of, sliced


class ArrowFile(TableFile):
    """A file of the Arrow IPC formats: .arrow, .feather, or the stream .arrows."""

    def inspect(self, wanted: Wanted) -> None:
        with self.open(ipc.IpcReadOptions()) as reader:
            def look(column: str) -> Iterator[Any]:
                return (batch.column(column) for batch in batches_of(reader))

            self.fields, self.schema = fields_in(self.name, reader.schema, wanted, look), reader.schema
        self.select(self.schema.names if wanted.whole_rows else [*self.fields, *wanted.beside])

    def select(self, columns: Sequence[str]) -> None:
        self.columns = list(columns)
        chosen = set(self.columns)
        fields = [i for i, name in enumerate(self.schema.names) if name in chosen]
        self.options = ipc.IpcReadOptions(included_fields=fields)

    @contextmanager
    def open(self, options: Any) -> Iterator[Any]:
        place = self.file.for_library()
        with pa.OSFile(str(place)) if isinstance(place, Path) else pa.PythonFile(place, "r") as file:
            open_as = ipc.open_file if file.read(6) == b"ARROW1" else ipc.open_stream
            file.seek(0)
            try:
                yield open_as(file, options=options)
            except (OSError, pa.ArrowException) as error:
                if self.file.fault is None:
                    raise
                raise self.file.fault from error

    def pieces(self, start: int, chunk_rows: int | None) -> Iterator[Piece]:
        with arrow_errors(self.name), self.open(self.options) as reader:
            selected = (batch.select(self.columns) for batch in batches_of(reader))
            yield from pieces_of(sliced(selected, chunk_rows), start)


def batches_of(reader: Any) -> Iterator[Any]:
    """The record batches of an open file of an IPC format."""
    if hasattr(reader, "get_batch"):
        return map(reader.get_batch, range(reader.num_record_batches))
    return iter(reader)
