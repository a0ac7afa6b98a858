"""Columns of lists of numbers: embeddings, whose elements are channels, or one channel if they are pooled."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa  # type: ignore[import-untyped]
from numpy.typing import NDArray
from pyarrow import types

from bnstream.streams.sources.errors import SourceError
from bnstream.streams.sources.tables.buffers import mask_of, values_of


class Field(NamedTuple):
    """A column that holds channels."""

    shape: tuple[int, ...] = ()
    """Of its channels: (n,) for lists of n elements that are channels, () for numbers and for lists that are pooled."""
    width: int = 1
    """Values in a row; about as many where lists are pooled."""


class Lists(NamedTuple):
    """The elements of a column of lists, one after another; lists in lists are flattened."""

    elements: Any
    """A pyarrow array of the elements of all rows. A missing list has none, but where lists have a fixed size, it has
    arbitrary ones."""
    present: NDArray[np.bool_] | None
    """Marks the elements that are in no missing list of a fixed size; None if all are."""
    counts: NDArray[np.int64]
    """The number of elements in each row."""
    close: Callable[[Any], Any]
    """Makes lists of the same lengths from other elements."""


def is_list(kind: Any) -> bool:
    """Whether a column of this type holds lists."""
    return bool(types.is_fixed_size_list(kind) or types.is_list(kind) or types.is_large_list(kind) or is_tensor(kind))


def is_tensor(kind: Any) -> bool:
    return isinstance(kind, pa.FixedShapeTensorType)


def element_type(kind: Any) -> Any:
    """The type of the innermost elements of lists; any other type itself."""
    while is_list(kind):
        kind = kind.value_type
    return kind


def size_of(kind: Any) -> int | None:
    """The number of elements in a row of lists of a fixed size; None if it depends on the data."""
    if is_tensor(kind):
        return size_of(kind.storage_type)
    if not is_list(kind):
        return 1
    inner = size_of(kind.value_type)
    return kind.list_size * inner if types.is_fixed_size_list(kind) and inner is not None else None


def field_of(name: str, column: str, kind: Any, pooled: bool, look: Callable[[str], Iterable[Any]]) -> Field:
    """The channels of a column; `look` returns its pyarrow arrays, of which the first with a list is used.

    Raises
    ------
    SourceError
        If lists are empty or there are none, so that the number of channels is unknown.
    """
    if not is_list(kind):
        return Field()
    size = size_of(kind)
    if size is None:
        arrays = (array.drop_null() for array in look(column))
        size = next((int(open_lists(array.slice(0, 1)).counts[0]) for array in arrays if len(array)), None)
    if pooled:
        return Field((), size or 1)
    if not size:
        found = "no list" if size is None else "empty lists"
        raise SourceError(f"{name}: column {column!r} begins with {found}, so its number of channels is unknown; leave "
                          "it out with exclude= (--exclude), or pool its elements with element_axis='pooled' "
                          "(--element-axis pooled)")
    return Field((size,), size)


def channel_names(fields: Mapping[str, Field]) -> tuple[str, ...]:
    """The names of the channels, such as "emb[0]" for the elements of a column "emb"."""
    return tuple(name for column, field in fields.items()
                 for name in (element_names(column, *field.shape) if field.shape else [column]))


def element_names(column: str, width: int) -> list[str]:
    """The names of the channels of a column of lists."""
    return [f"{column}[{i}]" for i in range(width)]


def column_of(channel: str, kinds: Mapping[str, Any]) -> str:
    """The column of a channel among columns of these types."""
    column, bracket, index = channel.removesuffix("]").rpartition("[")
    is_element = channel not in kinds and bracket and index.isdecimal() and channel.endswith("]")
    return column if is_element and is_list(kinds.get(column)) else channel


def open_lists(column: Any) -> Lists:
    """The elements of a column of lists."""
    kind, n = column.type, len(column)
    if is_tensor(kind):
        lists = open_lists(column.storage)
        return lists._replace(close=lambda elements: tensors(kind, lists.close(elements), elements.type))
    missing = ~mask_of(column) if column.null_count else None
    mask = None if missing is None else pa.array(missing)
    present = None
    if types.is_fixed_size_list(kind):
        size, starts = kind.list_size, None
        counts = np.full(n, size)
        inside = column.values.slice(column.offset * size, n * size)
        present = None if missing is None else np.repeat(~missing, size)
    else:
        starts = values_of(column.offsets)
        counts = np.diff(starts).astype(np.int64)
        if missing is None:
            inside, starts = column.values.slice(starts[0], starts[-1] - starts[0]), starts - starts[0]
        else:
            counts[missing] = 0
            inside = column.flatten()       # without the elements of missing lists
            starts = np.concatenate([starts[:1] * 0, np.cumsum(counts, dtype=starts.dtype)])

    def make(elements: Any) -> Any:
        field = kind.value_field.with_type(elements.type)
        if types.is_fixed_size_list(kind):
            return pa.FixedSizeListArray.from_arrays(elements, type=pa.list_(field, kind.list_size), mask=mask)
        if types.is_list(kind):
            return pa.ListArray.from_arrays(starts, elements, type=pa.list_(field), mask=mask)
        return pa.LargeListArray.from_arrays(starts, elements, type=pa.large_list(field), mask=mask)

    if not is_list(inside.type):
        return Lists(inside, present, counts, make)
    inner = open_lists(inside)
    if inner.present is not None:
        present = inner.present if present is None else inner.present & np.repeat(present, inner.counts)
    elif present is not None:
        present = np.repeat(present, inner.counts)
    ends = np.concatenate([[0], np.cumsum(inner.counts)])[np.concatenate([[0], np.cumsum(counts)])]
    return Lists(inner.elements, present, np.diff(ends), lambda elements: make(inner.close(elements)))


def tensors(kind: Any, storage: Any, element: Any) -> Any:
    """A column of tensors of the shape of a type, of elements of another."""
    like = pa.fixed_shape_tensor(element, kind.shape, dim_names=kind.dim_names, permutation=kind.permutation)
    return pa.ExtensionArray.from_storage(like, storage.cast(like.storage_type))


def require_width(lists: Lists, column: Any, name: str, width: int) -> None:
    """Raise ValueError unless every list of a column has `width` elements."""
    wrong = lists.counts != width
    if column.null_count:
        wrong &= mask_of(column)
    if wrong.any():
        row = int(np.argmax(wrong))
        raise ValueError(f"column {name!r}: the list in row {row:,} of these has {lists.counts[row]:,} elements, "
                         f"expected {width:,} as in the first; pad the lists, or pool their elements with "
                         "element_axis='pooled' (--element-axis pooled)")
