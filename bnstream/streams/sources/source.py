"""What a source is, and how its pieces are worked on by several threads."""

import zipfile
import zlib
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

T = TypeVar("T")
R = TypeVar("R")

PIECE_BYTES = 8 << 20       # for one thread at a time
CHUNK_BYTES = 1 << 20       # stays in the cache of the core that reads it and sums it up
LEAST_ROWS = 16             # of wide arrays, as a state takes as much as 5 to 10 rows


class SourceError(ValueError):
    """What a source holds cannot be read, or is not for statistics; the message says what, where and what to do.

    Examples
    --------
    >>> import bnstream
    >>> try:
    ...     bnstream.fit("nowhere.csv")
    ... except bnstream.SourceError as error:
    ...     print(error)
    there is no file nowhere.csv
    """


class Wanted(NamedTuple):
    """What is asked of a source."""

    columns: Sequence[Any] | None = None
    """Names, or indices, of the channels; None for all."""
    channel_axis: int = -1
    whole_rows: bool = False
    """Whether record batches should have all columns, also those that are not asked for."""


class Piece(NamedTuple):
    """A part of a source, not loaded yet."""

    load: Callable[[], Iterable[Any]]
    """Makes its arrays, or record batches of pyarrow's; in any thread."""
    n_rows: int | None
    """Rows, or images; None where only loading tells."""
    stop: int | None
    """Where the next piece starts, in the units of `Source.extent`; None where nobody can start there."""
    place: str
    """Where it is, for messages."""


class Source:
    """A stream of pieces with the same channels, which can be read from any place where a piece stops."""

    name: str
    names: tuple[str, ...] | None
    """Of the channels, where they have names."""
    n_channels: int
    extent: int | None
    """Where it ends: in rows, bytes or files, as is natural to it; None where it does not know."""
    batch_axes: tuple[int, ...] | None
    """What the statistics of its arrays reduce over; None if it gives record batches."""
    rows_first: bool
    """Whether an array's first axis is that of rows; else it is one row, or the channels come first."""
    in_turn: bool
    """Whether each piece must be done with before the next one is asked for, as they may share a buffer."""
    size: int = 1
    """How long it takes, as against others of its kind: of a file, its bytes."""
    mark: list[Any]
    """By which a resumed pass knows that it reads the same."""

    def pieces(self, start: int, chunk_rows: int | None) -> Iterator[Piece]:
        """From a place on, each with arrays of at most so many rows."""
        raise NotImplementedError

    def require_unchanged(self) -> None:
        """That it still is what it was, once all pieces are loaded; of what is in memory nobody knows."""


class FileSource(Source):
    """A source in a file of its own."""

    in_turn = False

    def __init__(self, path: Path) -> None:
        self.name, self.path, self.mark = str(path), path, mark_of(path)
        self.size = self.mark[1]

    def require_unchanged(self) -> None:
        if mark_of(self.path) != self.mark:
            raise SourceError(f"{self.path} was changed while it was read; begin anew when it is whole")


def mark_of(path: Path) -> list[Any]:
    status = path.stat()
    return [str(path), status.st_size, status.st_mtime_ns]


@contextmanager
def reading(name: str) -> Iterator[None]:
    """Errors say what was read."""
    try:
        yield
    except SourceError:
        raise
    except (OSError, EOFError, RuntimeError, ValueError, zipfile.BadZipFile, zlib.error) as error:
        raise SourceError(f"{name}: {error}") from error


def ordered_map(function: Callable[[T], R], items: Iterable[T], n_threads: int) -> Iterator[R]:
    """function of each item, in order, by threads that are a few items ahead."""
    pending: deque[Future[R]] = deque()
    with ThreadPoolExecutor(n_threads) as pool:
        try:
            for item in items:
                pending.append(pool.submit(function, item))
                if len(pending) > n_threads + 1:
                    yield pending.popleft().result()
            while pending:
                yield pending.popleft().result()
        finally:
            pool.shutdown(cancel_futures=True)
