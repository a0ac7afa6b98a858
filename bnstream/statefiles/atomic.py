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
    made = False
    try:
        with part.open("wb" if direct else "xb") as file:
            made = not direct
            yield file
            file.flush()
            if made:
                os.fsync(file.fileno())
        if made:
            part.replace(target)
    except BaseException as error:
        if made:
            part.unlink(missing_ok=True)
        # The error of a full disk has no file name, other errors of writing have that of the part. An error with the
        # name of another file came from the block.
        if isinstance(error, OSError) and error.errno and error.filename in (None, os.fspath(part)):
            raise OSError(error.errno, error.strerror, os.fspath(path)) from error
        raise
    if made:
        sync_folder(target.parent)


def sync_folder(folder: Path) -> None:
    """Write the new name to the disk where the system can; Windows and some file systems cannot."""
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
