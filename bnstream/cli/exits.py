"""How the command ends."""

import sys
from typing import NoReturn

INTERRUPTED = 130       # the exit code after Ctrl-C or SIGTERM


def fail(message: str) -> NoReturn:
    """Exit with code 1 and one line on stderr."""
    print("bnstream:", *message.splitlines(), file=sys.stderr)
    raise SystemExit(1)


def fail_without(package: str | None, user: str, extra: str) -> NoReturn:
    """Exit because a package is not installed. user: what needs it. extra: the extra of bnstream that includes it."""
    fail(f'{user} needs {package}, which is not installed; install it with: pip install "bnstream[{extra}]"')
