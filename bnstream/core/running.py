"""The running estimates of a layer: mean and variance of every channel, and how far they can be trusted."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from bnstream.core.diagnosis import Diagnosis
from bnstream.core.forward import copied, replace
from bnstream.core.moments import Moments

RUNNING_ROWS = ("running_mean", "running_var", "running_spread", "initial_weight", "batch_mean", "batch_var")
MEAN, VAR, SPREAD, INITIAL_WEIGHT, BATCH_MEAN, BATCH_VAR = range(len(RUNNING_ROWS))

Floats = NDArray[np.float64]


class RunningEstimates:
    """Running mean and variance of every channel.

    Parameters
    ----------
    n_channels : int
        The number of channels.

    Attributes
    ----------
    rows : ndarray of float64
        An array of shape (6, n_channels), whose rows are named by `RUNNING_ROWS`:

        - mean and var, the estimates themselves;
        - spread, the sum of ``w**2 / n`` over the batches, each of n values and with weight w in the estimates; NaN
          where it is unknown;
        - initial_weight, the weight that the initial mean 0 and variance 1 still have;
        - batch_mean and batch_var, the statistics of the last batch, with ddof 0; NaN where there is none.
    n_batches : ndarray of int64
        The number of batches in the estimates, an array of shape (1,), as a kernel counts it while it moves the rows:
        no interruption comes in between.
    """

    def __init__(self, n_channels: int) -> None:
        self.rows: Floats = np.empty((len(RUNNING_ROWS), n_channels))
        self.n_batches = np.zeros(1, np.int64)
        self.reset()

    def reset(self) -> None:
        """Go back to mean 0 and variance 1, with no batch."""
        self.rows[:] = [[0.0], [1.0], [0.0], [1.0], [math.nan], [math.nan]]
        self.n_batches[0] = 0

    @property
    def mean(self) -> Floats:
        return self.rows[MEAN]

    @property
    def var(self) -> Floats:
        return self.rows[VAR]

    @property
    def is_initial(self) -> bool:
        """Whether no batch is in the estimates."""
        return bool(self.rows[INITIAL_WEIGHT, 0] == 1)

    def require_possible(self) -> None:
        """Raise ValueError if a variance is negative, as one that was set in place may be."""
        require_variances(self.var, "; set running_var to variances, or call reset_running_stats()")

    def assign(self, row: int, values: ArrayLike) -> None:
        """Set the mean or the variance from outside. The initial values lose their weight; the spread is unknown."""
        new = self.copy()
        new.rows[row] = values
        new.rows[SPREAD], new.rows[INITIAL_WEIGHT] = math.nan, 0.0
        self.take(new)

    def keep_initial(self) -> None:
        """Mark the estimates as initial, with no batch in them."""
        self.rows[SPREAD], self.rows[INITIAL_WEIGHT] = 0.0, 1.0

    def use(self, moments: Moments, ddof: float) -> None:
        """Replace the estimates by the statistics of a `Moments` with as many channels."""
        n = moments.effective_n
        if n.min() <= ddof:
            raise ValueError(f"running_var with running_ddof={ddof:g} needs n > {ddof:g} in every channel, got "
                             f"n = {n.min():g}; give more data")
        self.rows[:BATCH_MEAN] = moments.mean, moments.var(ddof), 1 / n, np.zeros(len(n))

    def forget_batch(self) -> None:
        """Drop the statistics of the last batch."""
        self.rows[BATCH_MEAN:] = math.nan

    def sd(self, eps: float) -> Floats:
        """``sqrt(var + eps)``, and 1 where that is 0: what a channel is divided by."""
        self.require_possible()
        return divisor(self.rows[VAR], eps)

    def diagnose(
        self, pooled: Moments | None, eps: float, ddof: float, momentum: float | None = None,
        names: tuple[str, ...] | None = None
    ) -> Diagnosis:
        """Compare the estimates with the pooled statistics and with the last batch.

        The weights of batches of n values sum to ``1 - initial``, and their squares to ``spread * n``. With the
        momentum w, ``n = w * (1 - initial**2) / ((2 - w) * spread)`` follows from both.
        """
        mean, var, spread, initial, batch_mean, batch_var = self.rows
        sd = divisor(var, eps)
        mean_drift = var_drift = np.full(mean.shape, math.nan)
        with np.errstate(all="ignore"):
            if momentum is None:
                batch_n = 1 / spread / max(1, int(self.n_batches[0]))
            else:
                batch_n = momentum * (1 - initial**2) / ((2 - momentum) * spread)
            if pooled is not None and pooled.shape is not None:
                varies = np.where(pooled.m2 > 0, 1.0, math.nan)
                mean_drift = (mean - pooled.mean) / pooled.std() * varies
                var_drift = var / pooled.var(ddof) * varies
            return Diagnosis(
                effective_n=np.where(initial < 1, (1 - initial) ** 2 / spread, 0), initial_weight=float(initial[0]),
                condition=np.abs(mean) / np.sqrt(var), mean_drift=mean_drift, var_drift=var_drift,
                mean_gap=(batch_mean - mean) / sd, sd_gap=divisor(batch_var, eps) / sd,
                batch_n=np.where((initial < 1) & np.isfinite(batch_n), batch_n, math.nan), names=names,
            )

    def copy(self) -> RunningEstimates:
        new = RunningEstimates.__new__(RunningEstimates)
        new.rows, new.n_batches = copied(self.rows, self.n_batches)
        return new

    def take(self, other: RunningEstimates) -> None:
        """Become equal to others, in the same arrays and in one step."""
        replace([self.rows, self.n_batches], [other.rows, other.n_batches])

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Restore a state. The rows are copied and checked because the kernels write to them."""
        rows = np.array(state["rows"], np.float64, order="C")
        if rows.ndim != 2 or len(rows) != len(RUNNING_ROWS):
            raise ValueError(f"expected {len(RUNNING_ROWS)} rows of running estimates, got shape {rows.shape}")
        self.rows, self.n_batches = rows, np.array(state["n_batches"], np.int64).reshape(1)

    def __eq__(self, other: object) -> Any:
        if not isinstance(other, RunningEstimates):
            return NotImplemented
        return np.array_equal(self.rows, other.rows, equal_nan=True) and self.n_batches[0] == other.n_batches[0]

    __hash__ = None  # type: ignore[assignment]


def require_variances(var: Floats, hint: str = "") -> None:
    """Raise ValueError if a running variance is negative."""
    negative = np.flatnonzero(var < 0)
    if negative.size:
        i = negative[0]
        raise ValueError(f"running_var must not be negative, got {var[i]} in channel {i}{hint}")


def divisor(var: Floats, eps: float) -> Floats:
    """``sqrt(var + eps)``, and 1 where that is 0."""
    with np.errstate(all="ignore"):
        sd: Floats = np.sqrt(var + eps)
    return np.where(sd == 0, 1.0, sd)
