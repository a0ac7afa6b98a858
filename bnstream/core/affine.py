"""The affine map that a state defines for each of its channels, for `apply` and for Dask."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from bnstream.core.batchnorm import BatchNorm
from bnstream.core.functional import normalize
from bnstream.core.moments import Moments


class Affine:
    """``(x - mean) / sqrt(var + eps) * gamma + beta`` with the mean and variance of every channel of a state.

    eps, gamma and beta default to those of a layer, else to 0, 1 and 0. All calls run on one thread, as the callers
    normalize several pieces at a time.
    """

    def __init__(
        self,
        state: Moments | BatchNorm,
        eps: float | None = None,
        gamma: ArrayLike | None = None,
        beta: ArrayLike | None = None,
    ) -> None:
        if isinstance(state, Moments):
            if state.shape is None or not np.all(state.n):
                raise ValueError("the state has channels without a value; fit it first")
            mean, var, eps = state.mean, state.var(), eps or 0.0
        else:
            mean, var, eps = state.running_mean, state.running_var, state.eps if eps is None else eps
            gamma, beta = state.gamma if gamma is None else gamma, state.beta if beta is None else beta
        self.names, self.eps, self.shape = state.names, eps, np.shape(mean)
        given = {"mean": mean, "var": var, "gamma": gamma, "beta": beta}
        # An empty batch makes `normalize` check the parameters.
        axes = tuple(range(1, 1 + len(self.shape)))
        normalize(np.empty((0, *self.shape)), **given, eps=eps, channel_axis=axes)  # type: ignore[arg-type]
        # Copies, as a layer may go on training while its statistics are applied.
        self.parameters = {name: np.array(np.broadcast_to(value, self.shape)) for name, value in given.items()
                           if value is not None}

    def of_channels(self, x: NDArray[Any], index: Any, channel_axis: tuple[int, ...]) -> NDArray[Any]:
        """x, whose channels are those at an index of the channels' shape."""
        parameters: dict[str, Any] = {name: value[index] for name, value in self.parameters.items()}
        return normalize(x, **parameters, eps=self.eps, channel_axis=channel_axis, n_threads=1)

    def of_array(self, x: NDArray[Any], channel_axis: int) -> NDArray[Any]:
        """x, with all channels along one axis."""
        n_channels = math.prod(self.shape)
        if x.shape[channel_axis] != n_channels:
            raise ValueError(f"expected {n_channels} channels as in the statistics, got {x.shape[channel_axis]} "
                             f"along axis {channel_axis} of shape {x.shape}")
        parameters: dict[str, Any] = {name: value.ravel() for name, value in self.parameters.items()}
        return normalize(x, **parameters, eps=self.eps, channel_axis=channel_axis, n_threads=1)

    def of_column(self, values: NDArray[Any], name: str) -> NDArray[Any]:
        """The values of one column, whose name is that of a channel; float64 unless they are floating."""
        i = (self.names or ()).index(name)
        values = values if values.dtype.kind == "f" else values.astype(np.float64)
        return self.of_channels(values[:, np.newaxis], slice(i, i + 1), (1,))[:, 0]
