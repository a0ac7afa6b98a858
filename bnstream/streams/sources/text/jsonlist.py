"""JSON that is one list of objects, rewritten as JSON lines while it is read."""

import codecs
import io
import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from bnstream.streams.sources.errors import SourceError
from bnstream.streams.sources.text.content import COPY_BYTES, HEAD_BYTES, Text, move
from bnstream.streams.sources.text.nesting import TOO_DEEP

LONGEST_OBJECT = 16 << 20       # Characters of an object; a longer one is taken for one that does not end.
BLANKS = re.compile(r"[ \t\r\n]*")


class ListText:
    """The text of a list of objects as JSON lines. Its places are bytes of these lines."""

    extent = None
    mark_bytes = 0

    def __init__(self, text: Text) -> None:
        self.text = text
        with self.open(0) as lines:
            self.head = lines.read(HEAD_BYTES)

    @contextmanager
    def open(self, start: int) -> Iterator[Any]:
        """The lines from a place on, with the methods ``read`` and ``readinto``."""
        with self.text.open(0) as text:
            lines = io.BufferedReader(Lines(Objects(text, str(self.text.file)).lines()), COPY_BYTES)
            move(lines, start)
            yield lines


class Lines(io.RawIOBase):
    """Lines as a file."""

    def __init__(self, lines: Iterator[bytes]) -> None:
        self.lines, self.rest = lines, bytearray()

    def readable(self) -> bool:
        return True

    def readinto(self, memory: Any) -> int:
        while len(self.rest) < len(memory) and (line := next(self.lines, b"")):
            self.rest += line
        found = self.rest[:len(memory)]
        memory[:len(found)] = found
        del self.rest[:len(found)]
        return len(found)


class Objects:
    """The objects of a list. A window of its text is in memory, which holds at least the object that is read."""

    def __init__(self, text: Any, name: str) -> None:
        self.text, self.name = text, name
        self.decode = codecs.getincrementaldecoder("utf-8")().decode
        self.json = json.JSONDecoder()
        self.window, self.at, self.n = "", 0, 0

    def lines(self) -> Iterator[bytes]:
        """Yield each object on a line of its own, as it is written."""
        self.mark("[")
        if self.peek() != "]":
            yield self.line()
        while self.mark(",]" if self.n else "]") == ",":
            yield self.line()
        if self.peek():
            raise self.error("nothing more")

    def line(self) -> bytes:
        """The next object. JSON escapes the line ends in texts, so all others are blanks."""
        if self.peek() != "{":
            raise self.error("an object")
        while True:
            try:
                _, stop = self.json.raw_decode(self.window, self.at)
            except json.JSONDecodeError as error:
                if len(self.window) - self.at > LONGEST_OBJECT or not self.read_on():
                    raise SourceError(f"{self.name}: object {self.n + 1:,} of its list is damaged, or longer than "
                                      f"{LONGEST_OBJECT >> 20} MiB: {error.msg}") from error
            except RecursionError as error:
                raise SourceError(f"{self.name}: object {self.n + 1:,} of its list is nested {TOO_DEEP}") from error
            else:
                written = self.window[self.at:stop]
                self.at, self.n = stop, self.n + 1
                return written.replace("\r", " ").replace("\n", " ").encode() + b"\n"

    def mark(self, marks: str) -> str:
        """Move past the next character that is not blank, and return it; raise SourceError if it is none of these."""
        found = self.peek()
        if not found or found not in marks:
            raise self.error(" or ".join(map(repr, marks)))
        self.at += 1
        return found

    def peek(self) -> str:
        """The next character that is not blank; "" at the end."""
        while True:
            blanks = BLANKS.match(self.window, self.at)
            self.at = blanks.end() if blanks else self.at
            if self.at < len(self.window) or not self.read_on():
                return self.window[self.at:self.at + 1]

    def read_on(self) -> bool:
        """Move the window; return whether there was more text."""
        data = self.text.read(max(COPY_BYTES, len(self.window) - self.at))
        try:
            self.window, self.at = self.window[self.at:] + self.decode(data, not data), 0
        except UnicodeDecodeError as error:
            raise SourceError(f"{self.name} is not UTF-8 after {self.n:,} objects: {error.reason}; give its encoding "
                              "with encoding= (--encoding), such as 'latin-1'") from error
        return bool(data)

    def error(self, expected: str) -> SourceError:
        found = repr(self.window[self.at:self.at + 20]) if self.window[self.at:] else "the end of the file"
        return SourceError(f"{self.name}: its list has {found} after {self.n:,} objects; expected {expected}")
