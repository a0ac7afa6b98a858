"""The HTML tables that notebooks show."""

from html.parser import HTMLParser

import numpy as np
import pytest
from support.arrays import rng

from bnstream import BatchNorm, Moments
from bnstream.core.html import batchnorm_html, moments_html
from bnstream.core.labels import channel_label


class Table(HTMLParser):
    """A parser for caption and rows. It checks that tags nest properly and belong to tables."""

    def __init__(self, html):
        super().__init__()
        self.open, self.caption, self.rows, self.styles = [], "", [], set()
        self.feed(html)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        assert tag in {"table", "caption", "thead", "tbody", "tr", "th", "td"}
        self.open.append(tag)
        self.styles |= {value for name, value in attributes if name == "style"}
        if tag == "tr":
            self.rows.append([])
        elif tag in ("th", "td"):
            self.rows[-1].append("")

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, text):
        if self.open[-1:] == ["caption"]:
            self.caption += text
        elif self.open[-1:] in (["th"], ["td"]):
            self.rows[-1][-1] += text
        else:
            assert not text.strip()


def table(html):
    return Table(html)


def of(count, **settings):
    """Return Moments of `count` channels with means 0, 1, 2, ... and sd 1."""
    return Moments(**settings).update(np.arange(float(count)) + np.array([[-1.0], [1.0]]))


def test_moments():
    found = table(moments_html(of(3)))
    assert found.caption == "Moments: 3 channels; n = 2, axis=0, nan_policy='raise'"
    assert found.rows == [["channel", "mean", "sd"], ["0", "0", "1"], ["1", "1", "1"], ["2", "2", "1"]]


def test_one_channel():
    assert table(moments_html(of(1))).caption.startswith("Moments: 1 channel; ")
    found = table(moments_html(Moments(axis=None).update(np.full((1000, 2), 1 / 3))))
    assert found.caption.startswith("Moments: 1 channel; n = 2,000, axis=None")
    assert found.rows[1:] == [["0", "0.333333", "0"]]


def test_n_has_a_column_where_it_differs():
    m = Moments(nan_policy="omit").update(np.array([[1.0, np.nan], [3.0, np.nan]]))
    found = table(moments_html(m))
    assert "n = " not in found.caption
    assert found.rows == [["channel", "n", "mean", "sd"], ["0", "2", "2", "1"], ["1", "0", "nan", "nan"]]
    m.update(np.array([[np.nan, 1.0], [np.nan, 3.0]]))
    assert table(moments_html(m)).caption.startswith("Moments: 2 channels; n = 2, ")


def test_empty():
    found = table(moments_html(Moments(axis=(0, 1))))
    assert (found.caption, found.rows) == ("Moments: empty; axis=(0, 1), nan_policy='raise'", [])


@pytest.mark.parametrize("count", [20, 21, 22, 100_000])
def test_of_many_the_first_and_the_last(count):
    found = table(moments_html(of(count))).rows[1:]
    if count == 20:
        assert [row[0] for row in found] == [str(i) for i in range(20)]
        return
    assert [row[0] for row in found] == [
        *map(str, range(10)), f"… {count - 20:,} more …", *map(str, range(count - 10, count))]
    assert len(found[10]) == 1
    assert float(found[-1][1]) == pytest.approx(count - 1, rel=1e-5)


def test_names_are_escaped():
    names = ("<script>alert(1)</script>", "a & b", '"quoted"', "</td>", "größe &lt;")
    html = moments_html(of(5, names=names))
    assert "<script" not in html
    assert [row[0] for row in table(html).rows] == ["channel", *names]


def test_channels_of_two_axes_have_two_indices():
    found = table(moments_html(Moments().update(rng(0).random((5, 2, 3)))))
    assert [row[0] for row in found.rows] == ["channel", "0, 0", "0, 1", "0, 2", "1, 0", "1, 1", "1, 2"]
    assert found.caption.startswith("Moments: 6 channels; ")


def test_label():
    assert channel_label(1, (3,), None) == "1"
    assert channel_label(0, (), None) == "0"
    assert channel_label(5, (2, 3), None) == "1, 2"
    assert channel_label(1, (2,), ["a", "b"]) == "b"


def test_batchnorm():
    bn = BatchNorm(2, eps=0.5)
    bn.running_mean, bn.running_var, bn.gamma, bn.beta = [1, 2], [9, np.inf], [3, 4], [5, 0.1]
    found = table(batchnorm_html(bn))
    assert found.caption == (
        "BatchNorm: 2 channels; training, 0 batches, momentum=0.1, eps=0.5, running_ddof=1, dtype=float32")
    assert found.rows == [["channel", "running mean", "running sd", "gamma", "beta"],
                          ["0", "1", "3", "3", "5"], ["1", "2", "inf", "4", "0.1"]]
    bn.names = ["<b>", "v"]
    assert [row[0] for row in table(batchnorm_html(bn)).rows] == ["channel", "<b>", "v"]


def test_batchnorm_without_parameters_in_inference():
    bn = BatchNorm(30, affine=False, momentum=None)
    for _ in range(3):
        bn(rng(0).random((4, 30)))
    found = table(batchnorm_html(bn.eval()))
    assert found.caption.startswith("BatchNorm: 30 channels; inference, 3 batches, momentum=None, ")
    assert found.rows[0] == ["channel", "running mean", "running sd"]
    assert len(found.rows) == 1 + 10 + 1 + 10


@pytest.mark.parametrize("html", [moments_html(of(30)), batchnorm_html(BatchNorm(30))])
def test_no_colors_and_no_scripts(html):
    """Readable in light and dark themes."""
    assert table(html).styles == {"text-align:left", "text-align:right", "text-align:center"}
    assert html.isascii()


def test_objects_answer_their_table():
    assert BatchNorm(3)._repr_html_() == batchnorm_html(BatchNorm(3))
    assert of(3)._repr_html_() == moments_html(of(3))
