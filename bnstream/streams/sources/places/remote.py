"""Files elsewhere, read through fsspec: object stores, web servers, memory, members of archives."""

from __future__ import annotations

import io
import re
import threading
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import IO, Any

from bnstream.core.optional import needing
from bnstream.streams.sources.errors import SourceError
from bnstream.streams.sources.places.file import File
from bnstream.streams.sources.places.ranges import Forward, Ranges, buffered
from bnstream.streams.sources.places.retrying import is_missing, persistent, without_secrets

# The keys under which the file systems of fsspec give the version of a file.
VERSIONS = ("ETag", "etag", "content_md5", "md5Hash", "generation", "VersionId", "mtime", "Last-Modified",
            "LastModified", "last_modified", "updated", "modified", "created", "CRC")
# Seconds after which a silent web server counts as failed. There is no bound for a whole file.
CONNECT_SECONDS, READ_SECONDS = 30, 60
# The extras that install what a protocol needs.
EXTRAS = {"s3": "s3", "s3a": "s3", "gs": "gcs", "gcs": "gcs", "az": "azure", "abfs": "azure", "abfss": "azure"}
WEB = ("http", "https")


def is_url(path: str) -> bool:
    """Whether a path is a URL or a chain of them, and names no file or folder on this machine."""
    return bool(re.search(r"^\w[\w+.-]+://|::", path)) and not Path(path).exists()


def protocols(url: str) -> list[str]:
    """The protocols of a chain of URLs."""
    return [link.partition("://")[0] if "://" in link else "file" for link in url.split("::")]


class RemoteFile(File):
    """A file of a file system of fsspec."""

    def __init__(self, fs: Any, path: str, name: str, info: dict[str, Any] | None = None) -> None:
        super().__init__(without_secrets(name))
        self.path = Path(self.name.partition("::")[0])
        self.fs, self.fs_path = fs, path
        kinds = {fs.protocol} if isinstance(fs.protocol, str) else set(fs.protocol)
        self.is_web, self.is_member = bool(kinds & set(WEB)), bool(kinds & {"zip", "tar", "libarchive"})
        self.remote = not kinds & {"memory"}
        complete = info and info.get("size") is not None and (self.is_member or info.get("ETag") or info.get("etag"))
        self.found = info if complete else None
        self.is_marked = False

    @property
    def local(self) -> Path | None:
        return None

    def identity(self) -> Any:
        return type(self.fs).__name__, self.fs_path, self.name

    @property
    def folder(self) -> str:
        first, *rest = self.name.split("::")
        return "::".join((first.rpartition("/")[0], *rest))

    def look(self) -> dict[str, Any]:
        """What the file system knows about the file now."""
        def ask() -> dict[str, Any]:
            self.fs.invalidate_cache()
            found: dict[str, Any] = self.fs.info(self.fs_path)
            return found

        return persistent(ask, self.name, "")

    @property
    def first(self) -> dict[str, Any]:
        """What it knew about the file at first. In Python 3.11, a cached_property would lock all files at once."""
        if self.found is None:
            self.found = self.look()
            if self.is_web and self.found.get("size") and "partial" not in self.found:
                self.found = {**self.found, "partial": self.sends_parts(self.found["size"])}
        return self.found

    def sends_parts(self, size: int) -> bool:
        """Whether a web server that says nothing of ranges answers with one."""
        def ask() -> bool:
            try:
                return bool(self.fetch_once(size - 1, size))
            except ValueError as error:
                if "range requests" not in str(error):
                    raise
                return False

        return persistent(ask, self.name, "")

    @property
    def size(self) -> int | None:
        return self.first.get("size")

    @property
    def sequential(self) -> bool:       # type: ignore[override]
        return self.is_member or self.size is None or self.first.get("partial") is False

    def exists(self) -> bool:
        try:
            return bool(self.first)
        except SourceError as error:
            if error.__cause__ is not None and is_missing(error.__cause__):
                return False
            raise

    def is_folder(self) -> bool:
        return self.exists() and self.first.get("type") == "directory"

    def open(self, buffering: int = -1, ranges: Sequence[tuple[int, int]] = ()) -> IO[bytes]:
        raw: io.RawIOBase
        if self.sequential:
            raw = Forward(self.reopen, self.persist, self.size)
        else:
            raw = Ranges(self.fetch, self.size or 0, ranges)
        return raw if buffering == 0 else buffered(raw)     # type: ignore[return-value]

    def persist(self, read: Callable[[], bytes], place: str) -> bytes:
        """Read, and try again after faults that may pass."""
        return persistent(read, self.name, place)

    def reopen(self) -> IO[bytes]:
        options: dict[str, Any] = {"block_size": 0, "size": self.size} if self.is_web else {}
        content: IO[bytes] = self.fs.open(self.fs_path, "rb", **options)
        return content

    def fetch(self, start: int, stop: int) -> bytes:
        """The bytes of a range."""
        place = f"bytes {start:,} to {stop:,}"
        try:
            got = persistent(partial(self.fetch_once, start, stop), self.name, place)
        except SourceError as error:
            self.fault = error
            raise
        if len(got) != stop - start:
            raise SourceError(f"{self.name}, {place}: the server sent {len(got):,} bytes; the file changed while it "
                              "was read, or is served wrongly")
        return got

    def fetch_once(self, start: int, stop: int) -> bytes:
        if self.is_web:     # fsspec's file notices a server that answers with more than the range
            with self.fs.open(self.fs_path, "rb", cache_type="none", size=self.size) as content:
                content.seek(start)
                return bytes(content.read(stop - start))
        return bytes(self.fs.cat_file(self.fs_path, start=start, end=stop))

    def for_library(self, ranges: Sequence[tuple[int, int]] = ()) -> Any:
        return self.open(ranges=ranges)

    def mark(self) -> list[Any]:
        info = self.look() if self.is_marked else self.first
        self.is_marked = True
        version = next((str(info[key]) for key in VERSIONS if info.get(key)), None)
        return [self.name, info.get("size"), version]


class Member(RemoteFile):
    """A file in a .zip or .tar archive, whose version is that of the archive."""

    def __init__(self, fs: Any, path: str, name: str, info: dict[str, Any] | None, archive: File) -> None:
        super().__init__(fs, path, name, info)
        self.archive, self.remote = archive, False
        self.lock: threading.Lock = fs.lock

    @property
    def local(self) -> Path | None:
        return self.archive.local

    def identity(self) -> Any:
        return self.archive.identity(), self.fs_path

    def persist(self, read: Callable[[], bytes], place: str) -> bytes:
        """Read while no other member is read: those of a .tar share one file, in which each moves to its place."""
        with self.lock:
            return super().persist(read, place)

    def mark(self) -> list[Any]:
        _, size, version = self.archive.mark()
        return [self.name, self.size, None if version is None else [size, version]]


def file_system(url: str, options: Mapping[str, Any]) -> tuple[Any, str]:
    """The file system of fsspec for a URL, and the path in it."""
    name = without_secrets(url)
    with needing(f"reading {name}", '"bnstream[remote]"'):
        import fsspec  # type: ignore[import-untyped]

    known = set(fsspec.available_protocols())
    for protocol in protocols(url):
        if protocol not in known:
            raise SourceError(f"{name}: fsspec knows no protocol {protocol}://; object stores are s3://, gs:// and "
                              "az://")
    web = next((protocol for protocol in protocols(url) if protocol in WEB), None)
    settings = {key: dict(value) if isinstance(value, Mapping) else value for key, value in options.items()}
    if web is not None:
        of_web = settings if "::" not in url else settings.setdefault(web, {})
        with needing(f"reading {name}", '"bnstream[remote]"'):
            from aiohttp import ClientTimeout
        wait = ClientTimeout(total=None, sock_connect=CONNECT_SECONDS, sock_read=READ_SECONDS)
        of_web["client_kwargs"] = {"timeout": wait, **of_web.get("client_kwargs", {})}
    extra = next((EXTRAS[protocol] for protocol in protocols(url) if protocol in EXTRAS), "remote")
    try:
        fs, path = fsspec.core.url_to_fs(url, **settings)
    except ImportError as error:
        raise ModuleNotFoundError(f'reading {name} needs a package that is not installed; install it with: pip install '
                                  f'"bnstream[{extra}]"') from error
    except (OSError, RuntimeError, TypeError, ValueError) as error:
        raise SourceError(f"{name}: {without_secrets(str(error))}") from error
    return fs, path
