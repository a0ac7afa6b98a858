"""Sources: every kind, in any layout and chunks, gives the same statistics and names."""

import gzip
import io
import re
import sys
import zipfile
from decimal import Decimal
from pathlib import Path

import numpy as np
import pytest
from support.arrays import BFLOAT16, DTYPES, normal, of_dtype
from support.cases import pairwise
from support.oracle import assert_within, exact_states

import bnstream
from bnstream import SourceError, apply, fit
from bnstream.streams.sources import Wanted, open_sources
from bnstream.streams.sources.text.parsing import native

pa = pytest.importorskip("pyarrow", minversion="17")
dataset = pytest.importorskip("pyarrow.dataset")
parquet = pytest.importorskip("pyarrow.parquet")
csv = pytest.importorskip("pyarrow.csv")
feather = pytest.importorskip("pyarrow.feather")

X = normal((500, 3)) * [1, 10, 0.1] + [1e6, 0, 5]
NAMES = ("a", "b", "c")
TABLE = pa.table(dict(zip(NAMES, X.T.copy(), strict=True)))
SHAPES = {1: (90,), 2: (90, 3), 3: (12, 4, 5), 4: (6, 3, 2, 5), 5: (2, 3, 2, 4, 3)}


def check(m, x, axis=0, names=None):
    assert_within(m.mean, m.var(), exact_states(x, axis))
    assert m.names == names
    assert np.all(m.n == x.size // m.mean.size)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def written(suffix, table=TABLE, stem="t"):
    """Write a table to a file in the working folder; return its path."""
    path = f"{stem}{suffix}"
    csv.write_csv(table, text := io.BytesIO())
    if suffix in (".parquet", ".pq"):
        parquet.write_table(table, path, row_group_size=90)
    elif suffix in (".arrow", ".ipc"):
        with pa.ipc.new_file(path, table.schema) as file:
            file.write_table(table, 90)
    elif suffix == ".arrows":
        with pa.ipc.new_stream(path, table.schema) as file:
            file.write_table(table, 90)
    elif suffix == ".feather":
        feather.write_feather(table, path, compression="lz4", chunksize=90)
    elif suffix == ".npz":
        np.savez(path, **{name: table[name].to_numpy() for name in table.column_names})
    elif suffix == ".csv.zip":
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("folder/", "")
            archive.writestr("folder/t.csv", text.getvalue())
    else:
        raw = text.getvalue().replace(b",", b"\t" if ".tsv" in suffix.lower() else b",")
        Path(path).write_bytes(gzip.compress(raw) if suffix.lower().endswith(".gz") else raw)
    return path


TABLES = [".csv", ".tsv", ".csv.gz", ".TSV.GZ", ".csv.zip", ".parquet", ".pq", ".arrow", ".ipc", ".arrows", ".feather"]


AXES = [(n, a) for n in SHAPES for a in range(-n, n) if n > 1 or a]


@pytest.mark.parametrize(
    ("axes", "order", "largest", "kind", "chunk_rows"),
    pairwise(AXES, ["C", "F"], [1, 1 << 22], ["npy", "npz", "array", "reversed"], [1, 7, None]), ids=str)
def test_npy(axes, order, largest, kind, chunk_rows, folder, monkeypatch):
    ndim, channel_axis = axes
    x = np.asarray(normal(SHAPES[ndim]) + 1e3, order=order)
    np.save("x.npy", x)
    np.savez_compressed("x.npz", x=x)
    source = {"npy": "x.npy", "npz": "x.npz", "array": x, "reversed": x[::-1].copy()[::-1]}[kind]
    axis = tuple(i for i in range(ndim) if i != channel_axis % ndim) if ndim > 1 else 0
    wanted = x if ndim > 1 else x[:, None]
    monkeypatch.setattr("bnstream.streams.sources.arrays.slicing.LARGEST_ROW", largest)
    m = fit(source, channel_axis=channel_axis if ndim > 1 else None, chunk_rows=chunk_rows)
    check(m, wanted, axis, ("x",) if ndim == 1 and kind == "npz" else None)


@pytest.mark.parametrize("dtype", [*DTYPES, ">f2", ">f4", ">i8", ">u2"], ids=str)
def test_dtypes(dtype, folder):
    x = of_dtype(np.dtype(dtype).newbyteorder("="), (80, 3)).astype(dtype)
    check(fit(x, chunk_rows=9), x)
    if dtype != BFLOAT16:       # .npy does not have this dtype
        np.save("x.npy", x)
        check(fit("x.npy", chunk_rows=9), x)
        check(fit(np.load("x.npy", mmap_mode="r"), chunk_rows=9), x)


@pytest.mark.parametrize("dtype", ["c16", "g", "M8[s]", "U3", "O", [("a", "f8")]])
def test_no_real_numbers(dtype, folder):
    x = np.zeros((3, 2), dtype)
    with pytest.raises(SourceError, match=r"the array of shape \(3, 2\) has dtype .*; expected real numbers"):
        fit(x)
    np.save("x.npy", x)
    with pytest.raises(SourceError, match=r"x\.npy has dtype .*; expected real numbers of at most 64 bits"):
        fit("x.npy")


@pytest.mark.parametrize("columns", [[2, 0], ["2", "0"], np.array([2, 0]), (2, 0)], ids=repr)
@pytest.mark.parametrize("channel_axis", [0, 1])
def test_columns_by_index(columns, channel_axis, folder):
    x = X if channel_axis else X.T
    np.save("x.npy", x)
    for source in (x, "x.npy", [x[:300], x[300:]] if channel_axis else [x]):
        check(fit(source, columns=columns, channel_axis=channel_axis), X[:, [2, 0]], 0, ("2", "0"))
    check(fit(X, columns=["x", "y", "z"]), X, 0, ("x", "y", "z"))       # as many names as channels


def test_lists_of_numbers():
    check(fit(X.tolist()), X)
    check(fit(X[:, 0].tolist()), X[:, :1])
    check(fit([row[None] for row in X]), X)     # arrays in a list are batches


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_npz_of_channels(save, folder):
    """A pass over many pieces: none may overwrite the memory of another."""
    x = of_dtype("i4", (300_000, 3))
    save("x.npz", a=x[:, 0], b=x[:, 1].astype("f8"), c=x[:, 2])
    m = bnstream.Moments(names=NAMES).update(x)
    for options in ({}, {"chunk_rows": 1000}):
        for names, columns in ((NAMES, [0, 1, 2]), (("c", "a"), [2, 0])):
            got = fit("x.npz", columns=None if names == NAMES else names, **options)
            np.testing.assert_allclose(got.mean, m.mean[columns], rtol=1e-14)
            np.testing.assert_allclose(got.var(), m.var()[columns], rtol=1e-14)
            assert got.names == names
    save("y.npz", x=x[:, :2])
    np.testing.assert_allclose(fit("y.npz").var(), m.var()[:2], rtol=1e-14)
    save("z.npz", x=x[:5], y=x[0], z=x[:, 0])
    check(fit("z.npz", columns=["x"]), x[:5])
    check(fit("z.npz", columns=["y"]), x[0][:, None], 0, ("y",))


@pytest.mark.parametrize("suffix", [*TABLES, ".npz"])
@pytest.mark.parametrize("chunk_rows", [None, 7])
def test_tables(suffix, chunk_rows, folder):
    path = written(suffix)
    check(fit(path, chunk_rows=chunk_rows), X, 0, NAMES)
    check(fit(Path(path), columns=["c", "a"], chunk_rows=chunk_rows), X[:, [2, 0]], 0, ("c", "a"))
    check(fit(path, columns=["b"]), X[:, 1:2], 0, ("b",))


# Texts whose columns "a" and "b b" have the values 1, 2.5, -3 and 4, 5, 6.
TEXTS = {
    "plain": b"a,b b\n1,4\n2.5,5\n-3,6\n",
    "no newline at the end": b"a,b b\n1,4\n2.5,5\n-3,6",
    "CRLF": b"a,b b\r\n1,4\r\n2.5,5\r\n-3,6\r\n",
    "BOM": b"\xef\xbb\xbfa,b b\n1,4\n2.5,5\n-3,6\n",
    "BOM, empty line": b"\xef\xbb\xbf\r\na,b b\n1,4\n2.5,5\n-3,6\n",
    "semicolons": b"a;b b\n1;4\n2.5;5\n-3;6\n",
    "bars": b"a|b b\n1|4\n2.5|5\n-3|6\n",
    "quotes": b'"a","b b"\n"1",4\n2.5,"5"\n-3,6\n',
    "empty lines": b"\n\na,b b\n\n1,4\n\n\n2.5,5\n-3,6\n\n\n\n",
    "empty lines, CRLF": b"\r\na,b b\r\n\r\n1,4\r\n2.5,5\r\n\r\n\r\n-3,6\r\n",
    "spaces": b"a,b b\n 1 ,4\n2.5, 5\n-3,6 \n",
    "exponents": b"a,b b\n1e0,4\n25E-1,5\n-3.0,0.6e1\n",
    "other columns": b"a,date,b b,text\n1,2020-01-01,4,x\n2.5,,5,\n-3,NA,6,7\n",
}


@pytest.mark.parametrize("block", [1, 9, 1 << 20])
@pytest.mark.parametrize("name", TEXTS)
def test_texts(name, block, folder, monkeypatch):
    monkeypatch.setattr("bnstream.streams.sources.text.csv.BLOCK_BYTES", block)
    monkeypatch.setattr("bnstream.streams.sources.text.csv.LOOK_BYTES", block)
    Path("t.csv").write_bytes(TEXTS[name])
    columns = ["a", "b b"] if name == "other columns" else None
    check(fit("t.csv", columns=columns), np.array([[1, 4], [2.5, 5], [-3, 6]]), 0, ("a", "b b"))


@pytest.mark.parametrize("missing", ["", "NA", "N/A", "#N/A", "NaN", "nan", "NULL", "null", "-nan", "1.#QNAN"])
@pytest.mark.parametrize("block", [1, 1 << 20])
def test_missing_in_text(missing, block, folder, monkeypatch):
    monkeypatch.setattr("bnstream.streams.sources.text.csv.BLOCK_BYTES", block)
    monkeypatch.setattr("bnstream.streams.sources.text.csv.LOOK_BYTES", block)
    Path("t.csv").write_text(f"a,b\n1,2\n{missing},3\n2,{missing}\n{missing},5\n")
    m = fit("t.csv", nan_policy="omit")
    assert (m.n.tolist(), m.mean.tolist()) == ([2, 3], [1.5, 10 / 3])
    with pytest.raises(SourceError, match=r"t\.csv, bytes \d+ to \d+: column 'a' has \d missing values; .*--nan omit"):
        fit("t.csv")
    assert np.isnan(fit("t.csv", nan_policy="propagate").mean).all()


def test_quoted_names(folder):
    Path("t.csv").write_text('"a;b; ""c""","d"\n1,2\n')
    assert fit("t.csv").names == ('a;b; "c"', "d")


def test_types_differ_from_block_to_block(folder, monkeypatch):
    monkeypatch.setattr("bnstream.streams.sources.text.csv.BLOCK_BYTES", 1)
    monkeypatch.setattr("bnstream.streams.sources.text.csv.LOOK_BYTES", 1)
    Path("t.csv").write_text("a,b\n1,\n2.5,7\n9007199254740993,8\n,9\n99999999999999999999,1e3\n")
    x = np.array([1, 2.5, 2.0**53 + 1, 1e20])
    m = fit("t.csv", nan_policy="omit")
    assert_within(m.mean[:1], m.var()[:1], exact_states(x[:, None]))
    assert m.n.tolist() == [4, 4]


TYPES = {
    "bool": (pa.bool_(), [True, None, False, True]),
    "uint8": (pa.uint8(), [0, 255, None, 7]),
    "int16": (pa.int16(), [-5, None, None, 32767]),
    "int64": (pa.int64(), [2**62 + 1, 2**62 + 5, None, 2**62]),
    "uint64": (pa.uint64(), [2**64 - 1, None, 2**63, 2**63 + 2**11]),
    "float16": (pa.float16(), [np.float16(1.5), None, np.float16(-2), np.float16(3)]),
    "float32": (pa.float32(), [1e6, None, 1e6 + 1, 3.0]),
    "float64": (pa.float64(), [None, 1e15, 1e15 + 1, None]),
    "decimal": (pa.decimal128(9, 2), [Decimal("1.25"), None, Decimal("-3.50"), Decimal("7")]),
    "whole decimal": (pa.decimal128(20, 0), [Decimal(10**18 + 1), None, Decimal(10**18 + 3), Decimal(10**18)]),
    "large decimal": (pa.decimal128(20, 0), [Decimal(2**64 - 1), Decimal(0), Decimal(2**64 - 5)]),
    "no nulls": (pa.float64(), [1.0, 2.0, 4.0]),
    "all null": (pa.int32(), [None, None]),
    "null": (pa.null(), [None, None]),
}


@pytest.mark.parametrize("where", ["table", "sliced", ".parquet", ".arrow", ".arrows", "dataset"])
@pytest.mark.parametrize("name", TYPES)
def test_types(name, where, folder):
    kind, values = TYPES[name]
    table = pa.table({"x": pa.array(values, kind), "y": pa.array(range(len(values)), pa.int8())})
    source = table
    if where == "sliced":       # the validity bitmap starts within a byte
        source = pa.concat_tables([table.slice(len(values) - 1), table]).combine_chunks().slice(1)
    elif where == "dataset":
        source = dataset.dataset(table)
    elif where != "table":
        source = written(where, table)
    present = [value for value in values if value is not None]
    if not present:
        with pytest.warns(RuntimeWarning, match="every value is missing or left out in column 'x': n is 0 there"):
            assert fit(source, nan_policy="omit").n.tolist() == [0, len(values)]
        return
    m = fit(source, nan_policy="omit")
    x = np.array(present, {"decimal": "f8", "whole decimal": "i8", "large decimal": "u8"}.get(name)
                 or kind.to_pandas_dtype())
    assert m.n.tolist() == [len(present), len(values)]
    assert_within(m.mean[:1], m.var()[:1], exact_states(x[:, None]))


@pytest.mark.parametrize("span", [1, 100, 1 << 20])
@pytest.mark.parametrize("rows", [1, 64, 1000])
def test_row_groups(rows, span, folder, monkeypatch):
    monkeypatch.setattr("bnstream.streams.sources.tables.parquet.SPAN_ROWS", span)
    parquet.write_table(TABLE.slice(0, 130), "t.parquet", row_group_size=rows)
    check(fit("t.parquet"), X[:130], 0, NAMES)


@pytest.mark.parametrize("suffix", [".parquet", ".arrow"])
def test_other_columns_are_not_read(suffix, folder):
    """The bytes of the other column are overwritten."""
    if suffix == ".parquet":
        parquet.write_table(TABLE, "t.parquet")
    else:
        feather.write_feather(TABLE, "t.arrow", compression="zstd")
    raw = bytearray(Path(f"t{suffix}").read_bytes())
    if suffix == ".parquet":
        chunk = parquet.read_metadata("t.parquet").row_group(0).column(1)
        start, n = chunk.dictionary_page_offset or chunk.data_page_offset, chunk.total_compressed_size
    else:
        start = [found.start() for found in re.finditer(rb"\x28\xb5\x2f\xfd", raw)][1]      # a frame of zstd
        n = 16
    raw[start:start + n] = bytes(n)
    Path(f"t{suffix}").write_bytes(raw)
    check(fit(f"t{suffix}", columns=["c", "a"]), X[:, [2, 0]], 0, ("c", "a"))
    with pytest.raises(SourceError, match=rf"t\{suffix}"):
        fit(f"t{suffix}", columns=["b"])


def test_folders_globs_and_lists(folder):
    for stem, part in {"b": 1, "in/a": 2, "in/deep/c": 0}.items():
        Path(stem).parent.mkdir(exist_ok=True)
        written(".parquet", TABLE.slice(part * 200, 200), stem)
    for noise in (".hidden.pq", "_temporary.pq", "in/.git/x.pq", "_delta_log/x.pq", "in/readme.txt"):
        Path(noise).parent.mkdir(exist_ok=True)
        Path(noise).write_text("no table")
    for source in (".", folder, "**/[abc].parquet", ["in", "b.parquet"], ("b.parquet", Path("in")),
                   ["in/*.parquet", "b.parquet", "in/deep"]):
        check(fit(source), X, 0, NAMES)
    sources = open_sources(".", Wanted())
    assert [source.name for source in sources] == sorted(["b.parquet", "in/a.parquet", "in/deep/c.parquet"])
    Path("[1].parquet").write_bytes(Path("b.parquet").read_bytes())
    check(fit("[1].parquet"), X[200:400], 0, NAMES)      # a name, not a pattern


@pytest.mark.parametrize("source", ["data", "data/*.csv", "data/b.csv"])
def test_a_link_to_nothing(source, folder):
    """As to data on a disk that is not mounted: its rows are not left out without a word."""
    Path("data").mkdir()
    Path("data/a.csv").write_text("a\n1\n")
    Path("data/README").symlink_to("nowhere.txt")
    assert fit("data").n == 1
    Path("data/b.csv").symlink_to("nowhere.csv")
    with pytest.raises(SourceError, match=r"^there is no file data/b\.csv: the file that this link points to is"):
        fit(source)


def test_files_with_columns_in_another_order(folder):
    written(".parquet", TABLE.slice(0, 200), "1")
    written(".parquet", TABLE.slice(200).select(["c", "a", "b"]), "2")
    check(fit("."), X, 0, NAMES)


STREAMS = {
    "Table": lambda: TABLE,
    "RecordBatch": lambda: TABLE.combine_chunks().to_batches()[0],
    "RecordBatchReader": lambda: TABLE.to_reader(50),
    "dataset": lambda: dataset.dataset(TABLE.to_batches(50)),
    "tables": lambda: [TABLE.slice(0, 200), TABLE.slice(200)],
    "batches": lambda: iter(TABLE.to_batches(33)),
    "pandas": lambda: pytest.importorskip("pandas", "2.2").DataFrame(X, columns=NAMES),
    "pandas, with an index": lambda: pytest.importorskip("pandas", "2.2").DataFrame(X, range(7, 507), NAMES),
    "polars": lambda: pytest.importorskip("polars").from_arrow(TABLE),
    "DuckDB": lambda: pytest.importorskip("duckdb").from_arrow(TABLE),
}


@pytest.mark.parametrize("name", STREAMS)
@pytest.mark.parametrize("chunk_rows", [None, 7])
def test_streams(name, chunk_rows):
    check(fit(STREAMS[name](), chunk_rows=chunk_rows), X, 0, NAMES)
    check(fit(STREAMS[name](), columns=["b", "a"], chunk_rows=chunk_rows), X[:, [1, 0]], 0, ("b", "a"))


def test_the_index_of_pandas_is_not_a_column(folder):
    pandas = pytest.importorskip("pandas")
    whole = pandas.DataFrame(X, columns=NAMES)
    some = X[:, 1] > 0
    for frame in (whole[some], whole.rename_axis("id")[some], whole[some].reset_index(drop=True)):
        frame.to_parquet("t.parquet")
        check(fit("t.parquet"), X[some], 0, NAMES)
        check(fit(frame), X[some], 0, NAMES)


@pytest.mark.parametrize("index", [None, "id"])
def test_names_twice_in_a_frame_of_pandas(index, folder):
    """Its columns with a name of their own are read, as of tables of pyarrow."""
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame(X[:, [0, 1, 0]], columns=["a", "b", "a"])
    if index:
        frame.index = pandas.Index([f"row {i}" for i in range(len(X))], name=index)
    frame.insert(0, "mixed", [1, "x"] * (len(X) // 2))
    m = fit(frame, columns=["b"])
    check(m, X[:, [1]], 0, ("b",))
    check(fit(frame, exclude=["a", "mixed"]), X[:, [1]], 0, ("b",))
    for options in ({"columns": ["a"]}, {"columns": ["*"], "exclude": ["mixed"]}):
        with pytest.raises(SourceError, match=r"^the DataFrame has more than one column 'a'; its columns are mixed, a"):
            fit(frame, **options)
    apply(m, frame.drop(columns="mixed"), "y.parquet", keep=[index] if index else [])
    written = pandas.read_parquet("y.parquet")
    assert (list(written.columns), list(written.index)) == (["b"], list(frame.index))


def test_a_column_named_scanner():
    """Datasets are recognized by their attribute `scanner`."""
    check(fit(pytest.importorskip("pandas", "2.2").DataFrame({"scanner": X[:, 0]})), X[:, :1], 0, ("scanner",))


@pytest.mark.parametrize("chunk_rows", [None, 7])
def test_iterables_may_reuse_their_buffer(chunk_rows):
    def batches(buffer):
        for first in range(0, 500, 50):
            buffer[:] = X[first:first + 50]
            yield buffer

    check(fit(batches(np.empty((50, 3))), chunk_rows=chunk_rows), X)
    check(fit(batches(np.empty((50, 3))), columns=[1], chunk_rows=chunk_rows), X[:, 1:2], 0, ("1",))
    check(fit(([batch] for batch in batches(np.empty((50, 3)))), chunk_rows=chunk_rows), X)


def test_text_for_the_csv_reader_is_not_a_python_object():
    """A thread of the reader that released one during shutdown aborted 11 of 150 processes."""
    text = b"a\n1\n" * 100
    before = sys.getrefcount(text)
    copy = native(text)
    assert sys.getrefcount(text) == before
    assert copy.to_pybytes() == text


TIMES = [1_700_000_000_000_000_000 + 100 * i for i in range(4)]     # nanoseconds; the variance is 12500


def test_arrays_of_different_dtypes_are_not_rounded(folder):
    np.savez("t.npz", t=np.array(TIMES), f=np.arange(4.0))
    m = fit("t.npz")
    assert (m.names, m.var().tolist()) == (("f", "t"), [1.25, 12500])
    apply(m, "t.npz", "y.npy", chunk_rows=3)
    wanted = (np.arange(4) - 1.5) / 1.25**0.5
    np.testing.assert_allclose(np.load("y.npy"), np.stack([wanted, wanted], axis=1), rtol=1e-15)
    with pytest.raises(ValueError, match=r"^t\.npz, rows 0 to 4: expected 1 channel as in the statistics, got 2 col"):
        apply(fit(np.arange(4.0)), "t.npz", "z.npy")


def test_integers_of_a_csv_file_are_not_rounded(folder):
    Path("t.csv").write_text("t,f\n" + "".join(f"{t},1.5\n" for t in TIMES) + ",1\n")
    m = fit("t.csv", nan_policy="omit")
    assert m.var()[0] == 12500
    apply(m, "t.csv", "y.parquet")
    wanted = [(i - 1.5) / 1.25**0.5 for i in range(4)]
    np.testing.assert_allclose(parquet.read_table("y.parquet")["t"].to_pylist()[:4], wanted, rtol=1e-15)


@pytest.mark.parametrize("columns", [None, ["t", "g"]])
def test_unsigned_integers_of_a_csv_file_are_not_rounded(columns, folder):
    Path("t.csv").write_text("t,f,g\n" + "".join(f"{t + 2**63},1e19,{i}.5\n" for i, t in enumerate(TIMES)) + ",1,1\n")
    m = fit("t.csv", columns=columns, nan_policy="omit")
    assert (m.n[0], m.var()[0]) == (4, 12500)
    apply(m, "t.csv", "y.parquet")
    wanted = [(i - 1.5) / 1.25**0.5 for i in range(4)]
    np.testing.assert_allclose(parquet.read_table("y.parquet")["t"].to_pylist()[:4], wanted, rtol=1e-15)


def test_the_largest_integer_of_a_csv_file(folder):
    """float64 rounds it to 2**64."""
    Path("t.csv").write_text(f"id\n{2**64 - 1}\n{2**63 + 1}\n")
    m = fit("t.csv", exact=True)
    assert m == fit(np.array([[2**64 - 1], [2**63 + 1]], np.uint64), columns=["id"], exact=True)


@pytest.mark.parametrize("make", [
    lambda v: pytest.importorskip("pandas").Series(v, dtype="Int64"), lambda v: pa.array(v),
    lambda v: pytest.importorskip("polars").Series(v),
], ids=["pandas", "pyarrow", "polars"])
def test_a_column_alone_is_not_rounded(make):
    with pytest.raises(SourceError, match=r"holds integers beyond 2\*\*53 and missing values, and no array holds both; "
                                          r"make it a table of one column, such as source\.to_frame\(\)$"):
        fit(make([None, *TIMES]), nan_policy="omit")
    assert fit(make([1, None, 3]), nan_policy="omit").mean.tolist() == [2]


@pytest.mark.parametrize(("make", "message"), [
    (lambda: TABLE, r"^the channels of the Table are its columns; leave out channel_axis=1 \(--channel-axis\), which "
                    "is for arrays$"),
    (lambda: written(".csv", TABLE), r"^the channels of t\.csv are its columns; leave out channel_axis=1"),
    (lambda: [TABLE, TABLE], "^item 0 of the list: the channels of the Table are its columns; leave out channel_axis"),
    (lambda: np.ones(3), r"^the array of shape \(3,\) has one axis, which holds the values of one channel; leave out "
                         r"channel_axis=1 \(--channel-axis\), or reshape it$"),
    (lambda: [np.ones(3)], r"^item 0 of the list: the array of shape \(3,\) has one axis, .*; leave out channel_axis"),
], ids=["table", "file", "tables", "array", "arrays"])
def test_a_channel_axis_without_meaning(make, message, folder):
    source = make()
    item = {"item": "batch"} if isinstance(source, list) else {}
    state = fit(source, **item)
    for call in (lambda: fit(source, channel_axis=1, **item),
                 lambda: apply(state, source, "y.npy", channel_axis=1, **item)):
        with pytest.raises(SourceError, match=message):
            call()


def test_bfloat16(folder):
    """It is read in place. No file holds it, so that apply writes float32."""
    x = normal((20, 3)).astype(pytest.importorskip("ml_dtypes").bfloat16)
    torch = pytest.importorskip("torch")
    m = fit(x)
    for source in (x, torch.tensor(x.astype("float32")).bfloat16()):
        assert fit(source) == m == fit([source])
        for out in ("y.npy", "y.parquet"):
            apply(m, source, out, force=True)
            assert fit(out).std() == pytest.approx([1, 1, 1])
        assert np.load("y.npy").dtype == "float32"
