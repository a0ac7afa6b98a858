"""Blocks of channels: the statistics of each, plain or exact, joined to those of all channels."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bnstream.core import exact
from bnstream.core.moments import Moments, exact_moments_from, moments_from, rows_of, sums_of, tracked_of
from bnstream.core.rows import of_one_height


def side_by_side(parts: Sequence[Moments], grid: Sequence[int], names: Iterable[str] | None = None) -> Moments:
    """Join the statistics of blocks of channels, in the order of a grid of blocks.

    A block of shape () is one channel. Blocks without data or without channels are left out. The batch axes and the
    policy are those of the first part.
    """
    order = joined(list(numbered(parts, len(grid))), grid)
    return in_order(parts, order, parts[0].axis, names)


def in_order(
    parts: Sequence[Moments], order: NDArray[np.intp] | None, axis: Any, names: Iterable[str] | None
) -> Moments:
    """The statistics of channels, which are counted through all parts, in an order and of its shape.

    The policy is that of the first part. Without an order there are no channels.
    """
    settings: Any = {"axis": axis, "nan_policy": parts[0].nan_policy, "names": names}
    if order is None:
        return Moments(exact=parts[0].exact, **settings)
    settings["tracked"] = {name: values[order] for name, values in tracked_together(parts).items()}
    if parts[0].exact:
        sums = exact.side_by_side([of_part for part in parts if (of_part := sums_of(part)) is not None])
        return exact_moments_from(sums[order.ravel()], order.shape, **settings)
    states = [rows.reshape(len(rows), -1) for part in parts if (rows := rows_of(part)) is not None]
    return moments_from(np.concatenate(of_one_height(states), axis=1)[:, order], **settings)


def tracked_together(parts: Sequence[Moments]) -> dict[str, NDArray[Any]]:
    """What all parts with data track, of their channels in one axis."""
    each = [tracked_of(part) for part in parts if part.shape is not None]
    names = [name for name in each[0] if all(name in of_part for of_part in each)]
    return {name: np.concatenate([of_part[name].ravel() for of_part in each]) for name in names}


def apart(m: Moments, shapes: Iterable[tuple[int, ...]], axis: Any = 0) -> list[Moments]:
    """The moments of blocks of channels that follow each other, of these shapes: the inverse of `side_by_side`."""
    state: Any = sums_of(m) if m.exact else rows_of(m)
    state = state if m.exact else state.reshape(len(state), -1)
    tracked = {name: values.ravel() for name, values in tracked_of(m).items()}
    blocks, first = [], 0
    for shape in shapes:
        stop = first + math.prod(shape)
        settings: Any = {
            "axis": axis, "nan_policy": m.nan_policy,
            "tracked": {name: values[first:stop].reshape(shape) for name, values in tracked.items()},
        }
        if m.exact:
            blocks.append(exact_moments_from(state[first:stop], shape, **settings))
        else:
            blocks.append(moments_from(state[:, first:stop].reshape(len(state), *shape), **settings))
        first = stop
    return blocks


def channels_of(m: Moments, channels: Sequence[int]) -> Moments:
    """The moments of some of the channels, in this order."""
    settings: Any = {
        "axis": m.axis, "nan_policy": m.nan_policy, "names": m.names and [m.names[c] for c in channels],
        "tracked": {name: values[list(channels)] for name, values in tracked_of(m).items()},
    }
    if m.exact:
        sums: Any = sums_of(m)
        return exact_moments_from(sums[list(channels)], (len(channels),), **settings)
    rows: Any = rows_of(m)
    return moments_from(rows[:, list(channels)], **settings)


def numbered(parts: Iterable[Moments], ndim: int) -> Iterable[NDArray[np.intp] | None]:
    """The channels of each block as an array of its shape, counted through all blocks; None without data."""
    first = 0
    for part in parts:
        if part.shape is None:
            yield None
            continue
        stop = first + math.prod(part.shape)
        yield np.arange(first, stop).reshape(part.shape or (1,) * ndim)
        first = stop


def joined(blocks: list[NDArray[np.intp] | None], grid: Sequence[int]) -> NDArray[np.intp] | None:
    """The array that a grid of blocks makes; None without any."""
    for axis in reversed(range(len(grid))):
        n = grid[axis]
        rows = [[block for block in blocks[i:i + n] if block is not None] for i in range(0, len(blocks), n)]
        blocks = [np.concatenate(row, axis) if row else None for row in rows]
    return blocks[0]


def empty_of_shape(shape: tuple[int, ...], m: Moments) -> Moments:
    """A `Moments` of nothing yet, with batch axis 0, as one of no values of channels of this shape."""
    nothing = np.zeros((1, *shape))
    return m.update(nothing, where=nothing > 0)
