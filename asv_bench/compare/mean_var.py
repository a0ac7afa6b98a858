"""Tables of mean_var and Moments."""

import numpy as np
from benchmarks.data import array

import bnstream

from . import peers
from .measure import RATIO, mean_var, medians, share_columns, size_name, threads
from .table import Table

PLANES = (0, 2, 3)


def of(shape, dtype="float32", axis=0):
    """A row: its name, a function that makes its array, and the axes to reduce over."""
    return f"{shape} {dtype}", (lambda: array(shape, dtype), axis)


# 100 MB each, more than the caches hold, except for the last three.
ROWS = dict([
    of((100000, 256)),
    of((400000, 64)),
    of((25000, 1024)),
    of((8533333, 3)),
    of((256, 2048, 7, 7), axis=PLANES),
    of((256, 512, 14, 14), axis=PLANES),
    of((128, 64, 56, 56), axis=PLANES),
    of((50000, 256), "float64"),
    of((200000, 256), "int16"),
    of((200000, 256), "float16"),
    of((680, 224, 224, 3), "uint8", (0, 1, 2)),
    of((680, 3, 224, 224), "uint8", PLANES),
    of((170, 1, 3, 224, 224), axis=(0, 1, 3, 4)),
    of((500, 50000)),
]) | {
    "(256, 100000).T float32": (lambda: array((256, 100000), "float32").T, 0),
    "(100000, 512)[:, ::2] float32": (lambda: array((100000, 512), "float32")[:, ::2], 0),
    "(128, 64, 112, 56)[:, :, ::2] float32": (lambda: array((128, 64, 112, 56), "float32")[:, :, ::2], PLANES),
} | dict([
    of((32, 64, 56, 56), axis=PLANES),
    of((4096, 256)),
    of((1000, 7)),
])
OMIT = dict([of((100000, 256)), of((400000, 64)), of((8533333, 3)), of((128, 64, 56, 56), axis=PLANES)])
SIZES = [2**k for k in range(10, 31, 2)]


def with_nan(x):
    """Set one element in 97 to NaN."""
    x.reshape(-1)[::97] = np.nan
    return x


def fill(table, rows, run, of_peers, change=lambda x: x, **options):
    for name, (make, axis) in rows.items():
        if table.wants(name):
            x = change(make())
            table.row(name, mean_var(x, axis, run, of_peers(x, axis, run.threads), **options))
    return table


def throughput(run):
    names = peers.installed("NumPy", "PyTorch", "oneDAL", "scikit-learn")
    columns = {"ms": "{:.3f}"} | share_columns(run) | dict.fromkeys(names, RATIO)
    return fill(Table(run.only, f"mean_var, {threads(run.threads)}", columns), ROWS, run, peers.mean_var)


def omit(run):
    names = peers.installed("NumPy", "Bottleneck", "Numbagg", "scikit-learn")
    columns = {"ms": "{:.3f}"} | share_columns(run) | dict.fromkeys(names, RATIO)
    table = Table(run.only, f'mean_var, nan_policy="omit", {threads(run.threads)}', columns)
    return fill(table, OMIT, run, peers.omit, with_nan, nan_policy="omit")


def updates(run):
    """Updates of a stream by small batches, beside np.add of such a batch."""
    table = Table(run.only, "one batch of (8, 17) float64", {"us": "{:.2f}", "of Moments.update": "{:.1f}"})
    x = array((8, 17), "float64")
    moments = bnstream.Moments()
    calls = {"Moments.update": lambda: moments.update(x), "np.add": lambda: np.add(x, x)} | peers.updates(x)
    if table.wants(*calls):
        seconds = medians(calls, run.rounds)
        for name, value in seconds.items():
            table.row(name, {"us": value * 1e6, "of Moments.update": value / seconds["Moments.update"]})
    return table


def sizes(run):
    """Sizes from where the call itself is the cost to where memory is: parts of one array."""
    bandwidth = {f"GB/s, {threads(n)}": "{:.1f}" for n in run.counts}
    names = peers.installed("NumPy", "PyTorch", "oneDAL")
    columns = bandwidth | share_columns(run, "{:.1%}") | {"ms": "{:.4f}"} | dict.fromkeys(names, RATIO)
    table = Table(run.only, "mean_var of (n, 64) float32, of so many bytes", columns)
    wanted = [size for size in SIZES if table.wants(size_name(size))]
    if wanted:
        whole = np.empty((wanted[-1] // 256, 64), "float32")
        part = array((min(len(whole), 2**16), 64), "float32")
        for start in range(0, len(whole), len(part)):
            whole[start:start + len(part)] = part
    for size in wanted:
        x = whole[:size // 256]
        table.row(size_name(size), mean_var(x, 0, run, peers.mean_var(x, 0, run.threads)))
    return table
