"""The verdicts of a diagnosis in words, and its text."""

from dataclasses import replace

import numpy as np
import pytest
from support.arrays import rng

from bnstream import BatchNorm
from bnstream.core.diagnosis import Diagnosis
from bnstream.core.summary import summary

GOOD = Diagnosis(
    effective_n=np.full(3, 1e4), initial_weight=0.0, condition=np.ones(3), mean_drift=np.zeros(3), var_drift=np.ones(3),
    mean_gap=np.zeros(3), sd_gap=np.ones(3), batch_n=np.full(3, 1e3), names=("a", "b", "c"))


def test_nothing_stands_out():
    assert GOOD.findings == GOOD.unknown == []
    assert GOOD.order.tolist() == [0, 1, 2]
    assert GOOD.verdict(1) == "nothing stands out"
    assert str(GOOD).split("\n")[:3] == [
        "Diagnosis: 3 channels, initial weight 0", "  nothing stands out",
        "smallest, median and largest of the channels:"]


@pytest.mark.parametrize(("name", "values", "words"), [
    ("effective_n", (200, 25, 99), ["b: running mean is uncertain by 0.2 sd", "c: running mean is uncertain by 0.1"]),
    ("condition", (1e6, 9e3, 1e5), ["a: offset of 1e+06 sd takes up 6.0 digits", "c: offset of 1e+05 sd takes up 5.0"]),
    ("condition", (1, np.inf, np.nan), ["b: running variance is 0, or an estimate is NaN", "c: running variance"]),
    ("mean_drift", (0.2, -0.5, 0.09), ["b: running mean is 0.5 sd below the pooled", "a: running mean is 0.2"]),
    ("var_drift", (0.9, 1.3, 0.1), ["c: running variance is 0.1 times the pooled", "b: running variance is 1.3 times"]),
    ("mean_gap", (-0.6, 0.4, 2), ["c: mean of the last batch is 2 sd above", "a: mean of the last batch is 0.6"]),
    ("batch_n", (8, 33, 2), ["c: a batch has about 2 values, so that its mean errs by 71% of the sd, its sd by 71%",
                             "a: a batch has about 8 values, so that its mean errs by 35% of the sd, its sd by 27%"]),
    ("sd_gap", (0.6, 0, 4), ["b: sd of the last batch is 0 times the running sd", "c: sd of the last batch is 4"]),
])
def test_each_finding_has_a_verdict_and_the_worst_channels_first(name, values, words):
    found = replace(GOOD, **{name: np.array(values, float)})
    (finding,) = found.findings
    assert finding.startswith(f"{name} in 2 of 3 channels: {words[0]}")
    assert f"; {words[1]}" in finding
    order = [words[0][0], words[1][0]]
    assert [found.names[i] for i in found.order[:2]] == order
    assert f"{order[0]}: {found.verdict(found.order[0])}; {order[1]}: {found.verdict(found.order[1])}. " in finding
    assert found.verdict(found.order[2]) == "nothing stands out"
    assert f"  {finding}\n" in str(found) == repr(found)


def test_the_worst_finding_is_first():
    values = {"mean_drift": [0.2, 0, 0], "sd_gap": [1, 100, 1], "mean_gap": [0, 0.6, 0]}
    found = replace(GOOD, **{name: np.array(value, float) for name, value in values.items()})
    assert [finding.partition(" ")[0] for finding in found.findings] == ["sd_gap", "mean_drift", "mean_gap"]
    assert found.order.tolist() == [1, 0, 2]
    assert found.verdict(1) == ("sd of the last batch is 100 times the running sd; "
                                "mean of the last batch is 0.6 sd above the running mean")


def test_many_channels_are_named_in_part():
    found = Diagnosis(*(np.ones(1000) * value for value in (1e4, 0, 1, 0, 1, 0, 1, 1e3)))
    found = replace(found, initial_weight=0.0, mean_drift=np.arange(1000.0))
    (finding,) = found.findings
    assert finding.startswith("mean_drift in 999 of 1,000 channels: 999: ")
    assert "; 996: running mean is 996 sd above the pooled mean; and 995 more. Call recalibrate" in finding


def test_initial_weight():
    assert replace(GOOD, initial_weight=0.009).findings == []
    assert replace(GOOD, initial_weight=0.531).findings == [
        "initial_weight: the initial mean 0 and variance 1 still make up 53% of the running estimates. Train on more "
        "batches, or call recalibrate"]


def test_no_channels():
    found = Diagnosis(*(np.empty(0) for _ in range(8)))
    found = replace(found, initial_weight=0.5)
    assert len(found.findings) == 1
    assert found.order.tolist() == []
    assert str(found).startswith("Diagnosis: 0 channels")
    assert found._repr_html_().startswith("<table>")


def test_before_the_first_batch_there_is_one_finding():
    found = BatchNorm(3).diagnose()
    (finding,) = found.findings
    assert finding.startswith("initial_weight: no batch yet")
    assert [line.split(" ")[0] for line in found.unknown] == [
        "batch_n", "mean_drift", "var_drift", "mean_gap", "sd_gap"]


def test_what_is_not_known_has_its_reason():
    bn = BatchNorm(2)
    bn.running_mean = [1, 2]
    unknown = dict(line.split(" is not known: ") for line in bn.diagnose().unknown)
    assert unknown.pop("effective_n") == "estimates were set or loaded"
    assert unknown["mean_drift"].startswith("there are no pooled statistics, which track_pooled=True keeps")
    assert unknown["sd_gap"].startswith("no batch since")
    for text in unknown:
        assert f"  {text} is not known: " in str(bn.diagnose())


@pytest.mark.parametrize("momentum", [0.1, 0.5, 1.0, None])
@pytest.mark.parametrize("n_batches", [1, 3, 200])
def test_values_in_a_batch(momentum, n_batches):
    """They follow from the weights of the batches; images count every position."""
    bn = BatchNorm(3, momentum=momentum)
    for _ in range(n_batches):
        bn(rng(0).normal(size=(4, 3, 5)))
    assert bn.diagnose().batch_n == pytest.approx([20] * 3)
    advice = "Use larger batches, or renorm=True, or GroupNorm or LayerNorm, which do not depend on the batch"
    assert any(advice in finding for finding in bn.diagnose().findings)
    bn.running_mean = [1, 2, 3]
    assert np.isnan(bn.diagnose().batch_n).all()
    assert np.isnan(BatchNorm(3).diagnose().batch_n).all()


def test_a_layer_gives_its_names():
    bn = BatchNorm(3, names=["u", "two\nlines", "w"], track_pooled=True)
    x = rng(0).normal(size=(500, 3))
    for offset in np.linspace(0, 3, 50):
        bn(x + np.array([0, offset, 1e6]))
    found = bn.diagnose()
    assert found.names == bn.names
    assert found.order.tolist() == [2, 1, 0]
    assert found.findings[0].startswith("mean_drift in 2 of 3 channels: w: running mean is ")
    assert "; two lines: running mean is " in found.findings[0]
    assert any(finding.startswith("condition in 1 of 3 channels: w: offset of ") for finding in found.findings)


def test_verdicts_on_channels_that_do_not_exist():
    found = BatchNorm(3).diagnose()
    assert found.verdict(np.int64(-1)) == "nothing stands out"
    for i in (3, 9, -4):
        with pytest.raises(IndexError, match=f"^i must be the index of one of 3 channels, got {i}$"):
            found.verdict(i)
    for i in ("a", 1.0, None):
        with pytest.raises(TypeError, match=r"^i must be an integer, the index of a channel, got ('a'|1\.0|None)$"):
            found.verdict(i)


def test_negative_variance_set_in_place():
    """It is shown as NaN, without a warning."""
    bn = BatchNorm(3, track_pooled=True)
    bn(np.arange(12.0).reshape(4, 3))
    bn.running_var[1] = -1
    found = bn.diagnose()
    assert np.isnan([found.condition[1], found.mean_gap[1], found.sd_gap[1]]).all()
    assert np.isnan(summary(bn).std).tolist() == [False, True, False]
    assert "running variance is 0, or an estimate is NaN or inf" in str(found)
    assert "<td>-1</td>" in bn._repr_html_()
