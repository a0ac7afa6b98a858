"""The options of reading: each that `fit` and `apply` have is one of the command, with the same meaning."""

import pytest
from support.command import invoke, main

import bnstream
from bnstream.cli.reading import OPTIONS
from bnstream.streams.sources import Reading

pytest.importorskip("pyarrow")

PYTHON_ONLY = {"item", "key"}       # concern objects of Python


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_all_options_are_there():
    assert set(OPTIONS) == set(Reading.__annotations__) - PYTHON_ONLY


def test_options_of_text(folder):
    (folder / "x.txt").write_text("title\n1;'a'';b';1.234,5\n%\n-;c;?\n3;d;2\n", encoding="utf-16")
    given = ["--format", "csv", "--delimiter", ";", "--no-header", "--names", 'n,"t, u",x', "--skip-rows", "1",
             "--quote", "'", "--comment", "%", "--na", "-,?", "--decimal", ",", "--thousands", ".",
             "--encoding", "utf-16"]
    result = invoke("fit", "x.txt", "-o", "x.npz", "--columns", "n,x", "--nan", "omit", *given)
    assert result.exit_code == 0, result.output
    m = bnstream.load("x.npz")
    assert (m.names, m.n.tolist(), m.mean.tolist()) == (("n", "x"), [2, 2], [2, 618.25])
    result = invoke("apply", "x.npz", "x.txt", "-o", "y.csv", *given)
    assert result.exit_code == 0, result.output
    assert (folder / "y.csv").read_text().splitlines()[:3] == ['"n","t, u","x"', '-1,"a\';b",1', ',"c",']


def test_header(folder):
    (folder / "x.csv").write_text("1,2\n3,4\n")
    assert invoke("fit", "x.csv", "-o", "x.npz", "--header").exit_code == 0
    assert bnstream.load("x.npz").names == ("1", "2")
    assert invoke("fit", "x.csv", "-o", "y.npz", "--no-header").exit_code == 0
    assert bnstream.load("y.npz").mean.tolist() == [2, 3]


@pytest.mark.parametrize(("options", "message"), [
    ((), "bnstream: x.csv: its first row, '1,2', may be data or names of columns; pass header=False (--no-header) if"),
    (("--delimiter", ";;"), "bnstream: delimiter (--delimiter) must be one ASCII character"),
    (("--names", "a,a"), "bnstream: names (--names) must be one or more different names, got ['a', 'a']"),
    (("--encoding", "utf-99"), "bnstream: encoding (--encoding) must be one that Python knows"),
])
def test_messages(options, message, folder):
    (folder / "x.csv").write_text("1,2\n3,4\n")
    ended = main("fit", "x.csv", "-o", "x.npz", *options)
    assert (ended.returncode, ended.stderr.count("\n")) == (1, 1)
    assert ended.stderr.startswith(message)
