"""Slices of a search that goes on with what reaches more code, by atheris: each is a process of its own."""

import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np

LONGEST = 60                    # seconds of an input
MOST_MEMORY = 2048              # MiB of a process


def doubling(first: int, most: int) -> Iterator[int]:
    """How many runs each process makes: twice as many as the one before, up to `most`."""
    while True:
        yield first
        first = min(2 * first, most)


def runs(script: str, folder: Path, n: int, largest: int, rng: np.random.Generator,
         environment: Mapping[str, str] | None = None) -> int:
    """Run `python script slice folder OPTIONS` for about n inputs of at most `largest` bytes; return their number."""
    options = (f"-runs={n}", f"-seed={rng.integers(1, 1 << 31)}", f"-max_len={largest}", f"-timeout={LONGEST}",
               f"-rss_limit_mb={MOST_MEMORY}", f"-artifact_prefix={tempfile.gettempdir()}/found-")
    done = subprocess.run([sys.executable, script, "slice", str(folder), *options], capture_output=True, text=True,
                          check=False, env=environment)
    assert done.returncode == 0, f"{options}: {done.stderr[-3000:]}"
    (made,) = re.findall(r"^Done (\d+) runs", done.stderr, re.MULTILINE)
    return int(made)
