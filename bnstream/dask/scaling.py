"""Lazy normalization of dask arrays and dataframes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial
from itertools import accumulate
from typing import Any

import numpy as np
from dask.array import Array, map_blocks
from dask.delayed import Delayed, delayed
from numpy.typing import ArrayLike, NDArray

from bnstream.core import functional
from bnstream.core.affine import Affine, channel_axes_of
from bnstream.core.batchnorm import BatchNorm
from bnstream.core.moments import Moments
from bnstream.dask.frames import columns_of, normalized_column, require_numbers


def normalize(
    x: Any,
    state: Any,
    gamma: ArrayLike | None = None,
    beta: ArrayLike | None = None,
    *,
    eps: float | None = None,
    channel_axis: int | tuple[int, ...] | None = None,
) -> Any:
    """Standardize every channel of a dask array or dataframe by given statistics, then scale and shift it, lazily.

    Parameters
    ----------
    x : dask.array.Array or dask.dataframe.DataFrame
        As for `moments`.
    state : Moments, BatchNorm or Delayed of one
        The mean and variance (``ddof=0``) of a `Moments`, or the running estimates, gamma and beta of a layer. A
        Delayed becomes part of the graph. In a dataframe the columns named by the statistics are normalized, and the
        others are returned unchanged; a Delayed must name all columns.
    gamma, beta : array_like, optional
        Scale and shift of each channel, of the shape of the channels, or one number for all; by default those of a
        layer, else 1 and 0.
    eps : float, optional
        Added to the variance; by default that of a layer, else 0. Channels of variance 0 become 0, or beta.
    channel_axis : int or tuple of int, optional
        The axes of the channels of an array; by default those of the statistics.

    Returns
    -------
    dask.array.Array or dask.dataframe.DataFrame
        Lazy, with the chunks of `x`. An array has the dtype of `x` if that is floating, else float32; a column has its
        dtype if that is a floating dtype of NumPy, else float64, with NaN for missing values.

    Raises
    ------
    TypeError
        If `x` or `state` is of another kind, or `x` does not hold real numbers; the message names such columns.
    ValueError
        If the statistics are empty, their channels are not those of `x`, the sizes of chunks along a channel axis are
        unknown, or a parameter does not have the shape of the channels. With a Delayed, during the computation.

    See Also
    --------
    moments : the statistics.
    bnstream.apply : the same for files, without dask.

    Notes
    -----
    ``normalize(x, moments(x))`` reads or computes the data twice, first for the moments and then for the result. Call
    ``x = x.persist()`` before to keep the data on the workers.

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
        meta = functional.normalize(x._meta, 0.0, 1.0)      # checks the dtype of x, and has that of the result
        affine = affine_task(ArrayAffine, state, channel_axis=channel_axis, chunks=x.chunks, **options)
        return map_blocks(normalize_chunk, x, affine=affine, dtype=meta.dtype, meta=meta)
    columns = columns_of(x)
    if channel_axis is not None:
        raise ValueError(f"the channels of a dataframe are its columns; leave out channel_axis={channel_axis!r}")
    from dask.dataframe import from_delayed  # needs pandas

    late = isinstance(state, Delayed)
    options |= {"columns": columns, "all_named": late}
    # Delayed statistics name all columns; any values do for the dtypes of the result.
    known = FrameAffine(Moments(names=columns).update(np.zeros((1, len(columns)))) if late else state, **options)
    require_numbers(x, known.names)
    affine = affine_task(FrameAffine, state, **options) if late else shared(known)
    parts = [delayed(normalize_frame, pure=True)(part, affine) for part in x.to_delayed()]
    return from_delayed(parts, meta=normalize_frame(x._meta, known), divisions=x.divisions)


def affine_task(kind: type[Affine], state: Any, **options: Any) -> Delayed:
    """An affine map in a task of its own, shared by all chunks. Errors in a computed state are raised at once."""
    if isinstance(state, Delayed):
        return delayed(partial(kind, **options), pure=True)(state)
    return shared(kind(state, **options))


def shared(affine: Affine) -> Delayed:
    """A task that returns an affine map."""
    return delayed(affine, pure=True, traverse=False)


def require_state(state: Any) -> None:
    """Raise TypeError unless it is a `Moments` or a `BatchNorm`."""
    if not isinstance(state, Moments | BatchNorm):
        raise TypeError(f"state must be a Moments, a BatchNorm, or a Delayed of one, got {type(state).__name__}")


class ArrayAffine(Affine):
    """The affine map for an array: `channel_axes`, and for each of these the slice of the channels in every chunk."""

    def __init__(self, state: Any, channel_axis: Any, chunks: Any, **options: Any) -> None:
        require_state(state)
        super().__init__(state, **options)
        self.channel_axes = axes = channel_axes_of(state, channel_axis, len(chunks))
        sizes = tuple(sum(chunks[axis]) for axis in axes)
        for axis, size in zip(axes, sizes, strict=True):
            if math.isnan(size) and len(chunks[axis]) > 1:      # a single chunk has all channels: `normalize` checks it
                raise ValueError(f"the sizes of the chunks along channel axis {axis} are unknown; "
                                 "x.compute_chunk_sizes() makes them known")
        if len(sizes) != len(self.shape) or any(
            size != wanted and not math.isnan(size) for size, wanted in zip(sizes, self.shape, strict=True)
        ):
            raise ValueError(f"expected channels of shape {self.shape} as in the statistics, got {sizes} along axes "
                             f"{axes} of x; if the channels are along other axes, pass channel_axis")
        self.slices = [slices_of(chunks[axis]) for axis in axes]


class FrameAffine(Affine):
    """The affine map for the columns of a dataframe that the statistics name."""

    names: tuple[str, ...]

    def __init__(self, state: Any, columns: Sequence[str], all_named: bool, **options: Any) -> None:
        require_state(state)
        super().__init__(state, **options)
        if state.names is None:
            raise ValueError("the statistics have no names of columns; compute them from a dataframe, or set their "
                             "names")
        absent = [name for name in state.names if name not in columns]
        if absent:
            raise ValueError(f"the dataframe lacks columns that the statistics name: {', '.join(map(repr, absent))}")
        others = [name for name in columns if name not in state.names]
        if others and all_named:
            raise ValueError("delayed statistics must name all columns, and do not name "
                             f"{', '.join(map(repr, others))}; leave these out, or compute the statistics first")


def slices_of(sizes: Sequence[int]) -> list[slice]:
    if len(sizes) == 1:
        return [slice(None)]
    return [slice(stop - size, stop) for size, stop in zip(sizes, accumulate(sizes), strict=True)]


def normalize_chunk(chunk: Any, affine: ArrayAffine, block_id: tuple[int, ...]) -> NDArray[Any]:
    index = tuple(slices[block_id[axis]] for axis, slices in zip(affine.channel_axes, affine.slices, strict=True))
    return affine.of_block(chunk, index, affine.channel_axes)


def normalize_frame(frame: Any, affine: FrameAffine) -> Any:
    result = frame.copy(deep=False)
    for name, column in frame.items():
        if str(name) in affine.names:
            result[name] = normalized_column(column, affine, str(name))
    return result
