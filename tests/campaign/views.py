"""Views of a buffer, whose shape, strides, dtype and axes come from random bytes, against NumPy on a plain copy.

Strides are negative, zero and odd; elements overlap, are not aligned and have the other byte order. Results have the
same bits on any number of threads, and a Moments of two halves is that of the whole, within the bound.
"""

from collections.abc import Iterator

import numpy as np
from harness import main

from bnstream import Moments, mean_var

DTYPES = ("f8", ">f8", "f4", ">f4", "f2", "i1", "u1", "i2", ">i4", "u4", "i4", "?")
N_BYTES = 1 << 16
MOST = 1000         # elements of a view


def buffer_of(dtype: np.dtype, rng: np.random.Generator) -> np.ndarray:
    """Moderate numbers of a dtype, as bytes, behind an odd offset."""
    n = N_BYTES // dtype.itemsize
    if dtype.kind == "f":
        values = rng.normal(rng.choice([0.0, 100.0]), 1, n).astype(dtype)
    else:
        values = rng.integers(0, 2 if dtype.kind == "b" else 100, n).astype(dtype)
    data = np.zeros(N_BYTES + 8, np.uint8)
    offset = int(rng.integers(0, 8))
    data[offset:offset + n * dtype.itemsize] = values.view(np.uint8)
    return data[offset:offset + n * dtype.itemsize]


def view(data: np.ndarray, dtype: np.dtype, rng: np.random.Generator) -> np.ndarray:
    """A view of random shape and strides that stays within the buffer."""
    ndim = int(rng.integers(1, 6))
    shape = [int(rng.choice([0, 1, 2, 3, 5, 8, 17, 33], p=[0.02, 0.14, 0.14, 0.14, 0.14, 0.14, 0.14, 0.14]))
             for _ in range(ndim)]
    while np.prod(shape) > MOST:
        shape[shape.index(max(shape))] //= 2
    left, strides = len(data) // dtype.itemsize - 1, []
    for n in shape:
        most = left // max(1, n - 1) // ndim
        stride = int(rng.integers(-most, most + 1)) if rng.random() < 0.5 else int(rng.integers(-2, 3))
        stride = max(-most, min(most, stride))
        strides.append(stride)
    first = sum(-stride * (n - 1) for stride, n in zip(strides, shape, strict=True) if stride < 0 < n)
    if 0 in shape:
        return np.empty(shape, dtype)
    return np.ndarray(shape, dtype, data, first * dtype.itemsize, [stride * dtype.itemsize for stride in strides])


def check(x: np.ndarray, axis: tuple[int, ...], n_threads: int) -> None:
    """Compare the mean and the variance of a view with those of NumPy."""
    copy = x.astype("f8")
    with np.errstate(all="ignore"):
        count = np.prod([x.shape[a] for a in axis], dtype=int)
        mean = copy.sum(axis, keepdims=True) / count
        var = ((copy - mean) ** 2).sum(axis, keepdims=True) / count
    found = mean_var(x, axis, dtype="f8", keepdims=True, n_threads=1)
    again = mean_var(x, axis, dtype="f8", keepdims=True, n_threads=n_threads)
    what = f"shape {x.shape}, strides {x.strides}, dtype {x.dtype.str}, axis {axis}"
    for name, one, other, expected in zip(("mean", "var"), found, again, (mean, var), strict=True):
        assert one.shape == expected.shape, f"{name} of {what}: shape {one.shape}"
        assert np.array_equal(one, other, equal_nan=True), f"{name} of {what}: other bits on {n_threads} threads"
        assert np.allclose(one, expected, rtol=1e-11, atol=1e-11, equal_nan=True), f"{name} of {what}"
    if count > 1 and axis and x.shape[axis[0]] > 1:
        at = x.shape[axis[0]] // 2
        halves = [np.take(x, indices, axis[0]) for indices in (range(at), range(at, x.shape[axis[0]]))]
        m = sum((Moments(axis).update(half) for half in halves), Moments())
        assert np.allclose(np.ravel(m.mean), mean.ravel(), rtol=1e-11, atol=1e-11), f"merged mean of {what}"
        assert np.allclose(np.ravel(m.var()), var.ravel(), rtol=1e-11, atol=1e-11), f"merged var of {what}"


def trials(rng: np.random.Generator) -> Iterator[int]:
    while True:
        dtype = np.dtype(str(rng.choice(DTYPES)))
        data = buffer_of(dtype, rng)
        for _ in range(100):
            x = view(data, dtype, rng)
            axes = tuple(int(a) for a in np.flatnonzero(rng.random(x.ndim) < 0.5))
            check(x, axes or (0,), int(rng.integers(2, 5)))
        yield 100


if __name__ == "__main__":
    main(__doc__.partition("\n")[0], "views", trials)
