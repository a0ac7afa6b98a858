"""``bnstream fit``."""

import sys
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import typer

from bnstream._kernels._runtime import set_num_threads
from bnstream.cli.exits import INTERRUPTED, warning_lines
from bnstream.cli.options import ChunkRows, Force, NewState, Sources, Threads, naming, split_names
from bnstream.cli.progress import progress_bar
from bnstream.cli.reading import with_reading_options
from bnstream.core.groups.grouped import GroupedMoments
from bnstream.core.labels import counted, number_text

OPTIONS = {"exact=True": "--exact", "nan_policy='omit'": "--nan omit"}       # by the argument of fit that they set


@with_reading_options
def fit(
    sources: Sources,
    out: NewState,
    columns: Annotated[
        list[str] | None, typer.Option(metavar="A,B,...", help="The columns, channels or arrays to use, those of "
                                                               "tables also by patterns such as 'f*'; '\"a,b\",c' if a "
                                                               "name contains a comma.", show_default="all")
    ] = None,
    weights: Annotated[
        str | None, typer.Option(metavar="COLUMN", help="The column of a table that holds the weight of each row, "
                                                        "with --exact how often the row counts.",
                                 show_default="all rows count the same")
    ] = None,
    by: Annotated[
        list[str] | None, typer.Option(metavar="A,B,...", show_default="all rows together",
                                       help="The columns of a table that hold the keys of its rows: statistics of each "
                                            "group.")
    ] = None,
    missing_keys: Annotated[
        Literal["raise", "omit", "keep"],
        typer.Option(help="How to handle rows without a key: raise an error, omit them, or keep them as a group."),
    ] = "raise",
    channel_axis: Annotated[
        int | None, typer.Option(help="The channel axis of arrays; all others are reduced.", show_default="the last")
    ] = None,
    nan: Annotated[
        Literal["raise", "omit", "propagate"],
        typer.Option(help="How to handle missing values, NaN and inf: raise an error, omit them, or propagate them."),
    ] = "raise",
    exact: Annotated[
        bool, typer.Option("--exact", help="Compute exact statistics: the same bits for any cut and order of the "
                                           "data, from which parts can be subtracted. Slower.")
    ] = False,
    track: Annotated[
        list[str] | None, typer.Option(metavar="WHAT,...", help="What to find beside count, mean and variance: min, "
                                                                "max, missing, skewness, kurtosis, "
                                                                "quantiles.",
                                       show_default="missing with --nan omit and propagate; "
                                                    "with --by nothing")
    ] = None,
    chunk_rows: ChunkRows = None,
    threads: Threads = None,
    checkpoint_every: Annotated[float, typer.Option(min=0, help="Seconds between checkpoints.")] = 60.0,
    resume: Annotated[bool, typer.Option("--resume", help="Continue from the checkpoint, if there is one.")] = False,
    restart: Annotated[bool, typer.Option("--restart", help="Begin anew, even if there is a checkpoint.")] = False,
    force: Force = False,
    **reading: Any,
) -> None:
    """Compute count, mean and variance of every channel of files of any size, in one pass.

    The pass keeps a checkpoint, OUT.checkpoint. After Ctrl-C or a crash, the same command with --resume continues from
    it, and with --restart begins anew. The result has the same bits as that of an uninterrupted pass. A second Ctrl-C
    ends the command at once, and leaves the last checkpoint.

    Example: bnstream fit data/*.parquet -o stats.npz --columns distance,air_time --nan omit
    """
    from bnstream.streams import fitting

    if threads is not None:
        set_num_threads(threads)
    try:
        with naming(OPTIONS), warning_lines(), progress_bar("fit") as progress:
            m = fitting.fit(
                sources, out, columns=split_names(columns), weights=weights, by=split_names(by),
                missing_keys=missing_keys, channel_axis=channel_axis, chunk_rows=chunk_rows, nan_policy=nan,
                exact=exact, track=split_names(track), checkpoint_every=checkpoint_every, resume=resume,
                restart=restart, force=force, progress=progress, **reading,
            )
    except KeyboardInterrupt:
        checkpoint = Path(f"{out}.checkpoint")
        advice = f"the same command with --resume continues from {checkpoint}" if checkpoint.exists() else (
            "there is no checkpoint yet")
        print(f"bnstream: interrupted; {advice}", file=sys.stderr)
        raise typer.Exit(INTERRUPTED) from None
    n, text = m.n, ""
    if isinstance(m, GroupedMoments):
        n, text = n.sum(0), counted(len(m), "group", "groups") + ", "
    print(f"{out}: {text}{counted(n.size)}, n = {number_text(np.max(n))}", file=sys.stderr)
