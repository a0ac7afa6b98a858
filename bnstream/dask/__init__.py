"""Dask arrays and dataframes: moments in one lazy graph, and lazy normalization. They need the extra ``dask``."""

from bnstream.core.optional import needing

with needing("bnstream.dask", '"bnstream[dask]"'):
    import dask.array
    import dask.delayed  # noqa: F401

from bnstream.dask.groups import grouped
from bnstream.dask.reduction import moments
from bnstream.dask.scaling import normalize

__all__ = ["grouped", "moments", "normalize"]
