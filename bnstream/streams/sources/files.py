"""Files as sources: the formats that are supported, and paths, folders and globs."""

import os
import re
from collections.abc import Callable, Sequence
from functools import partial
from importlib import import_module
from typing import Any

from bnstream.core.optional import needing
from bnstream.streams.sources.errors import SourceError
from bnstream.streams.sources.places.distinct import distinct
from bnstream.streams.sources.places.file import File, at_once
from bnstream.streams.sources.places.listing import ARCHIVES, files_of, is_zarr, members_of
from bnstream.streams.sources.places.openfiles import spooled
from bnstream.streams.sources.places.retrying import without_secrets
from bnstream.streams.sources.smallfiles import MANY, small_together
from bnstream.streams.sources.source import Source, Wanted

PACKED = re.compile(r"\.(tar\.\w+|tgz|tbz2?|txz|7z|rar)$")       # The names of archives that are not read.
# The module and the class that read the files with a suffix. Those of text may be compressed.
TEXTS = {".csv": ("text.csv", "CsvFile"), ".tsv": ("text.csv", "CsvFile"),
         ".jsonl": ("text.jsonl", "JsonLinesFile"), ".ndjson": ("text.jsonl", "JsonLinesFile"),
         ".json": ("text.jsonl", "JsonFile")}
FORMATS: dict[str, tuple[str, str]] = {
    ".npy": ("arrays.array", "NpyFile"),
    ".npz": ("arrays.array", "NpzFile"),
    **{text + packed: kind for packed in ("", ".gz", ".bz2", ".xz", ".zst", ".zip") for text, kind in TEXTS.items()},
    **dict.fromkeys((".parquet", ".pq"), ("tables.parquet", "ParquetFile")),
    **dict.fromkeys((".arrow", ".arrows", ".feather", ".ipc"), ("tables.arrow", "ArrowFile")),
    ".orc": ("tables.orc", "OrcFile"),
    ".avro": ("tables.avro", "AvroFile"),
    **dict.fromkeys((".xlsx", ".xls", ".ods"), ("tables.excel", "ExcelFile")),
    **dict.fromkeys((".h5", ".hdf5", ".hdf", ".h5ad"), ("arrays.stores", "Hdf5File")),
    **dict.fromkeys((".nc", ".nc4", ".cdf"), ("arrays.stores", "NetcdfFile")),
    ".zarr": ("arrays.stores", "ZarrStore"),
    **dict.fromkeys((".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp"), ("arrays.images", "Images")),
}

# What a module reads, and the extra with the packages that it needs; for other modules, tables and "streams".
NEEDS = {"arrays.images": ("reading images", "streams"), "tables.avro": ("reading Avro files", "avro"),
         "tables.excel": ("reading spreadsheets", "excel")}


def format_of(file: File, chosen: str | None = None) -> tuple[str, str] | None:
    """The entry of `FORMATS` for the chosen format, or for the longest suffix with an entry; None if there is none."""
    if chosen is not None:
        return FORMATS.get(f".{chosen}")
    found = FORMATS.get("".join(file.suffixes[-2:])) or FORMATS.get("".join(file.suffixes[-1:]))
    return FORMATS[".zarr"] if found is None and file.local is not None and is_zarr(file.local) else found


def required_format(file: File, chosen: str | None) -> tuple[str, str]:
    """As `format_of`; raise SourceError if there is none."""
    found = format_of(file, chosen)
    if found is None and PACKED.search(file.name.lower()):
        raise SourceError(f"{file} is an archive of another kind than .zip and .tar; unpack it, and give the folder")
    if found is None:
        raise SourceError(f"{file} has no supported {file.clue}; supported are {' '.join(FORMATS)}; name its format "
                          "with format= or --format")
    return found


def reader(module: str, name: str) -> Callable[..., Source]:
    """Import a class of sources.

    Raises
    ------
    ModuleNotFoundError
        If the package that it reads with is not installed.
    """
    purpose, extra = NEEDS.get(module, ("reading tables", "streams"))
    with needing(purpose, f'"bnstream[{extra}]"'):
        found = import_module(f"bnstream.streams.sources.{module}")
    cls: Callable[..., Source] = getattr(found, name)
    return cls


def is_path(source: Any) -> bool:
    return isinstance(source, (str, os.PathLike))


# The classes that read a file from its first byte to its last. For others, a file that cannot seek is copied first.
IN_ORDER = {"CsvFile", "NpyFile", "Images"}


def open_files(paths: Sequence[str], wanted: Wanted) -> list[Source]:
    """Open the files of several paths, URLs, folders or globs, all of one format."""
    chosen = wanted.reading.get("format")
    options = wanted.reading.get("storage_options", {})
    files: list[tuple[str, File]] = []
    for path in paths:
        found, is_folder = files_of(path, options)
        if is_folder:
            found = supported(found, f"the folder {without_secrets(path)}", chosen)
        else:
            found = [file for one in found for file in unpacked(one, chosen)]
        files += [(without_secrets(path), file) for file in found]
    return open_all(distinct(files, wanted.out), wanted)


def unpacked(file: File, chosen: str | None) -> list[File]:
    """The members of an archive that have a supported format; of anything else, the file itself."""
    if file.suffixes[-1:] in ARCHIVES and format_of(file, chosen) is None:
        return supported(members_of(file), str(file), chosen)
    return [file]


def supported(files: Sequence[File], holder: str, chosen: str | None) -> list[File]:
    """The files that have a supported format. Those of JSON may describe the others, and are left out if there are any.

    Raises
    ------
    SourceError
        If there is none.
    """
    found = [file for file in files if format_of(file, chosen)]
    found = [file for file in found if format_of(file, chosen) != TEXTS[".json"]] or found
    if not found:
        raise SourceError(f"{holder} holds no file with a supported suffix: {' '.join(FORMATS)}")
    return found


def needs_any_order(file: File, name: str) -> bool:
    """Whether a class cannot read a file in order."""
    with file.open() as content:
        return name not in IN_ORDER or content.read(4) == b"PK\x03\x04"       # an archive, whose end says what it holds


def open_all(files: Sequence[File], wanted: Wanted) -> list[Source]:
    """Open files, all of one format."""
    chosen = wanted.reading.get("format")
    if chosen is not None and f".{chosen}" not in FORMATS:
        raise SourceError(f"format must be one of {', '.join(suffix[1:] for suffix in FORMATS)}, got {chosen!r}")
    waits = any(file.remote for file in files)
    formats: dict[tuple[str, str], File] = {}
    for file, exists in zip(files, at_once(lambda file: file.exists(), files, waits=waits), strict=True):
        if not exists:
            is_link = file.local is not None and file.local.is_symlink()
            raise SourceError(f"there is no file {file}{is_link * ': the file that this link points to is missing'}")
        formats.setdefault(required_format(file, chosen), file)
    if len(formats) > 1:
        raise SourceError(f"the files have different formats, such as {' and '.join(map(str, formats.values()))}; "
                          "process each format separately and merge the statistics")
    module, name = next(iter(formats))
    make = reader(module, name)
    files = [spooled(file) if file.sequential and needs_any_order(file, name) else file for file in files]
    if name == "Images":
        return [make(files, wanted)]
    is_table = getattr(make, "batch_axes", ()) is None
    open_one: Callable[[File], Any] = partial(make, wanted=wanted)
    if is_table and any("=" in part for file in files for part in file.path.parts[:-1]):
        hive = import_module("bnstream.streams.sources.tables.hive")
        open_one = hive.opening(make, files, wanted)
    if is_table and not waits and not wanted.whole_rows and len(files) > MANY:
        return small_together(open_one, files)
    return list(at_once(open_one, files, waits=waits))
