"""What the tests of pictures need: states to draw, the texts in a figure, and a check that no texts overlap."""

import itertools

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.legend import Legend
from matplotlib.text import Text
from support.arrays import rng

from bnstream import Moments

NAMES = ("departure_delay_in_minutes_at_origin", "departure_delay_in_minutes_at_destination", "$a$", "_hidden",
         "two\nlines", "<b>", "distance", "air_time", "hour", "minute", "month", "day", "arr_time", "sched_arr_time")


def moments(mean, std, **settings):
    """Moments of two values a channel. Mean and std are exact if mean - std and mean + std are."""
    mean, std = np.asarray(mean, float), np.asarray(std, float)
    return Moments(**settings).update(np.stack([mean - std, mean + std]))


def many(count):
    """Moments of `count` random channels."""
    return moments(rng(0).integers(-50, 50, count), rng(1).integers(1, 50, count))


def partly(count):
    """Moments whose first channel is NaN and whose last is inf."""
    x = rng(0).normal(size=(8, count)) + 3
    x[0, 0], x[0, -1] = np.nan, np.inf
    return Moments(nan_policy="propagate").update(x)


def boxes(figure):
    """The box in pixels of each legend and each visible text, except slanted text, which fills little of its box."""
    canvas = FigureCanvasAgg(figure)
    figure.draw_without_rendering()
    hidden = set()
    for axes, which in itertools.product(figure.axes, ("x", "y")):
        axis = getattr(axes, f"{which}axis")
        low, high = sorted(axis.get_view_interval())
        for tick in (*axis.get_major_ticks(), *axis.get_minor_ticks()):
            if not low <= tick.get_loc() <= high or not axes.axison:
                hidden |= {tick.label1, tick.label2}
    legends = figure.findobj(Legend)
    hidden |= {text for legend in legends for text in legend.findobj(Text)}
    texts = [text for text in set(figure.findobj(Text)) - hidden
             if text.get_visible() and text.get_text().strip() and text.get_rotation() % 90 == 0]
    return {artist: artist.get_window_extent(canvas.get_renderer()) for artist in (*texts, *legends)}


def assert_readable(figure):
    """Assert that no texts overlap, and that all lie within the picture."""
    found = boxes(figure)
    assert found
    width, height = figure.bbox.size
    for text, box in found.items():
        assert -1 <= box.x0 <= box.x1 <= width + 1, text
        assert -1 <= box.y0 <= box.y1 <= height + 1, text
    for (one, box), (other, beside) in itertools.combinations(found.items(), 2):
        overlap_x = min(box.x1, beside.x1) - max(box.x0, beside.x0)
        overlap_y = min(box.y1, beside.y1) - max(box.y0, beside.y0)
        assert min(overlap_x, overlap_y) <= 1, (one, other)


def labels(axis):
    return [label.get_text() for label in axis.get_ticklabels()]


def labels_within(axes, which):
    """The labels along x or y that lie within the limits."""
    low, high = sorted(getattr(axes, f"get_{which}lim")())
    axis = getattr(axes, f"{which}axis")
    places = axis.get_majorticklocs()
    return [label for place, label in zip(places, axis.get_major_formatter().format_ticks(places), strict=True)
            if low <= place <= high and label]


def suptitles(figure):
    return [part.get_suptitle() for part in figure.subfigs or [figure]]


def of_kind(kind, count):
    """Moments of one kind, and random rows with about the same moments; all but "partly" have long names."""
    if kind == "partly":
        m = partly(count)
    else:
        spread = 10.0 ** (np.arange(count) % 20 - 8)
        std = {"plain": np.ones(count), "spread": spread, "constant": np.zeros(count)}[kind]
        names = NAMES if count == 14 else tuple(f"long name of channel {i:06}" for i in range(count))
        m = moments(std * rng(0).normal(size=count) * 3, std, names=names)
    return m, rng(0).normal(size=(30, count)) * np.nan_to_num(m.std()) + np.nan_to_num(m.mean, posinf=0)
