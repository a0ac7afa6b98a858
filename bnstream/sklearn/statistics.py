"""The state of a scaler: its exact moments, and the fitted attributes that follow from them."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Mapping
from functools import cached_property
from threading import RLock
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bnstream.core.dlpack import detached
from bnstream.core.moments import Moments
from bnstream.exchange.conventions import from_arrays
from bnstream.sklearn.weights import LEAST, Part, merged

STATE_ATTRIBUTES = ("n_samples_seen_", "mean_", "var_")
LOCK = RLock()      # Held while a state is read, merged and replaced, so that no update of another thread is lost.
ATTRIBUTES = (*STATE_ATTRIBUTES, "scale_")
FEATURES = ("n_features_in_", "feature_names_in_")      # what scikit-learn sets when it validates the data
DERIVED = {"mean_": "mean", "var_": "var", "scale_": "scale"}       # the arrays of `FeatureStatistics`


class FeatureStatistics:
    """The moments of the features, and what scikit-learn derives from them, computed on first access.

    The moments do not change. The attributes in `deleted` were deleted since the last fit.
    """

    def __init__(self, part: Part, deleted: Iterable[str] = ()) -> None:
        self.part, self.deleted = part, frozenset(deleted)
        self.moments = part.moments

    def state(self) -> dict[str, Any]:
        """Return plain objects for pickles and copies. They share no memory with this object."""
        return {"moments": self.moments.copy(), "exponent": self.part.exponent, "unknown": sorted(self.part.unknown),
                "deleted": sorted(self.deleted)}

    @classmethod
    def of_state(cls, state: dict[str, Any]) -> FeatureStatistics:
        """Make the object that `state` describes."""
        return cls(Part(state["moments"], state["exponent"], frozenset(state["unknown"])), state["deleted"])

    def edited(self) -> dict[str, NDArray[Any]]:
        """The attributes whose arrays were changed in place since they were first read."""
        fresh = FeatureStatistics(self.part)
        read = {name: self.__dict__[key] for name, key in DERIVED.items() if self.__dict__.get(key) is not None}
        return {name: values for name, values in read.items()
                if not np.array_equal(values, getattr(fresh, DERIVED[name]), equal_nan=True)}

    @cached_property
    def n(self) -> Any:
        """The number of values: one number, or an array if the features differ in it."""
        n = self.moments.n
        if self.part.exponent:
            with np.errstate(over="ignore"):
                n = np.ldexp(n, self.part.exponent)
        return n if (n != n[0]).any() else n[0]

    @cached_property
    def mean(self) -> NDArray[np.float64] | None:
        return None if "mean_" in self.part.unknown else self.moments.mean

    @cached_property
    def var(self) -> NDArray[np.float64] | None:
        return None if "var_" in self.part.unknown else self.moments.var()

    @cached_property
    def scale(self) -> NDArray[np.float64] | None:
        """``sqrt(var)``, or 1 where var is within scikit-learn's error bound for a constant feature."""
        if self.mean is None or self.var is None:
            return None
        eps = np.finfo(np.float64).eps
        # By its rule, no feature would vary once the sum of weights exceeds 1 / eps. Then samples are counted instead;
        # exact statistics do not know how many there are, and their error does not grow with n.
        samples = 1.0 if self.moments.exact else np.minimum(self.n, self.moments.effective_n)
        n = np.where(self.n < 1 / eps, self.n, samples)
        scale: NDArray[np.float64] = self.moments.std()
        # The rule compares squares. Where these exceed the largest float, it is applied to the data times 2**-600.
        power = np.where(np.isinf(self.var), -600, 0)
        mean, var = np.ldexp(self.mean, power), np.where(power, np.ldexp(scale, power) ** 2, self.var)
        with np.errstate(over="ignore"):
            scale[var <= n * eps * var + (n * mean * eps) ** 2] = 1
        return scale


class FittedAttribute:
    """An attribute that is derived from the statistics, unless it was set or deleted since the last fit."""

    def __init__(self, derive: Callable[[Any], Any]) -> None:
        self.derive = derive
        self.__doc__ = derive.__doc__

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = name

    def __get__(self, scaler: Any, owner: type) -> Any:
        if scaler is None:
            return self
        own = scaler.__dict__
        if self.name in own:
            return own[self.name]
        if "_statistics" not in own:
            raise AttributeError(f"{owner.__name__!r} object has no attribute {self.name!r} before it is fitted")
        if self.name in own["_statistics"].deleted:
            raise AttributeError(f"{owner.__name__!r} object has no attribute {self.name!r}: it was deleted")
        return self.derive(scaler)

    def __set__(self, scaler: Any, value: Any) -> None:
        scaler.__dict__[self.name] = value

    def __delete__(self, scaler: Any) -> None:
        self.__get__(scaler, type(scaler))      # This raises AttributeError if there is none.
        scaler.__dict__.pop(self.name, None)
        if "_statistics" in scaler.__dict__:        # Another scaler may share them, if its `__dict__` was copied.
            scaler._statistics = copy.copy(scaler._statistics)
            scaler._statistics.deleted = scaler._statistics.deleted | {self.name}


def is_fitted(scaler: Any) -> bool:
    return any(has(scaler, name) for name in ATTRIBUTES)


def has(scaler: Any, name: str) -> bool:
    """Whether a scaler has a fitted attribute, without computing it."""
    own = scaler.__dict__
    return name in own or ("_statistics" in own and name not in own["_statistics"].deleted)


def part_of(scaler: Any, n_features: int | None = None) -> Part | None:
    """The exact state of a scaler, or that described by its attributes if these were set by hand or by scikit-learn.

    None if the scaler has seen no samples, even if it has a mean and a scale. `n_features` is used if no attribute
    shows the number of features.
    """
    if not has(scaler, "n_samples_seen_"):
        return None
    own = scaler.__dict__
    needed = {"mean_": scaler.with_mean or scaler.with_std, "var_": scaler.with_std}
    statistics = own.get("_statistics")
    if statistics is not None and not any_set(scaler):
        for name in needed.keys() & {*own, *statistics.deleted, *statistics.part.unknown}:
            required(scaler, name, needed[name])
        part: Part = statistics.part
        return part
    mean, var = (required(scaler, name, needed[name]) for name in needed)
    n = detached(scaler.n_samples_seen_)
    if mean is not None:
        shape = np.shape(mean)
    else:
        known = features_of(scaler)
        if known is None and n_features is None:
            raise ValueError(f"expected a scaler with a known number of features, got only n_samples_seen_ {n}; set "
                             "n_features_in_")
        shape = (n_features if known is None else known,)
    exponent = unit_of(n)
    arrays = {"n_samples_seen_": np.ldexp(n, -exponent) if exponent else n,
              "mean_": np.zeros(shape) if mean is None else mean, "var_": np.zeros(shape) if var is None else var}
    unknown = [name for name, value in (("mean_", mean), ("var_", var)) if value is None]
    return Part(from_arrays(arrays, "scikit-learn"), exponent, frozenset(unknown))


def any_set(scaler: Any) -> bool:
    """Whether attributes of a fitted scaler were set or edited, to values other than None."""
    if any(scaler.__dict__.get(name) is not None for name in STATE_ATTRIBUTES):
        return True
    return not scaler._statistics.edited().keys().isdisjoint(STATE_ATTRIBUTES)


def required(scaler: Any, name: str, needed: bool) -> Any:
    """The value of a fitted attribute, or None if it is missing and not needed.

    Raises ValueError if it is needed and None.
    """
    if not needed:
        return getattr(scaler, name, None)
    value = getattr(scaler, name)
    if value is None:
        raise ValueError(f"expected {name} of all samples so far, got None; the scaler was fitted with other "
                         "parameters, so call fit()")
    return value


def features_of(scaler: Any) -> int | None:
    """The number of features, or None if no attribute shows it."""
    own = scaler.__dict__
    if "n_features_in_" in own:
        return int(own["n_features_in_"])
    if "_statistics" in own:
        return len(own["_statistics"].part.moments.mean)
    return next((len(own[name]) for name in ATTRIBUTES if np.ndim(own.get(name)) == 1), None)


def unit_of(n: NDArray[Any]) -> int:
    """The exponent of the power of two by which counts are divided before they are converted, 0 for usual counts."""
    most = float(n.max(initial=0))
    if not 0 < most < np.inf or LEAST <= most < 2**53:
        return 0
    return int(np.frexp(most)[1])


def add_part(scaler: Any, own: Part | None, part: Part, features: Mapping[str, Any] | None = None) -> None:
    """Merge a part into the state of a scaler, `own`, and replace the state and the `FEATURES` given in one step."""
    exact = bool(scaler.exact)
    own = Part(Moments(exact=exact), part.exponent, part.unknown) if own is None else own
    if not own.moments.exact == part.moments.exact == exact:
        raise ValueError(f"expected statistics of fits with exact={exact}, got others; the scaler was fitted with "
                         "another exact, or its attributes were set, so call fit()")
    total = merged(own, part)
    kept = {name: value for name, value in vars(scaler).items() if name not in ATTRIBUTES}
    scaler.__dict__ = {**kept, **(features or {}), "_statistics": FeatureStatistics(total)}


def forget_attributes(scaler: Any) -> None:
    """Remove the attributes that were set by hand."""
    for name in ATTRIBUTES:
        scaler.__dict__.pop(name, None)


def mergeable_parts(scaler: Any, other: Any) -> tuple[Part | None, Part]:
    """The states of a scaler and of a fitted one to merge. Raise ValueError if parameters or features differ."""
    for name in ("with_mean", "with_std", "exact"):
        value = getattr(other, name, False)         # scikit-learn's own has no exact
        if value != getattr(scaler, name):
            raise ValueError(f"expected a scaler with {name}={getattr(scaler, name)}, as this one, got {value}")
    ours, theirs = part_of(scaler, features_of(other)), part_of(other, features_of(scaler))
    assert theirs is not None       # It has n_samples_seen_.
    if ours is None:
        return None, theirs
    n_ours, n_theirs = (len(part.moments.mean) for part in (ours, theirs))
    if n_ours != n_theirs:
        raise ValueError(f"expected a scaler of {n_ours} features, as this one, got one of {n_theirs}")
    names, others = (getattr(one, "feature_names_in_", None) for one in (scaler, other))
    if names is not None and others is not None and list(names) != list(others):
        raise ValueError(f"expected a scaler of the features {list(names)}, as this one, got {list(others)}")
    return ours, theirs
