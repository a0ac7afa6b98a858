"""Writers of the files that `apply` makes."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import IO, Any, Protocol

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from bnstream.core.optional import needing

SUFFIXES = (".npy", ".parquet", ".arrow", ".csv")
GROUP_BYTES = 16 << 20      # Bytes of a Parquet row group.


class Writer(Protocol):
    """Writes normalized batches to an open file; `close` completes the file."""

    def write(self, batch: Any) -> None: ...

    def close(self) -> None: ...


class NpyWriter:
    """A .npy file of rows. Its header is rewritten at the end, when the number of rows is known."""

    def __init__(self, file: IO[bytes], names: Sequence[str] | None) -> None:
        self.file, self.names = file, names or ()
        self.dtype: Any = None
        self.shape: tuple[int, ...] = (0,)

    def write(self, batch: Any) -> None:
        if not isinstance(batch, np.ndarray):       # a record batch
            batch = self.rows(batch)
        if self.dtype is None:
            self.dtype, self.shape = batch.dtype, (0, *batch.shape[1:])
            self.write_header()
        if batch.shape[1:] != self.shape[1:]:
            raise ValueError(f"rows of shape {batch.shape[1:]} follow rows of shape {self.shape[1:]}; an array needs "
                             "rows of one shape: make all images the same size")
        if not np.can_cast(batch.dtype, self.dtype):
            raise ValueError(f"{batch.dtype} values follow {self.dtype} values; choose one with dtype= or --dtype")
        self.file.write(np.ascontiguousarray(batch, self.dtype).reshape(-1).view(np.uint8).data)
        self.shape = (self.shape[0] + len(batch), *self.shape[1:])

    def rows(self, batch: Any) -> NDArray[Any]:
        """The named columns of a record batch, those of lists by their elements."""
        from bnstream.streams.lists import as_rows, as_values
        from bnstream.streams.sources.tables.embeddings import column_of, is_list

        kinds = dict(zip(batch.schema.names, batch.schema.types, strict=True))
        names = dict.fromkeys(column_of(name, kinds) for name in self.names)
        columns = [(batch.column(name), name) for name in names]
        return np.concatenate([
            as_rows(column, name) if is_list(column.type) else as_values(column, name)[:, np.newaxis]
            for column, name in columns], axis=1)

    def write_header(self) -> None:
        """Write the header. NumPy pads it, so that it does not grow with the number of rows."""
        self.file.seek(0)
        header = {"descr": npy.dtype_to_descr(np.dtype(self.dtype)), "fortran_order": False, "shape": self.shape}
        npy.write_array_header_1_0(self.file, header)

    def close(self) -> None:
        if self.dtype is not None:
            self.write_header()


class TableWriter:
    """A Parquet, Arrow or CSV file. A Parquet row group holds many batches."""

    def __init__(self, file: IO[bytes], suffix: str, names: Sequence[str] | None, schema: Any) -> None:
        with needing("writing tables", '"bnstream[streams]"'):
            from pyarrow import csv, ipc, parquet  # type: ignore[import-untyped]
        self.open: Any = {".csv": csv.CSVWriter, ".parquet": parquet.ParquetWriter, ".arrow": ipc.new_file}[suffix]
        self.file, self.suffix, self.names, self.schema = file, suffix, names, schema
        self.writer: Any = None
        self.batches: list[Any] = []
        self.n_bytes = 0

    def write(self, batch: Any) -> None:
        import pyarrow as pa

        from bnstream.streams.sources.tables.buffers import in_arrow

        if isinstance(batch, np.ndarray):
            if batch.ndim != 2:
                raise ValueError(f"a table has two axes, but the data has {batch.ndim}; write it to a .npy file")
            names = self.names or [str(i) for i in range(batch.shape[1])]
            batch = pa.record_batch([in_arrow(column) for column in batch.T], names=list(names))
        if self.schema is None:
            self.schema = batch.schema
        if not batch.schema.equals(self.schema):
            batch = in_order(batch, self.schema)
        self.begin([batch])
        self.batches.append(batch)
        self.n_bytes += batch.nbytes
        if self.n_bytes >= GROUP_BYTES or self.suffix != ".parquet":
            self.flush()

    def begin(self, batches: Sequence[Any]) -> None:
        """Write what comes before the rows, of which these are the first."""
        import pyarrow as pa

        if self.writer is None:
            require_writable(self.suffix, self.schema)
            table = pa.Table.from_batches(batches, self.schema)
            self.writer = self.open(self.file, self.schema, **options_for(self.suffix, table))

    def flush(self) -> None:
        import pyarrow as pa

        batches, self.batches, self.n_bytes = self.batches, [], 0
        if not batches:
            return
        table = pa.Table.from_batches(batches)
        if self.suffix == ".csv" and table.num_columns == 1 and table.column(0).null_count:
            self.file.write(quoted_blanks(table))
        else:
            self.writer.write_table(table)

    def close(self) -> None:
        self.flush()
        if self.schema is not None:
            self.begin([])
            self.writer.close()


def quoted_blanks(table: Any) -> bytes:
    """The rows of one column of numbers as CSV, with quotes in the lines of missing values: blank lines are no rows."""
    import pyarrow as pa
    from pyarrow import csv

    rows = pa.BufferOutputStream()
    csv.write_csv(table, rows, csv.WriteOptions(include_header=False))
    return re.sub(rb"^(?=\n)", b'""', rows.getvalue().to_pybytes(), flags=re.MULTILINE)


def require_writable(suffix: str, schema: Any) -> None:
    """Raise ValueError if a format cannot hold a column."""
    from pyarrow import types

    for field in schema if suffix == ".csv" else ():
        if types.is_nested(field.type):
            raise ValueError(f"column {field.name!r} is of type {field.type}, which a .csv file cannot hold; write a "
                             ".parquet or .arrow file")


def options_for(suffix: str, table: Any) -> dict[str, Any]:
    """Options of a writer, by the first rows. In Parquet, columns whose values repeat have a dictionary.

    The dictionary of a column whose values do not repeat is built in vain: with those of floats, writing takes four
    times as long, and the file is larger. Each page has a checksum.
    """
    if suffix != ".parquet":
        return {}
    return {"use_dictionary": [field.name for i, field in enumerate(table.schema) if repeats(table.column(i))],
            "write_page_checksum": True}


def repeats(column: Any) -> bool:
    """Whether the values of a column that is not floating repeat."""
    import pyarrow as pa
    from pyarrow import compute, types

    if types.is_dictionary(column.type):
        return True
    if types.is_floating(column.type) or types.is_nested(column.type):
        return False
    try:
        return bool(2 * compute.count_distinct(column).as_py() <= len(column))
    except pa.ArrowNotImplementedError:
        return False


def in_order(batch: Any, schema: Any) -> Any:
    """The record batch with its columns in the order of a schema; raise ValueError if they differ otherwise."""
    types, wanted = ({field.name: field.type for field in one} for one in (batch.schema, schema))
    for name in sorted({*types, *wanted}):
        if types.get(name) != wanted.get(name):
            here, before = (one.get(name, "absent") for one in (types, wanted))
            raise ValueError(f"column {name!r} is {here} here and {before} before; all sources must have the same "
                             "columns and types; choose those to copy with keep= or --keep, and a type with dtype= or "
                             "--dtype")
    return batch.select(schema.names).cast(schema)


@contextmanager
def writing(file: IO[bytes], suffix: str, names: Sequence[str] | None, schema: Any) -> Iterator[Writer]:
    """A writer for a suffix, closed at the end of the block."""
    writer: Writer = NpyWriter(file, names) if suffix == ".npy" else TableWriter(file, suffix, names, schema)
    try:
        yield writer
    except BaseException:
        with suppress(Exception):       # Otherwise it would try when the file is closed.
            writer.close()
        raise
    writer.close()
