"""Columns that exist only in the names of folders, as Hive and Spark write them: year=2024/month=01/part.parquet."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import Any

import pyarrow as pa  # type: ignore[import-untyped]
from pyarrow import dataset

from bnstream.streams.sources.errors import SourceError
from bnstream.streams.sources.places.file import File
from bnstream.streams.sources.source import FileSource, Piece, Wanted
from bnstream.streams.sources.tables.columns import is_numeric
from bnstream.streams.sources.tables.embeddings import Field
from bnstream.streams.sources.tables.table import Table, TableFile


def keys_of(files: Sequence[File]) -> list[dict[str, Any]]:
    """The values in the names of the folders of each file by key, as scalars of pyarrow.

    The values of a key are integers, or numbers, if all of them are; otherwise they are text.
    """
    folders = [[part for part in file.path.parts[:-1] if "=" in part] for file in files]
    keys = dict.fromkeys(part.partition("=")[0] for parts in folders for part in parts)
    partitioning = dataset.HivePartitioning(pa.schema([(key, pa.string()) for key in keys]))
    found = [dataset.get_partition_keys(partitioning.parse("/".join([*parts, ""]))) for parts in folders]
    columns = {key: numbers(pa.array([values.get(key) for values in found], pa.string())) for key in keys}
    return [{key: columns[key][i] for key in keys if key in values} for i, values in enumerate(found)]


def numbers(column: Any) -> Any:
    """A column of text as numbers, if all of it is."""
    for kind in (pa.int64(), pa.float64()):
        with suppress(pa.ArrowInvalid):
            return column.cast(kind)
    return column


def opening(make: Callable[..., TableFile], files: Sequence[File], wanted: Wanted) -> Callable[[File], FileSource]:
    """The function that opens each of the files."""
    keys = dict(zip(files, keys_of(files), strict=True))
    return lambda file: open_partitioned(make, file, keys[file], wanted)


def open_partitioned(
    make: Callable[..., TableFile], file: File, keys: Mapping[str, Any], wanted: Wanted
) -> FileSource:
    """Open the table in a file, with the columns in the names of its folders where they are wanted.

    Where the file has a column of the same name, the name of the folder takes precedence, as in Spark, DuckDB and
    polars.
    """
    beside = [name for name in wanted.beside if name in keys]
    excluded = list(map(str, wanted.reading.get("exclude", ())))
    options = {**wanted.reading, "exclude": [name for name in excluded if name not in keys]}
    named = [column for column in map(str, wanted.columns or ()) if column in keys and column not in excluded]
    inside = [column for column in wanted.columns or () if str(column) not in keys]
    if named and not inside:
        raise SourceError(f"{file}: {', '.join(map(repr, named))} exists only in the names of folders; add a column "
                          "of the files with columns= or --columns")
    table = make(file, wanted._replace(columns=inside if wanted.columns else None, reading=options,
                                       weights=None if wanted.weights in beside else wanted.weights,
                                       by=[name for name in wanted.by if name not in keys]))
    channels = named if wanted.columns else [name for name in table.fields if name in keys]
    for name in (*channels, *(name for name in beside if name == wanted.weights)):
        if not is_numeric(keys[name].type):
            raise SourceError(f"{file}: {name!r}, in the name of its folder, holds text, such as "
                              f"{keys[name].as_py()!r}; select numeric columns with columns= or --columns")
    if channels or beside or (wanted.whole_rows and keys):
        return Partitioned(table, keys, [*channels, *beside], wanted)
    return table


def in_order(fields: Mapping[str, Field], added: Sequence[str], wanted: Wanted) -> dict[str, Field]:
    """The fields of a table and those that are added, in the order in which the caller selected them."""
    left, found = dict(fields), {}
    selected = list(map(str, wanted.columns or ()))
    for column in selected:
        if column in added:
            found[column] = Field()
        elif column in left:
            found[column] = left.pop(column)
        else:       # a pattern
            while left and (first := next(iter(left))) not in selected:
                found[first] = left.pop(first)
    return found | left


class Partitioned(Table, FileSource):
    """A table in a file, and columns with one value for all of its rows."""

    def __init__(self, table: TableFile, keys: Mapping[str, Any], used: Sequence[str], wanted: Wanted) -> None:
        vars(self).update(vars(table))      # the same file, which is not to be opened again
        self.table, self.takes, self.keys, self.beside = table, table.takes, keys, wanted.beside
        fields = in_order(table.fields, used, wanted)
        self.hold({name: field for name, field in fields.items() if name not in wanted.beside})
        self.used = list(keys if wanted.whole_rows else used)
        if table.schema is not None:
            for name in self.used:
                i, field = self.schema.get_field_index(name), pa.field(name, keys[name].type)
                self.schema = self.schema.append(field) if i < 0 else self.schema.set(i, field)

    def select(self, columns: Sequence[str]) -> None:
        self.used = [name for name in self.used if name in columns]
        self.table.select([name for name in columns if name in self.table.schema.names and name not in self.used])

    def pieces(self, start: int, chunk_rows: int | None) -> Iterator[Piece]:
        for piece in self.table.pieces(start, chunk_rows):
            # The columns of some rows may come in several pieces, of which the last says where the next rows start.
            added = [name for name in self.used if piece.stop is not None or name in self.beside]
            yield piece._replace(load=partial(self.load, piece.load, added))

    def load(self, load: Callable[[], Iterable[Any]], added: Sequence[str]) -> Iterator[Any]:
        for batch in load():
            for name in self.used:
                column, i = pa.repeat(self.keys[name], batch.num_rows), batch.schema.get_field_index(name)
                if i >= 0:
                    batch = batch.set_column(i, name, column)
                elif name in added:
                    batch = batch.append_column(name, column)
            yield batch
