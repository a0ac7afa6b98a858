"""The floors, compiled on first use: a parallel read of an array's bytes, a parallel copy, and the arithmetic of the
kernels on one thread."""

import ctypes
import functools
import shutil
import subprocess
import tempfile
import time
from pathlib import Path

from . import levels

OPERATIONS = ("moments", "inference", "training", "backward")
COPIES = range(3)       # the kinds of copy in floor.h
TRIALS = 5              # of each kind of copy, for a size and a number of threads


def _library(source, *options):
    """The library made from a source by these options of the compiler."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        raise NotImplementedError("there is no C compiler for the floors")
    with tempfile.TemporaryDirectory(prefix="bnstream-floor-", ignore_cleanup_errors=True) as folder:
        target = Path(folder, "floor.so")
        subprocess.run([compiler, "-O3", "-fPIC", "-shared", *options, "-x", "c", Path(__file__).with_name(source),
                        "-o", target, "-lm"], check=True)
        return ctypes.CDLL(str(target))


def _march(level):
    """The option for a level; the baseline is what the compiler assumes without one."""
    return [f"-march={level}"] * (level != "baseline")


@functools.cache
def _memory():
    library = _library("floor.h", *_march(levels.levels()[-1]), "-fopenmp")
    pointer, size, number = ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int
    library.bn_read.argtypes = [pointer, size, number, number]
    library.bn_read.restype = ctypes.c_int64
    library.bn_copy.argtypes = [pointer, pointer, size, number, number]
    library.bn_copy.restype = None
    return library


@functools.cache
def _arithmetic(level):
    """The arithmetic at a level of bnstream's kernels."""
    library = _library("arithmetic.h", "-ffp-contract=off", *_march(level))
    pointer = ctypes.c_void_p
    library.bn_arithmetic.argtypes = [ctypes.c_int, *[pointer] * 3, ctypes.c_size_t, pointer, ctypes.c_int]
    library.bn_arithmetic.restype = None
    return library.bn_arithmetic


def read(x, n_threads, times=1):
    """Read a contiguous array, once or several times."""
    return _memory().bn_read(x.ctypes.data, x.nbytes, n_threads, times)


_fastest = {}           # the kind of copy, by bytes and number of threads


def copy(x, y, n_threads):
    """Copy a contiguous array to another of the same size. The first copy of a size by a number of threads tries every
    kind, and the others are of the fastest."""
    arguments = x.ctypes.data, y.ctypes.data, x.nbytes, n_threads
    if (x.nbytes, n_threads) not in _fastest:
        _fastest[x.nbytes, n_threads] = _tried(*arguments)
    _memory().bn_copy(*arguments, _fastest[x.nbytes, n_threads])


def _tried(source, target, n_bytes, n_threads):
    """The kind of copy that is the fastest here."""
    seconds = {kind: [] for kind in COPIES}
    for _ in range(TRIALS + 1):         # The first trial may touch new pages, and start threads.
        for kind, taken in seconds.items():
            start = time.perf_counter()
            for _ in range(2**22 // n_bytes + 1):
                _memory().bn_copy(source, target, n_bytes, n_threads, kind)
            taken.append(time.perf_counter() - start)
    return min(COPIES, key=lambda kind: min(seconds[kind][1:]))


def arithmetic(operation, x, dy, y, channel, level, times=1):
    """One of OPERATIONS on contiguous float32 arrays of one channel, once or several times, in vectors of a level.

    channel: mean, var, gamma and beta, in float64. The first two are written by "moments" and "training", and read by
    the others. The result goes to y.
    """
    _arithmetic(level)(OPERATIONS.index(operation), x.ctypes.data, dy.ctypes.data, y.ctypes.data, x.size,
                       channel.ctypes.data, times)
