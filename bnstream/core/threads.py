"""The check of `n_threads` where no kernel may run."""

import numpy as np

from bnstream.core.moments import Moments


def require_threads(n_threads: int | None) -> None:
    """Raise TypeError or ValueError unless `n_threads` is a number of threads, or None."""
    Moments().update(np.empty((0, 1)), n_threads=n_threads)         # Nothing is read: this is the check of every call.
