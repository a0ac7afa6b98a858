"""How an array is sliced into batches."""

import math
import operator
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bnstream.core.dlpack import as_numpy
from bnstream.core.dtypes import is_real
from bnstream.core.labels import counted
from bnstream.core.masks import at_positions
from bnstream.streams.sources.errors import SourceAxisError, SourceError
from bnstream.streams.sources.source import Piece, Wanted

LARGEST_ROW = 1 << 22       # Values in a row; a larger row is itself sliced.


def require_real(dtype: np.dtype[Any], name: str) -> None:
    """Raise SourceError unless the dtype is real, of at most 64 bits."""
    if not is_real(dtype) or dtype.itemsize > 8:
        raise SourceError(f"{name} has dtype {dtype}; expected real numbers of at most 64 bits")


def indices_of(columns: Sequence[Any] | None, n_channels: int, name: str) -> list[int] | None:
    """The indices of the selected channels; None for all.

    The channels of an array have no names. As many names as there are channels name all of them, in order.
    """
    if columns is None:
        return None
    try:
        indices = [int(column) if isinstance(column, str) else operator.index(column) for column in columns]
    except (TypeError, ValueError):
        if len(columns) == n_channels:
            return None
        raise SourceError(f"{name} has {counted(n_channels)} without names, got columns {list(columns)}; give indices "
                          f"from 0 to {n_channels - 1}") from None
    for index in indices:
        if not 0 <= index < n_channels:
            raise SourceError(f"{name} has {counted(n_channels)}, got column {index}; give indices from 0 to "
                              f"{n_channels - 1}")
    return indices


class Slicing:
    """How an array is sliced into batches: along which axis, where the channels are, and which are selected."""

    def __init__(self, name: str, shape: tuple[int, ...], wanted: Wanted) -> None:
        if not shape:
            raise SourceError(f"{name} is a single number; expected an array with at least one axis")
        self.one_axis = len(shape) == 1         # n values of one channel
        if self.one_axis and wanted.channel_axis is not None:
            raise SourceError(f"{name} has one axis, which holds the values of one channel; leave out "
                              f"channel_axis={wanted.channel_axis} (--channel-axis), or reshape it")
        self.shape = (*shape, 1) if self.one_axis else shape
        ndim = len(self.shape)
        channel_axis = wanted.default_axis if wanted.channel_axis is None else wanted.channel_axis
        channel_axis = -1 if self.one_axis else channel_axis
        if not -ndim <= channel_axis < ndim:
            raise SourceAxisError(f"{name} has {counted(len(shape), 'axis', 'axes')}, got channel_axis={channel_axis}; "
                                  f"expected {-ndim} to {ndim - 1}")
        self.channel_axis = channel_axis % ndim
        self.axis = int(self.channel_axis == 0)     # the first that is not the channel axis
        if 0 in shape[:self.axis] + shape[self.axis + 1:]:
            raise SourceError(f"{name} has no values in its rows, got shape {shape}")
        self.batch_axes = tuple(axis for axis in range(ndim) if axis != self.channel_axis)
        size = math.prod(shape)
        if size > LARGEST_ROW * shape[self.axis] and not wanted.whole_rows:     # one image may fill a whole file
            fit = (axis for axis in self.batch_axes if size <= LARGEST_ROW * shape[axis])
            self.axis = next(fit, max(self.batch_axes, key=shape.__getitem__))
        self.n_rows, self.least_rows = shape[self.axis], wanted.least_rows
        self.row_size = size // max(self.n_rows, 1)
        n_channels = 1 if self.one_axis else shape[self.channel_axis]
        self.indices = indices_of(wanted.columns, n_channels, name)
        self.n_channels = n_channels if self.indices is None else len(self.indices)
        self.names = None if wanted.columns is None else tuple(map(str, wanted.columns))

    def rows_in(self, n_bytes: int, itemsize: int) -> int:
        """Number of rows that take about `n_bytes`, with at least `least_rows` values of each channel."""
        row_size = max(1, self.row_size)
        return max(1, self.least_rows * self.n_channels // row_size, n_bytes // (row_size * itemsize))

    def pieces(self, start: int, rows: int, load: Callable[[int, int], Any]) -> Iterator[Piece]:
        """Yield pieces of `rows` rows; ``load(first, stop)`` loads their arrays."""
        for first in range(start, self.n_rows, rows):
            stop = min(first + rows, self.n_rows)
            yield Piece(partial(load, first, stop), stop - first, stop, f"rows {first:,} to {stop:,}")

    def positions(self, name: str, values: Any) -> NDArray[Any]:
        """Weights or a mask with the axes of the array, broadcast along the axis that is sliced.

        Raises
        ------
        SourceError
            If `at_positions` refuses their shape.
        """
        a = as_numpy(values)
        try:
            a = at_positions(name, a, self.shape, self.batch_axes)
        except ValueError as error:
            raise SourceError(str(error)) from None
        if self.indices is not None and a.shape[self.channel_axis] > 1:
            a = np.take(a, self.indices, self.channel_axis)
        sliced = [self.shape[axis] if axis == self.axis else n for axis, n in enumerate(a.shape)]
        return np.broadcast_to(a, sliced, subok=True)

    def pick(self, x: NDArray[Any]) -> NDArray[Any]:
        """The selected channels of a batch."""
        x = x[:, np.newaxis] if self.one_axis else x
        return x if self.indices is None else np.take(x, self.indices, self.channel_axis)
