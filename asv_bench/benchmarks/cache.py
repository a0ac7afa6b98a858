"""Arrays that fit the caches, on one thread, at each level: the time of a call, and how many times the arithmetic alone
it takes, as written out in arithmetic.h. Medians of interleaved runs."""

import contextlib
import json
from pathlib import Path

import numpy as np

import bnstream

from . import floor, layers, levels, reductions
from .base import digits, named
from .data import array
from .timing import interleaved

ROUNDS = 5
TIMES = 20              # calls in a measurement
SHAPES = {(2048, 64): 0, (256, 256): 0, (16, 64, 28, 28): (0, 2, 3), (8, 32, 14, 14): (0, 2, 3)}       # axis
FILE = "cache.json"     # in the folder that asv keeps for setup_cache


def arrays(shape):
    """x, dy and the result."""
    x = array(shape, "float32")
    return x, array(shape, "float32", 1), np.ones_like(x)


def of_bnstream(x, dy, out):
    """The calls by operation. The result goes to `out`."""
    bnstream.set_num_threads(1)
    calls = layers.of_bnstream(x, dy=dy, out=out)
    return {"moments": reductions.by_bnstream(x, SHAPES[x.shape], 1)} | {name: calls[name] for name in
                                                                          floor.OPERATIONS[1:]}


def of_floor(x, dy, out, times):
    """The arithmetic alone at the level of this process, so many times in each call."""
    channel, level = np.array([0, 1, 1, 0], "float64"), levels.level()
    return {name: lambda name=name: floor.arithmetic(name, x, dy, out, channel, level, times)
            for name in floor.OPERATIONS}


def repeated(call):
    for _ in range(TIMES):
        call()


def measured(shape, rounds):
    """Median seconds of the calls and of their floors at the level of this process, by operation."""
    given = arrays(shape)
    calls = {("call", name): lambda call=call: repeated(call) for name, call in of_bnstream(*given).items()}
    calls |= {("floor", name): call for name, call in of_floor(*given, TIMES).items()}
    seconds = interleaved(calls, rounds)
    return {name: [seconds[what, name] / TIMES for what in ("call", "floor")] for name in floor.OPERATIONS}


class Cache:
    params = (list(floor.OPERATIONS), list(SHAPES), ["x86-64-v3", "x86-64-v4", "baseline"])
    param_names = ("operation", "shape", "level")

    def setup_cache(self):
        found = {}
        with contextlib.suppress(NotImplementedError):      # An old commit, or no compiler for the floors.
            for level in levels.levels():
                with levels.process(level) as process:
                    found[level] = {str(shape): process.submit(measured, shape, ROUNDS).result() for shape in SHAPES}
        Path(FILE).write_text(json.dumps(found), encoding="utf-8")

    def setup(self, operation, shape, level):
        found = json.loads(Path(FILE).read_text(encoding="utf-8"))
        if level not in found:
            raise NotImplementedError(f"{level} is not measured on this machine")
        self.call, self.floor = found[level][str(shape)][operation]


class Time(Cache):
    """float32."""

    unit = "us"

    @named("in the cache, time")
    def track_time(self, operation, shape, level):
        return digits(1e6 * self.call)


class Floors(Cache):
    """float32."""

    unit = "times the arithmetic alone"

    @named("in the cache, floors")
    def track_floors(self, operation, shape, level):
        return digits(self.call / self.floor)
