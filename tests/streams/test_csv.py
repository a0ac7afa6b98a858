"""Text files of every dialect: the statistics and the copied text are those of what pandas reads."""

import io
from pathlib import Path

import numpy as np
import pytest
from support.oracle import assert_within, exact_states

from bnstream import SourceError, apply, fit
from bnstream.streams.sources import Wanted, open_sources, options_of
from bnstream.streams.sources.text import csv

pa = pytest.importorskip("pyarrow", minversion="17")
pd = pytest.importorskip("pandas")
parquet = pytest.importorskip("pyarrow.parquet")

# Texts, the options with which pandas reads them, and those of fit and apply.
TEXTS = {
    "carriage returns": (b"a,t,b\r1,x,2\r3,y z,4\r", {}, {}),
    "carriage returns, a line feed in quotes": (b'a,t,b\r1,"x\ny",2\r3,"p\rq",4\r', {}, {}),
    "Windows": (b"a,t,b\r\n1,x,2\r\n\r\n3,y,4", {}, {}),
    "line breaks in the header": (b'"a\n(unit)","t\r\nu",b\n1,x,2\n3,y,4\n', {}, {}),
    "trailing delimiters": (b"a,t,b,\n1,x,2,\n3,y,4,\n", {"usecols": ["a", "t", "b"]}, {}),
    "trailing delimiters, no header": (b"1,2,\n3,4,\n", {"names": ["a", "b"], "usecols": [0, 1], "index_col": False},
                                       {"names": ["a", "b"]}),
    "a lone quote in a field": (b'a\tt\tb\n1\tan 5" disk\t2\n3\tx\t4\n', {"sep": "\t"}, {}),
    "quotes in fields": (b'a,t,b\n1,say "x" y,2\n3,"p ""q"" r",4\n5,"",6\n7,"u"v,8\n', {}, {}),
    "no quotes": (b'a\tt\tb\n1\t"Foo\t2\n3\tBar"\t4\n5\t"\t6\n', {"sep": "\t", "quoting": 3}, {"quote": ""}),
    "apostrophes": (b"a;t;b\n1;'x;\ny';2\n3;''''; 4\n", {"sep": ";", "quotechar": "'"}, {"quote": "'"}),
    "a line break in quotes": (b'a,t,b\n1,"x\ny",2\n3,"x, y\n\n""z""",4\n', {}, {}),
    "tabs and line breaks in quotes": (b'a\tt\n1\t"x\ty\nz"\n3\ty\n', {"sep": "\t"}, {"delimiter": "\t", "quote": '"'}),
    "comment lines": (b"# x, 'y' \"z\n\na,t,b\n1,x,2\n# 5,6\n3,y,4\n#\n", {"comment": "#"}, {"comment": "#"}),
    "a last comment without a line end": (b"a,t,b\n1,x,2\n3,y,4\n# 5,6,7,8,9", {"comment": "#"},
                                             {"comment": "#"}),
    "trailing comments": (b'a,t,b # names\n1,"#x",2# one\n3,y#,4\n'.replace(b"y#,", b"y,"), {"comment": "#"},
                          {"comment": "#"}),
    "lines to skip": (b"A title\nby \"nobody\n\na,t,b\n1,x,2\n3,y,4\n", {"skiprows": 3}, {"skip_rows": 3}),
    "a later header": (b"A,title,line\n\na,t,b\n1,x,2\n3,y,4\n", {"header": 1}, {"header": 1}),
    "no header": (b"5.1,3.5,setosa\n4.9,3,virginica\n", {"header": None}, {"header": False}),
    "names": (b"5.1,3.5,setosa\n4.9,3,virginica\n", {"names": ["p", "q", "r"]}, {"names": ["p", "q", "r"]}),
    "other names": (b"a,t,b\n1,x,2\n3,y,4\n", {"names": ["p", "q", "r"], "header": 0},
                    {"names": ["p", "q", "r"], "header": True}),
    "data as names": (b"5.1,3.5,setosa\n4.9,3,virginica\n", {}, {"header": True}),
    "spaces": (b"  a t  b\n1  x 2\n 3 \t 'y' 4  \n\n", {"sep": r"\s+"}, {"delimiter": " "}),
    "spaces and quotes": (b'a t b\n1  "x  y" 2\n3 "p ""q""" 4\n 5 z"  6', {"sep": r"\s+"}, {"delimiter": r"\s+"}),
    "spaces and comments": (b'% a "table"\na t b % "x\n1  "% y" 2 %z\n%\n3 p   4', {"sep": r"\s+", "comment": "%"},
                            {"delimiter": " ", "comment": "%"}),
    "tabs of shells": (b"a\tt\tb\n1\tx,y\t2\n3\t\t4\n", {"sep": "\t"}, {"delimiter": r"\t"}),
    "carets": (b"a^t^b\n1^x,y^2\n3^^4\n", {"sep": "^"}, {"delimiter": "^"}),
    "words for missing": (b"a,t,b\n1,-,2\n-,?,4\n?,x,-\n3,None,<NA>\n", {"na_values": ["-", "?"]},
                          {"na_values": ["-", "?"]}),
    "numbers for missing": (b"a,t,b\n1,x,-999\n-999.0,y,2.5\n3,z,-999.00\n4,-999,1\n", {"na_values": [-999]},
                            {"na_values": -999}),
    "decimal commas": (b"a;t;b\n1,5;x,y;2\n-3,25e1;z;4\n", {"sep": ";", "decimal": ","}, {"decimal": ","}),
    "decimal commas, no header": (b"1,5;2,5;x\n-3,5;4,0;y\n", {"sep": ";", "decimal": ",", "header": None},
                                  {"decimal": ",", "header": False}),
    "thousands": (b'a,t,b\n"1,234","1,234",2\n567,x,"-1,234,567.5"\n', {"thousands": ","}, {"thousands": ","}),
    "thousands of Germany": (b"a;t;b\n1.234;1.234;2,5\n567;x;-1.234.567,5\n",
                             {"sep": ";", "thousands": ".", "decimal": ","}, {"thousands": ".", "decimal": ","}),
    "thousands of Switzerland": (b"a;t;b\n1'234;x;2.5\n567;y;\n", {"sep": ";", "thousands": "'"}, {"thousands": "'"}),
    "UTF-16": ("a,t,b\n1,grün ✓ 𝄞,2\n3,ß,4\n".encode("utf-16"), {"encoding": "utf-16"}, {}),
    "UTF-16, big end first": ("\ufeffa\tt\tb\r\n1\tgrün\t2\r\n3\tß\t4\r\n".encode("utf-16-be"),
                              {"encoding": "utf-16", "sep": "\t"}, {}),
    "UTF-16 without a mark": ("a,t,b\n1,grün,2\n3,ß,4\n".encode("utf-16-le"), {"encoding": "utf-16-le"},
                              {"encoding": "utf-16-le"}),
    "UTF-32": ("a,t,b\n1,grün,2\n3,ß,4\n".encode("utf-32"), {"encoding": "utf-32"}, {}),
    "UTF-8 by name": ("\ufeffa,t,b\n1,grün,2\n3,ß,4\n".encode(), {}, {"encoding": "utf8"}),
    "a mark before quotes": ('\ufeff"a,\nb",t\n1,"x\ny"\n3,z\n'.encode(), {}, {}),
    "Latin-1": ("größe,t,b\n1,grün,2\n3,ß,4\n".encode("latin-1"), {"encoding": "latin-1"}, {"encoding": "latin-1"}),
    "Shift JIS": ("a,t,b\n1,表示,2\n3,ソ,4\n".encode("shift_jis"), {"encoding": "shift_jis"},
                  {"encoding": "shift_jis"}),
    "spaces after commas": (b"a, t, b\n1, x, 2\n3, NA,4\n", {}, {}),
    "rows of spaces": (b"a,t,b\n1,x,2\n   \n3,y,4\n  ", {}, {}),
    "an index without a name": (b",a,t\n0,1,x\n1,3,y\n2,5,z\n", {}, {}),
    "names like those of pandas": (b",Unnamed: 0,Unnamed: 0.1,,Unnamed: 3\n0,5,1,4,2\n1,6,3,3,0\n", {}, {}),
    "integers beside a name": (b"0,1,2,10,target\n5.1,3.5,1.4,0.2,0\n4.9,3.0,1.4,0.2,0\n", {}, {}),
    "a name between integers": (b"target,2,1\n5.1,3.5,1.4\n4.9,3.0,1.4\n", {}, {}),
    "one integer before a name": (b"2019,target\n5.1,3.5\n4.9,3.0\n", {}, {}),
    "integers around a name": (b"2,1,target,0\n5.1,3.5,1.4,0.2\n4.9,3.0,1.4,0.2\n", {}, {}),
    "integers and a name over a text": (b"2,1,target,t\n5.1,3.5,1.4,x\n4.9,3.0,1.4,y\n", {}, {}),
    "a fraction among integers": (b"2,0.5,1,target\n5.1,3.5,1.4,0.2\n4.9,3.0,1.4,0.2\n", {}, {}),
    "counts over rows": (b"150,4,setosa,versicolor,virginica\n5.1,3.5,1.4,0.2,0\n4.9,3.0,1.4,0.2,0\n",
                         {"skiprows": 1, "header": None}, {"skip_rows": 1, "header": False}),
    "years over numbers": (b"2019,2020\n1,2\n3,4\n", {}, {}),
    "years over texts and numbers": (b"country,2000,2005,2010\nFrance,1.5,2,2000.5\nPeru,,4,3\n", {}, {}),
    "short rows": (b'a,t,b\n1,x,2\n3\n   \n\n4,"y, z"\n5,"p\nq",6\n7,"z"\n', {}, {"short_rows": "pad"}),
    "short rows of Windows": (b'"a";"t";"b"\r\n1;"x;\r\ny"\r\n3\r\n4;z;5', {"sep": ";"}, {"short_rows": "pad"}),
    "short rows, spaces and comments": (b"a t b # names\n1 'x y' # 2\n# 3 4\n3   \n\n 5 z  6\n7 ''",
                                        {"sep": r"\s+", "comment": "#", "quotechar": "'"},
                                        {"delimiter": " ", "comment": "#", "quote": "'", "short_rows": "pad"}),
    "short rows, thousands": (b'a;t;b\n"1,234"\n5;x;"2,345"\n-6;y\n', {"sep": ";", "thousands": ","},
                              {"thousands": ",", "short_rows": "pad"}),
    "signs and exponents": (b"a,b\n+1,1E3\n-2,.5\n+3.,1e-3\n", {}, {}),
}


@pytest.fixture(params=[1, 8, 1 << 20])
def block_bytes(request, folder, monkeypatch):
    monkeypatch.setattr(csv, "BLOCK_BYTES", request.param)
    return request.param


def source_of(path, **options):
    return open_sources(path, Wanted(["a"], reading=options_of("fit", options)))[0]


@pytest.mark.parametrize("name", TEXTS)
def test_dialects(name, block_bytes, monkeypatch):
    monkeypatch.setattr(csv, "LOOK_BYTES", 1 << 16)      # in which pandas infers the types as well
    raw, theirs, ours = TEXTS[name]
    Path("x.csv").write_bytes(raw)
    frame = pd.read_csv(io.BytesIO(raw), **theirs)
    frame.columns = [str(column).strip() for column in frame.columns]
    texts = pd.read_csv(io.BytesIO(raw), **{**theirs, "na_values": None}, dtype=str, keep_default_na=False)
    texts.columns = frame.columns
    numeric = list(frame.select_dtypes("number"))
    m = fit("x.csv", columns=numeric, nan_policy="omit", **ours)
    assert m.names == tuple(numeric)
    for i, column in enumerate(numeric):
        x = frame[column].dropna().to_numpy(float)
        assert m.n[i] == len(x)
        assert_within(m.mean[i:i + 1], m.var()[i:i + 1], exact_states(x[:, None]))
    assert apply(m, "x.csv", "y.parquet", **ours) == len(frame)
    written = parquet.read_table("y.parquet")
    assert list(frame.columns) == written.column_names
    for column in frame.columns:
        if column in numeric:
            i = numeric.index(column)
            wanted = (frame[column] - m.mean[i]) / (m.std()[i] or 1)
            np.testing.assert_allclose(written[column].to_numpy(), wanted, rtol=1e-12, atol=1e-12)
        else:
            assert written[column].to_pylist() == list(texts[column]), column


@pytest.mark.parametrize("name", ["carriage returns", "spaces and comments", "UTF-16", "thousands", "comment lines",
                                  "short rows"])
def test_a_pass_resumes_in_any_dialect(name, block_bytes):
    """The pieces after any piece are those of a whole pass."""
    raw, _, ours = TEXTS[name]
    Path("x.csv").write_bytes(raw)
    source = source_of("x.csv", **ours)
    pieces = [(piece.stop, [batch.to_pylist() for batch in piece.load()]) for piece in source.pieces(0, None)]
    for i, (stop, _) in enumerate(pieces):
        rest = [(piece.stop, [batch.to_pylist() for batch in piece.load()]) for piece in source.pieces(stop, None)]
        assert rest == pieces[i + 1:]


def test_carriage_returns_cut_blocks(block_bytes):
    Path("x.csv").write_bytes(b'a,t\r' + b'1,"x\ny"\r' * 100)
    assert len(list(source_of("x.csv").pieces(0, None))) == (1 if block_bytes > 1000 else 100)


def test_a_comment_after_spaces_is_no_row_of_one_column(folder):
    """pandas takes it for text."""
    Path("x.csv").write_text("a\n1\n  # x\n3 # y\n# z")
    assert fit("x.csv", comment="#").n == [2]


@pytest.mark.parametrize("digits", ["ffffffffffffffff", "8000000000000000", "7fffffffffffffff", "0", "00000000000000F"])
def test_hex(digits, folder):
    """All numbers of 64 bits are read as unsigned."""
    Path("x.csv").write_text(f"a,b\n0x{digits},-1\n0X{digits}, -2\n")
    m = fit("x.csv", exact=True)
    assert m.mean.tolist() == [float(int(digits, 16)), -1.5]
    assert m.var().tolist() == [0, 0.25]


def test_small_hex_goes_with_negative_numbers(folder):
    Path("x.csv").write_text("a\n0xff\n-1\n")
    assert fit("x.csv").mean == [127]


def test_integers_fractions_and_text_in_turn(folder):
    """Each in blocks of its own."""
    rows = "".join(f"{x}\n" for x in (*range(100), *np.arange(100) + 0.5))
    Path("x.csv").write_text("a\n" + rows)
    assert fit("x.csv").mean == [np.mean([*range(100), *np.arange(100) + 0.5])]
    Path("x.csv").write_text("a\n" + rows + "1\nx\n")
    with pytest.raises(SourceError, match=r"^x\.csv, line 203: column 'a' is of type string, not numeric, such as 'x'"):
        fit("x.csv")


@pytest.mark.parametrize("first", [2**53 + 1, 2**62 + 1, 2**63 + 1])
def test_integers_after_fractions_are_not_rounded(first, folder):
    """In blocks of their own, in a column that began with fractions."""
    Path("x.csv").write_text("a\n" + "0.5\n" * 200 + f"{first}\n" * 200)
    blocks = [values for piece in source_of("x.csv").pieces(0, None) for values in piece.load()]
    assert blocks[-1].column(0).to_pylist()[-1] == first
    assert pa.types.is_floating(blocks[0].column(0).type)


def test_a_missing_word_with_a_space_beside_fractions(folder):
    Path("x.csv").write_text("a,b\n" + "0.5,1\n" * 200 + "0.5, NA\n")
    assert fit("x.csv", nan_policy="omit").n.tolist() == [201, 200]


@pytest.mark.parametrize("missing", ["", " ", "NA ", " NA", " nan ", "None", "<NA>", " -"])
def test_missing_words_may_have_spaces(missing, block_bytes):
    Path("x.csv").write_text(f"a,b\n1,2\n{missing},3\n2,{missing}\n")
    assert fit("x.csv", nan_policy="omit", na_values="-").mean.tolist() == [1.5, 2.5]


@pytest.mark.parametrize("kind", [list, set, np.array, pd.Index])
def test_words_in_any_sequence(kind, folder):
    Path("x.csv").write_text("a\n1\n9\n-\n")
    m = fit("x.csv", nan_policy="omit", na_values=kind(["-"]), names=kind(["b"]), header=True)
    assert (m.names, m.mean) == (("b",), [5])
    Path("x.csv").write_text("a\n1\n9\n")
    assert fit("x.csv", nan_policy="omit", na_values=kind([9])).mean == [1]


ROW_NAMES = {
    "quoted": (b'"a","t","b"\n"18",1,"x",2.5\n"9",2,"y",4\n"11",3,"z",NA\n', {}, {}),
    "quoted numbers below one name": (b'"b"\n"18",2\n"15",3.5\n', {}, {}),
    "decimal commas": (b'"a","t"\n"1,5",1,"x"\n"2,5",2,"y"\n', {}, {}),
    "words": (b"t\ta\tb\nx\tq\t2\t1\ny\tr\t\t5\n", {"sep": "\t"}, {}),
    "counts": (b"a,b\n1,0.5,\n2,0.7,2\n", {}, {}),
    "spaces": (b'"a" "t"\n"18" 2 "x y"\n"9"  4 "z"\n', {"sep": r"\s+"}, {"delimiter": " "}),
    "names of columns that are numbers": (b'"1","2"\n"r",1,2\n"s",2,4\n', {}, {"header": True}),
}


@pytest.mark.parametrize("name", ROW_NAMES)
def test_rows_with_names_for_which_the_header_has_none(name, block_bytes, monkeypatch):
    """As R writes them; they are no channel, and are copied."""
    monkeypatch.setattr(csv, "LOOK_BYTES", 1 << 16)
    raw, theirs, ours = ROW_NAMES[name]
    Path("x.csv").write_bytes(raw)
    frame = pd.read_csv(io.BytesIO(raw), **theirs)
    numeric = frame.select_dtypes("number")
    m = fit("x.csv", nan_policy="omit", numeric=True, **ours)
    assert m.names == tuple(numeric.columns)
    assert (m.n.tolist(), m.mean.tolist()) == (list(numeric.count()), list(numeric.mean()))
    apply(m, "x.csv", "y.parquet", **ours)
    first, *others = parquet.read_table("y.parquet").columns
    assert first.to_pylist() == [str(row) for row in frame.index]
    assert len(others) == frame.shape[1]


def test_row_names_are_a_column_for_who_asks(folder):
    Path("x.csv").write_text("a,b\n1,0.5,2\n2,0.7,2\n")
    assert fit("x.csv").names == ("a", "b")
    assert fit("x.csv", columns=["Unnamed: 0", "b"]).mean.tolist() == [1.5, 2]
    assert fit("x.csv", columns=["*"]).names == ("Unnamed: 0", "a", "b")
    Path("x.csv").write_text("Unnamed: 0,b\nr,0.5,2\ns,0.7,2\n")
    assert fit("x.csv").names == ("Unnamed: 0", "b")


def test_names_in_place_of_a_header_that_lacks_some(folder):
    """As R writes row names, and as rows end with a delimiter that the header has not."""
    Path("x.csv").write_text("a,b\nr,1,2\ns,3,6\n")
    m = fit("x.csv", names=["row", "a", "b"], header=True, numeric=True)
    assert (m.names, m.mean.tolist()) == (("a", "b"), [2, 4])
