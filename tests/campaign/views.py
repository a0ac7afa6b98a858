"""Views of a buffer, whose shape, strides, dtype and axes come from random bytes, against NumPy on a plain copy.

Strides are negative, zero and odd; elements overlap, are not aligned and have the other byte order. Results have the
same bits on any number of threads, a Moments of two halves is that of the whole, within the bound, and normalize maps
the same elements.
"""

import functools
import math
from collections.abc import Callable, Iterator

import numpy as np
from harness import main

from bnstream import Moments, mean_var, normalize

DTYPES = ("f8", ">f8", "f4", ">f4", "f2", ">f2", "i1", "u1", "i2", ">i4", "u4", "i4", "?")
N_BYTES = 1 << 16
SIZES = (1, 1, 2, 2, 2, 3, 3, 4, 5, 6, 7, 8, 9, 16, 17, 31, 33, 64, 257, 1000, 5000, 0)     # of an axis
STEPS = (1, 1, 1, 1, 1, 1, 2, 3, -1, -2, 0, None)       # along an axis; None: a stride of its own
FEW, MANY = 1000, 20_000        # elements of most views, and of any
N_DESCRIBING = 64               # bytes that describe a view

Take = Callable[[int], int]     # a number below n


def numbers(data: bytes) -> Take:
    """Numbers from bytes, two for each, and zeros behind their end."""
    words = iter(np.frombuffer(data[:len(data) & ~1], "<u2").tolist())
    return lambda n: next(words, 0) % n


@functools.cache
def buffer_of(dtype: np.dtype, center: int, offset: int) -> np.ndarray:
    """Moderate numbers of a dtype, as bytes, behind an offset."""
    rng = np.random.default_rng(0)
    n = N_BYTES // dtype.itemsize
    if dtype.kind == "f":
        values = rng.normal(center, 1, n).astype(dtype)
    else:
        values = rng.integers(0, 2 if dtype.kind == "b" else 100, n).astype(dtype)
    data = np.zeros(N_BYTES + 8, np.uint8)
    data[offset:offset + n * dtype.itemsize] = values.view(np.uint8)
    return data[offset:offset + n * dtype.itemsize]


def view(take: Take) -> np.ndarray:
    """A view of a buffer. It stays within: the strides of each axis leave room for those that follow."""
    dtype = np.dtype(DTYPES[take(len(DTYPES))])
    data = buffer_of(dtype, (0, 100)[take(2)], take(8))
    most = FEW if take(16) else MANY
    shape = [SIZES[take(len(SIZES))] for _ in range(1 + take(5))]
    while math.prod(max(1, n) for n in shape) > most:
        shape[shape.index(max(shape))] //= 2
    if 0 in shape:
        return np.empty(shape, dtype)
    strides, axes = [0] * len(shape), [*range(len(shape))]
    left, run, first = len(data) // dtype.itemsize - 1, 1, 0
    while axes:
        axis = axes.pop(take(len(axes)))
        n, step = shape[axis], STEPS[take(len(STEPS))]
        furthest = left // max(1, n - 1)
        wanted = take(1 << 16) - (1 << 15) if step is None else step * run
        strides[axis] = stride = max(-furthest, min(furthest, wanted))
        left -= abs(stride) * (n - 1)
        run = max(run, abs(stride) * n)
        first -= min(0, stride * (n - 1))
    first += take(left + 1)
    return np.ndarray(shape, dtype, data, first * dtype.itemsize, [stride * dtype.itemsize for stride in strides])


def near(found: np.ndarray, expected: np.ndarray, tolerance: float) -> bool:
    """Whether all numbers are within a tolerance. np.allclose takes longer than all else."""
    return found.shape == expected.shape and bool((np.abs(found - expected) <= tolerance).all())


def tried(data: bytes) -> None:
    """Compare the mean, the variance and the normalized values of a view with those of NumPy."""
    take = numbers(data)
    x = view(take)
    axis = tuple(a for a in range(x.ndim) if take(2)) or (0,)
    n_threads = 1 + take(4)
    what = f"shape {x.shape}, strides {x.strides}, dtype {x.dtype.str}, axis {axis}"
    mean, var = mean_var(x, axis, dtype="f8", keepdims=True, n_threads=1)
    if n_threads > 1:
        again = mean_var(x, axis, dtype="f8", keepdims=True, n_threads=n_threads)
        for one, other in zip((mean, var), again, strict=True):
            assert one.tobytes() == other.tobytes(), f"{what}: other bits on {n_threads} threads"
    if x.size == 0:
        assert np.isnan(mean).all() and np.isnan(var).all(), f"{what}: {mean}, {var} of no values"
        return
    copy = x.astype("f8")
    expected = copy.mean(axis, keepdims=True)
    copy -= expected
    rounding = copy.mean(axis, keepdims=True)   # NumPy's mean is off by 2e-11 where an array repeats a few values.
    expected += rounding
    copy -= rounding
    variance = np.square(copy).mean(axis, keepdims=True)
    assert near(mean, expected, 1e-11), f"mean of {what}"
    assert near(var, variance, 1e-11 * max(1, float(variance.max()))), f"var of {what}"
    if x.shape[axis[0]] > 1:
        before = (slice(None),) * axis[0]
        at = 1 + take(x.shape[axis[0]] - 1)
        m = Moments(axis).update(x[*before, :at]).merge(Moments(axis).update(x[*before, at:]))
        assert near(m.mean, np.squeeze(expected, axis), 1e-11), f"merged mean of {what}"
        assert near(m.var(), np.squeeze(variance, axis), 1e-11 * max(1, float(variance.max()))), f"merged var of {what}"
    channels = tuple(a for a in range(x.ndim) if a not in axis)
    y = normalize(x, np.squeeze(mean, axis), np.squeeze(var, axis), eps=1, channel_axis=channels, n_threads=n_threads)
    copy /= np.sqrt(variance + 1)
    assert near(y, copy, {2: 0.01, 4: 1e-4, 8: 1e-11}[y.itemsize]), f"{what}: normalized"


def trials(rng: np.random.Generator) -> Iterator[int]:
    while True:
        for _ in range(100):
            data = rng.bytes(N_DESCRIBING)
            try:
                tried(data)
            except Exception as error:
                raise AssertionError(f"bytes {data.hex()}: {error!r}") from error
        yield 100


if __name__ == "__main__":
    main(__doc__.partition("\n")[0], "views", trials)
