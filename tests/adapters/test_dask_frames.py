"""Dask dataframes: the columns are the channels, by name."""

import numpy as np
import pytest
from support.arrays import HARD, rng
from support.oracle import assert_within, exact_states
from support.states import bits

import bnstream
from bnstream import Moments

dask = pytest.importorskip("dask", minversion="2025.1")
dd = pytest.importorskip("dask.dataframe")
pd = pytest.importorskip("pandas")

from bnstream.dask import moments, normalize, scaling  # noqa: E402


@pytest.fixture(autouse=True)
def in_this_thread():
    with dask.config.set(scheduler="synchronous"):
        yield


@pytest.fixture
def frame():
    """Columns of every kind, with 40 rows and an index other than 0, 1, ..."""
    x = rng().normal(1e8, 1, (40, 2))
    return pd.DataFrame({
        "double": x[:, 0], "single": (x[:, 1] - 1e8).astype(np.float32),
        "whole": np.arange(40), "flag": np.arange(40) % 3 == 0,
        "carrier": ["AA", "UA"] * 20, "nullable": pd.array([1, None, 3, 4] * 10, "Int64"),
    }, index=np.arange(40) * 2 + 5)


NUMBERS = ["double", "single", "whole", "flag"]


@pytest.mark.parametrize("name", ["offset 1e8", "steps", "mean 1e6 float32"])
def test_any_partitions(name):
    x = HARD[name]
    frame = pd.DataFrame(x, columns=["a", "b", "c"])
    for n in (1, 7, 60):
        m = moments(dd.from_pandas(frame, npartitions=n)).compute()
        assert (m.n.tolist(), m.names) == ([len(x)] * 3, ("a", "b", "c"))
        assert_within(m.mean, m.var(), exact_states(x))


def test_columns_of_many_dtypes(frame):
    m = moments(dd.from_pandas(frame[NUMBERS], npartitions=3)).compute()
    assert (m.names, set(m.n.tolist()), m.axis) == (tuple(NUMBERS), {40}, 0)
    for i, name in enumerate(NUMBERS):
        assert_within(m.mean[i:i + 1], m.var()[i:i + 1], exact_states(frame[[name]].to_numpy()))


def test_bits_do_not_depend_on_the_scheduler(frame):
    m = moments(dd.from_pandas(frame[NUMBERS], npartitions=20))
    wanted = bits(m.compute())
    for workers in (1, 2, 4):
        assert bits(m.compute(scheduler="threads", num_workers=workers)) == wanted


def test_bits_do_not_depend_on_the_layout_of_columns():
    """The columns of a frame received from another worker are contiguous."""
    rows = rng().normal(3, 1, (40_000, 3)).astype(np.float32)
    together = pd.DataFrame(rows, columns=list("abc"), copy=False)
    assert not together["a"].to_numpy().flags.c_contiguous
    apart = pd.DataFrame(dict(zip("abc", rows.T.copy(), strict=True)))
    found = {bits(moments(dd.from_pandas(one, npartitions=2)).compute()) for one in (together, apart)}
    assert len(found) == 1


def test_missing_values(frame):
    x = dd.from_pandas(frame[["double", "nullable"]], npartitions=3)
    m = moments(x, nan_policy="omit").compute()
    assert (m.n.tolist(), m.mean[1]) == ([40, 30], 8 / 3)
    m = moments(x, nan_policy="propagate").compute()
    assert np.isnan(m.mean).tolist() == [False, True]
    gap = frame[["whole", "double"]].copy()
    gap.loc[gap.index[35], "double"] = np.inf
    with pytest.raises(ValueError, match=r"^column 'double' of partition 3: NaN or inf in the only channel"):
        moments(dd.from_pandas(gap, npartitions=4)).compute()


TIMES = [1_700_000_000_000_000_000 + 100 * i for i in range(4)]     # nanoseconds; the variance is 12500


@pytest.mark.parametrize("dtype", ["int64", "uint64", "Int64", "UInt64", "int64[pyarrow]", "uint64[pyarrow]"])
@pytest.mark.parametrize("gap", [False, True])
def test_integers_are_not_rounded(dtype, gap):
    if "pyarrow" in dtype:
        pytest.importorskip("pyarrow")
    if gap and dtype in ("int64", "uint64"):
        pytest.skip("without missing values")
    values = [*TIMES[:3], *([None] * 3 if gap else []), TIMES[3]]
    one = pd.DataFrame({"t": pd.Series(values, dtype=dtype), "f": np.arange(float(len(values)))})
    x = dd.from_pandas(one, npartitions=3)
    m = moments(x, nan_policy="omit").compute()
    assert (m.n[0], m.var()[0], m.mean[0]) == (4, 12500, float(TIMES[0] + 150))
    y = normalize(x, m)
    assert y.dtypes["t"] == np.float64
    wanted = [np.nan if v is None else (v - TIMES[0] - 150) / 12500**0.5 for v in values]
    np.testing.assert_allclose(y.compute().t, wanted, rtol=1e-15)
    np.testing.assert_allclose(normalize(x, moments(x, nan_policy="omit")).compute().t, wanted, rtol=1e-15)
    weighted = moments(x, nan_policy="omit", weights=x.f, where=x.f > 0).compute()
    whole = Moments(nan_policy="omit").update(one, weights=one.f, where=one.f > 0)
    assert weighted.mean.tolist() == pytest.approx(whole.mean.tolist(), rel=1e-15)
    assert weighted.var().tolist() == pytest.approx(whole.var().tolist(), rel=1e-14)
    if gap:
        with pytest.raises(ValueError, match=r"^column 't' of partition \d: .*missing value"):
            moments(x).compute()
        assert np.isnan(moments(x, nan_policy="propagate").compute().mean).tolist() == [True, False]


@pytest.mark.parametrize("dtype", ["boolean", "bool[pyarrow]", "Float32", "float[pyarrow]"])
def test_other_nullable_dtypes(dtype):
    if "pyarrow" in dtype:
        pytest.importorskip("pyarrow")
    values = [True, None, False, True] if "bool" in dtype else [1.5, None, 2.5, 0.25]
    x = dd.from_pandas(pd.DataFrame({"a": pd.Series(values, dtype=dtype)}), npartitions=2)
    plain = np.array(values, float)[:, np.newaxis]
    m = moments(x, nan_policy="omit").compute()
    assert (m.n.tolist(), m.mean.tolist()) == ([3], [np.nanmean(plain)])
    np.testing.assert_array_equal(normalize(x, m).compute(), bnstream.normalize(plain, m.mean, m.var()))


@pytest.mark.parametrize("dtype", ["decimal128(5, 2)", "timestamp[ns]", "duration[ns]", "string"])
def test_other_arrow_dtypes_are_refused(dtype):
    pa = pytest.importorskip("pyarrow")
    kind = {"decimal128(5, 2)": pa.decimal128(5, 2), "timestamp[ns]": pa.timestamp("ns"),
            "duration[ns]": pa.duration("ns"), "string": pa.string()}[dtype]
    x = dd.from_pandas(pd.DataFrame({"a": pd.Series([None, None], dtype=pd.ArrowDtype(kind))}), npartitions=1)
    with pytest.raises(TypeError, match=r"^expected columns of numbers, got 'a' \("):
        moments(x)


def test_empty_partitions(frame):
    x = dd.from_pandas(frame[NUMBERS], npartitions=5)
    some = x[x.whole > 30]
    m = moments(some).compute()
    assert (set(m.n.tolist()), m.mean[2], m.names) == ({9}, 35, tuple(NUMBERS))
    pd.testing.assert_frame_equal(normalize(some, m).compute(), normalize(x, m).compute()[31:])
    m = moments(x[x.whole > 99]).compute()
    assert m == Moments()
    assert m.names == tuple(NUMBERS)


def test_normalize(frame):
    x = dd.from_pandas(frame, npartitions=3).persist()
    columns = [*NUMBERS, "nullable"]
    m = moments(x[columns], nan_policy="omit").compute()
    y = normalize(x, m)
    assert y.divisions == x.divisions
    result = y.compute()
    assert result.columns.tolist() == frame.columns.tolist()
    assert result.index.equals(frame.index)
    assert result.carrier.tolist() == frame.carrier.tolist()
    for i, name in enumerate(columns):
        dtype = np.float32 if name == "single" else np.float64
        values = frame[name].to_numpy(dtype, na_value=np.nan)
        assert result[name].dtype == y.dtypes[name] == dtype
        wanted = bnstream.normalize(values[:, None], m.mean[i:i + 1], m.var()[i:i + 1])[:, 0]
        np.testing.assert_array_equal(result[name], wanted)
    late = normalize(x[columns], moments(x[columns], nan_policy="omit"))
    pd.testing.assert_frame_equal(late.compute(), result[columns])
    assert x.whole.compute().tolist() == list(range(40))       # x itself is unchanged


def test_the_map_of_a_known_state_is_made_once(frame, monkeypatch):
    made, init = [], scaling.FrameAffine.__init__

    def counted(self, *arguments, **options):
        made.append(self)
        init(self, *arguments, **options)

    monkeypatch.setattr(scaling.FrameAffine, "__init__", counted)
    x = dd.from_pandas(frame[NUMBERS], npartitions=3)
    normalize(x, moments(x).compute()).compute()
    assert len(made) == 1


def test_parameters(frame):
    x = dd.from_pandas(frame, npartitions=3)
    m = moments(x[["whole", "double"]]).compute()
    y = normalize(x, m, gamma=[2, 3], beta=[1, -1], eps=0.25).compute()
    wanted = bnstream.normalize(frame[["whole", "double"]], m.mean, m.var(), [2, 3], [1, -1], eps=0.25)
    np.testing.assert_array_equal(y[["whole", "double"]], wanted)
    np.testing.assert_array_equal(y["single"], frame["single"])


def test_a_layer(frame):
    bn = bnstream.BatchNorm(2, names=["double", "whole"])
    bn(frame[["double", "whole"]].to_numpy())
    y = normalize(dd.from_pandas(frame, npartitions=3), bn).compute()
    wanted = bn.eval()(frame[["double", "whole"]].to_numpy())
    np.testing.assert_array_equal(y[["double", "whole"]], wanted)


def test_columns_named_by_numbers():
    x = dd.from_pandas(pd.DataFrame(np.arange(8.0).reshape(4, 2)), npartitions=2)
    m = moments(x).compute()
    assert (m.names, m.mean.tolist()) == (("0", "1"), [3.0, 4.0])
    y = normalize(x, m).compute()
    assert y.columns.tolist() == [0, 1]
    assert y.mean().tolist() == [0, 0]


def dask_frame(**columns):
    return dd.from_pandas(pd.DataFrame(columns), npartitions=2)


X = dask_frame(a=[1.0, 2.0], b=[3.0, 5.0])
M = Moments(names=["a", "b"]).update(np.arange(6.0).reshape(3, 2))


@pytest.mark.parametrize(("call", "error", "message"), [
    (lambda: moments(dask_frame(a=[1.0], s=["x"], t=[pd.Timestamp(0)])), TypeError,
     r"^expected columns of numbers, got 's' \(.*\), 't' \(datetime64\[.*\]\); select the others, as in "
     r"x\[\['a', 'b'\]\], or convert these with x\.astype$"),
    (lambda: moments(dask_frame(z=[1j])), TypeError, r"^expected columns of numbers, got 'z' \(complex128\)"),
    (lambda: moments(X.a), TypeError, "^expected a dask array or dataframe, got Series; .* to_frame"),
    (lambda: moments(X.compute()), TypeError, "^expected a dask array or dataframe, got DataFrame; "),
    (lambda: moments(X, 1), ValueError, "^axis of a dataframe must be 0, as its columns are the channels, got 1$"),
    (lambda: moments(X, None), ValueError, "^axis of a dataframe must be 0, .* got None$"),
    (lambda: moments(X[[]]), ValueError, "^the dataframe has no columns$"),
    (lambda: moments(X, nan_policy="drop"), ValueError, "^nan_policy must be"),
    (lambda: normalize(X, M, channel_axis=1), ValueError,
     "^the channels of a dataframe are its columns; leave out channel_axis=1$"),
    (lambda: normalize(X[["a"]], M), ValueError, "^the dataframe lacks columns that the statistics name: 'b'$"),
    (lambda: normalize(dask_frame(a=["x"], b=[1.0]), M), TypeError, r"^expected columns of numbers, got 'a' \("),
    (lambda: normalize(X, Moments().update(np.eye(2))), ValueError,
     "^the statistics have no names of columns; compute them from a dataframe, or set their names$"),
    (lambda: normalize(X, moments(X[["b"]])).compute(), ValueError,
     "^delayed statistics must name all columns, and do not name 'a'; leave these out, or compute the statistics "
     "first$"),
    (lambda: normalize(X, M, gamma=[1, 2, 3]), ValueError, "^gamma must have the shape of the channels"),
    (lambda: normalize(X, "M"), TypeError, "^state must be a Moments, .* got str$"),
])
def test_errors(call, error, message):
    with pytest.raises(error, match=message):
        call()
