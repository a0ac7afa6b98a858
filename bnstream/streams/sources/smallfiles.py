"""Many small tables: a piece is some MiB of files, which are opened when its turn comes and summed together.

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
    for file in files[1:]:
        if (file.size or 0) <= SMALL_BYTES:
            run.append(file)
            continue
        sources += [SmallFiles(make, run, first)] if run else []
        sources.append(make(file))
        run = []
    return sources + ([SmallFiles(make, run, first)] if run else [])


class SmallFiles(FilesSource):
    """Small files of tables that are expected to have the channels of the first one."""

    def __init__(self, make: Callable[[File], Source], files: Sequence[File], first: Source) -> None:
        super().__init__(files)
        self.make, self.first, self.takes = make, first, first.takes
        self.take_channels(first)

    def pieces(self, start: int, chunk_rows: int | None) -> Iterator[Piece]:
        stop = start
        while (start := stop) < len(self.files):
            n_bytes = 0
            while stop < len(self.files) and (stop == start or n_bytes + self.sizes[stop] <= TOGETHER_BYTES):
                n_bytes += self.sizes[stop]
                stop += 1
            files = self.files[start:stop]
            yield Piece(partial(self.first.together, files, chunk_rows), None, stop, f"{files[0]} to {files[-1]}",
                        partial(self.one_by_one, files, chunk_rows))

    def one_by_one(self, files: Sequence[File], chunk_rows: int | None) -> Iterator[tuple[Source, Piece]]:
        for file in files:
            source = self.make(file)
            require_same(self.first, source)
            for piece in source.pieces(0, chunk_rows):
                yield source, piece
