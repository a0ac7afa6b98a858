"""Sources: whatever holds a stream, as batches of named channels, one at a time and never the whole.

    paths, folders, globs -> files, one source each: tables.py (CSV, Parquet, Arrow), arrays.py (.npy, .npz), images.py
    anything with __arrow_c_stream__ ----------------> tables.py
    arrays ------------------------------------------> arrays.py
    iterables of arrays, tables or record batches ---> iterables.py

A source gives pieces, which are loaded (read, decompressed, decoded) by the threads that work on them, into arrays or
record batches of pyarrow's. A source read from where a piece stops gives the pieces that would have come next.
"""

import glob
import operator
import os
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

from bnstream.streams.sources.source import Piece, Source, SourceError, Wanted

__all__ = ["Piece", "Source", "SourceError", "Wanted", "open_sources", "whole"]

# The kinds of files: their suffixes, the module that reads them, and its class.
KINDS: dict[str, tuple[str, str]] = {
    ".npy": ("arrays", "NpyFile"),
    ".npz": ("arrays", "NpzFile"),
    **dict.fromkeys((".csv", ".tsv", ".csv.gz", ".tsv.gz", ".csv.zip", ".tsv.zip"), ("tables", "CsvFile")),
    **dict.fromkeys((".parquet", ".pq"), ("tables", "ParquetFile")),
    **dict.fromkeys((".arrow", ".arrows", ".feather", ".ipc"), ("tables", "ArrowFile")),
    **dict.fromkeys((".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp"), ("images", "Images")),
}


def kind_of(path: Path) -> tuple[str, str] | None:
    """By the longest suffix that is known, or None."""
    suffixes = [suffix.lower() for suffix in path.suffixes]
    return KINDS.get("".join(suffixes[-2:])) or KINDS.get("".join(suffixes[-1:]))


def files_of(path: str) -> list[Path]:
    """The files that a path, a folder or a glob stands for, in the order of their names."""
    if not path:
        raise SourceError("a path is empty; give files, folders or globs")
    if Path(path).is_dir():
        found = [file for file in sorted(Path(path).rglob("*")) if file.is_file() and kind_of(file)]
        files = [file for file in found if not any(part[0] in "._" for part in file.relative_to(path).parts)]
        if not files:
            raise SourceError(f"the folder {path} holds no file of a kind that is read: {' '.join(KINDS)}")
        return files
    if not Path(path).exists() and glob.has_magic(path):
        files = [file for file in map(Path, sorted(glob.glob(path, recursive=True))) if file.is_file()]  # noqa: PTH207
        if not files:
            raise SourceError(f"no file matches {path}")
        return files
    return [Path(path)]


def open_files(paths: Sequence[str], wanted: Wanted) -> list[Source]:
    files = [file for path in paths for file in files_of(path)]
    for file in files:
        if not file.exists():
            raise SourceError(f"there is no file {file}")
        if kind_of(file) is None:
            raise SourceError(f"{file} is of no kind that is read: {' '.join(KINDS)}")
    kinds = {kind_of(file): file for file in reversed(files)}
    if len(kinds) > 1:
        raise SourceError(f"the files are of more than one kind, as {' and '.join(map(str, kinds.values()))}; take "
                          "them one kind at a time, and merge the statistics")
    if not files:
        raise SourceError("no files are given")
    module, name = next(kind for kind in kinds if kind)
    make: Callable[..., Source] = getattr(import_module(f"bnstream.streams.sources.{module}"), name)
    if name == "Images":
        return [make(files, wanted)]
    return [make(file, wanted) for file in files]


def is_path(source: Any) -> bool:
    return isinstance(source, (str, os.PathLike))


def open_sources(source: Any, wanted: Wanted) -> list[Source]:
    """What `fit` and `apply` take, as sources with the same channels."""
    if isinstance(source, Mapping):
        raise TypeError("expected a path, an array, a table or an iterable of these, got a mapping; make a table of "
                        "it, with pyarrow.table or pandas.DataFrame")
    if hasattr(source, "collect") and hasattr(source, "lazy"):
        raise TypeError(f"the {type(source).__name__} is lazy; collect() it, or give the path of its file")
    wanted = wanted._replace(channel_axis=whole("channel_axis", wanted.channel_axis))
    if isinstance(wanted.columns, str):
        raise TypeError(f"columns must be a sequence of names, got the str {wanted.columns!r}; make it a list")
    if wanted.columns is not None:
        columns = tuple(wanted.columns)
        if len(set(columns)) < max(len(columns), 1):
            raise SourceError(f"columns must be at least one, and none of them twice, got {list(columns)}")
        wanted = wanted._replace(columns=columns)
    sources: list[Source]
    if is_path(source):
        sources = open_files([os.fspath(source)], wanted)
    elif isinstance(source, (list, tuple)) and source and all(is_path(entry) for entry in source):
        sources = open_files([os.fspath(entry) for entry in source], wanted)
    elif (hasattr(source, "__arrow_c_stream__") and len(getattr(source, "shape", (0, 0))) == 2) or hasattr(
            source, "scanner"):
        from bnstream.streams.sources.tables import ArrowStream

        sources = [ArrowStream(source, wanted)]
    else:
        from bnstream.streams.sources.arrays import Array, is_array
        from bnstream.streams.sources.iterables import Iterable

        sources = [(Array if is_array(source) else Iterable)(source, wanted)]
    first = sources[0]
    for other in sources[1:]:
        require_same(first, other)
    return sources


def whole(name: str, value: Any) -> int:
    try:
        return operator.index(value)
    except TypeError:
        raise TypeError(f"{name} must be an integer, got {value!r}") from None


def require_same(first: Source, other: Source) -> None:
    """The same channels, in any order where they have names."""
    if first.batch_axes != other.batch_axes:
        raise SourceError(f"{other.name} is {kind_of_batches(other)}, but {first.name} {kind_of_batches(first)}; take "
                          "them one kind at a time, and merge the statistics")
    if first.names is None or other.names is None:
        if first.n_channels != other.n_channels:
            raise SourceError(f"{other.name} has {other.n_channels} channels, but {first.name} {first.n_channels}; "
                              "choose as many of each, with columns= or --columns")
        return
    lacking, more = set(first.names) - set(other.names), set(other.names) - set(first.names)
    for names, verb in ((lacking, "lacks"), (more, "has")):
        if names:
            raise SourceError(f"{other.name} {verb} {', '.join(map(repr, sorted(names)))}, unlike {first.name}; choose "
                              "columns that all files have, with columns= or --columns")


def kind_of_batches(source: Source) -> str:
    return "a table" if source.batch_axes is None else f"of arrays of {len(source.batch_axes) + 1} axes"
