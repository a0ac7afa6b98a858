"""The console that the demo prints to, and the style of its tables."""

from rich import box
from rich.console import Console
from rich.table import Table


def wide_console() -> Console:
    """A console on stdout of at least 80 characters, in a pipe of exactly 80."""
    console = Console(highlight=False)
    console.width = max(console.width, 80) if console.is_terminal else 80
    return console


def empty_table(first: str, *titles: str, gap: int = 1) -> Table:
    """A table without lines: names in the first column, numbers in the others, and gap + 1 blanks between columns."""
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, gap, 0, 0))
    table.add_column(first, no_wrap=True)
    for title in titles:
        table.add_column(title, justify="right", no_wrap=True)
    return table
