"""Arguments of the wrong kind: each message names the argument, what came and what was expected."""

import copy
import pickle
import re
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

import bnstream
from bnstream import BatchNorm, Moments, apply, fit, load, save
from bnstream.core.checks import integer, number
from bnstream.exchange.conventions import to_arrays
from bnstream.runningmeanstd import RunningMeanStd

X = np.arange(12.0).reshape(4, 3)


@pytest.mark.parametrize("value", ["1", b"1", None, [1.0], np.ones(1), np.ones(2), 1j, np.complex64(1), object()])
def test_not_a_number(value):
    with pytest.raises(TypeError, match=rf"^x must be finite, got {re.escape(repr(value)[:60])}"):
        number("x", value, "finite", np.isfinite)


@pytest.mark.parametrize("value", [1, 1.0, True, np.float32(1), np.int8(1), np.array(1.0), Fraction(1)])
def test_a_number(value):
    found = number("x", value, "finite", np.isfinite)
    assert (type(found), found) == (float, 1.0)


def test_a_number_out_of_range():
    for value, got in ((np.nan, "nan"), (10**400, "10000"), (-10**400, "-10000"), (np.float32(np.inf), "inf")):
        with pytest.raises(ValueError, match=f"^x must be finite, got {got}"):
            number("x", value, "finite", np.isfinite)


def test_an_integer():
    assert integer("x", np.uint8(3), first=3, last=3) == 3
    for value in (1.0, "1", None, (1, 2), np.ones(2, int)):
        with pytest.raises(TypeError, match=rf"^x must be an integer, got {re.escape(repr(value))}$"):
            integer("x", value)
    with pytest.raises(ValueError, match=r"^x must be at least 1, got 0$"):
        integer("x", 0, first=1)
    with pytest.raises(ValueError, match=r"^x must be from 1 to 2, got 3$"):
        integer("x", 3, first=1, last=2)


SETTINGS = {
    "eps": (1e-3, ["a", None, [1.0]], [-1, np.nan, np.inf]),
    "momentum": (0.5, ["a", [0.1], 1j], [-0.1, 1.1, np.nan]),
    "channel_axis": (-1, ["bad", None, (1, 2), 1.0], [64, -65]),
    "running_ddof": (0.5, ["1", None], [-1, 2, np.nan]),
    "nan_policy": ("omit", [], ["bad", None, 1]),
    "r_max": (1.0, ["a", None], [0.5, np.nan]),
    "d_max": (0.0, ["a", None], [-1, np.nan]),
}


@pytest.mark.parametrize("name", SETTINGS)
def test_settings(name, unchanged):
    """What the layer refuses when it is made, it also refuses when it is set."""
    good, kinds, ranges = SETTINGS[name]
    bn = BatchNorm(3)
    setattr(bn, name, good)
    assert getattr(bn, name) == good
    assert bn == BatchNorm(3, **{name: good}) == copy.deepcopy(bn) == bn.copy() == pickle.loads(pickle.dumps(bn))
    for error, values in ((TypeError, kinds), (ValueError, ranges)):
        for value in values:
            got = str(value) if error is ValueError and name != "nan_policy" else repr(value)
            message = f"^{name} must be .*, got {re.escape(got)}"
            unchanged(bn, error, message, lambda bn, value=value: setattr(bn, name, value))
            with pytest.raises(error, match=message):
                BatchNorm(3, **{name: value})


@pytest.mark.parametrize(("name", "value", "error", "message"), [
    ("num_batches_tracked", "a", TypeError, "num_batches_tracked must be an integer, got 'a'"),
    ("num_batches_tracked", -1, ValueError, "num_batches_tracked must be from 0 to .*, got -1"),
    ("pooled", "a", TypeError, "pooled must be a Moments or None, got str"),
    ("pooled", Moments().update(np.ones((2, 2))), ValueError, r"pooled must have channels of shape \(3,\), got \(2,\)"),
    ("num_features", 5, AttributeError, "num_features"), ("dtype", "float64", AttributeError, "dtype"),
    ("affine", False, AttributeError, "affine"),
])
def test_other_attributes(name, value, error, message, unchanged):
    unchanged(BatchNorm(3), error, message, lambda bn: setattr(bn, name, value))


def test_pooled_of_a_layer_that_needs_it(unchanged):
    bn = BatchNorm(3, momentum=None)
    unchanged(bn, ValueError, "momentum=None needs pooled statistics, got None", lambda bn: setattr(bn, "pooled", None))
    bn.momentum = 0.1
    bn.pooled = None
    assert bn.pooled is None


def test_flags_are_bool(tmp_path):
    """Otherwise a state file would not restore them."""
    bn = BatchNorm(3)
    bn.training, bn.renorm = np.bool_(False), 1
    assert (bn.training, bn.renorm) == (False, True)
    assert type(bn.training) is type(bn.renorm) is bool
    save(tmp_path / "bn", bn)
    assert load(tmp_path / "bn") == bn


@pytest.mark.parametrize("ddof", [0, 1, 1.0, np.float32(0), np.int64(1), 0.5])
def test_running_ddof_is_saved(tmp_path, ddof):
    bn = BatchNorm(3, running_ddof=ddof)
    save(tmp_path / "bn", bn)
    assert load(tmp_path / "bn").running_ddof == bn.running_ddof == ddof


@pytest.mark.parametrize("use", [
    lambda bn, path: bn.state_dict(), lambda bn, path: bn.fold(np.ones((3, 2))), lambda bn, path: save(path, bn),
    lambda bn, path: to_arrays(bn, "keras"), lambda bn, path: bn.eval()(X),
    lambda bn, path: apply(bn, X, path.with_suffix(".npy")),
])
def test_negative_variance_in_place(use, tmp_path):
    """It is refused before it reaches a file or another layer. The layer itself can still be looked at and mended."""
    bn = BatchNorm(3)
    bn.running_var[1] = -1
    message = r"^running_var must not be negative, got -1\.0 in channel 1; set running_var to .*, or call reset"
    with pytest.raises(ValueError, match=message):
        use(bn, tmp_path / "bn")
    assert not [*tmp_path.iterdir()]
    assert bn == bn.copy() == pickle.loads(pickle.dumps(bn))
    assert "BatchNorm(3" in repr(bn)
    bn.running_var[1] = 1
    use(bn, tmp_path / "bn")


def test_negative_variance_in_renormalization():
    bn = BatchNorm(3, renorm=True)
    bn(X)
    bn.running_var[2] = -0.5
    before = pickle.dumps(bn)
    with pytest.raises(ValueError, match=r"running_var must not be negative, got -0\.5 in channel 2"):
        bn(X)
    assert pickle.dumps(bn) == before


@pytest.mark.parametrize("state", [[1], 5, None, "weight"])
def test_load_state_dict_of_no_mapping(state, unchanged):
    message = f"state must be a mapping of names to arrays, as state_dict returns it, got {type(state).__name__}"
    unchanged(BatchNorm(3), TypeError, message, lambda bn: bn.load_state_dict(state))


def test_recalibrate_checks_n_threads(unchanged):
    for batches in (Moments().update(X), [X], []):
        for n, error in ((0, ValueError), ("2", TypeError)):
            unchanged(BatchNorm(3), error, "the number of threads must be",
                      lambda bn, batches=batches, n=n: bn.recalibrate(batches, n_threads=n))


@pytest.mark.parametrize("axis", [None, "a", 1.5])
def test_output_axis(axis):
    with pytest.raises(TypeError, match=rf"^output_axis must be an integer, got {re.escape(repr(axis))}$"):
        BatchNorm(3).fold(np.ones((3, 2)), output_axis=axis)


def test_ragged_parameters(unchanged):
    message = "gamma must be an array or nested sequences of equal lengths: "
    unchanged(BatchNorm(3), ValueError, message, lambda bn: setattr(bn, "gamma", [[1, 2], [3]]))


def test_counts_in_messages():
    for n, names, expected in ((1, "ab", "1 name, one for each channel or element, got 2"),
                               (2, "a", "2 names, one for each channel or element, got 1")):
        with pytest.raises(ValueError, match=f"^expected {expected}"):
            BatchNorm(n, names=list(names))
    with pytest.raises(ValueError, match=r"^weight must have 1 output channel along axis 0, got "):
        BatchNorm(1).fold(X)
    with pytest.raises(ValueError, match=r"^expected statistics of 1 channel, got channels of shape \(3,\)$"):
        BatchNorm(1).recalibrate(Moments().update(X))
    assert repr(BatchNorm(1)).endswith("0 batches")


@pytest.mark.parametrize(("call", "message"), [
    (lambda path: load(None), "path must be a str or an os.PathLike, got None"),
    (lambda path: save(5, Moments()), "path must be a str or an os.PathLike, got 5"),
    (lambda path: apply(5, X, path), "state must be a Moments, a GroupedMoments, a BatchNorm or the path of a state "
                                 "file, got int"),
    (lambda path: apply(fit(X), X, 5), "out must be a str or an os.PathLike, got 5"),
    (lambda path: apply(fit(X), X, path, eps="a"), "eps must be a finite number of at least 0, got 'a'"),
    (lambda path: fit(X, 5), "out must be a str or an os.PathLike, got 5"),
    (lambda path: fit(X, columns=5), "columns (--columns) must be a name or a sequence of names, got 5"),
    (lambda path: fit(X, checkpoint_every="a"), "checkpoint_every must be at least 0 seconds, got 'a'"),
    (lambda path: fit(X, n_threads="2"), "the number of threads must be an integer, got str"),
    (lambda path: RunningMeanStd(dtype="i8"), "dtype must be float16, bfloat16, float32 or float64, got 'i8'"),
    (lambda path: RunningMeanStd(shape="a"), "shape must be an int or a tuple of ints, at least 0, got 'a'"),
    (lambda path: setattr(RunningMeanStd(), "mean", "a"), "mean must be of real numbers, got dtype <U1"),
    (lambda path: setattr(RunningMeanStd(), "count", None), "count must be finite and not negative, got None"),
    (lambda path: RunningMeanStd().update_from_moments(1, "a", 1), "batch_var must be of real numbers, got dtype <U1"),
])
def test_arguments_of_the_wrong_kind(call, message, tmp_path):
    with pytest.raises(TypeError, match=f"^{re.escape(message)}$"):
        call(tmp_path / "y.npy")
    assert not [*tmp_path.iterdir()]


@pytest.mark.parametrize(("x", "message"), [
    (None, "got NoneType"), ("abc", "got str; bnstream.fit reads files"), (Path("x"), "; bnstream.fit reads files"),
    (iter([1.0]), "got list_iterator; make a list of its items first, or pass each to Moments.update"),
    ((i for i in range(3)), "got generator; make a list of its items first, or pass each to Moments.update"),
    ({1.0}, "got set; make a list of its items first"), (object(), "got object"),
])
def test_what_is_no_array(x, message):
    for call in (bnstream.mean_var, Moments().update, RunningMeanStd().update, BatchNorm(3),
                 lambda x: bnstream.normalize(x, 0, 1), lambda x: bnstream.normalize(X, x, 1)):
        with pytest.raises(TypeError, match=f"expected an array of numbers, .*{re.escape(message)}$"):
            call(x)


def test_channel_axis_of_a_source():
    with pytest.raises(bnstream.SourceError, match=r"^the array of shape \(4, 3\) has 2 axes, got channel_axis=5; "
                                                   "expected -2 to 1$"):
        fit(X, channel_axis=5)
