"""What the scripts of the campaign share: arguments, the clock, and the record of a run.

    python tests/campaign/threads.py --seconds 600 --seed 1 --record

A script has a function `trials(rng)`, which tries one thing after another and yields how many it has tried since; it
raises AssertionError where something is wrong. `--record` adds a run to results.json, of which docs/reliability.md has
a table: `python tests/campaign/table.py`. A long search is made of many runs, each with a seed of its own.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

import bnstream

RESULTS = Path(__file__).with_name("results.json")
RECORDED = "BNSTREAM_RECORDED"      # set in the process of a run that is recorded, whose crash another one sees
CHANGED = ["git", "status", "--porcelain", "--untracked-files=no", "--", ":/", f":!{RESULTS.name}"]


def folder_in_memory() -> tempfile.TemporaryDirectory[str]:
    """A temporary folder, where the system has them in memory: states are written through to the disk."""
    shared = Path("/dev/shm")
    return tempfile.TemporaryDirectory(dir=shared if shared.is_dir() else None)


def main(what: str, unit: str, trials: Callable[[np.random.Generator], Iterator[int]], level: str = "") -> None:
    """Run trials until the time is over, print what was tried, and exit with an error where something was found.

    `level` is that of the kernels which they run, if it is not that of this process.
    """
    name = Path(sys.argv[0]).stem
    parser = argparse.ArgumentParser(description=what)
    parser.add_argument("--seconds", type=float, default=10, help="how long to try (default: 10)")
    parser.add_argument("--seed", type=int, default=0, help="of the generator of random numbers (default: 0)")
    parser.add_argument("--record", action="store_true", help=f"keep the result in {RESULTS.name}")
    given = parser.parse_args()
    start, n = time.monotonic(), 0

    def finish(found: str) -> None:
        seconds = time.monotonic() - start
        print(f"{name}: {n:,} {unit} in {seconds:.1f} s with seed {given.seed}: {found or 'nothing found'}", flush=True)
        if given.record:
            record(name, {"what": what, "unit": unit, "tried": n, "seconds": round(seconds), "seed": given.seed,
                          "found": found, **surroundings(level)})

    if given.record and RECORDED not in os.environ:
        if subprocess.run(CHANGED, cwd=RESULTS.parent, check=True, capture_output=True).stdout:
            parser.error("--record names the commit, and files differ from it; commit them first")
        n_before = len(recorded().get(name, []))
        code = subprocess.run([sys.executable, *sys.argv], env=os.environ | {RECORDED: "1"}, check=False).returncode
        if code != 0 and len(recorded().get(name, [])) == n_before:
            finish(f"the process ends with {code}")
        sys.exit(code)
    try:
        for more in trials(np.random.default_rng(given.seed)):
            n += more
            if time.monotonic() - start > given.seconds:
                break
    except Exception as error:
        finish(f"{type(error).__name__}: {error}")
        raise
    finish("")


def surroundings(level: str = "") -> dict[str, str]:
    """When and where a run was made."""
    head = subprocess.run(["git", "log", "-1", "--format=%cs %h"], cwd=RESULTS.parent, check=True, capture_output=True,
                          text=True).stdout.split()
    gil = " without a GIL" if hasattr(sys, "_is_gil_enabled") and not sys._is_gil_enabled() else ""
    return {"date": head[0], "commit": head[1], "level": level or bnstream.show_config("dicts")["level"],
            "python": platform.python_version() + gil, "machine": f"{platform.machine()}, {os.cpu_count()} CPUs"}


def recorded() -> dict[str, list[dict[str, object]]]:
    """The results of all runs, by script."""
    found: dict[str, list[dict[str, object]]] = json.loads(RESULTS.read_text(encoding="utf-8"))
    return found


def record(name: str, result: dict[str, object]) -> None:
    """Add the result of a script to those of its other runs."""
    results = recorded()
    results.setdefault(name, []).append(result)
    RESULTS.write_text(json.dumps(dict(sorted(results.items())), indent=1) + "\n", encoding="utf-8")
