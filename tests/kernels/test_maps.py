"""Maps of arrays past the cache: results that go around the caches, and rows that take turns; no bit depends on it."""

import numpy as np
import pytest
from support.arrays import rng

from bnstream import BatchNorm, normalize

BYTES = 36 * 2**20      # Results of 16 MiB and more go around the caches.


def empty(shape, dtype, offset):
    """An array that begins `offset` bytes after a multiple of 64."""
    n = int(np.prod(shape)) * np.dtype(dtype).itemsize
    room = np.empty(n + 128, np.uint8)
    start = -room.ctypes.data % 64 + offset
    return room[start:start + n].view(dtype).reshape(shape)


def large(shape, dtype, seed=0):
    """Random numbers of such a shape, but for its first entry."""
    shape = (BYTES // np.dtype(dtype).itemsize // int(np.prod(shape)) + 1, *shape)
    return rng(seed).standard_normal(shape, np.float32).astype(dtype)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("shape", [(64,), (3,), (17,), (600,), (1030,), (8, 30, 33), (5, 7, 7)], ids=str)
def test_large_as_in_small_pieces(shape, dtype):
    """The beginning, the end and some rows between are those of small arrays; nothing else is written."""
    x = large(shape, dtype)
    mean = rng(1).standard_normal(shape[0])
    var = rng(2).random(shape[0]) + 0.5
    for offset in (0, 16, 4 * x.itemsize, x.itemsize):
        out = empty(x.shape, dtype, offset)
        assert normalize(x, mean, var, channel_axis=1, out=out) is out
        step = len(x) // 7
        for i in range(0, len(x), step):
            assert np.array_equal(out[i:i + step], normalize(x[i:i + step], mean, var, channel_axis=1)), offset


@pytest.mark.parametrize("of", [
    lambda: large((8, 30, 40), "float32")[..., :33],
    lambda: large((8, 41), "float32").transpose(2, 1, 0),
    lambda: (100 * large((64,), "float32")).astype("int32"),
], ids=["tiles", "transposed", "integers"])
def test_other_large_arrays(of):
    x = of()
    mean, var = np.arange(x.shape[1]), np.ones(x.shape[1])
    out = normalize(x, mean, var, channel_axis=1)
    for i in range(0, len(x), len(x) // 7):
        part = slice(i, i + len(x) // 7)
        assert np.array_equal(out[part], normalize(x[part], mean, var, channel_axis=1))


def test_a_single_run():
    x = large((1,), "float32")
    assert np.array_equal(normalize(x, 0.5, 4.0), (x.astype("f8") - 0.5).astype("f4") / 2)


@pytest.mark.parametrize("shape", [(64,), (1030,), (8, 30, 33)], ids=str)
def test_backward_of_large_arrays(shape):
    """dx that replaces dy stays in the cache, and any other goes around it."""
    x, dy = large(shape, "float32"), large(shape, "float32", 1)
    _, backward = BatchNorm(shape[0]).vjp(x)
    dx = empty(x.shape, "float32", 16)
    first = backward(dy, dx)
    second = backward(dy, dy)
    for a, b in zip(first, second, strict=True):
        assert np.array_equal(a, b)
    assert dx is first[0]
