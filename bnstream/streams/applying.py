"""apply: a source of any size, normalized by statistics of its channels, to a file."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import IO, Any, Protocol

import numpy as np
from numpy.lib import format as npy

from bnstream.core.affine import Affine
from bnstream.core.batchnorm import BatchNorm
from bnstream.core.moments import Moments
from bnstream.statefiles import load
from bnstream.statefiles.atomic import replacing
from bnstream.streams.place import (
    Place,
    Progress,
    names_of,
    parts_of,
    require_counts,
    require_no_source,
    require_writable,
)
from bnstream.streams.sources import Piece, Source, SourceError, Wanted, open_sources
from bnstream.streams.sources.source import reading

GROUP_BYTES = 16 << 20      # of a row group


class Writer(Protocol):
    """Takes normalized batches to a file, which has room for what comes; `close` completes it."""

    def write(self, batch: Any) -> None: ...

    def close(self) -> None: ...


class NpyWriter:
    """A .npy file of rows. How many, its header is told at the end: NumPy leaves room for that."""

    def __init__(self, file: IO[bytes], names: Sequence[str] | None) -> None:
        self.file, self.names = file, names or ()
        self.dtype: Any = None
        self.shape: tuple[int, ...] = (0,)

    def write(self, batch: Any) -> None:
        if not isinstance(batch, np.ndarray):       # a record batch
            columns = [batch.column(name).to_numpy(zero_copy_only=False) for name in self.names]
            batch = np.stack(columns, axis=1)
        if self.dtype is None:
            self.dtype, self.shape = batch.dtype, (0, *batch.shape[1:])
            self.write_header()
        if batch.shape[1:] != self.shape[1:]:
            raise ValueError(f"rows of shape {batch.shape[1:]} after rows of {self.shape[1:]}; an array holds rows of "
                             "one shape: make all images of one size")
        if not np.can_cast(batch.dtype, self.dtype):
            raise ValueError(f"values of {batch.dtype} after such of {self.dtype}; make all files of one dtype")
        self.file.write(np.ascontiguousarray(batch, self.dtype).reshape(-1).view(np.uint8).data)
        self.shape = (self.shape[0] + len(batch), *self.shape[1:])

    def write_header(self) -> None:
        self.file.seek(0)
        described = {"descr": npy.dtype_to_descr(np.dtype(self.dtype)), "fortran_order": False, "shape": self.shape}
        npy.write_array_header_1_0(self.file, described)

    def close(self) -> None:
        self.write_header()


class TableWriter:
    """A Parquet, Arrow or CSV file. Row groups of Parquet are made of many batches."""

    def __init__(self, file: IO[bytes], suffix: str, names: Sequence[str] | None) -> None:
        self.file, self.suffix, self.names = file, suffix, names
        self.writer: Any = None
        self.batches: list[Any] = []
        self.n_bytes = 0

    def write(self, batch: Any) -> None:
        import pyarrow as pa  # type: ignore[import-untyped]
        from pyarrow import csv, ipc, parquet

        if isinstance(batch, np.ndarray):
            if batch.ndim != 2:
                raise ValueError(f"a table has rows and columns, the data {batch.ndim} axes; write it to a .npy file")
            names = self.names or [str(i) for i in range(batch.shape[1])]
            batch = pa.record_batch([np.ascontiguousarray(column) for column in batch.T], names=list(names))
        for i, field in enumerate(batch.schema):        # each batch may have another dictionary
            if pa.types.is_dictionary(field.type):
                batch = batch.set_column(i, field.name, batch.column(i).dictionary_decode())
        if self.writer is None:
            make = {".csv": csv.CSVWriter, ".parquet": parquet.ParquetWriter, ".arrow": ipc.new_file}[self.suffix]
            self.writer, self.schema = make(self.file, batch.schema), batch.schema
        if not batch.schema.equals(self.schema):
            batch = in_order(batch, self.schema)
        self.batches.append(batch)
        self.n_bytes += batch.nbytes
        if self.n_bytes >= GROUP_BYTES or self.suffix != ".parquet":
            self.flush()

    def flush(self) -> None:
        import pyarrow as pa

        batches, self.batches, self.n_bytes = self.batches, [], 0
        if batches:
            self.writer.write_table(pa.Table.from_batches(batches))

    def close(self) -> None:
        self.flush()
        self.writer.close()


@contextmanager
def writing(file: IO[bytes], suffix: str, names: Sequence[str] | None) -> Iterator[Writer]:
    """A writer, which is closed."""
    writer: Writer = NpyWriter(file, names) if suffix == ".npy" else TableWriter(file, suffix, names)
    try:
        yield writer
    except BaseException:
        with suppress(Exception):       # it would try later on, when the file is closed
            writer.close()
        raise
    writer.close()


def in_order(batch: Any, schema: Any) -> Any:
    """A record batch with its columns in the order of a schema, which must be the same but for that."""
    types, wanted = ({field.name: field.type for field in one} for one in (batch.schema, schema))
    for name in sorted({*types, *wanted}):
        if types.get(name) != wanted.get(name):
            there, before = (one.get(name, "absent") for one in (types, wanted))
            raise ValueError(f"column {name!r} is {there}, and in what came before {before}; all must have the same "
                             "columns and types")
    return batch.select(schema.names).cast(schema)


def apply(
    state: Moments | BatchNorm | str | os.PathLike[str],
    source: Any,
    out: str | os.PathLike[str],
    *,
    channel_axis: int | None = None,
    eps: float | None = None,
    chunk_rows: int | None = None,
    n_threads: int | None = None,
    progress: Callable[[Progress], object] | None = None,
) -> int:
    """Normalize a source of any size by the statistics of its channels, to a file.

    Parameters
    ----------
    state : Moments, BatchNorm or path
        Statistics, as from `fit`, or the file of them: mean and variance (``ddof=0``) of a `Moments`; of a layer its
        running estimates, gamma and beta.
    source
        As for `fit`. Of a table the columns that `state` names are normalized, the others passed on as they are; from
        CSV as text.
    out : path
        A .npy file (the named columns alone), or a .parquet, .arrow or .csv file. It is there when it is whole: until
        then a hidden file is beside it.
    channel_axis : int, optional
        Of arrays: where the channels are; by default where they were for `state`.
    chunk_rows, n_threads, progress
        As for `fit`.
    eps : float, optional
        Added to the variance; by default 0, or the eps of a layer. Channels of variance 0 become 0, or beta.

    Returns
    -------
    int
        How many rows were written.

    Raises
    ------
    SourceError
        As by `fit`; and if channels are lacking. `out` is then as it was.
    ValueError
        If `out` is of another kind, or `state` holds no statistics.
    OSError
        If `out` cannot be written; it is then as it was.

    See Also
    --------
    fit : the statistics of a source.
    normalize : the same for an array.

    Notes
    -----
    The results have the dtype of the data if that is floating; else those of arrays float32, of tables float64. Missing
    values stay missing.

    Examples
    --------
    >>> import os, tempfile, numpy as np, bnstream
    >>> x = np.array([[1.0], [3.0]])
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     bnstream.apply(bnstream.fit(x), x, os.path.join(folder, "y.npy"))
    ...     np.load(os.path.join(folder, "y.npy")).ravel().tolist()
    2
    [-1.0, 1.0]
    """
    require_counts(chunk_rows, n_threads)
    out = Path(out)
    if out.suffix not in (".npy", ".parquet", ".arrow", ".csv"):
        raise ValueError(f"out must end in .npy, .parquet, .arrow or .csv, got {str(out)!r}")
    require_writable(out)
    known = state if isinstance(state, (Moments, BatchNorm)) else load(state)
    affine = Affine(known, eps)
    axis = channel_axis_of(known) if channel_axis is None else channel_axis
    sources = open_sources(source, Wanted(affine.names, axis, whole_rows=True))
    require_no_source(out, sources)
    place = Place(sources, {})

    def part(source: Source, piece: Piece) -> list[Any]:
        with reading(f"{source.name}, {piece.place}"):
            return [normalized(values, source, affine) for values in piece.load()]

    with replacing(out) as file, writing(file, out.suffix, affine.names) as writer:
        with closing(parts_of(sources, place, chunk_rows, n_threads, part)) as parts:
            for index, piece, batches in parts:
                try:
                    for batch in batches:
                        writer.write(batch)
                except (RuntimeError, TypeError, ValueError) as error:      # pyarrow's are all of these
                    raise SourceError(f"{sources[index].name}, {piece.place}: {error}") from error
                place.take(index, piece, sum(map(len, batches)))
                if progress is not None:
                    progress(place.progress())
        if not place.n_rows:
            raise SourceError(f"{names_of(sources)}: no rows; there is nothing to normalize")
    return place.n_rows


def channel_axis_of(state: Moments | BatchNorm) -> int:
    """Where the channels were; -1 if behind all that was reduced over."""
    if isinstance(state, BatchNorm):
        return state.channel_axis
    axes: Any = (state.axis,) if isinstance(state.axis, int) else state.axis or ()
    left = set(range(len(axes) + 1)) - {axis % (len(axes) + 1) for axis in axes}
    return -1 if min(left) == len(axes) else min(left)


def normalized(values: Any, source: Source, affine: Affine) -> Any:
    """A batch with rows first, or a record batch."""
    if not isinstance(values, np.ndarray):
        return normalized_columns(values, affine)
    axes = source.batch_axes or ()
    channel_axis = next(axis for axis in range(values.ndim) if axis not in axes)
    if channel_axis == 0:
        raise ValueError("rows are written one after the other, and the first axis is that of the channels; normalize "
                         "a memmap with bnstream.normalize")
    y = affine.of_array(values, channel_axis)
    return y if source.rows_first else y[np.newaxis]


def normalized_columns(batch: Any, affine: Affine) -> Any:
    """A record batch with the named columns replaced; what is missing stays so."""
    import pyarrow as pa

    from bnstream.streams.sources.tables import of_numbers

    if affine.names is None:
        raise ValueError("the statistics have no names of columns; fit them from a table, or set names of the state")
    for name in affine.names:
        i = batch.schema.get_field_index(name)
        column = of_numbers(batch.column(i), name)
        missing = column.is_null().to_numpy(zero_copy_only=False) if column.null_count else None
        values = (column if missing is None else column.fill_null(0)).to_numpy()
        batch = batch.set_column(i, name, pa.array(affine.of_column(values, name), mask=missing))
    return batch
