"""The same work done by the installed peers: calls by name, each of which returns what the peer returns."""

import contextlib
import platform
import sys
from importlib.metadata import version

from benchmarks import reductions
from benchmarks.timing import optional

WHERE = {       # name: module, distribution
    "NumPy": ("numpy", "numpy"),
    "PyTorch": ("torch", "torch"),
    "oneDAL": ("sklearnex.basic_statistics", "scikit-learn-intelex"),
    "scikit-learn": ("sklearn.preprocessing", "scikit-learn"),
    "gymnasium": ("gymnasium.wrappers.utils", "gymnasium"),
    "Bottleneck": ("bottleneck", "bottleneck"),
    "Numbagg": ("numbagg", "numbagg"),
    "ONNX Runtime": ("onnxruntime", "onnxruntime"),
    "pyarrow": ("pyarrow", "pyarrow"),
    "DuckDB": ("duckdb", "duckdb"),
    "polars": ("polars", "polars"),
}


def installed(*names):
    """The modules of those peers that are installed, by name."""
    return {name: module for name in names if (module := optional(WHERE[name][0]))}


def versions():
    """The versions of Python and of the installed peers, by name."""
    found = {name: version(WHERE[name][1]) for name in installed(*WHERE)}
    return {"Python": platform.python_version()} | found


def set_num_threads(n):
    """Set the number of threads of the peers that have been imported."""
    if torch := sys.modules.get("torch"):
        torch.set_num_threads(n)
    if onedal := sys.modules.get("daal4py"):
        onedal.daalinit(n)
    if numba := sys.modules.get("numba"):
        numba.set_num_threads(min(n, numba.config.NUMBA_NUM_THREADS))


def of_table(x):
    """Whether peers that are restricted to floating-point tables take x without a copy."""
    return x.dtype.char in "fd" and x.ndim == 2 and x.flags.c_contiguous


def calls_of(ways, x, axis, threads):
    """The calls of the installed peers. ways: functions that make a call of x and axis, by name."""
    calls = {}
    for name, way in ways.items():
        with contextlib.suppress(NotImplementedError):      # The peer is not installed.
            calls[name] = way(x, axis)
    set_num_threads(threads)
    return calls


def by_numpy(x, axis):
    """Mean, and variance from that mean, which is a fifth faster than without it."""
    def call():
        mean = x.mean(axis, keepdims=True)
        return mean, x.var(axis, mean=mean)

    return call


def mean_var(x, axis, threads):
    """Mean and variance, without a policy for NaN."""
    ways = {"NumPy": by_numpy}
    if x.dtype.char in "fd":
        ways["PyTorch"] = reductions.by_torch
    if of_table(x):
        ways |= {"oneDAL": reductions.by_onedal, "scikit-learn": reductions.by_sklearn}
    return calls_of(ways, x, axis, threads)


VARIANCE = {        # The variance of n rows in what the peer's call returns.
    "NumPy": lambda result, n: result[1],
    "PyTorch": lambda result, n: result[0].numpy(),
    "oneDAL": lambda result, n: result.variance_ * (n - 1) / n,
    "scikit-learn": lambda result, n: result.var_,
}


def omit(x, axis, threads):
    """Mean and variance without the elements that are NaN."""
    ways = {name: reductions.OF_FINITE[name] for name in ("NumPy", "Numbagg")}
    if isinstance(axis, int):
        ways["Bottleneck"] = reductions.OF_FINITE["Bottleneck"]
    if of_table(x):
        ways["scikit-learn"] = reductions.by_sklearn
    return calls_of(ways, x, axis, threads)


def updates(x):
    """Updates of a stream by one batch."""
    calls = {}
    modules = installed("gymnasium", "oneDAL", "scikit-learn")
    if gymnasium := modules.get("gymnasium"):
        running = gymnasium.RunningMeanStd(shape=x.shape[1:])
        calls["gymnasium RunningMeanStd.update"] = lambda: running.update(x)
    if preprocessing := modules.get("scikit-learn"):
        scaler = preprocessing.StandardScaler()
        calls["scikit-learn StandardScaler.partial_fit"] = lambda: scaler.partial_fit(x)
    if statistics := modules.get("oneDAL"):
        incremental = statistics.IncrementalBasicStatistics(result_options=["mean", "variance"])
        calls["oneDAL IncrementalBasicStatistics.partial_fit"] = lambda: incremental.partial_fit(x)
    return calls


def normalize(x, mean, sd, threads):
    """Normalization of integers to a new array of float32."""
    def of_numpy():
        y = x - mean
        y /= sd
        return y

    calls = {"NumPy": of_numpy}
    if torch := installed("PyTorch").get("PyTorch"):
        set_num_threads(threads)
        tensor, mean_, sd_ = map(torch.from_numpy, (x, mean, sd))
        calls["PyTorch"] = lambda: (tensor - mean_).div_(sd_)
    return calls
