"""Tables of other libraries: pyarrow, pandas, polars, DuckDB, data sets of Hugging Face."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pyarrow as pa  # type: ignore[import-untyped]

from bnstream._kernels._runtime import get_num_threads
from bnstream.core.optional import needing
from bnstream.streams.sources.errors import SourceError, reading
from bnstream.streams.sources.places.file import File
from bnstream.streams.sources.source import Wanted
from bnstream.streams.sources.tables.batches import Batches, BatchSource


def table_source(source: Any, wanted: Wanted) -> BatchSource:
    """Open what `is_table` accepts."""
    name = f"the {type(source).__name__}"
    with reading(f"{name} is not a table; make it one, with named columns"):
        if hasattr(source, "__arrow_c_stream__"):
            batches = of_reader(reader_of(source, wanted))
        elif hasattr(source, "lazy"):
            batches = of_lazy_frame(name, source)
        elif hasattr(source, "select_columns"):
            batches = of_hugging_face(source)
        else:
            batches = of_dataset(source) if hasattr(source, "scanner") else of_reader(source.to_reader())
    return BatchSource(name, batches, wanted)


def reader_of(table: Any, wanted: Wanted) -> Any:
    if hasattr(table, "iloc") and not table.columns.is_unique:
        return with_names_twice(table, wanted).to_reader()
    try:
        return pa.RecordBatchReader.from_stream(table)
    except (pa.ArrowException, TypeError, OverflowError):
        if wanted.whole_rows:       # which would be written
            raise
        return pa.RecordBatchReader.from_stream(without_mixtures(table))


def with_names_twice(frame: Any, wanted: Wanted) -> Any:
    """The pyarrow table of a data frame of pandas with repeated column names, which pyarrow does not convert."""
    n = frame.shape[1]
    table = reader_of(frame.set_axis([f"\0{i}" for i in range(n)], axis="columns"), wanted).read_all()
    named = table.rename_columns([*map(str, frame.columns), *table.column_names[n:]])       # those of its index remain
    return named.replace_schema_metadata(table.schema.metadata)


def without_mixtures(frame: Any) -> Any:
    """A data frame with text in place of columns that hold objects of several kinds, which are not numbers."""
    mixed = []
    for name, dtype in frame.dtypes.items() if hasattr(frame, "iloc") and frame.columns.is_unique else ():
        if dtype == "object":
            try:
                pa.array(frame[name], from_pandas=True)
            except (pa.ArrowException, TypeError, OverflowError):
                mixed.append(name)
    if not mixed:
        return frame
    changed = frame.copy(deep=False)
    for name in mixed:
        changed[name] = changed[name].astype(str)
    return changed


def of_reader(reader: Any) -> Batches:
    """Record batches that can be read only once; those that were looked at are kept."""
    seen: list[Any] = []

    def look(column: str) -> Iterator[Any]:
        yield from (batch.column(column) for batch in seen)
        for batch in reader:
            seen.append(batch)
            yield batch.column(column)

    def read(columns: list[str], rows: int) -> Iterator[Any]:
        first = seen[:]
        seen.clear()
        with reader:
            yield from (batch.select(columns) for batch in chain(first, reader))

    return Batches(reader.schema, read, look)


def of_dataset(dataset: Any) -> Batches:
    """A dataset of pyarrow, of which only the selected columns are read."""
    def read(columns: list[str], rows: int) -> Iterator[Any]:
        scanner = dataset.scanner(columns=columns, batch_size=rows, batch_readahead=get_num_threads(),
                                  fragment_readahead=1)
        with scanner.to_reader() as reader:
            yield from reader

    files, marks = files_of(dataset) if hasattr(dataset, "files") else ([], [])
    return Batches(dataset.schema, read, files=files, marks=marks)


def files_of(dataset: Any) -> tuple[list[File], list[list[Any]]]:
    """The files of a dataset that lie on this machine, and the path, size and modification time of all its files."""
    found = dataset.filesystem.get_file_info(dataset.files)
    local = [File(file.path) for file in found] if dataset.filesystem.type_name == "local" else []
    return local, [[file.path, file.size, file.mtime_ns] for file in found]


def of_lazy_frame(name: str, frame: Any) -> Batches:
    """A lazy frame of polars, whose query returns a part of the rows at a time."""
    def read(columns: list[str], rows: int) -> Iterator[Any]:
        with polars_errors(name):
            query = frame.select(columns)
            if hasattr(query, "collect_batches"):
                frames = query.collect_batches(chunk_size=rows, maintain_order=True)
            else:
                frames = query.collect(engine="streaming").iter_slices(rows)
            for part in frames:
                yield from part.to_arrow().to_batches()

    def look(column: str) -> Iterator[Any]:
        with polars_errors(name):
            query = frame.select(column).drop_nulls().head(1)
            yield from query.collect().to_arrow().column(0).chunks

    with polars_errors(name):
        return Batches(frame.head(0).collect().to_arrow().schema, read, look)


@contextmanager
def polars_errors(name: str) -> Iterator[None]:
    """Raise errors of a query of polars as SourceError, in one line."""
    from polars.exceptions import PolarsError

    try:
        yield
    except PolarsError as error:
        raise SourceError(f"{name}: {' '.join(str(error).split())}") from error


def of_hugging_face(dataset: Any) -> Batches:
    """A data set of Hugging Face, with the rows that it selects and in their order."""
    def read(columns: list[str], rows: int) -> Iterator[Any]:
        for table in dataset.select_columns(columns).with_format("arrow").iter(rows):
            yield from table.to_batches()

    columns = [name for name in dataset.features if name in dataset.format["columns"]]
    schema = pa.schema([dataset.features.arrow_schema.field(name) for name in columns])
    return Batches(schema, read)


def query_source(source: str, wanted: Wanted) -> BatchSource:
    """The rows that a query of DuckDB returns: ``duckdb://FILE?QUERY``, where the file may be left out.

    Raises
    ------
    SourceError
        If there is no query, no such file, or DuckDB refuses the query.
    """
    with needing("reading from DuckDB", '"bnstream[duckdb]"'):
        import duckdb
    path, mark, query = source.removeprefix("duckdb://").partition("?")
    if query.startswith("query="):
        query = unquote(query.removeprefix("query="))
    if not mark or not query.strip():
        raise SourceError(f"{source} has no query; expected duckdb://FILE?QUERY, such as 'duckdb://flights.db?"
                          "SELECT * FROM flights'")
    files = [File(path)] if path else []
    if path and not Path(path).is_file():
        raise SourceError(f"there is no file {path}, got {source}")
    try:
        connection = duckdb.connect(path or ":memory:", read_only=bool(path))
        if len(statements := connection.extract_statements(query)) > 1:
            raise SourceError(f"{source} has {len(statements)} statements; expected one query")
        relation = connection.sql(query)
        if relation is None:
            raise SourceError(f"{source} returns no rows; expected a query that returns some, such as SELECT")
        batches = of_reader(pa.RecordBatchReader.from_stream(relation))
        return BatchSource(source, batches._replace(files=files, marks=[file.mark() for file in files]), wanted)
    except duckdb.Error as error:
        raise SourceError(f"{source}: {' '.join(str(error).split())}") from error
