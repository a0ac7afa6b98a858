"""How the command ends."""

import sys
from typing import NoReturn

INTERRUPTED = 130       # the exit code


def fail(message: str) -> NoReturn:
    """Leave with one line on stderr and exit code 1."""
    print("bnstream:", *message.splitlines(), file=sys.stderr)
    raise SystemExit(1)
