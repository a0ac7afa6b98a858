"""What a state makes of the values of its channels: for `apply`, and for the chunks of Dask."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from bnstream.core.batchnorm import BatchNorm
from bnstream.core.functional import normalize
from bnstream.core.moments import Moments


class Affine:
    """What a state makes of the values of its channels."""

    def __init__(self, state: Moments | BatchNorm, eps: float | None) -> None:
        self.names = state.names
        self.gamma: Any = None
        self.beta: Any = None
        if isinstance(state, Moments):
            if state.shape is None or not np.all(state.n):
                raise ValueError("the state has channels without a value; fit it first")
            self.mean, self.var, self.eps = state.mean.ravel(), state.var().ravel(), eps or 0.0
        else:
            self.mean, self.var, self.gamma, self.beta = state.running_mean, state.running_var, state.gamma, state.beta
            self.eps = state.eps if eps is None else eps

    def of_array(self, x: NDArray[Any], channel_axis: int) -> NDArray[Any]:
        if x.shape[channel_axis] != len(self.mean):
            raise ValueError(f"expected {len(self.mean)} channels as in the statistics, got {x.shape[channel_axis]} "
                             f"along axis {channel_axis} of shape {x.shape}")
        return normalize(x, self.mean, self.var, self.gamma, self.beta, eps=self.eps, channel_axis=channel_axis,
                         n_threads=1)       # the threads work on pieces

    def of_column(self, values: NDArray[Any], name: str) -> NDArray[Any]:
        i = slice(at := (self.names or ()).index(name), at + 1)
        gamma, beta = (None if p is None else p[i] for p in (self.gamma, self.beta))
        values = values if values.dtype.kind == "f" else values.astype(np.float64)
        return normalize(values[:, np.newaxis], self.mean[i], self.var[i], gamma, beta, eps=self.eps, n_threads=1)[:, 0]
