"""Pictures of statistics: per channel, over time, and as histograms. They need the extra ``plot``.

Each function answers a matplotlib Figure that belongs to no window and no backend: ``figure.savefig("a.png")`` writes
it, a notebook shows it. What is NaN or inf, or 1e300 and more, is left out, and counted in a title.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from bnstream._axes import (
    STYLE,
    Floats,
    Picture,
    draw_nothing,
    fitting,
    groups,
    known,
    name_columns,
    name_rows,
    note,
    only_whole,
    quantiles,
    rescale,
    side_by_side,
)
from bnstream._histograms import plot_histograms
from bnstream._html import channel_label, counted
from bnstream.batchnorm import BatchNorm
from bnstream.moments import Moments

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure, FigureBase

__all__ = ["History", "plot_histograms", "plot_moments", "plot_running"]

FEW = 32            # channels with a row of their own
LINES = 8           # channels with a line of their own over time
BANDS = {"all channels": (0, 1, 0.15), "5 % to 95 %": (0.05, 0.95, 0.2), "25 % to 75 %": (0.25, 0.75, 0.3)}


class History:
    """The running estimates of a layer over time.

    Attributes
    ----------
    num_batches : list of int
        Of each record, how many batches were in the estimates.
    mean, var : list of ndarray
        Of each record, `running_mean` and `running_var`.
    running_ddof : float
    names : tuple of str or None
        Those of the layer.

    See Also
    --------
    plot_running : draws it.

    Examples
    --------
    >>> import numpy as np, bnstream
    >>> from bnstream.plots import History
    >>> bn, history = bnstream.BatchNorm(1, momentum=0.5), History()
    >>> for batch in np.array([[[1.0], [3.0]], [[5.0], [7.0]]]):
    ...     _ = bn(batch)
    ...     history.record(bn)
    >>> history.num_batches, np.concatenate(history.mean).tolist()
    ([1, 2], [1.0, 3.5])
    """

    def __init__(self) -> None:
        self.num_batches: list[int] = []
        self.mean: list[Floats] = []
        self.var: list[Floats] = []
        self.running_ddof = 1.0
        self.names: tuple[str, ...] | None = None

    def record(self, bn: BatchNorm) -> None:
        """Take down the running estimates of a layer; call it after each batch, or after each hundredth.

        Parameters
        ----------
        bn : BatchNorm

        Raises
        ------
        ValueError
            If it has other channels than at the record before.

        Examples
        --------
        >>> import bnstream
        >>> from bnstream.plots import History
        >>> history = History()
        >>> history.record(bnstream.BatchNorm(3))
        >>> history.num_batches
        [0]
        """
        if self.mean and len(self.mean[0]) != bn.num_features:
            raise ValueError(f"expected a layer of {len(self.mean[0])} channels as before, got {bn.num_features}; "
                             "each layer needs a History of its own")
        self.num_batches.append(bn.num_batches_tracked)
        self.mean.append(bn.running_mean.copy())
        self.var.append(bn.running_var.copy())
        self.running_ddof, self.names = bn.running_ddof, bn.names


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


def plot_running(history: History, exact: Moments) -> Figure:
    """The running estimates of a layer over time, against the exact statistics.

    Parameters
    ----------
    history : History
        What was recorded in training.
    exact : Moments
        The statistics of the data, as `BatchNorm.pooled` or `BatchNorm.recalibrate` have them.

    Returns
    -------
    matplotlib.figure.Figure
        Above, how far the running mean is from the exact one, in exact sd; below, the running sd over the exact one. Up
        to 8 channels have a line each; of more there are the median, quantiles and the range. A channel of which the
        exact sd is 0 is absent.

    Raises
    ------
    ValueError
        If nothing was recorded, or `exact` has other channels or no data.

    Examples
    --------
    >>> import numpy as np, bnstream
    >>> from bnstream.plots import History, plot_running
    >>> bn, history = bnstream.BatchNorm(2, track_pooled=True), History()
    >>> for batch in np.random.default_rng(0).normal(5, 2, (100, 32, 2)):
    ...     _ = bn(batch)
    ...     history.record(bn)
    >>> [axes.get_title() for axes in plot_running(history, bn.pooled).axes]
    ['(running mean - exact mean) / exact sd', 'running sd / exact sd']
    """
    if not history.num_batches:
        raise ValueError("the history is empty; call history.record(bn) after each batch")
    now, count = exact.copy(), len(history.mean[0])
    if now.shape != (count,):
        told = "no data" if now.shape is None else f"channels of shape {now.shape}"
        raise ValueError(f"expected exact statistics of {count} channels as in the history, got {told}")
    sd = now.std(history.running_ddof)
    with np.errstate(all="ignore"):
        drift = known((np.array(history.mean) - now.mean) / sd)
        ratio = known(np.sqrt(history.var) / sd)
    figure = Picture(figsize=(9, 6.5), layout="constrained")
    figure.suptitle(f"running estimates against the exact statistics of {counted(count)}")
    grid = figure.subplots(2, 1, sharex=True)
    for axes, values, aim, title in (
        (grid[0], drift, 0, "(running mean - exact mean) / exact sd"), (grid[1], ratio, 1, "running sd / exact sd"),
    ):
        if count <= LINES:
            for i in range(count):
                label = fitting(channel_label(i, now.shape, now.names or history.names))
                axes.plot(history.num_batches, values[:, i], label=f" {label}", **STYLE)    # "_name" is no label
        else:
            _draw_bands(axes, history.num_batches, values)
        axes.axhline(aim, color="0.5", ls="--", lw=1, label="exact")
        axes.set_title(title + note(np.isnan(values).any(axis=0), "NaN, inf or constant"))
        axes.grid(alpha=0.3)
        worst = np.fmax(np.fmax.reduce(np.abs(values), axis=1), 1e-3)      # less is as good as nothing
        rescale(axes, "y", np.array([worst.min(), worst.max(), aim]))
    grid[1].set(xlabel="batches", xlim=(history.num_batches[0] - 0.5, history.num_batches[-1] + 0.5))
    only_whole(grid[1])
    figure.legend(*grid[1].get_legend_handles_labels(), loc="outside right center",
                  title="channel" if count <= LINES else None)
    return figure


def _draw_bands(axes: Axes, places: Sequence[int], values: Floats) -> None:
    """Median and quantiles of the channels over time."""
    for label, (low, high, alpha) in BANDS.items():
        axes.fill_between(places, *quantiles(values, [low, high]), color="C0", alpha=alpha, lw=0, label=label)
    axes.plot(places, quantiles(values, [0.5])[0], color="C0", label="median", **STYLE)
