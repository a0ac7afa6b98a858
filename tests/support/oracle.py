"""Moments in exact arithmetic, the error bounds, and two wrong algorithms that exceed them."""

import math
from dataclasses import dataclass
from fractions import Fraction
from functools import cache, cached_property, lru_cache

import ml_dtypes
import numpy as np

EPS = Fraction(1, 2**52)
PROMISED = 64, 400              # eps of max(|mean|, sd) for the mean, and relative ones for the variance: bounds.md
TINY = Fraction(1, 2**1074)     # the smallest double, which underflow may cost mean or m2 once per merge


@dataclass(frozen=True, eq=False)
class Exact:
    """The state of one channel as exact sums, which neither cancel nor round. Addition merges states."""

    n: int
    s: Fraction     # sum of x
    q: Fraction     # sum of x*x

    def __add__(self, other):
        return Exact(self.n + other.n, self.s + other.s, self.q + other.q)

    @cached_property
    def mean(self):
        return self.s / self.n

    @cached_property
    def m2(self):
        return self.q - self.s * self.s / self.n


def exact(values):
    """Return the exact state of finite numbers of any real dtype."""
    whole, exponents, power = whole_numbers(values)
    different = np.unique(exponents) if len(whole) > 500 else exponents
    if 64 * len(different) < len(whole) and whole.min() > -2**53 and whole.max() < 2**53:
        whole = whole.astype(np.int64)
        parts = [(whole_sums(whole[exponents == e]), int(e)) for e in different]
        s, q = sum(s << e for (s, _), e in parts), sum(q << 2 * e for (_, q), e in parts)
    else:
        shifted = shift(whole, exponents)
        s, q = sum(shifted), sum(w * w for w in shifted)
    return Exact(len(whole), s * Fraction(2) ** power, q * Fraction(4) ** power)


def exact_weighted(values, weights):
    """Return the exact state of finite numbers with weights."""
    *values, power = whole_numbers(values)
    *weights, power_of_weights = whole_numbers(weights)
    pairs = list(zip(shift(*values), shift(*weights), strict=True))
    sums = (sum(w for _, w in pairs), sum(w * v for v, w in pairs), sum(w * v * v for v, w in pairs))
    return Exact(*(total * Fraction(2) ** (power_of_weights + i * power) for i, total in enumerate(sums)))


def whole_numbers(values):
    """Return (whole, exponents, power) with values = whole * 2**(exponents + power) and exponents of at least 0."""
    values = np.asarray(values).ravel()
    if values.dtype.kind in "biu":
        whole = values.astype(np.int64) if values.dtype.itemsize < 8 else values
        return whole, np.zeros(values.shape, np.int64), 0
    fraction, exponents = np.frexp(values.astype(np.float64))
    least = int(exponents.min(initial=0))
    return np.ldexp(fraction, 53).astype(np.int64), exponents - least, least - 53


def shift(whole, exponents):
    return [w << e for w, e in zip(whole.tolist(), exponents.tolist(), strict=True)]


def whole_sums(whole):
    """Return the sums of integers below 2**53 and of their squares, by their upper and lower 27 bits, 256 at a time."""
    whole = np.pad(whole, (0, -len(whole) % 256)).reshape(-1, 256)
    high, low = whole >> 27, whole & (1 << 27) - 1
    s, h, hh, hl, ll = (sum(part.sum(1).tolist()) for part in (low, high, high * high, high * low, low * low))
    return (h << 27) + s, (hh << 54) + (hl << 28) + ll


def exact_states(x, axis=0):
    """Return the exact states of all channels as an array of objects."""
    x = np.asarray(x)
    axes = range(x.ndim) if axis is None else [a % x.ndim for a in (axis if isinstance(axis, tuple) else (axis,))]
    kept = [a for a in range(x.ndim) if a not in axes]
    shape = [x.shape[a] for a in kept]
    flat = np.transpose(x, [*kept, *axes]).reshape(math.prod(shape), -1)
    states = np.empty(len(flat), object)
    for c, values in enumerate(flat):
        states[c] = exact(values)
    return states.reshape(shape)


def half_ulp(value, dtype):
    """Return the largest error of rounding a value to a dtype; for float64 the bound includes it."""
    info = ml_dtypes.finfo(dtype)
    if info.bits == 64 or value == 0:
        return 0
    value = abs(value)
    exponent = value.numerator.bit_length() - value.denominator.bit_length()    # or one more than floor(log2)
    return Fraction(2) ** (max(exponent, info.minexp) - info.nmant - 1)


def tolerance(state, dtype, ddof=0, var_eps=None):
    """Return the bounds of mean and var: 8 eps max(|mean|, sd), and a relative 16 eps log2(n) or `var_eps` eps.

    These are the bounds of the tests. What is proved of any data is looser, PROMISED: roundings that all go the same
    way come only from data that is made for it.
    """
    mean, var = state.mean, state.m2 / (state.n - Fraction(ddof)) if state.n > ddof else Fraction(0)
    spread = state.m2 / state.n
    largest = abs(mean) if mean * mean >= spread else ceil_sqrt(spread)
    factor = min(16 * Fraction(max(1.0, math.log2(state.n))), PROMISED[1]) if var_eps is None else var_eps
    of_var = factor * EPS * var + 4 * TINY + half_ulp(var, dtype) if var else Fraction(0)     # 0 for equal numbers
    return 8 * EPS * largest + state.n * TINY + half_ulp(mean, dtype), of_var


def ceil_sqrt(value):
    """Return an upper bound of the square root, to 64 bits."""
    shift = 64 + max(0, value.denominator.bit_length() - value.numerator.bit_length())
    return Fraction(math.isqrt((value.numerator << 2 * shift) // value.denominator) + 1, 2**shift)


def share(got, wanted, bound, dtype):
    """Return the error as a share of its bound."""
    if abs(wanted) > float(ml_dtypes.finfo(dtype).max):
        return 0.0 if got == (math.inf if wanted > 0 else -math.inf) else math.inf
    if not math.isfinite(got):
        return math.inf
    error = abs(Fraction(got) - wanted)
    if error == 0:
        return 0.0
    try:        # the ratio of two fractions
        return error.numerator * bound.denominator / (error.denominator * bound.numerator)
    except (OverflowError, ZeroDivisionError):
        return math.inf


@lru_cache(1000)
def references(states, dtype, ddof, var_eps):
    """Return rows of doubles: mean and var as pairs, NaN for an undefined var; m2 / n; and both bounds.

    Rounding may halve a bound at a power of 2, but never makes it too large.
    """
    rows = np.zeros((7, len(states)))
    for c, state in enumerate(states):
        n, s, q, lost = (Fraction(value).as_integer_ratio() for value in (state.n, state.s, state.q, ddof))
        denominator = q[1] * s[1] * s[1] * n[0]
        m2 = q[0] * s[1] * s[1] * n[0] - s[0] * s[0] * q[1] * n[1]
        left = n[0] * lost[1] - lost[0] * n[1]
        rows[:2, c] = split(s[0] * n[1], s[1] * n[0])
        rows[2:4, c] = split(m2 * n[1] * lost[1], denominator * left) if left > 0 else (np.nan, np.nan)
        rows[4:6, c] = split(m2 * n[1], denominator * n[0])[0] or math.ulp(0.0) * (m2 > 0), n[0] / n[1]
    mean, var, spread, n = np.abs(rows[0]), np.abs(rows[2]), rows[4], rows[5]
    factor = np.minimum(16 * np.maximum(1, np.log2(n)), PROMISED[1]) if var_eps is None else var_eps
    eps, tiny = float(EPS), float(TINY)
    rows[5] = 8 * eps * np.maximum(mean, np.sqrt(spread)) + n * tiny + half_ulps(mean, dtype)
    rows[6] = np.where(var > 0, factor * eps * var + 4 * tiny + half_ulps(var, dtype), 0)
    return rows


def split(numerator, denominator):
    """Return the double nearest to a fraction, and the one nearest to the remainder."""
    try:
        high = numerator / denominator      # of integers, correctly rounded
    except OverflowError:
        return math.inf if numerator > 0 else -math.inf, 0.0
    a, b = high.as_integer_ratio()
    return high, (numerator * b - a * denominator) / (denominator * b)


def half_ulps(values, dtype):
    """Return `half_ulp` of an array of doubles."""
    info = ml_dtypes.finfo(dtype)
    if info.bits == 64:
        return np.zeros_like(values)
    return np.where(values > 0, np.ldexp(1.0, np.maximum(np.frexp(values)[1] - 1, info.minexp) - info.nmant - 1), 0)


def errors(mean, var, states, ddof=0, var_eps=None):
    """Return the worst errors of mean and var over all channels as shares of their bounds; up to 1 is within.

    Shares are computed in pairs of doubles, and again in fractions where these do not exclude an excess.
    """
    mean, var, states = np.asarray(mean), np.asarray(var), np.asarray(states, object)
    assert mean.shape == var.shape == states.shape
    assert mean.dtype == var.dtype
    flat = tuple(states.ravel())
    mean_hi, mean_lo, var_hi, var_lo, spread, of_mean, of_var = references(flat, mean.dtype, ddof, var_eps)
    small = (spread > 0) & (spread < 1e-290)        # too few digits for the bounds
    worst = [0.0, 0.0]
    for i, (got, high, low, bounds) in enumerate(((mean, mean_hi, mean_lo, of_mean), (var, var_hi, var_lo, of_var))):
        got = got.ravel().astype(np.float64)
        with np.errstate(all="ignore"):
            error = np.abs((got - high) - low)
            shares = np.where(error == 0, 0.0, error / bounds)
            sure = (shares < 0.99) & (bounds > 1e-300) & (bounds < np.inf) & ~small
            sure |= (error == 0) & (bounds == 0) & (spread == 0)
        assert np.isnan(got[np.isnan(high)]).all()
        for c in np.flatnonzero(~sure & ~np.isnan(high)):
            state, value = flat[c], float(got[c])
            wanted = state.m2 / (state.n - Fraction(ddof)) if i else state.mean
            shares[c] = share(value, wanted, tolerance(state, mean.dtype, ddof, var_eps)[i], mean.dtype)
        worst[i] = float(shares[~np.isnan(high)].max(initial=0.0))
    return tuple(worst)


def assert_within(mean, var, states, ddof=0, var_eps=None):
    worst = errors(mean, var, states, ddof, var_eps)
    assert worst[0] <= 1, f"mean errs by {worst[0]:.3g} of its bound"
    assert worst[1] <= 1, f"var errs by {worst[1]:.3g} of its bound"


def sum_of_squares(x, axis=0):
    """Return mean and var by the textbook formula in double, which cancels."""
    x = np.asarray(x, np.float64)
    mean = x.mean(axis)
    return mean, (x * x).mean(axis) - mean * mean


def single_precision(x, axis=0):
    """Return mean and var by NumPy in float32, which sums in the dtype of the data."""
    x = np.asarray(x, np.float32)
    return x.mean(axis), x.var(axis)


@cache
def pi_digits(n):
    """Return the first n digits of pi, including the 3."""
    import mpmath

    with mpmath.workdps(n + 20):
        return tuple(int(digit) for digit in mpmath.nstr(mpmath.pi, n + 10).replace(".", "")[:n])
