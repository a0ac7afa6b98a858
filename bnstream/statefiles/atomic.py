"""Files that are written whole or not at all."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO


@contextlib.contextmanager
def replacing(path: str | os.PathLike[str]) -> Iterator[BinaryIO]:
    """A file open for writing that takes the place of `path` once the block ends, and not before.

    Parameters
    ----------
    path : path
        As given; no suffix is added. Where it is a link, the file that it points to is replaced. What exists and is no
        regular file, /dev/null or a pipe, is written directly.

    Yields
    ------
    file
        Binary and new, in the same folder, hidden: ``.NAME.<8 hex digits>.part``.

    Raises
    ------
    OSError
        If it cannot be written: no such folder, a read-only one, a full disk. It names `path`.

    Notes
    -----
    The bytes are on the disk before the name is, so that a power cut leaves the old file or the new one. Where the
    block raises, the part is removed and an old file left as it was; where the process is killed, the part stays, too.

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
        # A full disk is told without a name, another failure with that of the part. What has the name of another file
        # came from the block.
        if isinstance(error, OSError) and error.errno and error.filename in (None, os.fspath(part)):
            raise OSError(error.errno, error.strerror, os.fspath(path)) from error
        raise
    if made:
        sync_folder(target.parent)


def sync_folder(folder: Path) -> None:
    """The new name on the disk, too, where the system can do that: Windows cannot, nor can some file systems."""
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
