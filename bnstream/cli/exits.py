"""How the command ends."""

import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NoReturn

INTERRUPTED = 130       # the exit code after Ctrl-C or SIGTERM


def fail(message: str) -> NoReturn:
    """Exit with code 1 and one line on stderr."""
    print("bnstream:", *message.splitlines(), file=sys.stderr)
    raise SystemExit(1)


@contextmanager
def warning_lines() -> Iterator[None]:
    """Write each warning as one line on stderr."""
    def show(message: Any, *_: Any, **__: Any) -> None:
        print("bnstream: warning:", *str(message).splitlines(), file=sys.stderr)

    with warnings.catch_warnings():
        warnings.simplefilter("always", RuntimeWarning)
        warnings.showwarning = show     # type: ignore[assignment]
        yield
