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
