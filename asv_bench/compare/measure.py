"""Medians of calls that take turns, and mean_var beside a plain read of the same bytes."""

import statistics
import sys
import time
from dataclasses import dataclass

from benchmarks import floor
from benchmarks.timing import interleaved

import bnstream

LEAST = 5e-3        # s; a faster call is repeated for this long within one measurement
MOST = 0.04         # s a round, on average; slower calls skip later rounds
UNSTEADY = 1.5      # A median this many times as long as the fastest round is reported.
RATIO = "{:.1f}x"
UNITS = {2**30: "GB", 2**20: "MB", 2**10: "KB"}


@dataclass(frozen=True)
class Run:
    """What was asked for on the command line; only: a row is wanted where it contains one of these texts."""

    rounds: int
    threads: int
    only: tuple

    @property
    def counts(self):
        """The numbers of threads to measure with."""
        return sorted({1, self.threads})


def threads(n):
    return f"{n} thread{'s' * (n > 1)}"


def size_name(n_bytes):
    unit = next(unit for unit in UNITS if n_bytes >= unit)
    return f"{n_bytes / unit:.4g} {UNITS[unit]}"


def share_columns(run, style="{:.0%}"):
    """Columns of the share of a plain read of the same bytes, by number of threads."""
    return {f"of plain read, {threads(n)}": style for n in run.counts}


def seconds_of(call, times=1):
    start = time.perf_counter()
    for _ in range(times):
        call()
    return time.perf_counter() - start


def repetitions(call):
    """How often a call has to be repeated to take LEAST. Its first run, which may import or compile, does not count."""
    times = 1
    if seconds_of(call) < 0.2:
        while seconds_of(call, times) < LEAST:
            times *= 2
    return times


def medians(calls, rounds, most=MOST):
    """Median seconds of each call; in each round they run one after the other."""
    number = {name: repetitions(call) for name, call in calls.items()}
    loops = {name: lambda call=call, n=number[name]: seconds_of(call, n) for name, call in calls.items()}
    taken = {name: [] for name in calls}
    for k in range(rounds):
        due = {name: loop for name, loop in loops.items() if k == 0 or sum(taken[name]) < most * rounds}
        for name, seconds in interleaved(due, 1).items():
            taken[name].append(seconds)
    found = {name: statistics.median(values) for name, values in taken.items()}
    if unsteady := [str(name) for name, value in found.items() if value > UNSTEADY * min(taken[name])]:
        print(f"unsteady, is the machine busy? {', '.join(unsteady)}", file=sys.stderr)
    return {name: value / number[name] for name, value in found.items()}


def mean_var(x, axis, run, peers, **options):
    """The numbers of a row: milliseconds, shares of a plain read, and the ratio of each peer's time to bnstream's."""
    times = 2**24 // x.nbytes + 1       # The read is repeated within C, so that the cost of the call does not count.
    calls = {("bnstream", n): lambda n=n: bnstream.mean_var(x, axis, n_threads=n, **options) for n in run.counts}
    contiguous = x.flags.c_contiguous or x.flags.f_contiguous
    if contiguous:
        calls |= {("read", n): lambda n=n: floor.read(x, n, times) for n in run.counts}
    seconds = medians(calls | peers, run.rounds)
    ours = seconds["bnstream", run.threads]
    values = {"ms": ours * 1e3} | {who: seconds[who] / ours for who in peers}
    for n in run.counts if contiguous else ():
        fastest = min(seconds["read", m] for m in run.counts if m <= n) / times
        values[f"GB/s, {threads(n)}"] = x.nbytes / fastest / 1e9
        values[f"of plain read, {threads(n)}"] = fastest / seconds["bnstream", n]
    return values
