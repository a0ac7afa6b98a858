"""out: arrays that are refused before a byte is written, and arrays next to x that are valid."""

import numpy as np
import pytest
from numpy.lib.stride_tricks import as_strided
from support.arrays import BFLOAT16, every_other, normal, of_dtype, swapped
from support.cases import pairwise
from support.gradients import gradient

from bnstream import BatchNorm, batch_norm, normalize

N, C = 12, 4
SHAPE = (N, C)


def backward(training):
    """Return the backward pass as a function of dy and out."""
    def call(dy, out):
        return gradient(BatchNorm(C).train(training), of_dtype(dy.dtype, dy.shape, 9), dy, out)

    return call


def backward_of(x, out):
    """The backward pass as a function of x and out."""
    return gradient(BatchNorm(C), x, normal(x.shape, 5).astype("f4"), out)


CALLS = {
    "normalize": lambda x, out: normalize(x, 0, 1, out=out),
    "normalize large": lambda x, out: normalize(x, 0, 1, out=out, n_threads=3),
    "batch_norm": lambda x, out: batch_norm(x, np.zeros(C), np.ones(C), out=out),
    "batch_norm training": lambda x, out: batch_norm(x, None, None, training=True, out=out),
    "batch_norm omit": lambda x, out: batch_norm(x, None, None, training=True, nan_policy="omit", out=out),
    "batch_norm propagate": lambda x, out: batch_norm(x, None, None, training=True, nan_policy="propagate", out=out),
    "BatchNorm": lambda x, out: BatchNorm(C)(x, out),
    "BatchNorm renorm": lambda x, out: BatchNorm(C, renorm=True)(x, out),
    "BatchNorm eval": lambda x, out: BatchNorm(C).eval()(x, out),
    "backward, dy": backward(True), "backward, x": backward_of, "backward eval, dy": backward(False),
}


def beside(x):
    """Return a buffer of three times the size of x, and a copy of x in its middle."""
    buffer = normal(3 * x.size, 1).astype(x.dtype)
    buffer[x.size:2 * x.size] = x.ravel()
    return buffer, buffer[x.size:2 * x.size].reshape(x.shape)


def shifted(by):
    return lambda buffer, x: buffer[x.size + by:2 * x.size + by].reshape(x.shape)


def by_bytes(buffer, x):
    return buffer.view(np.uint8)[x.nbytes + 1:2 * x.nbytes + 1].view(x.dtype).reshape(x.shape)


OVERLAPS = {       # functions of the buffer and the x in it
    "shifted by one": shifted(1), "shifted back": shifted(-1), "shifted by a row": shifted(C),
    "all but one": shifted(N * C - 1), "shifted by a byte": by_bytes, "reversed": lambda buffer, x: x[::-1],
    "last reversed": lambda buffer, x: x[:, ::-1], "turned over": lambda buffer, x: np.flip(x),
    "Fortran": lambda buffer, x: x.reshape(-1).reshape(SHAPE, order="F"),
    "every other": lambda buffer, x: buffer[::2][:x.size].reshape(x.shape),
    "a wider one": lambda buffer, x: buffer[x.size:x.size + 2 * x.size].reshape(N, 2 * C)[:, :C],
}


@pytest.mark.parametrize(("dtype", "overlap", "name"), pairwise(["f4", "f8", "f2"], OVERLAPS, CALLS))
def test_overlap_in_part(dtype, overlap, name):
    buffer, x = beside(of_dtype(dtype, SHAPE))
    out = OVERLAPS[overlap](buffer, x)
    assert np.shares_memory(x, out)
    before = buffer.tobytes()
    message = r"out overlaps (x|dy) in part; pass (x|dy) itself, or an array with memory of its own"
    with pytest.raises(ValueError, match=message):
        CALLS[name](x, out)
    assert buffer.tobytes() == before


REFUSED = {     # out, error, message
    "shape": (np.ones((N, C + 1), "f4"), ValueError, r"out must have the shape of x, \(12, 4\), got \(12, 5\)"),
    "transposed": (np.ones((C, N), "f4"), ValueError, r"out must have the shape of x, \(12, 4\), got \(4, 12\)"),
    "one axis more": (np.ones((N, C, 1), "f4"), ValueError, r"shape of x, \(12, 4\), got \(12, 4, 1\)"),
    "one axis less": (np.ones(C, "f4"), ValueError, r"shape of x, \(12, 4\), got \(4,\)"),
    "0-d": (np.array(1, "f4"), ValueError, r"shape of x, \(12, 4\), got \(\)"),
    "float64": (np.ones(SHAPE), ValueError, "out must have dtype float32 for x of dtype float32, got float64"),
    "float16": (np.ones(SHAPE, "f2"), ValueError, "out must have dtype float32 for x of dtype float32, got float16"),
    "bfloat16": (np.ones(SHAPE, BFLOAT16), ValueError, "must have dtype float32 for x of dtype float32, got bfloat16"),
    "int32": (np.ones(SHAPE, "i4"), ValueError, "out must have dtype float32 for x of dtype float32, got int32"),
    "complex": (np.ones(SHAPE, "c8"), ValueError, "out must have dtype float32 for x of dtype float32, got complex64"),
    "object": (np.ones(SHAPE, object), ValueError, "out must have dtype float32 for x of dtype float32, got object"),
    "list": ([[1.0] * C] * N, TypeError, r"out must be a plain array, got list; make one with np\.empty_like\(x\)"),
    "number": (1.0, TypeError, "out must be a plain array, got float"),
    "tuple": ((np.ones(SHAPE, "f4"),), TypeError, "out must be a plain array, got tuple"),
    "masked": (np.ma.ones(SHAPE, "f4"), TypeError, "out must be a plain array, got MaskedArray"),
    "buffer": (bytearray(4 * N * C), TypeError, "out must be a plain array, got bytearray"),
    "read-only": (np.broadcast_to(np.ones(SHAPE, "f4"), SHAPE), ValueError,
                  "out is read-only; pass a writable array, or leave it out"),
    "stride 0": (as_strided(np.ones(C, "f4"), SHAPE, (0, 4)), ValueError,
                 r"out overlaps itself, with strides \(0, 4\); pass an array with memory of its own"),
    "column of stride 0": (as_strided(np.ones(N, "f4"), SHAPE, (4, 0)), ValueError, "out overlaps itself"),
    "half a step": (as_strided(np.ones(N * C, "f4"), SHAPE, (4, 4)), ValueError, "out overlaps itself"),
}


@pytest.mark.parametrize("name", CALLS)
@pytest.mark.parametrize("case", REFUSED)
def test_refused(case, name):
    out, error, message = REFUSED[case]
    x = of_dtype("f4", SHAPE)
    before = bytes(np.asarray(out).tobytes()), x.tobytes()
    with pytest.raises(error, match=message):
        CALLS[name](x, out)
    assert (bytes(np.asarray(out).tobytes()), x.tobytes()) == before


@pytest.mark.parametrize("dtype", ["?", "u1", "i1", "u2", "i2", "i4", "i8"])
def test_integers_need_float32(dtype):
    x = of_dtype(dtype, SHAPE)
    for wrong in (dtype, "f8", "f2"):
        out = np.ones(SHAPE, wrong)
        with pytest.raises(ValueError, match=f"out must have dtype float32 for x of dtype {x.dtype}, got {out.dtype}"):
            normalize(x, 0, 1, out=out)
        assert (out == 1).all()
    if x.dtype.itemsize == 4:       # in place of x, as float32
        wanted = normalize(x, 0, 1)
        assert normalize(x, 0, 1, out=x.view("f4")).tobytes() == wanted.tobytes()
    else:
        memory = np.zeros(8 * x.size, "u1")
        lies, out = (memory[:x.size * size].view(t).reshape(SHAPE) for t, size in ((dtype, x.itemsize), ("f4", 4)))
        lies[...] = x
        with pytest.raises(ValueError, match="out overlaps x in part"):
            normalize(lies, 0, 1, out=out)
        assert lies.tobytes() == x.tobytes()


def places_beside(x):
    """Yield copies of x and arrays that share their buffer but no element."""
    pairs = np.empty((*x.shape, 2), x.dtype)
    pairs[..., 0] = x
    yield pairs[..., 0], pairs[..., 1]
    rows = np.empty((2 * len(x), C), x.dtype)
    rows[1::2] = x
    yield rows[1::2], rows[::2]
    yield rows[1::2], rows[::2][::-1]
    columns = np.empty((N, 2 * C), x.dtype)
    columns[:, ::2] = x
    yield columns[:, ::2], columns[:, 1::2]
    columns = columns.copy()
    columns[:, C:] = x
    yield columns[:, C:], columns[:, :C]
    both = np.empty((2, *SHAPE), x.dtype)
    both[0] = x
    yield both[0], both[1]
    yield both[0], both[1, ::-1, ::-1]


@pytest.mark.parametrize("name", CALLS)
@pytest.mark.parametrize("dtype", ["f4", "f8", "f2"])
def test_beside_x(dtype, name):
    """out may interleave with x as long as they are disjoint."""
    values = of_dtype(dtype, SHAPE)
    wanted = CALLS[name](values, None).astype("f8")
    for x, out in places_beside(values):
        assert CALLS[name](x, out) is out
        np.testing.assert_allclose(out.astype("f8"), wanted, rtol=1e-2 if dtype == "f2" else 1e-6, atol=1e-6)
        np.testing.assert_array_equal(x, values)


@pytest.mark.parametrize("name", CALLS)
def test_other_byte_order(name):
    """out may have the other byte order."""
    x = of_dtype("f4", SHAPE)
    wanted = CALLS[name](x, None)
    out = swapped(np.empty_like(x))
    assert CALLS[name](x, out) is out
    np.testing.assert_allclose(out, wanted, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("name", CALLS)
def test_subclass(name):
    """out may be a subclass of ndarray, and is returned."""
    x = of_dtype("f4", SHAPE)
    out = every_other(np.empty_like(x), 1).view(np.recarray)
    assert CALLS[name](x, out) is out
    np.testing.assert_allclose(out, CALLS[name](x, None), rtol=1e-6, atol=1e-6)
