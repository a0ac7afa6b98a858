"""The arguments and options that several commands share."""

import csv
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

Sources = Annotated[list[str], typer.Argument(metavar="SOURCE...", help="Files, folders or globs of one format: .npy, "
                                              ".npz, .csv, .tsv, .jsonl (also compressed), .parquet, .arrow, "
                                              ".feather, .orc, .avro, .xlsx, .h5, .nc, .zarr, images; or "
                                              "duckdb://FILE?QUERY.")]
StatePath = Annotated[Path, typer.Argument(metavar="STATS", help="A state file, written by fit or by bnstream.save.")]
Out = Annotated[Path, typer.Option("-o", "--out", metavar="OUT", help="The file to write. It appears when complete.")]
NewState = Annotated[str, typer.Option("-o", "--out", metavar="OUT", help="The file to write. It appears when "
                                                                          "complete.")]
Force = Annotated[bool, typer.Option("--force", help="Replace OUT, even if it is not an older state file.")]
ChunkRows = Annotated[int | None, typer.Option(min=1, help="Maximum number of rows to read at a time.",
                                               show_default="some MiB")]
Threads = Annotated[int | None, typer.Option(min=1, help="Number of threads.", show_default="as many as CPUs")]


def split_names(lists: list[str] | None) -> list[str] | None:
    """The names in comma-separated lists; quotes enclose a name that contains a comma."""
    return [name for names in csv.reader(lists, skipinitialspace=True) for name in names] if lists else None


@contextmanager
def naming(options: Mapping[str, str]) -> Iterator[None]:
    """Add to the arguments that an error names the options of the command that set them, as "exact=True (--exact)"."""
    try:
        yield
    except ValueError as error:
        message = str(error)
        for argument, option in options.items():
            if option not in message:
                message = message.replace(argument, f"{argument} ({option})")
        raise ValueError(message) from error


def numbers_in(name: str, text: str) -> float | tuple[float, ...]:
    """A number, or several as a tuple; raise ValueError for anything else."""
    try:
        numbers = tuple(float(part) for part in text.split(","))
    except ValueError:
        raise ValueError(f"{name} must be a number, or numbers separated by commas, got {text!r}") from None
    return numbers[0] if len(numbers) == 1 else numbers
