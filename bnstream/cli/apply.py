"""``bnstream apply``."""

import sys
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from bnstream._kernels._runtime import set_num_threads
from bnstream.cli.exits import INTERRUPTED
from bnstream.cli.options import ChunkRows, Force, Sources, StatePath, Threads, numbers_in, split_names
from bnstream.cli.progress import progress_bar
from bnstream.cli.reading import with_reading_options
from bnstream.core.labels import counted


@with_reading_options
def apply(
    state: StatePath,
    sources: Sources,
    out: Annotated[
        str, typer.Option("-o", "--out", metavar="OUT", help="The file to write, which appears when complete; or a "
                                                             "folder, existing or with a slash at the end, for one "
                                                             "output for each file.")
    ],
    by: Annotated[
        list[str] | None, typer.Option(metavar="A,B,...", show_default="as in STATS",
                                       help="The columns of a table that hold the keys of its rows, for statistics by "
                                            "group.")
    ] = None,
    unknown: Annotated[
        Literal["raise", "total", "nan"],
        typer.Option(help="How to handle rows of an unknown group: raise an error, normalize them by the statistics of "
                          "all groups, or make them NaN."),
    ] = "raise",
    channel_axis: Annotated[
        int | None, typer.Option(help="The channel axis of arrays.", show_default="as in STATS")
    ] = None,
    eps: Annotated[
        float | None, typer.Option(min=0, help="Added to the variance.", show_default="0, or that of the layer")
    ] = None,
    keep: Annotated[
        list[str] | None, typer.Option(metavar="A,B,...", help="The other columns of tables to copy: names, and "
                                                               "patterns for those that every source has; '' for none.",
                                       show_default="all")
    ] = None,
    inverse: Annotated[bool, typer.Option("--inverse", help="Map normalized values back.")] = False,
    dtype: Annotated[
        str | None, typer.Option(help="The dtype of the result: float16, float32 or float64.",
                                 show_default="that of the data")
    ] = None,
    clip: Annotated[
        str | None, typer.Option(metavar="C", help="Limits of the normalized values: C for -C to C, or LOW,HIGH as in "
                                                   "--clip=-3,5.", show_default="none")
    ] = None,
    out_format: Annotated[
        str | None, typer.Option(help="The format of the outputs in a folder: npy, parquet, arrow or csv.",
                                 show_default="that of each file")
    ] = None,
    chunk_rows: ChunkRows = None,
    threads: Threads = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Write the outputs of a folder that are not complete.")
    ] = False,
    force: Force = False,
    **reading: Any,
) -> None:
    """Normalize files by statistics or by a layer, and write a .parquet, .arrow, .csv or .npy file, or a folder.

    Columns of a table without statistics are copied; a .npy file leaves them out. After Ctrl-C or a crash, the same
    command with --resume completes a folder. A single file is written in one pass.

    Example: bnstream apply stats.npz data/*.parquet -o normalized.parquet
    """
    from bnstream.streams import applying

    if threads is not None:
        set_num_threads(threads)
    limits: Any = None if clip is None else numbers_in("clip", clip)
    try:
        with progress_bar("apply") as progress:
            n_rows = applying.apply(
                state, sources, out, by=split_names(by), unknown=unknown, channel_axis=channel_axis, eps=eps,
                keep=split_names(keep), inverse=inverse, dtype=dtype, clip=limits, out_format=out_format,
                chunk_rows=chunk_rows, resume=resume, force=force, progress=progress, **reading,
            )
    except KeyboardInterrupt:
        advice = "is as it was"
        if Path(out).is_dir():
            advice = "holds what is complete; the same command with --resume continues"
        print(f"bnstream: interrupted; {out} {advice}", file=sys.stderr)
        raise typer.Exit(INTERRUPTED) from None
    print(f"{out}: {counted(n_rows, 'row', 'rows')}", file=sys.stderr)
