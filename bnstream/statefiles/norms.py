"""Layer, RMS, group and instance norm as named arrays and a dict for JSON, and back; see `description`."""

from __future__ import annotations

from types import NoneType
from typing import Any

import numpy as np

from bnstream.core.channelnorms import GroupNorm, InstanceNorm
from bnstream.core.dtypes import NamedArrays
from bnstream.core.layer import NormLayer
from bnstream.core.rownorms import LayerNorm, RMSNorm
from bnstream.statefiles.description import (
    Fields,
    checked_settings,
    describe_moments,
    described_settings,
    parameters_of,
    restore_moments,
    stored_dtype,
    taken,
)

NORMS: dict[str, type[NormLayer]] = {
    "layernorm": LayerNorm, "rmsnorm": RMSNorm, "groupnorm": GroupNorm, "instancenorm": InstanceNorm,
}
TYPES: dict[str, tuple[type, ...]] = {
    "normalized_shape": (list,), "num_groups": (int,), "num_channels": (int,), "num_features": (int,),
    "eps": (float, NoneType), "momentum": (float, NoneType), "scale": (bool,), "bias": (bool,),
    "elementwise_affine": (bool,), "track_running_stats": (bool,), "channel_axis": (int,), "dtype": (str,),
    "result_dtype": (str, NoneType),
}
MEANINGS = {
    "eps": "added to the variance, or to the mean square; null: the eps of the dtype of x",
    "gamma": "scale; y = (x - mean) / sqrt(var + eps) * gamma + beta; without gamma 1, without beta 0",
    "momentum": "weight of the new batch, as in PyTorch; null: the running estimates are averages over all instances",
    "averages": "moments of mean and variance, one value for each instance: first of the means, then of the variances",
}


def describe_norm(layer: NormLayer) -> tuple[dict[str, Any], NamedArrays]:
    """Describe a layer in a dict, and return its parameters and estimates as arrays."""
    layer = layer.copy()
    state = layer.state_dict()
    description: dict[str, Any] = {
        "settings": described_settings(layer), "names": layer.names, "training": layer.training,
    }
    arrays: NamedArrays = {name: values.astype(stored_dtype(layer)) for name, values in parameters_of(layer).items()}
    if isinstance(layer, InstanceNorm) and layer.track_running_stats:
        arrays |= {"running_mean": layer.running_mean, "running_var": layer.running_var}
        description |= {"num_batches_tracked": layer.num_batches_tracked, "averages": None}
        if state.pooled is not None:
            description["averages"], averages = describe_moments(state.pooled, "averages_")
            arrays |= averages
    return description, arrays


def restore_norm(cls: type[NormLayer], fields: Fields, arrays: NamedArrays) -> NormLayer:
    """Restore a layer of this class from what `describe_norm` returned. Its arrays are removed from `arrays`."""
    settings = checked_settings(fields, {name: TYPES[name] for name in cls._settings})
    if "channel_axis" in settings.values:
        settings.integer("channel_axis", -63, 63)
    shape = shape_in(settings)
    # The arrays are taken before anything of their size is made.
    parameters = {name: taken(arrays, name, shape, stored_name(settings)) for name in parameter_names(settings)}
    tracked = settings.values.get("track_running_stats", False)
    estimates = [taken(arrays, name, shape, np.float64) for name in ("running_mean", "running_var") if tracked]
    given = dict(settings.values)
    if "scale" in given:
        given[cls._affine] = True
    averaged = tracked and fields.get("averages", dict, NoneType) is not None
    if averaged:
        given["momentum"] = None        # so that the layer keeps averages
    layer: Any = cls(**given, names=fields.all_of("names", str))
    if averaged:
        layer.momentum = settings.values["momentum"]
    for name, values in parameters.items():
        getattr(layer, name)[:] = values
    if tracked:
        restore_estimates(layer, estimates, fields, arrays)
    layer.training = fields.get("training", bool)
    restored: NormLayer = layer
    return restored


def shape_in(settings: Fields) -> tuple[int, ...]:
    """The shape of the parameters."""
    if "normalized_shape" in settings.values:
        shape: tuple[int, ...] = settings.all_of("normalized_shape", int)
        return shape
    return (settings.get("num_channels" if "num_channels" in settings.values else "num_features", int),)


def parameter_names(settings: Fields) -> list[str]:
    """Which of gamma and beta such a layer has."""
    flags = settings.values
    if "elementwise_affine" in flags:
        return ["gamma"] * flags["elementwise_affine"]
    return ["gamma"] * flags["scale"] + ["beta"] * flags["bias"]


def stored_name(settings: Fields) -> str:
    """The dtype of the parameters in a file."""
    dtype: str = settings.values["dtype"]
    return "float32" if dtype == "bfloat16" else dtype


def restore_estimates(layer: InstanceNorm, estimates: list[Any], fields: Fields, arrays: NamedArrays) -> None:
    """Give a layer the running estimates, and perhaps the averages, of a file."""
    averages = fields.get("averages", dict, NoneType)
    state: Any = layer.state_dict()
    state["running_mean"], state["running_var"] = estimates
    state["num_batches_tracked"] = fields.integer("num_batches_tracked", 0, 2**63 - 1)
    if averages is None and layer.momentum is None:
        raise ValueError("a layer with momentum null must have averages, got none")
    if averages is not None:
        state.pooled = restore_moments(Fields(averages), arrays, "averages_")
        if state.pooled.shape not in (None, (2 * layer.num_features,)) or state.pooled.axis != 0:
            raise ValueError(f"the averages must have axis 0 and shape ({2 * layer.num_features},), got "
                             f"{state.pooled.axis} and {state.pooled.shape}")
        if state.pooled.nan_policy != "omit":
            raise ValueError(f"the averages must have nan_policy 'omit', got {state.pooled.nan_policy!r}")
    layer.load_state_dict(state)
