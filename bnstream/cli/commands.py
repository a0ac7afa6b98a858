"""Commands on streams and state files: fit, show, merge, apply, convert, plot. They import what they need when run."""

import csv
import json
import math
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np
import typer

import bnstream
from bnstream.cli.exits import INTERRUPTED
from bnstream.core.labels import channel_label, counted

if TYPE_CHECKING:
    from bnstream.streams.fitting import Progress

MOST_ROWS = 60      # of a table on a terminal

Sources = Annotated[list[str], typer.Argument(metavar="SOURCE...", help="Files, folders or globs of one kind: .npy, "
                                              ".npz, .csv, .tsv (also .gz, .zip), .parquet, .arrow, .feather, images.")]
State = Annotated[Path, typer.Argument(metavar="STATS", help="A state file, as fit writes it.")]
Out = Annotated[Path, typer.Option("-o", "--out", metavar="OUT", help="The file to write; it appears when whole.")]
ChannelAxis = Annotated[int | None, typer.Option(help="The channel axis of arrays; all others are reduced.",
                                                 show_default="the last")]
ChunkRows = Annotated[int | None, typer.Option(min=1, help="The most rows to read at a time.", show_default="some MiB")]
Threads = Annotated[int | None, typer.Option(min=1, help="How many threads.", show_default="as many as there are CPUs")]
Convention = Literal["bnstream", "pytorch", "keras", "flax", "onnx", "scikit-learn"]


@contextmanager
def shown(what: str) -> Iterator[Callable[["Progress"], None]]:
    """Progress on stderr, if that is a terminal. At Ctrl-C a pass ends where it can go on, at a second one at once."""
    from rich.console import Console
    from rich.progress import BarColumn, TaskProgressColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bar

    asked = []
    first: tuple[int, float] | None = None      # rows, those of an interrupted pass included, and when

    def ask(number: int, frame: FrameType | None) -> None:
        asked.append(number)
        signal.signal(number, signal.default_int_handler)

    stderr = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TextColumn("{task.fields[rows]}"),
               TimeRemainingColumn())
    # A job in the background of a script inherits that Ctrl-C is none of its business.
    numbers = [number for number in (signal.SIGINT, signal.SIGTERM) if signal.getsignal(number) != signal.SIG_IGN]
    before = {number: signal.signal(number, ask) for number in numbers}
    try:
        with Bar(*columns, console=stderr, disable=not stderr.is_terminal) as bar:
            task = bar.add_task(what, total=None, rows="")

            def show(now: "Progress") -> None:
                nonlocal first
                elapsed = bar.tasks[0].elapsed or 0.0
                first = first or (now.n_rows, elapsed)
                n_rows, seconds = now.n_rows - first[0], elapsed - first[1]
                rate = f", {n_rows / seconds:,.0f} rows/s" if seconds else ""
                total = None if now.share is None else 1.0
                bar.update(task, completed=now.share or 0.0, total=total, rows=f"{now.n_rows:,} rows{rate}")
                if asked:
                    raise KeyboardInterrupt

            yield show
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def names_in(columns: list[str] | None) -> list[str] | None:
    """Of one or more lists, in which quotes hold names with commas together."""
    return [name for names in csv.reader(columns, skipinitialspace=True) for name in names] if columns else None


def fit(
    sources: Sources,
    out: Out,
    columns: Annotated[
        list[str] | None, typer.Option(metavar="A,B,...", help="The columns, channels or arrays; '\"a,b\",c' for a "
                                                               "name with a comma.", show_default="all")
    ] = None,
    channel_axis: ChannelAxis = None,
    nan: Annotated[
        Literal["raise", "omit", "propagate"],
        typer.Option(help="Missing values, NaN and inf: refuse them, leave them out, or let them through."),
    ] = "raise",
    chunk_rows: ChunkRows = None,
    threads: Threads = None,
    checkpoint_every: Annotated[float, typer.Option(min=0, help="Seconds from one checkpoint to the next.")] = 60.0,
    resume: Annotated[bool, typer.Option("--resume", help="Go on from the checkpoint, if there is one.")] = False,
) -> None:
    """Count, mean and variance of every channel of files of any size, in one pass.

    A checkpoint, OUT.checkpoint, is kept while it lasts. After Ctrl-C, or a crash, the same command with --resume goes
    on: with the same result, to the last bit, as if nothing had happened. A second Ctrl-C ends at once, with the
    checkpoint that is there.

    Example: bnstream fit data/*.parquet -o stats.npz --columns distance,air_time --nan omit
    """
    if threads is not None:
        bnstream.set_num_threads(threads)
    try:
        with shown("fit") as show:
            m = bnstream.fit(
                sources, out, columns=names_in(columns), channel_axis=channel_axis, chunk_rows=chunk_rows,
                nan_policy=nan, checkpoint_every=checkpoint_every, resume=resume, progress=show,
            )
    except KeyboardInterrupt:
        kept = Path(f"{out}.checkpoint")
        told = f"the same command with --resume goes on from {kept}" if kept.exists() else "nothing was kept"
        print(f"bnstream: interrupted; {told}", file=sys.stderr)
        raise typer.Exit(INTERRUPTED) from None
    print(f"{out}: {counted(np.size(m.mean))}, n = {np.max(m.n):,}", file=sys.stderr)


def table_of(state: Any) -> dict[str, Sequence[Any]]:
    """What is shown of a state: columns by their titles."""
    if isinstance(state, bnstream.BatchNorm):
        columns: dict[str, Any] = {"running_mean": state.running_mean, "running_var": state.running_var}
        if state.affine:
            columns |= {"gamma": state.gamma.astype(float), "beta": state.beta.astype(float)}
        shape: tuple[int, ...] = (state.num_features,)
    else:
        shape = (0,) if state.shape is None else state.shape
        columns = {"n": state.n, "mean": state.mean, "std": state.std(), "var": state.var()}
        if np.any(state.effective_n != state.n):        # of weights
            columns["effective_n"] = state.effective_n
    table: dict[str, Sequence[Any]] = {
        "channel": [channel_label(i, shape, state.names) for i in range(math.prod(shape))]
    }
    return table | {title: np.broadcast_to(values, shape).ravel().tolist() for title, values in columns.items()}


def written(value: Any) -> str:
    """A value of a table on a terminal, which a name may not control."""
    if isinstance(value, str):
        return value if value.isprintable() else repr(value)
    return f"{value:,}" if isinstance(value, int) else f"{value:.6g}"


def known(value: Any) -> Any:
    """JSON has no NaN and no inf."""
    return None if isinstance(value, float) and not math.isfinite(value) else value


def show(
    state: State,
    as_json: Annotated[bool, typer.Option("--json", help="As JSON, with all that the file says of itself.")] = False,
    as_csv: Annotated[bool, typer.Option("--csv", help="As CSV, all digits.")] = False,
) -> None:
    """Show a state file: n, mean, sd and variance of every channel, or the estimates and parameters of a layer.

    Example: bnstream show stats.npz --csv > stats.csv
    """
    from bnstream.statefiles import read

    if as_json and as_csv:
        raise typer.BadParameter("give --json or --csv, not both")
    file = read(state)
    table = table_of(file.state)
    rows = list(zip(*table.values(), strict=True))
    if as_json:
        channels = [{title: known(value) for title, value in zip(table, row, strict=True)} for row in rows]
        print(json.dumps({**file.metadata, "channels": channels}, indent=2))
        return
    if as_csv:
        csv.writer(sys.stdout, lineterminator="\n").writerows([tuple(table), *rows])
        return
    from rich.cells import cell_len
    from rich.console import Console
    from rich.table import Table

    console = Console(markup=False, emoji=False, highlight=False)       # names are no markup
    cut = console.is_terminal and len(rows) > MOST_ROWS
    texts = {title: [written(value) for value in (values[:MOST_ROWS] if cut else values)]
             for title, values in table.items()}
    names, *numbers = [max(map(cell_len, [title, *cells])) for title, cells in texts.items()]
    # Where it is too wide, names fold, numbers never; and a pipe has no edge.
    room = len("channel") if console.is_terminal else names
    console.width = max(console.width, sum(numbers) + room + 3 * len(texts) + 1)
    lines = Table()
    for title in texts:
        is_name = title == "channel"
        lines.add_column(title, justify="left" if is_name else "right", no_wrap=not is_name, overflow="fold")
    for row in zip(*texts.values(), strict=True):
        lines.add_row(*row)
    console.print(f"{state}: {file.metadata['kind']}, {file.metadata['completeness']}", soft_wrap=True)
    console.print(lines)
    if cut:
        console.print(f"and {len(rows) - MOST_ROWS:,} channels more; --csv and --json have all")


def loaded(path: Path) -> tuple[Any, Sequence[str] | None]:
    """The state in a file, and what it lacks, if it was imported from another tool."""
    from bnstream.statefiles import complete

    file = complete(path)
    return file.state, (file.metadata["lacks"] or ()) if file.metadata["completeness"] == "imported" else None


def merge(
    states: Annotated[list[Path], typer.Argument(metavar="STATS...", help="State files with the same channels.")],
    out: Out,
) -> None:
    """Merge the statistics of several workers, or of several parts of the data: as exact as one pass over all.

    Example: bnstream merge part-*.npz -o stats.npz
    """
    parts, all_lacks = zip(*map(loaded, states), strict=True)
    for path, m in zip(states, parts, strict=True):
        if not isinstance(m, bnstream.Moments):
            raise ValueError(f"{path} holds a {type(m).__name__}; it is statistics that are merged, as fit makes them")
    total = parts[0]
    for path, m in zip(states[1:], parts[1:], strict=True):
        try:
            total.merge(m)
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from error
    imported = [lacks for lacks in all_lacks if lacks is not None]
    bnstream.save(out, total, lacks=list(dict.fromkeys(chain(*imported))) if imported else None)


def apply(
    state: State,
    sources: Sources,
    out: Out,
    channel_axis: Annotated[
        int | None, typer.Option(help="Of arrays: the axis of the channels.", show_default="where it was for STATS")
    ] = None,
    eps: Annotated[
        float | None, typer.Option(min=0, help="Added to the variance.", show_default="0, or the layer's")
    ] = None,
    chunk_rows: ChunkRows = None,
    threads: Threads = None,
) -> None:
    """Normalize files by statistics, to a .parquet, .arrow, .csv or .npy file.

    Columns of a table without statistics are passed on as they are, but to .npy.

    Example: bnstream apply stats.npz data/*.parquet -o normalized.parquet
    """
    if threads is not None:
        bnstream.set_num_threads(threads)
    try:
        with shown("apply") as show:
            n_rows = bnstream.apply(
                state, sources, out, channel_axis=channel_axis, eps=eps, chunk_rows=chunk_rows, progress=show
            )
    except KeyboardInterrupt:
        print(f"bnstream: interrupted; {out} is as it was", file=sys.stderr)
        raise typer.Exit(INTERRUPTED) from None
    print(f"{out}: {n_rows:,} rows", file=sys.stderr)


def arrays_in(path: Path, convention: str) -> dict[str, Any]:
    """The arrays of a plain .npz file."""
    from bnstream.statefiles.archive import kind_of

    with path.open("rb") as file:
        start = file.read(4096)
        if not start.startswith(b"PK"):
            raise ValueError(f"{path} is {kind_of(start)}; a .npz file of arrays by the names of {convention} was "
                             "expected")
        file.seek(0)
        try:
            with np.load(file, allow_pickle=False) as arrays:
                return dict(arrays)
        except Exception as error:      # of damaged bytes NumPy and zipfile raise almost anything
            raise ValueError(f"{path} is damaged, or not of plain arrays: {error}; make it anew, by numpy.savez, with "
                             "names as strings") from error


def convert(
    source: Annotated[Path, typer.Argument(metavar="IN", help="A state file, or with --from a .npz of plain arrays.")],
    out: Out,
    to: Annotated[Convention, typer.Option(help="Whose names and conventions the result has.")] = "bnstream",
    of: Annotated[Convention, typer.Option("--from", help="Whose names and conventions IN has.")] = "bnstream",
    prefix: Annotated[str | None, typer.Option(help="Of the names in IN, if there are several layers.")] = None,
) -> None:
    """Convert statistics or a layer to the arrays of PyTorch, Keras, Flax, ONNX or scikit-learn, or back.

    Each counts momentum in its own sense, and has its own ddof; both are converted. The arrays are in a plain .npz
    file.

    Example: bnstream convert stats.npz --to pytorch -o weights.npz
    """
    from bnstream.exchange.conventions import import_arrays, to_arrays
    from bnstream.statefiles.atomic import replacing

    state, lacks = loaded(source) if of == "bnstream" else import_arrays(arrays_in(source, of), of, prefix=prefix)
    if to == "bnstream":
        bnstream.save(out, state, lacks=lacks)
    else:
        with replacing(out) as file:
            np.savez(file, **to_arrays(state, to))      # type: ignore[arg-type]


def plot(
    state: State,
    out: Out,
    after: Annotated[Path | None, typer.Option(metavar="STATS", help="Statistics of the normalized data.")] = None,
) -> None:
    """Draw mean and sd of every channel, before and after normalization, to a .png, .svg or .pdf file.

    Example: bnstream plot stats.npz -o stats.png
    """
    from bnstream.plots import plot_moments
    from bnstream.statefiles.atomic import replacing

    if out.suffix.lower() not in (".png", ".svg", ".pdf"):
        raise ValueError(f"out must end in .png, .svg or .pdf, got {str(out)!r}")
    figure = plot_moments(bnstream.load(state), None if after is None else bnstream.load(after))
    with replacing(out) as file:
        figure.savefig(file, format=out.suffix[1:].lower())


COMMANDS = (fit, show, merge, apply, convert, plot)
