"""The keys of a batch: for each row, the place of its key among the distinct ones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from bnstream.core.groups.keycolumns import EXPECTED, KeyColumn, Kind, column_of, named
from bnstream.core.groups.sums import Lookup, lookup
from bnstream.core.labels import counted

Missing = Literal["raise", "omit", "keep"]
LARGEST = 2**63


class Keys(NamedTuple):
    """The keys of a batch."""

    lookup: Lookup
    """For each row, the place of its key among the distinct ones."""
    distinct: Any
    """Those keys in ascending order: an array of int64 or uint64, or a list."""
    omitted: int | None
    """The place of the rows to leave out."""
    kinds: tuple[Kind, ...]
    """Of each column of keys."""
    names: tuple[str, ...] | None
    """Of the columns, where these have names."""

    def rows(self, n_rows: int) -> list[NDArray[np.intp]]:
        """The numbers of the rows of each distinct key, ascending."""
        places = self.lookup.places(0, n_rows)
        ends = np.cumsum(np.bincount(places, minlength=len(self.distinct)))
        return np.split(np.argsort(places, kind="stable"), ends)[:len(self.distinct)]


def columns_of(keys: Any) -> tuple[list[Any], tuple[str, ...] | None, bool]:
    """The columns of the keys that a caller gives, their names, and whether keys are tuples."""
    keys = mapping_of(keys)
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


def mapping_of(keys: Any) -> Any:
    """The columns of a table by their names; other keys as they are."""
    if hasattr(keys, "column_names"):
        return {name: keys.column(name) for name in keys.column_names}         # of pyarrow
    return {name: keys[name] for name in keys.columns} if hasattr(keys, "columns") else keys


def keys_of(
    keys: Any, n_rows: int, place: str, missing: Missing, n_threads: int | None, called: str = "keys"
) -> Keys:
    """The keys of the rows of a batch, by the name of the argument that a caller gives.

    Raises
    ------
    TypeError
        If keys are neither integers, bools nor strings.
    ValueError
        If there is not one for each row, or some are missing under the policy "raise".
    """
    columns, names, tuples = columns_of(keys)
    if names is None and 1 < len(columns) == n_rows and isinstance(columns[0], tuple):
        raise ValueError(f"{called} must be columns, got {n_rows:,} tuples for the {n_rows:,} rows of {place}; pass "
                         f"[list(part) for part in zip(*{called})] if each is the key of a row, and lists in place of "
                         "the tuples if each is a column")
    titles = [name_at(names, i, len(columns), called) for i in range(len(columns))]
    found = [*map(column_of, columns, titles)]
    for i, (column, title) in enumerate(zip(found, titles, strict=True)):
        if column.codes.shape != (n_rows,):
            raise ValueError(f"{title} must have one key for each of the {n_rows:,} rows of {place}, got keys of shape "
                             f"{column.codes.shape}")
        n_missing = 0 if column.missing is None else int(np.count_nonzero(column.missing))
        if n_missing and missing == "raise":
            advice = f"leave such rows out, or give each a {called}" if called != "keys" else (
                "pass missing_keys='omit' (--missing-keys omit) to leave such rows out, or 'keep' to make them a group "
                "of the key None")
            raise ValueError(f"{title}: {counted(n_missing, 'row has', 'rows have')} no key; {advice}")
        if not n_missing:
            found[i] = column._replace(missing=None)
        elif n_missing == n_rows:
            found[i] = column._replace(kind="missing")
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
    return key is None, 0 if key is None else key


def in_int64(keys: NDArray[Any]) -> NDArray[Any]:
    """Integers as int64, or as uint64 where one of them is beyond."""
    if keys.dtype == np.uint64 and keys[-1] >= LARGEST:
        return keys
    return keys.astype(np.int64)


def name_at(names: tuple[str, ...] | None, i: int, n: int, called: str) -> str:
    """What a message calls a column of keys."""
    if names is not None:
        return f"{called} {names[i]!r}"
    return called if n == 1 else f"{called}[{i}]"


def plain(codes: NDArray[Any]) -> NDArray[Any]:
    """The codes contiguous, in the byte order of the machine."""
    return np.ascontiguousarray(codes, codes.dtype.newbyteorder("="))
