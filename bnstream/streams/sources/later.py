"""Many small tables, each opened when its turn comes: opening all of them first would open each of them twice."""

from collections.abc import Callable, Iterator, Sequence

from bnstream.streams.sources.places import File
from bnstream.streams.sources.source import FileSource, Piece, require_same

SMALL_BYTES = 1 << 20       # Bytes of a file that is opened when its turn comes.
MANY = 64                   # Such files. Of fewer, a fault is found before the pass begins.


def opened_in_turn(make: Callable[[File], FileSource], files: Sequence[File]) -> list[FileSource]:
    """Open the first and all large files, and the small ones when their turn comes."""
    first = make(files[0])
    return [first, *(Later(make, file, first) if file.mark()[1] <= SMALL_BYTES else make(file) for file in files[1:])]


class Later(FileSource):
    """A table that is expected to have the channels of the first one."""

    extent = None

    def __init__(self, make: Callable[[File], FileSource], file: File, first: FileSource) -> None:
        super().__init__(file)
        self.make, self.first, self.takes = make, first, first.takes
        self.names, self.n_channels, self.fields = first.names, first.n_channels, first.fields
        self.batch_axes, self.rows_first = first.batch_axes, first.rows_first

    def pieces(self, start: int, chunk_rows: int | None) -> Iterator[Piece]:
        source = self.make(self.file)
        require_same(self.first, source)
        yield from source.pieces(start, chunk_rows)
