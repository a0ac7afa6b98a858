"""fit by group: every table format, with the numbers of pandas; threads, resuming, and what is refused."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from pyarrow import csv, feather, parquet

import bnstream
from bnstream import GroupedMoments, SourceError, fit
from bnstream.core.blocks import channels_of
from bnstream.core.moments import rows_of
from bnstream.core.tracking import OF_KERNELS
from bnstream.streams.sources.tables import parquet as parquet_source

N = 5000


def frame(seed=0, missing=True):
    rng = np.random.default_rng(seed)
    table = pd.DataFrame({
        "carrier": rng.choice(["AA", "UA", "DL", ""], N), "month": rng.integers(1, 13, N),
        "delay": np.where(rng.random(N) < 0.1 * missing, np.nan, rng.normal(10, 30, N).round(3)),
        "distance": rng.integers(100, 3000, N),
    })
    table.loc[table.carrier == "", "carrier"] = "WN"
    return table


def assert_equal(g, table, by, columns=("delay", "distance")):
    expected = table.groupby(by)
    found = g.to_pandas(ddof=1).sort_index()
    for column in columns:
        assert np.array_equal(found[f"{column}_n"], expected[column].count())
        np.testing.assert_allclose(found[f"{column}_mean"], expected[column].mean(), rtol=1e-13)
        np.testing.assert_allclose(found[f"{column}_std"], expected[column].std(), rtol=1e-12)
    assert found.index.names == ([by] if isinstance(by, str) else by)


def bytes_of(g):
    return [rows_of(g[key]).tobytes() for key in g]


def written(table, path):
    if path.suffix == ".parquet":
        parquet.write_table(pa.Table.from_pandas(table, preserve_index=False), path, row_group_size=700)
    elif path.suffix == ".feather":
        feather.write_feather(table, path, chunksize=900)
    elif path.suffix == ".csv":
        csv.write_csv(pa.Table.from_pandas(table, preserve_index=False), path)
    else:
        table.to_json(path, orient="records", lines=True)
    return path


@pytest.mark.parametrize("by", ["carrier", "month", ["carrier", "month"]])
@pytest.mark.parametrize("suffix", [".parquet", ".feather", ".csv", ".jsonl"])
def test_files(suffix, by, tmp_path):
    paths = [written(frame(seed), tmp_path / f"{seed}{suffix}") for seed in range(2)]
    g = fit(paths, by=by, columns=["delay", "distance"], nan_policy="omit")
    assert_equal(g, pd.concat([frame(0), frame(1)]), by)
    assert g == fit(paths, by=by, columns=["delay", "distance"], nan_policy="omit", n_threads=3)
    serial = fit(paths, by=by, columns=["delay", "distance"], nan_policy="omit", n_threads=1)
    assert bytes_of(g) == bytes_of(serial)


def of_polars(table):
    return pytest.importorskip("polars").from_pandas(table, nan_to_null=True)


@pytest.mark.parametrize("make", [pd.DataFrame, of_polars, pa.Table.from_pandas, lambda table: of_polars(table).lazy(),
                                  lambda table: table.astype({"carrier": "category"}),
                                  lambda table: table.to_dict("records")])
def test_tables(make):
    table = frame(missing=False)
    g = fit(make(table), by="carrier", exclude=["month"])
    assert g.names == ("delay", "distance")
    assert_equal(g, table, "carrier")


def test_columns_by_default_are_all_others():
    table = frame(missing=False)
    assert fit(table, by=["carrier", "month"]).names == ("delay", "distance")


def test_folders_name_the_keys(tmp_path):
    for year in (2023, 2024):
        (tmp_path / f"year={year}").mkdir()
        written(frame(year), tmp_path / f"year={year}" / "a.parquet")
    tables = pd.concat([frame(2023).assign(year=2023), frame(2024).assign(year=2024)])
    g = fit(tmp_path, by=["year", "carrier"], columns=["delay", "distance"], nan_policy="omit")
    assert_equal(g, tables, ["year", "carrier"])


def test_weights_and_embeddings():
    rng = np.random.default_rng(3)
    vectors, keys, weights = rng.normal(size=(300, 4)).astype("f4"), rng.integers(0, 3, 300), rng.integers(1, 5, 300)
    table = pa.table({"e": pa.FixedSizeListArray.from_arrays(vectors.ravel(), 4), "k": keys, "w": weights})
    g = fit(table, by="k", weights="w")
    assert g.names == ("e[0]", "e[1]", "e[2]", "e[3]")
    for key in range(3):
        m = bnstream.Moments().update(vectors[keys == key], weights=weights[keys == key])
        np.testing.assert_allclose(g[key].mean, m.mean, rtol=1e-13)
        np.testing.assert_allclose(g[key].var(), m.var(), rtol=1e-13)
    assert fit(table, by="k", weights="w", exact=True)[1] == bnstream.Moments(exact=True).update(
        vectors[keys == 1], weights=weights[keys == 1])


def test_pooled_lists_have_no_keys(folder):
    """Nor where the schema is known only once rows are read."""
    table = pa.table({"k": [1, 2, 1], "emb": [[1.0, 2.0], [3.0], [4.0]]})
    Path("x.jsonl").write_text("".join(json.dumps(row) + "\n" for row in table.to_pylist()))
    for source in (table, [table], "x.jsonl"):
        with pytest.raises(SourceError, match="the lists of column 'emb' are pooled, but a key is for a row"):
            fit(source, by="k", element_axis="pooled")


def test_exact(tmp_path):
    table = frame(missing=False)
    g = fit(table, by="carrier", exclude=["month"], exact=True, out=tmp_path / "g.npz")
    assert fit([table[3000:], table[:3000]], by="carrier", exclude=["month"], exact=True) == g
    assert bnstream.load(tmp_path / "g.npz") == g


def test_missing_keys(tmp_path):
    table = frame(missing=False)
    table.loc[::7, "carrier"] = None
    options = {"by": "carrier", "columns": ["delay"]}
    for source in (table, written(table, tmp_path / "t.parquet")):
        with pytest.raises(SourceError, match=r"keys 'carrier': \d+ rows have no key; pass missing_keys='omit'"):
            fit(source, **options)
        assert_equal(fit(source, **options, missing_keys="omit"), table, "carrier", ["delay"])
        assert fit(source, **options, missing_keys="keep")[None].n.tolist() == [len(table[::7])]
    with pytest.raises(ValueError, match="missing_keys must be"):
        fit(table, **options, missing_keys="drop")
    with pytest.raises(ValueError, match=r"missing_keys='omit' \(--missing-keys\) is for statistics by group; name"):
        fit(table, columns=["delay"], missing_keys="omit")
    table["carrier"] = None
    with pytest.raises(SourceError, match=r"no row has a key in 'carrier'; group by other columns with by= \(--by\)"):
        fit(table, **options, missing_keys="omit")


@pytest.mark.parametrize("exact", [False, True])
@pytest.mark.parametrize("weights", [None, "w"])
def test_tracked_by_group(exact, weights, tmp_path):
    """Each group tracks what fit tracks of its rows: nulls, NaN and values of weight 0 are counted alike."""
    track = ("min", "max", "missing") if exact else OF_KERNELS
    table = pa.table({
        "k": ["a", "b", None, "a", "b", "c"] * 50, "w": [1, 2, 0, 0, 3, 1] * 50,
        "x": pa.array([1.5, None, 3, None, float("nan"), None] * 50), "i": pa.array([1, 2, None, 4, None, 6] * 50),
    })
    options = {"nan_policy": "omit", "exact": exact, "track": track, "weights": weights, "columns": ["x", "i"]}
    g = fit(table, tmp_path / "g.npz", by="k", missing_keys="omit", chunk_rows=64, **options)
    assert bnstream.load(tmp_path / "g.npz") == g
    assert g.track == track
    for key in "abc":
        rows = table.filter(pc.equal(table["k"], key))
        for name in ("x", "i"):
            values = rows[name].to_numpy(zero_copy_only=False).astype(float)
            w = None if weights is None else rows["w"].to_numpy()
            column = bnstream.Moments(nan_policy="omit", exact=exact, track=track).update(values[:, None], weights=w)
            channel = channels_of(g[key], [("x", "i").index(name)])
            np.testing.assert_array_equal(channel.n, column.n)
            np.testing.assert_array_equal(channel.missing, column.missing, err_msg=f"{key} {name}")
            np.testing.assert_array_equal([channel.min, channel.max], [column.min, column.max])
            np.testing.assert_allclose(channel.mean, column.mean, rtol=1e-14)
    assert g.to_pandas().loc["b", "x_missing"] == (250 if exact and weights else 100)       # Exact ones count weights.


@pytest.mark.parametrize(
    "more", [{}, {"exact": True}, {"track": ["min", "missing", "skewness"]}, {"track": "quantiles"}],
    ids=["plain", "exact", "tracked", "quantiles"])
@pytest.mark.parametrize("columns", [["delay"], ["delay", "distance"]], ids=["one column", "two"])
def test_resume(tmp_path, monkeypatch, columns, more):
    if more.get("track") == "quantiles":
        pytest.importorskip("datasketches")
    monkeypatch.setattr(parquet_source, "SPAN_ROWS", 1000)
    path = written(frame(), tmp_path / "t.parquet")
    options = {"by": ["carrier", "month"], "columns": columns, "nan_policy": "omit", **more}

    def stop(progress):
        if progress.n_rows > 2500:
            raise KeyboardInterrupt

    whole = fit(path, **options)
    with pytest.raises(KeyboardInterrupt):
        fit(path, tmp_path / "g.npz", **options, progress=stop)
    with pytest.raises(SourceError, match=r"by=\['carrier', 'month'\], now \['carrier'\]"):
        fit(path, tmp_path / "g.npz", **{**options, "by": "carrier"}, resume=True)
    g = fit(path, tmp_path / "g.npz", **options, resume=True)
    assert list(g) == list(whole)
    assert bnstream.load(tmp_path / "g.npz") == g
    if more.get("track") != "quantiles":        # The sketches of full batches draw random numbers.
        assert g == whole
    if not more:
        assert bytes_of(g) == bytes_of(whole)


def test_propagate():
    table = frame()
    g = fit(pa.Table.from_pandas(table), by="carrier", columns=["delay"], nan_policy="propagate")
    assert np.isnan(g["AA"].mean).all()
    assert g["AA"].n.tolist() == [(table.carrier == "AA").sum()]


@pytest.mark.parametrize(("options", "error", "message"), [
    ({"by": "nothing"}, SourceError, "has no column 'nothing'"),
    ({"by": "carrier", "track": "least"}, ValueError, "track must be of 'min', .* got 'least'"),
    ({"by": "delay", "columns": ["delay"]}, SourceError, "column 'delay' holds the keys, so it can be neither"),
    ({"by": "month", "weights": "month"}, SourceError, "holds the keys"),
    ({"by": []}, SourceError, r"by \(--by\) must be one or more different names, got \[\]"),
    ({"by": [3]}, TypeError, r"by \(--by\) must be a name or a sequence of names, got \[3\]"),
    ({"by": 3}, TypeError, r"by \(--by\) must be a name or a sequence of names, got 3"),
    ({"by": "delay", "columns": ["distance"]}, TypeError, "keys must be integers, bools or strings"),
    ({"by": "carrier", "columns": ["delay"], "nan_policy": "raise"}, SourceError, "column 'delay'.*NaN or inf|missing"),
])
def test_refused(options, error, message):
    with pytest.raises(error, match=message):
        fit(frame(), **options)


def test_arrays_have_no_columns():
    with pytest.raises(SourceError, match=r"holds arrays, but by=\['k'\] \(--by\) names columns of a table"):
        fit(np.ones((3, 2)), by="k")


def test_is_grouped_moments():
    assert isinstance(fit(frame(missing=False), by="carrier", columns=["delay"]), GroupedMoments)


def test_rows_without_keys_alone():
    table = pa.table({"k": pa.array([None, None], pa.string()), "a": [1.0, 2.0], "b": [3.0, 4.0]})
    with pytest.raises(SourceError, match="no row has a key in 'k'; group by other columns"):
        fit(table, by="k", missing_keys="omit")
