"""Columns by patterns, without some, of numbers alone: in every format of tables, and for the arrays of .npz files."""

import re
from datetime import date
from pathlib import Path

import numpy as np
import pytest
from support.arrays import normal
from support.command import invoke
from support.passes import Stop, stop_after

from bnstream import BatchNorm, SourceError, apply, fit, load, save

pa = pytest.importorskip("pyarrow", minversion="17")
csv = pytest.importorskip("pyarrow.csv")
feather = pytest.importorskip("pyarrow.feather")
parquet = pytest.importorskip("pyarrow.parquet")

N = 60
X = normal((N, 4)) + np.arange(1, 5)
TABLE = pa.table({
    "id": pa.array(range(N)), "f1": X[:, 0], "f2": X[:, 1], "name": ["x"] * N, "f[0]": X[:, 2], "f*": X[:, 3],
    "day": [date(2020, 1, 1)] * N, "ok": [True, False] * (N // 2),
})
KINDS = ("table", "list", "csv", "parquet", "arrow")


@pytest.fixture(params=KINDS)
def source(request, folder):
    if request.param == "table":
        return TABLE
    if request.param == "list":
        return [TABLE.slice(0, 20), TABLE.slice(20)]
    write = {"csv": csv.write_csv, "parquet": parquet.write_table, "arrow": feather.write_feather}[request.param]
    write(TABLE, f"t.{request.param}")
    return f"t.{request.param}"


SELECTED = {
    "a pattern": ({"columns": ["f?"]}, ("f1", "f2", "f*")),
    "names and patterns": ({"columns": ["f2", "f?", "id"]}, ("f2", "f1", "f*", "id")),
    "a name that is also a pattern": ({"columns": ["f*"]}, ("f*",)),
    "a name with brackets": ({"columns": ["f[0]"]}, ("f[0]",)),
    "characters": ({"columns": ["f[12]"]}, ("f1", "f2")),
    "capitals differ": ({"columns": ["[fF]2", "i[d]"]}, ("f2", "id")),
    "numbers": ({"numeric": True}, ("id", "f1", "f2", "f[0]", "f*", "ok")),
    "numbers among others": ({"columns": ["*[a-z]*"], "numeric": True}, ("id", "f1", "f2", "f[0]", "f*", "ok")),
    "without some": ({"exclude": ["name", "day", "f?", "o*"]}, ("id", "f[0]")),
    "numbers without some": ({"exclude": ["id", "f*"], "numeric": True}, ("f1", "f2", "f[0]", "ok")),
    "a pattern without some": ({"columns": ["f?"], "exclude": ["f2"]}, ("f1", "f*")),
    "not the weights": ({"columns": ["[fi]?"], "weights": "id"}, ("f1", "f2", "f*")),
    "a str is one name": ({"columns": "f1"}, ("f1",)),
    "or one pattern": ({"columns": "f?", "exclude": "f2"}, ("f1", "f*")),
}


@pytest.mark.parametrize("name", SELECTED)
def test_selected(source, name):
    options, names = SELECTED[name]
    m = fit(source, **options)
    assert m.names == names
    weights = np.arange(N) if "weights" in options else None
    means = [np.average(TABLE[column].to_numpy(zero_copy_only=False), weights=weights) for column in names]
    np.testing.assert_allclose(m.mean, means, rtol=1e-13)


REFUSED = {
    "no match": ({"columns": ["f1", "x*"]}, SourceError,
                 "has no column 'x*', nor one that this matches; its columns are id, f1, f2, name, f[0], f*, day, ok"),
    "no such column": ({"columns": ["x"]}, SourceError, "has no column 'x'; its columns are id, f1"),
    "no such column to leave out": ({"exclude": ["x"]}, SourceError, "has no column 'x'; its columns are id, f1"),
    "nothing matches what to leave out": ({"exclude": ["x?"]}, SourceError, "has no column 'x?', nor one that this"),
    "text": ({"columns": ["n*"]}, SourceError, "'name' is of type string; select numeric columns with numeric=True"),
    "nothing is left": ({"columns": ["n*"], "numeric": True}, SourceError, "has no column left, as exclude= or"),
    "all left out": ({"exclude": ["[!f]*", "f[!*]", "f[[]*", "f?"]}, SourceError, "has no column left, as exclude= or"),
    "twice": ({"exclude": ["id", "id"]}, SourceError, "exclude (--exclude) must be one or more different names"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused(source, name):
    options, error, message = REFUSED[name]
    with pytest.raises(error, match=re.escape(message)):
        fit(source, **options)


def test_files_with_other_matches(folder):
    parquet.write_table(TABLE, "1.parquet")
    parquet.write_table(TABLE.rename_columns(["id", "f1", "f3", *TABLE.column_names[3:]]), "2.parquet")
    with pytest.raises(SourceError, match=r"2\.parquet lacks 'f2', unlike 1\.parquet; select columns"):
        fit(["1.parquet", "2.parquet"], columns=["f?"])


def test_npz(folder):
    np.savez("t.npz", f1=X[:, 0], f2=X[:, 1], n=np.array(["x"] * N), g=X[:, 2])
    assert fit("t.npz", columns=["f*"]).mean.tolist() == pytest.approx(X[:, :2].mean(0))
    assert fit("t.npz", numeric=True).names == ("f1", "f2", "g")
    assert fit("t.npz", exclude=["n", "f?"]).names == ("g",)
    assert fit("t.npz", exclude=["n", "f1"]).names == ("f2", "g")
    with pytest.raises(SourceError, match=r"t\.npz has no array 'x\*', nor one that this matches; its arrays are f1"):
        fit("t.npz", columns=["x*"])
    with pytest.raises(SourceError, match=r"t\.npz has no array 'x'; its arrays are f1, f2, g, n"):
        fit("t.npz", exclude=["x"])


@pytest.mark.parametrize(("option", "value"), [("exclude", ["a"]), ("numeric", True)])
def test_arrays_take_no_such_options(option, value):
    with pytest.raises(SourceError, match=rf"the array of shape \(60, 4\) takes no {option}, .*\(--{option}\)"):
        fit(X, **{option: value})
    with pytest.raises(SourceError, match=f"takes no {option}"):
        fit([X], **{option: value})


def test_checkpoint(folder):
    parquet.write_table(TABLE, "t.parquet", row_group_size=20)
    with pytest.raises(Stop):
        fit("t.parquet", "out", exclude=["n*"], numeric=True, progress=stop_after(1))
    with pytest.raises(SourceError, match=r"was made with exclude=\['n\*'\], now \['i\*'\]"):
        fit("t.parquet", "out", exclude=["i*"], numeric=True, resume=True)
    m = fit("t.parquet", "out", exclude=("n*",), numeric=True, resume=True)
    assert m == fit("t.parquet", exclude=["n*"], numeric=True)


@pytest.mark.parametrize("kind", ["parquet", "csv"])
def test_apply_without_channels(folder, kind):
    """The channels that are left out are copied, and names in a state are no patterns."""
    {"csv": csv.write_csv, "parquet": parquet.write_table}[kind](TABLE, f"t.{kind}")
    m = fit(f"t.{kind}", columns=["f1", "f[0]", "f*"])
    assert apply(m, f"t.{kind}", "y.parquet", exclude=["f1", "f[[]*"]) == N
    y = parquet.read_table("y.parquet")
    assert y.column_names == TABLE.column_names
    np.testing.assert_allclose(y["f*"], (X[:, 3] - X[:, 3].mean()) / X[:, 3].std(), rtol=1e-12)
    assert [float(value) for value in y["f[0]"].to_pylist()] == X[:, 2].tolist()
    exact = fit(f"t.{kind}", columns=["f1", "f2", "f*"], exact=True)
    apply(exact, f"t.{kind}", "z.parquet", exclude=["f1", "f2"])
    np.testing.assert_allclose(parquet.read_table("z.parquet")["f*"], y["f*"], rtol=1e-12)


@pytest.mark.parametrize(("state", "options", "error", "message"), [
    ("table", {"exclude": ["x"]}, ValueError, "the statistics have no channel 'x'; their channels are f1, f2"),
    ("table", {"exclude": ["x*"]}, ValueError, "the statistics have no channel 'x*', nor one that this matches"),
    ("table", {"exclude": ["f?"]}, ValueError, "leaves out all channels of the statistics; leave fewer out"),
    ("table", {"numeric": True}, ValueError, "apply normalizes the columns that the statistics name; leave out"),
    ("array", {"exclude": ["a"]}, ValueError, "leaves out channels of a Moments by their names, which these"),
    ("layer", {"exclude": ["a"]}, ValueError, "leaves out channels of a Moments by their names, which these"),
])
def test_apply_refuses(folder, state, options, error, message):
    states = {"table": fit(TABLE, columns=["f1", "f2"]), "array": fit(X), "layer": BatchNorm(2)}
    with pytest.raises(error, match=re.escape(message)):
        apply(states[state], TABLE, "y.parquet", **options)
    assert not Path("y.parquet").exists()


def test_command(folder):
    parquet.write_table(TABLE, "t.parquet")
    assert invoke("fit", "t.parquet", "-o", "a.npz", "--numeric", "--exclude", "id,o*").exit_code == 0
    assert load("a.npz") == fit("t.parquet", columns=["f1", "f2", "f[0]", "f*"])
    assert invoke("fit", "t.parquet", "-o", "b.npz", "--columns", "f?").exit_code == 0
    assert load("b.npz").names == ("f1", "f2", "f*")
    assert invoke("apply", "a.npz", "t.parquet", "-o", "y.parquet", "--exclude", "f1", "--exclude", "f2").exit_code == 0
    assert parquet.read_table("y.parquet")["f1"] == TABLE["f1"]


HOLES = pa.table({"a": X[:, 0], "b": pa.array([None] * N, pa.float32()), "c": pa.array([None] * N, pa.int64())})


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("options", [{}, {"exact": True}, {"weights": "w"}], ids=str)
def test_missing_columns(folder, kind, options):
    """Columns without a value do not throw the others away."""
    table = HOLES.append_column("w", pa.array([1, 2] * (N // 2)))
    source = {"table": table, "list": [table.slice(0, 9), table.slice(9)]}.get(kind, f"t.{kind}")
    if kind in ("csv", "parquet", "arrow"):
        write = {"csv": csv.write_csv, "parquet": parquet.write_table, "arrow": feather.write_feather}[kind]
        write(table, source)
    with pytest.warns(RuntimeWarning, match="left out in column 'b', 'c': n is 0 there, and mean and var"):
        m = fit(source, "out", columns=["a", "b", "c"], nan_policy="omit", **options)
    assert m.n.tolist() == [90 if "weights" in options else N, 0, 0]
    assert np.isnan([m.mean[1:], m.var()[1:]]).all()
    assert m.mean[0] == pytest.approx(np.average(X[:, 0], weights=table["w"] if "weights" in options else None))
    assert load("out") == m
    with pytest.raises(ValueError, match=r"^the statistics have no value of 'b', 'c'; leave out such .* \(--exclude\)"):
        apply("out", source, "y.parquet")
    apply("out", table, "y.parquet", exclude=["b", "c"])
    assert parquet.read_table("y.parquet")["b"] == HOLES["b"]


def test_missing_columns_merge_and_resume(folder):
    """A column that is missing in one file may have values in another, before a stop and after it."""
    parquet.write_table(HOLES, "1.parquet")
    parquet.write_table(HOLES.set_column(1, "b", pa.array(X[:, 1])), "2.parquet")
    files = ["1.parquet", "2.parquet"]
    for options in ({}, {"exact": True}):
        with pytest.raises(Stop):
            fit(files, "out", nan_policy="omit", progress=stop_after(1), **options)
        with pytest.warns(RuntimeWarning, match="column 'c': n is 0"):
            m = fit(files, "out", nan_policy="omit", resume=True, **options)
        assert m.n.tolist() == [2 * N, N, 0]
        with pytest.warns(RuntimeWarning):
            first, second = (fit(file, nan_policy="omit", **options) for file in files)
        assert first.merge(second) == m
        Path("out").unlink()


def test_missing_columns_of_the_command(folder):
    parquet.write_table(HOLES, "t.parquet")
    result = invoke("fit", "t.parquet", "-o", "t.npz", "--nan", "omit")
    assert result.exit_code == 0
    assert result.stderr.splitlines()[0] == (
        "bnstream: warning: t.parquet: every value is missing or left out in column 'b', 'c': n is 0 there, and mean "
        "and variance are NaN")
    assert invoke("show", "t.npz").exit_code == 0
    save("copy.npz", load("t.npz"))
    assert Path("copy.npz").read_bytes() == Path("t.npz").read_bytes()


def test_columns_beside_objects_of_several_kinds():
    """Objects that are no column of Arrow are no numbers, and do not keep the others from being read."""
    pd = pytest.importorskip("pandas")
    frame = pd.DataFrame({"o": [1, "a"], "p": [{"q": 1}, [2]], "y": [1.0, 2.0]})
    for options in ({"numeric": True}, {"columns": ["y"]}, {"exclude": ["o", "p"]}):
        assert fit(frame, **options).mean.tolist() == [1.5]
    with pytest.raises(SourceError, match=r"^the DataFrame: 'o' is of type \w*string; .* or --columns: y$"):
        fit(frame, exclude=["p"])
    assert frame["o"].tolist() == [1, "a"]
