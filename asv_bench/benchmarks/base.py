"""What asv is told about the benchmarks: how often to time them, what to prepare once, what to call them."""

import functools
import time

CALLS = 1000


class Timed:
    """One process and some tenths of a second for each number, so that a run of one commit takes minutes. To judge a
    change, `asv continuous -a rounds=3` takes three processes of each commit in turns."""

    rounds = 1
    repeat = (5, 50, 0.2)       # samples: at least, at most; seconds
    warmup_time = 0.05          # s; wakes OpenMP's threads


class TimedShort(Timed):
    """Calls too short for a clock: the benchmark makes CALLS of them, by a clock that runs so much slower."""

    timer = staticmethod(lambda: time.perf_counter() / CALLS)


def repeated(call):
    for _ in range(CALLS):
        call()


def digits(x):
    """Those of a tracked number that are worth reading."""
    return float(f"{float(x):.3g}")


def once(setup):
    """Prepare only the first time: asv calls setup before every sample, and has a process for each set of parameters.
    Made anew, the arrays would take longer than what is measured, and leave the threads and caches cold."""

    @functools.wraps(setup)
    def prepare(self, *parameters):
        if not getattr(self, "_prepared", False):
            setup(self, *parameters)
            self._prepared = True

    return prepare


def named(name):
    """What the published pages call a benchmark."""

    def name_it(benchmark):
        benchmark.pretty_name = name
        return benchmark

    return name_it
