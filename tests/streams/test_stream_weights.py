"""Weights in a column of a table: every format gives the moments of weighted rows."""

from pathlib import Path

import numpy as np
import pytest
from support.arrays import of_dtype, rng
from support.cases import thorough
from support.oracle import assert_within, exact_weighted
from support.passes import Stop, stop_after
from support.states import bits

import bnstream
from bnstream import SourceError, apply, fit
from bnstream.core.moments import rows_of

pa = pytest.importorskip("pyarrow", minversion="17")
dataset = pytest.importorskip("pyarrow.dataset")
parquet = pytest.importorskip("pyarrow.parquet")
csv = pytest.importorskip("pyarrow.csv")

N = 200
X = of_dtype("f8", (N, 3)) * [1, 10, 0.1] + [1e6, 0, 5]
W = np.where(rng(1).random(N) < 0.1, 0, rng(2).random(N) * 3)
HOLES = rng(3).random((N, 3)) < 0.2
HOLES[:40, 2] = True        # the first pieces have no value of this column
SUFFIXES = [".parquet", ".arrow", ".csv", ".csv.gz"]


def table_of(x=X, weights=W, holes=None):
    """A table with the columns a, w, b and c, where w holds the weights."""
    a, b, c = (pa.array(column, mask=None if holes is None else holes[:, i]) for i, column in enumerate(x.T.copy()))
    return pa.table({"a": a, "w": weights, "b": b, "c": c})


def written(suffix, table, stem="t"):
    path = f"{stem}{suffix}"
    if suffix == ".parquet":
        parquet.write_table(table, path, row_group_size=17)
    elif suffix == ".arrow":
        with pa.ipc.new_file(path, table.schema) as file:
            file.write_table(table, 17)
    else:
        csv.write_csv(table, pa.CompressedOutputStream(path, "gzip") if suffix == ".csv.gz" else path)
    return path


def check(m, x=X, weights=W, present=True):
    """Check the moments of rows with weights, each column by itself."""
    times = np.where(np.broadcast_to(present, x.shape), np.reshape(weights, (-1, 1)), 0)
    states = [exact_weighted(column[w > 0], w[w > 0]) for column, w in zip(x.T, times.T, strict=True)]
    assert_within(m.mean, m.var(), np.array(states, object))
    np.testing.assert_allclose(m.n, times.sum(0), rtol=1e-14)
    np.testing.assert_allclose(m.effective_n, times.sum(0) ** 2 / (times**2).sum(0), rtol=1e-14)
    assert m.n.dtype == np.float64


@pytest.mark.parametrize("chunk_rows", [None, 7])
@pytest.mark.parametrize("suffix", SUFFIXES)
def test_files(suffix, chunk_rows, folder):
    files = [written(suffix, table_of().slice(0, 90), "1"), written(suffix, table_of().slice(90), "2")]
    m = fit(files, weights="w", chunk_rows=chunk_rows)
    check(m)
    assert m.names == ("a", "b", "c")
    m = fit(files[::-1], weights="w", columns=["c", "a"], chunk_rows=chunk_rows)
    check(m, X[:, [2, 0]])
    assert m.names == ("c", "a")


STREAMS = {
    "Table": table_of,
    "RecordBatchReader": lambda: table_of().to_reader(50),
    "dataset": lambda: dataset.dataset(table_of().to_batches(50)),
    "tables": lambda: [table_of().slice(0, 90), table_of().slice(90)],
    "batches": lambda: iter(table_of().to_batches(33)),
    "pandas": lambda: pytest.importorskip("pandas", "2.2").DataFrame(dict(zip("abc", X.T, strict=True))).assign(w=W),
    "polars": lambda: pytest.importorskip("polars").from_arrow(table_of()),
    "DuckDB": lambda: pytest.importorskip("duckdb").from_arrow(table_of()),
}


@pytest.mark.parametrize("chunk_rows", [None, 7])
@pytest.mark.parametrize("name", STREAMS)
def test_tables(name, chunk_rows):
    m = fit(STREAMS[name](), weights="w", chunk_rows=chunk_rows)
    check(m)
    assert m.names == ("a", "b", "c")
    check(fit(STREAMS[name](), weights="w", columns=["b"], chunk_rows=chunk_rows), X[:, 1:2])


@pytest.mark.parametrize("kind", ["u1", "i4", "u8", "f2", "f4", "f8", "?", "decimal"])
def test_types_of_weights(kind):
    weights = rng(4).integers(0, 2 if kind == "?" else 9, N)
    column = [None if w > 6 else w for w in weights.tolist()]
    kind = pa.decimal128(25, 2) if kind == "decimal" else pa.from_numpy_dtype(np.dtype(kind))
    check(fit(table_of(weights=pa.array(weights).cast(kind)), weights="w"), weights=weights)
    m = fit(table_of(weights=pa.array(column).cast(kind)), weights="w", nan_policy="omit")
    check(m, weights=np.where(weights > 6, 0, weights))


@pytest.mark.parametrize("chunk_rows", [None, 7])
@pytest.mark.parametrize("suffix", [*SUFFIXES, None])
def test_each_column_leaves_out_its_own_missing_values(suffix, chunk_rows, folder):
    """Null and NaN are missing; so are weights, whose rows are left out of all columns."""
    x, lacks = X.copy(), rng(5).random(N) < 0.1
    x[5, 0], x[HOLES] = np.nan, 1e300
    weights = np.where(np.arange(N) == 20, np.nan, W)
    table = table_of(x, pa.array(weights, mask=lacks), HOLES)
    m = fit(written(suffix, table) if suffix else table, weights="w", nan_policy="omit", chunk_rows=chunk_rows)
    check(m, X, np.where(lacks | np.isnan(weights), 0, W), ~HOLES & ~np.isnan(x))


def test_large_integers_with_missing_values():
    """They keep all digits, although a column of integers with missing values has no integer dtype in NumPy."""
    x = np.array([[2**60 + 1], [2**60 + 3], [0], [2**60 + 5]])
    table = pa.table({"x": pa.array(x[:, 0], mask=np.arange(4) == 2), "w": [1, 2, 3, 1]})
    m = fit(table, weights="w", nan_policy="omit")
    assert m.n.tolist() == [4]
    assert m.m2.tolist() == [8]         # about a mean of 2**60 + 3


@pytest.mark.parametrize("how", ["null", "NaN"])
def test_policies(how):
    x, weights = X.copy(), W.copy()
    x[3, 0], weights[3], weights[4:6] = np.nan, 0.5, 0
    holes = np.zeros((N, 3), bool)
    holes[3, 0] = how == "null"
    table = table_of(x, weights, holes)
    with pytest.raises(SourceError, match=r"the Table, rows 0 to 200: column 'a'(: NaN or inf| has 1 missing values)"):
        fit(table, weights="w")
    m = fit(table, weights="w", nan_policy="propagate")
    assert np.isnan(m.mean).tolist() == np.isnan(m.m2).tolist() == [True, False, False]
    np.testing.assert_allclose(m.n, weights.sum(), rtol=1e-14)
    np.testing.assert_allclose(m.effective_n, weights.sum() ** 2 / (weights**2).sum(), rtol=1e-14)
    check(fit(table, weights="w", nan_policy="omit"), X, weights, ~np.isnan(x))


@pytest.mark.parametrize("policy", ["raise", "omit", "propagate"])
@pytest.mark.parametrize("how", ["null", "NaN"])
def test_rows_of_weight_0_may_hold_anything(how, policy):
    x, weights = X.copy(), np.append(0, W[1:])
    x[0] = np.nan
    table = table_of(x, weights, np.isnan(x) if how == "null" else None)
    check(fit(table, weights="w", nan_policy=policy), X, weights)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_n_threads_agnosticism(suffix, folder):
    files = [written(suffix, table_of(holes=HOLES), stem) for stem in "12"]
    found = {bits(fit(files, weights="w", nan_policy="omit", n_threads=n)) for n in (1, 2, 5)}
    assert len(found) == 1


def sources(kind, table):
    """A function that gives a fresh source of the rows of a table."""
    if kind == "stream":
        return lambda: table.to_reader(17)
    files = [written(kind, table.slice(0, 120), "1"), written(kind, table.slice(120), "2")]
    return lambda: files


@pytest.mark.parametrize("kind", [".parquet", ".arrow", ".csv", "stream"])
def test_resume_gives_the_same_bytes(kind, folder):
    """Checkpoints keep the rows of the weights, also where there is no value so far, or all weights are 0."""
    weights = np.where(np.arange(N) < 30, 0, W)
    source = sources(kind, table_of(X, weights, HOLES))
    options = {"chunk_rows": 7, "nan_policy": "omit", "weights": "w"}
    seen = []
    m = fit(source(), "whole", progress=seen.append, **options)
    assert len(rows_of(m)) == 7
    for k in thorough(range(1, len(seen)), sorted({1, 2, len(seen) // 2, len(seen) - 1})):
        with pytest.raises(Stop):
            fit(source(), "out", progress=stop_after(k), **options)
        with pytest.raises(Stop):
            fit(source(), "out", resume=True, progress=stop_after(1), **options)
        assert bits(fit(source(), "out", resume=True, **options)) == bits(m)
        assert Path("out").read_bytes() == Path("whole").read_bytes()
        Path("out").unlink()


REFUSED = {
    "no such column": ({}, {"weights": "v"}, r"t\.csv has no column 'v'; its columns are a, w, b, c"),
    "also a channel": ({}, {"columns": ["a", "w"]}, "column 'w' holds the weights, so it cannot be a channel"),
    "text": ({"weights": ["x"] * N}, {}, r"t\.csv: 'w', the weights, is of type string; name a numeric column"),
    "missing": ({"weights": pa.array(W, mask=np.arange(N) == 150)}, {},
                r"t\.csv, bytes [\d,]+ to [\d,]+: column 'w', the weights, has 1 missing values; leave these rows out"),
    "missing, propagate": ({"weights": pa.array(W, mask=np.arange(N) == 150)}, {"nan_policy": "propagate"},
                           r"column 'w', the weights, has 1 missing values"),
    "negative": ({"weights": np.where(np.arange(N) == 150, -1, W)}, {"nan_policy": "omit"},
                 r"t\.csv, bytes [\d,]+ to [\d,]+: column 'w': weights must be finite and not negative.* got -1\.0 to"),
    "infinite": ({"weights": np.where(np.arange(N) == 150, np.inf, W)}, {"nan_policy": "omit"},
                 r"column 'w': weights must be finite.* to inf"),
    "0": ({"weights": np.zeros(N)}, {}, r"t\.csv: every value is missing or left out in column 'a', 'b', 'c'"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused(name, folder):
    table, options, message = REFUSED[name]
    path = written(".csv", table_of(**table))
    with pytest.raises(SourceError, match=message):
        fit(path, "out", **{"weights": "w", **options})
    assert not Path("out").exists()


def test_a_negative_weight_of_a_missing_value_is_refused():
    table = pa.table({"a": [1.0, None, 3.0], "w": [1.0, -1.0, 1.0]})
    with pytest.raises(SourceError, match="column 'w': weights must be finite and not negative"):
        fit(table, weights="w", nan_policy="omit")


def test_the_hint_does_not_name_the_weights():
    with pytest.raises(SourceError, match=r"'text' is of type string; select numeric columns with .*--columns: a,b,c$"):
        fit(table_of().append_column("text", pa.array(["x"] * N)), weights="w")


def test_a_table_of_weights_alone():
    with pytest.raises(SourceError, match="the Table has no columns but the weights"):
        fit(pa.table({"w": W}), weights="w")


def test_a_file_without_the_weights(folder):
    written(".csv", table_of(), "1")
    written(".csv", table_of().drop_columns("w"), "2")
    with pytest.raises(SourceError, match=r"2\.csv has no column 'w'"):
        fit(["1.csv", "2.csv"], weights="w")


@pytest.mark.parametrize(("weights", "error", "message"), [
    (W, TypeError, "weights must be the name of a column of a table, got ndarray; give arrays with weights as"),
    (3, TypeError, "weights must be the name of a column of a table, got int"),
    ("w", SourceError, r"holds arrays, but weights='w' names a column of a table; give arrays with weights as an "
                       r'iterable of mappings, {"batch": x, "weights": w}, or use Moments\.update\(x, weights=w\)'),
])
@pytest.mark.parametrize("kind", ["array", "arrays", ".npy"])
def test_arrays_have_no_column_of_weights(weights, error, message, kind, folder):
    np.save("x.npy", X)
    with pytest.raises(error, match=message):
        fit({"array": X, "arrays": [X], ".npy": "x.npy"}[kind], weights=weights)


def test_a_checkpoint_belongs_to_its_weights(folder):
    path = written(".parquet", table_of())
    with pytest.raises(Stop):
        fit(path, "out", columns=["a"], weights="w", progress=stop_after(2))
    with pytest.raises(SourceError, match="was made with weights='w', now None; resume with the same arguments"):
        fit(path, "out", columns=["a"], resume=True)
    check(fit(path, "out", columns=["a"], weights="w", resume=True), X[:, :1])


def test_apply_copies_the_weights(folder):
    m = fit(table_of(), weights="w")
    apply(m, table_of(), "y.parquet")
    y = parquet.read_table("y.parquet")
    assert y.column_names == ["a", "w", "b", "c"]
    assert y.column("w").to_numpy().tolist() == W.tolist()
    assert y.column("b").to_numpy().tolist() == bnstream.normalize(X, m.mean, m.var())[:, 1].tolist()
