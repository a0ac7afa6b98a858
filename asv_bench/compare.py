"""bnstream and its peers in one run, interleaved: medians and ratios, as a Markdown table.

    python asv_bench/compare.py [--rounds 15] [--threads 2] [--only TEXT]

A peer that is not installed is left out. Set OMP_NUM_THREADS and the like for the peers as --threads says.
"""

import argparse
import importlib
import statistics
import time
import warnings

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


def table(rounds, threads, only):
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
    x = np.random.default_rng(0).standard_normal((8, 17))
    moments = bnstream.Moments()
    calls = {"update": lambda: moments.update(x), "np.add": lambda: np.add(x, x)}
    if normalize := optional("gymnasium.wrappers.utils"):
        running = normalize.RunningMeanStd(shape=(17,))
        calls["gymnasium"] = lambda: running.update(x)
    seconds = interleaved(calls, rounds, 2000)
    for name, value in seconds.items():
        print(f"{name}: {value * 1e6:.3f} us, {value / seconds['update']:.2f} of an update")


def scaling(rounds):
    x = array((4096, 256), np.float32)
    seconds = interleaved({n: lambda n=n: bnstream.mean_var(x, n_threads=n) for n in (1, 2)}, rounds * 20)
    print(f"1 to 2 threads on (4096, 256): {seconds[1] / seconds[2]:.2f}x")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--only", default="")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    table(arguments.rounds, arguments.threads, arguments.only)
    if not arguments.only:
        latency(arguments.rounds)
        scaling(arguments.rounds)


if __name__ == "__main__":
    main()
