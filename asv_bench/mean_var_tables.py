"""The tables of compare.py about mean_var and Moments."""

from fractions import Fraction

import numpy as np
from benchmarks import floor
from benchmarks.data import array
from benchmarks.timing import interleaved, optional
from table import Table, ratio

import bnstream


def numpy_mean_var(x, axis):
    return lambda: (x.mean(axis), x.var(axis))


def throughput(x, axis, threads, peers=()):
    """The calls of one row of the table."""
    calls = {"bnstream": lambda: bnstream.mean_var(x, axis, n_threads=threads)}
    if x.nbytes > 1e6 and (x.flags.c_contiguous or x.flags.f_contiguous):
        calls["read"] = lambda: floor.read(x, threads)
    if "numpy" in peers:
        calls["numpy"] = numpy_mean_var(x, axis)
    if "torch" in peers and (torch := optional("torch")):
        torch.set_num_threads(threads)
        tensor = torch.from_numpy(x)
        calls["torch"] = lambda: torch.var_mean(tensor, dim=axis, correction=0)
    if "oneDAL" in peers and (onedal := optional("sklearnex.basic_statistics")):
        def incremental():
            onedal.IncrementalBasicStatistics(result_options=["mean", "variance"]).partial_fit(x)
        calls["oneDAL"] = incremental
    if "sklearn" in peers and (sklearn := optional("sklearn.preprocessing")):
        calls["sklearn"] = lambda: sklearn.StandardScaler().partial_fit(x)
    return calls


THROUGHPUT = [
    ("(65536, 256) float32", (65536, 256), np.float32, 0, ("numpy", "torch", "oneDAL", "sklearn")),
    ("(65536, 256) float64", (65536, 256), np.float64, 0, ("numpy", "torch", "oneDAL")),
    ("(32, 64, 56, 56) float32", (32, 64, 56, 56), np.float32, (0, 2, 3), ("numpy", "torch")),
    ("(32, 512, 14, 14) float32", (32, 512, 14, 14), np.float32, (0, 2, 3), ("numpy", "torch")),
    ("(32, 2048, 7, 7) float32", (32, 2048, 7, 7), np.float32, (0, 2, 3), ("numpy", "torch")),
    ("(128, 224, 224, 3) uint8", (128, 224, 224, 3), np.uint8, (0, 1, 2), ("numpy",)),
    ("(128, 3, 224, 224) uint8", (128, 3, 224, 224), np.uint8, (0, 2, 3), ("numpy",)),
    ("(65536, 256) int16", (65536, 256), np.int16, 0, ("numpy",)),
    ("(65536, 256) float16", (65536, 256), np.float16, 0, ("numpy",)),
    ("(4096, 256) float32", (4096, 256), np.float32, 0, ("numpy", "torch")),
    ("(1000, 7) float32", (1000, 7), np.float32, 0, ("numpy", "torch")),
    ("(1000000, 3) float32", (1000000, 3), np.float32, 0, ("numpy", "torch")),
    ("(200, 50000) float32", (200, 50000), np.float32, 0, ("numpy", "torch")),
    ("(64, 1, 3, 224, 224) float32", (64, 1, 3, 224, 224), np.float32, (0, 1, 3, 4), ("numpy", "torch")),
]
LAYOUTS = [
    ("(256, 65536).T float32", lambda: array((256, 65536), np.float32).T, 0),
    ("(65536, 256)[:, ::2] float32", lambda: array((65536, 256), np.float32)[:, ::2], 0),
    ("(65536, 256) float32, Fortran order", lambda: np.asfortranarray(array((65536, 256), np.float32)), 0),
    ("(32, 64, 56, 56)[:, :, ::2] float32", lambda: array((32, 64, 56, 56), np.float32)[:, :, ::2], (0, 2, 3)),
]


def throughput_table(rounds, threads, only):
    peers = ("numpy", "torch", "oneDAL", "sklearn")
    rows = [(name, lambda s=shape, d=dtype: array(s, d), axis, with_) for name, shape, dtype, axis, with_ in THROUGHPUT]
    rows += [(name, make, axis, ("numpy", "torch")) for name, make, axis in LAYOUTS]
    table = Table(only, f"mean_var, {threads} threads", "ms", "of plain read", *peers)
    for name, make, axis, with_ in rows:
        if not table.wants(name):
            continue
        x = make()
        seconds = interleaved(throughput(x, axis, threads, with_), rounds, 50 if x.nbytes < 1e6 else 1)
        ours = seconds["bnstream"]
        share = f"{seconds['read'] / ours:.0%}" if "read" in seconds else ""
        table.row(name, f"{ours * 1e3:.3f}", share, *(ratio(seconds, p, ours) for p in peers))


def latency(rounds, only):
    """Small updates, against np.add of the same array."""
    table = Table(only, "one batch of (8, 17) float64", "us", "of an update")
    x = np.random.default_rng(0).standard_normal((8, 17))
    moments = bnstream.Moments()
    calls = {"Moments.update": lambda: moments.update(x), "np.add": lambda: np.add(x, x)}
    if gymnasium := optional("gymnasium.wrappers.utils"):
        running = gymnasium.RunningMeanStd(shape=(17,))
        calls["gymnasium RunningMeanStd.update"] = lambda: running.update(x)
    if not table.wants(*calls):
        return
    seconds = interleaved(calls, rounds, 2000)
    for name, value in seconds.items():
        table.row(name, f"{value * 1e6:.2f}", f"{value / seconds['Moments.update']:.2f}")


def scaling(rounds, only):
    """Two threads against one, and time per element against size."""
    name = "1 to 2 threads on (4096, 256) float32"
    if only in name:
        x = array((4096, 256), np.float32)
        seconds = interleaved({n: lambda n=n: bnstream.mean_var(x, n_threads=n) for n in (1, 2)}, rounds * 20)
        print(f"\n{name}: {seconds[1] / seconds[2]:.2f}x")
    table = Table(only, "elements, float32 (n, 256), 2 threads", "ns an element")
    for exponent in range(5, 10):
        if not table.wants(f"1e{exponent}"):
            continue
        x = np.empty((10**exponent // 256, 256), np.float32)
        for start in range(0, len(x), 65536):
            part = x[start:start + 65536]
            part[...] = array(part.shape, np.float32)
        calls = {"bnstream": lambda x=x: bnstream.mean_var(x, n_threads=2)}
        seconds = interleaved(calls, min(rounds, 5), 10 ** max(0, 7 - exponent))
        table.row(f"1e{exponent}", f"{seconds['bnstream'] / x.size * 1e9:.3f}")


def exact_var(column):
    """The variance of a column in rational arithmetic."""
    values = [Fraction(v) for v in column.tolist()]
    mean = sum(values) / len(values)
    return sum((v - mean) ** 2 for v in values) / len(values)


def errors(only):
    """The relative error of the variance, the worst of four columns, against |mean| / sd."""
    ways = {"bnstream": lambda x: bnstream.mean_var(x, dtype="float64")[1], "numpy": lambda x: x.var(0)}
    if torch := optional("torch"):
        ways["torch"] = lambda x: torch.var_mean(torch.from_numpy(x), dim=0, correction=0)[0].numpy()
    if onedal := optional("sklearnex.basic_statistics"):
        def incremental(x):
            return onedal.IncrementalBasicStatistics(result_options=["mean", "variance"]).partial_fit(x).variance_
        ways["oneDAL"] = lambda x: incremental(x) * (len(x) - 1) / len(x)
    if sklearn := optional("sklearn.preprocessing"):
        ways["sklearn"] = lambda x: sklearn.StandardScaler().partial_fit(x).var_
    table = Table(only, "mean / sd, (20000, 4) float32", *ways)
    for mean in (1, 100, 10**4, 10**6):
        if not table.wants(f"{mean:,}"):
            continue
        x = (array((20000, 4), np.float64) + mean).astype(np.float32)
        exact = [exact_var(x[:, c]) for c in range(4)]
        worst = [max(abs(float(Fraction(float(v)) / e - 1)) for v, e in zip(way(x), exact, strict=True))
                 for way in ways.values()]
        table.row(f"{mean:,}", *(f"{w:.1e}" for w in worst))


def tables(rounds, threads, only):
    throughput_table(rounds, threads, only)
    latency(rounds, only)
    errors(only)
    scaling(rounds, only)
