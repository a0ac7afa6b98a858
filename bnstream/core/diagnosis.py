"""How reliable the running estimates of a batch normalization are."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, eq=False)
class Diagnosis:
    """What `BatchNorm.diagnose` returns: arrays of one value a channel, NaN where it is not known."""

    effective_n: NDArray[np.float64]
    """The number of values whose plain mean would have the variance of the running estimate."""
    initial_weight: float
    """The weight that the initial mean 0 and variance 1 still have in the running estimates."""
    condition: NDArray[np.float64]
    """|running_mean| / running sd. Its log10 is the number of digits of the data that its offset takes up."""
    mean_drift: NDArray[np.float64]
    """running_mean minus the pooled mean, in units of the pooled sd."""
    var_drift: NDArray[np.float64]
    """running_var divided by the pooled variance."""
    mean_gap: NDArray[np.float64]
    """The train/eval gap of the mean: the last batch's minus running_mean, in units of the running sd."""
    sd_gap: NDArray[np.float64]
    """The train/eval gap of the sd: the last batch's divided by the running one, both with eps."""

    def __str__(self) -> str:
        lines = [f"initial weight {self.initial_weight:.3g}; smallest, median and largest of the channels:"]
        for field in fields(self):
            values = getattr(self, field.name)
            if field.name != "initial_weight":
                finite = values[np.isfinite(values)]
                cells = np.quantile(finite, [0, 0.5, 1]) if finite.size else [math.nan] * 3
                lines.append(f"  {field.name:<12}" + "".join(f"{value:>12.4g}" for value in cells))
                if 0 < finite.size < values.size:
                    lines[-1] += f"   NaN or inf in {values.size - finite.size} of {values.size}"
        return "\n".join(lines)
