"""Datasets and DataArrays of xarray: statistics with their coordinates, and normalization by them.

Importing this module adds the accessor ``bnstream`` to both. It needs the extra ``xarray``.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from itertools import combinations
from typing import Any, Literal

import numpy as np

from bnstream.core.checks import eps_of
from bnstream.core.functional import normalize
from bnstream.core.moments import Moments
from bnstream.core.optional import needing
from bnstream.core.tracking import results_of
from bnstream.streams.fitting import fit
from bnstream.streams.sources.arrays.grid import labels_of
from bnstream.streams.sources.arrays.lazyarrays import LazyArray, of_xarray

with needing("bnstream.xarray", '"bnstream[xarray]"'):
    import xarray as xr

__all__ = ["BnstreamAccessor"]

STATISTICS = ("n", "mean", "var", "std")
UNNAMED = "x"       # the name of a DataArray without one, while it is in a Dataset


@xr.register_dataset_accessor("bnstream")
@xr.register_dataarray_accessor("bnstream")
class BnstreamAccessor:
    """Statistics of a Dataset or a DataArray of xarray, and normalization by them: ``ds.bnstream`` and ``da.bnstream``.

    Parameters
    ----------
    data : xarray.Dataset or xarray.DataArray
        In memory, backed by Dask, or open from files; read by slices, in the order of the chunks.

    See Also
    --------
    bnstream.fit : the same as a `Moments`, with a checkpoint.

    Examples
    --------
    >>> import numpy as np, xarray as xr, bnstream.xarray
    >>> t = xr.DataArray([[1.0, 10.0], [3.0, 30.0]], dims=("time", "level"), coords={"level": [500, 850]}, name="t")
    >>> stats = t.bnstream.moments(dim="time")
    >>> stats.sel(statistic="mean").values.tolist(), stats.sel(statistic="std", level=850).item()
    ([2.0, 20.0], 10.0)
    >>> t.bnstream.normalize(stats).values.tolist()
    [[-1.0, -1.0], [1.0, 1.0]]
    """

    def __init__(self, data: Any) -> None:
        self._data = data

    def moments(
        self,
        dim: str | Sequence[str] | None = None,
        *,
        weights: Any = None,
        nan_policy: Literal["raise", "omit", "propagate"] = "raise",
        diff: str | None = None,
        exact: bool = False,
        n_threads: int | None = None,
        track: str | Sequence[str] = (),
    ) -> Any:
        """Compute count, mean, variance and standard deviation of every variable, in one pass.

        Parameters
        ----------
        dim : str or sequence of str, optional
            The dimensions to reduce, those of them that a variable has; by default all.
        weights : xarray.DataArray, optional
            Weights along some of the reduced dimensions, such as ``np.cos(np.deg2rad(ds.lat))``. n is their sum.
        nan_policy : {"raise", "omit", "propagate"}, default "raise"
            How to handle missing values, NaN and inf, as for `bnstream.fit`.
        diff : str, optional
            A dimension: the statistics are those of the steps ``x[t + 1] - x[t]`` along it, in float64.
        exact : bool, default False
            Compute exact statistics, which do not depend on the chunks.
        n_threads : int, optional
            Number of threads that load and sum, by default `get_num_threads`.
        track : str or sequence of str, optional
            Further statistics, as for `Moments`: "min" and "max", "missing", "skewness" and "kurtosis".

        Returns
        -------
        xarray.Dataset or xarray.DataArray
            Of float64, as the data is, with a new first dimension "statistic", of "n", "mean", "var" and "std" (both
            with ddof=0) and what is tracked, the dimensions that are kept with their coordinates, and the attributes
            of the variables.

        Raises
        ------
        TypeError
            If an argument is of the wrong type.
        ValueError
            If there is no such dimension, a variable is not numeric, or there is NaN or inf under
            ``nan_policy="raise"``; if weights have other coordinates, or a dimension that is kept.

        See Also
        --------
        normalize : takes the result.
        statistics : the same of a `Moments`, which `bnstream.fit` computes with a checkpoint.

        Notes
        -----
        The pass is not lazy: it holds a few chunks at a time. Chunks of Dask are computed in this process.

        Examples
        --------
        >>> import numpy as np, xarray as xr, bnstream.xarray
        >>> ds = xr.Dataset({"t": ("time", [1.0, 2.0, 4.0])})
        >>> ds.bnstream.moments(diff="time").t.sel(statistic="mean").item()
        1.5
        """
        return self.statistics(fit(self._dataset, dim=dim, diff=diff, weights=weights, nan_policy=nan_policy,
                                   exact=exact, n_threads=n_threads, track=track))

    def statistics(self, m: Moments) -> Any:
        """Give the statistics of a `Moments` the dimensions and coordinates of the data.

        Parameters
        ----------
        m : Moments
            Those of `bnstream.fit` of the same data, or of its files: its names are the variables, with the coordinates
            of the dimensions that were kept.

        Returns
        -------
        xarray.Dataset or xarray.DataArray
            As `moments` returns it, of the variables that `m` names, with what `m` tracks.

        Raises
        ------
        TypeError
            If `m` is not a Moments.
        ValueError
            If it has no names, or names that the data does not have.

        Examples
        --------
        >>> import bnstream, xarray as xr, bnstream.xarray
        >>> ds = xr.Dataset({"t": (("time", "level"), [[1.0, 10.0], [3.0, 30.0]])})
        >>> m = bnstream.fit(ds, dim="time")
        >>> m.names, ds.bnstream.statistics(m).t.sel(statistic="mean").values.tolist()
        (('t[level=0]', 't[level=1]'), [2.0, 20.0])
        """
        if not isinstance(m, Moments):
            raise TypeError(f"expected a Moments, got {type(m).__name__}")
        if m.names is None:
            raise ValueError("the statistics have no names; compute them with bnstream.fit of the data or of its "
                             "files, whose coordinates along a dimension that is kept must differ from each other")
        places = {name: i for i, name in enumerate(m.names)}
        tracked = results_of(m)
        titles = (*STATISTICS, *tracked)
        rows = np.stack([m.n, m.mean, m.var(), m.std(), *tracked.values()]).astype(np.float64)
        found = {}
        for name, variable in self._dataset.data_vars.items():
            kept = kept_in(array := of_xarray(variable), places)
            if kept is not None:
                at = [places.pop(label) for label in labels_of(array, kept)]
                found[name] = placed(rows[:, at], titles, variable, [variable.dims[axis] for axis in kept])
        if places:
            first = [repr(name) for name in list(places)[:5]]
            raise ValueError(f"the statistics have {len(places):,} names that are not those of the data, such as "
                             f"{', '.join(first)}; its variables are {', '.join(map(str, self._dataset.data_vars))}")
        return self._like(xr.Dataset(found))

    def normalize(self, stats: Any, *, eps: float = 0.0) -> Any:
        """Subtract the mean of every variable and divide by its standard deviation; lazy where the data is.

        Parameters
        ----------
        stats : xarray.Dataset, xarray.DataArray or Moments
            What `moments` returns, also read from a file, or a `Moments` as for `statistics`. Variables that it lacks
            are returned as they are.
        eps : float, default 0.0
            Added to the variance. Where the sum is 0, values are centered and not divided.

        Returns
        -------
        xarray.Dataset or xarray.DataArray
            With the coordinates and chunks of the data, and its attributes but for "units". It has the dtype of the
            data if that is floating, else float32.

        Raises
        ------
        TypeError
            If `stats` is of another kind, or a variable does not hold real numbers.
        ValueError
            If it has none of the variables, lacks "mean" or "var", has a dimension that the data lacks, or not the
            coordinates of the data; if it has no values, or `eps` is out of range.

        Examples
        --------
        >>> import xarray as xr, bnstream.xarray
        >>> ds = xr.Dataset({"t": ("time", [1.0, 3.0]), "p": ("time", [4.0, 4.0])})
        >>> y = ds.bnstream.normalize(ds.bnstream.moments())
        >>> y.t.values.tolist(), y.p.values.tolist()
        ([-1.0, 1.0], [0.0, 0.0])
        """
        eps = eps_of("eps", eps)
        if isinstance(stats, Moments):
            stats = self.statistics(stats)
        if isinstance(stats, xr.DataArray):
            # Those of a DataArray are its own, whatever its name.
            own = None if isinstance(self._data, xr.Dataset) else next(iter(self._dataset.data_vars))
            stats = stats.to_dataset(name=stats.name or UNNAMED if own is None else own)
        if not isinstance(stats, xr.Dataset):
            raise TypeError(f"stats must be a Dataset, a DataArray or a Moments, got {type(stats).__name__}")
        data = self._dataset
        names = [name for name in data.data_vars if name in stats.data_vars]
        if not names:
            raise ValueError(f"the statistics are of {', '.join(map(str, stats.data_vars))}, and the data has "
                             f"{', '.join(map(str, data.data_vars))}")
        return self._like(data.assign({name: normalized(data[name], stats[name], eps) for name in names}))

    @property
    def _dataset(self) -> xr.Dataset:
        if isinstance(self._data, xr.Dataset):
            return self._data
        return self._data.to_dataset(name=UNNAMED if self._data.name is None else self._data.name)

    def _like(self, result: xr.Dataset) -> Any:
        """A Dataset, or its DataArray if the data is one."""
        if isinstance(self._data, xr.Dataset):
            return result
        return next(iter(result.data_vars.values())).rename(self._data.name)


def kept_in(array: LazyArray, places: Mapping[str, int]) -> tuple[int, ...] | None:
    """The axes whose positions are channels, found by the names of these; None if no name is of this variable."""
    count = sum(name == array.label or name.startswith(f"{array.label}[") for name in places)
    for kept in subsets(range(len(array.shape))):
        if math.prod(array.shape[axis] for axis in kept) == count and all(
            label in places for label in labels_of(array, kept)
        ):
            return kept
    return None


def subsets(axes: Sequence[int]) -> Iterator[tuple[int, ...]]:
    for n in range(len(axes) + 1):
        yield from combinations(axes, n)


def placed(rows: Any, titles: Sequence[str], variable: xr.DataArray, dims: Sequence[Any]) -> xr.DataArray:
    """Rows of statistics with some of the dimensions of a variable, and its coordinates along these."""
    coords: dict[Any, Any] = {
        name: coord for name, coord in variable.coords.items() if set(coord.dims) <= set(dims)}
    shape = [variable.sizes[dim] for dim in dims]
    # Zarr has no specification of strings of a fixed length, which NumPy would make of these.
    coords["statistic"] = ("statistic", np.array(titles, object))
    return xr.DataArray(rows.reshape(len(titles), *shape), coords, ("statistic", *dims), attrs=variable.attrs)


def normalized(variable: xr.DataArray, stats: xr.DataArray, eps: float) -> xr.DataArray:
    """Normalize a variable by its statistics."""
    if "statistic" not in stats.coords or not {"mean", "var"} <= set(stats["statistic"].values.tolist()):
        raise ValueError(f"the statistics of {variable.name!r} lack the dimension 'statistic' with 'mean' and 'var'; "
                         "compute them with .bnstream.moments")
    stats = aligned(stats, variable)
    mean, var = (stats.sel(statistic=name, drop=True) for name in ("mean", "var"))
    if bool(mean.isnull().any()):
        raise ValueError(f"the statistics of {variable.name!r} have channels without a value, or with NaN")
    dtype = normalize(np.empty(0, variable.dtype), 0.0, 1.0).dtype
    y = xr.apply_ufunc(partial(standardized, eps=eps, n_threads=None if variable.chunks is None else 1), variable, mean,
                       var, dask="parallelized", output_dtypes=[dtype], join="override", keep_attrs=True)
    y.attrs = {name: value for name, value in variable.attrs.items() if name != "units"}
    return y.transpose(*variable.dims)


def standardized(x: Any, mean: Any, var: Any, eps: float, n_threads: int | None) -> Any:
    return normalize(x, mean, var, eps=eps, n_threads=n_threads)


def aligned(stats: xr.DataArray, variable: xr.DataArray) -> xr.DataArray:
    """The statistics at the coordinates of a variable, in its order."""
    for dim in stats.dims:
        if dim == "statistic":
            continue
        if dim not in variable.dims:
            raise ValueError(f"the statistics of {variable.name!r} have the dimension {dim!r}, which the data lacks")
        if dim in stats.coords and dim in variable.coords:
            try:
                stats = stats.sel({dim: variable[dim]})
            except KeyError as error:
                raise ValueError(f"the statistics of {variable.name!r} lack some coordinates of the data along "
                                 f"{dim!r}: {error.args[0]}") from error
        if stats.sizes[dim] != variable.sizes[dim]:
            raise ValueError(f"the statistics of {variable.name!r} have {stats.sizes[dim]} positions along {dim!r}, "
                             f"and the data has {variable.sizes[dim]}")
    return stats
