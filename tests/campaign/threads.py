"""32 threads on one object of each kind: updates, merges both ways, copies, pickles, another number of threads, fork.

Nothing may be lost or counted twice, no reader may see half a state, and nothing may wait for ever.
"""

import faulthandler
import os
import pickle
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from functools import partial
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from harness import main

import bnstream
from bnstream import BatchNorm, GroupedMoments, InstanceNorm, Moments
from bnstream.runningmeanstd import RunningMeanStd

sys.path.insert(0, str(Path(__file__).parents[1]))
from support.together import run

N_THREADS, N_CALLS = 32, 40
LONGEST = 300       # seconds of a trial, after which the stacks of all threads are printed and the process ends
X = np.random.default_rng(0).normal(3, 2, (16, 5))
BIG = np.random.default_rng(1).normal(3, 2, (4000, 5))
KEYS = np.arange(len(X)) % 4


def at_once(work: Callable[[int], None]) -> None:
    """Do the work on all threads, which start together."""
    run(*(partial(work, i) for i in range(N_THREADS)), timeout=LONGEST)


def read(state: Moments, i: int, x: np.ndarray) -> None:
    """Read the whole state, in one of several ways, and check that it is that of whole batches."""
    found = pickle.loads(pickle.dumps(state)) if i % 2 else state.copy()
    if found.shape is None:
        return
    n = np.asarray(found.n)
    assert (n == n.flat[0]).all() and n.flat[0] % len(x) == 0, f"half a batch: n={n}"
    assert np.allclose(found.mean, x.mean(0)) and np.allclose(found.var(), x.var(0)), f"half a state: {found!r}"


def updates(x: np.ndarray, **options: object) -> int:
    """Updates of one Moments beside its readers."""
    m = Moments(**options)

    def work(i: int) -> None:
        for k in range(N_CALLS):
            if i % 4 == 3:
                read(m, i + k, x)
            else:
                m.update(x, n_threads=1 + k % 3)

    at_once(work)
    expected = N_THREADS * 3 // 4 * N_CALLS * len(x)
    assert (m.n == expected).all(), f"{m.n} of {expected} values with {options}"
    assert np.allclose(m.mean, x.mean(0), rtol=1e-13) and np.allclose(m.var(), x.var(0), rtol=1e-12), f"{m!r}"
    return N_THREADS * N_CALLS


def merges(**options: object) -> int:
    """Two objects merge into each other while both are updated. The counts only grow, and nothing waits for ever."""
    a, b = Moments(**options).update(X), Moments(**options).update(X)

    def work(i: int) -> None:
        for _ in range(3):
            (a.merge(b) if i % 2 else b.merge(a)) if i < 8 else (a if i % 2 else b).update(X)

    at_once(work)
    for m in (a, b):
        assert (m.n == m.n[0]).all() and m.n[0] >= (3 * 12 + 1) * len(X), f"lost: n={m.n}"
        assert np.allclose(m.mean, X.mean(0)) and np.allclose(m.var(), X.var(0)), f"{m!r}"
    return 3 * N_THREADS


def brought() -> int:
    """An empty object is updated, and gets what to track by a merge: no number is lost, or tracked in part."""
    m, other = Moments(), Moments(track=("min", "missing")).update(BIG)
    at_once(lambda i: (m.merge(other) if i == 0 else m.update(BIG)) and None)
    assert (m.n == N_THREADS * len(BIG)).all(), f"{m.n} of {N_THREADS * len(BIG)} values"
    assert np.allclose(m.mean, BIG.mean(0)) and np.allclose(m.var(), BIG.var(0)), f"{m!r}"
    assert not m.track or ((m.min == BIG.min(0)).all() and not m.missing.any()), f"min {m.min}, missing {m.missing}"
    return N_THREADS


def groups(**options: object) -> int:
    """Updates of one GroupedMoments, with new keys among them, beside its readers."""
    g = GroupedMoments(**options).update(X, KEYS)

    def work(i: int) -> None:
        for k in range(N_CALLS):
            if i % 8 == 7:
                n = (pickle.loads(pickle.dumps(g)) if k % 2 else g.copy()).total().n
                assert (n == n[0]).all() and n[0] % len(X) == 0, f"half a batch: n={n}"
            else:
                g.update(X, KEYS if k % 5 else KEYS + 4 * i)

    at_once(work)
    expected = (N_THREADS * 7 // 8 * N_CALLS + 1) * len(X)
    assert (g.total().n == expected).all(), f"{g.total().n} of {expected} values with {options}"
    return N_THREADS * N_CALLS


def layers() -> int:
    """Training calls of one layer of each kind."""
    bn, pooled = BatchNorm(5), BatchNorm(5, track_pooled=True)
    instance, rms = InstanceNorm(5, track_running_stats=True), RunningMeanStd((5,))
    images = X.reshape(4, 4, 5).transpose(0, 2, 1).copy()

    def work(_: int) -> None:
        for _ in range(N_CALLS):
            bn(X)
            pooled(X)
            instance(images)
            rms.update(X)

    at_once(work)
    n = N_THREADS * N_CALLS
    assert bn.num_batches_tracked == pooled.num_batches_tracked == instance.num_batches_tracked == n, (
        f"{bn.num_batches_tracked}, {pooled.num_batches_tracked}, {instance.num_batches_tracked} of {n} batches")
    assert (pooled.pooled.n == n * len(X)).all(), f"{pooled.pooled.n} of {n * len(X)} pooled values"
    assert np.allclose(bn.running_mean, X.mean(0)), f"running mean {bn.running_mean}"
    assert round(float(rms.count)) == n * len(X), f"{rms.count} of {n * len(X)} values"
    return 4 * n


def forks() -> int:
    """A child that is forked beside working threads gives the same bits, on one thread, and ends."""
    if not hasattr(os, "fork"):
        return 0
    expected = Moments().update(BIG, n_threads=1).copy()
    stop = threading.Event()

    def busy() -> None:
        while not stop.is_set():
            Moments().update(BIG)

    threads = [threading.Thread(target=busy) for _ in range(4)]
    for thread in threads:
        thread.start()
    try:
        for _ in range(4):
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", DeprecationWarning)     # of fork beside threads, which is the point
                child = os.fork()
            if not child:
                code = 4
                try:
                    code = 0 if Moments().update(BIG) == expected else 3
                finally:
                    os._exit(code)
            assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0, "a forked child got other bits"
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    return 4


def numbers_of_threads() -> int:
    """The number of threads changes while calls run, and changes no bit."""
    expected = Moments().update(BIG, n_threads=1)

    def work(i: int) -> None:
        for k in range(10):
            if i % 8 == 0:
                bnstream.set_num_threads(1 + (i + k) % 5)
            assert Moments().update(BIG) == expected, "other bits with another number of threads"

    at_once(work)
    bnstream.set_num_threads(None)
    return 10 * N_THREADS


def trials(rng: np.random.Generator) -> Iterator[int]:
    kinds = [
        lambda: updates(X), lambda: updates(BIG), lambda: updates(X, exact=True), lambda: updates(BIG, exact=True),
        lambda: updates(X, track=("min", "missing", "kurtosis")),
        merges, lambda: merges(exact=True), lambda: merges(track="min"),
        groups, lambda: groups(exact=True), lambda: groups(track="min"), brought, layers, numbers_of_threads, forks,
    ]
    if find_spec("datasketches") is not None:
        kinds += [lambda: updates(X, track="quantiles"), lambda: merges(track="quantiles"),
                  lambda: groups(track="quantiles")]
    while True:
        for i in rng.permutation(len(kinds)):
            faulthandler.dump_traceback_later(LONGEST, exit=True)
            yield kinds[i]()
            faulthandler.cancel_dump_traceback_later()


if __name__ == "__main__":
    sys.setswitchinterval(1e-5)         # Switch between threads often where there is a GIL.
    main(__doc__.partition("\n")[0], "calls", trials)
