"""Exact statistics of arrays by arithmetic of integers and fractions."""

import operator
from fractions import Fraction

import ml_dtypes
import numpy as np
from support.arrays import rng

VIEWS = {       # shape and batch axes
    "table": ((300, 7), 0), "one column": ((5000, 1), 0), "wide": ((9, 700), 0), "images": ((4, 3, 17, 19), (0, 2, 3)),
    "small images": ((6, 5, 4, 2), (0, 2)), "rows": ((7, 600), 1), "all": ((40, 60), None),
    "long runs": ((2, 3, 5000), (0, 2)),
    "two channel axes": ((50, 3, 4), 0), "one value": ((1, 3), 0), "many rows": ((70_000, 3), 0),
}


def wild(dtype, shape, seed=0):
    """Numbers over the whole range of a dtype, denormals and the largest ones among them."""
    dtype = np.dtype(dtype)
    if dtype.kind == "b":
        return rng(seed).random(shape) < 0.3
    if dtype.kind in "iu":
        ends = np.iinfo(dtype)
        return rng(seed).integers(ends.min, ends.max, shape, dtype=dtype, endpoint=True)
    ends = ml_dtypes.finfo(dtype)
    exponents = rng(seed).uniform(np.log2(float(ends.tiny)) - 20, np.log2(float(ends.max)) - 0.1, shape)
    with np.errstate(all="ignore"):
        x = (rng(seed + 1).choice([-1.0, 1.0], shape) * np.exp2(exponents)).astype(dtype)
    x.flat[0] = ends.max
    return x


UNIT = 2**1074      # Every finite double is a multiple of 1 / UNIT.


def channels_of(x, axis, where=None):
    """The selected values of each channel, as integers times 1 / UNIT; NaN and inf are left out."""
    axes = range(x.ndim) if axis is None else (axis if isinstance(axis, tuple) else (axis,))
    kept = [i for i in range(x.ndim) if i not in axes]
    table = np.moveaxis(x, kept, range(len(kept))).reshape(int(np.prod([x.shape[i] for i in kept])), -1)
    used = np.ones_like(table, bool)
    if where is not None:
        used = np.moveaxis(np.broadcast_to(where, x.shape), kept, range(len(kept))).reshape(table.shape)
    if table.dtype.kind in "iub":
        return [[int(value) * UNIT for value in row[mask]] for row, mask in zip(table, used, strict=True)]
    table = table.astype("f8")
    ratios = [[value.as_integer_ratio() for value in row[mask].tolist()]
              for row, mask in zip(table, used & np.isfinite(table), strict=True)]
    return [[a * (UNIT // b) for a, b in row] for row in ratios]


def rounded(numerator, denominator):
    """A fraction as a float, correctly rounded."""
    try:
        return float(Fraction(numerator) / denominator)
    except OverflowError:
        return np.inf


def assert_exact(m, channels, ddof=0, weights=None):
    n, mean, var = (np.ravel(values) for values in (m.n, m.mean, m.var(ddof)))
    assert len(n) == len(channels)
    for c, values in enumerate(channels):
        times = [1] * len(values) if weights is None else weights
        k = sum(times)
        assert n[c] == k
        if not k:
            assert np.isnan(mean[c])
            continue
        total = sum(map(operator.mul, times, values))
        assert mean[c] == rounded(total, k * UNIT)
        if k > ddof:
            spread = k * sum(w * value**2 for w, value in zip(times, values, strict=True)) - total**2
            assert var[c] == rounded(spread, k * (k - Fraction(ddof)) * UNIT**2)
        else:
            assert np.isnan(var[c])
