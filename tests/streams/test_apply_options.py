"""The options of apply for the values: the way back, other dtypes, and limits."""

import numpy as np
import pytest
from support.arrays import normal

from bnstream import BatchNorm, Moments, SourceError, apply, fit, normalize

pa = pytest.importorskip("pyarrow", minversion="17")
parquet = pytest.importorskip("pyarrow.parquet")

X = normal((60, 3)) * [1, 10, 0.1] + [1e3, 0, 5]


def table_of(x):
    return pa.table(dict(zip("abc", np.ascontiguousarray(x.T), strict=True)))


def array_in(path):
    if path.endswith(".npy"):
        return np.load(path)
    return np.stack([column.to_numpy() for column in parquet.read_table(path).columns], axis=1)


TABLE = table_of(X)


def layer():
    bn = BatchNorm(3, names=["a", "b", "c"])
    bn(X)
    bn.gamma, bn.beta = [1, -2, 3], [4, 5, 6]
    return bn


def constant():
    return Moments(names=["a", "b", "c"]).update(np.where([True, False, True], X, 7.0))


@pytest.mark.parametrize("make", [lambda: fit(TABLE), layer, constant], ids=["moments", "layer", "constant"])
@pytest.mark.parametrize("eps", [None, 0.0, 0.5])
@pytest.mark.parametrize("out", [".npy", ".parquet"])
def test_inverse(make, eps, out, folder):
    """The way back. A constant channel is centered there, and shifted here."""
    state = make()
    source = X if out == ".npy" else TABLE
    apply(state, source, f"y{out}", eps=eps)
    apply(state, f"y{out}", f"x{out}", eps=eps, inverse=True)
    np.testing.assert_allclose(array_in(f"x{out}"), X, rtol=1e-15, atol=1e-14)


def test_inverse_of_float32_is_rounded_once(folder):
    m = Moments().update(X)
    y = normal((40, 3)).astype("f4")
    apply(m, y, "x.npy", inverse=True)
    wanted = (y.astype("f8") * m.std() + m.mean).astype("f4")
    assert np.load("x.npy").dtype == "f4"
    np.testing.assert_array_max_ulp(np.load("x.npy"), wanted)


def test_inverse_of_several_channel_axes(folder):
    x = normal((20, 2, 3))
    m = Moments(0).update(x)
    apply(m, x, "y.npy")
    apply(m, "y.npy", "x.npy", inverse=True)
    np.testing.assert_allclose(np.load("x.npy"), x, rtol=1e-14, atol=1e-15)


def test_no_way_back(folder):
    bn = layer()
    bn.gamma = [1, 0, 3]
    with pytest.raises(ValueError, match=r"gamma is 0 in some channels, whose values inverse=True \(--inverse\)"):
        apply(bn, X, "y.npy", inverse=True)


@pytest.mark.parametrize("dtype", ["float16", "f4", np.float64, np.dtype(">f4")], ids=str)
@pytest.mark.parametrize("kind", ["f2", "f4", "f8", "u1", "i8"])
def test_dtype(dtype, kind, folder):
    """The data is not rounded before it is normalized: its mean may be far from 0."""
    x = (X * 1e4 if kind == "i8" else X % 200 if kind in ("f2", "u1") else X).astype(kind)
    m = Moments(names=["a", "b", "c"]).update(x)
    native = np.dtype(dtype).newbyteorder("=")
    wanted = normalize(x.astype("f8"), m.mean, m.var()).astype(native)
    for out, source in (("y.npy", x), ("y.parquet", table_of(x))):
        apply(m, source, out, dtype=dtype)
        assert array_in(out).dtype == native
        np.testing.assert_array_max_ulp(array_in(out), wanted)


def test_dtype_of_columns_of_integers(folder):
    """A .npz file whose columns no array holds."""
    x = np.array([1_700_000_000_000_000_000 + 100 * i for i in range(5)])
    np.savez("x.npz", a=x, b=np.arange(5.0))
    apply(fit("x.npz"), "x.npz", "y.npy", dtype="float32")
    assert np.load("y.npy").dtype == "f4"
    np.testing.assert_array_max_ulp(np.load("y.npy"), np.stack([(np.arange(5) - 2) / 2**0.5] * 2, 1).astype("f4"))


@pytest.mark.parametrize(("clip", "low", "high"), [(1, -1, 1), (0.5, -0.5, 0.5), ((-1, 0.25), -1, 0.25),
                                                   ([-np.inf, 0.25], -np.inf, 0.25)], ids=str)
def test_clip(clip, low, high, folder):
    x = X.copy()
    x[3, 1] = np.nan
    m = Moments(names=["a", "b", "c"], nan_policy="omit").update(x)
    wanted = np.clip(normalize(x, m.mean, m.var()), low, high)
    assert np.isnan(wanted[3, 1])
    apply(m, x, "y.npy", clip=clip)
    np.testing.assert_array_equal(np.load("y.npy"), wanted)
    missing = pa.table({"a": x[:, 0], "b": pa.array(x[:, 1], mask=np.isnan(x[:, 1])), "c": x[:, 2]})
    apply(m, missing, "y.parquet", clip=clip, dtype="float16")
    y = parquet.read_table("y.parquet")
    assert y["b"].null_count == 1
    np.testing.assert_array_equal(y["a"].to_numpy(), wanted[:, 0].astype("f2"))


@pytest.mark.parametrize(("options", "error", "message"), [
    ({"clip": 0}, ValueError, "clip must be a positive number, or a pair of increasing ones, got 0"),
    ({"clip": -1}, ValueError, "clip must be a positive number, or a pair of increasing ones, got -1"),
    ({"clip": np.nan}, ValueError, "clip must be a positive number, or a pair of increasing ones, got nan"),
    ({"clip": (1, 1)}, ValueError, r"clip must be a positive number, or a pair of increasing ones, got \(1, 1\)"),
    ({"clip": (1, 2, 3)}, ValueError, r"clip must be a positive number, or a pair of increasing ones, got \(1, 2, 3\)"),
    ({"clip": (1, np.nan)}, ValueError, "clip must be a positive number, or a pair of increasing ones, got nan"),
    ({"clip": "5"}, TypeError, "clip must be a positive number, or a pair of increasing ones, got '5'"),
    ({"clip": 5, "inverse": True}, ValueError, r"clip \(--clip\) limits normalized values, and inverse=True"),
    ({"dtype": "int8"}, ValueError, "dtype must be float16, float32 or float64, got int8"),
    ({"dtype": "float128"}, ValueError, "dtype must be float16, float32 or float64, got float128"),
    ({"dtype": "floaty"}, TypeError, "dtype must be float16, float32 or float64, got 'floaty'"),
    ({"out_format": "npy"}, ValueError, r"out_format \(--out-format\) is for a folder of outputs, one for each file"),
    ({"out_format": "xlsx"}, ValueError, "out_format must be one of npy, parquet, arrow, csv, got 'xlsx'"),
    ({"resume": True}, ValueError, r"resume=True \(--resume\) is for a folder of outputs, one for each file, got "
                                   r"out='y\.npy'; end it with a slash, or leave the option out"),
], ids=str)
def test_options_are_refused(options, error, message, folder):
    with pytest.raises(error, match=message):
        apply(Moments().update(X), X, "y.npy", **options)
    assert not list(folder.iterdir())


def test_half_precision_in_text(folder):
    """CSV holds any dtype, or the message says which."""
    m = Moments(names=["a", "b", "c"]).update(X)
    try:
        apply(m, TABLE, "y.csv", dtype="float16")
    except SourceError as error:
        assert "halffloat" in str(error)        # noqa: PT017
