"""Random calls in a build with AddressSanitizer and UndefinedBehaviorSanitizer: they end the process at what they find.

The build, of the kernels for one level, takes some minutes and 10 GB of memory, so that the checks of a change leave it
out. BNSTREAM_LEVEL is "baseline" by default.
"""

import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from harness import main

ROOT = Path(__file__).parents[2]
FLAGS = "-fsanitize=address,undefined -fno-sanitize-recover=all -fno-omit-frame-pointer -O1 -g0"
SLICE = 60          # seconds of calls in a process


def build(folder: Path, level: str) -> None:
    """Build a copy of the sources with sanitizers."""
    for name in ("bnstream", "tests"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("*.so", "__pycache__"))
    for name in ("setup.py", "pyproject.toml", "README.md"):
        shutil.copy(ROOT / name, folder)
    environment = os.environ | {"CFLAGS": FLAGS, "BNSTREAM_LEVELS": "auto" if level != "baseline" else "baseline",
                                "BNSTREAM_OPENMP": "off"}
    command = [sys.executable, "setup.py", "-q", "build_ext", "--inplace"]
    subprocess.run(command, cwd=folder, env=environment, check=True)


def environment_of(folder: Path, level: str) -> dict[str, str]:
    """The variables of a process that runs the build: the runtime of the sanitizers comes before all else."""
    libraries = [subprocess.run(["cc", f"-print-file-name={name}"], capture_output=True, text=True,
                                check=True).stdout.strip() for name in ("libasan.so", "libubsan.so")]
    return os.environ | {"LD_PRELOAD": " ".join(libraries), "PYTHONPATH": str(folder), "BNSTREAM_ISA": level,
                         "ASAN_OPTIONS": "detect_leaks=0:allocator_may_return_null=1", "PYTHONMALLOC": "malloc"}


def trials(rng: np.random.Generator) -> Iterator[int]:
    level = os.environ.get("BNSTREAM_LEVEL", "baseline")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        build(folder, level)
        environment = environment_of(folder, level)
        while True:
            seed = int(rng.integers(1 << 31))
            done = subprocess.run([sys.executable, "tests/campaign/calls.py", "--seconds", str(SLICE), "--seed",
                                   str(seed)], cwd=folder, env=environment, capture_output=True, text=True, check=False)
            assert done.returncode == 0, f"seed {seed}: {done.stderr[-3000:]}"
            (calls,) = re.findall(r"^calls: ([\d,]+)", done.stdout, re.MULTILINE)
            yield int(calls.replace(",", ""))


if __name__ == "__main__":
    main(__doc__.partition("\n")[0], "calls", trials)
