"""Arrays of other libraries, read in place: by DLPack, and with bfloat16 from ml_dtypes, which NumPy lacks."""

import os
from collections.abc import Iterable, Iterator
from importlib import import_module
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bnstream.core.columns import Columns, in_exact_form
from bnstream.core.dtypes import bfloat16

HOST = {1, 3, 11, 13}       # DLPack's kDLCPU, and what a GPU shares with it: kDLCUDAHost, kDLROCMHost, kDLCUDAManaged
DEVICES = {2: "CUDA", 8: "Metal", 10: "ROCm", 14: "oneAPI"}


def as_numpy(x: Any) -> NDArray[Any]:
    """x as an ndarray on the same memory if x is an array in the memory of the CPU; else what NumPy makes of it.

    A tensor with PyTorch's negative or conjugate bit is copied.

    Raises
    ------
    TypeError
        If x is not an array or nested sequences, NumPy would round integers, or it cannot read x.
    """
    if isinstance(x, np.ndarray):
        return x
    x = in_exact_form(x)
    if isinstance(x, Columns):
        names = ", ".join(repr(column.name) for column in x.columns if column.rounds())
        raise TypeError(f"expected numbers that one array can hold, got integers beyond 2**53"
                        f"{f' in {names}' if x.ndim == 2 else ''} with missing values or beside other dtypes, which "
                        "float64 would round; subtract an offset from them first")
    if not hasattr(x, "__dlpack_device__"):
        a = np.asanyarray(x)
        if a.ndim == 0 and a.dtype.kind in "OSU":
            raise TypeError(f"expected an array of numbers, got {type(x).__name__}{advice(x)}")
        return a
    kind = type(x).__name__
    try:
        device = int(x.__dlpack_device__()[0])
        if device in HOST and not hasattr(x, "__array__"):
            return np.from_dlpack(x)
    except (BufferError, RuntimeError, ValueError) as error:
        raise unreadable(kind, error) from error
    if device not in HOST:
        raise TypeError(f"expected an array in the memory of the CPU, got {kind} on a device of "
                        f"{DEVICES.get(device, f'DLPack type {device}')}; copy it there first, by x.cpu() in PyTorch, "
                        "jax.device_get(x) in JAX, x.get() in CuPy")
    if getattr(x, "requires_grad", False):
        raise TypeError(f"got a {kind} that requires a gradient, which bnstream does not propagate; pass x.detach()")
    x = resolved(x)
    try:
        if str(getattr(x, "dtype", None)) == "torch.bfloat16":
            return np.asarray(x.view(import_module("torch").int16)).view(bfloat16())
        return np.asanyarray(x)
    except (BufferError, NotImplementedError, RuntimeError, TypeError, ValueError) as error:
        raise unreadable(kind, error) from error


def is_masked(x: Any) -> bool:
    """Whether it is an array with a mask, of NumPy, Astropy or another library, which NumPy's `asarray` would drop."""
    return isinstance(x, np.ndarray) and type(x) is not np.ndarray and getattr(x, "mask", None) is not None


def resolved(x: Any) -> Any:
    """A tensor without PyTorch's negative and conjugate bits, which stand for an operation on memory that NumPy reads.

    It is x itself unless it has such a bit, otherwise a copy.
    """
    for name in ("resolve_conj", "resolve_neg"):
        if hasattr(x, name):
            x = getattr(x, name)()
    return x


def unreadable(kind: str, error: Exception) -> TypeError:
    return TypeError(f"expected an array that NumPy can read in place, got {kind}: {error}; copy it into a NumPy array "
                     "first")


def advice(x: Any) -> str:
    """What to do with an object of which NumPy makes no array."""
    if isinstance(x, (str, os.PathLike)):
        return "; bnstream.fit reads files"
    if isinstance(x, Iterator):
        return "; make a list of its items first, or pass each to Moments.update"
    return "; make a list of its items first" if isinstance(x, Iterable) else ""


def detached(values: Any) -> NDArray[Any]:
    """Parameters as an array: those of a tensor are copied from any device, without its gradient, bfloat16 as float32.

    Raises
    ------
    TypeError
        If a tensor has no values, as those on PyTorch's device "meta", or none that NumPy can hold.
    """
    if hasattr(values, "detach"):
        kind = type(values).__name__
        try:
            values = resolved(values.detach().cpu())
            values = (values.float() if str(values.dtype) == "torch.bfloat16" else values).numpy()
        except (NotImplementedError, RuntimeError, TypeError, ValueError) as error:
            raise unreadable(kind, error) from error
    if is_masked(values):
        raise TypeError(f"expected a plain array, got a masked one, {type(values).__name__}; fill what is masked first")
    return np.asarray(values)
