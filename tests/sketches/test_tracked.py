"""Moments that track quantiles: in updates, merges, copies, state files, fit, the command and pictures."""

import copy
import json
import pickle
import sys
import threading

import numpy as np
import pytest
from support.command import main
from support.examples import run_examples
from support.forgery import forge, npy

import bnstream
from bnstream import Moments
from bnstream.exchange import to_arrays
from bnstream.plots import plot_histograms
from bnstream.sketches import Quantiles, tracked
from bnstream.sketches.batches import update_with
from bnstream.statefiles import StateError

pytest.importorskip("datasketches")

Q = np.linspace(0, 1, 41)
X = np.random.default_rng(0).normal(size=(700, 3))


def exactly(x, q=Q):
    return np.quantile(np.asarray(x, np.float64), q, axis=0, method="inverted_cdf")


def tracking(**options):
    return Moments(**{"track": "quantiles", **options})


@pytest.mark.parametrize("exact", [False, True])
@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", "int32"])
def test_update_and_merge(dtype, exact):
    x = (10 * X).astype(dtype)
    whole, part = tracking(exact=exact).update(x), tracking(exact=exact).update(x[:300])
    part.merge(tracking(exact=exact).update(x[300:]))
    for m in (whole, part, sum([part], Moments(exact=exact))):
        assert m.track == ("quantiles",)
        assert m.quantile(Q).tolist() == exactly(x).tolist()
        assert m.rank_error().tolist() == [0, 0, 0]
        assert m.n.tolist() == [700] * 3
    assert whole.quantile(0.5).tolist() == exactly(x, 0.5).tolist()
    plain = Moments(exact=exact).update(x)
    assert (whole.mean.tolist(), whole.var().tolist()) == (plain.mean.tolist(), plain.var().tolist())


@pytest.mark.parametrize("axis", [0, 1, (0, 2), None])
def test_axes(axis):
    x = np.random.default_rng(0).normal(size=(5, 4, 6))
    m = tracking(axis=axis).update(x)
    assert m.quantile([0.2, 0.7]).tolist() == np.quantile(x, [0.2, 0.7], axis=axis, method="inverted_cdf").tolist()
    assert m.rank_error().shape == np.shape(m.mean)


def test_masks_and_policies():
    x = X.copy()
    x[0, 0], x[1, 1] = np.nan, np.inf
    mask = np.random.default_rng(1).random(x.shape) < 0.5
    mask[:2] = True
    m = tracking(nan_policy="omit").update(x, where=mask)
    for c in range(3):
        used = x[:, c][mask[:, c] & np.isfinite(x[:, c])]
        assert m.quantile(Q)[:, c].tolist() == exactly(used).tolist()
    through = tracking(nan_policy="propagate").update(x)
    assert np.isnan(through.quantile(0.5)).tolist() == [True, False, False]
    with pytest.raises(ValueError, match="NaN or inf"):
        (refusing := tracking()).update(x)
    assert np.isnan(refusing.quantile(0.5)).all()


def test_a_refused_batch_changes_nothing():
    m = tracking().update(X)
    before = m.copy()
    for batch in (X * np.nan, X[:, :2]):
        with pytest.raises(ValueError, match=r"NaN|channels"):
            m.update(batch)
        assert m == before
    with pytest.raises(ValueError, match="weights were given, and quantiles are tracked, which take none; leave out"):
        m.update(X, weights=np.ones(len(X)))
    assert m == before


def test_merging_keeps_what_both_track():
    both = Moments(track=["min", "quantiles"]).update(X)
    assert (both + Moments(track="min").update(X)).track == ("min", "max")
    assert (both + tracking().update(X)).track == ("quantiles",)
    with pytest.raises(AttributeError, match="quantiles is not tracked here: make the Moments with track='quantiles'"):
        Moments().update(X).quantile(0.5)


def test_copies():
    m = tracking(names=["a", "b", "c"]).update(X)
    for other in (m.copy(), copy.deepcopy(m), pickle.loads(pickle.dumps(m))):
        assert other == m
        other.update(X + 100)
        assert other != m
        assert other.quantile(1).tolist() == (X.max(0) + 100).tolist()
    assert m.quantile(1).tolist() == X.max(0).tolist()


def test_objects_do_not_wait_for_each_other(monkeypatch):
    """Nor does a child process wait for a thread that its parent had."""
    begun, done, unaided = threading.Event(), threading.Event(), []

    def slow(sketches, batch, *arguments, **options):
        if len(batch) == len(X):
            begun.set()
            unaided.append(done.wait(5))
        return update_with(sketches, batch, *arguments, **options)

    monkeypatch.setattr(tracked, "update_with", slow)
    busy, other = tracking(), tracking().update(X[:9])
    thread = threading.Thread(target=busy.update, args=[X])
    thread.start()
    assert begun.wait(60)
    other.update(X[9:20]).merge(tracking().update(X[20:30])).copy()
    assert other.quantile(1).tolist() == X[:30].max(0).tolist()
    done.set()
    thread.join()
    assert unaided == [True]
    assert busy.quantile(1).tolist() == X.max(0).tolist()


def test_exact_statistics_cannot_be_taken_apart():
    m = tracking(exact=True).update(X)
    with pytest.raises(ValueError, match="quantiles cannot be taken out again, as their sketches are samples"):
        m.unmerge(tracking(exact=True).update(X[:9]))


@pytest.mark.parametrize("state", [
    lambda: tracking(), lambda: tracking().update(X), lambda: tracking(exact=True).update(X),
    lambda: Moments(1, track=["min", "missing", "quantiles"], nan_policy="omit").update(np.ones((2, 5, 3))),
    lambda: tracking().update(np.random.default_rng(0).normal(size=(5000, 2)))])
def test_state_files(state, tmp_path):
    m = state()
    bnstream.save(tmp_path / "stats.npz", m)
    back = bnstream.load(tmp_path / "stats.npz")
    assert back == m
    assert back.track == m.track
    if m.shape is not None:
        assert back.quantile(Q).tolist() == m.quantile(Q).tolist()
    bnstream.save(tmp_path / "again.npz", back)
    assert (tmp_path / "again.npz").read_bytes() == (tmp_path / "stats.npz").read_bytes()


@pytest.mark.parametrize(("sketches", "message"), [
    (lambda: Quantiles(3).update(X[1:]), "the sketches of quantiles must have as many values as n says"),
    (lambda: Quantiles(2).update(X[:, :2]), "quantiles must be sketches of 3 channels with k=800, got 2 with k=800"),
    (lambda: Quantiles(3, k=8).update(X), "quantiles must be sketches of 3 channels with k=800, got 3 with k=8"),
])
def test_impossible_state_files(sketches, message, tmp_path):
    path = tmp_path / "stats.npz"
    bnstream.save(path, tracking().update(X))
    damaged = tracking().update(X)._sketches.to_bytes()[:-8]
    for data, expected in ((sketches().to_bytes(), message), (damaged, "the bytes of a sketch are damaged")):
        forge(path, arrays={"quantiles.npy": npy(np.frombuffer(data, np.uint8))})
        with pytest.raises(StateError, match=expected):
            bnstream.load(path)


def test_fit_and_the_command(tmp_path, monkeypatch):
    pa = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    monkeypatch.chdir(tmp_path)
    parquet.write_table(pa.table({"a": X[:, 0], "b": X[:, 1]}), "x.parquet", row_group_size=100)
    m = bnstream.fit("x.parquet", track=["min", "quantiles"], n_threads=2)
    assert m.quantile(Q).tolist() == exactly(X[:, :2]).tolist()
    assert main("fit", "x.parquet", "-o", "stats.npz", "--track", "quantiles").returncode == 0
    shown = json.loads(main("show", "stats.npz", "--json").stdout)["channels"][0]
    assert [shown[name] for name in ("q1", "median", "q3")] == exactly(X[:, 0], [0.25, 0.5, 0.75]).tolist()
    shown = json.loads(main("show", "stats.npz", "--json", "--quantiles", "0.01,0.99").stdout)["channels"][1]
    assert [shown["q0.01"], shown["q0.99"]] == exactly(X[:, 1], [0.01, 0.99]).tolist()
    assert "median" not in shown
    assert main("fit", "x.parquet", "-o", "plain.npz").returncode == 0
    assert "are not tracked in this file; fit it with --track" in main("show", "plain.npz", "--quantiles", "0.5").stderr
    assert bnstream.apply(bnstream.load("stats.npz"), "x.parquet", "y.parquet") == len(X)


def test_histograms():
    m = tracking(names=["a", "b", "c"]).update(X)
    for c, name in enumerate("abc"):
        counts, edges = m.histogram(name, 7)
        expected = np.histogram(X[:, c], 7)
        assert (counts.tolist(), edges.tolist()) == (expected[0].tolist(), expected[1].tolist())
        assert m.histogram(c, 7)[0].tolist() == counts.tolist()
    with pytest.raises(ValueError, match="channel must be the name of a channel, got 'd'; the names are"):
        m.histogram("d")
    assert [axes.get_title() for axes in plot_histograms(m, names=m.names).axes] == ["a", "b", "c"]
    with pytest.raises(AttributeError, match="quantiles is not tracked here"):
        plot_histograms(Moments().update(X))


def test_lerobot():
    m = Moments(names=["a", "b[0]", "b[1]"], track=["min", "quantiles"]).update(X)
    arrays = to_arrays(m, "lerobot")
    assert arrays["b/q99"].tolist() == exactly(X[:, 1:], 0.99).tolist()
    assert {f"b/{q}" for q in ("q01", "q10", "q50", "q90", "q99")} <= arrays.keys()


@pytest.mark.parametrize("name", ["quantile", "rank_error", "histogram"])
def test_examples(name):
    run_examples(getattr(Moments, name).__doc__, name)


@pytest.mark.parametrize("exact", [False, True])
@pytest.mark.parametrize("name", ["update", "merge"])
def test_what_stops_a_sketch_leaves_all_as_it_was(monkeypatch, name, exact):
    """As Ctrl-C may, when values are in the sketches already."""
    m, other = tracking(exact=exact).update(X[:300]), tracking(exact=exact).update(X[300:])
    before, change = m.copy(), getattr(Quantiles, name)
    argument = X[300:] if name == "update" else other

    def stopped(*arguments, **options):
        change(*arguments, **options)
        raise KeyboardInterrupt

    monkeypatch.setattr(Quantiles, name, stopped)
    with pytest.raises(KeyboardInterrupt):
        getattr(m, name)(argument)
    assert m == before
    monkeypatch.undo()
    assert getattr(m, name)(argument).n.tolist() == [700] * 3


def test_a_state_is_read_with_the_sketches_of_its_values():
    """A copy that another thread makes between the state and the sketches would have more values than these."""
    m, stop = Moments(track="quantiles").update(X), threading.Event()

    def update():
        while not stop.is_set():
            m.update(X)

    interval = sys.getswitchinterval()
    threads = [threading.Thread(target=update) for _ in range(3)]
    try:
        sys.setswitchinterval(1e-6)
        for thread in threads:
            thread.start()
        for _ in range(100):
            pickle.loads(pickle.dumps(m))       # checks that they have as many
            merged = m.copy().merge(m)
            assert (merged.n == merged._sketches.n).all()
    finally:
        sys.setswitchinterval(interval)
        stop.set()
        for thread in threads:
            thread.join()
