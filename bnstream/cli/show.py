"""``bnstream show``."""

import csv
import json
import math
import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import typer

from bnstream.cli.options import StatePath, numbers_in
from bnstream.core.groups.domainbatchnorm import DomainBatchNorm
from bnstream.core.groups.grouped import GroupedMoments
from bnstream.core.groups.table import key_columns, key_text
from bnstream.core.labels import channel_label, number_text
from bnstream.core.moments import Moments
from bnstream.core.summary import statistics_of, summary
from bnstream.core.tracking import QUARTILES

if TYPE_CHECKING:
    from rich.console import Console

MOST_ROWS = 60      # rows of a table on a terminal, one a channel

Columns = Mapping[str, Sequence[Any]]       # by title, the labels of the channels first


def show(
    path: StatePath,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, with the metadata of the file.")] = False,
    as_csv: Annotated[bool, typer.Option("--csv", help="Print CSV, with all digits.")] = False,
    quantiles: Annotated[
        str | None, typer.Option(metavar="Q,...", help="The quantiles to show where they are tracked, such as "
                                                       "0.01,0.5,0.99.", show_default="q1, median, q3")
    ] = None,
) -> None:
    """Show a state file: n, mean, std and var of every channel, or the running estimates and parameters of a layer.

    Statistics by group have a row for each channel of each group, and layers by domain one for each channel of each
    domain. Exact statistics have a digest, which names their data.

    Example: bnstream show stats.npz --csv > stats.csv
    """
    from bnstream.statefiles import read

    if as_json and as_csv:
        raise typer.BadParameter("give --json or --csv, not both")
    file = read(path)
    if isinstance(file.state, GroupedMoments):
        columns, labels = of_groups(file.state)
    elif isinstance(file.state, DomainBatchNorm):
        columns, labels = of_domains(file.state)
    else:
        now = summary(file.state)
        columns = {"channel": now.labels} | {name: values.tolist() for name, values in now.columns.items()}
        labels = ["channel"]
    digest = file.state.digest() if isinstance(file.state, Moments) and file.state.exact else None
    if quantiles is not None:
        columns = {name: values for name, values in columns.items() if name not in QUARTILES}
        columns |= quantile_columns(file.state, quantiles)
    if as_json:
        print_json(columns, file.metadata if digest is None else {**file.metadata, "digest": digest})
    elif as_csv:
        csv.writer(sys.stdout, lineterminator="\n").writerows([tuple(columns), *zip(*columns.values(), strict=True)])
    else:
        title = f"{path}: {file.metadata['kind']}, {file.metadata['completeness']}"
        print_table(columns, title, labels, "rows" if len(labels) > 1 else "channels")
        if digest is not None:
            print(f"exact, digest {digest}")


def quantile_columns(state: Any, quantiles: str) -> dict[str, Sequence[Any]]:
    """The quantiles in a comma-separated text, by title."""
    if "quantiles" not in getattr(state, "track", ()):
        raise ValueError("quantiles (--quantiles) are not tracked in this file; fit it with --track quantiles")
    numbers = np.atleast_1d(numbers_in("quantiles (--quantiles)", quantiles))
    if not ((numbers >= 0) & (numbers <= 1)).all():
        raise ValueError(f"quantiles (--quantiles) must be from 0 to 1, got {quantiles}")
    return {f"q{q}": np.ravel(values).tolist() for q, values in zip(numbers, state.quantile(numbers), strict=True)}


def of_groups(g: GroupedMoments) -> tuple[Columns, list[str]]:
    """A row for each channel of each group, and the titles of the columns that name it."""
    if g.shape is None:
        return {"channel": [], "n": [], "mean": [], "std": [], "var": []}, ["channel"]
    statistics, count = statistics_of(g._statistics()), math.prod(g.shape)
    keys = key_columns(g, ["channel", *statistics])
    columns: dict[str, Sequence[Any]] = {
        name: [value for value in values for _ in range(count)] for name, values in keys.items()
    }
    columns["channel"] = [channel_label(i, g.shape, g.names) for i in range(count)] * len(g)
    return columns | {name: values.ravel().tolist() for name, values in statistics.items()}, [*keys, "channel"]


def of_domains(bn: DomainBatchNorm) -> tuple[Columns, list[str]]:
    """A row for each channel of the layer of each domain, and the titles of the columns that name it."""
    columns: dict[str, list[Any]] = {"domain": [], "channel": [], "running_mean": [], "running_var": []}
    for domain, layer in bn.items():
        now, name = summary(layer), ", ".join(map(str, domain)) if isinstance(domain, tuple) else domain
        columns["domain"] += [name] * now.n_channels
        columns["channel"] += now.labels
        for title, values in now.columns.items():
            columns.setdefault(title, []).extend(values.tolist())
    return columns, ["domain", "channel"]


def print_json(columns: Columns, metadata: dict[str, Any]) -> None:
    """Print an object with one member for each channel; JSON has null for NaN and inf."""
    def value_or_null(value: Any) -> Any:
        return None if isinstance(value, float) and not math.isfinite(value) else value

    channels = [{title: value_or_null(value) for title, value in zip(columns, row, strict=True)}
                for row in zip(*columns.values(), strict=True)]
    print(json.dumps({**metadata, "channels": channels}, indent=2))


def print_table(columns: Columns, title: str, labels: Sequence[str], rows: str) -> None:
    """Print a table with its title. A terminal gets the first rows alone."""
    from rich.console import Console
    from rich.table import Table

    console = Console(markup=False, emoji=False, highlight=False)       # A name may look like markup.
    n_rows = len(columns["channel"])
    n_shown = min(n_rows, MOST_ROWS) if console.is_terminal else n_rows
    texts = {name: [cell_text(key_text(value) if name in labels else value) for value in values[:n_shown]]
             for name, values in columns.items()}
    widen(console, texts, labels)
    table = Table()
    for name in texts:
        is_label = name in labels
        table.add_column(name, justify="left" if is_label else "right", no_wrap=not is_label, overflow="fold")
    for row in zip(*texts.values(), strict=True):
        table.add_row(*row)
    console.print(title, soft_wrap=True)
    console.print(table)
    if n_shown < n_rows:
        console.print(f"and {n_rows - n_shown:,} more {rows}; --csv and --json show all")


def cell_text(value: Any) -> str:
    """A name or a number as text without control characters, which could steer the terminal."""
    if isinstance(value, str):
        return value if value.isprintable() else repr(value)
    return number_text(value)


def widen(console: "Console", texts: Mapping[str, list[str]], titles: Sequence[str]) -> None:
    """Widen the console until all numbers fit. Names fold on a terminal, but not in a pipe."""
    from rich.cells import cell_len

    widths = {title: max(map(cell_len, [title, *cells])) for title, cells in texts.items()}
    if console.is_terminal:
        widths |= {title: cell_len(title) for title in titles}
    console.width = max(console.width, sum(widths.values()) + 3 * len(texts) + 1)
