"""Columns that exist only in the names of folders."""

import numpy as np
import pytest
from support.command import main

import bnstream

pa = pytest.importorskip("pyarrow")

from pyarrow import csv, dataset, feather, parquet  # noqa: E402

YEARS, SCALES = (2023, 2024), ("0.5", "2")
ROWS = {(year, scale): 10 * i + 5 for i, (year, scale) in enumerate((y, s) for y in YEARS for s in SCALES)}
WRITE = {
    "parquet": lambda table, path: parquet.write_table(table, path, row_group_size=4),
    "csv": csv.write_csv,
    "arrow": feather.write_feather,
}


def write(folder, suffix="parquet"):
    """Files of folders year=.../scale=.../country=...; return their table, with these columns."""
    rng = np.random.default_rng(0)
    for (year, scale), n in ROWS.items():
        path = folder / f"year={year}" / f"scale={scale}" / "country=d%C3%A9" / f"part.{suffix}"
        path.parent.mkdir(parents=True)
        table = pa.table({"a": rng.normal(size=n), "b": rng.normal(size=n)})
        WRITE[suffix](table, path)
    kinds = pa.schema([("year", pa.int64()), ("scale", pa.float64()), ("country", pa.string())])
    format_ = "feather" if suffix == "arrow" else suffix
    return dataset.dataset(folder, format=format_, partitioning=dataset.partitioning(kinds, flavor="hive")).to_table()


@pytest.mark.parametrize("suffix", WRITE)
def test_channels(folder, monkeypatch, suffix):
    """They are channels where they are named; by default only the columns of the files are."""
    monkeypatch.setattr("bnstream.streams.sources.tables.parquet.PIECE_VALUES", 1)     # one column a piece
    table = write(folder / "data", suffix)
    m = bnstream.fit("data", columns=["year", "b", "scale"])
    assert m.names == ("year", "b", "scale")
    assert m.n.tolist() == [sum(ROWS.values())] * 3
    expected = np.stack([table[name].to_numpy() for name in m.names])
    assert m.mean == pytest.approx(expected.mean(axis=1), rel=1e-12)
    assert m.std() == pytest.approx(expected.std(axis=1), rel=1e-12)
    assert bnstream.fit("data").names == ("a", "b")
    weighted = bnstream.fit("data", columns=["a", "b", "scale"], weights="year")
    assert weighted.n.tolist() == [table["year"].to_numpy().sum()] * 3
    assert bnstream.fit(f"data/year=*/*/*/*.{suffix}", columns=["year", "b", "scale"]) == m


@pytest.mark.parametrize("suffix", WRITE)
def test_weights(folder, suffix):
    table = write(folder / "data", suffix)
    m = bnstream.fit("data", weights="scale", columns=["a", "year"])
    weights = table["scale"].to_numpy()
    assert m.mean == pytest.approx([np.average(table[name].to_numpy(), weights=weights) for name in ("a", "year")])
    assert bnstream.fit("data", weights="scale").names == ("a", "b")


@pytest.mark.parametrize("suffix", WRITE)
def test_apply(folder, suffix):
    """It passes all of them on, and normalizes those with statistics."""
    table = write(folder / "data", suffix)
    bnstream.fit("data", "stats.npz", columns=["a", "year"])
    bnstream.apply("stats.npz", "data", "y.parquet")
    y = parquet.read_table("y.parquet")
    assert y.column_names == ["a", "b", "year", "scale", "country"]
    for name in ("a", "year"):
        x = table[name].to_numpy()
        assert y[name].to_numpy() == pytest.approx((x - x.mean()) / x.std(), abs=1e-9)
    assert y["scale"].to_pylist() == table["scale"].to_pylist()
    assert set(y["country"].to_pylist()) == {"dé"}


def test_patterns(folder):
    write(folder / "data")
    assert bnstream.fit("data", columns=["scale", "[ab]", "year"]).names == ("scale", "a", "b", "year")
    assert bnstream.fit("data", columns=["year", "a", "b"], exclude=["year", "a"]).names == ("b",)


def test_embeddings(folder):
    path = folder / "data" / "year=3" / "x.parquet"
    path.parent.mkdir(parents=True)
    parquet.write_table(pa.table({"e": pa.array([[1.0, 2.0], [3.0, 4.0]]), "x": [1.0, 2.0]}), path)
    m = bnstream.fit("data", columns=["year", "e", "x"])
    assert m.names == ("year", "e[0]", "e[1]", "x")
    assert m.mean.tolist() == [3, 2, 3, 1.5]


def test_resume(folder):
    write(folder / "data")
    calls = []

    def stop(now):
        calls.append(now)
        if len(calls) == 5:
            raise KeyboardInterrupt

    whole = bnstream.fit("data", columns=["year", "a"])
    with pytest.raises(KeyboardInterrupt):
        bnstream.fit("data", "out.npz", columns=["year", "a"], progress=stop)
    assert bnstream.fit("data", "out.npz", columns=["year", "a"], resume=True) == whole


def test_the_name_of_the_folder_counts(folder):
    """As in Spark, where a file has the same column."""
    path = folder / "other" / "year=7" / "x.csv"
    path.parent.mkdir(parents=True)
    path.write_text("year,a\n1,2\n3,4\n")
    assert bnstream.fit("other", columns=["year", "a"]).mean.tolist() == [7, 3]
    assert bnstream.fit("other").mean.tolist() == [7, 3]
    assert bnstream.fit("other", weights="year").mean.tolist() == [3]


def test_missing_values(folder):
    for key, value in (("__HIVE_DEFAULT_PARTITION__", 1), ("4", 2)):
        (folder / "data" / f"key={key}").mkdir(parents=True)
        (folder / "data" / f"key={key}" / "x.csv").write_text(f"a\n{value}\n")
    m = bnstream.fit("data", columns=["key", "a"], nan_policy="omit")
    assert (m.n.tolist(), m.mean.tolist()) == ([1, 2], [4, 1.5])
    with pytest.raises(bnstream.SourceError, match="column 'key' has 1 missing values"):
        bnstream.fit("data", columns=["key", "a"])


@pytest.mark.parametrize(("columns", "message"), [
    (["country", "a"], r"part.parquet: 'country', in the name of its folder, holds text, such as 'dé'; select numeric"),
    (["year"], r"part.parquet: 'year' exists only in the names of folders; add a column of the files with columns="),
    (["month", "a"], r"part.parquet has no column 'month'; its columns are a, b"),
])
def test_what_is_refused(folder, columns, message):
    write(folder / "data")
    with pytest.raises(bnstream.SourceError, match=message):
        bnstream.fit("data", columns=columns)


def test_elsewhere_and_in_the_command(folder):
    fsspec = pytest.importorskip("fsspec")
    write(folder / "data")
    fs = fsspec.filesystem("memory")
    fs.put("data", "/hive", recursive=True)
    done = main("fit", "memory://hive", "-o", "out.npz", "--columns", "a,year")
    assert done.returncode == 0, done.stderr
    assert bnstream.load("out.npz") == bnstream.fit("data", columns=["a", "year"])
    fs.rm("/hive", recursive=True)
