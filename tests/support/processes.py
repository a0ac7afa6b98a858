"""Python in a separate process, for what is decided at import or may hang."""

import os
import subprocess
import sys
from pathlib import Path

import bnstream

HERE = Path(__file__).parents[1]


def python(*arguments, check=True, cwd=HERE, **environment):
    """The finished process; a variable of None is unset. Like Python, it looks for modules in `cwd` first."""
    path = os.pathsep.join([str(HERE), str(Path(bnstream.__file__).parents[1])])       # of the package under test
    variables = {**os.environ, **environment, "PYTHONPATH": path}
    variables = {name: value for name, value in variables.items() if value is not None}
    done = subprocess.run([sys.executable, "-W", "error", *arguments], env=variables, cwd=cwd, check=False,
                          timeout=120, capture_output=True, text=True)
    assert not check or done.returncode == 0, done.stderr
    return done
