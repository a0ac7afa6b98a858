"""Files that are written completely or not at all."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO


@contextlib.contextmanager
def replacing(path: str | os.PathLike[str]) -> Iterator[BinaryIO]:
    """Open a file that replaces `path` when the block ends, and not before.

    Parameters
    ----------
    path : path
        As given; no suffix is added. If it is a link, the file that it points to is replaced. If it exists and is not a
        regular file, such as /dev/null or a pipe, it is written directly.

    Yields
    ------
    file
        A new binary file in the same folder, hidden: ``.NAME.<8 hex digits>.part``.

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
    target = Path(os.path.realpath(path))
    direct = target.exists() and not target.is_file() and not target.is_dir()
    part = target if direct else target.with_name(f".{target.name}.{os.urandom(4).hex()}.part")
    made = not direct
    folder, encoded = None, os.fsencode(part)
    try:
        with part.open("wb" if direct else "xb") as file:
            yield file
            file.flush()
            if made:
                os.fsync(file.fileno())
        if made:
            folder = opened_folder(target.parent)
            os.replace(part, target)        # noqa: PTH105  (Path.replace takes memory after it)
    except BaseException as error:
        # What failed to open may have been made, unless it was there before.
        if made and not (isinstance(error, FileExistsError) and error.filename == os.fspath(part)):
            remove(encoded)
        if folder is not None:
            os.close(folder)
        # The error of a full disk has no file name, other errors of writing have that of the part. An error with the
        # name of another file came from the block.
        if isinstance(error, OSError) and error.errno and error.filename in (None, os.fspath(part)):
            raise OSError(error.errno, error.strerror, os.fspath(path)) from error
        raise
    if folder is not None:
        sync_folder(folder)


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
