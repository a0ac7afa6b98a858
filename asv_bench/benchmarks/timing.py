"""Times of several calls, taken in turns."""

import contextlib
import ctypes
import importlib
import statistics
import time

PAUSE = 0.03        # s; OpenMP's threads spin for some 10 ms after their work, on cores that the next call wants
WARM_UP = 0.01      # s; after a pause the first calls wait for sleeping threads: 0.5 ms instead of 0.2, or 10


def optional(name):
    """A module, or None where it is not installed."""
    try:
        return importlib.import_module(name)
    except ImportError:
        return None


def wake(call):
    """A pause, until the threads of the call before sleep, then calls that are not timed, which wake this one's own."""
    time.sleep(PAUSE)
    warm = time.perf_counter() + WARM_UP
    call()
    while time.perf_counter() < warm:
        call()


def interleaved(calls, rounds, number=1):
    """Median seconds of each call, one after the other in each round. Each has the machine to itself, its threads
    awake, and drops its result before the next allocates, and within its own time."""
    times = {name: [] for name in calls}
    for _ in range(rounds):
        for name, call in calls.items():
            wake(call)
            start = time.perf_counter()
            for _ in range(number):
                call()
            times[name].append((time.perf_counter() - start) / number)
    return {name: statistics.median(values) for name, values in times.items()}


def set_pages(kind):
    """Where results of 1 MiB or more go: to pages "new" to the process, each a page fault, or "reused" ones, without.
    Left alone, glibc reuses those below 32 MiB at times, by what was freed before. To be called once, at the start of a
    process; with other C libraries it does nothing."""
    m_trim_threshold, m_mmap_threshold, m_mmap_max = -1, -3, -4
    options = {"new": {m_mmap_threshold: 1 << 20}, "reused": {m_mmap_max: 0, m_trim_threshold: (1 << 31) - 1}}
    with contextlib.suppress(AttributeError, OSError, TypeError):
        for option, value in options.get(kind, {}).items():
            ctypes.CDLL(None).mallopt(option, value)
