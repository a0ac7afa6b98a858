"""apply: normalize a source of any size by the statistics of its channels, and write it to a file."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from contextlib import closing
from typing import Any, Unpack

import numpy as np

from bnstream.core.affine import Affine, default_channel_axis, several_channel_axes
from bnstream.core.batchnorm import BatchNorm
from bnstream.core.checks import integer, path_of
from bnstream.core.columns import Columns
from bnstream.core.moments import Moments
from bnstream.statefiles import load
from bnstream.statefiles.atomic import replacing
from bnstream.statefiles.overwriting import require_replaceable
from bnstream.streams.channels import without
from bnstream.streams.checks import require_counts, require_local, require_no_data, require_writable
from bnstream.streams.cursor import Cursor, Progress
from bnstream.streams.parallel import map_pieces
from bnstream.streams.sources import Piece, Reading, Source, SourceError, Wanted, open_sources, options_of
from bnstream.streams.sources.errors import reading
from bnstream.streams.sources.source import names_of
from bnstream.streams.writers import writing


def apply(
    state: Moments | BatchNorm | str | os.PathLike[str],
    source: Any,
    out: str | os.PathLike[str],
    *,
    channel_axis: int | None = None,
    eps: float | None = None,
    chunk_rows: int | None = None,
    n_threads: int | None = None,
    force: bool = False,
    progress: Callable[[Progress], object] | None = None,
    **reading_options: Unpack[Reading],
) -> int:
    """Normalize a source of any size by the statistics of its channels, and write it to a file.

    Parameters
    ----------
    state : Moments, BatchNorm or path
        The statistics, or a state file: mean and variance (``ddof=0``) of a `Moments`; the running estimates, gamma and
        beta of a layer.
    source
        As for `fit`. The columns of a table that `state` names are normalized. The other columns are copied, those of
        CSV files as text.
    out : path
        A .npy file, which holds the named columns only, or a .parquet, .arrow or .csv file. It appears when it is
        complete; until then a hidden file is beside it. It is not read from a folder or glob.
    channel_axis : int, optional
        The channel axis of arrays, by default that of the data that `state` was computed from, which may have had
        several channel axes or none. Not for arrays of one axis, tables and images.
    eps : float, optional
        Added to the variance, by default 0 or the eps of the layer. A channel of variance 0 (with eps 0) is centred and
        not divided.
    chunk_rows, n_threads, progress
        As for `fit`. The threads load and normalize.
    force : bool, default False
        Replace `out` if it exists, even if it is the source, and write it even below a folder that is a source.
    **reading_options
        How to read the source, as for `fit`.

    Returns
    -------
    int
        Number of rows written.

    Raises
    ------
    TypeError
        If `state` or `source` is not of the kinds above, or an argument is of the wrong type.
    SourceError
        As for `fit`, and if channels are missing. `out` is then as it was.
    ValueError
        If `out` has an unsupported suffix, is a source or below one and not to be replaced, `state` has channels
        without statistics, or `eps`, `chunk_rows` or `n_threads` is out of range.
    OSError
        If `out` cannot be written, or exists and is not to be replaced; it is then as it was.

    See Also
    --------
    fit : compute the statistics of a source.
    normalize : do the same to an array.

    Notes
    -----
    The result has the dtype of the data if that is floating. Otherwise it is float32 for arrays and float64 for tables.
    Missing values stay missing.

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
    require_local(out)
    out = path_of("out", out)
    if out.suffix not in (".npy", ".parquet", ".arrow", ".csv"):
        raise ValueError(f"out must end in .npy, .parquet, .arrow or .csv, got {str(out)!r}")
    require_writable(out)
    if not isinstance(state, (Moments, BatchNorm, str, os.PathLike)):
        raise TypeError(f"state must be a Moments, a BatchNorm or the path of a state file, got {type(state).__name__}")
    known = state if isinstance(state, (Moments, BatchNorm)) else load(state)
    if not isinstance(known, (Moments, BatchNorm)):
        raise ValueError(f"{state} holds a {type(known).__name__}, which has no statistics to apply; expected those of "
                         "a Moments or a BatchNorm")
    options = options_of("apply", reading_options)
    known = without(known, options.pop("exclude", ()))
    if "numeric" in options:
        raise ValueError("apply normalizes the columns that the statistics name; leave out numeric (--numeric), which "
                         "is for fit")
    affine = Affine(known, eps)
    axis = None if channel_axis is None else integer("channel_axis", channel_axis)
    wanted = Wanted(affine.names, axis, default_axis=default_channel_axis(known), whole_rows=True,
                    reading=options, out=out)
    sources = open_sources(source, wanted)
    inputs = [file.local for one in sources for file in one.files if file.local is not None]
    states = [] if isinstance(state, (Moments, BatchNorm)) else [state]
    require_replaceable(out, [*inputs, *states], force=force, writes_state=False)
    require_no_data(out, source, inputs, force=force)
    cursor = Cursor(sources, {})

    def normalize_piece(source: Source, piece: Piece) -> list[Any]:
        with reading(f"{source.name}, {piece.place}"):
            return [normalized(values, source, affine, known if axis is None else None) for values in piece.load()]

    with replacing(out) as file, writing(file, out.suffix, affine.names) as writer:
        with closing(map_pieces(normalize_piece, sources, cursor, chunk_rows, n_threads)) as parts:
            for index, piece, batches in parts:
                try:
                    for batch in batches:
                        writer.write(batch)
                except (RuntimeError, TypeError, ValueError) as error:      # all errors of pyarrow are among these
                    raise SourceError(f"{sources[index].name}, {piece.place}: {error}") from error
                cursor.advance(index, piece, sum(map(len, batches)))
                if progress is not None:
                    progress(cursor.progress())
        if not cursor.n_rows:
            raise SourceError(f"{names_of(sources)}: no rows; there is nothing to normalize")
    return cursor.n_rows


def normalized(values: Any, source: Source, affine: Affine, state: Moments | BatchNorm | None) -> Any:
    """Normalize an array, with rows first, columns of a .npz file, or a record batch.

    state: where the channels are in its data, they are in the array; None if the caller chose their axis.
    """
    if isinstance(values, Columns):
        return affine.of_table(values)
    if not isinstance(values, np.ndarray):
        return normalized_columns(values, source.fields, affine)
    axes = source.batch_axes or ()
    channel_axis = next(axis for axis in range(values.ndim) if axis not in axes)
    several = None if state is None else several_channel_axes(state, values.ndim)
    if channel_axis == 0 or 0 in (several or ()):
        raise ValueError("rows are written in order, so the channel axis cannot be the first; normalize a memmap with "
                         "bnstream.normalize")
    y = affine.of_array(values, channel_axis) if several is None else affine.of_batch(values, several)
    return y if source.rows_first else y[np.newaxis]


def normalized_columns(batch: Any, fields: Mapping[str, Any], affine: Affine) -> Any:
    """Normalize the columns of a record batch that hold channels. Missing values stay missing."""
    import pyarrow as pa  # type: ignore[import-untyped]

    from bnstream.streams.lists import normalized_lists
    from bnstream.streams.sources.columns import filled
    from bnstream.streams.sources.embeddings import is_list

    if affine.names is None:
        raise ValueError("the statistics have no column names; fit them from a table, or set the names of the state")
    columns = dict(zip(batch.schema.names, batch.columns, strict=True))
    for name, field in fields.items():
        if is_list(columns[name].type):
            columns[name] = normalized_lists(columns[name], name, field, affine)
            continue
        values, present = filled(columns[name], name)
        missing = None if present is None else ~present
        columns[name] = pa.array(affine.of_named_column(values, name), mask=missing)
    schema = [field.with_type(columns[field.name].type) for field in batch.schema]
    return pa.RecordBatch.from_arrays([*columns.values()], schema=pa.schema(schema, batch.schema.metadata))
