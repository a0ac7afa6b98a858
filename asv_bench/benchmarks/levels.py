"""bnstream at every level of the CPU. A level is chosen at import, so another level takes another process."""

import contextlib
import os
import sys
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import bnstream

from .data import need
from .timing import set_pages

FOLDER = str(Path(__file__).parents[1])
VARIABLE = "BNSTREAM_ISA"       # bnstream takes the level from here.


def config(*names):
    """What bnstream says of itself, by its name; past commits have other names."""
    need("show_config")
    known = bnstream.show_config(mode="dicts")
    for name in names:
        if name in known:
            return known[name]
    raise NotImplementedError(f"a show_config without {' or '.join(names)}")


def level():
    """The level of the kernels of this process."""
    return config("level")


def levels():
    """The levels of this CPU, the lowest first; the baseline only if there is no other."""
    *above, baseline = config("cpu_levels", "levels of this CPU").split(", ")
    return above[::-1] or [baseline]


@contextlib.contextmanager
def process(name):
    """Start a process whose kernels have this level, and yield its executor. Large results go to pages used before."""
    before = os.environ.get(VARIABLE)
    if FOLDER not in sys.path:          # asv imports this package without it; the process is given the path.
        sys.path.append(FOLDER)
    with ProcessPoolExecutor(1, get_context("spawn"), set_pages, ["reused"]) as pool:
        os.environ[VARIABLE] = name
        try:
            found = pool.submit(level).result()         # The process starts here, with the environment as it is now.
        finally:
            os.environ.pop(VARIABLE)
            if before is not None:
                os.environ[VARIABLE] = before
        if found != name:
            raise RuntimeError(f"a process for level {name} has level {found}: does bnstream read {VARIABLE}?")
        yield pool


@contextlib.contextmanager
def processes(names):
    """The processes of several levels, by name."""
    with contextlib.ExitStack() as stack:
        yield {name: stack.enter_context(process(name)) for name in names}
