"""Dask dataframes: their columns, checked, and the values in them."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import numpy as np
from dask.base import is_dask_collection
from dask.utils import is_dataframe_like
from numpy.typing import NDArray

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
    types = {str(name): dtype for name, dtype in x.dtypes.items()}
    wrong = [f"{name!r} ({types[name]})" for name in columns if types[name].kind not in "biuf"]
    if wrong:
        raise TypeError(f"expected columns of numbers, got {', '.join(wrong)}; select the others, as in x[['a', 'b']], "
                        "or convert these with x.astype")


def values_of(column: Any) -> NDArray[Any]:
    """The numbers of a pandas Series. Missing values of a nullable dtype become NaN."""
    if isinstance(column.dtype, np.dtype):
        return np.ascontiguousarray(column.to_numpy())
    values: NDArray[np.float64] = column.to_numpy(np.float64, na_value=np.nan)
    return values
