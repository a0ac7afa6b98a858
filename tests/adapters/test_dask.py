"""Dask arrays: exact in any chunks, the same bits with every scheduler, lazy, and errors that name the chunk."""

import numpy as np
import pytest
from support.arrays import DTYPES, HARD, LAYOUTS, of_dtype, random_cuts, rng, with_gaps
from support.cases import CAMPAIGN
from support.examples import run_examples
from support.oracle import assert_within, exact_states
from support.processes import python
from support.states import bits

import bnstream
from bnstream import BatchNorm, Moments

dask = pytest.importorskip("dask", minversion="2025.1")
da = pytest.importorskip("dask.array")

from support.chunks import pieces, shuffled  # noqa: E402

from bnstream.dask import moments, normalize  # noqa: E402
from bnstream.dask.reduction import ARITY, merge  # noqa: E402


@pytest.fixture(autouse=True)
def in_this_thread():
    with dask.config.set(scheduler="synchronous"):
        yield


def never(*_arguments, **_options):
    raise AssertionError("this must not be computed")


@pytest.mark.parametrize("name", HARD)
def test_any_chunks(name):
    x = HARD[name]
    rows = tuple(stop - start for start, stop in random_cuts(len(x), rng(1)))
    m = moments(da.from_array(x, chunks=(rows, (2, 1)))).compute()
    assert np.all(m.n == len(x))
    assert_within(m.mean, m.var(), exact_states(x))


@pytest.mark.parametrize("axis", [0, 1, 2, -1, (0, 2), (-2, 0), (1, 2), None, (0, 1, 2)])
def test_axes(axis):
    """Every axis is chunked, batch axes and channel axes, and some chunks are empty."""
    x = rng().normal(1e8, 1, (23, 9, 11))
    m = moments(da.from_array(x, chunks=pieces(x.shape)), axis).compute()
    whole = Moments(axis).update(x)
    assert (m.n.tolist(), m.shape, m.axis, m.nan_policy) == (whole.n.tolist(), whole.shape, whole.axis, "raise")
    assert_within(m.mean, m.var(), exact_states(x, axis))


@pytest.mark.parametrize("dtype", [t for t in DTYPES if t.kind in "iub" and t.itemsize < 4], ids=str)
def test_integers_agree_in_every_bit(dtype):
    x = of_dtype(dtype, (500, 7))
    for chunks in (17, (500, 1), (11, 3)):
        m, whole = moments(da.from_array(x, chunks=chunks)).compute(), Moments().update(x)
        same = [getattr(each, name).tobytes() for each in (m, whole) for name in ("n", "mean", "m2")]
        assert same[:3] == same[3:]


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_dtypes(dtype):
    x = of_dtype(dtype, (100, 4))
    y = da.from_array(x, chunks=(33, 3))
    m = moments(y).compute()
    assert_within(m.mean, m.var(), exact_states(x))
    result = normalize(y, m)
    wanted = bnstream.normalize(x, m.mean, m.var())
    assert result.dtype == result.compute().dtype == wanted.dtype
    assert result.compute().tobytes() == wanted.tobytes()


@pytest.fixture
def awkward():
    """Chunked data with an offset, computed by a graph."""
    x = rng(5).normal(1e8, 1, (700, 6)).astype(np.float32)
    return da.from_array(x, chunks=(23, 4)) * 2 + 1


def test_bits_do_not_depend_on_the_scheduler(awkward):
    m = moments(awkward)
    wanted = bits(m.compute())
    for workers in (1, 2, 4):
        assert bits(m.compute(scheduler="threads", num_workers=workers)) == wanted
    if CAMPAIGN:        # The tests of the cluster also have processes.
        assert bits(m.compute(scheduler="processes", num_workers=2)) == wanted


def test_bits_do_not_depend_on_the_order(awkward):
    m = moments(awkward)
    wanted = bits(m.compute())
    y = normalize(awkward, m).compute()
    for seed in range(20):
        assert bits(m.compute(scheduler=shuffled(seed))) == wanted
    assert normalize(awkward, m).compute(scheduler=shuffled(1)).tobytes() == y.tobytes()


@pytest.mark.parametrize("layout", LAYOUTS)
def test_bits_do_not_depend_on_pickling(layout):
    """Chunks travel and are spilled to disk as pickles, which come back without gaps and in native byte order."""
    x = LAYOUTS[layout](rng().normal(3, 1, (3000, 200)).astype(np.float32))
    here, there = (moments(da.from_array(x, chunks=(-1, 90)).map_blocks(way, meta=x[:0])) for way in (same, travelled))
    assert bits(here.compute()) == bits(there.compute())


def same(chunk):
    return chunk


def travelled(chunk):
    import pickle

    return pickle.loads(pickle.dumps(chunk, 5))


def test_a_tree_of_fixed_arity():
    x = da.ones((64, 3), chunks=1)
    names = [str(key) for key in moments(x).__dask_graph__()]
    assert sum("merge-moments" in name for name in names) == 3 * (64 // ARITY + 1)
    assert sum("moments_of_chunk" in name for name in names) == 3 * 64
    assert len(names) == 3 * (64 + 64 // ARITY + 1) + 1     # a chunk and its moments are made in one task
    single = moments(da.ones((4, 3)))
    assert len(single.__dask_graph__()) == 2


def test_merge_leaves_its_parts():
    a, b = (Moments().update(rng(i).normal(size=(5, 2))) for i in range(2))
    before = bits(a), bits(b)
    assert merge([a, b]) == a + b
    assert (bits(a), bits(b)) == before


def test_one_thread(monkeypatch):
    asked = []

    class Spy(Moments):
        def update(self, batch, *, n_threads=None, **options):
            asked.append(n_threads)
            return super().update(batch, **options)

    def spy(*arguments, n_threads=None, **options):
        asked.append(n_threads)
        return apply(*arguments, **options)

    apply = bnstream.core.functional.normalize
    x = da.ones((6, 3), chunks=3)
    m, y = moments(x), normalize(x, Moments().update(x.compute()))
    monkeypatch.setattr("bnstream.dask.reduction.Moments", Spy)
    monkeypatch.setattr("bnstream.core.affine.normalize", spy)
    m.compute()
    y.compute()
    assert asked == [1, 1, 1, 1]


def test_lazy():
    x = da.ones((6, 3), chunks=2).map_blocks(never, dtype=float, meta=np.empty((0, 0)))
    y = normalize(x, moments(x))
    assert (y.shape, y.chunks, y.dtype) == (x.shape, x.chunks, x.dtype)
    with pytest.raises(AssertionError, match="must not be computed"):
        moments(x).compute()


def test_names_of_tasks():
    """The same call has the same keys, so that dask can reuse its result. Another call has other keys."""
    x = da.from_array(np.arange(12.0).reshape(6, 2), chunks=2)
    m = moments(x).compute()
    assert moments(x).key == moments(x).key
    assert len({moments(x).key, moments(x, 1).key, moments(x, nan_policy="omit").key, moments(x + 1).key}) == 4
    assert normalize(x, m).name == normalize(x, m.copy()).name
    assert normalize(x, moments(x)).name == normalize(x, moments(x)).name
    results = [normalize(x, m), normalize(x, moments(x)), normalize(x, moments(x + 1).compute()),
               normalize(x, m, eps=1.0), normalize(x, m, [1, 2]), normalize(x, m, beta=3)]
    assert len({y.name for y in results}) == 6


def test_unknown_sizes():
    x = rng().normal(5, 1, (60, 6))
    y = da.from_array(x, chunks=(7, 4))
    rows = y[y[:, 0] > 5.5]
    kept = x[x[:, 0] > 5.5]
    assert np.isnan(rows.shape[0])
    m = moments(rows).compute()
    assert np.all(m.n == len(kept))
    assert_within(m.mean, m.var(), exact_states(kept))
    result = normalize(rows, moments(rows))
    assert np.isnan(result.chunks[0]).all()
    assert result.compute().tobytes() == bnstream.normalize(kept, m.mean, m.var()).tobytes()
    nothing = y[y[:, 0] > 99]
    assert moments(nothing).compute() == Moments()


def test_channels_of_unknown_sizes():
    x = rng().normal(5, 1, (20, 6, 4))
    mask = np.array([True, False, False, False, True, True])
    several = da.from_array(x, chunks=(7, 2, 3))[:, da.from_array(mask, chunks=2)]
    m = moments(several).compute()
    assert_within(m.mean, m.var(), exact_states(x[:, mask]))        # the second of three chunks of channels is empty
    with pytest.raises(ValueError, match=r"^the sizes of the chunks along channel axis 1 are unknown; "
                                         r"x\.compute_chunk_sizes\(\) makes them known$"):
        normalize(several, m)
    y = normalize(several.compute_chunk_sizes(), m).compute()
    assert y.tobytes() == bnstream.normalize(x[:, mask], m.mean, m.var(), channel_axis=(1, 2)).tobytes()
    one = da.from_array(x, chunks=(7, 6, 3))[:, da.from_array(mask, chunks=6)]
    assert normalize(one, m).compute().tobytes() == y.tobytes()
    with pytest.raises(ValueError, match=r"mean must have the shape of the channels, \(3, \d\)"):
        normalize(one, moments(da.from_array(x, chunks=5))).compute()


def test_missing_values():
    x = HARD["offset 1e8"]
    gaps = with_gaps(x)
    y = da.from_array(gaps, chunks=(100, 2))
    m = moments(y, nan_policy="omit").compute()
    assert m.n.tolist() == [len(x)] * 3
    assert_within(m.mean, m.var(), exact_states(x))
    assert np.isnan(moments(y, nan_policy="propagate").compute().mean).all()
    bad = x.copy()
    bad[250, 2] = np.nan
    with pytest.raises(ValueError, match=r"^chunk \(2, 1\): NaN or inf in the only channel;"):
        moments(da.from_array(bad, chunks=(100, 2))).compute()
    gaps[:, 1] = np.nan
    m = moments(da.from_array(gaps, chunks=100), nan_policy="omit").compute()
    assert m.n.tolist() == [len(x), 0, len(x)]


def test_no_data():
    assert moments(da.ones((0, 3))).compute() == Moments()
    assert moments(da.ones((4, 0))).compute() == Moments()
    m = moments(da.ones((0, 3)), nan_policy="omit").compute()
    assert (m.nan_policy, m.n.max(initial=0)) == ("omit", 0)
    stats = Moments().update(np.arange(6.0).reshape(2, 3))
    assert normalize(da.ones((0, 3)), stats).compute().shape == (0, 3)


def test_parameters():
    x = rng().normal(7, 2, (50, 5, 6, 4)).astype(np.float32)
    y = da.from_array(x, chunks=(30, (2, 0, 3), 6, 3))
    m = moments(y, (0, 2, 3)).compute()
    gamma, beta = np.arange(5.0), np.arange(5.0)[::-1].copy()
    for options in ({}, {"gamma": gamma}, {"beta": beta}, {"gamma": gamma, "beta": 3, "eps": 0.5}):
        wanted = bnstream.normalize(x, m.mean, m.var(), channel_axis=1, **options)
        for stats in (m, moments(y, (0, 2, 3))):
            assert normalize(y, stats, **options).compute().tobytes() == wanted.tobytes()
    several = moments(y, (0, 2)).compute()
    wanted = bnstream.normalize(x, several.mean, several.var(), channel_axis=(1, 3))
    for axes in (None, (1, 3), (-1, 1)):
        assert normalize(y, several, channel_axis=axes).compute().tobytes() == wanted.tobytes()
    images = x.transpose(0, 2, 3, 1).copy()
    last = normalize(da.from_array(images, chunks=3), m, channel_axis=-1)
    assert last.compute().tobytes() == bnstream.normalize(images, m.mean, m.var()).tobytes()


@pytest.mark.parametrize("dtype", ["i8", "u8", ">i8"])
def test_integers_far_from_zero_are_not_rounded(dtype):
    values = 1_700_000_000_000_000_000 + 100 * np.arange(24).reshape(4, 3, 2)
    values[:, 1, 0] = 7
    x = da.from_array(values.astype(dtype), chunks=(3, 2, 1))
    for axis in (0, (0, 2), None):
        m = moments(x, axis).compute()
        mean, var = bnstream.mean_var(values - values[0, 0, 0], axis, keepdims=True)
        wanted = (values - values[0, 0, 0] - mean) / np.where(var == 0, 1, np.sqrt(var))
        for state in (m, moments(x, axis)):
            y = normalize(x, state)
            assert y.dtype == np.float32
            np.testing.assert_allclose(y.compute(), wanted, rtol=3e-7)


def test_all_axes():
    x = rng().normal(7, 2, (50, 6))
    y = da.from_array(x, chunks=20)
    m = moments(y, None).compute()
    assert m.shape == ()
    np.testing.assert_array_equal(normalize(y, m), bnstream.normalize(x, m.mean, m.var()))


def test_constant_channel():
    x = np.stack([np.full(10, 0.1), np.arange(10.0)], axis=1)
    y = normalize(da.from_array(x, chunks=4), Moments().update(x), beta=[5, 6]).compute()
    assert (y[:, 0] == 5).all()
    assert np.isfinite(y).all()


@pytest.mark.parametrize("channel_axis", [1, -1])
def test_layers(channel_axis):
    x = rng().normal(7, 2, (40, 6, 6)).astype(np.float32)
    bn = BatchNorm(6, channel_axis=channel_axis)
    bn(x)
    bn.gamma, bn.beta = np.arange(6.0), -np.arange(6.0)
    y = da.from_array(x, chunks=(7, 4, 5))
    wanted = bn.eval()(x)
    assert normalize(y, bn).compute().tobytes() == wanted.tobytes()
    assert normalize(y, dask.delayed(bn)).compute().tobytes() == wanted.tobytes()
    other = bnstream.normalize(x, bn.running_mean, bn.running_var, 2 * bn.gamma, bn.beta, eps=1.0,
                               channel_axis=channel_axis)
    assert normalize(y, bn, 2 * bn.gamma, eps=1.0).compute().tobytes() == other.tobytes()


X = da.ones((8, 3), chunks=(2, 2))
M = Moments().update(np.arange(6.0).reshape(2, 3))


@pytest.mark.parametrize(("call", "error", "message"), [
    (lambda: moments(np.ones((4, 3))), TypeError,
     r"^expected a dask array or dataframe, got ndarray; make one with dask\.array\.from_array, "
     r"dask\.dataframe\.from_pandas, or to_frame\(\) of a series$"),
    (lambda: moments(X.to_delayed()[0, 0]), TypeError, "^expected a dask array or dataframe, got Delayed;"),
    (lambda: normalize(np.ones((4, 3)), M), TypeError, "^expected a dask array or dataframe, got ndarray;"),
    (lambda: moments(X.astype(complex)), TypeError, "^cannot read dtype complex128; .* pass x.real"),
    (lambda: moments(X.astype(object)), TypeError, "^cannot read dtype object"),
    (lambda: moments(da.ma.masked_equal(X, 0)), TypeError, r"^got a masked array; fill it with x\.filled"),
    (lambda: moments(X, 2), ValueError, "^axis 2 is out of range for an array of 2 dimensions; expected -2 to 1"),
    (lambda: moments(X, (0, -2)), ValueError, r"^axis -2 is given twice in axis=\(0, -2\)"),
    (lambda: moments(X.sum()), ValueError, "^expected an array of at least 1 dimension, got a 0-d array"),
    (lambda: moments(X, nan_policy="drop"), ValueError, "^nan_policy must be"),
    (lambda: normalize(X.astype(complex), M), TypeError, "dtype complex128"),
    (lambda: normalize(X, 3), TypeError, "^state must be a Moments, a BatchNorm, or a Delayed of one, got int$"),
    (lambda: normalize(X, dask.delayed(3)).compute(), TypeError, "^state must be a Moments, .* got int$"),
    (lambda: normalize(X, Moments()), ValueError, "^the state has channels without a value; fit it first$"),
    (lambda: normalize(X, M, channel_axis=0), ValueError,
     r"^expected channels of shape \(3,\) as in the statistics, got \(8,\) along axes \(0,\) of x; if the "
     "channels are along other axes, pass channel_axis$"),
    (lambda: normalize(X, dask.delayed(M), channel_axis=(0, 1)).compute(), ValueError,
     r"^expected channels of shape \(3,\) as in the statistics, got \(8, 3\) along axes \(0, 1\) of x;"),
    (lambda: normalize(X[:, :2], M), ValueError, r"^expected channels of shape \(3,\) .* got \(2,\) along axes \(1,\)"),
    (lambda: normalize(X[None], M), ValueError,
     r"^the statistics are of an array with 2 axes \(axis=0\), and x has 3; pass channel_axis, the axes of its "
     "channels$"),
    (lambda: normalize(X, M, channel_axis=2), ValueError, "channel_axis: axis 2 is out of bounds for .* dimension 2"),
    (lambda: normalize(X, M, gamma=[1, 2]), ValueError, r"^gamma must have the shape of the channels, \(3,\)"),
    (lambda: normalize(X, M, eps=-1.0), ValueError, "eps must"),
])
def test_errors(call, error, message):
    with pytest.raises(error, match=message):
        call()


@pytest.mark.parametrize("function", [moments, normalize])
def test_docstring(function):
    run_examples(function.__doc__, function.__name__)


def test_without_dask_the_error_says_what_to_install():
    done = python("-c", "import sys; sys.modules['dask'] = None; import bnstream.dask", check=False)
    assert done.stderr.rstrip().endswith(
        'ModuleNotFoundError: bnstream.dask needs dask, which is not installed; install it with: '
        'pip install "bnstream[dask]"')


def test_arrays_do_without_pandas():
    python("-c", "import sys; sys.modules['pandas'] = None\n"
                 "import dask.array as da, bnstream.dask as bd\n"
                 "x = da.ones((4, 2), chunks=2)\n"
                 "assert bd.normalize(x, bd.moments(x)).compute().shape == (4, 2)")


def test_track():
    x = np.random.default_rng(0).normal(size=(60, 5))
    x[::7, 2] = np.nan
    m = moments(da.from_array(x, chunks=(11, 2)), nan_policy="omit", track=("min", "missing", "skewness"))
    m = m.compute()
    whole = Moments(nan_policy="omit", track=m.track).update(x)
    assert m.track == ("min", "max", "missing", "skewness", "kurtosis")
    assert (m.min.tolist(), m.missing.tolist()) == (whole.min.tolist(), [0, 0, 9, 0, 0])
    np.testing.assert_allclose(m.kurtosis(), whole.kurtosis(), rtol=1e-13)
    pd, dd = pytest.importorskip("pandas"), pytest.importorskip("dask.dataframe")
    frame = pd.DataFrame({"a": pd.array([1, None, 3], dtype="Int64"), "b": [0.5, 1.5, np.nan]})
    frame = dd.from_pandas(frame, npartitions=2)
    m = moments(frame, nan_policy="omit", track="missing").compute()
    assert m.missing.tolist() == [1, 1]
