"""What a source is, and what a caller wants from it."""

import hashlib
import json
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from bnstream.core.labels import counted, listed
from bnstream.streams.sources.errors import SourceError
from bnstream.streams.sources.places.file import File, at_once

PIECE_BYTES = 8 << 20       # Bytes of a piece, about.


class Wanted(NamedTuple):
    """What a caller wants from a source."""

    columns: Sequence[Any] | None = None
    """Names or indices of the channels; None for all."""
    channel_axis: int | None = None
    """The channel axis that the caller chose for arrays; None for the default."""
    default_axis: int = -1
    """The channel axis of arrays for which the caller chose none."""
    whole_rows: bool = False
    """Whether record batches keep the columns that are not in `columns`."""
    weights: Any = None
    """The column of a table that holds the weights of its rows, which is read but is no channel; or a DataArray."""
    least_rows: int = 16
    """Least number of values of each channel in a batch of a wide array, as the state of a batch takes the memory of 5
    to 10 of them."""
    reading: Mapping[str, Any] = {}
    """The options of reading that are given, by their names in `Reading`."""
    out: Path | None = None
    """The file or folder that is written. What lies there is not read from a folder or glob."""
    by: Sequence[str] = ()
    """The columns of a table that hold the keys of its rows, which are read but are no channels."""

    @property
    def beside(self) -> list[str]:
        """The columns to read beside the channels of a table."""
        if self.weights is not None and not isinstance(self.weights, str):
            raise TypeError(f"weights must be the name of a column of a table, got {type(self.weights).__name__}")
        return [*([] if self.weights is None else [self.weights]), *self.by]


class Piece(NamedTuple):
    """A part of a source, not yet loaded."""

    load: Callable[[], Iterable[Any]]
    """Returns the arrays or record batches of the piece, or mappings as for `batch_of`; may be called in any thread."""
    n_rows: int | None
    """Rows or images; None if they are known only once it is loaded."""
    stop: int | None
    """Where the next piece starts, in the units of `Source.extent`; None if a pass cannot resume there."""
    place: str
    """Where the piece is, for messages."""
    parts: "Callable[[], Iterable[tuple[Source, Piece]]] | None" = None
    """Returns pieces of other sources that hold the same, if `load` may fail where they can be read one by one."""


class Source:
    """A stream of pieces with the same channels, which can be read from the end of any piece."""

    takes: frozenset[str] = frozenset()
    """The options of reading that it takes, by their names in `Reading`."""
    name: str
    names: tuple[str, ...] | None
    """Names of the channels, if they have any."""
    fields: Mapping[str, Any] = {}
    """Of a table, the columns that hold the channels: an `embeddings.Field` of each, by its name."""
    n_channels: int
    extent: int | None = None
    """Where the source ends, in its own units: rows, bytes or files; None if unknown."""
    batch_axes: tuple[int, ...] | None
    """The axes of its arrays that statistics reduce over; None if it yields record batches."""
    rows_first: bool = True
    """Whether the first axis of an array is the rows. Otherwise an array is one row or has its channels first."""
    in_blocks: bool = False
    """Whether it yields `Block`, each of which may have some of the channels."""
    in_turn: bool = False
    """Whether a piece must be finished before the next is requested, because pieces may share a buffer."""
    size: int = 1
    """Amount of work relative to the other sources of a pass; for a file, its size in bytes."""
    files: Sequence[File] = ()
    """The files that it reads, where these are known."""
    remote: bool = False
    """Whether it waits for a network."""
    waits: bool = False
    """Whether loading a piece waits for a network, so that more threads than CPUs are of use."""
    resumable: bool = True
    """Whether a resumed pass can find its place, and verify that the data is the same."""
    schema: Any = None
    """The schema of pyarrow of all columns of a table; None for arrays, and where it is not known before it is read."""
    dtype: Any = None
    """The dtype of an array; None for tables, and where it is not known before it is read."""
    columns_there: Collection[str] = ()
    """All columns of a table, where these are known; those that hold no numbers are left out if the caller says so."""
    na_words: Sequence[str] = ()
    """The words of text that stand for a missing number or bool."""
    na_texts: Sequence[str] = ()
    """The words that stand for a missing text, such as a key."""
    doubt: str = ""
    """What `fit` warns of, as the caller may not have meant it."""
    mark: list[Any]
    """What a resumed pass compares to verify that it reads the same data."""

    @property
    def is_table(self) -> bool:
        """Whether it yields record batches, and no arrays."""
        return self.batch_axes is None

    def take_channels(self, other: "Source") -> None:
        """Have the channels of another source, which this one is like."""
        self.names, self.fields, self.n_channels = other.names, other.fields, other.n_channels
        self.batch_axes, self.rows_first, self.in_blocks = other.batch_axes, other.rows_first, other.in_blocks
        self.na_words, self.na_texts = other.na_words, other.na_texts

    def pieces(self, start: int, chunk_rows: int | None) -> Iterator[Piece]:
        """Yield the pieces from `start` on, with at most `chunk_rows` rows in an array or record batch."""
        raise NotImplementedError

    def require_unchanged(self) -> None:
        """Raise SourceError if the source changed while it was read. Data in memory cannot be checked."""

    def each(self) -> "Sequence[Source]":
        """The source as sources of one file each, if it has several."""
        return [self]

    def select(self, columns: Sequence[str]) -> None:
        """Of whole rows, read only these columns, where this saves work."""

    def together(self, files: Sequence[File], chunk_rows: int | None) -> Iterable[Any]:
        """Load several small files that are like this source, as a piece; `UnlikeError` if it cannot."""
        raise UnlikeError


class UnlikeError(ValueError):
    """Files that are not like the first, or not so small, and must be read one by one."""


class FilesSource(Source):
    """A source of several files, which is divided into files."""

    def __init__(self, files: Sequence[File]) -> None:
        self.name, self.files, self.extent = files[0].folder, files, len(files)
        self.remote = self.waits = any(file.remote for file in files)
        self.mark = self.mark_now()

    def mark_now(self) -> list[Any]:
        marks = list(at_once(lambda file: file.mark(), self.files, waits=self.waits))
        self.sizes = [n_bytes or 0 for _, n_bytes, _ in marks]
        self.size = max(1, sum(self.sizes))
        self.resumable = all(version is not None for *_, version in marks)
        return [self.name, len(self.files), hashlib.sha256(json.dumps(marks).encode()).hexdigest()]

    def require_unchanged(self) -> None:
        if self.mark_now() != self.mark:
            raise SourceError(f"a file in {self.name} changed while the files were read; start again")


class FileSource(Source):
    """A source that is one file."""

    takes = frozenset({"format", "storage_options"})

    def __init__(self, file: File) -> None:
        self.name, self.file, self.files, self.mark = file.name, file, [file], file.mark()
        self.size, self.resumable = self.mark[1] or 1, self.mark[2] is not None
        self.remote = file.remote

    def require_unchanged(self) -> None:
        if self.file.mark() != self.mark:
            raise SourceError(f"{self.file} changed while it was read; start again when it is complete")


def local_files(sources: Sequence[Source]) -> list[Path]:
    """The files on this machine that sources read, which an output must not replace by mistake."""
    return [file.local for source in sources for file in source.files if file.local is not None]


def names_of(sources: Sequence[Source]) -> str:
    """All sources of a pass in a message."""
    if len(sources) == 1:
        return sources[0].name
    last = sources[-1].files[-1] if sources[-1].files else sources[-1].name
    return f"{sources[0].name} to {last}, {sum(max(1, len(source.files)) for source in sources)} files"


def require_same(first: Source, other: Source) -> None:
    """Raise SourceError unless both have the same channels. Named channels may be in any order."""
    if first.in_blocks != other.in_blocks:
        on_disk, in_memory = (first.name, other.name) if first.in_blocks else (other.name, first.name)
        raise SourceError(f"{on_disk} is read by slices, and {in_memory} is in memory; process each kind separately "
                          "and merge the statistics")
    if first.batch_axes != other.batch_axes:
        raise SourceError(f"{other.name} holds {batches_of(other)}, but {first.name} holds {batches_of(first)}; "
                          "process each kind separately and merge the statistics")
    if first.names is None or other.names is None:
        if first.n_channels != other.n_channels:
            raise SourceError(f"{other.name} has {counted(other.n_channels)}, but {first.name} has {first.n_channels}; "
                              "select the same number from each with columns= or --columns")
        return
    lacking, more = set(first.names) - set(other.names), set(other.names) - set(first.names)
    hidden = lacking.intersection(other.columns_there)
    for names, verb in ((hidden, "has no numbers in"), (lacking, "lacks"), (more, "has")):
        if names:
            raise SourceError(f"{other.name} {verb} {listed(sorted(map(repr, names)))}, unlike {first.name}; select "
                              "columns that all sources have, with columns= or --columns")
    if first.in_blocks and first.names != other.names:
        raise SourceError(f"{other.name} has its channels in another order than {first.name}; name the variables in "
                          "one order with variables= (--variables), and sort their coordinates")


def batches_of(source: Source) -> str:
    return "a table" if source.batch_axes is None else f"arrays with {len(source.batch_axes) + 1} axes"
