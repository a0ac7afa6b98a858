"""The states of groups by column: joined as channels side by side, and parted."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from bnstream.core.blocks import in_order, side_by_side
from bnstream.core.groups.grouped import GroupedMoments
from bnstream.core.moments import Moments


def joined(parts: Sequence[GroupedMoments], names: Sequence[str] | None) -> GroupedMoments:
    """The statistics of several columns, each of the same groups, as those of channels side by side."""
    first = parts[0]
    g = GroupedMoments(**{**first._settings(), "names": names})
    if not len(first):
        return g
    wholes, weighted = [], set()
    for part in parts:
        at = part._index.find(first._index.whole())
        whole, of_part = part._stacked()
        wholes.append(chosen(whole, at, slice(None)))
        weighted |= set(np.flatnonzero(np.isin(at, of_part)).tolist())
    g._fill(side_by_side(wholes, [1, len(wholes)]), sorted(weighted), list(first), first.kinds)
    return g


def parted(g: GroupedMoments, sizes: Iterable[tuple[int, ...]]) -> list[GroupedMoments]:
    """The statistics of neighboring channels, of these shapes: the inverse of `joined`."""
    whole, weighted = g._stacked()
    found, begin = [], 0
    for shape in sizes:
        part = GroupedMoments(**{**g._settings(), "axis": 0, "names": None})
        stop = begin + math.prod(shape)
        if whole.shape is not None:
            part._fill(chosen(whole, np.arange(len(g)), slice(begin, stop), shape), weighted, list(g), g.kinds)
        found.append(part)
        begin = stop
    return found


def chosen(whole: Moments, at: Any, channels: slice, shape: tuple[int, ...] = (-1,)) -> Moments:
    """Some groups and channels of what `GroupedMoments._stacked` returned, the channels in this shape."""
    assert whole.shape is not None
    n, size = whole.shape[0], math.prod(whole.shape[1:])
    order = np.arange(n * size).reshape(n, size)[at, channels]
    return in_order([whole], order.reshape(len(order), *shape), 0, None)
