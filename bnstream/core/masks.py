"""How the axes of weights and masks correspond to those of an array."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np


def at_positions(name: str, values: Any, shape: tuple[int, ...], batch_axes: Sequence[int]) -> Any:
    """View weights or a mask with every axis of an array of the given shape, each of the length of that axis or 1.

    Parameters
    ----------
    name : {"weights", "where"}
        Weights have length 1 along the channel axes. A mask may select elements.
    values : ndarray or dask.array.Array
    shape, batch_axes
        As for `with_all_axes`.

    Returns
    -------
    ndarray or dask.array.Array
        A view of `values`.

    Raises
    ------
    ValueError
        If weights do not have the shape of the batch positions, or length 1 along any of them, or a mask does not
        broadcast.
    """
    if name == "where":
        return with_all_axes(values, shape, batch_axes)
    given = values.shape
    if len(given) == len(batch_axes):
        values = values[tuple(slice(None) if i in batch_axes else np.newaxis for i in range(len(shape)))]
    if not fits(values.shape, tuple(n if i in batch_axes else 1 for i, n in enumerate(shape))):
        batch = tuple(shape[i] for i in batch_axes)
        raise ValueError(f"{name} must have the shape of the batch positions, {batch}, or 1 in place of any of these, "
                         f"got {given}")
    return values


def with_all_axes(mask: Any, shape: tuple[int, ...], batch_axes: Sequence[int]) -> Any:
    """View a mask with every axis of an array of the given shape, each of the length of that axis or 1.

    A mask with fewer axes than the array that has the shape of the batch positions, or 1 in place of any of these, lies
    along the batch axes. Any other mask broadcasts as in NumPy: its axes are the last ones.

    Parameters
    ----------
    mask : ndarray or dask.array.Array
    shape : tuple of int
        Dask's unknown sizes, NaN, fit any.
    batch_axes : sequence of int
        In ascending order.

    Returns
    -------
    ndarray or dask.array.Array
        A view of `mask`.

    Raises
    ------
    ValueError
        If it does not broadcast.
    """
    ndim, given = len(shape), mask.shape
    batch = tuple(shape[i] for i in batch_axes)
    if len(given) < ndim and fits(given, batch):
        axes = set(batch_axes)
    elif len(given) <= ndim and fits(given, shape[ndim - len(given):]):
        axes = set(range(ndim - len(given), ndim))
    else:
        raise ValueError(f"where must have the shape of the batch positions, {batch}, or broadcast to that of the "
                         f"batch, {shape}; got {given}")
    return mask[tuple(slice(None) if i in axes else np.newaxis for i in range(ndim))]


def fits(given: tuple[int, ...], shape: tuple[int, ...]) -> bool:
    """Whether each length is that of the shape or 1."""
    return len(given) == len(shape) and all(
        n in (1, m) or math.isnan(n + m) for n, m in zip(given, shape, strict=True)
    )
