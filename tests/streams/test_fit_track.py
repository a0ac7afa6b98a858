"""fit finds min, max, missing values, skewness and kurtosis in the same pass."""

import json
import shutil

import numpy as np
import pytest
from support.command import invoke, main
from support.passes import Stop, stop_after

import bnstream
from bnstream import Moments, fit, load
from bnstream.core.moments import tracked_of
from bnstream.core.tracking import OF_KERNELS as NAMES

pa = pytest.importorskip("pyarrow", minversion="17")
parquet = pytest.importorskip("pyarrow.parquet")
pd = pytest.importorskip("pandas")
stats = pytest.importorskip("scipy.stats")

EXACT = ("min", "max", "missing")


@pytest.fixture
def table(tmp_path, monkeypatch):
    """Columns with nulls, with NaN, without either, of integers, and all null in the first half."""
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    a, b = rng.normal(5, 2, size=(2, 1000))
    b[::9] = np.nan
    late = pa.array(rng.normal(size=1000), mask=np.arange(1000) < 600)
    made = pa.table({"a": pa.array(a, mask=np.arange(1000) % 7 == 0), "b": b, "c": rng.gamma(2, size=1000),
                     "d": pa.array(np.arange(1000), mask=np.arange(1000) % 3 == 1), "late": late})
    parquet.write_table(made, "t.parquet", row_group_size=100)
    return made.to_pandas()


@pytest.mark.parametrize("exact", [False, True])
def test_a_table(table, exact):
    m = fit("t.parquet", nan_policy="omit", track=EXACT if exact else NAMES, exact=exact, chunk_rows=77)
    assert m.missing.tolist() == table.isna().sum().tolist()
    assert m.min.tolist() == table.min().tolist()
    assert m.max.tolist() == table.max().tolist()
    assert (m.n + m.missing).tolist() == [1000] * 5
    if not exact:
        np.testing.assert_allclose(m.skewness(), stats.skew(table, nan_policy="omit"), rtol=1e-12, atol=1e-13)
        np.testing.assert_allclose(m.kurtosis(), stats.kurtosis(table, nan_policy="omit"), rtol=1e-11)


def test_missing_is_tracked_by_default_where_it_may_be(table):
    assert fit("t.parquet", nan_policy="omit").missing.tolist() == table.isna().sum().tolist()
    assert fit("t.parquet", nan_policy="propagate").missing.tolist() == table.isna().sum().tolist()
    assert fit("t.parquet", columns=["c"]).track == ()
    assert fit("t.parquet", nan_policy="omit", track=()).track == ()


@pytest.mark.parametrize("exact", [False, True])
def test_weights(table, exact):
    weights = np.arange(1000) % 4
    parquet.write_table(pa.table({**{name: pa.array(table[name], from_pandas=True) for name in table},
                                  "w": weights}), "w.parquet")
    m = fit("w.parquet", weights="w", nan_policy="omit", track=EXACT, exact=exact)
    used = table[weights > 0]
    assert m.min.tolist() == used.min().tolist()
    factor = weights[weights > 0][:, None] if exact else 1
    assert m.missing.tolist() == (used.isna() * factor).sum().tolist()


def test_embeddings():
    lists = pa.array([[1.0, None], None, [3.0, 4.0]], pa.list_(pa.float64(), 2))
    m = fit(pa.table({"e": lists}), nan_policy="omit", track=EXACT)
    assert (m.missing.tolist(), m.max.tolist()) == ([1, 2], [3.0, 4.0])


@pytest.mark.parametrize("nan_policy", ["omit", "propagate"])
def test_arrays_and_iterables(nan_policy):
    x = np.random.default_rng(0).normal(size=(500, 4)).astype(np.float32)
    x[::5, 2] = np.nan
    whole = Moments(nan_policy=nan_policy, track=NAMES).update(x)
    m = fit(x, nan_policy=nan_policy, track=NAMES)
    assert m == whole
    m = fit((x[i:i + 100] for i in range(0, 500, 100)), nan_policy=nan_policy, track=("min", "missing"))
    assert m.missing.tolist() == whole.missing.tolist() == [0, 0, 100, 0]
    np.testing.assert_array_equal(m.min, whole.min)


def test_blocks_of_grids():
    xr = pytest.importorskip("xarray")
    pytest.importorskip("dask")
    t = xr.DataArray(np.random.default_rng(0).normal(size=(20, 6, 8)), dims=("time", "y", "x"), name="t")
    t[3, 2, 1] = np.nan
    m = fit(t.chunk({"time": 5, "y": 3, "x": 4}), dim="time", nan_policy="omit", track=EXACT)
    np.testing.assert_array_equal(m.min, t.min("time").values.ravel())
    assert m.missing.sum() == 1
    assert m.missing[2 * 8 + 1] == 1


def test_an_interrupted_pass_keeps_every_bit(table):
    files = [f"{i}.parquet" for i in range(5)]
    for i, file in enumerate(files):
        parquet.write_table(parquet.read_table("t.parquet")[200 * i:200 * i + 200], file)
    whole = fit(files, nan_policy="omit", track=NAMES)
    with pytest.raises(Stop):
        fit(files, "m.npz", nan_policy="omit", track=NAMES, checkpoint_every=0, progress=stop_after(3))
    with pytest.raises(bnstream.SourceError, match="track"):
        fit(files, "m.npz", nan_policy="omit", resume=True)
    m = fit(files, "m.npz", nan_policy="omit", track=NAMES, resume=True)
    assert m == whole
    assert {k: v.tobytes() for k, v in tracked_of(m).items()} == {k: v.tobytes() for k, v in tracked_of(whole).items()}


def test_wrong_names():
    with pytest.raises(ValueError, match="track must be of 'min'"):
        fit(np.ones((3, 2)), track="median")


def test_the_command(table):
    done = invoke("fit", "t.parquet", "-o", "m.npz", "--nan", "omit", "--track", "min,max,skewness")
    assert done.exit_code == 0, done.output
    assert load("m.npz").track == ("min", "max", "skewness", "kurtosis")
    done = invoke("fit", "t.parquet", "-o", "n.npz", "--nan", "omit")
    shown = json.loads(invoke("show", "n.npz", "--json").output)
    assert [channel["missing"] for channel in shown["channels"]] == table.isna().sum().tolist()
    assert "missing" in invoke("show", "n.npz").output
    assert "missing" in invoke("show", "n.npz", "--csv").output.splitlines()[0]
    done = main("fit", "t.parquet", "-o", "m.npz", "--force", "--track", "median")
    assert done.returncode != 0
    assert "track must be of 'min', 'max', 'missing', 'skewness', 'kurtosis', 'quantiles', got 'median'" in done.stderr
    shutil.copy("n.npz", "same.npz")
    merged = invoke("merge", "n.npz", "same.npz", "-o", "both.npz")
    assert merged.exit_code == 0, merged.output
    assert load("both.npz").missing.tolist() == (2 * table.isna().sum()).tolist()
