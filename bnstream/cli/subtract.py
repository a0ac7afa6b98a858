"""``bnstream subtract``."""

from pathlib import Path
from typing import Annotated

import typer

from bnstream.cli.options import Force, Out
from bnstream.cli.states import load_moments


def subtract(
    whole: Annotated[Path, typer.Argument(metavar="WHOLE", help="A state file of exact statistics.")],
    paths: Annotated[list[Path], typer.Argument(metavar="PART...", help="State files of parts of its data.")],
    out: Out,
    force: Force = False,
) -> None:
    """Take parts out of exact statistics, as if their data had never been in them.

    All files must hold exact statistics, as fit --exact writes them. Plain ones are rounded.

    Example: bnstream subtract year.npz january.npz -o rest.npz
    """
    from bnstream.statefiles import write
    from bnstream.statefiles.overwriting import require_replaceable

    (left, *parts), lacks = load_moments([whole, *paths], "subtracted")
    for path, m in zip([whole, *paths], [left, *parts], strict=True):
        if not m.exact:
            raise ValueError(f"{path} holds plain statistics, which are rounded; only exact ones, as fit --exact "
                             "writes them, can be subtracted")
    rest = str(whole)
    for path, m in zip(paths, parts, strict=True):
        try:
            left.unmerge(m)
        except ValueError as error:
            raise ValueError(f"{path} is not a part of {rest}: {error}") from error
        rest = f"what is left of {whole}"
    require_replaceable(out, force=force)
    write(out, left, lacks=lacks)
