"""C libraries of the campaign that stand between a process and the C library, by LD_PRELOAD."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
ROOT = HERE.parents[1]


def built(name: str, folder: str | os.PathLike[str]) -> Path:
    """Compile NAME.c of this folder to a library in another folder; end with a message without Linux or a compiler."""
    compiler = shutil.which("gcc") or shutil.which("cc")
    if not sys.platform.startswith("linux") or compiler is None:
        why = "needs a C compiler, and there is none" if sys.platform.startswith("linux") else "needs Linux"
        print(f"{Path(sys.argv[0]).stem}: skipped, as it {why}", flush=True)
        sys.exit(0)
    library = Path(folder, f"{name}.so")
    subprocess.run([compiler, "-O1", "-g", "-shared", "-fPIC", "-o", str(library), str(HERE / f"{name}.c")], check=True)
    return library


def preloading(library: Path | None, **more: str) -> dict[str, str]:
    """The variables of a process that loads such a library before all others, or none."""
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH", "")]))
    preloaded = {} if library is None else {"LD_PRELOAD": str(library)}
    return {**os.environ, "PYTHONPATH": path, **preloaded, **more}
