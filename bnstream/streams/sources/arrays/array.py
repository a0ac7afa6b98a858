"""Arrays: in memory, in .npy and in .npz files."""

import math
import threading
import zipfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from functools import partial
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from bnstream.core.columns import Column, Columns, common_dtype, in_exact_form
from bnstream.core.dlpack import as_numpy
from bnstream.core.labels import listed
from bnstream.streams.sources.arrays.npyheader import holds_numbers, read_header
from bnstream.streams.sources.arrays.slicing import Slicing, require_real
from bnstream.streams.sources.errors import SourceError, reading
from bnstream.streams.sources.places.file import File
from bnstream.streams.sources.places.openfiles import spooled
from bnstream.streams.sources.selection import selected
from bnstream.streams.sources.source import PIECE_BYTES, FileSource, Piece, Source, Wanted

CHUNK_BYTES = 1 << 20       # Bytes that are read at a time; they stay in the cache of the core that sums them.
MOST_SCATTERED = 64 << 20   # Bytes of an array in a zip that is read at once because its rows are not contiguous.


def is_array(source: Any) -> bool:
    """Whether it is an array or a scalar, or nested lists of numbers. A list of arrays is an iterable."""
    if isinstance(source, (list, tuple)):
        first = source[0] if source else None
        return np.isscalar(first) or (isinstance(first, (list, tuple)) and is_array(first))
    return hasattr(source, "__array__") or hasattr(source, "__array_interface__") or np.isscalar(source)


class Sliced(Source):
    """A source of one array, or of several of one shape, that is sliced along an axis."""

    def slice(self, shape: tuple[int, ...], wanted: Wanted) -> None:
        """Have the channels that are wanted of an array of this shape."""
        self.slicing = Slicing(self.name, shape, wanted)
        self.names, self.batch_axes, self.extent = self.slicing.names, self.slicing.batch_axes, self.slicing.n_rows
        self.rows_first, self.n_channels = self.slicing.axis == 0, self.slicing.n_channels


class Array(Sliced):
    """An array in memory, or a memmap; with `weights` or `where` for its batch positions."""

    def __init__(self, source: Any, wanted: Wanted, positions: dict[str, Any] | None = None) -> None:
        kind = type(source).__name__
        with reading(f"the {kind}"):
            source = in_exact_form(source)
        if isinstance(source, Columns):
            beside, advice = "and missing values", "make it a table of one column, such as source.to_frame()"
            if source.ndim == 2:
                beside, advice = "beside floating-point numbers", "make it a table, with columns that have names"
            raise SourceError(f"the {kind} holds integers beyond 2**53 {beside}, and no array holds both; {advice}")
        with reading(f"the {kind}"):
            is_bfloat16 = str(getattr(source, "dtype", None)) == "torch.bfloat16"     # which NumPy lacks
            self.array = as_numpy(source) if is_bfloat16 else np.asanyarray(source)
        if wanted.whole_rows and self.array.dtype.name == "bfloat16":       # No file that apply writes holds it.
            self.array = self.array.astype(np.float32)
        self.name = f"the array of shape {self.array.shape}"
        require_real(self.array.dtype, self.name)
        self.slice(self.array.shape, wanted)
        self.dtype = self.array.dtype
        self.mark = [list(self.array.shape), str(self.array.dtype)]
        self.positions = {name: self.slicing.positions(name, values) for name, values in (positions or {}).items()}

    def pieces(self, start: int, chunk_rows: int | None) -> Iterator[Piece]:
        rows = chunk_rows or self.slicing.rows_in(PIECE_BYTES, self.array.itemsize)
        return self.slicing.pieces(start, rows, self.load)

    def load(self, first: int, stop: int) -> list[Any]:
        rows = (slice(None),) * self.slicing.axis + (slice(first, stop),)
        batch = self.slicing.pick(self.array[rows])
        positions = {name: values[rows] for name, values in self.positions.items()}
        return [{"batch": batch, **positions} if positions else batch]


rooms = threading.local()


def room(n_bytes: int) -> NDArray[np.uint8]:
    """Memory of this thread for one array at a time.

    Faulting in new pages for each array takes longer than reading and summing it.
    """
    if getattr(rooms, "bytes", np.empty(0)).size < n_bytes:
        rooms.bytes = fresh(n_bytes)
    return rooms.bytes[:n_bytes]


def fresh(n_bytes: int) -> NDArray[np.uint8]:
    return np.empty(n_bytes, np.uint8)


class NpyStream:
    """The array in an open file of .npy format, read by rows."""

    def __init__(self, name: str, file: IO[bytes]) -> None:
        self.name = name
        self.shape, self.fortran, self.dtype = read_header(file, name)
        self.start = file.tell()
        self.n_bytes = math.prod(self.shape) * self.dtype.itemsize

    def is_scattered(self, axis: int) -> bool:
        """Whether rows along an axis are not contiguous."""
        return axis != (len(self.shape) - 1 if self.fortran else 0)

    def ranges(self, axis: int, first: int, stop: int) -> list[tuple[int, int]]:
        """The bytes of the rows from `first` to `stop`, if they are contiguous."""
        if self.is_scattered(axis):
            return []
        row_bytes = self.n_bytes // max(self.shape[axis], 1)
        return [(self.start + first * row_bytes, self.start + stop * row_bytes)]

    def read(
        self, file: IO[bytes], axis: int, first: int, stop: int, memory: Callable[[int], NDArray[np.uint8]]
    ) -> NDArray[Any]:
        """Read the rows from `first` to `stop` along an axis: in memory, runs of equal length at equal distances."""
        shape = list(self.shape[::-1] if self.fortran else self.shape)
        axis = len(shape) - 1 - axis if self.fortran else axis
        n_rows, shape[axis] = shape[axis], stop - first
        x = memory(math.prod(shape) * self.dtype.itemsize).view(self.dtype).reshape(shape)
        runs = x.reshape(math.prod(shape[:axis]), -1)
        row_bytes = math.prod(shape[axis + 1:]) * self.dtype.itemsize
        for i, run in enumerate(runs):
            start = self.start + (i * n_rows + first) * row_bytes
            if file.tell() != start:
                file.seek(start)
            left = run.data.cast("B")
            while left and (n := file.readinto(left)):      # type: ignore[attr-defined]
                left = left[n:]
            if left:
                raise SourceError(f"{self.name} ends before its {self.n_bytes:,} bytes of shape {self.shape}: it is "
                                  "truncated, or changed while it was read")
        return x.T if self.fortran else x


class NpyFile(Sliced, FileSource):
    """A .npy file."""

    def __init__(self, file: File, wanted: Wanted) -> None:
        super().__init__(file)
        with reading(self.name), file.open(buffering=0) as content:
            self.stream = NpyStream(self.name, content)
        n_bytes = self.stream.n_bytes if file.size is None else file.size - self.stream.start
        if n_bytes != self.stream.n_bytes:
            why = "it is truncated, or not completely written"
            if n_bytes > self.stream.n_bytes:
                why = "something was appended to it"
            raise SourceError(f"{file} has {n_bytes:,} bytes of data, but its shape {self.stream.shape} needs "
                              f"{self.stream.n_bytes:,}: {why}")
        self.slice(self.stream.shape, wanted)
        if file.sequential and self.stream.is_scattered(self.slicing.axis):
            self.file = spooled(file)
        self.waits = self.file.remote
        self.dtype = self.stream.dtype

    def pieces(self, start: int, chunk_rows: int | None) -> Iterator[Piece]:
        rows = chunk_rows or self.slicing.rows_in(CHUNK_BYTES, self.stream.dtype.itemsize)
        in_piece = self.slicing.rows_in(PIECE_BYTES, self.stream.dtype.itemsize) // rows * rows or rows
        if not self.file.sequential:
            yield from self.slicing.pieces(start, in_piece, partial(self.load, rows))
            return
        with self.file.open() as content:       # Loaded here, in order.
            for piece in self.slicing.pieces(start, rows, partial(self.load_from, content, fresh, rows)):
                yield piece._replace(load=partial(list, list(piece.load())))
            if content.read(1):
                raise SourceError(f"{self.file} goes on after the {self.stream.n_bytes:,} bytes of its shape "
                                  f"{self.stream.shape}: something was appended to it")

    def load(self, rows: int, first: int, stop: int) -> Iterator[NDArray[Any]]:
        with self.file.open(0, self.stream.ranges(self.slicing.axis, first, stop)) as content:
            yield from self.load_from(content, room, rows, first, stop)

    def load_from(
        self, content: IO[bytes], memory: Callable[[int], NDArray[np.uint8]], rows: int, first: int, stop: int
    ) -> Iterator[NDArray[Any]]:
        for at in range(first, stop, rows):
            yield self.slicing.pick(self.stream.read(content, self.slicing.axis, at, min(at + rows, stop), memory))


class NpzFile(Sliced, FileSource):
    """A .npz file that holds one array, or one array of one axis for each named channel."""

    takes = FileSource.takes | {"exclude", "numeric"}

    def __init__(self, file: File, wanted: Wanted) -> None:
        super().__init__(file)
        self.streams, wanted = streams_in(file, wanted)
        first = next(iter(self.streams.values()))
        self.slice(first.shape, wanted)
        if first.shape[1:] == () and wanted.columns is None:
            self.names, self.n_channels = tuple(self.streams), len(self.streams)
        self.scattered = first.is_scattered(self.slicing.axis)
        if self.scattered and first.n_bytes > MOST_SCATTERED:
            raise SourceError(f"{first.name} is stored in an order in which each chunk would decompress all of it; "
                              "save it in C order with rows first, or as a .npy file")

    def pieces(self, start: int, chunk_rows: int | None) -> Iterator[Piece]:
        itemsize = sum(stream.dtype.itemsize for stream in self.streams.values())
        rows = chunk_rows or self.slicing.rows_in(CHUNK_BYTES, itemsize)
        if self.scattered:
            rows = self.slicing.n_rows
        with self.file.open() as content, zipfile.ZipFile(content) as archive, ExitStack() as stack:
            streams = [(stack.enter_context(archive.open(f"{key}.npy")), s) for key, s in self.streams.items()]
            # Everything is read in order: a seek gives up the checksum, and fails in Python 3.13.0.
            for file, stream in streams:
                file.read(stream.start)
            for piece in self.slicing.pieces(start, rows, partial(self.load, streams)):
                yield piece._replace(load=partial(list, piece.load()))      # Loaded here, in order.

    def load(self, streams: list[tuple[IO[bytes], NpyStream]], first: int, stop: int) -> list[NDArray[Any]]:
        parts = [stream.read(file, self.slicing.axis, first, stop, fresh) for file, stream in streams]
        return [self.slicing.pick(parts[0]) if len(parts) == 1 else side_by_side(parts, self.names)]


def side_by_side(arrays: Sequence[NDArray[Any]], names: Sequence[str] | None) -> Any:
    """Arrays of one axis as the columns of an array, or of `Columns` where one array would round integers."""
    labels = names or [str(i) for i in range(len(arrays))]
    columns = Columns([Column(name, values) for name, values in zip(labels, arrays, strict=True)], ndim=2)
    return columns if common_dtype(columns) is None else np.stack(arrays, axis=1)


def selected_keys(file: File, archive: zipfile.ZipFile, keys: list[str], wanted: Wanted) -> list[str]:
    """The selected arrays among all `keys` of a .npz file."""
    def is_numeric(key: str) -> bool:
        with archive.open(f"{key}.npy") as member:
            return holds_numbers(member, f"{file}[{key!r}]")

    names = selected(str(file), keys, wanted, is_numeric, noun="array")
    for column in names:
        if column not in keys:
            raise SourceError(f"{file} has no array {column!r}; its arrays are {listed(keys)}")
    return names


def streams_in(file: File, wanted: Wanted) -> tuple[dict[str, NpyStream], Wanted]:
    """The selected arrays of a .npz file by name, and what is wanted from them."""
    fault = f"{file} is not a .npz file, or is truncated"
    with reading(fault), file.open() as content, zipfile.ZipFile(content) as archive:
        keys = sorted(key.removesuffix(".npy") for key in archive.namelist() if key.endswith(".npy"))
        if len(keys) < len(archive.namelist()):
            raise SourceError(f"{file} holds more than arrays, as state files do; give a .npz file of arrays")
        streams = {}
        by_name = wanted.columns is not None and (len(keys) > 1 or set(wanted.columns) <= set(keys))
        if by_name or "exclude" in wanted.reading or "numeric" in wanted.reading:
            keys, wanted = selected_keys(file, archive, keys, wanted), wanted._replace(columns=None)
        for key in keys:
            with archive.open(f"{key}.npy") as member:
                streams[key] = NpyStream(f"{file}[{key!r}]", member)
    shapes = {key: stream.shape for key, stream in streams.items()}
    if len(shapes) > 1 and (len(set(shapes.values())) > 1 or any(len(shape) != 1 for shape in shapes.values())):
        raise SourceError(f"{file} holds arrays of shapes {shapes}; with columns= or --columns select one array, or "
                          "several of one axis and equal length as channels")
    if not shapes:
        raise SourceError(f"{file} holds no arrays")
    return streams, wanted
