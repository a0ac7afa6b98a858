"""A search for the worst errors of mean and variance: numbers are changed where that brings an error nearer its bound.

It climbs from data of many kinds, over dtypes, layouts, weights and merges, and prints the worst share of each bound.
"""

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from harness import main

sys.path.insert(0, str(Path(__file__).parents[1]))
from support.oracle import Exact, errors, exact, exact_weighted

from bnstream import Moments, mean_var

STEPS = 60          # of a climb
DTYPES = ("f8", "f4", "f2", "i4")
Way = Callable[[np.ndarray], tuple[np.ndarray, np.ndarray, list[Exact]]]


def whole(x: np.ndarray) -> tuple[np.ndarray, np.ndarray, list[Exact]]:
    """One call, with a channel for each column."""
    return *mean_var(x, 0, dtype="f8"), [exact(column) for column in x.T]


def by_runs(x: np.ndarray) -> tuple[np.ndarray, np.ndarray, list[Exact]]:
    """One call, with a channel for each row of the transposed array."""
    return *mean_var(np.ascontiguousarray(x.T), 1, dtype="f8"), [exact(column) for column in x.T]


def strided(x: np.ndarray) -> tuple[np.ndarray, np.ndarray, list[Exact]]:
    """One call on every second column of a wider array, from the last one on."""
    wide = np.zeros((len(x), 2 * x.shape[1]), x.dtype)
    wide[:, ::2] = x
    return *mean_var(wide[:, ::2][::-1], 0, dtype="f8"), [exact(column) for column in x.T]


def row_by_row(x: np.ndarray) -> tuple[np.ndarray, np.ndarray, list[Exact]]:
    """As many updates as rows."""
    m = Moments()
    for row in x:
        m.update(row[np.newaxis])
    return m.mean, m.var(), [exact(column) for column in x.T]


def merged(x: np.ndarray) -> tuple[np.ndarray, np.ndarray, list[Exact]]:
    """Thirds that are merged from the last to the first."""
    parts = [Moments().update(part) for part in np.array_split(x, 3) if len(part)]
    m = sum(reversed(parts), Moments())
    return m.mean, m.var(), [exact(column) for column in x.T]


def weighted(x: np.ndarray) -> tuple[np.ndarray, np.ndarray, list[Exact]]:
    """Weights of many magnitudes."""
    weights = np.ldexp(1.0 + np.arange(len(x)) % 7, np.arange(len(x)) % 13)
    m = Moments().update(x, weights=weights)
    return m.mean, m.var(), [exact_weighted(column, weights) for column in x.T]


def selected(x: np.ndarray) -> tuple[np.ndarray, np.ndarray, list[Exact]]:
    """A mask that leaves out a third of the rows."""
    where = np.arange(len(x)) % 3 != 1
    m = Moments().update(x, where=where)
    return m.mean, m.var(), [exact(column[where]) for column in x.T]


WAYS: tuple[Way, ...] = (whole, by_runs, strided, row_by_row, merged, weighted, selected)


def start(rng: np.random.Generator, dtype: str) -> np.ndarray:
    """Data from which a climb begins: far from zero, of two magnitudes, nearly equal, or with a wild first row."""
    n, channels = int(rng.choice([2, 3, 9, 64, 257, 700])), int(rng.choice([1, 3, 8]))
    x = rng.normal(size=(n, channels))
    kind = rng.integers(5)
    if kind == 1:
        x += 10.0 ** rng.integers(0, 8)
    elif kind == 2:
        x *= 10.0 ** rng.integers(-4, 5, size=x.shape)
    elif kind == 3:
        x = 1 + np.round(x) * 2.0**-40
    elif kind == 4:
        x[0] *= 1e6
    if dtype == "i4":
        return np.clip(np.rint(x * 1000), -2**31, 2**31 - 1).astype(dtype)
    return np.clip(x, -6e4, 6e4).astype(dtype) if dtype == "f2" else x.astype(dtype)


def shares(way: Way, x: np.ndarray) -> tuple[float, float]:
    """The errors of mean and variance as shares of their bounds."""
    mean, var, states = way(x)
    return errors(mean, var, np.array(states, object))


def changed(x: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The same numbers, some of them by an ulp or by much, or in another order."""
    y = x.copy()
    kind = rng.integers(3)
    if kind == 0:
        return rng.permutation(y)
    at = rng.random(y.shape) < rng.choice([0.02, 0.5])
    if y.dtype.kind == "i":
        return y + at * rng.integers(-2, 3, y.shape).astype(y.dtype)
    towards = np.where(rng.random(y.shape) < 0.5, -np.inf, np.inf).astype(y.dtype)
    return np.where(at, np.nextafter(y, towards) if kind == 1 else y[rng.permutation(len(y))], y)


def trials(rng: np.random.Generator) -> Iterator[int]:
    worst = {"mean": 0.0, "variance": 0.0}
    while True:
        way, dtype = WAYS[rng.integers(len(WAYS))], str(rng.choice(DTYPES))
        x = start(rng, dtype)
        for i, name in enumerate(worst):
            best = shares(way, x)[i]
            for _ in range(STEPS):
                y = changed(x, rng)
                if np.isfinite(y.astype("f8")).all() and (share := shares(way, y)[i]) > best:
                    best, x = share, y
            assert best <= 1, f"the {name} by {way.__name__} of {dtype} errs by {best:.3g} of its bound: {x.tolist()}"
            if best > worst[name]:
                worst[name] = best
                print(f"{name}: {best:.3f} of its bound, by {way.__name__} of {dtype}, shape {x.shape}", flush=True)
            yield STEPS


if __name__ == "__main__":
    main(__doc__.partition("\n")[0], "data sets", trials)
