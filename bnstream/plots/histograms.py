"""Histograms of the channels of arrays."""

from __future__ import annotations

import math
import operator
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.colors import PowerNorm
from matplotlib.scale import SymmetricalLogTransform
from numpy.typing import ArrayLike, NDArray

from bnstream.core.dlpack import detached
from bnstream.core.dtypes import is_real
from bnstream.core.labels import channel_label, counted
from bnstream.plots.axes import (
    Floats,
    draw_nothing,
    drawable,
    groups,
    linear_limit,
    name_columns,
    rescale,
    shortened,
    side_by_side,
)

if TYPE_CHECKING:
    from matplotlib.figure import Figure, FigureBase

MOST_PANELS = 16    # channels that have a panel each
WHOLE = 2.0**52     # integers below this, plus one half, are exact in float64


def plot_histograms(
    before: ArrayLike,
    after: ArrayLike | None = None,
    *,
    channel_axis: int,
    bins: int = 64,
    names: Sequence[str] | None = None,
) -> Figure:
    """Draw histograms of every channel of an array, before and after normalization.

    Parameters
    ----------
    before : array_like
        Real numbers, of at least 2 dimensions.
    after : array_like, optional
        The normalized data, to be drawn beside `before`.
    channel_axis : int
        The axis of the channels.
    bins : int, default 64
        Number of bins. Integers may have fewer, as every bin holds the same number of integers.
    names : sequence of str, optional
        Names of the channels.

    Returns
    -------
    matplotlib.figure.Figure
        Up to 16 channels have a panel each. More channels are the columns of an image; from 513 on, each column stands
        for a group of channels. If the largest value is more than a thousand times the median size, the axis is symlog,
        and the bins are equally wide on it.

    Raises
    ------
    TypeError
        If an array does not hold real numbers.
    ValueError
        If an array has no such axis, `after` or `names` has another number of channels, or `bins` is not positive.

    Examples
    --------
    >>> import numpy as np
    >>> from bnstream.plots import plot_histograms
    >>> x = np.random.default_rng(0).normal(size=(1000, 2))
    >>> [axes.get_title() for axes in plot_histograms(x, channel_axis=1, names=["width", "height"]).axes]
    ['width', 'height']
    """
    sides = {"before": channels_first("before", before, channel_axis)}
    if after is not None:
        sides["after"] = channels_first("after", after, channel_axis)
    count = len(sides["before"])
    if after is not None and len(sides["after"]) != count:
        raise ValueError(f"after must have {count} channels as before, got {len(sides['after'])}")
    if names is not None and len(names) != count:
        raise ValueError(f"names must have one entry for each of {count} channels, got {len(names)}")
    if operator.index(bins) < 1:
        raise ValueError(f"bins must be at least 1, got {bins}")
    columns = math.ceil(math.sqrt(min(count, MOST_PANELS)))
    rows = -(-count // max(1, columns))
    size = (8.0, 5.0) if count > MOST_PANELS else (max(2.5 * columns, 5), max(1 + 1.8 * rows, 3.5))
    figure, areas = side_by_side(len(sides), *size)
    for area, (role, x) in zip(areas, sides.items(), strict=True):
        title = f"{counted(count)}, {x.size // max(1, count):,} values each"
        absent = x.size - sum(finite(channel).size for channel in x)
        title += f"\n{absent:,} of {x.size:,} values absent: NaN or inf" if absent else ""
        area.suptitle(title if after is None else f"{role}: {title}")
        if absent == x.size:
            draw_nothing(area.subplots(), "no values")
        elif count > MOST_PANELS:
            draw_image(area, x, bins, names)
        else:
            draw_panels(area, x, bins, names, rows, columns)
    return figure


def channels_first(role: str, x: ArrayLike, channel_axis: int) -> NDArray[Any]:
    """A view of the array with the channel axis first."""
    array = detached(x)
    if not is_real(array.dtype):
        raise TypeError(f"{role} must be of real numbers, got dtype {array.dtype}")
    if array.ndim < 2 or not -array.ndim <= channel_axis < array.ndim:
        raise ValueError(f"{role} must have at least 2 dimensions and an axis {channel_axis}, got shape "
                         f"{array.shape}; set channel_axis to the axis of the channels")
    return np.moveaxis(array, channel_axis, 0)


def finite(part: NDArray[Any]) -> Floats:
    """The values of all elements that can be drawn."""
    values = drawable(part)
    return values[~np.isnan(values)]


def edges_for(parts: Sequence[NDArray[Any]], bins: int) -> tuple[Floats, Floats]:
    """Edges of bins for the values of all parts, and the sizes that decide the scale of their axis."""
    sizes, ends = [], []
    for part in parts:
        values = finite(part)
        if values.size:
            ends += [values.min(), values.max()]
            sizes += [np.median(np.abs(values[values != 0]))] if values.any() else []
    low, high = min(ends), max(ends)
    sizes.append(max(abs(low), abs(high)))
    linear = linear_limit(np.array(sizes))
    if linear is not None:
        scale = SymmetricalLogTransform(10, linear, 1)
        first, last = scale.transform(np.array([low, high]))
        edges = scale.inverted().transform(np.linspace(first, last, bins + 1))
        edges[[0, -1]] = low, high          # Rounding must not exclude the extremes.
    elif parts[0].dtype.kind in "iub" and sizes[-1] < WHOLE:
        step = math.ceil((high - low + 1) / bins)
        edges = np.arange(low - 0.5, high + step, step)
    else:
        if high - low < bins * np.spacing(sizes[-1]):
            reach = sizes[-1] / 16 or 0.5           # A constant is a peak in the middle.
            low, high = low - reach, high + reach
        edges = np.linspace(low, high, bins + 1)
    return edges, np.array(sizes)


def shares_in(part: NDArray[Any], edges: Floats) -> Floats:
    """The share of the finite values that each bin holds."""
    values = finite(part)
    return np.histogram(values, edges)[0] / max(1, values.size)


def draw_panels(
    area: FigureBase, x: NDArray[Any], bins: int, names: Sequence[str] | None, rows: int, columns: int
) -> None:
    """Draw a histogram for each channel."""
    for i, channel in enumerate(x):
        axes = area.add_subplot(rows, columns, i + 1)
        label = shortened(channel_label(i, (len(x),), names))
        axes.set_title(label if names is not None else f"channel {label}", fontsize="small")
        if not finite(channel).size:
            draw_nothing(axes, "no values")
            continue
        edges, sizes = edges_for([channel], bins)
        axes.stairs(shares_in(channel, edges), edges, fill=True)
        axes.locator_params(axis="x", nbins=3)
        axes.locator_params(axis="y", nbins=4)
        rescale(axes, "x", sizes)
    area.supxlabel("value", fontsize="medium")
    area.supylabel("share of the values in a bin", fontsize="medium")


def draw_image(area: FigureBase, x: NDArray[Any], bins: int, names: Sequence[str] | None) -> None:
    """Draw a column for each channel or each group of channels; bins without a value stay white."""
    first, size, _ = groups(len(x))
    parts = np.split(x, first[1:])
    edges, sizes = edges_for(parts, bins)
    shares = np.array([shares_in(part, edges) for part in parts]).T
    axes = area.subplots()
    image = axes.pcolormesh([*(first - 0.5), len(x) - 0.5], edges, np.ma.masked_equal(shares, 0),
                            norm=PowerNorm(0.5, vmin=0))        # The square root makes the tails visible.
    area.colorbar(image, label="share of the values in a bin" + f", of {size} channels" * (size > 1))
    name_columns(axes, (len(x),), names)
    axes.set(ylabel="value")
    rescale(axes, "y", sizes)
