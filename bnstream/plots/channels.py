"""Mean and standard deviation of every channel."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from bnstream.core.batchnorm import BatchNorm
from bnstream.core.labels import channel_label, counted
from bnstream.core.moments import Moments
from bnstream.plots.axes import (
    STYLE,
    Floats,
    draw_nothing,
    groups,
    known,
    name_columns,
    name_rows,
    note,
    quantiles,
    rescale,
    side_by_side,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure, FigureBase

FEW = 32            # channels with a row of their own


def plot_moments(before: Moments | BatchNorm, after: Moments | BatchNorm | None = None) -> Figure:
    """Mean and standard deviation of every channel.

    Parameters
    ----------
    before : Moments or BatchNorm
        The statistics, or a layer, of which the running estimates are drawn.
    after : Moments or BatchNorm, optional
        The statistics of the normalized data, drawn beside.

    Returns
    -------
    matplotlib.figure.Figure
        Up to 32 channels have a row each, with its name; more are lines over the channels, and of more than 512 each
        point stands for several: their median, and the range of all. Sizes of more than three decades make an axis
        symlog.

    Raises
    ------
    TypeError
        If it is something else.
    ValueError
        If `after` has another number of channels.

    Examples
    --------
    >>> import numpy as np, bnstream
    >>> from bnstream.plots import plot_moments
    >>> figure = plot_moments(bnstream.Moments().update(np.array([[1.0, 10.0], [3.0, 30.0]])))
    >>> [axes.get_title() for axes in figure.axes]
    ['mean ± sd', 'sd']
    """
    sides = {"before": _side("before", before)}
    count = len(sides["before"].mean)
    if after is not None:
        sides["after"] = _side("after", after)
        if len(sides["after"].mean) != count:
            raise ValueError(f"expected {count} channels in after as in before, got {len(sides['after'].mean)}")
    few = count <= FEW
    figure, areas = side_by_side(len(sides), *((8, 1.7 + 0.27 * max(count, 2)) if few else (9, 6)))
    for area, (role, side) in zip(areas, sides.items(), strict=True):
        area.suptitle(side.title if after is None else f"{role}: {side.title}")
        if not count:
            draw_nothing(area.subplots(), "no data yet")
        elif few:
            _draw_few(area, side)
        else:
            _draw_many(area, side)
    return figure


@dataclass(frozen=True)
class _Side:
    """What is drawn of a Moments or a BatchNorm: one number a channel, NaN where that is not finite."""

    title: str
    mean: Floats
    sd: Floats
    shape: tuple[int, ...]
    names: Sequence[str] | None

    def finish(self, means: Axes, sds: Axes, which: str) -> None:
        """Titles, scales and grids of the two axes; `which` of "x" and "y" has the values."""
        sizes = np.fmax(np.abs(self.mean), self.sd)
        for axes, title, values, reach in (
            (means, "mean ± sd", self.mean + self.sd, sizes), (sds, "sd", self.sd, self.sd),
        ):
            axes.set_title(title + note(np.isnan(values)), loc="left" if which == "y" else "center")
            axes.grid(alpha=0.3)
            axes.set(**{f"{which}label": "in units of the data"})
            rescale(axes, which, reach, from_zero=axes is sds)


def _side(role: str, source: Moments | BatchNorm) -> _Side:
    if isinstance(source, BatchNorm):
        batches = source.num_batches_tracked
        title = (f"BatchNorm: {counted(source.num_features)}, running estimates after {batches:,} "
                 f"batch{'es' * (batches != 1)}")
        mean, sd = known(source.running_mean), known(np.sqrt(source.running_var))
        return _Side(title, mean, sd, mean.shape, source.names)
    if not isinstance(source, Moments):
        raise TypeError(f"expected a Moments or a BatchNorm as {role}, got {type(source).__name__}; "
                        "bnstream.Moments().update(x) makes one of an array")
    now = source.copy()
    if now.shape is None:
        return _Side("Moments: empty", np.empty(0), np.empty(0), (0,), None)
    mean, sd, n = known(now.mean).ravel(), known(now.std()).ravel(), np.unique(now.n)
    title = f"Moments: {counted(mean.size)}, n = {n[0]:,}" + f" to {n[-1]:,}" * (len(n) > 1)
    return _Side(title, mean, sd, now.shape, now.names)


def _draw_few(area: FigureBase, side: _Side) -> None:
    """A row for each channel."""
    rows = range(len(side.mean))
    means, sds = area.subplots(1, 2, sharey=True)
    means.errorbar(side.mean, rows, xerr=side.sd, fmt="o", ms=4, capsize=3)
    sds.plot(side.sd, rows, "o", ms=4, color="C1", clip_on=False)      # 0 is on the edge
    name_rows(means, [channel_label(i, side.shape, side.names) for i in rows])
    side.finish(means, sds, "x")


def _draw_many(area: FigureBase, side: _Side) -> None:
    """Lines over the channels, or over groups of them."""
    first, size, places = groups(len(side.mean))
    means, sds = area.subplots(2, 1, sharex=True)
    for axes, color, values, low, high, (one, several, band) in (
        (means, "C0", side.mean, side.mean - side.sd, side.mean + side.sd, ("mean", "means", "mean ± sd")),
        (sds, "C1", side.sd, side.sd, side.sd, ("sd", "sd", "range")),
    ):
        middle = quantiles(np.split(values, first[1:]), [0.5])[0]
        axes.plot(places, middle, color=color, label=one if size == 1 else f"median of {size} {several}", **STYLE)
        if size > 1 or axes is means:
            axes.fill_between(places, np.fmin.reduceat(low, first), np.fmax.reduceat(high, first), color=color,
                              alpha=0.25, lw=0, label=band if size == 1 else f"{band} of all")
        axes.legend(loc="lower right", bbox_to_anchor=(1, 1), ncols=2, frameon=False, borderaxespad=0.2)
    name_columns(sds, side.shape, side.names)
    side.finish(means, sds, "y")
