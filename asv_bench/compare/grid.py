"""What the sweep measures in one process: layouts, sizes, operations, and the calls of bnstream and of its peers."""

import math
import statistics
import time

import numpy as np
from benchmarks import layers, reductions
from benchmarks.data import array
from benchmarks.timing import PAUSE, WARM_UP, optional, trim

import bnstream

from . import peers
from .measure import seconds_of

resource = optional("resource")     # not on Windows

OPERATIONS = ("mean_var", "inference", "training", "backward")
PEERS = ("NumPy", "PyTorch", "ONNX Runtime")
IMAGES = {2**26: (64, 56, 56), 2**20: (64, 28, 28), 2**16: (32, 7, 7), 0: (8, 4, 4)}    # CHW, by the least bytes
LAYOUTS = {             # how many channels a table has, or where images have theirs; the order in memory
    "(N, 64)": (64, "C"),
    "(N, 64), Fortran order": (64, "F"),
    "NCHW images": ("first", "C"),
    "channels last images": ("last", "C"),
    "one channel": (1, "C"),
    "3 channels": (3, "C"),
    "4097 channels": (4097, "C"),
}
THREADED = 60_000       # bytes; no library starts threads for a smaller array, except for ONNX Runtime.
PAGE = 4096             # bytes
COPIES = 12             # arrays of the size at hand that a process needs at most, with what the C library keeps
LEAST = 2e-4            # s; a faster call is repeated for this long within one measurement.
SLOW = 0.3              # s; a call that takes longer is not warmed up.
FEW = 100               # new pages, which take no longer than 0.1 ms
TRIES = 5               # of a measurement without new pages
LEAD = 3                # A peer that takes this many times as long as bnstream at first is not measured again.
MOST = 0.4              # s; no more rounds are started after this time.


def shape_of(layout, n_bytes):
    """The shape of a float32 array of at most so many bytes, or None where two rows are too large."""
    channels, _ = LAYOUTS[layout]
    row = (channels,)
    if channels in ("first", "last"):
        row = next(shape for least, shape in IMAGES.items() if n_bytes >= least)
        row = row if channels == "first" else (*row[1:], row[0])
    n_rows = n_bytes // 4 // math.prod(row)
    return (n_rows, *row) if n_rows > 1 else None


def arrays(shape, order):
    """x, dy and the result, with random numbers that repeat themselves, so that a GB of them is soon made.

    The arrays lie a page further apart than their size, as the C library places large ones. With the result exactly
    512 MB behind x, inference of 256 MB takes three times as long on a Zen 4.
    """
    n, some = math.prod(shape), array((3, 2**20), "float32")
    room = np.empty((3, n + PAGE // 4), "float32")
    for start in range(0, n, 2**20):
        part = room[:, start:start + 2**20]
        part[:] = some[:, :part.shape[1]]
    return [row[:n].reshape(shape, order=order) for row in room]


def calls_of(x, dy, out, channel_axis, n_threads, whose):
    """The calls by who and operation, of bnstream and of these peers as far as they are installed."""
    axis = tuple(a for a in range(x.ndim) if a != channel_axis)
    calls = {"bnstream": {"mean_var": reductions.by_bnstream(x, axis, n_threads)}
             | layers.of_bnstream(x, channel_axis, dy, out)}
    if "NumPy" in whose:
        calls["NumPy"] = {"mean_var": peers.by_numpy(x, axis)} | layers.of_numpy(x, channel_axis, dy)
    if "PyTorch" in whose and optional("torch"):
        calls["PyTorch"] = {"mean_var": reductions.by_torch(x, axis)} | layers.of_torch(x, channel_axis, n_threads, dy)
    onnx = "ONNX Runtime" in whose and optional("onnx") and optional("onnxruntime")
    if onnx and channel_axis == 1 and x.flags.c_contiguous:
        calls["ONNX Runtime"] = {"inference": layers.of_onnxruntime(x, out, n_threads)}
    return calls


def faults():
    """How often this process has touched a new page, or 0 where the system does not count."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt if resource else 0


def timed(call):
    """The seconds of a call, and whether it only touched pages that were used before."""
    before = faults()
    taken = seconds_of(call)
    return taken, faults() - before < FEW


def seconds(call, pause):
    """One measurement, of enough calls for the clock. pause: let the threads of the call before fall asleep first.

    A call is repeated if its result went to new pages: PyTorch asks for an alignment, so the C library does not always
    give it the memory that the call before has freed.
    """
    if pause:
        time.sleep(PAUSE)
    awake = time.perf_counter() + WARM_UP
    once, used = timed(call)
    if once > SLOW and used:
        return once
    while pause and time.perf_counter() < awake:
        call()
    for _ in range(TRIES):
        once, used = timed(call)
        if used:
            break
    number = int(LEAST / once) + 1
    return once if once > LEAST else seconds_of(call, number) / number


def medians(calls, pause, rounds):
    """Median seconds by name, of calls that take turns; peers that are far behind are measured once."""
    taken = {name: [seconds(call, pause)] for name, call in calls.items()}
    ours = taken["bnstream"][0]
    close = [name for name in calls if name == "bnstream" or taken[name][0] < LEAD * ours]
    end = time.perf_counter() + MOST
    for _ in range(rounds - 1 if len(close) > 1 else 0):
        if time.perf_counter() > end:
            break
        for name in close:
            taken[name].append(seconds(calls[name], pause))
    return {name: statistics.median(values) for name, values in taken.items()}


def measured(*arguments):
    """What `of_size` finds; then the process returns its free memory, for the process of another level."""
    found = of_size(*arguments)
    trim()
    return found


def of_size(layout, size, racing, rounds):
    """Median seconds by operation, number of threads and who, where at least one peer has the call.

    racing: the peers that are measured, by operation and number of threads.
    """
    shape, order = shape_of(layout, size), LAYOUTS[layout][1]
    channel_axis = len(shape) - 1 if LAYOUTS[layout][0] == "last" else 1
    (x, dy, out), found = arrays(shape, order), {}
    for n in sorted({n for _, n in racing}):
        bnstream.set_num_threads(n)
        whose = {who for (_, count), names in racing.items() if count == n for who in names}
        calls = calls_of(x, dy, out, channel_axis, n, whose)
        peers.set_num_threads(n)
        pause = n > 1 and (x.nbytes > THREADED or "ONNX Runtime" in calls)
        for operation in (operation for operation, count in racing if count == n):
            wanted = {who: named[operation] for who, named in calls.items()
                      if operation in named and who in ("bnstream", *racing[operation, n])}
            if len(wanted) > 1:
                found[operation, n] = medians(wanted, pause, rounds)
    return found
