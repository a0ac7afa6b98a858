"""The states of groups in other arrangements: as one Moments of groups by channels, and joined from columns."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from bnstream.core import exact
from bnstream.core.blocks import side_by_side
from bnstream.core.groupbatch import HARD, WEIGHTED, padded
from bnstream.core.grouped import GroupedMoments, as_labels
from bnstream.core.moments import Moments, exact_moments_from, moments_from, rows_of, sums_of
from bnstream.core.rows import EXPONENT, N_LO, ROWS, SCALED_ROWS, SQUARES, WEIGHTED_ROWS


def stacked(g: GroupedMoments) -> tuple[Moments, list[int]]:
    """A Moments whose channels are (groups, \\*channels), and the places of the groups that have weights.

    It is empty if there are no groups.
    """
    settings: Any = {"axis": g.axis, "nan_policy": g.nan_policy}
    if g.shape is None or not len(g):
        return Moments(exact=g.exact, **settings), []
    if g.exact:
        sums = exact.side_by_side([of_one for m in g._moments if (of_one := sums_of(m)) is not None])
        return exact_moments_from(sums, (len(g), *g.shape), **settings), []
    rows = g._rows()
    weighted = np.flatnonzero(g._flags[:len(g)] & WEIGHTED).tolist()
    height = len(SCALED_ROWS) if rows[EXPONENT].any() else len(WEIGHTED_ROWS) if weighted else len(ROWS)
    if not weighted:
        rows[N_LO:SQUARES + 1] = 0
    return moments_from(rows[:height], **settings), weighted


def unstacked(
    g: GroupedMoments, whole: Moments, keys: Sequence[Any], kinds: tuple[str, ...] | None, weighted: Iterable[int]
) -> None:
    """Fill an empty object with what `stacked` returned, and the keys."""
    if whole.shape is None:
        return
    n, shape = len(keys), whole.shape[1:]
    size = math.prod(shape)
    if whole.exact:
        sums: Any = sums_of(whole)
        g._moments = [exact_moments_from(sums[i * size:(i + 1) * size], shape, g.axis, g.nan_policy, g.names)
                      for i in range(n)]
    else:
        rows: Any = rows_of(whole)
        states = np.zeros((n, len(rows), padded(size)))
        states[:, :, :size] = rows.reshape(len(rows), n, size).transpose(1, 0, 2)
        flags = np.zeros(n, np.uint8)
        flags[list(weighted)] = WEIGHTED
        if len(rows) > EXPONENT:
            flags[states[:, EXPONENT].any(1)] |= HARD
        if len(rows) > SQUARES:
            plain = (flags & WEIGHTED) == 0
            states[plain, N_LO:SQUARES + 1] = 0
        g._states, g._flags = states, flags
    g.shape, g.kinds = shape, kinds
    g._index.add(as_labels(list(keys), kinds))
    g._quick = not g.exact and g._index.numbers is None


def joined(parts: Sequence[GroupedMoments], names: Sequence[str] | None) -> GroupedMoments:
    """The statistics of several columns, each of the same groups, as those of channels side by side."""
    first = parts[0]
    g = GroupedMoments(0, nan_policy=first.nan_policy, missing_keys=first.missing_keys, names=names,
                       key_names=first.key_names, exact=first.exact)
    if not len(first):
        return g
    wholes, weighted = [], set()
    for part in parts:
        at = part._index.find(first._index.whole())
        whole, of_part = stacked(part)
        wholes.append(chosen(whole, at, slice(None)))
        weighted |= set(np.flatnonzero(np.isin(at, of_part)).tolist())
    unstacked(g, side_by_side(wholes, [1, len(wholes)]), list(first), first.kinds, sorted(weighted))
    return g


def parted(g: GroupedMoments, sizes: Iterable[tuple[int, ...]]) -> list[GroupedMoments]:
    """The statistics of neighbouring channels, of these shapes: the inverse of `joined`."""
    whole, weighted = stacked(g)
    found, begin = [], 0
    for shape in sizes:
        part = GroupedMoments(nan_policy=g.nan_policy, missing_keys=g.missing_keys, key_names=g.key_names,
                              exact=g.exact)
        stop = begin + math.prod(shape)
        if whole.shape is not None:
            of_part = chosen(whole, np.arange(len(g)), slice(begin, stop))
            unstacked(part, of_part, list(g), g.kinds, weighted)
            part.shape = shape
        found.append(part)
        begin = stop
    return found


def chosen(whole: Moments, at: Any, channels: slice) -> Moments:
    """Some groups and channels of what `stacked` returned, the channels in one axis."""
    assert whole.shape is not None
    n, size = whole.shape[0], math.prod(whole.shape[1:])
    order = np.arange(n * size).reshape(n, size)[at, channels]
    if whole.exact:
        sums: Any = sums_of(whole)
        return exact_moments_from(sums[order.ravel()], order.shape, 0, whole.nan_policy)
    rows: Any = rows_of(whole)
    return moments_from(np.ascontiguousarray(rows.reshape(len(rows), -1)[:, order]), nan_policy=whole.nan_policy)
