"""Signals during a kernel, an exit during a kernel, processes that are forked, spawned and served, other interpreters.

An interrupted call leaves the object as it was before, or as it is after; a process that ends meanwhile ends with 0.
"""

import multiprocessing
import os
import signal
import subprocess
import sys
import warnings
from collections.abc import Iterator

import numpy as np
from harness import main

from bnstream import BatchNorm, GroupedMoments, Moments

X = np.random.default_rng(0).normal(3, 2, (20_000, 16))
KEYS = np.arange(len(X)) % 9
EXITS = """
import sys, threading, time
import numpy as np
import bnstream
x = np.random.default_rng(0).normal(size=(200_000, 16))
def work():
    while True:
        {call}
for _ in range(3):
    threading.Thread(target=work, daemon=True).start()
time.sleep({delay})
"""
CALLS = ("bnstream.Moments().update(x)", "bnstream.mean_var(x)", "bnstream.BatchNorm(16)(x)",
         "bnstream.Moments(exact=True).update(x)", "bnstream.GroupedMoments().update(x, np.arange(len(x)) % 9)",
         "bnstream.layer_norm(x, 16)")
INTERPRETER = """
import {module} as interpreters
import bnstream
other = interpreters.create()
try:
    found = interpreters.run_string(other, "import bnstream; bnstream.mean_var([1.0, 2.0])")
except Exception as error:
    found = error
print(found or "it works")
"""
ALLOWED = ("can only be loaded into one interpreter per process", "does not support loading in subinterpreters",
           "it works")


def interrupts(rng: np.random.Generator) -> int:
    """SIGALRM raises KeyboardInterrupt at random moments of calls that take some milliseconds."""
    if not hasattr(signal, "setitimer"):
        return 0
    m, exact, g, bn = Moments(), Moments(exact=True), GroupedMoments(), BatchNorm(16, track_pooled=True)
    by_name, expected = GroupedMoments(), BatchNorm(16)
    n = 0
    old = signal.signal(signal.SIGALRM, signal.default_int_handler)
    try:
        for i in range(50):
            delay = float(rng.exponential(0.002)) + 1e-6
            try:
                signal.setitimer(signal.ITIMER_REAL, delay)
                m.update(X)
                exact.update(X)
                g.update(X, KEYS + i)               # with new groups each time
                by_name.update(X[:100], (KEYS[:100] + i).astype(str))
                bn(X)
                signal.setitimer(signal.ITIMER_REAL, 0)
            except KeyboardInterrupt:
                n += 1
            counts = [int(np.max(one.n)) for one in (m, exact) if one.shape is not None]
            counts += [int(g.total().n.max())] if len(g) else []
            assert all(count % len(X) == 0 for count in counts), f"part of a batch: {counts}"
            assert not len(by_name) or by_name.total().n.max() % 100 == 0, f"part of a batch: {by_name.total().n}"
            assert all(g[key].n.max() > 0 for key in g), "a group without values"
            n_batches = bn.num_batches_tracked
            while expected.num_batches_tracked < n_batches:
                expected(X)
            for one, other in (bn.running_mean, expected.running_mean), (bn.running_var, expected.running_var):
                assert one.tobytes() == other.tobytes(), f"running estimates that are not those of {n_batches} batches"
            assert np.max(bn.pooled.n) == n_batches * len(X), "pooled statistics of other batches"
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, old)
    for one in (m, exact):
        assert one.shape is None or np.allclose(one.var(), X.var(0)), f"half a state: {one!r}"
    return n


def exits(rng: np.random.Generator) -> int:
    """The main thread ends while others are in kernels."""
    script = EXITS.format(call=CALLS[rng.integers(len(CALLS))], delay=rng.exponential(0.05))
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, f"exit code {done.returncode} of {script}: {done.stderr}"
    return 1


def sums(seed: int) -> bytes:
    """The state of one batch, in a process of its own."""
    return Moments().update(np.random.default_rng(seed).normal(size=(5000, 8))).mean.tobytes()


def pools(rng: np.random.Generator) -> int:
    """Processes of every kind get the bits of this one."""
    seeds = rng.integers(1 << 30, size=8).tolist()
    expected = [sums(seed) for seed in seeds]
    n = 0
    for method in multiprocessing.get_all_start_methods():
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)     # of fork beside threads, which is the point
            with multiprocessing.get_context(method).Pool(2) as pool:
                assert pool.map_async(sums, seeds).get(timeout=120) == expected, f"other bits by {method}"
        n += len(seeds)
    return n


def interpreters() -> int:
    """Another interpreter in the process works, or refuses to import the library in a sentence."""
    module = "_interpreters" if sys.version_info >= (3, 13) else "_xxsubinterpreters"
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", INTERPRETER.format(module=module)], check=False,
                          capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, f"exit code {done.returncode}: {done.stderr}"
    assert any(words in done.stdout for words in ALLOWED), done.stdout
    return 1


def trials(rng: np.random.Generator) -> Iterator[int]:
    while True:
        yield interrupts(rng)
        yield exits(rng)
        yield interpreters()
        yield pools(rng) if os.name == "posix" else 0


if __name__ == "__main__":
    main(__doc__.partition("\n")[0], "interruptions, exits and processes", trials)
