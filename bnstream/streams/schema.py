"""The columns of the table that `apply` writes, and their types: decided from all sources, before the first row."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any

import numpy as np
import pyarrow as pa  # type: ignore[import-untyped]
from pyarrow import types

from bnstream.streams.sources import SourceError
from bnstream.streams.sources.selection import MAGIC
from bnstream.streams.sources.tables.embeddings import element_type, is_list, is_tensor

CHOOSE = "choose the columns to copy with keep= or --keep"


def output_schema(
    schemas: Mapping[str, Any], names: Collection[str], keep: Sequence[str] | None, dtype: np.dtype[Any] | None,
    *, dictionaries: bool,
) -> Any:
    """The schema of the normalized rows of tables.

    Parameters
    ----------
    schemas : mapping
        By the name of each source, its schema.
    names : collection of str
        The columns that are normalized, of numbers or of lists of them.
    keep : sequence of str, optional
        Names and patterns of the other columns to copy, by default all. A pattern stands for those that every source
        has.
    dtype : dtype, optional
        Of the normalized columns, by default the widest floating type of each, float64 for integers.
    dictionaries : bool
        Whether columns with a dictionary keep it. They become their values otherwise, or where sources differ.

    Raises
    ------
    SourceError
        If sources differ in the columns to copy, or a name is of none.
    """
    first = next(iter(schemas.values()))
    columns = order_of(schemas, names, keep)
    for source, schema in schemas.items():
        counts = Counter(schema.names)
        for name in (*names, *columns):
            if counts[name] != 1:
                found = "more than one column" if counts[name] else "no column"
                raise SourceError(f"{source} has {found} {name!r}; {CHOOSE}")
    fields = []
    for name in columns:
        kinds = {source: schema.field(name).type for source, schema in schemas.items()}
        kind = normalized_type(name, kinds, dtype) if name in names else copied_type(name, kinds, dictionaries)
        fields.append(pa.field(name, kind))
    return pa.schema(fields, metadata_of(first, fields))


def order_of(schemas: Mapping[str, Any], names: Collection[str], keep: Sequence[str] | None) -> list[str]:
    """The names of the columns, in the order of the first source."""
    first_name, first = next(iter(schemas.items()))
    others = {source: [name for name in schema.names if name not in names] for source, schema in schemas.items()}
    if keep is None:
        for source, there in others.items():
            for name in sorted({*there} ^ {*others[first_name]}):
                has, lacks = (source, first_name) if name in there else (first_name, source)
                raise SourceError(f"{has} has the column {name!r}, which {lacks} lacks; {CHOOSE}: '*' stands for all "
                                  "that every source has")
        return list(first.names)
    common = set.intersection(*map(set, others.values()))
    kept = set()
    for wanted in keep:
        found = {name for name in common if name == wanted or fnmatchcase(name, wanted)}
        if not found and wanted not in names and not MAGIC.search(wanted):
            source = next(source for source, there in others.items() if wanted not in there)
            raise SourceError(f"{source} has no column {wanted!r} to keep; its other columns are "
                              f"{', '.join(others[source]) or 'none'}")
        kept |= found
    return [name for name in first.names if name in names or name in kept]


def normalized_type(name: str, kinds: Mapping[str, Any], dtype: np.dtype[Any] | None) -> Any:
    """The type of a column that is normalized: the widest floating one, or lists of it."""
    element = pa.from_numpy_dtype(dtype or np.result_type(*map(floating, map(element_type, kinds.values()))))
    found: dict[Any, str] = {}
    for source, kind in kinds.items():
        found.setdefault(with_elements(kind, element), source)
    if len(found) > 1:
        raise SourceError(differences(name, found) + "; give it one type")
    return next(iter(found))


def with_elements(kind: Any, element: Any) -> Any:
    """The type of lists of other elements; of numbers, that of the elements."""
    if not is_list(kind):
        return element
    if is_tensor(kind):
        return pa.fixed_shape_tensor(element, kind.shape, dim_names=kind.dim_names, permutation=kind.permutation)
    field = kind.value_field.with_type(with_elements(kind.value_type, element))
    if types.is_fixed_size_list(kind):
        return pa.list_(field, kind.list_size)
    return pa.list_(field) if types.is_list(kind) else pa.large_list(field)


def differences(name: str, found: Mapping[Any, str]) -> str:
    """The first two types of a column, each with a source of it."""
    (kind, source), (other, second), *_ = found.items()
    return f"column {name!r} is {kind} in {source} and {other} in {second}"


def floating(kind: Any) -> np.dtype[Any]:
    """The dtype of a column of this type when it is normalized."""
    return np.dtype(kind.to_pandas_dtype()) if types.is_floating(kind) else np.dtype(np.float64)


def copied_type(name: str, kinds: Mapping[str, Any], dictionaries: bool) -> Any:
    """The type of a column that is copied: that of all sources, or one that holds all of their values."""
    kinds = {source: plain_dictionary(kind) for source, kind in kinds.items()}
    if dictionaries and len(set(kinds.values())) == 1:
        return next(iter(kinds.values()))
    values: dict[Any, str] = {}
    for source, kind in kinds.items():
        values.setdefault(value_type(kind), source)
    if len(values) == 1:
        return next(iter(values))
    is_lossy = len({types.is_integer(kind) for kind in values if not types.is_null(kind)}) > 1
    try:
        if is_lossy:        # float64 rounds integers beyond 2**53.
            raise pa.ArrowTypeError
        return pa.unify_schemas([pa.schema({name: kind}) for kind in values], promote_options="permissive")[0].type
    except (pa.ArrowTypeError, pa.ArrowInvalid):
        raise SourceError(f"{differences(name, values)}; give it one type, or {CHOOSE}") from None


def plain_dictionary(kind: Any) -> Any:
    """The type of a dictionary without views of its strings, as polars has them, which pyarrow writes to no file."""
    if not types.is_dictionary(kind) or not types.is_string_view(kind.value_type):
        return kind
    return pa.dictionary(kind.index_type, pa.large_string(), kind.ordered)


def value_type(kind: Any) -> Any:
    return kind.value_type if types.is_dictionary(kind) else kind


def metadata_of(schema: Any, fields: Sequence[Any]) -> dict[bytes, bytes] | None:
    """The metadata of a source for these fields. That of pandas names the dtypes of its columns, of which some change.

    pandas does not miss a column that is not described.
    """
    metadata = dict(schema.metadata or {})
    if b"pandas" not in metadata:
        return metadata or None
    described = json.loads(metadata[b"pandas"])
    now = {field.name: field.type for field in fields}
    columns = []
    for column in described["columns"]:
        name = column["field_name"]
        kind, before = now.get(name), schema.field(name).type if name in schema.names else None
        if kind is None or (kind != before and not types.is_floating(kind)):
            continue
        if kind != before:
            column |= {"pandas_type": str(np.dtype(kind.to_pandas_dtype())), "metadata": None,
                       "numpy_type": dtype_like(column["numpy_type"], kind)}
        columns.append(column)
    index = [name for name in described["index_columns"] if not isinstance(name, str) or name in now]
    return metadata | {b"pandas": json.dumps(described | {"columns": columns, "index_columns": index}).encode()}


def dtype_like(before: str, kind: Any) -> str:
    """The dtype of pandas for a floating type: of Arrow or nullable, if that of the column was so before."""
    if before.endswith("[pyarrow]"):
        return f"{kind}[pyarrow]"
    dtype = str(np.dtype(kind.to_pandas_dtype()))
    is_nullable = before == "boolean" or before[:1].isupper()
    return dtype.capitalize() if is_nullable and dtype != "float16" else dtype
