"""The commands on files, as a user runs them. That they do what fit, apply and the others do is tested there."""

import csv
import io
import json

import numpy as np
import pytest
from test_cli import invoke, run, run_without

import bnstream

pa = pytest.importorskip("pyarrow")
parquet = pytest.importorskip("pyarrow.parquet")

COMMANDS = ("fit", "show", "merge", "apply", "convert", "plot")


@pytest.fixture
def folder(tmp_path, monkeypatch):
    rng = np.random.default_rng(0)
    x = rng.normal(10, 2, (100, 3))
    np.save(tmp_path / "x.npy", x)
    missing = pa.array(x[:, 1], mask=np.arange(100) % 5 == 0)
    table = pa.table({"a": x[:, 0], "b, c": missing, "text": ["t"] * 100})
    parquet.write_table(table, tmp_path / "t.parquet")
    bnstream.fit(x, tmp_path / "x.npz", columns=["a", "b", "c"])
    monkeypatch.chdir(tmp_path)
    return tmp_path


def done(*arguments):
    result = invoke(*map(str, arguments))
    assert result.exit_code == 0, result.output
    return result


@pytest.mark.parametrize("command", COMMANDS)
def test_help_teaches_by_example(command):
    assert f"Example: bnstream {command} " in " ".join(invoke(command, "--help").output.split())


def test_fit(folder):
    result = done("fit", "t.parquet", "-o", "t.npz", "--columns", 'a,"b, c"', "--nan", "omit", "--threads", "1")
    m = bnstream.load("t.npz")
    assert m.names == ("a", "b, c")
    assert m.n.tolist() == [100, 80]
    assert m == bnstream.fit("t.parquet", columns=["a", "b, c"], nan_policy="omit")
    assert result.stdout == ""
    assert result.stderr == "t.npz: 2 channels, n = 100\n"


def test_fit_options(folder):
    done("fit", "x.npy", "-o", "y.npz", "--channel-axis", "0", "--chunk-rows", "2", "--checkpoint-every", "0",
         "--resume")
    assert bnstream.load("y.npz").shape == (100,)


def test_show_as_csv(folder):
    m = bnstream.load("x.npz")
    rows = list(csv.DictReader(io.StringIO(done("show", "x.npz", "--csv").stdout)))
    assert [row["channel"] for row in rows] == ["a", "b", "c"]
    assert [int(row["n"]) for row in rows] == [100] * 3
    for title, values in {"mean": m.mean, "std": m.std(), "var": m.var()}.items():
        assert [float(row[title]) for row in rows] == values.tolist()       # all digits


def test_show_as_json(folder):
    bnstream.save("one.npz", bnstream.Moments(nan_policy="propagate").update([[1.0, np.nan]]))
    shown = json.loads(done("show", "one.npz", "--json").stdout)
    assert shown["kind"] == "moments"
    assert shown["completeness"] == "complete"
    assert shown["channels"] == [
        {"channel": "0", "n": 1, "mean": 1.0, "std": 0.0, "var": 0.0},
        {"channel": "1", "n": 1, "mean": None, "std": None, "var": None},
    ]


@pytest.mark.parametrize("affine", [True, False])
def test_show_of_a_layer(folder, affine):
    bn = bnstream.BatchNorm(2, affine=affine, names=["u", "v"])
    bn(np.array([[1.0, 2.0], [3.0, 5.0]]))
    bnstream.save("bn.npz", bn)
    rows = list(csv.DictReader(io.StringIO(done("show", "bn.npz", "--csv").stdout)))
    assert [float(row["running_mean"]) for row in rows] == bn.running_mean.tolist()
    assert [row["channel"] for row in rows] == ["u", "v"]
    assert ("gamma" in rows[0]) == affine


def test_show_a_table(folder):
    text = done("show", "x.npz").stdout
    m = bnstream.load("x.npz")
    assert "x.npz: moments, complete" in text
    for name, mean in zip("abc", m.mean, strict=True):
        assert f"{name} " in text
        assert f"{mean:.6g}" in text


def test_show_of_channels_of_two_axes(folder):
    bnstream.save("two.npz", bnstream.Moments().update(np.arange(8.0).reshape(2, 2, 2)))
    assert [line.partition(",")[0] for line in done("show", "two.npz", "--csv").stdout.splitlines()] == [
        "channel", '"0', '"0', '"1', '"1']


def test_merge(folder):
    done("merge", "x.npz", "x.npz", "-o", "twice.npz")
    m = bnstream.load("x.npz")
    assert bnstream.load("twice.npz") == m + m


def test_apply(folder):
    done("fit", "t.parquet", "-o", "t.npz", "--columns", "a", "--threads", "2")
    result = done("apply", "t.npz", "t.parquet", "-o", "y.parquet", "--eps", "0.5")
    assert result.stderr == "y.parquet: 100 rows\n"
    y = parquet.read_table("y.parquet")
    assert y.column_names == ["a", "b, c", "text"]
    m, x = bnstream.load("t.npz"), np.load("x.npy")[:, :1]
    assert y["a"].to_numpy().tolist() == bnstream.normalize(x, m.mean, m.var(), eps=0.5).ravel().tolist()


def test_convert_there_and_back(folder):
    done("convert", "x.npz", "--to", "scikit-learn", "-o", "scaler.npz")
    m = bnstream.load("x.npz")
    with np.load("scaler.npz") as arrays:
        assert arrays["mean_"].tolist() == m.mean.tolist()
    done("convert", "scaler.npz", "--from", "scikit-learn", "-o", "back.npz")
    back = bnstream.load("back.npz")
    assert back.n == m.n
    assert back.mean.tolist() == m.mean.tolist()
    assert json.loads(done("show", "back.npz", "--json").stdout)["completeness"] == "imported"


@pytest.mark.parametrize("suffix", ["png", "svg"])
def test_plot(folder, suffix):
    pytest.importorskip("matplotlib")
    done("plot", "x.npz", "-o", f"x.{suffix}", "--after", "x.npz")
    assert (folder / f"x.{suffix}").stat().st_size > 1000


@pytest.mark.parametrize(("arguments", "message"), [
    (("fit", "nowhere.csv", "-o", "y.npz"), "there is no file nowhere.csv"),
    (("fit", "t.parquet", "-o", "y.npz"), "'text' is of type string; choose columns of numbers"),
    (("fit", "t.parquet", "-o", "y.npz", "--columns", "a,z"), "has no column 'z'; its columns are a, b, c, text"),
    (("fit", "t.parquet", "-o", "y.npz", "--columns", '"b, c"'), "column 'b, c' has 20 missing values"),
    (("fit", "x.npy", "-o", "nowhere/y.npz"), "there is no folder nowhere"),
    (("fit", "x.npz.txt", "-o", "y.npz"), "there is no file"),
    (("show", "x.npy"), "x.npy"),
    (("show", "nowhere.npz"), "nowhere.npz"),
    (("merge", "x.npz", "bn.npz", "-o", "y.npz"), "bn.npz holds a BatchNorm"),
    (("merge", "x.npz", "two.npz", "-o", "y.npz"), "two.npz: expected channels"),
    (("apply", "x.npz", "t.parquet", "-o", "y.parquet"), "has no column 'b'"),
    (("apply", "x.npz", "x.npy", "-o", "y.txt"), "out must end in"),
    (("convert", "x.npy", "--from", "keras", "-o", "y.npz"), "x.npy holds one array"),
    (("convert", "x.npz", "--from", "keras", "-o", "y.npz"), "moving_mean"),
    (("plot", "x.npz", "-o", "y.nothing"), "nothing"),
], ids=lambda value: " ".join(value[:2]) if isinstance(value, tuple) else None)
def test_what_is_wrong_is_one_line(folder, arguments, message):
    bnstream.save("bn.npz", bnstream.BatchNorm(3))
    bnstream.save("two.npz", bnstream.Moments().update([[1.0, 2.0]]))
    process = run(*arguments)
    assert process.returncode == 1, process.stderr
    assert process.stdout == ""
    assert process.stderr.startswith("bnstream: ")
    assert message in process.stderr
    assert process.stderr.count("\n") == 1
    assert not (folder / "y.npz").exists()


@pytest.mark.parametrize("arguments", [
    ("fit", "-o", "y.npz"), ("fit", "x.npy"), ("fit", "x.npy", "-o", "y.npz", "--nan", "maybe"),
    ("fit", "x.npy", "-o", "y.npz", "--chunk-rows", "0"), ("show", "x.npz", "--json", "--csv"),
    ("merge", "-o", "y.npz"),
], ids=" ".join)
def test_wrong_usage(folder, arguments):
    assert invoke(*arguments).exit_code == 2


@pytest.mark.parametrize(("package", "arguments", "extra"), [
    ("typer", ("fit", "x.npy", "-o", "y.npz"), "streams"), ("pyarrow", ("fit", "t.parquet", "-o", "y.npz"), "streams"),
    ("matplotlib", ("plot", "x.npz", "-o", "x.png"), "plot"),
])
def test_what_is_not_installed(folder, package, arguments, extra):
    process = run_without(package, *arguments)
    assert process.returncode == 1
    assert f'pip install "bnstream[{extra}]"' in process.stderr
    assert process.stderr.count("\n") == 1


def test_npy_needs_no_pyarrow(folder):
    process = run_without("pyarrow", "fit", "x.npy", "-o", "y.npz")
    assert process.returncode == 0, process.stderr
    assert bnstream.load("y.npz") == bnstream.load("x.npz")
