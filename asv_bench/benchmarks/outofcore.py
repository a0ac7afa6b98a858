"""A file of 256 MiB, read as a memmap. It has just been written, so most of it comes from the system's cache: the disk
is not measured."""

from pathlib import Path

import numpy as np

import bnstream

from .base import Timed, named, once
from .data import array, need, set_num_threads

FILE = Path("x.npy")            # in the temporary folder that asv makes for setup_cache
SHAPE, CHUNK = (262144, 256), 4096


def chunks(x):
    for start in range(0, len(x), CHUNK):
        yield x[start:start + CHUNK]


def one_call(x):
    need("mean_var")
    return lambda: bnstream.mean_var(x)


def moments(x):
    need("Moments")

    def call():
        state = bnstream.Moments()
        for chunk in chunks(x):
            state.update(chunk)
        return state.mean, state.var()

    return call


def layer(x):
    need("BatchNorm")
    out = np.ones((CHUNK, x.shape[1]), x.dtype)

    def call():
        bn = bnstream.BatchNorm(x.shape[1])
        for chunk in chunks(x):
            bn(chunk, out)

    return call


WAYS = {"mean_var": one_call, "Moments, chunks of 4 MiB": moments, "BatchNorm, training on chunks of 4 MiB": layer}


class File(Timed):
    """The file that all of them read."""

    repeat = (3, 10, 1.0)

    def setup_cache(self):
        x = np.lib.format.open_memmap(FILE, "w+", "float32", SHAPE)
        for seed, chunk in enumerate(chunks(x)):
            chunk[:] = array(chunk.shape, "float32", seed)


class Memmap(File):
    params = (list(WAYS), [1, 2])
    param_names = ("way", "threads")

    @once
    def setup(self, way, threads):
        set_num_threads(threads)
        self.call = WAYS[way](np.load(FILE, mmap_mode="r"))

    @named("out of core, 256 MiB of float32")
    def time_stream(self, way, threads):
        self.call()


class MemmapNumPy(File):
    """In chunks, as x.var() would make an array of the size of x."""

    @once
    def setup(self):
        self.x = np.load(FILE, mmap_mode="r")

    @named("out of core, NumPy in two passes")
    def time_two_passes(self):
        mean = sum(chunk.sum(0, dtype="float64") for chunk in chunks(self.x)) / len(self.x)
        sum(np.square(chunk - mean).sum(0) for chunk in chunks(self.x)) / len(self.x)
