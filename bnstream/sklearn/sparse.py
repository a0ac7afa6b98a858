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

from bnstream.core.exact import ExactSums, side_by_side
from bnstream.core.exactsums import NUMBERS
from bnstream.core.moments import Moments, exact_moments_from, moments_from, rows_of, sums_of
from bnstream.core.rows import MEAN, MEAN_LO, N_LO, ROWS, SCALED_ROWS, SQUARES, WEIGHTED_ROWS, N
from bnstream.sklearn.validation import refuse_inf

BLOCK = 1 << 18     # stored values in a block of rows; at least four for each column
TABLE = 1 << 16     # elements of a table
LONG = 1 << 12      # a column with more stored values than this is read in place

Array = NDArray[Any]


def sparse_moments(x: Any, weights: Array | None = None, exact: bool = False) -> Moments:
    """The moments of each column. Values that are not stored are 0, and NaN is omitted.

    Parameters
    ----------
    x : CSR or CSC matrix or array
    weights : ndarray of shape (rows,), optional
    exact : bool, default False

    Returns
    -------
    Moments
        Those of ``x.toarray()``, within the error bounds of `Moments`, or exact.

    Raises
    ------
    ValueError
        If the weights for exact statistics are not whole numbers.
    OverflowError
        If these add up to more than 2**62.

    Examples
    --------
    >>> from scipy.sparse import csr_array
    >>> from bnstream.sklearn.sparse import sparse_moments
    >>> sparse_moments(csr_array([[0.0, 3.0], [4.0, 0.0]])).mean.tolist()
    [2.0, 1.5]
    """
    if exact and weights is not None:
        return repeated_moments(x, weights)
    if weights is not None and not weights.all():       # drop the rows of weight 0
        x, weights = x[weights != 0], weights[weights != 0]
    total = Moments(exact=exact)
    for start, stop in row_blocks(x):
        block = x if stop - start == x.shape[0] else row_slice(x, start, stop)
        block = block.tocsc()
        if not block.has_canonical_format:
            block = without_duplicates(block)
        if exact:
            total.merge(exact_column_moments(block))
        else:
            total.merge(column_moments(block, None if weights is None else weights[start:stop]))
    return total


def repeated_moments(x: Any, weights: Array) -> Moments:
    """The exact moments of the rows of x, each as often as its weight says.

    They are those of the rows that have the highest bit of the weights, twice those plus the rows that have the next
    bit, and so on: one pass over the rows of each bit.
    """
    Moments(exact=True).update(np.empty((len(weights), 0)), weights=weights)        # checks the weights
    counts = weights.astype(np.int64)
    total = Moments(exact=True)
    for bit in reversed(range(int(counts.max(initial=0)).bit_length())):
        total.merge(total).merge(sparse_moments(x[(counts >> bit & 1).astype(np.bool_)], exact=True))
    return total


def without_duplicates(x: Any) -> Any:
    """A copy of a CSC matrix in which values stored for the same place are replaced by their sum.

    Sums are in double precision. Those of integers are exact, except near the limits of 64 bits.
    """
    total = x.astype(np.float64, copy=True)
    total.sum_duplicates()
    refuse_inf(total)
    if x.dtype.kind != "f":
        dtype = np.dtype(np.uint64 if x.dtype == np.uint64 else np.int64)
        least, most = total.data.min(initial=0), total.data.max(initial=0)
        if 0.99 * np.iinfo(dtype).min <= least and most <= 0.99 * np.iinfo(dtype).max:
            total = x.astype(dtype, copy=True)
            total.sum_duplicates()
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
    stored = np.zeros((len(SCALED_ROWS), x.shape[1]))
    zeros = np.zeros((len(ROWS if weights is None else WEIGHTED_ROWS), x.shape[1]))
    if weights is None:
        zeros[N] = x.shape[0] - n_stored
    else:
        total, total_lo = pair_sum(weights[:, None])
        zeros[N], zeros[SQUARES] = total, weights @ weights
    for columns, place, missing in tables(x, n_stored):
        values, rest, w = x.data[place], None, None if weights is None else weights[x.indices[place]]
        if missing is not None:
            values, rest = as_pairs(values)
            values[missing] = np.nan
            rest = None if rest is None else np.where(missing, 0, rest)
            w = None if w is None else np.where(missing, 0, w)
        state = table_state(values, rest, w)
        stored[:len(state), columns] = state
        if w is not None:
            of_stored, of_stored_lo = pair_sum(w)
            zeros[N, columns] = np.maximum((total - of_stored) + (total_lo - of_stored_lo), 0)
            zeros[SQUARES, columns] -= (w * w).sum(0)
    zeros[:, n_stored == x.shape[0]] = 0
    found = moments_from(stored, nan_policy="omit").merge(moments_from(zeros, nan_policy="omit"))
    if weights is None:
        return found
    # Without NaN the weights of a column add up to the same sum, to the last bit, in whatever parts they were added.
    whole = np.ones(x.shape[1], np.bool_)
    whole[np.repeat(np.arange(x.shape[1]), n_stored)[np.isnan(x.data)]] = False
    rows: Any = rows_of(found)
    for row, value in (N, total), (N_LO, total_lo), (SQUARES, weights @ weights):
        rows[row, whole] = value
    return moments_from(rows, nan_policy="omit")


def exact_column_moments(x: Any) -> Moments:
    """The exact statistics of the columns of a CSC matrix. Zeros add to the counts alone."""
    n_stored, n_filled = np.diff(x.indptr), np.zeros(x.shape[1], np.int64)
    empty = np.flatnonzero(n_stored == 0)
    zeros = np.zeros((len(empty), 1), np.uint64)
    order, parts = [empty], [ExactSums.restored(np.zeros((4, len(empty)), np.int64), zeros, 0, zeros, 0)]
    for columns, place, missing in tables(x, n_stored):
        values = x.data[place]
        if missing is not None:
            values[missing] = 0
        part: Any = sums_of(Moments(nan_policy="omit", exact=True).update(values, n_threads=1))
        order.append(columns)
        parts.append(part)
        n_filled[columns] = len(values)
    sums = side_by_side(parts)[np.argsort(np.concatenate(order))]
    sums.counts[NUMBERS] += x.shape[0] - n_filled
    return exact_moments_from(sums, (x.shape[1],), nan_policy="omit")


def table_state(values: Array, rest: Array | None, w: Array | None) -> Any:
    """The state of each column of a table of `values`, or of ``values + rest``.

    `Moments` takes one weight for each row, and no pairs. If each element has its own weight or rest, each becomes a
    state of one value, and halves of the table are merged until one row is left.
    """
    if rest is None and (w is None or values.shape[1] == 1):
        rows = None if w is None else w[:, 0]
        return rows_of(Moments(nan_policy="omit").update(values, weights=rows, n_threads=1))
    n = np.where(np.isnan(values), 0.0, 1.0 if w is None else w)
    state: Any = np.zeros((len(WEIGHTED_ROWS), *n.shape))
    state[N], state[MEAN], state[SQUARES] = n, np.where(n, values, 0), n * n
    if rest is not None:
        state[MEAN_LO] = rest
    while state.shape[1] > 1:
        halves = (half.reshape(len(state), -1) for half in np.split(state, 2, axis=1))
        a, b = (moments_from(half, nan_policy="omit") for half in halves)
        state = rows_of(a.merge(b))
        state = state.reshape(len(state), -1, n.shape[1])
    return state[:len(ROWS) if w is None else None, 0]


def as_pairs(values: Array) -> tuple[Array, Array | None]:
    """The values as float64 or float32, and the rests if 64-bit integers were rounded, else None."""
    if values.dtype.kind not in "iu" or values.itemsize < 8:
        return values.astype(np.result_type(values.dtype, np.float32), copy=False), None
    low = values & np.array(2**11 - 1, values.dtype)        # What is left has 53 bits.
    high, low = (values - low).astype(np.float64), low.astype(np.float64)
    rounded = high + low
    rest = low - (rounded - high)
    return rounded, rest if rest.any() else None


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


def tables(x: Any, n_stored: Array) -> Iterator[tuple[Array, Any, Array | None]]:
    """Tables as (columns, place, missing) of the stored values ``x.data[place]`` of columns, side by side.

    They are filled up to a power of two, with any values, where `missing` is True. It is None where nothing is.
    """
    length = 1
    while length <= LONG:
        columns = np.flatnonzero((n_stored > length // 2) & (n_stored <= length))
        rows, width = np.arange(length)[:, None], TABLE // length
        for some in (columns[i:i + width] for i in range(0, len(columns), width)):
            missing = rows >= n_stored[some]
            yield some, np.where(missing, 0, x.indptr[some] + rows), missing
        length *= 2
    for column in np.flatnonzero(n_stored > LONG):
        yield np.array([column]), (slice(x.indptr[column], x.indptr[column + 1]), None), None


def scale_sparse(x: Any, gamma: Array | None) -> Any:
    """Multiply the columns of a CSR matrix by gamma, in place."""
    refuse_inf(x)
    if gamma is not None:
        inplace_column_scale(x, gamma)
    return x
