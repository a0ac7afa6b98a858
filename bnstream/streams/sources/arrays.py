"""Arrays: in memory, in .npy and in .npz files."""

import math
import operator
import threading
import zipfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from tokenize import TokenError
from typing import IO, Any

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from bnstream.streams.sources.source import (
    CHUNK_BYTES,
    LEAST_ROWS,
    PIECE_BYTES,
    FileSource,
    Piece,
    Source,
    SourceError,
    Wanted,
    reading,
)

LARGEST_ROW = 1 << 22       # values; larger ones are cut themselves
MOST_SCATTERED = 64 << 20   # bytes of an array in a zip that is read at once, as it cannot be read row by row


def is_array(source: Any) -> bool:
    if isinstance(source, (list, tuple)):       # of numbers, however deep; of arrays it is an iterable
        first = source[0] if source else None
        return np.isscalar(first) or (isinstance(first, (list, tuple)) and is_array(first))
    return hasattr(source, "__array__") or hasattr(source, "__array_interface__") or np.isscalar(source)


def require_real(dtype: Any, name: str) -> None:
    if not (dtype.kind in "biuf" and dtype.itemsize <= 8) and dtype.name != "bfloat16":
        raise SourceError(f"{name} has dtype {dtype}; arrays of real numbers of up to 64 bits are read")


def indices_of(columns: Sequence[Any] | None, n_channels: int, name: str) -> list[int] | None:
    """The channels asked for; None for all. Arrays have no names: as many as there are channels stand for these."""
    if columns is None:
        return None
    try:
        indices = [int(column) if isinstance(column, str) else operator.index(column) for column in columns]
    except (TypeError, ValueError):
        if len(columns) == n_channels:
            return None
        raise SourceError(f"{name} has {n_channels} channels, and no names to choose by, got {list(columns)}; give "
                          "indices, from 0 on") from None
    for index in indices:
        if not 0 <= index < n_channels:
            raise SourceError(f"{name} has {n_channels} channels, from 0 on; there is no channel {index}")
    return indices


class Layout:
    """How the batches of a stream of arrays lie: the axis they are cut along, the channels, and those asked for."""

    def __init__(self, name: str, shape: tuple[int, ...], wanted: Wanted) -> None:
        if not shape:
            raise SourceError(f"{name} is a single number; an array of at least one axis was expected")
        self.one_axis = len(shape) == 1         # n values of one channel
        ndim = max(len(shape), 2)
        channel_axis = 1 if self.one_axis else wanted.channel_axis
        if not -ndim <= channel_axis < ndim:
            raise SourceError(f"{name} has shape {shape}: there is no channel axis {channel_axis}")
        self.channel_axis = channel_axis % ndim
        self.axis = int(self.channel_axis == 0)     # batches are cut along the first that is not the channels'
        if 0 in shape[:self.axis] + shape[self.axis + 1:]:
            raise SourceError(f"{name} has shape {shape}: its rows have no values")
        self.batch_axes = tuple(axis for axis in range(ndim) if axis != self.channel_axis)
        size = math.prod(shape)
        if size > LARGEST_ROW * shape[self.axis] and not wanted.whole_rows:     # one image may be a whole file
            fit = (axis for axis in self.batch_axes if size <= LARGEST_ROW * shape[axis])
            self.axis = next(fit, max(self.batch_axes, key=shape.__getitem__))
        self.n_rows = shape[self.axis]
        self.row_size = size // max(self.n_rows, 1)
        n_channels = 1 if self.one_axis else shape[self.channel_axis]
        self.indices = indices_of(wanted.columns, n_channels, name)
        self.n_channels = n_channels if self.indices is None else len(self.indices)
        self.names = None if wanted.columns is None else tuple(map(str, wanted.columns))

    def rows_in(self, n_bytes: int, itemsize: int) -> int:
        """How many rows are about so many bytes; of wide ones more."""
        row_size = max(1, self.row_size)
        return max(1, LEAST_ROWS * self.n_channels // row_size, n_bytes // (row_size * itemsize))

    def pieces(self, start: int, rows: int, load: Callable[[int, int], Any]) -> Iterator[Piece]:
        """Pieces of so many rows; load makes the arrays from a first row to the one after the last."""
        for first in range(start, self.n_rows, rows):
            stop = min(first + rows, self.n_rows)
            yield Piece(partial(load, first, stop), stop - first, stop, f"rows {first:,} to {stop:,}")

    def chosen(self, x: NDArray[Any]) -> NDArray[Any]:
        """The channels asked for of a batch."""
        x = x[:, np.newaxis] if self.one_axis else x
        return x if self.indices is None else np.take(x, self.indices, self.channel_axis)


class Array(Source):
    """An array in memory, or a memmap."""

    def __init__(self, source: Any, wanted: Wanted) -> None:
        with reading(f"the {type(source).__name__}"):
            self.array = np.asanyarray(source)
        self.name = f"the array of shape {self.array.shape}"
        require_real(self.array.dtype, self.name)
        self.layout = Layout(self.name, self.array.shape, wanted)
        self.names, self.batch_axes, self.extent = self.layout.names, self.layout.batch_axes, self.layout.n_rows
        self.rows_first, self.in_turn, self.n_channels = self.layout.axis == 0, False, self.layout.n_channels
        self.mark = [list(self.array.shape), str(self.array.dtype)]

    def pieces(self, start: int, chunk_rows: int | None) -> Iterator[Piece]:
        rows = chunk_rows or self.layout.rows_in(PIECE_BYTES, self.array.itemsize)
        return self.layout.pieces(start, rows, self.load)

    def load(self, first: int, stop: int) -> list[NDArray[Any]]:
        return [self.layout.chosen(self.array[(slice(None),) * self.layout.axis + (slice(first, stop),)])]


rooms = threading.local()


def room(n_bytes: int) -> NDArray[np.uint8]:
    """Memory of this thread, for one array at a time: new pages for each would take longer than to read and sum it."""
    if getattr(rooms, "bytes", np.empty(0)).size < n_bytes:
        rooms.bytes = fresh(n_bytes)
    return rooms.bytes[:n_bytes]


def fresh(n_bytes: int) -> NDArray[np.uint8]:
    return np.empty(n_bytes, np.uint8)


class NpyStream:
    """The array in a file of the format .npy, read piece by piece."""

    def __init__(self, name: str, file: IO[bytes]) -> None:
        self.name = name
        try:
            version = npy.read_magic(file)
            read = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}[version]
            self.shape, self.fortran, self.dtype = read(file)
        except (ValueError, KeyError, EOFError, TokenError) as error:
            raise SourceError(f"{name} is no array of numbers in the format .npy, or is cut: {error}") from error
        require_real(self.dtype, name)
        self.start = file.tell()
        self.n_bytes = math.prod(self.shape) * self.dtype.itemsize

    def read(
        self, file: IO[bytes], axis: int, first: int, stop: int, memory: Callable[[int], NDArray[np.uint8]]
    ) -> NDArray[Any]:
        """Rows of the array along an axis; in memory's order these are pieces of one length at equal distances."""
        shape = list(self.shape[::-1] if self.fortran else self.shape)
        axis = len(shape) - 1 - axis if self.fortran else axis
        n_rows, shape[axis] = shape[axis], stop - first
        x = memory(math.prod(shape) * self.dtype.itemsize).view(self.dtype).reshape(shape)
        pieces = x.reshape(math.prod(shape[:axis]), -1)
        row_bytes = math.prod(shape[axis + 1:]) * self.dtype.itemsize
        for i, piece in enumerate(pieces):
            place = self.start + (i * n_rows + first) * row_bytes
            if file.tell() != place:
                file.seek(place)
            left = piece.data.cast("B")
            while left and (n := file.readinto(left)):      # type: ignore[attr-defined]
                left = left[n:]
            if left:
                raise SourceError(f"{self.name} ends before its {self.n_bytes:,} bytes of shape {self.shape}: it is "
                                  "cut, or was changed while it was read")
        return x.T if self.fortran else x


class NpyFile(FileSource):
    """A .npy file."""

    def __init__(self, path: Path, wanted: Wanted) -> None:
        super().__init__(path)
        with reading(self.name), self.open() as file:
            self.stream = NpyStream(self.name, file)
            n_bytes = file.seek(0, 2) - self.stream.start
        if n_bytes != self.stream.n_bytes:
            why = "it is cut, or not written to its end"
            if n_bytes > self.stream.n_bytes:
                why = "something was appended to it"
            raise SourceError(f"{path} has {n_bytes:,} bytes of data, but {self.stream.n_bytes:,} by its shape "
                              f"{self.stream.shape}: {why}")
        self.layout = Layout(self.name, self.stream.shape, wanted)
        self.names, self.batch_axes, self.extent = self.layout.names, self.layout.batch_axes, self.layout.n_rows
        self.rows_first, self.n_channels = self.layout.axis == 0, self.layout.n_channels

    def open(self) -> IO[bytes]:
        return self.path.open("rb", buffering=0)

    def pieces(self, start: int, chunk_rows: int | None) -> Iterator[Piece]:
        rows = chunk_rows or self.layout.rows_in(CHUNK_BYTES, self.stream.dtype.itemsize)
        in_piece = self.layout.rows_in(PIECE_BYTES, self.stream.dtype.itemsize) // rows * rows or rows
        yield from self.layout.pieces(start, in_piece, partial(self.load, rows))

    def load(self, rows: int, first: int, stop: int) -> Iterator[NDArray[Any]]:
        with self.open() as file:
            for at in range(first, stop, rows):
                yield self.layout.chosen(self.stream.read(file, self.layout.axis, at, min(at + rows, stop), room))


class NpzFile(FileSource):
    """A .npz file: of one array, or of one named channel an array."""

    def __init__(self, path: Path, wanted: Wanted) -> None:
        super().__init__(path)
        with reading(f"{path} is no .npz file, or is cut"), zipfile.ZipFile(path) as archive:
            keys = sorted(key.removesuffix(".npy") for key in archive.namelist() if key.endswith(".npy"))
            if len(keys) < len(archive.namelist()):
                raise SourceError(f"{path} holds more than arrays, as a state file does; give a .npz file of arrays")
            if wanted.columns is not None and (len(keys) > 1 or set(wanted.columns) <= set(keys)):
                for column in wanted.columns:
                    if column not in keys:
                        raise SourceError(f"{path} has no array {column!r}; its arrays are {', '.join(keys)}")
                keys, wanted = list(wanted.columns), wanted._replace(columns=None)
            self.streams = {}
            for key in keys:
                with archive.open(f"{key}.npy") as file:
                    self.streams[key] = NpyStream(f"{path}[{key!r}]", file)
        shapes = {key: stream.shape for key, stream in self.streams.items()}
        if len(shapes) > 1 and (len(set(shapes.values())) > 1 or any(len(shape) != 1 for shape in shapes.values())):
            raise SourceError(f"{path} holds arrays of shapes {shapes}; choose one with columns= or --columns, or "
                              "some of one axis and one length, which are taken for channels")
        if not shapes:
            raise SourceError(f"{path} holds no array")
        first = next(iter(self.streams.values()))
        self.layout = Layout(self.name, first.shape, wanted)
        self.names = tuple(keys) if first.shape[1:] == () and wanted.columns is None else self.layout.names
        self.batch_axes, self.extent = self.layout.batch_axes, self.layout.n_rows
        self.rows_first = self.layout.axis == 0
        self.n_channels = max(len(keys), self.layout.n_channels)
        self.scattered = self.layout.axis != (len(first.shape) - 1 if first.fortran else 0)
        if self.scattered and first.n_bytes > MOST_SCATTERED:
            raise SourceError(f"{first.name} lies in such an order that it would be decompressed anew for every chunk; "
                              "save it in C order, rows first, or as a .npy file")

    def pieces(self, start: int, chunk_rows: int | None) -> Iterator[Piece]:
        itemsize = sum(stream.dtype.itemsize for stream in self.streams.values())
        rows = chunk_rows or self.layout.rows_in(CHUNK_BYTES, itemsize)
        if self.scattered:
            rows = self.layout.n_rows
        with zipfile.ZipFile(self.path) as archive, ExitStack() as stack:
            streams = [(stack.enter_context(archive.open(f"{key}.npy")), s) for key, s in self.streams.items()]
            for file, stream in streams:    # all in order, as a seek gives up the checksum, and errs in Python 3.13.0
                file.read(stream.start)
            for piece in self.layout.pieces(start, rows, partial(self.load, streams)):
                yield piece._replace(load=partial(list, piece.load()))      # read here, one after the other

    def load(self, streams: list[tuple[IO[bytes], NpyStream]], first: int, stop: int) -> list[NDArray[Any]]:
        parts = [stream.read(file, self.layout.axis, first, stop, fresh) for file, stream in streams]
        return [self.layout.chosen(parts[0]) if len(parts) == 1 else np.stack(parts, axis=1)]
