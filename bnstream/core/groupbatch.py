"""One batch by group: its rows are added to copies of the states of its groups.

    plain rows, weights, masks of rows    -> `GroupSums`, compiled, a piece at a time
    exact statistics, tables, other masks -> the rows of each group, gathered -> `Moments`
    m2 beyond the largest float           -> the same, for the groups that have one
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from bnstream.core.columns import Column, Columns
from bnstream.core.grouping import GroupSums, arranged, portion_rows
from bnstream.core.keys import Keys
from bnstream.core.moments import Moments, moments_from, rows_of
from bnstream.core.rows import EXPONENT, ROWS, SCALED_ROWS, WEIGHTED_ROWS, has_weights

GRANULE = 8         # doubles in the longest vector; a row of a state has a multiple of them
WEIGHTED, HARD = 1, 2       # bits of what is known of a state: n is a sum of weights; m2 may exceed the largest float
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


@dataclass
class Work:
    """Copies of the states of some groups."""

    at: NDArray[np.int64]
    """The place of each among all groups, -1 where it is new."""
    states: NDArray[np.float64] | None
    """(groups, rows of a state, channels with a padding); None where they are exact."""
    flags: NDArray[np.uint8] | None
    moments: list[Moments]
    """Where they are exact."""

    def moments_at(self, g: int, shape: tuple[int, ...], template: Moments) -> Moments:
        assert self.states is not None
        assert self.flags is not None
        return moments_from(rows_at(self.states[g], int(self.flags[g]), shape), template.axis, template.nan_policy)

    def put(self, g: int, m: Moments) -> None:
        """Replace the state of a group. States get more rows if it has more."""
        assert self.states is not None
        assert self.flags is not None
        rows: Any = rows_of(m)
        n, height, pitch = self.states.shape
        if len(rows) > height:
            higher = np.zeros((n, len(rows), pitch))
            higher[:, :height] = self.states
            self.states = higher
        self.states[g] = 0
        self.states[g, :len(rows), :rows[0].size] = rows.reshape(len(rows), -1)
        self.flags[g] = WEIGHTED * has_weights(rows) | HARD * (len(rows) == len(SCALED_ROWS))


def rows_at(state: NDArray[np.float64], flags: int, shape: tuple[int, ...]) -> NDArray[np.float64]:
    """The rows of one state, as `rows_of` has them."""
    size = int(np.prod(shape))
    height = len(WEIGHTED_ROWS) if flags & WEIGHTED else len(ROWS)
    if len(state) > EXPONENT and state[EXPONENT].any():
        height = len(SCALED_ROWS)
    return state[:height, :size].reshape(height, *shape).copy()


def padded(n_channels: int) -> int:
    """Doubles in a row of a state of so many channels."""
    return -(-n_channels // GRANULE) * GRANULE


def add_batch(batch: Batch, work: Work, template: Moments, n_threads: int | None, scratch: list[Any]) -> None:
    """Add the rows of a batch to the states of its groups. `scratch` keeps memory for the next call.

    Raises
    ------
    TypeError, ValueError, OverflowError
        As `Moments.update`, with the group in the message where it is the rows of one.
    """
    if isinstance(batch.values, Columns):
        add_rows(batch, work, template, batch.weights, batch.where, n_threads)
        return
    x, axis = batch.values, batch.axes[0]
    require_readable(x, batch.axes)
    if work.states is None or work.flags is None:
        add_rows(batch, work, template, batch.weights, batch.where, n_threads)
        return
    weights, mask, of_positions = arranged(x, batch.axes, batch.weights, batch.where)
    if not of_positions or (mask is not None and mask.shape[axis] != x.shape[axis]):
        add_rows(batch, work, template, weights, mask, n_threads)
        return
    rows = np.moveaxis(x, axis, 0)
    given: Any = [None if a is None else np.ascontiguousarray(np.moveaxis(a, axis, 0)) for a in (weights, mask)]
    places = (0, *(i + (i < axis) for i in batch.axes[1:]))
    in_place = rows[:1].flags.c_contiguous
    first = rows if in_place else np.ascontiguousarray(rows[:1])
    bits = sum(1 << i for i in places)
    sums = GroupSums(first, given[0], given[1], bits, batch.keys.lookup, template.nan_policy, work.states, work.flags,
                     scratch)
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
        add_left(left, rows, given, places, batch.keys, work, template, sums.portion)


def require_readable(x: NDArray[Any], axes: tuple[int, ...]) -> None:
    """Raise the TypeError of `Moments.update` unless an array holds real numbers."""
    Moments(axes).update(x[(*(slice(None),) * axes[0], slice(0))])


def add_left(
    left: list[tuple[int, int, int, int, int]], rows: NDArray[Any], given: list[Any], places: tuple[int, ...],
    keys: Keys, work: Work, template: Moments, portion: int,
) -> None:
    """Add what `GroupSums` left: the rows of some groups from some portion on, as it adds them."""
    kept = tuple(n for i, n in enumerate(rows.shape) if i not in places)
    by_piece, of_rows = (0, 0), np.empty(0, np.int32)
    for g, _, start, stop, done in left:
        if g == keys.omitted:
            continue
        if by_piece != (start, stop):
            by_piece, of_rows = (start, stop), keys.lookup.places(start, stop)
        chosen = start + np.flatnonzero(of_rows == g)[done:]
        m = work.moments_at(g, kept, template)
        m = moments_from(rows_of(m), places, template.nan_policy)
        for first in range(0, len(chosen), portion):
            some = chosen[first:first + portion]
            weights, mask = (None if a is None else a[some] for a in given)
            with naming(keys, g):
                m.update(np.ascontiguousarray(rows[some]), weights=weights, where=mask)
        work.put(g, m)


@contextmanager
def naming(keys: Keys, g: int) -> Iterator[None]:
    """Name the group in an error about its rows."""
    try:
        yield
    except ValueError as error:
        key = keys.distinct[g]
        raise ValueError(f"group {key.item() if isinstance(key, np.generic) else key!r}: {error}") from error


def add_rows(
    batch: Batch, work: Work, template: Moments, weights: Any, mask: Any, n_threads: int | None
) -> None:
    """Add the rows of each group by themselves."""
    x, axis = batch.values, batch.axes[0]
    shape = x.shape
    if not isinstance(x, Columns):
        weights, mask, _ = arranged(x, batch.axes, weights, mask) if not template.exact else (weights, mask, True)
    kept = tuple(n for i, n in enumerate(shape) if i not in batch.axes)
    row_values = int(np.prod([shape[i] for i in batch.axes[1:]]))
    row_bytes = 8 * len(x.columns) if isinstance(x, Columns) else x.nbytes // shape[axis]
    portion = shape[axis] if work.states is None else portion_rows(row_bytes, row_values)
    for g, chosen in groups_of(batch.keys, shape[axis]):
        m = work.moments[g] if work.states is None else work.moments_at(g, kept, template)
        m = m.copy() if work.states is None else m
        for first in range(0, len(chosen), portion):
            some = chosen[first:first + portion]
            with naming(batch.keys, g):
                m.update(taken(x, some, axis), weights=positions_of(weights, some, shape, batch.axes),
                         where=positions_of(mask, some, shape, batch.axes), n_threads=n_threads)
        if work.states is None:
            work.moments[g] = m
        else:
            work.put(g, m)


def groups_of(keys: Keys, n_rows: int) -> Iterator[tuple[int, NDArray[np.intp]]]:
    """The place of each group in a batch and the numbers of its rows, in their order."""
    places = keys.lookup.places(0, n_rows)
    order = np.argsort(places, kind="stable")
    ends = np.cumsum(np.bincount(places, minlength=len(keys.distinct)))
    for g in range(len(keys.distinct)):
        yield g, order[ends[g - 1] if g else 0:ends[g]]


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
