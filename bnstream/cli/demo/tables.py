"""The tables that the demo prints. Each fits into 80 characters."""

import numpy as np
from rich.table import Table

from bnstream.cli.demo.console import empty_table
from bnstream.cli.demo.flights import COLUMNS
from bnstream.cli.demo.passes import Normalization, Training


def normalization_table(result: Normalization) -> Table:
    """The statistics before and after normalization, with one line for each column."""
    table = empty_table("column", "count", "missing", "mean", "std", "mean,\nnormalized", "std,\nnormalized")
    values = zip(
        COLUMNS, result.raw.n.tolist(), result.raw.mean, result.raw.std(), result.normalized.mean,
        result.normalized.std(), strict=True,
    )
    for name, n, mean, std, new_mean, new_std in values:
        cells = (f"{n:,}", f"{result.n_rows - n:,}", f"{mean:,.3f}", f"{std:,.3f}", f"{new_mean:.1e}", f"{new_std:.8f}")
        table.add_row(name, *cells)
    return table


def training_table(result: Training) -> Table:
    """The running estimates beside the exact statistics, with one line for each column."""
    table = empty_table(
        "column", "mean,\nrunning", "mean,\nexact", "drift\n(std)", "std,\nrunning", "std,\nexact",
        "output\nmean,\nrunning", "output\nstd,\nrunning", "output\nmean,\nexact", "output\nstd,\nexact", gap=0,
    )
    mean, std = result.layer.running_mean, np.sqrt(result.layer.running_var)
    exact_mean, exact_std = result.exact.mean, result.exact.std()
    drift = (mean - exact_mean) / np.where(exact_std == 0, np.nan, exact_std)
    values = zip(
        COLUMNS, mean, exact_mean, drift, std, exact_std, result.running_output.mean, result.running_output.std(),
        result.exact_output.mean, result.exact_output.std(), strict=True,
    )
    # z prints -0.0 as 0.0.
    formats = ("z.1f", "z.1f", "z.2f", "z.2f", "z.1f", "z.2f", "z.2f", "z.3f", "z.3f")
    for name, *numbers in values:
        cells = ("-" if np.isnan(number) else f"{number:{form}}" for number, form in zip(numbers, formats, strict=True))
        table.add_row(name, *cells)
    return table
