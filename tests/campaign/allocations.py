"""Every allocation of every public call fails, one after the other: MemoryError, or success, and nothing else.

The state of every object is then as before, the same call works once there is memory, with the same bits, and nothing
leaks. A call is made in a child process, in which allocations.c stands before the C library, and Python and NumPy have
no pools of their own (PYTHONMALLOC=malloc, a handler of NumPy's data), so that each object and each array is an
allocation. Once only one allocation fails, once MORE that follow as well.

What ends the process is told from where it happened: CPython and NumPy are not free of such faults themselves. Those
that were looked at are in stacks.py; they are printed. All else is an error.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import io
import json
import os
import random
import re
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from harness import folder_in_memory, main
from preload import built, preloading
from publiccalls import cases, frozen
from stacks import explained, short

# How many allocations fail after the first. If none ever succeeded again, CPython 3.11 would loop for ever where it
# makes an integer of the place of an exception (exception_unwind in ceval.c).
MORE = 10
LONGEST = 120       # seconds of a child, after which it counts as hanging
MOST = 150          # allocations of a call that are looked at for leaks, chosen at random
N_SWEEPS = 3        # over the same allocations, between which the number of blocks in use must not grow
N_TO_BE_SURE = 30   # over one that seems to leak: what a call keeps for the next varies
SET_HANDLER = 304   # the place of PyDataMem_SetHandler in NumPy's table of functions


def sweep(make: Callable[[], tuple[Any, ...]], call: Callable[..., Any], start: int, more: int,
          failing: Callable[..., Any], n_seen: Callable[[], int], say: Callable[..., None]) -> int:
    """Fail the allocations of a call from the one numbered `start`, and look at all that is promised."""
    objects = make()
    before = frozen(objects)
    right = frozen(call(*objects))
    after = frozen(objects)
    k = start
    while True:
        objects = make()
        say("at", k)
        try:
            result = failing(lambda objects=objects: call(*objects), k, more)
        except MemoryError:
            what = "MemoryError"
        except BaseException as error:
            what = f"{type(error).__name__}: {error}"
            say("found", f"raises {what}")
        else:
            what = ""
            if n_seen() < k:
                return k - 1
            if frozen(result) != right:
                say("found", "other bits where a failure is not noticed")
        now = frozen(objects)
        if what and now != before:
            say("found", f"{what}, and the state is {'that after the call' if now == after else 'neither old nor new'}")
        elif what:
            again = frozen(call(*objects))
            if again != right or frozen(objects) != after:
                say("found", "a later call gives other bits")
        elif now != after:
            say("found", "a failure is not noticed, and the state is " + ("as before" if now == before else "another"))
        k += 1


def leaks(make: Callable[[], tuple[Any, ...]], call: Callable[..., Any], ks: list[int], more: int,
          failing: Callable[..., Any], in_use: Callable[[], int]) -> Iterator[tuple[int, int]]:
    """The allocations whose failure leaves blocks in use, each when it has failed, and how many, each time."""
    counts = (ctypes.c_long * 2)()

    def grown(ks: list[int], n: int) -> int:
        """By how many blocks the last of n sweeps has grown what is in use, if all but the first have."""
        least = sys.maxsize
        for i in range(n):
            for k in ks:
                objects = make()
                with contextlib.suppress(BaseException):
                    failing(lambda objects=objects: call(*objects), k, more)
                objects = None
            gc.collect()
            counts[1] = in_use()
            least = least if i == 0 else min(least, counts[1] - counts[0])
            counts[0] = counts[1]
        return least

    def search(ks: list[int]) -> Iterator[tuple[int, int]]:
        if not ks or (n := grown(ks, N_SWEEPS)) <= 0:
            return
        if len(ks) > 1:
            yield from search(ks[:len(ks) // 2])
            yield from search(ks[len(ks) // 2:])
        elif grown(ks, N_TO_BE_SURE) > 0:
            yield ks[0], n

    return search(ks)


def child(name: str, more: int, start: int, folder: Path) -> None:
    """Sweep over one call, and say on standard output how it goes."""
    out = io.FileIO(1, "w", closefd=False)

    def say(what: str, value: Any) -> None:
        out.write(f"{json.dumps([what, value])}\n".encode())
        if what == "found":
            print(f"found {value}", file=sys.stderr, flush=True)
            library.print_failure()

    library = ctypes.PyDLL(None)
    failing = library.call_failing
    failing.restype, failing.argtypes = ctypes.py_object, [ctypes.py_object, ctypes.c_long, ctypes.c_int]
    n_seen, in_use = library.allocations_seen, library.blocks_in_use
    n_seen.restype = in_use.restype = ctypes.c_long
    library.watch_crashes()
    use_handler(library)
    warnings.simplefilter("ignore")
    sys.unraisablehook = lambda found: say("ignored", f"{found.exc_type.__name__} in {found.object!r:.80}")
    make, call = cases(folder)[name]
    for _ in range(3):
        frozen(call(*make()))           # imports what is imported late
    gc.collect()
    gc.freeze()                         # so that later collections are quick
    last = sweep(make, call, start, more, failing, n_seen, say)
    say("tried", last)
    ks = sorted(random.Random(start).sample(range(start, last + 1), min(MOST, max(0, last + 1 - start))))
    for k, n in leaks(make, call, ks, more, failing, in_use):
        print(f"leaks {k} {n}", file=sys.stderr, flush=True)
        library.print_failure()


def use_handler(library: ctypes.PyDLL) -> None:
    """Let NumPy take its data from the handler of the library, without a cache."""
    python = ctypes.pythonapi
    python.PyCapsule_GetPointer.restype, python.PyCapsule_New.restype = ctypes.c_void_p, ctypes.py_object
    python.PyCapsule_GetPointer.argtypes = [ctypes.py_object, ctypes.c_char_p]
    python.PyCapsule_New.argtypes = [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p]
    table = ctypes.cast(python.PyCapsule_GetPointer(np._core._multiarray_umath._ARRAY_API, None),
                        ctypes.POINTER(ctypes.c_void_p))
    set_handler = ctypes.PYFUNCTYPE(ctypes.py_object, ctypes.py_object)(table[SET_HANDLER])
    handler = ctypes.addressof(ctypes.c_char.in_dll(library, "data_handler"))
    set_handler(python.PyCapsule_New(handler, b"mem_handler", None))


def run(library: Path, name: str, more: int, start: int = 1) -> tuple[int, int, list[str], str]:
    """One child: the allocations tried, the last one begun, what was found, and what it printed when it ended."""
    folder = tempfile.mkdtemp(dir=FOLDER)
    process = subprocess.run([sys.executable, __file__, "--child", name, str(more), str(start), folder],
                             env=preloading(library, PYTHONMALLOC="malloc", OMP_NUM_THREADS="1"), check=False,
                             capture_output=True, text=True, timeout=LONGEST)
    at, tried, found = start - 1, 0, []
    for line in process.stdout.splitlines():
        what, value = json.loads(line)
        if what == "at":
            at = value
        elif what == "tried":
            tried = value - start + 1
        elif what == "found":
            found.append(f"allocation {at}: {value}")
    stacks = re.split("^found ", process.stderr, flags=re.M)[1:]
    found = [f"{one}: {short(of_one)}" for one, of_one in zip(found, stacks, strict=True)]
    end = ""
    if process.returncode != 0 and at < start:
        raise RuntimeError(f"{name}: {process.stderr}")
    if process.returncode != 0:
        end = f"ends with {process.returncode}: {short(re.split('^found ', process.stderr, flags=re.M)[-1])}"
    for one in [] if end else re.split("^leaks ", process.stderr, flags=re.M)[1:]:
        found.append(f"allocation {one.partition(' ')[0]} leaks: {short(one)}")
    return tried or at - start + 1, at, found, end


def tries(library: Path, name: str, more: int) -> tuple[int, list[str], list[str]]:
    """All of one call, over crashes that are known: how many allocations failed, what was found, what is known."""
    n, start, found, known = 0, 1, [], []
    what = f"{name}{', and more after it' * (more > 0)}"
    while True:
        tried, at, here, end = run(library, name, more, start)
        n += tried
        for one in here:
            it = explained(f"{what}: {one}")
            (found if it is None else known).append(one if it is None else it)
        if not end:
            return n, found, known
        it = explained(f"{what}: {end}")
        if it is None:
            found.append(f"allocation {at}: {end}")
        else:
            known.append(it)
        start = at + 1


def trials(rng: np.random.Generator) -> Iterator[int]:
    library = built("allocations", FOLDER)
    names = list(cases(Path(FOLDER)))
    while True:
        for i in rng.permutation(len(names)):
            for more in (0, MORE):
                n, found, known = tries(library, names[i], more)
                for what in sorted(set(known)):
                    print(f"{names[i]}: {what}", flush=True)
                assert not found, f"{names[i]}{', and more after it' * (more > 0)}: {found[0]}"
                yield n


FOLDER = ""
if __name__ == "__main__":
    if sys.argv[1:2] == ["--child"]:
        child(sys.argv[2], int(sys.argv[3]), int(sys.argv[4]), Path(sys.argv[5]))
        sys.stderr.flush()
        os._exit(0)         # Threads of a pool that could not be ended would be waited for.
    elif sys.version_info[:2] != (3, 11):
        print(f"{Path(__file__).stem}: skipped, as the faults of CPython 3.11 are known, and those of others are not")
    else:
        with folder_in_memory() as FOLDER:
            main(__doc__.partition("\n")[0], "failed allocations", trials)
