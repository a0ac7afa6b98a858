"""Moments: its laws, its policies, and its behavior as a Python object."""

import copy
import pickle

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from support.arrays import normal, of_dtype
from support.oracle import assert_within, exact_states
from support.states import state

from bnstream import Moments

OFFSETS = st.sampled_from([0.0, 1.0, -1e8, 1e15, 1e30, 1e-300])
SCALES = st.sampled_from([1.0, 1e-3, 1e8, 1e-30])
BATCH = st.integers(0, 20).flatmap(lambda n: arrays("f8", (n, 3), elements=st.floats(-1e3, 1e3)))


@st.composite
def batches(draw, least=1):
    """Draw the batches of a stream; the first is not empty."""
    offset, scale = draw(OFFSETS), draw(SCALES)
    parts = draw(st.lists(BATCH, min_size=least, max_size=6))
    return [np.full((1, 3), offset), *(part * scale + offset for part in parts)]


def check(m, parts):
    rows = np.concatenate(parts)
    assert np.all(m.n == len(rows))
    assert_within(m.mean, m.var(), exact_states(rows))


@given(batches())
def test_chunking(parts):
    check(state(*parts), parts)
    check(state(np.concatenate(parts)), parts)


@given(batches())
def test_merge_commutes(parts):
    a, b = state(*parts[:2]), state(*parts[2:])
    check(a + b, parts)
    check(b + a, parts)


@given(batches(3))
def test_merge_associates(parts):
    a, b, c = state(*parts[:2]), state(parts[2]), state(*parts[3:])
    check((a + b) + c, parts)
    check(a + (b + c), parts)


@given(batches(), st.randoms(use_true_random=False))
def test_permuted_rows(parts, random):
    rows = np.concatenate(parts)
    order = list(range(len(rows)))
    random.shuffle(order)
    check(state(rows[order]), parts)
    check(state(*parts[::-1]), parts)


@given(batches())
def test_identity(parts):
    m = state(*parts)
    assert m + Moments() == m
    assert Moments() + m == m
    assert m.copy().merge(state(np.empty((0, 3)))) == m
    assert Moments().merge(m) == m
    assert Moments() + Moments() == Moments()


@given(batches())
def test_sum(parts):
    check(sum((state(part) for part in parts), Moments()), parts)


@given(batches())
def test_pickle_and_copies(parts):
    m = state(*parts)
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        again = pickle.loads(pickle.dumps(m, protocol))
        assert again == m
        check(again.update(parts[0]), [*parts, parts[0]])
    for twin in (m.copy(), copy.copy(m), copy.deepcopy(m)):
        assert twin == m
        twin.update(parts[0] + 1)
        assert twin != m
    check(m, parts)


@given(BATCH.filter(len), BATCH)
def test_operands_are_left_alone(x, y):
    a, b = state(x), state(y)
    before = pickle.dumps((a, b))
    total = a + b
    total.update(x)
    assert pickle.dumps((a, b)) == before
    c = a.copy()
    assert c.merge(b) is c
    assert pickle.dumps((a, b)) == before


def test_merge_with_itself():
    x = of_dtype("f8", (40, 3))
    m = state(x)
    assert m.merge(m) is m
    check(m, [x, x])


def test_update_returns_itself():
    m = Moments()
    assert m.update(normal((4, 2))) is m
    assert m.update(np.empty((0, 2))) is m


@pytest.mark.parametrize("policy", ["raise", "omit", "propagate"])
def test_before_any_batch(policy):
    m = Moments(nan_policy=policy)
    assert np.all(m.n == 0)
    assert m.shape is None
    for value in (m.mean, m.var(), m.var(1), m.std()):
        assert value.shape == ()
        assert np.isnan(value)
    assert m.m2 == 0
    assert m == Moments()
    assert pickle.loads(pickle.dumps(m)) == m
    assert pickle.loads(pickle.dumps(m)).nan_policy == policy
    assert pickle.loads(pickle.dumps(m)).update([[1.0, 2.0]]) != m


@pytest.mark.parametrize("policy", ["raise", "omit", "propagate"])
def test_empty_batch(policy):
    m = Moments(nan_policy=policy).update(normal((5, 3)))
    before = pickle.dumps(m)
    m.update(np.empty((0, 3)))
    m.update(np.empty((0, 3), np.uint8))
    assert pickle.dumps(m) == before
    assert Moments().update(np.empty((0, 3))) == Moments()


def test_no_channels():
    m = Moments().update(np.empty((4, 0)))
    m.merge(Moments().update(np.empty((4, 0))))
    assert np.all(m.n == 0)
    assert "Moments" in repr(m)
    assert m.var().size <= 1


def test_attributes_are_new_arrays():
    m = state(normal((5, 3)))
    before = pickle.dumps(m)
    for value in (m.mean, m.m2, m.var(), m.std()):
        value[...] = 7
    assert pickle.dumps(m) == before
    for name in ("n", "mean", "m2", "shape", "axis", "nan_policy"):
        with pytest.raises(AttributeError):
            setattr(m, name, 1)


def test_attributes():
    x = normal((6, 2, 3)) + 5
    m = state(x)
    assert (m.n.shape, m.n.dtype, set(m.n.ravel().tolist())) == ((2, 3), np.int64, {6})
    assert (m.shape, m.axis, m.nan_policy) == ((2, 3), 0, "raise")
    assert m.mean.shape == m.m2.shape == m.var().shape == (2, 3)
    np.testing.assert_allclose(m.m2, m.var() * 6, rtol=1e-15)
    np.testing.assert_array_equal(m.std(1), np.sqrt(m.var(1)))
    everything = Moments(None).update(x)
    assert everything.shape == ()
    assert everything.mean.shape == ()
    assert np.all(everything.n == 36)
    assert_within(everything.mean, everything.var(), exact_states(x, None))


def test_equality():
    x = normal((5, 3))
    a, b = state(x), state(x)
    assert a == b
    assert a is not b
    assert (a != b) is False
    assert a != state(x + 1)
    assert a != state(x[:4])
    assert a != state(x.reshape(5, 3, 1))
    assert a != Moments()
    assert Moments() != a
    assert a != "Moments"
    assert a != x.tolist()
    assert (a == 1) is False
    nan = np.array([[np.nan, 1.0]])
    assert state(nan, nan_policy="propagate") == state(nan, nan_policy="propagate")
    with pytest.raises(TypeError, match="unhashable"):
        hash(a)


def test_add_others():
    for other in (1, None, 1.5):
        with pytest.raises(TypeError, match="unsupported operand"):
            Moments() + other
        with pytest.raises(TypeError, match="unsupported operand"):
            other + Moments()


def test_sum_without_a_start():
    parts = [Moments().update(normal((5, 3)) + i) for i in range(4)]
    assert sum(parts) == sum(parts, Moments())
    assert np.all(parts[0].n == 5)


def test_counts_of_merged_policies():
    """n counts per channel after any merge in which it may differ."""
    gaps = np.array([[1.0, np.nan], [2.0, 5.0], [3.0, np.nan]])
    omit = Moments(nan_policy="omit").update(gaps)
    for m in (sum([omit, omit], Moments()), Moments() + omit + omit, pickle.loads(pickle.dumps(omit + omit))):
        np.testing.assert_array_equal(m.n, [6, 2])
        np.testing.assert_array_equal(m.copy().n, [6, 2])
        assert "[6 2]" in repr(m)
    assert Moments().merge(Moments(nan_policy="omit")).merge(Moments().update(gaps[1:2])).n.tolist() == [1, 1]


def test_axis_is_the_object_s_own():
    axis = [0]
    m = Moments(axis).update(np.ones((2, 3)))
    axis.append(1)
    assert m.update(np.ones((2, 3))).axis == (0,)
    assert Moments(np.int64(1)).axis == 1
    assert type(Moments(np.int64(1)).axis) is int


def test_repr():
    assert repr(Moments()) == "Moments(axis=0, nan_policy='raise'): empty"
    assert repr(Moments((0, 2), nan_policy="omit")) == "Moments(axis=(0, 2), nan_policy='omit'): empty"
    text = repr(state([[1.0, 10.0], [3.0, 10.0]]))
    assert text == (
        "Moments(axis=0, nan_policy='raise'): channels (2,)\n"
        "  n    2\n  mean [ 2. 10.]\n  std  [1. 0.]\n  var  [1. 0.]")
    many = repr(state(normal((4, 1000))))
    assert "..." in many
    assert len(many) < 400
    assert all(len(line) < 100 for line in many.splitlines())
    omit = repr(state([[1.0, np.nan], [3.0, 5.0]], nan_policy="omit"))
    assert "n    [2 1]" in omit
    one = repr(Moments(None).update([1.0, 2.0]))
    assert "1.5" in one
    assert "n    2" in one
    planes = repr(state(normal((3, 2, 2))))
    assert planes.count("\n") == 7
    assert len({line.rindex("[") for line in planes.splitlines()[2:]}) == 1     # rows are aligned


def test_mixed_batches():
    """Batches of any dtype and layout in one state."""
    parts = [of_dtype("f4", (30, 3)), of_dtype("i2", (3, 20)).T, of_dtype("u1", (9, 6))[:, ::2],
             of_dtype("f8", (5, 3))[::-1]]
    check(state(*parts, [[1, 2, 3]]), [*(part.astype("f8") for part in parts), np.array([[1.0, 2.0, 3.0]])])
