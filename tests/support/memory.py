"""The peak of memory during some work: resident, in a separate process, or traced, in this one."""

import contextlib
import tracemalloc
from pathlib import Path

from support.processes import python

RESET = Path("/proc/self/clear_refs")
PEAK = """
import sys
from pathlib import Path
import numpy as np
import bnstream


def peak():
    try:            # ru_maxrss would count what the parent held before exec
        status = Path("/proc/self/status").read_text()
        return int(status.split("VmHWM:")[1].split()[0]) * 1024
    except OSError:
        import resource
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def start():
    \"\"\"Reset the peak and return it.\"\"\"
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        pass
    return peak()

bnstream.set_num_threads(2)
"""


def measured(setup, works):
    """Run `setup` and each of the works, and return the numbers that each prints, by name.

    They share a process if its peak can be reset. The settings of malloc return freed memory to the system at once:
    otherwise a copy could hide in memory that an earlier work has freed.
    """
    names = list(works)
    groups = [names] if resettable() else [[name] for name in names]
    found = {}
    for group in groups:
        script = "\n".join([PEAK, setup, *(works[name] for name in group)])
        done = python("-c", script, MALLOC_MMAP_THRESHOLD_="65536", MALLOC_TRIM_THRESHOLD_="65536")
        lines = done.stdout.splitlines()
        found |= {name: [int(number) for number in line.split()] for name, line in zip(group, lines, strict=True)}
    return found


@contextlib.contextmanager
def traced():
    """Give a function that returns the peak of allocations by Python and NumPy in the block, after its end."""
    peaks = []
    tracemalloc.start()
    try:
        yield lambda: peaks[0]
        peaks.append(tracemalloc.get_traced_memory()[1])
    finally:
        tracemalloc.stop()


def resettable():
    """Whether a process can reset the peak of its resident memory."""
    try:
        RESET.write_text("5")
    except OSError:
        return False
    return True
