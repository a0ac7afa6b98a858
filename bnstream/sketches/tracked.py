"""The quantiles that a `Moments` tracks: its sketches, and what is asked of them.

`Moments` calls these functions, and holds the sketches of its channels, one after another, in `_sketches`: None before
the first batch. These never change: new ones take their place, so that an error or Ctrl-C leaves them as they were, and
readers need no lock. Where the state of each channel is an element of an array, as in blocks of channels, so is its
sketch.
"""

from __future__ import annotations

from typing import Any, SupportsIndex

import numpy as np
from numpy.typing import ArrayLike, NDArray

from bnstream.core.moments import Moments
from bnstream.core.tracking import require_tracked
from bnstream.sketches.batches import update_with
from bnstream.sketches.quantiles import Quantiles


def with_batch(m: Any, batch: NDArray[Any], batch_axes: tuple[int, ...], where: Any, size: int) -> Quantiles:
    """The sketches of `m` with a batch that it has accepted; `size` is the number of its channels."""
    return update_with(own_or_new(m, size).copy(), batch, batch_axes, where, omit=m.nan_policy == "omit")


def merged(m: Any, theirs: Quantiles | None) -> Quantiles | None:
    """The sketches of `m` and of another object."""
    own: Quantiles | None = m._sketches
    return theirs if own is None else own if theirs is None else own.copy().merge(theirs)


def own_or_new(m: Any, size: int) -> Quantiles:
    """The sketches of `m` themselves, or new ones if it has none."""
    return Quantiles(size) if m._sketches is None else m._sketches      # type: ignore[no-any-return]


def by_channel(m: Any, size: int) -> NDArray[Any]:
    """Copies of the sketches as an array of `Quantiles` of one channel each."""
    sketches = own_or_new(m, size)
    found = np.empty(size, object)
    found[:] = [sketches.channels([i]) for i in range(size)]
    return found


def set_by_channel(m: Any, sketches: NDArray[Any]) -> None:
    """Set the sketches to copies of those in an array."""
    m._sketches = Quantiles.joined([*sketches.ravel()]) if sketches.size else Quantiles(0)


def tracked_sketches(m: Any, name: str) -> Quantiles:
    """A copy of the sketches; raise AttributeError unless quantiles are tracked."""
    require_tracked("quantiles", m.track)
    return own_or_new(m, int(np.size(m.n))).copy()


def quantile(m: Moments, q: ArrayLike) -> NDArray[np.float64]:
    """Estimate quantiles, with ``track="quantiles"``.

    Parameters
    ----------
    q : array_like
        Probabilities, from 0 for the minimum to 1 for the maximum, both of which are exact.

    Returns
    -------
    ndarray of float64
        Of the shape of `q` followed by that of the channels; NaN where a channel has no values, or a NaN. The rank of a
        quantile lies within `rank_error` of `q`.

    Raises
    ------
    AttributeError
        If quantiles are not tracked.
    TypeError
        If `q` is not of real numbers.
    ValueError
        If it is not within 0 and 1.

    Examples
    --------
    >>> import numpy as np, bnstream
    >>> m = bnstream.Moments(track="quantiles").update(np.arange(202.0).reshape(101, 2))
    >>> m.quantile([0.25, 0.5]).tolist()
    [[50.0, 51.0], [100.0, 101.0]]
    """
    found = tracked_sketches(m, "quantile").quantile(q)
    return found.reshape(found.shape[:-1] + np.shape(m.n))[()]


def rank_error(m: Moments) -> NDArray[np.float64]:
    """Return the bound of the error of the quantiles of each channel, with a confidence of 99 %.

    Returns
    -------
    ndarray of float64
        Of the shape of the channels: the fraction of values by which the rank of ``quantile(q)`` may differ from `q`; 0
        where the quantiles are exact.

    Raises
    ------
    AttributeError
        If quantiles are not tracked.

    Examples
    --------
    >>> import numpy as np, bnstream
    >>> bnstream.Moments(track="quantiles").update(np.zeros((5000, 1))).rank_error().round(4).tolist()
    [0.0035]
    """
    return tracked_sketches(m, "rank_error").rank_error.reshape(np.shape(m.n))[()]      # type: ignore[no-any-return]


def histogram(
    m: Moments, channel: str | SupportsIndex, bins: SupportsIndex | ArrayLike = 10,
    range: tuple[float, float] | None = None,       # noqa: A002
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Estimate the histogram of one channel, with ``track="quantiles"``.

    Parameters
    ----------
    channel : str or int
        The name of the channel, or its index, counted through all axes of the channels.
    bins, range
        As for ``numpy.histogram``: the number of bins of equal width, or their edges; by default 10 from the minimum to
        the maximum.

    Returns
    -------
    counts, edges : ndarray of float64
        As of `bnstream.sketches.Quantiles.histogram`: within twice `rank_error` of all values.

    Raises
    ------
    AttributeError
        If quantiles are not tracked.
    ValueError
        If there is no such channel or bin, or the channel has no values, or a NaN.

    Examples
    --------
    >>> import bnstream
    >>> m = bnstream.Moments(track="quantiles", names=["x"]).update([[1.0], [2.0], [2.0], [5.0]])
    >>> counts, edges = m.histogram("x", bins=2)
    >>> counts.tolist(), edges.tolist()
    ([3.0, 1.0], [1.0, 3.0, 5.0])
    """
    sketches = tracked_sketches(m, "histogram")
    if isinstance(channel, str):
        if channel not in (m.names or ()):
            raise ValueError(f"channel must be the name of a channel, got {channel!r}; the names are {m.names}")
        channel = (m.names or ()).index(channel)
    return sketches.histogram(channel, bins, range)
