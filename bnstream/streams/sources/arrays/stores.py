"""HDF5, NetCDF and Zarr: files and folders of arrays that are read by slices."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from bnstream.core.dtypes import is_real
from bnstream.core.optional import needing
from bnstream.streams.sources.arrays.grid import Arrays, Grids, variables_of
from bnstream.streams.sources.arrays.lazyarrays import LazyArray, dims_of, lazy_array
from bnstream.streams.sources.errors import SourceError, reading
from bnstream.streams.sources.places.file import File
from bnstream.streams.sources.source import Wanted

# Bounds and grid mappings are no data. A variable in hours is a number.
DECODING: Any = {"decode_coords": "all", "decode_timedelta": False}


class Store(Grids):
    """A file or a folder that holds arrays. It is open only while pieces of it are read."""

    def __init__(self, file: File, wanted: Wanted) -> None:
        self.file, self.files, self.wanted = file, [file], wanted
        of_file = mark_of(file)
        given = self.opened()
        super().__init__(file.name, wanted, given)
        self.given = given.unread()
        self.grids = [grid.reading(array, self.given.weights)
                      for grid, array in zip(self.grids, self.given.arrays, strict=True)]
        self.takes |= {"format", "variables"}
        self.mark, self.of_file, self.size = [*of_file, *self.mark], of_file, of_file[1]

    def opened(self) -> Arrays:
        with reading(str(self.file)):
            return self.open()

    def open(self) -> Arrays:
        """The arrays that are wanted, ready to be read."""
        raise NotImplementedError

    def require_unchanged(self) -> None:
        if mark_of(self.file) != self.of_file:
            raise SourceError(f"{self.file} changed while it was read; start again when it is complete")


class Hdf5File(Store):
    """An HDF5 file."""

    def open(self) -> Arrays:
        with needing("reading HDF5", '"bnstream[hdf5]"'):
            import h5py  # type: ignore[import-untyped]

        content = h5py.File(self.file.for_library(), "r")       # closed when the last of its datasets is deleted
        datasets: dict[str, Any] = {}

        def add(path: str, found: Any) -> None:
            if isinstance(found, h5py.Dataset) and found.shape is not None:       # h5py.Empty has no shape
                datasets[path] = found

        content.visititems(add)
        data = {path: one for path, one in datasets.items() if not one.is_scale}
        return Arrays(arrays_in(self.file.name, data or datasets, datasets, self.wanted))


class NetcdfFile(Store):
    """A NetCDF file, decoded by xarray."""

    def open(self) -> Arrays:
        return variables_of(self.dataset(), self.file.name, self.wanted)

    def dataset(self) -> Any:
        with needing("reading NetCDF", '"bnstream[xarray]"'):
            import xarray

        try:
            return xarray.open_dataset(self.file.for_library(), **DECODING, cache=False)
        except ValueError as error:
            if "IO backends" not in str(error) and "engine" not in str(error):
                raise
            raise SourceError(f"{self.file} is not a NetCDF file, or the package that reads it is missing; install it "
                              'with: pip install "bnstream[xarray]", and scipy for NetCDF 3') from error


class ZarrStore(Store):
    """A Zarr array or group. A group in which all arrays name their dimensions is decoded by xarray."""

    def open(self) -> Arrays:
        with needing("reading Zarr", '"bnstream[zarr]"'):
            import zarr

        content = zarr.open(self.file.for_library(), mode="r")
        if isinstance(content, zarr.Array):
            return Arrays([lazy_array(content, self.file.name)])
        arrays = dict(content.arrays())
        if arrays and all(dims_of(array) for array in arrays.values() if array.shape):
            consolidated = content.metadata.consolidated_metadata is not None
            return variables_of(self.dataset(consolidated), self.file.name, self.wanted)
        members = content.members(max_depth=None)
        arrays = {path: member for path, member in members if isinstance(member, zarr.Array)}
        return Arrays(arrays_in(self.file.name, arrays, arrays, self.wanted))

    def dataset(self, consolidated: bool) -> Any:
        with needing("reading Zarr with named dimensions", '"bnstream[xarray,zarr]"'):
            import xarray

        found = xarray.open_zarr(self.file.for_library(), consolidated=consolidated, **DECODING, chunks=None)
        return found[sorted(found.data_vars)]       # whose order is otherwise that of a folder


def arrays_in(name: str, arrays: Mapping[str, Any], known: Mapping[str, Any], wanted: Wanted) -> list[LazyArray]:
    """The arrays that `variables` names; by default the only one, or all if they have one axis and equal lengths.

    known: all arrays that `variables` may name.
    """
    variables = wanted.reading.get("variables")
    if variables is None:
        arrays = {path: array for path, array in arrays.items() if is_numeric(array)} or arrays
        shapes = {tuple(array.shape) for array in arrays.values()}
        if not arrays:
            raise SourceError(f"{name} holds no arrays")
        if len(arrays) > 1 and (len(shapes) > 1 or len(next(iter(shapes))) != 1):
            found = ", ".join(f"{path} {tuple(array.shape)}" for path, array in arrays.items())
            raise SourceError(f"{name} holds several arrays; select some with variables= or --variables: {found}")
        variables = tuple(arrays)
    for variable in variables:
        if variable.strip("/") not in known:
            raise SourceError(f"{name} has no array {variable!r}; its arrays are {', '.join(known) or 'none'}")
    return [replace(lazy_array(known[variable.strip("/")], f"{name}[{variable!r}]"), label=variable.strip("/"))
            for variable in variables]


def is_numeric(array: Any) -> bool:
    return getattr(array.dtype, "kind", "O") != "O" and is_real(array.dtype)


def mark_of(file: File) -> list[Any]:
    """The path, size and modification time; of a folder, the size of all files in it, and the last of their times."""
    path = file.local
    if path is None or not path.is_dir():
        return file.mark()
    statuses = [entry.stat() for entry in entries(path)]
    return [file.name, sum(status.st_size for status in statuses),
            max((status.st_mtime_ns for status in statuses), default=0), len(statuses)]


def entries(folder: Path) -> list[os.DirEntry[str]]:
    """All files in a folder and the folders in it."""
    found: list[os.DirEntry[str]] = []
    folders = [os.fspath(folder)]
    while folders:
        with os.scandir(folders.pop()) as inside:
            for entry in inside:
                if entry.is_dir():
                    folders.append(entry.path)
                else:
                    found.append(entry)
    return found
