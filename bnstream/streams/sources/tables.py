"""Tables, by pyarrow: CSV, Parquet and Arrow files, and whatever speaks the Arrow C stream interface.

Batches are record batches of the columns asked for. A missing value is one that the validity bitmap says is missing.
"""

import codecs
import gzip
import re
import zipfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import IO, Any, cast

import numpy as np
from numpy.typing import NDArray

try:
    import pyarrow as pa  # type: ignore[import-untyped]
    from pyarrow import csv, ipc, parquet, types
except ModuleNotFoundError as error:
    raise ModuleNotFoundError(
        'tables are read by pyarrow, which is not installed; install it with: pip install "bnstream[streams]"',
        name=error.name,
    ) from error

from bnstream._kernels._runtime import get_num_threads
from bnstream.streams.sources.source import FileSource, Piece, Source, SourceError, Wanted, mark_of, reading
from bnstream.streams.sources.valid import valid

SPAN_ROWS = 1 << 20         # row groups are read together up to so many rows; between these a pass may resume
ROWS = 1 << 17              # of a column at a time: 1 MiB
BUFFER_BYTES = 1 << 20      # of a column as it is stored, in memory
BLOCK_BYTES = 4 << 20       # of text, parsed at once
LOOK_BYTES = 1 << 16        # of text, for the types of its columns
DELIMITERS = ",;\t|"


def is_numeric(kind: Any) -> bool:
    tests = (types.is_integer, types.is_floating, types.is_boolean, types.is_decimal, types.is_null)
    return any(test(kind) for test in tests)


def chosen(name: str, schema: Any, columns: Sequence[Any] | None) -> tuple[str, ...]:
    """The columns asked for, or all; each there, once, and of numbers."""
    index = (schema.pandas_metadata or {}).get("index_columns", [])     # to pandas that is no column
    names = tuple([name for name in schema.names if name not in index] if columns is None else map(str, columns))
    numeric = [field.name for field in schema if is_numeric(field.type)]
    for column in names:
        if schema.names.count(column) != 1:
            there = "no column" if column not in schema.names else "more than one column"
            raise SourceError(f"{name} has {there} {column!r}; its columns are {', '.join(schema.names)}")
    others = [f"{column!r} is of type {schema.field(column).type}" for column in names if column not in numeric]
    if others:
        hint = "it has no others"
        if numeric:
            hint = f"choose columns of numbers with columns= or --columns: {','.join(numeric)}"
        raise SourceError(f"{name}: {'; '.join(others)}; {hint}")
    if not names:
        raise SourceError(f"{name} has no columns")
    return names


def rows_of(n_columns: int) -> int:
    """How many rows of several columns together are read at a time."""
    return max(1 << 12, 4 * ROWS // max(1, n_columns))


def cut(batches: Iterable[Any], chunk_rows: int | None) -> Iterator[Any]:
    """Record batches in slices of at most so many rows, without a copy."""
    for batch in batches:
        rows = chunk_rows or max(1, batch.num_rows)
        for first in range(0, batch.num_rows, rows):
            yield batch.slice(first, rows)


class ArrowStream(Source):
    """Whatever has ``__arrow_c_stream__`` (frames of polars and pandas, relations of DuckDB, tables), and datasets."""

    extent = None
    batch_axes = None
    rows_first = True
    in_turn = False

    def __init__(self, source: Any, wanted: Wanted) -> None:
        self.name = f"the {type(source).__name__}"
        streams = hasattr(source, "__arrow_c_stream__")
        self.dataset = None if streams else source      # it reads only the columns asked for
        with reading(f"{self.name} is no table; make one of it, with names of its columns"):
            self.reader = pa.RecordBatchReader.from_stream(source) if streams else source
        self.names = chosen(self.name, self.reader.schema, wanted.columns)
        self.n_channels = len(self.names)
        self.columns = self.reader.schema.names if wanted.whole_rows else list(self.names)
        files = [mark_of(Path(file)) for file in getattr(source, "files", ()) if Path(file).exists()]
        types = [str(self.reader.schema.field(name).type) for name in self.names]
        self.mark = [[self.name, list(self.names), types, files]]

    def pieces(self, start: int, chunk_rows: int | None) -> Iterator[Piece]:
        reader = self.reader
        if self.dataset is not None:
            rows = chunk_rows or rows_of(len(self.columns))
            reader = self.dataset.scanner(columns=self.columns, batch_size=rows, batch_readahead=get_num_threads(),
                                          fragment_readahead=1).to_reader()
        with arrow_errors(self.name), reader:
            batches = (batch.select(self.columns) for batch in reader)
            yield from numbered(cut(batches, chunk_rows), start)


def numbered(batches: Iterable[Any], start: int) -> Iterator[Piece]:
    """Record batches as pieces, from a row on."""
    first = 0
    for batch in batches:
        stop = first + batch.num_rows
        if stop > start:
            first = max(first, start)
            batch = batch.slice(batch.num_rows - (stop - first))
            yield Piece(partial(list, [batch]), batch.num_rows, stop, f"rows {first:,} to {stop:,}")
        first = stop


class TableFile(FileSource):
    """A file of a table."""

    batch_axes = None
    rows_first = True

    def __init__(self, path: Path, wanted: Wanted) -> None:
        super().__init__(path)
        self.names: tuple[str, ...] = ()
        self.extent: int | None = None
        with reading(self.name), arrow_errors(self.name):
            self.look(wanted)
        self.n_channels = len(self.names)

    def look(self, wanted: Wanted) -> None:
        """Find the names of the columns asked for, and the extent."""
        raise NotImplementedError


class ArrowFile(TableFile):
    """A file of Arrow's IPC formats: .arrow and .feather, and the stream .arrows."""

    def look(self, wanted: Wanted) -> None:
        with self.open(ipc.IpcReadOptions()) as reader:
            self.names = chosen(self.name, reader.schema, wanted.columns)
            self.columns = reader.schema.names if wanted.whole_rows else list(self.names)
            fields = [i for i, name in enumerate(reader.schema.names) if name in self.columns]
            self.options = ipc.IpcReadOptions(included_fields=fields)

    @contextmanager
    def open(self, options: Any) -> Iterator[Any]:
        with pa.OSFile(str(self.path)) as file:
            open_as = ipc.open_file if file.read(6) == b"ARROW1" else ipc.open_stream
            file.seek(0)
            yield open_as(file, options=options)

    def pieces(self, start: int, chunk_rows: int | None) -> Iterator[Piece]:
        with arrow_errors(self.name), self.open(self.options) as reader:
            random = hasattr(reader, "get_batch")
            batches = map(reader.get_batch, range(reader.num_record_batches)) if random else reader
            yield from numbered(cut((batch.select(self.columns) for batch in batches), chunk_rows), start)


class ParquetFile(TableFile):
    """A Parquet file, of which only the columns asked for are read: each by itself, as many at a time as there are
    threads, so that none of them waits for another, and little is in memory."""

    def look(self, wanted: Wanted) -> None:
        with parquet.ParquetFile(self.path) as file:
            self.names = chosen(self.name, file.schema_arrow, wanted.columns)
            self.metadata, self.extent = file.metadata, file.metadata.num_rows
        self.whole_rows = wanted.whole_rows

    def pieces(self, start: int, chunk_rows: int | None) -> Iterator[Piece]:
        if self.whole_rows:     # a few at a time, as all columns of a span may be more than there is memory
            rows = chunk_rows or rows_of(self.metadata.num_columns)
            with arrow_errors(self.name), self.open() as file:
                batches = file.iter_batches(rows, use_threads=False)    # pyarrow's own may take three times the memory
                yield from numbered(self.all_of(batches, self.metadata.num_rows), start)
            return
        for first, stop, row_groups in spans(self.metadata):
            for name in self.names if stop > start else []:
                last = name == self.names[-1]
                load = partial(self.load, row_groups, name, chunk_rows or ROWS, stop - first)
                yield Piece(load, stop - first if last else 0, stop if last else None, f"rows {first:,} to {stop:,}")

    def open(self) -> Any:
        return parquet.ParquetFile(self.path, metadata=self.metadata, pre_buffer=False, buffer_size=BUFFER_BYTES)

    def load(self, row_groups: list[int], name: str, rows: int, n_rows: int) -> Iterator[Any]:
        with arrow_errors(self.name), self.open() as file:
            yield from self.all_of(file.iter_batches(rows, row_groups, [name], use_threads=False), n_rows)

    def all_of(self, batches: Iterable[Any], n_rows: int) -> Iterator[Any]:
        """The batches, once so many rows came of them: where pages are cut off, pyarrow may end without an error."""
        left = n_rows
        for batch in batches:
            left -= batch.num_rows
            yield batch
        if left:
            raise SourceError(f"{self.name} has {n_rows - left:,} rows where {n_rows:,} should be: it is cut, or was "
                              "changed while it was read")


def spans(metadata: Any) -> Iterator[tuple[int, int, list[int]]]:
    """Row groups that are read together, with the first row and the one after the last."""
    first = stop = 0
    groups: list[int] = []
    for group in range(metadata.num_row_groups):
        groups.append(group)
        stop += metadata.row_group(group).num_rows
        if stop - first >= SPAN_ROWS or group == metadata.num_row_groups - 1:
            yield first, stop, groups
            first, groups = stop, []


class CsvFile(TableFile):
    """A CSV file with a line of names, also in gzip or zip. Blocks of whole lines are parsed by several threads, each
    by itself, so that a column may be whole numbers in one and not in another."""

    def look(self, wanted: Wanted) -> None:
        with self.open() as text:
            line = text.readline()
            while line and not line.removeprefix(codecs.BOM_UTF8).strip():      # pyarrow passes over empty lines, too
                line = text.readline()
            self.start = text.tell()
            self.extent = None if self.path.suffix.lower() in (".gz", ".zip") else text.seek(0, 2)
        try:
            header = line.decode("utf-8-sig").rstrip("\r\n")
        except UnicodeDecodeError as error:
            raise SourceError(f"{self.path}: the line of names is not UTF-8: {error}") from error
        if not header:
            raise SourceError(f"{self.path} is empty; a line of names was expected")
        unquoted = re.sub('"[^"]*"', "", header)
        likely = "\t" if ".tsv" in self.path.suffixes else max(DELIMITERS, key=unquoted.count)
        self.parse_options = csv.ParseOptions(delimiter=likely)
        names = csv.read_csv(native(header.encode() + b"\n"), parse_options=self.parse_options).column_names
        self.header = names
        if all(is_number(column) for column in self.header):
            raise SourceError(f"{self.path} begins with numbers, {header[:40]!r}; put a line with the names of the "
                              "columns first")
        if wanted.columns is not None:      # before the values are looked at, as others may be text
            chosen(self.name, pa.schema([(column, pa.float64()) for column in self.header]), wanted.columns)
        self.convert_options = csv.ConvertOptions(include_columns=wanted.columns)
        _, block = next(self.blocks(self.start, LOOK_BYTES), (0, b""))
        schema = self.parse(block).schema if block else pa.schema([(name, pa.null()) for name in self.header])
        self.names = chosen(self.name, schema, wanted.columns)
        if wanted.whole_rows:       # of one type in all blocks
            kinds = dict.fromkeys(self.header, pa.string())
            for name in self.names:
                kinds[name] = pa.bool_() if types.is_boolean(schema.field(name).type) else pa.float64()
            self.convert_options = csv.ConvertOptions(column_types=kinds)

    @contextmanager
    def open(self) -> Iterator[IO[bytes]]:
        if self.path.suffix.lower() == ".gz":
            with gzip.open(self.path) as text:
                yield cast(IO[bytes], text)
        elif self.path.suffix.lower() == ".zip":
            with zipfile.ZipFile(self.path) as archive:
                members = [name for name in archive.namelist() if not name.endswith("/")]
                if len(members) != 1:
                    raise SourceError(f"{self.path} holds {len(members)} files; one was expected")
                with archive.open(members[0]) as text:
                    yield text
        else:
            with self.path.open("rb") as text:
                yield text

    def blocks(self, start: int, n_bytes: int) -> Iterator[tuple[int, bytes]]:
        """Blocks of whole lines from a place on, each with where it ends. Where quotes are open, a line goes on."""
        with self.open() as text:
            text.seek(start)
            while block := text.read(n_bytes):
                lines = [block] if block.endswith(b"\n") else [block, text.readline()]
                n_quotes, size = sum(line.count(b'"') for line in lines if b'"' in line), sum(map(len, lines))
                while n_quotes % 2 and (line := text.readline(BLOCK_BYTES)):
                    lines.append(line)
                    n_quotes, size = n_quotes + line.count(b'"'), size + len(line)
                    if size > n_bytes + BLOCK_BYTES:
                        raise SourceError(f"{self.name}: there is a quote after byte {start:,} that is not closed")
                start += size
                yield start, block if len(lines) == 1 else b"".join(lines)

    def pieces(self, start: int, chunk_rows: int | None) -> Iterator[Piece]:
        start = max(start, self.start)
        for stop, block in self.blocks(start, BLOCK_BYTES):
            yield Piece(partial(self.load, block, chunk_rows), None, stop, f"bytes {start:,} to {stop:,}")
            start = stop

    def load(self, block: bytes, chunk_rows: int | None) -> Iterator[Any]:
        return cut(self.parse(block).to_batches(), chunk_rows)

    def parse(self, block: bytes) -> Any:
        """A block of lines, each column of the type that its values there have."""
        read_options = csv.ReadOptions(column_names=self.header, use_threads=False, block_size=len(block) + 1)
        return csv.read_csv(native(block), read_options, self.parse_options, self.convert_options)


def native(text: bytes) -> Any:
    """Text for pyarrow's CSV reader, in memory of Arrow's own. A thread of the reader may let go of it while Python
    ends; were it an object of Python's, that would abort the process."""
    memory = pa.allocate_buffer(len(text))
    pa.FixedSizeBufferWriter(memory).write(text)
    return pa.BufferReader(memory)


def is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


@contextmanager
def arrow_errors(name: str) -> Iterator[None]:
    """Errors of pyarrow say what was read."""
    try:
        yield
    except pa.ArrowException as error:
        raise SourceError(f"{name} cannot be read: {error}") from error


def numbers(column: Any, name: str) -> tuple[NDArray[Any], int]:
    """The values of a column that are there, where they lie if none is missing; and how many are missing."""
    column = of_numbers(column, name)
    if not column.null_count:
        return column.to_numpy(), 0
    bits, data = (np.frombuffer(buffer, np.uint8) for buffer in column.buffers())
    dtype = np.dtype(column.type.to_pandas_dtype())
    words = data[:data.size // dtype.itemsize * dtype.itemsize].view(f"u{dtype.itemsize}")
    return valid(words, bits, column.offset, len(column)).view(dtype), column.null_count


def of_numbers(column: Any, name: str) -> Any:
    """A column of a type that NumPy has, too."""
    if not is_numeric(column.type):
        raise ValueError(f"column {name!r} is of type {column.type}, not of numbers{example(column)}")
    if types.is_boolean(column.type):
        return column.cast(pa.uint8())
    if types.is_decimal(column.type) or types.is_null(column.type):
        return column.cast(pa.float64())
    return column


def example(column: Any) -> str:
    """Of a column of text, the first value that is no number."""
    if types.is_string(column.type) or types.is_large_string(column.type):
        for value in column:
            if value.is_valid and not is_number(value.as_py()):
                return f", as {value.as_py()!r}"
    return ""
