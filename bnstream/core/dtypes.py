"""The dtypes of real numbers, NumPy's own and bfloat16, which comes from ml_dtypes; and the type of named arrays."""

from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from bnstream.core.optional import needing

NamedArrays = dict[str, NDArray[Any]]
FLOATING = ("float16", "bfloat16", "float32", "float64")


def is_real(dtype: np.dtype[Any]) -> bool:
    """Whether it is of real numbers: floating, integer or bool."""
    return dtype.kind in "fiub" or dtype.name == "bfloat16"


def is_floating(dtype: np.dtype[Any]) -> bool:
    """Whether a result may keep it: floating of any size, bfloat16 included."""
    return dtype.kind == "f" or dtype.name == "bfloat16"


def floating(dtype: DTypeLike, name: str = "dtype") -> np.dtype[Any]:
    """The dtype that a caller asks for by an argument of this name.

    Raises
    ------
    TypeError
        If it is not one of the four floating dtypes.
    ModuleNotFoundError
        If it is bfloat16, by name, and ml_dtypes is not installed.
    """
    try:
        asked = np.dtype(bfloat16() if isinstance(dtype, str) and dtype == "bfloat16" else dtype)
    except TypeError:
        asked = None
    if asked is None or asked.name not in FLOATING:
        raise TypeError(f"{name} must be {', '.join(FLOATING[:-1])} or {FLOATING[-1]}, got "
                        f"{repr(dtype) if asked is None else asked}")
    return asked


def bfloat16() -> Any:
    """The dtype bfloat16.

    Raises
    ------
    ModuleNotFoundError
        If ml_dtypes is not installed.
    """
    with needing("dtype bfloat16", "ml_dtypes"):
        import ml_dtypes
    return ml_dtypes.bfloat16
