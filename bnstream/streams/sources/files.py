"""Files as sources: the formats that are supported, and paths, folders and globs."""

import glob
import os
from collections.abc import Callable, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

from bnstream.core.optional import needing
from bnstream.streams.sources.distinct import distinct
from bnstream.streams.sources.errors import SourceError
from bnstream.streams.sources.places import File
from bnstream.streams.sources.source import Source, Wanted

# The module and the class that read the files with a suffix.
FORMATS: dict[str, tuple[str, str]] = {
    ".npy": ("arrays", "NpyFile"),
    ".npz": ("arrays", "NpzFile"),
    **dict.fromkeys((".csv", ".tsv", ".csv.gz", ".tsv.gz", ".csv.zip", ".tsv.zip"), ("csv", "CsvFile")),
    **dict.fromkeys((".parquet", ".pq"), ("parquet", "ParquetFile")),
    **dict.fromkeys((".arrow", ".arrows", ".feather", ".ipc"), ("arrow", "ArrowFile")),
    **dict.fromkeys((".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp"), ("images", "Images")),
}


def format_of(file: File, chosen: str | None = None) -> tuple[str, str] | None:
    """The entry of `FORMATS` for the chosen format, or for the longest suffix that has one; None without."""
    if chosen is not None:
        return FORMATS.get(f".{chosen}")
    return FORMATS.get("".join(file.suffixes[-2:])) or FORMATS.get("".join(file.suffixes[-1:]))


def reader(module: str, name: str) -> Callable[..., Source]:
    """Import a class of sources.

    Raises
    ------
    ModuleNotFoundError
        If the package that it reads with is not installed.
    """
    with needing("reading images" if module == "images" else "reading tables", '"bnstream[streams]"'):
        found = import_module(f"bnstream.streams.sources.{module}")
    cls: Callable[..., Source] = getattr(found, name)
    return cls


def is_path(source: Any) -> bool:
    return isinstance(source, (str, os.PathLike))


def files_of(path: str, chosen: str | None) -> list[File]:
    """The files of a path, a folder or a glob, sorted by name."""
    if not path:
        raise SourceError("a path is empty; give files, folders or globs")
    if Path(path).is_dir():
        visible = [file for file in sorted(Path(path).rglob("*"))
                   if file.is_file() and not any(part[0] in "._" for part in file.relative_to(path).parts)]
        files = [file for file in map(File, visible) if format_of(file, chosen)]
        if not files:
            raise SourceError(f"the folder {path} holds no file with a supported suffix: {' '.join(FORMATS)}")
        return files
    if not Path(path).exists() and glob.has_magic(path):
        matches = [file for file in map(Path, sorted(glob.glob(path, recursive=True))) if file.is_file()]  # noqa: PTH207
        if not matches:
            raise SourceError(f"no file matches {path}")
        return [File(file) for file in matches]
    return [File(path)]


def open_files(paths: Sequence[str], wanted: Wanted) -> list[Source]:
    """Open the files of several paths, folders or globs, all of one format."""
    chosen = wanted.reading.get("format")
    if chosen is not None and f".{chosen}" not in FORMATS:
        raise SourceError(f"format must be one of {', '.join(suffix[1:] for suffix in FORMATS)}, got {chosen!r}")
    files = distinct([(path, file) for path in paths for file in files_of(path, chosen)], wanted.out)
    for file in files:
        if not file.exists():
            raise SourceError(f"there is no file {file}")
        if format_of(file, chosen) is None:
            raise SourceError(f"{file} has no supported suffix; supported are {' '.join(FORMATS)}; name its format "
                              "with format= or --format")
    formats = {format_of(file, chosen): file for file in reversed(files)}
    if len(formats) > 1:
        raise SourceError(f"the files have different formats, such as {' and '.join(map(str, formats.values()))}; "
                          "process each format separately and merge the statistics")
    module, name = next(kind for kind in formats if kind)
    make = reader(module, name)
    if name == "Images":
        return [make(files, wanted)]
    return [make(file, wanted) for file in files]
