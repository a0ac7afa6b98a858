"""result_dtype: results of another dtype than x, for mixed precision."""

import numpy as np
import pytest
from support.arrays import BFLOAT16, of_dtype

from bnstream import BatchNorm, normalize
from bnstream.core.summary import summary

X = of_dtype("f4", (20, 3))
DTYPES = ["f2", BFLOAT16, "f4", "f8"]


@pytest.mark.parametrize("result", DTYPES, ids=str)
@pytest.mark.parametrize("given", ["f2", "f4", "f8", ">f4", "u1", "i8"])
@pytest.mark.parametrize("training", [True, False])
def test_results(given, result, training):
    """They are rounded once. Estimates and gradients are those without it."""
    x = np.abs(10 * X).astype(given)
    bn, plain, exact = (BatchNorm(3, result_dtype=r).train(training) for r in (result, None, "f8"))
    (y, backward), (wanted, of_plain) = bn.vjp(x), plain.vjp(x)
    assert y.dtype == np.dtype(result)
    assert y.tobytes() == exact(x).astype(result).tobytes()
    np.testing.assert_allclose(bn.running_var, plain.running_var, rtol=1e-15)
    for gradient, other in zip(backward(y), of_plain(y), strict=True):
        assert gradient.dtype == other.dtype
        eps = np.finfo("f4" if other.dtype == "f8" and other.ndim == 1 else other.dtype).eps
        np.testing.assert_allclose(gradient.astype(float), other.astype(float), rtol=4 * eps, atol=4 * eps)
    assert backward(y)[0].dtype == wanted.dtype


def test_rounded_once():
    """float32 in between would turn a value just above a tie into the tie, and round it to even."""
    bn = BatchNorm(1, result_dtype="f2", eps=0, dtype="f8").eval()
    bn.running_mean = [-(1 + 2.0**-11 + 2.0**-30)]      # 0 becomes this, without the sign
    assert bn(np.zeros((2, 1), "f4")).tolist() == [[1 + 2.0**-10]] * 2


@pytest.mark.parametrize("options", [{}, {"renorm": True}], ids=str)
def test_where_and_out(options):
    mask = np.arange(20) % 3 > 0
    bn, plain = BatchNorm(3, result_dtype="f2", **options), BatchNorm(3, **options)
    out = np.empty((20, 3), "f2")
    assert bn(X, out, where=mask) is out
    np.testing.assert_allclose(out, plain(X, where=mask), rtol=2**-11, atol=2**-24)
    for order in (X.T.copy().T, X.reshape(4, 5, 3)[:, :, ::-1].transpose(0, 2, 1)):
        y, wanted = bn(order, where=None), plain(order)
        np.testing.assert_allclose(y, wanted, rtol=2**-11, atol=2**-24)
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


def test_byte_order():
    """Dtypes are native, so that copies and files are equal to the layer."""
    bn = BatchNorm(3, dtype=">f8", result_dtype=np.dtype(">f4"))
    assert all(dtype.isnative for dtype in (bn.dtype, bn.gamma.dtype, bn.result_dtype))
    assert bn.copy() == bn == BatchNorm(3, dtype="f8", result_dtype="f4")
    assert bn(X).dtype.isnative


BUFFER = np.ones((20, 6), "f4")


@pytest.mark.parametrize(("out", "error", "message"), [
    (np.empty((20, 3), "f4"), ValueError, "out must have dtype float16, the result_dtype of the layer, got float32"),
    (np.empty((3, 20), "f2"), ValueError, r"out must have the shape of x, \(20, 3\), got \(3, 20\)"),
    (np.ma.masked_array(np.empty((20, 3), "f2")), TypeError, "out must be a plain array, got MaskedArray"),
    ([[1.0]], TypeError, "out must be a plain array, got list"),
    (np.broadcast_to(np.float16(0), (20, 3)), ValueError, "out is read-only; pass a writable array, or leave it out"),
    (BUFFER.view("f2")[:, :3], ValueError, "out overlaps x in part; pass x itself, or an array with memory of its own"),
])
def test_out_that_is_refused(out, error, message, unchanged):
    unchanged(BatchNorm(3, result_dtype="f2"), error, message, lambda bn: bn(BUFFER[:, :3], out))


def test_the_setting(unchanged):
    bn = BatchNorm(3, result_dtype="bfloat16" if BFLOAT16 else "float16")
    for twin in (bn.copy(), eval(repr(bn).partition("): ")[0] + ")")):
        assert twin == bn
        assert twin.result_dtype == bn.result_dtype
    assert bn != BatchNorm(3)
    assert f"result_dtype={bn.result_dtype.name}" in summary(bn).settings
    bn.result_dtype = None
    assert bn == BatchNorm(3)
    assert "result_dtype" not in summary(bn).settings
    message = "result_dtype must be float16, bfloat16, float32 or float64, got 'i4'"
    unchanged(bn, TypeError, message, lambda layer: setattr(layer, "result_dtype", "i4"))


@pytest.mark.parametrize("name", ["M8[s/0]", "int32", 4])
def test_a_foreign_state(name):
    """A serializer's state may name any dtype, and NumPy's parser crashes on some."""
    state = BatchNorm(3, result_dtype="f2").__getstate__()
    assert state["_result_dtype"] == "float16"
    with pytest.raises(ValueError, match="result_dtype must be one of float16, bfloat16, float32, float64, got "):
        BatchNorm.__new__(BatchNorm).__setstate__(state | {"_result_dtype": name})
