"""Columns of pyarrow: which are selected, and the numbers in them."""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
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
from bnstream.streams.sources.tables.buffers import mask_of, values_of
from bnstream.streams.sources.tables.embeddings import (
    Field,
    channel_names,
    column_of,
    element_type,
    field_of,
    open_lists,
    require_width,
)
from bnstream.streams.sources.tables.valid import valid


def is_numeric(kind: Any) -> bool:
    """Whether a column of this type holds numbers."""
    return bool(types.is_floating(kind) or types.is_integer(kind) or types.is_boolean(kind) or types.is_decimal(kind)
                or types.is_null(kind))


def selected_names(name: str, schema: Any, wanted: Wanted, row_names: Sequence[str] = ()) -> tuple[str, ...]:
    """The columns that hold the channels, by default all but the weights, the index of pandas and the names of rows.

    Raises
    ------
    SourceError
        Unless each of them, and the column of the weights, is unique and numeric.
    """
    index = (schema.pandas_metadata or {}).get("index_columns", [])     # pandas does not count these as columns
    others = [column for column in schema.names if column not in (*index, *row_names, *wanted.beside)]
    kinds, counts = {field.name: field.type for field in schema}, Counter(schema.names)
    if wanted.whole_rows and wanted.columns is not None:        # the channels of a state
        wanted = wanted._replace(columns=[*dict.fromkeys(column_of(str(one), kinds) for one in wanted.columns)])
    names = tuple(selected(name, schema.names, wanted, lambda column: holds_numbers(kinds[column]), others))
    for column in (*names, *wanted.beside):
        if counts[column] != 1:
            found = "no column" if column not in counts else "more than one column"
            raise SourceError(f"{name} has {found} {column!r}; its columns are {listed(schema.names)}")
    for column in [] if wanted.weights is None else [wanted.weights]:
        if not is_numeric(kinds[column]):
            raise SourceError(f"{name}: {column!r}, the weights, is of type {kinds[column]}; name a numeric column "
                              "with weights= or --weights")
    others = [f"{column!r} is of type {kinds[column]}" for column in names if not holds_numbers(kinds[column])]
    if others:
        numeric = [column for column, kind in kinds.items() if holds_numbers(kind) and column not in wanted.beside]
        hint = "there are no numeric columns"
        if wanted.whole_rows:
            hint = "leave out the statistics of what holds no numbers with exclude= or --exclude"
        elif numeric:
            hint = ("select numeric columns with numeric=True (--numeric), or with columns= or --columns: "
                    f"{listed(numeric, ',')}")
        raise SourceError(f"{name}: {listed(others, '; ')}; {hint}")
    if not names:
        but = f" but {listed(wanted.beside)}" * bool(wanted.by)
        but = " but the weights" if wanted.beside == [wanted.weights] else but
        raise SourceError(f"{name} has no columns{but}")
    return names


def fields_in(
    name: str, schema: Any, wanted: Wanted, look: Callable[[str], Iterable[Any]]
) -> dict[str, Field]:
    """The columns that hold the channels, by name; `look` returns the pyarrow arrays of a column.

    Raises
    ------
    SourceError
        As `selected_names`; if lists have no length, or a state has only some of their elements.
    """
    pooled = wanted.reading.get("element_axis") == "pooled"
    names = selected_names(name, schema, wanted)
    states = set(map(str, wanted.columns or ())) if wanted.whole_rows else set()
    fields = {column: field_of(name, column, schema.field(column).type, pooled or column in states, look)
              for column in names}
    channels = set(channel_names(fields))
    if states and channels != states:
        wrong = sorted(channels ^ states)
        raise SourceError(f"{name}: the lists have other elements than the statistics; {listed([*map(repr, wrong)])} "
                          f"{'is' if len(wrong) == 1 else 'are'} in one of them alone")
    return fields


def holds_numbers(kind: Any) -> bool:
    """Whether a column of this type holds numbers or lists of them."""
    return is_numeric(element_type(kind))


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


def present(column: Any, name: str) -> tuple[NDArray[Any], int]:
    """The values of a column that are not missing, and the number that are.

    A value is missing if the validity bitmap says so. The array is a view if no value is missing.
    """
    column = as_numeric(column, name)
    x = values_of(column)
    if not column.null_count:
        return x, 0
    if types.is_boolean(column.type):
        return x[mask_of(column)], column.null_count
    bits, data = column.buffers()
    words = np.frombuffer(data, f"u{x.itemsize}", column.offset + len(x))
    return valid(words, np.frombuffer(bits, np.uint8), column.offset, len(x)).view(x.dtype), column.null_count


def filled(column: Any, name: str) -> tuple[NDArray[Any], NDArray[np.bool_] | None]:
    """The values of a column, 0 where they are missing, and a mask of those present; None if none is missing."""
    column = as_numeric(column, name)
    x = values_of(column)
    if not column.null_count:
        return x, None
    mask = mask_of(column)
    return np.where(mask, x, x.dtype.type(0)), mask


def in_lists(
    column: Any, name: str, field: Field, weights: NDArray[Any] | None = None
) -> tuple[NDArray[Any], NDArray[np.bool_] | None, NDArray[Any] | None]:
    """The elements of a column of lists, as the rows of an array, or one after another if they are pooled.

    Returns
    -------
    x, mask
        As `filled` returns them.
    weights
        The weights of the rows of x.

    Raises
    ------
    ValueError
        If lists have other lengths than the field.
    """
    lists, missing = open_lists(column), ~mask_of(column) if column.null_count else None
    if field.shape:
        require_width(lists, column, name, field.width)
    x, mask = filled(lists.elements, name)
    if lists.present is not None:
        mask = lists.present if mask is None else mask & lists.present
    if missing is not None and (lists.counts[missing] == 0).any():
        mask = np.ones(len(x), np.bool_) if mask is None else mask
        return without_lists(x, mask, lists.counts, field, weights, missing)
    if field.shape:
        return x.reshape(-1, field.width), None if mask is None else mask.reshape(-1, field.width), weights
    return x, mask, None if weights is None else np.repeat(weights, lists.counts)


def without_lists(
    x: NDArray[Any], mask: NDArray[np.bool_], counts: NDArray[np.int64], field: Field, weights: NDArray[Any] | None,
    missing: NDArray[np.bool_],
) -> tuple[NDArray[Any], NDArray[np.bool_], NDArray[Any] | None]:
    """As `in_lists`, where missing lists have no elements. If lists are pooled, each of these is one missing value."""
    if field.shape:
        rows, there = np.zeros((len(counts), field.width), x.dtype), np.zeros((len(counts), field.width), np.bool_)
        used = np.repeat(~missing, counts)
        rows[~missing], there[~missing] = (values[used].reshape(-1, field.width) for values in (x, mask))
        return rows, there, weights
    none = missing & (counts == 0)
    if weights is not None:
        weights = np.append(np.repeat(weights, counts), weights[none])
    n = np.count_nonzero(none)
    return np.append(x, np.zeros(n, x.dtype)), np.append(mask, np.zeros(n, np.bool_)), weights


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
