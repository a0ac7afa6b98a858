"""The histograms: their bins, their shares, and that no texts overlap."""

import numpy as np
import pytest
from support.arrays import rng
from support.cases import thorough
from support.pictures import assert_readable, of_kind, suptitles

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
        np.testing.assert_allclose(shares, wanted / values.size)
    assert figure.get_suptitle() == f"3 channels, {x.size // 3} values each"


@pytest.mark.parametrize(("dtype", "bins", "step"), [("u1", 256, 1), ("u1", 100, 3), ("i2", 300, 1), ("?", 100, 1)])
def test_bins_of_integers_hold_equally_many(dtype, bins, step):
    x = (np.arange(512)[:, None] % (2 if dtype == "?" else 256)).astype(dtype)
    shares, edges = counts(plot_histograms(x, channel_axis=1, bins=bins).axes[0])
    assert edges[0] == -0.5
    assert set(np.diff(edges)) == {step}
    assert len(shares) <= bins
    assert shares.sum() == pytest.approx(1)
    if dtype != "?":
        np.testing.assert_allclose(shares[:-1], step / 256)


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
    assert shares.sum() == pytest.approx(1)
    widths = np.diff(axes.xaxis.get_transform().transform(edges))
    np.testing.assert_allclose(widths, widths[0], rtol=1e-6)
    assert (shares > 0.01).sum() > 10


def test_values_not_finite_are_absent_and_counted():
    x = rng(0).normal(size=(10, 3))
    x[:, 0], x[0, 1], x[1, 1] = np.nan, np.inf, -np.inf
    figure = plot_histograms(x, channel_axis=1, bins=4)
    assert figure.get_suptitle() == "3 channels, 10 values each\n12 of 30 values absent: NaN or inf"
    assert [text.get_text() for text in figure.axes[0].texts] == ["no values"]
    np.testing.assert_allclose(counts(figure.axes[1])[0], np.histogram(x[2:, 1], 4)[0] / 8)


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
        np.testing.assert_allclose(shares[:, column].filled(0), np.histogram(values, edges)[0] / values.size)
    assert bar.get_ylabel() == "share of the values in a bin" + (f", of {size} channels" if size > 1 else "")


def test_image_of_channels_that_spread_far_is_symlog():
    x = rng(0).normal(size=(50, 40)) * 10.0 ** np.arange(-10, 10).repeat(2)
    axes, _ = plot_histograms(x, channel_axis=1).axes
    assert axes.get_yscale() == "symlog"


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
    for wrong, axis in ((x, 2), (x, -3), (np.ones(4), 0)):
        with pytest.raises(ValueError, match=f"before must have at least 2 dimensions and an axis {axis}, got shape"):
            plot_histograms(wrong, channel_axis=axis)
    with pytest.raises(ValueError, match="after must have 3 channels as before, got 4"):
        plot_histograms(x, x.T, channel_axis=1)
    with pytest.raises(ValueError, match="names must have one entry for each of 3 channels, got 1"):
        plot_histograms(x, channel_axis=1, names=["a"])
    with pytest.raises(ValueError, match="bins must be at least 1, got 0"):
        plot_histograms(x, channel_axis=1, bins=0)


def test_values_that_would_overflow_an_axis_are_absent():
    figure = plot_histograms(np.array([[1.7e308], [-1e300], [9e299], [-9e299]]), channel_axis=1)
    assert figure.get_suptitle().endswith("2 of 4 values absent: NaN or inf")
    assert_readable(figure)


@pytest.mark.parametrize(("kind", "count"), thorough(
    [("constant", 1), ("partly", 3), ("spread", 14), ("plain", 17), ("spread", 64), ("partly", 4097)],
    [("partly", 3), ("spread", 14), ("spread", 64)],
))
def test_no_texts_overlap(kind, count):
    m, x = of_kind(kind, count)
    assert_readable(plot_histograms(x, channel_axis=1, names=m.names))
