"""Embeddings that `apply` normalizes: columns of lists, which stay lists of the same kind."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from bnstream.core.affine import Affine
from bnstream.streams.sources.tables.buffers import in_arrow
from bnstream.streams.sources.tables.columns import filled, in_lists
from bnstream.streams.sources.tables.embeddings import Field, element_names, open_lists, require_width


def normalized_lists(column: Any, name: str, field: Field, affine: Affine, dtype: np.dtype[Any]) -> Any:
    """Normalize the elements of lists, each by its channel or all by one. What is missing stays so.

    Raises
    ------
    ValueError
        If lists have other lengths than the field.
    """
    lists = open_lists(column)
    if field.shape:
        require_width(lists, column, name, field.width)
    values, present = filled(lists.elements, name)
    if field.shape:
        y = affine.of_named_columns(values.reshape(-1, field.width), element_names(name, field.width), dtype).ravel()
    else:
        y = affine.of_named_column(values, name, dtype)
    return lists.close(in_arrow(y, present))


def as_values(column: Any, name: str) -> NDArray[Any]:
    """A normalized column as an array, NaN where values are missing."""
    return with_nan(*filled(column, name))


def as_rows(column: Any, name: str) -> NDArray[Any]:
    """A normalized column of lists of one length as the rows of an array, NaN where values are missing."""
    widths = open_lists(column).counts
    width = int(widths.max(initial=0))
    x, mask, _ = in_lists(column, name, Field((width,), width))
    return with_nan(x, mask)


def with_nan(x: NDArray[Any], mask: NDArray[np.bool_] | None) -> NDArray[Any]:
    """Floats with NaN where a mask does not mark them as present."""
    return x if mask is None else np.where(mask, x, x.dtype.type(np.nan))
