"""Dask arrays and dataframes: their moments in one lazy graph, and lazy normalization. It needs the extra ``dask``.

    chunks -> Moments, where the chunks are -> merged, ARITY at a time in the order of chunks, until one is left

What travels between workers are Moments alone. The tree is fixed by the chunks, so the bits of the result depend
neither on how many workers there are nor on which of them are done first, lost, or late.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from functools import partial
from itertools import accumulate
from typing import Any, Literal

import numpy as np
from numpy.lib.array_utils import normalize_axis_tuple
from numpy.typing import ArrayLike, NDArray

from bnstream.core import functional
from bnstream.core.affine import Affine
from bnstream.core.batchnorm import BatchNorm
from bnstream.core.moments import Moments, moments_from, rows_of

try:
    from dask.array import Array, map_blocks
    from dask.base import is_dask_collection, tokenize
    from dask.delayed import Delayed, delayed
    from dask.highlevelgraph import HighLevelGraph
    from dask.utils import is_dataframe_like
except ModuleNotFoundError as error:
    missing = (error.name or "dask").partition(".")[0]
    raise ModuleNotFoundError(
        f'bnstream.dask needs {missing}, which is not installed; install it with: pip install "bnstream[dask]"',
        name=missing,
    ) from error

__all__ = ["moments", "normalize"]

ARITY = 8       # merges that a task does; another number means other bits


def moments(
    x: Any,
    axis: int | tuple[int, ...] | None = 0,
    *,
    nan_policy: Literal["raise", "omit", "propagate"] = "raise",
) -> Delayed:
    """Count, mean and variance of every channel of a dask array or dataframe, lazily.

    Parameters
    ----------
    x : dask.array.Array or dask.dataframe.DataFrame
        Numbers, as for `mean_var`. Every axis may be in chunks, the channels' too; chunks may be empty, and of sizes
        that are not known. Of a dataframe the columns are the channels.
    axis : int, tuple of int or None, default 0
        The batch axes, those reduced over; 0 for a dataframe.
    nan_policy : {"raise", "omit", "propagate"}, default "raise"
        As for `Moments`. What is missing in a dataframe counts as NaN.

    Returns
    -------
    dask.delayed.Delayed
        Of a `Moments`, which ``compute()`` answers; of a dataframe with the names of the columns.

    Raises
    ------
    TypeError
        If `x` is something else, or holds no real numbers; the message names such columns.
    ValueError
        If an axis is out of range, or names of columns are not different. While it is computed: if there is NaN or inf
        under ``nan_policy="raise"``; the message says in which chunk.

    See Also
    --------
    normalize : by the result, which need not be computed for that.
    bnstream.fit : the same for files, without dask.

    Notes
    -----
    The error bound is that of `Moments`, for any chunks. The bits are the same for every scheduler and any number of
    workers; other chunks change them within the bound. A task is one chunk on one thread: workers have as many tasks at
    a time as they have threads.

    A chunk with gaps in memory, as slices of arrays have them, or of foreign byte order is copied first: the one that
    comes from another worker has neither.

    Examples
    --------
    >>> import dask.array as da, bnstream.dask
    >>> x = da.arange(12, chunks=4).reshape(6, 2)
    >>> m = bnstream.dask.moments(x)
    >>> m.compute().mean.tolist()
    [5.0, 6.0]
    """
    if isinstance(x, Array):
        Moments(axis, nan_policy=nan_policy).update(x._meta)        # refuses what it would of a chunk
        meta = np.empty((0,) * x.ndim, object)
        parts = map_blocks(moments_of_chunk, x, axis=axis, nan_policy=nan_policy, dtype=object, meta=meta).to_delayed()
        kept = kept_axes(axis, x.ndim)
        parts = np.moveaxis(parts, kept, range(len(kept)))
        return merged(parts.reshape(*parts.shape[:len(kept)], -1), None)
    columns = columns_of(x)
    if axis not in (0, (0,)):
        raise ValueError(f"axis of a dataframe must be 0, as its columns are the channels, got {axis!r}")
    require_numbers(x, columns)
    Moments(nan_policy=nan_policy)      # refuses a policy that there is none of
    parts = x.map_partitions(moments_of_frame, nan_policy=nan_policy, meta=x._meta, enforce_metadata=False).to_delayed()
    return merged(np.array(parts, object), columns)


def moments_of_chunk(chunk: Any, axis: Any, nan_policy: Any, block_id: tuple[int, ...]) -> Moments:
    if isinstance(chunk, np.ndarray):       # as from another worker: the bits depend on strides and byte order
        chunk = chunk.astype(chunk.dtype.newbyteorder("="), order="A", copy=False)
    try:
        return Moments(axis, nan_policy=nan_policy).update(chunk, n_threads=1)
    except ValueError as error:
        raise ValueError(f"chunk {block_id}: {error}") from error


def moments_of_frame(frame: Any, nan_policy: Any, partition_info: dict[str, Any]) -> Moments:
    parts = []
    for name, column in frame.items():
        try:
            parts.append(Moments(nan_policy=nan_policy).update(values_of(column)[:, np.newaxis], n_threads=1))
        except ValueError as error:
            raise ValueError(f"column {name!r} of partition {partition_info['number']}: {error}") from error
    return side_by_side(parts, [len(parts)], [str(name) for name in frame.columns])


def values_of(column: Any) -> NDArray[Any]:
    """The numbers of a pandas Series, NaN for what is missing in the dtypes that know of that."""
    if isinstance(column.dtype, np.dtype):
        return np.ascontiguousarray(column.to_numpy())
    values: NDArray[np.float64] = column.to_numpy(np.float64, na_value=np.nan)
    return values


def merged(parts: NDArray[Any], names: Sequence[str] | None) -> Delayed:
    """All parts as one; the last axis is that of the parts of the same channels, the others those of the channels."""
    name = f"moments-{tokenize([part.key for part in parts.flat], parts.shape, names)}"
    tasks: dict[Any, Any] = {}
    blocks = []
    for block, row in enumerate(parts.reshape(-1, parts.shape[-1])):
        keys, level = [part.key for part in row], 0
        while len(keys) > 1:
            groups = [keys[i:i + ARITY] for i in range(0, len(keys), ARITY)]
            keys = [(f"merge-{name}", block, level, i) for i in range(len(groups))]
            tasks.update((key, (merge, group)) for key, group in zip(keys, groups, strict=True))
            level += 1
        blocks += keys
    tasks[name] = (partial(side_by_side, grid=parts.shape[:-1], names=names), blocks)
    return Delayed(name, HighLevelGraph.from_collections(name, tasks, dependencies=[parts.flat[0]]))


def merge(parts: Sequence[Moments]) -> Moments:
    total = parts[0].copy()     # what other tasks may read is left as it is
    for part in parts[1:]:
        total.merge(part)
    return total


def side_by_side(parts: Sequence[Moments], grid: Sequence[int], names: Sequence[str] | None) -> Moments:
    """The moments of blocks of channels as those of all channels; in the order of a grid of blocks."""
    states = [rows_of(part) for part in parts]
    for axis in reversed(range(len(grid))):
        n = grid[axis]
        rows = [[state for state in states[i:i + n] if state is not None] for i in range(0, len(states), n)]
        states = [np.concatenate(row, axis + 1) if row else None for row in rows]      # None: no channels, or no data
    return moments_from(states[0], parts[0].axis, parts[0].nan_policy, names)


def kept_axes(axis: Any, ndim: int) -> tuple[int, ...]:
    """Those that are not reduced over."""
    reduced = range(ndim) if axis is None else normalize_axis_tuple(axis, ndim)
    return tuple(i for i in range(ndim) if i not in reduced)


def normalize(
    x: Any,
    stats: Any,
    gamma: ArrayLike | None = None,
    beta: ArrayLike | None = None,
    *,
    eps: float | None = None,
    channel_axis: int | tuple[int, ...] | None = None,
) -> Any:
    """A dask array or dataframe with each channel standardized by given statistics, then scaled and shifted, lazily.

    Parameters
    ----------
    x : dask.array.Array or dask.dataframe.DataFrame
        As for `moments`.
    stats : Moments, BatchNorm or Delayed of one
        Mean and variance (``ddof=0``) of a `Moments`; of a layer its running estimates, gamma and beta. What is delayed
        becomes part of the graph. Of a dataframe the columns that it names are normalized, the others passed on as they
        are; one that is delayed names all columns.
    gamma, beta : array_like, optional
        Scale and shift of each channel, of the shape of the channels, or one number for all; by default those of a
        layer, else 1 and 0.
    eps : float, optional
        Added to the variance; by default 0, or the eps of a layer. Channels of variance 0 become 0, or beta.
    channel_axis : int or tuple of int, optional
        Of an array: where the channels are; by default where they were for `stats`.

    Returns
    -------
    dask.array.Array or dask.dataframe.DataFrame
        Of the same chunks, lazily. Arrays have the dtype of `x` if that is floating, else float32; columns theirs if
        that is a floating dtype of NumPy's, else float64, with NaN for what is missing.

    Raises
    ------
    TypeError
        If `x` or `stats` are something else, or `x` holds no real numbers; the message names such columns.
    ValueError
        If the statistics are empty, their channels are not those of `x`, chunks along an axis of channels are of
        unknown sizes, or a parameter has not the shape of the channels. What concerns delayed statistics is raised
        while they are computed.

    See Also
    --------
    moments : the statistics.
    bnstream.apply : the same for files, without dask.

    Notes
    -----
    ``normalize(x, moments(x))`` reads, or computes, the data twice, as the moments come before the result. ``x =
    x.persist()`` before it keeps the data on the workers.

    Examples
    --------
    >>> import dask.array as da, bnstream.dask
    >>> x = da.arange(4.0, chunks=2).reshape(4, 1)
    >>> y = bnstream.dask.normalize(x, bnstream.dask.moments(x))
    >>> y.chunks, y.compute().round(2).ravel().tolist()
    (((2, 2), (1,)), [-1.34, -0.45, 0.45, 1.34])
    """
    options: dict[str, Any] = {"gamma": gamma, "beta": beta, "eps": eps}
    if isinstance(x, Array):
        meta = functional.normalize(x._meta, 0.0, 1.0)      # of the dtype of the result, and only of numbers
        affine = once(OfChunks, stats, channel_axis=channel_axis, chunks=x.chunks, **options)
        return map_blocks(normalize_chunk, x, affine=affine, dtype=meta.dtype, meta=meta)
    columns = columns_of(x)
    if channel_axis is not None:
        raise ValueError(f"the channels of a dataframe are its columns; leave out channel_axis={channel_axis!r}")
    from dask.dataframe import from_delayed  # which needs pandas

    late = isinstance(stats, Delayed)
    options |= {"columns": columns, "all_named": late}
    sample = OfColumns(Moments(names=columns).update(np.zeros((1, len(columns)))) if late else stats, **options)
    require_numbers(x, sample.index)
    affine = once(OfColumns, stats, **options)
    parts = [delayed(normalize_frame, pure=True)(part, affine) for part in x.to_delayed()]
    return from_delayed(parts, meta=normalize_frame(x._meta, sample), divisions=x.divisions)


def once(kind: type[Parameters], stats: Any, **options: Any) -> Delayed:
    """Parameters in a task of their own, for all chunks. Of statistics that are there errors come now."""
    if isinstance(stats, Delayed):
        return delayed(partial(kind, **options), pure=True)(stats)
    return delayed(kind(stats, **options), pure=True, traverse=False)


class Parameters:
    """What `functional.normalize` takes beside the data."""

    def __init__(self, stats: Any, gamma: Any, beta: Any, eps: float | None) -> None:
        if not isinstance(stats, Moments | BatchNorm):
            raise TypeError(f"stats must be a Moments, a BatchNorm, or a Delayed of one, got {type(stats).__name__}")
        affine = Affine(stats, eps)
        self.eps = affine.eps
        self.shape = shape = affine.mean.shape if isinstance(stats, BatchNorm) else stats.shape or ()
        values = {"mean": affine.mean.reshape(shape), "var": affine.var.reshape(shape),
                  "gamma": affine.gamma if gamma is None else gamma, "beta": affine.beta if beta is None else beta}
        empty, axes = np.empty((0, *shape)), tuple(range(1, 1 + len(shape)))
        functional.normalize(empty, **values, eps=self.eps, channel_axis=axes)      # refuses what it would with data
        self.values = {name: np.broadcast_to(value, shape) for name, value in values.items() if value is not None}

    def of(self, where: Any) -> dict[str, Any]:
        """Those of some channels, for one thread: the others have tasks of their own."""
        return {name: value[where] for name, value in self.values.items()} | {"eps": self.eps, "n_threads": 1}


class OfChunks(Parameters):
    """Those for an array: its channels lie along `axes`, and along each of these a chunk has one of the `slices`."""

    def __init__(self, stats: Any, channel_axis: Any, chunks: Any, **options: Any) -> None:
        super().__init__(stats, **options)
        self.axes = axes_of(stats, self.shape, channel_axis, len(chunks))
        sizes = tuple(sum(chunks[axis]) for axis in self.axes)
        for axis, size in zip(self.axes, sizes, strict=True):
            if math.isnan(size) and len(chunks[axis]) > 1:      # one alone is whole, and `normalize` looks at it
                raise ValueError(f"the sizes of the chunks along axis {axis}, of channels, are unknown; "
                                 "x.compute_chunk_sizes() finds them out")
        if len(sizes) != len(self.shape) or any(
            size != wanted and not math.isnan(size) for size, wanted in zip(sizes, self.shape, strict=True)
        ):
            raise ValueError(f"expected channels of shape {self.shape} as in the statistics, got {sizes} along axes "
                             f"{self.axes} of x; if they are along others, say so with channel_axis")
        self.slices = [slices_of(chunks[axis]) for axis in self.axes]


class OfColumns(Parameters):
    """Those for a dataframe: `index` tells the channels of columns by name."""

    def __init__(self, stats: Any, columns: Sequence[str], all_named: bool, **options: Any) -> None:
        super().__init__(stats, **options)
        if stats.names is None:
            raise ValueError("the statistics have no names of columns; take them of a dataframe, or set their names")
        absent = [name for name in stats.names if name not in columns]
        if absent:
            raise ValueError(f"the dataframe lacks columns that the statistics name: {', '.join(map(repr, absent))}")
        others = [name for name in columns if name not in stats.names]
        if others and all_named:
            raise ValueError("delayed statistics must name all columns, and do not name "
                             f"{', '.join(map(repr, others))}; leave these out, or compute the statistics first")
        self.index = {name: slice(i, i + 1) for i, name in enumerate(stats.names)}


def slices_of(sizes: Sequence[int]) -> list[slice]:
    if len(sizes) == 1:
        return [slice(None)]
    return [slice(stop - size, stop) for size, stop in zip(sizes, accumulate(sizes), strict=True)]


def axes_of(stats: Any, shape: tuple[int, ...], channel_axis: Any, ndim: int) -> tuple[int, ...]:
    """Where the channels are in an array, in order."""
    if channel_axis is None and isinstance(stats, BatchNorm):
        channel_axis = stats.channel_axis
    if channel_axis is not None:
        return tuple(sorted(normalize_axis_tuple(channel_axis, ndim, "channel_axis")))
    if stats.axis is None:
        return ()
    n_axes = np.size(stats.axis) + len(shape)
    if n_axes != ndim:
        raise ValueError(f"the statistics are over axis={stats.axis!r} of {n_axes} axes, and x has {ndim}; say with "
                         "channel_axis where its channels are")
    return kept_axes(stats.axis, ndim)


def normalize_chunk(chunk: Any, affine: OfChunks, block_id: tuple[int, ...]) -> NDArray[Any]:
    where = tuple(slices[block_id[axis]] for axis, slices in zip(affine.axes, affine.slices, strict=True))
    return functional.normalize(chunk, **affine.of(where), channel_axis=affine.axes)


def normalize_frame(frame: Any, affine: OfColumns) -> Any:
    result = frame.copy(deep=False)
    for name, column in frame.items():
        if str(name) in affine.index:
            values = values_of(column)
            values = values if values.dtype.kind == "f" else values.astype(np.float64)
            result[name] = functional.normalize(values[:, np.newaxis], **affine.of(affine.index[str(name)]))[:, 0]
    return result


def columns_of(x: Any) -> tuple[str, ...]:
    """The names of the columns of what is known to be a dataframe then; they differ."""
    if not (is_dask_collection(x) and is_dataframe_like(x)):
        raise TypeError(f"expected a dask array or dataframe, got {type(x).__name__}; dask.array.from_array and "
                        "dask.dataframe.from_pandas make them of what is in memory, and to_frame() of a series")
    if not len(x.columns):
        raise ValueError("the dataframe has no columns")
    return Moments(names=[str(name) for name in x.columns]).names or ()


def require_numbers(x: Any, columns: Collection[str]) -> None:
    types = {str(name): dtype for name, dtype in x.dtypes.items()}
    wrong = [f"{name!r} ({types[name]})" for name in columns if types[name].kind not in "biuf"]
    if wrong:
        raise TypeError(f"columns are not of numbers: {', '.join(wrong)}; choose the others, as in x[['a', 'b']], or "
                        "convert these with x.astype")
