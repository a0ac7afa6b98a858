"""The command, in a separate process and in this one."""

import contextlib
import io
import subprocess
import sys

import pytest
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
    """Run ``bnstream`` with its output in pipes, and return the finished process."""
    command = [sys.executable, "-m", "bnstream", *arguments]
    return subprocess.run(command, capture_output=True, encoding="utf-8", timeout=120, check=False)


def run_without(name, *arguments):
    """Run ``bnstream`` as if a package were not installed."""
    command = [sys.executable, "-c", MISSING.format(name=name, arguments=arguments)]
    return subprocess.run(command, capture_output=True, encoding="utf-8", timeout=120, check=False)


def main(*arguments):
    """Run ``bnstream`` in this process, which takes a tenth of the time."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err), pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["bnstream", *arguments])
        with pytest.raises(SystemExit) as end:
            app.main()
    return subprocess.CompletedProcess(arguments, end.value.code, out.getvalue(), err.getvalue())


def invoke(*arguments):
    """Return the result of the Typer app in this process, without the error handling of `main`."""
    return CliRunner().invoke(app.make_app(), arguments)
