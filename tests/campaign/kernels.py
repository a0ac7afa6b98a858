"""Views, as in views.py, where bytes that reach code of the kernels that none reached before are mutated further.

AddressSanitizer ends the process at what it finds. Needs clang, whose name is in CC or "clang", and atheris. The build
takes some minutes, so that the checks of a change leave it out.
"""

import os
import sys
import tempfile
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import builds
import guided
import numpy as np
from harness import main
from views import N_DESCRIBING, tried

LEVEL = "baseline"
FLAGS = "-fsanitize=address,fuzzer-no-link -O1 -g0"
FIRST, MOST = 10_000, 200_000       # runs of the first process, and of any


def trials(rng: np.random.Generator) -> Iterator[int]:
    """Each process goes on with the bytes that those before it have kept."""
    import atheris

    compiler = os.environ.get("CC", "clang")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        builds.build(folder, LEVEL, FLAGS, CC=compiler, LDSHARED=f"{compiler} -shared")
        (folder / "corpus").mkdir()
        environment = os.environ | {
            "LD_PRELOAD": str(Path(atheris.path(), "asan_with_fuzzer.so")), "PYTHONPATH": name,
            "ASAN_OPTIONS": "detect_leaks=0:quarantine_size_mb=64", "PYTHONMALLOC": "malloc"}
        for n in guided.doubling(FIRST, MOST):
            yield guided.runs(__file__, folder / "corpus", n, N_DESCRIBING, rng, environment)


def one_slice(corpus: str, options: list[str]) -> None:
    """Mutate bytes, and go on with those that reach more code."""
    import atheris

    atheris.Setup([sys.argv[0], *options, corpus], tried)
    atheris.Fuzz()


if __name__ == "__main__":
    if sys.argv[1:2] == ["slice"]:
        one_slice(sys.argv[2], sys.argv[3:])
    elif find_spec("atheris") is None:
        print("kernels: skipped, as atheris is not installed")
    else:
        main(__doc__.partition("\n")[0], "views", trials, f"{LEVEL} with sanitizers")
