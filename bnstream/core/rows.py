"""The rows of a state: their names, which state files use, their places, and states made of rows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

ROWS = ("n", "mean", "mean_lo", "m2", "m2_lo")
WEIGHTED_ROWS = (*ROWS, "n_lo", "sum_of_squared_weights")
SCALED_ROWS = (*WEIGHTED_ROWS, "exponent")
N, MEAN, MEAN_LO, M2, M2_LO, N_LO, SQUARES, EXPONENT = range(len(SCALED_ROWS))
POWER = 700     # The exponent of a channel whose m2 exceeds the largest float: mean / 2**700 and m2 / 4**700 are kept.

Floats = NDArray[np.float64]


def of_one_height(states: Sequence[Floats]) -> list[Floats]:
    """States of different channels, all with the rows of the one that has most."""
    n_rows = max(map(len, states))
    if all(len(state) == n_rows for state in states) and n_rows < len(SCALED_ROWS):
        return [*states]
    weighted = [len(state) > SQUARES and bool(state[SQUARES].any()) for state in states]
    result = []
    for state, has_weights in zip(states, weighted, strict=True):
        rows = np.zeros((n_rows, *state.shape[1:]))
        rows[:len(state)] = state
        if any(weighted) and not has_weights:
            rows[SQUARES] = rows[N]         # Each value has the weight 1.
        result.append(rows)
    return result


def with_variance(rows: Floats, var: Any) -> Floats:
    """The rows of a state with m2 set to ``var * n``, and with exponents where that exceeds the largest float."""
    with np.errstate(over="ignore"):
        rows[M2] = var * rows[N]
    over = np.isinf(rows[M2]) & np.isfinite(var)
    if not over.any():
        return rows
    rows = np.concatenate([rows, np.zeros((len(SCALED_ROWS) - len(rows), *rows.shape[1:]))])
    rows[EXPONENT] = np.where(over, POWER, 0)
    rows[MEAN] = np.where(over, np.ldexp(rows[MEAN], -POWER), rows[MEAN])
    rows[M2] = np.where(over, np.ldexp(var, -POWER) * np.ldexp(rows[N], -POWER), rows[M2])
    return rows


def without_exponent(rows: Floats) -> Floats:
    """The rows up to EXPONENT, with the means and m2 of the data itself, inf where these exceed the largest float."""
    if len(rows) <= EXPONENT:
        return rows
    exponent = rows[EXPONENT].astype(np.int32)
    rows = rows[:EXPONENT].copy()
    with np.errstate(over="ignore"):
        rows[[MEAN, MEAN_LO]] = np.ldexp(rows[[MEAN, MEAN_LO]], exponent)
        rows[[M2, M2_LO]] = np.ldexp(rows[[M2, M2_LO]], 2 * exponent)
    return rows


def require_exponents(rows: Floats, prefix: str = "") -> None:
    """Raise ValueError unless exponents are 0, or POWER where the state cannot do without."""
    exponent = rows[EXPONENT]
    own = np.where(exponent == POWER, rows, 0)
    with np.errstate(over="ignore"):
        possible = np.isfinite(own[M2]) & np.isinf(np.ldexp(own[M2], 2 * POWER))
        possible &= np.isfinite(np.ldexp(own[MEAN], POWER))
    if not ((exponent == 0) | (exponent == POWER) & possible).all():
        raise ValueError(f"{prefix}exponent must be 0, or {POWER} where {prefix}m2 * 4**{POWER} exceeds the largest "
                         f"float and {prefix}mean * 2**{POWER} does not")
