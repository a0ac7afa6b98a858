"""Search many shapes for those where NumPy or PyTorch comes closest, or is faster; print the worst ratios as Markdown.

The shapes have rows in powers of ten, channels and inner sizes from one up, channels first and last; each comes in four
dtypes and is measured by number of threads. All sides make new results. A peer that takes at least LEAD times as long
as bnstream in its first measurement is not measured again.
"""

import csv
import itertools
import statistics
import time
from pathlib import Path

import numpy as np
from benchmarks import reductions
from benchmarks.data import array
from benchmarks.layers import EPS, repeatable
from benchmarks.timing import optional, set_pages, wake

import bnstream

from . import peers
from .measure import threads

ROWS = [10**e for e in range(8)]
CHANNELS = [1, 2, 3, 7, 16, 17, 64, 100, 1000, 4097]
INNER = [1, 9, 49, 3136]
DTYPES = ["float32", "float64", "float16", "uint8"]
LEAD = 2


def shapes(max_bytes):
    """Yield (shape, channel axis, order, dtype) of every array in the sweep."""
    for rows, channels, inner, last, dtype in itertools.product(ROWS, CHANNELS, INNER, (False, True), DTYPES):
        if rows * channels * inner * np.dtype(dtype).itemsize > max_bytes:
            continue
        if inner == 1:
            yield (rows, channels), 1, "C" if last else "F", dtype
        elif last:
            yield (rows, inner, channels), 2, "C", dtype
        else:
            yield (rows, channels, inner), 1, "C", dtype


def mean_var_calls(x, channel_axis, n_threads):
    """The calls of mean and variance, by kind and who."""
    axis = tuple(a for a in range(x.ndim) if a != channel_axis)
    ways = {"NumPy": peers.by_numpy} | ({"PyTorch": reductions.by_torch} if x.dtype.kind == "f" else {})
    return {"mean_var": {"bnstream": reductions.by_bnstream(x, axis, n_threads)}
            | peers.calls_of(ways, x, axis, n_threads)}


def batch_norm_calls(x, channel_axis, torch):
    """The calls in training, inference and backward, by kind and who."""
    n, dtype = x.shape[channel_axis], "float64" if x.dtype == np.float64 else "float32"
    dy = x.copy("K")
    make = {"channel_axis": channel_axis, "dtype": dtype}
    trained, frozen = bnstream.BatchNorm(n, **make), bnstream.BatchNorm(n, **make).eval()
    shape = [n if a == channel_axis else 1 for a in range(x.ndim)]
    mean, var, gamma, beta = (np.full(shape, value, dtype) for value in (0, 1, 1, 0))
    training = {"bnstream": lambda: trained(x)}
    inference = {"bnstream": lambda: frozen(x), "NumPy": lambda: (x - mean) / np.sqrt(var + EPS) * gamma + beta}
    backward = {}
    calls = {"inference": inference}
    if x.size > n:
        calls |= {"training": training, "backward": backward}
        called = bnstream.BatchNorm(n, **make)
        called(x)
        backward["bnstream"] = repeatable(called, dy)
    if torch:
        tensor, slope = (torch.from_numpy(a).movedim(channel_axis, 1) for a in (x, dy))
        state = [torch.from_numpy(a.ravel()) for a in (mean, var, gamma, beta)]
        weights, function = state[2:], torch.nn.functional.batch_norm
        inference["PyTorch"] = lambda: function(tensor, *state, False, 0.1, EPS)
        if x.size > n:
            moving = [s.clone() for s in state[:2]]
            _, *saved = torch.native_batch_norm(tensor, *weights, *moving, True, 0.1, EPS)
            native = torch.ops.aten.native_batch_norm_backward
            training["PyTorch"] = lambda: function(tensor, *moving, *weights, True, 0.1, EPS)
            backward["PyTorch"] = lambda: native(slope, tensor, weights[0], *moving, *saved, True, EPS, [True] * 3)
    return calls


def seconds(call, pause, at_least=2e-4):
    """One measurement, of enough calls for the clock; pause: let other threads fall asleep first, and wake its own."""
    if pause:
        wake(call)
    else:
        call()
    start = time.perf_counter()
    call()
    once = time.perf_counter() - start
    if once > 2e-3:
        return once
    number = int(at_least / once) + 1
    start = time.perf_counter()
    for _ in range(number):
        call()
    return (time.perf_counter() - start) / number


def medians(calls, pause, rounds=7):
    """Median seconds by name; peers that are far behind are measured once."""
    ours = [seconds(calls["bnstream"], pause)]
    theirs = {name: [seconds(call, pause)] for name, call in calls.items() if name != "bnstream"}
    close = [name for name, times in theirs.items() if times[0] < LEAD * ours[0]]
    for _ in range(rounds if close else 0):
        ours.append(seconds(calls["bnstream"], pause))
        for name in close:
            theirs[name].append(seconds(calls[name], pause))
    return {name: statistics.median(times) for name, times in {"bnstream": ours, **theirs}.items()}


def sweep(max_bytes, counts, only):
    """Yield (ratio of the fastest peer, its name, seconds of bnstream, what) for every call."""
    torch = optional("torch")
    for shape, channel_axis, order, dtype in shapes(max_bytes):
        last = channel_axis == len(shape) - 1
        layout = "Fortran order" if order == "F" else f"channels {'last' if last else 'first'}"
        name = f"{shape} {dtype}, {layout}"
        if only not in name:
            continue
        x = array(shape, dtype).copy(order)
        for n in counts:
            bnstream.set_num_threads(n)
            if torch:
                torch.set_num_threads(n)
            kinds = mean_var_calls(x, channel_axis, n)
            if dtype in ("float32", "float64"):
                kinds |= batch_norm_calls(x, channel_axis, torch)
            for kind, calls in kinds.items():
                if len(calls) == 1:         # No installed peer has this call.
                    continue
                found = medians(calls, n > 1 and torch is not None and x.nbytes > 60_000)
                ours = found.pop("bnstream")
                peer = min(found, key=found.get)
                yield found[peer] / ours, peer, ours, f"{kind} {name}, {threads(n)}"


def add_arguments(parser):
    parser.add_argument("--worst", type=int, default=10, help="how many rows to print")
    parser.add_argument("--max-mib", type=int, default=64, help="size of the largest array")
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--only", default="", help="only shapes whose name contains this text")
    parser.add_argument("--pages", choices=["new", "reused"],
                        help="where large results go: to pages new to the process, or to used ones; by default the C "
                             "library decides")
    parser.add_argument("--csv", help="a file for all ratios")


def main(arguments):
    set_pages(arguments.pages)
    with np.errstate(all="ignore"):
        rows = sorted(sweep(arguments.max_mib << 20, arguments.threads, arguments.only))
    if arguments.csv:
        with Path(arguments.csv).open("w", newline="") as file:
            csv.writer(file).writerows([("ratio", "peer", "bnstream seconds", "call"), *rows])
    print(f"{len(rows)} calls, {sum(ratio < 1 for ratio, *_ in rows)} slower than a peer; the worst:\n")
    print("| call | us | fastest peer | takes |\n|---|---|---|---|")
    for ratio, peer, ours, what in rows[:arguments.worst]:
        print(f"| {what} | {ours * 1e6:.1f} | {peer} | {ratio:.2f}x |")
