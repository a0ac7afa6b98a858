"""fit: the moments of a source of any size, in one pass, which may stop at any moment and go on."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np

from bnstream.core.moments import Moments
from bnstream.statefiles import save
from bnstream.streams.accumulate import Accumulator, Policy
from bnstream.streams.place import (
    Place,
    Progress,
    names_of,
    parts_of,
    require_counts,
    require_no_source,
    require_writable,
)
from bnstream.streams.sources import Source, SourceError, Wanted, open_sources


def fit(
    source: Any,
    out: str | os.PathLike[str] | None = None,
    *,
    columns: Sequence[Any] | None = None,
    channel_axis: int = -1,
    chunk_rows: int | None = None,
    n_threads: int | None = None,
    nan_policy: Policy = "raise",
    checkpoint_every: float = 60.0,
    resume: bool = False,
    progress: Callable[[Progress], object] | None = None,
) -> Moments:
    """Count, mean and variance of every channel of a source of any size, in one pass.

    Parameters
    ----------
    source : path, list of paths, array, table or iterable of these
        A file (.npy, .npz; .csv and .tsv, also .gz and .zip; .parquet; .arrow, .feather; images), a folder or a glob
        of files of one kind; an array or a memmap; whatever has ``__arrow_c_stream__`` (frames of pandas and polars,
        tables of pyarrow, relations of DuckDB); a pyarrow.dataset; an iterable of arrays or tables. It is never held as
        a whole.
    out : path, optional
        Where the state goes, as by `save`. While the pass lasts, a checkpoint beside it, ``out`` + ".checkpoint", has
        what was read so far.
    columns : sequence of str or int, optional
        The columns of a table, the arrays of a .npz file, the channels of images, by name; the channels of an array, by
        index. All of them by default.
    channel_axis : int, default -1
        Of arrays: where the channels are. All other axes are reduced. An array of one axis is one channel.
    chunk_rows : int, optional
        The most rows that are read at a time; by default some MiB of them.
    n_threads : int, optional
        How many threads load and sum; no bit depends on it.
    nan_policy : {"raise", "omit", "propagate"}, default "raise"
        What to do about missing values, NaN and inf: refuse the source; leave them out, and count the others of each
        channel; or let them through.
    checkpoint_every : float, default 60
        Seconds from one checkpoint to the next.
    resume : bool, default False
        Go on from the checkpoint, if there is one: with the same bits as a pass that was never interrupted.
    progress : callable, optional
        Called after each chunk with a `Progress`, of share, n_rows and source. What it raises ends the pass, which
        leaves a checkpoint first.

    Returns
    -------
    Moments
        With the names of the channels, where they have names.

    Raises
    ------
    SourceError
        A ValueError: nothing to read, a file that is damaged, that changes while it is read or has other columns than
        the first, columns that are not of numbers, no rows, a channel of missing values alone, NaN under
        ``nan_policy="raise"``. The message says where. The last checkpoint stays.
    OSError
        If `out` cannot be written.

    See Also
    --------
    apply : normalize a source by the result.

    Notes
    -----
    The error bound of `Moments` holds for any `chunk_rows` and any order of files. A checkpoint goes with its sources,
    their sizes and times, and the arguments; anything else is refused.

    Examples
    --------
    >>> import numpy as np, bnstream
    >>> m = bnstream.fit(np.arange(10.0).reshape(5, 2) for _ in range(3))
    >>> m.n.tolist(), m.mean.tolist()
    ([15, 15], [4.0, 5.0])
    """
    require_counts(chunk_rows, n_threads)
    if resume and out is None:
        raise ValueError("resume=True goes on with the checkpoint beside out, and there is no out; give it")
    if not checkpoint_every >= 0:
        raise ValueError(f"checkpoint_every must be seconds, 0 or more, got {checkpoint_every}")
    sources = open_sources(source, Wanted(columns, channel_axis))
    total = Accumulator(sources[0], nan_policy)
    total.result()      # refuses a policy that there is none of before anything is read
    place = Place(sources, {
        "columns": None if columns is None else [str(column) for column in columns], "channel_axis": channel_axis,
        "chunk_rows": chunk_rows, "nan_policy": nan_policy,
    })
    checkpoint = None
    if out is not None:
        require_writable(Path(out))
        require_no_source(Path(out), sources)
        checkpoint = Path(f"{os.fspath(out)}.checkpoint")
        if checkpoint.exists() and not resume:
            raise SourceError(f"there is a checkpoint, {checkpoint}: go on with it with resume=True (--resume), or "
                              "delete it")
        if checkpoint.exists():
            total.restore(place.resume(checkpoint))

    def keep() -> None:
        if checkpoint is not None:
            save(checkpoint, total.result(), progress=place.to_json())

    saved = time.monotonic()
    with closing(parts_of(sources, place, chunk_rows, n_threads, total.of_piece)) as parts:
        for index, piece, part in parts:
            total.merge(part)
            if not place.take(index, piece, part.n_rows):
                continue
            try:
                if progress is not None:
                    progress(place.progress())
            except BaseException:
                keep()
                raise
            if time.monotonic() - saved >= checkpoint_every:
                keep()
                saved = time.monotonic()
    if place.n_rows == 0:
        raise SourceError(f"{names_of(sources)}: no rows; there is nothing to take statistics of")
    result = total.result()
    require_values(result, sources)
    if out is not None and checkpoint is not None:
        save(out, result)
        checkpoint.unlink(missing_ok=True)
    return result


def require_values(m: Moments, sources: Sequence[Source]) -> None:
    """That each channel has a value: under `omit` all may have been missing."""
    empty = np.flatnonzero(m.n == 0)
    if empty.size:
        which = ", ".join(repr(m.names[i]) if m.names else str(i) for i in empty[:10])
        raise SourceError(f"{names_of(sources)}: every value is missing in column {which}; choose others with columns= "
                          "or --columns")
