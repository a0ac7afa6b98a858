"""The tables of compare.py about batch normalization."""

import numpy as np
from benchmarks import batchnorm_accuracy, floor, layers
from benchmarks.data import array
from benchmarks.timing import interleaved, optional
from table import Table, ratio

import bnstream

KINDS = ("training", "inference", "backward", "training, fresh", "inference, fresh", "backward, fresh")
IMAGES = (128, 224, 224, 3)


def plain(kind):
    """What PyTorch is asked for: its function has no `out`."""
    return kind.removesuffix(", fresh").removesuffix(", without a layer")


def peers(x, channel_axis, threads, dy, out):
    """The calls of those that are installed, by (who, what)."""
    calls = {}
    if optional("torch"):
        calls |= {("torch", kind): call for kind, call in layers.of_torch(x, channel_axis, threads, dy).items()}
    if x.ndim == 4 and channel_axis == 1 and optional("onnx") and optional("onnxruntime"):
        calls["onnxruntime", "inference"] = layers.of_onnxruntime(x, out, threads)
    return calls


def throughput(rounds, threads, only, pages):
    columns = ("torch", "onnxruntime", "numpy")
    table = Table(only, f"batch_norm float32, {threads} threads, {pages}", "ms", "of a parallel copy", *columns)
    for shape, channel_axis in layers.CHANNEL_AXIS.items():
        last = ", channels last" if channel_axis == 3 else ""
        names = {kind: f"{shape}{last}, {kind}" for kind in KINDS}
        wanted = [kind for kind, name in names.items() if table.wants(name)]
        if not wanted:
            continue
        x, dy = array(shape, "float32"), array(shape, "float32", 1)
        out = np.ones_like(x)
        ours = layers.of_bnstream(x, channel_axis, dy, out)
        calls = {kind: ours[kind] for kind in wanted} | {"copy": lambda x=x, out=out: floor.copy(x, out, threads)}
        for (who, what), call in peers(x, channel_axis, threads, dy, out).items():
            if what in map(plain, wanted):
                calls[who, what] = call
        seconds = interleaved(calls, rounds)
        for kind in wanted:
            of_peers = {who: seconds[who, plain(kind)] for who in columns if (who, plain(kind)) in seconds}
            if kind != "inference":
                of_peers.pop("onnxruntime", None)       # it writes to `out`
            table.row(names[kind], f"{seconds[kind] * 1e3:.3f}", f"{seconds['copy'] / seconds[kind]:.0%}",
                      *(ratio(of_peers, who, seconds[kind]) for who in columns))
    images(rounds, threads, table)


def images(rounds, threads, table):
    """The same table's rows of uint8 to float32, which NumPy does in two steps."""
    names = {kind: f"{IMAGES} uint8, normalize{kind}" for kind in ("", ", fresh")}
    if not table.wants(*names.values()):
        return
    x, out = array(IMAGES, "uint8"), np.ones(IMAGES, "float32")
    mean, sd = layers.IMAGE_MEAN, layers.IMAGE_SD
    seconds = interleaved({
        "": lambda: bnstream.normalize(x, mean, sd**2, out=out),
        ", fresh": lambda: bnstream.normalize(x, mean, sd**2),
        "numpy": lambda: (x - mean) / sd,
    }, rounds)
    for kind, name in names.items():
        table.row(name, f"{seconds[kind] * 1e3:.3f}", "", "", "", ratio(seconds, "numpy", seconds[kind]))


def functional(x, out, training):
    """batch_norm as PyTorch's function has it, gamma and beta and running estimates given."""
    n = x.shape[1]
    mean, var, gamma, beta = np.zeros(n), np.ones(n), np.ones(n, "float32"), np.zeros(n, "float32")
    return lambda: bnstream.batch_norm(x, mean, var, gamma, beta, training=training, out=out)


def latency(rounds, only):
    """Small batches, against np.add of the same array."""
    table = Table(only, "one batch of (8, 17) float32", "us", "of np.add", "torch")
    x = array((8, 17), "float32")
    out = np.ones_like(x)
    calls = layers.of_bnstream(x, out=out)
    kinds = [*KINDS]
    for kind, training in (("training", True), ("inference", False)):
        kinds.append(f"{kind}, without a layer")
        calls[kinds[-1]] = functional(x, out, training)
    calls |= {"np.add": lambda: np.add(x, x, out), "np.add, fresh": lambda: np.add(x, x)}
    if not table.wants(*calls):
        return
    if optional("torch"):
        calls |= {("torch", kind): call for kind, call in layers.of_torch(x).items()}
    seconds = interleaved(calls, rounds, 2000)
    for name in (*kinds, "np.add", "np.add, fresh"):
        ours = seconds[name]
        add = seconds["np.add, fresh" if name.endswith("fresh") else "np.add"]
        table.row(name, f"{ours * 1e6:.2f}", f"{ours / add:.2f}", ratio(seconds, ("torch", plain(name)), ours))


def errors(only):
    """In training, in ulp: the worst of four channels."""
    ways = [way for way in batchnorm_accuracy.WAYS if way == "bnstream" or optional(way)]
    shape = (batchnorm_accuracy.N, batchnorm_accuracy.CHANNELS)
    columns = [f"{way}: {what}" for what in ("y", "dx", "grad_gamma") for way in ways]
    table = Table(only, f"batch_norm, errors in ulp by mean / sd, {shape} float32", *columns)
    for mean in batchnorm_accuracy.RATIOS:
        if table.wants(f"{mean:,}"):
            found = [batchnorm_accuracy.errors(way, mean) for way in ways]
            table.row(f"{mean:,}", *(f"{error:.3g}" for of_one in zip(*found, strict=True) for error in of_one))


def tables(rounds, threads, only, pages=None):
    bnstream.set_num_threads(threads)
    throughput(rounds, threads, only, f"{pages or 'any'} pages")
    latency(rounds, only)
    errors(only)
    bnstream.set_num_threads(None)
