"""``bnstream info``."""

from bnstream.core.config import show_config


def info() -> None:
    """Show what a bug report needs: versions, the system, the level of the kernels, the compiler, OpenMP and threads.

    Example: bnstream info
    """
    from rich.console import Console
    from rich.table import Table

    console = Console()
    if not console.is_terminal:
        show_config()
        return
    table = Table(show_header=False)
    for name, value in show_config(mode="dicts").items():
        table.add_row(name, str(value))
    console.print(table)
