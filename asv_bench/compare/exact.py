"""The table of exact statistics beside plain ones, at each level of the CPU."""

import numpy as np
from benchmarks import floor, levels
from benchmarks.data import array

import bnstream

from .cache import short
from .measure import RATIO, medians, threads
from .table import Table

PLANES = (0, 2, 3)


def of_any_size(shape, dtype):
    """Numbers of magnitudes from 1e-30 to 1e30, log-uniform."""
    random = np.random.default_rng(0)
    return (random.choice([-1.0, 1.0], shape) * 10 ** random.uniform(-30, 30, shape)).astype(dtype)


def of(shape, dtype, axis=0, n_threads=2):
    return f"{shape} {dtype}", (lambda: array(shape, dtype), axis, n_threads)


CASES = dict([
    of((65536, 256), "float32"),
    of((2097152, 256), "float32"),
    of((512, 256), "float32", n_threads=1),
    of((32, 64, 56, 56), "float32", PLANES),
    of((65536, 256), "float64"),
    of((524288, 256), "float64"),
    of((512, 256), "float64", n_threads=1),
    of((65536, 256), "float16"),
    of((2097152, 256), "float16"),
    of((65536, 256), "int16"),
    of((2097152, 256), "int16"),
    of((65536, 256), "int32"),
    of((65536, 256), "int64"),
    of((64, 224, 224, 3), "uint8", (0, 1, 2)),
    of((8, 17), "float32"),
    of((8, 17), "float64"),
]) | {f"(4096, 256) {dtype}, 1e-30 to 1e30": (lambda dtype=dtype: of_any_size((4096, 256), dtype), 0, 1)
      for dtype in ("float32", "float64")}
NUMPY = {"NumPy": None, "NumPy, longdouble": np.longdouble}
KINDS = {"ns an element": "{:.3f}", "times plain": "{:.2f}", "of plain read": "{:.0%}"} | dict.fromkeys(NUMPY, RATIO)


def measured(name, rounds):
    """The numbers of a row at the level of this process."""
    make, axis, n = CASES[name]
    x = make()
    exact, plain = bnstream.Moments(axis, exact=True), bnstream.Moments(axis)
    calls = {"exact": lambda: exact.update(x, n_threads=n), "plain": lambda: plain.update(x, n_threads=n),
             "read": lambda: floor.read(x, n)}
    if x.dtype == np.float64 and x.size > 2**20:
        calls |= {who: lambda dtype=dtype: (x.mean(axis, dtype=dtype), x.var(axis, dtype=dtype))
                  for who, dtype in NUMPY.items()}
    seconds = medians(calls, rounds)
    found = {"ns an element": seconds["exact"] / x.size * 1e9, "times plain": seconds["exact"] / seconds["plain"]}
    if x.size > 2**20:
        found["of plain read"] = seconds["read"] / seconds["exact"]
    return found | {who: seconds[who] / seconds["exact"] for who in NUMPY if who in seconds}


def throughput(run):
    names = levels.levels()
    table = Table(run.only, f"exact update, {threads(2)}, or 1 up to 1 MB and for 1e-30 to 1e30",
                  {f"{kind}, {short(name)}": style for name in names for kind, style in KINDS.items()})
    wanted = [name for name in CASES if table.wants(name)]
    if not wanted:
        return table
    with levels.processes(names) as processes:
        for name in wanted:
            found = {level: process.submit(measured, name, run.rounds).result() for level, process in processes.items()}
            table.row(name, {f"{kind}, {short(level)}": value for level in names
                             for kind, value in found[level].items()})
    return table
