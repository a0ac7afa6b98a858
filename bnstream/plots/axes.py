"""What the plots share: figures without a backend, axes for values of any range, many channels in few points."""

from __future__ import annotations

import io
import math
from collections.abc import Callable, Sequence
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


def reasons(values: ArrayLike) -> str:
    """Why some of the values cannot be drawn, as "NaN, inf"."""
    sizes = np.abs(np.asarray(values, np.float64))
    found = {"NaN": np.isnan(sizes), "inf": np.isinf(sizes), "beyond 1e300": (sizes >= TOO_LARGE) & np.isfinite(sizes)}
    return ", ".join(reason for reason, where in found.items() if where.any())


def absent_note(absent: NDArray[np.bool_], reason: str, label: Callable[[int], str]) -> str:
    """A further line for a title, which names the channels that are absent, or nothing.

    absent: one bool a channel. label: the label of a channel by its index.
    """
    if not absent.any():
        return ""
    return f"\n{absent.sum():,} of {absent.size:,} channels absent ({reason}): {listed(np.flatnonzero(absent), label)}"


def listed(channels: NDArray[np.intp], label: Callable[[int], str]) -> str:
    """The labels of some channels, as many as fit in a line, and "…" for the others."""
    line = ""
    for i in channels:
        longer = line + ", " * bool(line) + shortened(label(int(i)), 18)
        if len(longer) > 24:
            return line + ", " * bool(line) + "…"
        line = longer
    return line


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


def mark_absent(axes: Axes, absent: NDArray[np.bool_], first: NDArray[np.intp], places: Floats) -> None:
    """Mark groups with an absent channel by triangles at the top. first: the first channel of each group."""
    if absent.any():
        at = places[np.logical_or.reduceat(absent, first)]
        axes.plot(at, np.ones(len(at)), "v", color="C3", ms=4, clip_on=False, transform=axes.get_xaxis_transform(),
                  label="absent")


def rescale(several: Sequence[Axes], which: str, sizes: Floats, *, from_zero: bool = False) -> float | None:
    """Give axes one scale and the same limits along "x" or "y".

    The scale is symlog if the sizes of all values along it spread far; then return where its linear part ends.
    """
    linear, x = linear_limit(sizes), which == "x"
    ends = [end for axes in several for end in getattr(axes.dataLim, f"interval{which}") if math.isfinite(end)]
    for axes in several:
        axes.update_datalim([(end, end) for end in ends], updatex=x, updatey=not x)
        if linear is not None:
            (axes.set_xscale if x else axes.set_yscale)("symlog", linthresh=linear)
        axes.autoscale_view()       # The margins depend on the scale.
    limits = np.array([getattr(axes, f"get_{which}lim")() for axes in several])
    low, high = limits[:, 0].min(), limits[:, 1].max()
    if from_zero:
        low, high = 0, high if (sizes > 0).any() else 1
    for axes in several:
        axes.set(**{f"{which}lim": (low, high)})
        if linear is not None:
            tick_powers(axes, which, linear)
    return linear


def tick_powers(axes: Axes, which: str, linear: float) -> None:
    """Put ticks at 0 and at powers of ten, as many as fit; those that matplotlib chooses are few, or overlap at 0."""
    axis = axes.xaxis if which == "x" else axes.yaxis
    low, high = sorted(axis.get_view_interval())
    transform = axis.get_transform().transform
    inches = (axes.bbox.width if which == "x" else axes.bbox.height) / axes.figure.dpi
    # 0.42 inches along x, or 0.25 along y, holds a label and its distance from the next one.
    room = (0.42 if which == "x" else 0.25) / inches * np.ptp(transform(np.array([low, high])))
    least, most = math.ceil(math.log10(linear)), math.floor(math.log10(max(abs(low), abs(high))))
    powers = 10.0 ** np.arange(least, most + 1)
    best, seen_most = np.zeros(1), 0
    for step in range(1, len(powers) + 1):
        for first in range(step):
            ticks = np.array([*-powers[first::step][::-1], 0, *powers[first::step]])
            seen = transform(ticks[(low <= ticks) & (ticks <= high)])
            if len(seen) >= seen_most and np.diff(seen, prepend=-np.inf).min() >= room:
                best, seen_most = ticks, len(seen)
    axis.set_major_locator(FixedLocator(best.tolist()))


def scale_note(linear: float | None) -> str:
    """What the label of an axis says about its scale."""
    return "" if linear is None else f" (logarithmic beyond {linear:.2g})"
