"""``bnstream plot``."""

from pathlib import Path
from typing import Annotated

import typer

from bnstream.cli.options import Force, Out, StatePath


def plot(
    path: StatePath,
    out: Out,
    after: Annotated[
        Path | None, typer.Option(metavar="STATS", help="Statistics of the normalized data, to be drawn beside.")
    ] = None,
    force: Force = False,
) -> None:
    """Draw mean and standard deviation of every channel to a .png, .svg or .pdf file.

    Example: bnstream plot stats.npz -o stats.png
    """
    from bnstream.plots import plot_moments
    from bnstream.statefiles import load
    from bnstream.statefiles.atomic import replacing
    from bnstream.statefiles.overwriting import require_replaceable

    if out.suffix.lower() not in (".png", ".svg", ".pdf"):
        raise ValueError(f"out must end in .png, .svg or .pdf, got {str(out)!r}")
    require_replaceable(out, force=force, old=False)
    figure = plot_moments(load(path), None if after is None else load(after))
    with replacing(out) as file:
        figure.savefig(file, format=out.suffix[1:].lower())
