"""What the plots share: pictures without a backend, axes of any range, many channels in few points."""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from bnstream.core.labels import channel_label

try:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure, FigureBase
    from matplotlib.ticker import FixedLocator, MaxNLocator
except ModuleNotFoundError as error:
    missing = (error.name or "matplotlib").partition(".")[0]
    raise ModuleNotFoundError(
        f'the plots need {missing}, which is not installed; install it with: pip install "bnstream[plot]"', name=missing
    ) from error

Floats = NDArray[np.float64]

GROUPS = 512        # points of a line over the channels, and columns of an image: what a picture can tell apart
INFINITE = 1e300    # as good as inf: the limits of an axis would overflow
SPREAD = 1e3        # of sizes on one axis; where there is more it becomes symlog
TICKS = 14          # names that fit along an axis
STYLE: dict[str, Any] = {"lw": 0.9, "marker": ".", "ms": 3}         # the marker is for a point between two NaN


class Picture(Figure):
    """A Figure that notebooks show without pyplot."""

    def _repr_png_(self) -> bytes:
        buffer = io.BytesIO()
        self.savefig(buffer, format="png")
        return buffer.getvalue()


def side_by_side(count: int, width: float, height: float) -> tuple[Figure, Sequence[FigureBase]]:
    """A picture of one part, or of two of that size, in inches."""
    figure = Picture(figsize=(width * count, height), layout="constrained")
    return figure, [figure] if count == 1 else list(figure.subfigures(1, count, wspace=0.02, squeeze=False).flat)


def draw_nothing(axes: Axes, text: str) -> None:
    """A line of text in the place of data."""
    axes.set(xticks=[], yticks=[])
    axes.text(0.5, 0.5, text, ha="center", va="center", transform=axes.transAxes)


def known(values: ArrayLike) -> Floats:
    """The values, NaN for what cannot be drawn."""
    found = np.asarray(values, np.float64)
    return np.where(np.abs(found) < INFINITE, found, np.nan)


def note(absent: Any, reason: str = "NaN or inf") -> str:
    """The second line of a title, where channels are absent; of bools, one a channel."""
    return f"\n{absent.sum():,} of {absent.size:,} channels absent: {reason}" if absent.any() else ""


def fitting(name: str, length: int = 26) -> str:
    """A name as matplotlib shows it: in one line, of so many letters at most, and $ is no formula."""
    line = " ".join(name.split())
    if len(line) > length:
        line = f"{line[: length // 2]}…{line[1 - length // 2 :]}"       # long names often differ at the end
    return line.replace("$", r"\$")


def name_rows(axes: Axes, labels: Sequence[str]) -> None:
    """A row for each channel, the first one at the top."""
    axes.set_yticks(range(len(labels)), [fitting(label) for label in labels])
    axes.set(ylim=(len(labels) - 0.5, -0.5), ylabel="channel")


def only_whole(axes: Axes) -> None:
    """Ticks at whole numbers along x."""
    axes.xaxis.set_major_locator(MaxNLocator("auto", integer=True))
    axes.xaxis.set_major_formatter("{x:,.0f}")


def name_columns(axes: Axes, shape: tuple[int, ...], names: Sequence[str] | None) -> None:
    """Many channels along x, some of them with their names."""
    count = math.prod(shape)
    axes.set(xlim=(-0.5, count - 0.5), xlabel="channel")
    if names is None and len(shape) == 1:
        only_whole(axes)
    else:
        places = np.unique(np.linspace(0, count - 1, TICKS).round().astype(int))
        labels = [fitting(channel_label(i, shape, names), 18) for i in places]
        axes.set_xticks(places, labels, rotation=35, ha="right", rotation_mode="anchor")


def groups(count: int) -> tuple[NDArray[np.intp], int, Floats]:
    """The first channel of each group, how many are in one, and their middles."""
    size = max(1, -(-count // GROUPS))
    first = np.arange(0, count, size)
    return first, size, (first + np.minimum(first + size, count) - 1) / 2


def quantiles(rows: Sequence[Floats] | Floats, which: Sequence[float]) -> Floats:
    """Of the known values of each row, NaN where there are none; one row for each quantile."""
    found = [row[np.isfinite(row)] for row in rows]
    return np.array([np.quantile(row, which) if row.size else np.full(len(which), np.nan) for row in found]).T


def linear_part(sizes: Floats) -> float | None:
    """Up to where an axis for these sizes is linear, with logarithms past it; None: all of it."""
    sizes = sizes[sizes > 0]
    if not sizes.size:
        return None
    least, most = np.quantile(sizes, [0.05, 1], method="lower")     # among many some are near 0 by chance
    return float(max(least, most * 1e-12)) if most / SPREAD > least else None


def rescale(axes: Axes, which: str, sizes: Floats, *, from_zero: bool = False) -> None:
    """Make the axis, "x" or "y", symlog where the sizes of what is on it spread far."""
    along_x = which == "x"
    linear = linear_part(sizes)
    if linear is not None:
        (axes.set_xscale if along_x else axes.set_yscale)("symlog", linthresh=linear)
        axes.autoscale_view()       # with margins of the new scale
    if from_zero:
        (axes.set_xlim if along_x else axes.set_ylim)(0, None if (sizes > 0).any() else 1)
    if linear is None:
        return
    # matplotlib's own ticks run into each other around 0
    axis = axes.xaxis if along_x else axes.yaxis
    low, high = math.floor(math.log10(linear)), math.floor(math.log10(np.nanmax(sizes)))
    ends = sorted(axis.get_view_interval())
    step = -(-(high - low + 1) // (2 if along_x and ends[0] < 0 else 4))
    last = low + step / 2 if ends[0] <= 0 <= ends[1] else low - 1       # not too near to 0, where that is seen
    powers = 10.0 ** np.arange(high, last, -step)
    axis.set_major_locator(FixedLocator([*-powers, 0, *powers[::-1]]))
