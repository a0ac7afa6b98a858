"""The affine map that a state defines for each of its channels, for `apply` and for Dask."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.lib.array_utils import normalize_axis_tuple
from numpy.typing import ArrayLike, NDArray

from bnstream.core.batchnorm import BatchNorm, running_of
from bnstream.core.checks import eps_of
from bnstream.core.columns import Columns
from bnstream.core.differences import differences
from bnstream.core.functional import normalize
from bnstream.core.labels import counted, listed
from bnstream.core.moments import Moments, rows_of
from bnstream.core.rows import MEAN_LO, without_exponent

FAR_INTEGER = 2.0**32       # Means of integers up to this are rounded by less than 2**-21, which is neglected.


class Affine:
    """``(x - mean) / sqrt(var + eps) * gamma + beta`` with the mean and variance of every channel of a state.

    eps, gamma and beta default to those of a layer, else to 0, 1 and 0. The inverse maps what this returns to x again.
    The result has a dtype, by default that of `normalize`, and may be clipped to limits. All calls run on one thread,
    as the callers normalize several pieces at a time.
    """

    def __init__(
        self,
        state: Moments | BatchNorm,
        eps: float | None = None,
        gamma: ArrayLike | None = None,
        beta: ArrayLike | None = None,
        *,
        inverse: bool = False,
        clip: tuple[float, float] | None = None,
        dtype: np.dtype[Any] | None = None,
    ) -> None:
        mean_lo: Any = 0.0
        self.clip, self.dtype = clip, dtype
        if eps is not None:
            eps = eps_of("eps", eps)
        state = state.copy()        # consistent even if another thread updates it, or trains the layer
        if isinstance(state, Moments):
            if state.shape is None or not np.all(state.n):
                empty = np.flatnonzero(np.ravel(state.n) == 0)
                which = f": {listed([repr(state.names[i]) for i in empty])}" if state.names and empty.size else ""
                raise ValueError(f"the state has channels without a value{which}; fit it first")
            mean, var, eps = state.mean, state.var(), eps or 0.0
            if np.isinf(var).any():         # Beyond the largest float, gamma takes its place.
                over, std = np.isinf(var), state.std()
                var = np.where(over, 1.0, var)
                gamma = np.where(over, math.sqrt(1 + eps) / std, 1.0) * (1.0 if gamma is None else np.asarray(gamma))
            mean_lo = without_exponent(rows_of(state))[MEAN_LO]       # type: ignore[arg-type]
        else:
            running_of(state).require_possible()
            mean, var, eps = state.running_mean, state.running_var, state.eps if eps is None else eps
            gamma, beta = state.gamma if gamma is None else gamma, state.beta if beta is None else beta
        self.names, self.eps, self.shape = state.names, eps, np.shape(mean)
        self.places = {name: i for i, name in enumerate(state.names or ())}
        given = {"mean": mean, "var": var, "gamma": gamma, "beta": beta}
        if inverse:
            given, self.eps = inverted(mean, var, gamma, beta, eps), 0.0
        # An empty batch makes `normalize` check the parameters.
        axes = tuple(range(1, 1 + len(self.shape)))
        normalize(np.empty((0, *self.shape)), **given, eps=self.eps, channel_axis=axes)  # type: ignore[arg-type]
        # Copies, as gamma and beta may be arrays of the caller.
        self.parameters = {name: np.array(np.broadcast_to(value, self.shape)) for name, value in given.items()
                           if value is not None}
        self.mean_lo = np.broadcast_to(mean_lo, self.shape)

    def digest(self) -> str:
        """A hash of the map: equal maps of equal channels have the same."""
        parts = [self.names, self.eps, self.clip, None if self.dtype is None else self.dtype.name, self.shape]
        return digest_of(parts, {**self.parameters, "mean_lo": self.mean_lo})

    def of_block(self, x: NDArray[Any], index: Any, channel_axis: tuple[int, ...]) -> NDArray[Any]:
        """Normalize x, whose channels are those at an index of the channels' shape, along increasing axes."""
        parameters: dict[str, Any] = {name: value[index] for name, value in self.parameters.items()}
        return self.normalize(x, parameters, self.mean_lo[index], channel_axis)

    def of_batch(self, x: NDArray[Any], axes: tuple[int, ...]) -> NDArray[Any]:
        """Normalize x, with the channels of the state along increasing axes."""
        sizes = tuple(x.shape[axis] for axis in axes)
        if sizes != self.shape:
            raise ValueError(f"expected channels of shape {self.shape} as in the statistics, got {sizes} along axes "
                             f"{axes} of shape {x.shape}")
        return self.of_block(x, (), axes)

    def of_array(self, x: NDArray[Any], channel_axis: int) -> NDArray[Any]:
        """Normalize x, with all channels along one axis."""
        n_channels = math.prod(self.shape)
        if x.shape[channel_axis] != n_channels:
            raise ValueError(f"expected {counted(n_channels)} as in the statistics, got {x.shape[channel_axis]} "
                             f"along axis {channel_axis} of shape {x.shape}")
        parameters: dict[str, Any] = {name: value.ravel() for name, value in self.parameters.items()}
        return self.normalize(x, parameters, self.mean_lo.ravel(), (channel_axis,))

    def of_table(self, columns: Columns) -> NDArray[Any]:
        """Normalize columns, one for each channel, into one array."""
        n_channels = math.prod(self.shape)
        if len(columns.columns) != n_channels:
            raise ValueError(f"expected {counted(n_channels)} as in the statistics, got "
                             f"{counted(len(columns.columns), 'column', 'columns')}")
        return np.stack([self.of_channel(column.as_floats(), i) for i, column in enumerate(columns.columns)], axis=1,
                        dtype=self.dtype or np.float64)

    def of_named_column(self, values: NDArray[Any], name: str, dtype: np.dtype[Any] | None = None) -> NDArray[Any]:
        """Normalize one column, whose name is that of a channel, by default to float64 unless it is floating."""
        return self.of_channel(values, self.places[name], dtype)

    def of_named_columns(
        self, values: NDArray[Any], names: Sequence[str], dtype: np.dtype[Any] | None = None
    ) -> NDArray[Any]:
        """Normalize the columns of an array, by default as `of_named_column`."""
        return self.of_channels(values, [self.places[name] for name in names], 1, dtype)

    def of_named_rows(
        self, columns: Sequence[NDArray[Any]], names: Sequence[str], dtype: np.dtype[Any] | None = None
    ) -> NDArray[Any]:
        """Normalize columns of one dtype, by default as `of_named_column`, to the rows of an array.

        A call for each column of a short batch would take longer than copying them into one array.
        """
        return self.of_channels(np.stack(columns), [self.places[name] for name in names], 0, dtype)

    def of_channel(self, values: NDArray[Any], i: int, dtype: np.dtype[Any] | None = None) -> NDArray[Any]:
        """Normalize values of the i-th channel, where channels have one axis, by default as `of_named_column`."""
        return self.of_channels(values[:, np.newaxis], [i], 1, dtype)[:, 0]

    def of_channels(
        self, x: NDArray[Any], channels: Sequence[int], axis: int, dtype: np.dtype[Any] | None = None
    ) -> NDArray[Any]:
        """Normalize x, with these channels along an axis, by default as `of_named_column`."""
        if dtype is None:
            dtype = x.dtype if x.dtype.kind == "f" else np.dtype(np.float64)
        parameters: dict[str, Any] = {name: value[channels] for name, value in self.parameters.items()}
        return self.normalize(x, parameters, self.mean_lo[channels], (axis,), dtype)

    def normalize(
        self, x: NDArray[Any], parameters: dict[str, Any], mean_lo: NDArray[np.float64], channel_axis: tuple[int, ...],
        dtype: np.dtype[Any] | None = None,
    ) -> NDArray[Any]:
        """Normalize x, to a dtype or to that of `normalize`. Integers far from 0 are subtracted before they round."""
        dtype = self.dtype or dtype
        if is_far(x, parameters["mean"]):
            dtype = np.dtype(np.float32) if dtype is None else dtype
            shape = tuple(n if axis in channel_axis else 1 for axis, n in enumerate(x.shape))
            x, mean = deviations(x, parameters["mean"].reshape(shape), mean_lo.reshape(shape))
            parameters = parameters | {"mean": mean.reshape(parameters["mean"].shape)}
        elif dtype is not None:
            x = x.astype(np.result_type(x.dtype, dtype), copy=False)        # A narrower dtype would round x itself.
        y = normalize(x, **parameters, eps=self.eps, channel_axis=channel_axis, n_threads=1)
        with np.errstate(all="ignore"):         # Too large for the dtype is inf, as in the kernels.
            if self.clip is not None:
                y = np.clip(y, *self.clip, out=y)
            return y if dtype is None else y.astype(dtype, copy=False)


def digest_of(parts: Sequence[Any], arrays: Mapping[str, NDArray[Any]]) -> str:
    """A hash of settings and of arrays by name."""
    found = hashlib.sha256(repr(parts).encode())
    for name, values in arrays.items():
        found.update(name.encode() + np.ascontiguousarray(values, np.float64).tobytes())
    return found.hexdigest()


def is_far(x: NDArray[Any], mean: NDArray[np.float64]) -> bool:
    """Whether x holds integers of 64 bits with means so far from 0 that float64 would round their differences."""
    return x.dtype.kind in "iu" and x.dtype.itemsize == 8 and bool((np.abs(mean) > FAR_INTEGER).any())


def inverted(
    mean: ArrayLike, var: ArrayLike, gamma: ArrayLike | None, beta: ArrayLike | None, eps: float
) -> dict[str, Any]:
    """The parameters of the map back: ``x = (y - beta) / gamma * sqrt(var + eps) + mean``.

    Raises
    ------
    ValueError
        If gamma is 0 in a channel, which has no way back.
    """
    scale = np.sqrt(np.asarray(var) + eps)
    scale = np.where(scale == 0, 1.0, scale)        # Such a channel is not divided.
    if gamma is not None:
        if not np.all(gamma):
            raise ValueError("gamma is 0 in some channels, whose values inverse=True (--inverse) cannot restore")
        scale = scale / gamma
    shift = np.zeros_like(scale) if beta is None else beta
    return {"mean": shift, "var": np.ones_like(scale), "gamma": scale, "beta": mean}


def default_channel_axis(state: Moments | BatchNorm) -> int:
    """The channel axis of the data of a state; -1 if it came after all batch axes."""
    if isinstance(state, BatchNorm):
        return state.channel_axis
    axes: Any = (state.axis,) if isinstance(state.axis, int) else state.axis or ()
    left = set(range(len(axes) + 1)) - {axis % (len(axes) + 1) for axis in axes}
    return -1 if min(left) == len(axes) else min(left)


def several_channel_axes(state: Moments | BatchNorm, ndim: int) -> tuple[int, ...] | None:
    """The channel axes, if the data of the state had arrays of `ndim` axes with several of them or none; else None."""
    if isinstance(state, BatchNorm) or state.shape is None or len(state.shape) == 1:
        return None
    axis: Any = state.axis
    if axis is not None and np.size(axis) + len(state.shape) != ndim:
        return None
    return channel_axes_of(state, None, ndim)


def channel_axes_of(state: Moments | BatchNorm, channel_axis: Any, ndim: int) -> tuple[int, ...]:
    """The axes of the channels in an array, in increasing order: those given, else those of the data of the state.

    Raises
    ------
    ValueError
        If the data of the state had another number of axes, or an axis is out of range.
    """
    if channel_axis is None and isinstance(state, BatchNorm):
        channel_axis = state.channel_axis
    if channel_axis is not None:
        return tuple(sorted(normalize_axis_tuple(channel_axis, ndim, "channel_axis")))
    axis: Any = state.axis      # type: ignore[union-attr]
    if axis is None:
        return ()
    n_axes = np.size(axis) + len(state.shape or ())       # type: ignore[union-attr]
    if n_axes != ndim:
        raise ValueError(f"the statistics are of an array with {n_axes} axes (axis={axis!r}), and x has {ndim}; pass "
                         "channel_axis, the axes of its channels")
    return kept_axes(axis, ndim)


def kept_axes(axis: Any, ndim: int) -> tuple[int, ...]:
    """The axes of an array that are not among its batch axes."""
    reduced = range(ndim) if axis is None else normalize_axis_tuple(axis, ndim)
    return tuple(i for i in range(ndim) if i not in reduced)


def deviations(
    x: NDArray[Any], mean: NDArray[np.float64], mean_lo: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Subtract from integers of 64 bits an integer next to each mean that is far from 0.

    Returns
    -------
    differences : ndarray of float64
        Each rounded once.
    rest : ndarray of float64
        The mean of the differences.
    """
    integer = np.dtype(f"{x.dtype.kind}8")
    limits = np.iinfo(integer)
    nearest = np.where(np.abs(mean) > FAR_INTEGER, np.rint(mean), 0.0)
    nearest = np.clip(nearest, limits.min, np.nextafter(limits.max, 0.0))
    rest = mean - nearest + mean_lo         # where nearest is 0 the mean, as mean_lo is below its last digit
    anchor = nearest.astype(integer)
    return differences(x, anchor), rest
