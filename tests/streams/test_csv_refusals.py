"""Text files that are refused: the message names file, line, column and value, and the option that helps."""

import io
import re
from pathlib import Path

import pytest

from bnstream import SourceError, apply, fit
from bnstream.streams.sources.places import openfiles
from bnstream.streams.sources.text import rowtext

pa = pytest.importorskip("pyarrow", minversion="17")
pd = pytest.importorskip("pandas")
parquet = pytest.importorskip("pyarrow.parquet")

# Texts that are refused, with the options that are given, and the messages.
REFUSED = {
    "data first": (b"5.1,3.5,setosa\n4.9,3,virginica\n", {},
        "x.csv: its first row, '5.1,3.5,setosa', may be data or names of columns; pass header=False "
        "(--no-header) if it is data, header=True (--header) if it holds the names, skip_rows= (--skip-rows) if it is "
        "neither"),
    "counts over rows": (b"150,4,setosa,versicolor,virginica\n5.1,3.5,1.4,0.2,0\n", {},
        "x.csv: its first row, '150,4,setosa,versicolor,virginica', may be data"),
    "equal counts over rows": (b"4,4,a,b\n5.1,3.5,1.4,0.2\n", {}, "x.csv: its first row, '4,4,a,b', may be data"),
    "years over years": (b"2019,2020\n1999,2\n", {}, "x.csv: its first row, '2019,2020', may be data"),
    "one year": (b"country,2019\nFrance,1.5\n", {}, "x.csv: its first row, 'country,2019', may be data"),
    "years apart": (b"a,2019,2021\nb,3,4\n", {}, "x.csv: its first row, 'a,2019,2021', may be data"),
    "numbers in turn": (b"0,1,2\n3,4,5\n", {}, "x.csv: its first row, '0,1,2', may be data"),
    "a first number and missing ones": (b"NA,1\n2,3\n", {}, "x.csv: its first row, 'NA,1', may be data"),
    "an index that is none": (b",1\n0,2\n2,3\n", {}, "x.csv: its first row, ',1', may be data"),
    "decimal comma": (b"a;b\n1;2\n1,5;2\n", {},
        "x.csv: 'a' is of type string; select numeric columns with numeric=True (--numeric), or with columns= or "
        "--columns: b; 'a' has '1,5' in line 3: pass decimal=',' (--decimal ,) if it is a decimal comma"),
    "decimal comma or thousands": (b"a;b\n1;2\n1,500;2\n", {},
        "'a' has '1,500' in line 3: pass decimal=',' (--decimal ,) if it is a decimal comma, thousands=',' "
        "(--thousands ,) if not"),
    "thousands": (b'a,b\n"1,234,567.5",2\n', {},
        "'a' has '1,234,567.5' in line 2: pass thousands=',' (--thousands ,) if it is a number"),
    "thousands of Germany": (b"a;b\n1.234.567,5;2\n", {},
        "'a' has '1.234.567,5' in line 2: pass decimal=',' and thousands='.' (--decimal , --thousands .) if "
        "it is a number"),
    "thousands beside a decimal comma": (b"a;b\n1.234;2\n", {"decimal": ","},
        "'a' has '1.234' in line 2: pass thousands='.' (--thousands .) if it is a number"),
    "a space of another kind": ("a,b\n\u00a01,2\n".encode(), {},
        "'a' has '\\xa01' in line 2: remove the white space that is not ASCII beside the number"),
    "no group of three": (b'a,b\n"1,23",2\n', {"thousands": ","}, "'a' has '1,23' in line 2: pass decimal=','"),
    "a word for missing": (b"a,b\n1,1\n,1\nNA,1\n-,2\n3,3\n", {},
        "'a' has '-' in line 5: pass na_values=['-'] (--na-values -) if it stands for a missing value"),
    "a word with a space": (b"a,b\n1,1\nno data,2\n", {},
        "'a' has 'no data' in line 3: pass na_values=['no data'] (--na-values 'no data')"),
    "a later word": (b"a,b\n" + b"1,1\n\n" * 200 + b"\n-,2\n", {},
        "x.csv, line 403: column 'a' is of type string, not numeric, such as '-'; pass na_values=['-'] (--na-values "
        "-) if it stands for a missing value"),
    "later truth": (b"a,b\n" + b"1,1\n" * 200 + b"true,2\n", {}, "x.csv, line 202: column 'a' is of type "),
    "later numbers": (b"a,b\n" + b"true,1\n" * 200 + b"2,2\n", {},
        "x.csv, line 202: column 'a' is to hold values of type bool: invalid value '2'"),
    "a later date": (b"a\n" + b"1.5\n" * 200 + b"2020-01-01\n" * 100, {}, "x.csv, line 202: column 'a' is of type "),
    "hex and negative numbers": (b"a\n0xffffffffffffffff\n-1\n", {},
        "x.csv, line 2: column 'a' has '0xffffffffffffffff', beyond int64, and negative numbers near it"),
    "hex beyond 64 bits": (b"a,b\n1,1\n0x1ffffffffffffffff,2\n", {}, "'a' has '0x1ffffffffffffffff' in line 3"),
    "hex and fractions": (b"a,b\n1.5,1\n0x10,2\n", {}, "'a' has '0x10' in line 3"),
    "a comment": (b"# x\na,b\n1,2\n", {},
        "x.csv, line 2: 2 fields, expected 1: 'a,b'; the first row is '# x'; pass comment='#' (--comment '#') if it is "
        "a comment, or name every column"),
    "a comment as long": (b"#x,y\na,b\n1,2\n", {},
        "x.csv: '#x' is of type string; 'y' is of type string; there are no numeric columns; pass comment='#' "
        "(--comment '#') if it is a comment"),
    "a comment between": (b"a,b\n1,2\n\n% x\n3,4\n", {},
        "x.csv, line 4: 1 field, expected 2: '% x'; pass comment='%' (--comment '%') if it is a comment"),
    "a later comment": (b"a,b\n" + b"1,2\n" * 200 + b" # x\n3,4\n", {},
        "x.csv, line 202: 1 field, expected 2: '# x'; pass comment='#' (--comment '#') if it is a comment"),
    "a title": (b"A title\na,b\n1,2\n", {},
        "x.csv, line 2: 2 fields, expected 1: 'a,b'; the first row is 'A title'; skip the lines before the names of "
        "the columns with skip_rows= (--skip-rows), or name every column with names="),
    "spaces and names of rows": (b'"a" "b"\n"x" 1 2\n"y" 3 4\n', {},
        "there are no numeric columns; pass delimiter=' ' (--delimiter ' ') if spaces separate the columns"),
    "one more field than names": (b"a,b\n0.5,1,2\n0.7,1,2\n", {},
        "x.csv, line 2: 3 fields, expected 2: '0.5,1,2'; the first row is 'a,b'; skip the lines before the names of "
        "the columns with skip_rows= (--skip-rows), or name every column with names= and header=True (--names, "
        "--header)"),
    "row names twice": (b"a,b\nr,1,2\nr,3,4\n", {}, "x.csv, line 2: 3 fields, expected 2: 'r,1,2'"),
    "delimiters at the end of rows alone": (b"a,b\nr,1,\ns,2,\n", {}, "x.csv, line 2: 3 fields, expected 2: 'r,1,'"),
    "a title over counted rows": (b"A title\n1,5\n2,7\n", {}, "x.csv, line 2: 2 fields, expected 1: '1,5'"),
    "two titles": (b"The,title\na,b,c\n1,2,3\n", {}, "x.csv, line 2: 3 fields, expected 2: 'a,b,c'"),
    "row names, padded": (b"a,b\nr,1,2\ns,1\n", {"short_rows": "pad"}, "x.csv, line 2: 3 fields, expected 2: 'r,1,2'"),
    "some row names": (b"a,b\nr,1,2\ns,1\n", {}, "x.csv, line 2: 3 fields, expected 2: 'r,1,2'"),
    "a later row without a name": (b"a,b\n" + b"".join(b"r%d,1,2\n" % i for i in range(200)) + b"1,2\n", {},
        "x.csv, line 202: 2 fields, expected 3: '1,2'; pass short_rows='pad'"),
    "too few fields": (b"a,b\n1,2\n3\n", {},
        "x.csv, line 3: 1 field, expected 2: '3'; pass short_rows='pad' (--short-rows pad) if its last fields are "
        "missing; the first row is 'a,b'; skip the lines before the names of the columns with skip_rows= "
        "(--skip-rows)"),
    "too many fields among short rows": (b"a,b\n1,2\n3\n\n4,5,6\n7\n", {"short_rows": "pad"},
        "x.csv, line 5: 3 fields, expected 2: '4,5,6'; the first row is 'a,b'; skip the lines"),
    "a word after short rows": (b"a,b\n" + b"1.5,2\n" * 200 + b"3\nx,2\n", {"short_rows": "pad"},
        "x.csv, line 203: column 'a' is of type string, not numeric, such as 'x'"),
    "truth after short rows": (b"a,b\n" + b"true,1\n" * 200 + b"true\n2\n", {"short_rows": "pad"},
        "x.csv, line 203: column 'a' is to hold values of type bool: invalid value '2'"),
    "too many names in place of a header": (b"a,b\n1,2\n", {"names": ["a", "b", "c"], "header": True},
        "x.csv, line 2: 2 fields, expected 3: '1,2'"),
    "spaces": (b"a b\n1 2\n3 4\n", {},
        "x.csv: 'a b' is of type string; there are no numeric columns; pass delimiter=' ' (--delimiter ' ') "
        "if spaces separate the columns"),
    "a short row": (b"a,b\n" + b"1,2\n" * 300 + b"3\n4,5\n", {},
        "x.csv, line 302: 1 field, expected 2: '3'; pass short_rows='pad' (--short-rows pad) if its last fields are "
        "missing"),
    "a long row in quotes": (b'a,b\n1,"x\n\ny"\n3,4,"5"\n', {"columns": ["a"]},
        'x.csv, line 5: 3 fields, expected 2: \'3,4,"5"\''),
    "a short row after comments": (b"#\na b\n#\n1 2\n\n3 # 4\n", {"comment": "#", "delimiter": " "},
        "x.csv, line 6: 1 field, expected 2: '3'"),
    "a late last column": (b"a,b,\n" + b"1,2,\n" * 200 + b"3,4,5\n", {},
        "x.csv, line 202: the last column has '5', but neither a name nor values before; give it a name with "
        "names= and header=True"),
    "twice the same name": (b"a,a\n1,2\n", {},
        "x.csv has more than one column 'a'; its columns are a, a; give each column a name of its own with "
        "names= and header=True (--names, --header)"),
    "names of a file that has a header": (b"a,b\n1,2\n", {"names": ["x", "y"]},
        "there are no numeric columns; 'x' has 'a' in the first row: pass header=True (--header) if that holds names"),
    "too few names": (b"1,2\n3,4\n", {"names": ["a"]},
        "x.csv has 2 columns, got 1 names (--names): a; give one for each column"),
    "no rows at all": (b"\n# x\n", {"header": False, "comment": "#"}, "x.csv is empty; expected rows"),
    "too many lines to skip": (b"a\n1\n", {"skip_rows": 3}, "x.csv has 2 lines, got skip_rows=3 (--skip-rows)"),
    "too late a header": (b"a\n1\n", {"header": 2}, "x.csv is empty; expected a header with the names of the columns"),
    "zero bytes": ("a,b\n1,2\n".encode("utf-16-le"), {},
        "x.csv holds zero bytes, expected text; give its encoding with encoding="),
    "zero bytes later": (b"a b\n1 2\n".ljust(1 << 17, b"\n") + b"3 \0\n", {"delimiter": " "},
        "the text holds a zero byte"),
    "half an encoding": ("a,b\n1,2\n".encode("utf-16")[:-1], {}, "x.csv: 'utf-16-le' codec can't decode byte"),
    "another encoding": ("größe\n1\n".encode("latin-1"), {}, "x.csv: its first row is not UTF-8: "),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused(name, folder):
    raw, options, message = REFUSED[name]
    Path("x.csv").write_bytes(raw)
    with pytest.raises(SourceError, match=f"^[^\n]*{re.escape(message)}[^\n]*$"):
        fit("x.csv", nan_policy="omit", **options)


# Options that are refused, before there is a file.
OPTIONS = {
    "delimiter of two": ({"delimiter": "::"}, ValueError,
        "delimiter (--delimiter) must be one ASCII character, no letter, digit, sign or line end, got '::'"),
    "no delimiter": ({"delimiter": ""}, ValueError, "delimiter (--delimiter) must be one ASCII character"),
    "foreign delimiter": ({"delimiter": "¬"}, ValueError, "delimiter (--delimiter) must be one ASCII character"),
    "a letter": ({"delimiter": "a"}, ValueError, "delimiter (--delimiter) must be one ASCII character"),
    "a line end": ({"quote": "\n"}, ValueError, "quote (--quote) must be one ASCII character"),
    "a number": ({"decimal": 1}, TypeError, "decimal (--decimal) must be one character, got 1"),
    "thousands of two": ({"thousands": "  "}, ValueError, "thousands (--thousands) must be one character"),
    "quote and delimiter": ({"quote": ";", "delimiter": ";"}, ValueError,
        "quote and delimiter are both ';' (--quote, --delimiter)"),
    "decimal and thousands": ({"thousands": "."}, ValueError,
        "decimal and thousands are both '.' (--decimal, --thousands)"),
    "comment": ({"comment": ""}, ValueError, "comment (--comment) must be what begins a comment, such as '#', got ''"),
    "comment and quote": ({"comment": '"'}, ValueError, 'quote and comment are both \'"\''),
    "header": ({"header": "yes"}, TypeError, "header must be an integer, got 'yes'"),
    "negative header": ({"header": -1}, ValueError, "header must be at least 0, got -1"),
    "skip_rows": ({"skip_rows": -1}, ValueError, "skip_rows must be at least 0, got -1"),
    "no names": ({"names": []}, ValueError, "names (--names) must be one or more different names, got []"),
    "twice a name": ({"names": ["a", "a"]}, ValueError,
        "names (--names) must be one or more different names, got ['a', 'a']"),
    "names": ({"names": 1.5j}, TypeError, "names (--names) must be a word or a sequence of words, got 1.5j"),
    "na_values": ({"na_values": [None]}, TypeError,
        "na_values (--na-values) must be a word or a sequence of words, got [None]"),
    "na_values by column": ({"na_values": {"a": -999}}, TypeError,
        "na_values (--na-values) must be words that all columns share, got the mapping {'a': -999}"),
    "short_rows": ({"short_rows": "skip"}, ValueError, "short_rows must be 'pad', got 'skip'"),
    "encoding": ({"encoding": "utf-99"}, ValueError,
        "encoding (--encoding) must be one that Python knows, such as 'utf-16' or 'latin-1', got 'utf-99': "
        "unknown encoding: utf-99"),
    "no text encoding": ({"encoding": "hex"}, ValueError, "encoding (--encoding) must be one that Python knows"),
    "encoding of another kind": ({"encoding": 8}, TypeError,
        "encoding (--encoding) must be the name of an encoding, got 8"),
}


@pytest.mark.parametrize("name", OPTIONS)
def test_options_are_checked(name, folder):
    options, kind, message = OPTIONS[name]
    Path("x.csv").write_text("a,b\n1,2\n")
    with pytest.raises(kind, match=f"^{re.escape(message)}"):
        fit("x.csv", **options)


LEFT_OUT = {
    "decimal commas": (b"a;b\n1;1,5\n2;\n3;-12\n", "'b', which has '1,5': pass decimal=',' (--decimal ,) if it is a "),
    "thousands": (b'a,b\n1,NA\n2,"1,234,567.5"\n', "'b', which has '1,234,567.5': pass thousands=',' (--thousands ,) "),
    "both": (b"a;b\n1;3\n2;1.234.567,5\n2;1,5\n", "'b', which has '1.234.567,5': pass decimal=',' and thousands='.' "),
}


@pytest.mark.parametrize("name", LEFT_OUT)
def test_columns_of_numbers_that_are_left_out_as_text(name, folder):
    """As another option reads them, fit warns, once; not of other text, nor of columns that are not asked for."""
    raw, message = LEFT_OUT[name]
    for path in ("x.csv", "y.csv"):
        Path(path).write_bytes(raw)
    message = re.escape(f"x.csv: numeric=True (--numeric) leaves out {message}")
    with pytest.warns(RuntimeWarning, match=message) as found:
        m = fit(["x.csv", "y.csv"], numeric=True)
    assert (m.names, len(found)) == (("a",), 1)
    for options in ({"exclude": ["b"]}, {"columns": ["a"]}):
        assert fit("x.csv", numeric=True, **options).names == ("a",)
    Path("x.csv").write_bytes(raw + b"4" + raw[1:2] + b"5x\n")
    assert fit("x.csv", numeric=True).names == ("a",)


def test_columns_of_one_name_that_are_left_out(folder):
    Path("x.csv").write_text("a;b;b\n1;1,5;x\n")
    with pytest.warns(RuntimeWarning, match=r"leaves out 'b', which has '1,5'"):
        assert fit("x.csv", columns=["a", "b"], numeric=True).names == ("a",)


def test_options_of_text_are_for_text(folder):
    parquet.write_table(pa.table({"a": [1.0]}), "x.parquet")
    with pytest.raises(SourceError, match=r"^x\.parquet takes no skip_rows, got skip_rows=1; leave it out \(--skip-r"):
        fit("x.parquet", skip_rows=1)


QUOTES = {
    "closed in a field": b'a\tt\n1\t"Foo\n2\tBar" x\n',
    "opened again": b'a\tt\n1\t"Foo\n2\t"Bar\n3\tx\n',
    "closed at an end": b'a\tt\n1\t"Foo\n2\tBar"\n3\tx\n',
    "never closed": b'a\tt\n1\t"Foo\n2\tBar\n',
    "commas": b'a,t\n1,"Foo\n2,Bar" x\n',
}


@pytest.mark.parametrize("name", QUOTES)
def test_a_quote_that_swallows_rows(name, folder):
    raw = QUOTES[name]
    Path("x.csv").write_bytes(raw)
    with pytest.raises(SourceError, match=r"^x\.csv, line 2: this quote .*; pass quote='' \(--quote ''\) if "):
        fit("x.csv", columns=["a"])
    m = fit("x.csv", columns=["a"], quote="")
    theirs = pd.read_csv(io.BytesIO(raw), sep=None if name == "commas" else "\t", quoting=3, engine="python")
    assert (m.n[0], m.mean[0]) == (len(theirs), theirs["a"].mean())


def test_a_quote_that_is_not_closed_for_long(folder, monkeypatch):
    monkeypatch.setattr(rowtext, "LONGEST_QUOTED", 100)
    Path("x.csv").write_text("a,t\n" + "1,2\n" * 100 + '1,"5\n' + "1,2\n" * 1000)
    with pytest.raises(SourceError, match=r"^x\.csv, line 102: this quote is never closed; pass quote=''"):
        fit("x.csv", columns=["a"])


def test_text_that_is_copied_has_an_encoding(folder):
    Path("x.csv").write_bytes("a,t\n1,x\n2,größe\n".encode("latin-1"))
    m = fit("x.csv", columns=["a"])
    with pytest.raises(SourceError, match=r"^x\.csv, line 3: column 't' .* invalid UTF8 data; give the encoding"):
        apply(m, "x.csv", "y.parquet")
    apply(m, "x.csv", "y.parquet", encoding="latin-1")
    assert parquet.read_table("y.parquet")["t"].to_pylist() == ["x", "größe"]


@pytest.mark.parametrize(("row", "message"), [
    ("x,1", "column 'a' is of type string, not numeric, such as 'x'"), ("1,2,3", "3 fields, expected 2: '1,2,3'"),
    ('1,"2', "this quote is never closed"),
])
def test_a_fault_in_what_is_read_once(row, message, folder, monkeypatch):
    """The line is counted on the way, as nothing is read again."""
    class Pipe(io.BytesIO):
        def seekable(self):
            return False

    monkeypatch.setattr(openfiles, "HEAD_BYTES", 200_000)
    text = "a,b\n" + "1,2\n" * 100_000 + row + "\n"
    with pytest.raises(SourceError, match=f"line 100,002: {re.escape(message)}"):
        fit(Pipe(text.encode()), format="csv")
