"""Builds of the sources with sanitizers, and the tests and scripts of the campaign that run in them."""

import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
SLICE = 60          # seconds of a process


def build(folder: Path, level: str, flags: str, **environment: str) -> None:
    """Install a build of the sources into a folder, without OpenMP, whose runtime sanitizers do not understand.

    One level of the kernels takes some minutes and 10 GB of memory with the flags of sanitizers.
    """
    sources = folder / "sources"
    sources.mkdir()
    for name in ("bnstream", "licenses"):
        shutil.copytree(ROOT / name, sources / name, ignore=shutil.ignore_patterns("*.so", "*.c", "__pycache__"))
    for name in ("setup.py", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, sources)
    levels = "baseline" if level == "baseline" else "auto"
    settings = {"CFLAGS": flags, "BNSTREAM_LEVELS": levels, "BNSTREAM_OPENMP": "off"}
    subprocess.run([sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--target", folder, sources], check=True,
                   env=os.environ | settings | environment)
    shutil.rmtree(sources)


def trials(rng: np.random.Generator, script: str, level: str, flags: str, libraries: tuple[str, ...],
           tests: tuple[str, ...] = (), **environment: str) -> Iterator[int]:
    """Run a script of the campaign in a build, after tests.

    A finding of a sanitizer ends the process, which raises AssertionError here. The libraries are the compiler's, of
    the sanitizers. They have to be loaded before all else.
    """
    with tempfile.TemporaryDirectory() as folder:
        build(Path(folder), level, flags)
        preloaded = [subprocess.run(["cc", f"-print-file-name={name}"], capture_output=True, text=True,
                                    check=True).stdout.strip() for name in libraries]
        settings = os.environ | environment | {"LD_PRELOAD": " ".join(preloaded), "PYTHONPATH": folder,
                                               "BNSTREAM_ISA": level}
        if tests:
            # With -P, the sources here are not imported instead of the build; with -s, no word of a sanitizer is lost.
            where = printed(settings, "-P", "-c", "import bnstream; print(bnstream.__file__)").strip()
            assert Path(where).is_relative_to(folder), f"{where} is imported, which is not of the build in {folder}"
            printed(settings, "-P", "-m", "pytest", "-q", "-x", "-s", "-p", "no:cacheprovider", *tests)
        while True:
            seed = int(rng.integers(1 << 31))
            text = printed(settings, str(HERE / f"{script}.py"), "--seconds", str(SLICE), "--seed", str(seed))
            (n,) = re.findall(rf"^{script}: ([\d,]+)", text, re.MULTILINE)
            yield int(n.replace(",", ""))


def printed(environment: Mapping[str, str], *arguments: str) -> str:
    """What Python prints with these arguments; AssertionError if it ends with an error."""
    done = subprocess.run([sys.executable, *arguments], cwd=ROOT, env=environment, capture_output=True, text=True,
                          check=False)
    assert done.returncode == 0, f"{' '.join(arguments)}: {done.stdout[-3000:]} {done.stderr[-6000:]}"
    return done.stdout
