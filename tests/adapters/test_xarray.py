"""The accessor of xarray: statistics with coordinates, and normalization by them, with and without Dask."""

import inspect

import numpy as np
import pytest
from support.arrays import normal
from support.examples import run_examples
from support.oracle import assert_within, exact_states
from support.processes import python

import bnstream

xr = pytest.importorskip("xarray", minversion="2025.3")
pytest.importorskip("h5netcdf")
pytest.importorskip("zarr", minversion="3.0.8")
dask = pytest.importorskip("dask")

from bnstream.xarray import STATISTICS, BnstreamAccessor  # noqa: E402

T = (normal((40, 3, 10, 8), 1) * 10 + 280).astype(np.float32)
P = normal((40, 10, 8), 2) * 100 + 1e5
DS = xr.Dataset({"t": (("time", "level", "lat", "lon"), T, {"units": "K", "long_name": "temperature"}),
                 "p": (("time", "lat", "lon"), P)},
                coords={"time": np.arange(40), "level": [500, 700, 850], "lat": np.linspace(-90, 90, 10), "height": 2.0,
                        "zone": ("lat", list("abcdefghij"))})
HORIZONTAL = ("time", "lat", "lon")
DATA = {"in memory": DS, "dask": DS.chunk({"time": 7, "level": 2, "lon": 3})}


@pytest.mark.parametrize("kind", DATA)
def test_moments(kind):
    stats = DATA[kind].bnstream.moments(dim=HORIZONTAL)
    assert (stats.t.dims, stats.p.dims) == (("statistic", "level"), ("statistic",))
    assert stats.statistic.values.tolist() == list(STATISTICS)
    assert set(stats.coords) == {"statistic", "level", "height"}
    assert stats.t.attrs == DS.t.attrs
    mean, var = stats.t.sel(statistic="mean").values, stats.t.sel(statistic="var").values
    assert_within(mean, var, exact_states(T, (0, 2, 3)))
    assert stats.t.sel(statistic="n").values.tolist() == [3200] * 3
    np.testing.assert_allclose(stats.t.sel(statistic="std") ** 2, var, rtol=1e-15)
    maps = DATA[kind].bnstream.moments(dim="time")
    assert maps.t.dims == ("statistic", "level", "lat", "lon")
    assert set(maps.coords) == {"statistic", "level", "lat", "height", "zone"}
    states = exact_states(T.reshape(40, -1), 0)
    assert_within(maps.t.sel(statistic="mean").values.ravel(), maps.t.sel(statistic="var").values.ravel(), states)


@pytest.mark.parametrize("kind", DATA)
def test_options(kind):
    """As xarray computes the same in float64."""
    data, wide = DATA[kind].bnstream, DS.astype(float)
    weights = np.cos(np.deg2rad(DS.lat)) * xr.DataArray(np.arange(8.0), dims="lon")
    found, expected = data.moments(HORIZONTAL, weights=weights), wide.weighted(weights)
    xr.testing.assert_allclose(found.sel(statistic="mean", drop=True), expected.mean(HORIZONTAL), rtol=1e-13)
    xr.testing.assert_allclose(found.sel(statistic="std", drop=True), expected.std(HORIZONTAL), rtol=1e-11)
    found, expected = data.moments(HORIZONTAL, diff="time"), wide.diff("time")
    xr.testing.assert_allclose(found.sel(statistic="mean", drop=True), expected.mean(HORIZONTAL), atol=1e-11)
    xr.testing.assert_allclose(found.sel(statistic="std", drop=True), expected.std(HORIZONTAL), rtol=1e-13)
    holes = DATA[kind].where(DS.lon != 3)
    with pytest.raises(ValueError, match="NaN or inf"):
        holes.bnstream.moments()
    found = holes.bnstream.moments(nan_policy="omit", n_threads=1)
    assert found.p.sel(statistic="n").item() == 40 * 10 * 7
    xr.testing.assert_allclose(found.sel(statistic="mean", drop=True), holes.astype(float).mean(), rtol=1e-13)
    assert data.moments(exact=True).identical(DS.chunk({"lat": 3}).bnstream.moments(exact=True))


@pytest.mark.parametrize("kind", DATA)
def test_normalize(kind):
    stats = DS.bnstream.moments(dim=HORIZONTAL)
    y = DATA[kind].bnstream.normalize(stats)
    assert (y.t.dtype, y.p.dtype) == ("float32", "float64")
    assert y.t.attrs == {"long_name": "temperature"}
    assert y.chunks == DATA[kind].chunks
    assert y.t.dims == DS.t.dims
    mean, var = (stats.t.sel(statistic=name).values[:, None, None] for name in ("mean", "var"))
    np.testing.assert_array_equal(y.t.values, bnstream.normalize(T, mean, var))
    np.testing.assert_array_equal(DATA[kind].bnstream.normalize(stats, eps=3.0).t.values,
                                  bnstream.normalize(T, mean, var, eps=3.0))
    flipped = DATA[kind].isel(level=[2, 0]).bnstream.normalize(stats)       # levels are matched by their coordinate
    np.testing.assert_array_equal(flipped.t.values, y.t.values[:, [2, 0]])
    other = DATA[kind].assign(q=DS.p)
    assert other.bnstream.normalize(stats).q.identical(other.q)
    assert DATA[kind].bnstream.normalize(bnstream.fit(DS, dim=HORIZONTAL)).identical(y)


def test_normalize_is_lazy():
    def refuse(*arguments, **options):
        raise AssertionError("something is computed")

    stats = DS.bnstream.moments(dim=HORIZONTAL)
    with dask.config.set(scheduler=refuse):
        y = DATA["dask"].bnstream.normalize(stats)
        with pytest.raises(AssertionError, match="something is computed"):
            y.compute()


def test_normalize_dtypes_and_constants():
    ds = xr.Dataset({"i": ("x", np.array([1, 3], np.int16)), "c": ("x", np.array([7.0, 7.0], np.float16))})
    y = ds.bnstream.normalize(ds.bnstream.moments())
    assert (y.i.dtype, y.c.dtype) == ("float32", "float16")
    assert (y.i.values.tolist(), y.c.values.tolist()) == ([-1, 1], [0, 0])


def test_data_arrays():
    stats = DS.t.bnstream.moments(dim=HORIZONTAL)
    assert isinstance(stats, xr.DataArray)
    assert stats.identical(DS.bnstream.moments(dim=HORIZONTAL).t)
    y = DS.t.bnstream.normalize(stats)
    assert y.identical(DS.bnstream.normalize(DS.bnstream.moments(dim=HORIZONTAL)).t)
    assert DS.bnstream.normalize(stats).t.identical(y)
    unnamed = DS.t.rename(None)
    assert unnamed.bnstream.moments().name is None
    assert unnamed.bnstream.normalize(unnamed.bnstream.moments(dim=HORIZONTAL)).identical(y.rename(None))


def test_files_of_statistics(tmp_path):
    stats = DS.bnstream.moments(dim=HORIZONTAL)
    y = DS.bnstream.normalize(stats)
    stats.to_netcdf(tmp_path / "s.nc", engine="h5netcdf")
    stats.to_zarr(tmp_path / "s.zarr", consolidated=False)
    for opened in (xr.open_dataset(tmp_path / "s.nc"), xr.open_zarr(tmp_path / "s.zarr", consolidated=False)):
        with opened:
            assert DS.bnstream.normalize(opened).identical(y)


def test_statistics_of_a_pass_over_files(tmp_path):
    DS.to_netcdf(tmp_path / "d.nc", engine="h5netcdf")
    for dim in (None, "time", HORIZONTAL, ("time", "level", "lon")):
        m = bnstream.fit(tmp_path / "d.nc", tmp_path / "s.npz", dim=dim)
        assert DS.bnstream.statistics(m).identical(DS.bnstream.moments(dim))
    m = bnstream.fit(tmp_path / "d.nc", variables="p")
    assert list(DS.bnstream.statistics(m)) == ["p"]


@pytest.mark.parametrize(("call", "error", "message"), [
    (lambda d: d.statistics(3), TypeError, "expected a Moments, got int"),
    (lambda d: d.statistics(bnstream.Moments()), ValueError, "the statistics have no names"),
    (lambda d: d.statistics(bnstream.Moments(names=["t[level=1]", "p"])), ValueError,
     r"have 1 names that are not those of the data, such as 't\[level=1\]'; its variables are t, p"),
    (lambda d: d.normalize(3), TypeError, "stats must be a Dataset, a DataArray or a Moments, got int"),
    (lambda d: d.normalize(DS.p.rename("q")), ValueError, "the statistics are of q, and the data has t, p"),
    (lambda d: d.normalize(DS), ValueError, "the statistics of 't' lack the dimension 'statistic' with 'mean' and 'v"),
    (lambda d: d.normalize(DS.t.bnstream.moments(dim="time").expand_dims("run")), ValueError,
     "the statistics of 't' have the dimension 'run', which the data lacks"),
    (lambda d: d.normalize(DS.t[:, :2].bnstream.moments(dim=HORIZONTAL)), ValueError,
     "the statistics of 't' lack some coordinates of the data along 'level'"),
    (lambda d: d.normalize(DS.t[:, :2].drop_vars("level").bnstream.moments(dim=HORIZONTAL)), ValueError,
     "the statistics of 't' have 2 positions along 'level', and the data has 3"),
    (lambda d: d.normalize((DS.t * np.nan).bnstream.moments(nan_policy="propagate").rename("t")), ValueError,
     "the statistics of 't' have channels without a value, or with NaN"),
    (lambda d: d.normalize(d.moments(), eps=-1), ValueError, "eps must be a finite number of at least 0"),
    (lambda d: d.moments(dim="step"), bnstream.SourceError, "the Dataset has no dimension 'step'"),
    (lambda d: d.moments(weights=3), TypeError, "weights must be"),
])
def test_refused(call, error, message):
    with pytest.raises(error, match=message):
        call(DS.bnstream)


def test_without_xarray():
    done = python("-c", "import sys; sys.modules['xarray'] = None; import bnstream.xarray", check=False)
    assert "bnstream.xarray needs xarray, which is not installed" in done.stderr
    assert 'pip install "bnstream[xarray]"' in done.stderr


@pytest.mark.parametrize("name", ["", "moments", "statistics", "normalize"])
def test_examples(name):
    run_examples(inspect.getdoc(getattr(BnstreamAccessor, name) if name else BnstreamAccessor), name or "accessor")


def test_track():
    t = xr.DataArray(normal((30, 4)), dims=("time", "level"), name="t")
    t[3, 1] = np.nan
    found = t.bnstream.moments(dim="time", nan_policy="omit", track=["min", "missing"])
    assert found["statistic"].values.tolist() == [*STATISTICS, "min", "max", "missing"]
    np.testing.assert_array_equal(found.sel(statistic="max"), t.max("time"))
    assert found.sel(statistic="missing").values.tolist() == [0, 1, 0, 0]
    assert t.bnstream.normalize(found).shape == t.shape
