"""Histograms of sketches look like those of their data."""

import numpy as np
import pytest
from support.arrays import rng
from support.pictures import assert_readable, suptitles

from bnstream.plots import plot_histograms
from bnstream.sketches import Quantiles

pytest.importorskip("datasketches")


def heights(figure):
    return [axes.patches[0].get_data() for axes in figure.axes if axes.patches]


def test_panels_are_those_of_the_data():
    x = rng(0).normal(size=(60_000, 2)) * [1, 100]
    exact, figure = plot_histograms(x, channel_axis=1, bins=30), plot_histograms(Quantiles(2).update(x), bins=30)
    for ours, theirs in zip(heights(figure), heights(exact), strict=True):
        assert ours.edges.tolist() == theirs.edges.tolist()         # the extremes are exact
        assert abs(ours.values - theirs.values).max() < 0.07
    assert figure.get_suptitle() == "2 channels, n = 60,000\nestimated, ranks within 0.35%"
    assert [axes.get_title() for axes in figure.axes] == ["channel 0", "channel 1"]


def test_integers_have_bins_of_integers():
    x = rng(0).integers(0, 20, (50_000, 1))
    ours, theirs = (heights(figure)[0] for figure in (
        plot_histograms(Quantiles(1).update(x)), plot_histograms(x, channel_axis=1)))
    assert ours.edges.tolist() == theirs.edges.tolist() == list(np.arange(-0.5, 20))
    assert abs(ours.values - theirs.values).max() < 0.1


def test_channels_without_values():
    found = Quantiles(3).update([[1.0, np.nan, 2.0], [2.0, 1.0, 3.0]], where=[[True, True, False], [True, True, False]])
    figure = plot_histograms(found, names=["a", "b", "c"])
    assert [axes.get_title() for axes in figure.axes] == ["a", "b", "c"]
    assert figure.get_suptitle() == "3 channels, n = 0 to 2"
    assert [axes.texts[0].get_text() for axes in figure.axes[1:]] == ["no values", "no values"]
    assert_readable(figure)
    assert plot_histograms(Quantiles(2)).axes[0].texts[0].get_text() == "no values"


def test_many_channels_and_both_sides():
    x = rng(0).normal(size=(2000, 40))
    figure = plot_histograms(Quantiles(40).update(x), (x - x.mean(0)) / x.std(0), channel_axis=1)
    assert_readable(figure)
    assert suptitles(figure) == ["before: 40 channels, n = 2,000\nestimated, ranks within 0.35%",
                                 "after: 40 channels, 2,000 values each"]


def test_refused():
    with pytest.raises(ValueError, match="channel_axis is needed, as before is an array; give the axis"):
        plot_histograms(np.ones((2, 2)))
    with pytest.raises(ValueError, match="after must have 2 channels as before, got 3"):
        plot_histograms(Quantiles(2), Quantiles(3))
    with pytest.raises(ValueError, match="names must have one entry for each of 2 channels, got 1"):
        plot_histograms(Quantiles(2), names=["a"])
