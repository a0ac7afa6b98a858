"""Quantiles against NumPy's exact ones: equal while all values are kept, within the bound of ranks from then on."""

import copy
import pickle

import numpy as np
import pytest
from support.cases import thorough
from support.examples import run_examples

from bnstream.sketches import Quantiles
from bnstream.sketches.quantiles import SLICE_ROWS

pytest.importorskip("datasketches")

N = 40_000
Q = np.linspace(0, 1, 201)
DATA = {
    "normal": lambda rng, n: rng.normal(size=n),
    "wide": lambda rng, n: rng.lognormal(sigma=40, size=n),         # over 100 orders of magnitude
    "mostly zero": lambda rng, n: np.where(rng.random(n) < 0.6, 0, rng.exponential(size=n)),
    "counts": lambda rng, n: rng.poisson(5, size=n),
    "ascending": lambda rng, n: np.sort(rng.normal(size=n)),
    "descending": lambda rng, n: np.sort(rng.normal(size=n))[::-1],
    "offset 1e8": lambda rng, n: 1e8 + rng.normal(size=n),
    "two clusters": lambda rng, n: np.where(rng.random(n) < 0.5, -1e300, 1e300) * (1 + rng.random(n)),
}


def rank_errors(x, estimates, q):
    """How far q lies outside of the ranks of its estimate: the fraction of values below it, and that up to it."""
    x = np.sort(np.asarray(x, float))
    below, up_to = (np.searchsorted(x, estimates, side) / len(x) for side in ("left", "right"))
    return np.maximum(0, np.maximum(below - q, q - up_to))


def merged(parts):
    """Merge in a tree, neighbors first."""
    while len(parts) > 1:
        parts = [a.merge(b) for a, b in zip(parts[::2], parts[1::2], strict=False)] + parts[len(parts) // 2 * 2:]
    return parts[0]


def exactly(x, q):
    return np.quantile(np.asarray(x, np.float64), q, axis=0, method="inverted_cdf")


@pytest.mark.parametrize("kind", DATA)
def test_ranks_are_within_the_bound(kind):
    """In all of 20 trials, though one in 100 may be outside."""
    rng, k, worst = np.random.default_rng(0), 100, []
    for _ in range(thorough(100, 20)):
        x = np.asarray(DATA[kind](rng, N))
        parts = np.array_split(x, rng.integers(1, 12))
        found = merged([Quantiles(1, k=k).update(part[:, np.newaxis]) for part in parts])
        bound = found.rank_error[0]
        assert found.n == N
        assert (found.min[0], found.max[0]) == (x.min(), x.max())
        worst.append(rank_errors(x, found.quantile(Q)[:, 0], Q).max())
    assert np.mean(np.array(worst) > bound) <= 0.01
    assert bound == pytest.approx(0.0261, rel=0.01)


def test_the_bound_shows_a_wrong_merge():
    """A sketch that has not seen a tenth of the data, all of it above the rest, is outside of the bound."""
    x = np.arange(N, dtype=float)
    found = Quantiles(1).update(x[: N * 9 // 10, np.newaxis])
    assert rank_errors(x, found.quantile(Q)[:, 0], Q).max() > 10 * found.rank_error[0]


def test_less_error_with_more_k():
    bounds = [Quantiles(1, k=k).update(np.arange(N)[:, np.newaxis]).rank_error[0] for k in (100, 200, 800)]
    assert bounds == pytest.approx([0.02608, 0.01329, 0.00345], rel=0.01)


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", ">f8", "int8", "uint64", "bool"])
@pytest.mark.parametrize("n", [1, 2, 3, 100, 800])
def test_few_values_are_exact(dtype, n):
    x = np.random.default_rng(n).normal(0, 50, (n, 3)).astype(dtype)
    found = Quantiles(3).update(x)
    assert found.quantile(Q).tolist() == exactly(x, Q).tolist()
    assert found.rank_error.tolist() == [0, 0, 0]
    assert found.quantile(0.3).tolist() == exactly(x, 0.3).tolist()


def test_bfloat16():
    ml_dtypes = pytest.importorskip("ml_dtypes")
    x = np.random.default_rng(0).normal(size=(100, 2)).astype(ml_dtypes.bfloat16)
    assert Quantiles(2).update(x).quantile(Q).tolist() == exactly(x, Q).tolist()


def test_shapes_of_q():
    found = Quantiles(2).update([[1.0, 10.0], [2.0, 20.0], [3.0, 30.0]])
    assert found.quantile(0.5).tolist() == [2, 20]
    assert found.quantile([0, 1]).tolist() == [[1, 10], [3, 30]]
    assert found.quantile([[0.5], [0.9]]).shape == (2, 1, 2)
    assert found.quantile([]).shape == (0, 2)
    assert Quantiles(0).update(np.empty((3, 0))).quantile([0.1, 0.2]).shape == (2, 0)


def test_the_extremes_are_exact():
    x = np.random.default_rng(0).permutation(np.arange(10.0 * N))[:, np.newaxis]
    found = Quantiles(1, k=8).update(x)
    assert found.quantile([0, 1])[:, 0].tolist() == [found.min[0], found.max[0]] == [0, 10 * N - 1]


def test_layouts_and_slices_agree():
    """Any strides, any cut into updates, and more rows than are sorted at a time."""
    n = 2 * SLICE_ROWS + 5
    x = np.random.default_rng(0).normal(size=(n, 2)).astype(np.float32)
    before = x.copy()
    for one in (x, np.asfortranarray(x), np.repeat(x, 2, axis=1)[:, ::2], x[::-1]):
        found = Quantiles(2).update(one)
        assert found.n.tolist() == [n, n]
        assert found.min.tolist() == x.min(axis=0).tolist()
        for c in range(2):
            assert rank_errors(x[:, c], found.quantile(Q)[:, c], Q).max() < found.rank_error[c]
    assert np.array_equal(x, before)


@pytest.mark.parametrize("dtype", ["float32", "float64", "int32"])
def test_where(dtype):
    rng = np.random.default_rng(0)
    x = rng.integers(-100, 100, (300, 3)).astype(dtype)
    mask = rng.random(x.shape) < 0.5
    mask[:, 2] = False
    found = Quantiles(3).update(x, where=mask)
    assert found.n.tolist() == [*mask.sum(axis=0)]
    for c in range(2):
        assert found.quantile(Q)[:, c].tolist() == exactly(x[mask[:, c], c], Q).tolist()
    assert np.isnan(found.quantile(0.5)[2])
    assert np.isnan(found.min[2])


def test_nan_that_counts_makes_nan():
    x = np.array([[1.0, np.nan], [2.0, 5.0]])
    found = Quantiles(2).update(x)
    assert found.quantile(0.5)[0] == 1
    assert np.isnan([found.quantile(0.5)[1], found.min[1], found.max[1]]).all()
    left_out = Quantiles(2).update(x, where=~np.isnan(x))
    assert left_out.quantile([0, 1])[:, 1].tolist() == [5, 5]
    assert np.isnan(left_out.merge(found).quantile(0.5)[1])
    assert np.isnan(left_out.copy().quantile(0.5)[1])
    assert np.isnan(Quantiles(2).update(x, where=np.ones((2, 2), bool)).quantile(0.5)[1])


def test_inf_is_a_value():
    found = Quantiles(1).update([[-np.inf], [1.0], [np.inf]])
    assert found.quantile([0, 0.5, 1])[:, 0].tolist() == [-np.inf, 1, np.inf]


def test_empty():
    found = Quantiles(2).update(np.empty((0, 2)))
    assert found.n.tolist() == [0, 0]
    assert np.isnan(found.quantile([0, 0.5])).all()
    assert found.merge(Quantiles(2).update([[1, 2]])).quantile(0.5).tolist() == [1, 2]


@pytest.mark.parametrize("bins", [1, 7, [0, 10, 11, 50], [-1000.0, 0.0, 1000.0], [5, 5, 6]])
def test_histogram_of_few_values_is_numpys(bins):
    x = np.random.default_rng(0).integers(0, 60, (700, 2))
    counts, edges = Quantiles(2).update(x).histogram(1, bins)
    expected = np.histogram(x[:, 1], bins)
    assert (counts.tolist(), edges.tolist()) == (expected[0].tolist(), expected[1].tolist())


def test_histogram_of_many_values():
    x = np.random.default_rng(0).normal(size=(N, 1))
    found = Quantiles(1).update(x)
    counts, edges = found.histogram(0, 20, (-3, 3))
    assert edges.tolist() == np.linspace(-3, 3, 21).tolist()
    assert abs(counts - np.histogram(x, 20, (-3, 3))[0]).max() <= 2 * found.rank_error[0] * N
    assert found.histogram(0)[0].sum() == N
    assert Quantiles(1).update([[4.0]]).histogram(0, 1)[1].tolist() == [3.5, 4.5]      # as in NumPy


def test_copies_are_independent():
    x = np.random.default_rng(0).normal(size=(5000, 2))
    found = Quantiles(2).update(x)
    found.quantile(0.5)
    for other in (found.copy(), copy.deepcopy(found), pickle.loads(pickle.dumps(found)),
                  Quantiles.from_bytes(found.to_bytes())):
        assert other == found
        assert other.quantile(Q).tolist() == found.quantile(Q).tolist()
        other.update(1e9 + x)
        assert other != found
        assert other.n.tolist() == [10_000, 10_000]
    assert found.n.tolist() == [5000, 5000]
    assert found.max.tolist() == x.max(axis=0).tolist()
    assert found.nbytes == len(found.to_bytes())


def test_equal_data_of_few_values_is_equal():
    x = np.random.default_rng(0).normal(size=(700, 2))
    a, b = Quantiles(2).update(x), Quantiles(2).update(x[:300]).merge(Quantiles(2).update(x[300:]))
    assert a == b
    a.quantile(0.5)         # sorts what the library keeps
    assert a == b
    assert a != Quantiles(2).update(x[1:])
    assert a != "quantiles"
    assert repr(a) == "Quantiles(2, k=800)"


def test_channels_apart_and_joined():
    x = np.random.default_rng(0).normal(size=(3000, 4))
    x[5, 2] = np.nan
    found = Quantiles(4).update(x)
    parts = [found.channels([0]), found.channels([1, 2]), found.channels([]), found.channels([3])]
    assert Quantiles.joined(parts) == found
    assert np.isnan(parts[1].quantile(0.5)).tolist() == [False, True]
    assert found.channels([3, 0]).max.tolist() == [found.max[3], found.max[0]]
    parts[0].update(x[:, :1])
    assert found.n.tolist() == [3000, 3000, 2999, 3000]


def test_merging_itself_doubles():
    found = Quantiles(1).update([[1.0], [2.0], [3.0]])
    assert found.merge(found).n.tolist() == [6]
    assert found.quantile(0.5).tolist() == [2]


def test_memory_is_bounded():
    """A channel takes up to 24 k bytes, however long the stream."""
    found = Quantiles(1).update(np.random.default_rng(0).normal(size=(500_000, 1)))
    for _ in range(30):
        found.merge(found)
    assert found.n == 500_000 << 30
    assert found.nbytes < 24 * found.k + 2000


REFUSED = [
    (lambda m: m.update([1.0, 2.0]), ValueError, r"rows must have the shape \(rows, 2\), got \(2,\)"),
    (lambda m: m.update([[1.0]]), ValueError, r"rows must have the shape \(rows, 2\), got \(1, 1\)"),
    (lambda m: m.update([[1j, 2j]]), TypeError, "rows must be of real numbers, got dtype complex128"),
    (lambda m: m.update([[1, 2]], where=[[1, 0]]), TypeError, "where must be of bool, got dtype int64"),
    (lambda m: m.update([[1, 2]], where=[True]), ValueError, r"where must have the shape of rows, \(1, 2\), got"),
    (lambda m: m.update([[1, 2]], weights=[1]), ValueError, "quantiles take no weights, got some; leave out weights"),
    (lambda m: m.merge(3), TypeError, "expected a Quantiles to merge, got int"),
    (lambda m: m.merge(Quantiles(3)), ValueError, "of 2 channels with k=800 as here, got 3 channels"),
    (lambda m: m.merge(Quantiles(2, k=9)), ValueError, "with k=800 as here, got 2 channels with k=9"),
    (lambda m: m.quantile(1.5), ValueError, "q must be from 0 to 1, got 1.5"),
    (lambda m: m.quantile([0.5, np.nan]), ValueError, r"q must be from 0 to 1, got \[0.5, nan\]"),
    (lambda m: m.quantile("0.5"), TypeError, "q must be of real numbers, got dtype <U3"),
    (lambda m: m.histogram(2), ValueError, "channel must be from 0 to 1, got 2"),
    (lambda m: m.histogram(0, "auto"), TypeError, "bins must be an integer or edges, got 'auto'"),
    (lambda m: m.histogram(0, [2, 1]), ValueError, "`bins` must increase monotonically"),
    (lambda m: m.histogram(1), ValueError, "channel 1 has a NaN, so it has no histogram; leave NaN out"),
    (lambda m: Quantiles(2).histogram(0), ValueError, "channel 0 has no values, so it has no histogram"),
    (lambda m: m.channels([2]), ValueError, "channel must be from 0 to 1, got 2"),
    (lambda m: Quantiles.joined([]), ValueError, "expected quantiles with one k to join, got k=none"),
    (lambda m: Quantiles.joined([m, Quantiles(1, k=9)]), ValueError, "with one k to join, got k=9, 800"),
    (lambda m: Quantiles(-1), ValueError, "n_channels must be at least 0, got -1"),
    (lambda m: Quantiles(1, k=7), ValueError, "k must be from 8 to 4096, got 7"),
]


@pytest.mark.parametrize(("call", "error", "message"), REFUSED)
def test_refused(call, error, message):
    found = Quantiles(2).update([[1.0, np.nan], [2.0, 3.0]])
    before = found.to_bytes()
    with pytest.raises(error, match=message):
        call(found)
    assert found.to_bytes() == before


@pytest.mark.parametrize("name", ["", "update", "merge", "quantile", "histogram", "copy", "to_bytes", "from_bytes",
                                  "channels", "joined"])
def test_examples(name):
    run_examples((getattr(Quantiles, name) if name else Quantiles).__doc__, name)
