"""What the plots share: figures without a backend, axes for values of any range, many channels in few points."""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from bnstream.core.labels import channel_label
from bnstream.core.optional import needing

with needing("bnstream.plots", '"bnstream[plot]"'):
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure, FigureBase
    from matplotlib.ticker import FixedLocator, MaxNLocator

Floats = NDArray[np.float64]

MOST_POINTS = 512   # points of a line over the channels, and columns of an image; a picture shows no more
TOO_LARGE = 1e300   # values from here on would overflow the limits of an axis
SPREAD = 1e3        # ratio of the sizes on an axis above which it is symlog
MOST_TICKS = 14     # labels of channels that fit along an axis
STYLE: dict[str, Any] = {"lw": 0.9, "marker": ".", "ms": 3}         # The marker shows a point between two NaN.


class Picture(Figure):
    """A Figure that notebooks show without pyplot."""

    def _repr_png_(self) -> bytes:
        buffer = io.BytesIO()
        self.savefig(buffer, format="png")
        return buffer.getvalue()


def side_by_side(count: int, width: float, height: float) -> tuple[Figure, Sequence[FigureBase]]:
    """Make a picture of one or two parts, each of this size in inches."""
    figure = Picture(figsize=(width * count, height), layout="constrained")
    return figure, [figure] if count == 1 else list(figure.subfigures(1, count, wspace=0.02, squeeze=False).flat)


def draw_nothing(axes: Axes, text: str) -> None:
    """Write a line of text in the place of data."""
    axes.set(xticks=[], yticks=[])
    axes.text(0.5, 0.5, text, ha="center", va="center", transform=axes.transAxes)


def drawable(values: ArrayLike) -> Floats:
    """The values, with NaN in place of those that cannot be drawn."""
    floats = np.asarray(values, np.float64)
    return np.where(np.abs(floats) < TOO_LARGE, floats, np.nan)


def absent_note(absent: Any, reason: str = "NaN or inf") -> str:
    """A second line for a title, if channels are absent, with their number. absent: one bool a channel."""
    return f"\n{absent.sum():,} of {absent.size:,} channels absent: {reason}" if absent.any() else ""


def shortened(name: str, length: int = 26) -> str:
    """A name as a label of matplotlib: one line of at most `length` characters, in which $ starts no formula."""
    line = " ".join(name.split())
    if len(line) > length:
        line = f"{line[: length // 2]}…{line[1 - length // 2 :]}"       # Long names often differ at the end.
    return line.replace("$", r"\$")


def name_rows(axes: Axes, labels: Sequence[str]) -> None:
    """Label one row for each channel, with the first channel at the top."""
    axes.set_yticks(range(len(labels)), [shortened(label) for label in labels])
    axes.set(ylim=(len(labels) - 0.5, -0.5), ylabel="channel")


def tick_integers(axes: Axes) -> None:
    """Put ticks at integers along x."""
    axes.xaxis.set_major_locator(MaxNLocator("auto", integer=True))
    axes.xaxis.set_major_formatter("{x:,.0f}")


def name_columns(axes: Axes, shape: tuple[int, ...], names: Sequence[str] | None) -> None:
    """Put many channels along x, and label some of them."""
    count = math.prod(shape)
    axes.set(xlim=(-0.5, count - 0.5), xlabel="channel")
    if names is None and len(shape) == 1:
        tick_integers(axes)
    else:
        places = np.unique(np.linspace(0, count - 1, MOST_TICKS).round().astype(int))
        labels = [shortened(channel_label(i, shape, names), 18) for i in places]
        axes.set_xticks(places, labels, rotation=35, ha="right", rotation_mode="anchor")


def groups(count: int) -> tuple[NDArray[np.intp], int, Floats]:
    """Divide the channels into at most 512 groups: the first channel of each, their size, and the middle of each."""
    size = max(1, -(-count // MOST_POINTS))
    first = np.arange(0, count, size)
    return first, size, (first + np.minimum(first + size, count) - 1) / 2


def quantiles(rows: Sequence[Floats] | Floats, which: Sequence[float]) -> Floats:
    """Quantiles of the finite values of each row, of shape (quantiles, rows); NaN for a row without any."""
    finite = [row[np.isfinite(row)] for row in rows]
    return np.array([np.quantile(row, which) if row.size else np.full(len(which), np.nan) for row in finite]).T


def linear_limit(sizes: Floats) -> float | None:
    """Where a symlog axis for values of these sizes ends its linear part; None if the whole axis should be linear."""
    sizes = sizes[sizes > 0]
    if not sizes.size:
        return None
    least, most = np.quantile(sizes, [0.05, 1], method="lower")     # Among many values some are near 0 by chance.
    return float(max(least, most * 1e-12)) if most / SPREAD > least else None


def rescale(axes: Axes, which: str, sizes: Floats, *, from_zero: bool = False) -> None:
    """Make an axis, "x" or "y", symlog if the sizes of the values along it spread far."""
    along_x = which == "x"
    linear = linear_limit(sizes)
    if linear is not None:
        (axes.set_xscale if along_x else axes.set_yscale)("symlog", linthresh=linear)
        axes.autoscale_view()       # The margins depend on the scale.
    if from_zero:
        (axes.set_xlim if along_x else axes.set_ylim)(0, None if (sizes > 0).any() else 1)
    if linear is None:
        return
    # The ticks that matplotlib chooses overlap around 0.
    axis = axes.xaxis if along_x else axes.yaxis
    low, high = math.floor(math.log10(linear)), math.floor(math.log10(np.nanmax(sizes)))
    ends = sorted(axis.get_view_interval())
    step = -(-(high - low + 1) // (2 if along_x and ends[0] < 0 else 4))
    last = low + step / 2 if ends[0] <= 0 <= ends[1] else low - 1       # Keep a distance from 0 where 0 is visible.
    powers = 10.0 ** np.arange(high, last, -step)
    axis.set_major_locator(FixedLocator([*-powers, 0, *powers[::-1]]))
