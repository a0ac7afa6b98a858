"""Per-channel mean and variance, and batch normalization, of NumPy arrays and of streams of them, at memory speed."""

from bnstream._config import show_config
from bnstream._kernels._runtime import get_num_threads, set_num_threads
from bnstream.batchnorm import BatchNorm
from bnstream.functional import batch_norm, mean_var, normalize
from bnstream.moments import Moments

__version__: str
__all__ = [
    "BatchNorm",
    "Moments",
    "batch_norm",
    "get_num_threads",
    "mean_var",
    "normalize",
    "set_num_threads",
    "show_config",
]


def __getattr__(name: str) -> str:
    if name == "__version__":       # only when asked for: to import importlib.metadata takes as long as all of bnstream
        from importlib.metadata import version

        return globals().setdefault(name, version("bnstream"))
    raise AttributeError(f"module 'bnstream' has no attribute {name!r}")
