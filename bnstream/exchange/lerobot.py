"""LeRobot's statistics of a data set: mean, std, count, min, max and quantiles of every feature.

LeRobot nests them, ``{feature: {"mean": ..., ...}}``, and names them "feature/mean" where it cannot. std has ddof 0.
The channels of a feature of several numbers have the names of those of a column of lists: "action[0]", "action[1]".
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bnstream.core.batchnorm import BatchNorm
from bnstream.core.dlpack import detached
from bnstream.core.dtypes import NamedArrays
from bnstream.core.moments import Moments, moments_from
from bnstream.core.rows import MEAN, ROWS, N, with_variance
from bnstream.core.tracking import EXTREMES, largest_std
from bnstream.exchange.arrays import as_numbers, described
from bnstream.exchange.batchnorm import require_channels

REQUIRED = ("mean", "std", "count")
LACKS = ("mean_lo", "m2_lo")            # the rows of a state that they do not record
OPTIONAL = re.compile(r"min|max|q\d+")      # Quantiles are not read: LeRobot averages those of episodes.
QUANTILES = {"q01": 0.01, "q10": 0.1, "q50": 0.5, "q90": 0.9, "q99": 0.99}     # that LeRobot writes
LARGEST_STD = 1e154         # whose square is finite
ROUNDING = 1e-5             # of a mean in single precision, relative to the largest value
ELEMENT = re.compile(r"(.+)\[(\d+)\]")

Features = dict[str, NamedArrays]


def features_of(stats: Mapping[str, Any]) -> Features:
    """The arrays of every feature, from a mapping that is nested or has names such as "action/mean".

    Raises
    ------
    ValueError
        If they are not statistics of LeRobot.
    """
    found: Features = {}
    for name, values in stats.items():
        if isinstance(values, Mapping):
            found.setdefault(name, {}).update({key: array_of(f"{name}/{key}", one) for key, one in values.items()})
        else:
            feature, slash, key = name.rpartition("/")
            if not slash:
                raise ValueError(f"expected the statistics of features, such as 'action/mean' or {{'action': {{'mean': "
                                 f"...}}}}, got {name!r}")
            found.setdefault(feature, {})[key] = array_of(name, values)
    if not found:
        raise ValueError("expected the statistics of features, got none")
    for feature, arrays in found.items():
        require_statistics(feature, arrays)
    return found


def array_of(name: str, values: Any) -> NDArray[Any]:
    try:
        return detached(values)
    except ValueError as error:
        raise ValueError(f"{name} must be a number or lists of equal lengths: {error}") from None


def require_statistics(feature: str, arrays: NamedArrays) -> None:
    """Raise ValueError unless these are possible statistics of a feature."""
    missing = [key for key in REQUIRED if key not in arrays]
    others = [key for key in arrays if key not in REQUIRED and not OPTIONAL.fullmatch(key)]
    if missing or others:
        hint = "; LeRobot writes count from version 2.1 of its data sets on" if missing == ["count"] else ""
        raise ValueError(f"expected {', '.join(REQUIRED)} of {feature!r}, optionally min, max and quantiles such as "
                         f"q01, got {', '.join(arrays)}{hint}")
    named = {f"{feature}/{key}": arrays[key] for key in REQUIRED}
    mean, std, count = (as_numbers(named, name) for name in named)
    if mean.shape != std.shape or count.size != 1 or not mean.size:
        raise ValueError(f"expected mean and std of {feature!r} of one shape, and one count, got {described(named)}")
    if not 0 <= (n := count.ravel()[0]) < 2**53 or n != np.rint(n):
        raise ValueError(f"the count of {feature!r} must be a whole number from 0 to 2**53, got {n}")
    if n and not (np.isfinite(mean) & (std >= 0) & (std < LARGEST_STD) & ((std == 0) | (n > 1))).all():
        raise ValueError(f"mean and std of {feature!r} must be finite, std from 0 to {LARGEST_STD:g}, and 0 where "
                         f"count is 1, got mean {mean.tolist()!r:.60} and std {std.tolist()!r:.60}")
    if n and has_extremes(arrays):
        require_extremes(feature, arrays)


def has_extremes(arrays: NamedArrays) -> bool:
    return all(key in arrays for key in EXTREMES)


def require_extremes(feature: str, arrays: NamedArrays) -> None:
    """Raise ValueError unless min and max allow the mean and the standard deviation, but for their rounding."""
    named = {f"{feature}/{key}": arrays[key] for key in (*EXTREMES, "mean", "std")}
    least, most, mean, std = (as_numbers(named, name) for name in named)
    if least.shape != mean.shape or most.shape != mean.shape:
        raise ValueError(f"expected min, max and mean of {feature!r} of one shape, got {described(named)}")
    slack = ROUNDING * np.maximum(np.abs(least), np.abs(most))
    if not (np.isfinite(slack) & (least <= most) & (mean >= least - slack) & (mean <= most + slack)).all():
        raise ValueError(f"the mean of {feature!r} must be between min and max, which are finite, got "
                         f"{mean.tolist()!r:.60}, {least.tolist()!r:.60} and {most.tolist()!r:.60}")
    if not (std <= largest_std(least, most, mean, slack) + slack).all():
        raise ValueError(f"the squared std of {feature!r} must be at most (max - mean) * (mean - min), got a std of "
                         f"{std.tolist()!r:.60}, {least.tolist()!r:.60} and {most.tolist()!r:.60}")


def from_lerobot(parts: Iterable[Mapping[str, Any]]) -> Moments:
    """The statistics of all parts, such as episodes, merged: as LeRobot's ``aggregate_stats``, without its rounding.

    Raises
    ------
    ValueError
        If a part holds anything else, or a feature has another shape in another part.
    """
    episodes = [features_of(part) for part in parts]
    shapes: dict[str, tuple[int, ...]] = {}
    for features in episodes:
        for feature, arrays in features.items():
            if shapes.setdefault(feature, arrays["mean"].shape) != arrays["mean"].shape:
                raise ValueError(f"{feature!r} has a mean of shape {arrays['mean'].shape}, expected {shapes[feature]} "
                                 "as in the parts before")
    if not shapes:
        raise ValueError("expected the statistics of a part, such as an episode, got none")
    extremes = all(has_extremes(arrays) for features in episodes for arrays in features.values())
    total = Moments(names=[name for feature, shape in shapes.items() for name in channel_names(feature, shape)],
                    track=EXTREMES if extremes else ())
    for features in episodes:
        total.merge(moments_of(features, shapes, extremes))
    return total


def channel_names(feature: str, shape: tuple[int, ...]) -> list[str]:
    """The names of the channels of a feature."""
    size = math.prod(shape)
    return [feature] if size == 1 else [f"{feature}[{i}]" for i in range(size)]


def moments_of(features: Features, shapes: Mapping[str, tuple[int, ...]], extremes: bool) -> Moments:
    """The statistics of the features of a part; a feature that it lacks has no data.

    A mean that rounding has moved below min or above max is set to it, and a std to the largest that they allow.
    """
    size = sum(map(math.prod, shapes.values()))
    found = dict(zip(("count", "mean", "std"), np.zeros((3, size)), strict=True))
    if extremes:
        found |= {"min": np.full(size, np.inf), "max": np.full(size, -np.inf)}
    first = 0
    for feature, shape in shapes.items():
        channels = slice(first, first := first + math.prod(shape))
        arrays = features.get(feature)
        if arrays is not None and arrays["count"].ravel()[0]:
            for key, values in found.items():
                values[channels] = arrays[key].ravel()
    state = np.zeros((len(ROWS), size))
    state[N], state[MEAN] = found["count"], found["mean"]
    tracked = {key: found[key] for key in EXTREMES if extremes}
    if extremes:
        state[MEAN] = np.where(state[N] > 0, np.minimum(np.maximum(state[MEAN], found["min"]), found["max"]), 0)
        known = (np.where(state[N] > 0, values, 0) for values in (found["min"], found["max"], state[MEAN]))
        found["std"] = np.minimum(found["std"], largest_std(*known))
    return moments_from(with_variance(state, found["std"] * found["std"]), tracked=tracked)


def to_lerobot(state: Moments | BatchNorm) -> NamedArrays:
    """The statistics of every feature, by names such as "action/mean".

    Raises
    ------
    ValueError
        If there are running estimates alone, channels without names or values, or other channels than those of whole
        features; if min and max are not tracked, values were weighted, or a feature has values missing in some
        channels only.
    """
    m = state if isinstance(state, Moments) else state.pooled
    names = state.names or (m and m.names)
    if m is None:
        raise ValueError("LeRobot's count is a count of values, and running estimates have none; convert the Moments "
                         "of the data")
    require_channels(m)
    if not names:
        raise ValueError("LeRobot's statistics are those of named features, and these channels have no names; fit the "
                         "folder of the data set, or give names=")
    if "min" not in m.track:
        raise ValueError("LeRobot's statistics have min and max, and these do not; make them with track=('min', 'max') "
                         "(--track min,max)")
    n, found = m.n, {"min": m.min, "max": m.max, "mean": m.mean, "std": m.std()}
    if "quantiles" in m.track:
        found |= dict(zip(QUANTILES, m.quantile([*QUANTILES.values()]), strict=True))
    arrays: NamedArrays = {}
    for feature, channels in features_in(names):
        count = n[channels]
        if (count != count[0]).any() or not count[0] or count[0] != np.rint(count[0]):
            raise ValueError(f"the channels of {feature!r} must have the same whole number of values, at least 1, got "
                             f"n from {count.min()} to {count.max()}")
        shape = (-1, 1, 1) if "image" in feature else (-1,)         # LeRobot refuses others
        arrays |= {f"{feature}/{key}": values[channels].reshape(shape) for key, values in found.items()}
        arrays[f"{feature}/count"] = count[:1].astype(np.int64)
    return arrays


def features_in(names: Iterable[str]) -> Iterator[tuple[str, slice]]:
    """The features in the names of channels, with their channels, which must follow each other."""
    features: dict[str, list[int]] = {}
    for i, name in enumerate(names):
        element = ELEMENT.fullmatch(name)
        channels = features.setdefault(element[1] if element else name, [])
        if i != (channels[-1] + 1 if channels else i) or len(channels) != (int(element[2]) if element else 0):
            raise ValueError("expected the channels of whole features in order, such as action[0], action[1], got "
                             f"{name!r} as channel {i}")
        channels.append(i)
    yield from ((feature, slice(channels[0], channels[-1] + 1)) for feature, channels in features.items())


def nested(arrays: Mapping[str, NDArray[Any]]) -> dict[str, dict[str, Any]]:
    """Arrays by feature and name, as lists for JSON: what LeRobot's stats.json holds."""
    stats: dict[str, dict[str, Any]] = {}
    for name, values in arrays.items():
        feature, _, key = name.rpartition("/")
        stats.setdefault(feature, {})[key] = values.tolist()
    return stats
