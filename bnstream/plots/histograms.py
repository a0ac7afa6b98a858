"""Histograms of the channels of arrays, and of sketches."""

from __future__ import annotations

import math
import operator
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from matplotlib.colors import PowerNorm
from matplotlib.scale import SymmetricalLogTransform
from numpy.typing import ArrayLike, NDArray

from bnstream.core.checks import require_axis
from bnstream.core.dlpack import detached
from bnstream.core.dtypes import is_real
from bnstream.core.groups.grouped import advice_on
from bnstream.core.labels import channel_label, counted, number_text
from bnstream.core.moments import Moments
from bnstream.plots.axes import (
    Floats,
    draw_nothing,
    drawable,
    groups,
    linear_limit,
    listed,
    mark_absent,
    name_columns,
    reasons,
    rescale,
    scale_note,
    shortened,
    side_by_side,
)
from bnstream.sketches import Quantiles
from bnstream.sketches.tracked import tracked_sketches

if TYPE_CHECKING:
    from matplotlib.figure import Figure, FigureBase

MOST_PANELS = 16    # channels that have a panel each
BULK_BINS = 24      # bins at most for the middle 80 % of a channel's values on a symlog axis
WHOLE = 2.0**52     # integers below this, plus one half, are exact in float64
SAMPLES = 4096      # quantiles that stand for the values of a sketch, whose error is more than a sample's


class Side(NamedTuple):
    """What is drawn before or after."""

    x: NDArray[Any]
    """The values, channels first; of a sketch quantiles at equal distances, NaN where a channel has none."""
    title: str
    estimated: bool


def plot_histograms(
    before: ArrayLike | Quantiles | Moments,
    after: ArrayLike | Quantiles | Moments | None = None,
    *,
    channel_axis: int | None = None,
    bins: int = 64,
    names: Sequence[str] | None = None,
    sharex: bool = True,
) -> Figure:
    """Draw histograms of every channel of an array or a sketch, before and after normalization.

    Parameters
    ----------
    before : array_like, Quantiles or Moments
        Real numbers, of at least 2 dimensions; or quantiles of a stream, also those that a Moments tracks, whose
        histograms are estimates.
    after : array_like, Quantiles or Moments, optional
        The normalized data, to be drawn beside `before`.
    channel_axis : int, optional
        The axis of the channels, of arrays.
    bins : int, default 64
        Number of bins. Integers may have fewer, as every bin holds the same number of integers.
    names : sequence of str, optional
        Names of the channels.
    sharex : bool, default True
        Whether all panels have the same scale of values, before and after. With False, each panel has its own, which
        shows the shape of a narrow distribution beside wide ones, but not that it is narrow. An image always has one
        scale, the same before and after.

    Returns
    -------
    matplotlib.figure.Figure
        Up to 16 channels have a panel each. More channels are the columns of an image; from 513 on, each column stands
        for a group of channels. The height of a bar, or the color in an image, is the number of values in a bin divided
        by the width of the bin, relative to the channel's highest. If the largest value is more than a thousand times
        the median size, the axis is symlog, and the bins are equally wide on it. Titles say how many values are absent
        because of NaN or inf, and in which channels; triangles mark these above an image.

    Raises
    ------
    TypeError
        If an array does not hold real numbers.
    ValueError
        If an array has no such axis or none is given, `after` or `names` has another number of channels, or `bins` is
        not positive.

    Examples
    --------
    >>> import numpy as np
    >>> from bnstream.plots import plot_histograms
    >>> x = np.random.default_rng(0).normal(size=(1000, 2))
    >>> [axes.get_title() for axes in plot_histograms(x, channel_axis=1, names=["width", "height"]).axes]
    ['width', 'height']
    """
    sides = {"before": side_of("before", before, channel_axis, names)}
    if after is not None:
        sides["after"] = side_of("after", after, channel_axis, names)
    count = len(sides["before"].x)
    if after is not None and len(sides["after"].x) != count:
        raise ValueError(f"after must have {counted(count)} as before, got {len(sides['after'].x)}")
    if names is not None and len(names) != count:
        raise ValueError(f"names must have one entry for each of {counted(count)}, got {len(names)}")
    if operator.index(bins) < 1:
        raise ValueError(f"bins must be at least 1, got {bins}")
    columns = math.ceil(math.sqrt(min(count, MOST_PANELS)))
    rows = -(-count // max(1, columns))
    size = (8.0, 5.0) if count > MOST_PANELS else (max(2.5 * columns, 5), max(1.2 + 1.9 * rows, 3.5))
    figure, areas = side_by_side(len(sides), *size)
    drawn = []
    for area, (role, side) in zip(areas, sides.items(), strict=True):
        area.suptitle(side.title if after is None else f"{role}: {side.title}")
        if any(finite(channel).size for channel in side.x):
            drawn.append((area, side))
        else:
            draw_nothing(area.subplots(), "no values")
    if drawn and count > MOST_PANELS:
        draw_images(drawn, bins, names)
    elif drawn:
        draw_panels(drawn, bins, names, (rows, columns), sharex)
    return figure


def side_of(role: str, x: Any, channel_axis: int | None, names: Sequence[str] | None) -> Side:
    """What is to be drawn of an array or a sketch."""
    if isinstance(x, Moments):
        x = tracked_sketches(x, "histogram")
    if isinstance(x, Quantiles):
        least, most = (x.n.min(), x.n.max()) if x.n_channels else (0, 0)
        title = f"{counted(x.n_channels)}, n = {number_text(least)}" + f" to {number_text(most)}" * bool(least < most)
        error = x.rank_error.max(initial=0)
        return Side(sample_of(x), title + f"\nestimated, ranks within {error:.2%}" * bool(error), True)
    if advice := advice_on(x):
        raise TypeError(f"{role} must be a Moments, Quantiles or an array, got {type(x).__name__}{advice}")
    if channel_axis is None:
        raise ValueError(f"channel_axis is needed, as {role} is an array; give the axis of its channels")
    array = channels_first(role, x, channel_axis)
    count = len(array)
    if names is not None and len(names) != count:
        names = None            # An error follows.
    title = f"{counted(count)}, {array.size // max(1, count):,} values each" + absent_values(array, names)
    return Side(array, title, False)


def sample_of(quantiles: Quantiles) -> NDArray[Any]:
    """Quantiles of each channel at equal distances, from the minimum to the maximum; integers if all of them are."""
    q = (np.arange(SAMPLES) + 0.5) / SAMPLES
    q[[0, -1]] = 0, 1
    found = quantiles.quantile(q).T
    return found.astype(np.int64) if (np.abs(found) < WHOLE).all() and (found == np.rint(found)).all() else found


def channels_first(role: str, x: ArrayLike, channel_axis: int) -> NDArray[Any]:
    """A view of the array with the channel axis first."""
    array = detached(x)
    if not is_real(array.dtype):
        raise TypeError(f"{role} must be of real numbers, got dtype {array.dtype}")
    if array.ndim < 2:
        raise ValueError(f"{role} must have at least 2 dimensions, of which one is that of the channels, got shape "
                         f"{array.shape}")
    require_axis("channel_axis", channel_axis, role, array.shape)
    return np.moveaxis(array, channel_axis, 0)


def finite(part: NDArray[Any]) -> Floats:
    """The values of all elements that can be drawn."""
    values = drawable(part)
    return values[~np.isnan(values)]


def absent_values(x: NDArray[Any], names: Sequence[str] | None) -> str:
    """A line for a title that says how many values are absent, why, and in which channels."""
    counts = np.array([channel.size - finite(channel).size for channel in x])
    if not counts.any():
        return ""
    channels = np.flatnonzero(counts)
    where = f"{counted(len(channels))}: {listed(channels, lambda i: channel_label(i, (len(x),), names))}"
    return f"\n{counts.sum():,} of {x.size:,} values absent ({all_reasons(x)})\nin {where}"


def all_reasons(x: NDArray[Any]) -> str:
    """Why values of any channel are absent; channel by channel, as each is converted to float64."""
    return ", ".join(dict.fromkeys(reason for channel in x for reason in reasons(channel).split(", ") if reason))


def sizes_of(parts: Iterable[NDArray[Any]]) -> Floats:
    """The sizes that decide the scale of an axis: the median of each part, and the largest of all."""
    sizes, largest = [], 0.0
    for part in parts:
        values = np.abs(finite(part))
        if values.any():
            sizes.append(np.median(values[values != 0]))
            largest = max(largest, values.max())
    return np.array([*sizes, largest])


def edges_for(parts: Sequence[NDArray[Any]], bins: int, linear: float | None) -> Floats:
    """Edges of bins for the values of all parts, equally wide on an axis that is symlog from `linear` on."""
    found = [finite(part) for part in parts]
    low, high = min(v.min() for v in found if v.size), max(v.max() for v in found if v.size)
    size = max(abs(low), abs(high))
    whole = parts[0].dtype.kind in "iub" and size < WHOLE
    if whole and linear is None:
        step = math.ceil((high - low + 1) / bins)
        return np.arange(low - 0.5, high + step, step)
    if high - low < bins * np.spacing(size):
        reach = size / 16 or 0.5            # A constant is a peak in the middle.
        low, high = low - reach, high + reach
    if linear is None:
        return np.linspace(low, high, bins + 1)
    scale = SymmetricalLogTransform(10, linear, 1)
    first, last = scale.transform(np.array([low, high]))
    edges = scale.inverted().transform(np.linspace(first, last, bins + 1))
    edges[[0, -1]] = low, high              # Rounding must not exclude the extremes.
    if whole:       # Between two integers, so that no bin is empty because it holds none.
        edges = np.unique(np.concatenate([[low - 0.5], np.floor(edges[1:-1]) + 0.5, [math.floor(high) + 0.5]]))
    return edges


def densities(part: NDArray[Any], edges: Floats, linear: float | None) -> Floats:
    """The number of finite values in each bin divided by its width, relative to the highest of them.

    On a symlog axis a bin near 0 may be so narrow that the few values in it say nothing about the density: neighbors
    then have their joint density.
    """
    values = finite(part)
    if not values.size:
        return np.zeros(len(edges) - 1)
    low, high = np.quantile(values, [0.1, 0.9])
    kept = edges if linear is None else thinned(edges, (high - low) / BULK_BINS)
    widths = np.diff(kept)
    heights = np.histogram(values, kept)[0] / (widths / widths.max())
    return (heights / heights.max())[np.searchsorted(kept, edges[:-1], side="right") - 1]


def thinned(edges: Floats, width: float) -> Floats:
    """The edges without those of bins that would be narrower than this; the first and the last stay."""
    kept = edges[:1].tolist()
    for edge in edges[1:-1].tolist():
        if edge - kept[-1] >= width and edges[-1] - edge >= width:
            kept.append(edge)
    return np.array([*kept, edges[-1]])


def draw_panels(
    drawn: Sequence[tuple[FigureBase, Side]],
    bins: int,
    names: Sequence[str] | None,
    grid: tuple[int, int],
    sharex: bool,
) -> None:
    """Draw a histogram for each channel of each side."""
    shared = sizes_of(channel for _, side in drawn for channel in side.x)
    several = []
    for area, (x, _, estimated) in drawn:
        for i, channel in enumerate(x):
            axes = area.add_subplot(*grid, i + 1)
            label = shortened(channel_label(i, (len(x),), names))
            absent = channel.size - finite(channel).size
            note = f"\n{absent:,} absent ({reasons(channel)})" if absent and not estimated else ""
            axes.set_title((label if names is not None else f"channel {label}") + note, fontsize="small")
            if absent == channel.size:
                draw_nothing(axes, "no values")
                continue
            sizes = shared if sharex else sizes_of([channel])
            linear = linear_limit(sizes)
            edges = edges_for([channel], bins, linear)
            # The outline keeps a bar visible that is narrower than a pixel.
            axes.stairs(densities(channel, edges, linear), edges, fill=True, ec="C0", lw=0.7)
            axes.set_ylim(0, 1.05)
            axes.locator_params(axis="x", nbins=3)
            axes.set_yticks([0, 0.5, 1])
            several.append(axes)
            if not sharex:
                rescale([axes], "x", sizes)
        area.supylabel("density, relative to the highest", fontsize="medium")
    note = scale_note(rescale(several, "x", shared)) if sharex else ", each panel on a scale of its own"
    for area, _ in drawn:
        area.supxlabel("value" + note, fontsize="medium")


def draw_images(drawn: Sequence[tuple[FigureBase, Side]], bins: int, names: Sequence[str] | None) -> None:
    """Draw a column for each channel or each group of channels; bins without a value stay white."""
    count = len(drawn[0][1].x)
    first, size, places = groups(count)
    sizes = sizes_of(part for _, side in drawn for part in np.split(side.x, first[1:]))
    linear, several = linear_limit(sizes), []
    for area, (x, _, _) in drawn:
        parts = np.split(x, first[1:])
        edges = edges_for(parts, bins, linear)
        heights = np.array([densities(part, edges, linear) for part in parts]).T
        axes = area.subplots()
        image = axes.pcolormesh([*(first - 0.5), count - 0.5], edges, np.ma.masked_equal(heights, 0),
                                norm=PowerNorm(0.5, vmin=0, vmax=1))        # The square root makes the tails visible.
        of = f"{size} channels" if size > 1 else "a channel"
        area.colorbar(image, label=f"density, relative to the highest of {of}")
        absent = np.array([finite(channel).size < channel.size for channel in x])
        mark_absent(axes, absent, first, places)
        name_columns(axes, (count,), names)
        several.append(axes)
    note = scale_note(rescale(several, "y", sizes))
    for axes in several:
        axes.set_ylabel("value" + note)
