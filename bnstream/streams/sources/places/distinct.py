"""Which of the files that paths, folders and globs name are read: each once, and neither states nor outputs."""

from __future__ import annotations

import glob
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bnstream.statefiles.archive import has_description
from bnstream.streams.sources.errors import SourceError, reading
from bnstream.streams.sources.places.file import File

STATES = ([".npz"], [".checkpoint"])        # The last suffixes of state files and checkpoints.


def distinct(listed: Sequence[tuple[str, File]], out: Path | None) -> list[File]:
    """The files to read, each of which comes with the path, folder or glob that names it.

    State files and what lies at `out` are not read from folders and globs. At `out` the shell may have named an older
    state, which is left out as well.

    Raises
    ------
    SourceError
        If a file is named twice, a path names a state file, or nothing is left.
    """
    at_out = None if out is None or not out.is_file() else identity_of(File(out))
    seen: dict[Any, tuple[str, File]] = {}
    files = []
    for argument, file in listed:
        identity = identity_of(file)
        if is_state(argument, file, identity == at_out) or is_output(argument, file, identity == at_out, out):
            continue
        file.argument = argument
        files.append(file)
        if identity in seen:
            require_entries(seen[identity], (argument, file))
        seen.setdefault(identity, (argument, file))
    if listed and not files:
        raise SourceError(f"{listed[0][0]} holds only state files and the output; give files of data")
    return files


def identity_of(file: File) -> Any:
    """What two names of one file share; the name, if there is no such file."""
    try:
        return file.identity()
    except OSError:
        return str(file)


def is_output(argument: str, file: File, is_out: bool, out: Path | None) -> bool:
    """Whether a file that a folder or glob holds is the output, or lies in a folder of outputs below it."""
    if str(file) == argument or out is None:
        return False
    if is_out or not out.is_dir():
        return is_out
    root, folder = (os.path.realpath(path) for path in (root_of(argument), out))
    is_below = folder != root and Path(folder).is_relative_to(root)
    return is_below and Path(os.path.realpath(file.path)).is_relative_to(folder)


def is_state(argument: str, file: File, is_out: bool) -> bool:
    """Whether a file is a state that is left out; raise SourceError if its path names another state than the output."""
    if not (is_out or file.suffixes[-1:] in STATES) or not file.exists():
        return False
    with reading(str(file)), file.open() as content:
        if not has_description(content):
            return False
    if str(file) == argument and not is_out:
        raise SourceError(f"{file} holds more than arrays, as state files do; leave it out, or give a .npz file of "
                          "arrays; bnstream merge joins states")
    return True


def root_of(argument: str) -> Path:
    """The folder below which an argument names files."""
    parts = Path(argument).parts
    if Path(argument).exists() or not glob.has_magic(argument):
        return Path(argument) if Path(argument).is_dir() else Path(argument).parent
    return Path(*parts[:next(i for i, part in enumerate(parts) if glob.has_magic(part))])


def require_entries(first: tuple[str, File], second: tuple[str, File]) -> None:
    """Raise SourceError if two names of one file, each with its argument, would count it twice.

    A folder may hold two links to a file elsewhere, or two hard links, as stores of equal files make them.
    """
    (before, other), (argument, file) = first, second
    paths = [one.path for one in (other, file)]
    places = [Path(os.path.realpath(path.parent), path.name) for path in paths]
    targets = [Path(os.path.realpath(path)) for path in paths]
    if before == argument and places[0] != places[1] and (targets[0] != targets[1] or targets[0] not in places):
        return
    what = f"{file} is named" if str(other) == str(file) else f"{other} and {file} are one file, which is named"
    by = f"by {before} and by {argument}" if before != argument else "" if str(file) == argument else f"by {argument}"
    raise SourceError(f"{what} twice{by and ', '}{by}, and would be counted twice; name each file once")
