"""The commands on statistics by group."""

import json

import numpy as np
import pytest
from support.command import invoke

import bnstream
from bnstream import load, save

pa = pytest.importorskip("pyarrow")
parquet = pytest.importorskip("pyarrow.parquet")


@pytest.fixture
def folder(tmp_path, monkeypatch):
    table = pa.table({"carrier": ["AA", "UA", "AA", None], "month": [1, 1, 2, 2], "delay": [1.0, 3.0, 5.0, 7.0]})
    parquet.write_table(table, tmp_path / "t.parquet")
    monkeypatch.chdir(tmp_path)


def done(*arguments):
    result = invoke(*map(str, arguments))
    assert result.exit_code == 0, result.output
    return result


def test_fit_by(folder):
    result = done("fit", "t.parquet", "-o", "g.npz", "--by", "carrier,month", "--missing-keys", "omit")
    assert result.stderr == "g.npz: 3 groups, 1 channel, n = 3\n"
    g = load("g.npz")
    assert g == bnstream.fit("t.parquet", by=["carrier", "month"], missing_keys="omit")
    assert list(g) == [("AA", 1), ("AA", 2), ("UA", 1)]
    failed = invoke("fit", "t.parquet", "-o", "h.npz", "--by", "carrier")
    assert failed.exit_code == 1
    assert "pass missing_keys='omit' (--missing-keys omit)" in str(failed.exception)


def test_show(folder):
    done("fit", "t.parquet", "-o", "g.npz", "--by", "carrier", "--columns", "delay", "--missing-keys", "keep")
    assert done("show", "g.npz", "--csv").stdout.splitlines() == [
        "carrier,channel,n,mean,std,var", "AA,delay,2,3.0,2.0,4.0", "UA,delay,1,3.0,0.0,0.0", ",delay,1,7.0,0.0,0.0"]
    shown = json.loads(done("show", "g.npz", "--json").stdout)
    assert shown["channels"][0] == {"carrier": "AA", "channel": "delay", "n": 2, "mean": 3.0, "std": 2.0, "var": 4.0}
    assert shown["keys"] == ["AA", "UA", None]
    assert "carrier" in done("show", "g.npz").stdout
    save("empty.npz", bnstream.GroupedMoments())
    assert done("show", "empty.npz", "--csv").stdout == "channel,n,mean,std,var\n"


def test_merge(folder):
    x = np.array([[1.0], [3.0]])
    for name, keys in (("a", ["AA", "UA"]), ("b", ["UA", "DL"])):
        save(f"{name}.npz", bnstream.GroupedMoments(names=["delay"]).update(x, keys))
    done("merge", "a.npz", "b.npz", "-o", "c.npz")
    assert load("c.npz") == load("a.npz") + load("b.npz")
    save("m.npz", bnstream.Moments(names=["delay"]).update(x))
    failed = invoke("merge", "a.npz", "m.npz", "-o", "d.npz")
    assert failed.exit_code == 1
    assert "m.npz holds a Moments, but a.npz holds a GroupedMoments" in str(failed.exception)
    save("i.npz", bnstream.GroupedMoments(names=["delay"]).update(x, [1, 2]))
    failed = invoke("merge", "a.npz", "i.npz", "-o", "d.npz")
    assert str(failed.exception) == "i.npz: expected keys of str as before, got int; convert them"


@pytest.mark.parametrize("command", [("fit", "t.parquet"), ("apply", "g.npz", "t.parquet")])
def test_by_no_column(command, folder):
    """As of a variable of the shell that is not set: it is not all rows together."""
    save("g.npz", bnstream.GroupedMoments(names=["delay"]).update(np.array([[1.0]]), ["AA"]))
    failed = invoke(*command, "-o", "o.parquet", "--by", "")
    assert failed.exit_code == 1
    assert "by (--by) must be one or more different names" in str(failed.exception)


def test_show_keys_as_they_are(folder):
    """Keys named like a column of the statistics, years without commas, null for a missing key, and bools."""
    x, keys = np.arange(4.0)[:, None], {"n": [2024, 2024, None, 1], "channel": [True, False, True, True]}
    save("g.npz", bnstream.GroupedMoments(missing_keys="keep").update(x, keys))
    lines = done("show", "g.npz", "--csv").output.splitlines()
    assert lines[:2] == ["key_n,key_channel,channel,n,mean,std,var", "1,True,0,1,3.0,0.0,0.0"]
    assert lines[-1] == ",True,0,1,2.0,0.0,0.0"
    members = json.loads(done("show", "g.npz", "--json").output)["channels"]
    assert [one["key_n"] for one in members] == [1, 2024, 2024, None]
    assert [one["n"] for one in members] == [1] * 4
    assert [one["key_channel"] for one in members] == [True, False, True, True]
    table = done("show", "g.npz").output
    assert "│ 2024  │ False " in table
    assert "│       │ True " in table


def test_show_weights(folder):
    x = np.array([[1.0], [3.0], [5.0]])
    g = bnstream.GroupedMoments().update(x, ["a", "a", "b"], weights=[1, 3, 2])
    save("g.npz", g)
    assert done("show", "g.npz", "--csv").output.splitlines()[0] == "key,channel,n,mean,std,var,effective_n"
    members = json.loads(done("show", "g.npz", "--json").output)["channels"]
    assert [one["effective_n"] for one in members] == [1.6, 1.0]


def test_show_quantiles_have_columns_of_their_own(folder):
    pytest.importorskip("datasketches")
    g = bnstream.GroupedMoments(track="quantiles").update(np.arange(5.0)[:, None], {"median": [7] * 5})
    save("g.npz", g)
    assert done("show", "g.npz", "--csv").output.splitlines() == [
        "key_median,channel,n,mean,std,var,q1,median,q3", f"7,0,5,2.0,{2**0.5!r},2.0,1.0,2.0,3.0"]
    lines = done("show", "g.npz", "--csv", "--quantiles", "0,0.1234567,0.1234568,1").output.splitlines()
    assert lines[0] == "key_median,channel,n,mean,std,var,q0.0,q0.1234567,q0.1234568,q1.0"
    assert lines[1].endswith(",0.0,0.0,0.0,4.0")
    result = invoke("show", "g.npz", "--quantiles", "0.5,1.5")
    assert result.exit_code == 1
    assert "quantiles (--quantiles) must be from 0 to 1, got 0.5,1.5" in str(result.exception)
