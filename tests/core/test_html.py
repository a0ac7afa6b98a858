"""The tables that notebooks show, read by a parser."""

from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest
from support.arrays import rng

from bnstream import BatchNorm, Moments
from bnstream.core.html import html_table


class Table(HTMLParser):
    """Caption and rows of a table. Every tag must be one of a table, and be closed in order."""

    def __init__(self, html):
        super().__init__()
        self.open, self.caption, self.rows, self.styles = [], "", [], set()
        self.feed(html)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        if tag == "br":
            assert self.open[-1:] == ["caption"]
            self.caption += "\n"
            return
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


def table(state):
    return Table(html_table(state))


def moments(count, **settings):
    """Moments of `count` channels with means 0, 1, 2 ... and standard deviation 1."""
    return Moments(**settings).update(np.arange(float(count)) + np.array([[-1.0], [1.0]]))


def test_moments():
    found = table(moments(3))
    assert found.caption == "Moments: 3 channels, n = 2; axis=0, nan_policy='raise'"
    assert found.rows == [["channel", "mean", "std", "var"], ["0", "0", "1", "1"], ["1", "1", "1", "1"],
                          ["2", "2", "1", "1"]]


def test_one_channel():
    found = table(Moments(axis=None).update(np.full((1000, 2), 1 / 3)))
    assert found.caption.startswith("Moments: 1 channel, n = 2,000; axis=None")
    assert found.rows[1:] == [["0", "0.333333", "0", "0"]]


def test_n_has_a_column_where_it_differs():
    m = Moments(nan_policy="omit").update(np.array([[1.0, np.nan], [3.0, np.nan]]))
    found = table(m)
    assert found.caption.startswith("Moments: 2 channels, n = 0 to 2; ")
    assert found.rows == [["channel", "n", "mean", "std", "var"], ["0", "2", "2", "1", "1"],
                          ["1", "0", "nan", "nan", "nan"]]
    m.update(np.array([[np.nan, 1.0], [np.nan, 3.0]]))
    found = table(m)
    assert found.caption.startswith("Moments: 2 channels, n = 2; ")
    assert "n" not in found.rows[0]


def test_empty():
    found = table(Moments(axis=(0, 1)))
    assert (found.caption, found.rows) == ("Moments: empty; axis=(0, 1), nan_policy='raise'", [])


@pytest.mark.parametrize("count", [20, 21, 22, 100_000])
def test_many_channels_are_the_first_and_the_last(count):
    found = table(moments(count)).rows[1:]
    if count == 20:
        assert [row[0] for row in found] == [str(i) for i in range(20)]
        return
    assert [row[0] for row in found] == [
        *map(str, range(10)), f"… {count - 20:,} more …", *map(str, range(count - 10, count))]
    assert len(found[10]) == 1
    assert float(found[-1][1]) == pytest.approx(count - 1, rel=1e-5)


def test_names_are_escaped():
    names = ("<script>alert(1)</script>", "a & b", '"quoted"', "</td>", "größe &lt;")
    html = html_table(moments(5, names=names))
    assert "<script" not in html
    assert [row[0] for row in Table(html).rows] == ["channel", *names]


def test_channels_of_two_axes_have_two_indices():
    found = table(Moments().update(rng(0).random((5, 2, 3))))
    assert [row[0] for row in found.rows] == ["channel", "0, 0", "0, 1", "0, 2", "1, 0", "1, 1", "1, 2"]


def test_batchnorm():
    bn = BatchNorm(2, eps=0.5)
    bn.running_mean, bn.running_var, bn.gamma, bn.beta = [1, 2], [9, np.inf], [3, 4], [5, 0.1]
    found = table(bn)
    assert found.caption == ("BatchNorm: 2 channels, running estimates after 0 batches; "
                             "training, momentum=0.1, eps=0.5, running_ddof=1, dtype=float32")
    assert found.rows == [["channel", "running_mean", "running_var", "gamma", "beta"],
                          ["0", "1", "9", "3", "5"], ["1", "2", "inf", "4", "0.1"]]
    bn.names = ["<b>", "v"]
    assert [row[0] for row in table(bn).rows] == ["channel", "<b>", "v"]


def test_batchnorm_without_parameters_in_inference():
    bn = BatchNorm(30, affine=False, momentum=None)
    for _ in range(3):
        bn(rng(0).random((4, 30)))
    found = table(bn.eval())
    assert found.caption.startswith(
        "BatchNorm: 30 channels, running estimates after 3 batches; inference, momentum=None, ")
    assert found.rows[0] == ["channel", "running_mean", "running_var"]
    assert len(found.rows) == 1 + 10 + 1 + 10


def drifted(count, names=None):
    """A layer without a finding but that the running mean of the i-th channel is i / 50 pooled sd too high."""
    bn = BatchNorm(count, momentum=None, names=names)
    bn(np.repeat(np.array([[-1.0], [1.0]]), 500, axis=0) * np.ones(count))
    found = bn.diagnose()
    return replace(found, mean_drift=np.arange(count) / 50)


def test_diagnosis_has_the_worst_channels_first():
    found = table(drifted(8, names=[*"abcdefg", "<b>"]))
    assert found.rows[0] == ["channel", "effective_n", "batch_n", "condition", "mean_drift", "var_drift", "mean_gap",
                             "sd_gap", "verdict"]
    assert [row[0] for row in found.rows[1:]] == ["<b>", *"gfedcba"]
    assert found.rows[1][4] == "0.14"
    assert [row[-1] for row in found.rows[1:5]] == [
        "running mean is 0.14 sd above the pooled mean", "running mean is 0.12 sd above the pooled mean",
        "running mean is 0.1 sd above the pooled mean", "nothing stands out"]
    title, finding = found.caption.split("\n")[0].split("; ", 1)
    assert title == "Diagnosis: 8 channels, initial weight 0"
    assert finding.startswith("mean_drift in 3 of 8 channels: <b>: running mean is 0.14 sd above")


@pytest.mark.parametrize("count", [20, 21, 1000])
def test_table_of_a_diagnosis_has_the_worst_channels(count):
    rows = table(drifted(count)).rows[1:]
    assert [row[0] for row in rows[:20]] == [str(count - 1 - i) for i in range(20)]
    left = {20: [], 21: [["… 1 more, 0 of them with findings …"]],
            1000: [["… 980 more, 975 of them with findings …"]]}
    assert rows[20:] == left[count]


def test_caption_of_a_diagnosis_says_what_is_not_known():
    found = table(BatchNorm(2).diagnose())
    assert "no batch yet" in found.caption
    assert [line.partition(":")[0] for line in found.caption.split("\n")[1:]] == [
        f"{name} is not known" for name in ("batch_n", "mean_drift", "var_drift", "mean_gap", "sd_gap")]
    assert len(found.rows) == 3


@pytest.mark.parametrize("state", [moments(30), BatchNorm(30), drifted(30)], ids=["Moments", "BatchNorm", "Diagnosis"])
def test_no_colors_and_no_scripts(state):
    """The table is readable on a light page and on a dark one."""
    assert table(state).styles == {"text-align:left", "text-align:right", "text-align:center"}
    assert html_table(state).isascii()


def test_objects_return_their_table():
    for state in (BatchNorm(3), moments(3), BatchNorm(3).diagnose(), moments(3, names=["é", "b", "c"])):
        assert state._repr_html_().isascii()
        assert state._repr_html_() == html_table(state)
