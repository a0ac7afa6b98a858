"""Columns of pyarrow: which are selected, and the numbers in them."""

from collections import Counter
from contextlib import suppress
from typing import Any

import numpy as np
import pyarrow as pa  # type: ignore[import-untyped]
from numpy.typing import NDArray
from pyarrow import types

from bnstream.core.labels import listed
from bnstream.core.moments import Moments
from bnstream.streams.sources.errors import SourceError
from bnstream.streams.sources.selection import selected
from bnstream.streams.sources.source import Wanted
from bnstream.streams.sources.valid import valid


def is_numeric(kind: Any) -> bool:
    """Whether a column of this type holds numbers."""
    return bool(types.is_floating(kind) or types.is_integer(kind) or types.is_boolean(kind) or types.is_decimal(kind)
                or types.is_null(kind))


def selected_names(name: str, schema: Any, wanted: Wanted) -> tuple[str, ...]:
    """The names of the channels, by default all columns but the weights and the index of pandas.

    Raises
    ------
    SourceError
        Unless each of them, and the column of the weights, is unique and numeric.
    """
    index = (schema.pandas_metadata or {}).get("index_columns", [])     # pandas does not count these as columns
    others = [column for column in schema.names if column not in (*index, *wanted.beside)]
    kinds, counts = {field.name: field.type for field in schema}, Counter(schema.names)
    names = tuple(selected(name, schema.names, wanted, lambda column: is_numeric(kinds[column]), others))
    for column in (*names, *wanted.beside):
        if counts[column] != 1:
            found = "no column" if column not in counts else "more than one column"
            raise SourceError(f"{name} has {found} {column!r}; its columns are {listed(schema.names)}")
    for column in wanted.beside:
        if not is_numeric(kinds[column]):
            raise SourceError(f"{name}: {column!r}, the weights, is of type {kinds[column]}; name a numeric column "
                              "with weights= or --weights")
    others = [f"{column!r} is of type {kinds[column]}" for column in names if not is_numeric(kinds[column])]
    if others:
        numeric = [column for column, kind in kinds.items() if is_numeric(kind) and column != wanted.weights]
        hint = "there are no numeric columns"
        if numeric:
            hint = ("select numeric columns with numeric=True (--numeric), or with columns= or --columns: "
                    f"{listed(numeric, ',')}")
        raise SourceError(f"{name}: {listed(others, '; ')}; {hint}")
    if not names:
        raise SourceError(f"{name} has no columns{' but the weights' if wanted.beside else ''}")
    return names


def as_numeric(column: Any, name: str) -> Any:
    """The column in a type that NumPy has; raise ValueError unless it is numeric."""
    if not is_numeric(column.type):
        raise ValueError(f"column {name!r} is of type {column.type}, not numeric{example(column)}")
    if types.is_decimal(column.type) and column.type.scale <= 0:
        for kind in (pa.int64(), pa.uint64()):      # float64 would round those beyond 2**53
            with suppress(pa.ArrowInvalid):
                return column.cast(kind)
    if types.is_decimal(column.type) or types.is_null(column.type):
        return column.cast(pa.float64())
    return column


def example(column: Any) -> str:
    """The first text in a column that is not a number, for a message."""
    if types.is_string(column.type) or types.is_large_string(column.type):
        for value in column:
            if value.is_valid and not is_number(value.as_py()):
                return f", such as {value.as_py()!r}"
    return ""


def is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


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


def bits_of(data: Any, first: int, n: int) -> NDArray[np.uint8]:
    """The bits from `first` on in a buffer of Arrow, each as 0 or 1."""
    of_bytes = np.frombuffer(data, np.uint8)[first // 8:(first + n + 7) // 8]
    return np.unpackbits(of_bytes, bitorder="little")[first % 8:first % 8 + n]


def present(column: Any, name: str) -> tuple[NDArray[Any], int]:
    """The values of a column that are not missing, and the number that are.

    A value is missing if the validity bitmap says so. The array is a view if no value is missing.
    """
    column = as_numeric(column, name)
    x = values_of(column)
    if not column.null_count:
        return x, 0
    bits, data = column.buffers()
    if types.is_boolean(column.type):
        return x[bits_of(bits, column.offset, len(x)).view(np.bool_)], column.null_count
    words = np.frombuffer(data, f"u{x.itemsize}", column.offset + len(x))
    return valid(words, np.frombuffer(bits, np.uint8), column.offset, len(x)).view(x.dtype), column.null_count


def filled(column: Any, name: str) -> tuple[NDArray[Any], NDArray[np.bool_] | None]:
    """The values of a column, 0 where they are missing, and a mask of those present; None if none is missing."""
    column = as_numeric(column, name)
    x = values_of(column)
    if not column.null_count:
        return x, None
    mask = bits_of(column.buffers()[0], column.offset, len(x)).view(np.bool_)
    return np.where(mask, x, x.dtype.type(0)), mask


def weights_in(column: Any, name: str, *, omit: bool, exact: bool) -> NDArray[Any]:
    """The weights in a column, in its dtype; 0 in place of missing weights and NaN.

    Raises
    ------
    ValueError
        If weights are missing, unless they are to be omitted; if `Moments.update` refuses a weight, for `exact` that of
        exact statistics.
    """
    weights, mask = filled(column, name)
    missing = np.isnan(weights) if mask is None else np.isnan(weights) | ~mask
    n_missing = np.count_nonzero(missing)
    if n_missing and not omit:
        raise ValueError(f"column {name!r}, the weights, has {n_missing:,} missing values; leave these rows out with "
                         "nan_policy='omit' (--nan omit)")
    if n_missing:
        weights = np.where(missing, weights.dtype.type(0), weights)
    try:
        Moments(exact=exact).update(np.empty((len(weights), 0)), weights=weights)      # checks the weights alone
    except ValueError as error:
        raise ValueError(f"column {name!r}: {error}") from error
    return weights
