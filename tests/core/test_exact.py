"""Exact statistics against arithmetic of fractions, to the last bit, and their laws."""

import copy
import itertools
import os
import pickle
import re
from fractions import Fraction

import numpy as np
import pytest
from support import nist
from support.arrays import BFLOAT16, DTYPES, HARD, LAYOUTS, normal, of_dtype, rng
from support.cases import pairwise
from support.exact_oracle import VIEWS, assert_exact, channels_of, wild
from support.processes import python

import bnstream
from bnstream import Moments
from bnstream.core.exactsums import quotient, square_root


@pytest.mark.parametrize(("view", "layout", "dtype", "data"),
                         pairwise(VIEWS, LAYOUTS, DTYPES, ["ordinary", "wild", "with NaN"]), ids=str)
def test_grid(view, layout, dtype, data):
    shape, axis = VIEWS[view]
    x = of_dtype(dtype, shape) if data != "wild" else wild(dtype, shape)
    if data == "with NaN" and x.dtype.kind not in "iub":
        x.flat[::5], x.flat[1::7], x.flat[2::11] = np.nan, np.inf, -np.inf
    x = LAYOUTS[layout](x)
    m = Moments(axis, exact=True, nan_policy="omit").update(x)
    assert_exact(m, channels_of(x, axis), 1)
    where = rng(3).random(x.shape) < 0.6
    masked = Moments(axis, exact=True, nan_policy="omit").update(x, where=where)
    assert_exact(masked, channels_of(x, axis, where), 0.5)
    rest = Moments(axis, exact=True, nan_policy="omit").update(x, where=~where)
    assert masked.merge(rest).digest() == m.digest()


@pytest.mark.parametrize("name", nist.SETS)
def test_nist(name):
    x = np.asarray(nist.SETS[name][0], np.float64)[:, np.newaxis]
    assert_exact(Moments(exact=True).update(x), channels_of(x, 0), 1)


@pytest.mark.parametrize("name", HARD)
def test_hard_sets(name):
    m = Moments(exact=True).update(HARD[name])
    assert_exact(m, channels_of(HARD[name], 0), 1)


@pytest.mark.parametrize("shape", [(12, 5, 1), (12, 1, 4), (12, 1, 1), (1, 5, 4)])
def test_masks_that_broadcast(shape):
    x, where = normal((12, 5, 4)), rng(1).random(shape) < 0.5
    for axis in (0, (0, 2), 1):
        assert_exact(Moments(axis, exact=True).update(x, where=where), channels_of(x, axis, where))


@pytest.mark.parametrize("dtype", ["f8", "f4", "f2", BFLOAT16, "i8", "u8", "i4", "u1"], ids=str)
def test_any_cut_and_order(dtype):
    """The state is the same, to the byte, for any partition, order, layout and number of threads."""
    x = np.concatenate([of_dtype(np.dtype(dtype), (3000, 5)), wild(dtype, (100, 5))])
    whole = Moments(exact=True).update(x)
    for seed in range(5):
        order, cuts = rng(seed).permutation(len(x)), np.sort(rng(seed).integers(0, len(x), 6))
        parts = [Moments(exact=True).update(np.asfortranarray(part) if seed % 2 else part, n_threads=1 + seed)
                 for part in np.split(x[order], cuts)]
        rng(seed).shuffle(parts)
        merged = sum(parts, Moments(exact=True))
        assert merged == whole
        assert merged.digest() == whole.digest()
        assert pickle.dumps(merged) == pickle.dumps(whole)
    other = x.copy()
    if other.dtype.kind in "iu":
        other[1, 2] ^= 1
    else:
        other[1, 2] = np.nextafter(np.float64(other[1, 2]), np.inf) if dtype == "f8" else -other[1, 2]
    assert Moments(exact=True).update(other) != whole
    assert Moments(exact=True).update(other).digest() != whole.digest()


@pytest.mark.parametrize(("dtype", "digits"), [("f4", 24), ("f8", 53), (BFLOAT16, 8)], ids=str)
def test_ranges(dtype, digits):
    """To the widest range whose sums are exact in doubles, and beyond it."""
    for span in range(10, 48):
        x = np.where(rng(span).random((300, 20)) < 0.5, 2.0**span, 1.0) * rng(span + 1).integers(
            2**(digits - 1), 2**digits, (300, 20), endpoint=True)
        x = (x * rng(span + 2).choice([-1, 1], (1, 20))).astype(dtype)
        assert_exact(Moments(exact=True).update(x), channels_of(x, 0))


def test_equal():
    """States are equal if counts, sums and sums of squares are, whatever the units of these."""
    values = [[1.0, 3.0], [0.0, 4.0], [1.0, 3.0, 0.0], [1.5, 3.0], [np.nan, 1.0], [np.inf, 1.0], [-np.inf, 1.0]]
    states = [Moments(exact=True, nan_policy="propagate").update(value) for value in values]
    for (i, a), (j, b) in itertools.product(enumerate(states), repeat=2):
        assert (a == b) is (a.digest() == b.digest()) is (i == j)
    assert states[0] == Moments(exact=True).update(np.uint8([1, 3]))
    assert states[0] != Moments(exact=True).update([[1.0], [3.0]])


def test_dtypes_mix():
    """A number is the same in any dtype that holds it."""
    x = rng().integers(0, 100, (50, 3))
    dtypes = ("u1", "i2", "i8", "u8", "f2", "f4", "f8")
    digests = {Moments(exact=True).update(x.astype(dtype)).digest() for dtype in dtypes}
    assert len(digests) == 1
    m = Moments(exact=True)
    for values in (x.astype("u1"), normal((20, 3)), normal((20, 3)).astype("f4")):
        m.update(values)
    assert_exact(m, [a + b + c for a, b, c in zip(
        *(channels_of(v, 0) for v in (x, normal((20, 3)), normal((20, 3)).astype("f4"))), strict=True)])


def test_unmerge():
    x = normal((100, 3))
    whole, part = Moments(exact=True).update(x), Moments(exact=True).update(x[30:60])
    left = whole - part
    assert left == Moments(exact=True).update(x[:30]).update(x[60:])
    assert whole == Moments(exact=True).update(x)
    assert left.merge(part) == whole
    nothing = whole.copy().unmerge(whole)
    assert nothing.n.tolist() == [0, 0, 0]
    assert np.isnan(nothing.mean).all()
    for empty in (Moments(exact=True), Moments()):
        assert whole.unmerge(empty).n.tolist() == [100, 100, 100]


def test_the_empty_plain_object_is_the_identity():
    """As for plain statistics; the result is exact, and its own."""
    x = normal((30, 3))
    parts = [Moments(exact=True).update(part) for part in np.split(x, 3)]
    whole = Moments(exact=True).update(x)
    for total in (sum(parts, Moments()), Moments() + whole, whole + Moments(), Moments().merge(Moments()).merge(whole)):
        assert (total.exact, total) == (True, whole)
        assert (total.digest(), pickle.dumps(total)) == (whole.digest(), pickle.dumps(whole))
        total.update(x)
        assert whole.n.tolist() == [30] * 3
        assert total - whole == whole
    named = Moments((0, 1), nan_policy="propagate", names=["a", "b", "c"]).merge(whole)
    assert (named.axis, named.nan_policy, named.names) == ((0, 1), "propagate", ("a", "b", "c"))
    assert named == whole
    holes = Moments(exact=True, nan_policy="propagate").update([[np.nan, 1.0, 2.0]])
    assert Moments(nan_policy="propagate").merge(holes) == holes
    for refused, message in ((holes, "expected finite statistics"), (named, "expected channels named")):
        m = Moments(names=["a", "c", "b"])
        with pytest.raises(ValueError, match=message):
            m.merge(refused)
        assert (m, m.exact) == (Moments(), False)


def test_names_of_parts(unchanged):
    """They are those of the whole, as for merge, where both have names."""
    x = normal((10, 3))
    plain, part = Moments(exact=True).update(x), Moments(exact=True).update(x[:4])
    named, named_part = (Moments(exact=True, names=["a", "b", "c"]).merge(m) for m in (plain, part))
    for whole, some in itertools.product((plain, named), (part, named_part)):
        left = whole - some
        assert (left, left.names) == (Moments(exact=True).update(x[4:]), whole.names)
    other = Moments(exact=True, names=["a", "c", "b"]).merge(part)
    message = r"^expected channels named \['a', 'b', 'c'\] as here, got \['a', 'c', 'b'\] in the other Moments$"
    unchanged(named, ValueError, message, lambda m: m.unmerge(other))
    unchanged(named, ValueError, message, lambda m: m - other)


def test_one_value_has_no_spread(unchanged):
    """Of 0, 3 and 4 without 2 and 2 the count, the sum and the sum of squares are 1, 3 and 17."""
    for values, other in (([0, 3, 4], [2, 2]), ([1, 2], [0, 3]), ([0.0, 1.0], [0.5])):
        m, other = (Moments(exact=True).update(np.reshape(some, (-1, 1))) for some in (values, other))
        unchanged(m, ValueError, "expected a part of these statistics to take out, got other data: no data has the "
                                 "statistics of channel 0 that would be left", lambda m, other=other: m.unmerge(other))


def test_what_is_no_part(unchanged):
    x = normal((100, 3))
    whole = Moments(exact=True).update(x)
    more = Moments(exact=True).update(np.concatenate([x, x]))
    large = Moments(exact=True).update(x[:10] * 100)
    for other in (more, large):
        unchanged(whole, ValueError, "no data has the statistics of channel 0 that would be left",
                  lambda m, other=other: m.unmerge(other))
    unchanged(whole, ValueError, "only exact statistics can be taken apart", lambda m: m.unmerge(Moments().update(x)))
    unchanged(whole, ValueError, r"expected channels of shape \(3,\) as here, got \(2,\)",
              lambda m: m.unmerge(Moments(exact=True).update(x[:, :2])))
    named = Moments(exact=True, names=list("abcd")).update(np.c_[x[:4], np.ones(4)])
    unchanged(whole, ValueError, r"expected channels of shape \(3,\) as here, got \(4,\)", lambda m: m.unmerge(named))
    unchanged(whole, TypeError, "expected a Moments to take out, got ndarray", lambda m: m.unmerge(x))
    unchanged(Moments().update(x), ValueError, "only exact statistics can be taken apart", lambda m: m.unmerge(whole))


def test_refused(unchanged):
    x = normal((10, 3))
    m = Moments(exact=True).update(x)
    for weight in (0.5, 2.0**53, 1e17, -1, np.nan, np.inf):
        unchanged(m, ValueError, "^weights of exact statistics count how often a row is there: expected integers from "
                                 rf"0 to below 2\*\*53, got {re.escape(str(weight))}; scale them to integers, or make",
                  lambda m, weight=weight: m.update(x, weights=np.full(10, weight)))
    unchanged(m, ValueError, r"weights .*\(9,\)", lambda m: m.update(x, weights=np.ones(9)))
    unchanged(m, TypeError, "weights must be of real numbers", lambda m: m.update(x, weights=np.full(10, 1j)))
    unchanged(m, ValueError, "NaN or inf in 1 of 3 channels", lambda m: m.update(
        np.where(x == x[2, 1], np.nan, x), weights=np.arange(10)))
    unchanged(m, ValueError, "expected exact statistics as here, got plain", lambda m: m.merge(Moments().update(x)))
    unchanged(Moments().update(x), ValueError, "expected plain statistics as here, got exact", lambda a: a.merge(m))
    unchanged(Moments(exact=True), ValueError, "expected exact statistics as here, got plain",
              lambda a: a.merge(Moments().update(x)))
    unchanged(m, ValueError, r"expected channels of shape \(3,\)", lambda m: m.update(x[:, :2]))
    unchanged(m, ValueError, "NaN or inf in 1 of 3 channels, the first at index 1",
              lambda m: m.update(np.where(x == x[2, 1], np.nan, x)))
    with pytest.raises(ValueError, match="only exact statistics have a digest"):
        Moments().digest()


def test_update_while_exact_statistics_come(monkeypatch):
    """Another thread may make an empty object exact while a plain update allocates. Neither is lost without a word."""
    x, zeros, m = normal((10, 3)), np.zeros, Moments()

    def allocate(*args, **options):
        monkeypatch.undo()
        m.merge(Moments(exact=True).update(x))
        return zeros(*args, **options)

    monkeypatch.setattr(np, "zeros", allocate)
    with pytest.raises(ValueError, match="expected exact statistics as here, got plain"):
        m.update(x)
    assert m == Moments(exact=True).update(x)


def test_a_refused_batch_leaves_nothing(monkeypatch):
    """Also where no memory is left to find out which channels are to blame."""
    m, wanted = (Moments(exact=True).update(normal((10, 3))) for _ in range(2))

    def no_memory(*args, **options):
        raise MemoryError

    for bad in (np.nan, np.inf):
        monkeypatch.setattr(np, "zeros", no_memory)
        with pytest.raises(MemoryError):
            m.update([[1.0, bad, 3.0]])
        monkeypatch.undo()
        assert m == wanted
        assert m.update([[1.0, 2.0, 3.0]]) == wanted.update([[1.0, 2.0, 3.0]])


def test_sums_that_are_widened_during_an_update(monkeypatch):
    """Another thread may come while the dtype of a batch is looked up, which runs Python for bfloat16."""
    x, finds = normal((10, 3)).astype(BFLOAT16), []
    m = Moments(exact=True).update(normal((5, 3)).astype(BFLOAT16))
    wanted = m.copy().update(x).update(normal((7, 3)))
    find = np._core._dtype._name_get

    def widen(dtype):
        if not finds:
            finds.append(m.update(normal((7, 3))))
        return find(dtype)

    monkeypatch.setattr(np._core._dtype, "_name_get", widen)
    m.update(x)
    assert finds
    assert m == wanted


@pytest.mark.parametrize("ddof", [-np.inf, np.inf, np.nan, 1e308, -1e308])
def test_extreme_ddof(ddof):
    exact, plain = Moments(exact=True).update([[1.0], [3.0]]), Moments().update([[1.0], [3.0]])
    assert np.array_equal(exact.var(ddof), plain.var(ddof), equal_nan=True)
    assert np.array_equal(exact.std(ddof), plain.std(ddof), equal_nan=True)


def test_empty_objects_with_names():
    for exact in (False, True):
        m = Moments(names=["a", "b"], exact=exact)
        assert repr(m).endswith(": empty")
        assert "empty" in m._repr_html_()


def test_exact_is_a_bool():
    for call in (lambda: Moments(exact="no"), lambda: bnstream.mean_var([[1.0]], exact="False")):
        with pytest.raises(TypeError, match="exact must be True or False, got '"):
            call()


def test_rows_of_a_channel_without_values():
    m = Moments(exact=True).update(np.ones((4, 2)), where=np.broadcast_to([True, False], (4, 2)))
    with pytest.raises(ValueError, match="needs n > 1 in every channel, got n = 0"):
        bnstream.BatchNorm(2).recalibrate(m)


def test_forged_pickles():
    m = Moments(exact=True).update(normal((10, 3)))
    state = m.__getstate__()
    shape, counts, *sums = state["exact"]
    for wrong in ((shape, np.full((4, 3), 2**62), *sums), ((1,), counts, *sums), (shape, counts[:, :2], *sums),
                  (shape, counts, sums[0][:2], *sums[1:]), (shape, -counts, *sums),
                  (shape, counts + np.array([[0], [1], [0], [0]]), *sums)):
        with pytest.raises(ValueError, match=r"expected|no data|broadcast"):
            Moments().__setstate__({**state, "exact": wrong})


def test_not_finite():
    """What is not finite is counted apart, and takes part in what follows."""
    x = np.array([[np.nan, np.inf, -np.inf, np.inf, 1.0], [1.0, 1.0, 1.0, -np.inf, 3.0]])
    m = Moments(exact=True, nan_policy="propagate").update(x)
    assert m.n.tolist() == [2] * 5
    assert np.array_equal(m.mean, [np.nan, np.inf, -np.inf, np.nan, 2.0], equal_nan=True)
    assert np.array_equal(m.var(), [np.nan] * 4 + [1.0], equal_nan=True)
    assert m != Moments(exact=True, nan_policy="propagate").update(-x)
    finite = m - Moments(exact=True, nan_policy="propagate").update(x[:1])
    assert finite.mean.tolist() == [1.0, 1.0, 1.0, -np.inf, 3.0]
    with pytest.raises(ValueError, match="expected finite statistics, as nan_policy='raise' has them here"):
        Moments(exact=True).merge(m)


def test_largest_numbers():
    """No sum overflows, nor do squares."""
    x = np.full((4, 2), np.finfo("f8").max)
    x[2:, 1] *= -1
    m = Moments(exact=True).update(x)
    assert m.mean.tolist() == [np.finfo("f8").max, 0.0]
    assert m.var().tolist() == [0.0, np.inf]
    assert m.std().tolist() == [0.0, np.finfo("f8").max]
    tiny = np.array([[5e-324], [1.5e-323]])
    assert Moments(exact=True).update(tiny).std().tolist() == [5e-324]


def test_empty_and_copies():
    m = Moments(exact=True)
    assert (m.exact, m.shape, m.n) == (True, None, 0)
    assert np.isnan(m.mean)
    assert m.update(np.empty((0, 3))).shape is None
    assert m == Moments(exact=True) != Moments()
    assert m.digest() != Moments(exact=True, names=["a"]).digest()
    m = Moments(-1, exact=True, nan_policy="omit", names=["a", "b"]).update([[1.0, 2.0], [np.nan, 5.0]])
    for other in (m.copy(), copy.deepcopy(m), pickle.loads(pickle.dumps(m))):
        assert other == m
        assert (other.axis, other.nan_policy, other.names, other.exact) == (-1, "omit", ("a", "b"), True)
        assert other.digest() == m.digest()
    assert m.copy().update([[0.0], [1.0]]) != m


def test_rounding():
    """Ties go to even, also below the least normal number; the next fraction does not."""
    for bits, unit in itertools.product((2**52, 2**52 + 1, 2**53 - 1), (0, -1074, -1126, 900)):
        above_a_tie = 2**100 * (2 * bits + 1) + 1, 2**101
        for numerator, denominator in ((2 * bits + 1, 2), above_a_tie, (bits, 3), (2**60 - 1, bits)):
            exact = Fraction(numerator, denominator) * Fraction(2)**unit
            assert quotient(numerator, denominator, unit) == float(exact)
            root = square_root(numerator, denominator, unit)
            if root > 0:
                below, above = (Fraction(root) + Fraction(np.nextafter(root, end)) for end in (0.0, np.inf))
                assert below**2 <= 4 * exact <= above**2


def test_roots_in_doubt():
    """Roots that lie halfway between two doubles, or beside it by the least that a fraction can."""
    for a in (2**52 + 1, 2**52 + 2, 2**53 - 1, 3 * 2**51 + 7):
        half = 2 * a + 1
        assert square_root(half**2, 4, 0) == float(a + a % 2)           # a tie
        assert square_root(half**2 * 10**40 + 1, 4 * 10**40, 0) == float(a + 1)
        assert square_root(half**2 * 10**40 - 1, 4 * 10**40, 0) == float(a)


@pytest.mark.parametrize("options", [{}, {"ddof": 1}, {"keepdims": True}, {"axis": 1}, {"dtype": "f4"}], ids=str)
def test_mean_var(options):
    x = normal((20, 3)).astype("f4")
    mean, var = bnstream.mean_var(x, exact=True, **options)
    axis = options.get("axis", 0)
    m = Moments(axis, exact=True).update(x)
    plain, _ = bnstream.mean_var(x, **options)
    assert mean.shape == var.shape == plain.shape
    assert mean.dtype == var.dtype == options.get("dtype", np.float64)
    assert np.array_equal(mean.ravel(), m.mean.astype(mean.dtype))
    assert np.array_equal(var.ravel(), m.var(options.get("ddof", 0)).astype(mean.dtype))
    assert np.isnan(bnstream.mean_var(np.empty((0, 3)), exact=True)[0]).tolist() == [True] * 3


def test_tables():
    """Each column by itself, and missing values as the policy has them."""
    pandas = pytest.importorskip("pandas")
    table = pandas.DataFrame({"a": [2**62 + 1, 2**62 + 2, 0], "b": [0.1, np.nan, 0.3], "c": [True, False, True]})
    m = Moments(exact=True, nan_policy="omit").update(table)
    assert m.n.tolist() == [3, 2, 3]
    assert m.mean[0] == float(Fraction(2**63 + 3, 3))
    rows = Moments(1, exact=True, nan_policy="propagate").update(table)
    assert np.isnan(rows.mean).tolist() == [False, True, False]
    assert m.merge(m).n.tolist() == [6, 4, 6]


def test_as_plain_statistics():
    """What takes the rows of a plain state gets them from the exact sums."""
    x = normal((100, 3)) * 1e3 + 1e9
    exact, plain = Moments(exact=True).update(x), Moments().update(x)
    bn = bnstream.BatchNorm(3, momentum=None)
    bn.recalibrate(exact)
    assert np.array_equal(bn.running_mean, exact.mean)
    bn.train()(x)                       # The pooled statistics are plain.
    assert bn.pooled.n.tolist() == [200] * 3
    np.testing.assert_allclose(exact.m2, plain.m2, rtol=1e-14)
    assert "mean" in repr(exact)
    assert exact.effective_n.tolist() == [100.0] * 3


FORK = """
import os, signal, threading, warnings
import numpy as np
from bnstream import Moments

warnings.simplefilter("ignore", DeprecationWarning)     # from fork with other threads, since Python 3.12
small, large = np.random.default_rng(0).normal(size=(4, 50)), np.random.default_rng(1).normal(size=(20_000, 50))
parts = [Moments(exact=True).update(batch) for batch in (small, large)]
m, stopped = Moments(exact=True), threading.Event()

def update():
    while not stopped.is_set():
        for batch in (small, small, small, large):
            m.update(batch, n_threads=1)

thread = threading.Thread(target=update)
thread.start()
while m.shape is None:
    pass
children = []
for _ in range(50):
    child = os.fork()
    if not child:
        signal.alarm(20)        # It ends a child that hangs.
        n, whole = int(m.n[0]), m.copy()
        rounds, rest = divmod(n, 3 * len(small) + len(large))
        wanted = Moments(exact=True).update(small, weights=np.full(4, 3 * rounds + rest // 4))
        if rounds:
            wanted.update(large, weights=np.full(len(large), rounds))
        good = whole.digest() == m.digest() == wanted.digest() and m.update(small).n[0] == n + 4
        os._exit(0 if good and m.unmerge(whole) == parts[0] else 1)
    children.append(child)
found = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
stopped.set()
thread.join()
assert found == [0] * 50, found
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_fork_during_an_update():
    """A child has a whole state, whatever another thread did at that moment, and does not hang."""
    python("-c", FORK)
