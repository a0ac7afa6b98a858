"""Weights and masks of dask arrays and dataframes: exact in any chunks, and refused unless they fit."""

import numpy as np
import pytest
from support.arrays import HARD, random_cuts, rng
from support.cases import thorough
from support.oracle import assert_within, exact_states
from support.states import bits

from bnstream import Moments

dask = pytest.importorskip("dask", minversion="2025.1")
da = pytest.importorskip("dask.array")

from bnstream.dask import moments  # noqa: E402


@pytest.fixture(autouse=True)
def in_this_thread():
    with dask.config.set(scheduler="synchronous"):
        yield


def weights_for(shape, seed=1):
    """Whole weights, from 0 to 3."""
    return rng(seed).integers(0, 4, shape).astype("f8")


@pytest.mark.parametrize("kind", ["numpy", "dask"])
@pytest.mark.parametrize("name", thorough(list(HARD), ["offset 1e15", "steps", "mean 1e6 float32", "first row 1e30"]))
def test_rows(name, kind):
    """Whole weights repeat rows, whatever the chunks of the data and of the weights."""
    x, w = HARD[name], weights_for(len(HARD[name]))
    mask = rng(2).random(len(x)) < 0.7
    rows = tuple(stop - start for start, stop in random_cuts(len(x), rng(1)))
    y = da.from_array(x, chunks=(rows, (2, 1)))
    given = (w, mask) if kind == "numpy" else (da.from_array(w, chunks=37), da.from_array(mask, chunks=101))
    weighted = moments(y, weights=given[0]).compute()
    assert_within(weighted.mean, weighted.var(), exact_states(np.repeat(x, w.astype(int), axis=0)))
    assert weighted.n.tolist() == [w.sum()] * 3
    assert weighted.effective_n == pytest.approx(w.sum() ** 2 / (w**2).sum(), rel=1e-14)
    masked = moments(y, where=given[1]).compute()
    assert_within(masked.mean, masked.var(), exact_states(x[mask]))
    assert (masked.n.tolist(), masked.n.dtype) == ([mask.sum()] * 3, np.int64)
    both = moments(y, weights=given[0], where=given[1]).compute()
    assert_within(both.mean, both.var(), exact_states(np.repeat(x, w.astype(int) * mask, axis=0)))


@pytest.mark.parametrize("axis", [0, 1, (0, 2), (2, 0), (1, 2), None, ()])
@pytest.mark.parametrize("form", ["full", "one axis", "with channel axes"])
def test_axes(axis, form):
    """Weights have the shape of x along the batch axes, 1 for some of them, or 1 for the channel axes."""
    x = rng().normal(1e8, 1, (23, 9, 11))
    batch = range(3) if axis is None else sorted(np.atleast_1d(axis).astype(int).tolist())
    shape = [x.shape[i] for i in batch]
    if form == "one axis":
        shape[:-1] = [1] * len(shape[:-1])
    elif form == "with channel axes":
        shape = [x.shape[i] if i in batch else 1 for i in range(3)]
    w = weights_for(shape) + 1
    y = da.from_array(x, chunks=((5, 0, 18), 4, (3, 3, 5)))
    m, whole = moments(y, axis, weights=w, where=w > 1).compute(), Moments(axis).update(x, weights=w, where=w > 1)
    assert (m.n.tolist(), m.shape) == (whole.n.tolist(), whole.shape)
    np.testing.assert_allclose(m.mean, whole.mean, rtol=1e-15)
    np.testing.assert_allclose(m.var(), whole.var(), rtol=1e-13)


@pytest.mark.parametrize("form", ["elements", "channels", "last axis", "scalar"])
@pytest.mark.parametrize("kind", ["numpy", "dask"])
def test_masks_of_elements(form, kind):
    """They broadcast as in NumPy, and each channel counts its own."""
    x = rng().normal(1e8, 1, (23, 9, 11))
    mask = rng(3).random({"elements": x.shape, "channels": (9, 1), "last axis": (11,), "scalar": ()}[form]) < 0.7
    y = da.from_array(x, chunks=((5, 0, 18), 4, (3, 3, 5)))
    given = da.from_array(mask, chunks=4) if kind == "dask" else mask
    m, whole = moments(y, (0, 2), where=given).compute(), Moments((0, 2)).update(x, where=mask)
    assert (m.n.tolist(), m.shape) == (whole.n.tolist(), whole.shape)
    np.testing.assert_allclose(m.mean, whole.mean, rtol=1e-15)
    np.testing.assert_allclose(m.var(), whole.var(), rtol=1e-13)


def test_lazy_and_named():
    """The keys depend on weights and mask; nothing is computed early."""

    def never(chunk):
        raise AssertionError("this must not be computed")

    x, w = da.ones((6, 2), chunks=2), np.arange(6.0)
    calls = [{}, {"weights": w}, {"weights": w + 1}, {"where": w > 1}, {"weights": w, "where": w > 1}]
    assert len({moments(x, **options).key for options in calls}) == 5
    assert moments(x, weights=w).key == moments(x, weights=w.copy()).key
    late = moments(x, weights=da.from_array(w, chunks=2).map_blocks(never, dtype=float, meta=np.empty(0)))
    with pytest.raises(AssertionError, match="must not be computed"):
        late.compute()


def test_bits_do_not_depend_on_the_scheduler():
    x = da.from_array(rng(5).normal(1e8, 1, (700, 6)).astype(np.float32), chunks=(23, 4))
    m = moments(x, weights=rng(6).random(700), where=rng(7).random(700) < 0.5)
    wanted = bits(m.compute())
    for workers in (1, 4):
        assert bits(m.compute(scheduler="threads", num_workers=workers)) == wanted


def test_unknown_sizes():
    """Chunks of unknown sizes must correspond."""
    x, w = rng().normal(5, 1, (60, 6)), weights_for(60)
    y, v = da.from_array(x, chunks=(7, 4)), da.from_array(w, chunks=7)
    chosen = y[:, 0] > 5.5
    m = moments(y[chosen], weights=v[chosen]).compute()
    kept = x[:, 0] > 5.5
    assert_within(m.mean, m.var(), exact_states(np.repeat(x[kept], w[kept].astype(int), axis=0)))
    assert moments(y[chosen], weights=[2.0]).compute().n.tolist() == [2.0 * kept.sum()] * 6
    with pytest.raises(ValueError, match=r"^weights has 1 chunks along axis 0, but x has 9, whose sizes are unknown; "
                                         r"compute_chunk_sizes\(\) makes them known$"):
        moments(y[chosen], weights=w[kept])
    with pytest.raises(ValueError, match=r"^chunk \(\d, \d\): weights must have the shape of the batch positions"):
        moments(y[chosen], weights=v).compute()


X = da.ones((8, 3), chunks=(2, 2))


@pytest.mark.parametrize(("options", "error", "message"), [
    ({"weights": np.ones(7)}, ValueError, r"^weights must have the shape of the batch positions, \(8,\), or 1 in place "
                                          r"of any of these, got \(7,\)$"),
    ({"where": np.ones((8, 4), bool)}, ValueError, r"^where must have the shape .* \(8,\), .* got \(8, 4\)$"),
    ({"where": np.ones((8, 1, 1), bool)}, ValueError, r"^where must have the shape .* got \(8, 1, 1\)$"),
    ({"where": np.ones(8)}, TypeError, "^where must be .*bool.* got dtype float64"),
    ({"weights": np.ones(8, complex)}, TypeError, "^weights must be of real numbers, got dtype complex128"),
    ({"weights": np.ma.array(np.ones(8))}, TypeError, "^weights must be .* masked array"),
    ({"weights": X.to_delayed()[0, 0]}, TypeError, "^weights of a dask array must be a dask or NumPy .* Delayed$"),
])
def test_refused_at_once(options, error, message):
    with pytest.raises(error, match=message):
        moments(X, **options)


def test_refused_during_the_computation():
    w = np.ones(8)
    w[5] = -1
    with pytest.raises(ValueError, match=r"^chunk \(2, \d\): weights must be finite and not negative"):
        moments(X, weights=w).compute()


@pytest.fixture
def frame():
    pd = pytest.importorskip("pandas")
    pytest.importorskip("dask.dataframe")
    x = rng().normal(1e8, 1, (40, 2))
    return pd.DataFrame({"a": x[:, 0], "b": x[:, 1], "w": weights_for(40), "flag": np.arange(40) % 3 == 0,
                         "holes": pd.array([True, None, False, True] * 10, "boolean")}, index=np.arange(40) * 2 + 5)


def test_frames(frame):
    """Columns of the same dataframe as weights and mask; a missing value of a mask is False."""
    dd = pytest.importorskip("dask.dataframe")
    x, w = frame[["a", "b"]].to_numpy(), frame.w.to_numpy().astype(int)
    for n in (1, 7):
        y = dd.from_pandas(frame, npartitions=n)
        m = moments(y[["a", "b"]], weights=y.w).compute()
        assert (m.names, m.n.tolist()) == (("a", "b"), [w.sum()] * 2)
        assert_within(m.mean, m.var(), exact_states(np.repeat(x, w, axis=0)))
        m = moments(y[["a", "b"]], where=y.flag).compute()
        assert_within(m.mean, m.var(), exact_states(x[frame.flag]))
        m = moments(y[["a", "b"]], where=y.holes, weights=y.w).compute()
        holes = frame.holes.fillna(False).to_numpy(bool)
        assert_within(m.mean, m.var(), exact_states(np.repeat(x[holes], w[holes], axis=0)))
        some = y[y.flag]
        m = moments(some[["a"]], weights=some.w, where=some.b > 1e8).compute()
        chosen = frame[frame.flag & (frame.b > 1e8)]
        assert_within(m.mean, m.var(), exact_states(np.repeat(chosen[["a"]].to_numpy(), chosen.w.astype(int), axis=0)))


def test_frames_refuse(frame):
    dd = pytest.importorskip("dask.dataframe")
    y, other = dd.from_pandas(frame, npartitions=4), dd.from_pandas(frame, npartitions=3)
    x = y[["a", "b"]]
    for given in (np.ones(40), y.w.to_dask_array(), frame.w):
        with pytest.raises(TypeError, match=r"^weights of a dataframe must be a dask Series with the same index, got "):
            moments(x, weights=given)
    with pytest.raises(TypeError, match=r"^where must be of bool, got dtype float64$"):
        moments(x, where=y.w)
    with pytest.raises(TypeError, match=r"^weights must be of real numbers, got dtype "):
        moments(x, weights=y.w.astype(str))
    with pytest.raises(ValueError, match=r"^weights must have the partitions of the dataframe, 4 with .*, got 3 with"):
        moments(x, weights=other.w)
    shuffled = y.w.map_partitions(lambda part: part[::-1], meta=y.w._meta)
    with pytest.raises(ValueError, match=r"^partition \d: weights must have the index of the dataframe, and has"):
        moments(x, weights=shuffled).compute()
    with pytest.raises(ValueError, match=r"^column 'a' of partition \d: weights must be finite and not negative"):
        moments(x, weights=-y.w).compute()
