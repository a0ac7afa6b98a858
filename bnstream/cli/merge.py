"""``bnstream merge``."""

from itertools import chain
from pathlib import Path
from typing import Annotated

import typer

from bnstream.cli.options import Out
from bnstream.cli.states import load_with_lacks
from bnstream.core.moments import Moments


def merge(
    paths: Annotated[list[Path], typer.Argument(metavar="STATS...", help="State files with the same channels.")],
    out: Out,
) -> None:
    """Merge the statistics of several workers or of several parts of the data, as exactly as one pass over all of it.

    Example: bnstream merge part-*.npz -o stats.npz
    """
    from bnstream.statefiles import write

    parts, all_lacks = zip(*map(load_with_lacks, paths), strict=True)
    for path, m in zip(paths, parts, strict=True):
        if not isinstance(m, Moments):
            raise ValueError(f"{path} holds a {type(m).__name__}; only statistics, as fit writes them, can be merged")
    total = parts[0]
    for path, m in zip(paths[1:], parts[1:], strict=True):
        try:
            total.merge(m)
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from error
    imported = [lacks for lacks in all_lacks if lacks is not None]
    write(out, total, lacks=list(dict.fromkeys(chain(*imported))) if imported else None)
