"""Weights and masks of batch positions, chunked like the data."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from dask.array import Array, from_array
from dask.base import is_dask_collection
from dask.utils import is_series_like

from bnstream.core.dtypes import is_real
from bnstream.core.masks import at_positions
from bnstream.core.moments import Moments
from bnstream.dask.frames import values_of


def along_batch_axes(values: Any, name: str, x: Array, channel_axes: Sequence[int]) -> Array:
    """Weights or a mask with as many dimensions as x, chunked like x; weights have 1 along the channel axes.

    Raises
    ------
    TypeError
        If `values` is another collection of dask, or of another dtype.
    ValueError
        If its shape is another, or the sizes of chunks are unknown and those of x and `values` cannot be matched.
    """
    if is_dask_collection(values) and not isinstance(values, Array):
        raise TypeError(f"{name} of a dask array must be a dask or NumPy array, got {type(values).__name__}")
    w = values if isinstance(values, Array) else from_array(np.asanyarray(values))
    batch_axes = [i for i in range(x.ndim) if i not in channel_axes]
    w = at_positions(name, w, x.shape, batch_axes)
    sample: Any = np.ones_like(w._meta, shape=[0 if i in batch_axes else 1 for i in range(x.ndim)])
    Moments(tuple(batch_axes)).update(np.ones((0,) * x.ndim), **{name: sample})        # checks the dtype
    chunks: dict[int, Any] = {}
    for i, (n, m) in enumerate(zip(w.shape, x.shape, strict=True)):
        if n == 1 or not math.isnan(n + m):
            chunks[i] = (1,) if n == 1 else x.chunks[i]
        elif len(w.chunks[i]) != len(x.chunks[i]):
            raise ValueError(f"{name} has {len(w.chunks[i])} chunks along axis {i}, but x has {len(x.chunks[i])}, "
                             "whose sizes are unknown; compute_chunk_sizes() makes them known")
    return w.rechunk(chunks)


def rows_like(values: Any, name: str, x: Any) -> Any:
    """Weights or a mask of the rows of a dataframe, in the same partitions.

    Raises
    ------
    TypeError
        If `values` is not a dask Series of numbers, or of bool if it is a mask.
    ValueError
        If it has other partitions. The index is compared when a partition is read.
    """
    if not (is_dask_collection(values) and is_series_like(values)):
        raise TypeError(f"{name} of a dataframe must be a dask Series with the same index, got {type(values).__name__}")
    if not (values.dtype.kind == "b" if name == "where" else is_real(values.dtype)):
        raise TypeError(f"{name} must be of {'bool' if name == 'where' else 'real numbers'}, got dtype {values.dtype}")
    if values.npartitions != x.npartitions or values.divisions != x.divisions:
        raise ValueError(f"{name} must have the partitions of the dataframe, {x.npartitions} with divisions "
                         f"{x.divisions}, got {values.npartitions} with divisions {values.divisions}; take it as a "
                         "column of the same dataframe")
    return values


def rows_of_series(series: Any, name: str) -> Any:
    """Weights or a mask of rows, of a pandas Series. A missing value of a mask is False."""
    return series.to_numpy(bool, na_value=False) if name == "where" else values_of(series)
