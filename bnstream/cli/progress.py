"""The progress of a pass on a terminal, and Ctrl-C during a pass."""

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from bnstream.streams.cursor import Progress


@contextmanager
def deferred_interrupts() -> Iterator[Callable[[], bool]]:
    """Let the first Ctrl-C or SIGTERM only set a flag, which the yielded function returns. A second one interrupts."""
    received = []

    def receive(number: int, frame: FrameType | None) -> None:
        received.append(number)
        signal.signal(number, signal.default_int_handler)

    # A background job of a script ignores Ctrl-C from the start, and must go on doing so.
    numbers = [number for number in (signal.SIGINT, signal.SIGTERM) if signal.getsignal(number) != signal.SIG_IGN]
    before = {number: signal.signal(number, receive) for number in numbers}
    try:
        yield lambda: bool(received)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def progress_bar(task_name: str) -> Iterator[Callable[["Progress"], None]]:
    """Show the progress of a pass on stderr, if that is a terminal.

    Yields the function to pass as `progress` to `fit` or `apply`. After a Ctrl-C it raises KeyboardInterrupt when it is
    called next, which is where the pass can write a checkpoint.
    """
    from rich.console import Console
    from rich.progress import BarColumn, TaskProgressColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bar

    stderr = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TextColumn("{task.fields[rows]}"),
               TimeRemainingColumn())
    start: tuple[int, float] | None = None      # rows and seconds at the first call, after what a resumed pass skips
    with deferred_interrupts() as interrupted, Bar(*columns, console=stderr, disable=not stderr.is_terminal) as bar:
        task = bar.add_task(task_name, total=None, rows="")

        def update(now: "Progress") -> None:
            nonlocal start
            elapsed = bar.tasks[0].elapsed or 0.0
            start = start or (now.n_rows, elapsed)
            n_rows, seconds = now.n_rows - start[0], elapsed - start[1]
            rate = f", {n_rows / seconds:,.0f} rows/s" if seconds else ""
            total = None if now.share is None else 1.0
            bar.update(task, completed=now.share or 0.0, total=total, rows=f"{now.n_rows:,} rows{rate}")
            if interrupted():
                raise KeyboardInterrupt

        yield update
