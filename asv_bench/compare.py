"""bnstream and its peers in one run, interleaved: medians and ratios, as Markdown tables.

    python asv_bench/compare.py [--rounds 15] [--threads 2] [--only TEXT]

A peer that is not installed is left out. Set OMP_NUM_THREADS and the like for the peers as --threads says.
"""

import argparse
import importlib
import statistics
import time
import warnings
from fractions import Fraction

import numpy as np
from benchmarks import floor
from benchmarks.data import array

import bnstream


def optional(name):
    """A module, or None where it is not installed."""
    try:
        return importlib.import_module(name)
    except ImportError:
        return None


def interleaved(calls, rounds, number=1):
    """Median seconds of each call, one after the other in each round."""
    times = {name: [] for name in calls}
    for call in calls.values():
        call()
    for _ in range(rounds):
        for name, call in calls.items():
            start = time.perf_counter()
            for _ in range(number):
                call()
            times[name].append((time.perf_counter() - start) / number)
    return {name: statistics.median(values) for name, values in times.items()}


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
    rows = [(name, lambda s=shape, d=dtype: array(s, d), axis, peers) for name, shape, dtype, axis, peers in THROUGHPUT]
    rows += [(name, make, axis, ("numpy", "torch")) for name, make, axis in LAYOUTS]
    print(f"| mean_var, {threads} threads | ms | of plain read | numpy | torch | oneDAL | sklearn |")
    print("|---|---|---|---|---|---|---|")
    for name, make, axis, peers in rows:
        if only not in name:
            continue
        x = make()
        calls = throughput(x, axis, threads, peers)
        seconds = interleaved(calls, rounds, 50 if x.nbytes < 1e6 else 1)
        ours = seconds["bnstream"]
        share = f"{seconds['read'] / ours:.0%}" if "read" in seconds else ""
        ratios = [f"{seconds[p] / ours:.1f}x" if p in seconds else "" for p in ("numpy", "torch", "oneDAL", "sklearn")]
        print(f"| {name} | {ours * 1e3:.3f} | {share} | {' | '.join(ratios)} |", flush=True)


def latency(rounds):
    """Small updates, against np.add of the same array."""
    x = np.random.default_rng(0).standard_normal((8, 17))
    moments = bnstream.Moments()
    calls = {"Moments.update": lambda: moments.update(x), "np.add": lambda: np.add(x, x)}
    if gymnasium := optional("gymnasium.wrappers.utils"):
        running = gymnasium.RunningMeanStd(shape=(17,))
        calls["gymnasium RunningMeanStd.update"] = lambda: running.update(x)
    seconds = interleaved(calls, rounds, 2000)
    print("\n| one batch of (8, 17) float64 | us | of an update |")
    print("|---|---|---|")
    for name, value in seconds.items():
        print(f"| {name} | {value * 1e6:.2f} | {value / seconds['Moments.update']:.2f} |")


def scaling(rounds):
    """Two threads against one, and time per element against size."""
    x = array((4096, 256), np.float32)
    seconds = interleaved({n: lambda n=n: bnstream.mean_var(x, n_threads=n) for n in (1, 2)}, rounds * 20)
    print(f"\n1 to 2 threads on (4096, 256) float32: {seconds[1] / seconds[2]:.2f}x")
    print("\n| elements, float32 (n, 256), 2 threads | ns an element |")
    print("|---|---|")
    for exponent in range(5, 10):
        x = np.empty((10**exponent // 256, 256), np.float32)
        for start in range(0, len(x), 65536):
            part = x[start:start + 65536]
            part[...] = array(part.shape, np.float32)
        calls = {"bnstream": lambda x=x: bnstream.mean_var(x, n_threads=2)}
        seconds = interleaved(calls, min(rounds, 5), 10 ** max(0, 7 - exponent))
        print(f"| 1e{exponent} | {seconds['bnstream'] / x.size * 1e9:.3f} |", flush=True)


def exact_var(column):
    """The variance of a column in rational arithmetic."""
    values = [Fraction(v) for v in column.tolist()]
    mean = sum(values) / len(values)
    return sum((v - mean) ** 2 for v in values) / len(values)


def errors():
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
    print(f"\n| mean / sd, (20000, 4) float32 | {' | '.join(ways)} |")
    print("|---|" + "---|" * len(ways))
    for ratio in (1, 100, 10**4, 10**6):
        x = (array((20000, 4), np.float64) + ratio).astype(np.float32)
        exact = [exact_var(x[:, c]) for c in range(4)]
        worst = [max(abs(float(Fraction(float(v)) / e - 1)) for v, e in zip(way(x), exact, strict=True))
                 for way in ways.values()]
        print(f"| {ratio:,} | {' | '.join(f'{w:.1e}' for w in worst)} |", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=15, help="how often each call is timed")
    parser.add_argument("--threads", type=int, default=2, help="for bnstream, the plain read and PyTorch")
    parser.add_argument("--only", default="", help="only rows of the first table whose name holds this text")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    throughput_table(arguments.rounds, arguments.threads, arguments.only)
    if not arguments.only:
        latency(arguments.rounds)
        errors()
        scaling(arguments.rounds)


if __name__ == "__main__":
    main()
