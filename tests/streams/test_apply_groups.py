"""apply by group: each row by the statistics of its own group."""

from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from pyarrow import csv, parquet
from support.command import invoke
from support.passes import Stop, stop_after

import bnstream
from bnstream import GroupedMoments, SourceError, apply, fit, save

N = 3000


def frame():
    rng = np.random.default_rng(4)
    return pd.DataFrame({"carrier": rng.choice(["AA", "UA"], N), "month": rng.integers(1, 4, N),
                         "delay": rng.normal(10, 30, N), "distance": rng.integers(100, 3000, N), "note": ["x"] * N})


def normalized(table, by, columns=("delay", "distance")):
    groups = table.groupby(by)
    return table.assign(**{name: (table[name] - groups[name].transform("mean")) / groups[name].transform("std", ddof=0)
                           for name in columns})


@pytest.mark.parametrize("by", ["carrier", ["carrier", "month"], "month"])
@pytest.mark.parametrize("suffix", [".parquet", ".csv"])
def test_tables(suffix, by, tmp_path):
    table = frame()
    path, out = tmp_path / f"t{suffix}", tmp_path / f"u{suffix}"
    write = csv.write_csv if suffix == ".csv" else parquet.write_table
    write(pa.Table.from_pandas(table), path)
    g = fit(path, by=by, columns=["delay", "distance"])
    assert apply(g, path, out) == N
    found = pd.read_csv(out) if suffix == ".csv" else pd.read_parquet(out)
    expected = normalized(table, by)
    pd.testing.assert_frame_equal(found, expected, check_dtype=False, rtol=1e-12, atol=1e-12)
    back = tmp_path / f"v{suffix}"
    apply(g, out, back, inverse=True, keep=[])
    found = pd.read_csv(back) if suffix == ".csv" else pd.read_parquet(back)
    np.testing.assert_allclose(found, table[["delay", "distance"]], rtol=1e-11)


@pytest.mark.parametrize("keys", ["1,2, 1,2,,NA,?", "True,False,True,False,,nan,?"])
def test_missing_keys_of_text(keys, tmp_path):
    """Keys of numbers are copied as text, in which words stand for those that are missing."""
    path, out = tmp_path / "t.csv", tmp_path / "u.csv"
    rows = [f"{key},{x}.0" for key, x in zip(keys.split(","), [1, 2, 3, 6, 5, 7, 9], strict=True)]
    path.write_text("\n".join(["k,x", *rows]))
    options = {"by": "k", "na_values": ["?"]}
    apply(fit(path, **options, missing_keys="keep"), path, out, na_values=["?"])
    assert np.allclose(pd.read_csv(out).x, [-1, -1, 1, 1, -1.5**0.5, 0, 1.5**0.5])
    g = fit(path, **options, missing_keys="omit")
    apply(g, path, out, na_values=["?"], unknown="nan")
    assert pd.read_csv(out).x.isna().tolist() == [False] * 4 + [True] * 3
    apply(g, path, out, na_values=["?"], unknown="total")
    assert np.allclose(pd.read_csv(out).x[4:], (np.array([5, 7, 9]) - 3) / 3.5**0.5)
    with pytest.raises(SourceError, match="the statistics have no group None"):
        apply(g, path, out, na_values=["?"])


def test_keys_need_not_be_kept(tmp_path):
    table = frame()
    apply(fit(table, by="month", columns=["delay"]), table, tmp_path / "u.npy")
    expected = normalized(table, "month", ["delay"]).delay
    np.testing.assert_allclose(np.load(tmp_path / "u.npy")[:, 0], expected, atol=1e-12)


def test_embeddings(tmp_path):
    rng = np.random.default_rng(3)
    vectors, keys = rng.normal(size=(300, 4)).astype("f4"), rng.integers(0, 3, 300)
    table = pa.table({"e": pa.FixedSizeListArray.from_arrays(vectors.ravel(), 4), "k": keys})
    g = fit(table, by="k")
    apply(g, table, tmp_path / "u.parquet")
    found = np.stack(parquet.read_table(tmp_path / "u.parquet")["e"].to_pylist())
    np.testing.assert_allclose(found, GroupedMoments().update(vectors, keys).normalize(vectors, keys), rtol=1e-6)


def test_unknown_groups(tmp_path):
    table = frame()
    g = fit(table[table.carrier == "AA"], by="carrier", columns=["delay"])
    with pytest.raises(SourceError, match=r"the statistics have no group 'UA'; fit .* pass unknown='total'"):
        apply(g, table, tmp_path / "u.parquet")
    assert not (tmp_path / "u.parquet").exists()
    apply(g, table, tmp_path / "u.parquet", unknown="nan")
    assert (pd.read_parquet(tmp_path / "u.parquet").delay.isna() == (table.carrier == "UA")).all()
    apply(g, table, tmp_path / "u.parquet", unknown="total")
    found, other = pd.read_parquet(tmp_path / "u.parquet"), (table.carrier == "UA").to_numpy()
    total = g.total()
    np.testing.assert_allclose(found.delay[other], (table.delay[other] - total.mean[0]) / total.std()[0], atol=1e-12)


def test_command(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    table = frame()
    table.to_parquet("t.parquet")
    table.rename(columns={"carrier": "airline"}).to_parquet("r.parquet")
    assert invoke("fit", "t.parquet", "-o", "g.npz", "--by", "carrier", "--columns", "delay").exit_code == 0
    assert invoke("apply", "g.npz", "r.parquet", "-o", "u.parquet", "--by", "airline").exit_code == 0
    np.testing.assert_allclose(pd.read_parquet("u.parquet").delay, normalized(table, "carrier", ["delay"]).delay,
                               atol=1e-12)
    failed = invoke("apply", "g.npz", "r.parquet", "-o", "w.parquet")
    assert "r.parquet has no column 'carrier', which holds the keys of the statistics; name" in str(failed.exception)


@pytest.mark.parametrize(("state", "options", "error", "message"), [
    (GroupedMoments(), {}, ValueError, "the state has no groups|do not tell which columns"),
    (GroupedMoments(names=["delay"]).update(np.ones((2, 1)), [1, 2]), {}, ValueError, "do not tell which columns hold"),
    (GroupedMoments(names=["delay"]).update(np.ones((2, 1)), [1, 2]), {"by": ["carrier", "month"]}, ValueError,
     "by must name 1 column, as the keys of the statistics have"),
    (bnstream.Moments(names=["delay"]).update(np.ones((2, 1))), {"by": "carrier"}, ValueError,
     r"by \(--by\) and unknown \(--unknown\) are for statistics by group"),
    (GroupedMoments(names=["delay"]).update(np.ones((2, 1)), [1, 2]), {"by": "delay"}, SourceError, "holds the keys"),
    (GroupedMoments(names=["delay"]).update(np.ones((2, 1)), [1, 2]), {"by": "month", "exclude": ["x"]}, ValueError,
     "exclude"),
    (GroupedMoments(names=["delay"]).update(np.ones((2, 1)), [1, 2]), {"by": "month", "unknown": "skip"}, ValueError,
     "unknown must be 'raise', 'total' or 'nan'"),
])
def test_refused(state, options, error, message, tmp_path):
    with pytest.raises(error, match=message):
        apply(state, frame(), tmp_path / "u.parquet", **options)


def test_arrays_have_no_keys(tmp_path):
    g = GroupedMoments(names=["delay"], key_names=["month"]).update(np.ones((2, 1)), [1, 2])
    with pytest.raises(SourceError, match=r"normalize arrays with GroupedMoments.normalize\(x, keys\)"):
        apply(g, np.ones((2, 1)), tmp_path / "u.npy")


@pytest.mark.parametrize(("texts", "keys", "wrong"), [
    (["1", "", "2", "NA", "1"], [1, None, 2, None, 1], "x"),
    ([str(2**63), "", "2", "NA", str(2**63)], [2**63, None, 2, None, 2**63], "9" * 20),
    (["True", "", "false", "NA", "TRUE"], [True, None, False, None, True], "maybe")])
def test_text_files_whose_keys_are_numbers(texts, keys, wrong, tmp_path):
    """apply copies them as text, in which it finds the keys that fit has found."""
    x = np.arange(5.0)[:, None]
    for missing, unknown in (("keep", "raise"), ("omit", "total"), ("omit", "nan")):
        g = GroupedMoments(names=["x"], key_names=["k"], missing_keys=missing).update(x, keys)
        path = tmp_path / "t.csv"
        path.write_text("k,x\n" + "".join(f"{text},{i}\n" for i, text in enumerate(texts)))
        if len(texts[0]) < 9:
            assert fit(path, by="k", missing_keys=missing) == g
        assert apply(g, path, tmp_path / "u.csv", unknown=unknown, force=True, dtype="float64") == 5
        table = csv.read_csv(tmp_path / "u.csv", convert_options=csv.ConvertOptions(column_types={"k": pa.string()}))
        assert table["k"].to_pylist() == texts
        np.testing.assert_array_equal(
            table["x"].to_numpy(), g.normalize(x, np.array(keys, object), unknown=unknown)[:, 0])
    path.write_text(f"k,x\n{texts[0]},1\n{wrong},2\n")
    with pytest.raises(SourceError, match=f"column 'k' has the key '{wrong}', but the keys of the statistics are of "):
        apply(g, path, tmp_path / "u.csv", unknown="total", force=True)


@pytest.mark.parametrize("suffix", [".parquet", ".arrow", ".csv"])
def test_categories_of_polars(suffix, tmp_path):
    """Their dictionaries hold views of strings, which pyarrow writes to no file."""
    pl = pytest.importorskip("polars")
    table = pl.DataFrame({"k": pl.Series(["a", "b", None, "a"], dtype=pl.Categorical), "x": [1.0, 2.0, 3.0, 5.0],
                          "e": pl.Series(["u", "v", "u", "u"], dtype=pl.Enum(["u", "v"]))})
    g = fit(table, by="k", columns=["x"], missing_keys="keep")
    for state, expected in ((g, [-1, 0, 0, 1]), (g.total(), None)):
        path = tmp_path / f"u{suffix}"
        assert apply(state, table, path, force=True) == 4
        read = {".parquet": pl.read_parquet, ".arrow": pl.read_ipc, ".csv": pl.read_csv}[suffix](path)
        assert read["k"].cast(str).to_list()[:2] == ["a", "b"]
        assert read["e"].cast(str).to_list() == ["u", "v", "u", "u"]
        assert expected is None or read["x"].to_list() == expected


def test_a_state_file(tmp_path):
    table = frame()
    save(tmp_path / "g.npz", fit(table, by="month", columns=["delay"]))
    assert apply(tmp_path / "g.npz", table, tmp_path / "u.parquet") == N


def test_lists_have_no_statistics_of_numbers(tmp_path):
    """Here as many elements as rows, each of which would go by the key of another row."""
    g = fit(pa.table({"k": [1, 2, 1], "emb": [1.0, 2.0, 3.0]}), by="k")
    table = pa.table({"k": [1, 2, 1], "emb": [[1.0, 2.0], [], [3.0]]})
    with pytest.raises(SourceError, match="column 'emb' holds lists, but its statistics by group are those of one"):
        apply(g, table, tmp_path / "u.parquet")


@pytest.mark.parametrize("options", [{"dtype": "float32"}, {"clip": 2}, {"inverse": True}, {"unknown": "nan"}], ids=str)
def test_resume_with_other_arguments(options, folder):
    Path("data").mkdir()
    for name in ("1", "2"):
        frame().to_parquet(f"data/{name}.parquet")
    g = fit("data", by="month", columns=["delay"])
    with pytest.raises(Stop):
        apply(g, "data", "out/", progress=stop_after(2))
    with pytest.raises(SourceError, match=r"\.apply\.checkpoint was made with state=.*; resume with the same"):
        apply(g, "data", "out/", resume=True, **options)


@pytest.mark.parametrize("n_files", [1, 100])
def test_text_without_a_key(n_files, tmp_path):
    """An empty field of a text file is no key, and nor is a word that the caller names; NA is a key."""
    (tmp_path / "in").mkdir()
    for i in range(n_files):
        (tmp_path / f"in/{i:03}.csv").write_text("k,x\nNA,1\n ,2\nNA,3\n?,4\n,5\nB,6\n")
    source, options = tmp_path / "in", {"columns": ["x"], "na_values": ["?"]}
    with pytest.raises(SourceError, match=r"keys 'k': \d+ rows have no key"):
        fit(source, by="k", **options)
    g = fit(source, by="k", missing_keys="keep", **options)
    assert {key: m.mean.item() for key, m in g.items()} == {"NA": 2, None: 11 / 3, "B": 6}
    omitted = fit(source, by="k", missing_keys="omit", **options)
    assert sorted(omitted) == ["B", "NA"]
    with pytest.raises(SourceError, match="the statistics have no group None"):
        apply(omitted, source, tmp_path / "y.csv", by="k", na_values=["?"])
    apply(g, source, tmp_path / "y.csv", by="k", na_values=["?"])
    y = pd.read_csv(tmp_path / "y.csv", keep_default_na=False)
    assert y.k.tolist() == ["NA", " ", "NA", "?", "", "B"] * n_files
    two, four, five = (np.array([2, 4, 5]) - 11 / 3) / np.std([2, 4, 5])
    np.testing.assert_allclose(y.x[:6], [-1, two, 1, four, five, 0], rtol=1e-14)
