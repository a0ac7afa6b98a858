"""The arithmetic of exact statistics in ints, which have as many digits as it takes."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bnstream.core.rows import POWER

NUMBERS, NANS, PLUS_INFS, MINUS_INFS = range(4)     # rows of the counts


def integers(limbs: NDArray[np.uint64]) -> NDArray[Any]:
    """The ints of rows of limbs."""
    data, size = limbs.astype("<u8").tobytes(), 8 * limbs.shape[1]
    found = np.empty(len(limbs), object)
    found[:] = [int.from_bytes(data[at:at + size], "little", signed=True) for at in range(0, len(data), size)]
    return found


def quotient(numerator: int, denominator: int, unit: int) -> float:
    """``numerator / denominator * 2**unit``, correctly rounded. The division of ints is."""
    try:
        return (numerator << max(unit, 0)) / (denominator << max(-unit, 0))
    except OverflowError:
        return math.inf if numerator > 0 else -math.inf


def square_root(numerator: int, denominator: int, unit: int) -> float:
    """Its square root, correctly rounded: from the floor of a root of at least 66 bits, and whether it is more."""
    if unit % 2:
        numerator, unit = numerator << 1, unit - 1
    shift = max(0, 132 + denominator.bit_length() - numerator.bit_length())
    shift += shift % 2
    whole, rest = divmod(numerator << shift, denominator)
    root = math.isqrt(whole)
    inexact = rest != 0 or root * root != whole
    return quotient(2 * root + inexact, 1, (unit - shift) // 2 - 1)


def pair_of(numerator: int, denominator: int, unit: int) -> tuple[float, float]:
    """The same as a sum of two doubles."""
    whole = quotient(numerator, denominator, unit)
    a, b = whole.as_integer_ratio()
    rest = (numerator << max(unit, 0)) * b - (denominator << max(-unit, 0)) * a
    return whole, quotient(rest, (denominator << max(-unit, 0)) * b, 0)


def fewest_limbs(values: NDArray[Any], unit: int) -> tuple[NDArray[np.uint64], int]:
    """Ints as rows of limbs, lower limbs first, in the largest unit of which all are multiples."""
    union = 0
    for value in values:
        union |= abs(value)
    zeros = max(0, (union & -union).bit_length() - 1)
    n_limbs = (union >> zeros).bit_length() // 64 + 1
    data = b"".join((value >> zeros).to_bytes(8 * n_limbs, "little", signed=True) for value in values)
    return np.frombuffer(data, "<u8").reshape(len(values), n_limbs).astype(np.uint64), unit + zeros if union else 0


def hexadecimal(value: int, unit: int) -> str:
    """A number as an odd integer times a power of two."""
    if value == 0:
        return "0"
    zeros = (value & -value).bit_length() - 1
    return f"{value >> zeros:x}p{unit + zeros}"


def rows_of(n: int, s: int, s_unit: int, spread: int, unit: int) -> tuple[float, ...]:
    """The eight rows of a plain state of n numbers with this sum, and n times this m2."""
    exponent = POWER if math.isinf(quotient(spread, n, unit)) else 0
    mean, m2 = pair_of(s, n, s_unit - exponent), pair_of(spread, n, unit - 2 * exponent)
    return n, *mean, *m2, 0, n, exponent
