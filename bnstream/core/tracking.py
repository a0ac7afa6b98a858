"""What a `Moments` can track beside mean and variance: names, arrays and results.

    track=         arrays of the state, one number a channel      results
    min, max       min, max                                       min, max
    missing        missing                                        missing
    skewness,      m3, m3_lo, m4, m4_lo                           skewness(), kurtosis()
    kurtosis
    quantiles      quantiles: a sketch of each channel            quantile(), histogram(), rank_error()

The names of a line are tracked together, as one costs as much as both. The arrays go by these names in pickles and in
state files.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

GROUPS = (("min", "max"), ("missing",), ("skewness", "kurtosis"), ("quantiles",))
NAMES = tuple(name for group in GROUPS for name in group)
OF_KERNELS = NAMES[:-1]     # what the kernels find
EXTREMES = ("min", "max")
POWERS = ("m3", "m3_lo", "m4", "m4_lo")
ARRAYS = (*EXTREMES, "missing", *POWERS, "quantiles")
QUARTILES = {"q1": 0.25, "median": 0.5, "q3": 0.75}     # what is shown of quantiles
LEAST_SLACK = 1e-220     # Products with weights, which may be 1e-100, are rounded to multiples of 5e-324.
LEAST_VARIANCE = 1e-140     # below it fourth powers lose digits, or are 0

Floats = NDArray[np.float64]


def require_track(track: Any) -> tuple[str, ...]:
    """The names of what is to be tracked, in the order of `NAMES`.

    Raises
    ------
    TypeError
        If `track` is neither a str nor a sequence of str.
    ValueError
        If one of them is unknown.
    """
    names = (track,) if isinstance(track, str) else track
    if not isinstance(names, Iterable) or isinstance(names, Mapping):
        raise TypeError(f"track must be a str or a sequence of str, got {track!r}")
    names = tuple(names)
    for name in names:
        if not isinstance(name, str):
            raise TypeError(f"track must be of str, got {name!r} of type {type(name).__name__}")
        if name not in NAMES:
            raise ValueError(f"track must be of {', '.join(map(repr, NAMES))}, got {name!r}")
    return tuple(name for group in GROUPS if any(one in names for one in group) for name in group)


def require_exactable(track: tuple[str, ...]) -> None:
    """Raise ValueError if exact statistics cannot track this."""
    if "skewness" in track:
        raise ValueError("exact statistics cannot track 'skewness' and 'kurtosis', whose sums of powers are rounded; "
                         "leave them out of track, or make the Moments without exact=True")


def require_tracked(name: str, track: tuple[str, ...]) -> None:
    """Raise AttributeError unless this is tracked, so that ``hasattr`` tells."""
    if name not in track:
        raise AttributeError(f"{name} is not tracked here: make the Moments with track={name!r}, and merge it only "
                             "with Moments that track it")


def results_of(m: Any) -> dict[str, Any]:
    """The results of what a `Moments` tracks by the kernels, arrays of the shape of the channels, by name."""
    found = {name: getattr(m, name) for name in m.track if name in OF_KERNELS}
    return {name: result() if callable(result) else result for name, result in found.items()}


def shown_of(m: Any) -> dict[str, Any]:
    """What is shown of what a `Moments` tracks: the results, and the quartiles where quantiles are tracked."""
    found = results_of(m)
    if "quantiles" in m.track:
        found |= dict(zip(QUARTILES, m.quantile([*QUARTILES.values()]), strict=True))
    return found


def of_both(own: tuple[str, ...], has_data: bool, theirs: tuple[str, ...], have_data: bool) -> tuple[str, ...]:
    """What is tracked after a merge: what both track. A side without data that tracks nothing leaves the other's."""
    if not have_data and (own or has_data):
        return own
    if not has_data and not own:
        return theirs
    return tuple(name for name in own if name in theirs)


def arrays_of(track: tuple[str, ...]) -> tuple[str, ...]:
    """The names of the arrays of the state for what is tracked."""
    return tuple(name for name in ARRAYS if name in track or (name in POWERS and "skewness" in track))


def track_of(arrays: Iterable[str]) -> tuple[str, ...]:
    """What is tracked where these arrays are."""
    by_name = [name for name in (*EXTREMES, "missing", "quantiles") if name in arrays]
    return require_track(by_name + ["skewness"] * ("m3" in arrays))


def skewness_of(n: Any, effective_n: Any, m2: Any, m3: Any, bias: bool) -> Floats:
    """The skewness from n and the sums of powers; NaN where it is undefined."""
    with np.errstate(all="ignore"):
        var = m2 / n
        value = m3 / n / (var * np.sqrt(var))
        if not bias:
            divisor = np.where(effective_n > 2, effective_n - 2, np.nan)
            value = value * np.sqrt(effective_n * (effective_n - 1)) / divisor
    return np.where(defined(n, m2), value, np.nan)


def kurtosis_of(n: Any, effective_n: Any, m2: Any, m4: Any, fisher: bool, bias: bool) -> Floats:
    """The kurtosis from n and the sums of powers; NaN where it is undefined."""
    with np.errstate(all="ignore"):
        value = m4 / m2 / (m2 / n)
        if not bias:
            divisor = np.where(effective_n > 3, (effective_n - 2) * (effective_n - 3), np.nan)
            value = (effective_n - 1) / divisor * ((effective_n + 1) * value - 3 * (effective_n - 1)) + 3
    return np.where(defined(n, m2), value - 3 * fisher, np.nan)


def defined(n: Any, m2: Any) -> NDArray[np.bool_]:
    with np.errstate(all="ignore"):
        return np.asarray((n > 0) & (m2 / n > LEAST_VARIANCE) & (m2 < np.inf))


def require_possible_tracked(arrays: Any, track: tuple[str, ...], m: Any) -> None:
    """Raise ValueError unless there is data with the moments `m` of which these arrays are tracked."""
    if not isinstance(arrays, Mapping) or set(arrays) != set(arrays_of(track)):
        raise ValueError(f"expected the arrays {', '.join(arrays_of(track))} for track={list(track)}, got "
                         f"{', '.join(map(str, arrays)) if isinstance(arrays, Mapping) else arrays!r}")
    n = np.asarray(m.n)
    for name, values in arrays.items():
        dtype: Any = {"missing": np.int64, "quantiles": object}.get(name, np.float64)
        if not isinstance(values, np.ndarray) or values.dtype != dtype or values.shape != m.shape:
            raise ValueError(f"{name} must be of {np.dtype(dtype)} and shape {m.shape}, got "
                             f"{getattr(values, 'dtype', type(values).__name__)} of shape {np.shape(values)}")
    if "missing" in arrays and (arrays["missing"] < 0).any():
        raise ValueError(f"missing must not be negative, got {arrays['missing'].min()}")
    if "quantiles" in arrays:
        sizes = np.array([one.n[0] for one in arrays["quantiles"].ravel()], np.int64).reshape(n.shape)
        if not ((sizes == n) | (m.nan_policy == "propagate") & (sizes <= n)).all():
            raise ValueError("the sketches of quantiles must have as many values as n says")
    if "min" in arrays:
        require_extremes(arrays["min"], arrays["max"], m)
    if "m3" in arrays:
        require_powers(arrays, n, np.asarray(m.m2), m.nan_policy)


def require_extremes(least: Floats, most: Floats, m: Any) -> None:
    """Raise ValueError unless the extremes, which are inf and -inf of nothing, allow the mean and the variance."""
    n, mean, std = np.asarray(m.n), np.asarray(m.mean), np.asarray(m.std())
    if not np.where(n == 0, (least == np.inf) & (most == -np.inf), True).all():
        raise ValueError("min must be inf, and max -inf, where n is 0")
    if m.nan_policy != "propagate" and not (np.isfinite(least) & np.isfinite(most) | (n == 0)).all():
        raise ValueError(f"min and max must be finite under nan_policy {m.nan_policy!r}, got NaN or inf")
    with np.errstate(all="ignore"):
        slack = 2.0**-48 * np.maximum(np.abs(least), np.abs(most)) + LEAST_SLACK
        outside = (mean < least - slack) | (mean > most + slack) | (least > most)
        wide = std > largest_std(least, most, mean, slack) * (1 + 2.0**-40)
    if (outside & (n > 0)).any():
        raise ValueError("the mean must be between min and max")
    if (wide & (n > 0)).any():
        raise ValueError("the variance must be at most (max - mean) * (mean - min)")


def largest_std(least: Any, most: Any, mean: Any, slack: Any = 0.0) -> Any:
    """The largest standard deviation of data between two extremes, each moved away from the mean by some slack."""
    return np.sqrt(most - mean + slack) * np.sqrt(mean - least + slack)


def require_powers(arrays: Mapping[str, Floats], n: Any, m2: Any, nan_policy: str) -> None:
    """Raise ValueError unless the sums of powers are those of numbers: n m4 >= m2**2 and m2 m4 >= m3**2."""
    m3, m4 = arrays["m3"], arrays["m4"]
    with np.errstate(all="ignore"):
        usual = defined(n, m2) & np.isfinite(m3) & np.isfinite(m4)
        wrong = (m4 / m2 * n < m2 * (1 - 1e-9)) | (np.abs(m3) / m2 > np.sqrt(m4 / m2) * (1 + 1e-9))
    if (m4 < 0).any() or (usual & wrong).any():
        raise ValueError("no data has these m3 and m4 beside this m2")
    if ((m3 != 0) | (m4 != 0))[n == 0].any():
        raise ValueError("m3 and m4 must be 0 where n is 0")
    for high, low in (("m3", "m3_lo"), ("m4", "m4_lo")):
        bound = 2.0**-52 * np.abs(arrays[high]) + np.finfo(np.float64).tiny
        if (np.isfinite(arrays[high]) & ~(np.abs(arrays[low]) <= bound)).any():
            raise ValueError(f"{low} must be the rounding error of {high}, got a larger value")
