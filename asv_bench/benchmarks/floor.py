"""The plain parallel read of an array's bytes, `floor.read(x, n_threads)`, and copy, `floor.copy(x, y, n_threads)`,
built when first asked for."""

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
        raise NotImplementedError("no C compiler to build the floor with")
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
    """Read a contiguous array, once or so many times over."""
    return _library().bn_read(x.ctypes.data, x.nbytes, n_threads, times)


def copy(x, y, n_threads):
    """Copy a contiguous array to another of as many bytes."""
    _library().bn_copy(x.ctypes.data, y.ctypes.data, x.nbytes, n_threads)
