"""The states of groups, in one table, or where they are exact or more is tracked in a list."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bnstream.core.blocks import apart, empty_of_shape, in_order
from bnstream.core.groups.sums import HARD, HAS_WEIGHTS, merge_groups, pitch_of
from bnstream.core.moments import Moments, moments_from, rows_of, tracked_of, with_tracked
from bnstream.core.rows import EXPONENT, N_LO, ROWS, SCALED_ROWS, SQUARES, WEIGHTED_ROWS, N, has_weights, may_overflow

MOST_SPARE = 1 << 16        # groups that a table has room for beyond those it holds


class States:
    """The states of some groups.

    Attributes
    ----------
    like : Moments
        An empty one, with the settings of each group.
    shape : tuple of int
        The shape of the channels.
    table : ndarray of float64
        (groups, rows of a state, channels with a padding), with room for more groups.
    flags : ndarray of uint8
        Of each group, HAS_WEIGHTS and HARD.
    moments : list of Moments or None
        In place of the table where statistics are exact, or track more than it has rows for.
    """

    def __init__(self, like: Moments, shape: tuple[int, ...] = (), n: int = 0, height: int = len(ROWS)) -> None:
        self.like, self.shape = like, shape
        self.size = math.prod(shape)
        self.moments = [like.copy() for _ in range(n)] if like.exact or like.track else None
        n = n if self.moments is None else 0
        self.table: NDArray[np.float64] = np.zeros((n, height, pitch_of(self.size)))
        self.flags: NDArray[np.uint8] = np.zeros(n, np.uint8)

    @property
    def n_all(self) -> int:
        """The groups that the table or the list has room for."""
        return len(self.table) if self.moments is None else len(self.moments)

    @property
    def height(self) -> int:
        """The rows of a state."""
        return self.table.shape[1]

    def copy(self, n: int, like: Moments) -> States:
        """A copy of the first n, with the settings of `like`."""
        new = States(like, self.shape)
        new.table, new.flags = self.table[:n].copy(), self.flags[:n].copy()
        new.moments = None if self.moments is None else [m.copy() for m in self.moments]
        return new

    def some(self, at: NDArray[np.int64], shape: tuple[int, ...], weighted: bool, n_more: int = 0) -> States:
        """Copies of the states at some places, empty ones where a place is -1, and so many more empty ones."""
        found = States(self.like, shape, len(at) + n_more, max(self.height, len(WEIGHTED_ROWS if weighted else ROWS)))
        known = np.flatnonzero(at >= 0)
        if self.moments is not None and found.moments is not None:
            for i in known:
                found.moments[i] = self.moments[at[i]].copy()
        elif known.size:
            found.table[known, :self.height] = self.table[at[known]]
            found.flags[known] = self.flags[at[known]]
        return found

    def with_room(self, at: NDArray[np.int64], others: States, n_all: int) -> tuple[States, NDArray[np.int64]]:
        """All n_all states, in the form of others that belong to these places; and the places at which the others are
        still to replace what is there."""
        n = len(at)
        new = States(others.like, others.shape)
        if self.moments is not None and others.moments is not None:
            new.moments = self.moments + [others.like] * (n_all - len(self.moments))
            for place, m in zip(at, others.moments, strict=False):
                new.moments[place] = m
            return new, at[:0]
        if n == n_all and (at == np.arange(n_all)).all():
            new.table, new.flags = others.table[:n], others.flags[:n]
            return new, at[:0]
        new.table, new.flags = self.table, self.flags
        if n_all > len(self.table) or self.table.shape[1:] != others.table.shape[1:]:
            n_old = min(len(self.table), n_all)
            room = max(n_all, min(2 * len(self.table), n_all + MOST_SPARE))
            new.table, new.flags = np.zeros((room, *others.table.shape[1:])), np.zeros(room, np.uint8)
            if n_old:
                new.table[:n_old, :self.height] = self.table[:n_old]
                new.flags[:n_old] = self.flags[:n_old]
        return new, at

    def merge(self, others: States, place: Callable[[int], str] = str) -> None:
        """Add other states to the first of these. `place` begins the message of an error."""
        left: Iterable[int] = range(others.n_all)
        if self.moments is None:
            others.grow(self.height)
            self.grow(others.height)
            left = merge_groups(self.table[:others.n_all], self.flags[:others.n_all], others.table, others.flags,
                                self.like.nan_policy == "propagate")
        for i in left:
            m = self.get(i)
            try:
                m.merge(others.get(i))
            except ValueError as error:
                raise ValueError(f"{place(i)}{error}") from error
            self.put(i, m)

    def total(self, n: int) -> Moments:
        """The statistics of the first n groups together."""
        states = self
        while n > 1:
            states, others = (states.some(np.arange(i, n, 2), self.shape, False) for i in (0, 1))
            states.merge(others)
            n -= n // 2
        return states.get(0) if n else self.like.copy()

    def as_in(self, like: Moments, n: int) -> States:
        """The first n states with the settings of `like`, which may track less."""
        if (like.exact, like.track) == (self.like.exact, self.like.track):
            same = copy.copy(self)
            same.like = like
            return same
        if not n:
            return States(like, self.shape)
        whole: Any = self.stacked(n)
        less = Moments(nan_policy="propagate", exact=like.exact, track=like.track)
        whole.merge(empty_of_shape(whole.shape, less))
        return States.of_stack(whole, like, self.weighted(n))

    def get(self, i: int) -> Moments:
        """The statistics of one group, a copy."""
        if self.moments is not None:
            m = self.moments[i].copy()
            m.names = self.like.names
            return m
        height = len(WEIGHTED_ROWS) if self.flags[i] & HAS_WEIGHTS else len(ROWS)
        if self.height > EXPONENT and self.table[i, EXPONENT].any():
            height = len(SCALED_ROWS)
        rows = self.table[i, :height, :self.size].reshape(height, *self.shape).copy()
        return moments_from(rows, self.like.axis, self.like.nan_policy, self.like.names)        # type: ignore[arg-type]

    def put(self, i: int, m: Moments) -> None:
        """Replace the state of one group."""
        if self.moments is not None:
            self.moments[i] = m
            return
        rows: Any = rows_of(m)
        self.grow(len(rows))
        self.table[i] = 0
        self.table[i, :len(rows), :self.size] = rows.reshape(len(rows), -1)
        self.flags[i] = HAS_WEIGHTS * has_weights(rows) | HARD * bool(may_overflow(rows).any())

    def grow(self, height: int) -> None:
        """Give states more rows, of zeros, unless they have as many."""
        if height > self.height:
            self.table = np.concatenate(
                [self.table, np.zeros((len(self.table), height - self.height, self.table.shape[2]))], axis=1)

    def stacked(self, n: int) -> Moments:
        """A Moments of the first n groups whose channels are (groups, \\*channels); empty if there are no groups."""
        settings: Any = {"axis": self.like.axis, "nan_policy": self.like.nan_policy}
        if not n:
            return Moments(exact=self.like.exact, track=self.like.track, **settings)
        if self.moments is not None:
            return in_order(self.moments[:n], np.arange(n * self.size).reshape(n, *self.shape), self.like.axis, None)
        flags = self.flags[:n]
        weighted = bool((flags & HAS_WEIGHTS).any())
        scaled = self.height > EXPONENT and bool(self.table[:n, EXPONENT].any())
        height = len(SCALED_ROWS if scaled else WEIGHTED_ROWS if weighted else ROWS)
        rows = np.zeros((height, n, self.size))
        some = min(height, self.height)
        rows[:some] = self.table[:n, :some, :self.size].transpose(1, 0, 2)
        if height > SQUARES:
            plain = (flags & HAS_WEIGHTS) == 0
            rows[SQUARES, plain] = rows[N, plain] if weighted else 0
            rows[N_LO, plain] = 0
        return moments_from(rows.reshape(height, n, *self.shape), **settings)

    @classmethod
    def of_stack(cls, whole: Moments, like: Moments, weighted: Sequence[int]) -> States:
        """The states that `stacked` joined; `weighted` holds the places of groups whose n is a sum of weights."""
        assert whole.shape is not None
        n, *shape = whole.shape
        if whole.exact:
            states = cls(like, tuple(shape))
            states.moments = apart(whole, [states.shape] * n, like.axis)
            return states
        if like.track:
            states, plain = cls(like, tuple(shape)), cls.of_stack(whole, plain_of(like), weighted)
            arrays = tracked_of(whole)
            states.moments = [with_tracked(plain.get(i), {name: values[i, ...] for name, values in arrays.items()})
                              for i in range(n)]
            return states
        rows: Any = rows_of(whole)
        states = cls(like, tuple(shape), n, len(rows))
        states.table[:, :, :states.size] = rows.reshape(len(rows), n, states.size).transpose(1, 0, 2)
        states.flags[list(weighted)] = HAS_WEIGHTS
        states.flags[may_overflow(rows).reshape(n, -1).any(1)] |= HARD
        if len(rows) > SQUARES:
            states.table[(states.flags & HAS_WEIGHTS) == 0, N_LO:SQUARES + 1] = 0
        return states

    def weighted(self, n: int) -> list[int]:
        """The places of those of the first n groups whose n is a sum of weights."""
        if self.moments is not None:
            return [i for i, m in enumerate(self.moments[:n]) if m.n.dtype == np.float64 and not m.exact]
        return np.flatnonzero(self.flags[:n] & HAS_WEIGHTS).tolist()


def plain_of(like: Moments) -> Moments:
    """An empty Moments with the same settings that tracks nothing."""
    policy: Any = like.nan_policy
    return Moments(like.axis, nan_policy=policy, names=like.names)
