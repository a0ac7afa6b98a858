"""StandardScaler(exact=True): the same bits for any division of the data into batches, and any order."""

import pickle
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from support.arrays import HARD, normal, random_cuts, rng, with_gaps
from support.copies import COPIES
from support.processes import python

from bnstream import Moments
from bnstream.sklearn import sparse as ours
from bnstream.sklearn.sparse import sparse_moments

sparse = pytest.importorskip("scipy.sparse")
preprocessing = pytest.importorskip("sklearn.preprocessing")
StandardScaler = pytest.importorskip("bnstream.sklearn").StandardScaler

ATTRIBUTES = ["mean_", "var_", "scale_", "n_samples_seen_"]
X = normal((60, 3)) * [1, 1e3, 1e-9] + [0, 1e6, 1]


def of(*parts, **parameters):
    scaler = StandardScaler(exact=True, **parameters)
    for part in parts:
        scaler.partial_fit(part)
    return scaler


def exact(x, **positions):
    return Moments(exact=True, nan_policy="omit").update(x, **positions)


def state(scaler):
    """The exact statistics behind the attributes, and these."""
    values = [np.asarray(getattr(scaler, name)) for name in ATTRIBUTES]
    return scaler._statistics.moments.digest(), *((value.dtype, value.tobytes()) for value in values)


@pytest.mark.parametrize("name", HARD)
def test_any_division_and_order(name):
    x = HARD[name]
    whole = of(x)
    assert whole._statistics.moments.digest() == exact(x).digest()
    assert (whole.mean_.tobytes(), whole.var_.tobytes()) == (exact(x).mean.tobytes(), exact(x).var().tobytes())
    for seed in range(3):
        parts = [x[start:stop] for start, stop in random_cuts(len(x), rng(seed))]
        rng(seed).shuffle(parts)
        assert state(of(*parts)) == state(whole)
        merged = sum(StandardScaler(exact=True).fit(part) for part in parts)
        assert merged.exact
        assert state(merged) == state(whole)
        assert pickle.dumps(merged.__getstate__()) == pickle.dumps(of(*parts).__getstate__())


@pytest.mark.parametrize("dtype", ["f2", "f4", "f8", "?", "i1", "u4", "i8", "u8"])
def test_dtypes_and_missing_values(dtype):
    x = normal((90, 3)) * 100
    x = x.astype(dtype) if dtype not in ("u4", "u8") else np.abs(x).astype(dtype)
    if dtype == "i8":
        x += 2**62
    if x.dtype.kind == "f":
        x[::7, 1] = np.nan          # not in every batch
    whole = of(x)
    assert state(of(x[3:], x[:1], x[1:3])) == state(whole)
    assert whole._statistics.moments.digest() == exact(x).digest()


def test_parameters():
    assert StandardScaler().get_params()["exact"] is False
    assert repr(of()) == "StandardScaler(exact=True)"
    with pytest.raises(ValueError, match="The 'exact' parameter of StandardScaler must be an instance of 'bool'"):
        StandardScaler(exact="yes").fit(X)
    for options in ({"with_mean": False}, {"with_std": False}, {"with_mean": False, "with_std": False}):
        scaler = of(X[:9], X[9:], **options)
        assert state(of(X[20:], X[:20], **options)) == state(scaler)
    np.testing.assert_allclose(of(X).transform(X), preprocessing.StandardScaler().fit_transform(X), rtol=1e-9)


@pytest.mark.parametrize("way", COPIES)
@pytest.mark.filterwarnings("default")      # those of skops
def test_copies(way):
    if way in ("joblib", "cloudpickle", "skops"):
        pytest.importorskip(way)
    twin = COPIES[way](of(X[:30]))
    assert state(twin) == state(of(X[:30]))
    assert state(twin.partial_fit(X[30:])) == state(of(X))


def test_to_sklearn():
    for plain in (of(X).to_sklearn(), exact(X).to_sklearn()):
        assert type(plain) is preprocessing.StandardScaler
        assert not hasattr(plain, "exact")
        assert plain.get_params() == preprocessing.StandardScaler().get_params()
        for name in ATTRIBUTES:
            assert np.array_equal(getattr(plain, name), getattr(of(X), name))


PLAIN = StandardScaler().fit(X)


def edited():
    scaler = of(X)
    scaler.mean_[0] += 1
    return scaler


@pytest.mark.parametrize(("call", "message"), [
    (lambda: of(X).merge(PLAIN), "^expected a scaler with exact=True, as this one, got False$"),
    (lambda: of().merge(PLAIN), "^expected a scaler with exact=True, as this one, got False$"),
    (lambda: of(X).merge(preprocessing.StandardScaler().fit(X)), "^expected a scaler with exact=True, .* got False$"),
    (lambda: StandardScaler().merge(of(X)), "^expected a scaler with exact=False, as this one, got True$"),
    (lambda: of(X).set_params(exact=False).partial_fit(X), "^expected statistics of fits with exact=False, got others"),
    (lambda: StandardScaler().fit(X).set_params(exact=True).partial_fit(X), "^expected statistics of fits with exact="),
    (lambda: edited().partial_fit(X), r"another exact, or its attributes were set, so call fit\(\)$"),
    (lambda: of().merge(edited()), "^expected statistics of fits with exact=True, got others"),
    (lambda: of().fit(X, sample_weight=np.full(60, 0.5)), "^weights of exact statistics count .*, got 0.5; scale them"),
    (lambda: of().fit(X, sample_weight=np.full(60, 1e-200)), "^weights of exact statistics .*, got 1e-200;"),
    (lambda: of(with_mean=False).fit(sparse.csr_array(X), sample_weight=np.full(60, 2.5)),
     "^weights of exact statistics count .*, got 2.5; scale them"),
    (lambda: of().fit(X, sample_weight=np.zeros(60)), "Sample weights must contain at least one non-zero number"),
    (lambda: of().fit(X, sample_weight=np.arange(60.0) - 1), "sample_weight must not be negative"),
    (lambda: of().fit(np.where(X > 1e6, np.inf, X)), "Input X contains infinity"),
])
def test_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_refused_calls_change_nothing():
    scaler = of(X)
    before = state(scaler)
    for call in (lambda: scaler.partial_fit(np.full((9, 3), np.inf)), lambda: scaler.merge(PLAIN),
                 lambda: scaler.partial_fit(X[:, :2]), lambda: scaler.partial_fit(X, sample_weight=np.full(60, 0.5))):
        with pytest.raises(ValueError):
            call()
        assert state(scaler) == before
    assert state(edited().fit(X)) == before
    assert state(StandardScaler().fit(X).set_params(exact=True).fit(X)) == before


def test_threads():
    scaler = StandardScaler(exact=True)
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(scaler.partial_fit, np.split(X, 12)))
    assert state(scaler) == state(of(X))


@pytest.mark.parametrize("pieces", ["as it is", "in small pieces"])
@pytest.mark.parametrize("form", ["csr", "csc"])
@pytest.mark.parametrize("dtype", ["f4", "f8", "i4", "i8", "u1"])
def test_sparse(form, dtype, pieces, monkeypatch):
    """Zeros count. The statistics are those of the dense array, and do not depend on the format and the blocks."""
    if pieces == "in small pieces":
        for name, value in {"BLOCK": 100, "TABLE": 256, "LONG": 16}.items():
            monkeypatch.setattr(ours, name, value)
    x = (normal((3000, 20)) * 5 + 100).astype(dtype)
    x[rng(1).random(x.shape) > np.linspace(0, 0.2, 20)] = 0         # The first column has no values.
    x[:, -1] = 7
    if dtype == "i8":
        x[5, 3] = 2**62 + 1
    if dtype == "f8":
        x[::9, 4] = np.nan
    make = getattr(sparse, f"{form}_array")
    whole = of(x, with_mean=False)
    for start in (0, 1, 2000):
        parts = (make(x[start:]), make(x[:start])) if start else (make(x),)
        assert state(of(*parts, with_mean=False)) == state(whole)
    assert state(of(x[:100], make(x[100:]), with_mean=False)) == state(whole)


@pytest.mark.parametrize("make", [np.asarray, sparse.csr_array, sparse.csc_array], ids=["dense", "csr", "csc"])
@pytest.mark.parametrize("dtype", ["f4", "f8", "i4", "i8", "u1"])
def test_weights(make, dtype):
    """A sample of weight w counts like w samples, in any division and order; the zeros of a sparse matrix as well."""
    x = (normal((300, 6)) * 30 + 50).astype(dtype)
    x[rng(1).random(x.shape) > [0, 0.1, 0.3, 0.6, 0.9, 1]] = 0         # The first column has no values.
    if dtype[0] == "f":
        x[::9, 3], x[::7, 4] = np.nan, -1e30
    weights = rng(2).integers(0, 12, 300)
    weights[::5], weights[7] = 0, 2**40
    whole = of(with_mean=False)
    for bit in range(41):       # so that a sample of weight 5 is there in two batches, of which one is repeated
        batch = x[(weights >> bit & 1).astype(bool)]
        if len(batch):
            part = of(batch, with_mean=False)
            for _ in range(bit):
                part.merge(part)
            whole.merge(part)
    fit = of(with_mean=False).fit(make(x), sample_weight=weights)
    assert state(fit) == state(whole)
    assert fit._statistics.moments.digest() == exact(x, weights=weights).digest()
    order, parts = rng(3).permutation(300), of(with_mean=False)
    for some in np.split(order, [1, 100, 290]):
        parts.partial_fit(make(x[some]), sample_weight=weights[some].astype("f8"))
    assert state(parts) == state(whole)
    assert state(of(with_mean=False).fit(make(x), sample_weight=3)) == state(of(*[x] * 3, with_mean=False))
    with pytest.raises(OverflowError, match=r"at most 2\*\*62"):
        parts.partial_fit(make(np.repeat(x[:2], 600, axis=0)), sample_weight=2**53 - 1)
    assert state(parts) == state(whole)


def test_large_weights_leave_the_scale():
    """Beyond 1 / eps, the sum of weights says nothing of the error of the variance, which is rounded once."""
    for factor in (1, 2**52):
        scaler = of(with_mean=False).fit(X, sample_weight=np.full(60, factor))
        assert scaler.n_samples_seen_.max() == 60 * factor
        assert scaler.scale_.tolist() == np.sqrt(scaler.var_).tolist()
    assert of().fit(np.full((60, 1), 7.1), sample_weight=np.full(60, 2**52)).scale_.tolist() == [1.0]


def test_inf_where_the_weight_is_0():
    """It is refused, as without exact, and NaN is omitted."""
    x, weights = X.copy(), np.arange(60) % 3
    x[3, 1] = np.nan
    assert of().fit(x, sample_weight=weights)._statistics.moments.digest() == exact(x, weights=weights).digest()
    x[3, 1] = np.inf
    for make, options in ((np.asarray, {}), (sparse.csr_array, {"with_mean": False})):
        with pytest.raises(ValueError, match="Input X contains infinity"):
            of(**options).fit(make(x), sample_weight=weights)


def test_sparse_duplicates_and_gaps():
    """Values stored twice count once, as their sum; stored zeros are zeros; NaN is omitted."""
    values, columns = [1.0, 2.0, 0.0, np.nan], [0, 0, 1, 1]
    x = sparse.csr_array((values, columns, [0, 2, 3, 4]), shape=(3, 2))
    assert sparse_moments(x, exact=True).digest() == exact([[3.0, 0.0], [0.0, 0.0], [0.0, np.nan]]).digest()
    assert sparse_moments(sparse.csc_array((70, 3)), exact=True).digest() == exact(np.zeros((70, 3))).digest()
    for make in (sparse.csr_array, sparse.csc_array):
        dense = exact([[3.0, 0.0], [0.0, 0.0], [0.0, np.nan]], weights=[6, 5, 3])
        assert sparse_moments(make(x), np.array([6.0, 5, 3]), exact=True).digest() == dense.digest()
    gaps = with_gaps(HARD["offset 1e8"])
    gaps[~np.isfinite(gaps)] = np.nan
    assert sparse_moments(sparse.csr_array(gaps), exact=True).digest() == exact(gaps).digest()


def test_arrays_of_other_libraries_are_refused():
    pytest.importorskip("array_api_strict")
    tags = getattr(preprocessing.StandardScaler(), "__sklearn_tags__", None)
    if tags is None or not tags().array_api_support:
        pytest.skip("this version of scikit-learn has no array API dispatch for StandardScaler")
    done = python("-W", "default", "-c", (
        "import array_api_strict as xp, sklearn\n"
        "from bnstream.sklearn import StandardScaler\n"
        "with sklearn.config_context(array_api_dispatch=True):\n"
        "    StandardScaler(exact=True).fit(xp.asarray([[1.0], [3.0]]))"), check=False, SCIPY_ARRAY_API="1")
    assert "TypeError: a scaler with exact=True reads arrays of NumPy, got Array; convert it" in done.stderr
