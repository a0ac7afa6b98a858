"""Names of channels are kept with the state and never mixed up."""

import copy
import pickle

import numpy as np
import pytest

from bnstream import BatchNorm, Moments
from bnstream.core.moments import rows_of

X = np.arange(6.0).reshape(3, 2)
NAMED = {"Moments": lambda: Moments(names=["a", "b"]).update(X), "BatchNorm": lambda: BatchNorm(2, names=["a", "b"])}


@pytest.mark.parametrize("make", NAMED.values(), ids=NAMED)
def test_copies_keep_them(make):
    for copied in (make().copy(), copy.deepcopy(make()), pickle.loads(pickle.dumps(make()))):
        assert copied.names == ("a", "b")


@pytest.mark.parametrize("make", NAMED.values(), ids=NAMED)
def test_they_may_be_set(make):
    state = make()
    state.names = ("u", "v")
    assert state.names == ("u", "v")
    assert state == make()          # names are not part of the state
    state.names = None
    assert state.names is None


@pytest.mark.parametrize("make", NAMED.values(), ids=NAMED)
@pytest.mark.parametrize(("names", "error", "message"), [
    (["a"], ValueError, "names must fit channels of shape|expected 2 names, one for each channel or element, got 1"),
    (["a", "a"], ValueError, "names must differ, got 'a' twice"),
    ("ab", TypeError, "got the str 'ab'; make it a list"),
    (["a", 1], TypeError, "names must be of str, got 1 of type int"),
])
def test_names_that_do_not_fit(make, names, error, message):
    state = make()
    with pytest.raises(error, match=message):
        state.names = names
    assert state.names == ("a", "b")


@pytest.mark.parametrize("shape", [(3, 3), (3,), (3, 2, 1)])
def test_first_batch_has_other_channels(shape, unchanged):
    message = "expected 2 channels, one for each name"
    unchanged(Moments(names=["a", "b"]), ValueError, message, lambda m: m.update(np.ones(shape)))


def test_merge_takes_names_over():
    assert Moments().update(X).merge(NAMED["Moments"]()).names == ("a", "b")
    assert NAMED["Moments"]().merge(Moments().update(X)).names == ("a", "b")
    assert Moments().merge(Moments(names=["a", "b"])).names == ("a", "b")
    assert sum([NAMED["Moments"](), NAMED["Moments"]()], Moments()).names == ("a", "b")


@pytest.mark.parametrize("other", [
    lambda: Moments(names=["b", "a"]).update(X), lambda: Moments(names=["b", "a"]), lambda: Moments(names=["a"]),
])
def test_merge_of_other_names(other, unchanged):
    message = r"expected channels named \['a', 'b'\] as here"
    unchanged(NAMED["Moments"](), ValueError, message, lambda m: m.merge(other()))


def test_merge_into_names_that_do_not_fit(unchanged):
    three = Moments().update(np.ones((2, 3)))
    unchanged(Moments(names=["a", "b"]), ValueError, r"shape \(2,\) as here, got \(3,\)", lambda m: m.merge(three))
    unchanged(three, ValueError, r"names must fit channels of shape \(3,\), got 2 names",
              lambda m: m.merge(Moments(names=["a", "b"])))


def test_threads_of_an_update():
    x = np.random.default_rng(0).normal(size=(40000, 8))
    parts = [rows_of(Moments().update(x, n_threads=n)).tobytes() for n in (1, 2, 3, None)]
    assert len(set(parts)) == 1
    with pytest.raises(ValueError, match="threads must be from 1"):
        Moments().update(x, n_threads=0)


def test_many_names():
    """One look at each name, however many there are."""
    names = [*map(str, range(200_000)), "199999"]
    with pytest.raises(ValueError, match="names must differ, got '199999' twice"):
        Moments(names=names)


def test_values_before_the_first_batch():
    """As many channels as names, of which nothing is known."""
    m = Moments(names=["a", "b"])
    assert (m.n.tolist(), m.m2.tolist(), m.shape) == ([0, 0], [0, 0], None)
    for values in (m.mean, m.var(), m.std()):
        assert values.shape == (2,)
        assert np.isnan(values).all()
    assert Moments().n.shape == ()
