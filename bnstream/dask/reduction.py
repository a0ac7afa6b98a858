"""The moments of dask arrays and dataframes.

    chunks -> Moments, one for each chunk, on the worker that has it -> merged, ARITY at a time, in the order of chunks

Only Moments travel between workers. The chunks determine the tree of merges, so the bits of the result depend neither
on the number of workers nor on the order in which they finish, nor on workers that are lost.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any, Literal

import numpy as np
from dask.array import Array, map_blocks
from dask.base import tokenize
from dask.delayed import Delayed
from dask.highlevelgraph import HighLevelGraph
from numpy.typing import ArrayLike, NDArray

from bnstream.core.affine import kept_axes
from bnstream.core.moments import Moments, moments_from, rows_of
from bnstream.core.rows import of_one_height
from bnstream.dask.frames import columns_of, moments_of_column, require_numbers, values_of
from bnstream.dask.positions import along_batch_axes, rows_like

ARITY = 8       # merges in one task; another number would change the bits


def moments(
    x: Any,
    axis: int | tuple[int, ...] | None = 0,
    *,
    nan_policy: Literal["raise", "omit", "propagate"] = "raise",
    weights: ArrayLike | None = None,
    where: ArrayLike | None = None,
) -> Delayed:
    """Compute count, mean and variance of every channel of a dask array or dataframe, lazily.

    Parameters
    ----------
    x : dask.array.Array or dask.dataframe.DataFrame
        Numbers, as for `mean_var`. Every axis may be chunked, those of the channels included. Chunks may be empty, or
        of unknown sizes. The channels of a dataframe are its columns.
    axis : int, tuple of int or None, default 0
        The batch axes, which are reduced over; 0 for a dataframe.
    nan_policy : {"raise", "omit", "propagate"}, default "raise"
        As for `Moments`. Missing values in a dataframe count as NaN.
    weights : dask or NumPy array, or dask Series, optional
        The weight of each batch position, as for `Moments.update`: an array with the shape of `x` along the batch
        axes, or 1 for any of them. It is rechunked like `x`. For a dataframe, a Series with the index and the
        partitions of `x`.
    where : dask or NumPy array, or dask Series, of bool, optional
        The elements of an array to include, as for `Moments.update`; it is rechunked like `x`. The rows of a dataframe
        to include, as a Series like `weights`.

    Returns
    -------
    dask.delayed.Delayed
        ``compute()`` returns a `Moments`; that of a dataframe has the names of the columns.

    Raises
    ------
    TypeError
        If `x`, `weights` or `where` is of another kind or dtype; the message names columns that are not numbers.
    ValueError
        If an axis is out of range, `weights` have another shape, `where` does not broadcast, or two columns have the
        same name. During the computation: if there is NaN or inf under ``nan_policy="raise"``, or a weight is out of
        range; the message names the chunk.

    See Also
    --------
    normalize : takes the result, computed or not.
    bnstream.fit : the same for files, without dask.

    Notes
    -----
    The error bound is that of `Moments`, for any chunks. The bits are the same with every scheduler and any number of
    workers. Other chunks change them within the bound. A task reads one chunk on one thread; a worker runs as many
    tasks at a time as it has threads.

    A chunk with gaps in memory, such as a slice of an array, or with foreign byte order is copied first, so that its
    bits are those of the same chunk received from another worker.

    Examples
    --------
    >>> import dask.array as da, bnstream.dask
    >>> x = da.arange(12, chunks=4).reshape(6, 2)
    >>> m = bnstream.dask.moments(x)
    >>> m.compute().mean.tolist()
    [5.0, 6.0]
    """
    positions = {name: value for name, value in (("weights", weights), ("where", where)) if value is not None}
    if isinstance(x, Array):
        Moments(axis, nan_policy=nan_policy).update(x._meta)        # checks axis, nan_policy and dtype
        kept = kept_axes(axis, x.ndim)
        arrays = [along_batch_axes(value, name, x, kept) for name, value in positions.items()]
        meta = np.empty((0,) * x.ndim, object)
        parts = map_blocks(moments_of_chunk, x, *arrays, roles=(*positions,), axis=axis, nan_policy=nan_policy,
                           dtype=object, meta=meta).to_delayed()
        parts = np.moveaxis(parts, kept, range(len(kept)))
        return merged(parts.reshape(*parts.shape[:len(kept)], -1), None)
    columns = columns_of(x)
    if axis not in (0, (0,)):
        raise ValueError(f"axis of a dataframe must be 0, as its columns are the channels, got {axis!r}")
    require_numbers(x, columns)
    Moments(nan_policy=nan_policy)      # checks nan_policy
    series = [rows_like(value, name, x) for name, value in positions.items()]
    parts = x.map_partitions(moments_of_frame, *series, roles=(*positions,), nan_policy=nan_policy, meta=x._meta,
                             enforce_metadata=False, align_dataframes=False).to_delayed()
    return merged(np.array(parts, object), columns)


def moments_of_chunk(
    chunk: Any, *positions: Any, roles: Sequence[str], axis: Any, nan_policy: Any, block_id: tuple[int, ...]
) -> Moments:
    if isinstance(chunk, np.ndarray):       # the bits depend on strides and byte order
        chunk = chunk.astype(chunk.dtype.newbyteorder("="), order="A", copy=False)
    given = dict(zip(roles, positions, strict=True))
    try:
        return Moments(axis, nan_policy=nan_policy).update(chunk, **given, n_threads=1)
    except ValueError as error:
        raise ValueError(f"chunk {block_id}: {error}") from error


def moments_of_frame(
    frame: Any, *series: Any, roles: Sequence[str], nan_policy: Any, partition_info: dict[str, Any]
) -> Moments:
    place = f"partition {partition_info['number']}"
    given = {}
    for role, one in zip(roles, series, strict=True):
        if not one.index.equals(frame.index):
            raise ValueError(f"{place}: {role} must have the index of the dataframe, and has another; take it as a "
                             "column of the same dataframe")
        given[role] = one.to_numpy(bool, na_value=False) if role == "where" else values_of(one)
    parts = []
    for name, column in frame.items():
        try:
            parts.append(moments_of_column(column, nan_policy, given))
        except ValueError as error:
            raise ValueError(f"column {name!r} of {place}: {error}") from error
    return side_by_side(parts, [len(parts)], [str(name) for name in frame.columns])


def merged(parts: NDArray[Any], names: Sequence[str] | None) -> Delayed:
    """The moments of all parts. Parts along the last axis have the same channels, those along the others do not."""
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
    total = parts[0].copy()     # other tasks may read the parts
    for part in parts[1:]:
        total.merge(part)
    return total


def side_by_side(parts: Sequence[Moments], grid: Sequence[int], names: Sequence[str] | None) -> Moments:
    """Join the moments of blocks of channels, in the order of a grid of blocks, to those of all channels."""
    states = [rows_of(part) for part in parts]
    for axis in reversed(range(len(grid))):
        n = grid[axis]
        rows = [[state for state in states[i:i + n] if state is not None] for i in range(0, len(states), n)]
        # None: no channels or no data
        states = [np.concatenate(of_one_height(row), axis + 1) if row else None for row in rows]
    return moments_from(states[0], parts[0].axis, parts[0].nan_policy, names)
