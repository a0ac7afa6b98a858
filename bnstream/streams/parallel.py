"""Work on the pieces of sources by several threads, with the results in order."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import nullcontext
from typing import TypeVar

from bnstream._kernels._runtime import get_num_threads
from bnstream.streams.cursor import Cursor
from bnstream.streams.ordered import ordered_map
from bnstream.streams.sources import Piece, Source
from bnstream.streams.sources.errors import reading
from bnstream.streams.sources.places.file import REQUESTS, at_once
from bnstream.streams.sources.source import PIECE_BYTES

WHOLE_BYTES = 1 << 20       # Bytes of a remote file that is read as a whole while the files before it are.
AHEAD_BYTES = 32 << 20      # Bytes of the pieces of remote files that are loaded at the same time, about.
R = TypeVar("R")


def map_pieces(
    function: Callable[[Source, Piece], R],
    sources: Sequence[Source],
    cursor: Cursor,
    chunk_rows: int | None,
    n_threads: int | None,
) -> Generator[tuple[int, Piece, R], None, None]:
    """Yield the index of the source, the piece, and `function` of both, for all pieces from a cursor on."""
    def begin(index: int) -> Iterable[Piece]:
        pieces = sources[index].pieces(cursor.start if index == first else 0, chunk_rows)
        if sources[index].remote and sources[index].size <= WHOLE_BYTES:
            with reading(sources[index].name):
                return list(pieces)
        return pieces

    def pieces() -> Iterator[tuple[int, Piece]]:
        indices = range(first, len(sources))
        begun_ahead = ordered_map(begin, indices, REQUESTS) if remote else map(begin, indices)
        for index, begun in zip(indices, begun_ahead, strict=True):
            source = sources[index]
            with nullcontext() if source.in_turn else reading(source.name):     # errors of the user's generator pass
                for piece in begun:
                    yield index, piece

    def result(item: tuple[int, Piece]) -> tuple[int, Piece, R]:
        index, piece = item
        found = function(sources[index], piece)
        return index, piece._replace(load=tuple), found     # What was loaded need not stay in memory.

    first, remote = cursor.index, any(source.remote for source in sources)
    in_turn = any(source.in_turn for source in sources)
    index = first
    for item in map(result, pieces()) if in_turn else ordered_map(result, pieces(), n_threads or loaders(sources)):
        if item[0] > index and not remote:
            require_unchanged(sources[index:item[0]])
            index = item[0]
        yield item
    require_unchanged(sources[index:])      # remote sources at the same time


def loaders(sources: Sequence[Source]) -> int:
    """How many threads load: more than there are CPUs where they wait for a network."""
    waiting = [source.size for source in sources if source.waits]
    n_waiting = min(REQUESTS, AHEAD_BYTES // min(PIECE_BYTES, max(waiting))) if waiting else 0
    return max(get_num_threads(), n_waiting)


def require_unchanged(sources: Sequence[Source]) -> None:
    """Raise SourceError if a source changed while it was read."""
    def check(source: Source) -> None:
        with reading(source.name):
            source.require_unchanged()

    for _ in at_once(check, sources, waits=any(source.remote for source in sources)):
        pass
