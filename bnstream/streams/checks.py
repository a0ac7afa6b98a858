"""Checks of the arguments of `fit` and `apply`, before the pass."""

from __future__ import annotations

import os
from collections.abc import Hashable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from bnstream.core.checks import integer, number, path_of
from bnstream.core.threads import require_threads
from bnstream.statefiles.overwriting import is_same
from bnstream.streams.sources import Source, SourceError
from bnstream.streams.sources.arrays.lazyarrays import is_lazy
from bnstream.streams.sources.files import is_path
from bnstream.streams.sources.places.remote import is_url
from bnstream.streams.sources.places.retrying import without_secrets
from bnstream.streams.sources.selection import as_names, as_sequence
from bnstream.streams.sources.source import names_of
from bnstream.streams.writers import SUFFIXES

# What to do about the weights of arrays.
ADVICE = ('give arrays with weights as an iterable of mappings, {"batch": x, "weights": w}, or use '
          "Moments.update(x, weights=w)")


def require_counts(chunk_rows: int | None, n_threads: int | None) -> None:
    """Raise TypeError or ValueError unless both are positive integers or None."""
    if chunk_rows is not None:
        integer("chunk_rows", chunk_rows, first=1)
    require_threads(n_threads)


def as_columns(columns: Any) -> tuple[Any, ...] | None:
    """The names or indices of the selected columns; raise an error unless there are some and they differ."""
    return None if columns is None else as_names("columns", columns, Hashable)


def as_weights(weights: Any, columns: Sequence[Any] | None) -> Any:
    """The name of the column of weights, or a DataArray; raise an error if it is neither, or a selected column."""
    if weights is not None and not isinstance(weights, str) and not (is_lazy(weights) and hasattr(weights, "dims")):
        raise TypeError(f"weights must be the name of a column of a table, got {type(weights).__name__}; {ADVICE}")
    if isinstance(weights, str) and weights in map(str, columns or ()):
        raise SourceError(f"column {weights!r} holds the weights, so it cannot be a channel; leave it out of columns")
    return weights


def require_tables(sources: Sequence[Source], weights: Any) -> None:
    """Raise SourceError if a column of weights is named and the sources hold arrays without names of their axes."""
    if weights is not None and not sources[0].is_table and not sources[0].in_blocks:
        raise SourceError(f"{names_of(sources)} holds arrays, but weights={weights!r} names a column of a table; "
                          f"{ADVICE}")


def as_by(by: Any, columns: Sequence[Any] | None, weights: Any) -> tuple[str, ...]:
    """The names of the columns of keys; raise an error unless they are names of other columns than the channels."""
    if by is None:
        return ()
    names = as_names("by", by)
    for name in names:
        if name in map(str, columns or ()) or name == weights:
            raise SourceError(f"column {name!r} holds the keys, so it can be neither a channel nor the weights; "
                              "leave it out of by, columns or weights")
    return names


def require_groupable(sources: Sequence[Source], by: Sequence[str]) -> None:
    """Raise SourceError if keys are named and the sources are no tables."""
    if by and not sources[0].is_table:
        raise SourceError(f"{names_of(sources)} holds arrays, but by={list(by)} (--by) names columns of a table; give "
                          "arrays with keys to GroupedMoments.update(x, keys)")


def require_keys(sources: Sequence[Source], by: Sequence[str]) -> None:
    """Raise SourceError unless the sources are tables with the columns of the keys."""
    if not sources[0].is_table:
        raise SourceError(f"{names_of(sources)} holds arrays, but the statistics are by the columns {list(by)} of a "
                          "table; normalize arrays with GroupedMoments.normalize(x, keys)")
    for source in sources:
        lacking = [] if source.schema is None else [name for name in by if name not in source.schema.names]
        if lacking:
            raise SourceError(f"{source.name} has no column {lacking[0]!r}, which holds the keys of the statistics; "
                              "name the columns of the keys with by= (--by)")


def require_no_data(out: Path, source: Any, inputs: Sequence[Path], *, force: bool) -> None:
    """Raise ValueError if the next pass over the source would take the output of this one for data."""
    if len(inputs) > 1 and any(is_same(out, path) for path in inputs):
        raise ValueError(f"{out} is one of {len(inputs)} sources, and would be normalized again by the next pass; "
                         "leave it out of the sources, or give another name")
    for path in [source] if is_path(source) else source if isinstance(source, (list, tuple)) else []:
        if force or not (is_path(path) and Path(path).is_dir()):
            continue
        folder, place = Path(path).resolve(), out.resolve()
        if place.is_relative_to(folder) and not any(part[0] in "._" for part in place.relative_to(folder).parts):
            raise ValueError(f"{out} would lie in {path}, which is a source, and the next pass would take it for data; "
                             "give another folder, or insist with force=True (--force)")


def require_local(out: Any) -> None:
    """Raise ValueError if the output is a URL."""
    if isinstance(out, str) and is_url(out):
        raise ValueError(f"{without_secrets(out)} is a URL, but outputs are written to this machine; give a path, and "
                         "copy the file")


def as_state_path(out: Any) -> Path:
    """The path of a state file; raise an error if it is a URL, or of another format."""
    require_local(out)
    path = path_of("out", out)
    if path.suffix in (".nc", ".zarr"):
        raise ValueError(f"out is a state file, as stats.npz, got {path}; for NetCDF or Zarr, write the result of "
                         "ds.bnstream.statistics(m), after import bnstream.xarray")
    return path


def require_writable(path: Path) -> None:
    """Raise an OSError before the pass, not after it, if a file cannot be written."""
    if not path.parent.is_dir():
        raise FileNotFoundError(f"cannot write {path}: there is no folder {path.parent}")
    if path.is_dir():
        raise IsADirectoryError(f"cannot write {path}: it is a folder")
    if not os.access(path.parent, os.W_OK):
        raise PermissionError(f"cannot write {path}: the folder {path.parent} is read-only")


def require_output(out: Path, to_folder: bool, out_format: str | None, resume: bool) -> None:
    """Raise ValueError or OSError before the pass if an output cannot be written as it is asked for."""
    formats = [suffix[1:] for suffix in SUFFIXES]
    if out_format is not None and out_format not in formats:
        raise ValueError(f"out_format must be one of {', '.join(formats)}, got {out_format!r}")
    if to_folder:
        require_writable(out / "a file" if out.is_dir() else out)
        return
    for given, option in ((out_format is not None, "out_format (--out-format)"), (resume, "resume=True (--resume)")):
        if given:
            raise ValueError(f"{option} is for a folder of outputs, one for each file, got out={str(out)!r}; end it "
                             "with a slash, or leave the option out")
    if out.suffix not in SUFFIXES:
        raise ValueError(f"out must end in {', '.join(SUFFIXES[:-1])} or {SUFFIXES[-1]}, or be a folder, got "
                         f"{str(out)!r}")
    require_writable(out)


def as_clip(clip: Any, inverse: bool) -> tuple[float, float] | None:
    """The limits of normalized values: a pair, or a number and its negative."""
    if clip is None:
        return None
    if inverse:
        raise ValueError("clip (--clip) limits normalized values, and inverse=True (--inverse) maps them back; leave "
                         "one of them out")
    expected = "a positive number, or a pair of increasing ones"
    if isinstance(clip, (tuple, list)):
        if len(clip) != 2:
            raise ValueError(f"clip must be {expected}, got {clip!r:.60}")
        low, high = (number("clip", value, expected, lambda limit: limit == limit) for value in clip)
    else:
        high = number("clip", clip, expected, lambda limit: limit > 0)
        low = -high
    if not low < high:
        raise ValueError(f"clip must be {expected}, got {clip!r:.60}")
    return low, high


def as_float_dtype(dtype: Any) -> np.dtype[Any] | None:
    """The dtype of a result; raise an error unless it is floating and of NumPy."""
    if dtype is None:
        return None
    expected = "dtype must be float16, float32 or float64"
    try:
        found = np.dtype(dtype).newbyteorder("=")
    except TypeError:
        raise TypeError(f"{expected}, got {dtype!r:.60}") from None
    if found not in (np.float16, np.float32, np.float64):
        raise ValueError(f"{expected}, got {found}")
    return found


def as_keep(keep: Any, sources: Sequence[Source]) -> tuple[str, ...] | None:
    """The names and patterns of the columns to copy; raise an error unless they are some of tables."""
    if keep is None:
        return None
    names = as_sequence("keep", keep)
    if not sources[0].is_table:
        raise SourceError(f"{names_of(sources)} holds arrays, but keep (--keep) names columns of tables; leave it out")
    return names
