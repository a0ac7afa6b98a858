"""Mean and standard deviation of every channel."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from bnstream.core.batchnorm import BatchNorm
from bnstream.core.groups.grouped import advice_on
from bnstream.core.labels import counted
from bnstream.core.moments import Moments
from bnstream.core.summary import Summary, summary
from bnstream.plots.axes import (
    STYLE,
    Floats,
    absent_note,
    draw_nothing,
    drawable,
    groups,
    linear_limit,
    mark_absent,
    name_columns,
    name_rows,
    quantiles,
    reasons,
    rescale,
    scale_note,
    side_by_side,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

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
        Up to 32 channels have a labeled row each. More channels are lines over the channels; from 513 on, each point
        stands for a group of channels, with their median and their range. `before` and `after` have the same scales,
        which are symlog if the sizes on them span more than three decades. The means then have no error bars, because
        the length of a bar on such a scale says nothing about the standard deviation. A title names channels that are
        absent because of NaN or inf; their rows show these values, and triangles mark them above the lines. Where min
        and max are tracked, marks or a lighter band show them.

    Raises
    ------
    TypeError
        If `before` or `after` is neither a Moments nor a BatchNorm.
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
            raise ValueError(f"after must have {counted(count)} as before, got {sides['after'].n_channels}")
    few = count <= MOST_ROWS
    figure, areas = side_by_side(len(sides), *((8, 1.7 + 0.27 * max(count, 2)) if few else (9, 6)))
    drawn = []
    for area, (role, side) in zip(areas, sides.items(), strict=True):
        area.suptitle((side.title if after is None else f"{role}: {side.title}") + absent_channels(side))
        if count:
            drawn.append((side, *(area.subplots(1, 2, sharey=True) if few else area.subplots(2, 1, sharex=True))))
        else:
            draw_nothing(area.subplots(), "no data yet")
    if drawn:
        draw(drawn, few)
    return figure


def summarized(role: str, state: object) -> Summary:
    if not isinstance(state, (Moments, BatchNorm)):
        advice = advice_on(state) or "; bnstream.Moments().update(x) makes a Moments from an array"
        raise TypeError(f"{role} must be a Moments or a BatchNorm, got {type(state).__name__}{advice}")
    return summary(state)


def finite(side: Summary) -> tuple[Floats, Floats]:
    """The mean and the standard deviation of every channel, both NaN where one of them cannot be drawn."""
    mean, std = drawable(side.mean), drawable(side.std)
    absent = np.isnan(mean + std)
    return np.where(absent, np.nan, mean), np.where(absent, np.nan, std)


def extremes(side: Summary) -> list[Floats]:
    """The least and the greatest value of every channel, if they are tracked."""
    return [drawable(side.columns[name]) for name in ("min", "max") if name in side.columns]


def absent_channels(side: Summary) -> str:
    """The line of the title that names the channels that cannot be drawn."""
    return absent_note(np.isnan(finite(side)[0]), reasons([side.mean, side.std]), side.label)


def draw(drawn: list[tuple[Summary, Axes, Axes]], few: bool) -> None:
    """Draw the sides, each on axes for the means and for the standard deviations, with the same scales for all."""
    which = "x" if few else "y"
    mean, std = np.concatenate([finite(side) for side, *_ in drawn], axis=1)
    reach = np.fmax(np.abs(mean), std)
    ends = [np.concatenate(found) for found in zip(*(extremes(side) for side, *_ in drawn), strict=False)]
    for end in ends:
        reach = np.concatenate([reach, np.abs(end)])
    bars = linear_limit(reach) is None      # On a logarithmic scale, the length of a bar depends on where it begins.
    for side, means, stds in drawn:
        (draw_rows if few else draw_lines)(side, means, stds, bars)
    about = ("mean ± std" if bars else "mean") + ", min and max" * bool(ends)
    for i, (title, sizes) in enumerate(((about, reach), ("std", std))):
        axes = [(means, stds)[i] for _, means, stds in drawn]
        note = scale_note(rescale(axes, which, sizes, from_zero=i == 1))
        for one in axes:
            one.set_title(title, loc="center" if few else "left")
            one.grid(alpha=0.3)
            one.set(**{f"{which}label": "in units of the data" + ("\n" + note.lstrip() if note else "")})


def draw_rows(side: Summary, means: Axes, stds: Axes, bars: bool) -> None:
    """Draw a row for each channel."""
    (mean, std), rows = finite(side), range(side.n_channels)
    means.errorbar(mean, rows, xerr=std if bars else None, fmt="o", ms=4, capsize=3)
    for end in extremes(side):
        means.plot(end, rows, "|", ms=8, color="C0")
    stds.plot(std, rows, "o", ms=4, color="C1", clip_on=False)       # A point at 0 lies on the edge.
    for i in np.flatnonzero(np.isnan(mean)).tolist():
        for axes, value in ((means, side.mean[i]), (stds, side.std[i])):
            axes.text(0.5, i, f"{value:.3g}", ha="center", va="center", color="C3", fontsize="small",
                      transform=axes.get_yaxis_transform())
    name_rows(means, side.labels)


def draw_lines(side: Summary, means: Axes, stds: Axes, bars: bool) -> None:
    """Draw lines over the channels, or over groups of them."""
    mean, std = finite(side)
    first, size, places = groups(side.n_channels)
    if ends := extremes(side):
        means.fill_between(places, np.fmin.reduceat(ends[0], first), np.fmax.reduceat(ends[1], first), color="C0",
                           alpha=0.1, lw=0, label="min to max")
    for axes, color, values, low, high, (one, several, band) in (
        (means, "C0", mean, *((mean - std, mean + std) if bars else (mean, mean)),
         ("mean", "means", "mean ± std" if bars else "range")),
        (stds, "C1", std, std, std, ("std", "std", "range")),
    ):
        middle = quantiles(np.split(values, first[1:]), [0.5])[0]
        axes.plot(places, middle, color=color, label=one if size == 1 else f"median of {size} {several}", **STYLE)
        if size > 1 or low is not high:
            axes.fill_between(places, np.fmin.reduceat(low, first), np.fmax.reduceat(high, first), color=color,
                              alpha=0.25, lw=0, label=band if size == 1 else f"{band} of all")
        mark_absent(axes, np.isnan(mean), first, places)
        axes.legend(loc="lower right", bbox_to_anchor=(1, 1), ncols=4, frameon=False, borderaxespad=0.2)
    name_columns(stds, side.shape, side.names)
