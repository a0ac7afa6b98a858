"""fit: the moments of a source of any size, in one pass, which may stop at any moment and go on."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing, nullcontext
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from bnstream._accumulate import Accumulator, Policy
from bnstream._kernels._runtime import get_num_threads
from bnstream._place import Place, Progress
from bnstream.moments import Moments
from bnstream.sources import Piece, Source, SourceError, Wanted, open_sources, whole
from bnstream.sources._source import FileSource, ordered_map, reading
from bnstream.statefile import save

R = TypeVar("R")


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
    >>> m.n, m.mean.tolist()
    (15, [4.0, 5.0])
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


def parts_of(
    sources: Sequence[Source],
    place: Place,
    chunk_rows: int | None,
    n_threads: int | None,
    function: Callable[[Source, Piece], R],
) -> Generator[tuple[int, Piece, R], None, None]:
    """function of all pieces from a place on, in order, by several threads; each with the index of its source."""
    def pieces() -> Iterator[tuple[int, Piece]]:
        first = place.index
        for index, source in enumerate(sources[first:], first):
            with nullcontext() if source.in_turn else reading(source.name):      # a generator's errors are its own
                for piece in source.pieces(place.start if index == first else 0, chunk_rows):
                    yield index, piece

    def part(item: tuple[int, Piece]) -> tuple[int, Piece, R]:
        return *item, function(sources[item[0]], item[1])

    in_turn = any(source.in_turn for source in sources)
    index = place.index
    for item in map(part, pieces()) if in_turn else ordered_map(part, pieces(), n_threads or get_num_threads()):
        if item[0] > index:
            require_unchanged(sources[index:item[0]])
            index = item[0]
        yield item
    require_unchanged(sources[index:])


def require_unchanged(sources: Sequence[Source]) -> None:
    for source in sources:
        with reading(source.name):
            source.require_unchanged()


def names_of(sources: Sequence[Source]) -> str:
    return sources[0].name if len(sources) == 1 else f"{sources[0].name} to {sources[-1].name}, {len(sources)} files"


def require_values(m: Moments, sources: Sequence[Source]) -> None:
    """That each channel has a value: under `omit` all may have been missing."""
    empty = np.flatnonzero(np.atleast_1d(m.n) == 0)
    if empty.size:
        which = ", ".join(repr(m.names[i]) if m.names else str(i) for i in empty[:10])
        raise SourceError(f"{names_of(sources)}: every value is missing in column {which}; choose others with columns= "
                          "or --columns")


def require_counts(chunk_rows: int | None, n_threads: int | None) -> None:
    for name, value in (("chunk_rows", chunk_rows), ("n_threads", n_threads)):
        if value is not None and whole(name, value) < 1:
            raise ValueError(f"{name} must be at least 1, got {value}")


def require_no_source(out: Path, sources: Sequence[Source]) -> None:
    for source in sources:
        if isinstance(source, FileSource) and source.path.resolve() == out.resolve():
            raise ValueError(f"{out} is one of the sources, and would be replaced; give another name")


def require_writable(path: Path) -> None:
    """Find out before the pass, not after it."""
    if not path.parent.is_dir():
        raise FileNotFoundError(f"cannot write {path}: there is no folder {path.parent}")
    if path.is_dir():
        raise IsADirectoryError(f"cannot write {path}: it is a folder")
    if not os.access(path.parent, os.W_OK):
        raise PermissionError(f"cannot write {path}: the folder {path.parent} is read-only")
