"""The files of a path, a URL, a folder, a glob or an archive, sorted by name."""

from __future__ import annotations

import glob
import os
import re
import sys
import tarfile
import threading
import weakref
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from bnstream.core.optional import needing
from bnstream.streams.sources.errors import SourceError
from bnstream.streams.sources.places.file import File
from bnstream.streams.sources.places.openfiles import OpenFile
from bnstream.streams.sources.places.remote import WEB, Member, RemoteFile, file_system, is_url, protocols
from bnstream.streams.sources.places.retrying import persistent, without_secrets

STANDARD_INPUT = "-"
ARCHIVES = ([".zip"], [".tar"])     # The last suffix of archives.
METADATA, ROWS = "meta/info.json", "data"       # in the folder of a data set of LeRobot


def files_of(path: str, options: Mapping[str, Any]) -> tuple[list[File], bool]:
    """The files of a path, and whether they are all those of a folder, of which only some may be of interest.

    options: the storage options of fsspec.
    """
    if not path:
        raise SourceError("a path is empty; give files, folders or globs")
    if path.startswith("file://") and "::" not in path:
        path = unquote(path.removeprefix("file://"))
    elif is_url(path):
        return remote_files(path, options)
    if options:
        raise SourceError(f"{path} lies on this machine and takes no storage options; leave out storage_options= "
                          "(--storage-option)")
    if path == STANDARD_INPUT and not Path(path).exists():
        return [standard_input()], False
    if is_zarr(Path(path)):
        return [File(path)], False
    if Path(path).is_dir():
        return [File(file) for file in sorted(files_in(folder_of_rows(Path(path))))], True
    if not Path(path).exists() and glob.has_magic(path):
        matches = [file for file in map(Path, sorted(glob.glob(path, recursive=True)))  # noqa: PTH207
                   if file.is_file() or is_zarr(file) or is_broken(file)]
        if not matches:
            hint = f"{path}/*" if glob.glob(path, recursive=True) else ""       # noqa: PTH207
            raise SourceError(f"no file matches {path}{hint and f', only folders do; give {hint}'}")
        return [File(file) for file in matches], False
    return [File(path)], False


def is_zarr(path: Path) -> bool:
    """Whether a folder is a Zarr store, which is one source."""
    return path.is_dir() and any((path / name).is_file() for name in ("zarr.json", ".zgroup", ".zarray"))


def is_broken(path: Path) -> bool:
    """Whether a path is a link to nothing, as to a disk that is not mounted: data that must not be left out."""
    return path.is_symlink() and not path.exists()


def files_in(folder: Path) -> Iterator[Path]:
    """The visible files in a folder and the folders in it, a Zarr store being one."""
    with os.scandir(folder) as entries:         # which tells what is a folder without another call for each file
        for entry in entries:
            path = folder / entry.name
            if not is_visible(entry.name):
                continue
            if entry.is_file() or is_zarr(path) or (entry.is_symlink() and is_broken(path)):
                yield path
            elif entry.is_dir(follow_symlinks=False):
                yield from files_in(path)


def standard_input() -> File:
    content = getattr(sys.stdin, "buffer", None)
    if content is None:
        raise SourceError("there is no standard input; give a path in place of -")
    return OpenFile(content, "standard input")


def is_visible(path: str) -> bool:
    """Whether no folder and file in a path is hidden, or made by a tool for itself."""
    return not any(part[0] in "._" for part in re.split(r"[/\\]+", path.strip("/\\")))


def remote_files(url: str, options: Mapping[str, Any]) -> tuple[list[File], bool]:
    """As `files_of`, for a URL."""
    first, _, rest = url.partition("::")
    name = without_secrets(url)
    archive: File | None = None
    if protocols(url)[0] in ("zip", "tar") and rest:
        archive = single(rest, options)
        fs, path = archive_system(archive, protocols(url)[0]), first.partition("://")[2]
    else:
        fs, path = file_system(url, options)
    is_web = protocols(url)[0] in WEB

    def file(path: str, info: dict[str, Any] | None = None) -> RemoteFile:
        shown = url if info is None else f"{fs.unstrip_protocol(path)}{'::' if rest else ''}{rest}"
        if archive is None:
            return RemoteFile(fs, path, shown, info)
        return Member(fs, path, shown, info, archive)

    if re.search(r"[*\[]" if is_web else r"[*?\[]", path):
        found = persistent(partial(fs.glob, path, detail=True), name, "")
        hidden = re.compile(r"$^" if "/." in path else r"/\.")        # as for files of this machine
        matches: list[File] = [file(path, info) for path, info in sorted(found.items())
                               if info["type"] == "file" and not hidden.search(path)]
        if not matches:
            raise SourceError(f"no file matches {name}")
        return matches, False
    one = file(path)
    if not (path.endswith("/") if is_web else one.is_folder()):
        return [one], False
    if path.rstrip("/").endswith(".zarr"):
        raise SourceError(f"{name} is a Zarr store that does not lie on this machine; open it with xarray.open_zarr or "
                          "zarr.open, and give what that returns to bnstream.fit")
    found = persistent(partial(fs.find, path, detail=True), name, "")
    start = len(fs._strip_protocol(path))
    paths = {path[start:].lstrip("/"): path for path in sorted(found)}
    return [file(paths[inside], found[paths[inside]]) for inside in without_metadata(paths) if is_visible(inside)], True


def folder_of_rows(folder: Path) -> Path:
    """The folder itself, or that of the rows in the folder of a data set of LeRobot, without metadata and videos."""
    return folder / ROWS if (folder / METADATA).is_file() and (folder / ROWS).is_dir() else folder


def without_metadata(paths: Iterable[str]) -> list[str]:
    """The paths of all files in a folder that `folder_of_rows` would find."""
    names = list(paths)
    rows = [name for name in names if name.startswith(f"{ROWS}/")]
    return rows if rows and METADATA in names else names


def single(path: str, options: Mapping[str, Any]) -> File:
    """The one file of a path."""
    files, _ = files_of(path, options)
    if len(files) != 1:
        raise SourceError(f"{without_secrets(path)} is not one archive; name one")
    if not files[0].exists():
        raise SourceError(f"there is no file {files[0]}")
    return files[0]


def members_of(archive: File) -> list[File]:
    """The visible files in an archive, each of which is read as if it lay in a folder."""
    kind = archive.suffixes[-1][1:]
    if not archive.exists():
        raise SourceError(f"there is no file {archive}")
    fs = archive_system(archive, kind)
    return [Member(fs, path, f"{kind}://{path}::{archive}", info, archive)
            for path, info in sorted(fs.find("", detail=True).items()) if is_visible(path)]


def archive_system(archive: File, kind: str) -> Any:
    """The file system of fsspec for the members of an archive."""
    with needing(f"reading members of {archive}", '"bnstream[remote]"'):
        import fsspec  # type: ignore[import-untyped]

    content = archive.open()
    try:
        fs = fsspec.get_filesystem_class(kind)(content, skip_instance_cache=True)
    except (OSError, zipfile.BadZipFile, tarfile.TarError) as error:
        content.close()
        raise SourceError(f"{archive} is no .{kind} archive, or is damaged: {error}") from error
    weakref.finalize(fs, content.close)
    fs.lock = threading.Lock()
    return fs
