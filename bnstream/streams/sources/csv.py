"""CSV files, plain or compressed."""

import codecs
import gzip
import re
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from typing import IO, Any, cast

import numpy as np
import pyarrow as pa  # type: ignore[import-untyped]
from pyarrow import csv, types

from bnstream.streams.sources.columns import is_number, selected_names
from bnstream.streams.sources.errors import SourceError
from bnstream.streams.sources.source import Piece, Wanted
from bnstream.streams.sources.tables import TableFile, sliced

CSV_BLOCK_BYTES = 4 << 20   # Bytes of text that are parsed at a time.
LOOK_BYTES = 1 << 16        # Bytes of text from which the types of the columns are inferred.
DELIMITERS = ",;\t|"


class CsvFile(TableFile):
    """A CSV file with a header, also compressed by gzip or zip.

    Several threads parse blocks of whole lines, each block by itself: a column may hold integers in one block and
    floating-point numbers in another.
    """

    def inspect(self, wanted: Wanted) -> None:
        header = self.read_header()
        unquoted = re.sub('"[^"]*"', "", header)
        likely = "\t" if ".tsv" in self.file.suffixes else max(DELIMITERS, key=unquoted.count)
        self.parse_options = csv.ParseOptions(delimiter=likely)
        self.header = csv.read_csv(native(header.encode() + b"\n"), parse_options=self.parse_options).column_names
        if all(is_number(column) for column in self.header):
            raise SourceError(f"{self.file} begins with numbers, {header[:40]!r}; expected a header with the names of "
                              "the columns; add one")
        self.convert_options = csv.ConvertOptions()
        _, block = next(self.blocks(self.start, LOOK_BYTES), (0, b""))
        schema = self.parse(block).schema if block else pa.schema([(name, pa.null()) for name in self.header])
        self.names = selected_names(self.name, schema, wanted)
        self.convert_options = csv.ConvertOptions(include_columns=[*self.names, *wanted.beside])
        if wanted.whole_rows:       # The other columns are copied as text.
            kinds = {name: pa.string() for name in self.header if name not in self.names}
            kinds |= {name: pa.bool_() for name in self.names if types.is_boolean(schema.field(name).type)}
            self.convert_options = csv.ConvertOptions(column_types=kinds)
            self.schema = pa.schema([(name, pa.float64() if name in self.names else pa.string())
                                     for name in self.header])

    def read_header(self) -> str:
        """The first line that is not empty. Sets where the values start, and the extent."""
        with self.open() as text:
            line = text.readline()
            while line and not line.removeprefix(codecs.BOM_UTF8).strip():      # pyarrow also skips empty lines
                line = text.readline()
            self.start = text.tell()
            self.extent = None if self.file.suffixes[-1:] in ([".gz"], [".zip"]) else self.file.size
        try:
            header = line.decode("utf-8-sig").rstrip("\r\n")
        except UnicodeDecodeError as error:
            raise SourceError(f"{self.file}: the header is not UTF-8: {error}") from error
        if not header:
            raise SourceError(f"{self.file} is empty; expected a header with the names of the columns")
        return header

    @contextmanager
    def open(self) -> Iterator[IO[bytes]]:
        if self.file.suffixes[-1:] == [".gz"]:
            with self.file.open() as content, gzip.open(content) as text:
                yield cast(IO[bytes], text)
        elif self.file.suffixes[-1:] == [".zip"]:
            with self.file.open() as content, zipfile.ZipFile(content) as archive:
                members = [name for name in archive.namelist() if not name.endswith("/")]
                if len(members) != 1:
                    raise SourceError(f"{self.file} holds {len(members)} files; expected one")
                with archive.open(members[0]) as text:
                    yield text
        else:
            with self.file.open() as text:
                yield text

    def blocks(self, start: int, n_bytes: int) -> Iterator[tuple[int, bytes]]:
        """Yield blocks of about `n_bytes` from `start` on, each with the byte where it ends.

        A block ends at the end of a line, and not within quotes.
        """
        with self.open() as text:
            text.seek(start)
            while block := text.read(n_bytes):
                lines = [block] if block.endswith(b"\n") else [block, text.readline()]
                n_quotes, size = sum(line.count(b'"') for line in lines if b'"' in line), sum(map(len, lines))
                while n_quotes % 2 and (line := text.readline(CSV_BLOCK_BYTES)):
                    lines.append(line)
                    n_quotes, size = n_quotes + line.count(b'"'), size + len(line)
                    if size > n_bytes + CSV_BLOCK_BYTES:
                        raise SourceError(f"{self.name}: a quote after byte {start:,} is never closed")
                start += size
                yield start, block if len(lines) == 1 else b"".join(lines)

    def pieces(self, start: int, chunk_rows: int | None) -> Iterator[Piece]:
        start = max(start, self.start)
        # A block costs some microseconds for each column, so that it should have some rows of a very wide file.
        for stop, block in self.blocks(start, CSV_BLOCK_BYTES * min(4, 1 + len(self.header) // 8192)):
            yield Piece(partial(self.load, block, chunk_rows), None, stop, f"bytes {start:,} to {stop:,}")
            start = stop

    def load(self, block: bytes, chunk_rows: int | None) -> Iterator[Any]:
        return sliced(self.parse(block).to_batches(), chunk_rows)

    def parse(self, block: bytes) -> Any:
        """Parse a block of lines, each column with the type of its values in the block."""
        table = self.parse_as(block, self.convert_options)
        for i, name in enumerate(table.column_names):
            if may_be_uint64(table.column(i)):
                options = csv.ConvertOptions(include_columns=[name], column_types={name: pa.uint64()})
                with suppress(pa.ArrowInvalid):     # They are not written as integers.
                    table = table.set_column(i, name, self.parse_as(block, options).column(0))
        return table

    def parse_as(self, block: bytes, options: Any) -> Any:
        read_options = csv.ReadOptions(column_names=self.header, use_threads=False, block_size=len(block) + 1)
        return csv.read_csv(native(block), read_options, self.parse_options, options)


def may_be_uint64(column: Any) -> bool:
    """Whether pyarrow read a column as float64 that may hold integers beyond int64."""
    if not types.is_float64(column.type) or column.null_count == len(column):
        return False
    values = column.drop_null().to_numpy()
    return bool(2.0**63 <= values.max() < 2.0**64 and values.min() >= 0 and (values == np.floor(values)).all())


def native(text: bytes) -> Any:
    """Copy text for pyarrow's CSV reader to memory that Arrow owns.

    A thread of the reader may release the text while Python shuts down. Releasing a Python object then aborts
    the process.
    """
    memory = pa.allocate_buffer(len(text))
    pa.FixedSizeBufferWriter(memory).write(text)
    return pa.BufferReader(memory)
