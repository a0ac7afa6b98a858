"""The table of arrays that fit the caches, beside the arithmetic alone, at each level of the CPU."""

import math

from benchmarks import cache, floor, layers, levels, reductions
from benchmarks.timing import optional

from . import peers
from .measure import medians
from .table import Table

KINDS = {"ns": "{:.3f}", "floors": "{:.2f}", "PyTorch": "{:.2f}x"}


def of_torch(x, dy):
    """PyTorch's calls by operation, or none."""
    if not optional("torch"):
        return {}
    calls = {"moments": reductions.by_torch(x, cache.SHAPES[x.shape])} | layers.of_torch(x, 1, 1, dy)
    peers.set_num_threads(1)
    return calls


def measured(shape, operations, rounds):
    """Median seconds at the level of this process, by who and operation."""
    x, dy, out = cache.arrays(shape)
    calls = {"bnstream": cache.of_bnstream(x, dy, out), "floor": cache.of_floor(x, dy, out, cache.TIMES),
             "PyTorch": of_torch(x, dy)}
    return medians({(who, name): call for who, named in calls.items() for name, call in named.items()
                    if name in operations}, rounds)


def values(seconds, operation, n):
    """The numbers of one level in a row. seconds: by who and operation; n: the elements."""
    ours = seconds["bnstream", operation]
    found = {"ns": ours / n * 1e9, "floors": ours / seconds["floor", operation] * cache.TIMES}
    if ("PyTorch", operation) in seconds:
        found["PyTorch"] = seconds["PyTorch", operation] / ours
    return found


def short(level):
    return level.removeprefix("x86-64-")


def columns(names):
    """The columns of each level, without a peer that is not installed."""
    kinds = {kind: style for kind, style in KINDS.items() if kind not in peers.WHERE or peers.installed(kind)}
    return {f"{kind}, {short(name)}": style for name in names for kind, style in kinds.items()}


def throughput(run):
    names = levels.levels()
    table = Table(run.only, "float32 in the cache, 1 thread", columns(names))
    wanted = {shape: [name for name in floor.OPERATIONS if table.wants(f"{shape}, {name}")] for shape in cache.SHAPES}
    if not any(wanted.values()):
        return table
    with levels.processes(names) as processes:
        for shape, operations in wanted.items():
            seconds = {name: process.submit(measured, shape, operations, run.rounds).result()
                       for name, process in processes.items()}
            for operation in operations:
                table.row(f"{shape}, {operation}", {
                    f"{kind}, {short(name)}": value for name in names
                    for kind, value in values(seconds[name], operation, math.prod(shape)).items()})
    return table
