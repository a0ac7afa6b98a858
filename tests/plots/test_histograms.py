"""The histograms: their bins and scales, the values that are absent, and that no texts overlap."""

import numpy as np
import pytest
from support.arrays import rng
from support.cases import thorough
from support.pictures import assert_readable, labels_within, of_kind, suptitles

from bnstream import BatchNorm
from bnstream.plots import plot_histograms


def counts(axes):
    (stairs,) = axes.patches
    return stairs.get_data()[:2]


@pytest.mark.parametrize("channel_axis", [0, 1, -1])
def test_few_channels_have_a_panel_each(channel_axis):
    x = rng(0).normal(size=(3, 3, 50, 3))
    figure = plot_histograms(x, channel_axis=channel_axis, bins=7)
    assert [axes.get_title() for axes in figure.axes] == ["channel 0", "channel 1", "channel 2"]
    for i, axes in enumerate(figure.axes):
        values = np.take(x, i, axis=channel_axis).ravel()
        shares, edges = counts(axes)
        wanted, at = np.histogram(values, 7)
        np.testing.assert_allclose(edges, at)
        np.testing.assert_allclose(shares, wanted / wanted.max())
    assert figure.get_suptitle() == f"3 channels, {x.size // 3} values each"


@pytest.mark.parametrize(("dtype", "bins", "step"), [("u1", 256, 1), ("u1", 100, 3), ("i2", 300, 1), ("?", 100, 1)])
def test_bins_of_integers_hold_equally_many(dtype, bins, step):
    x = (np.arange(512)[:, None] % (2 if dtype == "?" else 256)).astype(dtype)
    shares, edges = counts(plot_histograms(x, channel_axis=1, bins=bins).axes[0])
    assert edges[0] == -0.5
    assert set(np.diff(edges)) == {step}
    assert len(shares) <= bins
    if dtype != "?":
        np.testing.assert_allclose(shares[:-1], 1)


@pytest.mark.parametrize("value", [0, 5, -3e7, 1e30, 1e-30, 2**60])
@pytest.mark.parametrize("dtype", ["f4", "f8", "i8"])
def test_constant_channel_is_a_peak(value, dtype):
    if dtype == "i8" and not (float(value).is_integer() and abs(value) < 2**63):
        pytest.skip("no such integer")
    shares, edges = counts(plot_histograms(np.full((9, 1), value, dtype), channel_axis=1).axes[0])
    assert sorted(set(shares)) == ([1] if len(shares) == 1 else [0, 1])
    at = shares.argmax()
    assert edges[0] <= edges[at] <= float(np.array(value, dtype)) <= edges[at + 1] <= edges[-1]
    if len(shares) > 1:         # More than one integer.
        assert abs(value) / 16 < edges[-1] - edges[0] <= (abs(value) / 4 or 1)


@pytest.mark.parametrize("zeros", [0, 600])
@pytest.mark.parametrize("scale", [1e-30, 1, 1e30])
def test_far_out_values_make_the_bins_symlog(scale, zeros):
    x = rng(0).normal(size=(1000, 1)) * scale
    x[:zeros] = 0
    assert plot_histograms(x, channel_axis=1).axes[0].get_xscale() == "linear"
    x[-1] = 1e5 * scale
    (axes,) = plot_histograms(x, channel_axis=1).axes
    shares, edges = counts(axes)
    assert axes.get_xscale() == "symlog"
    assert (edges[0], edges[-1]) == (x.min(), x.max())
    assert shares.max() == 1
    widths = np.diff(axes.xaxis.get_transform().transform(edges))
    np.testing.assert_allclose(widths, widths[0], rtol=1e-6)
    assert (shares > 0.01).sum() > 10


def test_values_not_finite_are_absent_and_named():
    x = rng(0).normal(size=(10, 4))
    x[:, 0], x[0, 1], x[1, 1], x[2, 1], x[0, 3] = np.nan, np.inf, -np.inf, np.nan, 1e300
    figure = plot_histograms(x, channel_axis=1, bins=4, names=["a", "b", "c", "d"])
    assert figure.get_suptitle() == (
        "4 channels, 10 values each\n14 of 40 values absent (NaN, inf, beyond 1e300)\nin 3 channels: a, b, d")
    assert [axes.get_title() for axes in figure.axes] == [
        "a\n10 absent (NaN)", "b\n3 absent (NaN, inf)", "c", "d\n1 absent (beyond 1e300)"]
    assert [text.get_text() for text in figure.axes[0].texts] == ["no values"]
    wanted = np.histogram(x[3:, 1], 4)[0]
    np.testing.assert_allclose(counts(figure.axes[1])[0], wanted / wanted.max())
    assert_readable(figure)


@pytest.mark.parametrize("count", [40, 600])
def test_columns_with_absent_values_are_marked(count):
    x = rng(0).normal(size=(10, count))
    x[0, 3], x[:, -1] = np.nan, np.inf
    figure = plot_histograms(x, channel_axis=1)
    assert figure.get_suptitle().endswith(
        f"\n11 of {10 * count:,} values absent (NaN, inf)\nin 2 channels: 3, {count - 1}")
    (marks,) = figure.axes[0].lines
    np.testing.assert_array_equal(marks.get_xydata().T, [[3, 39] if count == 40 else [2.5, 598.5], [1, 1]])
    assert not plot_histograms(x[:, 4:-1], channel_axis=1).axes[0].lines


def test_a_title_names_as_many_channels_as_fit():
    x = np.full((2, 40), np.nan)
    x[:, 30] = 1, 2
    assert plot_histograms(x, channel_axis=1).get_suptitle().endswith("in 39 channels: 0, 1, 2, 3, 4, 5, 6, 7, …")
    names = [f"a long name of channel {i}" for i in range(40)]
    figure = plot_histograms(x, channel_axis=1, names=names)
    assert figure.get_suptitle().endswith("\nin 39 channels: a long na…hannel 0, …")
    assert_readable(figure)


@pytest.mark.parametrize(("count", "size"), [(17, 1), (513, 2), (4097, 9)])
def test_many_channels_are_an_image(count, size):
    x = rng(0).normal(size=(20, count)) + np.arange(count) % 7
    x[:, :size] = np.nan
    figure = plot_histograms(x, channel_axis=1, bins=30)
    axes, bar = figure.axes
    (image,) = axes.collections
    shares = image.get_array()
    edges = np.linspace(np.nanmin(x), np.nanmax(x), 31)
    np.testing.assert_allclose(np.unique(image.get_coordinates()[..., 1]), edges)
    at = image.get_coordinates()[0, :, 0]
    np.testing.assert_array_equal(at, [*(np.arange(0, count, size) - 0.5), count - 0.5])
    assert shares[:, 0].mask.all()
    for column in (1, len(at) - 2):
        values = x[:, column * size : (column + 1) * size]
        wanted = np.histogram(values, edges)[0]
        np.testing.assert_allclose(shares[:, column].filled(0), wanted / wanted.max())
    assert (image.norm.vmin, image.norm.vmax) == (0, 1)
    assert bar.get_ylabel() == f"density, relative to the highest of {f'{size} channels' if size > 1 else 'a channel'}"


def test_image_of_channels_that_spread_far_is_symlog():
    x = rng(0).normal(size=(50, 40)) * 10.0 ** np.arange(-10, 10).repeat(2)
    axes, _ = plot_histograms(x, channel_axis=1).axes
    assert axes.get_yscale() == "symlog"
    assert axes.get_ylabel().startswith("value (logarithmic beyond ")


def both(sides, channels=3):
    """The arrays that `sides` names, for channels of very different scales."""
    x = rng(0).normal(size=(500, channels)) * 10.0 ** np.arange(channels) + 100
    return {"before": (x,), "before and after": (x, BatchNorm(channels)(x))}[sides]


@pytest.mark.parametrize("sides", ["before", "before and after"])
@pytest.mark.parametrize("channels", [1, 3, 17])
def test_panels_and_images_have_one_scale(channels, sides):
    """A panel scaled by itself would look the same before and after normalization."""
    arrays = both(sides, channels)
    figure = plot_histograms(*arrays, channel_axis=1)
    axes = [one for one in figure.axes if one.get_label() != "<colorbar>"]
    which = "y" if channels == 17 else "x"
    assert len({getattr(one, f"get_{which}lim")() for one in axes}) == 1
    assert len({getattr(one, f"get_{which}scale")() for one in axes}) == 1
    low, high = getattr(axes[0], f"get_{which}lim")()
    assert low <= min(x.min() for x in arrays) < max(x.max() for x in arrays) <= high
    if channels < 17:
        assert {one.get_ylim() for one in axes} == {(0, 1.05)}
        assert {counts(one)[0].max() for one in axes} == {1}


def test_the_width_of_a_histogram_shows_its_scale():
    x = np.linspace(-1, 1, 201)[:, None] * [1, 10]
    figure = plot_histograms(x, x / 10, channel_axis=1)
    figure.draw_without_rendering()
    widths = [np.ptp(one.transData.transform([(edge, 0) for edge in counts(one)[1][[0, -1]]])[:, 0])
              / one.bbox.width for one in figure.axes]
    np.testing.assert_allclose(widths, [widths[1] / 10, widths[1], widths[1] / 100, widths[1] / 10])
    assert widths[1] > 0.8


def test_each_panel_has_its_own_scale_on_request():
    x, y = both("before and after")
    figure = plot_histograms(x, y, channel_axis=1, sharex=False)
    for axes in figure.axes:
        edges = counts(axes)[1]
        low, high = axes.get_xlim()
        assert np.ptp(edges) > 0.8 * (high - low)
    assert {part.get_supxlabel() for part in figure.subfigs} == {"value, each panel on a scale of its own"}
    assert_readable(figure)


@pytest.mark.parametrize("channels", [1, 20])
def test_one_peak_stays_one_on_a_symlog_axis(channels):
    """Bins as wide as they look would hold few values near 0, and show two peaks."""
    x = np.linspace(-1, 1, 10_001)
    x = np.sign(x) * (1 - np.sqrt(1 - np.abs(x)))       # a triangle with its peak at 0
    x = np.stack([1000 * x] * channels + [x / 1000] * channels, axis=1)
    figure = plot_histograms(x, channel_axis=1)
    axes = figure.axes[0]
    assert (axes.get_xscale() if channels == 1 else axes.get_yscale()) == "symlog"
    heights = counts(axes)[0] if channels == 1 else axes.collections[0].get_array()[:, 0].filled(0)
    peak = len(heights) // 2
    assert heights[peak] == 1
    assert (np.diff(heights[: peak + 1]) > -0.02).all()
    assert (np.diff(heights[peak:]) < 0.02).all()


def test_integers_have_no_gaps_on_a_symlog_axis():
    x = np.concatenate([np.arange(1000), [10**7]])[:, None]
    axes = plot_histograms(x, x / 10, channel_axis=1, bins=200).axes[0]
    heights, edges = counts(axes)
    assert axes.get_xscale() == "symlog"
    assert set(edges % 1) == {0.5}
    assert (heights[edges[1:] < 1000] > 0.95).all()


@pytest.mark.parametrize("sides", ["before", "before and after"])
@pytest.mark.parametrize("far", [3e3, -4e5, 1e8, 1e30])
def test_symlog_axes_have_labels(far, sides):
    x = rng(0).normal(size=(100, 4))
    x[0] = far, 0, far / 2, 1
    figure = plot_histograms(*[x, x][: 1 + (sides != "before")], channel_axis=1)
    for axes in figure.axes:
        assert axes.get_xscale() == "symlog"
        assert len(labels_within(axes, "x")) >= 3
    for part in figure.subfigs or [figure]:
        assert part.get_supxlabel().startswith("value (logarithmic beyond ")
    assert_readable(figure)


def test_a_bar_narrower_than_a_pixel_is_drawn():
    x = np.stack([np.linspace(0, 1000, 50), np.full(50, 500.0) + np.linspace(0, 1e-3, 50)], axis=1)
    (stairs,) = plot_histograms(x, channel_axis=1).axes[1].patches
    assert stairs.get_linewidth() > 0.5
    assert stairs.get_edgecolor()[3] == 1


def test_histograms_before_and_after():
    x = rng(0).normal(7, 2, size=(10, 3))
    figure = plot_histograms(x, BatchNorm(3)(x), channel_axis=1, names=["a", "b", "$c$ d$"])
    assert suptitles(figure) == ["before: 3 channels, 10 values each", "after: 3 channels, 10 values each"]
    assert [axes.get_title() for axes in figure.axes] == ["a", "b", r"\$c\$ d\$"] * 2
    assert counts(figure.axes[0])[1][0] > 1 > 0 > counts(figure.axes[3])[1][0]
    assert_readable(figure)


@pytest.mark.parametrize("shape", [(0, 3), (3, 0), (0, 40)])
def test_histograms_without_values(shape):
    figure = plot_histograms(np.empty(shape), channel_axis=1)
    assert [text.get_text() for axes in figure.axes for text in axes.texts] == ["no values"]
    assert_readable(figure)


def test_histograms_refuse():
    x = np.ones((4, 3))
    with pytest.raises(TypeError, match="before must be of real numbers, got dtype complex128"):
        plot_histograms(x.astype(complex), channel_axis=1)
    with pytest.raises(TypeError, match="after must be of real numbers, got dtype <U1"):
        plot_histograms(x, x.astype("U1"), channel_axis=1)
    for axis in (2, -3):
        with pytest.raises(np.exceptions.AxisError, match=f"channel_axis {axis} is out of range for before of shape"):
            plot_histograms(x, channel_axis=axis)
    with pytest.raises(ValueError, match="before must have at least 2 dimensions, of which one is that of"):
        plot_histograms(np.ones(4), channel_axis=0)
    with pytest.raises(ValueError, match="after must have 3 channels as before, got 4"):
        plot_histograms(x, x.T, channel_axis=1)
    with pytest.raises(ValueError, match="names must have one entry for each of 3 channels, got 1"):
        plot_histograms(x, channel_axis=1, names=["a"])
    with pytest.raises(ValueError, match="bins must be at least 1, got 0"):
        plot_histograms(x, channel_axis=1, bins=0)


def test_values_that_would_overflow_an_axis_are_absent():
    figure = plot_histograms(np.array([[1.7e308], [-1e300], [9e299], [-9e299]]), channel_axis=1)
    assert figure.get_suptitle().endswith("2 of 4 values absent (beyond 1e300)\nin 1 channel: 0")
    assert_readable(figure)


@pytest.mark.parametrize(("kind", "count"), thorough(
    [("constant", 1), ("partly", 3), ("spread", 14), ("plain", 17), ("spread", 64), ("partly", 4097)],
    [("partly", 3), ("spread", 14), ("spread", 64)],
))
def test_no_texts_overlap(kind, count):
    m, x = of_kind(kind, count)
    assert_readable(plot_histograms(x, channel_axis=1, names=m.names))
