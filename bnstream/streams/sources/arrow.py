"""Arrow data: objects with an Arrow stream, pyarrow datasets, and files of the IPC formats."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from typing import Any

import pyarrow as pa  # type: ignore[import-untyped]
from pyarrow import ipc

from bnstream._kernels._runtime import get_num_threads
from bnstream.streams.sources.columns import fields_in
from bnstream.streams.sources.embeddings import channel_names
from bnstream.streams.sources.errors import reading
from bnstream.streams.sources.places import File
from bnstream.streams.sources.source import Piece, Source, Wanted
from bnstream.streams.sources.tables import TAKES, TableFile, arrow_errors, pieces_of, sliced, table_rows


class ArrowStream(Source):
    """An object with ``__arrow_c_stream__`` (a frame of polars or pandas, a DuckDB relation, a table), or a dataset."""

    takes = TAKES
    extent = None
    batch_axes = None
    rows_first = True
    in_turn = False

    def __init__(self, source: Any, wanted: Wanted) -> None:
        self.name = f"the {type(source).__name__}"
        is_stream = hasattr(source, "__arrow_c_stream__")
        self.dataset = None if is_stream else source        # reads only the selected columns
        with reading(f"{self.name} is not a table; make it one, with named columns"):
            self.reader = pa.RecordBatchReader.from_stream(source) if is_stream else source
        self.seen: list[Any] = []       # record batches that were read to find the length of lists
        with arrow_errors(self.name):
            self.fields = fields_in(self.name, self.reader.schema, wanted, self.look)
        self.names = channel_names(self.fields)
        self.n_channels, self.schema = len(self.names), self.reader.schema
        self.columns = self.reader.schema.names if wanted.whole_rows else [*self.fields, *wanted.beside]
        self.files, marks = files_of(source) if hasattr(source, "files") else ([], [])
        types = [str(self.reader.schema.field(name).type) for name in self.fields]
        self.mark = [[self.name, list(self.names), types, marks]]

    def look(self, column: str) -> Iterator[Any]:
        """The arrays of a column. Record batches that can be read only once are kept."""
        if self.dataset is not None:
            yield from (batch.column(0) for batch in self.dataset.scanner(columns=[column]).to_reader())
            return
        yield from (batch.column(column) for batch in self.seen)
        for batch in self.reader:
            self.seen.append(batch)
            yield batch.column(column)

    def select(self, columns: Sequence[str]) -> None:
        self.columns = list(columns)

    def pieces(self, start: int, chunk_rows: int | None) -> Iterator[Piece]:
        reader, seen = self.reader, self.seen
        self.seen = []
        if self.dataset is not None:
            rows = chunk_rows or table_rows(len(self.columns) - len(self.fields) + self.n_channels)
            reader = self.dataset.scanner(columns=self.columns, batch_size=rows, batch_readahead=get_num_threads(),
                                          fragment_readahead=1).to_reader()
        with arrow_errors(self.name), reader:
            batches = (batch.select(self.columns) for batch in chain(seen, reader))
            yield from pieces_of(sliced(batches, chunk_rows), start)


def files_of(dataset: Any) -> tuple[list[File], list[list[Any]]]:
    """The files of a dataset that lie on this machine, and the path, size and modification time of all its files."""
    found = dataset.filesystem.get_file_info(dataset.files)
    local = [File(file.path) for file in found] if dataset.filesystem.type_name == "local" else []
    return local, [[file.path, file.size, file.mtime_ns] for file in found]


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
