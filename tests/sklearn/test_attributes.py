"""Fitted attributes that were set, edited, deleted or are None, by hand or in a scaler of scikit-learn."""

import copy

import numpy as np
import pytest
from support.arrays import HARD, rng
from support.copies import COPIES
from support.oracle import assert_within, exact_states

preprocessing = pytest.importorskip("sklearn.preprocessing")
sparse = pytest.importorskip("scipy.sparse")
StandardScaler = pytest.importorskip("bnstream.sklearn").StandardScaler
NotFittedError = pytest.importorskip("sklearn.exceptions").NotFittedError

ATTRIBUTES = ["mean_", "var_", "scale_", "n_samples_seen_"]
X = rng().standard_normal((60, 3)) * [1, 10, 100] + [0, 5, -1e3]
GAPS = np.where(rng(1).random(X.shape) < 0.1, np.nan, X)
A, B = X[:20], X[20:]
OPTIONS = [{"with_mean": with_mean, "with_std": with_std} for with_mean in (True, False) for with_std in (True, False)]


def assert_like(ours, theirs):
    for name in ATTRIBUTES:
        if getattr(theirs, name) is None:
            assert getattr(ours, name) is None
        else:
            np.testing.assert_allclose(getattr(ours, name), getattr(theirs, name), rtol=1e-12)


def with_attributes_of(fitted, **options):
    scaler = StandardScaler(**options)
    for name in ATTRIBUTES:
        setattr(scaler, name, getattr(fitted, name))
    return scaler


# None

@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize("x", [X, GAPS], ids=["plain", "gaps"])
def test_scalers_of_scikit_learn_merge(options, x):
    """Whichever of the attributes are None in them."""
    whole = preprocessing.StandardScaler(**options).fit(x)
    theirs = preprocessing.StandardScaler(**options).fit(x[20:])
    merged = StandardScaler(**options).fit(x[:20]).merge(theirs)
    assert_like(merged, whole)
    assert_like(StandardScaler(**options).merge(theirs).partial_fit(x[:20]), whole)
    assert_like(merged.merge(theirs).partial_fit(x[:20]), preprocessing.StandardScaler(**options).fit(
        np.concatenate([x, x[20:], x[:20]])))
    for way in COPIES:
        if way not in ("joblib", "cloudpickle", "skops"):
            assert_like(COPIES[way](merged), merged)


@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize("x", [X, GAPS], ids=["plain", "gaps"])
def test_fits_go_on_from_attributes_that_were_set(options, x):
    whole = preprocessing.StandardScaler(**options).fit(x)
    theirs = preprocessing.StandardScaler(**options).fit(x[20:])
    assert_like(with_attributes_of(theirs, **options).partial_fit(x[:20]), whole)
    assert_like(StandardScaler(**options).fit(x[:20]).merge(with_attributes_of(theirs, **options)), whole)
    assert_like(with_attributes_of(theirs, **options).merge(StandardScaler(**options).fit(x[:20])), whole)


def test_sparse_fits_go_on():
    theirs = preprocessing.StandardScaler(with_mean=False, with_std=False).fit(sparse.csr_array(B))
    for name, value in {"mean_": None, "n_samples_seen_": 40}.items():
        got = getattr(theirs, name)
        assert got is value or got == value
    scaler = with_attributes_of(theirs, with_mean=False, with_std=False).partial_fit(sparse.csr_array(A))
    assert scaler.n_samples_seen_ == 60
    assert scaler.transform(sparse.csr_array(A)).toarray().tobytes() == A.tobytes()


def test_what_is_unknown_is_not_made_up():
    """The variance of samples that came without one is None for ever, not that of the other samples."""
    merged = StandardScaler(with_std=False).fit(A).merge(preprocessing.StandardScaler(with_std=False).fit(B))
    np.testing.assert_allclose(merged.mean_, X.mean(0), rtol=1e-12)
    merged.set_params(with_std=True)
    for scaler in (merged, *(COPIES[way](merged) for way in ("copy.copy", "__new__ and the state"))):
        assert scaler.var_ is scaler.scale_ is None
        message = r"expected var_ of all samples so far, got None; the scaler was fitted with other parameters, so call"
        with pytest.raises(ValueError, match=message):
            scaler.partial_fit(A)
        with pytest.raises(ValueError, match=message):
            StandardScaler().merge(scaler)
        assert scaler.set_params(with_std=False).n_samples_seen_ == 60
    assert_within(merged.set_params(with_std=True).fit(X).mean_, merged.var_, exact_states(X))


def test_own_statistics_are_known():
    """Those of a fit without mean or standard deviation are kept, and shown once the parameters ask for them."""
    scaler = StandardScaler(with_mean=False, with_std=False).fit(A).partial_fit(B)
    assert scaler.mean_ is None
    scaler.set_params(with_mean=True, with_std=True)
    assert_within(scaler.mean_, scaler.var_, exact_states(X))


def test_features_that_are_not_known():
    scaler = StandardScaler(with_mean=False, with_std=False)
    scaler.mean_ = scaler.var_ = scaler.scale_ = None
    scaler.n_samples_seen_ = 7
    with pytest.raises(ValueError, match="expected a scaler with a known number of features, got only n_samples_seen_"):
        StandardScaler(with_mean=False, with_std=False).merge(scaler)
    assert scaler.partial_fit(A).n_samples_seen_ == 27


# Deleted, edited

def test_reset():
    """Wrappers of scikit-learn's scaler call it before a loop of partial_fit."""
    scaler = StandardScaler().fit(A)
    scaler.mean_ = np.zeros(3)
    scaler._reset()
    assert not any(hasattr(scaler, name) for name in ATTRIBUTES)
    with pytest.raises(NotFittedError):
        scaler.transform(A)
    assert_like(scaler.partial_fit(B), StandardScaler().fit(B))
    StandardScaler()._reset()


def test_fit_resets_by_the_method():
    """A subclass may do more."""
    class Counting(StandardScaler):
        calls = 0

        def _reset(self):
            self.calls += 1
            super()._reset()

    assert Counting().fit(A).fit(B).calls == 2


@pytest.mark.parametrize("name", ATTRIBUTES)
def test_deleted(name):
    for scaler in (StandardScaler().fit(A), with_attributes_of(StandardScaler().fit(A))):
        delattr(scaler, name)
        assert not hasattr(scaler, name)
        with pytest.raises(AttributeError, match=f"has no attribute '{name}'"):
            delattr(scaler, name)
        assert [hasattr(scaler, other) for other in ATTRIBUTES] == [other != name for other in ATTRIBUTES]
        for way in ("copy.copy", "pickle 4", "__new__ and the state"):
            assert not hasattr(COPIES[way](scaler), name)
        if name in ("mean_", "var_"):
            with pytest.raises(AttributeError, match=f"has no attribute '{name}'"):
                scaler.partial_fit(B)
        else:
            assert_like(scaler.partial_fit(B), StandardScaler().fit(X if name == "scale_" else B))
        assert_like(scaler.fit(B), StandardScaler().fit(B))
    with pytest.raises(AttributeError, match=f"no attribute '{name}' before it is fitted"):
        delattr(StandardScaler(), name)


def test_all_deleted():
    """As `_reset` does it in scikit-learn."""
    scaler = StandardScaler().fit(A)
    for name in ATTRIBUTES:
        delattr(scaler, name)
    with pytest.raises(NotFittedError):
        scaler.transform(A)
    assert_like(scaler.partial_fit(B), StandardScaler().fit(B))


def test_scalers_with_one_dict():
    """A scaler that was made from the `__dict__` of another goes its own way."""
    scaler, twin = StandardScaler().fit(A), StandardScaler()
    twin.__dict__.update(scaler.__dict__)
    assert_like(twin, scaler)
    assert_like(twin.partial_fit(B), StandardScaler().fit(X))
    twin.__dict__.update(scaler.__dict__)
    del twin.mean_, twin.n_samples_seen_
    assert_like(scaler, StandardScaler().fit(A))


def test_set_after_it_was_deleted():
    scaler = StandardScaler().fit(A)
    del scaler.mean_
    scaler.mean_ = A.mean(0)
    assert_like(scaler.partial_fit(B), StandardScaler().fit(X))


@pytest.mark.parametrize("way", [way for way in COPIES if way not in ("joblib", "cloudpickle", "skops")])
def test_edited_in_place(way):
    """partial_fit and merge use what was edited, as in scikit-learn."""
    scalers = StandardScaler().fit(A), preprocessing.StandardScaler().fit(A)
    for scaler in scalers:
        scaler.mean_[0] += 7
        scaler.var_[1] *= 4
    ours, theirs = scalers
    for scaler in (ours, COPIES[way](ours)):
        wanted = copy.deepcopy(theirs).partial_fit(B)
        assert_like(StandardScaler().fit(B).merge(scaler), wanted)
        assert_like(COPIES[way](scaler).partial_fit(B), wanted)


# Dtypes and values

@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize("x", [X, GAPS, X.astype("f4"), np.rint(X).astype("i4")], ids=["f8", "gaps", "f4", "i4"])
@pytest.mark.parametrize("form", ["dense", "sparse"])
def test_dtypes_of_attributes(options, x, form):
    """As in the installed version of scikit-learn, where that does not count sparse samples in float32."""
    if form == "sparse":
        if options["with_mean"] or preprocessing.StandardScaler().fit(X).n_samples_seen_.dtype == np.int64:
            pytest.skip("centered, or a version that counts dense samples in int64 and sparse ones in float64")
        x = sparse.csr_array(x)
    ours, theirs = (kind(**options).fit(x) for kind in (StandardScaler, preprocessing.StandardScaler))
    for _ in range(2):
        assert np.shape(ours.n_samples_seen_) == np.shape(theirs.n_samples_seen_)
        dtype = theirs.n_samples_seen_.dtype
        assert ours.n_samples_seen_.dtype == (np.float64 if dtype == np.float32 else dtype)
        for scaler in (ours, theirs):
            scaler.partial_fit(x)


@pytest.mark.parametrize("count", [40, 40.0, np.int32(40), np.float32(40), np.array(40), np.full(3, 40)], ids=repr)
def test_forms_of_a_count(count):
    scaler = with_attributes_of(StandardScaler().fit(B))
    scaler.n_samples_seen_ = count
    assert_like(scaler.partial_fit(A), StandardScaler().fit(X))


def test_state_is_exact_without_std():
    """The low halves of the pairs are kept, as they are with standard deviations."""
    x = HARD["offset 1e15"]
    scaler = StandardScaler(with_std=False)
    for part in np.array_split(x, 100):
        scaler.partial_fit(part)
        assert scaler.mean_ is not None
    assert_within(scaler.mean_, scaler.set_params(with_std=True).var_, exact_states(x))
