"""The state of a scaler: its exact moments, and the fitted attributes that follow from them."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bnstream.core.moments import Moments
from bnstream.exchange.conventions import from_arrays

STATE_ATTRIBUTES = ("n_samples_seen_", "mean_", "var_")


class FeatureStatistics:
    """The moments of the features, and what scikit-learn derives from them, computed on first access."""

    def __init__(self, moments: Moments) -> None:
        self.moments = moments

    @cached_property
    def n(self) -> Any:
        """The number of values: one number, or an array if the features differ in it."""
        n = self.moments.n
        return n if (n != n[0]).any() else n[0]

    @cached_property
    def mean(self) -> NDArray[np.float64]:
        return self.moments.mean

    @cached_property
    def var(self) -> NDArray[np.float64]:
        return self.moments.var()

    @cached_property
    def scale(self) -> NDArray[np.float64]:
        """``sqrt(var)``, or 1 where var is within scikit-learn's error bound for a constant feature."""
        eps = np.finfo(np.float64).eps
        scale: NDArray[np.float64] = np.sqrt(self.var)
        with np.errstate(over="ignore"):
            scale[self.var <= self.n * eps * self.var + (self.n * self.mean * eps) ** 2] = 1
        return scale


class FittedAttribute:
    """An attribute that is derived from the statistics, unless it was set by hand since the last fit."""

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


def is_fitted(scaler: Any) -> bool:
    return not scaler.__dict__.keys().isdisjoint(("_statistics", *STATE_ATTRIBUTES, "scale_"))


def moments_of(scaler: Any) -> Moments | None:
    """The exact state of a scaler, or that described by its attributes if these were set by hand or by scikit-learn.

    None if the scaler has seen no samples, even if it has a mean and a scale.
    """
    own = scaler.__dict__
    if "_statistics" not in own and "n_samples_seen_" not in own:
        return None
    moments: Moments
    if own.keys() & set(STATE_ATTRIBUTES):
        moments = from_arrays({name: getattr(scaler, name) for name in STATE_ATTRIBUTES}, "scikit-learn")
    else:
        moments = own["_statistics"].moments
    return moments


def add_moments(scaler: Any, part: Moments) -> None:
    """Merge moments into the state of a scaler."""
    total = moments_of(scaler) or Moments()
    total.merge(part)
    forget_attributes(scaler)
    scaler._statistics = FeatureStatistics(total)


def forget_attributes(scaler: Any) -> None:
    """Remove the attributes that were set by hand."""
    for name in (*STATE_ATTRIBUTES, "scale_"):
        scaler.__dict__.pop(name, None)


def require_mergeable(scaler: Any, other: Any) -> None:
    """Raise ValueError unless a fitted scaler has the same parameters and features."""
    for name in ("with_mean", "with_std"):
        if getattr(other, name) != getattr(scaler, name):
            raise ValueError(f"expected a scaler with {name}={getattr(scaler, name)}, as this one, got "
                             f"{getattr(other, name)}")
    ours: Any = moments_of(scaler)
    theirs: Any = moments_of(other)
    if ours is None:
        return
    if ours.shape != theirs.shape:
        raise ValueError(f"expected a scaler of {ours.shape[0]} features, as this one, got one of {theirs.shape[0]}")
    names, others = (getattr(one, "feature_names_in_", None) for one in (scaler, other))
    if names is not None and others is not None and list(names) != list(others):
        raise ValueError(f"expected a scaler of the features {list(names)}, as this one, got {list(others)}")
