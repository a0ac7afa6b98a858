"""The passes of the demo over the flights.

    flights.csv.zip -> pyarrow's streaming reader -> (n, columns) float64, missing = NaN -> Moments
                                                                  |
                                          whole rows, 256 at a time -> BatchNorm, training -> running estimates
                                                                  |                           beside exact statistics
                                                                  +--> BatchNorm, inference -> Moments of the output
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from bnstream.cli.demo.flights import COLUMNS, chunks, minibatches
from bnstream.core.batchnorm import BatchNorm
from bnstream.core.moments import Moments

BATCH_ROWS = 256

OnProgress = Callable[[int, float], None]
"""Called with the number of the pass, 0 or 1, and the share of the file that it has read."""


@dataclass(frozen=True)
class Normalization:
    """The statistics of the columns before and after normalization, and the duration of both passes."""

    n_rows: int
    raw: Moments
    normalized: Moments
    seconds: float


@dataclass(frozen=True)
class Training:
    """A trained layer, the exact statistics of the same rows, and the statistics of the output with either."""

    layer: BatchNorm
    exact: Moments
    running_output: Moments
    exact_output: Moments


def ignore(_index: int, _share: float) -> None:
    """Show no progress."""


def normalize_flights(path: Path, chunk_bytes: int, progress: OnProgress = ignore) -> Normalization:
    """Measure the columns, then normalize them and measure the result."""
    start = time.perf_counter()
    raw, normalized = Moments(nan_policy="omit"), Moments(nan_policy="omit")
    n_rows = 0
    for x, share in chunks(path, chunk_bytes):
        n_rows += len(x)
        raw.update(x)
        progress(0, share)
    mean, std = raw.mean, raw.std()
    std[std == 0] = 1       # A constant column, such as the year, becomes 0.
    for x, share in chunks(path, chunk_bytes):
        x -= mean
        x /= std
        normalized.update(x)
        progress(1, share)
    return Normalization(n_rows, raw, normalized, time.perf_counter() - start)


def train_on_flights(path: Path, chunk_bytes: int, progress: OnProgress = ignore) -> Training:
    """Train a layer on mini-batches, then run inference with its running estimates and with the exact statistics."""
    # With ddof 0, the running and the exact variance estimate the same quantity.
    layer, exact = BatchNorm(len(COLUMNS), affine=False, momentum=0.1, running_ddof=0), Moments()
    for x, share in minibatches(path, chunk_bytes, BATCH_ROWS):
        layer(x)
        exact.update(x)
        progress(0, share)
    layer.eval()
    recalibrated = layer.copy()
    recalibrated.recalibrate(exact)
    running_output, exact_output = Moments(), Moments()
    for x, share in minibatches(path, chunk_bytes, BATCH_ROWS):
        running_output.update(layer(x))
        exact_output.update(recalibrated(x, out=x))
        progress(1, share)
    return Training(layer, exact, running_output, exact_output)
