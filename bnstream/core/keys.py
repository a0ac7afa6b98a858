"""Keys of groups: those of the rows of a batch, as places among their distinct values, and the index of all groups.

    int or bool                 -> itself
    string, object, category    -> a number, and the values that the numbers stand for
    several columns of keys     -> the number of the tuple

A dictionary of Arrow, a Categorical of pandas and one of polars are such numbers already: their values are not read row
by row.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from bnstream.core.dlpack import as_numpy
from bnstream.core.grouping import Lookup, Places, lookup
from bnstream.core.labels import counted

Missing = Literal["raise", "omit", "keep"]
Kind = Literal["int", "bool", "str"]

EXPECTED = "keys must be integers, bools or strings"
LARGEST = 2**63
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


class Keys(NamedTuple):
    """The keys of a batch."""

    lookup: Lookup
    """The place of each row's key among the distinct ones."""
    distinct: Any
    """Those keys in ascending order: an array of int64 or uint64, or a list."""
    omitted: int | None
    """The place of the rows to leave out."""
    kinds: tuple[Kind, ...]
    """Of each column of keys."""
    names: tuple[str, ...] | None
    """Of the columns, where these have names."""


def columns_of(keys: Any) -> tuple[list[Any], tuple[str, ...] | None, bool]:
    """The columns of the keys that a caller gives, their names, and whether keys are tuples."""
    if isinstance(keys, Mapping):
        if not keys:
            raise ValueError(f"{EXPECTED}, one for each row, got an empty mapping; name at least one column")
        names = tuple(map(str, keys))
        return list(keys.values()), names, len(names) > 1
    several = isinstance(keys, list | tuple) and len(keys) > 0 and not isinstance(keys[0], str | bytes) and (
        isinstance(keys[0], list | tuple) or (hasattr(keys[0], "__len__") and hasattr(keys[0], "__getitem__")))
    if several:
        return list(keys), None, len(keys) > 1
    name = getattr(keys, "name", None)
    return [keys], (name,) if isinstance(name, str) and name else None, False


def keys_of(keys: Any, n_rows: int, place: str, missing: Missing, n_threads: int | None) -> Keys:
    """The keys of the rows of a batch.

    Raises
    ------
    TypeError
        If keys are neither integers, bools nor strings.
    ValueError
        If there is not one for each row, or some are missing under the policy "raise".
    """
    columns, names, tuples = columns_of(keys)
    found = [column_of(column, name_at(names, i, len(columns))) for i, column in enumerate(columns)]
    for i, column in enumerate(found):
        if column.codes.shape != (n_rows,):
            raise ValueError(f"{name_at(names, i, len(found))} must have one key for each of the {n_rows:,} rows of "
                             f"{place}, got keys of shape {column.codes.shape}")
        n_missing = 0 if column.missing is None else int(np.count_nonzero(column.missing))
        if n_missing and missing == "raise":
            raise ValueError(f"{name_at(names, i, len(found))}: {counted(n_missing, 'row has', 'rows have')} no key; "
                             "pass missing_keys='omit' (--missing-keys omit) to leave such rows out, or 'keep' to make "
                             "them a group of the key None")
        if not n_missing:
            found[i] = column._replace(missing=None)
    kinds = tuple(column.kind for column in found)
    if not tuples and found[0].missing is None:
        column = found[0]
        places = lookup(plain(column.codes), n_threads)
        if column.values is None and column.kind == "int":
            return Keys(places, in_int64(places.distinct), None, kinds, names)
        return in_order(places, named(places.distinct, column), kinds, names)
    omitted = None
    for column in found:
        if column.missing is not None and missing == "omit":
            omitted = column.missing if omitted is None else omitted | column.missing
    return combined(found, omitted, tuples, kinds, names, n_threads)


def combined(
    columns: Sequence[KeyColumn], omitted: NDArray[np.bool_] | None, tuples: bool, kinds: tuple[Kind, ...],
    names: tuple[str, ...] | None, n_threads: int | None,
) -> Keys:
    """The keys of several columns, or of one with missing keys: each row's number is that of its tuple."""
    number: Any = None
    parts: list[Any] = [()]
    for column in columns:
        places = lookup(plain(column.codes), n_threads)
        values: list[Any] = named(places.distinct, column)
        own = places.places(0, len(column.codes)).astype(np.int64)
        if column.missing is not None:
            own[column.missing] = len(values)
            values = [*values, None]
        number = own if number is None else number * len(values) + own
        found = lookup(number, n_threads)
        parts = [(*parts[at // len(values)], values[at % len(values)]) for at in found.distinct.tolist()]
        number = found.places(0, len(number)).astype(np.int64)
    if omitted is not None:
        number[omitted] = len(parts)
    found = lookup(number, n_threads)
    used = found.distinct.tolist()
    at_end = omitted is not None and used[-1] == len(parts)
    labels = [parts[at] if tuples else parts[at][0] for at in used[:len(used) - at_end]]
    return in_order(found, labels, kinds, names, at_end)


def in_order(
    found: Lookup, labels: list[Any], kinds: tuple[Kind, ...], names: tuple[str, ...] | None, omitted: bool = False
) -> Keys:
    """Number the keys in ascending order; missing ones come last. The place to omit stays behind all of them."""
    order = sorted(range(len(labels)), key=lambda i: rank_of(labels[i]))
    places = np.empty(len(labels) + omitted, np.int32)
    places[order] = np.arange(len(order), dtype=np.int32)
    if omitted:
        places[-1] = len(labels)
    found.renumber(places)
    return Keys(found, [labels[i] for i in order], len(labels) if omitted else None, kinds, names)


def rank_of(key: Any) -> Any:
    if isinstance(key, tuple):
        return tuple(map(rank_of, key))
    return (key is None, "" if key is None and isinstance(key, str) else 0 if key is None else key)


def in_int64(keys: NDArray[Any]) -> NDArray[Any]:
    """Integers as int64, or as uint64 where one of them is beyond."""
    if keys.dtype == np.uint64 and keys[-1] >= LARGEST:
        return keys
    return keys.astype(np.int64)


def named(codes: NDArray[Any], column: KeyColumn) -> list[Any]:
    """The keys that distinct codes stand for."""
    if column.values is None:
        return [bool(code) for code in codes.tolist()] if column.kind == "bool" else codes.tolist()
    return [column.values[code] if 0 <= code < len(column.values) else None for code in codes.tolist()]


def name_at(names: tuple[str, ...] | None, i: int, n: int) -> str:
    """What a message calls a column of keys."""
    if names is not None:
        return f"keys {names[i]!r}"
    return "keys" if n == 1 else f"keys[{i}]"


def plain(codes: NDArray[Any]) -> NDArray[Any]:
    """The codes contiguous, in the byte order of the machine."""
    return np.ascontiguousarray(codes, codes.dtype.newbyteorder("="))


def column_of(keys: Any, name: str) -> KeyColumn:
    """One column of keys."""
    for package, convert in (("pandas", of_pandas), ("polars", of_polars), ("pyarrow", of_pyarrow)):
        module = sys.modules.get(package)       # Data of a package that is not imported does not exist.
        found = None if module is None else convert(module, keys, name)
        if found is not None:
            return found
    array = as_numpy(keys)
    if np.ma.isMaskedArray(array):
        return of_array(np.asarray(array.data), name)._replace(missing=np.ma.getmaskarray(array))
    return of_array(np.asarray(array), name)


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
    return KeyColumn(found, list(numbers), kinds.pop() if kinds else "str", missing)


def plain_key(key: Any, name: str) -> Any:
    """A key as str, int or bool; None if it is missing."""
    if isinstance(key, np.generic):
        key = key.item()
    if isinstance(key, str):
        return str(key)
    if isinstance(key, bool | int):
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
    if keys.dtype not in (polars.String, polars.Categorical, polars.Enum):
        raise TypeError(f"{EXPECTED}, got {name} of type {keys.dtype}; cast them")
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
        return KeyColumn(np.zeros(len(keys), np.int8), [None], "str", np.ones(len(keys), np.bool_))
    if not (types.is_integer(keys.type) or types.is_boolean(keys.type)):
        raise TypeError(f"{EXPECTED}, got {name} of type {keys.type}; cast them")
    filled = keys if missing is None else keys.fill_null(False if types.is_boolean(keys.type) else 0)
    return of_array(np.asarray(filled), name)._replace(missing=missing)


def of_dictionary(codes: NDArray[Any], values: KeyColumn, missing: NDArray[np.bool_] | None) -> KeyColumn:
    """Keys by their numbers in a dictionary, in which a value may come twice."""
    found = named(values.codes, values)
    if len(set(found)) < len(found):
        number = {value: i for i, value in reversed(list(enumerate(found)))}
        codes = np.array([number[value] for value in found], np.int64)[codes]
    return KeyColumn(codes, found, values.kind, None if missing is None or not missing.any() else missing)


class Index:
    """The places of the keys of all groups, in the order in which they came."""

    def __init__(self) -> None:
        self.integers: Any = Places()       # while all keys are integers of 64 bits with a sign
        self.numbers: dict[Any, int] | None = None      # else
        self.labels: list[Any] = []

    def __len__(self) -> int:
        return len(self.integers) if self.numbers is None else len(self.labels)

    def find(self, keys: Any) -> NDArray[np.int64]:
        """The place of each of some different keys, -1 where there is none."""
        if self.numbers is None and isinstance(keys, np.ndarray):
            if keys.dtype == np.int64:
                found: NDArray[np.int64] = self.integers.of(keys)
                return found
            self.become_general()
        if self.numbers is None:
            if not len(self):
                return np.full(len(keys), -1)
            self.become_general()
        numbers: Any = self.numbers
        listed = keys.tolist() if isinstance(keys, np.ndarray) else keys
        return np.array([numbers.get(key, -1) for key in listed], np.int64)

    def become_general(self) -> None:
        self.labels = self.all()
        self.numbers = {key: i for i, key in enumerate(self.labels)}

    def add(self, keys: Any) -> None:
        """Add different keys that are not there."""
        if self.numbers is None and isinstance(keys, np.ndarray) and keys.dtype == np.int64:
            self.integers.add_all(keys)
            return
        if self.numbers is None:
            self.become_general()
        listed = keys.tolist() if isinstance(keys, np.ndarray) else list(keys)
        numbers: Any = self.numbers
        numbers.update({key: len(self.labels) + i for i, key in enumerate(listed)})
        self.labels += listed

    def all(self) -> list[Any]:
        """All keys, in the order of their places."""
        found: list[Any] = self.integers.all().tolist() if self.numbers is None else list(self.labels)
        return found

    def whole(self) -> Any:
        """All keys: an array of int64, or a list."""
        return self.integers.all() if self.numbers is None else list(self.labels)

    def copy(self) -> Index:
        new = Index()
        if self.numbers is not None or len(self):
            new.add(self.whole())
        return new
