"""How an array on disk is divided into blocks of whole chunks, each for some of the channels."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from copy import copy
from functools import partial
from itertools import accumulate, islice, product
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from bnstream.core.differences import differences
from bnstream.streams.sources.arrays.lazyarrays import LazyArray
from bnstream.streams.sources.errors import SourceError
from bnstream.streams.sources.source import Piece

BLOCK_BYTES = 4 << 20       # Bytes of the chunks that a thread works on at a time; a chunk of more is read alone.
MOST_BYTES = 32 << 20       # The same where a smaller block has only a few values of each channel.
STEP_BYTES = 16 << 20       # The same for steps, as each block reads one more row.

Span = tuple[int, int]


class Block(NamedTuple):
    """What is loaded of an array: all values of some batch positions for some channels."""

    batch: NDArray[Any]
    axes: tuple[int, ...]
    """Its batch axes."""
    channels: NDArray[np.intp]
    """Where its channels are among those of the source, in their shape."""
    key: tuple[Any, ...]
    """The same for all blocks of these channels."""
    layout: tuple[Any, ...]
    """How the channels are divided: blocks of one layout have the same channels, or none in common."""
    positions: dict[str, Any]
    """The `weights` of `Moments.update`, if there are any."""


class Grid:
    """An array, divided into blocks.

    A block holds whole chunks, several together along the batch axes, then along the channel axes, so that each chunk
    is read once. The channels of a block may be a part of all.
    """

    def __init__(
        self,
        array: LazyArray,
        kept: Sequence[int],
        first: int = 0,
        *,
        indices: Sequence[int] | None = None,
        diff: int | None = None,
        weights: LazyArray | None = None,
        least_rows: int = 1,
    ) -> None:
        self.array, self.kept, self.first, self.diff, self.weights = array, tuple(kept), first, diff, weights
        self.batch_axes = tuple(axis for axis in range(len(array.shape)) if axis not in self.kept)
        self.shape = tuple(max(0, n - (axis == diff)) for axis, n in enumerate(array.shape))     # of blocks together
        # The places of the channels among those of the source; -1 for those that are not selected.
        channels = [self.shape[axis] for axis in self.kept]
        self.channels = np.arange(first, first + math.prod(channels)).reshape(channels)
        if indices is not None:
            self.channels = np.full(channels, -1)
            self.channels[list(indices)] = np.arange(first, first + len(indices))
        self.n_channels = int((self.channels >= 0).sum())
        self.spans = self.divided(least_rows)
        self.layout: tuple[Any, ...] = (first, *(tuple(self.spans[axis]) for axis in self.kept))

    @property
    def n_blocks(self) -> int:
        return math.prod(map(len, self.spans))

    def reading(self, array: LazyArray, weights: LazyArray | None) -> Grid:
        """The same blocks of the same array, opened again."""
        grid = copy(self)
        grid.array, grid.weights = array, weights
        return grid

    def divided(self, least_rows: int) -> list[list[Span]]:
        """The spans of the blocks along each axis."""
        shape, chunks = self.shape, self.array.chunks
        # Without chunks, a block is as long as possible in memory; with them, it has as many values of each channel.
        order = [*reversed(range(len(shape)))]
        if chunks is not None:
            order = sorted(order, key=lambda axis: (axis != self.diff, axis in self.kept))
        longest = [max(c, default=1) if isinstance(c, tuple) else c for c in chunks or [1] * len(shape)]
        units = [max(1, min(unit, n)) for unit, n in zip(longest, shape, strict=True)]
        for n_bytes in (BLOCK_BYTES if self.diff is None else STEP_BYTES, MOST_BYTES):
            times = grown(units, shape, order, n_bytes // self.array.dtype.itemsize)
            if math.prod(units[axis] * times[axis] for axis in self.batch_axes) >= least_rows:
                break
        return [spans_of(n, 1 if chunks is None else chunks[axis], times[axis]) for axis, n in enumerate(shape)]

    def limit(self, chunk_rows: int) -> None:
        """Divide the blocks along the first batch axis, so that none has more rows."""
        for row in self.batch_axes[:1]:
            self.spans[row] = [(i, min(i + chunk_rows, stop)) for start, stop in self.spans[row]
                               for i in range(start, stop, chunk_rows)]

    def pieces(self, start: int) -> Iterator[Piece]:
        """Yield the blocks from a number on; `Piece.stop` is the number of the next."""
        for number, spans in enumerate(islice(product(*self.spans), start, None), start):
            others = [span[0] for axis, span in enumerate(spans) if axis not in self.batch_axes[:1]]
            n_rows = 0 if any(others) else math.prod(spans[axis][1] - spans[axis][0] for axis in self.batch_axes[:1])
            yield Piece(partial(self.load, spans), n_rows, number + 1, self.place(spans))

    def place(self, spans: Sequence[Span]) -> str:
        """A block in a message."""
        label = f"{self.array.label!r} " if self.array.label else ""
        return f"{label}[{', '.join(f'{start}:{stop}' for start, stop in spans)}]"

    def load(self, spans: Sequence[Span]) -> list[Block]:
        channels = self.channels[tuple(slice(*spans[axis]) for axis in self.kept)]
        selected = channels >= 0
        if not selected.any():
            return []
        x = self.read(spans)
        if not selected.all():          # along the only channel axis
            x, channels = np.compress(selected, x, self.kept[0]), channels[selected]
        key = (self.first, *(spans[axis] for axis in self.kept))
        positions = {} if self.weights is None else {"weights": self.weights_of(self.weights, spans)}
        if not self.batch_axes:         # one value of each channel
            return [Block(x[np.newaxis], (0,), channels, key, self.layout, positions)]
        return [Block(x, self.batch_axes, channels, key, self.layout, positions)]

    def read(self, spans: Sequence[Span]) -> NDArray[Any]:
        """The values, or the steps, of a block."""
        at = tuple(slice(start, stop + (axis == self.diff)) for axis, (start, stop) in enumerate(spans))
        x = self.array.read(at)
        expected = tuple(one.stop - one.start for one in at)
        if x.shape != expected:
            raise SourceError(f"{self.array.name} gave values of shape {x.shape}, expected {expected}: it is "
                              "truncated, or changed while it was read")
        return x if self.diff is None else steps(x, self.diff)

    def weights_of(self, weights: LazyArray, spans: Sequence[Span]) -> NDArray[Any]:
        """The weights of the batch positions of a block, of length 1 along the axes that they lack."""
        dims, own = self.array.dims or (), weights.dims or ()
        w = weights.read(tuple(slice(*spans[dims.index(dim)]) for dim in own))
        w = w.transpose([own.index(dim) for dim in dims if dim in own])
        return w.reshape([spans[axis][1] - spans[axis][0] if dims[axis] in own else 1 for axis in self.batch_axes])


def grown(units: Sequence[int], shape: Sequence[int], order: Sequence[int], size: int) -> list[int]:
    """How many units a block has along each axis, grown in an order of the axes to about `size` values."""
    times = [1] * len(shape)
    for axis in order:
        room = size // math.prod(map(int.__mul__, units, times))
        times[axis] = max(1, min(room, -(-shape[axis] // units[axis])))
    return times


def spans_of(n: int, chunk: int | tuple[int, ...], times: int) -> list[Span]:
    """Divide an axis at the ends of chunks, several of them together."""
    if isinstance(chunk, int):
        ends = [*range(chunk * times, n, chunk * times)]
    else:
        ends = [end for end in accumulate(chunk) if 0 < end < n][times - 1::times]
    return [(start, stop) for start, stop in zip([0, *ends], [*ends, n], strict=True) if start < stop]


def steps(x: NDArray[Any], axis: int) -> NDArray[np.float64]:
    """``x[t + 1] - x[t]`` along an axis, each rounded once to float64."""
    ahead, behind = ([slice(None)] * axis + [part] for part in (slice(1, None), slice(-1)))
    after, before = x[tuple(ahead)], x[tuple(behind)]
    if x.dtype.kind not in "iu" or x.dtype.itemsize < 8:
        return np.subtract(after, before, dtype=np.float64)
    return differences(after, before)
