"""Dask dataframes: their columns, checked, and the moments and normalized values of each."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import numpy as np
from dask.base import is_dask_collection
from dask.utils import is_dataframe_like
from numpy.typing import NDArray

from bnstream.core.affine import Affine
from bnstream.core.columns import column_of
from bnstream.core.dtypes import is_real
from bnstream.core.moments import Moments


def columns_of(x: Any) -> tuple[str, ...]:
    """The names of the columns of a dataframe.

    Raises
    ------
    TypeError
        If `x` is not a dask dataframe.
    ValueError
        If it has no columns, or two of the same name.
    """
    if not (is_dask_collection(x) and is_dataframe_like(x)):
        raise TypeError(f"expected a dask array or dataframe, got {type(x).__name__}; make one with "
                        "dask.array.from_array, dask.dataframe.from_pandas, or to_frame() of a series")
    if not len(x.columns):
        raise ValueError("the dataframe has no columns")
    return Moments(names=[str(name) for name in x.columns]).names or ()


def require_numbers(x: Any, columns: Collection[str]) -> None:
    """Raise TypeError unless these columns are of real numbers."""
    types = {str(name): dtype for name, dtype in x.dtypes.items()}
    wrong = [f"{name!r} ({types[name]})" for name in columns if not is_real(types[name])]
    if wrong:
        raise TypeError(f"expected columns of numbers, got {', '.join(wrong)}; select the others, as in x[['a', 'b']], "
                        "or convert these with x.astype")


def is_plain(column: Any) -> bool:
    """Whether a pandas Series has a dtype of NumPy, not a nullable one."""
    return isinstance(column.dtype, np.dtype)


def values_of(column: Any) -> NDArray[Any]:
    """The numbers of a pandas Series of a dtype of NumPy; else as float64, with NaN for missing values."""
    if is_plain(column):
        return np.ascontiguousarray(column.to_numpy())
    values: NDArray[np.float64] = column.to_numpy(np.float64, na_value=np.nan)
    return values


def moments_of_column(column: Any, options: Mapping[str, Any], given: Mapping[str, Any]) -> Moments:
    """The moments of a pandas Series, as one channel. Integers of a nullable dtype are not rounded."""
    values = values_of(column)[:, np.newaxis] if is_plain(column) else column
    return Moments(**options).update(values, **given, n_threads=1)


def normalized_column(column: Any, affine: Affine, name: str) -> NDArray[Any]:
    """The normalized values of a pandas Series; missing values become NaN."""
    found = None if is_plain(column) else column_of(column)
    if found is None:
        return affine.of_named_column(values_of(column), name)
    values = found.values.astype(np.float64) if found.values.dtype.kind == "f" else found.values
    y = affine.of_named_column(values, name)
    if found.missing is not None:
        y[found.missing] = np.nan
    return y
