"""A short form of every script of the campaign, and the table of what the long ones found."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
SHARED = {"builds", "guided", "harness", "mutations", "preload", "publiccalls", "stacks", "table", "test_campaign"}
LONG = {"kernels", "races", "sanitizers"}       # need builds of their own
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


def test_the_table_counts_what_was_tried_since_something_was_found(monkeypatch):
    monkeypatch.syspath_prepend(HERE)
    import table

    first = {"what": "Calls.", "unit": "calls", "tried": 1000, "seconds": 2, "seed": 1, "found": "", "commit": "a",
             "date": "2026-01-01", "level": "baseline", "python": "3.11.7", "machine": "x86_64, 2 CPUs"}
    bad = first | {"seed": 2, "found": "a crash", "date": "2026-01-02", "commit": "b"}
    clean = first | {"seed": 3, "date": "2026-01-03", "commit": "c"}
    *_, row = table.rows({"calls": [first, bad, clean, clean | {"seed": 4, "commit": "d"}]}).splitlines()
    assert row == ("| `calls` | Calls | 2,000 calls in 4 s, seeds 3, 4 | 2026-01-02, seed 2: a crash | 2026-01-03, c "
                   "| Python 3.11.7, x86_64, 2 CPUs, baseline |")
    *_, row = table.rows({"calls": [first, bad]}).splitlines()
    assert "| nothing yet | 2026-01-02, seed 2: a crash |  |" in row
