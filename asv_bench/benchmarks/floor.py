"""The floors: a plain parallel read of an array's bytes, and a plain parallel copy. They are compiled on first use."""

import ctypes
import functools
import shutil
import subprocess
import tempfile
from pathlib import Path


@functools.cache
def _library():
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        raise NotImplementedError("there is no C compiler for the floors")
    folder = tempfile.mkdtemp(prefix="bnstream-floor-")
    target = Path(folder, "floor.so")
    source = Path(__file__).with_name("floor.h")
    subprocess.run([compiler, "-O3", "-fopenmp", "-shared", "-fPIC", "-x", "c", source, "-o", target], check=True)
    library = ctypes.CDLL(str(target))
    shutil.rmtree(folder)
    library.bn_read.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int]
    library.bn_read.restype = ctypes.c_int64
    library.bn_copy.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
    library.bn_copy.restype = None
    return library


def read(x, n_threads, times=1):
    """Read a contiguous array, once or several times."""
    return _library().bn_read(x.ctypes.data, x.nbytes, n_threads, times)


def copy(x, y, n_threads):
    """Copy a contiguous array to another of the same size."""
    _library().bn_copy(x.ctypes.data, y.ctypes.data, x.nbytes, n_threads)
