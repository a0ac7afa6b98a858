"""Per-channel mean and variance of NumPy arrays and of streams of them, exact and at the speed of memory."""

from importlib.metadata import version as _version

from bnstream._config import show_config
from bnstream._kernels._runtime import get_num_threads, set_num_threads
from bnstream.functional import mean_var
from bnstream.moments import Moments

__version__ = _version("bnstream")
__all__ = ["Moments", "get_num_threads", "mean_var", "set_num_threads", "show_config"]
