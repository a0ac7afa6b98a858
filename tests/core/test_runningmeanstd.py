"""RunningMeanStd: the interface of gymnasium's, exact and without a made-up sample."""

import copy
import doctest
import itertools
import pickle
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from support.arrays import of_dtype
from support.oracle import assert_within, exact_states
from support.processes import python

import bnstream
from bnstream import Moments, normalize
from bnstream.core import runningmeanstd
from bnstream.core.runningmeanstd import RunningMeanStd

X = of_dtype("f8", (40, 3))
COPIES = {"copy()": RunningMeanStd.copy, "copy.copy": copy.copy, "copy.deepcopy": copy.deepcopy,
          "pickle": lambda rms: pickle.loads(pickle.dumps(rms))}


def of(*batches, **options):
    rms = RunningMeanStd(**options)
    for batch in batches:
        assert rms.update(batch) is rms
    return rms


def values_of(rms):
    return rms.mean.tolist(), rms.var.tolist(), rms.count


def unchanged(rms, error, message, call):
    before = pickle.dumps(rms)
    with pytest.raises(error, match=message):
        call(rms)
    assert pickle.dumps(rms) == before


def test_docstrings():
    assert doctest.testmod(runningmeanstd).attempted > 10
    assert doctest.testmod(runningmeanstd).failed == 0


@pytest.mark.parametrize("shape", [(), (3,), (2, 3)])
def test_before_the_first_sample_normalizing_changes_nothing(shape):
    rms = RunningMeanStd(shape=shape)
    np.testing.assert_array_equal(rms.mean, np.zeros(shape), strict=True)
    np.testing.assert_array_equal(rms.var, np.ones(shape), strict=True)
    assert rms.count == 0
    x = of_dtype("f4", (5, *shape))
    np.testing.assert_array_equal(normalize(x, rms.mean, rms.var), x)


@pytest.mark.parametrize("offset", [0, 1e8, -1e15])
@pytest.mark.parametrize("epsilon", [1e-4, 1e4])
def test_statistics_are_exact(offset, epsilon):
    x = X + offset
    rms = of(x[:1], x[1:8], x[8:8], x[8:], epsilon=epsilon, shape=(3,))
    assert rms.count == 40
    assert_within(rms.mean, rms.var, exact_states(x))


def test_one_sample_has_variance_0():
    assert values_of(of(X[:1])) == (X[0].tolist(), [0, 0, 0], 1)


@pytest.mark.parametrize("shape", [(), (2, 3), (0,)])
def test_samples_of_any_shape(shape):
    x = of_dtype("f8", (6, *shape))
    rms = of(x, shape=shape)
    np.testing.assert_array_equal(rms.mean, Moments().update(x).mean if x.size else np.zeros(shape), strict=True)
    assert rms.count == (6 if x.size else 0)


def test_values_are_new_after_an_update():
    rms = of(X[:10])
    before = values_of(rms)
    for call in (lambda: rms.update(X[10:20]), lambda: rms.merge(of(X[20:30])),
                 lambda: rms.update_from_moments(X[30:].mean(0), X[30:].var(0), 10)):
        call()
        assert all(new != old for new, old in zip(values_of(rms), before, strict=True))
        before = values_of(rms)
    assert before[2] == 40
    np.testing.assert_allclose([rms.mean, rms.var], [X.mean(0), X.var(0)], rtol=1e-14)


def test_values_that_were_read_do_not_change():
    rms = of(X[:10])
    mean, values = rms.mean, rms.mean.tolist()
    rms.update(X[10:])
    assert mean.tolist() == values


@pytest.mark.parametrize("make", [lambda: RunningMeanStd(shape=3), lambda: of(X), lambda: of(X).copy()])
def test_values_are_read_only(make):
    rms = make()
    for values in (rms.mean, rms.var):
        with pytest.raises(ValueError, match="read-only"):
            values[0] = 5


def test_dtype_of_mean_and_var():
    rms = of(X + 1e8, dtype=np.float32)
    assert (rms.mean.dtype, rms.var.dtype) == ("float32", "float32")
    exact = of(X + 1e8)
    np.testing.assert_array_equal(rms.var, exact.var.astype("f4"))
    assert rms == exact
    assert rms.copy().var.dtype == "float32"


@pytest.mark.parametrize("dtype", ["i8", "c8", "U3"])
def test_invalid_dtypes(dtype):
    with pytest.raises(TypeError, match=r"dtype must be float16, bfloat16, float32 or float64, got '(i8|c8|U3)'"):
        RunningMeanStd(dtype=dtype)


@pytest.mark.parametrize("way", COPIES.values(), ids=COPIES)
@pytest.mark.parametrize("read", [False, True])
def test_copies(way, read):
    rms = of(X)
    if read:
        assert rms.mean.shape == (3,)
    twin = way(rms)
    assert twin == rms
    assert values_of(twin) == values_of(rms)
    assert twin.update(X[:1]) != rms
    assert rms == of(X)
    with pytest.raises(ValueError, match="read-only"):
        way(rms).mean[0] = 5
    assert way(RunningMeanStd(shape=3)).mean.tolist() == [0, 0, 0]


def test_equality():
    assert RunningMeanStd() == RunningMeanStd(shape=3)      # neither has samples
    assert of(X) == of(X, epsilon=1)
    assert of(X) != of(X[:-1])
    assert of(X) != of(X + 1e-9)
    assert of(X) != Moments().update(X)
    with pytest.raises(TypeError, match="unhashable"):
        hash(of(X))


def test_equality_before_the_first_sample():
    """With a count of 0, mean and variance are what was set."""
    first, second = RunningMeanStd(shape=2), RunningMeanStd(shape=2)
    assert first == second == first.copy()
    second.mean = [0.0, 5.0]
    assert first != second == second.copy()
    first.mean, first.var = second.mean, [1.0, 4.0]
    assert first != second
    assert RunningMeanStd(shape=2) != RunningMeanStd(shape=3)
    assert RunningMeanStd() != first


def test_merge():
    a, b = of(X[:10]), of(X[10:])
    both = a + b
    assert_within(both.mean, both.var, exact_states(X))
    assert (a, b) == (of(X[:10]), of(X[10:]))
    assert a.merge(b) is a
    assert a == both
    assert sum([of(X[:10]), of(X[10:])]) == both
    assert sum([of(X[:10]), of(X[10:])], RunningMeanStd(shape=3)) == both
    assert RunningMeanStd().merge(RunningMeanStd()) == RunningMeanStd()


@pytest.mark.parametrize("other", [Moments(), 3, None])
def test_merge_with_other_objects(other):
    message = rf"expected a RunningMeanStd to merge, got {type(other).__name__}; update\(\) takes batches"
    unchanged(of(X), TypeError, message, lambda rms: rms.merge(other))
    with pytest.raises(TypeError, match="unsupported operand"):
        of(X) + other
    with pytest.raises(TypeError, match="unsupported operand"):
        other + of(X)


@pytest.mark.parametrize("call", [
    lambda rms: rms.update(np.ones((2, 4))), lambda rms: rms.merge(of(np.ones((2, 4)))),
    lambda rms: rms.update_from_moments(np.ones(4), np.ones(4), 2),
])
def test_samples_of_another_shape(call):
    unchanged(RunningMeanStd(shape=(3,)), ValueError,
              r"expected samples of shape \(3,\), the shape of this RunningMeanStd, got \(4,\)", call)
    unchanged(of(X), ValueError, r"expected channels of shape \(3,\) as .* got \(4,\)", call)
    assert call(RunningMeanStd()).count == 2


def test_nan_and_complex_numbers_are_refused():
    bad = X.copy()
    bad[5, 1] = np.nan
    for rms in (of(X), RunningMeanStd(shape=3)):
        unchanged(rms, ValueError, r"NaN or inf.* 1\b", lambda rms: rms.update(bad))
        unchanged(rms, TypeError, "complex", lambda rms: rms.update(X * 1j))


def test_update_from_moments():
    rms = of(X[:10])
    assert rms.update_from_moments(X[10:].mean(0), X[10:].var(0), 30) is rms
    np.testing.assert_allclose([rms.mean, rms.var], [X.mean(0), X.var(0)], rtol=1e-14)
    assert rms.count == 40
    assert RunningMeanStd().update_from_moments([1, 2], 4, 3).var.tolist() == [4, 4]
    assert of(X).update_from_moments(5, 1, 0) == of(X)
    assert RunningMeanStd().update_from_moments(5.0, 1.0, 2.5).count == 2.5


def test_masks_of_tables():
    """Every update takes what the first one takes: here integers that one array of float64 would round."""
    pd = pytest.importorskip("pandas")
    frame = pd.DataFrame({"a": [2**60, 2**60 + 512, 7], "b": [1.0, 2.0, 7.0]})
    mask = [True, True, False]
    rms = RunningMeanStd().update(frame, where=mask).update(frame, where=mask)
    assert (rms.count, rms.mean.tolist()) == (4, [2**60 + 256, 1.5])


def test_weights_and_mask():
    """Whole weights repeat samples, a mask leaves them out; the state is that of `Moments`."""
    w, mask = np.arange(40) % 4, np.arange(40) % 3 > 0
    for given, times in (({"weights": w}, w), ({"where": mask}, 1 * mask), ({"weights": w, "where": mask}, w * mask)):
        x = X.copy()
        x[times == 0] = np.nan
        rms = RunningMeanStd(shape=(3,)).update(x[:9], **{name: value[:9] for name, value in given.items()})
        assert rms.update(x[9:], **{name: value[9:] for name, value in given.items()}, n_threads=2) is rms
        assert_within(rms.mean, rms.var, exact_states(np.repeat(X, times, axis=0)))
        assert rms.count == times.sum()
        assert rms.moments == Moments().update(x[:9], **{name: value[:9] for name, value in given.items()}).update(
            x[9:], **{name: value[9:] for name, value in given.items()})


@pytest.mark.parametrize("given", [{"weights": np.zeros(40)}, {"where": np.zeros(40, bool)}])
@pytest.mark.parametrize("shape", [(), (3,)])
def test_weights_of_0_are_no_samples(given, shape):
    rms = RunningMeanStd(shape=shape).update(X, **given)
    assert values_of(rms) == ([0, 0, 0], [1, 1, 1], 0)
    assert values_of(rms.update(X)) == values_of(of(X))


@pytest.mark.parametrize(("given", "error", "message"), [
    ({"weights": [1, 2]}, ValueError, "weights must have the shape"),
    ({"weights": -np.ones(40)}, ValueError, "not negative"), ({"where": np.ones(40)}, TypeError, "where must be"),
    ({"n_threads": 0}, ValueError, "threads"),
])
def test_invalid_weights(given, error, message):
    for rms in (of(X), RunningMeanStd(shape=3)):
        unchanged(rms, error, message, lambda rms: rms.update(X, **given))


@pytest.mark.parametrize(("mean", "var", "count", "message"), [
    ([1, 2], [1, 2, 3], 1, r"batch_mean and batch_var must have the same shape, got \(2,\) and \(3,\)"),
    (1, [1, 2, 3], 1, r"must have the same shape, got \(\) and \(3,\)"),
    ([1, np.nan], [1, 1], 1, r"must be finite, and batch_var not negative, got \[ 1. nan\] and \[1. 1.\]"),
    ([1, 1], [1, np.inf], 1, r"must be finite, and batch_var not negative, got \[1. 1.\] and \[ 1. inf\]"),
    ([1, 1], [1, -1], 1, r"must be finite, and batch_var not negative, got \[1. 1.\] and \[ 1. -1.\]"),
    (1, 1, -1, "batch_count must be finite and not negative, got -1"),
    (1, 1, np.inf, "batch_count must be finite and not negative, got inf"),
    (1, 1, np.nan, "batch_count must be finite and not negative, got nan"),
])
def test_invalid_moments(mean, var, count, message):
    for rms in (of(X), RunningMeanStd()):
        unchanged(rms, ValueError, message, lambda rms: rms.update_from_moments(mean, var, count))


@pytest.mark.parametrize("order", list(itertools.permutations(["mean", "var", "count"])))
@pytest.mark.parametrize("make", [lambda: RunningMeanStd(shape=3), lambda: of(X[:5])])
def test_mean_var_and_count_can_be_set(order, make):
    """Programs do so to load the saved statistics of gymnasium's class."""
    rms, values = make(), {"mean": np.array([1.0, 2, 3]), "var": np.array([4.0, 5, 6]), "count": 100}
    for name in order:
        setattr(rms, name, values[name])
        np.testing.assert_array_equal(getattr(rms, name), values[name])
    assert values_of(rms) == ([1, 2, 3], [4, 5, 6], 100)
    rms.update(X)
    expected = RunningMeanStd().update_from_moments(*values.values()).update(X)
    np.testing.assert_allclose([rms.mean, rms.var], [expected.mean, expected.var], rtol=1e-15)


def test_mean_and_var_set_without_a_count_have_no_weight():
    rms = RunningMeanStd(shape=3)
    rms.mean = [5, 5, 5]
    rms.var = [2, 2, 2]
    assert values_of(rms) == ([5, 5, 5], [2, 2, 2], 0)
    assert rms.update(X) == of(X)


def test_setting_one_leaves_the_others():
    rms = of(X, dtype="f4")
    mean, var = rms.mean, rms.var
    rms.count = 7
    assert (rms.mean.tolist(), rms.var.tolist(), rms.count) == (mean.tolist(), var.tolist(), 7)
    rms.var = [1, 2, 3]
    assert (rms.mean.tolist(), rms.var.tolist(), rms.count) == (mean.tolist(), [1, 2, 3], 7)
    assert rms.moments.mean.tolist() == of(X).mean.tolist()         # not rounded to float32
    rms = of(X, dtype="f4")
    rms.mean = [1, 2, 3]
    assert rms.moments.var() == pytest.approx(of(X).var, rel=1e-15)


@pytest.mark.parametrize(("name", "value", "message"), [
    ("mean", [1, 2], r"same shape, got \(2,\) and \(3,\)"), ("var", [1, 1, -1], "var not negative"),
    ("count", -1, "not negative, got -1"),
])
def test_setting_invalid_values(name, value, message):
    unchanged(of(X), ValueError, message, lambda rms: setattr(rms, name, value))


def test_the_moments_are_a_copy():
    rms = of(X)
    assert rms.moments == Moments().update(X)
    rms.moments.update(X)
    assert rms == of(X)
    assert repr(rms).startswith("RunningMeanStd of Moments(axis=0, nan_policy='raise'): channels (3,)")


def test_threads_may_share_one():
    rms = RunningMeanStd(shape=3)

    def work(batch):
        for row in batch:
            rms.update(row[None])
            assert rms.mean.shape == rms.var.shape == (3,)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(work, np.split(of_dtype("f8", (4000, 3)), 4)))
    assert rms.count == 4000
    assert_within(rms.mean, rms.var, exact_states(of_dtype("f8", (4000, 3))))


def test_gymnasium_is_not_needed():
    python("-c", "import sys; sys.modules['gymnasium'] = None\n"
                 "from bnstream.core.runningmeanstd import RunningMeanStd\n"
                 "assert RunningMeanStd().update([1.0]).count == 1")


def test_without_gymnasium_the_error_says_what_to_install():
    done = python("-c", "import sys; sys.modules['gymnasium'] = None; import bnstream.gymnasium", check=False)
    assert done.stderr.rstrip().endswith(
        'ModuleNotFoundError: bnstream.gymnasium needs gymnasium, which is not installed; install it with: pip install '
        '"bnstream[gymnasium]"; bnstream.runningmeanstd works without it')


def test_fractional_count(tmp_path):
    """gymnasium's counts are fractional, because of the made-up sample."""
    rms = RunningMeanStd().update_from_moments(np.array([1.0, 2.0]), np.array([1.0, 4.0]), 100.5)
    bnstream.save(tmp_path / "rms.npz", rms.moments)
    m = bnstream.load(tmp_path / "rms.npz")
    assert m == rms.moments
    assert rms.count == 100.5
    assert np.all(m.n == 100.5)
    assert m.var().tolist() == [1.0, 4.0]


@pytest.mark.parametrize("count", [0.5, 1, 1.0, 2.5, 1e-4])
def test_variance_of_a_small_count_is_saved(count, tmp_path):
    """A count of 1 with a variance, or less than 1, is a sum of weights."""
    rms = RunningMeanStd().update_from_moments([1.0, 2.0], [4.0, 0.0], count)
    bnstream.save(tmp_path / "rms", rms.moments)
    assert bnstream.load(tmp_path / "rms") == rms.moments
    assert (rms.count, rms.copy()) == (count, rms)
