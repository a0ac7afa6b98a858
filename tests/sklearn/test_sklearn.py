"""bnstream.sklearn.StandardScaler: exact, mergeable, and otherwise like scikit-learn's."""

import copy
import inspect
import pickle
import re
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from support.arrays import CANCEL, HARD, LAYOUTS, of_dtype, random_cuts, rng, with_gaps
from support.examples import run_examples
from support.memory import traced
from support.oracle import assert_within, errors, exact, exact_states, sum_of_squares
from support.processes import python

from bnstream import Moments, set_num_threads

pytest.importorskip("sklearn", minversion="1.4")

import sklearn
from sklearn import preprocessing
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.pipeline import make_pipeline
from sklearn.utils.estimator_checks import parametrize_with_checks

from bnstream.sklearn import StandardScaler
from bnstream.sklearn.validation import FLOATS, NUMBERS
from bnstream.sklearn.weights import Part, merged

COUNT = preprocessing.StandardScaler().fit(np.ones((2, 1))).n_samples_seen_.dtype
METHODS = ["fit", "partial_fit", "transform", "inverse_transform", "merge"]
ATTRIBUTES = ["mean_", "var_", "scale_", "n_samples_seen_"]
X = rng().standard_normal((60, 3)) * [1, 10, 100] + [0, 5, -1e3]


def of(*parts, **parameters):
    """A scaler fitted to parts. Its attributes, which it caches, are read after each part."""
    scaler = StandardScaler(**parameters)
    for part in parts:
        scaler.partial_fit(part)
        for name in ATTRIBUTES:
            getattr(scaler, name)
    return scaler


def assert_same_bits(a, b):
    for name in ATTRIBUTES:
        assert np.asarray(getattr(a, name)).tobytes() == np.asarray(getattr(b, name)).tobytes()


CHECKED = [StandardScaler(), StandardScaler(with_mean=False), StandardScaler(with_std=False),
           StandardScaler(exact=True), StandardScaler(with_mean=False, exact=True)]
CHECKS = parametrize_with_checks(CHECKED).mark


@pytest.mark.parametrize(CHECKS.args[0], list(CHECKS.args[1]), **CHECKS.kwargs)     # pytest deprecates generators
@pytest.mark.filterwarnings("default")      # the checks warn, or skip, if packages are missing
def test_checks_of_scikit_learn(estimator, check):
    check(estimator)


@pytest.mark.parametrize("name", METHODS)
def test_docstring(name):
    method = getattr(StandardScaler, name)
    headings = re.findall(r"^(\w+)\n-+$", inspect.getdoc(method), re.MULTILINE)
    assert headings == ["Parameters", "Returns", "Raises", "Examples"]
    run_examples(method.__doc__, method.__name__)


def test_docstring_of_the_class():
    run_examples(StandardScaler.__doc__, "StandardScaler")


def test_without_scikit_learn():
    """The error names the extra. The library itself does not need scikit-learn."""
    code = "import sys; sys.modules['sklearn'] = None; import bnstream; import bnstream.sklearn"
    done = python("-c", code, check=False)
    assert done.stderr.splitlines()[-1] == (
        "ModuleNotFoundError: bnstream.sklearn needs scikit-learn, which is not installed; install it with: "
        'pip install "bnstream[sklearn]"')


# Statistics

@pytest.mark.parametrize("name", HARD)
def test_statistics_are_exact(name):
    """In one fit and in any number of batches."""
    x = HARD[name]
    states = exact_states(x)
    assert_within(of(x).mean_, of(x).var_, states)
    scaler = of(*(x[start:stop] for start, stop in random_cuts(len(x), rng(4))))
    assert_within(scaler.mean_, scaler.var_, states)
    assert scaler.n_samples_seen_ == len(x)


def test_sum_of_squares_is_not():
    assert all(errors(*sum_of_squares(HARD[name]), exact_states(HARD[name]))[1] > 1 for name in CANCEL)


@pytest.mark.parametrize("dtype", ["f2", "f4", "f8", "?", "i1", "u1", "i2", "u2", "i4", "u4", "i8", "u8"])
def test_dtypes(dtype):
    """X of any dtype is read without conversion. The results have the dtypes of scikit-learn's."""
    x = of_dtype(dtype, (200, 3))
    theirs = preprocessing.StandardScaler().fit(x)
    assert_within(of(x).mean_, of(x).var_, exact_states(x))
    y, wanted = of(x).transform(x), (x - of(x).mean_) / of(x).scale_
    assert y.dtype == theirs.transform(x).dtype
    np.testing.assert_allclose(y, wanted, rtol=float(np.finfo(y.dtype).eps), atol=0)
    assert of(x).inverse_transform(y).dtype == theirs.inverse_transform(y).dtype
    assert [np.dtype(t) for t in NUMBERS[:3]] == [np.dtype(t) for t in FLOATS]


@pytest.mark.parametrize("layout", [name for name in LAYOUTS if "swapped" not in name])
def test_layouts(layout):
    x = LAYOUTS[layout](X)
    assert_within(of(x).mean_, of(x).var_, exact_states(X))
    np.testing.assert_allclose(of(x).transform(x), (X - X.mean(0)) / X.std(0), rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(of(x).inverse_transform(of(x).transform(x)), X, rtol=1e-9)


@pytest.mark.parametrize("name", ["plain", "offset 1e15", "mean 1e6 float32", "heavy tails"])
def test_missing_values(name):
    """NaN is omitted from the statistics of its feature, and stays NaN in transform."""
    x = with_gaps(HARD[name])
    x[np.isinf(x)] = np.nan
    scaler = of(*(x[start:stop] for start, stop in random_cuts(len(x), rng(5))))
    n = (~np.isnan(x)).sum(0)
    states = [exact(column[~np.isnan(column)]) for column in x.T]
    assert_within(scaler.mean_, scaler.var_, states)
    assert scaler.n_samples_seen_ == n[0]
    assert scaler.n_samples_seen_.dtype == COUNT
    np.testing.assert_array_equal(np.isnan(scaler.transform(x)), np.isnan(x))
    x[0, 1] = 1.0 if np.isnan(x[0, 1]) else np.nan
    assert of(x).n_samples_seen_.tolist() == (~np.isnan(x)).sum(0).tolist()


def test_feature_without_values():
    """Its mean is NaN until its first value comes. In scikit-learn it stays NaN."""
    scaler = of([[np.nan, 1.0], [np.nan, 3.0]])
    np.testing.assert_array_equal(scaler.mean_, [np.nan, 2.0])
    np.testing.assert_array_equal(scaler.scale_, [np.nan, 1.0])
    np.testing.assert_array_equal(scaler.transform([[5.0, 3.0]]), [[np.nan, 1.0]])
    scaler.partial_fit([[4.0, 2.0], [6.0, np.nan]])
    np.testing.assert_array_equal(scaler.mean_, [5.0, 2.0])
    assert scaler.n_samples_seen_.tolist() == [2, 3]


@pytest.mark.parametrize("value", [np.inf, -np.inf])
@pytest.mark.parametrize("dtype", ["f2", "f4", "f8"])
def test_inf_is_refused(value, dtype, unchanged):
    x = of_dtype(dtype, (3000, 60))
    x[0, :] = np.nan
    x[-1, -1] = value
    scaler = of(x[:-1])
    message = f"Input X contains infinity or a value too large for dtype..{np.dtype(dtype)}"
    unchanged(scaler, ValueError, message, lambda m: m.partial_fit(x))
    unchanged(scaler, ValueError, message, lambda m: m.transform(x))
    unchanged(scaler, ValueError, message, lambda m: m.inverse_transform(x))
    kept = x.copy()
    unchanged(scaler, ValueError, message, lambda m: m.transform(x, copy=False))
    np.testing.assert_array_equal(x, kept)
    with sklearn.config_context(assume_finite=True), pytest.MonkeyPatch.context() as patch:
        for name in ("bnstream.sklearn.validation.mean_var", "bnstream.sklearn.dense.search_inf"):     # extra passes
            patch.delattr(name)
        assert np.isinf(scaler.transform(x)[-1, -1])
        assert np.isinf(scaler.transform(x.copy(), copy=False)[-1, -1])


def test_overflow_is_no_inf():
    """The variance is out of the range of a double. The data is not, and must be accepted."""
    scaler = of([[1e308], [-1e308], [1e308]])
    assert scaler.n_samples_seen_ == 3
    assert scaler.transform([[1e308]]).shape == (1, 1)


def test_scale_follows_the_rule_of_scikit_learn():
    from sklearn.preprocessing._data import _handle_zeros_in_scale, _is_constant_feature

    sd, mean = 10.0 ** rng(2).uniform(-30, 0, 4000), 10.0 ** rng(3).uniform(-20, 20, 4000)
    x = rng(1).standard_normal((50, 4000)) * sd + mean
    x[:, :10] = 0.0
    x[:, 10:20] = 7.0
    scaler = of(x)
    constant = _is_constant_feature(scaler.var_, scaler.mean_, scaler.n_samples_seen_)
    assert 1000 < constant.sum() < 3000
    np.testing.assert_array_equal(scaler.scale_, _handle_zeros_in_scale(np.sqrt(scaler.var_), constant_mask=constant))
    huge = of([[1e300], [2e300]])
    assert huge.scale_.tolist() == [5e299]
    assert huge.transform([[1e300], [2e300]]).tolist() == [[-1.0], [1.0]]
    constant = of([[1.7e308], [1.7e308 * (1 - 2.0**-52)]])
    assert constant.scale_.tolist() == [1.0]


@pytest.mark.parametrize("with_mean", [True, False])
@pytest.mark.parametrize("with_std", [True, False])
def test_parameters(with_mean, with_std):
    ours = of(X, with_mean=with_mean, with_std=with_std)
    theirs = preprocessing.StandardScaler(with_mean=with_mean, with_std=with_std).fit(X)
    for name in ATTRIBUTES:
        if getattr(theirs, name) is None:
            assert getattr(ours, name) is None
        else:
            np.testing.assert_allclose(getattr(ours, name), getattr(theirs, name), rtol=1e-12)
    y = ours.transform(X)
    np.testing.assert_allclose(y, theirs.transform(X), rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(ours.inverse_transform(y), X, rtol=1e-12)
    assert repr(ours) == repr(theirs)
    assert ours.get_params() == {**theirs.get_params(), "exact": False}


def test_parameters_are_checked():
    with pytest.raises(ValueError, match="The 'with_mean' parameter of StandardScaler must be an instance of 'bool'"):
        StandardScaler(with_mean="yes").fit(X)


def test_bits_do_not_depend_on_threads():
    x = rng().standard_normal((4000, 100)).astype("f4")
    results = []
    for n_threads in (1, 2, 3):
        set_num_threads(n_threads)
        scaler = of(x, x[:7])
        results.append((scaler.mean_.tobytes(), scaler.scale_.tobytes(), scaler.transform(x).tobytes()))
    assert len(set(results)) == 1


# The state

def test_merge():
    """Merging gives the bits of partial_fit, also if features differ in their counts."""
    x = X.copy()
    x[5, 1] = np.nan
    a, b, c = x[:4], x[4:30], x[30:]
    whole = of(a, b, c)
    assert_same_bits(of(a).merge(of(b)).merge(of(c)), whole)
    assert_same_bits(of(a) + of(b) + of(c), whole)
    assert_same_bits(sum([of(a), of(b), of(c)]), whole)
    assert_same_bits(sum([of(a), of(b), of(c)], StandardScaler()), whole)
    assert whole.n_samples_seen_.tolist() == [60, 59, 60]
    merged = StandardScaler().merge(of(a))
    assert merged.n_features_in_ == 3
    assert merged.merge(merged).n_samples_seen_ == 8


def test_merge_does_not_change_the_other():
    a, b = of(X[:9]), of(X[9:])
    before = pickle.dumps(b)
    total = a + b
    total.partial_fit(X)
    a.merge(b).partial_fit(X)
    assert pickle.dumps(b) == before
    assert_same_bits(b, of(X[9:]))
    assert a.merge(StandardScaler()) is a
    for other in (StandardScaler(with_std=False), preprocessing.StandardScaler(with_mean=False)):
        assert a.merge(other) is a
    assert a.n_samples_seen_ == total.n_samples_seen_ == 120


def test_merge_assigns_once():
    """So that another thread, or an interruption, never sees new statistics with the features of before."""
    assigned = []

    class Recording(StandardScaler):
        def __setattr__(self, name, value):
            assigned.append(name)
            super().__setattr__(name, value)

    other = StandardScaler().fit(X)
    other.feature_names_in_ = np.array(["a", "b", "c"], object)[:X.shape[1]]
    scaler = Recording()
    assigned.clear()
    scaler.merge(other)
    assert assigned == ["__dict__"]
    assert scaler.n_features_in_ == X.shape[1]
    assert scaler.feature_names_in_ is other.feature_names_in_


@pytest.mark.parametrize("exponents", [(0, 0), (0, 3), (3, 0)])
def test_merged_parts_are_new(exponents):
    a, b = (Part(Moments().update(x), exponent) for x, exponent in zip((X, X[:5]), exponents, strict=True))
    before = [part.moments.copy() for part in (a, b)]
    merged(a, b).moments.update(X)
    merged(Part(Moments(), exponents[1]), b).moments.update(X)
    assert [a.moments, b.moments] == before


def test_merge_with_a_scaler_of_scikit_learn():
    theirs = preprocessing.StandardScaler().fit(X[20:])
    merged = of(X[:20]).merge(theirs)
    np.testing.assert_allclose(merged.var_, of(X).var_, rtol=1e-12)
    assert merged.n_samples_seen_ == 60
    np.testing.assert_allclose((of(X[:20]) + theirs).mean_, of(X).mean_, rtol=1e-12)


def test_merge_refuses(unchanged):
    scaler = of(X)
    refused = {
        "expected a StandardScaler to merge, got ndarray; partial_fit\\(\\) takes arrays": (TypeError, X),
        "expected a scaler of 3 features, as this one, got one of 2": (ValueError, of(X[:, :2])),
        "expected a scaler with with_mean=True, as this one, got False": (ValueError, of(X, with_mean=False)),
        "expected a scaler with with_std=True, as this one, got False": (ValueError, of(X, with_std=False)),
    }
    for message, (error, other) in refused.items():
        unchanged(scaler, error, message, lambda m, other=other: m.merge(other))
    theirs = preprocessing.StandardScaler(with_std=False).fit(X)        # it has no var_
    unchanged(scaler, ValueError, "a scaler with with_std=True, as this one, got False", lambda m: m.merge(theirs))
    with pytest.raises(TypeError, match="unsupported operand"):
        scaler + 1
    with pytest.raises(TypeError, match="unsupported operand"):
        1 + scaler


def test_merge_compares_names(unchanged):
    pd = pytest.importorskip("pandas")
    a, b = of(pd.DataFrame(X, columns=list("abc"))), of(pd.DataFrame(X, columns=list("abx")))
    message = r"expected a scaler of the features \['a', 'b', 'c'\], as this one, got \['a', 'b', 'x'\]"
    unchanged(a, ValueError, message, lambda m: m.merge(b))
    assert a.merge(of(X)).feature_names_in_.tolist() == list("abc")
    assert of(X).merge(a).feature_names_in_.tolist() == list("abc")
    assert (StandardScaler() + a).get_feature_names_out().tolist() == list("abc")
    refused = StandardScaler()
    with pytest.raises(ValueError, match="Input X contains infinity"):
        refused.fit(pd.DataFrame({"x": [np.inf]}))
    assert refused.merge(a).feature_names_in_.tolist() == list("abc")


def test_threads_share_a_scaler():
    """No batch is lost, and no reader sees half of one."""
    scaler, torn = StandardScaler().fit(X), []

    def fit(seed):
        for _ in range(50):
            scaler.partial_fit(X)
            torn.append(abs(scaler.mean_ - X.mean(0)).max() > 1e-9)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(fit, range(4)))
    assert scaler.n_samples_seen_ == 60 * 201
    assert not any(torn)


@pytest.mark.parametrize("name", ["merge", "update"])
def test_interrupted(name):
    """Whatever raises in a fit or a merge, the attributes describe the same samples as before."""
    scaler = of(X)
    scaler.var_ = scaler.var_ * 2
    before = {attribute: np.array(getattr(scaler, attribute)) for attribute in ATTRIBUTES}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("bnstream.sklearn.statistics.FeatureStatistics", lambda *arguments: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            scaler.merge(of(X + 1)) if name == "merge" else scaler.partial_fit(X + 1)
    for attribute, values in before.items():
        np.testing.assert_array_equal(getattr(scaler, attribute), values)
    assert scaler.partial_fit(X).n_samples_seen_ == 120


def test_fit_discards_earlier_fits():
    scaler = of(X)
    assert_same_bits(scaler.fit(X[:9]), of(X[:9]))
    assert scaler.fit(X[:, :2]).n_features_in_ == 2


def test_fit_that_raises():
    """The scaler is not fitted afterwards, whether it was before or not."""
    for scaler in (StandardScaler(), of(X)):
        with pytest.raises(ValueError, match="Input X contains infinity"):
            scaler.fit([[np.inf]])
        with pytest.raises(NotFittedError, match="not fitted yet"):
            scaler.transform(X)
        assert not any(hasattr(scaler, name) for name in ATTRIBUTES)
        assert scaler.partial_fit(X).n_samples_seen_ == 60


def test_refused_batches(unchanged):
    scaler = of(X)
    features = "X has 2 features, but StandardScaler is expecting 3 features as input"
    unchanged(scaler, ValueError, features, lambda m: m.partial_fit(X[:, :2]))
    unchanged(scaler, ValueError, features, lambda m: m.transform(X[:, :2]))
    unchanged(scaler, ValueError, "Expected 2D array, got 1D array", lambda m: m.partial_fit(X[0]))
    unchanged(scaler, ValueError, "Found array with 0 sample", lambda m: m.partial_fit(X[:0]))
    unchanged(scaler, ValueError, "Complex data not supported", lambda m: m.partial_fit(X + 1j))
    unchanged(scaler, ValueError, features, lambda m: m.inverse_transform(X[:, :2]))


def test_attribute_before_a_fit():
    with pytest.raises(AttributeError, match=r"'StandardScaler' object has no attribute 'mean_' before it is fitted"):
        _ = StandardScaler().mean_
    assert StandardScaler.mean_.__doc__ == "Mean of each feature."


@pytest.mark.parametrize("duplicate", [copy.copy, copy.deepcopy, lambda scaler: pickle.loads(pickle.dumps(scaler))])
def test_copies_are_independent(duplicate):
    scaler = of(X[:9])
    scaler.transform(X)
    other = duplicate(scaler)
    assert_same_bits(other, scaler)
    assert_same_bits(other.partial_fit(X[9:]), of(X[:9], X[9:]))
    assert_same_bits(scaler, of(X[:9]))
    assert duplicate(StandardScaler(with_mean=False)).with_mean is False


def test_clone():
    scaler = clone(of(X, with_std=False, copy=False))
    assert scaler.get_params() == {"copy": False, "with_mean": True, "with_std": False, "exact": False}
    assert not hasattr(scaler, "mean_")


def test_state_is_exact_after_pickling():
    """The low halves of the pairs are kept. With this offset scikit-learn loses all digits."""
    x = HARD["offset 1e15"]
    parts = [pickle.loads(pickle.dumps(of(part))) for part in np.array_split(x, 100)]
    assert_within(sum(parts).mean_, sum(parts).var_, exact_states(x))


def test_attributes_can_be_set():
    """transform, partial_fit and merge use attributes that were set, as in scikit-learn."""
    fitted, scaler = of(X[:20]), StandardScaler()
    for name in ATTRIBUTES:
        setattr(scaler, name, getattr(fitted, name))
    np.testing.assert_array_equal(scaler.transform(X), fitted.transform(X))
    merged = of(X[20:]).merge(scaler)
    scaler.partial_fit(X[20:])
    for other in (scaler, merged):
        np.testing.assert_allclose(other.mean_, of(X).mean_, rtol=1e-12)
        np.testing.assert_allclose(other.var_, of(X).var_, rtol=1e-12)
        assert other.n_samples_seen_ == 60
    scaler.scale_ = np.array([1.0, 2.0, 4.0])
    scaler.mean_ = np.zeros(3)
    np.testing.assert_array_equal(scaler.transform(X), X / [1, 2, 4])
    assert scaler.partial_fit(X).mean_[0] == pytest.approx(X[:, 0].mean() / 2)
    fitted.scale_[0] = 1e3
    for edited in (fitted, pickle.loads(pickle.dumps(fitted))):
        np.testing.assert_allclose(edited.transform(X)[:, 0], (X[:, 0] - fitted.mean_[0]) / 1e3)
    given = StandardScaler()
    given.mean_, given.scale_ = np.ones(3), np.full(3, 2.0)
    np.testing.assert_array_equal(given.transform(X), (X - 1) / 2)
    assert_same_bits(given.partial_fit(X), of(X))


# transform

def test_in_place():
    x = X.copy()
    scaler = of(X, copy=False)
    wanted = scaler.transform(x, copy=True)
    np.testing.assert_array_equal(x, X)
    assert scaler.transform(x) is x
    np.testing.assert_array_equal(x, wanted)
    assert scaler.inverse_transform(x) is x
    np.testing.assert_allclose(x, X, rtol=1e-12)
    x.flags.writeable = False
    np.testing.assert_allclose(scaler.transform(x), wanted, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(x, X, rtol=1e-12)


@pytest.mark.parametrize("make", ["array", "list", "i4", ">f8", "Fortran"])
def test_input_is_not_changed(make):
    x = np.rint(X)
    x = x.tolist() if make == "list" else np.asfortranarray(x) if make == "Fortran" else x
    x = x.astype(make) if make[-1].isdigit() else x
    kept = copy.deepcopy(x)
    wanted = preprocessing.StandardScaler().fit(x).transform(x)
    for got in (of(x).transform(x), of(x).fit_transform(x)):
        np.testing.assert_allclose(got, wanted, rtol=1e-12, atol=1e-12)
        np.testing.assert_array_equal(x, kept)


@pytest.mark.parametrize("dtype", ["f4", "f8", "i2", "f2"])
def test_memory(dtype):
    """No temporary array has the size of the input."""
    x = np.ones((1 << 13, 256), dtype)
    x[::2] = 3
    if x.dtype.kind == "f":
        x[7, 7] = np.nan
    scaler = StandardScaler().fit(x[:100])
    written = x.size * (x.itemsize if x.dtype.kind == "f" else 8)
    with traced() as fitting:
        scaler.partial_fit(x)
    with traced() as transforming:
        scaler.transform(x)
    with traced() as in_place:
        scaler.transform(x, copy=False)
    assert fitting() < 0.1 * x.nbytes
    assert transforming() < 1.1 * written
    assert in_place() < (0.1 if x.dtype.kind == "f" else 1.1) * written


# Features of scikit-learn

def test_frames():
    pd = pytest.importorskip("pandas")
    columns = {"a": X[:, 0], "b": np.arange(60), "c": np.arange(60) % 2 == 0}
    for frame in (pd.DataFrame(columns), pd.DataFrame({"a": np.arange(60, dtype="i4"), "b": np.arange(60, dtype="i8")}),
                  pd.DataFrame({"a": X[:, 0].astype("f4"), "b": X[:, 1].astype("f4")}),
                  pd.DataFrame({"a": pd.array([1, None, 3, 4] * 15, dtype="Int64"), "b": X[:, 1]}),
                  pd.DataFrame({"a": np.arange(60) % 3 == 0, "b": np.arange(60) % 2 == 0})):
        ours, theirs = StandardScaler().fit(frame), preprocessing.StandardScaler().fit(frame)
        for name in ATTRIBUTES:
            np.testing.assert_allclose(getattr(ours, name), getattr(theirs, name), rtol=1e-12)
        kept = frame.copy()
        wanted = theirs.set_output(transform="pandas").transform(frame)
        got = ours.set_output(transform="pandas").transform(frame)
        pd.testing.assert_frame_equal(got, wanted)
        pd.testing.assert_frame_equal(frame, kept)
    with pytest.raises(ValueError, match="The feature names should match those that were passed during fit"):
        ours.transform(frame[["b", "a"]])
    with pytest.warns(UserWarning, match="X does not have valid feature names, but StandardScaler was fitted with"):
        ours.transform(frame.to_numpy())


def test_polars():
    pl = pytest.importorskip("polars")
    if not hasattr(sklearn.utils, "_set_output") or sklearn.__version__ < "1.5":
        pytest.skip("this version of scikit-learn does not support polars")
    frame = pl.DataFrame({"a": X[:, 0], "b": np.arange(60)})
    kept = frame.clone()
    got = StandardScaler().set_output(transform="polars").fit_transform(frame)
    wanted = preprocessing.StandardScaler().set_output(transform="polars").fit_transform(frame)
    assert got.columns == ["a", "b"]
    np.testing.assert_allclose(got.to_numpy(), wanted.to_numpy(), rtol=1e-12, atol=1e-12)
    assert frame.equals(kept)


def test_pipeline():
    from sklearn.linear_model import LogisticRegression

    y = X[:, 0] > 0
    scalers = StandardScaler(), preprocessing.StandardScaler()
    pipes = [make_pipeline(scaler, LogisticRegression()).fit(X, y) for scaler in scalers]
    assert isinstance(pipes[0][0], preprocessing.StandardScaler)
    np.testing.assert_allclose(pipes[0].predict_proba(X), pipes[1].predict_proba(X), rtol=1e-6)


ELSEWHERE = """
import numpy as np
import sklearn
from bnstream.sklearn import StandardScaler
from sklearn import preprocessing
import LIBRARY as xp

x = np.random.default_rng(0).standard_normal((30, 3)) + 3
with sklearn.config_context(array_api_dispatch=True):
    ours, theirs = StandardScaler().fit(x), preprocessing.StandardScaler().fit(xp.asarray(x))
    assert isinstance(ours.transform(x), np.ndarray)
    ours.fit(xp.asarray(x)).partial_fit(xp.asarray(x * 2))
    theirs.partial_fit(xp.asarray(x * 2))
    for call in ("transform", "inverse_transform"):
        got = getattr(ours, call)(xp.asarray(x))
        assert type(got) is type(xp.asarray(x))
        assert bool(xp.all(got == getattr(theirs, call)(xp.asarray(x))))
    ours.partial_fit(x * 3)
both = np.concatenate([x, x * 2, x * 3])
assert ours.n_samples_seen_ == 90
np.testing.assert_allclose(ours.mean_, both.mean(0), rtol=1e-12)
np.testing.assert_allclose(ours.var_, both.var(0), rtol=1e-12)
ours.fit(x)
assert ours.n_samples_seen_ == 30 and isinstance(ours.mean_, np.ndarray)
"""


@pytest.mark.parametrize("library", ["array_api_strict", "torch"])
def test_arrays_of_other_libraries(library):
    """Under array API dispatch scikit-learn handles them itself. NumPy arrays can follow."""
    pytest.importorskip(library)
    tags = getattr(preprocessing.StandardScaler(), "__sklearn_tags__", None)
    if tags is None or not tags().array_api_support:
        pytest.skip("this version of scikit-learn has no array API dispatch for StandardScaler")
    done = python("-W", "default", "-c", ELSEWHERE.replace("LIBRARY", library), SCIPY_ARRAY_API="1")
    assert done.returncode == 0
