"""The pictures of running estimates over time: what their artists hold, and that no texts overlap."""

import numpy as np
import pytest
from support.arrays import rng
from support.pictures import NAMES, assert_readable, many, of_kind

from bnstream import BatchNorm, Moments
from bnstream.plots import History, plot_running


def recorded(bn, batches):
    """The history of a layer that is trained on batches."""
    history = History()
    for batch in batches:
        bn(batch)
        history.record(bn)
    return history


def trained(width, steps=30, offset=0.0, **settings):
    """A layer trained on random batches, and its history."""
    bn = BatchNorm(width, track_pooled=True, **settings)
    return bn, recorded(bn, rng(2).normal(offset, 2, (steps, 16, width)))


def test_history_keeps_copies():
    bn, history = trained(3, 2)
    assert history.num_batches == [1, 2]
    assert history.mean[0].tobytes() != history.mean[1].tobytes() == bn.running_mean.tobytes()
    assert history.var[0].tobytes() != history.var[1].tobytes() == bn.running_var.tobytes()
    with pytest.raises(ValueError, match=r"expected a layer of 3 channels .*, got 4; use one History for each layer"):
        history.record(BatchNorm(4))
    assert len(history.num_batches) == len(history.mean) == len(history.var) == 2


@pytest.mark.parametrize("ddof", [0, 1])
def test_few_channels_have_a_line_each(ddof):
    bn, history = trained(8, running_ddof=ddof)
    above, below = plot_running(history, bn.pooled).axes
    for i in range(8):
        last = above.lines[i].get_xydata()[-1], below.lines[i].get_xydata()[-1]
        std = bn.pooled.std(ddof)[i]
        np.testing.assert_allclose(last[0], [30, (bn.running_mean[i] - bn.pooled.mean[i]) / std], rtol=1e-12)
        np.testing.assert_allclose(last[1], [30, np.sqrt(bn.running_var[i]) / std], rtol=1e-12)
    diagnosis = bn.diagnose()
    np.testing.assert_allclose([line.get_ydata()[-1] ** 2 for line in below.lines[:8]], diagnosis.var_drift)
    assert [axes.lines[8].get_ydata()[0] for axes in (above, below)] == [0, 1]
    assert below.get_xlabel() == "batches"


def test_legend_has_the_names():
    bn, history = trained(3)
    exact = Moments(names=("_hidden", "$a$", NAMES[0])).merge(bn.pooled)
    figure = plot_running(history, exact)
    (legend,) = figure.legends
    assert [text.get_text().strip() for text in legend.get_texts()] == [
        "_hidden", r"\$a\$", "departure_del…es_at_origin", "exact"]
    assert_readable(figure)


def test_more_channels_are_bands():
    bn, history = trained(100)
    figure = plot_running(history, bn.pooled)
    below = figure.axes[1]
    ratio = np.sqrt(history.var) / bn.pooled.std(1)
    median = below.lines[0]
    np.testing.assert_allclose(median.get_ydata(), np.median(ratio, axis=1))
    for filled, (low, high) in zip(below.collections, ((0, 1), (0.05, 0.95), (0.25, 0.75)), strict=True):
        points = filled.get_paths()[0].vertices
        for x, wanted in zip(history.num_batches, np.quantile(ratio, [low, high], axis=1).T, strict=True):
            ys = points[points[:, 0] == x, 1]
            np.testing.assert_allclose([ys.min(), ys.max()], wanted)
    assert [text.get_text() for text in figure.legends[0].get_texts()] == [
        "all channels", "5 % to 95 %", "25 % to 75 %", "median", "exact"]
    assert_readable(figure)


@pytest.mark.parametrize("width", [3, 100])
def test_constant_channels_and_nan_are_absent(width):
    x = rng(0).normal(5, 1, (20, 16, width))
    x[:, :, 0] = 5
    x[10, 0, 1] = np.nan
    history = recorded(BatchNorm(width, nan_policy="propagate"), x)
    figure = plot_running(history, Moments(axis=(0, 1), nan_policy="omit").update(x))
    assert figure.get_suptitle().split("\n")[1:] == [
        f"1 of {width} channels absent (constant): 0", f"1 of {width} channels absent (NaN or inf, at some records): 1"]
    if width == 3:
        assert [np.isnan(line.get_ydata()).sum() for line in figure.axes[1].lines[:3]] == [20, 10, 0]
    assert_readable(figure)


def test_exact_line_is_within_reach_of_far_estimates():
    """The initial standard deviation of 1 outweighs the data's at every record."""
    bn = BatchNorm(2, track_pooled=True)
    history = recorded(bn, rng(0).normal(0, 1e-8, (5, 16, 2)))
    figure = plot_running(history, bn.pooled)
    below = figure.axes[1]
    assert below.get_yscale() == "symlog"
    assert below.yaxis.get_transform().linthresh == 1
    assert_readable(figure)


@pytest.mark.parametrize(("offset", "scale"), [(0.0, "linear"), (1e6, "symlog")])
def test_far_start_makes_the_axis_symlog(offset, scale):
    bn, history = trained(3, 200, offset)
    above, below = plot_running(history, bn.pooled).axes
    assert (above.get_yscale(), below.get_yscale()) == (scale, "linear")


def test_rounding_errors_do_not_set_the_scale():
    bn, history = trained(3, momentum=None)
    history.mean[-1] = history.mean[-1] + 1e-14
    above, _ = plot_running(history, bn.pooled).axes
    assert 0 < above.lines[0].get_ydata()[-1] < 1e-12
    assert above.get_yscale() == "linear"


def test_one_record_is_visible():
    bn, history = trained(3, 1)
    figure = plot_running(history, bn.pooled)
    assert figure.axes[0].lines[0].get_marker() == "."
    assert_readable(figure)


def test_running_refuses():
    bn, history = trained(3, 2)
    with pytest.raises(ValueError, match=r"the history is empty; call history.record\(bn\) after each batch"):
        plot_running(History(), bn.pooled)
    with pytest.raises(ValueError, match="exact must have 3 channels as the history, got a Moments without data"):
        plot_running(history, Moments())
    with pytest.raises(ValueError, match=r"got channels of shape \(4,\)"):
        plot_running(history, many(4))


@pytest.mark.parametrize(("kind", "count"), [("spread", 3), ("constant", 3), ("constant", 64), ("partly", 4097)])
def test_no_texts_overlap(kind, count):
    m, x = of_kind(kind, count)
    bn = BatchNorm(count, track_pooled=True)
    history = recorded(bn, np.split(x, 3))
    assert_readable(plot_running(history, Moments(names=m.names).merge(bn.pooled)))


def test_objects_of_the_wrong_type():
    bn, history = trained(2, 2)
    with pytest.raises(TypeError, match=r"^expected a BatchNorm to record, got Moments$"):
        history.record(bn.pooled)
    assert len(history.num_batches) == len(history.mean) == 2
    with pytest.raises(TypeError, match=r"^history must be a History, got list$"):
        plot_running([bn], bn.pooled)
    with pytest.raises(TypeError, match=r"^exact must be a Moments, such as .*, got BatchNorm$"):
        plot_running(history, bn)
