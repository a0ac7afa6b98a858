"""A pass over sources: its pieces, how far it is, and what fit and apply ask of it before it begins."""

from __future__ import annotations

import json
import operator
import os
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from bnstream._kernels._runtime import get_num_threads
from bnstream.core.moments import Moments
from bnstream.statefiles import read
from bnstream.streams.sources import Piece, Source, SourceError, whole
from bnstream.streams.sources.source import FileSource, ordered_map, reading

R = TypeVar("R")


class Progress(NamedTuple):
    """How far a pass over sources is."""

    share: float | None
    """From 0 to 1; None where the sources do not tell their size."""
    n_rows: int
    """Rows so far, or images."""
    source: str
    """What is being read."""


class Place:
    """How far a pass is, and of what: all that a checkpoint needs to go on."""

    def __init__(self, sources: Sequence[Source], arguments: dict[str, Any]) -> None:
        self.sources = sources
        plan = {"arguments": arguments, "sources": [source.mark for source in sources]}
        self.plan = json.loads(json.dumps(plan, default=operator.index))
        self.sizes = [source.size for source in sources]
        self.index = self.start = 0     # the source that is read, and where its next piece starts
        self.n_rows = 0

    def take(self, index: int, piece: Piece, n_rows: int) -> bool:
        """A piece is done; whether a pass could go on from here."""
        self.n_rows += n_rows
        if piece.stop is None:
            return False
        self.index, self.start = index, piece.stop
        return True

    def progress(self) -> Progress:
        source = self.sources[self.index]
        if source.extent is None and len(self.sources) == 1:
            return Progress(None, self.n_rows, source.name)
        part = self.start / source.extent if source.extent else 0.0
        done = sum(self.sizes[:self.index]) + part * self.sizes[self.index]
        return Progress(done / max(sum(self.sizes), 1), self.n_rows, source.name)

    def to_json(self) -> dict[str, Any]:
        return {**self.plan, "at": [self.index, self.start], "n_rows": self.n_rows}

    def resume(self, checkpoint: Path) -> Moments:
        """To the place of a checkpoint, and its moments, once it is known that it is one of the same pass."""
        file = read(checkpoint)
        saved = file.metadata.get("progress")
        if not isinstance(saved, dict) or not isinstance(file.state, Moments):
            raise SourceError(f"{checkpoint} is no checkpoint of an unfinished fit; delete it to begin anew")
        for key, verb in (("arguments", "was made with"), ("sources", "was made of")):
            if saved.get(key) != self.plan[key]:
                raise SourceError(f"{checkpoint} {verb} {difference(saved.get(key), self.plan[key])}; go on with what "
                                  "it was made with, or delete it to begin anew")
        match saved:
            case {"at": [int(index), int(start)], "n_rows": int(n_rows)} if (
                0 <= index < len(self.sources) and start >= 0 and n_rows >= 0
            ):
                self.index, self.start, self.n_rows = index, start, n_rows
            case _:
                raise SourceError(f"{checkpoint} does not say where the pass was, but at={saved.get('at')!r:.60}, "
                                  f"n_rows={saved.get('n_rows')!r:.60}; delete it to begin anew")
        return file.state


def difference(saved: Any, now: Any) -> str:
    if isinstance(saved, dict) and isinstance(now, dict):
        return "; ".join(f"{key}={saved.get(key)!r}, now {now[key]!r}" for key in now if saved.get(key) != now[key])
    if not isinstance(saved, list) or len(saved) != len(now):
        return f"{len(saved) if isinstance(saved, list) else 'no'} sources, now {len(now)}"
    return next(f"{old} (path, size, time), now {new}" for old, new in zip(saved, now, strict=True) if old != new)


def parts_of(
    sources: Sequence[Source],
    place: Place,
    chunk_rows: int | None,
    n_threads: int | None,
    function: Callable[[Source, Piece], R],
) -> Generator[tuple[int, Piece, R], None, None]:
    """function of all pieces from a place on, in order, by several threads; each with the index of its source."""
    def pieces() -> Iterator[tuple[int, Piece]]:
        first = place.index
        for index, source in enumerate(sources[first:], first):
            with nullcontext() if source.in_turn else reading(source.name):      # a generator's errors are its own
                for piece in source.pieces(place.start if index == first else 0, chunk_rows):
                    yield index, piece

    def part(item: tuple[int, Piece]) -> tuple[int, Piece, R]:
        return *item, function(sources[item[0]], item[1])

    in_turn = any(source.in_turn for source in sources)
    index = place.index
    for item in map(part, pieces()) if in_turn else ordered_map(part, pieces(), n_threads or get_num_threads()):
        if item[0] > index:
            require_unchanged(sources[index:item[0]])
            index = item[0]
        yield item
    require_unchanged(sources[index:])


def require_unchanged(sources: Sequence[Source]) -> None:
    for source in sources:
        with reading(source.name):
            source.require_unchanged()


def names_of(sources: Sequence[Source]) -> str:
    return sources[0].name if len(sources) == 1 else f"{sources[0].name} to {sources[-1].name}, {len(sources)} files"


def require_counts(chunk_rows: int | None, n_threads: int | None) -> None:
    for name, value in (("chunk_rows", chunk_rows), ("n_threads", n_threads)):
        if value is not None and whole(name, value) < 1:
            raise ValueError(f"{name} must be at least 1, got {value}")


def require_no_source(out: Path, sources: Sequence[Source]) -> None:
    for source in sources:
        if isinstance(source, FileSource) and source.path.resolve() == out.resolve():
            raise ValueError(f"{out} is one of the sources, and would be replaced; give another name")


def require_writable(path: Path) -> None:
    """Find out before the pass, not after it."""
    if not path.parent.is_dir():
        raise FileNotFoundError(f"cannot write {path}: there is no folder {path.parent}")
    if path.is_dir():
        raise IsADirectoryError(f"cannot write {path}: it is a folder")
    if not os.access(path.parent, os.W_OK):
        raise PermissionError(f"cannot write {path}: the folder {path.parent} is read-only")
