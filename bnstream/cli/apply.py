"""``bnstream apply``."""

import sys
from typing import Annotated, Any

import typer

from bnstream._kernels._runtime import set_num_threads
from bnstream.cli.exits import INTERRUPTED
from bnstream.cli.options import ChunkRows, Force, Out, Sources, StatePath, Threads
from bnstream.cli.progress import progress_bar
from bnstream.cli.reading import with_reading_options
from bnstream.core.labels import counted


@with_reading_options
def apply(
    state: StatePath,
    sources: Sources,
    out: Out,
    channel_axis: Annotated[
        int | None, typer.Option(help="The channel axis of arrays.", show_default="as in STATS")
    ] = None,
    eps: Annotated[
        float | None, typer.Option(min=0, help="Added to the variance.", show_default="0, or that of the layer")
    ] = None,
    chunk_rows: ChunkRows = None,
    threads: Threads = None,
    force: Force = False,
    **reading: Any,
) -> None:
    """Normalize files by statistics or by a layer, and write a .parquet, .arrow, .csv or .npy file.

    Columns of a table without statistics are copied; a .npy file leaves them out.

    Example: bnstream apply stats.npz data/*.parquet -o normalized.parquet
    """
    from bnstream.streams import applying

    if threads is not None:
        set_num_threads(threads)
    try:
        with progress_bar("apply") as progress:
            n_rows = applying.apply(
                state, sources, out, channel_axis=channel_axis, eps=eps, chunk_rows=chunk_rows, force=force,
                progress=progress,
                **reading,
            )
    except KeyboardInterrupt:
        print(f"bnstream: interrupted; {out} is as it was", file=sys.stderr)
        raise typer.Exit(INTERRUPTED) from None
    print(f"{out}: {counted(n_rows, 'row', 'rows')}", file=sys.stderr)
