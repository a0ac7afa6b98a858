"""Sparse matrices: their statistics are those of the dense arrays, computed from the stored values alone."""

import numpy as np
import pytest
from support.arrays import HARD, normal, rng
from support.cases import pairwise
from support.memory import traced
from support.oracle import assert_within, exact_states, exact_weighted

from bnstream import Moments
from bnstream.sklearn import sparse as ours
from bnstream.sklearn.sparse import sparse_moments

sparse = pytest.importorskip("scipy.sparse")
preprocessing = pytest.importorskip("sklearn.preprocessing")
StandardScaler = pytest.importorskip("bnstream.sklearn").StandardScaler

COUNT = preprocessing.StandardScaler().fit(np.ones((2, 1))).n_samples_seen_.dtype
INFINITE = r"Input X contains infinity or a value too large for dtype\('float64'\)"
FORMATS = [kind + "_" + holder for kind in ("csr", "csc") for holder in ("array", "matrix")]


def thinned(x, share, seed=7):
    """x with most values 0: the first column keeps none, the last all, the others an increasing share."""
    shares = np.linspace(0, 2 * share, x.shape[1])
    shares[-1] = 1
    return np.where(rng(seed).random(x.shape) < shares, x, 0).astype(x.dtype)


def states(x):
    """Exact states, without NaN."""
    return [exact_states(column[~np.isnan(column)][:, None])[0] for column in x.T]


def of(*parts):
    scaler = StandardScaler(with_mean=False)
    for part in parts:
        scaler.partial_fit(part)
    return scaler


PIECES = ["as it is", "in small pieces"]


@pytest.fixture(params=PIECES)
def pieces(request, monkeypatch):
    """Make several blocks, several tables and long columns of little data."""
    if request.param == "in small pieces":
        for name, value in {"BLOCK": 100, "TABLE": 256, "LONG": 16}.items():
            monkeypatch.setattr(ours, name, value)


@pytest.mark.parametrize(
    ("make", "dtype", "pieces"), pairwise(FORMATS, ["f4", "f8", "i4", "i8", "u1"], PIECES), indirect=["pieces"])
@pytest.mark.usefixtures("pieces")
def test_statistics_are_exact(make, dtype):
    x = thinned((normal((5000, 40)) * 5 + 100).astype(dtype), 0.1)
    scaler = of(getattr(sparse, make)(x))
    assert_within(scaler.mean_, scaler.var_, states(x))
    assert scaler.n_samples_seen_ == 5000
    assert scaler.n_samples_seen_.dtype == COUNT


@pytest.mark.parametrize("name", ["offset 1e15", "offset 1e8", "mean 1e6 float32", "first row 1e30", "1e200 beside 1"])
@pytest.mark.parametrize("share", [0.1, 1.0])
@pytest.mark.usefixtures("pieces")
def test_hard_sets(name, share):
    """Full columns far from zero among columns of few values."""
    x = thinned(np.concatenate([HARD[name]] * 3, axis=1), share)
    wanted = states(x)
    for make in (sparse.csr_array, sparse.csc_array):
        whole = of(make(x))
        stream = of(*(make(part) for part in np.array_split(x, 20)))
        for scaler in (whole, stream):
            assert_within(scaler.mean_, scaler.var_, wanted)


@pytest.mark.parametrize("make", [sparse.csr_array, sparse.csc_array])
@pytest.mark.usefixtures("pieces")
def test_the_weights_of_all_columns_add_up_to_the_same_sum(make):
    """However they are divided among zeros and stored values: n_samples_seen_ is one number."""
    for seed in range(20):
        x, weights = thinned(normal((300, 20), seed=seed), 0.3), rng(seed).random(300)
        scaler = StandardScaler(with_mean=False).fit(make(x), sample_weight=weights)
        assert np.ndim(scaler.n_samples_seen_) == 0
        assert scaler.n_samples_seen_ == pytest.approx(weights.sum(), rel=1e-15)
        x[x > 2] = np.nan
        again = StandardScaler(with_mean=False).fit(make(x), sample_weight=weights)
        counts = np.where(np.isnan(x), 0, weights[:, None]).sum(0)
        np.testing.assert_allclose(again.n_samples_seen_, counts, rtol=1e-14)


@pytest.mark.parametrize("make", [sparse.csr_array, sparse.csc_array])
@pytest.mark.usefixtures("pieces")
def test_missing_values(make):
    """Stored NaN is omitted. It does not count as a zero."""
    x = thinned(normal((3000, 30)), 0.2)
    x[(x != 0) & (rng(8).random(x.shape) < 0.1)] = np.nan
    x[:, 5] = np.nan
    x[7, 5] = 0
    scaler = of(make(x))
    assert scaler.n_samples_seen_.tolist() == (~np.isnan(x)).sum(0).tolist()
    assert_within(scaler.mean_, scaler.var_, states(x))
    x[0, 0] = np.inf
    with pytest.raises(ValueError, match=INFINITE):
        scaler.partial_fit(make(x))
    with pytest.raises(ValueError, match=INFINITE):
        scaler.transform(make(x))


@pytest.mark.parametrize("form", ["csr", "csc"])
@pytest.mark.usefixtures("pieces")
def test_duplicate_entries(form):
    """They stand for one value, their sum, as everywhere in SciPy. Stored zeros are zeros."""
    generator = rng(9)
    rows, columns = generator.integers(0, 50, 4000), generator.integers(0, 20, 4000)
    x = sparse.coo_array((generator.standard_normal(4000), (rows, columns)), shape=(50, 20))
    dense = x.toarray()
    order = np.lexsort((columns, rows) if form == "csr" else (rows, columns))
    indices = (columns if form == "csr" else rows)[order]
    indptr = np.r_[0, np.cumsum(np.bincount(rows if form == "csr" else columns))]
    x = getattr(sparse, f"{form}_array")((x.data[order], indices, indptr), shape=(50, 20))
    assert x.nnz == 4000
    kept = x.data.copy()
    m = sparse_moments(x)
    np.testing.assert_allclose(m.mean, dense.mean(0), rtol=1e-12, atol=1e-15)
    np.testing.assert_allclose(m.var(), dense.var(0), rtol=1e-12)
    np.testing.assert_array_equal(x.data, kept)
    x.data[:] = 0
    assert sparse_moments(x).mean.tolist() == [0.0] * 20
    assert np.unique(sparse_moments(x).n).tolist() == [50]


@pytest.mark.parametrize("make", [sparse.csr_array, sparse.csc_array])
def test_no_stored_values(make):
    m = sparse_moments(make((70, 3)))
    assert (m.n.tolist(), m.mean.tolist(), m.var().tolist()) == ([70] * 3, [0.0] * 3, [0.0] * 3)
    assert of(make((70, 3))).scale_.tolist() == [1.0] * 3


@pytest.mark.usefixtures("pieces")
def test_csr_is_read_in_blocks(monkeypatch):
    """Blocks are of whole rows and of similar numbers of values, and cover every row once."""
    x = sparse.csr_array(thinned(normal((2000, 10)), 0.3))
    blocks = list(ours.row_blocks(x))
    assert [start for start, _ in blocks] == [0, *(stop for _, stop in blocks[:-1])]
    assert blocks[-1][1] == 2000
    assert list(ours.row_blocks(x.tocsc())) == [(0, 2000)]
    stored = [x.indptr[stop] - x.indptr[start] for start, stop in blocks]
    assert len(blocks) == -(-x.nnz // max(ours.BLOCK, 40))
    assert max(stored) <= max(ours.BLOCK, 40) + 10


def test_dense_and_sparse_batches():
    """They can follow each other in any order, and be merged."""
    x = thinned(normal((400, 6)), 0.3)
    scaler = of(x[:100], sparse.csr_array(x[100:250]), sparse.csc_array(x[250:]))
    assert_within(scaler.mean_, scaler.var_, states(x))
    merged = of(sparse.csr_array(x[100:])).merge(of(x[:100]))
    assert_within(merged.mean_, merged.var_, states(x))
    assert merged.n_samples_seen_ == 400
    assert sparse_moments(sparse.csr_array(x)) + Moments() == sparse_moments(sparse.csr_array(x))


@pytest.mark.parametrize("make", FORMATS)
@pytest.mark.parametrize("dtype", ["f4", "f8", "i4"])
def test_transform(make, dtype):
    """As in scikit-learn: the result is CSR, in place with copy=False."""
    x = getattr(sparse, make)(thinned((normal((300, 5)) * 9).astype(dtype), 0.2))
    kept = x.copy()
    ours, theirs = of(x), preprocessing.StandardScaler(with_mean=False).fit(x)
    got, wanted = ours.transform(x), theirs.transform(x)
    assert (got.format, got.dtype, type(got)) == (wanted.format, wanted.dtype, type(wanted))
    np.testing.assert_allclose(got.toarray(), wanted.toarray(), rtol=1e-6)
    np.testing.assert_allclose(ours.inverse_transform(got).toarray(), x.toarray(), rtol=1e-5)
    np.testing.assert_array_equal(x.toarray(), kept.toarray())
    if make.startswith("csr") and dtype != "i4":
        assert ours.transform(x, copy=False) is x
        np.testing.assert_array_equal(x.toarray(), got.toarray())


@pytest.mark.parametrize("make", FORMATS)
def test_number_of_features(make):
    scaler = StandardScaler(with_mean=False).fit(np.eye(3))
    for call in (scaler.transform, scaler.inverse_transform):
        with pytest.raises(ValueError, match="X has 2 features, but StandardScaler is expecting 3 features as input"):
            call(getattr(sparse, make)(np.eye(2)))


@pytest.mark.parametrize("make", FORMATS)
def test_centering_is_refused(make):
    x = getattr(sparse, make)(np.eye(3))
    with pytest.raises(ValueError, match="Cannot center sparse matrices: pass `with_mean=False` instead"):
        StandardScaler().fit(x)
    scaler = StandardScaler().fit(np.eye(3))
    with pytest.raises(ValueError, match="Cannot center sparse matrices: pass `with_mean=False` instead"):
        scaler.transform(x)
    with pytest.raises(ValueError, match="Cannot uncenter sparse matrices: pass `with_mean=False` instead"):
        scaler.inverse_transform(x)


def test_memory():
    """The peak beside the matrix is small, as tracemalloc measures it, with NumPy's arrays."""
    n_rows, n_columns, n_stored = 1 << 19, 256, 8       # stored: 48 MiB; dense: 1 GiB
    columns = rng(0).integers(0, n_columns // n_stored, (n_rows, n_stored)) + np.arange(0, n_columns, 32)
    indptr = np.arange(0, columns.size + 1, n_stored)
    x = sparse.csr_array((np.ones(columns.size), columns.ravel().astype("i4"), indptr))
    for matrix in (x, x.tocsc()):
        with traced() as peak:
            m = sparse_moments(matrix)
        assert m.mean.sum() == n_stored
        stored = matrix.data.nbytes + matrix.indices.nbytes + matrix.indptr.nbytes
        assert peak() < 0.25 * stored, matrix.format        # Some versions of SciPy copy the indices of a block.


# Integers, and places that are stored twice

def stored_twice(form, places, data, shape):
    """A matrix in which the given places are stored in the given order, some of them more than once."""
    rows, columns = np.array(places).T
    order = np.lexsort((columns, rows) if form == "csr" else (rows, columns))
    major, minor = (rows, columns) if form == "csr" else (columns, rows)
    indptr = np.r_[0, np.cumsum(np.bincount(major[order], minlength=shape[form == "csc"]))]
    return getattr(sparse, f"{form}_array")((np.asarray(data)[order], minor[order], indptr), shape=shape)


TWICE = {"?": [True] * 3, "i1": [100, 100, 27], "u1": [200, 200, 255], "i2": [30000, 30000, 9], "u2": [65535] * 3,
         "i4": [2**31 - 1] * 3, "u4": [2**32 - 1] * 3, "i8": [2**61 + 1, 2**61 + 1, 5], "u8": [2**62 - 2, 2**63 + 1, 7],
         "f4": [2.0**24, 1, 1], "f8": [0.5, 0.25, 7]}


@pytest.mark.parametrize("form", ["csr", "csc"])
@pytest.mark.parametrize("dtype", TWICE)
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.usefixtures("pieces")
def test_duplicates_of_any_dtype(form, dtype, weighted):
    """Their sum does not overflow in the dtype, and is not rounded to it."""
    places = [(0, 0), (0, 0), (0, 0), *((row, 1) for row in range(5)), (3, 0)]
    data = np.array([*TWICE[dtype], 1, 1, 1, 1, 1, 1]).astype(dtype)
    x = stored_twice(form, places, data, (5, 2))
    dense = np.ones((5, 2), "f8" if data.dtype.kind == "f" else "u8")
    dense[:, 0] = [sum(data[:3].tolist()), 0, 0, 1, 0]
    w = np.arange(1.0, 6) if weighted else None
    got = StandardScaler(with_mean=False).fit(x, sample_weight=w)
    assert_within(got.mean_, got.var_, [exact_weighted(column, np.ones(5) if w is None else w) for column in dense.T])
    assert x.nnz == 9
    assert x.data.dtype == dtype


def test_sum_that_overflows(unchanged):
    x = stored_twice("csr", [(0, 0), (0, 0), (1, 0)], [1e308, 1e308, 1.0], (2, 1))
    unchanged(of(sparse.csr_array(np.eye(2)[:, :1])), ValueError, INFINITE, lambda m: m.partial_fit(x))


@pytest.mark.parametrize("dtype", ["i8", "u8"])
@pytest.mark.parametrize("make", ["csr_array", "csc_matrix"])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.usefixtures("pieces")
def test_integers_of_64_bits(dtype, make, weighted):
    """They are not rounded to float64, in columns of any number of stored values and with few zeros or none."""
    x = (2**60 if dtype == "i8" else 2**63) + rng(3).integers(-900, 900, (700, 6)).astype(object)
    x[rng(4).random(x.shape) < [0, 0.999, 0.99, 0.5, 0, 0.003]] = 0
    x[:, 4] = np.where(np.arange(700) % 2, 2**53 + 1, 2**53 + 3)
    x[0, 4] = 2**63 - 1
    if dtype == "i8":
        x[:, 3] = -x[:, 3]
        x[1, 3] = -2**63
    w = rng(5).uniform(0, 2, 700) if weighted else None
    scaler = StandardScaler(with_mean=False).fit(getattr(sparse, make)(x.astype(dtype)), sample_weight=w)
    wanted = [exact_weighted(column.astype(dtype), np.ones(700) if w is None else w) for column in x.T]
    assert_within(scaler.mean_, scaler.var_, wanted)


def test_small_integers_are_read_as_before():
    """int64 that float64 represents has the bits of float64."""
    x = sparse.csc_array(np.rint(thinned(normal((3000, 30)) * 1e6, 0.3)))
    ours, as_integers = of(x), of(x.astype("i8"))
    assert (as_integers.mean_.tobytes(), as_integers.var_.tobytes()) == (ours.mean_.tobytes(), ours.var_.tobytes())
