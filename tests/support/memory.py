"""The peak of resident memory, for scripts in a process of their own."""

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

bnstream.set_num_threads(2)
"""
