"""Reading the bytes of a file that lies elsewhere: by ranges that are fetched ahead of time, or in order."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import IO, Any, NamedTuple

from bnstream.streams.sources.places.file import REQUESTS
from bnstream.streams.sources.places.seekable import Seekable

BLOCK_BYTES = 4 << 20       # Bytes that one request fetches while a file is read in order.
AHEAD = 4                   # Blocks that are on their way at the same time.
LEAST_BYTES = 1 << 16       # Bytes that a request fetches at least.


def buffered(raw: io.RawIOBase) -> io.BufferedReader:
    """A reader that asks for as many bytes at a time as a request fetches at least."""
    return io.BufferedReader(raw, LEAST_BYTES)


class Part(NamedTuple):
    """A part of a file that is being fetched."""

    start: int
    stop: int
    content: Future[bytes]


class Ranges(Seekable):
    """The bytes of a file, each fetched by ``fetch(start, stop)``.

    A file that is read in order is fetched by blocks, several of them ahead of the reader, so that the time of a
    request is hidden. Ranges that are known beforehand are fetched together.
    """

    size: int

    def __init__(self, fetch: Callable[[int, int], bytes], size: int, ranges: Sequence[tuple[int, int]] = ()) -> None:
        super().__init__(size)
        self.fetch = fetch
        self.next: int | None = None        # where a reader goes on that reads in order
        self.pool = ThreadPoolExecutor(max(AHEAD, min(len(ranges), REQUESTS)))
        self.known = [self.request(start, stop) for start, stop in ranges]
        self.parts: list[Part] = []

    def request(self, start: int, stop: int) -> Part:
        stop = min(stop, self.size)
        return Part(start, stop, self.pool.submit(self.fetch, start, stop))

    def readinto(self, memory: Any) -> int:
        n = min(len(memory), self.size - self.at)
        if n <= 0:
            return 0
        part = next((part for part in self.known if part.start <= self.at < part.stop), None) or self.part(n)
        first = self.at - part.start
        got = memoryview(part.content.result())[first:first + n]
        memory[:len(got)] = got
        self.at += len(got)
        self.next = self.at
        return len(got)

    def part(self, n: int) -> Part:
        """The part that begins the next `n` bytes, fetched now unless it was before."""
        in_order = self.at == self.next
        self.parts = [part for part in self.parts if part.stop > self.at]
        if not self.parts or self.parts[0].start > self.at:
            self.parts = [self.request(self.at, self.at + (BLOCK_BYTES if in_order else max(n, LEAST_BYTES)))]
        while in_order and len(self.parts) < AHEAD and (stop := self.parts[-1].stop) < self.size:
            self.parts.append(self.request(stop, stop + BLOCK_BYTES))
        return self.parts[0]

    def close(self) -> None:
        self.pool.shutdown(wait=False, cancel_futures=True)
        super().close()


class Forward(Seekable):
    """A file that is read in order: a seek ahead reads what it skips, and a seek back opens the file again."""

    def __init__(self, reopen: Callable[[], IO[bytes]], persist: Callable[..., Any], size: int | None) -> None:
        super().__init__(size)
        self.reopen, self.persist = reopen, persist
        self.content: IO[bytes] | None = None
        self.reached = 0        # where the file that is open is

    def readinto(self, memory: Any) -> int:
        got: bytes = self.persist(lambda: self.read_once(len(memory)), f"byte {self.at:,}")
        memory[:len(got)] = got
        self.at += len(got)
        return len(got)

    def read_once(self, n: int) -> bytes:
        try:
            if self.content is None or self.reached > self.at:
                self.forget()
                self.content = self.reopen()
            while (left := self.at - self.reached) and (skipped := len(self.content.read(min(left, BLOCK_BYTES)))):
                self.reached += skipped
            got = self.content.read(n) if self.reached == self.at else b""
        except BaseException:
            self.forget()       # a second try begins anew
            raise
        self.reached += len(got)
        return got

    def forget(self) -> None:
        content, self.content, self.reached = self.content, None, 0
        if content is not None:
            content.close()

    def close(self) -> None:
        self.forget()
        super().close()
