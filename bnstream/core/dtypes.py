"""The dtypes of real numbers, NumPy's own and bfloat16, which comes from ml_dtypes; and the type of named arrays."""

from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from bnstream.core.optional import needing

NamedArrays = dict[str, NDArray[Any]]
FLOATING = ("float16", "bfloat16", "float32", "float64")
NATIVE = {np.dtype(code) for code in "efd"}
# The names and codes of floating dtypes. NumPy's parser of dtypes is not for strangers: some strings end the process.
NAMED = {"half": "float16", "single": "float32", "float": "float64", "double": "float64"} | {s: s for s in FLOATING}
CODES = {"float16": ("f2", "e"), "float32": ("f4", "f"), "float64": ("f8", "d")}
NAMED |= {order + code: name for name, codes in CODES.items() for code in codes for order in ("", "<", ">", "=", "|")}


def is_real(dtype: np.dtype[Any]) -> bool:
    """Whether it is of real numbers: floating, integer or bool."""
    return dtype.kind in "fiub" or dtype.name == "bfloat16"


def is_floating(dtype: np.dtype[Any]) -> bool:
    """Whether a result may keep it: floating of any size, bfloat16 included."""
    return dtype.kind == "f" or dtype.name == "bfloat16"


def floating(dtype: DTypeLike, name: str = "dtype") -> np.dtype[Any]:
    """The dtype that a caller asks for by an argument of this name, in native byte order.

    Raises
    ------
    TypeError
        If it is not one of the four floating dtypes.
    ModuleNotFoundError
        If it is bfloat16, by name, and ml_dtypes is not installed.
    """
    asked: Any = dtype
    if isinstance(dtype, str):
        asked = NAMED.get(dtype)
        asked = bfloat16() if asked == "bfloat16" else asked
    elif isinstance(dtype, (bytes, list, tuple, dict)):     # These hold strings to be parsed.
        asked = None
    if asked is not None or dtype is None:
        try:
            asked = np.dtype(asked)
            asked = asked if asked.isnative else asked.newbyteorder("=")
        except (TypeError, ValueError):
            asked = None
    if asked is None or (asked not in NATIVE and asked.name != "bfloat16"):
        raise TypeError(f"{name} must be {', '.join(FLOATING[:-1])} or {FLOATING[-1]}, got "
                        f"{f'{dtype!r:.60}' if asked is None else asked}")
    return asked


def rounded(values: Any, dtype: Any) -> Any:
    """Values cast to a dtype; what is too large for it becomes inf without a warning, as in the kernels."""
    with np.errstate(all="ignore"):
        return np.asarray(values).astype(dtype)


def stored_floating(dtype: Any, name: str = "dtype") -> np.dtype[Any]:
    """The dtype that a serialized state holds by its name.

    Raises
    ------
    ValueError
        If it is not the name of one of the four floating dtypes.
    """
    if not isinstance(dtype, str) or dtype not in FLOATING:
        raise ValueError(f"{name} must be one of {', '.join(FLOATING)}, got {dtype!r:.60}")
    return floating(dtype, name)


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
