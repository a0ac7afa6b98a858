"""Dask arrays and dataframes: moments in one lazy graph, and lazy normalization. They need the extra ``dask``."""

try:
    import dask.array
    import dask.delayed  # noqa: F401
except ModuleNotFoundError as error:
    missing = (error.name or "dask").partition(".")[0]
    raise ModuleNotFoundError(
        f'bnstream.dask needs {missing}, which is not installed; install it with: pip install "bnstream[dask]"',
        name=missing,
    ) from error

from bnstream.dask.reduction import moments
from bnstream.dask.scaling import normalize

__all__ = ["moments", "normalize"]
