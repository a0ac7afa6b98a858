"""The pictures of moments: what their artists hold, and that no texts overlap."""

import numpy as np
import pytest
from support.arrays import rng
from support.cases import CAMPAIGN, thorough
from support.pictures import NAMES, assert_readable, labels, labels_within, many, moments, of_kind, partly, suptitles
from support.processes import python

from bnstream import BatchNorm, Moments
from bnstream.plots import History, plot_moments, plot_running


def band(axes):
    """The smallest and the largest y of the filled band at each x."""
    (filled,) = axes.collections
    points = filled.get_paths()[0].vertices
    places = np.unique(points[:, 0])
    return np.array([[points[points[:, 0] == x, 1].min(), points[points[:, 0] == x, 1].max()] for x in places]).T


@pytest.mark.parametrize("count", [1, 32])
def test_few_channels_are_points_with_error_bars(count):
    m = many(count)
    means, stds = plot_moments(m).axes
    (bars,) = means.containers
    points, _, (segments,) = bars.lines
    np.testing.assert_array_equal(points.get_xydata(), np.stack([m.mean, np.arange(count)], axis=1))
    ends = np.array([segment[:, 0] for segment in segments.get_segments()])
    np.testing.assert_array_equal(ends, np.stack([m.mean - m.std(), m.mean + m.std()], axis=1))
    np.testing.assert_array_equal(stds.lines[0].get_xydata(), np.stack([m.std(), np.arange(count)], axis=1))
    assert labels(means.yaxis) == [str(i) for i in range(count)]
    assert means.get_ylim() == (count - 0.5, -0.5)
    assert (means.get_title(), stds.get_title()) == ("mean ± std", "std")
    assert means.get_xlabel() == stds.get_xlabel() == "in units of the data"
    assert stds.get_xlim()[0] == 0


def test_names_are_on_the_rows():
    means, _ = plot_moments(moments(range(14), 1 + np.arange(14), names=NAMES)).axes
    assert labels(means.yaxis)[:6] == [
        "departure_del…es_at_origin", "departure_del…_destination", r"\$a\$", "_hidden", "two lines", "<b>"]


def test_channels_of_two_axes_have_two_indices():
    means, _ = plot_moments(Moments().update(rng(0).random((5, 2, 2)))).axes
    assert labels(means.yaxis) == ["0, 0", "0, 1", "1, 0", "1, 1"]
    _, stds = plot_moments(Moments().update(rng(0).random((5, 20, 20)))).axes
    assert labels(stds.xaxis)[::13] == ["0, 0", "19, 19"]


@pytest.mark.parametrize("count", [33, 512])
def test_more_channels_are_lines(count):
    m = many(count)
    means, stds = plot_moments(m).axes
    np.testing.assert_array_equal(means.lines[0].get_xydata(), np.stack([np.arange(count), m.mean], axis=1))
    np.testing.assert_array_equal(stds.lines[0].get_xydata(), np.stack([np.arange(count), m.std()], axis=1))
    np.testing.assert_array_equal(band(means), [m.mean - m.std(), m.mean + m.std()])
    assert [text.get_text() for text in means.get_legend().get_texts()] == ["mean", "mean ± std"]
    assert not stds.collections
    assert means.get_ylabel() == stds.get_ylabel() == "in units of the data"
    assert stds.get_ylim()[0] == 0


@pytest.mark.parametrize(("count", "size"), [(513, 2), (100_000, 196)])
def test_points_of_very_many_channels_are_groups(count, size):
    m = many(count)
    means, stds = plot_moments(m).axes
    mean, std, index = m.mean, m.std(), np.arange(count)
    parts = [slice(i, i + size) for i in range(0, count, size)]
    assert len(parts) <= 512
    np.testing.assert_array_equal(means.lines[0].get_ydata(), [np.median(mean[part]) for part in parts])
    np.testing.assert_array_equal(stds.lines[0].get_ydata(), [np.median(std[part]) for part in parts])
    np.testing.assert_allclose(means.lines[0].get_xdata(), [index[part].mean() for part in parts])
    np.testing.assert_array_equal(
        band(means), [[(mean - std)[part].min() for part in parts], [(mean + std)[part].max() for part in parts]])
    np.testing.assert_array_equal(
        band(stds), [[std[part].min() for part in parts], [std[part].max() for part in parts]])
    legends = [text.get_text() for axes in (means, stds) for text in axes.get_legend().get_texts()]
    assert legends == [f"median of {size} means", "mean ± std of all", f"median of {size} std", "range of all"]
    assert stds.get_xlim() == (-0.5, count - 0.5)


def test_many_channels_have_some_labels():
    names = tuple(f"name {i}" for i in range(64))
    _, stds = plot_moments(moments(range(64), [1] * 64, names=names)).axes
    assert len(labels(stds.xaxis)) == 14
    for place, label in zip(stds.get_xticks(), labels(stds.xaxis), strict=True):
        assert label == names[int(place)]
    assert labels(stds.xaxis)[::13] == ["name 0", "name 63"]


@pytest.mark.parametrize("count", [5, 40, 600])
def test_values_not_finite_are_absent_and_named(count):
    figure = plot_moments(partly(count))
    assert figure.get_suptitle().split("\n")[1] == f"2 of {count} channels absent (NaN, inf): 0, {count - 1}"
    axis = 0 if count == 5 else 1
    for axes, title in zip(figure.axes, ("mean ± std", "std"), strict=True):
        assert (axes.get_title() or axes.get_title(loc="left")) == title
        drawn = axes.lines[0].get_xydata()[:, axis]
        assert np.isnan(drawn).sum() == (0 if count == 600 else 2)      # The other channels of their groups are finite.
        assert np.isfinite(drawn).any()
        assert np.isfinite(axes.dataLim.get_points()).all()
        if count == 5:
            assert [text.get_text() for text in axes.texts] == ["nan", "inf" if title != "std" else "nan"]
            assert [text.get_position()[1] for text in axes.texts] == [0, 4]
        else:
            np.testing.assert_array_equal(
                axes.lines[1].get_xydata().T, [[0, 39] if count == 40 else [0.5, 598.5], [1, 1]])
            assert axes.get_legend().get_texts()[-1].get_text() == "absent"
    assert_readable(figure)


def test_channel_without_a_finite_std_is_absent():
    bn = BatchNorm(3)
    bn.running_mean, bn.running_var = [1, 2, 3], [1, np.inf, 1]
    means, stds = plot_moments(bn).axes
    assert [[text.get_text() for text in axes.texts] for axes in (means, stds)] == [["2"], ["inf"]]
    assert np.isnan(means.containers[0].lines[0].get_xdata()).tolist() == [False, True, False]


def test_values_that_would_overflow_an_axis_are_absent():
    figure = plot_moments(moments([1.7e308, -1e300, 1e299], [0, 0, 0]))
    assert figure.get_suptitle().endswith("\n2 of 3 channels absent (beyond 1e300): 0, 1")
    assert_readable(figure)


def test_all_nan():
    m = Moments(nan_policy="propagate").update(np.full((4, 3), np.nan))
    figure = plot_moments(m)
    assert figure.get_suptitle().endswith("\n3 of 3 channels absent (NaN): 0, 1, 2")
    assert_readable(figure)


@pytest.mark.parametrize("empty", [Moments(), Moments(axis=None, nan_policy="omit")])
def test_no_data(empty):
    figure = plot_moments(empty)
    (axes,) = figure.axes
    assert [text.get_text() for text in axes.texts] == ["no data yet"]
    assert figure.get_suptitle() == "Moments: empty"
    assert_readable(figure)


def test_title_and_legend_fit_beside_each_other():
    x = rng(0).normal(size=(3, 100_000))
    x[0, ::2] = np.nan
    figure = plot_moments(Moments(nan_policy="propagate").update(x))
    assert figure.get_suptitle().endswith("\n50,000 of 100,000 channels absent (NaN): 0, 2, 4, 6, 8, 10, 12, …")
    assert_readable(figure)


def test_title_has_n():
    assert plot_moments(many(3)).get_suptitle() == "Moments: 3 channels, n = 2"
    m = Moments(nan_policy="omit").update(np.ones((2000, 2))).update(np.array([[np.nan, 1]]))
    assert plot_moments(m).get_suptitle() == "Moments: 2 channels, n = 2,000 to 2,001"


@pytest.mark.parametrize(("mean", "std", "means_scale", "stds_scale"), [
    ([1, 2, 3], [1, 1, 1], "linear", "linear"),
    ([1e-5, 0, -1], [1, 1, 1], "linear", "linear"),         # As after normalization: std sets the scale.
    ([1e6, 1e6, 1e6], [1, 2, 3], "linear", "linear"),
    ([1e6, -1e-3, 4], [1, 1e-5, 1], "symlog", "symlog"),
    ([1, 2, 3], [1, 1e-4, 0], "linear", "symlog"),
    ([0, 0, 0], [0, 0, 0], "linear", "linear"),
    ([1, 1000, 1], [0, 0, 0], "linear", "linear"),
    ([1, 1001, 1], [0, 0, 0], "symlog", "linear"),
])
@pytest.mark.parametrize("repeats", [1, 20])
def test_sizes_that_spread_far_make_an_axis_symlog(mean, std, means_scale, stds_scale, repeats):
    figure = plot_moments(moments(mean * repeats, std * repeats))
    scales = [axes.get_xscale() if repeats == 1 else axes.get_yscale() for axes in figure.axes]
    assert scales == [means_scale, stds_scale]
    if repeats == 1 and (CAMPAIGN or "symlog" in scales):
        assert_readable(figure)


@pytest.mark.parametrize("count", [4, 64, 600])
def test_means_on_a_symlog_axis_have_no_bars(count):
    """There an sd of 733 at a mean of -5000 would be drawn shorter than one of 40 at 100."""
    mean, std = np.resize([100.0, -5000, 0, 3], count), np.resize([40.0, 733, 1, 0.5], count)
    means, stds = plot_moments(moments(mean, std)).axes
    which = "x" if count == 4 else "y"
    for axes, title in ((means, "mean"), (stds, "std")):
        assert getattr(axes, f"get_{which}scale")() == "symlog"
        assert (axes.get_title() or axes.get_title(loc="left")) == title
        assert "\nlogarithmic beyond " in getattr(axes, f"get_{which}label")().replace("(", "")
    if count == 4:
        _, _, bars = means.containers[0].lines
        assert not bars
    elif count == 64:
        assert not means.collections
    else:
        assert [text.get_text() for text in means.get_legend().get_texts()] == ["median of 2 means", "range of all"]
        pairs = mean.reshape(-1, 2)
        np.testing.assert_array_equal(band(means), [pairs.min(axis=1), pairs.max(axis=1)])
    place = stds.transData.transform(stds.lines[0].get_xydata()[:4])[:, 0 if count == 4 else 1]
    if count != 600:
        assert (place.argsort() == std[:4].argsort()).all()


@pytest.mark.parametrize("count", [3, 64])
@pytest.mark.parametrize("scale", [20, 1e6])
def test_before_and_after_have_the_same_scales(count, scale):
    """Scaled by itself, the picture of the normalized data would look the same."""
    mean, std = np.linspace(-3, 3, count), np.linspace(1, 2, count)
    figure = plot_moments(moments(mean * scale, std * scale), moments(mean, std))
    which = "x" if count == 3 else "y"
    for one, other in ((0, 2), (1, 3)):
        for name in ("lim", "scale"):
            assert len({getattr(figure.axes[i], f"get_{which}{name}")() for i in (one, other)}) == 1
    low, high = getattr(figure.axes[2], f"get_{which}lim")()
    assert low < -3 * scale < 3 * scale < high
    assert_readable(figure)


@pytest.mark.parametrize("count", [3, 33])
@pytest.mark.parametrize(("low", "high"), [(-5000, 3), (-3, 5000), (-1e12, 1e12), (1, 2e3), (-2e4, -1), (0, 1e30)])
def test_symlog_axes_have_labels(low, high, count):
    m = moments(np.resize([low, 1, high], count), np.resize([1, 0.25, max(abs(low), abs(high))], count))
    for axes in plot_moments(m).axes:
        which = "x" if count == 3 else "y"
        assert getattr(axes, f"get_{which}scale")() == "symlog"
        assert len(labels_within(axes, which)) >= 3


def test_symlog_begins_at_the_smallest_size():
    means, stds = plot_moments(moments([1e6, -1e-3, 4], [1, 0.5e-4, 1])).axes
    assert means.xaxis.get_transform().linthresh == pytest.approx(1e-3)
    assert stds.xaxis.get_transform().linthresh == pytest.approx(0.5e-4)
    ticks = means.get_xticks()
    np.testing.assert_array_equal(ticks, -ticks[::-1])
    assert 1e6 in ticks
    low, high = plot_moments(moments([1e6, 1e-3], [0, 0])).axes[0].get_xlim()
    assert 0 < low < 1e-3
    assert 1e6 < high < 1e8
    huge, _ = plot_moments(moments([1e20, 1e-20], [0, 0])).axes
    assert huge.xaxis.get_transform().linthresh == pytest.approx(1e8)      # The axis spans twelve decades at most.


def test_a_few_means_near_0_do_not_make_an_axis_symlog():
    mean = rng(0).normal(size=4097)
    assert np.abs(mean).max() > 1e4 * np.abs(mean).min()
    assert plot_moments(moments(mean, np.zeros(4097))).axes[0].get_yscale() == "linear"


def test_before_and_after_are_side_by_side():
    before, after = many(3), moments([0, 0, 0], [1, 1, 1])
    figure = plot_moments(before, after)
    assert suptitles(figure) == ["before: Moments: 3 channels, n = 2", "after: Moments: 3 channels, n = 2"]
    left, _, right, _ = figure.axes
    np.testing.assert_array_equal(left.containers[0].lines[0].get_xdata(), before.mean)
    np.testing.assert_array_equal(right.containers[0].lines[0].get_xdata(), after.mean)
    figure.draw_without_rendering()
    assert left.get_position().x1 < right.get_position().x0 or left.figure is not right.figure


def test_layer_shows_its_running_estimates():
    bn = BatchNorm(2)
    bn.running_mean, bn.running_var = [5, -5], [4, 9]
    bn(rng(0).random((4, 2)))
    bn.running_mean, bn.running_var = [5, -5], [4, 9]
    figure = plot_moments(bn)
    assert figure.get_suptitle() == "BatchNorm: 2 channels, running estimates after 1 batch"
    np.testing.assert_array_equal(figure.axes[0].containers[0].lines[0].get_xdata(), [5, -5])
    np.testing.assert_array_equal(figure.axes[1].lines[0].get_xdata(), [2, 3])


def test_names_of_a_layer_are_drawn():
    bn, history = BatchNorm(2, names=["u", "v"], track_pooled=True), History()
    bn(rng(0).random((4, 2)))
    assert labels(plot_moments(bn).axes[0].yaxis) == ["u", "v"]
    history.record(bn)
    assert bn.pooled.names is None
    (legend,) = plot_running(history, bn.pooled).legends
    assert [text.get_text().strip() for text in legend.get_texts()] == ["u", "v", "exact"]


def test_moments_refuses():
    with pytest.raises(TypeError, match=r"before must be a Moments or a BatchNorm, got ndarray; .*update\(x\)"):
        plot_moments(np.ones(3))
    with pytest.raises(TypeError, match="after must be a Moments or a BatchNorm, got list"):
        plot_moments(many(3), [])
    with pytest.raises(ValueError, match="after must have 3 channels as before, got 4"):
        plot_moments(many(3), many(4))


def test_methods_draw():
    after = moments([0, 0, 0], [1, 1, 1])
    for source in (many(3), BatchNorm(3)):
        assert source.plot().axes[0].get_title() == "mean ± std"
        assert suptitles(source.plot(after))[1].startswith("after: ")


@pytest.mark.parametrize(("kind", "count"), thorough(
    [("constant", 1), ("plain", 3), ("spread", 14), ("partly", 3), ("constant", 64), ("spread", 64), ("partly", 4097)],
    [("spread", 14), ("spread", 64), ("partly", 4097)],
))
def test_no_texts_overlap(kind, count):
    m, _ = of_kind(kind, count)
    assert_readable(plot_moments(m, moments(np.zeros(count), np.ones(count))))


def test_notebooks_show_a_picture():
    assert plot_moments(many(3))._repr_png_()[:8] == b"\x89PNG\r\n\x1a\n"


def test_no_backend_is_chosen():
    python("-c", "import sys, io, bnstream; bnstream.BatchNorm(3).plot().savefig(io.BytesIO());"
                 "assert 'matplotlib.pyplot' not in sys.modules")


@pytest.mark.parametrize("code", ["import bnstream.plots", "import bnstream; bnstream.BatchNorm(3).plot()"])
def test_without_matplotlib_the_error_says_what_to_install(code):
    done = python("-c", f"import sys; sys.modules['matplotlib'] = None; {code}", check=False)
    assert done.stderr.rstrip().endswith(
        'ModuleNotFoundError: bnstream.plots needs matplotlib, which is not installed; install it with: '
        'pip install "bnstream[plot]"')


@pytest.mark.parametrize("count", [5, 80, 700])
def test_extremes_are_marked(count):
    x = rng(0).normal(size=(200, count))
    m = Moments(track="min").update(x)
    figure = plot_moments(m)
    means = figure.axes[0]
    assert "min and max" in (means.get_title() or means.get_title(loc="left"))
    if count == 5:
        least, most = [line.get_xdata() for line in means.lines if line.get_marker() == "|"][-2:]
        np.testing.assert_array_equal([least, most], [m.min, m.max])
    else:
        heights = means.collections[0].get_paths()[0].vertices[:, 1]
        assert (heights.min(), heights.max()) == (m.min.min(), m.max.max())
        assert "min to max" in [text.get_text() for text in means.get_legend().get_texts()]
    assert_readable(figure)
