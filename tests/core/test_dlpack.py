"""Arrays of other libraries are read in place, or refused with a message that says what to do."""

import re
import sys

import numpy as np
import pytest

from bnstream import BatchNorm, Moments, batch_norm, mean_var, normalize
from bnstream.core.dlpack import as_numpy

X = np.random.default_rng(0).normal(3, 2, (40, 6)).astype(np.float32)


class Foreign:
    """An array with the DLPack protocol alone, like one of CuPy in host memory."""

    def __init__(self, array, device=1):
        self.array, self.device = array, device

    def __dlpack__(self, **options):
        return self.array.__dlpack__(**options)

    def __dlpack_device__(self):
        return self.device, 0


def address(array):
    return array.__array_interface__["data"][0]


@pytest.mark.parametrize("x", [X, X.T, X[::2, 1::3], X.reshape(4, 10, 6), X[:0], X.astype("u1")],
                         ids=["as it is", "transposed", "every second", "3-d", "empty", "uint8"])
def test_only_dlpack(x):
    found = as_numpy(Foreign(x))
    assert (found.dtype, found.shape, found.strides) == (x.dtype, x.shape, x.strides)
    assert address(found) == address(x)


@pytest.mark.parametrize("wrap", [
    Foreign, pytest.param(lambda x: pytest.importorskip("torch").from_numpy(x), id="torch"),
    pytest.param(lambda x: pytest.importorskip("jax").numpy.asarray(x), id="jax"),
])
def test_everything_that_takes_an_array(wrap):
    """The results have the bits of those for NumPy arrays."""
    m, bn, other = Moments().update(wrap(X)), BatchNorm(6), BatchNorm(6)
    assert m == Moments().update(X)
    for got, wanted in zip(mean_var(wrap(X)), mean_var(X), strict=True):
        assert got.tobytes() == wanted.tobytes()
    assert normalize(wrap(X), wrap(X[0]), wrap(X[1] ** 2)).tobytes() == normalize(X, X[0], X[1] ** 2).tobytes()
    assert batch_norm(wrap(X), m.mean, m.var()).tobytes() == batch_norm(X, m.mean, m.var()).tobytes()
    assert bn(wrap(X)).tobytes() == other(X).tobytes()
    assert bn.backward(wrap(X)).tobytes() == other.backward(X).tobytes()
    assert bn.recalibrate([wrap(X), wrap(X)]) == other.recalibrate([X, X])
    assert bn == other


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64", "bool", "uint8", "int8", "int64"])
@pytest.mark.parametrize("layout", ["as it is", "transposed", "every second"])
def test_torch(dtype, layout):
    torch = pytest.importorskip("torch")
    if dtype == "bfloat16":
        pytest.importorskip("ml_dtypes")
    t = torch.from_numpy(X).to(getattr(torch, dtype))
    t = {"as it is": t, "transposed": t.T, "every second": t[::2, ::2]}[layout]
    found = as_numpy(t)
    assert found.dtype.name == dtype
    assert address(found) == t.data_ptr()
    assert found.strides == tuple(stride * t.element_size() for stride in t.stride())
    wide = found.astype(np.float64)
    assert wide.tolist() == t.double().tolist()
    mean, var = mean_var(t, dtype="float64")
    assert mean == pytest.approx(wide.mean(0), rel=1e-12)
    assert var == pytest.approx(wide.var(0), rel=1e-12)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "bool", "uint8"])
def test_jax(dtype):
    jnp = pytest.importorskip("jax").numpy
    x = jnp.asarray(X).astype(dtype)
    found = as_numpy(x)
    assert found.dtype.name == dtype
    assert address(found) == x.unsafe_buffer_pointer()


def test_results_outlive_the_tensor():
    """The layer keeps the memory alive that backward needs."""
    torch = pytest.importorskip("torch")
    bn, other = BatchNorm(6), BatchNorm(6)
    other(X)
    wanted = other.backward(X).tobytes()
    for wrap in (torch.from_numpy, Foreign):
        bn(wrap(X.copy()))
        assert bn.backward(X).tobytes() == wanted


def test_shared_memory_of_a_gpu():
    for device in (3, 11, 13):
        assert Moments().update(Foreign(X, device)) == Moments().update(X)


@pytest.mark.parametrize(("device", "name"), [
    (2, "CUDA"), (8, "Metal"), (10, "ROCm"), (14, "oneAPI"), (7, "DLPack type 7"),
])
@pytest.mark.parametrize("array_too", [False, True])
def test_a_gpu(device, name, array_too, unchanged):
    """A GPU array is refused, and never copied silently, even where NumPy could."""

    class Both(Foreign):
        def __array__(self, dtype=None, copy=None):
            return self.array

    x = (Both if array_too else Foreign)(X, device)
    message = rf"in the memory of the CPU, got \w+ on a device of {name}; copy it there first, by x.cpu\(\) in PyTorch"
    unchanged(Moments().update(X), TypeError, message, lambda m: m.update(x))
    for call in (mean_var, BatchNorm(6)):
        with pytest.raises(TypeError, match=message):
            call(x)


def test_a_tensor_that_requires_a_gradient():
    torch = pytest.importorskip("torch")
    t = torch.from_numpy(X).requires_grad_()
    for tensor in (t, t * 2, torch.nn.Parameter(t.detach()), t.bfloat16()):
        with pytest.raises(TypeError, match=r"got a \w+ that requires a gradient, .*; pass x.detach\(\)"):
            mean_var(tensor)
    with pytest.raises(TypeError, match="gamma: got a Tensor that requires a gradient"):
        normalize(X, X[0], X[1] ** 2, t[0])
    assert mean_var(t.detach())[0].tobytes() == mean_var(X)[0].tobytes()
    with torch.no_grad():
        assert mean_var(t * 2)[0].tobytes() == mean_var(X * 2)[0].tobytes()


def test_tensors_without_memory():
    torch = pytest.importorskip("torch")
    with pytest.raises(TypeError, match=r"can read in place, got Tensor: .*meta.*; copy it into a NumPy array"):
        mean_var(torch.ones(3, device="meta"))
    with pytest.raises(TypeError, match="Sparse"):
        mean_var(torch.ones(3, 3).to_sparse())


def with_negative_bit(values):
    """The tensor with PyTorch's lazy negative bit: its memory holds the numbers with the other sign."""
    torch = pytest.importorskip("torch")
    parts = torch.complex(torch.zeros_like(values), -values)
    lazy = parts.conj().imag
    assert lazy.is_neg()
    return lazy


def test_negative_bits():
    """Lazy signs are resolved, in everything that takes an array and in parameters."""
    torch = pytest.importorskip("torch")
    x = with_negative_bit(torch.from_numpy(X))
    wide = with_negative_bit(torch.from_numpy(X.astype("f8")))
    assert as_numpy(x).tobytes() == X.tobytes()
    for got, wanted in zip((*mean_var(x), *mean_var(wide)), (*mean_var(X), *mean_var(X.astype("f8"))), strict=True):
        assert got.tobytes() == wanted.tobytes()
    bn, other = BatchNorm(6), BatchNorm(6)
    assert bn(x).tobytes() == other(X).tobytes()
    assert bn.backward(x).tobytes() == other.backward(X).tobytes()
    assert normalize(X, x[0], np.ones(6), x[1]).tobytes() == normalize(X, X[0], np.ones(6), X[1]).tobytes()
    bn.gamma = x[0]
    assert bn.gamma.tolist() == X[0].tolist()
    bn.load_state_dict(bn.state_dict() | {"weight": x[1]})
    assert bn.gamma.tolist() == X[1].tolist()
    assert bn.fold(x[:6, :6], x[0])[1].tobytes() == bn.fold(X[:6, :6], X[0])[1].tobytes()


def test_conjugate_bits():
    """Complex numbers are refused with or without the lazy bit."""
    torch = pytest.importorskip("torch")
    x = torch.complex(torch.ones(3, 6), torch.ones(3, 6)).conj()
    assert x.is_conj()
    for call in (mean_var, BatchNorm(6), lambda x: normalize(X, x[0], X[1] ** 2),
                 lambda x: setattr(BatchNorm(6), "gamma", x[0])):
        with pytest.raises(TypeError, match=r"(real numbers|expected float16).*complex64|complex64; expected float16"):
            call(x)


def test_parameters_without_memory():
    torch = pytest.importorskip("torch")
    with pytest.raises(TypeError, match=r"can read in place, got Tensor: .*meta tensor.*; copy it into a NumPy array"):
        BatchNorm(3).gamma = torch.ones(3, device="meta")
    meta = torch.nn.BatchNorm1d(3, device="meta")
    for load in (BatchNorm.from_torch, lambda layer: BatchNorm(3).load_state_dict(layer.state_dict())):
        with pytest.raises(TypeError, match="meta tensor"):
            load(meta)


def test_an_array_that_cannot_be_exported():
    x = np.array(["a", "b"])
    with pytest.raises(TypeError, match=r"can read in place, got Foreign: .+; copy it into a NumPy array first"):
        mean_var(Foreign(x))


def test_bfloat16_without_ml_dtypes(monkeypatch):
    torch = pytest.importorskip("torch")
    monkeypatch.setitem(sys.modules, "ml_dtypes", None)
    with pytest.raises(ModuleNotFoundError, match=re.escape("install it with: pip install ml_dtypes")):
        mean_var(torch.ones(3, 2, dtype=torch.bfloat16))


def test_plain_arrays_come_back_as_they_are(tmp_path):
    """Memmaps and other subclasses have DLPack as well."""
    np.save(tmp_path / "x.npy", X)
    memory = np.load(tmp_path / "x.npy", mmap_mode="r")
    assert as_numpy(memory) is memory
    assert Moments().update(memory) == Moments().update(X)
    with pytest.raises(TypeError, match="masked array"):
        mean_var(np.ma.masked_array(X, X > 1))
    assert as_numpy([[1.0, 2.0]]).tolist() == [[1, 2]]


def test_a_sharded_array():
    """JAX would gather it, which is a copy. A stand-in replaces it here, since one CPU has no shards."""

    class Sharded:
        def __dlpack_device__(self):
            raise BufferError("only supported for unsharded arrays")

        def __array__(self, dtype=None, copy=None):
            return X

    with pytest.raises(TypeError, match=r"got Sharded: only supported for unsharded arrays; copy it into"):
        mean_var(Sharded())
