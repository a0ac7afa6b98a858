"""A folder of outputs, one for each file: their names, and the record of a pass that can be resumed."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from bnstream.statefiles.atomic import replacing
from bnstream.streams.cursor import difference
from bnstream.streams.sources import Source, SourceError
from bnstream.streams.sources.files import FORMATS
from bnstream.streams.sources.places.distinct import root_of
from bnstream.streams.sources.places.file import File
from bnstream.streams.writers import SUFFIXES

RECORD = ".apply.checkpoint"        # Its name in the folder.


def is_folder(out: str | os.PathLike[str]) -> bool:
    """Whether an output is a folder: it exists as one, or its name ends as one."""
    return os.fspath(out).endswith(tuple(filter(None, (os.sep, os.altsep)))) or Path(out).is_dir()


def one_by_one(sources: Sequence[Source]) -> list[Source]:
    """The sources with one file each.

    Raises
    ------
    SourceError
        If a source is not a file.
    """
    found = [one for source in sources for one in source.each()]
    for source in found:
        if len(source.files) != 1:
            raise SourceError(f"{source.name} is no file, and a folder gets one file for each; give the name of a file "
                              "as out")
    return found


def paths_in(folder: Path, sources: Sequence[Source], out_format: str | None) -> list[Path]:
    """The outputs in a folder: what is below a folder or glob keeps its place.

    Raises
    ------
    SourceError
        If two files have one output.
    """
    taken: dict[Path, Source] = {}
    for source in sources:
        (file,) = source.files
        own = suffix_of(file)
        place = place_of(file)
        out = folder / place.with_name(place.name.removesuffix(own) + (f".{out_format or format_like(own, source)}"))
        other = taken.setdefault(out, source)
        if other is not source:
            raise SourceError(f"{other.name} and {source.name} would both be written to {out}; give the folder that "
                              "holds them, or a folder of outputs for each")
    return list(taken)


def place_of(file: File) -> Path:
    """The path of a file below the folder or glob that names it."""
    root = root_of(file.argument)
    is_below = file.argument and not file.remote and file.path.is_relative_to(root)
    return file.path.relative_to(root) if is_below else Path(file.path.name)


def suffix_of(file: File) -> str:
    """The longest suffix of the name of a file that names a format."""
    ends = (file.path.name[-len(suffix):] for suffix in sorted(FORMATS, key=len, reverse=True)
            if file.path.name.lower().endswith(suffix))
    return next(ends, file.path.suffix)


def format_like(suffix: str, source: Source) -> str:
    """The format of the output of a file: its own, if it is one of those that are written."""
    if not source.is_table:
        return "npy"
    kind = FORMATS.get(suffix.lower(), ("parquet", ""))[0].rpartition(".")[2]
    return kind if f".{kind}" in SUFFIXES else "parquet"


@contextmanager
def making(folders: Iterable[Path]) -> Iterator[None]:
    """Make folders; after an error, remove those of them that are empty."""
    made: list[Path] = []
    try:
        for folder in dict.fromkeys(folders):
            missing = [one for one in (folder, *folder.parents) if not one.exists()]
            for one in reversed(missing):
                one.mkdir()
                made.append(one)
        yield
    except BaseException:
        for folder in reversed(made):
            with suppress(OSError):     # It holds an output that is complete.
                folder.rmdir()
        raise


class Record:
    """Which outputs of a folder are complete: lines of JSON, the arguments first, then each output with its source."""

    def __init__(self, folder: Path, arguments: Mapping[str, Any]) -> None:
        self.path = folder / RECORD
        self.arguments = json.loads(json.dumps(arguments, default=str))
        self.done: dict[str, Any] = {}

    def resume(self) -> bool:
        """Read what an unfinished pass has done; return whether there was one.

        Raises
        ------
        SourceError
            If it had other arguments.
        """
        if not self.path.exists():
            return False
        lines = []
        for line in self.path.read_text(encoding="utf-8").splitlines():
            try:
                lines.append(json.loads(line))
            except ValueError:      # the last one of a process that was killed
                break
        if not lines:       # an older pass, which was killed before its first line
            return False
        if lines[0] != self.arguments:
            raise SourceError(f"{self.path} was made with {difference(lines[0], self.arguments)}; resume with the same "
                              "arguments, or begin anew with force=True (--force)")
        self.done = dict(lines[1:])
        return True

    @contextmanager
    def kept(self) -> Iterator[None]:
        """Keep the record during a pass, and after it if it ends midway.

        It begins as a whole: a pass that is killed here, or finds the disk full, loses nothing of the record before.
        """
        with replacing(self.path) as file:
            for line in (self.arguments, *self.done.items()):
                file.write(line_of(line))
        try:
            yield
        except BaseException:
            if not self.done:
                self.path.unlink()
            raise
        self.path.unlink()

    def has(self, out: Path, source: Source) -> bool:
        """Whether an output is complete, and its source is as it was."""
        return out.exists() and self.done.get(str(out)) == json.loads(json.dumps(source.mark))

    def add(self, out: Path, source: Source) -> None:
        self.done[str(out)] = source.mark
        with self.path.open("ab") as file:
            file.write(line_of((str(out), source.mark)))


def line_of(value: Any) -> bytes:
    """A line of a record."""
    return f"{json.dumps(value)}\n".encode()
