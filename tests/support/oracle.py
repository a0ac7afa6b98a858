"""Moments in exact arithmetic, the bounds that ours keep, and two wrong algorithms that break them."""

import math
from dataclasses import dataclass
from fractions import Fraction
from functools import cache, cached_property, lru_cache

import ml_dtypes
import numpy as np

EPS = Fraction(1, 2**52)
TINY = Fraction(1, 2**1074)     # the smallest double; underflow may cost it once a merge, of the mean or of m2


@dataclass(frozen=True, eq=False)
class Exact:
    """The state of one channel, as sums; of exact sums nothing cancels. They add up, as the data does."""

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
    """The exact state of finite numbers of any real dtype."""
    values = np.asarray(values).ravel()
    if values.dtype.kind in "biu":
        whole, power = values.tolist(), 0
    else:
        fraction, exponent = np.frexp(values.astype(np.float64))
        whole = np.ldexp(fraction, 53).astype(np.int64)
        power = int(exponent[whole != 0].min(initial=0)) if whole.any() else 0
        power = min(power, int(exponent.min(initial=0)))
        whole = [w << e for w, e in zip(whole.tolist(), (exponent - power).tolist(), strict=True)]
        power -= 53
    return Exact(len(whole), sum(whole) * Fraction(2) ** power, sum(w * w for w in whole) * Fraction(4) ** power)


def exact_states(x, axis=0):
    """The exact states of all channels, as an array of objects."""
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
    """What rounding an exact value to a dtype may cost; of float64 it is within the bound already."""
    info = ml_dtypes.finfo(dtype)
    if info.bits == 64 or value == 0:
        return 0
    value = abs(value)
    exponent = value.numerator.bit_length() - value.denominator.bit_length()    # or one more than floor(log2)
    return Fraction(2) ** (max(exponent, info.minexp) - info.nmant - 1)


@lru_cache(100_000)
def tolerance(state, dtype, ddof=0, var_eps=None):
    """(of the mean, of the var): 8 eps max(|mean|, sd), and a relative 16 eps log2(n), or `var_eps` eps."""
    mean, var = state.mean, state.m2 / (state.n - Fraction(ddof)) if state.n > ddof else Fraction(0)
    spread = state.m2 / state.n
    largest = abs(mean) if mean * mean >= spread else ceil_sqrt(spread)
    factor = 16 * Fraction(max(1.0, math.log2(state.n))) if var_eps is None else var_eps
    of_var = factor * EPS * var + 4 * TINY + half_ulp(var, dtype) if var else Fraction(0)     # none, of equal numbers
    return 8 * EPS * largest + state.n * TINY + half_ulp(mean, dtype), of_var


def ceil_sqrt(value):
    """The square root to 64 bits."""
    shift = 64 + max(0, value.denominator.bit_length() - value.numerator.bit_length())
    return Fraction(math.isqrt((value.numerator << 2 * shift) // value.denominator) + 1, 2**shift)


def share(got, wanted, bound, dtype):
    """The error as a share of its bound."""
    if abs(wanted) > float(ml_dtypes.finfo(dtype).max):
        return 0.0 if got == math.copysign(math.inf, wanted) else math.inf
    if not math.isfinite(got):
        return math.inf
    error = abs(Fraction(got) - wanted)
    if error == 0:
        return 0.0
    try:        # the ratio of two fractions
        return error.numerator * bound.denominator / (error.denominator * bound.numerator)
    except (OverflowError, ZeroDivisionError):
        return math.inf


def errors(mean, var, states, ddof=0, var_eps=None):
    """The worst errors of mean and var over all channels, as shares of their bounds: 1 and less is within."""
    mean, var, states = np.asarray(mean), np.asarray(var), np.asarray(states, object)
    assert mean.shape == var.shape == states.shape
    assert mean.dtype == var.dtype
    worst = [0.0, 0.0]
    for m, v, state in zip(mean.ravel(), var.ravel(), states.ravel(), strict=True):
        bounds = tolerance(state, mean.dtype, ddof, var_eps)
        worst[0] = max(worst[0], share(float(m), state.mean, bounds[0], mean.dtype))
        if state.n > ddof:
            wanted = state.m2 / (state.n - Fraction(ddof))
            worst[1] = max(worst[1], share(float(v), wanted, bounds[1], mean.dtype))
        else:
            assert np.isnan(v)
    return tuple(worst)


def assert_within(mean, var, states, ddof=0, var_eps=None):
    worst = errors(mean, var, states, ddof, var_eps)
    assert worst[0] <= 1, f"mean errs by {worst[0]:.3g} of its bound"
    assert worst[1] <= 1, f"var errs by {worst[1]:.3g} of its bound"


def sum_of_squares(x, axis=0):
    """The textbook's wrong way, in double."""
    x = np.asarray(x, np.float64)
    mean = x.mean(axis)
    return mean, (x * x).mean(axis) - mean * mean


def single_precision(x, axis=0):
    """NumPy's way with float32: sums in the type of the data."""
    x = np.asarray(x, np.float32)
    return x.mean(axis), x.var(axis)


@cache
def pi_digits(n):
    """The first n digits of pi, 3 and all."""
    import mpmath

    with mpmath.workdps(n + 20):
        return tuple(int(digit) for digit in mpmath.nstr(mpmath.pi, n + 10).replace(".", "")[:n])
