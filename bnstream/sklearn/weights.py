"""Weights outside the range that `Moments` accepts. They are scaled by powers of two, which is exact."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from bnstream.core.moments import Moments, moments_from, rows_of
from bnstream.core.rows import M2, M2_LO, N_LO, SQUARES, WEIGHTED_ROWS, N

LEAST, LARGEST = 1e-100, 1e100      # the range of weights that `Moments` accepts
BINADES = 330       # Weights from 2**-330 to 1 are in that range.

Weights = NDArray[np.float64]


class Part(NamedTuple):
    """The moments of some samples, whose weights are those in `moments` times ``2**exponent``."""

    moments: Moments
    exponent: int = 0
    unknown: frozenset[str] = frozenset()
    """The attributes of a scaler whose values are not known. `moments` has 0 in their place."""


def weighted_part(x: Any, weights: Weights | None, moments: Callable[[Any, Weights | None], Moments]) -> Part:
    """The moments of x, computed by the function `moments`, with weights of any size that are not all 0.

    Weights of very different sizes take several passes over x. Each pass gives weight 0 to the rows of the others.
    """
    if weights is None:
        return Part(moments(x, None))
    positive = weights > 0
    if weights.min(where=positive, initial=np.inf) >= LEAST and weights.max() <= LARGEST:
        return Part(moments(x, weights))
    exponents = np.frexp(weights)[1]
    total = None
    while positive.any():
        exponent = int(exponents[positive].max())
        rows = positive & (exponents > exponent - BINADES)
        part = Part(moments(x, np.ldexp(np.where(rows, weights, 0.0), -exponent)), exponent)
        total = part if total is None else merged(total, part)
        positive &= ~rows
    assert total is not None        # Weights of 0 alone are refused before.
    return total


def merged(a: Part, b: Part) -> Part:
    """Merge two parts into a new one, with the greater of their exponents."""
    if a.exponent < b.exponent:
        a, b = b, a
    moments = a.moments.copy().merge(scaled(b.moments, b.exponent - a.exponent))
    return Part(moments, a.exponent, a.unknown | b.unknown)


def scaled(moments: Moments, exponent: int) -> Moments:
    """The moments with all weights multiplied by ``2**exponent``."""
    rows = rows_of(moments)
    if rows is None or exponent == 0:
        return moments
    given = rows
    rows = np.zeros((max(len(given), len(WEIGHTED_ROWS)), *given.shape[1:]))
    rows[:len(given)] = given
    if not rows[SQUARES].any():         # Without weights, each weight is 1.
        rows[SQUARES] = rows[N]
    for row in (N, N_LO, M2, M2_LO):
        rows[row] = np.ldexp(rows[row], exponent)
    rows[SQUARES] = np.ldexp(rows[SQUARES], 2 * exponent)
    return moments_from(rows, moments.axis, moments.nan_policy)
