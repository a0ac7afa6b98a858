"""Batches with any batch axes as rows of their channels, a few MiB at a time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bnstream.sketches.quantiles import SLICE_VALUES, Quantiles

Mask = NDArray[np.bool_] | None


def update_with(
    quantiles: Quantiles, batch: NDArray[Any], batch_axes: Sequence[int], where: Mask = None, *, omit: bool = False
) -> Quantiles:
    """Do what `Moments.update` does for an array that it accepted.

    Parameters
    ----------
    quantiles : Quantiles
        Of as many channels as the axes make that are no batch axes, in their order.
    batch : ndarray
        Real numbers.
    batch_axes : sequence of int
        From 0, ascending.
    where : ndarray of bool, optional
        The elements that count; broadcasts against `batch`.
    omit : bool
        Whether NaN and inf do not count.

    Returns
    -------
    Quantiles
        The object itself.

    Examples
    --------
    >>> import numpy as np
    >>> from bnstream.sketches import Quantiles
    >>> from bnstream.sketches.batches import update_with
    >>> x = np.array([[[1.0, np.inf], [2.0, 3.0]]])
    >>> update_with(Quantiles(2), x, (0, 2), omit=True).n.tolist()
    [1, 2]
    """
    first = range(len(batch_axes))
    x = np.moveaxis(batch, batch_axes, first)
    mask = None if where is None else np.moveaxis(np.broadcast_to(where, batch.shape), batch_axes, first)
    for values, used in pieces(x, mask, len(batch_axes)):
        rows = values.reshape(-1, quantiles.n_channels)
        counts = None if used is None else used.reshape(rows.shape)
        if omit and rows.dtype.kind not in "biu":
            finite = np.isfinite(rows)
            counts = finite if counts is None else counts & finite
        quantiles.update(rows, where=counts)
    return quantiles


def pieces(x: NDArray[Any], mask: Mask, n_axes: int) -> Iterator[tuple[NDArray[Any], Mask]]:
    """An array and its mask in pieces along the first axes, of at most `SLICE_VALUES` values unless a row has more."""
    if not x.size:
        return
    each = x.size // len(x) if n_axes else x.size
    if n_axes > 1 and each > SLICE_VALUES:
        for i, one in enumerate(x):
            yield from pieces(one, None if mask is None else mask[i], n_axes - 1)
        return
    step = max(1, SLICE_VALUES // each) if n_axes else 1
    for start in range(0, len(x) if n_axes else 1, step):
        chosen: Any = slice(start, start + step) if n_axes else ...
        yield x[chosen], None if mask is None else mask[chosen]
