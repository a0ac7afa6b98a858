"""Blocks of whole rows of a text, and the rows in them: a line end in quotes ends none."""

import re
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa  # type: ignore[import-untyped]
from numpy.typing import NDArray

from bnstream.streams.sources.text.dialect import Dialect

Places = NDArray[np.int64]
TAIL_BYTES = 1 << 16        # Where the last line end of a block is looked for first.


class QuoteError(ValueError):
    """A quote that does not seem to enclose a field, and in which line of the block it is, from 0 on."""

    def __init__(self, block: memoryview, place: int, message: str) -> None:
        super().__init__(message)
        self.line = n_lines(bytes(block[:place]))


class Row(NamedTuple):
    """Where a row is in its block, and the number of the line in which it begins, from 0 on."""

    start: int
    stop: int
    line: int


def fill(text: Any, memory: memoryview) -> int:
    """Read into memory until it is full or the text ends; return the number of bytes."""
    size = 0
    while size < len(memory) and (n := text.readinto(memory[size:])):
        size += n
    return size


def cut(text: Any, n_bytes: int, dialect: Dialect, line_end: bytes, limit: int) -> Iterator[Any]:
    """Cut a text into blocks of whole rows of up to `n_bytes`, more only where a row is longer.

    A block depends on where it begins, and not on those before it. Arrow owns its memory: see `native`.

    Raises
    ------
    QuoteError
        If a quote is not closed within `limit` bytes, or see `quoted`.
    """
    rest, size = b"", n_bytes
    while True:
        memory = pa.allocate_buffer(size)
        view = memoryview(memory).cast("B")
        held = min(len(rest), size)
        view[:held] = rest[:held]
        n = held + fill(text, view[held:])
        stop, opened = whole_rows(view[:n], dialect, line_end)
        if opened is not None and (n < size or n - opened > limit):
            raise QuoteError(view, opened, "this quote is never closed")
        if n < size:
            stop = n
        if stop:
            yield memory.slice(0, stop)
        elif not n:
            return
        size = n_bytes if stop else 2 * size
        rest = bytes(view[stop:n]) + rest[held:]


def whole_rows(block: memoryview, dialect: Dialect, line_end: bytes) -> tuple[int, int | None]:
    """Where the last whole row ends, 0 if there is none, and where a quote is opened that is not closed, if one is."""
    starts, stops = quoted(block, dialect)
    stop = len(block)
    while stop := last(line_end, block[:stop]):
        i = int(np.searchsorted(starts, stop)) - 1
        if i < 0 or stops[i] < stop:
            break
        stop = int(starts[i])
    opened = int(starts[-1]) if starts.size and stops[-1] > len(block) else None
    return stop, opened


def has_open_quote(text: bytes, dialect: Dialect, start: int) -> bool:
    """Whether a quote after the first bytes is not closed by the end of a text, or see `QuoteError`."""
    if not dialect.quote or text.find(dialect.quote.encode(), start) < 0:
        return False
    rest = memoryview(text)[start:]
    try:
        _, stops = quoted(rest, dialect)
    except QuoteError:
        return True
    return bool(stops.size and stops[-1] > len(rest))


def last(line_end: bytes, block: memoryview) -> int:
    """The place after the last line end, 0 if there is none."""
    for n in (TAIL_BYTES, len(block)):
        found = bytes(block[-n:]).rfind(line_end)
        if found >= 0:
            return max(len(block) - n, 0) + found + 1
    return 0


def quoted(block: memoryview, dialect: Dialect) -> tuple[Places, Places]:
    """Where quoted fields and comments begin, and the bytes after each; one that is not closed stops after the block.

    Raises
    ------
    QuoteError
        If a quoted field has line ends, and goes on after its closing quote, or has tabs in a text that is separated by
        tabs; unless the caller says that it is quoted.
    """
    a = np.frombuffer(block, np.uint8)
    commented = dialect.comment is not None and re.search(re.escape(dialect.comment.encode()), block)
    places = np.flatnonzero(a == ord(dialect.quote)) if dialect.quote else np.empty(0, np.int64)
    if not commented:
        if not places.size:
            return places, places
        if (dialect.trusted or dialect.delimiter != "\t") and is_regular(a, places, dialect):
            closed = places[1::2] + 1
            return places[0::2], np.append(closed, len(a) + 1) if places.size % 2 else closed
    spans = []
    for match in dialect.quoted.finditer(block) if dialect.quoted else ():
        start, stop = match.span()
        is_open = match.lastgroup != "comment" and not match["closing"]
        if not (dialect.trusted or dialect.delimiter is None or is_open or match.lastgroup == "comment"):
            require_field(block, match, dialect)
        spans.append((start, len(a) + 1 if is_open else stop))
    starts, stops = np.array(spans, np.int64).reshape(-1, 2).T
    return starts, stops


def is_regular(a: NDArray[np.uint8], places: Places, dialect: Dialect) -> bool:
    """Whether quotes open and close fields in turn: they begin after a separator and end before one, or are doubled."""
    ends = np.zeros(256, np.bool_)
    ends[[*map(ord, dialect.separators + "\r\n" + dialect.quote)]] = True
    before = places[0 if places[0] else 2::2] - 1       # nothing is before the first byte, or after the last
    after = places[1:len(places) - (places[-1] == len(a) - 1):2] + 1
    return bool(ends[a[before]].all() and ends[a[after]].all())


def require_field(block: memoryview, field: re.Match[bytes], dialect: Dialect) -> None:
    """Raise QuoteError if rows were taken for one quoted field, as a quote begins a field that is not quoted."""
    start, stop = field.span()
    if not re.search(rb"[\r\n]", field[0]):
        return
    after = bytes(block[stop:stop + 1])
    if after.decode("latin-1") not in dialect.separators + "\r\n":     # an empty one, at the end, is
        raise QuoteError(block, start, "this quote is closed some lines later, inside a field")
    if dialect.delimiter == "\t" and b"\t" in field[0]:
        raise QuoteError(block, start, "this quote encloses both tabs and line ends")


def rows(block: bytes, dialect: Dialect) -> Iterator[Row]:
    """The rows of a block but for empty ones and comments, as pyarrow counts them."""
    masked = dialect.masked(block)
    comment = dialect.comment.encode() if dialect.comment else None
    line = before = 0
    for match in re.finditer(rb"[^\r\n]+", masked):
        start, stop = match.span()
        line, before = line + n_lines(block[before:start]), start
        if comment is None or not match[0].lstrip(b" \t" if dialect.by_blanks else b" ").startswith(comment):
            yield Row(start, stop, line)


def n_lines(text: bytes) -> int:
    """The number of line ends, of any kind."""
    return text.count(b"\n") + text.count(b"\r") - text.count(b"\r\n")
