"""Arrays that are read by slices, and the variables of a Dataset."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from itertools import product
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from bnstream.core.dtypes import is_real
from bnstream.streams.sources.arrays.blocks import BLOCK_BYTES, Grid, spans_of
from bnstream.streams.sources.arrays.lazyarrays import LazyArray, Slices, is_dataset, lazy_array, of_xarray
from bnstream.streams.sources.arrays.slicing import Slicing
from bnstream.streams.sources.errors import SourceError
from bnstream.streams.sources.source import Piece, Source, Wanted

MOST_BAND_BYTES = 256 << 20     # Bytes of the chunks that are read together where `apply` needs whole rows.


class Arrays(NamedTuple):
    """Arrays that are read together."""

    arrays: Sequence[LazyArray]
    weights: LazyArray | None = None
    """The weights of batch positions, along some dimensions."""
    by_dimension: bool = False
    """Whether all dimensions are reduced by default; otherwise the channel axis is kept."""

    def unread(self) -> Arrays:
        """The same without what keeps files open."""
        weights = None if self.weights is None else replace(self.weights, read=unread)
        return self._replace(arrays=[replace(array, read=unread) for array in self.arrays], weights=weights)


def unread(at: Slices) -> NDArray[Any]:
    raise RuntimeError("the array is closed")


class Grids(Source):
    """Arrays that are read by slices, in blocks of whole chunks.

    The channels are those of all arrays, one array after the other. Those of an array are along the axes that are kept:
    its channel axis, or the dimensions that `dim` does not name.
    """

    in_blocks = True

    def __init__(self, name: str, wanted: Wanted, given: Arrays) -> None:
        arrays, weights, by_dimension = given
        self.name, self.wanted, self.given = name, wanted, given
        self.takes = frozenset() if any(array.dims is None for array in arrays) else frozenset({"dim", "diff"})
        self.mark = [*(array.mark() for array in arrays), *([] if weights is None else [weights.digest()])]
        self.dim: Sequence[str] | None = wanted.reading.get("dim")
        self.diff: str | None = wanted.reading.get("diff")
        self.require_dimensions("dim", self.dim or ())
        self.require_dimensions("diff", [] if self.diff is None else [self.diff])
        self.several = len(arrays) > 1
        self.slicing: Slicing | None = None
        by_dimension |= self.dim is not None
        if by_dimension and wanted.channel_axis is not None:
            raise SourceError(f"the channels of {name} are what is left of its dimensions; leave out channel_axis="
                              f"{wanted.channel_axis} (--channel-axis), and name the dimensions to reduce with dim=")
        if wanted.whole_rows and (by_dimension or self.several or self.diff is not None):
            raise SourceError(f"{name} has no rows to write; give one array, or normalize a Dataset with "
                              ".bnstream.normalize, which bnstream.xarray adds to it")
        self.grids: list[Grid] = []
        self.n_channels = 0
        names = [self.add_by_dimension(array) if by_dimension else self.add_by_axis(array) for array in arrays]
        self.names = unique(names)
        if wanted.columns is not None and self.slicing is None:
            raise SourceError(f"columns= (--columns) selects channels of one axis, and those of {name} are "
                              "variables; select variables with variables= (--variables)")
        self.extent = sum(grid.n_blocks for grid in self.grids)
        layout = tuple(grid.layout for grid in self.grids)
        for grid in self.grids:
            grid.layout = layout
        only = self.grids[0]
        self.batch_axes = only.batch_axes if not self.several and len(only.kept) == 1 else (0,)
        self.rows_first = 0 in self.batch_axes

    def require_dimensions(self, option: str, dims: Sequence[str]) -> None:
        """Raise SourceError unless some array has each of the dimensions, for steps all arrays."""
        known = [*dict.fromkeys(dim for array in self.given.arrays for dim in array.dims or ())]
        for dim in dims if self.takes else ():
            if dim not in known:
                raise SourceError(f"{self.name} has no dimension {dim!r}, got {option}={list(dims)}; its dimensions "
                                  f"are {', '.join(known)}")
            lacking = [array.label for array in self.given.arrays if dim not in (array.dims or ())]
            if option == "diff" and lacking:
                raise SourceError(f"diff={dim!r} asks for steps along a dimension that {', '.join(map(repr, lacking))} "
                                  f"lack{'s' * (len(lacking) == 1)}; select the other variables with variables= "
                                  "(--variables)")

    def add(self, array: LazyArray, kept: Sequence[int], indices: Sequence[int] | None = None) -> None:
        """Add an array whose channels are along the axes that are kept."""
        if 0 in [array.shape[axis] for axis in kept]:
            raise SourceError(f"{array.name} has no channels, got shape {array.shape}")
        diff = None if self.diff is None or array.dims is None else array.dims.index(self.diff)
        if diff in kept:
            raise SourceError(f"the channels of {array.name} are along {self.diff!r}, so steps along it have no "
                              "statistics; name it in dim= (--dim), or leave out diff= (--diff)")
        if self.given.weights is not None:
            require_weights(self.given.weights, array, kept, diff)
        grid = Grid(array, kept, self.n_channels, indices=indices, diff=diff, weights=self.given.weights,
                    least_rows=self.wanted.least_rows)
        self.grids.append(grid)
        self.n_channels += grid.n_channels

    def add_by_dimension(self, array: LazyArray) -> list[str] | None:
        """Add an array without the dimensions to reduce; return the names of its channels."""
        kept = [] if self.dim is None else [i for i, dim in enumerate(array.dims or ()) if dim not in self.dim]
        self.add(array, kept)
        return labels_of(array, kept) if kept or array.label else None

    def add_by_axis(self, array: LazyArray) -> Sequence[str] | None:
        """Add an array whose channels are along its channel axis; return their names, if they have some."""
        wanted, labels = self.wanted, None
        axis = wanted.default_axis if wanted.channel_axis is None else wanted.channel_axis
        if array.dims is not None and len(array.shape) > 1 and -len(array.shape) <= axis < len(array.shape):
            labels = texts(array, axis)
        if labels is not None and wanted.columns is not None and set(map(str, wanted.columns)) <= set(labels):
            wanted = wanted._replace(columns=[labels.index(str(column)) for column in wanted.columns])
        self.slicing = slicing = Slicing(array.name, array.shape, wanted)
        kept, indices = ([], None) if slicing.one_axis else ([slicing.channel_axis], slicing.indices)
        self.add(array, kept, indices)
        if labels is not None:
            labels = labels if slicing.indices is None else [labels[i] for i in slicing.indices]
        if slicing.one_axis:
            return [array.label] if array.label and (self.several or array.dims) else slicing.names
        if self.several:
            return [f"{array.label}[{label}]" for label in labels or range(slicing.n_channels)]
        return labels or slicing.names

    def opened(self) -> Arrays:
        """The arrays and the weights, ready to be read."""
        return self.given

    def pieces(self, start: int, chunk_rows: int | None) -> Iterator[Piece]:
        arrays, weights, _ = self.opened()
        if self.wanted.whole_rows:
            yield from self.row_pieces(arrays[0], start, chunk_rows)
            return
        for grid in self.grids if chunk_rows is not None else []:
            grid.limit(chunk_rows)      # type: ignore[arg-type]
        self.extent, first = sum(grid.n_blocks for grid in self.grids), 0
        for grid, array in zip(self.grids, arrays, strict=True):
            if start < first + grid.n_blocks:
                for piece in grid.reading(array, weights).pieces(max(0, start - first)):
                    n_rows = piece.n_rows if grid is self.grids[0] else 0
                    yield piece._replace(n_rows=n_rows, stop=first + (piece.stop or 0))
            first += grid.n_blocks

    def row_pieces(self, array: LazyArray, start: int, chunk_rows: int | None) -> Iterator[Piece]:
        """Whole rows in their order, for `apply`."""
        slicing = self.slicing
        assert slicing is not None
        row_bytes = max(1, math.prod(slicing.shape[1:])) * array.dtype.itemsize
        chunk = 1 if array.chunks is None else array.chunks[0]
        length = max(chunk, default=1) if isinstance(chunk, tuple) else chunk
        if length * row_bytes > MOST_BAND_BYTES:
            raise SourceError(f"{array.name} has chunks of {length:,} rows, which take "
                              f"{length * row_bytes >> 20:,} MiB with all columns; rechunk it into fewer rows, or "
                              "normalize it with .bnstream.normalize")
        self.extent = slicing.n_rows
        for first, stop in spans_of(slicing.n_rows, chunk, max(1, BLOCK_BYTES // (length * row_bytes))):
            for at in range(max(first, start), stop, chunk_rows or stop - first):
                last = min(stop, at + (chunk_rows or stop - first))
                yield Piece(partial(self.load_rows, array, at, last), last - at, last, f"rows {at:,} to {last:,}")

    def load_rows(self, array: LazyArray, first: int, stop: int) -> list[NDArray[Any]]:
        assert self.slicing is not None
        rest = (slice(None),) * (len(array.shape) - 1)
        return [self.slicing.pick(array.read((slice(first, stop), *rest)))]


def unique(names: Sequence[Sequence[str] | None]) -> tuple[str, ...] | None:
    """The names of all channels; None if some have none, or two the same."""
    joined = [name for part in names for name in part or ()]
    return None if any(part is None for part in names) or len(set(joined)) < len(joined) else tuple(joined)


def texts(array: LazyArray, axis: int) -> list[str] | None:
    """The coordinate of an axis as text; None if it has none."""
    values = array.coordinates.get((array.dims or ())[axis])
    if values is None:
        return None
    return [str(value) for value in (np.datetime_as_string(values) if values.dtype.kind == "M" else values)]


def labels_of(array: LazyArray, kept: Sequence[int]) -> list[str]:
    """The names of the channels along the axes that are kept, as "t", "t[level=500]" or "t[level=500,lat=10.0]"."""
    if not kept:
        return [array.label]
    along = []
    for axis in kept:
        values = texts(array, axis) or [str(i) for i in range(array.shape[axis])]
        along.append([f"{(array.dims or ())[axis]}={value}" for value in values])
    return [f"{array.label}[{','.join(parts)}]" for parts in product(*along)]


def require_weights(weights: LazyArray, array: LazyArray, kept: Sequence[int], diff: int | None) -> None:
    """Raise SourceError unless weights are along dimensions of the array that are reduced, with its coordinates."""
    dims = array.dims or ()
    for dim, n in zip(weights.dims or (), weights.shape, strict=True):
        axis = dims.index(dim) if dim in dims else None
        problem = ""
        if axis is None:
            problem = f"which {array.name} lacks"
        elif axis in kept or axis == diff:
            kept_or_not = "weights cannot vary, as it is kept" if axis in kept else "steps are taken"
            problem = f"along which {kept_or_not}"
        elif n != array.shape[axis]:
            problem = f"of which they have {n} and {array.name} has {array.shape[axis]}"
        elif dim in weights.coordinates and dim in array.coordinates and not np.array_equal(
            weights.coordinates[dim], array.coordinates[dim]
        ):
            problem = f"whose coordinate differs from that of {array.name}"
        if problem:
            raise SourceError(f"the weights have the dimension {dim!r}, {problem}; give weights along reduced "
                              "dimensions, with the coordinates of the data")


def open_grids(source: Any, wanted: Wanted) -> Grids:
    """Open an array that is read by slices, or a Dataset of xarray."""
    if is_dataset(source):
        grids = Grids("the Dataset", wanted, variables_of(source, "the Dataset", wanted))
        grids.takes |= {"variables"}
        return grids
    array = lazy_array(source)
    return Grids(array.name, wanted, Arrays([array], weights_in(getattr(source, "coords", {}), array.name, wanted)))


def variables_of(dataset: Any, name: str, wanted: Wanted) -> Arrays:
    """The variables of a Dataset of xarray that are wanted, by default all data variables."""
    selected = wanted.reading.get("variables")
    if selected is None:
        beside = wanted.weights if isinstance(wanted.weights, str) else None
        selected = tuple(key for key in dataset.data_vars if key != beside)
        others = [f"{key!r} has dtype {dataset[key].dtype}" for key in selected if not is_real(dataset[key].dtype)]
        if others:
            numeric = ",".join(str(key) for key in selected if is_real(dataset[key].dtype))
            hint = f"select numeric variables with variables= or --variables: {numeric}"
            hint = hint if numeric else "none is numeric"
            raise SourceError(f"{name}: {'; '.join(others)}; {hint}")
    for key in selected:
        if key not in dataset.variables:
            raise SourceError(f"{name} has no variable {key!r}; its variables are "
                              f"{', '.join(map(str, dataset.data_vars)) or 'none'}")
    if not selected:
        raise SourceError(f"{name} has no variables{' but the weights' if wanted.weights is not None else ''}")
    return Arrays([of_xarray(dataset[key]) for key in selected], weights_in(dataset, name, wanted), by_dimension=True)


def weights_in(variables: Any, name: str, wanted: Wanted) -> LazyArray | None:
    """The weights that the caller gave: a DataArray, or the name of a variable or of a coordinate."""
    weights = wanted.weights
    if isinstance(weights, str):
        if weights not in variables:
            raise SourceError(f"{name} has no variable {weights!r}, which weights= (--weights) names")
        weights = variables[weights]
    return None if weights is None else of_xarray(weights, "weights")
