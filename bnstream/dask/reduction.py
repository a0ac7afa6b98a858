"""The moments of dask arrays and dataframes.

    chunks -> Moments, one for each chunk, on the worker that has it -> merged, ARITY at a time, in the order of chunks

Only Moments travel between workers. The chunks determine the tree of merges, so the bits of the result depend neither
on the number of workers nor on the order in which they finish, nor on workers that are lost. Exact statistics do not
depend on the chunks either.
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
from bnstream.core.blocks import side_by_side
from bnstream.core.moments import Moments
from bnstream.dask.frames import columns_of, moments_of_column, require_numbers
from bnstream.dask.positions import along_batch_axes, rows_like, rows_of_series

ARITY = 8       # merges in one task; another number would change the bits of statistics that are not exact


def moments(
    x: Any,
    axis: int | tuple[int, ...] | None = 0,
    *,
    nan_policy: Literal["raise", "omit", "propagate"] = "raise",
    weights: ArrayLike | None = None,
    where: ArrayLike | None = None,
    exact: bool = False,
    track: str | Sequence[str] = (),
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
    exact : bool, default False
        Compute exact statistics, as ``Moments(exact=True)`` keeps them: the same state and `digest` for any chunks.
        Weights are whole numbers then, and count batch positions.
    track : str or sequence of str, optional
        What to find beside count, mean and variance, as for `Moments`.

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
        range, for exact statistics no whole number; the message names the chunk.
    OverflowError
        During the computation, if the weights of exact statistics add up to more than 2**62.

    See Also
    --------
    normalize : takes the result, computed or not.
    bnstream.fit : the same for files, without dask.

    Notes
    -----
    The error bound is that of `Moments`, for any chunks. The bits are the same with every scheduler and any number of
    workers. Other chunks change them within the bound, but not those of exact statistics. A task reads one chunk on one
    thread; a worker runs as many tasks at a time as it has threads.

    A chunk with gaps in memory, such as a slice of an array, or with foreign byte order is copied first, so that its
    bits are those of the same chunk received from another worker.

    Examples
    --------
    >>> import dask.array as da, bnstream.dask
    >>> x = da.arange(12, chunks=4).reshape(6, 2)
    >>> m = bnstream.dask.moments(x)
    >>> m.compute().mean.tolist()
    [5.0, 6.0]
    >>> a, b = (bnstream.dask.moments(y, exact=True).compute() for y in (x, x.rechunk(1)))
    >>> a.digest() == b.digest()
    True
    """
    options: dict[str, Any] = {"nan_policy": nan_policy, "exact": exact, "track": track}
    positions = {name: value for name, value in (("weights", weights), ("where", where)) if value is not None}
    if isinstance(x, Array):
        Moments(axis, **options).update(x._meta)        # checks axis, nan_policy and dtype
        kept = kept_axes(axis, x.ndim)
        arrays = [along_batch_axes(value, name, x, kept) for name, value in positions.items()]
        meta = np.empty((0,) * x.ndim, object)
        parts = map_blocks(moments_of_chunk, x, *arrays, roles=(*positions,), axis=axis, dtype=object, meta=meta,
                           **options).to_delayed()
        parts = np.moveaxis(parts, kept, range(len(kept)))
        return merged(parts.reshape(*parts.shape[:len(kept)], -1), None)
    columns = columns_of(x)
    if axis not in (0, (0,)):
        raise ValueError(f"axis of a dataframe must be 0, as its columns are the channels, got {axis!r}")
    require_numbers(x, columns)
    Moments(**options)      # checks nan_policy
    series = [rows_like(value, name, x) for name, value in positions.items()]
    parts = x.map_partitions(moments_of_frame, *series, roles=(*positions,), meta=x._meta, enforce_metadata=False,
                             align_dataframes=False, **options).to_delayed()
    return merged(np.array(parts, object), columns)


def moments_of_chunk(
    chunk: Any, *positions: Any, roles: Sequence[str], axis: Any, block_id: tuple[int, ...], exact: bool, **options: Any
) -> Moments:
    if isinstance(chunk, np.ndarray) and not exact:     # The bits depend on strides and byte order.
        chunk = chunk.astype(chunk.dtype.newbyteorder("="), order="A", copy=False)
    given = dict(zip(roles, positions, strict=True))
    try:
        return Moments(axis, exact=exact, **options).update(chunk, **given, n_threads=1)
    except ValueError as error:
        raise ValueError(f"chunk {block_id}: {error}") from error


def moments_of_frame(
    frame: Any, *series: Any, roles: Sequence[str], partition_info: dict[str, Any], **options: Any
) -> Moments:
    place = f"partition {partition_info['number']}"
    given = {}
    for role, one in zip(roles, series, strict=True):
        if not one.index.equals(frame.index):
            raise ValueError(f"{place}: {role} must have the index of the dataframe, and has another; take it as a "
                             "column of the same dataframe")
        given[role] = rows_of_series(one, role)
    parts = []
    for name, column in frame.items():
        try:
            parts.append(moments_of_column(column, options, given))
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


def merge(parts: Sequence[Any]) -> Any:
    """Merge `Moments`, or `GroupedMoments`."""
    total = parts[0].copy()     # other tasks may read the parts
    for part in parts[1:]:
        total.merge(part)
    return total
