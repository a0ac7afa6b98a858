"""The running estimates of a layer over time, compared with the statistics of all data."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from bnstream.core.batchnorm import BatchNorm
from bnstream.core.labels import channel_label, counted
from bnstream.core.moments import Moments
from bnstream.plots.axes import (
    STYLE,
    Floats,
    Picture,
    absent_note,
    drawable,
    quantiles,
    rescale,
    scale_note,
    shortened,
    tick_integers,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MOST_LINES = 8      # channels that have a line each
BANDS = {"all channels": (0, 1, 0.15), "5 % to 95 %": (0.05, 0.95, 0.2), "25 % to 75 %": (0.25, 0.75, 0.3)}


class History:
    """The running estimates of a layer over time.

    Attributes
    ----------
    num_batches : list of int
        For each record, the number of batches in the estimates.
    mean, var : list of ndarray
        For each record, `running_mean` and `running_var`.
    running_ddof : float
        The layer's.
    names : tuple of str or None
        The layer's.

    See Also
    --------
    plot_running : draw the history.

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
        """Append the running estimates of a layer; call this after each batch, or after every hundredth.

        Parameters
        ----------
        bn : BatchNorm

        Raises
        ------
        TypeError
            If `bn` is not a BatchNorm.
        ValueError
            If `bn` has another number of channels than the layer recorded before.

        Examples
        --------
        >>> import bnstream
        >>> from bnstream.plots import History
        >>> history = History()
        >>> history.record(bnstream.BatchNorm(3))
        >>> history.num_batches
        [0]
        """
        if not isinstance(bn, BatchNorm):
            raise TypeError(f"expected a BatchNorm to record, got {type(bn).__name__}")
        if self.mean and len(self.mean[0]) != bn.num_features:
            raise ValueError(f"expected a layer of {counted(len(self.mean[0]))} as in the earlier records, got "
                             f"{bn.num_features}; use one History for each layer")
        self.num_batches.append(bn.num_batches_tracked)
        self.mean.append(bn.running_mean.copy())
        self.var.append(bn.running_var.copy())
        self.running_ddof, self.names = bn.running_ddof, bn.names


def plot_running(history: History, exact: Moments) -> Figure:
    """Draw the running estimates of a layer over time, compared with the statistics of all data.

    Parameters
    ----------
    history : History
        The running estimates recorded in training.
    exact : Moments
        The statistics of all data, plain or exact, such as `BatchNorm.pooled` or what `BatchNorm.recalibrate`
        returns.

    Returns
    -------
    matplotlib.figure.Figure
        The upper part shows the running mean minus the mean of all data, in units of the standard deviation of all
        data; the lower part shows the running standard deviation divided by that of all data. Up to 8 channels have a
        line each. More channels are shown by their median, quantiles and range. The title names the channels that are
        left out because they are constant, or NaN or inf at some or all records.

    Raises
    ------
    TypeError
        If `history` is not a History, or `exact` is not a Moments.
    ValueError
        If nothing was recorded, or `exact` has other channels or holds no data.

    Examples
    --------
    >>> import numpy as np, bnstream
    >>> from bnstream.plots import History, plot_running
    >>> bn, history = bnstream.BatchNorm(2, track_pooled=True), History()
    >>> for batch in np.random.default_rng(0).normal(5, 2, (100, 32, 2)):
    ...     _ = bn(batch)
    ...     history.record(bn)
    >>> [axes.get_title() for axes in plot_running(history, bn.pooled).axes]
    ['(running mean - exact mean) / exact std', 'running std / exact std']
    """
    if not isinstance(history, History):
        raise TypeError(f"history must be a History, got {type(history).__name__}")
    if not isinstance(exact, Moments):
        raise TypeError(f"exact must be a Moments, such as the pooled statistics, got {type(exact).__name__}")
    if not history.num_batches:
        raise ValueError("the history is empty; call history.record(bn) after each batch")
    now, count = exact.copy(), len(history.mean[0])
    if now.shape != (count,):
        kind = "a Moments without data" if now.shape is None else f"channels of shape {now.shape}"
        raise ValueError(f"exact must have {counted(count)} as the history, got {kind}")
    std = now.std(history.running_ddof)
    with np.errstate(all="ignore"):
        drift = drawable((np.array(history.mean) - now.mean) / std)
        ratio = drawable(np.sqrt(history.var) / std)
    figure = Picture(figsize=(9, 6.5), layout="constrained")
    names, constant = now.names or history.names, np.broadcast_to(std == 0, count)
    figure.suptitle(f"running estimates and exact statistics of {counted(count)}"
                    + absences(drift + ratio, constant, lambda i: channel_label(i, (count,), names)))
    grid = figure.subplots(2, 1, sharex=True)
    for axes, values, aim, title in (
        (grid[0], drift, 0, "(running mean - exact mean) / exact std"), (grid[1], ratio, 1, "running std / exact std"),
    ):
        if count <= MOST_LINES:
            for i in range(count):
                label = shortened(channel_label(i, (count,), names))
                # matplotlib hides labels that begin with "_"; none begins so after a blank.
                axes.plot(history.num_batches, values[:, i], label=f" {label}", **STYLE)
        else:
            draw_bands(axes, history.num_batches, values)
        axes.axhline(aim, color="0.5", ls="--", lw=1, label="exact")
        axes.set_title(title)
        axes.grid(alpha=0.3)
        worst = np.fmax(np.fmax.reduce(np.abs(values), axis=1), 1e-3)      # Smaller values do not affect the scale.
        linear = rescale([axes], "y", np.array([worst.min(), worst.max(), aim]))
        axes.set_ylabel(scale_note(linear).strip(" ()"))
    grid[1].set(xlabel="batches", xlim=(history.num_batches[0] - 0.5, history.num_batches[-1] + 0.5))
    tick_integers(grid[1])
    figure.legend(*grid[1].get_legend_handles_labels(), loc="outside right center",
                  title="channel" if count <= MOST_LINES else None)
    return figure


def absences(values: Floats, constant: NDArray[np.bool_], label: Callable[[int], str]) -> str:
    """Lines for the title that name the constant channels, and those whose estimates are NaN or inf at some records."""
    missing = np.isnan(values) & ~constant
    records = np.count_nonzero(missing, axis=0)
    return (absent_note(constant, "constant", label) + absent_note(records == len(values), "NaN or inf", label)
            + absent_note((records > 0) & (records < len(values)), "NaN or inf, at some records", label))


def draw_bands(axes: Axes, places: Sequence[int], values: Floats) -> None:
    """Draw the median and quantiles of the channels over time."""
    for label, (low, high, alpha) in BANDS.items():
        axes.fill_between(places, *quantiles(values, [low, high]), color="C0", alpha=alpha, lw=0, label=label)
    axes.plot(places, quantiles(values, [0.5])[0], color="C0", label="median", **STYLE)
