"""Other formats of tables: each gives the statistics that pandas computes, resumes, and is written by apply."""

import bz2
import datetime
import decimal
import gzip
import json
import lzma
import re
import uuid
import zipfile
from pathlib import Path

import numpy as np
import pytest
from support.arrays import normal, rng
from support.command import invoke, main, run_without
from support.passes import Stop, stop_after

from bnstream import SourceError, apply, fit, load

pa = pytest.importorskip("pyarrow", minversion="21")
pandas = pytest.importorskip("pandas", "2.2")
parquet = pytest.importorskip("pyarrow.parquet")

from support.formats import zipped, zstd  # noqa: E402

N = 240
FRAME = pandas.DataFrame({
    "i": rng(1).integers(-9, 9, N), "x": normal(N).round(6) + 1e3, "text": [f"t{i}" for i in range(N)],
    "holes": np.where(rng(2).random(N) < 0.2, np.nan, normal(N, 3).round(6)), "ok": rng(4).random(N) < 0.5,
})
NUMBERS = ["i", "x", "holes", "ok"]


def records(frame=FRAME):
    """The rows as dicts, None where a value is missing."""
    return [{key: None if value != value else value for key, value in row.items()} for row in frame.to_dict("records")]


PACKED = {".gz": gzip.compress, ".bz2": bz2.compress, ".xz": lzma.compress, ".zst": zstd}


def write_jsonl(path):
    text = "".join(json.dumps(row) + "\n" for row in records()).encode()
    Path(path).write_bytes(PACKED.get(Path(path).suffix, bytes)(text))


def write_json(path):
    Path(path).write_bytes(PACKED.get(Path(path).suffix, bytes)(json.dumps(records(), indent=2).encode()))


def write_orc(path):
    pytest.importorskip("pyarrow.orc").write_table(pa.Table.from_pandas(FRAME), path, stripe_size=1024, batch_size=64)


AVRO = {"type": "record", "name": "row", "fields": [
    {"name": "i", "type": "long"}, {"name": "x", "type": "double"}, {"name": "text", "type": "string"},
    {"name": "holes", "type": ["null", "double"]}, {"name": "ok", "type": "boolean"},
]}


def write_avro(path, schema=AVRO, rows=None):
    with Path(path).open("wb") as file:
        pytest.importorskip("fastavro").writer(file, schema, records() if rows is None else rows, sync_interval=1000)


def write_excel(path):
    pytest.importorskip("openpyxl")
    with pandas.ExcelWriter(path) as book:
        FRAME.to_excel(book, sheet_name="numbers", index=False)
        (FRAME[["i"]] + 100).to_excel(book, sheet_name="7", index=False)


def write_duckdb(path):
    connection = pytest.importorskip("duckdb").connect(path)
    connection.register("frame", FRAME)
    connection.sql("CREATE OR REPLACE TABLE t AS SELECT i, x, text, nullif(holes, 'nan') AS holes, ok FROM frame")
    connection.close()


WRITERS = {".jsonl": write_jsonl, ".ndjson": write_jsonl, **{f".jsonl{packed}": write_jsonl for packed in PACKED},
           ".json": write_json, ".json.gz": write_json,
           ".orc": write_orc, ".avro": write_avro, ".xlsx": write_excel, ".db": write_duckdb}


def lazy_frame():
    polars = pytest.importorskip("polars", "1.24")
    return polars.from_pandas(FRAME, nan_to_null=True).lazy()


def hugging_face():
    datasets = pytest.importorskip("datasets")
    order = rng(5).permutation(N)
    shuffled = datasets.Dataset.from_pandas(FRAME.iloc[order], preserve_index=False)
    return shuffled.select(np.argsort(order).tolist()).with_format("numpy")      # a mapping of indices


OBJECTS = {
    "lazy frame": lazy_frame,
    "Hugging Face": hugging_face,
    "reader": lambda: pa.Table.from_pandas(FRAME).to_reader(50),
    "scanner": lambda: pytest.importorskip("pyarrow.dataset").dataset(pa.Table.from_pandas(FRAME)).scanner(),
    "dataset": lambda: pytest.importorskip("pyarrow.dataset").dataset(pa.Table.from_pandas(FRAME)),
    "DuckDB": lambda: pytest.importorskip("duckdb").sql("SELECT * FROM 't.parquet'"),
}


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch):
    monkeypatch.setattr("bnstream.streams.sources.text.jsonl.BLOCK_BYTES", 3000)


def source(kind):
    """A source of the frame."""
    if kind in OBJECTS:
        FRAME.to_parquet("t.parquet")
        return OBJECTS[kind]()
    WRITERS[kind](f"t{kind}")
    return "duckdb://t.db?SELECT * FROM t" if kind == ".db" else f"t{kind}"


KINDS = [*WRITERS, *OBJECTS]


def test_several_statements_of_duckdb():
    """DuckDB returns the rows of the last one."""
    pytest.importorskip("duckdb")
    with pytest.raises(SourceError, match="has 2 statements; expected one query"):
        fit("duckdb://?SELECT 1 AS a; SELECT 2 AS a")


def check(m, names=NUMBERS, frame=FRAME):
    assert m.names == tuple(names)
    assert m.n.tolist() == frame[names].count().tolist()
    np.testing.assert_allclose(m.mean, frame[names].mean(), rtol=1e-13)
    np.testing.assert_allclose(m.var(1), frame[names].astype(float).var(), rtol=1e-12)


@pytest.mark.parametrize("kind", KINDS)
def test_equals_pandas(kind, folder):
    check(fit(source(kind), numeric=True, nan_policy="omit"))
    check(fit(source(kind), columns=["x", "i"], chunk_rows=7, n_threads=1), ["x", "i"])
    check(fit(source(kind), columns=["h*"], nan_policy="omit"), ["holes"])
    exact = fit(source(kind), numeric=True, nan_policy="omit", exact=True)
    assert exact == fit(pa.Table.from_pandas(FRAME), numeric=True, nan_policy="omit", exact=True)
    with pytest.raises(SourceError, match=r"'text' is of type \w+; select numeric columns with .*: i,x,holes,ok$"):
        fit(source(kind))
    with pytest.raises(SourceError, match=r"column 'holes' has .* missing values"):
        fit(source(kind), columns=["holes"])
    with pytest.raises(SourceError, match="has no column 'no'; its columns are i, x, text, holes, ok"):
        fit(source(kind), columns=["no"])


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind not in ("reader", "scanner")])
def test_resume(kind, folder):
    data = source(kind)
    whole = fit(data, numeric=True, nan_policy="omit", chunk_rows=50)
    with pytest.raises(Stop):
        fit(data, "out", numeric=True, nan_policy="omit", chunk_rows=50, progress=stop_after(1))
    assert Path("out.checkpoint").exists()
    again = source(kind) if kind in OBJECTS and kind != "DuckDB" else data
    assert fit(again, "out", numeric=True, nan_policy="omit", chunk_rows=50, resume=True) == whole


@pytest.mark.parametrize("kind", KINDS)
def test_apply(kind, folder):
    """Text is copied, and what is missing stays so."""
    m = fit(source(kind), columns=["i", "holes"], nan_policy="omit")
    assert apply(m, source(kind), "y.parquet") == N
    y = parquet.read_table("y.parquet").to_pandas()
    assert y["text"].tolist() == FRAME["text"].tolist()
    assert y["x"].tolist() == FRAME["x"].tolist()
    for name in ("i", "holes"):
        np.testing.assert_allclose(y[name], (FRAME[name] - FRAME[name].mean()) / FRAME[name].std(ddof=0), rtol=1e-9)


@pytest.mark.parametrize("kind", [".jsonl", ".orc", ".avro", ".xlsx", "lazy frame", "Hugging Face", "DuckDB"])
def test_lists(kind, folder):
    """Embeddings are read from every format that has lists."""
    x = normal((40, 3))
    if kind == ".xlsx":
        pytest.skip("cells of spreadsheets hold no lists")
    table = pa.table({"emb": x.tolist()})
    if kind == ".jsonl":
        Path("t.jsonl").write_text("".join(json.dumps({"emb": row}) + "\n" for row in x.tolist()))
    elif kind == ".orc":
        pytest.importorskip("pyarrow.orc").write_table(table, "t.orc")
    elif kind == ".avro":
        kinds = {"type": "array", "items": "double"}
        write_avro("t.avro", {"type": "record", "name": "r", "fields": [{"name": "emb", "type": kinds}]},
                   table.to_pylist())
    elif kind == "lazy frame":
        data = pytest.importorskip("polars", "1.24").from_arrow(table).lazy()
    elif kind == "Hugging Face":
        data = pytest.importorskip("datasets").Dataset.from_dict({"emb": x.tolist()})
    else:
        parquet.write_table(table, "t.parquet")
        data = "duckdb://?SELECT emb FROM 't.parquet'"
    m = fit(f"t{kind}" if kind.startswith(".") else data)
    assert m.names == ("emb[0]", "emb[1]", "emb[2]")
    np.testing.assert_allclose(m.mean, x.mean(0), rtol=1e-13)


def test_json_types_differ_from_block_to_block(folder):
    """Integers, then floats, keys that an object lacks, and empty lines."""
    rows = [{"a": 1, "b": None}] * 200 + [{"a": 2.5, "b": 4}] * 200 + [{"b": 1e3}] * 5 + [{}]
    Path("t.jsonl").write_text("\n\n".join(map(json.dumps, rows)))
    check(fit("t.jsonl", nan_policy="omit"), ["a", "b"], pandas.DataFrame(rows))
    m = fit("t.jsonl", columns=["a"], nan_policy="omit")
    apply(m, "t.jsonl", "y.parquet")
    assert parquet.read_table("y.parquet")["a"].null_count == 6


BAD = {
    "a late key": ([{"a": 1}] * 900 + [{"a": 1, "b": 2}], "the key 'b' is in none of the first objects"),
    "text later": ([{"a": 1}] * 900 + [{"a": "x"}], "JSON parse error: Column(/a) changed from number to string"),
    "an object": ([{"a": {"b": 1}}], "'a' is of type struct<b: int64>; there are no numeric columns"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_json(name, folder):
    rows, message = BAD[name]
    Path("t.jsonl").write_text("\n".join(map(json.dumps, rows)))
    with pytest.raises(SourceError, match=rf"t\.jsonl.*{re.escape(message)}"):
        fit("t.jsonl")


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "latin-1"])
def test_json_of_any_encoding(encoding, folder):
    Path("t.jsonl").write_text('{"a": 1, "t": "\xe9"}\n{"a": 3, "t": "e"}\n', encoding=encoding)
    given = {"encoding": encoding} if encoding == "latin-1" else {}     # the others have a byte-order mark
    assert fit("t.jsonl", columns=["a"], **given).mean == 2


@pytest.mark.parametrize(("text", "message"), [
    (b"", r"t\.jsonl is empty; expected a JSON object in each line"),
    (b'{"a": 1}\n{"a": ', r"t\.jsonl cannot be read: JSON parse error"),
    (b"[1, 2]\n", r"t\.jsonl cannot be read: JSON parse error"),
    (b"a,b\n1,2\n", r"t\.jsonl cannot be read: JSON parse error"),
])
def test_damaged_json(text, message, folder):
    Path("t.jsonl").write_bytes(text)
    with pytest.raises(SourceError, match=message):
        fit("t.jsonl")


@pytest.mark.parametrize("kind", [".orc", ".avro", ".xlsx", ".jsonl.gz", ".jsonl.xz", ".jsonl.zst", ".json", ".db"])
@pytest.mark.parametrize("share", [0, 0.02, 0.5, 0.98])
def test_truncated(kind, share, folder):
    """One line that names the file, from the function and from the command."""
    data = source(kind)
    path = Path(f"t{kind}")
    raw = path.read_bytes()
    path.write_bytes(raw[:int(len(raw) * share)])
    if kind == ".db" and share in (0, 0.98):        # an empty database, or one without a page that is not used
        return
    with pytest.raises(SourceError, match=rf"t\{kind}"):
        fit(data, columns=["x"])
    process = main("fit", data, "-o", "y.npz", "--columns", "x")
    assert process.returncode == 1
    assert process.stderr.startswith("bnstream: ")
    assert process.stderr.count("\n") == 1


@pytest.mark.parametrize("kind", [".orc", ".avro", ".xlsx", ".jsonl"])
def test_other_contents(kind, folder):
    WRITERS.get(kind, write_orc)(f"t{kind}")        # skips without the package
    Path(f"t{kind}").write_bytes(b"PK\x03\x04 nothing of the kind" * 9)
    with pytest.raises(SourceError, match=rf"t\{kind}"):
        fit(f"t{kind}", columns=["x"])


def test_avro_types(folder):
    """Logical types, unions and records; a column of single precision stays one."""
    fields = {
        "f": "float", "d": {"type": "bytes", "logicalType": "decimal", "precision": 9, "scale": 2},
        "day": {"type": "int", "logicalType": "date"}, "at": {"type": "long", "logicalType": "timestamp-millis"},
        "id": {"type": "string", "logicalType": "uuid"}, "e": {"type": "enum", "name": "e", "symbols": ["A", "B"]},
        "u": ["null", "int", "string"], "n": "null", "r": {"type": "map", "values": "int"},
    }
    row = {"f": 1.5, "d": decimal.Decimal("2.25"), "day": datetime.date(2020, 1, 2),
           "at": datetime.datetime(2020, 1, 2, tzinfo=datetime.UTC), "id": uuid.UUID(int=3), "e": "B", "u": "x",
           "n": None, "r": {"a": 1}}
    write_avro("t.avro", {"type": "record", "name": "t", "fields": [{"name": key, "type": kind}
                                                                      for key, kind in fields.items()]}, [row, row])
    m = fit("t.avro", columns=["f", "d"])
    assert m.mean.tolist() == [1.5, 2.25]
    apply(m, "t.avro", "y.parquet")
    y = parquet.read_table("y.parquet")
    assert y.schema.field("f").type == pa.float32()
    assert y["day"].to_pylist() == [row["day"]] * 2
    assert y["at"].to_pylist() == [row["at"]] * 2
    assert (y["id"][0].as_py(), y["e"][0].as_py(), y["u"][0].as_py()) == (str(row["id"]), "B", "x")


@pytest.mark.parametrize(("schema", "rows"), [
    ("long", [1, 2, 6]), (["null", "double"], [1.5, None, 2.5]), ({"type": "array", "items": "int"}, [[1, 2], [3, 6]]),
    (["int", "long", "null"], [1, None, 2**60]), (["int", "float"], [2**24 + 1, 1.5]),
])
def test_avro_without_records(schema, rows, folder):
    write_avro("t.avro", schema, rows)
    m = fit("t.avro", nan_policy="omit")
    assert m.names == (("value[0]", "value[1]") if isinstance(schema, dict) else ("value",))
    np.testing.assert_array_equal(m.mean, np.nanmean(np.array(rows, float), axis=0))
    apply(m, "t.avro", "y.parquet")
    assert parquet.read_table("y.parquet").column_names == ["value"]


def test_a_union_of_avro_whose_integers_no_float_holds(folder):
    write_avro("t.avro", ["long", "double"], [0.5, 2**53 + 1])
    with pytest.raises(SourceError, match=r"^t\.avro cannot be read: .*9007199254740993"):
        fit("t.avro")


def test_avro_of_bytes(folder):
    write_avro("t.avro", "bytes", [b"1", b"2"])
    with pytest.raises(SourceError, match=r"^t\.avro: 'value' is of type binary; there are no numeric columns"):
        fit("t.avro")


def test_warnings_of_openpyxl_about_what_holds_no_values(folder):
    """All warnings are errors in tests."""
    write_excel("t.xlsx")
    with zipfile.ZipFile("t.xlsx") as book:
        members = {name: book.read(name) for name in book.namelist()}
    sheet = members["xl/worksheets/sheet1.xml"]
    extended = sheet.replace(b"</worksheet>", b'<extLst><ext uri="{0}"/></extLst></worksheet>')
    Path("t.xlsx").write_bytes(zipped(members | {"xl/worksheets/sheet1.xml": extended}))
    with pytest.warns(UserWarning, match="extension is not supported"):
        pandas.read_excel("t.xlsx")
    check(fit("t.xlsx", columns=["x"]), ["x"])
    with pytest.warns(UserWarning, match="extension is not supported"):
        pandas.read_excel("t.xlsx")


def test_names_of_a_sheet_that_are_one_as_text(folder):
    pandas.DataFrame([[1.0, 2.0, 3.0]], columns=[1, "1", "x"]).to_excel("t.xlsx", index=False)
    with pytest.raises(SourceError, match=r"^t\.xlsx has more than one column '1'; its columns are 1, 1, x"):
        fit("t.xlsx")
    assert fit("t.xlsx", columns=["x"]).mean == 3


def test_sheets(folder):
    write_excel("t.xlsx")
    for sheet in ("7", 1, "1"):         # a name comes before an index
        check(fit("t.xlsx", sheet=sheet), ["i"], FRAME[["i"]] + 100)
    check(fit("t.xlsx", sheet="numbers", columns=["x"]), ["x"])
    for sheet in ("no", 2, "2"):
        with pytest.raises(SourceError, match=rf"t\.xlsx has no sheet {sheet!r}; its sheets are numbers, 7"):
            fit("t.xlsx", sheet=sheet)
    with pytest.raises(SourceError, match=r"takes no sheet, got sheet='x'; leave it out \(--sheet\)"):
        fit(pa.table({"a": [1.0]}), sheet="x")
    assert invoke("fit", "t.xlsx", "-o", "y.npz", "--sheet", "7").exit_code == 0
    assert load("y.npz") == fit("t.xlsx", sheet="7")


def test_cells_of_several_types(folder):
    pytest.importorskip("openpyxl")
    pandas.DataFrame({"a": [1, 2], "mixed": ["x", 3]}).to_excel("t.xlsx", index=False)
    check(fit("t.xlsx", numeric=True), ["a"], pandas.DataFrame({"a": [1, 2]}))
    with pytest.raises(SourceError, match="'mixed' is of type string"):
        fit("t.xlsx", columns=["mixed"])


def test_queries(folder):
    write_duckdb("t.db")
    absolute = Path("t.db").absolute()
    for query in (f"duckdb://{absolute}?SELECT x FROM t WHERE i > 0", f"duckdb://{absolute}?query=SELECT%20x%20FROM%20t"
                  "%20WHERE%20i%20%3E%200"):
        check(fit(query), ["x"], FRAME[FRAME["i"] > 0])
    parts = [f"duckdb://t.db?SELECT x, i FROM t WHERE i {where}" for where in ("> 0", "<= 0")]
    check(fit(parts), ["x", "i"])
    check(fit("duckdb://?SELECT 2 * x AS x FROM 't.parquet'".replace("t.parquet", str(written_parquet()))), ["x"],
          FRAME[["x"]] * 2)
    assert invoke("fit", "duckdb://t.db?SELECT x FROM t", "-o", "y.npz").exit_code == 0
    check(load("y.npz"), ["x"])


def written_parquet():
    FRAME.to_parquet("t.parquet")
    return Path("t.parquet")


@pytest.mark.parametrize(("query", "message"), [
    ("duckdb://t.db", r"duckdb://t\.db has no query; expected duckdb://FILE\?QUERY, such as "),
    ("duckdb://t.db? ", "has no query"),
    ("duckdb://no.db?SELECT 1", r"there is no file no\.db, got duckdb://no\.db\?SELECT 1"),
    ("duckdb://t.db?SELECT y FROM t", r"duckdb://t\.db\?SELECT y FROM t: .*\"y\" not found"),
    ("duckdb://t.db?nonsense", "(?i)parser error"),
    ("duckdb://t.db?DROP TABLE t", "(?i)read-only"),
    ("duckdb://t.db?SELECT x FROM t WHERE i > 99", "no rows; there is nothing"),
    (["duckdb://t.db?SELECT x FROM t", "t.csv"], r"t\.csv is a file, but other sources are queries of DuckDB"),
])
def test_bad_queries(query, message, folder):
    write_duckdb("t.db")
    with pytest.raises(SourceError, match=message):
        fit(query)
    check(fit("duckdb://t.db?SELECT x FROM t"), ["x"])


def test_lazy_frames_are_read_by_parts(folder, monkeypatch):
    """Also by versions of polars without collect_batches."""
    polars = pytest.importorskip("polars", "1.24")
    frame = lazy_frame()
    monkeypatch.delattr(polars.LazyFrame, "collect_batches", raising=False)
    check(fit(frame, numeric=True, nan_policy="omit", chunk_rows=50))
    with pytest.raises(SourceError, match=r"^the LazyFrame: conversion from `str` to `i64` failed[^\n]*$"):
        fit(frame.select(polars.col("text").cast(polars.Int64).alias("x")))


def test_data_sets_of_hugging_face(folder):
    """The columns of a format are those of the data set."""
    data = hugging_face()
    check(fit(data.with_format("numpy", columns=["x", "i"]), columns=["i"]), ["i"])
    with pytest.raises(SourceError, match="has no column 'x'; its columns are i"):
        fit(data.with_format("numpy", columns=["i"]), columns=["x"])
    check(fit(data.to_iterable_dataset().select_columns(["x", "i"])), ["x", "i"])


@pytest.mark.parametrize(("kind", "package", "message"), [
    (".avro", "fastavro", r'reading Avro files needs fastavro, .* pip install "bnstream\[avro\]"'),
    (".xlsx", "pandas", r'reading spreadsheets needs pandas, .* pip install "bnstream\[excel\]"'),
    (".db", "duckdb", r'reading from DuckDB needs duckdb, .* pip install "bnstream\[duckdb\]"'),
])
def test_without_packages(kind, package, message, folder):
    process = run_without(package, "fit", source(kind), "-o", "y.npz")
    assert process.returncode == 1
    assert re.fullmatch(f"bnstream: {message}\n", process.stderr)
