"""Where a file is: `File` on this machine, `remote.py` elsewhere, `openfiles.py` already open."""

import os
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import IO, Any, TypeVar

from bnstream.streams.ordered import ordered_map
from bnstream.streams.sources.errors import SourceError

REQUESTS = 16       # Remote files that are asked for at the same time, or pieces of them.
WHOLE = ((0, 1 << 62),)     # The range of a whole file.
T = TypeVar("T")
R = TypeVar("R")


class File:
    """A file of a source: its name for messages, and how it is opened."""

    remote = False
    """Whether reading waits for a network."""
    sequential = False
    """Whether it is read in order only: going back starts again, or is impossible."""
    fault: SourceError | None = None
    """Why reading failed, where a library says it in words of its own."""
    clue = "suffix"
    """What shows its format, in a message."""
    argument = ""
    """The path, folder or glob that names it; "" if none does."""

    def __init__(self, name: str | os.PathLike[str]) -> None:
        self.name = os.fspath(name)
        self.path = Path(name)

    def __str__(self) -> str:
        return self.name

    @property
    def local(self) -> Path | None:
        """The path on this machine that must not be overwritten while the file is read."""
        return self.path

    @property
    def folder(self) -> str:
        return str(self.path.parent)

    @cached_property
    def suffixes(self) -> list[str]:
        """The suffixes of its name in lower case, such as [".csv", ".gz"]."""
        return [suffix.lower() for suffix in self.path.suffixes]

    @property
    def size(self) -> int | None:
        """Its size in bytes; None if that is known only at its end."""
        return self.path.stat().st_size

    def exists(self) -> bool:
        return self.path.exists()

    def identity(self) -> Any:
        """What two names of one file share, such as a path and a link to it, and no two files do."""
        status = self.path.stat()
        return status.st_dev, status.st_ino

    def open(self, buffering: int = -1, ranges: Sequence[tuple[int, int]] = ()) -> IO[bytes]:
        """Open it for reading bytes in any order.

        ranges: the first byte, and that after the last, of each part that will be read, where that is known. They are
        fetched together if the file is remote.
        """
        return self.path.open("rb", buffering)

    def for_library(self, ranges: Sequence[tuple[int, int]] = ()) -> Any:
        """What to give to a library that opens files itself: a path, or an open file where it is not local."""
        return self.path

    def mark(self) -> list[Any]:
        """Its name, size and version, here the modification time: what changes when the file does.

        The version is None if there is none. A pass can then not be resumed.
        """
        status = self.path.stat()
        return [self.name, status.st_size, status.st_mtime_ns]


def at_once(function: Callable[[T], R], items: Sequence[T], *, waits: bool) -> Iterator[R]:
    """Yield `function` of each item, in order; several threads compute it if each waits for a network."""
    return ordered_map(function, items, REQUESTS) if waits else map(function, items)
