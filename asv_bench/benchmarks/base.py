"""What the benchmarks tell asv: how often to time them, what to prepare once, and the names of the published pages."""

import functools
import time

CALLS = 1000


class Timed:
    """One process and a few tenths of a second for each number, so that a run of one commit takes minutes. To judge a
    change, `asv continuous -a rounds=3` alternates between three processes of each commit."""

    rounds = 1
    repeat = (5, 50, 0.2)       # the least and the largest number of samples, and the seconds for them
    warmup_time = 0.05          # s, enough to wake OpenMP's threads


class TimedShort(Timed):
    """Calls too short for the clock: the benchmark makes CALLS of them, on a clock that runs slower by that factor."""

    timer = staticmethod(lambda: time.perf_counter() / CALLS)


def repeated(call):
    for _ in range(CALLS):
        call()


def digits(x):
    """A tracked number, rounded to three significant digits."""
    return float(f"{float(x):.3g}")


def once(setup):
    """Run a setup only the first time. asv calls it before every sample, and has one process per set of parameters.
    New arrays for each sample would take longer than the call itself, and leave threads and caches cold."""

    @functools.wraps(setup)
    def prepare(self, *parameters):
        if not getattr(self, "_prepared", False):
            setup(self, *parameters)
            self._prepared = True

    return prepare


def named(name):
    """The name of a benchmark on the published pages."""

    def name_it(benchmark):
        benchmark.pretty_name = name
        return benchmark

    return name_it
