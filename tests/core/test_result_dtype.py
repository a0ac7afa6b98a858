"""result_dtype: results of another dtype than x, for mixed precision."""

import numpy as np
import pytest
from support.arrays import BFLOAT16, of_dtype

from bnstream import BatchNorm, normalize

X = of_dtype("f4", (20, 3))
DTYPES = ["f2", BFLOAT16, "f4", "f8"]


@pytest.mark.parametrize("result", DTYPES, ids=str)
@pytest.mark.parametrize("given", ["f2", "f4", "f8", ">f4", "u1", "i8"])
@pytest.mark.parametrize("training", [True, False])
def test_results(given, result, training):
    """They are those without it, rounded; estimates and gradients have the bits of those without it."""
    x = np.abs(10 * X).astype(given)
    bn, plain = BatchNorm(3, result_dtype=result).train(training), BatchNorm(3).train(training)
    assert bn.copy()(x).tobytes() == plain.copy()(x).astype(result).tobytes()
    (y, backward), (wanted, of_plain) = bn.vjp(x), plain.vjp(x)
    assert y.dtype == np.dtype(result)
    assert y.tobytes() == wanted.astype(result).tobytes()
    assert bn.running_var.tobytes() == plain.running_var.tobytes()
    for gradient, other in zip(backward(y), of_plain(wanted.astype(result)), strict=True):
        assert gradient.tobytes() == other.tobytes()
    assert backward(y)[0].dtype == wanted.dtype


@pytest.mark.parametrize("options", [{}, {"renorm": True}], ids=str)
def test_where_and_out(options):
    mask = np.arange(20) % 3 > 0
    bn, plain = BatchNorm(3, result_dtype="f2", **options), BatchNorm(3, **options)
    out = np.empty((20, 3), "f2")
    assert bn(X, out, where=mask) is out
    assert out.tobytes() == plain(X, where=mask).astype("f2").tobytes()
    for order in (X.T.copy().T, X.reshape(4, 5, 3)[:, :, ::-1].transpose(0, 2, 1)):
        y, wanted = bn(order, where=None), plain(order)
        assert y.tobytes() == wanted.astype("f2").tobytes()
        assert y.strides == tuple(stride // 2 for stride in wanted.strides)


def test_x_of_the_same_dtype_is_written_in_place():
    bn, x = BatchNorm(3, result_dtype="f2").eval(), X.astype("f2")
    wanted = normalize(x, np.zeros(3), np.ones(3), eps=1e-5)
    assert bn(x, out=x) is x
    assert x.tobytes() == wanted.tobytes()


def test_results_too_large_for_the_dtype():
    """They are inf, without a warning."""
    bn = BatchNorm(3, result_dtype="f2")
    bn.gamma = [1e6, 1, 1]
    assert np.isinf(bn(X)[:, 0]).any()
    assert np.isfinite(bn(X)[:, 1:]).all()


BUFFER = np.ones((20, 6), "f4")


@pytest.mark.parametrize(("out", "error", "message"), [
    (np.empty((20, 3), "f4"), ValueError, r"have the shape of x, \(20, 3\), and dtype float16, got .* float32"),
    (np.empty((3, 20), "f2"), ValueError, r"and dtype float16, got \(3, 20\) and float16"),
    (np.ma.masked_array(np.empty((20, 3), "f2")), TypeError, "out must be a plain array, got MaskedArray"),
    ([[1.0]], TypeError, "out must be a plain array, got list"),
    (np.broadcast_to(np.float16(0), (20, 3)), ValueError, "out is read-only; pass a writable array, or leave it out"),
    (BUFFER.view("f2")[:, :3], ValueError, "out overlaps x, which has another dtype, float32; pass another array"),
])
def test_out_that_is_refused(out, error, message, unchanged):
    unchanged(BatchNorm(3, result_dtype="f2"), error, message, lambda bn: bn(BUFFER[:, :3], out))


def test_the_setting(unchanged):
    bn = BatchNorm(3, result_dtype="bfloat16" if BFLOAT16 else "float16")
    for twin in (bn.copy(), eval(repr(bn).partition("): ")[0] + ")")):
        assert twin == bn
        assert twin.result_dtype == bn.result_dtype
    assert bn != BatchNorm(3)
    bn.result_dtype = None
    assert bn == BatchNorm(3)
    message = "result_dtype must be float16, bfloat16, float32 or float64, got int32"
    unchanged(bn, TypeError, message, lambda layer: setattr(layer, "result_dtype", "i4"))
