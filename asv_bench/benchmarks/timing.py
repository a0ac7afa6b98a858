"""Times of several calls that take turns."""

import contextlib
import ctypes
import importlib
import statistics
import time

# s: OpenMP's threads spin for some 10 ms after their work, on cores that the next call needs.
PAUSE = 0.03
# s: after a pause, the first calls wait for sleeping threads and take 0.5 ms instead of 0.2, or even 10 ms.
WARM_UP = 0.01


def optional(name):
    """A module, or None where it is not installed."""
    try:
        return importlib.import_module(name)
    except ImportError:
        return None


def wake(call):
    """Pause until the threads of the previous call sleep, then wake those of this one by calls that are not timed."""
    time.sleep(PAUSE)
    warm = time.perf_counter() + WARM_UP
    call()
    while time.perf_counter() < warm:
        call()


def interleaved(calls, rounds, number=1):
    """Median seconds of each call; in each round they run one after the other. Each call has the machine to itself and
    its threads awake, and frees its result within its own time, before the next call allocates."""
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
    """Choose where results of 1 MiB or more go: to pages that are "new" to the process, each with a page fault, or to
    "reused" ones. By default glibc reuses pages below 32 MiB depending on what was freed before. Call this once, at the
    start of a process. It has no effect with other C libraries."""
    m_trim_threshold, m_mmap_threshold, m_mmap_max = -1, -3, -4
    options = {"new": {m_mmap_threshold: 1 << 20}, "reused": {m_mmap_max: 0, m_trim_threshold: -1}}
    with contextlib.suppress(AttributeError, OSError, TypeError):
        for option, value in options.get(kind, {}).items():
            ctypes.CDLL(None).mallopt(option, value)


def trim():
    """Return the free memory of this process to the system, where the C library can."""
    with contextlib.suppress(AttributeError, OSError, TypeError):
        ctypes.CDLL(None).malloc_trim(0)
