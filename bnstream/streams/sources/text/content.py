"""Text in files of any encoding and compression, read as UTF-8."""

import codecs
import io
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

from bnstream.streams.sources.places.file import File
from bnstream.streams.sources.text.compressed import is_compressed, plain

HEAD_BYTES = 1 << 16        # Bytes at the beginning of a text, which show its encoding and its line ends.
COPY_BYTES = 1 << 20        # Bytes that are decoded at a time, or read to move forward.

# The encodings that a byte-order mark shows. The mark of UTF-32 begins with that of UTF-16.
MARKS = {codecs.BOM_UTF32_LE: "utf-32", codecs.BOM_UTF32_BE: "utf-32", codecs.BOM_UTF16_LE: "utf-16",
         codecs.BOM_UTF16_BE: "utf-16"}


class Text:
    """The text of a file. Its places are bytes of its UTF-8, after any byte-order mark."""

    def __init__(self, file: File, encoding: str | None) -> None:
        self.file = file
        self.encoding: str | None = None if is_utf8(encoding) else encoding
        self.mark_bytes = 0
        with plain(file) as content:
            head = content.read(HEAD_BYTES)
        if encoding is None:
            self.encoding = next((name for mark, name in MARKS.items() if head.startswith(mark)), None)
        if self.encoding is not None:
            with self.open(0) as text:
                head = text.read(HEAD_BYTES)
        if head.startswith(codecs.BOM_UTF8):
            self.mark_bytes = len(codecs.BOM_UTF8)
        self.head: bytes = head[self.mark_bytes:]

    @property
    def extent(self) -> int | None:
        """Where the text ends, if that is known before it is read."""
        if self.encoding is not None or self.file.size is None or is_compressed(self.file):
            return None
        return self.file.size - self.mark_bytes

    @contextmanager
    def open(self, start: int) -> Iterator[Any]:
        """The text from a place on, with the methods ``read`` and ``readinto``."""
        start += self.mark_bytes
        with plain(self.file) as content, self.decoded(content) as text:
            if start and text.seekable():
                text.seek(start)
            else:
                move(text, start)
            yield text

    def decoded(self, content: Any) -> AbstractContextManager[Any]:
        """The text of a content, which is closed before the content is."""
        if self.encoding is None:
            return nullcontext(content)
        return io.BufferedReader(Recoded(content, self.encoding), COPY_BYTES)


def move(text: Any, n: int) -> None:
    """Move forward in a text that cannot seek."""
    while n and (passed := text.read(min(n, COPY_BYTES))):
        n -= len(passed)


def is_utf8(encoding: str | None) -> bool:
    return encoding is not None and codecs.lookup(encoding).name in ("utf-8", "utf-8-sig")


class Recoded(io.RawIOBase):
    """The UTF-8 of a text in another encoding."""

    def __init__(self, content: Any, encoding: str) -> None:
        self.text = io.TextIOWrapper(content, encoding, newline="")     # line ends as they are

    def readable(self) -> bool:
        return True

    def readinto(self, memory: Any) -> int:
        found = self.text.read(len(memory) // 4).encode()       # a character takes at most 4 bytes
        memory[:len(found)] = found
        return len(found)

    def close(self) -> None:
        if not self.closed:
            self.text.detach()      # The content is closed where it was opened.
        super().close()
