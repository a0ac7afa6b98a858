"""Many small tables, each opened when its turn comes: opening all of them first would open each of them twice."""

from collections.abc import Callable, Iterator, Sequence

from bnstream.streams.sources.places.file import File
from bnstream.streams.sources.source import FileSource, Piece, require_same

SMALL_BYTES = 1 << 20       # Bytes of a file that is opened when its turn comes.
MANY = 64                   # Up to this number of files, all are opened first: a fault then ends no pass midway.


def opened_in_turn(make: Callable[[File], FileSource], files: Sequence[File]) -> list[FileSource]:
    """Open the first and all large files now, and the small ones when their turn comes."""
    first = make(files[0])
    small = [file.mark()[1] <= SMALL_BYTES for file in files]
    return [first, *(Deferred(make, file, first) if small[i] else make(file) for i, file in enumerate(files[1:], 1))]


class Deferred(FileSource):
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
