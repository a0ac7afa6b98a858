"""Arrays for all tests: hard data sets, every dtype and layout, awkward shapes and values."""

import itertools

import ml_dtypes
import numpy as np

N = 6006            # rows of a hard set, 2 * 3 * 7 * 11 * 13
C = 3

BFLOAT16 = np.dtype(ml_dtypes.bfloat16)
FLOATS = [np.dtype(t) for t in ("f2", BFLOAT16, "f4", "f8")]
INTEGERS = [np.dtype(t) for t in ("i1", "u1", "i2", "u2", "i4", "u4", "i8", "u8")]
DTYPES = [*FLOATS, np.dtype("?"), *INTEGERS]


def rng(seed=0):
    return np.random.default_rng(seed)


def normal(shape=(N, C), seed=0):
    return rng(seed).standard_normal(shape)


def first_row(x, value):
    return first_rows(x, value, 1)


def first_rows(x, value, n):
    x = x.copy()
    x[:n] = value
    return x


def steps():
    """Return data whose mean jumps far after each sixth of the rows."""
    return normal() + np.repeat([1e8, -3e8, 1e8, 5e8, 2e4, 1e8], N // 6)[:, None]


def between_two_floats():
    """Return float32 numbers of sd 1e-3 and mean 1e6, where adjacent floats differ by 1/16: mostly two values."""
    return (1e6 + np.array([0.03125, 0.0311, 0.0317]) + 1e-3 * normal()).astype(np.float32)


# Name: array (rows, channels). sum_of_squares fails on those in CANCEL, NumPy's float32 variance on those in SINGLE.
HARD = {
    "plain": normal(),
    "plain float32": normal().astype(np.float32),
    "offset 1e8": normal() + 1e8,
    "offset 1e15": normal() + 1e15,
    "offset -1e15": 100 * normal() - 1e15,
    "mean 1e4 float32": (normal() + 1e4).astype(np.float32),
    "mean 1e6 float32": (normal() + 1e6).astype(np.float32),
    "sd 1e-3 at mean 1e6 float32": between_two_floats(),
    "first row 1e30": first_row(normal() + 5, 1e30),
    "first row 1e15": first_row(normal() + 1e3, 1e15),
    "first row 1e30 float32": first_row(normal() + 5, 1e30).astype(np.float32),
    "first row off": first_row(normal() + 1e9, 0.0),
    "drift": np.arange(N)[:, None] * np.array([1e-3, 1.0, -7e3]) + np.array([1e9, 0.1, 1e12]),
    "drift at 1e15": np.arange(N)[:, None] * np.array([0.25, 1.0, -2.0]) + 1e15,
    "heavy tails": rng(1).standard_cauchy((N, C)) ** 3,
    "lognormal": np.exp(12 * normal()),
    "steps": steps(),
    "two clusters": np.where(rng(2).random((N, C)) < 0.5, 1e12, 1e12 + 1) + 1e-3 * normal(),
    "one outlier at the end": first_row(normal() + 1e6, -1e13)[::-1].copy(),
    "mean cancels": np.concatenate([h := normal((N // 2, C)) + 1e10, -h]),
    "denormals": normal() * 1e-310,
    "squares denormal": normal() * 1e-160,
    "squares tiny": 1e-140 + normal() * 1e-148,
    "denormals float32": (normal() * 1e-41).astype(np.float32),
    "1e30 float32": (1e30 + 1e24 * normal()).astype(np.float32),
    "1e15 float32": (1e15 + 1e9 * normal()).astype(np.float32),
    "1e150": 1e150 + 1e142 * normal(),
    "1e151, zeros first": first_rows(1e151 + 1e148 * normal(), 0.0, 8),
    "1e200 beside 1": normal() * np.array([1e200, 1.0, 1e-3]),
}
CANCEL = ["offset 1e8", "offset 1e15", "offset -1e15", "mean 1e6 float32", "sd 1e-3 at mean 1e6 float32", "drift",
          "drift at 1e15", "two clusters", "1e30 float32", "1e15 float32", "1e150", "squares tiny"]
SINGLE = ["mean 1e4 float32", "mean 1e6 float32", "sd 1e-3 at mean 1e6 float32", "1e15 float32"]


def of_dtype(dtype, shape, seed=0):
    """Return numbers of a dtype: integers over its whole range, floats away from zero."""
    dtype = np.dtype(dtype)
    if dtype.kind in "iu":
        info = np.iinfo(dtype)
        x = rng(seed).integers(info.min, info.max, shape, dtype=dtype, endpoint=True)
        return x // 2 + info.max // 2 if dtype.itemsize == 8 else x     # 64-bit integers around 2**62 or 2**63
    if dtype.kind == "b":
        return rng(seed).random(shape) < 0.3
    return (normal(shape, seed) * 3 + 20).astype(dtype)


def filled(buffer, x):
    """Copy x into a buffer of another layout, and return it."""
    buffer[...] = x
    return buffer


def unaligned(x, by=1):
    """Return a copy of x that starts `by` bytes after an aligned address."""
    raw = np.empty(x.nbytes + 64 + by, np.uint8)
    start = -raw.ctypes.data % 64 + by
    return filled(raw[start:start + x.nbytes].view(x.dtype).reshape(x.shape), x)


def read_only(x):
    x = x.copy()
    x.flags.writeable = False
    return x


def swapped(x):
    """Return x in the other byte order; bfloat16 has only one."""
    return x if x.dtype == BFLOAT16 else x.astype(x.dtype.newbyteorder("S"))


def every_other(x, axis):
    """Return x as a slice [..., ::2, ...] of an array twice as long, with extreme values in between."""
    shape = list(x.shape)
    shape[axis] *= 2
    full = np.empty(shape, x.dtype)
    full.view(np.uint8)[...] = 0x7f
    return filled(full[tuple(slice(None, None, 2 if i == axis else 1) for i in range(x.ndim))], x)


def padded(x):
    """Return x with padding between its rows."""
    full = np.zeros((*x.shape[:-1], x.shape[-1] + 5), x.dtype)
    return filled(full[..., 2:-3], x)


def with_single_axes(x):
    """Return x with axes of length 1."""
    return x[:, None, ..., None]


LAYOUTS = {
    "contiguous": np.ascontiguousarray,
    "Fortran": np.asfortranarray,
    "first two swapped": lambda x: np.ascontiguousarray(np.swapaxes(x, 0, 1)).swapaxes(0, 1),
    "last sliced": lambda x: every_other(x, x.ndim - 1),
    "first sliced": lambda x: every_other(x, 0),
    "first reversed": lambda x: np.ascontiguousarray(x[::-1])[::-1],
    "all reversed": lambda x: np.flip(np.ascontiguousarray(np.flip(x))),
    "last reversed": lambda x: np.ascontiguousarray(x[..., ::-1])[..., ::-1],
    "padded": padded,
    "unaligned": unaligned,
    "read-only": read_only,
    "byte-swapped": swapped,
    "byte-swapped, unaligned, Fortran": lambda x: unaligned(swapped(x).T.copy()).T,
}


# Functions of shape and dtype that make arrays for a result.
PLACES = {
    "C": np.empty,
    "Fortran": lambda shape, dtype: np.empty(shape, dtype, "F"),
    "reversed": lambda shape, dtype: np.flip(np.empty(shape, dtype)),
    "padded": lambda shape, dtype: padded(np.empty(shape, dtype)),
    "sliced": lambda shape, dtype: every_other(np.empty(shape, dtype), len(shape) - 1),
    "swapped": lambda shape, dtype: swapped(np.empty(shape, dtype)),
}
NATIVE_PLACES = {name: make for name, make in PLACES.items() if name != "swapped"}


def random_cuts(n, generator):
    """Return the bounds of consecutive chunks of n rows, of 1 to 1024 rows each."""
    cuts = [0]
    while cuts[-1] < n:
        cuts.append(min(n, cuts[-1] + int(2 ** generator.uniform(0, 10))))
    return list(itertools.pairwise(cuts))


def with_gaps(x, seed=3):
    """Insert NaN and inf into each channel at different rows, so that the finite numbers are those of x."""
    generator = rng(seed)
    n, extra = len(x), len(x) // 7
    out = np.empty((n + extra, x.shape[1]), x.dtype)
    for c in range(x.shape[1]):
        bad = np.zeros(n + extra, bool)
        bad[generator.choice(n + extra, extra, replace=False)] = True
        out[bad, c] = generator.choice([np.nan, np.inf, -np.inf], extra)
        out[~bad, c] = x[:, c]
    return out
