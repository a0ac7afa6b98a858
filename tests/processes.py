"""Python in a process of its own, where what is tested is decided at import, or may hang."""

import os
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent


def python(*arguments, check=True, **environment):
    """The finished process; a variable of None is unset."""
    variables = {**os.environ, **environment, "PYTHONPATH": str(HERE)}
    variables = {name: value for name, value in variables.items() if value is not None}
    done = subprocess.run([sys.executable, "-W", "error", *arguments], env=variables, cwd=HERE, check=False,
                          timeout=120, capture_output=True, text=True)
    assert not check or done.returncode == 0, done.stderr
    return done
