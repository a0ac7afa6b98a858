"""fit: the moments of a source of any size, in one pass that can be interrupted and resumed."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Iterable, Sequence
from contextlib import closing
from typing import Any, Unpack, overload

import numpy as np

from bnstream.core.checks import integer, number
from bnstream.core.groups.grouped import GroupedMoments
from bnstream.core.groups.keys import Missing
from bnstream.core.labels import listed
from bnstream.core.moments import Moments
from bnstream.statefiles import save
from bnstream.statefiles.overwriting import require_replaceable
from bnstream.streams.accumulator import Accumulator, Policy
from bnstream.streams.checkpoints import Checkpoint
from bnstream.streams.checks import (
    as_by,
    as_columns,
    as_state_path,
    as_weights,
    require_counts,
    require_groupable,
    require_tables,
    require_writable,
)
from bnstream.streams.cursor import Cursor, Progress
from bnstream.streams.gridaccumulator import GridAccumulator
from bnstream.streams.groupaccumulator import GroupAccumulator
from bnstream.streams.parallel import map_pieces
from bnstream.streams.sources import Piece, Reading, Source, SourceError, Wanted, open_sources, options_of
from bnstream.streams.sources.errors import reading
from bnstream.streams.sources.options import recorded
from bnstream.streams.sources.source import local_files, names_of

# Values of each channel in a batch of a wide array, for exact statistics. The integers of a batch cost as much time as
# some hundred values of each channel, and about as much memory.
EXACT_ROWS = 128


class Fitting(Reading, total=False):
    """The keyword arguments of `fit` but for `by`, which decides what is returned."""

    columns: str | Sequence[Any] | None
    weights: Any
    missing_keys: Missing
    channel_axis: int | None
    chunk_rows: int | None
    n_threads: int | None
    nan_policy: Policy
    exact: bool
    track: str | Sequence[str] | None
    checkpoint_every: float
    resume: bool
    restart: bool
    force: bool
    progress: Callable[[Progress], object] | None


@overload
def fit(
    source: Any, out: str | os.PathLike[str] | None = None, *, by: None = None, **arguments: Unpack[Fitting]
) -> Moments: ...
@overload
def fit(
    source: Any, out: str | os.PathLike[str] | None = None, *, by: str | Sequence[str], **arguments: Unpack[Fitting]
) -> GroupedMoments: ...
def fit(
    source: Any,
    out: str | os.PathLike[str] | None = None,
    *,
    columns: str | Sequence[Any] | None = None,
    weights: Any = None,
    by: str | Sequence[str] | None = None,
    missing_keys: Missing = "raise",
    channel_axis: int | None = None,
    chunk_rows: int | None = None,
    n_threads: int | None = None,
    nan_policy: Policy = "raise",
    exact: bool = False,
    track: str | Sequence[str] | None = None,
    checkpoint_every: float = 60.0,
    resume: bool = False,
    restart: bool = False,
    force: bool = False,
    progress: Callable[[Progress], object] | None = None,
    **reading_options: Unpack[Reading],
) -> Moments | GroupedMoments:
    """Count, mean and variance of every channel of a source of any size, in one pass.

    Parameters
    ----------
    source : path, list of paths, array, table, or iterable of arrays, tables or mappings
        Files (.npy, .npz; .csv, .tsv, .jsonl, also compressed; .parquet; .arrow, .feather; .orc; .avro; .xlsx; .h5,
        .nc, .zarr; images), or a folder, an archive or a glob of files of one format, by paths or URLs (``s3://``,
        ``https://`` and so on); a binary file object; a query, ``"duckdb://FILE?QUERY"``; an array or
        a memmap; an array of h5py, zarr, Dask, netCDF4 or xarray, which is read by slices, or a Dataset of xarray; an
        object with ``__arrow_c_stream__`` (data frames of pandas and polars, pyarrow tables, DuckDB relations); a lazy
        frame of polars; a pyarrow dataset or scanner; a data set of Hugging Face; an iterable of arrays or tables. Only
        spreadsheets are read into memory as a whole. An array in an iterable may have weights or a mask:
        ``{"batch": x, "weights": weights, "where": mask}``, a mapping of the arguments of `Moments.update`. The items
        of an iterable may also be rows: those of a database cursor, mappings of numbers by name, and arrays with
        ``item="row"``.
    out : path, optional
        File to `save` the state to. During the pass, a checkpoint of what was read so far is kept beside it, under
        this name with ".checkpoint" added.
    columns : str or sequence of str or int, optional
        The channels to use, by default all: names of table columns or of arrays in a .npz file, or patterns such as
        ``"f*"``, unless a column has this very name; names of image channels; indices of array channels.
    weights : str or DataArray, optional
        The column of a table that holds the weight of each row, as for `Moments.update`. It is not a channel. With
        `exact`, weights are whole numbers, which say how often each row counts. For a Dataset, the variable or
        coordinate that holds the weights, along some of the reduced dimensions; or a DataArray of weights.
    by : str or sequence of str, optional
        The columns of a table that hold the keys of its rows, to compute the statistics of each group. They hold
        integers, bools or strings, and are not channels. In a text file a column of whole numbers is one of integers,
        so that 01234 is the key 1234; keys of a different type in another file are an error.
    missing_keys : {"raise", "omit", "keep"}, default "raise"
        What to do about rows without a key, as for `GroupedMoments`.
    channel_axis : int, optional
        The channel axis of arrays, by default the last. All other axes are reduced. An array of one axis is one
        channel, and takes no `channel_axis`; nor do tables and images.
    chunk_rows : int, optional
        Maximum number of rows to read at a time, by default as many as take a few MiB.
    n_threads : int, optional
        Number of threads that load and sum, by default `get_num_threads`, and more for remote files, as these threads
        wait for servers most of the time. The bits of the result do not depend on it. Iterables are read and summed by
        one thread, as they may reuse their buffers.
    nan_policy : {"raise", "omit", "propagate"}, default "raise"
        How to handle missing values, NaN and inf: raise an error; omit them, and count the other values of each
        channel; or propagate them to the result. A row whose weight is missing or NaN is left out under "omit", and an
        error under the other policies.
    exact : bool, default False
        Compute exact statistics, as `Moments` does with ``exact=True``: the result has the same bits for any cut of the
        data into files, any order of them and any `chunk_rows`.
    track : str or sequence of str, optional
        What to find in the same pass besides count, mean and variance, as for `Moments`: "min" and "max", "missing",
        "skewness" and "kurtosis", "quantiles". By default "missing", which costs nothing, unless missing values are
        errors; with `by`, where each group has its cost, nothing.
    checkpoint_every : float, default 60
        Seconds between checkpoints.
    resume : bool, default False
        Continue from the checkpoint, if there is one. The result has the same bits as that of an uninterrupted pass.
    restart : bool, default False
        Begin anew, even if there is a checkpoint, which is then replaced.
    force : bool, default False
        Replace `out` even if it is no state file, or one of the sources. An older state file is always replaced.
    progress : callable, optional
        Called after each piece, which may hold several chunks, with a `Progress` of the fields share, n_rows and
        source. If it raises an error, the pass writes a checkpoint and ends.
    **reading_options
        How to read the source: the options are listed in `Reading`. One that does not concern the source is refused.

    Returns
    -------
    Moments or GroupedMoments
        With the names of the channels, if they have names. With `by`, a `GroupedMoments`, whose groups are in the order
        in which they first appear, those of one batch in ascending order.

    Raises
    ------
    TypeError
        If `source` is not a source, an argument is of the wrong type, or a mask or weights in a mapping are.
    ValueError
        If `chunk_rows`, `n_threads`, `checkpoint_every` or `nan_policy` is out of range, `resume` is given without
        `out` or with `restart`, `missing_keys` without `by`, or `out` is one of the sources and not to be replaced.
    SourceError
        A ValueError: if there is nothing to read or there are no rows; if a file is damaged, changes while it is read,
        or has other columns than the first; if a column is not numeric; if all values are missing; if there is NaN or
        inf under ``nan_policy="raise"``; if a weight is missing, negative or out of range, or `weights` is given for
        arrays; if exact statistics count more than 2**62 values. The message says where. The last checkpoint is kept.
    OSError
        If `out` cannot be written, or exists and is not to be replaced.

    Warns
    -----
    RuntimeWarning
        If all values of some channels are missing: their n is 0, and their mean and variance are NaN.

    See Also
    --------
    apply : normalize a source by the result.
    Moments.update : what weights mean.

    Notes
    -----
    The error bound of `Moments` holds for any `chunk_rows` and any order of files. A checkpoint can be resumed only
    with the same arguments and the same sources; files are compared by size and modification time. After a pass that
    ended at a fault in its data, the files that it had not begun to read may change before it is resumed; a pass with
    other arguments or sources begins anew.

    A file that is named twice is an error. State files in a folder or glob are not read.

    Exact statistics have the order of the columns in the first file, or that of `columns`. A row of weight 3 counts
    like three equal rows.

    With weights, ``nan_policy="omit"`` leaves out the missing values of each channel separately. The values in rows of
    weight 0 are ignored under every policy.

    Examples
    --------
    >>> import numpy as np, bnstream
    >>> m = bnstream.fit(np.arange(10.0).reshape(5, 2) for _ in range(3))
    >>> m.n.tolist(), m.mean.tolist()
    ([15, 15], [4.0, 5.0])
    >>> m = bnstream.fit([{"batch": np.array([[1.0], [3.0]]), "weights": [3, 1]}])
    >>> m.n.tolist(), m.mean.tolist()
    ([4.0], [1.5])
    >>> m = bnstream.fit(({"a": a, "b": a * a} for a in range(4)))
    >>> m.names, m.mean.tolist()
    (('a', 'b'), [1.5, 3.5])
    >>> import pyarrow
    >>> flights = pyarrow.table({"carrier": ["AA", "UA", "AA"], "delay": [4, 7, 6]})
    >>> bnstream.fit(flights, by="carrier")["AA"].mean.tolist()
    [5.0]
    >>> parts = [np.array([[0.1], [0.2]]), np.array([[0.3]])]
    >>> bnstream.fit(parts, exact=True) == bnstream.fit(parts[::-1], exact=True)
    True
    """
    require_counts(chunk_rows, n_threads)
    columns = as_columns(columns)
    weights = as_weights(weights, columns)
    by = as_by(by, columns, weights)
    GroupedMoments(missing_keys=missing_keys)       # refuses an unknown policy before anything is read
    if missing_keys != "raise" and not by:
        raise ValueError(f"missing_keys={missing_keys!r} (--missing-keys) is for statistics by group; name the columns "
                         "of keys with by= (--by), or leave it out")
    channel_axis = None if channel_axis is None else integer("channel_axis", channel_axis)
    if resume and out is None:
        raise ValueError("resume=True resumes from the checkpoint beside out, but out is missing; give it")
    if resume and restart:
        raise ValueError("resume=True (--resume) continues from the checkpoint and restart=True (--restart) begins "
                         "anew; give one of them")
    number("checkpoint_every", checkpoint_every, "at least 0 seconds", lambda seconds: seconds >= 0)
    options = options_of("fit", reading_options)
    out = None if out is None else as_state_path(out)
    wanted = Wanted(columns, channel_axis, weights=weights, reading=options, out=out, by=by)
    sources = open_sources(source, wanted._replace(least_rows=EXACT_ROWS) if exact else wanted)
    require_tables(sources, weights)
    require_groupable(sources, by)
    if doubt := next((one.doubt for one in sources if one.doubt), ""):
        warnings.warn(doubt, RuntimeWarning, stacklevel=2)
    total = accumulator_of(sources[0], nan_policy, weights, exact, track, by, missing_keys)
    cursor = Cursor(sources, {
        "columns": None if columns is None else [str(column) for column in columns], "channel_axis": channel_axis,
        "chunk_rows": chunk_rows, "nan_policy": nan_policy, "exact": bool(exact),
        "weights": weights if weights is None or isinstance(weights, str) else "an array", **recorded(options),
        **({"track": list(total.track)} if total.track else {}),
        **({"by": list(by), "missing_keys": missing_keys} if by else {}),
    })
    checkpoint = Checkpoint(out, total, cursor, checkpoint_every)
    if out is not None:
        require_writable(out)
        require_replaceable(out, local_files(sources), force=force)
    checkpoint.begin(resume=resume, restart=restart)
    with checkpoint.noting_faults():
        with closing(map_pieces(total.of_piece, sources, cursor, chunk_rows, n_threads)) as parts:
            run(total, cursor, parts, checkpoint, progress)
        if cursor.n_rows == 0:
            raise SourceError(f"{names_of(sources)}: no rows; there is nothing to compute statistics of")
        result = total.result()
        require_values(result, sources)
    if out is not None:
        save(out, result)
        checkpoint.remove()
    return result


def accumulator_of(
    source: Source, nan_policy: Policy, weights: Any, exact: bool, track: str | Sequence[str] | None,
    by: Sequence[str], missing_keys: Missing,
) -> Accumulator:
    """The moments of nothing yet, for sources like this one."""
    if track is None:
        track = () if nan_policy == "raise" or by else "missing"
    if by:
        return GroupAccumulator(source, nan_policy, weights, exact, track, by, missing_keys)
    kind = GridAccumulator if source.in_blocks else Accumulator
    return kind(source, nan_policy, weights, exact, track)


def run(
    total: Accumulator, cursor: Cursor, parts: Iterable[tuple[int, Piece, Accumulator]], checkpoint: Checkpoint,
    progress: Callable[[Progress], object] | None,
) -> None:
    """Merge the parts of a pass, and keep its checkpoint."""
    waiting: list[Accumulator] = []     # parts of columns, until those of the other columns are there
    for index, piece, part in parts:
        waiting.append(part)
        if piece.stop is not None:
            with reading(cursor.sources[index].name):
                for one in waiting:
                    total.merge(one)
            waiting.clear()
        if not cursor.advance(index, piece, part.n_rows):
            continue
        try:
            if progress is not None:
                progress(cursor.progress())
        except BaseException:
            checkpoint.keep()
            raise
        checkpoint.keep_in_time()


def require_values(m: Moments | GroupedMoments, sources: Sequence[Source]) -> None:
    """Raise SourceError if all values of all channels were omitted, and warn of single channels."""
    if isinstance(m, GroupedMoments) and not len(m):
        by = listed([*map(repr, m.key_names or ())])
        raise SourceError(f"{names_of(sources)}: no row has a key in {by}; group by other columns with by= (--by), or "
                          "keep such rows with missing_keys='keep' (--missing-keys keep)")
    n = m.n.sum(0) if isinstance(m, GroupedMoments) else m.n
    empty = np.flatnonzero(n == 0)
    if not empty.size:
        return
    which = listed([repr(m.names[i]) if m.names else str(i) for i in empty])
    noun = "column" if sources[0].is_table else "channel"
    found = f"{names_of(sources)}: every value is missing or left out in {noun} {which}"
    if empty.size < n.size:
        warnings.warn(f"{found}: n is 0 there, and mean and variance are NaN", RuntimeWarning, stacklevel=3)
        return
    advice = f"select other {noun}s with columns= or --columns"
    if noun == "channel":
        advice = "give data, a mask or weights that leave some values"
    raise SourceError(f"{found}; {advice}")
