"""Normalization of each row by the statistics of its own group."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from bnstream.core.affine import deviations, digest_of, is_far, kept_axes
from bnstream.core.checks import eps_of
from bnstream.core.columns import Columns, in_exact_form, require_names_in_order
from bnstream.core.dtypes import is_floating
from bnstream.core.groups.batch import require_readable
from bnstream.core.groups.grouped import GroupedMoments, with_kinds
from bnstream.core.groups.keys import keys_of
from bnstream.core.groups.sums import array_of, axes_in
from bnstream.core.labels import channel_label, listed
from bnstream.core.moments import Moments, rows_of
from bnstream.core.rows import MEAN_LO, without_exponent

Unknown = Literal["raise", "total", "nan"]
BLOCK = 1 << 17             # elements that are normalized at a time


class GroupAffine:
    """``(x - mean) / sqrt(var + eps)`` with the mean and variance of each group, in float64, rounded once to a dtype.

    Rows with an unknown key are refused, or form one more group behind the others, which has the statistics of all
    groups, or NaN; see `unknown`.
    """

    def __init__(
        self, g: GroupedMoments, eps: float | None = None, *, unknown: Unknown = "raise", inverse: bool = False,
        clip: tuple[float, float] | None = None, dtype: np.dtype[Any] | None = None, by: Sequence[str] = (),
    ) -> None:
        if unknown not in ("raise", "total", "nan"):
            raise ValueError(f"unknown must be 'raise', 'total' or 'nan', got {unknown!r}")
        g = g.copy()            # consistent even if another thread updates it
        if not len(g) or g.shape is None:
            raise ValueError("the state has no groups; update or fit it first")
        self.g, self.unknown, self.inverse, self.clip, self.dtype = g, unknown, inverse, clip, dtype
        self.by = tuple(by)     # the columns of a table that hold the keys
        self.eps = 0.0 if eps is None else eps_of("eps", eps)
        self.shape, self.names = g.shape, g.names
        self.channels = {name: i for i, name in enumerate(g.names or ())}
        groups = g._statistics()
        self.empty = groups.n.reshape(len(g), -1) == 0
        found = [values.reshape(len(g), -1) for values in mean_and_spread(groups)]
        if unknown != "raise":
            last = mean_and_spread(g.total()) if unknown == "total" else [np.full(g.shape, np.nan)] * len(found)
            found = [np.concatenate([values, one.reshape(1, -1)]) for values, one in zip(found, last, strict=True)]
        self.mean, self.mean_lo, var, std = found
        scale = std if self.eps == 0 else np.where(np.isinf(var), std, np.sqrt(var + self.eps))
        self.scale = np.where(scale == 0, 1.0, scale)           # A channel of variance 0 is not divided.

    def digest(self) -> str:
        """A hash of the map."""
        dtype = None if self.dtype is None else self.dtype.name
        parts = [self.names, self.eps, self.clip, dtype, self.unknown, self.inverse, self.shape, self.by,
                 list(self.g)]
        return digest_of(parts, {"mean": self.mean, "mean_lo": self.mean_lo, "scale": self.scale})

    def places(self, keys: Any, n_rows: int, place: str) -> NDArray[np.int64]:
        """The group of each row.

        Raises
        ------
        TypeError
            If keys are of another kind than those of the statistics: all of them would be unknown.
        ValueError
            If columns of keys have the names of those of the statistics in another order, a key has no group and
            `unknown` is "raise", or a group has no value of some channel.
        """
        if not n_rows:
            return np.empty(0, np.int64)
        found = with_kinds(self.g, keys_of(keys, n_rows, place, "keep", None))
        at = self.g._index.find(found.distinct)
        new = np.flatnonzero(at < 0)
        if new.size and self.unknown == "raise":
            some = [repr(key.item() if isinstance(key, np.generic) else key)
                    for key in (found.distinct[i] for i in new[:5])]
            raise ValueError(f"the statistics have no group {listed(some)}" + " and others" * (new.size > 5) +
                             "; fit these groups as well, or pass unknown='total' (--unknown total) to normalize such "
                             "rows by the statistics of all groups, or 'nan'")
        at[new] = len(self.g)
        used = at[at < len(self.g)]
        if self.empty[used].any():
            row, channel = np.argwhere(self.empty[used])[0].tolist()
            raise ValueError(f"group {list(self.g)[used[row]]!r} has no value of channel "
                             f"{channel_label(channel, self.shape, self.names)}; fit it first")
        places: NDArray[np.int64] = at[found.lookup.places(0, n_rows)]
        return places

    def rows(self, x: NDArray[Any], places: NDArray[np.int64], channels: Any = slice(None),
             dtype: np.dtype[Any] | None = None) -> NDArray[Any]:
        """Normalize rows of some channels, an array (rows, channels)."""
        dtype = self.dtype or dtype or (x.dtype if is_floating(x.dtype) else np.dtype(np.float32))
        y = np.empty(x.shape, dtype)
        step = max(1, BLOCK // max(1, x.shape[1]))
        mean, low, scale = (values[:, channels] for values in (self.mean, self.mean_lo, self.scale))
        for first in range(0, len(x), step):
            part, at = x[first:first + step], places[first:first + step]
            center = mean[at]
            with np.errstate(all="ignore"):         # Too large for the dtype is inf.
                if self.inverse:
                    y[first:first + step] = part.astype(np.float64) * scale[at] + center
                    continue
                if is_far(part, center):
                    found, rest = deviations(part, center, low[at])
                    found -= rest
                else:
                    found = part.astype(np.float64) - center - low[at]
                found /= scale[at]
                if self.clip is not None:
                    np.clip(found, *self.clip, out=found)
                y[first:first + step] = found
        return y


def mean_and_spread(m: Moments) -> list[NDArray[np.float64]]:
    """Mean, what float64 leaves of it (0 where the state is exact), variance and standard deviation."""
    rows: Any = None if m.exact else rows_of(m)
    low = np.zeros(m.mean.shape) if rows is None else without_exponent(rows)[MEAN_LO]
    return [np.asarray(values) for values in (m.mean, low, m.var(), m.std())]


class RowsAffine:
    """The map of the rows of one part of a table, whose groups are known; its methods are those of `Affine`."""

    def __init__(self, affine: GroupAffine, places: NDArray[np.int64]) -> None:
        self.affine, self.places = affine, places

    def of_named_rows(
        self, columns: Sequence[NDArray[Any]], names: Sequence[str], dtype: np.dtype[Any] | None = None
    ) -> list[NDArray[Any]]:
        """Normalize columns of one dtype, each of which is a channel."""
        return [self.of_named_columns(values[:, np.newaxis], [name], dtype)[:, 0]
                for values, name in zip(columns, names, strict=True)]

    def of_named_columns(
        self, values: NDArray[Any], names: Sequence[str], dtype: np.dtype[Any] | None = None
    ) -> NDArray[Any]:
        """Normalize the columns of an array, each of which is a channel."""
        return self.affine.rows(values, self.places, [self.affine.channels[name] for name in names], dtype)

    def of_named_column(self, values: NDArray[Any], name: str, dtype: np.dtype[Any] | None = None) -> NDArray[Any]:
        """Normalize one value of each row."""
        return self.of_named_columns(values[:, np.newaxis], [name], dtype)[:, 0]


def normalize(
    g: GroupedMoments, x: ArrayLike, keys: Any, *, eps: float = 0.0, unknown: Unknown = "raise", inverse: bool = False
) -> NDArray[Any]:
    """Normalize each row by the mean and variance (``ddof=0``) of its own group.

    Parameters
    ----------
    g : GroupedMoments
    x : array_like
        A batch with the axes of those that were added.
    keys : array_like, or sequence or mapping of them
        The key of each row, as for `update`.
    eps : float, default 0
        Added to the variance. A channel of variance 0 (with eps 0) is centered and not divided.
    unknown : {"raise", "total", "nan"}, default "raise"
        What to do about rows whose key has no group: raise an error that names the key; normalize these rows by the
        statistics of all groups; or make them NaN.
    inverse : bool, default False
        Map normalized values back.

    Returns
    -------
    ndarray
        A new array of the shape of x, of its dtype if that is floating, else float32.

    Raises
    ------
    TypeError
        If x is not of real numbers, or keys are neither integers, bools nor strings, or not of the kind of those of the
        statistics.
    ValueError
        If the channels are not those of the statistics, or in another order by their names, a key is unknown, or a
        group has no value of some channel.

    Examples
    --------
    >>> import numpy as np, bnstream
    >>> x = np.array([[1.0], [3.0], [10.0], [30.0]])
    >>> g = bnstream.GroupedMoments().update(x, ["a", "a", "b", "b"])
    >>> g.normalize(x, ["a", "a", "b", "b"]).ravel().tolist()
    [-1.0, 1.0, -1.0, 1.0]
    """
    affine = GroupAffine(g, eps, unknown=unknown, inverse=inverse)
    require_names_in_order(g.names, x)
    found = in_exact_form(x)
    if isinstance(found, Columns):
        found = np.stack([column.as_floats() for column in found.columns], axis=1, dtype=np.float64)
    a = array_of(found)
    axes = axes_in(g.axis, a.ndim)
    kept = kept_axes(axes, a.ndim)
    channels = tuple(a.shape[i] for i in kept)
    if channels != affine.shape:
        raise ValueError(f"expected channels of shape {affine.shape} as in the statistics, got {channels} from an "
                         f"array of shape {a.shape} with axis={g.axis!r}")
    require_readable(a, axes)
    n_rows = a.shape[axes[0]]
    places = affine.places(keys, n_rows, f"an array of shape {a.shape} with axis={g.axis!r}")
    order = (*axes, *kept)
    rows = a.transpose(order)
    flat = rows.reshape(-1, math.prod(channels))
    per_row = len(flat) // n_rows if n_rows else 1
    y = affine.rows(flat.view(np.uint8) if flat.dtype == np.bool_ else flat, np.repeat(places, per_row))
    return y.reshape(rows.shape).transpose(np.argsort(order))
