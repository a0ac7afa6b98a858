"""Runs each benchmark of a file once, in an environment that has NumPy alone: ``python benchmarks.py FOLDER NAME``.

The arrays have their shapes, but repeat a few random numbers, and files are short. A benchmark may be skipped by its
setup, with NotImplementedError; any other error ends the program.
"""

import importlib
import inspect
import itertools
import os
import sys
import tempfile
import warnings
from importlib.abc import MetaPathFinder

import numpy as np

KINDS = ("time_", "timeraw_", "track_", "peakmem_")
HERE = {"numpy", "bnstream", "benchmarks"}
SHORT = {"base": {"CALLS": 1}, "bandwidth": {"ROUNDS": 1}, "cache": {"ROUNDS": 1},
         "streams": {"SHAPE": (8192, 16)}, "outofcore": {"SHAPE": (8192, 16)}}


class NumPyAlone(MetaPathFinder):
    """Hides all packages but NumPy and the two under test."""

    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] not in HERE | sys.stdlib_module_names:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)


def repeating(array):
    """The function that makes the data, for arrays that repeat a thousand random numbers."""
    return lambda shape, dtype, seed=0: np.resize(array(1000, dtype, seed), shape)


def prepared(name):
    """The module of benchmarks, with short data and a single call of each."""
    data = importlib.import_module("benchmarks.data")
    data.array = repeating(data.array)
    for short, constants in SHORT.items():
        for constant, value in constants.items():
            module = importlib.import_module(f"benchmarks.{short}")
            getattr(module, constant)       # It must be there.
            setattr(module, constant, value)
    return importlib.import_module(f"benchmarks.{name}")


def parameters(benchmark):
    """All sets of parameters; asv also takes one list of values in place of a list of lists."""
    params = getattr(benchmark, "params", ())
    nested = [params] if params and not isinstance(params[0], (list, tuple)) else params
    return itertools.product(*nested)


def run(benchmark, method, values):
    """Run a benchmark for one set of parameters; return whether it was skipped."""
    one = benchmark()
    if hasattr(one, "setup"):
        try:
            one.setup(*values)
        except NotImplementedError:
            return True
    result = getattr(one, method)(*values)
    if method.startswith("timeraw_"):
        for code in [result] if isinstance(result, str) else reversed(result):     # the code, and what goes before it
            exec(code, {})
    return False


def main(folder, name):
    sys.path.insert(0, folder)
    sys.meta_path.insert(0, NumPyAlone())
    warnings.simplefilter("ignore", RuntimeWarning)     # NumPy's float16 yardsticks overflow.
    module, skipped = prepared(name), []
    with tempfile.TemporaryDirectory() as cache:
        os.chdir(cache)
        for benchmark in [one for one in vars(module).values() if inspect.isclass(one)]:
            methods = [method for method in dir(benchmark) if method.startswith(KINDS)]
            if not methods or benchmark.__module__ != module.__name__:
                continue
            if hasattr(benchmark, "setup_cache"):
                benchmark().setup_cache()
            for method, values in itertools.product(methods, parameters(benchmark)):
                try:
                    skipped.append(run(benchmark, method, values))
                except Exception as error:
                    error.add_note(f"in {name}.{benchmark.__name__}.{method}{values}")
                    raise
        os.chdir(folder)
    print(len(skipped) - sum(skipped), "run,", sum(skipped), "skipped")


if __name__ == "__main__":
    main(*sys.argv[1:])
