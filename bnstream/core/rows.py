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

SAFE = 1e290    # bound of a sum of squares, as in large.pyx; 1e16 of them do not overflow

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


def has_weights(rows: Floats) -> bool:
    """Whether n is a sum of weights, not a count."""
    return len(rows) == len(WEIGHTED_ROWS) or (len(rows) == len(SCALED_ROWS) and bool(rows[SQUARES].any()))


def effective_n(rows: Floats) -> Any:
    """n**2 / sum_of_squared_weights, which is n without weights."""
    if not has_weights(rows):
        return rows[N]
    return rows[N] / np.where(rows[SQUARES] > 0, rows[SQUARES], 1) * rows[N]


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


def may_overflow(rows: Floats) -> NDArray[np.bool_]:
    """Where m2 exceeds the largest float, or may do so when more is merged, though mean and m2 are finite."""
    with np.errstate(all="ignore"):
        squares = rows[N] * rows[MEAN] * rows[MEAN] + rows[M2]
    found = np.isfinite(rows[MEAN]) & np.isfinite(rows[M2]) & ~(squares < SAFE)
    return found | (rows[EXPONENT] != 0) if len(rows) > EXPONENT else found


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


def require_possible(rows: Floats, nan_policy: str, prefix: str = "", weighted: bool = False) -> None:
    """Raise ValueError unless there is data that has this state under this policy; `weighted` asks for weights."""
    n, m2 = rows[N], rows[M2]
    if not ((n >= 0) & (n < np.inf)).all():
        raise ValueError(f"{prefix}n must be finite and not negative, got {n.min():.16g} to {n.max():.16g}")
    if (m2 < 0).any():
        raise ValueError(f"{prefix}m2, a sum of squares, must not be negative, got {m2.min()}")
    if weighted or has_weights(rows):
        require_weights(rows, prefix)
    elif ((n == 1) & (m2 > 0)).any():
        raise ValueError(f"{prefix}m2 must be 0 where {prefix}n is 1, got {m2[n == 1].max()}")
    if len(rows) > EXPONENT:
        require_exponents(rows, prefix)
    if ((rows[MEAN:] != 0) & (n == 0)).any():
        raise ValueError(f"{prefix}mean and {prefix}m2 must be 0 where {prefix}n is 0")
    finite = np.isfinite(rows[MEAN]) & np.isfinite(m2)
    if nan_policy != "propagate" and not finite.all():
        raise ValueError(f"{prefix}mean and {prefix}m2 must be finite under nan_policy {nan_policy!r}, got NaN or inf")
    for high, low in ((MEAN, MEAN_LO), (M2, M2_LO)):
        require_rounding(rows, high, low, prefix)


def require_weights(rows: Floats, prefix: str) -> None:
    """Raise ValueError unless the sums of weights and of their squares fit."""
    n, squares = rows[N], rows[SQUARES]
    require_rounding(rows, N, N_LO, prefix)
    with np.errstate(over="ignore"):
        possible = (squares <= n * n * (1 + 1e-12)) & (squares < np.inf) & (squares > 0)
    # The squares of the smallest sums, which scaling down leaves, are too small for a float.
    if not np.where(n < 1e-140, (squares >= 0) & (squares <= n) & (squares < 1e-140), possible).all():
        name = prefix + WEIGHTED_ROWS[SQUARES]
        raise ValueError(f"{name} must be positive where {prefix}n is, and at most {prefix}n**2, got {squares.min()} "
                         f"to {squares.max()}")


def require_rounding(rows: Floats, high: int, low: int, prefix: str) -> None:
    """Raise ValueError unless the lower half of a pair of doubles is below the last digit of the upper one."""
    bound = 2.0**-52 * np.abs(rows[high]) + np.finfo(np.float64).tiny
    if (np.isfinite(rows[high]) & ~(np.abs(rows[low]) <= bound)).any():
        raise ValueError(f"{prefix}{WEIGHTED_ROWS[low]} must be the rounding error of {prefix}{WEIGHTED_ROWS[high]}, "
                         "got a larger value")
