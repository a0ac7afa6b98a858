"""What the running estimates of a batch normalization are worth."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, eq=False)
class Diagnosis:
    """What `BatchNorm.diagnose` finds: for each question an array, one number a channel; NaN where unknown."""

    effective_n: NDArray[np.float64]
    """How many values the running estimate is worth: the n of a plain mean of the same variance."""
    initial_weight: float
    """The share that the invented start, mean 0 and variance 1, still has in the running estimate."""
    condition: NDArray[np.float64]
    """|running_mean| / running sd: digits of the data that its offset takes are log10 of it."""
    mean_drift: NDArray[np.float64]
    """running_mean less the pooled mean, in pooled sd."""
    var_drift: NDArray[np.float64]
    """running_var over the pooled variance."""
    mean_gap: NDArray[np.float64]
    """Train/eval gap: the last batch's mean less running_mean, in running sd."""
    sd_gap: NDArray[np.float64]
    """Train/eval gap: the last batch's sd over the running sd, eps in both."""

    def __str__(self) -> str:
        lines = [f"initial weight {self.initial_weight:.3g}; smallest, median and largest of the channels:"]
        for field in fields(self):
            values = getattr(self, field.name)
            if field.name != "initial_weight":
                known = values[np.isfinite(values)]
                cells = np.quantile(known, [0, 0.5, 1]) if known.size else [math.nan] * 3
                lines.append(f"  {field.name:<12}" + "".join(f"{value:>12.4g}" for value in cells))
                if 0 < known.size < values.size:
                    lines[-1] += f"   NaN or inf in {values.size - known.size} of {values.size}"
        return "\n".join(lines)
