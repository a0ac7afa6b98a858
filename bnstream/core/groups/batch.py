"""One batch by group: its rows are added to copies of the states of its groups.

    plain rows, weights, masks of rows    -> `GroupSums`, compiled, a piece at a time
    exact, tracked, tables, other masks   -> the rows of each group, gathered -> `Moments`
    m2 beyond the largest float           -> the same, for the groups that have one
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from bnstream.core.columns import Column, Columns
from bnstream.core.groups.keys import Keys
from bnstream.core.groups.states import States
from bnstream.core.groups.sums import GroupSums, arranged, portion_rows
from bnstream.core.masks import with_all_axes
from bnstream.core.moments import Moments, moments_from, rows_of

KEPT_BYTES = 1 << 27        # bytes of memory that an object keeps from one update to the next, at most
BLOCK_BYTES = 1 << 26       # bytes of rows that are made contiguous at a time


class Batch(NamedTuple):
    """A batch with the keys of its rows."""

    values: Any
    """An array, or `Columns`."""
    axes: tuple[int, ...]
    """The batch axes, ascending; the keys lie along the first."""
    keys: Keys
    weights: Any
    where: Any


def add_batch(batch: Batch, states: States, n_threads: int | None, scratch: list[Any]) -> None:
    """Add the rows of a batch to the states of its groups. `scratch` keeps memory for the next call.

    Raises
    ------
    TypeError, ValueError, OverflowError
        As `Moments.update`, with the group in the message where it is the rows of one.
    """
    x, axis = batch.values, batch.axes[0]
    if not isinstance(x, Columns):
        require_readable(x, batch.axes)
    if isinstance(x, Columns) or states.moments is not None:
        add_rows(batch, states, n_threads)
        return
    weights, mask, of_positions = arranged(x, batch.axes, batch.weights, batch.where)
    if not of_positions or (mask is not None and mask.shape[axis] != x.shape[axis]):
        add_rows(batch, states, n_threads)
        return
    rows = np.moveaxis(x, axis, 0)
    given: Any = [None if a is None else np.ascontiguousarray(np.moveaxis(a, axis, 0)) for a in (weights, mask)]
    places = (0, *(i + (i < axis) for i in batch.axes[1:]))
    in_place = rows[:1].flags.c_contiguous
    first = rows if in_place else np.ascontiguousarray(rows[:1])
    bits = sum(1 << i for i in places)
    sums = GroupSums(first, given[0], given[1], bits, batch.keys.lookup, states.like.nan_policy, states.table,
                     states.flags, scratch)
    n = len(rows)
    step = n if in_place else max(1, BLOCK_BYTES // max(1, sums.piece * rows[0].nbytes)) * sums.piece
    left = []
    for start in range(0, n, step):
        stop = min(n, start + step)
        if not in_place:
            sums.read(np.ascontiguousarray(rows[start:stop]), start)
        left += sums.add(start, stop, n_threads)
    if sum(array.nbytes for array in scratch) > KEPT_BYTES:
        scratch.clear()
    if left:
        add_left(left, rows, given, places, batch.keys, states, sums.portion)


def require_readable(x: NDArray[Any], axes: tuple[int, ...]) -> None:
    """Raise the TypeError of `Moments.update` unless an array holds real numbers."""
    Moments(axes).update(x[(*(slice(None),) * axes[0], slice(0))])


def add_left(
    left: list[tuple[int, int, int, int, int]], rows: NDArray[Any], given: list[Any], places: tuple[int, ...],
    keys: Keys, states: States, portion: int,
) -> None:
    """Add what `GroupSums` left: the rows of some groups from some portion on, in the same portions."""
    by_piece, of_rows = (0, 0), np.empty(0, np.int32)
    for g, _, start, stop, done in left:
        if g == keys.omitted:
            continue
        if by_piece != (start, stop):
            by_piece, of_rows = (start, stop), keys.lookup.places(start, stop)
        chosen = start + np.flatnonzero(of_rows == g)[done:]
        m = moments_from(rows_of(states.get(g)), places, states.like.nan_policy)
        for first in range(0, len(chosen), portion):
            some = chosen[first:first + portion]
            weights, mask = (None if a is None else a[some] for a in given)
            with naming(keys, g):
                m.update(np.ascontiguousarray(rows[some]), weights=weights, where=mask)
        states.put(g, m)


@contextmanager
def naming(keys: Keys, g: int) -> Iterator[None]:
    """Name the group in an error about its rows."""
    try:
        yield
    except ValueError as error:
        key = keys.distinct[g]
        raise ValueError(f"group {key.item() if isinstance(key, np.generic) else key!r}: {error}") from error


def add_rows(batch: Batch, states: States, n_threads: int | None) -> None:
    """Add the rows of each group by themselves."""
    x, axis, weights, mask = batch.values, batch.axes[0], batch.weights, batch.where
    shape = x.shape
    if not isinstance(x, Columns) and not states.like.exact:
        weights, mask, _ = arranged(x, batch.axes, weights, mask)
    elif mask is not None:
        mask = with_all_axes(np.asarray(mask), shape, batch.axes)      # as the whole batch decides, not some rows
    row_values = math.prod(shape[i] for i in batch.axes[1:])
    row_bytes = 8 * len(x.columns) if isinstance(x, Columns) else x.nbytes // shape[axis]
    portion = shape[axis] if states.moments is not None else portion_rows(row_bytes, row_values)
    for g, chosen in enumerate(batch.keys.rows(shape[axis])):
        m = states.get(g)
        for first in range(0, len(chosen), portion):
            some = chosen[first:first + portion]
            with naming(batch.keys, g):
                m.update(taken(x, some, axis), weights=positions_of(weights, some, shape, batch.axes),
                         where=positions_of(mask, some, shape, batch.axes), n_threads=n_threads)
        states.put(g, m)


def taken(x: Any, some: NDArray[np.intp], axis: int) -> Any:
    """Some rows of an array, contiguous, or of `Columns`."""
    if isinstance(x, Columns):
        return Columns([Column(name, values[some], None if missing is None else missing[some])
                        for name, values, missing in x.columns], x.ndim)
    return np.ascontiguousarray(np.take(x, some, axis))


def positions_of(a: Any, some: NDArray[np.intp], shape: tuple[int, ...], axes: tuple[int, ...]) -> Any:
    """The weights or the mask of some rows."""
    if a is None:
        return None
    a = np.asarray(a)
    if a.ndim == len(axes) and a.ndim != len(shape):
        axis = 0
    elif a.ndim == len(shape):
        axis = axes[0]
    else:
        axis = axes[0] - (len(shape) - a.ndim)
    if axis < 0 or a.shape[axis] == 1:
        return a
    return np.take(a, some, axis)
