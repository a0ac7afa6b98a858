"""sample_weight: a sample of weight 2 equals two samples, to the last digits, dense and sparse."""

import copy

import numpy as np
import pytest
from support.arrays import HARD, rng, with_gaps
from support.copies import COPIES
from support.oracle import EPS, assert_within, exact_states, exact_weighted

from bnstream import Moments

sklearn = pytest.importorskip("sklearn")
preprocessing = pytest.importorskip("sklearn.preprocessing")
sparse = pytest.importorskip("scipy.sparse")
StandardScaler = pytest.importorskip("bnstream.sklearn").StandardScaler
sparse_moments = pytest.importorskip("bnstream.sklearn.sparse").sparse_moments

MAKERS = {"dense": np.asarray, "csr": sparse.csr_array, "csc": sparse.csc_array}
X = rng().standard_normal((60, 3)) + 5


def of(make, x, w=None, cut=0):
    """A scaler fitted to x in two parts, each converted by `make`."""
    scaler = StandardScaler(with_mean=False)
    for part in filter(len, (np.arange(cut), np.arange(cut, len(x)))):
        scaler.partial_fit(make(x[part]), sample_weight=None if w is None else w[part])
    return scaler


def weighted(values, weights):
    """The exact state of a channel of weighted values, without NaN."""
    present = ~np.isnan(values)
    return exact_weighted(values[present], weights[present])


@pytest.mark.parametrize("make", MAKERS)
@pytest.mark.parametrize("name", ["plain", "offset 1e15", "mean 1e6 float32"])
def test_whole_weights_repeat(make, name):
    x = HARD[name][:1200]
    w = rng(2).integers(0, 4, len(x))
    repeated = np.repeat(x, w, axis=0)
    for cut in (0, 500):
        scaler = of(MAKERS[make], x, w, cut)
        assert_within(scaler.mean_, scaler.var_, exact_states(repeated))
        assert scaler.n_samples_seen_ == len(repeated)
        assert scaler.n_samples_seen_.dtype == np.float64


@pytest.mark.parametrize("make", MAKERS)
@pytest.mark.parametrize("share", [0.02, 1.0])
@pytest.mark.parametrize("name", ["offset 1e8", "offset 1e15"])
def test_any_weights(make, share, name, monkeypatch):
    """Columns are mostly zero, full, or empty. NaN has no weight."""
    monkeypatch.setattr("bnstream.sklearn.sparse.BLOCK", 1500)
    x = with_gaps(np.insert(HARD[name][:1000], 1, 0, axis=1))
    x[np.isinf(x)] = np.nan
    x[rng(3).random(x.shape) > share] = 0
    x[:, 1] = 0
    w = rng(4).uniform(0, 3, len(x))
    scaler = of(MAKERS[make], x, w, 400)
    states = [weighted(column, w) for column in x.T]
    assert_within(scaler.mean_, scaler.var_, states)
    np.testing.assert_allclose(scaler.n_samples_seen_, [float(state.n) for state in states], rtol=16 * float(EPS))


@pytest.mark.parametrize("make", ["csr", "csc"])
@pytest.mark.parametrize("n_stored", [3, 40, 6000])
@pytest.mark.parametrize(("name", "least"), [("offset 1e8", 1e-9), ("offset 1e15", 0)])
def test_few_zeros_weigh_much(make, n_stored, name, least, monkeypatch):
    """Far from zero they determine the variance, and their weight is the small rest of the sum of all weights."""
    x = HARD[name][:n_stored + 1].copy()
    x[-1] = 0
    w = rng(6).uniform(0, 1, len(x))
    w[-1] = least
    states = [weighted(column, w) for column in x.T]
    for long in (16, 8192):
        monkeypatch.setattr("bnstream.sklearn.sparse.LONG", long)
        scaler = of(MAKERS[make], x, w)
        assert_within(scaler.mean_, scaler.var_, states)


@pytest.mark.parametrize("seed", range(10))
def test_no_zeros_weigh_nothing(seed):
    """A column without zeros, or with one of weight 0, has none, although sums of such weights err by 1e-32."""
    w = 10 ** rng(seed).uniform(-10, 10, 701)
    w[-1] = 0
    x = HARD["offset 1e15"][:701].copy()
    x[-1, 0] = 0
    scaler = of(sparse.csc_array, x, w)
    assert_within(scaler.mean_, scaler.var_, [weighted(column, w) for column in x.T])
    w[-1] = 1
    scaler = of(sparse.csc_array, x[:, 1:], w)
    assert_within(scaler.mean_, scaler.var_, [weighted(column, w) for column in x[:, 1:].T])


@pytest.mark.parametrize("make", ["csr", "csc"])
def test_effective_n(make):
    """The state has the number of samples of equal weight with the same precision."""
    x, w = np.where(rng(8).random((500, 4)) < [0, 0.1, 0.7, 1], 1.0, 0.0), rng(9).uniform(0, 1, 500)
    got, wanted = sparse_moments(MAKERS[make](x), w), Moments().update(x, weights=w)
    np.testing.assert_allclose(got.effective_n, np.broadcast_to(wanted.effective_n, 4), rtol=1e-13)


def test_weight_zero_omits_a_sample():
    """Also one with NaN. inf is refused whatever its weight."""
    x = np.array([[1.0, np.nan], [np.nan, 7.0], [3.0, 5.0], [9.0, 9.0]])
    for make in MAKERS.values():
        scaler = of(make, x, np.array([1, 1, 1, 0]))
        assert scaler.n_samples_seen_.tolist() == [2.0, 2.0] or scaler.n_samples_seen_ == 2.0
        assert (scaler.mean_.tolist(), scaler.var_.tolist()) == ([2.0, 6.0], [1.0, 1.0])
        with pytest.raises(ValueError, match="Input X contains infinity"):
            of(make, np.full((2, 1), np.inf), np.array([1, 0]))


def test_forms_of_weights():
    """One number for all samples, a list, and single precision, which is summed in double precision."""
    for w in (2, [2] * 60, np.full(60, 2, "f4"), np.full(60, 2.0)):
        scaler = StandardScaler().fit(X, sample_weight=w)
        assert scaler.n_samples_seen_ == 120.0
        np.testing.assert_allclose(scaler.var_, X.var(0), rtol=1e-14)
    w = rng(7).uniform(0, 1, 60).astype("f4")
    for make in MAKERS.values():
        scaler = of(make, np.where(X > 5, X, 0), w)
        assert_within(scaler.mean_, scaler.var_, [weighted(column, w) for column in np.where(X > 5, X, 0).T])


def test_with_and_without_weights():
    """A batch without weights has weight 1 for each sample."""
    w = np.linspace(0.1, 2, 30)
    scaler = StandardScaler().partial_fit(X[:30]).partial_fit(X[30:], sample_weight=w)
    merged = StandardScaler().fit(X[30:], sample_weight=w).merge(StandardScaler().fit(X[:30]))
    for got in (scaler, merged):
        assert_within(got.mean_, got.var_, [weighted(column, np.r_[np.ones(30), w]) for column in X.T])


@pytest.mark.parametrize(("w", "message"), [
    (np.ones((60, 1)), "Sample weights must be 1D array or scalar"),
    (np.ones(59), r"sample_weight.shape == \(59,\), expected \(60,\)"),
    (np.zeros(60), "Sample weights must contain at least one non-zero number"),
    ([np.nan] * 60, "Input sample_weight contains NaN"),
    (np.r_[-1.0, np.ones(59)], "sample_weight must not be negative, got -1.0; a weight of 0 leaves a sample out"),
])
def test_invalid_weights(w, message, unchanged):
    scaler = StandardScaler().fit(X)
    unchanged(scaler, ValueError, message, lambda m: m.partial_fit(X, sample_weight=w))
    scaler = StandardScaler(with_mean=False).fit(X)
    unchanged(scaler, ValueError, message, lambda m: m.partial_fit(sparse.csr_array(X), sample_weight=w))


def test_routing():
    """A pipeline passes the weights on to a scaler that requests them."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline

    w, y = np.linspace(0.1, 2, 60), X[:, 0] > 5
    with sklearn.config_context(enable_metadata_routing=True):
        scaler = StandardScaler().set_fit_request(sample_weight=True)
        pipe = make_pipeline(scaler, LogisticRegression().set_fit_request(sample_weight=False))
        pipe.fit(X, y, sample_weight=w)
        assert pipe[0].n_samples_seen_ == pytest.approx(w.sum())
        np.testing.assert_allclose(pipe[0].mean_, StandardScaler().fit(X, sample_weight=w).mean_, rtol=1e-14)


def test_as_scikit_learn():
    w = rng(5).uniform(0, 3, 60)
    ours, theirs = StandardScaler().fit(X, sample_weight=w), preprocessing.StandardScaler().fit(X, sample_weight=w)
    for name in ("mean_", "var_", "scale_", "n_samples_seen_"):
        np.testing.assert_allclose(getattr(ours, name), getattr(theirs, name), rtol=1e-12)


# Weights beyond the range of `Moments`, 1e-100 to 1e100

SIZES = {
    "decaying": np.exp(-np.arange(300.0)), "growing": np.exp(np.arange(300.0)),
    "tiny": rng(8).uniform(1, 9, 300) * 1e-300,
    "huge": rng(8).uniform(1, 9, 300) * 1e300, "subnormal": rng(8).integers(1, 9, 300) * 5e-324,
    "all": 2.0 ** np.linspace(-1070, 1010, 300), "with zeros": np.exp(-np.arange(300.0)) * (np.arange(300) % 3 > 0),
}


@pytest.mark.parametrize("make", MAKERS)
@pytest.mark.parametrize("name", SIZES)
@pytest.mark.parametrize("cut", [0, 150, 299])
def test_any_size_of_weights(make, name, cut):
    """They are as exact as others, in one batch, in two, and merged."""
    w, x = SIZES[name], np.where(rng(9).random((300, 3)) < 0.8, HARD["offset 1e8"][:300, :3], 0)
    states = [weighted(column, w) for column in x.T]
    scaler = of(MAKERS[make], x, w, cut)
    both = of(MAKERS[make], x[:cut], w[:cut]) + of(MAKERS[make], x[cut:], w[cut:])
    for got in (scaler, both, *(way(scaler) for way in (copy.copy, COPIES["__new__ and the state"]))):
        assert_within(got.mean_, got.var_, states)
        np.testing.assert_allclose(got.n_samples_seen_, [float(state.n) for state in states], rtol=16 * float(EPS))


@pytest.mark.parametrize("make", MAKERS)
def test_light_values_may_be_large(make):
    """A weight is not too small to count while its value is large enough."""
    x, w = np.array([[1.0], [3.0], [1e150]]), np.array([1.0, 1.0, 1e-150])
    scaler = of(MAKERS[make], x, w)
    assert_within(scaler.mean_, scaler.var_, [weighted(x[:, 0], w)])


@pytest.mark.parametrize("unit", [1e-300, 1e-120, 1e-3, 1e20, 1e200, 1e300])
def test_sizes_of_weights_do_not_matter(unit):
    """Mean and variance depend only on the ratios of the weights. Attributes carry on what they describe."""
    unit = 2.0 ** np.round(np.log2(unit))
    w, x = rng(5).uniform(0, 3, 60), HARD["offset 1e8"][:60]
    usual, scaled = (StandardScaler().fit(x, sample_weight=w * factor) for factor in (1, unit))
    for name in ("mean_", "var_", "scale_"):
        assert getattr(scaled, name).tobytes() == getattr(usual, name).tobytes()
    assert StandardScaler().fit(np.full((60, 1), 7.1), sample_weight=w * unit).scale_.tolist() == [1.0]
    assert scaled.n_samples_seen_ == usual.n_samples_seen_ * unit
    again = StandardScaler()
    for name in ("mean_", "var_", "scale_", "n_samples_seen_"):
        setattr(again, name, getattr(scaled, name))
    again.partial_fit(x[::-1], sample_weight=w[::-1] * unit)
    np.testing.assert_allclose(again.mean_, usual.mean_, rtol=1e-15)
    np.testing.assert_allclose(again.var_, usual.var_, rtol=1e-14)
    np.testing.assert_allclose(again.n_samples_seen_, scaled.n_samples_seen_ * 2, rtol=1e-15)
    plain = preprocessing.StandardScaler(with_mean=False, with_std=True)
    for name in ("mean_", "var_", "scale_", "n_samples_seen_"):
        setattr(plain, name, getattr(scaled, name))
    assert StandardScaler(with_mean=False).merge(plain).n_samples_seen_ == plain.n_samples_seen_


def test_very_light_samples_with_usual_ones():
    """A batch of light samples comes before, between and after batches without weights."""
    x, w = HARD["offset 1e8"][:90], np.full(30, 1e-200)
    scaler = StandardScaler().partial_fit(x[:30], sample_weight=w).partial_fit(x[30:60])
    scaler.partial_fit(x[60:], sample_weight=w)
    assert_within(scaler.mean_, scaler.var_, [weighted(column, np.r_[w, np.ones(30), w]) for column in x.T])
    assert scaler.n_samples_seen_ == 30.0


@pytest.mark.parametrize("value", [np.inf, -np.inf])
@pytest.mark.parametrize("dtype", ["f4", "f8"])
@pytest.mark.parametrize("make", MAKERS)
def test_inf_without_weight(make, value, dtype, unchanged):
    """It is refused in any row, as in scikit-learn. The largest numbers are not inf."""
    x, w = np.ones((500, 4), dtype), np.linspace(0, 1, 500)
    x[::2] = 3
    w[::3] = 0
    x[0, 3] = np.finfo(dtype).max
    scaler = of(MAKERS[make], x, w)
    x[300, 2], x[300, 1] = value, np.nan
    unchanged(scaler, ValueError, "Input X contains infinity or a value too large for dtype",
              lambda m: m.partial_fit(MAKERS[make](x), sample_weight=w))
    with sklearn.config_context(assume_finite=True):
        assert scaler.partial_fit(MAKERS[make](x), sample_weight=w).mean_[2] < 3
