"""``bnstream convert``."""

from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import typer

from bnstream.cli.options import Force, Out
from bnstream.cli.states import load_with_lacks

Tool = Literal["bnstream", "pytorch", "keras", "flax", "onnx", "scikit-learn", "lerobot", "transformers"]


def convert(
    source: Annotated[Path, typer.Argument(metavar="IN", help="A state file, or with --from a file of another tool.")],
    out: Out,
    to: Annotated[Tool, typer.Option("--to", help="The tool whose conventions OUT follows.")] = "bnstream",
    from_: Annotated[Tool, typer.Option("--from", help="The tool whose conventions IN follows.")] = "bnstream",
    prefix: Annotated[
        str | None, typer.Option(help="Prefix of the array names in IN, which selects one of several layers.")
    ] = None,
    force: Force = False,
) -> None:
    """Convert statistics or a layer to the conventions of another tool, or back.

    The files of PyTorch, Keras, Flax, ONNX and scikit-learn are plain .npz files of arrays, with the names that the
    tool uses. Its sense of momentum and its ddof of the variance are converted. Those of LeRobot are stats.json or the
    statistics of episodes in meta/ of a data set, that of transformers is preprocessor_config.json. With --force, OUT
    keeps the other features or settings that such a file holds.

    Example: bnstream convert stats.npz --to pytorch -o weights.npz
    """
    from bnstream.exchange.conventions import to_arrays
    from bnstream.statefiles import write
    from bnstream.statefiles.atomic import replacing
    from bnstream.statefiles.overwriting import require_replaceable

    require_replaceable(out, [source], force=force, old="state" if to == "bnstream" else False)
    state, lacks = load_with_lacks(source) if from_ == "bnstream" else imported(source, from_, prefix)
    if to == "bnstream":
        write(out, state, lacks=lacks)
        return
    arrays = to_arrays(state, to)
    if to in ("lerobot", "transformers"):
        from bnstream.cli import jsonfiles

        text = (jsonfiles.lerobot_text if to == "lerobot" else jsonfiles.processor_text)(arrays, out)
        with replacing(out) as file:
            file.write(text.encode())
    else:
        with replacing(out) as file:
            np.savez(file, **arrays)        # type: ignore[arg-type]


def imported(source: Path, tool: Any, prefix: str | None) -> tuple[Any, list[str]]:
    """The state in a file of another tool, and what it lacks."""
    from bnstream.cli import jsonfiles
    from bnstream.cli.arrays import read_arrays
    from bnstream.exchange.conventions import import_arrays
    from bnstream.exchange.lerobot import LACKS, from_lerobot

    if tool in ("lerobot", "transformers") and prefix is not None:
        raise ValueError(f"prefix={prefix!r} (--prefix) selects a layer of a .npz file, and {tool} has none; leave it "
                         "out")
    try:
        if tool == "lerobot":
            return from_lerobot(jsonfiles.lerobot_parts(source)), [*LACKS]
        if tool == "transformers":
            return import_arrays(jsonfiles.processor_arrays(source), tool)
    except ValueError as error:
        raise error if str(source) in str(error) else ValueError(f"{source}: {error}") from error
    return import_arrays(read_arrays(source, tool), tool, prefix=prefix)
