"""Columns of pandas, polars and pyarrow, without rounding their integers.

NumPy converts integers with missing values to float64, and likewise a table of integers and floats. This rounds
integers beyond 2**53, such as timestamps in nanoseconds. `in_exact_form` finds such data and keeps its columns apart.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from bnstream.core.dtypes import is_real
from bnstream.core.labels import require_order
from bnstream.core.optional import home_of

LARGEST_EXACT = 2**53       # float64 holds every integer up to this magnitude.
LONG = {("i", 8), ("u", 8)}     # Kind and size of the integers that may exceed it.


class Column(NamedTuple):
    """One column of real numbers."""

    name: str
    values: NDArray[Any]
    """Of any real dtype. A missing float is NaN."""
    missing: NDArray[np.bool_] | None = None
    """Marks the missing integers and bools, whose values are arbitrary; None if there are none."""

    def as_floats(self) -> NDArray[Any]:
        """The values, as float64 with NaN if some are missing."""
        return self.values if self.missing is None else np.where(self.missing, np.nan, self.values)

    def rounds(self) -> bool:
        """Whether float64 does not hold all of its integers."""
        if (self.values.dtype.kind, self.values.dtype.itemsize) not in LONG:
            return False
        used: Any = True if self.missing is None else ~self.missing
        return bool(self.values.max(initial=0, where=used) > LARGEST_EXACT
                    or self.values.min(initial=0, where=used) < -LARGEST_EXACT)


@dataclass(frozen=True, eq=False)
class Columns:
    """Columns that no single array of a dtype of NumPy holds exactly."""

    columns: list[Column]
    ndim: int
    """2 for a table, whose columns are along axis 1; 1 for a column alone."""

    @property
    def shape(self) -> tuple[int, ...]:
        n_rows = len(self.columns[0].values)
        return (n_rows, len(self.columns)) if self.ndim == 2 else (n_rows,)


def in_exact_form(x: Any) -> Any:
    """Return x itself, an array of its numbers, or their `Columns` if no single array holds them exactly.

    Raises
    ------
    TypeError
        If x is a table with columns that are not numbers, or a sequence whose integers float64 would round.
    """
    if isinstance(x, list | tuple):
        return rows_in_exact_form(x)
    found = read_columns(x)
    if found is None:
        return x
    dtype = common_dtype(found)
    if dtype is None:
        return found
    array = np.asanyarray(x)
    return array if is_real(array.dtype) else stacked(found, dtype)     # NumPy makes objects of some.


def rows_in_exact_form(x: Any) -> Any:
    """Do what `in_exact_form` does for Python numbers, or rows of them, such as those of a database."""
    if not x or not isinstance(x[0], list | tuple | int | float | np.number):
        return x
    try:
        array = np.asarray(x)
    except ValueError:      # of several lengths
        return x
    if array.dtype != np.float64 or not (np.abs(array) > LARGEST_EXACT).any():
        return array if array.ndim == 2 or is_real(array.dtype) else x
    if array.ndim != 2:
        return exact_array(x)
    columns = [Column(str(j), exact_array(values)) for j, values in enumerate(zip(*x, strict=True))]
    found = Columns(columns, ndim=2)
    if not all(is_real(column.values.dtype) for column in columns):
        return array
    dtype = common_dtype(found)
    return found if dtype is None else stacked(found, dtype)


def exact_array(values: Any) -> NDArray[Any]:
    """The array that NumPy makes of numbers, but of uint64 for integers that this alone holds.

    Raises
    ------
    TypeError
        If NumPy makes float64 of them, which rounds one of the integers.
    """
    array = np.asarray(values)
    if array.dtype.kind in "biu":
        return array
    objects = np.asarray(values, object)
    integers = [value for value in objects.flat if isinstance(value, int | np.integer)]
    if len(integers) == objects.size and min(integers) >= 0 and max(integers) < 2**64:
        return objects.astype(np.uint64)
    for value in integers:
        if int(float(value)) != int(value):
            raise TypeError(f"expected numbers that one array can hold, got the integer {value} beside others that "
                            "need another dtype, and float64 would round it; subtract an offset from them first")
    return array


def common_dtype(found: Columns) -> np.dtype[Any] | None:
    """The dtype that NumPy gives an array of the columns; None if it would round."""
    dtypes = {column.values.dtype for column in found.columns}
    if any(column.missing is not None for column in found.columns):
        dtypes.add(np.dtype(np.float64))
    dtype = np.result_type(*dtypes)
    return None if dtype.kind == "f" and any(column.rounds() for column in found.columns) else dtype


def stacked(found: Columns, dtype: np.dtype[Any]) -> NDArray[Any]:
    """The columns as one array, with NaN for missing values."""
    arrays = [column.as_floats().astype(dtype, copy=False) for column in found.columns]
    return np.stack(arrays, axis=1) if found.ndim == 2 else arrays[0]


def read_columns(x: Any) -> Columns | None:
    """The columns of data of pandas, polars or pyarrow; None for other data, and where NumPy does not round it."""
    readers = {"pandas": columns_of_pandas, "polars": columns_of_polars, "pyarrow": columns_of_pyarrow}
    home = home_of(x, readers)
    named = None if home is None else readers[home[0]](home[1], x)
    if named is None:
        return None
    pairs, ndim = named
    columns, wrong = [], []
    for name, column in pairs:
        found = column_of(column, str(name))
        if found is None:
            wrong.append(f"{str(name)!r} ({getattr(column, 'dtype', None) or column.type})")
        else:
            columns.append(found)
    if wrong and ndim == 2:
        raise TypeError(f"expected columns of numbers, got {', '.join(wrong)}; select the others, or convert these "
                        "to numbers")
    return None if wrong or not columns else Columns(columns, ndim)


def require_names_in_order(names: Sequence[str] | None, x: Any) -> None:
    """Raise ValueError if x is a table that has columns of these names at other places."""
    if names is not None:
        require_order(names, column_names(x), "columns")


def require_mask_in_order(where: Any, x: Any) -> None:
    """Raise ValueError if a mask is a table that has columns of the names of those of a table x at other places."""
    if where is not None and (names := column_names(where)):
        require_order(column_names(x), names, "columns of where")


def column_names(x: Any) -> list[str]:
    """The names of the columns of a table of pandas, polars or pyarrow; none of anything else."""
    home = None if type(x) is np.ndarray else home_of(x, ("pandas", "polars", "pyarrow"))
    if home is None:
        return []
    given = getattr(getattr(x, "schema", None), "names", ()) if home[0] == "pyarrow" else getattr(x, "columns", ())
    return [str(name) for name in given]


Named = tuple[list[tuple[Any, Any]], int]


def columns_of_pandas(pandas: Any, x: Any) -> Named | None:
    if isinstance(x, pandas.DataFrame):
        dtypes = set(x.dtypes)
        plain = all(isinstance(dtype, np.dtype) for dtype in dtypes)
        short = plain and all(dtype.kind in "fiu" and (dtype.kind, dtype.itemsize) not in LONG for dtype in dtypes)
        return None if short or (plain and len(dtypes) == 1) else (list(x.items()), 2)
    if isinstance(x, pandas.Series | pandas.Index | pandas.api.extensions.ExtensionArray):
        return None if isinstance(x.dtype, np.dtype) else ([("", x)], 1)
    return None


def columns_of_polars(polars: Any, x: Any) -> Named | None:
    if isinstance(x, polars.DataFrame):
        return [(column.name, column) for column in x.get_columns()], 2
    return ([("", x)], 1) if isinstance(x, polars.Series) else None


def columns_of_pyarrow(pyarrow: Any, x: Any) -> Named | None:
    if isinstance(x, pyarrow.Table | pyarrow.RecordBatch):
        return list(zip(x.schema.names, x.columns, strict=True)), 2
    return ([("", x)], 1) if isinstance(x, pyarrow.Array | pyarrow.ChunkedArray) else None


def column_of(column: Any, name: str = "") -> Column | None:
    """A column of pandas, polars or pyarrow; None if it does not hold real numbers of a dtype of NumPy."""
    if hasattr(column, "isna"):
        return from_pandas(column, name)
    return from_polars(column, name) if callable(column.null_count) else from_pyarrow(column, name)


def from_pandas(column: Any, name: str) -> Column | None:
    dtype = getattr(column.dtype, "numpy_dtype", None)      # of a nullable dtype, or one of Arrow
    missing = None
    if dtype is None:
        values = np.asarray(column)
    elif not is_real(dtype):
        return None
    elif dtype.kind == "f":
        values = column.to_numpy(dtype, na_value=np.nan)
    else:
        missing = np.asarray(column.isna())
        values = column.to_numpy(dtype, na_value=dtype.type().item())
    if missing is not None and not missing.any():
        missing = None
    return Column(name, values, missing) if is_real(values.dtype) else None


def from_polars(column: Any, name: str) -> Column | None:
    dtype = column.dtype
    is_bool = str(dtype) == "Boolean"
    if str(dtype) in ("Int128", "UInt128"):
        what = f"column {name!r}" if name else "a column"
        raise TypeError(f"expected integers of at most 64 bits, got {what} of type {dtype}; cast it to Int64, or to "
                        "Float64, which rounds")
    if not (is_bool or dtype.is_float() or dtype.is_integer()):
        return None
    if dtype.is_float() or not column.null_count():
        return Column(name, column.to_numpy())
    return Column(name, column.fill_null(False if is_bool else 0).to_numpy(), column.is_null().to_numpy())


def from_pyarrow(column: Any, name: str) -> Column | None:
    from pyarrow import types  # type: ignore[import-untyped]

    if types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    is_bool = types.is_boolean(column.type)
    if types.is_null(column.type):
        return Column(name, np.full(len(column), np.nan))
    if not (is_bool or types.is_floating(column.type) or types.is_integer(column.type)):
        return None
    if types.is_floating(column.type) or not column.null_count:
        return Column(name, np.asarray(column))
    return Column(name, np.asarray(column.fill_null(False if is_bool else 0)), np.asarray(column.is_null()))
