"""The table of fit of files."""

import sys
import tempfile
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path

from benchmarks import files
from benchmarks.timing import optional

from . import peers
from .measure import medians, threads
from .table import Table

MOST = 0.2      # s a round, on average, so that calls of half a second are repeated
SHAPE = (2_000_000, 256)


def of_table(file, make, n_rows, nan_policy="raise", **options):
    """What a row needs: the file, the bytes of its numbers in memory, the function that writes it, and nan_policy."""
    return file, n_rows * files.COLUMNS * 8, partial(make, n_rows=n_rows, **options), nan_policy


ROWS = {
    ".npy, 2 GB float32": ("x.npy", SHAPE[0] * SHAPE[1] * 4, partial(files.make_npy, shape=SHAPE), "raise"),
    "Parquet, 4 million rows of 16 columns": of_table("x.parquet", files.make_parquet, 4_000_000),
    'Parquet, 5 % missing in 4 columns, nan_policy="omit"':
        of_table("x.parquet", files.make_parquet, 4_000_000, "omit", missing=0.05),
    "CSV, 190 MB, 16 columns": of_table("x.csv", files.make_csv, 1_000_000),
    "CSV, the same in gzip": of_table("x.csv.gz", files.make_csv, 1_000_000),
}


def calls_of(path, n_threads, nan_policy):
    """The calls by who makes them. Peers that cannot be called are named on stderr."""
    calls = {"bnstream": files.by_bnstream(path, n_threads, nan_policy)}
    if path.suffix == ".npy":
        return calls | {"plainly": files.plainly(path)}
    for name, way in files.PEERS.items():
        try:
            calls[name] = way(path, n_threads)
        except NotImplementedError as error:
            print(f"{name} is left out: {error}", file=sys.stderr)
    return calls


def measured(path, run, nan_policy):
    return medians(calls_of(path, run.threads, nan_policy), run.rounds, MOST)


def throughput(run):
    names = [name for name in files.PEERS if peers.installed(name.partition(",")[0])]
    columns = {"ms": "{:.0f}", "GB/s": "{:.2f}", "of reading it plainly": "{:.0%}"} | dict.fromkeys(names, "{:.2f}x")
    table = Table(run.only, f"fit, {threads(run.threads)}", columns)
    for name, (file, n_bytes, make, nan_policy) in ROWS.items():
        if not table.wants(name) or (file != "x.npy" and not optional("pyarrow")):
            continue
        # A new process has the C library's default allocation, and imports polars with this number of threads.
        with tempfile.TemporaryDirectory() as folder, ProcessPoolExecutor(1, get_context("spawn")) as process:
            make(path := Path(folder, file))
            seconds = process.submit(measured, path, run, nan_policy).result()
        ours = seconds.pop("bnstream")
        values = {"ms": ours * 1e3, "GB/s": n_bytes / ours / 1e9}
        if "plainly" in seconds:
            values["of reading it plainly"] = seconds.pop("plainly") / ours
        table.row(name, values | {name: value / ours for name, value in seconds.items()})
    return table
