"""Integers beyond 2**53 in tables and beside missing values keep their exact statistics."""

import datetime
import decimal
import sys
import types

import numpy as np
import pytest
from support.oracle import exact

from bnstream import (
    BatchNorm,
    DomainBatchNorm,
    GroupedMoments,
    LayerNorm,
    Moments,
    batch_norm,
    fit,
    mean_var,
    normalize,
)
from bnstream.runningmeanstd import RunningMeanStd

pd = pytest.importorskip("pandas")
pa = pytest.importorskip("pyarrow")

TIMES = [1_700_000_000_000_000_000 + 100 * i for i in range(4)]     # nanoseconds; the variance is 12500
GAPPED = [TIMES[0], None, *TIMES[1:]]
HUGE = [2**64 - 1 - 3 * i for i in range(4)]
GAPPED_HUGE = [*HUGE, None]


def polars():
    return pytest.importorskip("polars")


SERIES = {
    "Int64": lambda v: pd.Series(v, dtype="Int64"),
    "UInt64": lambda v: pd.Series(v, dtype="UInt64"),
    "an array of pandas": lambda v: pd.array(v, dtype="UInt64"),
    "an index": lambda v: pd.Index(v, dtype="UInt64"),
    "uint64[pyarrow]": lambda v: pd.Series(v, dtype="uint64[pyarrow]"),
    "an array of pyarrow": lambda v: pa.array(v, pa.uint64()),
    "a slice of pyarrow": lambda v: pa.array([7, None, *v], pa.uint64())[2:],
    "chunks of pyarrow": lambda v: pa.chunked_array([v[:2], [], v[2:]], pa.uint64()),
    "polars": lambda v: polars().Series(v, dtype=polars().UInt64),
}


def state(m):
    return m.n.tolist(), m.mean.tolist(), m.var().tolist()


@pytest.mark.parametrize("name", SERIES)
@pytest.mark.parametrize("values", [TIMES, GAPPED, HUGE, GAPPED_HUGE], ids=["times", "gapped", "huge", "gapped huge"])
def test_columns_with_missing_integers(name, values):
    if name == "Int64" and max(v or 0 for v in values) >= 2**63:
        pytest.skip("beyond int64")
    x, present = SERIES[name](values), np.array([v for v in values if v is not None], np.uint64)
    wanted = exact(present)
    found = float(wanted.mean), float(wanted.m2 / 4)
    assert tuple(map(float, mean_var(x, nan_policy="omit"))) == found
    assert state(Moments(nan_policy="omit").update(x)) == (4, *found)
    if None in values:
        assert np.isnan(mean_var(x)).all()
        m = Moments().update(present[:2])
        before = m.copy()
        with pytest.raises(ValueError, match=r"^1 missing value; pass nan_policy='omit' to leave them out, or 'prop"):
            m.update(x)
        assert m == before
    else:
        assert tuple(map(float, mean_var(x))) == found


TABLES = {
    "pandas": lambda **columns: pd.DataFrame(columns),
    "nullable": lambda **columns: pd.DataFrame({name: pd.array(values) for name, values in columns.items()}),
    "pyarrow": lambda **columns: pa.table(columns),
    "batch": lambda **columns: pa.record_batch(columns),
    "polars": lambda **columns: polars().DataFrame(columns),
}
X = {"t": np.array(TIMES), "f": np.array([1.5, 2, 3, 4.5]), "s": np.float32([1, 2, 3, 5]),
     "u": np.array(HUGE, np.uint64), "flag": np.array([True, False, True, True])}


@pytest.mark.parametrize("name", TABLES)
def test_tables_of_several_dtypes(name):
    table = TABLES[name](**X)
    each = [Moments().update(column) for column in X.values()]
    wanted = [list(values) for values in zip(*map(state, each), strict=True)]
    assert state(Moments(names=list(X)).update(table)) == tuple(wanted)
    assert [values.tolist() for values in mean_var(table)] == wanted[1:]
    mean, var = mean_var(table, keepdims=True, dtype=np.float32, ddof=1)
    assert (mean.shape, var.dtype) == ((1, 5), np.float32)
    np.testing.assert_array_equal(var[0], [np.float32(m.var(1)) for m in each])
    w, where = np.array([1.0, 0.5, 2, 3]), np.array([True, True, False, True])
    for given in (w, w[:, np.newaxis]):
        each = [Moments().update(column, weights=w, where=where) for column in X.values()]
        assert state(Moments().update(table, weights=given, where=where)) == tuple(
            list(values) for values in zip(*map(state, each), strict=True))


def test_rows_of_python_numbers():
    """As a database returns them."""
    rows = [(t, 0.5 * i, i) for i, t in enumerate(TIMES)]
    m = Moments().update(rows)
    assert m.var().tolist() == mean_var(rows)[1].tolist() == [12500, 0.3125, 1.25]
    assert Moments(1).update([[2**60 + 1, 0.5]]).n.tolist() == [2]
    for plain in ([(1, 0.5), (2, 1.5)], [(2.0**70, 1), (1, 2)], [(1, 2), (3, 4)], [1.5, 2**60], [(TIMES[0], 1)] * 2):
        assert Moments().update(plain) == Moments().update(np.array(plain))
    with pytest.raises(ValueError, match="of equal lengths"):
        mean_var([(1, 2), (3,)])


ROUNDED = {
    "signed and unsigned": [2**63 + 1, -1], "ints and floats": [0.5, 2**60 + 1], "a column": [(2**63 + 1, 0), (-1, 1)],
    "three axes": [[[2**60 + 1, 0.5]]],
    "scalars of NumPy": [np.uint64(2**63 + 1), np.int64(-1)],
}


@pytest.mark.parametrize("name", ROUNDED)
def test_integers_that_no_dtype_holds(name):
    m = Moments()
    message = r"got the integer \d{19,20} beside others that need another dtype, and float64 would round it; sub"
    for call in (mean_var, m.update, RunningMeanStd().update, lambda x: normalize(x, 0, 1)):
        with pytest.raises(TypeError, match=message):
            call(ROUNDED[name])
    assert m == Moments()
    with pytest.raises(TypeError, match=f"^the list: .*{message}"):
        fit(ROUNDED[name])


@pytest.mark.parametrize("x", [[2**63, -1], [-2**63, 2**63 - 1], [0.5, 2**60], [1, np.inf]], ids=str)
def test_integers_that_a_dtype_holds(x):
    assert Moments(nan_policy="propagate").update(x) == Moments(nan_policy="propagate").update(np.array(x))


@pytest.mark.parametrize("shape", [(4,), (4, 1), (2, 1, 2)])
def test_integers_that_uint64_alone_holds(shape):
    """NumPy makes float64 of them, as it sees int64 in the small ones."""
    values = np.array([2**63 + 1, 2**63 + 3, 5, 7], np.uint64).reshape(shape)
    assert np.asarray(values.tolist()).dtype == np.float64
    assert Moments(None).update(values.tolist()) == Moments(None).update(values)


def test_other_axes():
    table = pd.DataFrame({"t": TIMES, "u": pd.array([*HUGE[:3], None], "UInt64"), "f": [1.0, np.nan, 3.0, 4.0]})
    rows = [[TIMES[i], *([HUGE[i]] if i < 3 else []), *([table.f[i]] if i != 1 else [])] for i in range(4)]
    for axis in (1, (1,), -1):
        m = Moments(axis, nan_policy="omit").update(table)
        assert m.n.tolist() == [len(row) for row in rows]
        for i, row in enumerate(rows):
            wanted = sum(map(int, row)) / len(row)
            assert abs(m.mean[i] - wanted) <= 4 * np.spacing(wanted)
    m = Moments(1, nan_policy="omit").update(table, where=[True, True, False], weights=[2, 1, 1])
    assert m.n.tolist() == [3, 3, 3, 2]
    assert np.isnan(Moments(1, nan_policy="propagate").update(table).mean).tolist() == [False, True, False, True]
    for axis in (None, (0, 1), (1, 0)):
        m = Moments(axis, nan_policy="omit").update(table)
        assert (m.shape, m.n) == ((), 10)
        assert m.mean == pytest.approx(sum(int(v) for row in rows for v in row) / 10, rel=1e-15)
    assert Moments(nan_policy="omit").update(table, where=np.zeros(4, bool)).n.tolist() == [0, 0, 0]


def test_policies_of_tables():
    table = pa.table({"t": GAPPED, "f": [1.0, 2, 3, 4, 5]})
    mean, var = mean_var(table)
    assert np.isnan(mean).tolist() == np.isnan(var).tolist() == [True, False]
    assert Moments(nan_policy="propagate").update(table, where=[True, False, True, True, True]).var()[0] == 12500
    assert Moments(nan_policy="propagate").update(table).n.tolist() == [5, 5]
    with pytest.raises(ValueError, match=r"^column 't': 1 missing value; pass nan_policy='omit'"):
        Moments().update(table)
    assert Moments().update(table, where=[True, False, True, True, True]).var()[0] == 12500
    infinite = pd.DataFrame({"t": TIMES, "f": [1, np.inf, 3, 4]})
    with pytest.raises(ValueError, match=r"^column 'f': NaN or inf in the only channel"):
        mean_var(infinite, nan_policy="raise")


def test_refused_tables_leave_the_state():
    table = pd.DataFrame({"t": TIMES, "f": np.arange(4.0)})
    m = Moments().update(np.eye(3))
    before = m.copy()
    for call, message in [
        (lambda: m.update(table), r"^expected channels of shape \(3,\) as in the batches before, got \(2,\)"),
        (lambda: m.update(table, weights=[1, 2]), "^weights must have the shape of the batch positions"),
        (lambda: Moments(2).update(table), "^axis 2 is out of range"),
        (lambda: Moments(names=["t"]).update(table), "^expected 1 channels, one for each name"),
    ]:
        with pytest.raises(ValueError, match=message):
            call()
    assert m == before


def test_bits_are_those_of_numpy_where_it_does_not_round():
    """Ordinary tables are converted by NumPy as before."""
    x = np.random.default_rng(1).normal(5, 1, (1000, 2))
    frame = pd.DataFrame({"i": np.arange(1000), "a": x[:, 0], "b": x[:, 1].astype(np.float32)})
    assert Moments().update(frame) == Moments().update(frame.to_numpy())
    limit = pd.Series([2**53, None, -2**53], dtype="Int64")
    assert Moments(nan_policy="omit").update(limit) == Moments(nan_policy="omit").update([2.0**53, np.nan, -2.0**53])


SMALL = {
    "nullable bool": (lambda: pd.Series([True, None, False], dtype="boolean"), [1, np.nan, 0]),
    "bool of Arrow": (lambda: pa.array([True, None, False]), [1, np.nan, 0]),
    "bool of polars": (lambda: polars().Series([True, None, False]), [1, np.nan, 0]),
    "bools and floats": (lambda: pd.DataFrame({"a": [True, False], "b": [0.5, 2]}), [[1, 0.5], [0, 2]]),
    "nullable table": (lambda: pd.DataFrame({"a": [1, None], "b": [3, 4]}, dtype="Int64"), [[1, 3], [np.nan, 4]]),
    "nothing but nulls": (lambda: pa.array([None, None]), [np.nan, np.nan]),
    "dictionary": (lambda: pa.array([5, None, 5]).dictionary_encode(), [5, np.nan, 5]),
    "sparse": (lambda: pd.DataFrame({"a": pd.arrays.SparseArray([0, 1]), "b": [0.5, 2]}), [[0, 0.5], [1, 2]]),
}


@pytest.mark.parametrize("name", SMALL)
def test_small_numbers_of_any_kind(name):
    make, plain = SMALL[name]
    x = make()
    assert Moments(nan_policy="omit").update(x) == Moments(nan_policy="omit").update(np.array(plain, float))
    with np.errstate(all="ignore"):
        np.testing.assert_array_equal(normalize(x, 1, 4), normalize(np.array(plain, float), 1, 4))


ROUNDS = (r"^expected numbers that one array can hold, got integers beyond 2\*\*53{} with missing values or beside "
          r"other dtypes, which float64 would round; subtract an offset from them first$")


def test_what_takes_one_array_refuses_to_round():
    mixed, gapped = pd.DataFrame({"t": TIMES, "f": np.arange(4.0)}), pd.Series(GAPPED, dtype="Int64")
    for call in (lambda x: BatchNorm(2)(x), lambda x: normalize(x, 0, 1), lambda x: BatchNorm(2).recalibrate([x]),
                 lambda x: batch_norm(x, [0, 0], [1, 1])):
        with pytest.raises(TypeError, match=ROUNDS.format(" in 't'")):
            call(mixed)
    with pytest.raises(TypeError, match=ROUNDS.format("")):
        normalize(gapped, 0, 1)
    with pytest.raises(TypeError, match="^weights: " + ROUNDS.format("")[1:]):
        mean_var(np.arange(5.0), weights=gapped)
    rms = RunningMeanStd(shape=(2,)).update(mixed)
    assert rms.var.tolist() == [12500, 1.25]


@pytest.mark.parametrize(("make", "column"), [
    (lambda: pd.DataFrame({"a": [1.5], "d": pd.to_datetime([0])}), r"'d' \(datetime64\[ns\]\)"),
    (lambda: pd.DataFrame({"a": [1.5], "d": pd.to_timedelta([0])}), r"'d' \(timedelta64\[ns\]\)"),
    (lambda: pa.table({"a": [1], "d": [datetime.datetime(2020, 1, 1)]}), r"'d' \(timestamp\[us\]\)"),
    (lambda: pa.table({"a": [1], "d": [decimal.Decimal("1.5")]}), r"'d' \(decimal128\(2, 1\)\)"),
    (lambda: polars().DataFrame({"a": [1], "d": [datetime.timedelta(1)]}), r"'d' \(Duration\(time_unit='us'\)\)"),
    (lambda: polars().DataFrame({"a": [1.5], "d": ["x"]}), r"'d' \(String\)"),
])
def test_columns_that_are_not_numbers(make, column):
    for call in (mean_var, Moments().update):
        with pytest.raises(TypeError, match=f"^expected columns of numbers, got {column}; select the others"):
            call(make())


def test_polars_integers_of_128_bits():
    column = polars().Series("d", [2**70], dtype=polars().Int128)
    for x, what in ((column, "a column"), (polars().DataFrame({"a": [1.5], "d": column}), "column 'd'")):
        with pytest.raises(TypeError, match=f"^expected integers of at most 64 bits, got {what} of type Int128; cast"):
            mean_var(x)


def test_a_package_that_another_thread_imports(monkeypatch):
    """pyarrow imports pandas on first use: other threads then find it in sys.modules, without its classes."""
    numbers, keys = pa.array([1, 2, 4]), pa.array(["a", "b", "a"])
    for package in ("pandas", "polars"):
        monkeypatch.setitem(sys.modules, package, types.ModuleType(package))
    assert mean_var(numbers)[0] == 7 / 3
    assert GroupedMoments().update(np.array([1.0, 2.0, 4.0]), keys)["a"].mean == 2.5


@pytest.mark.parametrize("package", ["pandas", "polars", "pyarrow", "record batch"])
def test_named_columns_in_another_order_are_refused(package):
    """The numbers of one column would be counted under the name of another."""
    module = pytest.importorskip("pyarrow" if package == "record batch" else package)
    make = {"pyarrow": lambda t: module.table(t), "record batch": lambda t: module.table(t).to_batches()[0]}.get(
        package, lambda t: module.DataFrame(t))
    table = {"p": [1.0, 2.0, 3.0, 4.0], "q": [10.0, 20.0, 30.0, 50.0]}
    right, wrong = make(table), make({"q": table["q"], "p": table["p"]})
    other, shifted = make({"a": table["p"], "b": table["q"]}), make({"q": table["p"], "r": table["q"]})
    names, keys = ["p", "q"], [0, 0, 1, 1]
    g = GroupedMoments(names=names).update(right, keys)
    domains = DomainBatchNorm(2, names=names, dtype="f8")
    calls = [
        lambda x: Moments(names=names).update(x), lambda x: Moments(names=names, exact=True).update(x),
        lambda x: GroupedMoments(names=names).update(x, keys), lambda x: g.normalize(x, keys),
        lambda x: BatchNorm(2, names=names)(x), lambda x: BatchNorm(2, names=names).vjp(x),
        lambda x: BatchNorm(2, names=names).recalibrate([x]), lambda x: LayerNorm(2, names=names)(x),
        lambda x: domains(x, keys),
    ]
    for call in calls:
        call(right)
        call(other)         # named anew
        for x in (wrong, shifted):
            with pytest.raises(ValueError, match=r"expected columns in the order p, q as here, got q, [pr]; pass"):
                call(x)
    assert Moments(names=names).update(right).mean.tolist() == [2.5, 27.5]
    if package != "record batch":       # whose rows are no axis of NumPy's
        rows = make({"q": [1.0, 2.0], "p": [3.0, 4.0]})
        assert Moments(1, names=names).update(rows).mean.tolist() == [2, 3]
