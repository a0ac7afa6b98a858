"""Files that are already open: standard input, and binary file objects of Python."""

from __future__ import annotations

import io
import shutil
import tempfile
import threading
import weakref
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import IO, Any

from bnstream.streams.sources.errors import SourceError
from bnstream.streams.sources.places.file import File
from bnstream.streams.sources.places.seekable import Seekable

HEAD_BYTES = 16 << 20       # Bytes of a pipe that are kept, so that its format can be recognized before it is read.
MEMORY_BYTES = 1 << 20      # Bytes of a copy that is kept in memory.
# The first bytes of a file, and the suffix of its format.
MAGIC = {b"\x93NUMPY": ".npy", b"PAR1": ".parquet", b"ARROW1": ".arrow", b"\xff\xff\xff\xff": ".arrows",
         b"\x89PNG": ".png", b"\xff\xd8\xff": ".jpg"}


def is_open_file(source: Any) -> bool:
    """Whether it is a file object, of bytes or of text."""
    return hasattr(source, "read") and hasattr(source, "readable")


class OpenFile(File):
    """A file object. Each `open` gives another view of it, which begins where the file object stood at first.

    What cannot seek, as a pipe, is read once and in order; only its first `HEAD_BYTES` are kept.
    """

    clue = "first bytes"

    def __init__(self, content: Any, name: str | None = None) -> None:
        found = getattr(content, "name", None)
        super().__init__(name or (found if isinstance(found, str) else f"the {type(content).__name__}"))
        if isinstance(content, io.TextIOBase):
            raise SourceError(f"{self.name} is a file object of text; open it in mode 'rb', or give its .buffer")
        self.content, self.lock = content, threading.Lock()
        self.sequential = not (hasattr(content, "seekable") and content.seekable())
        self.head = bytearray()         # what is kept of a pipe
        self.n_read = 0                 # bytes that were read of a pipe
        self.start = 0 if self.sequential else content.tell()
        self.end = None if self.sequential else content.seek(0, io.SEEK_END)

    @property
    def local(self) -> Path | None:
        return self.path if self.path.exists() else None

    @property
    def suffixes(self) -> list[str]:
        return super().suffixes or [suffix for magic, suffix in MAGIC.items() if self.first.startswith(magic)]

    @cached_property
    def first(self) -> bytes:
        """The first bytes."""
        first = bytearray(8)
        return bytes(first[:self.read_at(0, memoryview(first))])

    @property
    def size(self) -> int | None:
        return None if self.end is None else self.end - self.start

    def exists(self) -> bool:
        return True

    def open(self, buffering: int = -1, ranges: Sequence[tuple[int, int]] = ()) -> IO[bytes]:
        raw = View(self)
        return raw if buffering == 0 else io.BufferedReader(raw, 1 << 16)       # type: ignore[return-value]

    def for_library(self, ranges: Sequence[tuple[int, int]] = ()) -> Any:
        return self.open()

    def mark(self) -> list[Any]:
        return [self.name, self.size, None]

    def read_at(self, at: int, memory: memoryview) -> int:
        """Read bytes from a place on into memory; return their number."""
        with self.lock:
            if not self.sequential:
                self.content.seek(self.start + at)
                return self.read_some(memory)
            if at < len(self.head):
                got = self.head[at:at + len(memory)]
                memory[:len(got)] = got
                return len(got)
            if at < self.n_read:
                raise SourceError(f"{self.name} is read once, and cannot be read again from byte {at:,}; save it to a "
                                  "file")
            skipped = memoryview(bytearray(min(at - self.n_read, HEAD_BYTES)))
            while at > self.n_read and self.read_on(skipped[:at - self.n_read]):
                pass
            return self.read_on(memory) if at == self.n_read else 0

    def read_on(self, memory: memoryview) -> int:
        """Read the next bytes of a pipe, and keep them if they are among the first."""
        n = self.read_some(memory)
        if self.n_read + n <= HEAD_BYTES:
            self.head += memory[:n]
        else:
            self.head = bytearray()
        self.n_read += n
        return n

    def read_some(self, memory: memoryview) -> int:
        if hasattr(self.content, "readinto"):
            return int(self.content.readinto(memory) or 0)
        got = self.content.read(len(memory))
        memory[:len(got)] = got
        return len(got)


class View(Seekable):
    """A reader of an `OpenFile` with a place of its own."""

    def __init__(self, file: OpenFile) -> None:
        super().__init__(file.size)
        self.file = file

    def readinto(self, memory: Any) -> int:
        n = self.file.read_at(self.at, memoryview(memory).cast("B"))
        self.at += n
        return n


def spooled(file: File) -> File:
    """A copy of a file, which can be read in any order, in a temporary file that is removed with it."""
    copy = tempfile.SpooledTemporaryFile(MEMORY_BYTES)      # noqa: SIM115  (closed with the last of its readers)
    try:
        with file.open() as content:
            shutil.copyfileobj(content, copy, HEAD_BYTES)
        copy.seek(0)
    except OSError as error:
        copy.close()
        raise SourceError(f"{file}: its format is not read in order, and a copy in {tempfile.gettempdir()} failed: "
                          f"{error.strerror or error}; set TMPDIR to a folder with more room, or save it to a file"
                          ) from error
    return Spooled(copy, file)


class Spooled(OpenFile):
    """The copy of a file, which has its name and its version."""

    def __init__(self, copy: Any, file: File) -> None:
        super().__init__(copy, file.name)
        self.original, self.path = file, file.path
        weakref.finalize(self, copy.close)

    @property
    def suffixes(self) -> list[str]:
        return self.original.suffixes

    @property
    def local(self) -> Path | None:
        return self.original.local

    def mark(self) -> list[Any]:
        return self.original.mark()
