"""What Moments track beside mean and variance: min, max, missing, skewness and kurtosis."""

import copy
import itertools
import pickle
import threading
import time
from decimal import Decimal, localcontext
from fractions import Fraction

import ml_dtypes
import numpy as np
import pytest
from scipy import stats
from support.arrays import every_other, normal, random_cuts, rng, swapped
from support.states import state

import bnstream
from bnstream import Moments
from bnstream.core.moments import rows_of, tracked_of
from bnstream.core.tracking import OF_KERNELS as NAMES

EPS = 2.0**-52
EXACT = ("min", "max", "missing")
NAN = float("nan")


def decimal(value):
    return Decimal(value.numerator) / value.denominator


def true_shape(values, weights=None):
    """Skewness, its scale mean(abs(d)**3) / sd**3, and kurtosis, in exact arithmetic but for the last root."""
    values = [Fraction(value.item()) for value in values]
    weights = [Fraction(1)] * len(values) if weights is None else [Fraction(float(weight)) for weight in weights]
    n = sum(weights)
    mean = sum(w * x for w, x in zip(weights, values, strict=True)) / n
    m2, m3, m4 = (sum(w * (x - mean)**k for w, x in zip(weights, values, strict=True)) / n for k in (2, 3, 4))
    absolute = sum(w * abs(x - mean)**3 for w, x in zip(weights, values, strict=True)) / n
    with localcontext() as context:
        context.prec = 60
        root = decimal(m2) * decimal(m2).sqrt()
        return decimal(m3) / root, float(decimal(absolute) / root), decimal(m4 / m2**2)


def shape_by_raw_sums(x):
    """The wrong algorithm: sums of powers of the numbers themselves."""
    x = np.asarray(x, np.float64)
    a, b, c, d = (np.mean(x**k) for k in (1, 2, 3, 4))
    var = b - a * a
    return (c - 3 * a * b + 2 * a**3) / np.abs(var)**1.5, (d - 4 * a * c + 6 * a * a * b - 3 * a**4) / var**2


def wild_first(n):
    x = rng(3).normal(size=n)
    x[0] = 1e4
    return x


DATA = {
    "normal": rng(0).normal(size=1500),
    "offset": rng(1).normal(size=1500) + 1e8,
    "gamma": rng(2).gamma(0.3, 5.0, size=1500),
    "two points": np.where(rng(4).random(1500) < 0.01, 1.0, 0.0),
    "even": np.tile([-1.0, 1.0], 750) + 3,
    "sorted": np.sort(rng(5).normal(size=1500)) + 100,
    "wild first": wild_first(1500),
    "single": (rng(6).normal(size=1500) + 1e4).astype(np.float32),
    "half": (rng(7).normal(size=1500) + 10).astype(np.float16),
    "bytes": rng(8).integers(0, 256, size=1500).astype(np.uint8),
    "long": rng(9).integers(0, 1000, size=1500) + 2**60,
}


def by_rows(x):
    return state(*x[:, None], track="skewness")


def merged(x):
    parts = [state(x[a:b], track="skewness") for a, b in random_cuts(len(x), rng(3))]
    rng(4).shuffle(parts)
    return sum(parts, Moments())


WAYS = {
    "columns": lambda x: Moments(track="skewness").update(x),
    "runs": lambda x: Moments(1, track="skewness").update(np.ascontiguousarray(x.T)),
    "sliced": lambda x: Moments(track="skewness").update(every_other(x, 1)),
    "gaps": lambda x: Moments(nan_policy="omit", track="skewness").update(with_nan(x)),
    "by rows": by_rows,
    "merged": merged,
}


def with_nan(x):
    return np.insert(x.astype(np.float64), [7, 800], NAN, axis=0) if x.dtype.kind == "f" else x


def assert_shape(m, values, weights=None):
    """Skewness and kurtosis within the stated bounds."""
    skewness, scale, kurtosis = true_shape(values, weights)
    tolerance = EPS * np.log2(len(values))
    assert abs(Decimal(float(m.skewness()[0])) - skewness) <= 32 * tolerance * scale
    assert abs(Decimal(float(m.kurtosis(fisher=False)[0])) / kurtosis - 1) <= 64 * tolerance


@pytest.mark.parametrize("name", DATA)
@pytest.mark.parametrize("way", WAYS)
def test_shape_is_within_its_bound(name, way):
    assert_shape(WAYS[way](DATA[name][:, None]), DATA[name])


def test_raw_sums_exceed_the_bound():
    x = DATA["single"]
    skewness, scale, kurtosis = true_shape(x)
    wrong, wrong_kurtosis = shape_by_raw_sums(x)
    assert abs(Decimal(float(wrong)) - skewness) > 100 * 32 * EPS * np.log2(len(x)) * scale
    assert abs(Decimal(float(wrong_kurtosis)) / kurtosis - 1) > 100 * 64 * EPS * np.log2(len(x))


@pytest.mark.parametrize("name", ["normal", "offset", "two points", "single"])
def test_weighted_shape_is_within_its_bound(name):
    x, weights = DATA[name], rng(11).integers(0, 5, size=1500) / 3
    assert_shape(Moments(track="kurtosis").update(x[:, None], weights=weights), x, weights)
    a, b = (Moments(track="kurtosis").update(x[part, None], weights=weights[part])
            for part in (slice(0, 400), slice(400, None)))
    assert_shape(b.merge(a), x, weights)


def test_scipy_agrees():
    x = rng(0).gamma(2.0, size=(200, 5))
    m = Moments(track="skewness").update(x)
    for bias in (True, False):
        np.testing.assert_allclose(m.skewness(bias=bias), stats.skew(x, bias=bias), rtol=1e-12)
        for fisher in (True, False):
            np.testing.assert_allclose(m.kurtosis(fisher=fisher, bias=bias),
                                       stats.kurtosis(x, fisher=fisher, bias=bias), rtol=1e-12)


def test_undefined_shape_is_nan():
    x = np.array([[1.0, 1e-90, 1.0, 1.0], [1.0, 3e-90, 2.0, 1e110], [1.0, 0.0, NAN, 3.0]])
    m = Moments(nan_policy="propagate", track="skewness").update(x)
    assert np.isnan(m.skewness()).all()
    assert np.isnan(m.kurtosis()).all()
    m = Moments(track="skewness").update(np.array([[1.0], [2.0]]))
    assert m.skewness().tolist() == [0.0]
    assert np.isnan(m.skewness(bias=False)).all()
    assert np.isnan(m.update(np.array([[4.0]])).kurtosis(bias=False)).all()
    assert np.isnan(Moments(track="kurtosis", names=["a", "b"]).kurtosis()).tolist() == [True, True]


def test_huge_data_makes_shape_nan_for_good():
    m = Moments(track=NAMES).update(np.array([[1e200], [-1e200]]))
    assert m.max.tolist() == [1e200]
    m.update(np.ones((4, 1)))
    assert np.isnan(m.kurtosis()).all()
    assert m == Moments().update([[1e200], [-1e200]]).update(np.ones((4, 1)))


# Extremes and what is missing, against NumPy.

SHAPES = [((1000, 37), 0), ((7, 3), 0), ((600, 300), 0), ((4, 5, 30, 31), (0, 2, 3)), ((3, 70, 5), (0, 1)), ((1, 5), 0),
          ((20, 3000), 1), ((50, 40, 8), (0, 2)), ((3, 2, 20000), (0, 2)), ((20000, 3), 0), ((100, 6, 4, 2), (0, 2, 3))]
DTYPES = ["f4", "f8", "f2", "i1", "u1", "i2", "u2", "i4", "u4", "i8", "u8", "?", ml_dtypes.bfloat16]
LAYOUTS = {"plain": lambda x: x, "sliced": lambda x: every_other(x, x.ndim - 1), "Fortran": np.asfortranarray}


def numbers(shape, dtype, has_nan):
    dtype = np.dtype(dtype)
    x = rng(1).normal(size=shape) * 40 + 50
    x = x.clip(0, 120) if dtype.kind in "ub" else x.clip(-120, 120)
    x = x.astype(dtype)
    if dtype == np.int64:
        x += 2**62 + 1
    if dtype == np.uint64:
        x += np.uint64(2**63 + 1)
    if has_nan and dtype.kind in "fV":
        x[rng(2).random(shape) < 0.002] = NAN
        x[rng(3).random(shape) < 0.001] = -np.inf
        x[..., -1] = NAN
    return x


def expected(x, axis, policy, used):
    """The least and the greatest, and how many are missing, of the elements used."""
    finite = np.isfinite(x.astype(np.float64))
    missing = (used & ~finite).sum(axis)
    used = used & finite if policy == "omit" else used
    values, n = x.astype(np.float64), used.sum(axis)
    least = np.where(n > 0, np.min(values, axis, where=used, initial=np.inf), NAN)
    return least, np.where(n > 0, np.max(values, axis, where=used, initial=-np.inf), NAN), missing


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize(("shape", "axis"), SHAPES)
def test_extremes_and_missing(shape, axis, dtype):
    axes = axis if isinstance(axis, tuple) else (axis,)
    every_way = itertools.product(LAYOUTS.items(), ("raise", "omit", "propagate"), (False, True))
    for (kind, layout), policy, exact in every_way:
        x = layout(numbers(shape, dtype, policy != "raise"))
        few = rng(5).random([shape[i] for i in axes]) < 0.7
        some = rng(6).random(shape) < 0.7
        weights = rng(7).integers(0, 3, size=few.shape)
        every = np.ones(shape, bool)
        along = np.expand_dims(few, [i for i in range(x.ndim) if i not in axes])
        heavy = np.expand_dims(weights > 0, [i for i in range(x.ndim) if i not in axes])
        for used, options in ((every, {}), (every & along, {"where": few}), (some, {"where": some}),
                              (every & heavy, {"weights": weights}),
                              (some & heavy, {"where": some, "weights": weights})):
            m = Moments(axis, nan_policy=policy, track=EXACT, exact=exact).update(x, **options)
            least, most, missing = expected(x, axis, policy, used)
            np.testing.assert_array_equal(m.min, least, err_msg=f"{kind} {policy} {exact} {[*options]}")
            np.testing.assert_array_equal(m.max, most)
            if not (exact and "weights" in options):        # which count as often as they weigh
                np.testing.assert_array_equal(m.missing, missing)
            assert m == Moments(axis, nan_policy=policy, exact=exact).update(x, **options)


@pytest.mark.parametrize("dtype", ["f4", "f8", "f2", ml_dtypes.bfloat16], ids=str)
@pytest.mark.parametrize("axis", [0, 1])
def test_extremes_of_zeros_have_no_sign(dtype, axis):
    x = np.zeros((100, 100), dtype)
    x[::3] = x[:, ::7] = -0.0
    for view in (x, swapped(x) if np.dtype(dtype).kind == "f" else x, every_other(x, 1)):
        m = Moments(axis, track="min").update(view)
        assert not np.signbit(m.min).any()
        assert not np.signbit(m.max).any()


def test_exact_weights_count_missing_values_as_often_as_they_weigh():
    x = np.array([[1.0, NAN], [NAN, 2.0], [3.0, np.inf]])
    for policy in ("omit", "propagate"):
        m = Moments(nan_policy=policy, exact=True, track="missing").update(x, weights=[1, 2, 3])
        assert m.missing.tolist() == [2, 4]
        assert m.missing.dtype == np.int64


def test_integers_beyond_2_53_are_rounded_once():
    x = np.array([[2**63 - 1], [2**60 + 1], [-2**62 - 129]])
    for values in (x, every_other(x, 1), x.T):
        m = Moments(1 if values.shape[0] == 1 else 0, track="max").update(values)
        assert (m.min.tolist(), m.max.tolist()) == ([float(-2**62 - 129)], [float(2**63 - 1)])


# State.

def example(track=NAMES, exact=False, seed=0, **options):
    x = normal((300, 4), seed).astype(np.float32)
    x[seed::50, 1] = NAN
    return Moments(nan_policy="omit", track=track, exact=exact, names=list("abcd")).update(x, **options)


@pytest.mark.parametrize(("track", "exact"), [(NAMES, False), (EXACT, True), ("missing", False), ("min", True)])
@pytest.mark.parametrize("how", [copy.copy, copy.deepcopy, Moments.copy, lambda m: pickle.loads(pickle.dumps(m))])
def test_copies_track_the_same(track, exact, how):
    m = example(track, exact)
    made = how(m)
    assert made == m
    assert made.track == m.track
    assert {k: v.tobytes() for k, v in tracked_of(made).items()} == {k: v.tobytes() for k, v in tracked_of(m).items()}
    more = normal((9, 4), 3)
    assert made.update(more) == m.update(more)
    assert example(track, exact) != m
    empty = how(Moments(track=track, exact=exact))
    assert (empty.track, empty.shape) == (m.track, None)


def test_equality_compares_what_both_track():
    a, b = Moments(track="min").update([[1.0], [3.0]]), Moments(track="min").update([[1.0], [3.0]])
    assert a == b == Moments().update([[1.0], [3.0]])
    a, b = (Moments(track=NAMES).update(x) for x in ([[0.0], [3.0], [3.0]], [[1.0], [1.0], [4.0]]))
    assert a.var().tolist() == b.var().tolist()
    assert a != b


def test_tracking_changes_no_bit_of_the_moments():
    for dtype in ("f4", "u1", "i8", "f2"):
        x = numbers((3000, 40), dtype, has_nan=False)
        m = Moments(track=NAMES).update(x).update(x[:100])
        assert rows_of(m).tobytes() == rows_of(Moments().update(x).update(x[:100])).tobytes()


@pytest.mark.parametrize("exact", [False, True])
def test_merges_keep_what_both_track(exact):
    a, b = example(("min", "missing"), exact), example("missing", exact, seed=1)
    whole = a + b
    assert whole.track == ("missing",)
    assert whole.missing.tolist() == (a.missing + b.missing).tolist() == [0, 12, 0, 0]
    with pytest.raises(AttributeError, match="min is not tracked here: make the Moments with track='min', and"):
        _ = whole.min
    assert (b + a).track == ("missing",)
    c = example(("min", "missing"), exact, seed=2)
    assert (a + c).min.tolist() == np.minimum(a.min, c.min).tolist()
    assert sum([a, c], Moments()).track == a.track
    assert sum([a, c], Moments(nan_policy="omit", track="min")).track == ("min", "max")
    assert (a + Moments()).track == a.track
    assert Moments(track="min").merge(Moments()).track == ("min", "max")


def test_exact_statistics_do_not_depend_on_the_cut():
    x = numbers((5000, 7), "f4", has_nan=True)
    a = Moments(nan_policy="omit", exact=True, track=EXACT).update(x)
    b = Moments(nan_policy="omit", exact=True, track=EXACT)
    for i, j in random_cuts(len(x), rng(3)):
        b.update(x[i:j])
    assert a == b
    assert a.digest() == b.digest() == Moments(nan_policy="omit", exact=True).update(x).digest()


def test_unmerge():
    a, b = example("missing", exact=True), example("missing", exact=True, seed=1)
    assert (a + b - a).missing.tolist() == b.missing.tolist()
    with pytest.raises(ValueError, match="got one with more missing values"):
        _ = a - example("missing", exact=True, seed=1).update(np.full((100, 4), NAN))
    extremes = example("min", exact=True)
    with pytest.raises(ValueError, match=r"min and max cannot be taken out again: .* without track='min' and 'max'"):
        extremes.unmerge(b)


def test_a_refused_batch_changes_nothing():
    m = Moments(track=NAMES).update(normal((50, 3)))
    before = copy.copy(m)
    with pytest.raises(ValueError, match="NaN or inf"):
        m.update(np.array([[1e9, NAN, 0.0]]))
    assert m == before


@pytest.mark.parametrize(("track", "error", "message"), [
    (3, TypeError, "track must be a str or a sequence of str, got 3"),
    ([3], TypeError, "track must be of str, got 3 of type int"),
    ("median", ValueError,
     "track must be of 'min', 'max', 'missing', 'skewness', 'kurtosis', 'quantiles', got 'median'"),
])
def test_wrong_track(track, error, message):
    with pytest.raises(error, match=message):
        Moments(track=track)


def test_exact_statistics_track_no_shape():
    with pytest.raises(ValueError, match="exact statistics cannot track 'skewness' and 'kurtosis', whose sums"):
        Moments(exact=True, track=["min", "kurtosis"])


@pytest.mark.parametrize("name", NAMES)
def test_what_is_not_tracked(name):
    m = Moments().update([[1.0]])
    with pytest.raises(AttributeError, match=f"{name} is not tracked here: make the Moments with track='{name}'"):
        _ = getattr(m, name)() if name in ("skewness", "kurtosis") else getattr(m, name)


def test_before_the_first_batch():
    m = Moments(track=NAMES, names=["a", "b"])
    assert np.isnan([m.min, m.max, m.skewness(), m.kurtosis()]).all()
    assert m.missing.tolist() == [0, 0]
    assert m.track == NAMES


def test_scalar_channels():
    m = Moments(None, track=NAMES).update(np.arange(5.0))
    assert (m.min, m.max, m.missing, m.skewness(), m.kurtosis(fisher=False)) == (0, 4, 0, 0, 1.7)


@pytest.mark.parametrize(("x", "settings", "weights"), [
    ([3e-310], {}, [0.1]),
    ([0.0] + [3.5e-224] * 9, {}, [1e-100] * 10),
    ([1e-323, -5e-324], {"exact": True}, None),
    ([2.1725408180571e-310, 2.1725408180572e-310], {"exact": True}, None),
    ([1e102, -1e77, 1e102], {"track": "kurtosis"}, [4e105, 1e99, 1e99]),
], ids=str)
def test_rounded_tiny_and_huge_values_are_possible(x, settings, weights):
    """Where products underflow, mean and deviation may lie beyond what the extremes allow of exact numbers."""
    m = Moments(**{"track": "min"} | settings)
    m.update(np.array(x)[:, None], weights=weights and [min(w, 1e100) for w in weights])
    assert pickle.loads(pickle.dumps(m)) == m


def test_a_pickle_of_impossible_values_is_refused():
    good = example().__getstate__()
    for name, change, message in (
        ("missing", lambda v: v - 1, "missing must not be negative"),
        ("min", lambda v: v + 50, "the mean must be between min and max"),
        ("max", lambda v: v * 0.1, r"the variance must be at most \(max - mean\) \* \(mean - min\)"),
        ("max", lambda v: v * NAN, "min and max must be finite under nan_policy 'omit'"),
        ("m4", lambda v: v / 100, "no data has these m3 and m4 beside this m2"),
        ("m3", lambda v: v + 1e9, "no data has these m3 and m4 beside this m2"),
        ("m3_lo", lambda v: v + 1, "m3_lo must be the rounding error of m3"),
        ("min", lambda v: v[:2], r"min must be of float64 and shape \(4,\)"),
    ):
        bad = {**good, "tracked": {**good["tracked"], name: change(good["tracked"][name])}}
        with pytest.raises(ValueError, match=message):
            Moments().__setstate__(bad)


@pytest.mark.parametrize("track", NAMES)
@pytest.mark.parametrize("exact", [False, True])
def test_a_merge_that_brings_a_track_while_the_first_batch_is_read(exact, track):
    """Where the update has begun before, it tracks nothing, and so do both together."""
    if exact and track not in EXACT:
        pytest.skip("exact statistics do not track it")
    x = np.random.default_rng(0).normal(1000, 1, (1_000_000, 4))
    other = Moments(exact=exact, track=track).update(x[:10])
    for delay in (0, 1e-3, 3e-3):
        m = Moments(exact=exact)
        thread = threading.Thread(target=m.update, args=(x,), kwargs={"n_threads": 1})
        thread.start()
        time.sleep(delay)
        m.merge(other)
        thread.join()
        assert m.track in ((), other.track)
        of_batch = Moments(exact=exact, track=m.track).update(x)
        assert m == other.copy().merge(of_batch) or m == of_batch.merge(other)


@pytest.mark.parametrize("exact", [False, True])
def test_a_merge_that_is_refused_leaves_the_track(exact):
    x = np.arange(12.0).reshape(4, 3)
    m = Moments(exact=exact, track="min").update(x)
    before = m.copy()
    if exact:
        other = Moments(exact=True).update(x, weights=np.full(4, 2**53 - 1))
        while other.n[0] < 2**61:
            other.merge(other)
        with pytest.raises(OverflowError, match="at most 2"):
            m.merge(other.merge(other))
    else:
        with pytest.raises(ValueError, match="channels"):
            m.merge(Moments().update(x[:, :1]))
    assert m.track == before.track
    assert m == before


def test_tables():
    pd = pytest.importorskip("pandas")
    frame = pd.DataFrame({"a": pd.array([1, None, 2**60], dtype="Int64"), "b": [0.5, NAN, 2.5]})
    for policy in ("omit", "propagate"):
        for exact in (False, True):
            m = Moments(nan_policy=policy, track=EXACT, exact=exact).update(frame)
            assert m.missing.tolist() == [1, 1]
            if policy == "omit":
                assert (m.min.tolist(), m.max.tolist()) == ([1, 0.5], [2.0**60, 2.5])
            else:
                assert np.isnan(m.min).all()
    m = Moments(nan_policy="omit", track=NAMES).update(frame, weights=[1.0, 0.0, 2.0])
    assert m.missing.tolist() == [0, 0]
    rows = Moments(1, nan_policy="omit", track=EXACT).update(frame)
    assert rows.missing.tolist() == [0, 2, 0]
    assert rows.max.tolist()[::2] == [1.0, 2.0**60]


def test_repr_and_html_tell_what_is_tracked():
    m = example()
    text, html = repr(m), m._repr_html_()
    for name in NAMES:
        assert f"  {name}" in text
        assert f">{name}</th>" in html
    assert "track=['min', 'max', 'missing', 'skewness', 'kurtosis']" in text
    assert "missing" not in repr(Moments().update([[1.0]]))
    assert bnstream.Moments(track="min").__repr__().endswith("track=['min', 'max']): empty")
