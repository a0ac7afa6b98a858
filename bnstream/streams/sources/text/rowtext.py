"""The rows of a text file: in blocks, from any place on, and in which line they are."""

import re
from collections.abc import Iterator
from typing import Any

from bnstream.streams.sources.errors import SourceError
from bnstream.streams.sources.places.file import File
from bnstream.streams.sources.text.content import COPY_BYTES, HEAD_BYTES, Text
from bnstream.streams.sources.text.dialect import LIKELY, Dialect
from bnstream.streams.sources.text.jsonlist import ListText
from bnstream.streams.sources.text.lines import QuoteError, cut, rows

BLOCK_BYTES = 4 << 20           # Bytes of text that are parsed at a time.
LONGEST_QUOTED = 4 << 20        # Bytes of a quoted field; a longer one is taken for a quote that is not closed.


class RowText:
    """The rows of a text file of a dialect. Its places are bytes of the text in UTF-8."""

    def __init__(self, file: File, dialect: Dialect, text: ListText | None = None) -> None:
        self.file, self.dialect = file, dialect
        self.text: Text | ListText = text or Text(file, dialect.encoding)
        self.extent = self.text.extent
        if b"\0" in self.text.head:
            raise SourceError(f"{file} holds zero bytes, expected text; give its encoding with encoding= (--encoding), "
                              "as 'utf-16-le', or remove the zero bytes of text in another encoding")
        self.lines = {0: 1}     # the numbers of the lines at some places
        masked = dialect.masked(self.text.head)
        self.line_end = b"\r" if b"\r" in masked and b"\n" not in masked else b"\n"

    def blocks(self, start: int, n_bytes: int) -> Iterator[tuple[int, Any]]:
        """Yield blocks of whole rows from a place on, of about `n_bytes`, each with the place where it ends."""
        counts = self.file.sequential or self.file.remote       # going back to count is slow, or impossible
        with self.text.open(start) as text:
            try:
                for block in cut(text, n_bytes, self.dialect, self.line_end, LONGEST_QUOTED):
                    line = self.line_of(start) if counts else 0
                    start += len(block)
                    if counts:
                        self.lines[start] = line + bytes(block).count(self.line_end)
                    yield start, block
            except QuoteError as error:
                line = self.line_of(start) + error.line
                raise SourceError(f"{self.file}, line {line:,}: {error}; pass quote='' (--quote '') if quotes are part "
                                  "of the text, quote='\"' (--quote '\"') if this one encloses a field") from None

    def after_lines(self, n: int) -> int:
        """The place after the first `n` lines."""
        if not n:
            return 0
        text = b""
        with self.text.open(0) as file:
            while text.count(self.line_end) < n and (more := file.read(HEAD_BYTES)):
                text += more
        ends = [0, *(match.end() for match in re.finditer(self.line_end, text))]
        if len(ends) <= n:
            raise SourceError(f"{self.file} has {len(ends) - 1} lines, got skip_rows={n} (--skip-rows)")
        return ends[n]

    def row(self, start: int, n: int, n_bytes: int) -> tuple[int, bytes] | None:
        """Where the line of row `n` from a place on ends, and its text; None if there are fewer rows.

        Empty rows do not count.
        """
        for stop, block in self.blocks(start, n_bytes):
            text = bytes(block)
            for row in rows(text, self.dialect):
                if not n:
                    end = re.match(rb"\r\n|\n|\r|", text[row.stop:row.stop + 2])
                    return start + row.stop + (end.end() if end else 0), text[row.start:row.stop]
                n -= 1
            start = stop
        return None

    def line_of(self, place: int) -> int:
        """The number of the line, from 1 on, that holds a place of the text."""
        if place in self.lines:
            return self.lines[place]
        n_ends = 0
        with self.text.open(0) as text:
            while place and (passed := text.read(min(place, COPY_BYTES))):
                place -= len(passed)
                n_ends += passed.count(self.line_end)
        return n_ends + 1

    def find_delimiter(self, first: bytes) -> None:
        """Find the delimiter in the first row: a tab in .tsv files, elsewhere the one that the row has most of.

        Commas between digits are decimal commas, if there is another delimiter.
        """
        likely = "\t"
        if ".tsv" not in self.file.suffixes:
            unquoted = first if self.dialect.quoted is None else self.dialect.quoted.sub(b"", first)
            plain = re.sub(rb"(?<=\d),(?=\d)", b"", unquoted)
            likely = max(LIKELY, key=lambda mark: plain.count(mark.encode()))
        self.dialect = self.dialect.with_delimiter(likely)
