from typing import Any, SupportsIndex, final

import numpy as np
from numpy.typing import ArrayLike, NDArray

@final
class Forward:
    @property
    def x(self) -> NDArray[Any] | None: ...
    @property
    def training(self) -> bool: ...
    ratio: tuple[NDArray[np.float64], NDArray[np.float64]] | None
    def statistics(self) -> NDArray[np.float64]: ...
    def apply(self, out: NDArray[Any] | None, n_threads: SupportsIndex | None) -> NDArray[Any]: ...
    def backward(
        self, dy: ArrayLike, out: NDArray[Any] | None, n_threads: SupportsIndex | None
    ) -> tuple[NDArray[Any], NDArray[np.float64]]: ...

def infer(
    x: ArrayLike,
    running: NDArray[np.float64],
    gamma: ArrayLike | None,
    beta: ArrayLike | None,
    eps: float,
    channel_axis: SupportsIndex,
    out: NDArray[Any] | None,
    where: ArrayLike | None = None,
    n_threads: SupportsIndex | None = None,
) -> tuple[NDArray[Any], Forward]: ...
def standardize(
    x: ArrayLike,
    running: NDArray[np.float64],
    gamma: ArrayLike | None,
    beta: ArrayLike | None,
    eps: float,
    channel_axis: SupportsIndex,
    out: NDArray[Any] | None,
    nan_policy: str,
    where: ArrayLike | None = None,
    n_threads: SupportsIndex | None = None,
) -> tuple[NDArray[Any], Forward]: ...
def batch_statistics(
    x: ArrayLike,
    running: NDArray[np.float64],
    gamma: ArrayLike | None,
    beta: ArrayLike | None,
    eps: float,
    channel_axis: SupportsIndex,
    nan_policy: str,
    where: ArrayLike | None = None,
    n_threads: SupportsIndex | None = None,
) -> Forward: ...
def move(forward: Forward, running: NDArray[np.float64], momentum: float | None, ddof: float) -> None: ...
def normalize_and_look(
    x: NDArray[Any], mean: ArrayLike, gamma: ArrayLike | None, beta: ArrayLike | None
) -> tuple[NDArray[Any], bool]: ...
