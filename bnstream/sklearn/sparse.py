"""The moments of the columns of a sparse matrix, from its stored values alone, and scaling of these.

    CSR -> blocks of rows -> CSC -+-> tables of columns of similar lengths -> Moments -> merge with the zeros
    CSC --------------------------+

Time and memory do not depend on the number of zeros, and the memory is bounded for a matrix of any size.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.utils.sparsefuncs import inplace_column_scale  # type: ignore[import-untyped]

from bnstream.core.moments import Moments, moments_from, rows_of
from bnstream.core.rows import ROWS, SQUARES, WEIGHTED_ROWS, N
from bnstream.sklearn.validation import refuse_inf

BLOCK = 1 << 18     # stored values in a block of rows; at least four for each column
TABLE = 1 << 16     # elements of a table
LONG = 1 << 12      # a column with more stored values than this is read in place

Array = NDArray[Any]


def sparse_moments(x: Any, weights: Array | None = None) -> Moments:
    """The moments of each column. Values that are not stored are 0, and NaN is omitted.

    Parameters
    ----------
    x : CSR or CSC matrix or array
    weights : ndarray of shape (rows,), optional

    Returns
    -------
    Moments
        Those of ``x.toarray()``, within the error bounds of `Moments`.

    Examples
    --------
    >>> from scipy.sparse import csr_array
    >>> from bnstream.sklearn.sparse import sparse_moments
    >>> sparse_moments(csr_array([[0.0, 3.0], [4.0, 0.0]])).mean.tolist()
    [2.0, 1.5]
    """
    if weights is not None and not weights.all():       # drop the rows of weight 0
        x, weights = x[weights != 0], weights[weights != 0]
    total = Moments()
    for start, stop in row_blocks(x):
        block = x if stop - start == x.shape[0] else row_slice(x, start, stop)
        block = block.tocsc()
        if not block.has_canonical_format:      # duplicate entries stand for one value, their sum
            block = block.copy()
            block.sum_duplicates()
        total.merge(column_moments(block, None if weights is None else weights[start:stop]))
    return total


def row_blocks(x: Any) -> Iterator[tuple[int, int]]:
    """Start and stop of each block of rows. A CSC matrix is one block."""
    cuts = []
    if x.format == "csr":
        step = max(BLOCK, 4 * x.shape[1])
        cuts = np.searchsorted(x.indptr, np.arange(step, x.indptr[-1], step)).tolist()
    return pairwise(sorted({0, *cuts, x.shape[0]}))


def row_slice(x: Any, start: int, stop: int) -> Any:
    """``x[start:stop]`` of a CSR matrix, without a copy of the stored values."""
    stored = slice(x.indptr[start], x.indptr[stop])
    indptr = x.indptr[start:stop + 1] - x.indptr[start]
    return type(x)((x.data[stored], x.indices[stored], indptr), shape=(stop - start, x.shape[1]))


def column_moments(x: Any, weights: Array | None) -> Moments:
    """The moments of the columns of a CSC matrix, zeros included."""
    n_stored = np.diff(x.indptr)
    stored = np.zeros((len(ROWS if weights is None else WEIGHTED_ROWS), x.shape[1]))
    zeros = np.zeros_like(stored)
    if weights is None:
        zeros[N] = x.shape[0] - n_stored
    else:
        total, total_lo = pair_sum(weights[:, None])
        zeros[N], zeros[SQUARES] = total, weights @ weights
    for columns, values, w in tables(x, n_stored, weights):
        stored[:, columns] = table_state(values, w)
        if w is not None:
            of_stored, of_stored_lo = pair_sum(w)
            zeros[N, columns] = np.maximum((total - of_stored) + (total_lo - of_stored_lo), 0)
            zeros[SQUARES, columns] -= (w * w).sum(0)
    zeros[:, n_stored == x.shape[0]] = 0
    return moments_from(stored, nan_policy="omit").merge(moments_from(zeros, nan_policy="omit"))


def table_state(values: Array, w: Array | None) -> Any:
    """The state of each column of a table.

    `Moments` takes one weight for each row. If each element has its own, each becomes a state of one value, and halves
    of the table are merged until one row is left.
    """
    if w is None or values.shape[1] == 1:
        rows = None if w is None else w[:, 0]
        return rows_of(Moments(nan_policy="omit").update(values, weights=rows, n_threads=1))
    n = np.where(np.isnan(values), 0, w)
    state: Any = np.stack([n, np.where(n, values, 0), *np.zeros((4, *n.shape)), n * n])
    while state.shape[1] > 1:
        halves = (half.reshape(len(WEIGHTED_ROWS), -1) for half in np.split(state, 2, axis=1))
        a, b = (moments_from(half, nan_policy="omit") for half in halves)
        state = rows_of(a.merge(b))
        state = state.reshape(len(WEIGHTED_ROWS), -1, n.shape[1])
    return state[:, 0]


def pair_sum(w: Array) -> tuple[Array, Array]:
    """The sums of columns as pairs of doubles: rounded sums, and the rests.

    The weight of the zeros in a column is the sum of all weights less that of the stored values. Doubles alone would
    lose it if the zeros are few, although all of the variance may be due to them.
    """
    high, low = w, np.zeros_like(w)
    while len(high) > 1:
        half = len(high) // 2
        a, b, rest = high[:half], high[half:2 * half], slice(2 * half, None)
        total = a + b
        of_b = total - a
        left = (a - (total - of_b)) + (b - of_b)
        high = np.concatenate([total, high[rest]])
        low = np.concatenate([low[:half] + low[half:2 * half] + left, low[rest]])
    return high[0], low[0]


def tables(x: Any, n_stored: Array, weights: Array | None) -> Iterator[tuple[Array, Array, Array | None]]:
    """Tables as (columns, values, weights): columns side by side, filled up with NaN to a power of two."""
    dtype = np.result_type(x.dtype, np.float32)
    length = 1
    while length <= LONG:
        columns = np.flatnonzero((n_stored > length // 2) & (n_stored <= length))
        rows, width = np.arange(length)[:, None], TABLE // length
        for some in (columns[i:i + width] for i in range(0, len(columns), width)):
            missing = rows >= n_stored[some]
            place = np.where(missing, 0, x.indptr[some] + rows)
            values = x.data[place].astype(dtype, copy=False)
            values[missing] = np.nan
            yield some, values, None if weights is None else np.where(missing, 0, weights[x.indices[place]])
        length *= 2
    for column in np.flatnonzero(n_stored > LONG):
        stored = slice(x.indptr[column], x.indptr[column + 1])
        yield np.array([column]), x.data[stored, None], None if weights is None else weights[x.indices[stored], None]


def scale_sparse(x: Any, gamma: Array | None) -> Any:
    """Multiply the columns of a CSR matrix by gamma, in place."""
    refuse_inf(x)
    if gamma is not None:
        inplace_column_scale(x, gamma)
    return x
