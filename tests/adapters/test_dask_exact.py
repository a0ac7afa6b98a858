"""Exact statistics of dask arrays and dataframes: one digest for any chunks, schedulers and orders."""

import numpy as np
import pytest
from support.arrays import BFLOAT16, HARD, of_dtype, random_cuts, rng, with_gaps
from support.states import bits

from bnstream import Moments, normalize

dask = pytest.importorskip("dask", minversion="2025.1")
da = pytest.importorskip("dask.array")

from support.chunks import pieces, shuffled  # noqa: E402

import bnstream.dask  # noqa: E402
from bnstream.dask import moments  # noqa: E402


@pytest.fixture(autouse=True)
def in_this_thread():
    with dask.config.set(scheduler="synchronous"):
        yield


def exact(x, axis=0, **options):
    return moments(x, axis, exact=True, **options).compute()


@pytest.mark.parametrize("name", HARD)
def test_any_chunks(name):
    x = HARD[name]
    whole = Moments(exact=True).update(x)
    for seed in range(4):
        rows = tuple(stop - start for start, stop in random_cuts(len(x), rng(seed)))
        m = exact(da.from_array(x, chunks=(rows, [3, 1, 2, (1, 0, 2)][seed])))
        assert m == whole
        assert m.digest() == whole.digest()
        assert (m.exact, m.mean.tobytes(), m.var(1).tobytes()) == (True, whole.mean.tobytes(), whole.var(1).tobytes())


@pytest.mark.parametrize("axis", [0, 1, 2, (0, 2), (-2, 0), (1, 2), None, (0, 1, 2)])
@pytest.mark.parametrize("dtype", ["f8", "f4", "f2", BFLOAT16, "i8", "u1"], ids=str)
def test_axes(axis, dtype):
    """Every axis is chunked, batch axes and channel axes, and some chunks are empty. The channels keep their order."""
    x = of_dtype(np.dtype(dtype), (23, 9, 11))
    whole = Moments(axis, exact=True).update(x)
    for seed in range(3):
        m = exact(da.from_array(x, chunks=pieces(x.shape, seed)), axis)
        assert (m.shape, m.axis, m.digest()) == (whole.shape, whole.axis, whole.digest())


def test_any_scheduler_and_order():
    x = da.from_array(rng(5).normal(1e8, 1, (700, 6)).astype(np.float32), chunks=(23, 4)) * 2 + 1
    m = moments(x, exact=True)
    wanted = bits(m.compute())
    assert wanted == bits(exact(x.rechunk((100, 1))))
    for seed in range(5):
        assert bits(m.compute(scheduler=shuffled(seed))) == wanted
    assert bits(m.compute(scheduler="threads", num_workers=4)) == wanted


def test_permuted_rows():
    x = rng(6).normal(1e6, 1, (300, 4))
    digests = {exact(da.from_array(rng(seed).permutation(x), chunks=(17 + seed, 3))).digest() for seed in range(5)}
    assert digests == {Moments(exact=True).update(x).digest()}


@pytest.mark.parametrize("form", ["rows", "elements"])
def test_masks_and_missing_values(form):
    x = with_gaps(HARD["offset 1e8"])
    mask = rng(2).random(x.shape[:1] if form == "rows" else x.shape) < 0.6
    mask[:100] = False          # A whole chunk is left out.
    whole = Moments(exact=True, nan_policy="omit").update(x, where=mask)
    for chunks in (50, (100, 1), -1):
        m = exact(da.from_array(x, chunks=chunks), nan_policy="omit", where=mask)
        assert m.digest() == whole.digest()
    through = exact(da.from_array(x, chunks=70), nan_policy="propagate")
    assert through.digest() == Moments(exact=True, nan_policy="propagate").update(x).digest()
    with pytest.raises(ValueError, match=r"^chunk \(\d+, 0\): NaN or inf in"):
        exact(da.from_array(x, chunks=70))


def test_unknown_sizes_and_no_data():
    x = da.from_array(rng().normal(5, 1, (60, 6)), chunks=(7, 4))
    kept = x[x[:, 0] > 5.5]
    assert exact(kept).digest() == Moments(exact=True).update(kept.compute()).digest()
    for nothing in (x[x[:, 0] > 99], x[:0], x[:, :0]):
        m = exact(nothing)
        assert (m, m.exact, m.shape) == (Moments(exact=True), True, None)


def test_the_key_says_whether_it_is_exact():
    x = da.ones((6, 3), chunks=2)
    assert moments(x, exact=True).key == moments(x, exact=True).key != moments(x).key
    assert exact(x) != moments(x).compute()


def test_normalize():
    """The bits of the result do not depend on the chunks either."""
    x = rng(7).normal(1e6, 1, (60, 4)).astype(np.float32)
    m = Moments(exact=True).update(x)
    wanted = normalize(x, m.mean, m.var()).tobytes()
    for chunks in (60, 7, (11, 3)):
        y = da.from_array(x, chunks=chunks)
        assert bnstream.dask.normalize(y, moments(y, exact=True)).compute().tobytes() == wanted


@pytest.mark.parametrize("kind", ["numpy", "dask"])
@pytest.mark.parametrize("axis", [0, 1, (0, 2), None])
def test_weights(kind, axis):
    """A batch position counts as often as its weight says, in any chunks of the data and of the weights."""
    x = with_gaps(rng(8).normal(1e8, 1, (23, 54))).reshape(26, 9, 6)
    weights = rng(9).integers(0, 5, x.shape if axis is None else [x.shape[i] for i in np.atleast_1d(axis)])
    axes = range(3) if axis is None else np.atleast_1d(axis)
    first = np.moveaxis(x, axes, range(len(axes)))
    rows = np.repeat(first.reshape(-1, *first.shape[len(axes):]), weights.ravel(), axis=0)
    whole = Moments(exact=True, nan_policy="omit").update(rows)
    for seed, dtype in enumerate(("u1", "f4", "f8")):
        given = weights.astype(dtype) if kind == "numpy" else da.from_array(weights.astype(dtype), chunks=4 + seed)
        m = exact(da.from_array(x, chunks=pieces(x.shape, seed)), axis, nan_policy="omit", weights=given)
        assert m.digest() == whole.digest()


def test_weights_that_are_refused():
    """The message names the chunk."""
    x = da.ones((6, 3), chunks=2)
    with pytest.raises(ValueError, match=r"^chunk \(2, \d\): weights of exact statistics count .*, got 0.5; scale"):
        exact(x, weights=np.array([1, 1, 1, 1, 1, 0.5]))
    y = da.ones((1030, 1), chunks=515)
    with pytest.raises(OverflowError, match=r"^expected at most 2\*\*62 values in a channel"):
        exact(y, weights=np.full(1030, 2**52))
    assert exact(y[:1024], weights=np.full(1024, 2**52)).n.tolist() == [2**62]


def test_frames():
    """Columns of any dtype, nullable integers beyond 2**53 among them; the digest has their names."""
    pd = pytest.importorskip("pandas")
    dd = pytest.importorskip("dask.dataframe")
    x = rng().normal(1e8, 1, 40)
    x[::5] = np.nan
    frame = pd.DataFrame({
        "a": x, "time": pd.array([2**62 + 3**i for i in range(39)] + [None], "Int64"),
        "flag": np.arange(40) % 3 == 0, "small": np.arange(40, dtype="f4") / 7, "index": pd.array(range(40), "Int32"),
    })

    def omitted(frame):
        m = Moments(exact=True, nan_policy="omit").update(frame)
        m.names = list(frame.columns)
        return m

    whole = omitted(frame)
    assert whole.n[1] == 39
    for n in (1, 3, 7):
        y = dd.from_pandas(frame, npartitions=n)
        m = exact(y, nan_policy="omit")
        assert (m.names, m.digest()) == (whole.names, whole.digest())
        chosen = exact(y[["a", "small"]], nan_policy="omit", where=y.flag)
        assert chosen.n[1] == 14
        assert chosen == Moments(exact=True, nan_policy="omit").update(frame.loc[frame.flag, ["a", "small"]])
        weighted = exact(y, nan_policy="omit", weights=y["index"] % 4, where=y.flag)
        rows = frame.loc[np.repeat(frame.index, frame["index"] % 4 * frame.flag)]
        assert weighted.digest() == omitted(rows).digest()
        with pytest.raises(ValueError, match=r"^column 'a' of partition \d: weights of exact statistics count"):
            exact(y, nan_policy="omit", weights=y.small + 0.5)
