"""Updates at full speed, for as long as wanted: memory stays flat, and nothing drifts away from exact arithmetic.

Statistics get two unequal batches in turns, and layers both at once, so that what they must hold is known in fractions
after any number of updates. In each lap, statistics of each batch, twice as many each time, are also merged into a copy
until it holds 10^9 updates.
"""

from __future__ import annotations

import gc
import math
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from harness import main

from bnstream import BatchNorm, GroupedMoments, Moments
from bnstream.runningmeanstd import RunningMeanStd

EPS = 2.0**-52
LAP = 1000              # updates of one object before the next one's turn
N_WARM = 3              # laps of every object before its memory counts
SLACK = 64 << 10        # Bytes by which resident memory may grow: what the allocators of Python and NumPy keep at hand.
N_MERGED = 10**9        # updates, by merging

RNG = np.random.default_rng(0)
X = (RNG.normal(1e4, 1, (16, 5))).astype("f4")
KEYS = np.arange(len(X)) % 4
BATCHES = [(X[:5], KEYS[:5]), (X[5:], KEYS[5:])]
MOMENTUM = 2.0**-4      # a power of two, so that the running mean of equal batches has a simple bound


def moments(rows: np.ndarray) -> list[tuple[Fraction, Fraction]]:
    """Mean and variance of each column, exactly."""
    found = []
    for column in rows.T.tolist():
        values = [Fraction(value) for value in column]
        mean = sum(values) / len(values)
        found.append((mean, sum((value - mean) ** 2 for value in values) / len(values)))
    return found


OF_X = moments(X)
OF_GROUPS = [moments(X[key == KEYS]) for key in range(4)]


def error(found: float, exact: Fraction, scale: float) -> float:
    """How many eps of a scale a number is off."""
    return float(abs(Fraction(float(found)) - exact)) / (EPS * scale)


def within(m: Any, n: int, of_x: list[tuple[Fraction, Fraction]], name: str) -> None:
    """Check the statistics of n values against the bound of `Moments`."""
    assert (np.asarray(m.n) == n).all(), f"{name}: n = {m.n}, not {n}"
    for c, (mean, var) in enumerate(of_x):
        off = error(np.asarray(m.mean)[c], mean, max(abs(float(mean)), math.sqrt(var)))
        assert off <= 8, f"{name}: the mean is off by {off:.2f} eps after {n:,} values"
        off = error(np.asarray(m.var())[c], var, float(var) * math.log2(n))
        assert off <= 16, f"{name}: the variance is off by {off:.2f} eps log2(n) after {n:,} values"
        WORST[name] = max(WORST.get(name, 0.0), off)


def merged(total: Any, parts: Sequence[Any], n: int, size: int) -> int:
    """Merge statistics of each batch, twice as many each time, into those of n values, until these are of 10^9 updates.

    `size` is how many values both batches have. Return how many values there are.
    """
    enough = N_MERGED // len(BATCHES) * size
    while n < enough:
        for part in parts:
            total.merge(part)
            part.merge(part.copy())
        n, size = n + size, 2 * size
    return n


def right(m: Any, n: int, name: str) -> None:
    """Check the statistics of X, some times over, which hold n values a channel."""
    if m.exact:
        rounded(m, n, name)
    else:
        within(m, n, OF_X, name)


def rounded(m: Moments, n: int, name: str) -> None:
    """Check that exact statistics are those of the batch, correctly rounded."""
    assert (m.n == n).all(), f"{name}: n = {m.n}, not {n}"
    for c, (mean, var) in enumerate(OF_X):
        # float() rounds an integer ratio to nearest, ties to even.
        assert m.mean[c] == mean.numerator / mean.denominator, f"{name}: the mean after {n:,} values"
        assert m.var()[c] == var.numerator / var.denominator, f"{name}: the variance after {n:,} values"


class Plain:
    """A `Moments` of some kind."""

    def __init__(self, **options: Any) -> None:
        self.name = f"Moments({', '.join(f'{key}={value!r}' for key, value in options.items())})"
        self.options, self.m, self.n = options, Moments(**options), 0

    def lap(self) -> None:
        update = self.m.update
        for _ in range(LAP // len(BATCHES)):
            for x, _ in BATCHES:
                update(x)
        self.n += LAP // len(BATCHES) * len(X)

    def check(self) -> None:
        right(self.m, self.n, self.name)
        if "min" in self.m.track:
            assert (self.m.min == X.min(0)).all() and (self.m.max == X.max(0)).all(), f"{self.name}: min and max"
            assert not self.m.missing.any(), f"{self.name}: missing"
        if "skewness" in self.m.track:
            z = (X - X.astype("f8").mean(0)) / X.astype("f8").std(0)
            assert np.allclose(self.m.skewness(), (z**3).mean(0), rtol=1e-9, atol=1e-9), f"{self.name}: skewness"
            assert np.allclose(self.m.kurtosis(), (z**4).mean(0) - 3, rtol=1e-9, atol=1e-9), f"{self.name}: kurtosis"

    def merge(self) -> None:
        m, parts = self.m.copy(), [Moments(**self.options).update(x) for x, _ in BATCHES]
        n = merged(m, parts, self.n, len(X))
        right(m, n, f"{self.name}, merged")


class Grouped:
    """A `GroupedMoments`."""

    def __init__(self, **options: Any) -> None:
        self.name = f"GroupedMoments({', '.join(f'{key}={value!r}' for key, value in options.items())})"
        self.options, self.g, self.n = options, GroupedMoments(**options), 0

    def lap(self) -> None:
        for _ in range(LAP // len(BATCHES)):
            for batch in BATCHES:
                self.g.update(*batch)
        self.n += LAP // len(BATCHES) * len(X) // 4

    def check(self) -> None:
        for key, of_group in enumerate(OF_GROUPS):
            within(self.g[key], self.n, of_group, self.name)

    def merge(self) -> None:
        g, parts = self.g.copy(), [GroupedMoments(**self.options).update(*batch) for batch in BATCHES]
        n = merged(g, parts, self.n, len(X) // 4)
        for key, of_group in enumerate(OF_GROUPS):
            within(g[key], n, of_group, f"{self.name}, merged")


class Layer:
    """Training calls of a `BatchNorm`, and their backward passes."""

    def __init__(self, **options: Any) -> None:
        self.name = f"BatchNorm({', '.join(f'{key}={value!r}' for key, value in options.items())})"
        self.bn, self.n = BatchNorm(X.shape[1], momentum=MOMENTUM, running_ddof=0, **options), 0
        self.y, self.dy = np.empty_like(X), np.ones_like(X)

    def lap(self) -> None:
        for _ in range(LAP):
            self.bn(X, self.y)
            self.bn.backward(self.dy, self.y)
        self.n += LAP

    def check(self) -> None:
        count = self.bn.num_batches_tracked
        assert count == self.n, f"{self.name}: {count}, not {self.n} batches"
        if self.bn.pooled is not None:
            right(self.bn.pooled, self.n * len(X), f"{self.name}.pooled")
        # Each step rounds by an eps, and forgets a share of the errors before it: they sum to 1 / momentum of them.
        for c, (mean, var) in enumerate(OF_X):
            for found, exact in (self.bn.running_mean[c], mean), (self.bn.running_var[c], var):
                off = error(found, exact, float(exact))
                assert off <= 4 / MOMENTUM, f"{self.name}: a running estimate is off by {off:.1f} eps"

    def merge(self) -> None:
        """Layers are not merged."""


class Environment:
    """A `RunningMeanStd`, which is read after each update."""

    name = "RunningMeanStd"

    def __init__(self) -> None:
        self.rms, self.n = RunningMeanStd((X.shape[1],)), 0

    def lap(self) -> None:
        rms = self.rms
        for _ in range(LAP // len(BATCHES)):
            for x, _ in BATCHES:
                rms.update(x)
                rms.mean, rms.var       # noqa: B018
        self.n += LAP // len(BATCHES) * len(X)

    def check(self) -> None:
        assert self.rms.count == self.n, f"{self.name}: {self.rms.count} of {self.n} samples"
        within(self.rms.moments, self.n, OF_X, self.name)

    def merge(self) -> None:
        rms, parts = self.rms.copy(), [RunningMeanStd((X.shape[1],)).update(x) for x, _ in BATCHES]
        n = merged(rms, parts, self.n, len(X))
        within(rms.moments, n, OF_X, f"{self.name}, merged")


def resident() -> int:
    """Bytes of resident memory; 0 where the system does not tell."""
    if not sys.platform.startswith("linux"):
        return 0
    import os
    return int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1]) * os.sysconf("SC_PAGE_SIZE")


WORST: dict[str, float] = {}        # the largest error of a variance, in eps log2(n)
MAKERS: list[Callable[[], Any]] = [
    Plain, lambda: Plain(exact=True), lambda: Plain(track=("min", "missing", "kurtosis"), nan_policy="omit"),
    lambda: Plain(exact=True, track=("min", "missing")), Grouped, lambda: Grouped(exact=True), Layer,
    lambda: Layer(track_pooled=True), lambda: Layer(track_pooled="exact"), lambda: Layer(renorm=True), Environment,
]


def trials(rng: np.random.Generator) -> Iterator[int]:
    objects = [make() for make in MAKERS]
    memory: dict[str, int] = {}
    rounds = 0
    while True:
        for i in rng.permutation(len(objects)):
            one = objects[i]
            start = time.perf_counter()
            one.lap()
            SPEED[one.name] = (time.perf_counter() - start) / LAP
            yield LAP
        for one in objects:
            one.check()
            one.merge()
        gc.collect()
        rounds += 1
        now = resident()
        if rounds <= N_WARM:
            memory["first"] = now
        assert now <= memory["first"] + SLACK, (
            f"resident memory has grown by {now - memory['first']:,} bytes in {rounds - N_WARM} rounds")
        memory["last"] = now
        GROWTH[:] = [now - memory["first"], rounds]


SPEED: dict[str, float] = {}
GROWTH = [0, 0]
if __name__ == "__main__":
    main(__doc__.partition("\n")[0], "updates", trials)
    for what, seconds in sorted(SPEED.items()):
        print(f"  {what}: {1e6 * seconds:.2f} us an update; the variance within {WORST.get(what, 0):.1g} eps log2(n)")
    print(f"  resident memory: {GROWTH[0]:+,} bytes in {max(0, GROWTH[1] - N_WARM)} rounds after warm-up")
