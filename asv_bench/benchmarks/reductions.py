"""Mean and variance of one array by bnstream and its peers, as calls that can be repeated."""

import functools
import warnings

import bnstream

from .data import need
from .timing import optional

THREADS = {"bnstream, 1 thread": 1, "bnstream, 2 threads": 2}


def installed(name):
    """A module; in a setup, the benchmark is skipped where the module is not installed."""
    module = optional(name)
    if module is None:
        raise NotImplementedError(f"{name} cannot be imported")
    return module


def by_bnstream(x, axis, n_threads=2, nan_policy="propagate"):
    need("mean_var")
    return functools.partial(bnstream.mean_var, x, axis, n_threads=n_threads, nan_policy=nan_policy)


def by_numpy(x, axis):
    return lambda: (x.mean(axis), x.var(axis))


def by_threads(x, axis, by):
    """bnstream with one of THREADS, or "NumPy", the yardstick, which has one thread."""
    return by_numpy(x, axis) if by == "NumPy" else by_bnstream(x, axis, THREADS[by])


def by_torch(x, axis):
    torch = installed("torch")
    torch.set_num_threads(2)
    tensor = torch.from_numpy(x)
    return lambda: torch.var_mean(tensor, dim=axis, correction=0)


def by_onedal(x, axis):
    if x.ndim != 2:
        raise NotImplementedError("it takes tables only")
    statistics = installed("sklearnex.basic_statistics").IncrementalBasicStatistics
    return lambda: statistics(result_options=["mean", "variance"]).partial_fit(x)


def by_sklearn(x, axis):
    if x.ndim != 2:
        raise NotImplementedError("it takes tables only")
    scaler = installed("sklearn.preprocessing").StandardScaler
    return lambda: scaler().partial_fit(x)


def of_finite_by_bnstream(x, axis):
    return by_bnstream(x, axis, nan_policy="omit")


def of_finite_by_module(name):
    """nanmean and nanvar, which have these names in NumPy, Bottleneck and Numbagg."""

    def calls(x, axis):
        module = installed(name)
        warnings.simplefilter("ignore")
        return lambda: (module.nanmean(x, axis=axis), module.nanvar(x, axis=axis))

    return calls


ALL = {"bnstream": by_bnstream, "NumPy": by_numpy, "PyTorch": by_torch, "oneDAL": by_onedal, "scikit-learn": by_sklearn}
OF_FINITE = {"bnstream": of_finite_by_bnstream, "NumPy": of_finite_by_module("numpy"),
             "Bottleneck": of_finite_by_module("bottleneck"), "Numbagg": of_finite_by_module("numbagg")}
