"""Moments and BatchNorm as named arrays and a dict for JSON, and back. What comes back is checked, not trusted."""

from __future__ import annotations

import math
from collections.abc import Mapping
from types import NoneType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bnstream.core import running
from bnstream.core.batchnorm import BatchNorm, running_of
from bnstream.core.dtypes import FLOATING, NamedArrays
from bnstream.core.exact import ExactSums
from bnstream.core.layer import NormLayer, settings_of
from bnstream.core.moments import Moments, exact_moments_from, moments_from, rows_of, sums_of, tracked_of, with_tracked
from bnstream.core.rows import (
    EXPONENT,
    ROWS,
    SCALED_ROWS,
    SQUARES,
    WEIGHTED_ROWS,
    N,
    effective_n,
    has_weights,
    require_possible,
)
from bnstream.core.tracking import NAMES, arrays_of, require_possible_tracked, require_track
from bnstream.sketches.quantiles import DEFAULT_K, Quantiles

MEANINGS_OF_MOMENTS = {
    "n": "count of values; if there is sum_of_squared_weights, n + n_lo is the sum of weights",
    "mean": "mean + mean_lo is the mean, with twice the digits of a double",
    "m2": "m2 + m2_lo is the sum of squared deviations from the mean; m2 / (n - ddof) is the variance",
    "axis": "the batch axes, which are reduced over; null: all axes",
    "exact": "the statistics are integers: sum * 2**sum_unit and sum_of_squares * 2**sum_of_squares_unit, each in "
             "two's complement, in limbs of 64 bits, lower ones first, along the last axis; null: no batch yet",
}
MEANINGS = {
    "moments": MEANINGS_OF_MOMENTS,
    "batchnorm": {
        "momentum": "weight of the new batch, as in PyTorch; 1 minus that of Keras, Flax and ONNX; null: the running "
                    "estimates are the exact statistics of all batches",
        "running_ddof": "running_var is the sum of squared deviations / (n - running_ddof)",
        "eps": "added to the variance",
        "gamma": "scale; y = (x - mean) / sqrt(var + eps) * gamma + beta; without gamma 1, without beta 0",
        "running_spread": "sum of w**2 / n over the batches, of weight w in the running estimates; NaN: unknown",
        "initial_weight": "weight that the initial mean 0 and variance 1 still have in the running estimates",
        "virtual_batch": "rows that are normalized by their own statistics in training; null: the whole batch",
        "batch_mean": "mean of the last batch; NaN: none",
        "batch_var": "variance of the last batch, with ddof 0; NaN: none",
        "pooled": "exact statistics of all batches: " + MEANINGS_OF_MOMENTS["m2"],
    },
}
MEANINGS_OF_TRACKED = {
    "min": "inf where n is 0", "max": "-inf where n is 0",
    "missing": "count of values left out or let through as missing, NaN or inf; of exact statistics of those left out, "
               "which the counts nan, plus_inf and minus_inf are added to",
    "m3": "m3 + m3_lo is the sum of the third powers of the deviations from the mean",
    "m4": "m4 + m4_lo is that of the fourth powers",
    "quantiles": "the bytes of KLL sketches, as of bnstream.sketches.Quantiles.to_bytes",
}
MEANING_OF_EXPONENT = "mean and mean_lo are to be multiplied by 2**exponent, m2 and m2_lo by 4**exponent"
LARGEST_COUNT = 2**53
LARGEST_EXACT_COUNT = 2**62
EXACT_COUNTS = ("numbers", "nan", "plus_inf", "minus_inf")
SUM, SUM_OF_SQUARES = "sum", "sum_of_squares"
SETTINGS = {
    "num_features": (int,), "eps": (float,), "momentum": (float, NoneType), "scale": (bool,), "bias": (bool,),
    "channel_axis": (int,), "dtype": (str,), "result_dtype": (str, NoneType), "running_ddof": (int, float),
    "nan_policy": (str,), "renorm": (bool,), "r_max": (float,), "d_max": (float,),
    "virtual_batch": (int, NoneType),
}


def meanings(kind: str, arrays: NamedArrays) -> dict[str, str]:
    """What a file says about its arrays and settings."""
    exponents = [name for name in arrays if name.endswith(SCALED_ROWS[EXPONENT])]
    exact = {"pooled": "exact statistics of all batches: " + MEANINGS_OF_MOMENTS["exact"]}
    has_exact = any(name.endswith("pooled_sum") for name in arrays)
    tracked = {name: meaning for name, meaning in MEANINGS_OF_TRACKED.items() if name in arrays}
    more = tracked | dict.fromkeys(exponents, MEANING_OF_EXPONENT) | (exact if has_exact else {})
    return MEANINGS[kind] | more


class Fields:
    """The members of a JSON object. Each is returned only if it has the expected type."""

    def __init__(self, values: dict[str, Any]) -> None:
        self.values = values

    def get(self, name: str, *kinds: type) -> Any:
        if name not in self.values:
            raise ValueError(f"{name} is missing")
        value = self.values[name]
        if type(value) not in kinds:        # not isinstance, for which True is an int
            expected = " or ".join("null" if kind is NoneType else kind.__name__ for kind in kinds)
            raise ValueError(f"{name} must be of type {expected}, got {value!r:.60}")
        return value

    def one_of(self, name: str, *choices: str) -> Any:
        value = self.get(name, str)
        if value not in choices:
            raise ValueError(f"{name} must be one of {', '.join(choices)}, got {value!r:.60}")
        return value

    def integer(self, name: str, first: int, last: int) -> int:
        value: int = self.get(name, int)
        if not first <= value <= last:
            raise ValueError(f"{name} must be from {first} to {last}, got {value!r:.60}")
        return value

    def all_of(self, name: str, kind: type) -> Any:
        """A list as a tuple, or None. All entries are of one type."""
        value = self.get(name, list, NoneType)
        for entry in value or ():
            if type(entry) is not kind:
                raise ValueError(f"{name} must be a list of {kind.__name__}, got {entry!r:.60} in it")
        return None if value is None else tuple(value)

    def axis(self) -> Any:
        is_list = isinstance(self.values.get("axis"), list)
        return self.all_of("axis", int) if is_list else self.get("axis", int, NoneType)


def describe_moments(m: Moments, prefix: str = "") -> tuple[dict[str, Any], NamedArrays]:
    """Describe a Moments in a dict, and return its rows as arrays."""
    m = m.copy()        # consistent even if another thread updates m
    description: dict[str, Any] = {"axis": m.axis, "nan_policy": m.nan_policy, "names": m.names, "shape": m.shape}
    if m.track:
        description["track"] = m.track
    if m.exact:
        return describe_exact(m, description, prefix)
    rows = rows_of(m)
    if rows is None:
        return description, {}
    require_counts(rows, prefix)
    arrays: NamedArrays = {prefix + name: row for name, row in zip(SCALED_ROWS, rows, strict=False)}
    if len(rows) == len(SCALED_ROWS) and not has_weights(rows):
        for name in WEIGHTED_ROWS[len(ROWS):]:
            del arrays[prefix + name]
    arrays[prefix + ROWS[N]] = m.n
    return description, arrays | named_tracked(m, prefix)


def named_tracked(m: Moments, prefix: str) -> NamedArrays:
    return {prefix + name: as_bytes(values) if name == "quantiles" else np.asarray(values)
            for name, values in tracked_of(m).items()}


def as_bytes(sketches: NDArray[Any]) -> NDArray[np.uint8]:
    """The sketches of channels as bytes."""
    joined = Quantiles.joined([*sketches.ravel()]) if sketches.size else Quantiles(0)
    return np.frombuffer(joined.to_bytes(), np.uint8)


def taken_sketches(arrays: NamedArrays, name: str, shape: tuple[int, ...]) -> NDArray[Any]:
    """Remove the bytes of the sketches of channels of this shape from `arrays`, and return the sketches."""
    data = taken(arrays, name, arrays[name].shape if name in arrays else (), np.uint8)
    sketches = Quantiles.from_bytes(data.tobytes())
    if sketches.n_channels != math.prod(shape) or sketches.k != DEFAULT_K:
        raise ValueError(f"{name} must be sketches of {math.prod(shape)} channels with k={DEFAULT_K}, got "
                         f"{sketches.n_channels} with k={sketches.k}")
    found = np.empty(sketches.n_channels, object)
    found[:] = [sketches.channels([i]) for i in range(sketches.n_channels)]
    return found.reshape(shape)


def describe_exact(m: Moments, description: dict[str, Any], prefix: str) -> tuple[dict[str, Any], NamedArrays]:
    """Describe exact statistics: counts, and the sums as integers of limbs of 64 bits."""
    description["exact"] = sums = sums_of(m)
    if sums is None or m.shape is None:
        return description, {}
    require_exact_counts(sums.counts)
    s, s_unit, q, q_unit = sums.digits()
    description["exact"] = {"sum_unit": s_unit, "sum_of_squares_unit": q_unit}
    arrays = {prefix + name: count.reshape(m.shape) for name, count in zip(EXACT_COUNTS, sums.counts, strict=True)}
    arrays |= {prefix + name: limbs.view(np.int64).reshape(*m.shape, limbs.shape[1])
               for name, limbs in ((SUM, s), (SUM_OF_SQUARES, q))}
    return description, arrays | named_tracked(m, prefix)


def restore_exact(fields: Fields, arrays: NamedArrays, prefix: str) -> Moments:
    """Restore what `describe_exact` returned."""
    policy, names = fields.one_of("nan_policy", "raise", "omit", "propagate"), fields.all_of("names", str)
    shape, units = fields.all_of("shape", int), fields.get("exact", dict, NoneType)
    if (shape is None) != (units is None):
        raise ValueError(f"exact must be null where there is no batch, and only there, got {units!r:.60}")
    if shape is None:
        return Moments(fields.axis(), nan_policy=policy, names=names, exact=True)
    counts = np.stack([taken(arrays, prefix + name, shape, np.int64).ravel() for name in EXACT_COUNTS])
    units = Fields(units)
    s_unit, q_unit = units.integer("sum_unit", -1074, 1024 + 63), units.integer("sum_of_squares_unit", -2148, 2048 + 63)
    limbs = []
    for name, most in ((SUM, 34), (SUM_OF_SQUARES, 67)):
        found = arrays.get(prefix + name)
        n_limbs = 0 if found is None or found.ndim != len(shape) + 1 else found.shape[-1]
        if not 1 <= n_limbs <= most:
            raise ValueError(f"{prefix}{name} must have 1 to {most} limbs of each channel")
        limbs.append(taken(arrays, prefix + name, (*shape, n_limbs), np.int64).reshape(-1, n_limbs).view(np.uint64))
    require_exact_counts(counts)
    if policy != "propagate" and counts[1:].any():
        raise ValueError(f"{prefix}nan and inf must be 0 with nan_policy={policy!r}")
    sums = ExactSums.restored(counts, limbs[0], s_unit, limbs[1], q_unit)
    sums.require_possible()
    s, own_s_unit, q, own_q_unit = sums.digits()
    fewest = np.array_equal(s, limbs[0]) and np.array_equal(q, limbs[1])
    if not (fewest and (s_unit, q_unit) == (own_s_unit, own_q_unit)):
        raise ValueError("the exact sums must have the fewest limbs that hold them, in the largest unit")
    return exact_moments_from(sums, shape, fields.axis(), policy, names)


def restore_moments(fields: Fields, arrays: NamedArrays, prefix: str = "") -> Moments:
    """Restore a Moments from what `describe_moments` returned. Its arrays are removed from `arrays`."""
    restore = restore_exact if "exact" in fields.values else restore_plain
    m = restore(fields, arrays, prefix)
    if "track" not in fields.values:
        return m
    names = fields.all_of("track", str)
    track = () if names is None else require_track(names)
    if not track or track != names:
        raise ValueError(f"track must be some of {', '.join(NAMES)}, in this order, got {names}")
    if m.exact and "skewness" in track:
        raise ValueError("exact statistics do not track skewness and kurtosis")
    if m.shape is None:
        return Moments(m.axis, nan_policy=m.nan_policy, names=m.names, exact=m.exact, track=track)
    tracked = {name: taken_sketches(arrays, prefix + name, m.shape) if name == "quantiles" else taken(
        arrays, prefix + name, m.shape, np.int64 if name == "missing" else np.float64) for name in arrays_of(track)}
    require_possible_tracked(tracked, track, m)
    return with_tracked(m, tracked)


def restore_plain(fields: Fields, arrays: NamedArrays, prefix: str) -> Moments:
    """Restore statistics that are not exact."""
    policy = fields.one_of("nan_policy", "raise", "omit", "propagate")
    shape, state = fields.all_of("shape", int), None
    if shape is not None:
        weighted = prefix + WEIGHTED_ROWS[SQUARES] in arrays
        scaled = prefix + SCALED_ROWS[EXPONENT] in arrays
        dtypes = {ROWS[N]: np.float64 if weighted else np.int64}
        names = WEIGHTED_ROWS if weighted else ROWS
        rows = [taken(arrays, prefix + name, shape, dtypes.get(name, np.float64)) for name in names]
        if scaled:
            rows += [np.zeros(shape)] * (EXPONENT - len(rows))
            rows.append(taken(arrays, prefix + SCALED_ROWS[EXPONENT], shape, np.float64))
        state = np.stack(rows, dtype=np.float64)
        require_possible(state, policy, prefix, weighted)
        require_counts(state, prefix)
    return moments_from(state, fields.axis(), policy, fields.all_of("names", str))


def require_exact_counts(counts: NDArray[np.int64]) -> None:
    """Raise ValueError if counts are negative or exceed what the limbs of a file have room for."""
    most = counts.sum(0, np.float64).max(initial=0)         # The sum of integers is right where this one is small.
    if counts.min(initial=0) < 0 or most > LARGEST_EXACT_COUNT or counts.sum(0).max(initial=0) > LARGEST_EXACT_COUNT:
        raise ValueError(f"counts must be from 0 to 2**62, got {counts.min()} to {most:.17g}")


def require_counts(state: NDArray[np.float64], prefix: str = "") -> None:
    """Raise ValueError if more values have been counted than a float64 can count."""
    weighted, most = has_weights(state), effective_n(state).max(initial=0)
    if most > LARGEST_COUNT * (1 + 1e-12 * weighted):
        raise ValueError(f"{prefix}{'n**2 / sum_of_squared_weights' if weighted else 'n'} must be at most 2**53, up to "
                         f"which counts are exact, got {most:.17g}")


def describe_batchnorm(bn: BatchNorm, prefix: str = "") -> tuple[dict[str, Any], NamedArrays]:
    """Describe a BatchNorm in a dict, and return its estimates and parameters as arrays."""
    bn = bn.copy()
    running_of(bn).require_possible()
    description: dict[str, Any] = {
        "settings": described_settings(bn), "names": bn.names, "training": bn.training,
        "num_batches_tracked": bn.num_batches_tracked, "pooled": None,
    }
    arrays: NamedArrays = dict(zip(running.RUNNING_ROWS, list(running_of(bn).rows), strict=True))
    arrays |= {name: values.astype(stored_dtype(bn)) for name, values in parameters_of(bn).items()}
    if bn.pooled is not None:
        description["pooled"], pooled = describe_moments(bn.pooled, "pooled_")
        arrays |= pooled
    return description, {prefix + name: values for name, values in arrays.items()}


def restore_batchnorm(fields: Fields, arrays: NamedArrays, prefix: str = "") -> BatchNorm:
    """Restore a BatchNorm from what `describe_batchnorm` returned. Its arrays are removed from `arrays`."""
    settings = checked_settings(fields, SETTINGS)
    settings.integer("channel_axis", -64, 63)
    shape = (settings.values["num_features"],)
    rows = np.stack([taken(arrays, prefix + name, shape, np.float64) for name in running.RUNNING_ROWS])
    for row, most in ((running.VAR, np.inf), (running.SPREAD, np.inf), (running.INITIAL_WEIGHT, 1.0),
                      (running.BATCH_VAR, np.inf)):
        unknown = row == running.INITIAL_WEIGHT and np.isnan(rows[row]).any()
        if unknown or (rows[row] < 0).any() or (rows[row] > most).any():
            raise ValueError(f"{prefix}{running.RUNNING_ROWS[row]} must be from 0 to {most}, got {rows[row].min()} to "
                             f"{rows[row].max()}")
    pooled = fields.get("pooled", dict, NoneType)
    if pooled is None and settings.values["momentum"] is None:
        raise ValueError("a layer with momentum null must have pooled statistics, got none")
    bn = BatchNorm(**settings.values, names=fields.all_of("names", str), track_pooled=pooled is not None)
    running_of(bn).rows[:] = rows
    for name, values in parameters_of(bn).items():
        values[:] = taken(arrays, prefix + name, shape, stored_dtype(bn))
    if pooled is not None:
        moments = restore_moments(Fields(pooled), arrays, f"{prefix}pooled_")
        if (moments.axis, moments.nan_policy) != (0, bn.nan_policy):
            raise ValueError(f"the pooled statistics of this layer must have axis 0 and nan_policy {bn.nan_policy!r}, "
                             f"got {moments.axis} and {moments.nan_policy!r}")
        bn.pooled = moments
    bn.training = fields.get("training", bool)
    bn.num_batches_tracked = fields.integer("num_batches_tracked", 0, 2**63 - 1)
    return bn


def parameters_of(bn: NormLayer) -> NamedArrays:
    """gamma and beta, those that the layer has: the arrays themselves."""
    return {name: values for name, values in (("gamma", bn.gamma), ("beta", bn.beta)) if values is not None}


def described_settings(layer: NormLayer) -> dict[str, Any]:
    return {name: value.name if isinstance(value, np.dtype) else value for name, value in settings_of(layer).items()}


def checked_settings(fields: Fields, kinds: Mapping[str, tuple[type, ...]]) -> Fields:
    """The settings of a layer in a file, of exactly these names and types."""
    settings = Fields(fields.get("settings", dict))
    if settings.values.keys() != kinds.keys():
        raise ValueError(f"expected the settings {list(kinds)}, got {list(settings.values)}")
    for name, types in kinds.items():
        settings.get(name, *types)
    settings.one_of("dtype", *FLOATING)         # NumPy's parser of dtypes is not for strangers.
    if settings.values["result_dtype"] is not None:
        settings.one_of("result_dtype", *FLOATING)
    return settings


def stored_dtype(bn: NormLayer) -> Any:
    """The dtype of the parameters in a file: float32 for bfloat16, which .npy lacks and float32 holds exactly."""
    return np.float32 if bn.dtype.name == "bfloat16" else bn.dtype


def taken(arrays: NamedArrays, name: str, shape: tuple[int, ...], dtype: Any) -> NDArray[Any]:
    """Remove an array from `arrays` and return it; raise ValueError unless it has this shape and dtype."""
    array = arrays.pop(name, None)
    if array is None:
        raise ValueError(f"the array {name} is missing")
    if array.shape != shape or array.dtype != dtype:
        raise ValueError(f"{name} must be {np.dtype(dtype)} of shape {shape}, got {array.dtype} of shape {array.shape}")
    return array
