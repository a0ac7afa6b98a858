"""Exact statistics: n, the sum and the sum of squares of every channel as integers, and what follows from them.

Addition of integers is associative and commutative: equal data gives equal sums, whatever its cut, order or layout.
Mean and variance are ratios of integers, rounded once.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterable, Sequence
from fractions import Fraction
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from bnstream.core.rows import POWER

NUMBERS, NANS, PLUS_INFS, MINUS_INFS = range(4)


class Limbs(NamedTuple):
    """What a kernel returns: for each channel two's complement numbers, lower limbs first.

    The sum has the first `s_limbs` and the unit ``2**s_unit``; the sum of squares has the others and ``2**q_unit``.
    """

    limbs: NDArray[np.uint64]
    counts: NDArray[np.int64]
    s_limbs: int
    s_unit: int
    q_unit: int


class ExactSums:
    """Counts, sums and sums of squares of channels. An object does not change.

    Parameters
    ----------
    counts : ndarray of int64
        Of shape (4, channels): numbers, NaN, inf and -inf.
    s, q : ndarray of object
        Of shape (channels,): ints, the sums of the numbers and of their squares.
    s_unit, q_unit : int
        The exponents of their units: the sums are ``s * 2**s_unit`` and ``q * 2**q_unit``.
    """

    def __init__(
        self, counts: NDArray[np.int64], s: NDArray[Any], q: NDArray[Any], s_unit: int, q_unit: int
    ) -> None:
        self.counts, self.s, self.q, self.s_unit, self.q_unit = counts, s, q, s_unit, q_unit

    @classmethod
    def of(cls, part: Limbs) -> ExactSums:
        s, q = part.limbs[:, :part.s_limbs], part.limbs[:, part.s_limbs:]
        return cls(np.ascontiguousarray(part.counts.T), integers(s), integers(q), part.s_unit, part.q_unit)

    @classmethod
    def restored(
        cls, counts: NDArray[np.int64], s: NDArray[np.uint64], s_unit: int, q: NDArray[np.uint64], q_unit: int
    ) -> ExactSums:
        """The inverse of `limbs`, with the counts."""
        own = np.array(counts, np.int64)        # not a part of a larger one, such as a file
        return cls(own, integers(np.asarray(s)), integers(np.asarray(q)), int(s_unit), int(q_unit))

    def __add__(self, other: ExactSums) -> ExactSums:
        return self.combined(other, np.add)

    def __sub__(self, other: ExactSums) -> ExactSums:
        return self.combined(other, np.subtract)

    def combined(self, other: ExactSums, operation: Callable[[Any, Any], Any]) -> ExactSums:
        s_unit, q_unit = min(self.s_unit, other.s_unit), min(self.q_unit, other.q_unit)
        return ExactSums(
            operation(self.counts, other.counts),
            operation(in_unit(self.s, self.s_unit, s_unit), in_unit(other.s, other.s_unit, s_unit)),
            operation(in_unit(self.q, self.q_unit, q_unit), in_unit(other.q, other.q_unit, q_unit)), s_unit, q_unit,
        )

    def __len__(self) -> int:
        return len(self.s)

    def __getitem__(self, channels: NDArray[np.intp] | slice) -> ExactSums:
        """The sums of some channels, in this order."""
        return ExactSums(self.counts[:, channels], self.s[channels], self.q[channels], self.s_unit, self.q_unit)

    @property
    def n(self) -> NDArray[np.int64]:
        n: NDArray[np.int64] = self.counts.sum(0)
        return n

    def limbs(self) -> tuple[NDArray[np.uint64], int, NDArray[np.uint64], int]:
        """The sums as limbs of as few bits as hold them, and their units: the same for equal sums."""
        s, s_unit = fewest_limbs(self.s, self.s_unit)
        q, q_unit = fewest_limbs(self.q, self.q_unit)
        return s, s_unit, q, q_unit

    def rows(self) -> NDArray[np.float64]:
        """The eight rows of a plain state, (8, channels). Where m2 is too large they are those of x * 2**-POWER."""
        rows, counts = np.zeros((8, len(self.s))), self.n
        for c in range(len(self.s)):
            mean, m2, exponent = self.mean_of(c), self.m2_of(c), 0
            pairs = [(mean, 0.0), (m2, 0.0)]
            if not self.lacks_numbers(c):
                exponent = POWER if math.isinf(m2) else 0
                of_s, of_q = self.s_unit - exponent, min(2 * self.s_unit, self.q_unit) - 2 * exponent
                n = int(self.counts[NUMBERS, c])
                pairs = [pair_of(self.s[c], n, of_s), pair_of(self.spread(c), n, of_q)]
            rows[:, c] = counts[c], *pairs[0], *pairs[1], 0, counts[c], exponent
        return rows

    def require_possible(self) -> None:
        """Raise ValueError if no data has these sums."""
        n = self.counts[NUMBERS]
        negative: NDArray[np.bool_] = np.min(self.counts, axis=0) < 0
        for c in range(len(n)):
            # The mean of squares is at least the square of the mean.
            if negative[c] or self.q[c] < 0 or self.spread(c) < 0 or (n[c] == 0 and (self.s[c] or self.q[c])):
                raise ValueError(f"no data has the statistics of channel {c} that would be left")

    def spread(self, c: int) -> int:
        """n**2 times the variance of the numbers of a channel, in units of ``2**min(2 * s_unit, q_unit)``."""
        unit = min(2 * self.s_unit, self.q_unit)
        return (int(self.counts[NUMBERS, c]) * self.q[c] << self.q_unit - unit) - (
            self.s[c]**2 << 2 * self.s_unit - unit)

    def lacks_numbers(self, c: int) -> bool:
        return bool(self.counts[NANS:, c].any()) or self.counts[NUMBERS, c] == 0

    def mean(self) -> NDArray[np.float64]:
        """The mean of every channel, NaN of nothing."""
        return np.fromiter(map(self.mean_of, range(len(self.s))), np.float64)

    def mean_of(self, c: int) -> float:
        n, nans, plus, minus = self.counts[:, c].tolist()
        if nans or (plus and minus) or not (n or plus or minus):
            return math.nan
        if plus or minus:
            return math.inf if plus else -math.inf
        return quotient(self.s[c], n, self.s_unit)

    def m2(self) -> NDArray[np.float64]:
        """The sum of squared deviations of every channel."""
        return np.fromiter(map(self.m2_of, range(len(self.s))), np.float64)

    def m2_of(self, c: int) -> float:
        if self.lacks_numbers(c):
            return 0.0 if not self.counts[:, c].any() else math.nan
        return quotient(self.spread(c), int(self.counts[NUMBERS, c]), min(2 * self.s_unit, self.q_unit))

    def var(self, ddof: float, root: bool = False) -> NDArray[np.float64]:
        """The variance of every channel, or its square root; NaN where n - ddof is not positive."""
        a, b = Fraction(ddof).as_integer_ratio()
        return np.fromiter((self.var_of(c, a, b, root) for c in range(len(self.s))), np.float64)

    def var_of(self, c: int, a: int, b: int, root: bool) -> float:
        """That of one channel, with ddof = a / b."""
        n = int(self.counts[NUMBERS, c])
        if self.lacks_numbers(c) or n * b <= a:
            return math.nan
        # spread / n / (n - a / b)
        rounded = square_root if root else quotient
        return rounded(self.spread(c) * b, n * (n * b - a), min(2 * self.s_unit, self.q_unit))

    def lines(self) -> Iterable[str]:
        """A line of text for each channel, the same for equal sums in any units."""
        for c in range(len(self.s)):
            numbers = [*self.counts[:, c].tolist(), hexadecimal(self.s[c], self.s_unit),
                       hexadecimal(self.q[c], self.q_unit)]
            yield " ".join(map(str, numbers))

    def digest(self, heading: str) -> str:
        """The SHA-256 hash of a heading and of all channels."""
        text = "\n".join((heading, *self.lines(), ""))
        return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, ExactSums):
            return NotImplemented
        left = self - other
        return not (left.counts.any() or left.s.any() or left.q.any())

    __hash__ = None  # type: ignore[assignment]


def side_by_side(parts: Sequence[ExactSums]) -> ExactSums:
    """The sums of the channels of all parts."""
    s_unit, q_unit = min(part.s_unit for part in parts), min(part.q_unit for part in parts)
    return ExactSums(
        np.concatenate([part.counts for part in parts], axis=1),
        np.concatenate([in_unit(part.s, part.s_unit, s_unit) for part in parts]),
        np.concatenate([in_unit(part.q, part.q_unit, q_unit) for part in parts]), s_unit, q_unit,
    )


def integers(limbs: NDArray[np.uint64]) -> NDArray[Any]:
    """The ints of rows of limbs."""
    data, size = limbs.astype("<u8").tobytes(), 8 * limbs.shape[1]
    found = np.empty(len(limbs), object)
    found[:] = [int.from_bytes(data[at:at + size], "little", signed=True) for at in range(0, len(data), size)]
    return found


def in_unit(values: NDArray[Any], unit: int, smaller: int) -> NDArray[Any]:
    """Ints in a smaller unit."""
    return values if unit == smaller else values << unit - smaller


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
