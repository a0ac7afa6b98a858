"""The dtypes of real numbers: NumPy's own, and bfloat16, which comes from ml_dtypes."""

from typing import Any

import numpy as np
from numpy.typing import DTypeLike

FLOATING = ("float16", "bfloat16", "float32", "float64")


def is_real(dtype: np.dtype[Any]) -> bool:
    """Whether it is of real numbers: floating, integer or bool."""
    return dtype.kind in "fiub" or dtype.name == "bfloat16"


def is_floating(dtype: np.dtype[Any]) -> bool:
    """Whether a result may keep it: floating of any size, bfloat16 included."""
    return dtype.kind == "f" or dtype.name == "bfloat16"


def floating(dtype: DTypeLike) -> np.dtype[Any]:
    """The dtype that a caller asks for.

    Raises
    ------
    TypeError
        If it is not one of the four floating dtypes.
    """
    asked = np.dtype(dtype)
    if asked.name not in FLOATING:
        raise TypeError(f"dtype must be {', '.join(FLOATING[:-1])} or {FLOATING[-1]}, got {asked}")
    return asked


def bfloat16(what: str) -> Any:
    """The dtype bfloat16, for something that needs it.

    Raises
    ------
    ModuleNotFoundError
        If ml_dtypes is not installed.
    """
    try:
        import ml_dtypes
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(f"{what} has dtype bfloat16, which needs ml_dtypes; install it with: pip install "
                                  "ml_dtypes", name=error.name) from error
    return ml_dtypes.bfloat16
