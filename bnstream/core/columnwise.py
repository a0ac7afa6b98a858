"""The moments of `Columns`: each column is added by itself, so that none is rounded to the dtype of the others."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.lib.array_utils import normalize_axis_tuple
from numpy.typing import NDArray

from bnstream.core.blocks import side_by_side
from bnstream.core.columns import Column, Columns
from bnstream.core.dlpack import as_numpy
from bnstream.core.dtypes import rounded
from bnstream.core.labels import counted
from bnstream.core.masks import with_all_axes
from bnstream.core.moments import Moments, add_missing, moments_from, rows_of
from bnstream.core.rows import M2_LO, MEAN


def update_columnwise(m: Moments, batch: Columns, weights: Any, where: Any, n_threads: int | None) -> Moments:
    """Do what ``m.update`` does for an array.

    Raises
    ------
    TypeError, ValueError
        As ``m.update``. The message names the column of a table.
    """
    zeros: Any = np.broadcast_to(np.False_, batch.shape)
    m.copy().update(zeros, weights=weights, where=where, n_threads=n_threads)       # checks all but the values
    axes = axes_of(m.axis, batch.ndim)
    moments_of = moments_of_rows if 0 in axes else moments_of_channels
    parts = []
    for j, column in enumerate(batch.columns):
        used = None if where is None else of_column(where, j, batch.shape, axes)
        weight = None if weights is None else of_column(weights, j, batch.shape, axes)
        try:
            parts.append(moments_of(column, m, weight, used, n_threads))
        except ValueError as error:
            raise ValueError(f"column {column.name!r}: {error}" if batch.ndim == 2 else str(error)) from error
    if axes == (0,) and batch.ndim == 2:
        return m.merge(side_by_side(parts, [len(parts)]))
    return m.merge(sum(parts, like(m)))


def axes_of(axis: Any, ndim: int) -> tuple[int, ...]:
    """The batch axes, as numbers from 0."""
    return normalize_axis_tuple(range(ndim) if axis is None else axis, ndim)


def of_column(positions: Any, j: int, shape: tuple[int, ...], axes: tuple[int, ...]) -> NDArray[Any]:
    """Weights or a mask at the elements of one column."""
    values = np.broadcast_to(with_all_axes(np.asarray(positions), shape, axes), shape)
    return values[:, j] if len(shape) == 2 else values


def like(m: Moments) -> Moments:
    """Moments of nothing yet, with the policy of others and tracking the same."""
    policy: Any = m.nan_policy
    return Moments(nan_policy=policy, exact=m.exact, track=m.track)


def moments_of_rows(column: Column, m: Moments, weights: Any, where: Any, n_threads: int | None) -> Moments:
    """The moments of a column whose rows are the batch positions, as `m` has them."""
    part, nan_policy = like(m), m.nan_policy
    if column.missing is None:
        return part.update(column.values, weights=weights, where=where, n_threads=n_threads)
    missing = column.missing if where is None else column.missing & where
    require_none_missing(missing, nan_policy)
    present = ~column.missing if where is None else ~column.missing & where
    part.update(column.values, weights=weights, where=present, n_threads=n_threads)
    if nan_policy == "propagate" and missing.any():
        part.update(np.full(len(missing), np.nan), weights=weights, where=missing, n_threads=n_threads)
    elif missing.any():
        add_missing(part, left_out(missing, weights, m.exact))
    return part


def left_out(missing: NDArray[np.bool_], weights: Any, exact: bool) -> Any:
    """How many missing values are left out: none of weight 0, and of exact statistics each as often as its weight."""
    if weights is None:
        return np.count_nonzero(missing, axis=0)
    counts = np.asarray(weights).reshape(-1, *(1,) * (missing.ndim - 1))
    return (missing * (counts if exact else counts != 0)).sum(0).astype(np.int64)


def moments_of_channels(column: Column, m: Moments, weights: Any, where: Any, n_threads: int | None) -> Moments:
    """The moments of a column whose rows are the channels, of one value each."""
    policy: Any = m.nan_policy
    used = np.ones(len(column.values), np.bool_) if where is None else where
    missing = np.zeros_like(used) if column.missing is None else column.missing & used
    require_none_missing(missing, policy)
    values = np.where(used & ~missing, column.values, column.values.dtype.type(0))
    weight = None if weights is None else weights[:1]
    if m.exact or m.track:
        found = like(m)
        found.update(values[np.newaxis], weights=weight, where=(used & ~missing)[np.newaxis], n_threads=n_threads)
        if policy == "propagate" and missing.any():
            found.update(np.full((1, len(used)), np.nan), weights=weight, where=missing[np.newaxis])
        elif missing.any():
            add_missing(found, left_out(missing[np.newaxis], weight, m.exact))
        return found
    part = Moments(nan_policy=policy).update(values[np.newaxis], weights=weight, n_threads=n_threads)
    rows: Any = rows_of(part)
    rows[:, ~used if policy == "propagate" else ~used | missing] = 0
    rows[MEAN:M2_LO + 1, missing & (policy == "propagate")] = np.nan
    return moments_from(rows, nan_policy=policy)


def require_none_missing(missing: NDArray[np.bool_], nan_policy: str) -> None:
    """Raise ValueError if values are missing under the policy "raise"."""
    if nan_policy == "raise" and missing.any():
        raise ValueError(f"{counted(int(np.count_nonzero(missing)), 'missing value', 'missing values')}; pass "
                         "nan_policy='omit' to leave them out, or 'propagate' to let them through as NaN")


def mean_var_by_moments(
    x: Any, axis: Any, ddof: Any, dtype: Any, keepdims: bool, nan_policy: Any, weights: Any, where: Any,
    n_threads: int | None, exact: bool,
) -> tuple[Any, Any]:
    """Do what `mean_var` does for an array, for `Columns`, or for an array exactly."""
    m = Moments(axis, nan_policy=nan_policy, exact=exact)
    if isinstance(x, Columns):
        update_columnwise(m, x, weights, where, n_threads)
    else:
        x = as_numpy(x)
        m.update(x, weights=weights, where=where, n_threads=n_threads)
    axes = axes_of(axis, x.ndim)
    shape = tuple(1 if i in axes else n for i, n in enumerate(x.shape) if keepdims or i not in axes)
    results = (m.mean, m.var(ddof)) if m.shape is not None else (np.full(shape, np.nan), np.full(shape, np.nan))
    mean, var = (rounded(values, dtype).reshape(shape) for values in results)
    return mean[()], var[()]
