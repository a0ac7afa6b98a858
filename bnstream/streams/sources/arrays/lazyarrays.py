"""Arrays that are read by slices, of any of these libraries: h5py, zarr, dask, netCDF4, h5netcdf, xarray."""

from __future__ import annotations

import hashlib
import math
import threading
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bnstream.streams.sources.arrays.array import room
from bnstream.streams.sources.arrays.slicing import require_real
from bnstream.streams.sources.errors import SourceError
from bnstream.streams.sources.places.file import File

# The attributes by which CF says that the stored numbers are not the data.
PACKING = ("scale_factor", "add_offset", "_FillValue", "missing_value")
one_at_a_time = threading.Lock()        # netCDF4 is not safe in threads.

Slices = tuple[slice, ...]


@dataclass(frozen=True)
class LazyArray:
    """What a source needs to know of an array that is read by slices."""

    name: str
    """For messages."""
    label: str
    """The name of the variable, from which those of its channels are made; "" without."""
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    read: Callable[[Slices], NDArray[Any]]
    """Reads a block, in any thread; values that are missing are NaN."""
    chunks: tuple[int | tuple[int, ...], ...] | None
    """The lengths of the chunks along each axis, one number if they are the same; None if any slice costs the same."""
    dims: tuple[str, ...] | None = None
    """The names of the axes."""
    coordinates: Mapping[str, NDArray[Any]] = field(default_factory=dict)
    """The labels along the axes that have some, by the names of the axes."""
    files: tuple[str, ...] = ()
    """The files that hold it, where they are known."""

    def mark(self) -> list[Any]:
        files = [file.mark() for file in map(File, self.files) if file.path.is_file()]
        return [self.name, list(self.shape), str(self.dtype), str(self.chunks), files]

    def digest(self) -> list[Any]:
        """The mark of weights: the values of small ones are part of it."""
        small = math.prod(self.shape) < 1 << 20
        values = self.read(tuple(map(slice, self.shape))) if small else np.empty(0)
        return [*self.mark(), hashlib.sha256(values.tobytes()).hexdigest()]


def is_lazy(x: Any) -> bool:
    """Whether it is an array that should be read by slices, or one whose axes have names."""
    if isinstance(x, np.ndarray) or not all(hasattr(x, name) for name in ("shape", "dtype", "__getitem__")):
        return False
    return hasattr(x, "chunks") or hasattr(x, "dimensions")


def is_dataset(x: Any) -> bool:
    """Whether it is a Dataset of xarray."""
    return hasattr(x, "data_vars") and hasattr(x, "sizes")


def lazy_array(x: Any, name: str | None = None) -> LazyArray:
    """What a source needs of an array of one of these libraries, with its name for messages."""
    if hasattr(x, "dims") and hasattr(x, "encoding"):
        return of_xarray(x)
    kind, shape = type(x).__name__, tuple(x.shape)
    label = str(getattr(x, "name", None) or "").strip("/") if not hasattr(x, "dask") else ""
    name = name or f"the {kind}{f' {label!r}' if label else ''} of shape {shape}"
    dtype = dtype_of(x, name)
    if None in shape or any(n != n for n in shape):
        raise SourceError(f"{name} has chunks of unknown sizes; x.compute_chunk_sizes() makes them known")
    if not hasattr(x, "set_auto_mask"):         # as netCDF4 has, which unpacks by itself
        require_unpacked(getattr(x, "attrs", {}), name)
    file = getattr(getattr(x, "file", None), "filename", None)
    return LazyArray(name, label, shape, dtype, reader_of(x), chunks_of(x), dims_of(x),
                     files=(file,) if isinstance(file, str) else ())


def of_xarray(x: Any, label: Hashable = None) -> LazyArray:
    """Of a DataArray or a Variable of xarray, which decodes what is stored."""
    variable = getattr(x, "variable", x)
    label = getattr(x, "name", None) if label is None else label
    name = f"the {type(x).__name__}" + (f" {label!r}" if label is not None else f" of shape {x.shape}")
    dims = tuple(map(str, x.dims))
    coords = getattr(x, "coords", {})
    labels = {dim: np.asarray(coords[dim].values) for dim in dims if dim in coords and coords[dim].dims == (dim,)}
    source = variable.encoding.get("source")
    data = variable._data if hasattr(variable, "_data") else variable.data
    return LazyArray(name, "" if label is None else str(label), tuple(x.shape), dtype_of(x, name),
                     reader_of(data if hasattr(data, "dask") else variable), chunks_of(variable), dims, labels,
                     (source,) if isinstance(source, str) else ())


def dtype_of(x: Any, name: str) -> np.dtype[Any]:
    """The dtype; raise SourceError unless it is of real numbers."""
    try:
        dtype = np.dtype(x.dtype)
    except TypeError as error:          # netCDF4 has str, and types of its own
        raise SourceError(f"{name} has dtype {x.dtype}; expected real numbers of at most 64 bits") from error
    require_real(dtype, name)
    return dtype


def dims_of(x: Any) -> tuple[str, ...] | None:
    """The names of the axes, if all have one."""
    names: Sequence[Any] | None = getattr(x, "dimensions", None)                    # netCDF4, h5netcdf
    if names is None and hasattr(x, "metadata"):                                    # zarr, of both formats
        names = getattr(x.metadata, "dimension_names", None) or x.attrs.get("_ARRAY_DIMENSIONS")
    elif names is None and hasattr(x, "dims") and hasattr(x, "id"):                 # h5py
        names = [dim.label or (dim.keys()[:1] or [""])[0] for dim in x.dims]
    return tuple(map(str, names)) if names and all(names) and len(names) == len(x.shape) else None


def chunks_of(x: Any) -> tuple[int | tuple[int, ...], ...] | None:
    """The lengths of the chunks along each axis."""
    chunks: Any = None
    encoding = getattr(x, "encoding", None)
    if callable(getattr(x, "chunking", None)):          # netCDF4
        chunks = x.chunking()
    elif getattr(x, "chunks", None) is not None:
        chunks = x.chunks
    elif isinstance(encoding, Mapping):
        preferred = encoding.get("preferred_chunks") or {}
        chunks = [preferred.get(dim, n) for dim, n in zip(x.dims, x.shape, strict=True)] if preferred else None
    if not isinstance(chunks, (list, tuple)) or len(chunks) != len(x.shape):
        return None
    return tuple(tuple(map(int, c)) if isinstance(c, (list, tuple)) else max(1, int(c)) for c in chunks)


def reader_of(x: Any) -> Callable[[Slices], NDArray[Any]]:
    """A function that reads a block of it."""
    if hasattr(x, "dask"):
        # The threads of the pass load several blocks at a time, so each is computed by one.
        return lambda at: np.asanyarray(x[at].compute(scheduler="synchronous"))
    if hasattr(x, "set_auto_mask"):
        def read(at: Slices) -> NDArray[Any]:
            with one_at_a_time:
                return unmasked(x[at])
        return read
    if hasattr(x, "encoding"):
        return lambda at: np.asanyarray(x[at].values)
    if hasattr(x, "read_direct"):       # h5py
        return partial(read_into_room, x)
    return lambda at: np.asanyarray(x[at])


def read_into_room(x: Any, at: Slices) -> NDArray[Any]:
    """Read into the memory of this thread, which holds one block at a time."""
    shape = tuple(len(range(*one.indices(n))) for one, n in zip(at, x.shape, strict=True))
    block = room(math.prod(shape) * x.dtype.itemsize).view(x.dtype).reshape(shape)
    if block.size:
        x.read_direct(block, at)
    return block


def unmasked(x: Any) -> NDArray[Any]:
    """An array in which masked values are NaN."""
    if not isinstance(x, np.ma.MaskedArray):
        return np.asanyarray(x)
    if not np.ma.is_masked(x):
        return np.asarray(x.data)
    floats: Any = x if x.dtype.kind == "f" else x.astype(np.float64)
    return np.asarray(floats.filled(np.nan))


def require_unpacked(attributes: Mapping[str, Any], name: str) -> None:
    """Raise SourceError if attributes of CF say that the stored numbers are not the data."""
    found = [key for key in PACKING if key in attributes and not is_nan(attributes[key])]
    if found:
        raise SourceError(f"{name} has the attribute {found[0]}, so its numbers are not the data as they stand; open "
                          "it with xarray, or read its file with format='nc' (--format nc)")


def is_nan(value: Any) -> bool:
    value = np.asarray(value)
    return bool(value.dtype.kind == "f" and np.isnan(value).all())


