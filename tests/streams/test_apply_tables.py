"""What apply writes of tables: columns and types that are decided from all sources, and the metadata of pandas."""

from pathlib import Path

import numpy as np
import pytest
from support.arrays import normal
from support.processes import python

from bnstream import Moments, SourceError, apply, fit, normalize

pa = pytest.importorskip("pyarrow", minversion="17")
parquet = pytest.importorskip("pyarrow.parquet")

X = normal((60, 1))[:, 0] * 3 + 1e3


def files(*tables):
    """Parquet files of tables, with their names."""
    for i, table in enumerate(tables):
        parquet.write_table(pa.table(table), f"{i}.parquet")
    return [f"{i}.parquet" for i in range(len(tables))]


def values(m, x):
    return normalize(np.asarray(x, "f8")[:, None], m.mean, m.var())[:, 0]


@pytest.mark.parametrize("out", [".parquet", ".arrow", ".npy"])
@pytest.mark.parametrize(("dtypes", "dtype"), [
    (("f4", "f8"), "f8"), (("f8", "f4"), "f8"), (("f2", "f4"), "f4"), (("i4", "f4"), "f8"), (("f4", "f4"), "f4"),
    (("u1", "i8"), "f8"),
], ids=str)
def test_dtypes_that_differ(dtypes, dtype, out, folder):
    """The widest is decided before anything is written. Each value is computed in it."""
    parts = [X[:20].astype(dtypes[0]), X[20:].astype(dtypes[1])]
    paths = files(*({"a": part, "b": [*range(len(part))]} for part in parts))
    m = fit(paths, columns=["a"])
    apply(m, paths, f"y{out}")
    y = np.load("y.npy")[:, 0] if out == ".npy" else table_in(f"y{out}")["a"].to_numpy()
    assert y.dtype == dtype
    assert y.tolist() == values(m, np.concatenate(parts)).astype(dtype).tolist()


def table_in(path):
    return pa.ipc.open_file(path).read_all() if path.endswith(".arrow") else parquet.read_table(path)


def test_dtypes_of_arrays_that_differ(folder):
    for name, dtype in (("1", "f4"), ("2", "f8"), ("3", "u1")):
        np.save(f"{name}.npy", (X.reshape(-1, 2) % 200).astype(dtype))
    for names, dtype in ((["1.npy", "2.npy"], "f8"), (["3.npy", "1.npy"], "f4"), (["3.npy", "2.npy"], "f8")):
        m = fit(names)
        apply(m, names, "y.npy", force=True)
        whole = np.concatenate([np.load(name).astype("f8") for name in names])
        assert np.load("y.npy").dtype == dtype
        np.testing.assert_array_max_ulp(np.load("y.npy"), normalize(whole, m.mean, m.var()).astype(dtype))


@pytest.mark.parametrize(("kinds", "kind"), [
    (("int32", "int64"), "int64"), (("int8", "uint16"), "int32"), (("float32", "float64"), "float64"),
    (("null", "string"), "string"), (("date32", "date32"), "date32"), (("string", "large_string"), "large_string"),
], ids=str)
def test_types_of_copied_columns(kinds, kind, folder):
    def column(name):
        if name == "null":
            return pa.nulls(2)
        return pa.array(["x", None]) if "string" in name else pa.array([7, None], pa.int32())

    columns = [column(name).cast(getattr(pa, name)()) for name in kinds]
    paths = files(*({"a": [1.0, 3.0], "c": one} for one in columns))
    apply(fit(paths, columns=["a"]), paths, "y.parquet")
    y = parquet.read_table("y.parquet")
    assert y.schema.field("c").type == getattr(pa, kind)()
    assert y["c"].to_pylist() == [value for one in columns for value in one.to_pylist()]


@pytest.mark.parametrize(("tables", "keep", "message"), [
    (({"a": [1.0]}, {"a": [3.0], "c": ["x"]}), None,
     r"^1\.parquet has the column 'c', which 0\.parquet lacks; choose the columns to copy with keep= or --keep: '\*'"),
    (({"a": [1.0], "c": ["x"]}, {"a": [3.0]}), None, r"^0\.parquet has the column 'c', which 1\.parquet lacks; choose"),
    (({"a": [1.0], "c": ["x"]}, {"a": [3.0]}), ["c"], r"^1\.parquet has no column 'c' to keep; its other columns are"),
    (({"a": [1.0], "c": [2]}, {"a": [3.0], "c": ["x"]}), None,
     r"^column 'c' is int64 in 0\.parquet and string in 1\.parquet; give it one type, or choose the columns to copy"),
    (({"a": [1.0], "c": [2**53 + 1]}, {"a": [3.0], "c": [0.5]}), ["*"], r"^column 'c' is int64 in .* and double in"),
], ids=lambda value: None if isinstance(value, tuple) else str(value)[:9])
def test_columns_that_differ_are_refused_before_anything_is_written(tables, keep, message, folder):
    paths = files(*tables)
    there = sorted(Path().iterdir())
    for out in ("y.parquet", "y.csv"):
        with pytest.raises(SourceError, match=message):
            apply(fit(paths, columns=["a"]), paths, out, keep=keep)
    assert sorted(Path().iterdir()) == there
    apply(fit(paths, columns=["a"]), paths, "y.npy")     # which has no other columns
    assert np.load("y.npy").tolist() == [[-1], [1]]


@pytest.mark.parametrize(("keep", "kept"), [
    (None, None), ([], ["a"]), (["*"], ["a", "id_1", "e[0]"]), (["id_*"], ["a", "id_1"]), (["id_1"], ["a", "id_1"]),
    (["e[0]"], ["a", "e[0]"]), (["none*"], ["a"]), ("id_*", ["a", "id_1"]),
], ids=str)
def test_keep(keep, kept, folder):
    paths = files({"a": [1.0], "id_1": [1], "id_2": [2], "e[0]": [5]}, {"e[0]": [6], "id_1": [3], "a": [3.0]})
    m = fit(paths, columns=["a"])
    if kept is None:
        with pytest.raises(SourceError, match="id_2"):
            apply(m, paths, "y.parquet", keep=keep)
        return
    apply(m, paths, "y.parquet", keep=keep)
    y = parquet.read_table("y.parquet")
    assert y.column_names == kept
    assert y["a"].to_pylist() == [-1, 1]
    assert "id_1" not in kept or y["id_1"].to_pylist() == [1, 3]


@pytest.mark.parametrize(("keep", "error", "message"), [
    (1, TypeError, r"keep \(--keep\) must be a name or a sequence of names, got 1"),
    ([1], TypeError, r"keep \(--keep\) must be a name or a sequence of names, got \[1\]"),
    ("a", SourceError, r"holds arrays, but keep \(--keep\) names columns of tables; leave it out"),
], ids=str)
def test_keep_is_refused(keep, error, message, folder):
    with pytest.raises(error, match=message):
        apply(Moments().update(X[:, None]), X[:, None], "y.npy", keep=keep)


def test_two_columns_of_one_name(folder):
    table = pa.Table.from_arrays([[1.0, 3.0], [1, 2], [3, 4]], names=["a", "c", "c"])
    m = fit(table, columns=["a"])
    with pytest.raises(SourceError, match="the Table has more than one column 'c'; choose the columns to copy"):
        apply(m, table, "y.parquet")
    apply(m, table, "y.parquet", keep=[])
    assert parquet.read_table("y.parquet").to_pydict() == {"a": [-1, 1]}


@pytest.mark.parametrize(("second", "message"), [
    ({"a": pa.array([3.0])}, "column 'a' is double here and float before; all sources must have the same columns and "),
    ({"a": pa.array([3.0], pa.float32()), "c": [1]}, "column 'c' is int64 here and absent before"),
], ids=["type", "column"])
def test_tables_of_an_iterable_that_differ(second, message, folder):
    """They are known only when they come."""
    tables = [pa.table({"a": pa.array([1.0], pa.float32())}), pa.table(second)]
    m = fit(tables, columns=["a"])
    with pytest.raises(SourceError, match=message):
        apply(m, tables, "y.parquet")
    apply(m, tables, "y.parquet", dtype="float32", keep=[])
    assert parquet.read_table("y.parquet")["a"].to_pylist() == [-1, 1]


def test_dictionaries_are_for_values_that_repeat(folder):
    n = 3000
    table = pa.table({"a": np.arange(n) / 8, "same": np.zeros(n), "word": ["u", "v", "w"] * (n // 3),
                      "id": [str(i) for i in range(n)], "number": np.arange(n), "class": [1, 2] * (n // 2),
                      "list": [[1.0]] * n})
    apply(fit(table, columns=["a"]), table, "y.parquet")
    group = parquet.read_metadata("y.parquet").row_group(0)
    columns = [group.column(i) for i in range(group.num_columns)]
    assert [one.path_in_schema for one in columns if one.has_dictionary_page] == ["word", "class"]
    assert parquet.ParquetFile("y.parquet", page_checksum_verification=True).read().equals(
        table.set_column(0, "a", pa.array(values(fit(table, columns=["a"]), table["a"]))))
    data = bytearray(Path("y.parquet").read_bytes())
    data[columns[0].data_page_offset + 500] ^= 1
    Path("y.parquet").write_bytes(data)
    with pytest.raises(OSError, match="CRC checksum"):
        parquet.ParquetFile("y.parquet", page_checksum_verification=True).read()


@pytest.mark.parametrize(("dtype", "read"), [
    ("int64", "float64"), ("bool", "float64"), ("float32", "float32"), ("Int64", "Float64"), ("UInt8", "Float64"),
    ("boolean", "Float64"), ("Float32", "Float32"), ("int64[pyarrow]", "double[pyarrow]"),
    ("float[pyarrow]", "float[pyarrow]"), ("bool[pyarrow]", "double[pyarrow]"),
])
@pytest.mark.parametrize("out", ["parquet", "feather"])
def test_pandas_reads_the_result(dtype, read, out, folder):
    pd = pytest.importorskip("pandas")
    values = [1, 0, None if dtype[0].isupper() or dtype == "boolean" or "[" in dtype else 1, 1]
    days = pd.date_range("2020-01-01", periods=4, name="day")
    others = {"word": pd.Categorical(["u", "v", "u", None]), "n": pd.array([1, None, 3, 4], dtype="Int16"),
              "when": days.tz_localize("Europe/Paris"), "text": ["x", "y", None, "z"]}
    frame = pd.DataFrame({"x": pd.array(values, dtype=dtype), **others}, index=days)
    frame.to_parquet("x.parquet")
    m = fit("x.parquet", columns=["x"], nan_policy="omit")
    apply(m, "x.parquet", "y.parquet" if out == "parquet" else "y.arrow")
    y = pd.read_parquet("y.parquet") if out == "parquet" else table_in("y.arrow").to_pandas()
    assert str(y["x"].dtype) == read
    assert (y["x"].to_numpy("f8", na_value=np.nan) * m.std() + m.mean).tolist() == pytest.approx(
        [np.nan if value is None else value for value in values], nan_ok=True, rel=1e-6, abs=1e-7)
    if out == "feather":        # The dictionaries of its batches would have to be equal.
        frame["word"] = frame["word"].astype(y["word"].dtype)
    pd.testing.assert_frame_equal(y.drop(columns="x"), frame.drop(columns="x"), check_freq=False)
    kept = apply(m, "x.parquet", "z.parquet", keep=["n"], dtype="float32")
    z = pd.read_parquet("z.parquet")
    assert kept == 4
    assert z.columns.tolist() == ["x", "n"]
    assert str(z["n"].dtype) == "Int16"
    assert "32" in str(z["x"].dtype) or str(z["x"].dtype) == "float[pyarrow]"


def test_pandas_reads_the_result_of_several_files(folder):
    """Also the range that stands for the index of the first."""
    pd = pytest.importorskip("pandas")
    for i, dtype in enumerate(("Int64", "Int32")):
        pd.DataFrame({"x": pd.array([2 * i, None], dtype=dtype)}).to_parquet(f"{i}.parquet")
    paths = ["0.parquet", "1.parquet"]
    apply(fit(paths, nan_policy="omit"), paths, "y.parquet")
    y = pd.read_parquet("y.parquet")
    assert y["x"].to_numpy("f8", na_value=9).tolist() == [-1, 9, 1, 9]
    assert y.index.tolist() == [0, 1, 2, 3]


def test_other_metadata_stays(folder):
    table = pa.table({"a": [1.0, 3.0]}).replace_schema_metadata({"unit": "m"})
    parquet.write_table(table, "x.parquet")
    apply(fit(table), "x.parquet", "y.parquet")
    assert parquet.read_table("y.parquet").schema.metadata == {b"unit": b"m"}


IMPORTS = """
import os, sys
import numpy as np, pyarrow as pa, pyarrow.parquet as parquet
import bnstream
os.chdir(FOLDER)
m = bnstream.fit("x.parquet", columns=["a", "b", "c", "d"], nan_policy="omit")
for out in ("y.parquet", "y.arrow", "y.csv", "y.npy"):
    bnstream.apply(m, "x.parquet", out)
bnstream.apply(bnstream.fit("y.npy", nan_policy="omit"), "y.npy", "z.parquet")
print("pandas" in sys.modules)
"""


@pytest.mark.skipif(int(pa.__version__.partition(".")[0]) < 25, reason="older pyarrow imports it for more")
def test_pandas_is_not_imported(folder):
    """It takes half a second and 40 MiB, and pyarrow imports it for many a conversion to NumPy."""
    table = {"a": [1.0, 3.0], "b": pa.array([1, None]), "c": pa.array([True, None]),
             "d": pa.array([1.0, None], pa.float32()), "text": ["x", None]}
    parquet.write_table(pa.table(table), "x.parquet")
    done = python("-c", IMPORTS.replace("FOLDER", repr(str(folder))))
    assert (done.stdout, done.stderr) == ("False\n", "")
    assert np.isnan(np.load("y.npy")).tolist() == [[False] * 4, [False, True, True, True]]


def test_lists_in_a_csv_file(folder):
    """CSV has none: nothing is written."""
    parquet.write_table(pa.table({"e": [[1.0, 2.0], [3.0, 4.0]]}), "x.parquet")
    with pytest.raises(SourceError, match=r"column 'e' is of type .*, which a .csv file cannot hold; write a .parquet"):
        apply(fit("x.parquet"), "x.parquet", "y.csv")
    assert [path.name for path in Path().iterdir()] == ["x.parquet"]
