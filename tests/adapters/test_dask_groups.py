"""bnstream.dask.grouped: chunks by group, merged in a tree."""

import numpy as np
import pytest
from support.arrays import normal

from bnstream import GroupedMoments, Moments

da = pytest.importorskip("dask.array")
dd = pytest.importorskip("dask.dataframe")
pd = pytest.importorskip("pandas")
from bnstream.dask import grouped  # noqa: E402

N = 500


def close(g, other):
    assert {*g} == {*other}
    for key, m in other.items():
        assert np.array_equal(g[key].n, m.n)
        np.testing.assert_allclose(g[key].mean, m.mean, rtol=1e-12, atol=1e-14)
        np.testing.assert_allclose(g[key].var(), m.var(), rtol=1e-12)


@pytest.mark.parametrize("chunks", [(100, 2), (7, 3), (500, 1)])
@pytest.mark.parametrize("keys", [np.arange(N) % 7 - 3, np.array(["a", "b", "c", "a"])[np.arange(N) % 4]])
def test_arrays(keys, chunks):
    x = normal((N, 3))
    lazy = da.from_array(x, chunks=chunks)
    found = [grouped(lazy, k).compute(scheduler=s) for k in (keys, da.from_array(keys, chunks=33))
             for s in ("sync", "threads")]
    close(found[0], GroupedMoments().update(x, keys))
    assert all(g == found[0] and list(g) == list(found[0]) for g in found)
    assert grouped(lazy, keys, exact=True).compute() == GroupedMoments(exact=True).update(x, keys)


@pytest.mark.parametrize("keys", [
    np.ma.masked_equal([1, 2, 0, 1, 5, 2], 0), pd.Series([1, 2, None, 1, 5, 2], dtype="Int64", name="k"),
    ["a", "b", float("nan"), "a", "c", "b"], pd.Categorical(["a", "b", None, "a", "c", "b"]),
    pd.Series([True, False, None], name="k").repeat(2).astype("boolean"), np.array([True, False] * 3)],
    ids=lambda keys: type(keys).__name__)
def test_keys_in_memory(keys):
    """They are those of GroupedMoments.update: missing ones, and their name."""
    x = normal((6, 3))
    g = grouped(da.from_array(x, chunks=(2, 3)), keys, missing_keys="keep").compute()
    expected = GroupedMoments(missing_keys="keep").update(x, keys)
    close(g, expected)
    assert g.key_names == expected.key_names
    assert g.kinds == expected.kinds


def test_images_and_unknown_chunks():
    x, keys = normal((40, 3, 8, 5)), np.arange(40) % 3
    lazy = da.from_array(x, chunks=(9, 2, 4, 5))
    close(grouped(lazy, keys, (0, 2, 3)).compute(), GroupedMoments((0, 2, 3)).update(x, keys))
    chosen = da.from_array(keys, chunks=9) > 0
    flat = da.from_array(x[:, 0, 0], chunks=(9, 5))
    close(grouped(flat[chosen], da.from_array(keys, chunks=9)[chosen]).compute(),
          GroupedMoments().update(x[keys > 0, 0, 0], keys[keys > 0]))


@pytest.mark.parametrize("by", ["carrier", ["carrier", "month"]])
def test_frames(by):
    rng = np.random.default_rng(0)
    frame = pd.DataFrame({"carrier": rng.choice(["AA", "UA"], N), "month": rng.integers(1, 4, N),
                          "delay": rng.normal(size=N), "distance": rng.integers(0, 9, N)})
    columns = ["delay", "distance"]
    g = grouped(dd.from_pandas(frame[columns + ([by] if isinstance(by, str) else by)], npartitions=11), by).compute()
    expected = frame.groupby(by)[columns]
    np.testing.assert_allclose(g.to_pandas().sort_index()[["delay_mean", "distance_mean"]], expected.mean(), rtol=1e-12)
    assert g.names == ("delay", "distance")
    assert g.to_pandas().index.names == ([by] if isinstance(by, str) else by)


def test_refused():
    x = da.ones((10, 2), chunks=5)
    with pytest.raises(ValueError, match=r"one key for each of the 10 rows of x along axis 0, got shape \(9,\)"):
        grouped(x, np.arange(9))
    with pytest.raises(ValueError, match="missing_keys must be"):
        grouped(x, np.arange(10), missing_keys="drop")
    with pytest.raises(TypeError, match="expected a dask array or dataframe, got ndarray"):
        grouped(np.ones((3, 2)), np.arange(3))
    bad = np.ones((10, 2))
    bad[7, 1] = np.nan
    with pytest.raises(ValueError, match=r"chunk \(1, 0\): group 7: NaN or inf in 1 of 2 channels"):
        grouped(da.from_array(bad, chunks=5), np.arange(10)).compute(scheduler="sync")
    frame = dd.from_pandas(pd.DataFrame({"a": [1.0], "b": ["x"]}), npartitions=1)
    with pytest.raises(ValueError, match="the dataframe has no column 'c' of keys; its columns are a, b"):
        grouped(frame, "c")
    with pytest.raises(TypeError, match="keys of a dataframe must be the names of columns, got int"):
        grouped(frame, 3)
    with pytest.raises(TypeError, match="expected columns of numbers, got 'b'"):
        grouped(frame, "a")
    with pytest.raises(ValueError, match=r"keys of a dataframe must name each column once, got \['b', 'b'\]"):
        grouped(frame, ["b", "b"])
    with pytest.raises(ValueError, match="keys of an array must be one column, got 2; make a dataframe"):
        grouped(x, [np.arange(10), np.arange(10)])


def test_one_chunk_is_an_update():
    x, keys = normal((N, 3)), np.arange(N) % 3
    g = grouped(da.from_array(x, chunks=-1), keys).compute()
    assert g[1] == Moments().update(x[keys == 1])
