"""What `apply` does to the values of a piece: arrays to arrays, record batches to record batches."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from bnstream.core.affine import Affine, several_channel_axes
from bnstream.core.batchnorm import BatchNorm
from bnstream.core.columns import Columns
from bnstream.core.groups.affine import GroupAffine, RowsAffine
from bnstream.core.moments import Moments
from bnstream.streams.keys import keys_in
from bnstream.streams.sources import Source


def normalized_array(values: Any, source: Source, affine: Affine, state: Moments | BatchNorm | None) -> NDArray[Any]:
    """Normalize an array, or the columns of a .npz file. The result has rows first.

    state: the statistics, whose channel axes are those of the array; None if the caller chose the axis.
    """
    if isinstance(values, Columns):
        return affine.of_table(values)
    axes = source.batch_axes or ()
    channel_axis = next(axis for axis in range(values.ndim) if axis not in axes)
    several = None if state is None else several_channel_axes(state, values.ndim)
    if channel_axis == 0 or 0 in (several or ()):
        raise ValueError("rows are written in order, so the channel axis cannot be the first; normalize a memmap with "
                         "bnstream.normalize")
    y = affine.of_array(values, channel_axis) if several is None else affine.of_batch(values, several)
    return y if source.rows_first else y[np.newaxis]


def normalized_batch(batch: Any, source: Source, affine: Affine | GroupAffine, schema: Any) -> Any:
    """The columns of a schema from a record batch, those that hold channels normalized. What is missing stays so."""
    import pyarrow as pa  # type: ignore[import-untyped]

    from bnstream.streams.lists import normalized_lists
    from bnstream.streams.sources.tables.buffers import in_arrow
    from bnstream.streams.sources.tables.columns import filled
    from bnstream.streams.sources.tables.embeddings import element_type, is_list

    of_rows: Any = affine
    if isinstance(affine, GroupAffine):
        keys = keys_in(batch, affine.by, source, affine.g.kinds)
        of_rows = RowsAffine(affine, affine.places(keys, batch.num_rows, "the table"))
    columns: dict[str, Any] = {}
    together: dict[Any, list[Any]] = {}         # by their dtypes, the columns that are normalized in one call
    for field in schema:
        name, column = field.name, batch.column(batch.schema.get_field_index(field.name))
        if name not in source.fields:
            columns[name] = column if column.type == field.type else cast(column, field)
            continue
        dtype = np.dtype(element_type(field.type).to_pandas_dtype())
        if is_list(column.type):
            if isinstance(affine, GroupAffine) and not source.fields[name].shape:
                raise ValueError(f"column {name!r} holds lists, but its statistics by group are those of one number in "
                                 "each row; fit the lists")
            columns[name] = normalized_lists(column, name, source.fields[name], of_rows, dtype)
            continue
        values, present = filled(column, name)
        together.setdefault((values.dtype, dtype), []).append((name, values, present))
    for (_, dtype), group in together.items():
        names, arrays, masks = zip(*group, strict=True)
        rows = of_rows.of_named_rows(arrays, names, dtype)
        columns |= {name: in_arrow(row, mask) for name, row, mask in zip(names, rows, masks, strict=True)}
    return pa.RecordBatch.from_arrays([columns[name] for name in schema.names], schema=schema)


def cast(column: Any, field: Any) -> Any:
    """A column in the type of a field; raise ValueError if it does not hold the values."""
    import pyarrow as pa

    from bnstream.streams.schema import plain_dictionary

    try:
        return column.cast(plain_dictionary(column.type)).cast(field.type)
    except pa.ArrowInvalid as error:
        raise ValueError(f"column {field.name!r}: {error}") from error
