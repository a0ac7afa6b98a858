"""Files of JSON: lines with an object each, or a list of objects."""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import Any

import pyarrow as pa  # type: ignore[import-untyped]
from pyarrow import compute, types
from pyarrow import json as arrow_json

from bnstream.streams.sources.errors import SourceError
from bnstream.streams.sources.places.file import File
from bnstream.streams.sources.source import Piece, Wanted
from bnstream.streams.sources.tables.columns import fields_in
from bnstream.streams.sources.tables.embeddings import Field
from bnstream.streams.sources.tables.table import TableFile, sliced
from bnstream.streams.sources.text.content import Text
from bnstream.streams.sources.text.dialect import Dialect
from bnstream.streams.sources.text.jsonlist import ListText
from bnstream.streams.sources.text.nesting import TOO_DEEP, is_too_deep
from bnstream.streams.sources.text.rowtext import BLOCK_BYTES, RowText


class JsonLinesFile(TableFile):
    """A file of JSON lines, compressed or not.

    Several threads parse blocks of whole lines, each block by itself: a column may hold integers in one block and
    floating-point numbers in another. A key that an object lacks is a missing value.
    """

    takes = TableFile.takes | {"encoding"}
    expected = "a JSON object in each line"

    def __init__(self, file: File, wanted: Wanted) -> None:
        # Without quotes, every line end ends a row: JSON escapes those in texts.
        self.dialect = Dialect({"quote": "", "encoding": wanted.reading.get("encoding")})
        super().__init__(file, wanted)

    def inspect(self, wanted: Wanted) -> Mapping[str, Field]:
        self.text = self.opened()
        self.extent = self.text.extent
        self.types: dict[str, Any] = {}
        _, block = next(self.blocks(0), (0, b""))
        if not block:
            raise SourceError(f"{self.name} is empty; expected {self.expected}")
        schema = self.parse(block).schema
        if wanted.whole_rows:       # All columns are copied, each with one type in all blocks.
            schema = unified([self.parse(block).schema for _, block in self.blocks(0)])
        fields = fields_in(self.name, schema, wanted, self.look)
        self.columns = schema.names if wanted.whole_rows else [*fields, *wanted.beside]
        self.columns_there = schema.names
        self.known = frozenset(schema.names if wanted.columns is None else ())
        self.types = {field.name: field.type for field in schema if wanted.whole_rows and field.name not in fields}
        return fields

    def opened(self) -> RowText:
        """The text, with an object in each row."""
        return RowText(self.file, self.dialect)

    def blocks(self, start: int) -> Iterator[tuple[int, Any]]:
        """Yield blocks of whole lines from a place on, each with the place where it ends."""
        return self.text.blocks(start, BLOCK_BYTES)

    def look(self, column: str) -> Iterator[Any]:
        for _, block in self.blocks(0):
            table = self.parse(block)
            yield from table.column(column).chunks if column in table.column_names else ()

    def pieces(self, start: int, chunk_rows: int | None) -> Iterator[Piece]:
        for stop, block in self.blocks(start):
            yield Piece(partial(self.load, block, chunk_rows), None, stop, f"bytes {start:,} to {stop:,}")
            start = stop

    def load(self, block: Any, chunk_rows: int | None) -> Iterator[Any]:
        table = self.parse(block)
        late = [name for name in table.column_names if name not in self.known] if self.known else []
        if late:
            raise SourceError(f"{self.name}: the key {late[0]!r} is in none of the first objects; select columns with "
                              "columns= or --columns")
        columns = {name: table.column(name) if name in table.column_names
                   else pa.nulls(len(table), self.types.get(name, pa.null())) for name in self.columns}
        return sliced(pa.table(columns).combine_chunks().to_batches(), chunk_rows)

    def parse(self, block: Any) -> Any:
        """Parse lines, each column with the type of its values."""
        if not re.search(rb"\S", block):
            return pa.table({})
        if is_too_deep(bytes(block)):
            raise SourceError(f"{self.name} has lists and objects that are nested {TOO_DEEP}")
        options = arrow_json.ReadOptions(use_threads=False, block_size=len(block) + 1)

        def read(kinds: dict[str, Any]) -> Any:
            parsing = arrow_json.ParseOptions(explicit_schema=pa.schema(list(kinds.items())) if kinds else None)
            return arrow_json.read_json(pa.BufferReader(block), options, parsing)

        table = read(self.types)
        for name in table.column_names:
            if name not in self.types and may_be_unsigned(table.column(name)):
                with suppress(pa.ArrowInvalid):     # They are not written as integers.
                    column = read({**self.types, name: pa.uint64()}).column(name)
                    table = table.set_column(table.column_names.index(name), name, column)
        return table


def unified(schemas: Sequence[Any]) -> Any:
    """One schema for all. pyarrow holds that int64 holds unsigned integers, of which only those beyond it are made."""
    unsigned = {field.name for schema in schemas for field in schema if types.is_uint64(field.type)}
    schema = pa.unify_schemas(schemas, promote_options="permissive")
    return pa.schema([field.with_type(pa.uint64()) if field.name in unsigned and types.is_int64(field.type) else field
                      for field in schema])


def may_be_unsigned(column: Any) -> bool:
    """Whether pyarrow may have made floats of integers beyond int64."""
    if not types.is_float64(column.type):
        return False
    low, high = compute.min_max(column).as_py().values()
    if low is None or not (low >= 0 and 2.0**63 <= high <= 2.0**64):
        return False
    return bool(compute.all(compute.equal(compute.floor(column), column)).as_py())


class JsonFile(JsonLinesFile):
    """A file of JSON: a list of objects, which is rewritten as JSON lines, or these. Its beginning shows which."""

    expected = "a list of JSON objects, or an object in each line"

    def opened(self) -> RowText:
        text = Text(self.file, self.dialect.encoding)
        first = text.head.lstrip()
        if first.startswith(b"["):
            return RowText(self.file, self.dialect, ListText(text))
        lines = super().opened()
        row, second = (lines.row(0, n, BLOCK_BYTES) for n in range(2))
        try:
            if row is None or (isinstance(json.loads(row[1]), dict) and second is not None):
                return lines
        except (ValueError, RecursionError):
            pass
        hint = "; pass format='jsonl' (--format jsonl) if an object by itself is a row" * first.startswith(b"{")
        raise SourceError(f"{self.file} begins with {first[:40].decode(errors='replace')!r}; expected {self.expected}"
                          f"{hint}")
