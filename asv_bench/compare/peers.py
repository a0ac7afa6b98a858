"""How the peers that are installed do it: calls by name, which answer what the peer answers."""

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
    """Those of them that are, by name."""
    return {name: module for name in names if (module := optional(WHERE[name][0]))}


def versions():
    """Of Python and of all that are installed."""
    found = {name: version(WHERE[name][1]) for name in installed(*WHERE)}
    return {"Python": platform.python_version()} | found


def set_num_threads(n):
    """Of those that are imported."""
    if torch := sys.modules.get("torch"):
        torch.set_num_threads(n)
    if onedal := sys.modules.get("daal4py"):
        onedal.daalinit(n)
    if numba := sys.modules.get("numba"):
        numba.set_num_threads(min(n, numba.config.NUMBA_NUM_THREADS))


def of_table(x):
    """Whether those that take floating tables alone take it as it is."""
    return x.dtype.char in "fd" and x.ndim == 2 and x.flags.c_contiguous


def calls_of(ways, x, axis, threads):
    calls = {}
    for name, way in ways.items():
        with contextlib.suppress(NotImplementedError):      # it is not installed
            calls[name] = way(x, axis)
    set_num_threads(threads)
    return calls


def by_numpy(x, axis):
    """The variance by the mean that is there already: a fifth faster."""
    def call():
        mean = x.mean(axis, keepdims=True)
        return mean, x.var(axis, mean=mean)

    return call


def mean_var(x, axis, threads):
    """Of real numbers, without a word on NaN."""
    ways = {"NumPy": by_numpy}
    if x.dtype.char in "fd":
        ways["PyTorch"] = reductions.by_torch
    if of_table(x):
        ways |= {"oneDAL": reductions.by_onedal, "scikit-learn": reductions.by_sklearn}
    return calls_of(ways, x, axis, threads)


VARIANCE = {        # of n rows, from what the call of that name answers
    "NumPy": lambda answer, n: answer[1],
    "PyTorch": lambda answer, n: answer[0].numpy(),
    "oneDAL": lambda answer, n: answer.variance_ * (n - 1) / n,
    "scikit-learn": lambda answer, n: answer.var_,
}


def omit(x, axis, threads):
    """Of what is not NaN."""
    ways = {name: reductions.OF_FINITE[name] for name in ("NumPy", "Numbagg")}
    if isinstance(axis, int):
        ways["Bottleneck"] = reductions.OF_FINITE["Bottleneck"]
    if of_table(x):
        ways["scikit-learn"] = reductions.by_sklearn
    return calls_of(ways, x, axis, threads)


def updates(x):
    """Of a stream, by one batch."""
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
    """Of integers, to a new array of float32."""
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
