"""Avro files, read with fastavro."""

import struct
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import fastavro
import pyarrow as pa  # type: ignore[import-untyped]

from bnstream.streams.sources.errors import SourceError
from bnstream.streams.sources.tables.batches import Batches, BatchFile
from bnstream.streams.sources.tables.table import LOOK_ROWS

TYPES = {"null": pa.null(), "boolean": pa.bool_(), "int": pa.int32(), "long": pa.int64(), "float": pa.float32(),
         "double": pa.float64(), "string": pa.string(), "bytes": pa.binary()}
WIDE = {"long": ["int", "long"], "double": ["int", "long", "float", "double"]}      # What holds the numbers of a union.
VALUE = "value"         # The name of the column of a file without records.

# What fastavro raises for a damaged file, beside errors that sources report.
DAMAGE = (struct.error, zlib.error, LookupError, TypeError, AssertionError, EOFError, UnicodeDecodeError)


class AvroFile(BatchFile):
    """An Avro file of records, or of plain values, which become one column. It is read a block at a time."""

    @contextmanager
    def open(self) -> Iterator[Batches]:
        with self.file.open() as content:
            blocks = self.blocks(content)
            names = next(blocks)
            schema = pa.schema([(name, type_of(kind)) for name, kind in names.items()])

            def read(columns: list[str], rows: int) -> Iterator[Any]:
                for records in blocks:
                    arrays = [array_of([record[name] for record in records], schema.field(name).type)
                              for name in columns]
                    yield pa.RecordBatch.from_arrays(arrays, columns)

            def look(column: str) -> Iterator[Any]:
                with self.open() as other:
                    yield from (batch.column(0) for batch in other.read([column], LOOK_ROWS))

            yield Batches(schema, read, look)

    def blocks(self, content: Any) -> Iterator[Any]:
        """Yield the types of the fields by name, and the records of each block."""
        try:
            reader = fastavro.block_reader(content)
            schema = reader.writer_schema
            if isinstance(schema, dict) and schema.get("type") == "record":
                yield {field["name"]: field["type"] for field in schema["fields"]}
                for block in reader:
                    yield list(block)
            else:
                yield {VALUE: schema}
                for block in reader:
                    yield [{VALUE: value} for value in block]
        except (*DAMAGE, ValueError) as error:
            raise SourceError(f"{self.name} cannot be read as Avro: {type(error).__name__}: {error}") from error


def array_of(values: list[Any], kind: Any) -> Any:
    """A pyarrow array; where it is to hold text, values of other types become text."""
    if kind == pa.string():
        values = [value if value is None else str(value) for value in values]
    return pa.array(values, kind)


def type_of(kind: Any) -> Any:
    """The pyarrow type for a type of Avro: text for records, maps, and unions of several types but numbers."""
    if isinstance(kind, list):
        kinds = [one for one in kind if one != "null"]
        if len(kinds) < 2:
            return type_of(kinds[0]) if kinds else pa.null()
        for wide, narrow in WIDE.items():
            if all(one in narrow for one in kinds):
                return TYPES[wide]
        return pa.string()
    if isinstance(kind, Mapping):
        match kind.get("logicalType"), kind["type"]:
            case "decimal", _:
                return pa.decimal128(kind["precision"], kind.get("scale", 0))
            case "date", _:
                return pa.date32()
            case "timestamp-millis" | "timestamp-micros", _:
                return pa.timestamp("ms" if "millis" in kind["logicalType"] else "us", "UTC")
            case None, "array":
                return pa.list_(type_of(kind["items"]))
            case None, inner:
                return type_of(inner)
        return pa.string()
    return TYPES.get(kind, pa.string())
