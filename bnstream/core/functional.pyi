from collections.abc import Sequence
from typing import Any, Literal, SupportsIndex, overload

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from bnstream.core.gradient import Backward

# Arrays of the shape of the channels, or NumPy scalars where no channel axis is left, which the types do not show.
@overload
def mean_var(
    x: ArrayLike,
    axis: SupportsIndex | Sequence[SupportsIndex] | None = 0,
    *,
    ddof: float = 0,
    dtype: DTypeLike | None = None,
    keepdims: Literal[True],
    nan_policy: Literal["propagate", "raise", "omit"] = "propagate",
    weights: ArrayLike | None = None,
    where: ArrayLike | None = None,
    n_threads: SupportsIndex | None = None,
    exact: bool = False,
) -> tuple[NDArray[Any], NDArray[Any]]: ...
@overload
def mean_var(
    x: ArrayLike,
    axis: SupportsIndex | Sequence[SupportsIndex] | None = 0,
    *,
    ddof: float = 0,
    dtype: DTypeLike | None = None,
    keepdims: bool = False,
    nan_policy: Literal["propagate", "raise", "omit"] = "propagate",
    weights: ArrayLike | None = None,
    where: ArrayLike | None = None,
    n_threads: SupportsIndex | None = None,
    exact: bool = False,
) -> tuple[Any, Any]: ...
def normalize(
    x: ArrayLike,
    mean: ArrayLike,
    var: ArrayLike,
    gamma: ArrayLike | None = None,
    beta: ArrayLike | None = None,
    *,
    eps: float = 0.0,
    channel_axis: SupportsIndex | Sequence[SupportsIndex] | None = None,
    out: NDArray[Any] | None = None,
    n_threads: SupportsIndex | None = None,
) -> NDArray[Any]: ...
def running_rows(
    running_mean: Any, running_var: Any, n_channels: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]: ...
def batch_norm(
    x: ArrayLike,
    running_mean: ArrayLike | None,
    running_var: ArrayLike | None,
    gamma: ArrayLike | None = None,
    beta: ArrayLike | None = None,
    *,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
    channel_axis: SupportsIndex = 1,
    out: NDArray[Any] | None = None,
    running_ddof: float = 1,
    nan_policy: Literal["propagate", "raise", "omit"] = "raise",
    where: ArrayLike | None = None,
    n_threads: SupportsIndex | None = None,
) -> NDArray[Any]: ...
def batch_norm_vjp(
    x: ArrayLike,
    running_mean: ArrayLike | None,
    running_var: ArrayLike | None,
    gamma: ArrayLike | None = None,
    beta: ArrayLike | None = None,
    *,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
    channel_axis: SupportsIndex = 1,
    running_ddof: float = 1,
    nan_policy: Literal["propagate", "raise", "omit"] = "raise",
    where: ArrayLike | None = None,
    n_threads: SupportsIndex | None = None,
) -> tuple[NDArray[Any], Backward]: ...
