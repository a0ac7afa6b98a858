"""Tables of batch normalization."""

from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import numpy as np
from benchmarks import floor, layers
from benchmarks.data import array
from benchmarks.timing import optional, set_pages

import bnstream

from . import peers
from .measure import RATIO, medians, threads
from .table import Table

# The bytes that a call moves at least, in copies of the float32 array.
COPIES = {"training": 1, "inference": 1, "backward": 3 / 2, "normalize": 5 / 8}
IMAGES = (128, 224, 224, 3)
FRESH = ("NumPy", "PyTorch")        # These always make a new result.
SHAPES = {      # name: shape, channel axis
    "(128, 64, 56, 56)": ((128, 64, 56, 56), 1),
    "(128, 56, 56, 64), channels last": ((128, 56, 56, 64), 3),
    "(100000, 256)": ((100000, 256), 1),
    "(32, 64, 56, 56)": ((32, 64, 56, 56), 1),
    "(32, 512, 14, 14)": ((32, 512, 14, 14), 1),
    "(32, 2048, 7, 7)": ((32, 2048, 7, 7), 1),
    "(4096, 256)": ((4096, 256), 1),
}


def layer(n_threads, shape, channel_axis):
    """The calls on one array, by (who, kind)."""
    x, dy = array(shape, "float32"), array(shape, "float32", 1)
    out = np.ones_like(x)
    calls = {("copy", ""): lambda: floor.copy(x, out, n_threads)}
    for name, call in layers.of_bnstream(x, channel_axis, dy, out).items():
        kind = name.removesuffix(", fresh")
        calls["out" if kind == name else "bnstream", kind] = call
    calls |= {("NumPy", kind): call for kind, call in layers.of_numpy(x, channel_axis).items()}
    if optional("torch"):
        calls |= {("PyTorch", kind): call for kind, call in layers.of_torch(x, channel_axis, n_threads, dy).items()}
    if x.ndim == 4 and channel_axis == 1 and optional("onnx") and optional("onnxruntime"):
        calls["ONNX Runtime", "inference"] = layers.of_onnxruntime(x, out, n_threads)
    return calls


def images(n_threads):
    """The same for uint8 to float32; the copy is of an array of the result's size."""
    x, out, other = array(IMAGES, "uint8"), np.ones(IMAGES, "float32"), np.ones(IMAGES, "float32")
    mean, sd = layers.IMAGE_MEAN, layers.IMAGE_SD
    calls = {
        ("copy", ""): lambda: floor.copy(other, out, n_threads),
        ("out", "normalize"): lambda: bnstream.normalize(x, mean, sd**2, out=out),
        ("bnstream", "normalize"): lambda: bnstream.normalize(x, mean, sd**2),
    }
    return calls | {(who, "normalize"): call for who, call in peers.normalize(x, mean, sd, n_threads).items()}


def of_kinds(wanted, with_out, rounds, make, n_threads, *arguments):
    """Medians of the calls of these kinds. with_out: also of those that write to `out`, and so touch no new page."""
    bnstream.set_num_threads(n_threads)
    calls = make(n_threads, *arguments)
    out = () if with_out else ("copy", "out", "ONNX Runtime")
    return medians({(who, kind): call for (who, kind), call in calls.items()
                    if who not in out and kind in ("", *wanted)}, rounds)


def processes():
    """Two processes, whose large results go to pages that the process has used before, or to new ones."""
    return {pages: ProcessPoolExecutor(1, get_context("spawn"), set_pages, [pages]) for pages in ("reused", "new")}


def fill(table, rows, kinds, run, make):
    """Fill in a row for each array and kind. rows: the other arguments of `make`, by the array's name."""
    pools = processes()
    with pools["reused"], pools["new"]:
        for name, arguments in rows.items():
            wanted = [kind for kind in kinds if table.wants(f"{name}, {kind}")]
            if not wanted:
                continue
            seconds = {pages: pool.submit(of_kinds, wanted, pages == "reused", run.rounds, make, run.threads,
                                          *arguments).result() for pages, pool in pools.items()}
            for kind in wanted:
                table.row(f"{name}, {kind}", values(seconds, kind))


def values(seconds, kind):
    """The numbers of a row. seconds: by pages and (who, kind)."""
    reused = seconds["reused"]
    out = reused["out", kind]
    found = {"ms": out * 1e3, "floors": out / reused["copy", ""] / COPIES[kind]}
    if ("ONNX Runtime", kind) in reused:
        found["ONNX Runtime"] = reused["ONNX Runtime", kind] / out
    for pages, of_calls in seconds.items():
        ours = of_calls["bnstream", kind]
        found[f"ms, {pages} pages"] = ours * 1e3
        found |= {f"{who}, {pages} pages": of_calls[who, kind] / ours for who in FRESH
                  if (who, kind) in of_calls}
    return found


def columns(*given):
    """Columns for the installed peers: first those that write to `out`, then those that make a new result."""
    result = {"ms": "{:.3f}", "floors": "{:.2f}"} | dict.fromkeys(peers.installed(*given), RATIO)
    for pages in ("reused", "new"):
        result[f"ms, {pages} pages"] = "{:.3f}"
        result |= {f"{who}, {pages} pages": RATIO for who in peers.installed(*FRESH)}
    return result


def throughput(run):
    table = Table(run.only, f"batch_norm float32, {threads(run.threads)}", columns("ONNX Runtime"))
    fill(table, SHAPES, ("training", "inference", "backward"), run, layer)
    return table


def of_images(run):
    table = Table(run.only, f"uint8 to float32, {threads(run.threads)}", columns())
    fill(table, {str(IMAGES): ()}, ["normalize"], run, images)
    return table


def functional(x, out, training):
    """A call of batch_norm with gamma, beta and running estimates, as PyTorch's function takes them."""
    n = x.shape[1]
    mean, var, gamma, beta = np.zeros(n), np.ones(n), np.ones(n, "float32"), np.zeros(n, "float32")
    return lambda: bnstream.batch_norm(x, mean, var, gamma, beta, training=training, out=out)


def small_batches(run):
    """Small batches beside np.add of the same array."""
    names = peers.installed("PyTorch")
    table = Table(run.only, "one batch of (8, 17) float32",
                  {"us": "{:.2f}", "of np.add": "{:.1f}"} | dict.fromkeys(names, RATIO))
    x = array((8, 17), "float32")
    out = np.ones_like(x)
    calls = layers.of_bnstream(x, out=out)
    calls |= {f"{kind}, without a layer": functional(x, out, kind == "training") for kind in ("training", "inference")}
    calls |= {"np.add": lambda: np.add(x, x, out), "np.add, fresh": lambda: np.add(x, x)}
    if not table.wants(*calls):
        return table
    of_torch = layers.of_torch(x) if names else {}
    seconds = medians(calls | {("PyTorch", kind): call for kind, call in of_torch.items()}, run.rounds)
    for name in calls:
        kind, _, way = name.partition(", ")
        add = seconds["np.add, fresh" if way == "fresh" else "np.add"]
        values = {"us": seconds[name] * 1e6, "of np.add": seconds[name] / add}
        if ("PyTorch", kind) in seconds:
            values["PyTorch"] = seconds["PyTorch", kind] / seconds[name]
        table.row(name, values)
    return table
