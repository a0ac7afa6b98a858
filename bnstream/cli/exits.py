"""How the command ends."""

import sys
from typing import NoReturn

INTERRUPTED = 130       # the exit code after Ctrl-C or SIGTERM


def fail(message: str) -> NoReturn:
    """Exit with code 1 and one line on stderr."""
    print("bnstream:", *message.splitlines(), file=sys.stderr)
    raise SystemExit(1)
