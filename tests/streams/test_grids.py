"""Arrays that are read by slices: whatever the library and the chunks, the statistics are those of the values."""

import json
import math
import shutil
import sys
from fractions import Fraction
from itertools import pairwise

import numpy as np
import pytest
from support.arrays import normal
from support.command import main
from support.memory import measured
from support.oracle import assert_within, exact_states

import bnstream
from bnstream import SourceError, apply, fit
from bnstream.streams.sources.arrays import blocks
from bnstream.streams.sources.arrays.blocks import spans_of, steps

h5py = pytest.importorskip("h5py", minversion="3.12")
xr = pytest.importorskip("xarray", minversion="2025.3")
zarr = pytest.importorskip("zarr", minversion="3.0.8")
da = pytest.importorskip("dask.array")
pytest.importorskip("h5netcdf")

X = normal((60, 12, 5)) * np.arange(1, 6) + 1e4
T = (normal((40, 3, 10, 8), 1) * 10 + 280).astype(np.float32)
P = normal((40, 10, 8), 2) * 100 + 1e5
DS = xr.Dataset({"p": (("time", "lat", "lon"), P), "t": (("time", "level", "lat", "lon"), T)},
                coords={"time": np.datetime64("2020-01-01T00") + np.arange(40) * np.timedelta64(6, "h"),
                        "level": [500, 700, 850], "lat": np.linspace(-90, 90, 10)})
HORIZONTAL = ("time", "lat", "lon")
NAMES = ("p", "t[level=500]", "t[level=700]", "t[level=850]")
COSINES = np.cos(np.deg2rad(DS.lat))


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """An empty working folder. Blocks are small, so that there are many, and hold several chunks each."""
    monkeypatch.chdir(tmp_path)
    for name in ("BLOCK_BYTES", "STEP_BYTES", "MOST_BYTES"):
        monkeypatch.setattr(blocks, name, 4000)
    return tmp_path


def check(m, parts, names=None):
    """Compare with the exact states of the values of each channel."""
    states = [exact_states(np.asarray(part).reshape(-1, 1), 0) for part in parts]
    for i, state in enumerate(states):
        assert_within(m.mean[i:i + 1], m.var()[i:i + 1], state)
    assert m.n.tolist() == [np.size(part) for part in parts]
    assert m.names == names


def written_h5(x, path="x.h5", key="x", chunks=(7, 5, 2)):
    with h5py.File(path, "a") as file:
        file.create_dataset(key, data=x, chunks=chunks, compression=None if chunks is None else 1)
    return path


def written_zarr(x, path="x.zarr", chunks=(7, 5, 2), **options):
    array = zarr.create_array(path, shape=x.shape, chunks=chunks, dtype=x.dtype, **options)
    array[...] = x
    return path


def written_dataset(kind, ds=DS):
    """DS as a file of a kind, or as an object that is read by slices."""
    if kind == "zarr":
        ds.to_zarr("ds.zarr", consolidated=False, encoding={"t": {"chunks": (7, 1, 4, 8)}, "p": {"chunks": (6, 10, 3)}})
        return "ds.zarr"
    if kind == "zarr 2":
        ds.to_zarr("ds.zarr", consolidated=False, zarr_format=2)
        return "ds.zarr"
    if kind == "nc":
        ds.to_netcdf("ds.nc", engine="h5netcdf", encoding={"t": {"chunksizes": (7, 1, 4, 8)}})
        return "ds.nc"
    if kind == "nc 3":
        pytest.importorskip("scipy")
        ds.to_netcdf("ds.cdf", engine="scipy")
        return "ds.cdf"
    if kind == "open":
        return xr.open_dataset(written_dataset("nc", ds))
    return ds.chunk({"time": 9, "level": 2}) if kind == "dask" else ds


ARRAYS = {
    "h5py": lambda x: h5py.File(written_h5(x))["x"],
    "h5py, contiguous": lambda x: h5py.File(written_h5(x, chunks=None))["x"],
    "zarr": lambda x: zarr.open_array(written_zarr(x), mode="r"),
    "zarr, sharded": lambda x: zarr.open_array(written_zarr(x, shards=(14, 10, 4)), mode="r"),
    "zarr 2": lambda x: zarr.open_array(written_zarr(x, zarr_format=2), mode="r"),
    "dask": lambda x: da.from_array(x, chunks=((20, 1, 39), 5, (2, 3))),
    ".h5": written_h5,
    ".zarr": written_zarr,
    "Variable": lambda x: xr.Variable(("a", "b", "c"), x),
}


@pytest.mark.parametrize("kind", ARRAYS)
def test_arrays(kind, folder):
    source = ARRAYS[kind](X)
    expected = fit(X)
    check(fit(source), np.moveaxis(X, -1, 0))
    assert fit(source).axis == expected.axis == (0, 1)
    check(fit(source, channel_axis=0), X)
    check(fit(source, channel_axis=-2), np.moveaxis(X, 1, 0))
    check(fit(source, columns=[4, 1]), [X[..., 4], X[..., 1]], ("4", "1"))
    check(fit(source, chunk_rows=4), np.moveaxis(X, -1, 0))
    assert fit(source, exact=True) == fit(X, exact=True)
    assert apply(fit(source), source, "y.npy") == 60
    np.testing.assert_array_equal(np.load("y.npy"), bnstream.normalize(X, fit(source).mean, fit(source).var()))


@pytest.mark.parametrize("kind", ["zarr", "zarr 2", "nc", "nc 3", "open", "dask", "in memory"])
def test_datasets(kind, folder):
    source = written_dataset(kind)
    check(fit(source), [P, T], ("p", "t"))
    check(fit(source, dim=HORIZONTAL), [P, *np.moveaxis(T, 1, 0)], NAMES)
    check(fit(source, dim=["time", "lat", "lon", "level"], variables="t"), [T], ("t",))
    m = fit(source, dim="time", variables=["p"])
    check(m, np.moveaxis(P.reshape(40, -1), 1, 0), m.names)
    assert m.names[:2] == ("p[lat=-90.0,lon=0]", "p[lat=-90.0,lon=1]")
    assert fit(source, dim=HORIZONTAL, exact=True) == fit(DS, dim=HORIZONTAL, exact=True)
    diffs = [np.diff(x.astype(float), axis=0) for x in (P, *np.moveaxis(T, 1, 0))]
    check(fit(source, dim=HORIZONTAL, diff="time"), diffs, NAMES)
    check(fit(source, diff="lat"), [np.diff(P, axis=1), np.diff(T.astype(float), axis=2)], ("p", "t"))
    m = fit(source, dim=HORIZONTAL, weights=COSINES)
    weighted = DS.astype(float).weighted(COSINES)
    np.testing.assert_allclose(m.mean, [weighted.mean(HORIZONTAL).p, *weighted.mean(HORIZONTAL).t], rtol=1e-13)
    np.testing.assert_allclose(m.std(), [weighted.std(HORIZONTAL).p, *weighted.std(HORIZONTAL).t], rtol=1e-11)


def test_data_array_of_two_axes():
    """It is not taken for an Arrow table of its coordinates."""
    a = xr.DataArray(np.arange(12.0).reshape(4, 3), dims=("time", "channel"), name="v",
                     coords={"time": np.arange(4) * 100.0, "channel": ["u", "v", "w"]})
    for source in (a, a.chunk(), a.transpose("channel", "time").transpose()):
        check(fit(source), a.values.T, ("u", "v", "w"))
        check(fit(source, channel_axis=0), a.values, ("0.0", "100.0", "200.0", "300.0"))
        check(fit(source, columns=["w", "u"]), a.values.T[[2, 0]], ("w", "u"))
    check(fit(a.drop_vars("channel")), a.values.T)
    check(fit(a.variable), a.values.T)
    check(fit(a, dim="time"), a.values.T, ("v[channel=u]", "v[channel=v]", "v[channel=w]"))
    check(fit(a, dim=("time", "channel")), [a.values], ("v",))
    check(fit(a.rename(None), dim=("time", "channel")), [a.values])
    check(fit(a[:, 0]), [a.values[:, 0]], ("v",))
    assert bnstream.Moments().update(a) == bnstream.Moments().update(a.values)


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_items(order, folder):
    """Arrays of other chunks follow one another; a list is read by several threads, an iterable by one."""
    items = [ARRAYS["h5py"](X), ARRAYS["zarr"](X + 1)]
    parts = [np.concatenate([X[..., c], X[..., c] + 1]) for c in range(5)]
    for source in ([items[i] for i in order], (items[i] for i in order)):
        check(fit(source), parts)
    check(fit([DS, DS.chunk({"level": 1, "lat": 3})], dim=HORIZONTAL),
          [np.concatenate([x, x]) for x in (P, *np.moveaxis(T, 1, 0))], NAMES)
    check(fit(iter([DS, DS.chunk({"level": 1})]), dim=HORIZONTAL),
          [np.concatenate([x, x]) for x in (P, *np.moveaxis(T, 1, 0))], NAMES)


def test_each_chunk_is_read_once(folder, monkeypatch):
    """In blocks of whole chunks, also where there are more channels than a block has."""
    store = zarr.storage.MemoryStore()
    array = zarr.create_array(store, shape=X.shape, chunks=(7, 5, 2), dtype="f8")
    array[...] = X
    reads = []
    get = zarr.storage.MemoryStore.get

    async def counted(self, key, *arguments, **options):
        reads.append(key)
        return await get(self, key, *arguments, **options)

    monkeypatch.setattr(zarr.storage.MemoryStore, "get", counted)
    for axis in range(3):
        reads.clear()
        fit(array, channel_axis=axis)
        keys = [key for key in reads if key.startswith("c/")]
        assert len(keys) == len(set(keys)) == math.prod(-(-n // c) for n, c in zip(X.shape, (7, 5, 2), strict=True))


def test_files_of_a_series(folder):
    for i, part in enumerate((DS.isel(time=slice(0, 25)), DS.isel(time=slice(25, 40)))):
        part.to_netcdf(f"{i}.nc", engine="h5netcdf", encoding={"t": {"chunksizes": (5 + i, 1 + i, 10, 8)}})
    check(fit("*.nc", dim=HORIZONTAL), [P, *np.moveaxis(T, 1, 0)], NAMES)
    with pytest.raises(SourceError, match=r"diff='time' \(--diff\) would leave out the steps from one of 2 sources"):
        fit("*.nc", dim=HORIZONTAL, diff="time")
    DS.isel(level=[2, 1, 0]).to_netcdf("2.nc", engine="h5netcdf")
    with pytest.raises(SourceError, match=r"2\.nc has its channels in another order than 0\.nc"):
        fit("*.nc", dim=HORIZONTAL)


def test_stores_in_a_folder(folder):
    """A Zarr store is one source, whatever its name, and its chunks are no files of data."""
    (folder / "data").mkdir()
    for name in ("a.zarr", "b"):
        written_zarr(X, f"data/{name}")
    for source in ("data", "data/*", ["data/a.zarr", "data/b"]):
        assert fit(source).n[0] == 2 * 60 * 12
    check(fit("data/b"), np.moveaxis(X, -1, 0))


def test_missing_values_and_packing(folder):
    """xarray unpacks what CF says, and makes missing values NaN."""
    x = np.round(P[:, 0, 0] / 10) * 10.0
    x[3] = np.nan
    ds = xr.Dataset({"x": ("time", x)})
    ds.to_netcdf("x.nc", engine="h5netcdf", encoding={"x": {"dtype": "i2", "scale_factor": 10.0, "add_offset": 1e5,
                                                            "_FillValue": -9999}})
    with pytest.raises(SourceError, match="NaN or inf"):
        fit("x.nc")
    m = fit("x.nc", nan_policy="omit")
    assert m.n == [39]
    assert m.mean[0] == pytest.approx(np.nanmean(x), rel=1e-14)
    message = r"x\.nc\['x'\] has the attribute scale_factor, .* format='nc' \(--format nc\)"
    with pytest.raises(SourceError, match=message):
        fit("x.nc", format="h5", variables="x")
    (folder / "x.nc").rename("x.h5")
    assert fit("x.h5", nan_policy="omit", format="nc") == m


def test_steps_of_integers():
    """They are rounded once, and do not wrap."""
    info = np.iinfo(np.int64)
    x = np.array([info.min, info.max, 2**53, 2**53 + 1, -5])
    expected = [float(Fraction(int(b)) - int(a)) for a, b in pairwise(x)]
    assert steps(x, 0).tolist() == expected
    assert steps(np.array([[200], [1]], np.uint8), 0).tolist() == [[-199.0]]
    assert steps(np.array([2**64 - 1, 0], np.uint64), 0).tolist() == [-(2.0**64)]
    m = fit(xr.DataArray(x, dims="t", name="x"), diff="t")
    assert m.mean[0] == pytest.approx(np.mean(expected))


def test_spans():
    assert spans_of(10, 4, 1) == [(0, 4), (4, 8), (8, 10)]
    assert spans_of(10, 4, 2) == [(0, 8), (8, 10)]
    assert spans_of(10, (1, 2, 3, 4), 2) == [(0, 3), (3, 10)]
    assert spans_of(9, (1, 2, 3, 4), 1) == [(0, 1), (1, 3), (3, 6), (6, 9)]     # the steps between 10 positions
    assert spans_of(0, 4, 1) == []


def test_values_of_one_position():
    """Variables without any of the dimensions, or of no dimension, have one value a channel."""
    ds = xr.Dataset({"scalar": 5, "x": ("q", [1.0, 2.0]), "t": ("time", [1.0, 3.0])})
    m = fit(ds, dim="time")
    assert m.names == ("scalar", "x[q=0]", "x[q=1]", "t")
    assert (m.n.tolist(), m.mean.tolist()) == ([1, 1, 1, 2], [5, 1, 2, 2])


def test_weights_by_name(folder):
    ds = DS.assign(area=COSINES)
    expected = fit(DS, weights=COSINES)
    for source in (ds, ds.set_coords("area"), written_dataset("zarr", ds)):
        m = fit(source, weights="area")
        assert (m.mean, m.var()) == (pytest.approx(expected.mean, rel=1e-15), pytest.approx(expected.var(), rel=1e-13))
    assert main("fit", "ds.zarr", "-o", "s.npz", "--weights", "area").returncode == 0
    assert bnstream.load("s.npz") == m


class StopError(Exception):
    pass


@pytest.mark.parametrize("source", ["zarr", "dask", "nc"])
@pytest.mark.parametrize("exact", [False, True])
@pytest.mark.parametrize("options", [{"dim": HORIZONTAL}, {"dim": "time"}, {"dim": HORIZONTAL, "diff": "time"}],
                         ids=str)
def test_resume(source, exact, options, folder):
    """A pass that ends after any block and is resumed has the bits of one that does not."""
    options = {"exact": exact, **options}
    source = written_dataset(source)
    fit(source, "whole.npz", **options)
    seen = []
    fit(source, progress=seen.append, **options)
    assert len(seen) > 10
    assert seen[-1].share == 1.0
    for stop in (1, len(seen) // 2, len(seen) - 1):
        calls = []

        def end(now, calls=calls, stop=stop):
            calls.append(now)
            if len(calls) == stop:
                raise StopError

        with pytest.raises(StopError):
            fit(source, "part.npz", progress=end, force=True, **options)
        fit(source, "part.npz", resume=True, force=True, **options)
        assert (folder / "part.npz").read_bytes() == (folder / "whole.npz").read_bytes()


@pytest.mark.parametrize("n_threads", [1, 2, 5])
def test_n_threads_agnosticism(n_threads, folder):
    source = written_dataset("zarr")
    assert fit(source, dim=HORIZONTAL, n_threads=n_threads) == fit(source, dim=HORIZONTAL, n_threads=3)


def test_resume_asks_for_the_same_data(folder):
    def end(now):
        raise StopError

    for first, second in ((DS, DS.isel(time=slice(1, None))), (DS, DS.chunk({"time": 3}))):
        with pytest.raises(StopError):
            fit(first, "s.npz", progress=end, restart=True)
        with pytest.raises(SourceError, match="was made from"):
            fit(second, "s.npz", resume=True)
    with pytest.raises(StopError):
        fit(DS, "s.npz", progress=end, restart=True, weights=COSINES)
    with pytest.raises(SourceError, match="was made from"):
        fit(DS, "s.npz", resume=True, weights=COSINES**2)


def test_a_file_that_changes(folder, monkeypatch):
    path = written_dataset("zarr")

    def touch(now):
        with (folder / "ds.zarr" / "more").open("w") as file:
            file.write("x")

    with pytest.raises(SourceError, match=r"ds\.zarr changed while it was read"):
        fit(path, progress=touch)


def test_arrays_in_groups(folder):
    written_h5(X, key="a/x")
    written_h5(X + 1, key="b")
    check(fit("x.h5", variables="/a/x"), np.moveaxis(X, -1, 0))
    shutil.copy("x.h5", "x.h5ad")       # of AnnData
    check(fit("x.h5ad", variables="/a/x"), np.moveaxis(X, -1, 0))
    check(fit("x.h5", variables=["b", "a/x"]), [*np.moveaxis(X + 1, -1, 0), *np.moveaxis(X, -1, 0)],
          (*(f"b[{i}]" for i in range(5)), *(f"a/x[{i}]" for i in range(5))))
    group = zarr.open_group("g.zarr", mode="w")
    for key, x in (("a/x", X), ("b", X + 1)):
        group.create_array(key, shape=x.shape, dtype=x.dtype)[...] = x
    check(fit("g.zarr", variables="a/x"), np.moveaxis(X, -1, 0))
    message = r"holds several arrays; select some with variables= or --variables: .*a/x \("
    for path in ("x.h5", "g.zarr"):
        with pytest.raises(SourceError, match=message):
            fit(path)


def test_arrays_of_one_axis_are_channels(folder):
    for i, key in enumerate("uv"):
        written_h5(X[:, i, 0], key=key, chunks=(7,))
    with h5py.File("x.h5", "a") as file:
        file["words"] = ["a", "b"]
    check(fit("x.h5"), [X[:, 0, 0], X[:, 1, 0]], ("u", "v"))
    check(fit("x.h5", variables="v"), [X[:, 1, 0]])


def test_dimensions_of_hdf5_and_zarr(folder):
    with h5py.File("x.h5", "w") as file:
        file["x"] = X
        for dim, name in zip(file["x"].dims, "abc", strict=True):
            dim.label = name
    written_zarr(X, dimension_names=("a", "b", "c"))
    for path in ("x.h5", "x.zarr"):
        m = fit(path, dim=("a", "b"))
        assert m.names[-1].endswith("[c=4]")
        check(m, np.moveaxis(X, -1, 0), m.names)


@pytest.mark.parametrize(("options", "message"), [
    ({"variables": ["z"]}, "the Dataset has no variable 'z'; its variables are p, t"),
    ({"variables": []}, r"variables \(--variables\) must be one or more different names, got"),
    ({"dim": "lev"}, r"the Dataset has no dimension 'lev', got dim=\['lev'\]; its dimensions are time, lat, lon, l"),
    ({"diff": "level"}, "diff='level' asks for steps along a dimension that 'p' lacks; select the other variables"),
    ({"diff": "time", "dim": "lat"}, "the channels of the DataArray 'p' are along 'time', so steps along it have no"),
    ({"channel_axis": 0}, "what is left of its dimensions; leave out channel_axis=0"),
    ({"columns": ["p"]}, "select variables with variables="),
    ({"format": "nc"}, "the Dataset takes no format"),
    ({"weights": COSINES, "dim": "time"}, "the weights have the dimension 'lat', along which weights cannot vary"),
    ({"weights": COSINES, "diff": "lat"}, "the weights have the dimension 'lat', along which steps are taken"),
    ({"weights": COSINES[1:]}, "the weights have the dimension 'lat', of which they have 9 and the .* 'p' has 10"),
    ({"weights": COSINES.assign_coords(lat=range(10))}, "have the dimension 'lat', whose coordinate differs"),
    ({"weights": DS.level}, "the weights have the dimension 'level', which the DataArray 'p' lacks"),
    ({"weights": "area"}, "the Dataset has no variable 'area', which weights="),
])
def test_refused_options(options, message):
    with pytest.raises(SourceError, match=message):
        fit(DS, **options)


@pytest.mark.parametrize(("source", "options", "error", "message"), [
    (DS, {"dim": 3}, TypeError, r"dim \(--dim\) must be a name or a sequence of names, got 3"),
    (DS, {"diff": ["time", "lat"]}, TypeError, "diff must be the name of one dimension"),
    (DS.drop_vars(["p", "t"]), {}, SourceError, "the Dataset has no variables"),
    (DS.assign(w=("time", ["a"] * 40)), {}, SourceError, r"'w' has dtype .*; select numeric variables with .*: p,t"),
    (xr.Dataset({"w": DS.time.variable}), {}, SourceError, "'w' has dtype datetime64.* none is numeric"),
    (DS.p[:, :0], {"dim": "time"}, SourceError, r"has no channels, got shape \(40, 0, 8\)"),
    (DS.p[:0], {"dim": "time"}, SourceError, "no rows; there is nothing to compute statistics of"),
    (DS.p[:1], {"diff": "time"}, SourceError, "no rows; there is nothing to compute statistics of"),
    (DS.p, {"diff": "lon"}, SourceError, "the channels of the DataArray 'p' are along 'lon'"),
    (DS.p.astype(complex), {}, SourceError, "has dtype complex128; expected real numbers"),
    (DS.p, {"channel_axis": 3}, SourceError, "has 3 axes, got channel_axis=3; expected -3 to 2"),
    (DS.p.data, {"weights": COSINES}, SourceError, "holds arrays, but weights="),
    (da.ones((4, 3)), {"dim": "time"}, SourceError, "takes no dim"),
    (da.ones(9, chunks=3)[da.ones(9, chunks=3) > 0], {}, SourceError, r"unknown sizes; x\.compute_chunk_sizes\(\)"),
    ([da.ones((4, 3)), np.ones((4, 3))], {}, SourceError, "is read by slices, and item 1 .* is in memory"),
    ([np.ones((4, 3)), da.ones((4, 3))], {}, SourceError, "is read by slices, and item 0 .* is in memory"),
])
def test_refused_sources(source, options, error, message):
    with pytest.raises(error, match=message):
        fit(source, **options)


def test_refused_files(folder):
    (folder / "x.h5").write_bytes(b"nothing")
    (folder / "x.nc").write_bytes(b"nothing")
    (folder / "y.zarr").mkdir()
    with h5py.File("e.h5", "w"):
        pass
    for path, message in (("x.h5", r"x\.h5: "), ("x.nc", r"x\.nc is not a NetCDF file"), ("y.zarr", "no file"),
                          ("e.h5", "holds no arrays")):
        with pytest.raises(SourceError, match=message):
            fit(path)
    written_h5(X, path="e.h5")
    with pytest.raises(SourceError, match=r"e\.h5 has no array 'y'; its arrays are x"):
        fit("e.h5", variables="y")
    with pytest.raises(SourceError, match=r"e\.h5\['x'\] has no named dimensions|takes no dim"):
        fit("e.h5", dim="time")


def test_apply(folder):
    state = fit(DS.t, channel_axis=1)
    apply(state, DS.t, "y.npy")
    mean, var = state.mean[:, None, None], state.var()[:, None, None]
    np.testing.assert_allclose(np.load("y.npy"), (T - mean) / np.sqrt(var), rtol=2e-6, atol=1e-6)
    levels = DS.t.isel(lon=0, lat=0).chunk({"time": 7})
    apply(fit(levels), levels, "z.npy")
    assert abs(np.load("z.npy").mean(axis=0)).max() < 1e-6
    with pytest.raises(SourceError, match=r"the Dataset has no rows to write; .* \.bnstream\.normalize"):
        apply(fit(DS), DS, "n.npy")
    assert not (folder / "n.npy").exists()


def test_apply_needs_rows_that_fit_in_memory(folder, monkeypatch):
    monkeypatch.setattr("bnstream.streams.sources.arrays.grid.MOST_BAND_BYTES", 1000)
    with pytest.raises(SourceError, match="has chunks of 7 rows, which take 0 MiB with all columns; rechunk it"):
        apply(fit(X), written_zarr(X), "y.npy")


def test_command(folder):
    written_dataset("zarr")
    assert main("fit", "ds.zarr", "-o", "s.npz", "--variables", "t,p", "--dim", "time,lat", "--dim", "lon",
                "--diff", "time").returncode == 0
    assert bnstream.load("s.npz") == fit("ds.zarr", variables=["t", "p"], dim=HORIZONTAL, diff="time")
    shown = json.loads(main("show", "s.npz", "--json").stdout)
    assert "t[level=500]" in json.dumps(shown)
    failed = main("fit", "ds.zarr", "-o", "t.npz", "--dim", "step")
    assert (failed.returncode, failed.stderr.count("\n")) == (1, 1)
    assert "ds.zarr has no dimension 'step'" in failed.stderr


MEMORY = """
import os, tempfile
import h5py, zarr, xarray as xr
folder = tempfile.mkdtemp()
x = np.ones((1000, 10, 10), np.float32)
z = zarr.create_array(folder + "/x.zarr", shape=(4000, 180, 180), chunks=x.shape, dtype="f4",
                      dimension_names=("t", "a", "b"))
with h5py.File(folder + "/x.h5", "w") as file:
    h = file.create_dataset("x", z.shape, "f4", chunks=x.shape)
    for t in range(0, 4000, 1000):
        z[t:t + 1000] = np.ones((1000, 180, 180), np.float32)
        h[t:t + 1000] = np.ones((1000, 180, 180), np.float32)
bnstream.fit(folder + "/x.zarr", dim=("t", "a"), chunk_rows=1000)
bnstream.fit(folder + "/x.h5")
"""


@pytest.mark.skipif(sys.platform == "win32", reason="no peak of resident memory here")
def test_memory():
    """Much less than the 518 MB of the arrays, whichever axes are kept."""
    works = {
        "Zarr, a map kept": 'bnstream.fit(folder + "/x.zarr", dim="t")',
        "Zarr, whole": 'bnstream.fit(folder + "/x.zarr", dim=("t", "a", "b"))',
        "HDF5": 'bnstream.fit(folder + "/x.h5")',
        "zarr.Array": 'bnstream.fit(z)',
    }
    measure = "before = start(); {}; print(peak() - before)"
    found = measured(MEMORY, {name: measure.format(work) for name, work in works.items()})
    for name, (extra,) in found.items():
        assert extra < 100 << 20, f"{name}: {extra / 2**20:.0f} MiB"


def test_what_is_missing(folder, monkeypatch):
    """The message names the extra."""
    written_zarr(X)
    written_h5(X)
    DS.to_netcdf("x.nc", engine="h5netcdf")
    for path, package, extra in (("x.zarr", "zarr", "zarr"), ("x.h5", "h5py", "hdf5"), ("x.nc", "xarray", "xarray")):
        with monkeypatch.context() as patch:
            patch.setitem(sys.modules, package, None)
            with pytest.raises(ModuleNotFoundError, match=rf"needs {package}, which .*bnstream\[{extra}\]"):
                fit(path)


def test_the_only_channel_of_one_axis_by_its_index(folder):
    x = np.arange(6.0)
    with h5py.File("x.h5", "w") as file:
        file["x"] = x
    for source in ("x.h5", zarr.array(x)):
        assert fit(source, columns=[0]).mean.tolist() == [2.5]
        with pytest.raises(SourceError, match="has 1 channel, got column 1"):
            fit(source, columns=[1])


def test_a_null_data_space_is_no_array(folder):
    with h5py.File("x.h5", "w") as file:
        file["nothing"] = h5py.Empty("f4")
        file["x"] = X
    assert fit("x.h5").n.tolist() == [60 * 12] * 5
    with pytest.raises(SourceError, match=r"^x.h5 has no array 'nothing'; its arrays are x$"):
        fit("x.h5", variables="nothing")


def test_groups_are_no_arrays(folder):
    written_h5(X)
    with h5py.File("x.h5") as file, pytest.raises(TypeError, match=r"^got the File '/', which holds arrays; give one"):
        fit(file)
    with pytest.raises(TypeError, match=r"^got the Group '/', which holds arrays; give one of them, or the path"):
        fit(zarr.group())
