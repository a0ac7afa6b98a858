"""The moments by group of dask arrays and dataframes.

    chunks, with the keys of their rows -> GroupedMoments -> merged, ARITY at a time, in the order of chunks
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
from dask.array import Array, from_array
from dask.delayed import Delayed, delayed
from numpy.typing import NDArray

from bnstream.core.affine import kept_axes
from bnstream.core.groups.grouped import GroupedMoments
from bnstream.core.groups.keycolumns import column_of, named
from bnstream.core.groups.keys import Missing
from bnstream.core.groups.keys import columns_of as columns_of_keys
from bnstream.core.moments import Moments
from bnstream.dask.frames import columns_of, require_numbers
from bnstream.dask.reduction import ARITY, merge


def grouped(
    x: Any,
    keys: Any,
    axis: int | tuple[int, ...] | None = 0,
    *,
    nan_policy: Literal["raise", "omit", "propagate"] = "raise",
    missing_keys: Missing = "raise",
    exact: bool = False,
    track: str | Sequence[str] = (),
) -> Delayed:
    """Compute count, mean and variance of every channel by group, lazily.

    Parameters
    ----------
    x : dask.array.Array or dask.dataframe.DataFrame
        As for `moments`. An array is rechunked so that a chunk has all channels.
    keys : dask array, array_like, or str or list of str
        The key of each row of an array, along its first batch axis, as for `GroupedMoments.update`, in one column. For
        a dataframe, the names of the columns that hold the keys; these are not channels.
    axis : int, tuple of int or None, default 0
        The batch axes of an array.
    nan_policy, missing_keys, exact, track
        As for `GroupedMoments`.

    Returns
    -------
    dask.delayed.Delayed
        ``compute()`` returns a `GroupedMoments`.

    Raises
    ------
    TypeError
        If `x` or `keys` is of another kind; the message names columns that are not numbers.
    ValueError
        If there is not one key for each row, or no such column. During the computation as `GroupedMoments.update`; the
        message names the chunk.

    See Also
    --------
    moments : of all rows together.

    Notes
    -----
    The bits are the same with every scheduler and any number of workers. Groups are in the order in which they first
    appear.

    Examples
    --------
    >>> import dask.array as da, bnstream.dask
    >>> x = da.arange(12, chunks=4).reshape(6, 2)
    >>> g = bnstream.dask.grouped(x, da.arange(6, chunks=2) % 2).compute()
    >>> g[0].mean.tolist(), g[1].mean.tolist()
    ([4.0, 5.0], [6.0, 7.0])
    """
    options: dict[str, Any] = {"nan_policy": nan_policy, "missing_keys": missing_keys, "exact": exact, "track": track}
    if isinstance(x, Array):
        Moments(axis, nan_policy=nan_policy, exact=exact).update(x._meta)       # checks axis, nan_policy and dtype
        GroupedMoments(axis, **options)
        return merged(parts_of_array(x, keys, axis, options))
    names = columns_of(x)
    if axis not in (0, (0,)):
        raise ValueError(f"axis of a dataframe must be 0, as its columns are the channels, got {axis!r}")
    by = [keys] if isinstance(keys, str) else keys
    if not isinstance(by, list | tuple) or not by or not all(isinstance(name, str) for name in by):
        raise TypeError(f"keys of a dataframe must be the names of columns, got {type(keys).__name__}")
    if len(set(by)) < len(by):
        raise ValueError(f"keys of a dataframe must name each column once, got {by}")
    for name in by:
        if name not in names:
            raise ValueError(f"the dataframe has no column {name!r} of keys; its columns are {', '.join(names)}")
    channels = [name for name in names if name not in by]
    require_numbers(x[channels], channels)
    GroupedMoments(**options)
    task = delayed(groups_of_frame, pure=True)
    return merged([task(frame, channels, list(by), i, options) for i, frame in enumerate(x.to_delayed())])


def parts_of_array(x: Any, keys: Any, axis: Any, options: dict[str, Any]) -> list[Delayed]:
    """The moments by group of each chunk."""
    kept = kept_axes(axis, x.ndim)
    along = next(i for i in range(x.ndim) if i not in kept)
    if not isinstance(keys, Array):
        keys, options = of_memory(keys, options)
    if keys.ndim != 1 or (not np.isnan(x.shape[along] + keys.shape[0]) and keys.shape != (x.shape[along],)):
        raise ValueError(f"keys must have one key for each of the {x.shape[along]} rows of x along axis {along}, got "
                         f"shape {keys.shape}")
    x = x.rechunk(dict.fromkeys(kept, -1)) if kept else x
    if not np.isnan(sum(x.chunks[along])):
        keys = keys.rechunk((x.chunks[along],))
    blocks, of_keys = x.to_delayed(), keys.to_delayed()
    if len(of_keys) != blocks.shape[along]:
        raise ValueError(f"keys must have the chunks of x along axis {along}, {blocks.shape[along]}, got "
                         f"{len(of_keys)}")
    task = delayed(groups_of_chunk, pure=True)
    return [task(blocks[at], of_keys[at[along]], axis, at, options) for at in np.ndindex(*blocks.shape)]


def of_memory(keys: Any, options: dict[str, Any]) -> tuple[Array, dict[str, Any]]:
    """Keys in memory as an array of dask, with None where one is missing, and the options with their name."""
    columns, names, _ = columns_of_keys(keys)
    if len(columns) > 1:
        raise ValueError(f"keys of an array must be one column, got {len(columns)}; make a dataframe of x and these "
                         "columns, and name them")
    column = column_of(columns[0], "keys")
    values = column.codes.astype(bool) if column.kind == "bool" else column.codes
    if column.values is not None or column.missing is not None:
        values = np.empty(len(values), object)
        values[:] = named(column.codes, column)
        values[column.missing if column.missing is not None else slice(0)] = None
    return from_array(values, chunks=-1), {**options, "key_names": names}


def groups_of_chunk(
    chunk: NDArray[Any], keys: NDArray[Any], axis: Any, at: tuple[int, ...], options: dict[str, Any]
) -> GroupedMoments:
    try:
        return GroupedMoments(axis, **options).update(chunk, keys, n_threads=1)
    except ValueError as error:
        raise ValueError(f"chunk {at}: {error}") from error


def groups_of_frame(
    frame: Any, channels: list[str], by: list[str], number: int, options: dict[str, Any]
) -> GroupedMoments:
    g = GroupedMoments(names=channels, key_names=by, **options)
    if not len(frame):
        return g
    try:
        return g.update(frame[channels], {name: frame[name] for name in by}, n_threads=1)
    except ValueError as error:
        raise ValueError(f"partition {number}: {error}") from error


def merged(parts: Sequence[Delayed]) -> Delayed:
    """The moments of all parts, merged in a tree that the parts determine."""
    task = delayed(merge, pure=True)
    while len(parts) > 1:
        parts = [task(list(parts[i:i + ARITY])) for i in range(0, len(parts), ARITY)]
    return parts[0]
