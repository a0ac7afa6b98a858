"""The package that compares bnstream with its peers, and its command."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture
def compare(monkeypatch):
    """The package with all of its modules but the plot."""
    monkeypatch.syspath_prepend(ROOT / "asv_bench")
    import compare
    import compare.command

    return compare


@pytest.fixture
def command():
    """A function that returns what the command prints when it is called in a folder outside the repository."""
    def run(folder, *arguments):
        process = subprocess.run([sys.executable, ROOT / "asv_bench/compare", *arguments], cwd=folder,
                                 capture_output=True, encoding="utf-8", timeout=120, check=False)
        assert process.returncode == 0, process.stderr
        return process.stdout

    return run
