"""The command, in a process of its own and in this one."""

import subprocess
import sys

from typer.testing import CliRunner

from bnstream.cli import app

MISSING = """
import sys
sys.modules[{name!r}] = None
sys.argv = ["bnstream", *{arguments!r}]
from bnstream.cli import main
main()
"""


def run(*arguments):
    """The finished process of ``bnstream`` with these arguments, in a pipe."""
    command = [sys.executable, "-m", "bnstream", *arguments]
    return subprocess.run(command, capture_output=True, encoding="utf-8", timeout=120, check=False)


def run_without(name, *arguments):
    """The same where a package is not installed."""
    command = [sys.executable, "-c", MISSING.format(name=name, arguments=arguments)]
    return subprocess.run(command, capture_output=True, encoding="utf-8", timeout=120, check=False)


def invoke(*arguments):
    """The same in this process."""
    return CliRunner().invoke(app.make_app(), arguments)
