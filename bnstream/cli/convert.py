"""``bnstream convert``."""

from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import typer

from bnstream.cli.options import Force, Out
from bnstream.cli.states import load_with_lacks

Tool = Literal["bnstream", "pytorch", "keras", "flax", "onnx", "scikit-learn"]


def convert(
    source: Annotated[Path, typer.Argument(metavar="IN", help="A state file, or with --from a plain .npz file.")],
    out: Out,
    to: Annotated[Tool, typer.Option("--to", help="The tool whose conventions OUT follows.")] = "bnstream",
    from_: Annotated[Tool, typer.Option("--from", help="The tool whose conventions IN follows.")] = "bnstream",
    prefix: Annotated[
        str | None, typer.Option(help="Prefix of the array names in IN, which selects one of several layers.")
    ] = None,
    force: Force = False,
) -> None:
    """Convert statistics or a layer to the arrays of PyTorch, Keras, Flax, ONNX or scikit-learn, or back.

    The arrays are in a plain .npz file, with the names that the tool uses. Its sense of momentum and its ddof of the
    variance are converted.

    Example: bnstream convert stats.npz --to pytorch -o weights.npz
    """
    from bnstream.cli.arrays import read_arrays
    from bnstream.exchange.conventions import import_arrays, to_arrays
    from bnstream.statefiles import write
    from bnstream.statefiles.atomic import replacing
    from bnstream.statefiles.overwriting import require_replaceable

    require_replaceable(out, [source], force=force, old="state" if to == "bnstream" else False)

    if from_ == "bnstream":
        state, lacks = load_with_lacks(source)
    else:
        state, lacks = import_arrays(read_arrays(source, from_), from_, prefix=prefix)
    if to == "bnstream":
        write(out, state, lacks=lacks)
    else:
        with replacing(out) as file:
            np.savez(file, **to_arrays(state, to))      # type: ignore[arg-type]
