"""``bnstream demo``: the passes over the flights, with a progress bar and two tables."""

import sys

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn

from bnstream.cli.demo.console import wide_console
from bnstream.cli.demo.flights import flights_path
from bnstream.cli.demo.passes import BATCH_ROWS, normalize_flights, train_on_flights
from bnstream.cli.demo.tables import normalization_table, training_table


def peak_memory() -> int | None:
    """The most bytes of memory that this process has occupied; None if the system does not report it."""
    try:
        import resource
    except ModuleNotFoundError:     # on Windows
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def run(chunk_bytes: int = 1 << 20) -> None:
    """Run all passes and print the tables. A progress bar is shown on stderr if that is a terminal."""
    path = flights_path()
    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeElapsedColumn())
    stderr = Console(stderr=True)
    with Progress(*columns, console=stderr, disable=not stderr.is_terminal) as bar:
        names = ("mean and std", "normalize", "BatchNorm, training", "BatchNorm, inference")
        tasks = [bar.add_task(name, total=1) for name in names]
        normalization = normalize_flights(path, chunk_bytes, lambda i, share: bar.update(tasks[i], completed=share))
        training = train_on_flights(path, chunk_bytes, lambda i, share: bar.update(tasks[2 + i], completed=share))
    console = wide_console()
    console.print(normalization_table(normalization))
    n_rows, seconds = normalization.n_rows, normalization.seconds
    console.print(f"\n{n_rows:,} rows, read twice in {seconds:.2f} s: {2 * n_rows / seconds:,.0f} rows per second\n")
    console.print(f"BatchNorm with momentum 0.1, on batches of {BATCH_ROWS} rows without missing values:\n")
    console.print(training_table(training))
    effective_n, n = training.layer.diagnose().effective_n.min(), training.exact.n.max()
    console.print(
        f"\nThe running estimates have an effective n of {effective_n:,.0f}, from rows of September.\n"
        f"The exact statistics are those of all {n:,} rows; recalibrate copies them\n"
        "to the layer. The output is that of inference with either."
    )
    peak = peak_memory()
    console.print("\npeak memory: " + ("not reported by this system" if peak is None else f"{peak / 2**20:.0f} MiB"))
