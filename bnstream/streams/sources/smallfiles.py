"""Many small tables: some MiB of files are a source and its piece, opened when its turn comes and summed together.

Opening all files before the pass would open each of them twice, and a file by itself costs more than its numbers.
"""

from collections.abc import Callable, Iterator, Sequence
from functools import partial

from bnstream.streams.sources.places.file import File
from bnstream.streams.sources.source import FilesSource, Piece, Source, require_same

SMALL_BYTES = 1 << 20       # Bytes of a small file, at most.
MANY = 64                   # Up to this number of files, all are opened first: a fault then ends no pass midway.
TOGETHER_BYTES = 2 << 20    # Bytes of the files of a piece, at most.


def small_together(make: Callable[[File], Source], files: Sequence[File]) -> list[Source]:
    """Open the first and all large files, each as a source, and leave the runs of small ones between for later."""
    first = make(files[0])
    sources: list[Source] = [first]
    run: list[File] = []
    n_bytes = 0
    for file in files[1:]:
        size = file.size or 0
        is_small = size <= SMALL_BYTES
        if run and not (is_small and n_bytes + size <= TOGETHER_BYTES):
            sources.append(SmallFiles(make, run, first))
            run, n_bytes = [], 0
        if is_small:
            run.append(file)
            n_bytes += size
        else:
            sources.append(make(file))
    return sources + ([SmallFiles(make, run, first)] if run else [])


class SmallFiles(FilesSource):
    """Small files of tables that are expected to have the channels of the first one, as one piece."""

    def __init__(self, make: Callable[[File], Source], files: Sequence[File], first: Source) -> None:
        super().__init__(files)
        self.make, self.first, self.takes = make, first, first.takes
        self.take_channels(first)

    def pieces(self, start: int, chunk_rows: int | None) -> Iterator[Piece]:
        if not start:
            yield Piece(partial(self.first.together, self.files, chunk_rows), None, len(self.files),
                        f"{self.files[0]} to {self.files[-1]}", partial(self.one_by_one, chunk_rows))

    def one_by_one(self, chunk_rows: int | None) -> Iterator[tuple[Source, Piece]]:
        for file in self.files:
            source = self.make(file)
            require_same(self.first, source)
            for piece in source.pieces(0, chunk_rows):
                yield source, piece
