"""What a scaler has seen: its exact moments, and the attributes that scikit-learn derives from them."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bnstream.core.moments import Moments
from bnstream.exchange.conventions import from_arrays

STATE = ("n_samples_seen_", "mean_", "var_")


class Statistics:
    """The moments of the features, and what follows from them, when first asked for."""

    def __init__(self, moments: Moments) -> None:
        self.moments = moments

    @cached_property
    def n(self) -> Any:
        """One number, or an array where features differ in it."""
        n = np.asarray(self.moments.n)
        return n if n.ndim and (n != n[0]).any() else n.ravel()[0]

    @cached_property
    def mean(self) -> NDArray[np.float64]:
        return self.moments.mean

    @cached_property
    def var(self) -> NDArray[np.float64]:
        return self.moments.var()

    @cached_property
    def scale(self) -> NDArray[np.float64]:
        """sqrt(var), or 1 where var is within what scikit-learn takes for the error of a constant feature's."""
        eps = np.finfo(np.float64).eps
        scale: NDArray[np.float64] = np.sqrt(self.var)
        with np.errstate(over="ignore"):
            scale[self.var <= self.n * eps * self.var + (self.n * self.mean * eps) ** 2] = 1
        return scale


class Fitted:
    """An attribute that follows from the statistics, unless one is set by hand, which holds to the next fit."""

    def __init__(self, derive: Callable[[Any], Any]) -> None:
        self.derive = derive
        self.__doc__ = derive.__doc__

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = name

    def __get__(self, scaler: Any, owner: type) -> Any:
        if scaler is None:
            return self
        if "_statistics" not in scaler.__dict__:
            raise AttributeError(f"{owner.__name__!r} object has no attribute {self.name!r} before it is fitted")
        return self.derive(scaler)


def moments_of(scaler: Any) -> Moments | None:
    """Its exact state; or what its attributes say, where they were set by hand, or by scikit-learn. None if it has seen
    nothing, though it may have been given a mean and a scale."""
    held = scaler.__dict__
    if "_statistics" not in held and "n_samples_seen_" not in held:
        return None
    moments: Moments
    if held.keys() & set(STATE):
        moments = from_arrays({name: getattr(scaler, name) for name in STATE}, "scikit-learn")
    else:
        moments = held["_statistics"].moments
    return moments
