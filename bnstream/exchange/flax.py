"""Normalization layers of Flax, those of NNX and those of Linen."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from typing import Any

import numpy as np

from bnstream.core.batchnorm import BatchNorm
from bnstream.core.channelnorms import ChannelNorm, GroupNorm, InstanceNorm
from bnstream.core.layer import NormLayer
from bnstream.core.rownorms import RMSNorm
from bnstream.exchange.conventions import from_arrays
from bnstream.exchange.layers import (
    arrays_and_settings,
    attributes_of,
    import_framework,
    require_convertible,
    require_type,
)


def from_flax(layer: Any, variables: Mapping[str, Any] | None = None, **settings: Any) -> BatchNorm:
    """Make a layer from one of Flax, in the same mode.

    Parameters
    ----------
    layer : flax.nnx.BatchNorm or flax.linen.BatchNorm
        A layer of NNX holds its arrays, one of Linen its settings alone.
    variables : mapping, optional
        The variables of a Linen layer, ``{"params": ..., "batch_stats": ...}``, without those of other layers. Not
        needed for a bound module.
    **settings
        Passed to `BatchNorm`: names, nan_policy, ... They take precedence over those of `layer`.

    Returns
    -------
    BatchNorm
        With copies of the arrays, in the dtype of the layer's parameters, its axis as `channel_axis`, and its ``dtype``
        as `result_dtype`. It is in inference mode if ``use_running_average=True``.

    Raises
    ------
    ModuleNotFoundError
        If Flax is not installed.
    TypeError
        If `layer` is not one of these layers.
    ValueError
        If `variables` are missing, or are those of a network, or the layer has channels along several axes.

    See Also
    --------
    BatchNorm.to_flax, BatchNorm.to_linen : the inverses.

    Examples
    --------
    >>> import bnstream
    >>> from flax import nnx
    >>> bn = bnstream.BatchNorm.from_flax(nnx.BatchNorm(3, momentum=0.9, rngs=nnx.Rngs(0)))
    >>> bn.momentum, bn.eps, bn.channel_axis, bn.running_ddof
    (0.1, 1e-05, -1, 0)
    """
    linen, nnx = import_framework("flax").linen, import_module("flax.nnx")
    require_type(layer, (linen.BatchNorm, nnx.BatchNorm), "a flax.nnx.BatchNorm or a flax.linen.BatchNorm")
    used = {"scale": layer.use_scale, "bias": layer.use_bias}       # in Flax 0.10 an unused one is a Param of None
    arrays = {name: values for name, values in attributes_of(layer, "flax").items() if used.get(name, True)}
    if isinstance(layer, linen.BatchNorm):
        variables = variables_of(layer, variables)
        if "batch_stats" not in variables or "mean" not in variables["batch_stats"]:
            raise ValueError("expected the variables of this layer alone, {'params': {'scale', 'bias'}, 'batch_stats': "
                             f"{{'mean', 'var'}}}}, got {outline(variables)}; from those of a network take the ones "
                             "under the layer's name")
        arrays |= {**variables.get("params", {}), **variables["batch_stats"]}
    defaults = {"channel_axis": axis_of(layer), "result_dtype": layer.dtype}
    return from_arrays(arrays, "flax", **{**defaults, **settings}).train(not layer.use_running_average)


def to_flax(bn: BatchNorm, **settings: Any) -> Any:
    """Convert to a `flax.nnx.BatchNorm`, in the same mode.

    Parameters
    ----------
    **settings
        Passed to `flax.nnx.BatchNorm`: dtype, axis_name, use_running_average, ... They take precedence over those of
        this layer.

    Returns
    -------
    flax.nnx.BatchNorm
        Its parameters have the dtype of this layer. The running estimates, float64 here, are rounded to float32, as
        Flax keeps them.

    Raises
    ------
    ModuleNotFoundError
        If Flax is not installed.
    ValueError
        If the layer has `renorm` or `virtual_batch`, for which Flax has none.

    See Also
    --------
    BatchNorm.from_flax : the inverse.
    BatchNorm.to_linen : a layer of Linen.

    Notes
    -----
    `nan_policy`, `names`, the number of batches and the pooled statistics are not converted; ``momentum=None`` becomes
    Flax's default, 0.99. The running variance has ddof 0 if it can be computed from pooled statistics; otherwise it is
    copied. JAX has float64 only under jax_enable_x64.

    Examples
    --------
    >>> import bnstream
    >>> bnstream.BatchNorm(3, momentum=0.2, channel_axis=-1).to_flax().momentum
    0.8
    """
    own, params, batch_stats = flax_parts(bn)
    nnx = import_module("flax.nnx")
    defaults = {**own, "use_running_average": not bn.training, "rngs": nnx.Rngs(0)}
    layer = nnx.BatchNorm(bn.num_features, **{**defaults, **settings})
    for name, values in (batch_stats | params).items():
        setattr(layer, name, type(getattr(layer, name))(values))
    return layer


def to_linen(bn: BatchNorm, **settings: Any) -> tuple[Any, dict[str, Any]]:
    """Convert to a `flax.linen.BatchNorm` and its variables.

    Parameters
    ----------
    **settings
        Passed to `flax.linen.BatchNorm`: dtype, axis_name, ... They take precedence over those of this layer.

    Returns
    -------
    layer : flax.linen.BatchNorm
        Linen takes the mode, ``use_running_average``, with each call.
    variables : dict
        ``{"params": {"scale", "bias"}, "batch_stats": {"mean", "var"}}``, in the dtypes of `to_flax`. There is a scale
        if this layer has gamma, and a bias if it has beta.

    Raises
    ------
    ModuleNotFoundError, ValueError
        As `to_flax`.

    See Also
    --------
    BatchNorm.from_flax : the inverse.
    BatchNorm.to_flax : a layer of NNX, and what is not converted.

    Examples
    --------
    >>> import numpy as np, bnstream
    >>> layer, variables = bnstream.BatchNorm(3, channel_axis=-1).to_linen()
    >>> layer.apply(variables, np.ones((2, 3)), use_running_average=True).shape
    (2, 3)
    """
    own, params, batch_stats = flax_parts(bn)
    layer = import_framework("flax").linen.BatchNorm(**{**own, **settings})
    return layer, {"params": params, "batch_stats": batch_stats}


def flax_parts(bn: BatchNorm) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
    """The settings, parameters and running estimates of the layer in Flax."""
    import_framework("flax")
    jnp = import_module("jax.numpy")
    require_convertible(bn, "Flax")
    arrays, own = arrays_and_settings(bn, "flax")
    settings = {**own, "axis": bn.channel_axis, "use_bias": "bias" in arrays, "use_scale": "scale" in arrays,
                "param_dtype": bn.dtype, "dtype": bn.result_dtype}
    params: dict[str, Any] = {name: jnp.asarray(arrays[name], bn.dtype) for name in ("scale", "bias") if name in arrays}
    batch_stats = {name: jnp.asarray(arrays[name], jnp.float32) for name in ("mean", "var")}
    return settings, params, batch_stats


def axis_of(layer: Any) -> int:
    """The axis of the channels, which Flax also takes as a sequence."""
    axes = (layer.axis,) if isinstance(layer.axis, int) else tuple(layer.axis)
    if len(axes) != 1:
        raise ValueError(f"the layer has its channels along the axes {axes}, a BatchNorm along one; reshape x so that "
                         "they are one axis")
    return int(axes[0])


def variables_of(layer: Any, variables: Mapping[str, Any] | None) -> Mapping[str, Any]:
    """The variables of a Linen layer: those given, or those of a bound module."""
    if variables is None and layer.scope is None:
        raise ValueError(f"a flax.linen.{type(layer).__name__} has no arrays of its own; pass its variables, as "
                         "returned by layer.init")
    if not isinstance(variables, Mapping | None):
        raise TypeError(f"variables must be a mapping, as returned by layer.init, got {type(variables).__name__}")
    # Those with names of axes, from with_partitioning, are in boxes.
    own = layer.variables if variables is None else variables
    found: Mapping[str, Any] = import_module("flax.core.meta").unbox(own)
    return found


def outline(variables: Mapping[str, Any]) -> str:
    """The names in the upper two levels of a tree of variables."""
    return str({name: [*inner] if isinstance(inner, Mapping) else type(inner).__name__
                for name, inner in variables.items()})


def classes_for(name: str) -> dict[str, Any]:
    """The classes of this name in NNX and in Linen, those that this version of Flax has."""
    import_framework("flax")
    found = {module: getattr(import_module(f"flax.{module}"), name, None) for module in ("nnx", "linen")}
    return {module: cls for module, cls in found.items() if cls is not None}


def class_for(norm: NormLayer, module: str) -> Any:
    """The class for a layer."""
    name = type(norm).__name__
    if module not in classes_for(name):
        raise ValueError(f"this version of Flax has no {module}.{name}; install a newer one")
    return classes_for(name)[module]


def norm_from_flax(
    cls: type[NormLayer], layer: Any, variables: Mapping[str, Any] | None = None, **settings: Any
) -> Any:
    """Make a layer from one of Flax of the same name.

    Parameters
    ----------
    layer : flax.nnx or flax.linen LayerNorm, RMSNorm, GroupNorm or InstanceNorm
        Its features lie along the last axis. A layer of NNX holds its arrays, one of Linen its settings alone.
    variables : mapping, optional
        The variables of a Linen layer, ``{"params": {"scale", "bias"}}``, without those of other layers. Not needed for
        a bound module.
    **settings
        Passed to the class: names, ... They take precedence over those of `layer`. For a Linen layer without
        parameters they must have its size, such as ``normalized_shape``.

    Returns
    -------
    LayerNorm, RMSNorm, GroupNorm or InstanceNorm
        Of the class that the method is called on, with copies of the arrays, in the dtype of the layer's parameters,
        its ``dtype`` as `result_dtype`, and -1 as `channel_axis`.

    Raises
    ------
    ModuleNotFoundError
        If Flax is not installed.
    TypeError
        If `layer` is of another class.
    ValueError
        If its features lie along another axis than the last one, or it reduces over other axes; if `variables` are
        missing, or are those of a network.

    Examples
    --------
    >>> import bnstream
    >>> from flax import nnx
    >>> bnstream.LayerNorm.from_flax(nnx.LayerNorm(3, rngs=nnx.Rngs(0))).eps
    1e-06
    """
    name = cls.__name__
    size_name = next(size for size in ("normalized_shape", "num_channels", "num_features") if size in cls._settings)
    found = classes_for(name)
    require_type(layer, tuple(found.values()), f"a flax.nnx.{name} or a flax.linen.{name}")
    last = () if issubclass(cls, GroupNorm) else (-1, (-1,), [-1])
    for argument in ("feature_axes", "reduction_axes"):
        axes = getattr(layer, argument, None)
        if axes is not None and axes not in last:
            raise ValueError(f"the layer has {argument}={axes}, and {name} takes {'the last axis' if last else 'all'}; "
                             "move and reshape the axes of x")
    used = {"scale": layer.use_scale, "bias": getattr(layer, "use_bias", False)}
    wanted = [parameter for parameter in used if used[parameter]]
    if "linen" in found and isinstance(layer, found["linen"]):
        own = variables_of(layer, variables) if wanted else {}
        params: Any = own.get("params", {})
        if sorted(params) != sorted(wanted):
            raise ValueError(f"expected the variables of this layer alone, {{'params': {wanted}}}, got "
                             f"{outline(own)}; from those of a network take the ones under the layer's "
                             "name")
        arrays = {parameter: params[parameter] for parameter in wanted}
        size = next((len(np.asarray(values)) for values in arrays.values()), None)
    else:
        arrays = {parameter: getattr(layer, parameter) for parameter in wanted}
        size = layer.num_groups * layer.group_size if issubclass(cls, GroupNorm) else layer.num_features
    given: dict[str, Any] = {"eps": layer.epsilon, "dtype": np.dtype(layer.param_dtype).name,
                             "result_dtype": layer.dtype, cls._affine: bool(wanted)}
    if "bias" in cls._settings:
        given |= used
    if issubclass(cls, ChannelNorm):
        given["channel_axis"] = -1
    size = settings.get(size_name, size)
    if size is None:
        raise ValueError(f"a flax.linen.{name} without parameters has no size; pass {size_name}")
    given[size_name] = size
    if issubclass(cls, GroupNorm):
        given["num_groups"] = layer.num_groups or size // layer.group_size
    made = cls(**{**given, **settings})
    made.load_state_dict({"weight" if parameter == "scale" else parameter: arrays[parameter] for parameter in arrays})
    return made


def norm_to_flax(norm: NormLayer, **settings: Any) -> Any:
    """Convert to a layer of `flax.nnx` of the same name.

    Parameters
    ----------
    **settings
        Passed to the class of Flax: axis_name, ... They take precedence over those of this layer.

    Returns
    -------
    flax.nnx.Module
        Its parameters have the dtype of this layer.

    Raises
    ------
    ModuleNotFoundError
        If Flax is not installed.
    ValueError
        If Flax has no such layer: `channel_axis` is not -1, `normalized_shape` has several lengths, the layer tracks
        running estimates, or the eps of `RMSNorm` is None.

    See Also
    --------
    to_linen : a layer of Linen.

    Notes
    -----
    `names` and the mode are not converted. JAX has float64 only under jax_enable_x64.

    Examples
    --------
    >>> import bnstream
    >>> bnstream.GroupNorm(2, 4, channel_axis=-1).to_flax().num_groups
    2
    """
    cls = class_for(norm, "nnx")
    options, params = norm_parts(norm)
    layer = cls(norm._shape[0], **{**options, "rngs": import_module("flax.nnx").Rngs(0), **settings})
    for name, values in params.items():
        setattr(layer, name, type(getattr(layer, name))(values))
    return layer


def norm_to_linen(norm: NormLayer, **settings: Any) -> tuple[Any, dict[str, Any]]:
    """Convert to a layer of `flax.linen` of the same name, and its variables.

    Parameters
    ----------
    **settings
        Passed to the class of Flax: axis_name, ... They take precedence over those of this layer.

    Returns
    -------
    layer : flax.linen.Module
    variables : dict
        ``{"params": {"scale", "bias"}}``, those that this layer has, in its dtype.

    Raises
    ------
    ModuleNotFoundError, ValueError
        As `to_flax`.

    See Also
    --------
    to_flax : a layer of NNX, and what is not converted.

    Examples
    --------
    >>> import numpy as np, bnstream
    >>> layer, variables = bnstream.LayerNorm(3).to_linen()
    >>> layer.apply(variables, np.ones((2, 3))).shape
    (2, 3)
    """
    cls = class_for(norm, "linen")
    options, params = norm_parts(norm)
    return cls(**{**options, **settings}), {"params": params} if params else {}


def norm_parts(norm: NormLayer) -> tuple[dict[str, Any], dict[str, Any]]:
    """The settings and parameters of the layer in Flax."""
    if isinstance(norm, ChannelNorm) and norm.channel_axis != -1:
        raise ValueError(f"Flax has the channels along the last axis, this layer along axis {norm.channel_axis}; if x "
                         "will have them there, set channel_axis = -1 on a copy")
    if len(norm._shape) != 1:
        raise ValueError(f"Flax's {type(norm).__name__} has one axis of features, this layer normalized_shape "
                         f"{norm._shape}; reshape x so that they are one axis")
    if isinstance(norm, InstanceNorm) and norm.track_running_stats:
        raise ValueError("Flax has no layer with running estimates of instances; a BatchNorm with these estimates does "
                         "this layer's inference")
    if norm.eps is None:
        raise ValueError("an eps of None depends on the dtype of x, and Flax needs a number; set eps on a copy")
    jnp = import_module("jax.numpy")
    options: dict[str, Any] = {"epsilon": norm.eps, "use_scale": norm.gamma is not None, "param_dtype": norm.dtype,
                               "dtype": norm.result_dtype}
    if isinstance(norm, GroupNorm):
        options["num_groups"] = norm.num_groups
    if not isinstance(norm, RMSNorm):
        options["use_bias"] = norm.beta is not None
    params = {name: jnp.asarray(values, norm.dtype)
              for name, values in (("scale", norm.gamma), ("bias", norm.beta)) if values is not None}
    return options, params
