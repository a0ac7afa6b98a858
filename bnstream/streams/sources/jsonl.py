"""Files of JSON lines: an object a line."""

import gzip
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import IO, Any, cast

import pyarrow as pa  # type: ignore[import-untyped]
from pyarrow import json

from bnstream.streams.sources.columns import fields_in
from bnstream.streams.sources.errors import SourceError
from bnstream.streams.sources.source import Piece, Wanted
from bnstream.streams.sources.tables import TableFile, sliced

BLOCK_BYTES = 4 << 20       # Bytes of text that are parsed at a time.


class JsonLinesFile(TableFile):
    """A file of JSON lines, plain or compressed by gzip.

    Several threads parse blocks of whole lines, each block by itself: a column may hold integers in one block and
    floating-point numbers in another. A key that an object lacks is a missing value.
    """

    def inspect(self, wanted: Wanted) -> None:
        self.types: dict[str, Any] = {}
        _, block = next(self.blocks(0), (0, b""))
        if not block:
            raise SourceError(f"{self.name} is empty; expected a JSON object in each line")
        schema = self.parse(block).schema
        if wanted.whole_rows:       # All columns are copied, each with one type in all blocks.
            schemas = (self.parse(block).schema for _, block in self.blocks(0))
            schema = pa.unify_schemas([*schemas], promote_options="permissive")
        self.fields = fields_in(self.name, schema, wanted, self.look)
        self.columns = schema.names if wanted.whole_rows else [*self.fields, *wanted.beside]
        self.known = frozenset(schema.names if wanted.columns is None else ())
        self.types = {field.name: field.type for field in schema if wanted.whole_rows and field.name not in self.fields}

    @contextmanager
    def open(self) -> Iterator[IO[bytes]]:
        with self.file.open() as content:
            if self.file.suffixes[-1:] == [".gz"]:
                with gzip.open(content) as text:
                    yield cast(IO[bytes], text)
            else:
                self.extent = self.size
                yield content

    def blocks(self, start: int) -> Iterator[tuple[int, bytes]]:
        """Yield blocks of whole lines from `start` on, each with the byte where it ends."""
        with self.open() as text:
            text.seek(start)
            while block := text.read(BLOCK_BYTES):
                if not block.endswith(b"\n"):
                    block += text.readline()
                start += len(block)
                yield start, block

    def look(self, column: str) -> Iterator[Any]:
        for _, block in self.blocks(0):
            table = self.parse(block)
            yield from table.column(column).chunks if column in table.column_names else ()

    def pieces(self, start: int, chunk_rows: int | None) -> Iterator[Piece]:
        for stop, block in self.blocks(start):
            yield Piece(partial(self.load, block, chunk_rows), None, stop, f"bytes {start:,} to {stop:,}")
            start = stop

    def load(self, block: bytes, chunk_rows: int | None) -> Iterator[Any]:
        table = self.parse(block)
        late = [name for name in table.column_names if name not in self.known] if self.known else []
        if late:
            raise SourceError(f"{self.name}: the key {late[0]!r} is in none of the first objects; select columns with "
                              "columns= or --columns")
        columns = {name: table.column(name) if name in table.column_names
                   else pa.nulls(len(table), self.types.get(name, pa.null())) for name in self.columns}
        return sliced(pa.table(columns).combine_chunks().to_batches(), chunk_rows)

    def parse(self, block: bytes) -> Any:
        """Parse lines, each column with the type of its values."""
        if not block.strip():
            return pa.table({})
        read = json.ReadOptions(use_threads=False, block_size=len(block) + 1)
        types = pa.schema(list(self.types.items())) if self.types else None
        return json.read_json(pa.BufferReader(block), read, json.ParseOptions(explicit_schema=types))
