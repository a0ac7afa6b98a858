"""Medians of calls that take turns, and mean_var against the plain read of the same bytes."""

import statistics
import sys
import time
from dataclasses import dataclass

from benchmarks import floor
from benchmarks.timing import interleaved

import bnstream

LEAST = 5e-3        # s; fast calls are timed so many at once as take this long
MOST = 0.04         # s a round, in the mean; slow calls sit out later rounds
UNSTEADY = 1.5      # times its fastest round: a median that is to be looked at
RATIO = "{:.1f}x"


@dataclass(frozen=True)
class Run:
    """What was asked for."""

    rounds: int
    threads: int
    only: str

    @property
    def counts(self):
        """Of threads."""
        return sorted({1, self.threads})


def threads(n):
    return f"{n} thread{'s' * (n > 1)}"


def share_columns(run, style="{:.0%}"):
    """Of the plain read of the same bytes, on as many threads."""
    return {f"of plain read, {threads(n)}": style for n in run.counts}


def seconds_of(call, times=1):
    start = time.perf_counter()
    for _ in range(times):
        call()
    return time.perf_counter() - start


def repetitions(call):
    """How often a call is to be made to take a while. The first one, which may import or compile, does not count."""
    times = 1
    if seconds_of(call) < 0.2:
        while seconds_of(call, times) < LEAST:
            times *= 2
    return times


def medians(calls, rounds, most=MOST):
    """Seconds of each call, one after the other in each round."""
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
    """The numbers of a row: ms, shares of the plain read, how many times as long each peer takes."""
    times = 2**24 // x.nbytes + 1       # the read, within C
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
