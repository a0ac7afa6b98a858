"""GroupedMoments: each group is a Moments to the last bit; its laws; its keys; what a refused call leaves."""

import copy
import hashlib
import pickle
import sys
import threading
from importlib.util import find_spec

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.arrays import every_other, normal, of_dtype, swapped
from support.oracle import assert_within, exact_states
from support.processes import python

from bnstream import DomainBatchNorm, GroupedMoments, Moments, _kernels, load, save
from bnstream._kernels import _runtime
from bnstream.core.groups import grouped
from bnstream.core.groups.index import Index
from bnstream.core.groups.keys import keys_of
from bnstream.core.groups.sums import piece_rows, portion_rows
from bnstream.core.moments import rows_of
from bnstream.exchange import to_arrays


def rng(seed=0):
    return np.random.default_rng(seed)


def one(x, keys, key, axis=0, **options):
    """The Moments of a group, whose rows are added in the portions and pieces that the docstring tells of."""
    positions = {name: options.pop(name) for name in ("weights", "where") if name in options}
    m = Moments(axis, **options)
    axes = (axis,) if isinstance(axis, int) else axis
    row_bytes, values = x[:1].nbytes, int(np.prod([x.shape[i] for i in axes if i]))
    keys = np.asarray(keys)
    piece, portion = piece_rows(row_bytes, values, len(np.unique(keys))), portion_rows(row_bytes, values)
    for first in range(0, len(x), piece):
        chosen = first + np.flatnonzero(keys[first:first + piece] == key)
        for start in range(0, len(chosen), portion):
            some = chosen[start:start + portion]
            m.update(np.ascontiguousarray(x[some]), **{name: value[some] for name, value in positions.items()})
    return m


def same(m, other):
    """Whether two Moments have the same bits."""
    a, b = rows_of(m), rows_of(other)
    return a.shape == b.shape and a.tobytes() == b.tobytes()


def check(x, keys, some=None, **options):
    positions = {name: options[name] for name in ("weights", "where") if name in options}
    g = GroupedMoments(**{name: value for name, value in options.items() if name not in positions})
    g.update(x, keys, **positions)
    found = np.unique(np.asarray(keys)).tolist()
    assert list(g) == found
    for key in found if some is None else rng().choice(found, some):
        key = key.item() if isinstance(key, np.generic) else key
        assert same(g[key], one(x, keys, key, **options)), key
    return g


@pytest.mark.parametrize("dtype", ["f4", "f8", "f2", "bfloat16", "u1", "i1", "i2", "u2", "i4", "u4", "i8", "u8", "?"])
def test_dtypes(dtype):
    x = of_dtype(dtype if dtype != "bfloat16" else ml_dtypes.bfloat16, (3000, 5))
    check(x, rng().integers(0, 11, 3000))


@pytest.mark.parametrize(("n", "channels", "n_groups"), [
    (1, 1, 1), (2000, 1, 3), (2000, 17, 1), (40000, 3, 7), (300_000, 8, 16), (3000, 300, 5), (120_000, 8, 3000),
    (30_000, 17, 30_000), (700, 3000, 40), (120_000, 1, 20_000), (5000, 2, 5000)])
def test_shapes(n, channels, n_groups):
    """Few groups and many, one row a group, batches of several pieces, and of several portions a group."""
    check(normal((n, channels)).astype("f4"), rng(1).integers(0, n_groups, n), some=30)


def test_many_groups_of_which_one_is_large():
    """The bucket of the large one is too large to be sorted."""
    keys = np.where(rng(2).random(1_300_000) < 0.9, 7, rng(1).integers(0, 40_000, 1_300_000))
    x, weights = normal((1_300_000, 2)).astype("f4"), rng(3).random(1_300_000)
    for g in (check(x, keys, some=2), check(x, keys, some=2, weights=weights)):
        assert g[7].n.min() > 500_000
    assert same(g[7], one(x, keys, 7, weights=weights))


def test_a_small_batch_is_one_call():
    """Up to 4 MiB in all and 32 KiB a group: the statement without pieces and portions."""
    x, keys = normal((3000, 8)).astype("f4"), rng().integers(0, 9, 3000)
    g = GroupedMoments()
    for _ in range(2):
        g.update(x, keys)
    for key in range(9):
        assert same(g[key], Moments().update(x[keys == key]).update(x[keys == key]))


@pytest.mark.parametrize("keys", [
    [-5, 3, -5, 2**62, -2**63, 3], np.array([2**63, 0, 2**64 - 1, 2**63, 5, 0], np.uint64), [7] * 6, range(6),
    ["", "b", "", "a", "ü", "b"], [10**15, -10**15, 0, 0, 1, 10**15], np.array([1, -1, 127, -128, 0, 1], np.int8),
    np.array([True, False, True, True, False, True]), np.array(["x", "yy", "x", "", "x", "yy"]),
    np.array([1, 2, 1, 3, 2, 2], ">i4"), np.arange(12)[::2] % 4, np.array([b"a"] * 6).astype("U"),
    np.array(["x", "yy", "x", "", "x", "yy"], np.dtypes.StringDType())])
def test_awkward_keys(keys):
    keys = list(keys) if isinstance(keys, range) else keys
    x = normal((6, 3))
    g = GroupedMoments().update(x, keys).update(x, keys)
    listed = np.asarray(keys).tolist()
    assert list(g) == sorted(set(listed))
    for key in set(listed):
        chosen = np.array([other == key for other in listed])
        assert g[key] == Moments().update(x[chosen]).update(x[chosen])
        assert key in g
    assert "no such key" not in g
    assert 99 not in g
    with pytest.raises(KeyError):
        g["no such key"]


def test_new_keys_and_old_ones():
    x = normal((6, 2))
    g = GroupedMoments().update(x, [5, 5, 1, 1, 1, 5]).update(x, [9, 1, 1, 0, 0, 0]).update(x, [2**63] * 6)
    assert list(g) == [1, 5, 0, 9, 2**63]
    assert g[1] == Moments().update(x[2:5]).update(x[1:3])
    assert g[0] == Moments().update(x[3:])


@pytest.mark.parametrize("key", [2**64, -2**63 - 1, 10**30])
@pytest.mark.parametrize("layer", [False, True])
def test_keys_of_more_than_64_bits_are_refused(key, layer):
    """State files hold none, and neither do tables of Arrow."""
    what = "domain" if layer else "keys"
    with pytest.raises(ValueError, match=rf"{what} must be integers of 64 bits, got {key}; convert them to strings"):
        DomainBatchNorm(2)(normal((4, 2)), [key, 1] * 2) if layer else GroupedMoments().update(normal((2, 2)), [key, 1])


def test_keys_from_both_ends_of_64_bits():
    """NumPy makes floats of a list of them."""
    x, keys = normal((4, 2)), [2**63, -1, 2**64 - 1, -2**63]
    g = GroupedMoments().update(x, keys)
    assert list(g) == sorted(keys)
    assert g[-1] == Moments().update(x[1:2])
    with pytest.raises(TypeError, match="got keys of dtype float64; convert them to integers"):
        GroupedMoments().update(x, [2.0, 1, 2, 3])


def test_columns_of_keys_in_another_order_are_refused():
    """The keys of one column would stand for those of another."""
    x, a, c = normal((4, 2)), [1, 1, 2, 2], [5, 6, 5, 6]
    g = GroupedMoments().update(x, {"a": a, "c": c})
    before = g.copy()
    message = "expected columns of keys in the order a, c as here, got c, a; pass them in this order"
    with pytest.raises(ValueError, match=message):
        g.update(x, {"c": c, "a": a})
    with pytest.raises(ValueError, match=message):
        g.normalize(x, {"c": c, "a": a})
    with pytest.raises(ValueError, match="got c, month; pass"):
        g.update(x, {"c": c, "month": a})
    assert g == before
    assert list(g.update(x, {"a": a, "month": c})) == list(before)      # A column may have another name.
    with pytest.raises(ValueError, match="in the order c, a as here, got a, c"):
        GroupedMoments(key_names=["c", "a"]).update(x, {"a": a, "c": c})


def test_several_columns_of_keys():
    x, a, b = normal((500, 3)), rng(1).integers(0, 4, 500), rng(2).choice(["u", "v", "w"], 500)
    g = GroupedMoments().update(x, {"a": a, "b": b})
    assert g.key_names == ("a", "b")
    assert list(g) == sorted({*zip(a.tolist(), b.tolist(), strict=True)})
    for key in g:
        assert g[key] == Moments().update(x[(a == key[0]) & (b == key[1])])
    assert GroupedMoments().update(x, [a, b]) == g


@pytest.mark.parametrize("package", ["pandas", "polars", "pyarrow"])
def test_columns_of_keys_in_a_table(package):
    module = pytest.importorskip(package)
    x, keys = normal((3, 2)), {"carrier": ["AA", "UA", "AA"], "month": [1, 1, 2]}
    make = module.table if package == "pyarrow" else module.DataFrame
    g = GroupedMoments().update(x, make(keys))
    assert g == GroupedMoments().update(x, keys)
    assert g.key_names == ("carrier", "month")
    assert list(GroupedMoments().update(x, make({"month": keys["month"]}))) == [1, 2]


def test_tuples_in_a_list_are_columns_unless_they_may_be_rows():
    x = normal((3, 2))
    g = GroupedMoments().update(x, [("a", "b", "a"), (1, 1, 2)])
    assert list(g) == [("a", 1), ("a", 2), ("b", 1)]
    rows = [("a", 1), ("b", 1), ("a", 2)]
    with pytest.raises(ValueError, match="got 3 tuples for the 3 rows"):
        GroupedMoments().update(x, rows)
    assert GroupedMoments().update(x, [list(part) for part in zip(*rows, strict=True)]) == g


@pytest.mark.parametrize("axis", [(0, 2, 3), (0, 1, 2), 1, (1, 3), None])
@pytest.mark.parametrize("layout", ["C", "F", "swapped", "every other"])
def test_axes_and_layouts(axis, layout):
    x = normal((40, 31, 4, 5)).astype("f4")
    x = {"C": x, "F": np.asfortranarray(x), "swapped": swapped(x), "every other": every_other(x, 0)}[layout]
    along = 0 if axis is None else min(np.atleast_1d(axis))
    keys = rng().integers(0, 5, x.shape[along])
    g = GroupedMoments(axis).update(x, keys)
    moved = np.moveaxis(x, along, 0)
    reduced = range(4) if axis is None else np.atleast_1d(axis)
    axes = tuple(sorted(i + (i < along) if i != along else 0 for i in reduced))
    for key in range(5):
        assert same(g[key], Moments(axes).update(np.ascontiguousarray(moved[keys == key])))
        assert g[key].axis == axis


@pytest.mark.parametrize("axis", [0, (0, 2)])
def test_weights_and_masks(axis):
    x, keys = normal((4000, 3, 4)), rng().integers(0, 6, 4000)
    shape = (4000,) if axis == 0 else (4000, 4)
    weights = rng(1).random(shape) * (rng(2).random(shape) > 0.2)
    mask = rng(3).random(shape) > 0.5
    elements = rng(4).random(x.shape) > 0.5
    check(x, keys, axis=axis, weights=weights)
    check(x, keys, axis=axis, where=mask)
    check(x, keys, axis=axis, weights=weights, where=mask)
    check(x, keys, axis=axis, where=elements)
    check(x, keys, axis=axis, weights=weights, where=elements)
    x, keys, weights = x[:900], keys[:900], weights[:900]       # portions that hold all rows of a group
    g = GroupedMoments(axis).update(x, keys).update(x, keys % 3, weights=weights).update(x, keys)
    for key in range(6):
        m = Moments(axis).update(x[keys == key])
        if key < 3:
            m.update(x[keys % 3 == key], weights=weights[keys % 3 == key])
        assert same(g[key], m.update(x[keys == key]))
        assert g[key].n.dtype == (np.float64 if key < 3 else np.int64)


@pytest.mark.parametrize("n_groups", [3, 4000])
@pytest.mark.parametrize("dtype", ["f4", "f8"])
@pytest.mark.parametrize("nan_policy", ["omit", "propagate"])
def test_policies(nan_policy, dtype, n_groups):
    """NaN, inf, and squares beyond the largest float, in some groups and some portions."""
    x, keys = normal((60_000, 3)).astype(dtype), rng().integers(0, n_groups, 60_000)
    x[rng(1).integers(0, 60_000, 30), 0] = np.nan
    x[rng(2).integers(0, 60_000, 30), 1] = np.inf
    if dtype == "f8":
        x[rng(3).integers(0, 60_000, 5), 2] = 1e200
        x[50_000, 2] = -1.7e308
    g = check(x, keys, some=20, nan_policy=nan_policy)
    g.update(x, keys)
    for key in {*keys[50_000:50_001].tolist(), *keys[:5].tolist()}:
        m = one(x, keys, key, nan_policy=nan_policy)
        for first in range(0, 60_000, piece_rows(x[:1].nbytes, 1, n_groups)):
            chosen = first + np.flatnonzero(keys[first:first + piece_rows(x[:1].nbytes, 1, n_groups)] == key)
            for start in range(0, len(chosen), portion_rows(x[:1].nbytes, 1)):
                m.update(x[chosen[start:start + portion_rows(x[:1].nbytes, 1)]])
        assert same(g[key], m)
    assert np.array_equal(g.std(1), np.stack([g[key].std(1) for key in g]), equal_nan=True)
    assert np.array_equal(g.var(), np.stack([g[key].var() for key in g]), equal_nan=True)
    assert np.array_equal(g.mean, np.stack([g[key].mean for key in g]), equal_nan=True)


def test_exact():
    """The same bits for any cut."""
    x, keys = normal((5000, 3)), rng().integers(-4, 4, 5000)
    g = check(x, keys, exact=True)
    order = rng(5).permutation(5000)
    other = GroupedMoments(exact=True)
    for part in np.array_split(order, 7):
        other.update(x[part], keys[part])
    assert other == g
    assert sum([g, other], GroupedMoments()) == g.copy().update(x, keys)
    counts = rng(6).integers(0, 5, 5000)
    assert GroupedMoments(exact=True).update(x, keys, weights=counts)[2] == Moments(exact=True).update(
        x[keys == 2], weights=counts[keys == 2])
    assert np.array_equal(g.var(1), np.stack([g[key].var(1) for key in g]))


def digest(n_threads):
    found = hashlib.sha256()
    for n_groups in (5, 40_000):
        x, keys = normal((250_000, 3)).astype("f4"), rng().integers(0, n_groups, 250_000)
        x[77, 1] = np.nan
        g = GroupedMoments(nan_policy="omit").update(x, keys, n_threads=n_threads)
        g.update(x[:10_000], keys[:10_000] * 10**13, weights=np.arange(10_000.0), n_threads=n_threads)
        found.update(rows_of(g._statistics()).tobytes() + repr(list(g)).encode())
    return found.hexdigest()


def test_n_threads_and_level_agnosticism():
    reference = digest(1)
    assert digest(2) == digest(3) == digest(8) == reference
    for level in _kernels.LEVELS:
        if level in _runtime.cpu_levels():
            assert python(__file__, "2", BNSTREAM_ISA=level).stdout.strip() == reference


BATCHES = st.lists(st.lists(st.tuples(st.integers(0, 4), st.floats(-1e3, 1e3)), max_size=12), min_size=1, max_size=6)


def added(parts):
    g = GroupedMoments()
    for part in parts:
        g.update(np.array([value for _, value in part]).reshape(-1, 1), np.array([key for key, _ in part], np.int64))
    return g


def assert_right(g, parts):
    rows = [row for part in parts for row in part]
    assert {*g} == {key for key, _ in rows}
    for key, m in g.items():
        values = np.array([[value] for other, value in rows if other == key])
        assert m.n.tolist() == [len(values)]
        assert_within(m.mean, m.var(), exact_states(values))


@settings(max_examples=40)
@given(BATCHES, st.integers(0, 6), st.randoms(use_true_random=False))
def test_laws(parts, cut, random):
    """Any chunking and any order of the rows agree within the bound, and merge commutes and has an identity."""
    rows = [row for part in parts for row in part]
    shuffled = list(rows)
    random.shuffle(shuffled)
    a, b = added(parts[:cut]), added(parts[cut:])
    for g in (added(parts), added([rows]), added([shuffled]), a + b, b + a, sum([a, b], GroupedMoments())):
        assert_right(g, parts)
    assert a + GroupedMoments() == a
    assert GroupedMoments() + a == a
    if rows:
        assert_within(*(f(added(parts).total()) for f in (lambda m: m.mean, lambda m: m.var())),
                      exact_states(np.array([[value] for _, value in rows])))


def test_merge_has_the_bits_of_moments():
    x = normal((3000, 9))
    keys, others = rng(1).integers(0, 5, 3000), rng(2).integers(3, 9, 3000)
    a, b = GroupedMoments().update(x, keys), GroupedMoments().update(x, others, weights=np.arange(1.0, 3001))
    g = a + b
    for key in g:
        m = (a[key] if key in a else Moments()) + (b[key] if key in b else Moments())
        assert same(g[key], m)
    assert list(g) == [0, 1, 2, 3, 4, 5, 6, 7, 8]


def test_as_a_mapping_and_an_object():
    x = normal((50, 2))
    g = GroupedMoments(names=["x", "y"]).update(x, np.arange(50) % 3)
    assert len(g) == 3
    assert dict(g.items())[2] == g[2]
    assert g[np.int64(2)] == g[2]
    assert g[2].names == ("x", "y")
    g[0].update(x)          # a copy
    assert g[0].n.tolist() == [17, 17]
    assert g.n.tolist() == [[17, 17], [17, 17], [16, 16]]
    for other in (pickle.loads(pickle.dumps(g)), copy.copy(g), copy.deepcopy(g), g.copy()):
        assert other == g
        assert (other.names, list(other)) == (g.names, list(g))
        assert other.update(x, np.arange(50) % 3) == g.copy().update(x, np.arange(50) % 3)
        assert other != g
    assert g != 3
    assert g != GroupedMoments()
    with pytest.raises(TypeError):
        hash(g)
    with pytest.raises(TypeError):
        g + 3
    assert repr(g) == ("GroupedMoments(axis=0, nan_policy='raise'): 3 groups of channels (2,)\n  keys 0, 1, 2")
    assert repr(GroupedMoments(exact=True)) == "GroupedMoments(axis=0, nan_policy='raise', exact=True): empty"


def test_equal_in_another_order():
    x = normal((4, 2))
    a = GroupedMoments().update(x[:2], ["b", "b"]).update(x[2:], ["a", "a"])
    b = GroupedMoments().update(x[2:], ["a", "a"]).update(x[:2], ["b", "b"])
    assert (list(a), list(b)) == (["b", "a"], ["a", "b"])
    assert a == b


def test_zero_rows():
    g = GroupedMoments()
    assert g.update(np.empty((0, 3)), []) is g
    assert (len(g), g.shape) == (0, None)
    assert g.mean.shape == (0,)


def assert_refused(g, error, message, *arguments, **options):
    before = g.copy()
    with pytest.raises(error, match=message):
        g.update(*arguments, **options)
    assert g == before
    assert list(g) == list(before)


def test_a_refused_call_changes_nothing(monkeypatch):
    x = normal((300_000, 2))
    bad = x.copy()
    bad[299_999, 1] = np.nan
    for n_groups in (5, 50_000):
        keys = np.arange(300_000) % n_groups
        g = GroupedMoments().update(x, keys)
        name = 299_999 % n_groups
        assert_refused(g, ValueError, rf"^group {name}: NaN or inf in 1 of 2 channels, the first at index 1", bad, keys)
        assert_refused(g, ValueError, rf"^group {name}: NaN", bad.astype("f4"), keys)
        assert_refused(g, ValueError, "expected channels of shape", x[:, :1], keys)
        assert_refused(g, ValueError, r"one key for each of the 300,000 rows of a batch of shape", x, keys[:-1])
        assert_refused(g, ValueError, "weights must be finite", x, keys, weights=-np.ones(300_000))
        assert_refused(g, TypeError, "where must be a mask of bool", x, keys, where=np.ones(300_000))
        assert_refused(g, TypeError, "cannot read dtype complex128", x.astype(complex), keys)
        assert_refused(g, TypeError, "expected keys of int as before, got str", x[:2], ["a", "b"])
        assert_refused(g, TypeError, "number of threads must be an integer", x, keys, n_threads=1.5)
        before = g.copy()
        with monkeypatch.context() as patch:
            patch.setattr(np, "empty", out_of_memory)
            with pytest.raises(MemoryError):
                g.update(x, keys)
        assert g == before
    exact = GroupedMoments(exact=True).update(x[:9], np.arange(9))
    assert_refused(exact, OverflowError, r"2\*\*62", np.ones((4096, 2)), np.arange(4096) % 2,
                   weights=np.full(4096, 2.0**53 - 2))
    assert_refused(exact, ValueError, "^group 3: NaN or inf", bad[-9:], [1, 2, 4, 5, 6, 7, 8, 9, 3])


def out_of_memory(*arguments, **options):
    raise MemoryError


@pytest.mark.parametrize(("keys", "error", "message"), [
    ([1.5, 2.0], TypeError, "keys must be integers, bools or strings, got keys of dtype float64"),
    ([b"a", b"b"], TypeError, "decode bytes"),
    (np.array(["2020-01-01"] * 2, "M8[D]"), TypeError, r"astype\('int64'\)"),
    (["a", 1], TypeError, "keys must be of one kind, got int and str"),
    (np.array([(1,), 2], object), TypeError, r"got \(1,\) of type tuple in keys"),
    (["a", None], ValueError, r"keys: 1 row has no key; pass missing_keys='omit' \(--missing-keys omit\)"),
    ({"day": [1, 2], "hour": [1]}, ValueError, "keys 'hour' must have one key for each of the 2 rows"),
    ([[1, 2], [None, None]], ValueError, r"keys\[1\]: 2 rows have no key"),
    ({}, ValueError, "got an empty mapping"),
    ([("a", "x"), ("b", "y")], ValueError, r"got 2 tuples for the 2 rows of .* pass \[list\(part\) for part in"),
    ("ab", TypeError, "bools or strings, one for each row, got keys of type str; make a list or an array of them"),
    ({1, 2}, TypeError, "got keys of type set"),
    (None, TypeError, "got keys of type NoneType"),
    (7, ValueError, r"one key for each of the 2 rows of .*, got keys of shape \(\)"),
])
def test_refused_keys(keys, error, message):
    keys = np.array(keys, object) if isinstance(keys, list) and 1 in keys else keys
    assert_refused(GroupedMoments(), error, message, np.ones(2), keys)


def test_refused_arguments():
    with pytest.raises(ValueError, match="missing_keys must be 'raise', 'omit' or 'keep', got 'drop'"):
        GroupedMoments(missing_keys="drop")
    with pytest.raises(TypeError, match="key_names must be a sequence of str, got the str 'a'"):
        GroupedMoments(key_names="a")
    with pytest.raises(TypeError, match="key_names must be of str, got 1 of type int"):
        GroupedMoments(key_names=[1, 2])
    with pytest.raises(ValueError, match="key_names must differ, got 'a' twice"):
        GroupedMoments(key_names=["a", "a"])
    with pytest.raises(ValueError, match="expected 2 channels, one for each name"):
        GroupedMoments(names=["a", "b"]).update(np.ones((2, 3)), [1, 2])
    g = GroupedMoments().update(np.ones((2, 3)), [1, 2])
    with pytest.raises(ValueError, match=r"names must fit channels of shape \(3,\)"):
        g.names = ["a"]
    with pytest.raises(TypeError, match="expected a GroupedMoments to merge, got Moments"):
        g.merge(Moments())
    with pytest.raises(ValueError, match=r"expected channels of shape \(3,\) as here, got \(2,\)"):
        g.merge(GroupedMoments().update(np.ones((2, 2)), [1, 2]))
    with pytest.raises(ValueError, match="expected plain statistics as here, got exact ones"):
        g.merge(GroupedMoments(exact=True).update(np.ones((2, 3)), [1, 2]))
    with pytest.raises(TypeError, match="expected keys of int as before, got str"):
        g.merge(GroupedMoments().update(np.ones((2, 3)), ["a", "b"]))
    with pytest.raises(ValueError, match="group 7: expected finite statistics"):
        g.merge(GroupedMoments(nan_policy="propagate").update(np.array([[1, 1, np.nan]]), [7]))
    a = GroupedMoments().update(np.ones((2, 3)), {"a": [1, 2]})
    with pytest.raises(ValueError, match=r"expected keys named \['a'\] as here, got \['b'\]"):
        a.merge(GroupedMoments().update(np.ones((2, 3)), {"b": [1, 2]}))
    assert len(g) == len(a) == 2
    with pytest.raises(TypeError, match="expected keys of int as before, got str"):
        g.merge(GroupedMoments(names=["x", "y", "z"]).update(np.ones((2, 3)), ["a", "b"]))
    assert g.names is g[1].names is g.total().names is None


@pytest.mark.parametrize("options", [{}, {"exact": True}, {"track": "min"}, {"exact": True, "track": "missing"}])
@pytest.mark.parametrize("n", [2, 3, 7])
def test_a_mask_of_channels(options, n):
    """Of how many rows a group has, and of their number in the batch, its meaning does not depend."""
    import pandas as pd

    x, where = np.arange(3.0 * n).reshape(n, 3), np.array([[True, False, True]])
    large = pd.DataFrame({"a": x[:, 0], "b": 2**60 + np.arange(n), "c": x[:, 2]})      # is read column by column
    keys = np.arange(n) % 2
    for batch in (x, large):
        g = GroupedMoments(**options).update(batch, keys, where=where)
        for key in (0, 1):
            assert g[key] == Moments(**options).update(batch[keys == key], where=where)
        if n != 3:
            assert GroupedMoments(**options).update(batch, keys, where=where[0]) == g


def missing_forms():
    """The same keys in every form; those of polars where it is installed."""
    import pandas as pd
    import pyarrow as pa

    texts, numbers = ["a", "b", None, "a", "c", "b"], [1, 2, None, 1, 5, 2]
    return [np.array(texts, object), texts, pd.Series(texts), pd.Categorical(texts), pd.Series(texts, dtype="string"),
            *forms_of_polars(texts, numbers),
            pa.array(texts), pa.array(texts).dictionary_encode(), pa.chunked_array([texts[:3], texts[3:]]),
            pa.chunked_array([texts[:2], texts[2:]]).dictionary_encode(), pa.array(texts).cast("large_string"),
            pa.DictionaryArray.from_arrays([0, 1, None, 3, 2, 1], ["a", "b", "c", "a"]),
            pa.DictionaryArray.from_arrays([0, 1, 3, 0, 2, 1], ["a", "b", "c", None]),
            pd.Series([*texts[:2], float("nan"), *texts[3:]]),
            pd.Series(numbers, dtype="Int64"), pa.array(numbers), numbers,
            pa.array(numbers, "int8"), np.ma.masked_equal([1, 2, 0, 1, 5, 2], 0), pa.array(numbers).dictionary_encode()]


def forms_of_polars(texts, numbers):
    if find_spec("polars") is None:
        return []
    import polars as pl

    return [pl.Series(texts), pl.Series(texts, dtype=pl.Categorical), pl.Series(texts, dtype=pl.Enum(["c", "b", "a"])),
            pl.Series(numbers)]


@pytest.mark.parametrize("keys", missing_forms(), ids=lambda keys: type(keys).__name__)
def test_missing_keys(keys):
    x = np.arange(6.0)
    kept, omitted = (GroupedMoments(missing_keys=how).update(x, keys) for how in ("keep", "omit"))
    first, second, third = list(omitted)
    assert (first, second, third) in [("a", "b", "c"), (1, 2, 5)]
    assert [m.mean.tolist() for m in omitted.values()] == [1.5, 3.0, 4.0]
    assert list(kept) == [first, second, third, None]
    assert [m.mean.tolist() for m in kept.values()] == [1.5, 3.0, 4.0, 2.0]
    with pytest.raises(ValueError, match="1 row has no key"):
        GroupedMoments().update(x, keys)
    x[2] = np.nan       # The rows that are left out may hold anything.
    assert GroupedMoments(missing_keys="omit").update(x, keys) == omitted


def test_all_keys_missing():
    g = GroupedMoments(missing_keys="omit").update(np.ones((2, 3)), [None, None])
    assert (len(g), g.mean.shape) == (0, (0, 3))
    assert g.to_pandas().shape == (0, 12)
    assert g.to_arrow().shape == (0, 13)
    assert "0 groups of channels (3,)" in g._repr_html_()
    with pytest.raises(ValueError, match="the state has no groups; update or fit it first"):
        g.normalize(np.ones((2, 3)), [1, 2])


@pytest.mark.parametrize("keys", [[1, 2], ["a", "b"], [True, False]])
def test_batches_whose_keys_are_all_missing(keys, tmp_path):
    """They say nothing of the kind of the others, before them or behind."""
    import pyarrow as pa

    x = np.array([[1.0], [3.0]])
    other = pa.nulls(2, pa.string() if keys == [1, 2] else pa.int32())
    for nothing in ([None, None], other, pa.nulls(2), [float("nan"), None]):
        for order in ((nothing, keys), (keys, nothing), (nothing, keys, nothing)):
            kept, omitted = GroupedMoments(missing_keys="keep"), GroupedMoments(missing_keys="omit")
            for these in order:
                kept.update(x, these)
                omitted.update(x, these)
            assert set(kept) == {*keys, None}
            assert kept[None].n.item() == 2 * len(order) - 2
            assert kept[keys[1]].mean.item() == omitted[keys[1]].mean.item() == 3.0
            assert sorted(omitted) == sorted(keys)
            with pytest.raises(TypeError, match="expected keys of "):
                omitted.update(x, ["a", "b"] if keys == [1, 2] else [1, 2])
            parts = [GroupedMoments(missing_keys="keep").update(x, these) for these in order]
            assert sum(parts, GroupedMoments()) == kept
            for i, part in enumerate(parts):
                save(tmp_path / f"{i}.npz", part)
            assert sum((load(tmp_path / f"{i}.npz") for i in range(len(parts))), GroupedMoments()) == kept


def test_lists_of_strings_are_read_as_they_are():
    """NumPy would make text of what stands among strings, and would end them at trailing zeros."""
    x = np.arange(3.0)
    with pytest.raises(ValueError, match="keys: 1 row has no key"):
        GroupedMoments().update(x, ["a", np.nan, "b"])
    for odd in (1, True, np.int64(1)):
        with pytest.raises(TypeError, match=r"keys must be of one kind, got \w+ and str"):
            GroupedMoments().update(x, ["a", odd, "b"])
    assert list(GroupedMoments(missing_keys="omit").update(x, ("a", np.nan, "a\0"))) == ["a", "a\0"]


def test_tables():
    """Integers that float64 would round are read column by column."""
    import pandas as pd

    frame = pd.DataFrame({"t": [2**60 + 1, 2**60 + 3, 2**60 + 7], "x": [0.5, 1.5, 2.5]})
    g = GroupedMoments().update(frame, pd.Series(["a", "a", "b"], name="k"))
    assert g.key_names == ("k",)
    assert g["a"] == Moments().update(frame[:2])
    assert g["a"].var().tolist() == [1.0, 0.25]


def test_what_takes_the_statistics_of_one_group_says_so():
    g = GroupedMoments().update(np.ones((2, 3)), [1, 2])
    with pytest.raises(TypeError, match=r"take those of all groups by total\(\), or of one by its key"):
        to_arrays(g, "pytorch")
    pytest.importorskip("matplotlib")
    from bnstream.plots import plot_histograms, plot_moments

    for plot in (plot_moments, plot_histograms):
        with pytest.raises(TypeError, match=r"^before must be a Moments.* got GroupedMoments; take those"):
            plot(g)


def test_tables_of_keys_that_need_care():
    """Names that columns of statistics have, integers that floats would round, and years."""
    import pandas as pd

    x, years = np.arange(4.0), [2024, 2**60 + 1, None, 2024]
    g = GroupedMoments(missing_keys="keep").update(x, {"mean": years})
    assert g.to_arrow().column_names == ["key_mean", "n", "mean", "std", "var"]
    assert g.to_arrow()["key_mean"].to_pylist() == [2024, 2**60 + 1, None]
    assert g.to_pandas().index.tolist() == [2024, 2**60 + 1, pd.NA]
    assert "<td>2024</td>" in g._repr_html_()
    assert '<th scope="col">key_mean</th>' in g._repr_html_()
    large = GroupedMoments(missing_keys="keep").update(x, [2**64 - 1, 1, None, 2])
    assert large.to_pandas().index.tolist() == [1, 2, 2**64 - 1, pd.NA]
    both = GroupedMoments().update(x, {"n": [1, 2, 3, 4], "key_n": ["a", "b", "c", "d"]})
    assert both.to_arrow().column_names[:2] == ["key_n", "key_key_n"]
    with pytest.raises(KeyError):
        g.to_pandas()["effective_n"]
    weighted = g.update(x, years, weights=[1, 2, 3, 3]).to_pandas()
    assert weighted["effective_n"].tolist() == [m.effective_n.item() for m in g.values()]


def test_small_updates():
    """What `update_few` does has the bits of the general way."""
    generator = rng(3)
    for channels, dtype, keys in ((17, "f4", np.arange(8)), (3, "f8", np.array([1, 2, 1, 1, 5], "i4")),
                                  (9, "f4", np.zeros(40, int))):
        g, wanted = GroupedMoments(nan_policy="omit"), {}
        for step in range(5):
            x = generator.normal(size=(len(keys), channels)).astype(dtype)
            x[0, 0] = [-0.0, 1e-320 if dtype == "f8" else 1e-45, np.nan, 1e200 if dtype == "f8" else 1e30, 1][step]
            g.update(x, keys)
            for key in set(keys.tolist()):
                wanted.setdefault(key, Moments(nan_policy="omit")).update(x[keys == key])
        assert all(same(g[key], m) for key, m in wanted.items())


def test_several_threads_update_one_object():
    x, keys = np.ones((8, 2), "f4"), np.arange(8)
    large, many = np.ones((50_000, 2), "f4"), np.arange(50_000) % 8
    g = GroupedMoments().update(x, keys)

    def work():
        for _ in range(50):
            g.update(x, keys)
            g.update(large, many)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (g.n == 1 + 200 * (1 + 6250)).all()


def test_normalize():
    x, keys = normal((3000, 4)) * 3 + 7, rng().choice(["a", "b", "c"], 3000)
    x[:, 3] = 5
    g = GroupedMoments(names=list("wxyz")).update(x, keys)
    y = g.normalize(x, keys)
    for key in "abc":
        rows = x[keys == key]
        expected = (rows - rows.mean(0)) / np.where(rows.std(0) > 0, rows.std(0), 1)
        np.testing.assert_allclose(y[keys == key], expected, rtol=0, atol=1e-13)
    np.testing.assert_allclose(g.normalize(y, keys, inverse=True), x, rtol=0, atol=1e-14)
    assert g.normalize(x.astype("f4"), keys).dtype == np.float32
    with pytest.raises(ValueError, match="the statistics have no group 'd'; fit these groups as well, or pass unk"):
        g.normalize(x[:2], ["a", "d"])
    total = g.total()
    np.testing.assert_allclose(g.normalize(x[:2], ["d", None], unknown="total"),
                               (x[:2] - total.mean) / np.where(total.std() > 0, total.std(), 1), atol=1e-14)
    assert np.isnan(g.normalize(x[:2], ["a", "d"], unknown="nan")).tolist() == [[False] * 4, [True] * 4]
    with pytest.raises(ValueError, match="unknown must be 'raise', 'total' or 'nan'"):
        g.normalize(x, keys, unknown="skip")
    with pytest.raises(ValueError, match=r"expected channels of shape \(4,\)"):
        g.normalize(x[:, :3], keys)
    with pytest.raises(ValueError, match="the state has no groups"):
        GroupedMoments().normalize(x, keys)
    empty = GroupedMoments(nan_policy="omit").update(np.array([[1.0], [np.nan]]), ["a", "b"])
    with pytest.raises(ValueError, match="group 'b' has no value of channel 0"):
        empty.normalize(np.ones((1, 1)), ["b"])


def test_normalize_images_and_large_integers():
    x, keys = normal((20, 3, 4, 5)).astype("f4"), np.arange(20) % 2
    g = GroupedMoments((0, 2, 3)).update(x, keys)
    y = g.normalize(x, keys)
    np.testing.assert_allclose(y[keys == 0].mean((0, 2, 3)), 0, atol=1e-6)
    np.testing.assert_allclose(y[keys == 1].std((0, 2, 3)), 1, atol=1e-6)
    t = np.array([2**62 + 1, 2**62 + 3, 5, 7])
    assert GroupedMoments().update(t, [0, 0, 1, 1]).normalize(t, [0, 0, 1, 1]).tolist() == [-1, 1, -1, 1]


def test_keys_that_are_found_already_are_as_many_as_rows():
    found = keys_of([0, 1], 2, "a batch", "raise", None)
    g = GroupedMoments().update(normal((2, 3)), found)
    with pytest.raises(ValueError, match=r"one key for each of the 3 rows of a batch of shape \(3, 3\) .*, got 2"):
        g.update(normal((3, 3)), found)
    assert len(g) == 2


@pytest.mark.parametrize("keys", [[], np.array([]), np.array([], np.uint64), np.array([], "U1"), {"k": []}])
def test_normalize_no_rows(keys):
    """There are no keys to look at, whatever their dtype."""
    for known in ([1, 2, 3], ["a", "b", "c"]):
        for dtype in ("f4", "f8", "i4"):
            y = GroupedMoments().update(normal((3, 2)), known).normalize(np.empty((0, 2), dtype), keys)
            assert (y.shape, y.dtype) == ((0, 2), np.dtype("f4" if dtype == "i4" else dtype))


@pytest.mark.parametrize("unknown", ["raise", "total", "nan"])
def test_normalize_refuses_keys_of_another_kind(unknown):
    """Every one of them would be unknown: numbers that were read as text, for instance."""
    x = normal((4, 2))
    for known, keys, message in [
        ([1, 2, 1, 2], ["1", "2", "1", "2"], "expected keys of int as before, got str; convert them"),
        (["1", "2", "1", "2"], [1, 2, 1, 2], "expected keys of str as before, got int"),
        ([1, 0, 1, 0], [True, False] * 2, "expected keys of int as before, got bool"),
        ([1, 2, 1, 2], [[1, 2, 1, 2], ["a"] * 4], "expected keys of int as before, got int and str"),
    ]:
        with pytest.raises(TypeError, match=message):
            GroupedMoments().update(x, known).normalize(x, keys, unknown=unknown)
    missing = GroupedMoments().update(x, [1, 2, 1, 2]).normalize(x, [None] * 4, unknown="nan")
    assert np.isnan(missing).all()


def test_normalize_reads_what_update_reads():
    x, keys = normal((50, 2)), np.arange(50) % 3
    g = GroupedMoments().update(x, keys)
    short = x.astype(ml_dtypes.bfloat16)
    y = g.normalize(short, keys)
    assert y.dtype == short.dtype
    np.testing.assert_allclose(y.astype(float), g.normalize(short.astype(float), keys), rtol=2.0**-8)
    for wrong in (x.astype(complex), x.astype(object), x.astype(str)):
        with pytest.raises(TypeError, match="cannot read dtype"):
            g.normalize(wrong, keys)


@pytest.mark.parametrize("policy", ["raise", "propagate"])
@pytest.mark.parametrize("batches", [[[1e160], [1.0]], [[1.0], [1e160], [-1.0]], [[1e300, 1e300], [-4e15]],
                                     [[1e155], [-1e155], [2.0, 3.0]], [[1e-300], [1e307]]], ids=str)
def test_large_values_in_batches_of_their_own(batches, policy, tmp_path):
    """A group of one large value has no m2 yet, which the next batch makes."""
    settings, second = {"nan_policy": policy}, np.nan if policy == "propagate" else 2.0
    updated, merged, loaded, pickled, weighted = (GroupedMoments(**settings) for _ in range(5))
    m, of_weights = Moments(**settings), Moments(**settings)
    for batch in batches:
        x = np.array([[value, second] for value in batch])
        keys = np.zeros(len(x), int)
        m.update(x)
        of_weights.update(x, weights=np.full(len(x), 0.5))
        updated.update(x, keys)
        merged.merge(GroupedMoments(**settings).update(x, keys))
        weighted.update(x, keys, weights=np.full(len(x), 0.5))
        save(tmp_path / "g.npz", loaded.update(x, keys))
        loaded = load(tmp_path / "g.npz")
        pickled = pickle.loads(pickle.dumps(pickled.update(x, keys)))
    assert np.isfinite(m.std()[0])
    for g in (updated, merged, loaded, pickled):
        assert same(g[0], m)
        assert same(g.total(), m)
    assert same(weighted[0], of_weights)


@pytest.mark.parametrize("n_groups", [1, 2, 3, 7, 1000])
@pytest.mark.parametrize("weighted", [False, True])
def test_total(n_groups, weighted):
    """It is within the bound, and has what a merge of all groups has; groups with a large m2 are among them."""
    x, keys = normal((3000, 2)), rng().integers(0, n_groups, 3000)
    g = GroupedMoments().update(x, keys, weights=rng(1).random(3000) if weighted else None)
    merged = sum((g[key] for key in g), Moments())
    assert (g.total().n == merged.n).all()
    np.testing.assert_allclose([g.total().mean, g.total().var()], [merged.mean, merged.var()], rtol=1e-13)
    if not weighted:
        assert_within(g.total().mean, g.total().var(), exact_states(x))
    g.update([[1e200, 1.0], [-1e200, 2.0]], [0, n_groups - 1])
    merged = sum((g[key] for key in g), Moments())
    np.testing.assert_allclose(g.total().std(), merged.std(), rtol=1e-13)
    assert GroupedMoments().total() == Moments()


def test_tables_by_group():
    import pandas as pd

    x = normal((60, 2))
    keys = {"carrier": np.arange(60) % 3, "month": np.array(["jan", "feb"])[np.arange(60) % 2]}
    g = GroupedMoments(names=["delay", "distance"]).update(x, keys)
    frame = pd.DataFrame({**keys, "delay": x[:, 0], "distance": x[:, 1]}).groupby(["carrier", "month"])
    table = g.to_pandas(ddof=1)
    expected = frame.agg(["count", "mean", "std", "var"])
    assert table.index.names == ["carrier", "month"]
    np.testing.assert_allclose(table.sort_index().to_numpy(), expected.to_numpy(), rtol=1e-12)
    assert list(table.columns) == [f"{c}_{s}" for c in ("delay", "distance") for s in ("n", "mean", "std", "var")]
    arrow = g.to_arrow(ddof=1)
    assert arrow.column_names == ["carrier", "month", *table.columns]
    assert arrow["month"].to_pylist() == [key[1] for key in g]
    assert "<td>feb</td>" in g._repr_html_()
    many = GroupedMoments().update(normal((100, 1)), np.arange(100))
    assert "80 more" in many._repr_html_()
    assert many.to_pandas().index.name == "key"
    assert list(many.to_pandas().columns) == ["n", "mean", "std", "var"]
    assert "empty" in GroupedMoments()._repr_html_()


if __name__ == "__main__":
    print(digest(int(sys.argv[1])))


@pytest.mark.parametrize("kind", [int, str])
@pytest.mark.parametrize("options", [{}, {"exact": True}, {"track": "min"}])
@pytest.mark.parametrize("place", ["add", "take_over"])
def test_an_update_that_ends_while_it_is_taken_over_changes_nothing(kind, options, place, monkeypatch):
    """As by an interruption, or for lack of memory, among groups that are known and new ones."""
    x, keys = np.arange(80.0).reshape(40, 2), [kind(i % 30) for i in range(40)]
    g = GroupedMoments(**options).update(x[:20], keys[:20])
    before, expected = g.copy(), g.copy().update(x, keys)
    real = Index.add

    def interrupted(*arguments):
        if place == "add":
            real(*arguments)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Index if place == "add" else grouped, place, interrupted)
        with pytest.raises(KeyboardInterrupt):
            g.update(x, keys)
    assert g == before
    assert list(g) == list(before)
    assert kind(25) not in g
    with pytest.raises(KeyError):
        g[kind(25)]
    assert g.update(x[:4], [kind(50 + i) for i in range(4)])[kind(53)].n.tolist() == [1, 1]
    assert before.update(x, keys) == expected


@pytest.mark.parametrize("kind", [int, str])
def test_a_merge_that_is_interrupted_is_whole_or_nothing(kind, monkeypatch):
    """Settings change with the states."""
    x = np.arange(24.0).reshape(12, 2)
    a = GroupedMoments(track="min").update(x, [kind(i) for i in range(12)])
    b = GroupedMoments().update(x, [kind(i + 6) for i in range(12)])
    before, merged, real = a.copy(), a.copy().merge(b), grouped.take_over

    def interrupted(*arguments):
        real(*arguments)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(grouped, "take_over", interrupted)
        with pytest.raises(KeyboardInterrupt):
            a.merge(b)
    assert a == merged
    assert (a.track, a[kind(0)].track) == (merged.track, merged[kind(0)].track)
    assert before.track != merged.track


@pytest.mark.parametrize("kind", [int, str])
def test_keys_are_forgotten_without_memory(kind):
    testcapi = pytest.importorskip("_testcapi", reason="needs the test modules of CPython")
    index = Index()
    keys = np.arange(400) if kind is int else [str(i) for i in range(400)]
    more = np.arange(400, 420) if kind is int else [str(i) for i in range(400, 420)]
    index.add(keys)
    index.add(more)
    testcapi.set_nomemory(0, 0)
    try:
        index.cut(400)
    finally:
        testcapi.remove_mem_hooks()
    assert len(index) == 400
    assert index.place(kind(399)) == 399
    assert index.place(kind(400)) == -1
    assert index.find(more).tolist() == [-1] * 20
    index.add(more[10:])
    assert index.place(kind(410)) == 400


def test_no_memory_for_the_scratch(monkeypatch):
    """A later update works, once there is memory."""
    x, keys = np.arange(80.0).reshape(40, 2), np.arange(40) % 3
    g = GroupedMoments()
    real = np.empty

    def without_memory(shape, *arguments, **options):
        if shape and arguments == (np.uint8,):      # the scratch, once its place is there
            raise MemoryError
        return real(shape, *arguments, **options)

    monkeypatch.setattr(np, "empty", without_memory)
    with pytest.raises(MemoryError):
        g.update(x, keys)
    monkeypatch.undo()
    assert len(g) == 0
    assert g.update(x, keys) == GroupedMoments().update(x, keys)
