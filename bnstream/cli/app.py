"""The command ``bnstream``. It needs the extra ``streams``, its demo the extra ``demo``.

Exit codes: 0 after success; 1 after a fault of a file or its data, with one line on stderr; 2 after wrong usage; 130
after an interruption.
"""

import sys
from typing import TYPE_CHECKING, Annotated, Any

from bnstream.cli.exits import INTERRUPTED, fail
from bnstream.core.config import version
from bnstream.core.optional import needing

if TYPE_CHECKING:
    import typer


def make_app() -> "typer.Typer":
    """Make the Typer app. Typer is imported here, so that `main` can report that it is missing."""
    import typer

    from bnstream.cli.apply import apply
    from bnstream.cli.convert import convert
    from bnstream.cli.demo.command import demo
    from bnstream.cli.fit import fit
    from bnstream.cli.info import info
    from bnstream.cli.merge import merge
    from bnstream.cli.plot import plot
    from bnstream.cli.show import show
    from bnstream.cli.subtract import subtract

    app = typer.Typer(
        name="bnstream",
        help="Per-channel mean and variance of arrays and of streams of them: exact, and at memory speed.",
        epilog="Example: bnstream fit data/*.parquet -o stats.npz && bnstream show stats.npz\n\n"
               "Exit codes: 0 success; 1 a fault of a file or its data; 2 wrong usage; 130 interrupted.",
        no_args_is_help=True,
        add_completion=False,
        rich_markup_mode=None,      # Rich's help takes 0.1 s to import.
        pretty_exceptions_enable=False,
    )

    def show_version(wanted: bool) -> None:
        if wanted:
            print(f"bnstream {version()}")
            raise typer.Exit

    @app.callback()
    def options(
        version: Annotated[
            bool, typer.Option("--version", callback=show_version, is_eager=True, help="Show the version and exit.")
        ] = False,
    ) -> None:
        pass

    for command in (fit, show, merge, subtract, apply, convert, plot, info, demo):
        summary = (command.__doc__ or "").partition("\n\n")[0]      # Typer would cut it short.
        app.command(short_help=summary)(command)
    return app


def expected_errors() -> tuple[type[Exception], ...]:
    """The errors whose messages say what to do, those of pyarrow among them if it was imported."""
    ours = (ValueError, TypeError, OSError, MemoryError, ModuleNotFoundError)
    pyarrow: Any = sys.modules.get("pyarrow")
    return (*ours, pyarrow.ArrowException) if pyarrow else ours


def main() -> None:
    """Run the command with the arguments of the process."""
    try:
        with needing("the command", '"bnstream[streams]"'):
            app = make_app()
            import rich  # noqa: F401  (Typer works without it, the commands do not.)
        app()
    except KeyboardInterrupt:
        raise SystemExit(INTERRUPTED) from None
    except expected_errors() as error:
        fail(str(error) or type(error).__name__)
