from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from bnstream.core.forward import Forward

def instance_axis(x: NDArray[Any], channel_axis: int) -> int: ...
def row_forward(
    x: ArrayLike,
    normalized_shape: int | Sequence[int],
    gamma: ArrayLike | None,
    beta: ArrayLike | None,
    eps: float | None,
    about_zero: bool,
    result_dtype: np.dtype[Any] | None = None,
    result_only: bool = False,
) -> Forward: ...
def channel_forward(
    x: ArrayLike,
    n_channels: int,
    num_groups: int,
    gamma: ArrayLike | None,
    beta: ArrayLike | None,
    eps: float,
    channel_axis: int,
    where: ArrayLike | None,
    result_dtype: np.dtype[Any] | None = None,
) -> Forward: ...
