"""Where a file lies."""

import os
from pathlib import Path
from typing import IO, Any


class File:
    """A file of a source: its name for messages, and how it is opened."""

    def __init__(self, name: str | os.PathLike[str]) -> None:
        self.name = os.fspath(name)
        self.path = Path(name)

    def __str__(self) -> str:
        return self.name

    @property
    def suffixes(self) -> list[str]:
        """The suffixes of its name in lower case, as [".csv", ".gz"]."""
        return [suffix.lower() for suffix in self.path.suffixes]

    def exists(self) -> bool:
        return self.path.exists()

    def identity(self) -> Any:
        """What is the same for two names of one file, as a link has; equal for no two files."""
        status = self.path.stat()
        return status.st_dev, status.st_ino

    def open(self, buffering: int = -1) -> IO[bytes]:
        """Open it for reading bytes in any order."""
        return self.path.open("rb", buffering)

    def for_library(self) -> Any:
        """What a library is given that opens files itself: a path, or an open file where it is not local."""
        return self.path

    def mark(self) -> list[Any]:
        """The path, size and modification time: what changes when the file does."""
        status = self.path.stat()
        return [self.name, status.st_size, status.st_mtime_ns]
