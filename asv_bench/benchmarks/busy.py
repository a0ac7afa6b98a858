"""Calls on a machine whose cores are busy: each has another process that wants to run all the time."""

import os
import subprocess
import sys
import time

from .base import digits, named
from .data import array
from .reductions import by_bnstream

SECONDS = 0.5
CORES = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
NEIGHBOUR = "import os\nparent = os.getppid()\nwhile os.getppid() == parent:\n    sum(range(100000))"


class Busy:
    """The mean of all calls in half a second. A median would hide the few that wait for a thread without a core."""

    params = ([(1024, 256), (4096, 256)], [1, 2], ["idle", "busy"])
    param_names = ("shape", "threads", "machine")
    unit = "ms"

    def setup(self, shape, threads, machine):
        if os.name == "nt":
            raise NotImplementedError("the neighbours would outlive the benchmark")
        self.call = by_bnstream(array(shape, "float32"), 0, threads)
        self.neighbours = [subprocess.Popen([sys.executable, "-c", NEIGHBOUR])
                           for _ in range(CORES if machine == "busy" else 0)]
        time.sleep(0.1)

    def teardown(self, shape, threads, machine):
        for process in self.neighbours:
            process.kill()
            process.wait()

    @named("mean_var beside busy neighbours")
    def track_mean_var(self, shape, threads, machine):
        self.call()
        n, start = 0, time.perf_counter()
        while (seconds := time.perf_counter() - start) < SECONDS:
            self.call()
            n += 1
        return digits(1e3 * seconds / n)
