"""A column of keys, as a number for each row.

    int or bool                 -> itself
    string, object, category    -> a number, and the values that the numbers stand for

A dictionary of Arrow, a Categorical of pandas and one of polars are such numbers already: their values are not read row
by row.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from bnstream.core.dlpack import as_numpy
from bnstream.core.optional import home_of

Kind = Literal["int", "bool", "str", "missing"]        # "missing": no row has a key

EXPECTED = "keys must be integers, bools or strings"
LEAST, LARGEST = -2**63, 2**64 - 1     # integers of 64 bits, with or without a sign
FEW = 2000          # strings that are looked up one by one


class KeyColumn(NamedTuple):
    """The keys of one column, one for each row."""

    codes: NDArray[Any]
    """Integers."""
    values: Sequence[Any] | None
    """What the codes stand for; None if they are the keys."""
    kind: Kind
    missing: NDArray[np.bool_] | None
    """Marks the rows without a key, whose codes are arbitrary; None if there are none."""


def column_of(keys: Any, name: str) -> KeyColumn:
    """One column of keys."""
    converters = {"pandas": of_pandas, "polars": of_polars, "pyarrow": of_pyarrow}
    if home := home_of(keys, converters):
        package, module = home
        found = converters[package](module, keys, name)
        if found is not None:
            return found
    try:
        array = as_numpy(keys)
    except TypeError as error:
        if hasattr(keys, "__dlpack_device__"):
            raise
        if are_integers(keys):
            return of_objects(keys, name)
        raise TypeError(f"{EXPECTED}, one for each row, got {name} of type {type(keys).__name__}; make a list or an "
                        "array of them") from error
    if isinstance(keys, Sequence) and array.ndim == 1 and (
            array.dtype.kind == "U" or (array.dtype.kind == "f" and are_integers(keys))):
        # NumPy makes text of what stands among strings, as NaN and numbers, and floats of integers from both ends.
        return of_objects(keys, name)
    if np.ma.isMaskedArray(array):
        return of_array(np.asarray(array.data), name)._replace(missing=np.ma.getmaskarray(array))
    return of_array(np.asarray(array), name)


def are_integers(keys: Any) -> bool:
    """Whether keys are integers that no dtype may hold together."""
    return isinstance(keys, Sequence) and len(keys) > 0 and all(isinstance(key, int | np.integer) for key in keys)


def of_array(keys: NDArray[Any], name: str) -> KeyColumn:
    kind = keys.dtype.kind
    if kind in "iu":
        return KeyColumn(keys, None, "int", None)
    if kind == "b":
        return KeyColumn(keys.view(np.uint8) if keys.flags.contiguous else keys.astype(np.uint8), None, "bool", None)
    if keys.ndim != 1:
        raise ValueError(f"{name} must have one axis, got shape {keys.shape}")
    if kind == "U" and len(keys) > FEW:
        values, codes = np.unique(keys, return_inverse=True)
        return KeyColumn(codes.ravel(), values.tolist(), "str", None)
    if kind in ("O", "T", "U"):
        return of_objects(keys.tolist(), name)
    advice = "decode bytes" if kind == "S" else "convert them with .astype(int)"
    if kind == "f":
        advice = "convert them to integers; a nullable dtype or a masked array says which are missing"
    elif kind in "mM":
        advice = "pass .astype('int64'), the number of their units"
    raise TypeError(f"{EXPECTED}, got {name} of dtype {keys.dtype}; {advice}")


def of_objects(keys: Iterable[Any], name: str) -> KeyColumn:
    """Python objects: strings, integers or bools, and None, NaN or NA where a key is missing."""
    numbers: dict[Any, int] = {}
    codes = [numbers.setdefault(key if key.__class__ is str else plain_key(key, name), len(numbers)) for key in keys]
    found = np.array(codes, np.int64)
    kinds = {kind_of(key) for key in numbers if key is not None}
    if len(kinds) > 1:
        raise TypeError(f"{name} must be of one kind, got {' and '.join(sorted(kinds))}; convert them to strings")
    missing = found == numbers[None] if None in numbers else None
    return KeyColumn(found, list(numbers), kinds.pop() if kinds else "missing", missing)


def plain_key(key: Any, name: str) -> Any:
    """A key as str, int or bool; None if it is missing."""
    if isinstance(key, np.generic):
        key = key.item()
    if isinstance(key, str):
        return str(key)
    if isinstance(key, bool | int):
        if not LEAST <= key <= LARGEST:
            raise ValueError(f"{name} must be integers of 64 bits, got {key}; convert them to strings")
        return key
    if key is None or type(key).__name__ in ("NAType", "NaTType") or (isinstance(key, float) and key != key):
        return None
    raise TypeError(f"{EXPECTED}, got {key!r:.60} of type {type(key).__name__} in {name}; convert them to strings")


def kind_of(key: Any) -> Kind:
    return "str" if isinstance(key, str) else "bool" if isinstance(key, bool) else "int"


def of_pandas(pandas: Any, keys: Any, name: str) -> KeyColumn | None:
    if not isinstance(keys, pandas.Series | pandas.Index | pandas.api.extensions.ExtensionArray):
        return None
    dtype = keys.dtype
    if isinstance(dtype, pandas.CategoricalDtype):
        codes = np.asarray(getattr(keys, "cat", keys).codes)
        return of_dictionary(codes, of_objects(dtype.categories.tolist(), name), codes < 0)
    if isinstance(dtype, np.dtype) and dtype.kind in "iub":
        return of_array(np.asarray(keys), name)
    numpy_dtype = getattr(dtype, "numpy_dtype", None)
    if numpy_dtype is not None and numpy_dtype.kind in "iub":
        filled = keys.to_numpy(numpy_dtype, na_value=numpy_dtype.type(0))
        return of_array(filled, name)._replace(missing=np.asarray(keys.isna()))
    if isinstance(dtype, np.dtype) and dtype.kind != "O":
        return of_array(np.asarray(keys), name)
    codes, values = pandas.factorize(keys)
    return of_dictionary(codes, of_objects(list(values), name), codes < 0)


def of_polars(polars: Any, keys: Any, name: str) -> KeyColumn | None:
    if not isinstance(keys, polars.Series):
        return None
    missing = keys.is_null().to_numpy() if keys.null_count() else None
    if keys.dtype.is_integer():
        return of_array(keys.fill_null(0).to_numpy(), name)._replace(missing=missing)
    if keys.dtype == polars.Boolean:
        return of_array(keys.fill_null(False).to_numpy(), name)._replace(missing=missing)
    if keys.dtype == polars.Null:
        return KeyColumn(np.zeros(len(keys), np.int8), [None], "missing", missing)
    if keys.dtype not in (polars.String, polars.Categorical, polars.Enum):
        raise TypeError(f"{EXPECTED}, got {name} of type {keys.dtype}; cast them to integers or strings")
    values = keys.drop_nulls().unique().cast(polars.String)
    order = polars.Enum(values)
    codes = keys.cast(polars.String).cast(order).to_physical().fill_null(0).to_numpy()
    return KeyColumn(codes, values.to_list(), "str", missing)


def of_pyarrow(pyarrow: Any, keys: Any, name: str) -> KeyColumn | None:
    if not isinstance(keys, pyarrow.Array | pyarrow.ChunkedArray):
        return None
    types = pyarrow.types
    if isinstance(keys, pyarrow.ChunkedArray):
        if types.is_dictionary(keys.type):
            keys = keys.unify_dictionaries()
        keys = keys.combine_chunks()
        if isinstance(keys, pyarrow.ChunkedArray):      # of no chunks, or too long for one
            keys = pyarrow.concat_arrays(keys.chunks) if keys.num_chunks else pyarrow.array([], keys.type)
    if types.is_string(keys.type) or types.is_large_string(keys.type) or types.is_string_view(keys.type):
        keys = keys.dictionary_encode()
    missing = np.asarray(keys.is_null()) if keys.null_count else None
    if types.is_dictionary(keys.type):
        indices = keys.indices if missing is None else keys.indices.fill_null(0)
        codes = np.asarray(indices)
        values = of_objects(keys.dictionary.to_pylist(), name)
        if values.missing is not None:
            hidden = values.missing[codes] if len(values.codes) else None
            missing = hidden if missing is None else missing | hidden
        return of_dictionary(codes, values, missing)
    if types.is_null(keys.type):
        return KeyColumn(np.zeros(len(keys), np.int8), [None], "missing", np.ones(len(keys), np.bool_))
    if not (types.is_integer(keys.type) or types.is_boolean(keys.type)):
        raise TypeError(f"{EXPECTED}, got {name} of type {keys.type}; cast them to integers or strings")
    filled = keys if missing is None else keys.fill_null(False if types.is_boolean(keys.type) else 0)
    return of_array(np.asarray(filled), name)._replace(missing=missing)


def of_dictionary(codes: NDArray[Any], values: KeyColumn, missing: NDArray[np.bool_] | None) -> KeyColumn:
    """Keys by their numbers in a dictionary, in which a value may come twice."""
    found = named(values.codes, values)
    if len(set(found)) < len(found):
        number = {value: i for i, value in reversed(list(enumerate(found)))}
        codes = np.array([number[value] for value in found], np.int64)[codes]
    return KeyColumn(codes, found, values.kind, None if missing is None or not missing.any() else missing)


def named(codes: NDArray[Any], column: KeyColumn) -> list[Any]:
    """The keys that distinct codes stand for."""
    if column.values is None:
        return [bool(code) for code in codes.tolist()] if column.kind == "bool" else codes.tolist()
    return [column.values[code] if 0 <= code < len(column.values) else None for code in codes.tolist()]
