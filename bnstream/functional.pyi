from collections.abc import Sequence
from typing import Any, Literal, SupportsIndex, overload

from numpy.typing import ArrayLike, DTypeLike, NDArray

# Arrays of the shape of the channels, or NumPy scalars where no channel axis is left: which, only the values tell.
@overload
def mean_var(
    x: ArrayLike,
    axis: SupportsIndex | Sequence[SupportsIndex] | None = 0,
    *,
    ddof: float = 0,
    dtype: DTypeLike | None = None,
    keepdims: Literal[True],
    nan_policy: Literal["propagate", "raise", "omit"] = "propagate",
    n_threads: SupportsIndex | None = None,
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
    n_threads: SupportsIndex | None = None,
) -> tuple[Any, Any]: ...
