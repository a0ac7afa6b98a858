"""Files that are written completely or not at all."""

from __future__ import annotations

import os
from pathlib import Path
from types import TracebackType
from typing import BinaryIO


class replacing:        # noqa: N801  (A class, as the end of a generator takes memory, when the file has been replaced.)
    """A file that replaces `path` when the block ends, and not before.

    `with` gives a new binary file in the same folder, hidden: ``.NAME.<8 hex digits>.part``.

    Parameters
    ----------
    path : path
        As given; no suffix is added. If it is a link, the file that it points to is replaced. If it exists and is not a
        regular file, such as /dev/null or a pipe, it is written directly.

    Raises
    ------
    OSError
        If it cannot be written: the folder does not exist or is read-only, or the disk is full. It names `path`.

    Notes
    -----
    The bytes reach the disk before the name does, so that a power failure leaves the old file or the new one. If the
    block raises, the part is removed and an old file is left as it was. If the process is killed, the part also stays.

    Examples
    --------
    >>> import os, tempfile
    >>> folder = tempfile.TemporaryDirectory()
    >>> with replacing(f"{folder.name}/numbers") as file:
    ...     _ = file.write(b"123")
    >>> os.listdir(folder.name)
    ['numbers']
    >>> folder.cleanup()
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = path
        self.target = Path(os.path.realpath(path))
        self.direct = self.target.exists() and not self.target.is_file() and not self.target.is_dir()
        name = f".{self.target.name}.{os.urandom(4).hex()}.part"
        self.part = self.target if self.direct else self.target.with_name(name)
        self.encoded = os.fsencode(self.part)
        self.folder: int | None = None

    def __enter__(self) -> BinaryIO:
        try:
            self.file = self.part.open("wb" if self.direct else "xb")
        except BaseException as error:
            self.give_up(error)
            raise
        return self.file

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            try:
                if error is None:
                    self.file.flush()
                    if not self.direct:
                        os.fsync(self.file.fileno())
            finally:
                self.file.close()
            if error is None and not self.direct:
                self.folder = opened_folder(self.target.parent)
                os.replace(self.part, self.target)      # noqa: PTH105  (Path.replace takes memory after it)
        except BaseException as failure:
            self.give_up(failure)
            raise
        if error is not None:
            self.give_up(error)
        elif self.folder is not None:
            sync_folder(self.folder)

    def give_up(self, error: BaseException) -> None:
        """Remove the part, and raise an error about it as one about the path."""
        if self.folder is not None:
            os.close(self.folder)
        # What failed to open may have been made, unless it was there before.
        if not self.direct and not (isinstance(error, FileExistsError) and error.filename == os.fspath(self.part)):
            remove(self.encoded)
        # The error of a full disk has no file name, other errors of writing have that of the part. An error with the
        # name of another file came from the block.
        if isinstance(error, OSError) and error.errno and error.filename in (None, os.fspath(self.part)):
            raise OSError(error.errno, error.strerror, os.fspath(self.path)) from error


def remove(encoded: bytes) -> None:
    """Remove a file, if it is there. This takes no memory, for which a name in bytes was made before."""
    try:                        # noqa: SIM105  (suppress takes memory)
        os.unlink(encoded)      # noqa: PTH108
    except FileNotFoundError:
        pass


def opened_folder(folder: Path) -> int | None:
    """A descriptor of a folder, None where the system has none, as Windows."""
    try:
        return os.open(folder, os.O_RDONLY)
    except OSError:
        return None


def sync_folder(descriptor: int) -> None:
    """Write the new name to the disk where the system can; some file systems cannot.

    The new file is there, so that nothing may fail any more. None of this takes memory.
    """
    try:
        os.fsync(descriptor)
    except OSError:
        pass
    finally:
        os.close(descriptor)
