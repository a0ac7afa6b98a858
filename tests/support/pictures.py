"""Pictures for tests, and a check that no text overlaps another."""

import itertools

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.legend import Legend
from matplotlib.text import Text
from support.arrays import rng

from bnstream import Moments

NAMES = ("departure_delay_in_minutes_at_origin", "departure_delay_in_minutes_at_destination", "$a$", "_hidden",
         "two\nlines", "<b>", "distance", "air_time", "hour", "minute", "month", "day", "arr_time", "sched_arr_time")


def moments(mean, sd, **settings):
    """Return Moments of two values per channel with this mean and sd, exact where mean ± sd are."""
    mean, sd = np.asarray(mean, float), np.asarray(sd, float)
    return Moments(**settings).update(np.stack([mean - sd, mean + sd]))


def many(count):
    """Return Moments of `count` channels that all differ."""
    return moments(rng(0).integers(-50, 50, count), rng(1).integers(1, 50, count))


def partly(count):
    """Return Moments with NaN in the first channel and inf in the last."""
    x = rng(0).normal(size=(8, count)) + 3
    x[0, 0], x[0, -1] = np.nan, np.inf
    return Moments(nan_policy="propagate").update(x)


def boxes(figure):
    """Return the boxes of visible texts and legends in pixels, without slanted texts, whose boxes are too large."""
    canvas = FigureCanvasAgg(figure)
    figure.draw_without_rendering()
    unseen = set()
    for axes, which in itertools.product(figure.axes, ("x", "y")):
        axis = getattr(axes, f"{which}axis")
        low, high = sorted(axis.get_view_interval())
        for tick in (*axis.get_major_ticks(), *axis.get_minor_ticks()):
            if not low <= tick.get_loc() <= high or not axes.axison:
                unseen |= {tick.label1, tick.label2}
    legends = figure.findobj(Legend)
    unseen |= {text for legend in legends for text in legend.findobj(Text)}
    texts = [text for text in set(figure.findobj(Text)) - unseen
             if text.get_visible() and text.get_text().strip() and text.get_rotation() % 90 == 0]
    return {artist: artist.get_window_extent(canvas.get_renderer()) for artist in (*texts, *legends)}


def assert_readable(figure):
    """Check that no text overlaps another and that all are inside the picture."""
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


def suptitles(figure):
    return [part.get_suptitle() for part in figure.subfigs or [figure]]


def of_kind(kind, count):
    """Return Moments, with long names for some kinds, and rows with about these moments."""
    if kind == "partly":
        m = partly(count)
    else:
        sd = {"plain": np.ones(count), "spread": 10.0 ** (np.arange(count) % 20 - 8), "constant": np.zeros(count)}[kind]
        names = NAMES if count == 14 else tuple(f"long name of channel {i:06}" for i in range(count))
        m = moments(sd * rng(0).normal(size=count) * 3, sd, names=names)
    return m, rng(0).normal(size=(30, count)) * np.nan_to_num(m.std()) + np.nan_to_num(m.mean, posinf=0)
