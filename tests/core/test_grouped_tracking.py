"""GroupedMoments that track more: each group has what a Moments of its rows has, in every way that states go."""

import copy
import pickle

import numpy as np
import pytest
from support.arrays import normal

import bnstream
from bnstream import GroupedMoments, Moments
from bnstream.core.tracking import OF_KERNELS

EXACT = ("min", "max", "missing")
SETTINGS = [{"track": OF_KERNELS}, {"track": EXACT, "exact": True}, {"track": "min"},
            {"track": ["skewness", "missing"]}]
NAMES = ["plain", "exact", "extremes", "powers"]


def data(n=500, n_groups=7, seed=0):
    x = normal((n, 3), seed=seed).astype("f4")
    x[::13, 1] = np.nan
    x[:, 2] *= 1e6
    return x, np.random.default_rng(seed).integers(-3, n_groups - 3, n)


def results(m):
    """What is tracked, by name."""
    found = {name: getattr(m, name) for name in m.track if name != "quantiles"}
    return {name: value() if callable(value) else value for name, value in found.items()}


def assert_same(g, expected):
    """The groups are these Moments, by key, and the arrays of all groups hold theirs."""
    assert sorted(g) == sorted(expected)
    for place, key in enumerate(g):
        m = g[key]
        assert (m, m.track, m.names) == (expected[key], g.track, g.names)
        for name, values in results(expected[key]).items():
            np.testing.assert_array_equal(results(g)[name][place], values)


@pytest.mark.parametrize("options", SETTINGS, ids=NAMES)
def test_groups_are_the_moments_of_their_rows(options):
    x, keys = data()
    weights = np.random.default_rng(1).integers(0, 3, len(x))
    where = np.random.default_rng(2).random(x.shape) < 0.8
    g = GroupedMoments(nan_policy="omit", names=["a", "b", "c"], **options)
    expected = {int(key): Moments(nan_policy="omit", **options) for key in np.unique(keys)}
    for part, given in ((slice(0, 200), {}), (slice(200, 500), {"weights": weights, "where": where})):
        g.update(x[part], keys[part], **{name: values[part] for name, values in given.items()})
        for key, m in expected.items():
            rows = keys[part] == key
            m.update(x[part][rows], **{name: values[part][rows] for name, values in given.items()})
    assert_same(g, expected)
    total, merged = g.total(), sum((expected[key] for key in g), Moments())
    assert total == merged or not g.exact
    assert (total.n == merged.n).all()
    for name, values in results(merged).items():
        np.testing.assert_allclose(results(total)[name], values, rtol=1e-12)
    for other in (g.copy(), pickle.loads(pickle.dumps(g)), copy.deepcopy(g)):
        assert other == g
        assert_same(other, expected)
    assert GroupedMoments(nan_policy="omit", **options).update(x, keys) != g


@pytest.mark.parametrize("options", SETTINGS, ids=NAMES)
def test_merge(options):
    x, keys = data()
    parts = [GroupedMoments(nan_policy="omit", **options).update(x[i::3], keys[i::3]) for i in range(3)]
    expected = {int(key): sum((part[key] for part in parts if key in part), Moments()) for key in np.unique(keys)}
    assert_same(sum(parts, GroupedMoments(nan_policy="omit")), expected)


def test_merge_keeps_what_both_track():
    x, keys = data()
    a = GroupedMoments(nan_policy="omit", track=("min", "missing")).update(x[:250], keys[:250])
    b = GroupedMoments(nan_policy="omit", track="missing").update(x[250:], keys[250:] + 2)
    plain = GroupedMoments(nan_policy="omit").update(x[250:], keys[250:] + 2)
    merged = a + b
    assert merged.track == ("missing",)
    assert_same(merged, {key: sum((part[key] for part in (a, b) if key in part), Moments())
                         if key in a and key in b else without_extremes(part_with(key, a, b)) for key in {*a, *b}})
    assert (a + plain).track == (plain + a).track == ()
    untracked = GroupedMoments(nan_policy="omit").update(x[:250], keys[:250])
    assert a + plain == untracked + plain
    assert (a + plain)[2].n.dtype == np.int64
    assert (a + GroupedMoments()).track == (GroupedMoments() + a).track == ("min", "max", "missing")


def part_with(key, a, b):
    return a[key] if key in a else b[key]


def without_extremes(m):
    return m.copy().merge(Moments(nan_policy="omit", track="missing").update(np.full((1, 3), np.nan), where=[False]))


def test_weighted_and_plain_groups():
    """A group without weights keeps integer counts beside one with weights, by way of a pickle as well."""
    g = GroupedMoments(track="min").update([[1.0], [3.0]], [0, 0]).update([[5.0]], [1], weights=[0.5])
    for other in (g, pickle.loads(pickle.dumps(g))):
        assert (other[0].n.dtype, other[1].n.dtype, other.n.ravel().tolist()) == (np.int64, np.float64, [2.0, 0.5])
        assert other.min.ravel().tolist() == [1, 5]


def test_quantiles():
    pytest.importorskip("datasketches")
    x = np.arange(400.0).reshape(200, 2)
    keys = np.repeat(["a", "b"], 100)
    g = GroupedMoments(track=("quantiles", "min"), names=["u", "v"]).update(x[::2], keys[::2])
    g.merge(GroupedMoments(track=("quantiles", "min")).update(x[1::2], keys[1::2]))
    for other in (g, pickle.loads(pickle.dumps(g))):
        for key in "ab":
            expected = Moments(track="quantiles").update(x[keys == key])
            np.testing.assert_array_equal(other[key].quantile([0, 0.5, 1]), expected.quantile([0, 0.5, 1]))
        assert other.quantile([0.5]).shape == (1, 2, 2)
        assert other.quantile(0).tolist() == [[0, 1], [200, 201]]


def test_tables_show_what_is_tracked():
    pandas = pytest.importorskip("pandas")
    pyarrow = pytest.importorskip("pyarrow")
    frame = pandas.DataFrame({"k": ["a", "a", "b"], "x": [1.0, 4.0, -2.0]})
    g = GroupedMoments(track=("min", "missing"), names=["x"]).update(frame[["x"]], frame["k"])
    table = g.to_pandas()
    assert table.columns.tolist() == ["x_n", "x_mean", "x_std", "x_var", "x_min", "x_max", "x_missing"]
    assert table.x_max.tolist() == [4, -2]
    assert pyarrow.compute.equal(g.to_arrow()["x_min"], pyarrow.array([1.0, -2.0])).to_pylist() == [True, True]
    assert "x_missing" in g._repr_html_()
    assert "track=['min', 'max', 'missing']" in repr(g)


def test_no_groups_yet():
    g = GroupedMoments(track=("min", "skewness"))
    assert g.min.shape == g.skewness().shape == (0,)
    g.update(np.empty((0, 3)), [])
    assert (len(g), g.track) == (0, ("min", "max", "skewness", "kurtosis"))
    with pytest.raises(AttributeError, match="missing is not tracked here"):
        g.missing  # noqa: B018
    with pytest.raises(ValueError, match="exact statistics cannot track 'skewness' and 'kurtosis'"):
        GroupedMoments(track="kurtosis", exact=True)


@pytest.mark.parametrize("options", SETTINGS, ids=NAMES)
def test_state_files(options, tmp_path):
    x, keys = data()
    g = GroupedMoments(nan_policy="omit", names=["a", "b", "c"], **options).update(x, keys)
    bnstream.save(tmp_path / "g.npz", g)
    loaded = bnstream.load(tmp_path / "g.npz")
    assert loaded == g
    assert_same(loaded, {key: g[key] for key in g})


def test_a_refused_batch_leaves_all_as_it_was():
    x, keys = data()
    g = GroupedMoments(track=OF_KERNELS).update(x[:, [0, 2]], keys)
    before = g.copy()
    with pytest.raises(ValueError, match=r"group .*: .*NaN"):
        g.update(x[:, :2], keys)
    assert g == before


@pytest.mark.parametrize("axis", [0, None])
def test_quantiles_of_one_channel_go_wherever_states_go(axis, tmp_path):
    """Its sketches are those of channels of shape ()."""
    pytest.importorskip("datasketches")
    x, keys = normal(500), np.arange(500) % 3
    g = GroupedMoments(axis, track="quantiles").update(x, keys)
    bnstream.save(tmp_path / "g.npz", g)
    for other in (bnstream.load(tmp_path / "g.npz"), pickle.loads(pickle.dumps(g)), copy.deepcopy(g), g.copy()):
        assert other == g
        for key in range(3):
            assert other[key].quantile(0.5) == g[key].quantile(0.5)
