"""Mean and standard deviation of every channel."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from bnstream.core.batchnorm import BatchNorm
from bnstream.core.moments import Moments
from bnstream.core.summary import Summary, summary
from bnstream.plots.axes import (
    STYLE,
    Floats,
    absent_note,
    draw_nothing,
    drawable,
    groups,
    name_columns,
    name_rows,
    quantiles,
    rescale,
    side_by_side,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure, FigureBase

MOST_ROWS = 32      # channels that have a row each


def plot_moments(before: Moments | BatchNorm, after: Moments | BatchNorm | None = None) -> Figure:
    """Draw mean and standard deviation of every channel.

    Parameters
    ----------
    before : Moments or BatchNorm
        Statistics, or a layer, whose running estimates are drawn.
    after : Moments or BatchNorm, optional
        Statistics of the normalized data, to be drawn beside those of `before`.

    Returns
    -------
    matplotlib.figure.Figure
        Up to 32 channels have a labelled row each. More channels are lines over the channels; from 513 on, each point
        stands for a group of channels, with their median and their range. An axis is symlog if the sizes along it span
        more than three decades.

    Raises
    ------
    TypeError
        If `before` or `after` is something else.
    ValueError
        If `after` has another number of channels.

    Examples
    --------
    >>> import numpy as np, bnstream
    >>> from bnstream.plots import plot_moments
    >>> figure = plot_moments(bnstream.Moments().update(np.array([[1.0, 10.0], [3.0, 30.0]])))
    >>> [axes.get_title() for axes in figure.axes]
    ['mean ± std', 'std']
    """
    sides = {"before": summarized("before", before)}
    count = sides["before"].n_channels
    if after is not None:
        sides["after"] = summarized("after", after)
        if sides["after"].n_channels != count:
            raise ValueError(f"after must have {count} channels as before, got {sides['after'].n_channels}")
    few = count <= MOST_ROWS
    figure, areas = side_by_side(len(sides), *((8, 1.7 + 0.27 * max(count, 2)) if few else (9, 6)))
    for area, (role, side) in zip(areas, sides.items(), strict=True):
        area.suptitle(side.title if after is None else f"{role}: {side.title}")
        if not count:
            draw_nothing(area.subplots(), "no data yet")
        elif few:
            draw_rows(area, side)
        else:
            draw_lines(area, side)
    return figure


def summarized(role: str, state: object) -> Summary:
    if not isinstance(state, (Moments, BatchNorm)):
        raise TypeError(f"{role} must be a Moments or a BatchNorm, got {type(state).__name__}; "
                        "bnstream.Moments().update(x) makes a Moments from an array")
    return summary(state)


def draw_rows(area: FigureBase, side: Summary) -> None:
    """Draw a row for each channel."""
    mean, std, rows = drawable(side.mean), drawable(side.std), range(side.n_channels)
    means, stds = area.subplots(1, 2, sharey=True)
    means.errorbar(mean, rows, xerr=std, fmt="o", ms=4, capsize=3)
    stds.plot(std, rows, "o", ms=4, color="C1", clip_on=False)       # A point at 0 lies on the edge.
    name_rows(means, side.labels)
    finish(means, stds, mean, std, "x")


def draw_lines(area: FigureBase, side: Summary) -> None:
    """Draw lines over the channels, or over groups of them."""
    mean, std = drawable(side.mean), drawable(side.std)
    first, size, places = groups(side.n_channels)
    means, stds = area.subplots(2, 1, sharex=True)
    for axes, color, values, low, high, (one, several, band) in (
        (means, "C0", mean, mean - std, mean + std, ("mean", "means", "mean ± std")),
        (stds, "C1", std, std, std, ("std", "std", "range")),
    ):
        middle = quantiles(np.split(values, first[1:]), [0.5])[0]
        axes.plot(places, middle, color=color, label=one if size == 1 else f"median of {size} {several}", **STYLE)
        if size > 1 or axes is means:
            axes.fill_between(places, np.fmin.reduceat(low, first), np.fmax.reduceat(high, first), color=color,
                              alpha=0.25, lw=0, label=band if size == 1 else f"{band} of all")
        axes.legend(loc="lower right", bbox_to_anchor=(1, 1), ncols=2, frameon=False, borderaxespad=0.2)
    name_columns(stds, side.shape, side.names)
    finish(means, stds, mean, std, "y")


def finish(means: Axes, stds: Axes, mean: Floats, std: Floats, which: str) -> None:
    """Add titles, scales and grids; the values are along the axis `which`, "x" or "y"."""
    sizes = np.fmax(np.abs(mean), std)
    for axes, title, values, reach in ((means, "mean ± std", mean + std, sizes), (stds, "std", std, std)):
        axes.set_title(title + absent_note(np.isnan(values)), loc="left" if which == "y" else "center")
        axes.grid(alpha=0.3)
        axes.set(**{f"{which}label": "in units of the data"})
        rescale(axes, which, reach, from_zero=axes is stds)
