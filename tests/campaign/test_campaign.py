"""A short form of every script of the campaign, and the table of what the long ones found."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
SHARED = {"harness", "mutations", "preload", "table", "test_campaign"}
LONG = {"sanitizers"}       # needs a build of its own
SCRIPTS = sorted(path.stem for path in HERE.glob("*.py") if path.stem not in SHARED | LONG)


@pytest.mark.parametrize("script", SCRIPTS)
def test_short_form(script):
    done = subprocess.run([sys.executable, HERE / f"{script}.py", "--seconds", "3"], capture_output=True, text=True,
                          check=False, timeout=600)
    assert done.returncode == 0, done.stderr
    if ": skipped, as " in done.stdout:
        pytest.skip(done.stdout)
    assert f"{script}: " in done.stdout
    assert ": nothing found" in done.stdout


def test_table(monkeypatch):
    """docs/reliability.md has what the scripts recorded, and these are scripts."""
    monkeypatch.syspath_prepend(HERE)
    import table

    assert table.page(text := table.PAGE.read_text(encoding="utf-8")) == text
    assert json.loads(table.RESULTS.read_text(encoding="utf-8")).keys() <= {*SCRIPTS, *LONG}
