"""``bnstream convert``."""

from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import typer

from bnstream.cli.options import Out
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
) -> None:
    """Convert statistics or a layer to the arrays of PyTorch, Keras, Flax, ONNX or scikit-learn, or back.

    The arrays are in a plain .npz file, with the names that the tool uses. Its sense of momentum and its ddof of the
    variance are converted.

    Example: bnstream convert stats.npz --to pytorch -o weights.npz
    """
    from bnstream.exchange.conventions import import_arrays, to_arrays
    from bnstream.statefiles import save
    from bnstream.statefiles.atomic import replacing

    if from_ == "bnstream":
        state, lacks = load_with_lacks(source)
    else:
        state, lacks = import_arrays(read_arrays(source, from_), from_, prefix=prefix)
    if to == "bnstream":
        save(out, state, lacks=lacks)
    else:
        with replacing(out) as file:
            np.savez(file, **to_arrays(state, to))      # type: ignore[arg-type]


def read_arrays(path: Path, convention: str) -> dict[str, Any]:
    """Read the arrays of a plain .npz file."""
    from bnstream.statefiles.archive import kind_of

    with path.open("rb") as file:
        start = file.read(4096)
        if not start.startswith(b"PK"):
            raise ValueError(f"{path} is {kind_of(start)}; expected a .npz file of arrays named as in {convention}")
        file.seek(0)
        try:
            with np.load(file, allow_pickle=False) as arrays:
                return dict(arrays)
        except Exception as error:      # NumPy and zipfile raise almost anything for damaged bytes.
            raise ValueError(f"{path} is damaged or holds objects: {error}; write it again with numpy.savez, with "
                             "names as an array of str") from error
