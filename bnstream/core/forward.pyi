from collections.abc import Callable
from typing import Any, SupportsIndex, final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from bnstream.core.moments import Moments

@final
class Forward:
    @property
    def x(self) -> NDArray[Any] | None: ...
    @property
    def training(self) -> bool: ...
    @property
    def skipped(self) -> bool: ...
    @property
    def instance(self) -> int: ...
    @property
    def n_channels(self) -> int: ...
    ratio: tuple[NDArray[np.float64], NDArray[np.float64]] | None
    def statistics(self) -> NDArray[np.float64]: ...
    def batch_statistics(self) -> NDArray[np.float64]: ...
    def infer(
        self, running: NDArray[np.float64], out: NDArray[Any] | None, n_threads: SupportsIndex | None
    ) -> NDArray[Any]: ...
    def train(
        self, out: NDArray[Any] | None, nan_policy: str, n_threads: SupportsIndex | None
    ) -> NDArray[Any]: ...
    def accumulate(self, nan_policy: str, n_threads: SupportsIndex | None) -> int: ...
    def apply(self, out: NDArray[Any] | None, n_threads: SupportsIndex | None) -> NDArray[Any]: ...
    def backward(
        self,
        dy: ArrayLike,
        out: NDArray[Any] | None,
        dtypes: tuple[np.dtype[Any] | None, np.dtype[Any] | None],
        n_threads: SupportsIndex | None,
        keep_x: bool = False,
    ) -> tuple[NDArray[Any], NDArray[Any] | None, NDArray[Any] | None]: ...

def forward_of(
    x: ArrayLike,
    n_channels: int,
    gamma: ArrayLike | None,
    beta: ArrayLike | None,
    eps: float,
    channel_axis: int,
    where: ArrayLike | None,
    result_dtype: np.dtype[Any] | None,
    virtual_batch: int = 0,
) -> Forward: ...
def move_estimates(
    forward: Forward,
    running: NDArray[np.float64],
    n_batches: NDArray[np.int64],
    momentum: float | None,
    ddof: float,
    of_sd: bool,
    pooled: Moments | None = None,
    of_batch: Moments | None = None,
    exact: NDArray[np.float64] | None = None,
) -> None: ...
def locked(lock: Any, function: Callable[..., Any], *arguments: Any) -> Any: ...
def copied(
    array: NDArray[np.float64], other: NDArray[np.int64]
) -> tuple[NDArray[np.float64], NDArray[np.int64]]: ...
def replace(
    targets: list[NDArray[Any]],
    sources: list[NDArray[Any]],
    owner: Any = None,
    attributes: dict[str, Any] | None = None,
) -> None: ...
def normalize_and_look(
    x: NDArray[Any], mean: ArrayLike, gamma: ArrayLike | None, beta: ArrayLike | None
) -> tuple[NDArray[Any], bool]: ...
