"""The memory of pyarrow's columns as arrays of NumPy, and back. pyarrow's own conversions import pandas."""

from typing import Any

import numpy as np
import pyarrow as pa  # type: ignore[import-untyped]
from numpy.typing import NDArray
from pyarrow import types


def values_of(column: Any) -> NDArray[Any]:
    """The values of a column in a type that NumPy has, arbitrary where they are missing; without a copy, but for bools.

    pyarrow's `to_numpy` imports pandas, which takes longer than reading many a file.
    """
    data = column.buffers()[1]
    if data is None:
        return np.zeros(len(column), column.type.to_pandas_dtype())
    if types.is_boolean(column.type):
        return bits_of(data, column.offset, len(column))
    dtype = np.dtype(column.type.to_pandas_dtype())
    return np.frombuffer(data, dtype, len(column), column.offset * dtype.itemsize)


def in_arrow(x: NDArray[Any], mask: NDArray[np.bool_] | None = None) -> Any:
    """A column with the memory of an array, and a mask of the values that are present. Nor does this import pandas."""
    bits = None if mask is None else pa.py_buffer(np.packbits(mask, bitorder="little"))
    return pa.Array.from_buffers(pa.from_numpy_dtype(x.dtype), len(x), [bits, pa.py_buffer(np.ascontiguousarray(x))])


def bits_of(data: Any, first: int, n: int) -> NDArray[np.uint8]:
    """The bits from `first` on in a buffer of Arrow, each as 0 or 1."""
    of_bytes = np.frombuffer(data, np.uint8)[first // 8:(first + n + 7) // 8]
    return np.unpackbits(of_bytes, bitorder="little")[first % 8:first % 8 + n]


def mask_of(column: Any) -> NDArray[np.bool_]:
    """A mask of the values of a column that are not missing, of which some are."""
    return bits_of(column.buffers()[0], column.offset, len(column)).view(np.bool_)
