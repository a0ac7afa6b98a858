"""What is shown of a state: its title, its columns and the labels of its channels."""

import numpy as np
import pytest

from bnstream import BatchNorm, Moments
from bnstream.core.labels import channel_label, counted, number_text
from bnstream.core.summary import summary


def lists(found):
    return {name: values.tolist() for name, values in found.columns.items()}


def test_moments():
    found = summary(Moments(names=["a", "b"]).update([[1.0, 5.0], [3.0, 5.0]]))
    assert (found.title, found.settings) == ("Moments: 2 channels, n = 2", "axis=0, nan_policy='raise'")
    assert (found.shape, found.names, found.labels) == ((2,), ("a", "b"), ["a", "b"])
    assert lists(found) == {"n": [2, 2], "mean": [2, 5], "std": [1, 0], "var": [1, 0]}
    assert (found.n_channels, found.same_n) == (2, True)
    assert found.mean is found.columns["mean"]
    assert found.std is found.columns["std"]


def test_n_that_differs():
    found = summary(Moments(nan_policy="omit").update([[1.0, np.nan]] + 2000 * [[1.0, 2.0]]))
    assert found.title == "Moments: 2 channels, n = 2,000 to 2,001"
    assert not found.same_n


def test_columns_are_flat():
    found = summary(Moments().update(np.arange(12.0).reshape(2, 2, 3)))
    assert (found.shape, found.n_channels) == ((2, 3), 6)
    assert found.columns["mean"].tolist() == [3, 4, 5, 6, 7, 8]
    assert found.labels[1:4] == ["0, 1", "0, 2", "1, 0"]
    found = summary(Moments(axis=None).update([1.0, 2.0]))
    assert (found.title, found.shape, found.labels) == ("Moments: 1 channel, n = 2", (), ["0"])
    assert lists(found)["mean"] == [1.5]


def test_weights():
    m = Moments().update([[1.0], [2.0]], weights=[1, 1])
    assert "effective_n" not in summary(m).columns
    found = summary(m.update([[1.0]], weights=[0.5]))
    assert found.title == "Moments: 1 channel, n = 2.5"
    assert lists(found)["effective_n"] == m.effective_n.tolist() == [2.5**2 / 2.25]


@pytest.mark.parametrize("m", [Moments(), Moments(axis=None, names=["a"]), Moments().update(np.empty((3, 0)))])
def test_empty(m):
    found = summary(m)
    assert (found.title, found.n_channels, found.labels, found.same_n) == ("Moments: empty", 0, [], False)
    assert lists(found) == {"n": [], "mean": [], "std": [], "var": []}


@pytest.mark.parametrize("affine", [True, False])
def test_batchnorm(affine):
    bn = BatchNorm(2, affine=affine, names=["u", "v"], dtype="float16")
    bn(np.array([[1.0, 2.0], [3.0, 2.0]]))
    bn.running_mean, bn.running_var = [1, 2], [4, 9]
    found = summary(bn)
    assert found.title == "BatchNorm: 2 channels, running estimates after 1 batch"
    assert found.settings == "training, momentum=0.1, eps=1e-05, running_ddof=1, dtype=float16"
    parameters = {"gamma": [1, 1], "beta": [0, 0]} if affine else {}
    assert lists(found) == {"running_mean": [1, 2], "running_var": [4, 9], **parameters}
    assert {values.dtype for values in found.columns.values()} == {np.dtype("float64")}
    assert (found.mean.tolist(), found.std.tolist(), found.labels) == ([1, 2], [2, 3], ["u", "v"])
    assert summary(bn.eval()).settings.startswith("inference, ")


@pytest.mark.parametrize("state", [Moments().update([[1.0], [3.0]]), BatchNorm(1)], ids=["Moments", "BatchNorm"])
def test_later_updates_do_not_change_a_summary(state):
    found = summary(state)
    before = lists(found)
    (state.update if isinstance(state, Moments) else state)(np.array([[7.0], [9.0]]))
    assert lists(found) == before != lists(summary(state))


def test_other_objects_are_refused():
    with pytest.raises(TypeError, match="expected a Moments, a layer or a Diagnosis, got ndarray"):
        summary(np.ones(3))


def test_labels():
    assert channel_label(1, (3,), None) == "1"
    assert channel_label(0, (), None) == "0"
    assert channel_label(5, (2, 3), None) == "1, 2"
    assert channel_label(1, (2,), ["a", "b"]) == "b"
    assert (counted(0), counted(1), counted(1024)) == ("0 channels", "1 channel", "1,024 channels")
    assert (counted(1, "batch", "batches"), counted(2, "batch", "batches")) == ("1 batch", "2 batches")
    assert [number_text(value) for value in (1234, np.int64(5), np.float32(0.1), 1 / 3, np.nan)] == [
        "1,234", "5", "0.1", "0.333333", "nan"]
