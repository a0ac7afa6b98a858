"""Normalization layers of Keras: `from_keras` and `to_keras` of `BatchNorm` and of the other layers."""

from __future__ import annotations

from typing import Any

from bnstream.core.batchnorm import BatchNorm
from bnstream.core.channelnorms import ChannelNorm, GroupNorm, InstanceNorm
from bnstream.core.layer import NormLayer
from bnstream.core.rownorms import RMSNorm
from bnstream.exchange.conventions import from_arrays
from bnstream.exchange.layers import (
    arrays_and_settings,
    attributes_of,
    dtype_name,
    import_framework,
    require_convertible,
    require_type,
)

# The names of Keras's classes. It has no InstanceNormalization: that is a group for every channel.
CLASSES = {"LayerNorm": "LayerNormalization", "RMSNorm": "RMSNormalization", "GroupNorm": "GroupNormalization",
           "InstanceNorm": "GroupNormalization"}


def from_keras(layer: Any, **settings: Any) -> BatchNorm:
    """Make a layer from one of Keras.

    Parameters
    ----------
    layer : keras.layers.BatchNormalization
        A built layer of Keras 3, with any backend.
    **settings
        Passed to `BatchNorm`: names, nan_policy, ... They take precedence over those of `layer`.

    Returns
    -------
    BatchNorm
        With copies of the arrays, in the dtype of `layer`, and its axis as `channel_axis`. The compute dtype of mixed
        precision becomes `result_dtype`; x is not rounded to it before, as by Keras. The layer is in training mode, as
        Keras takes the mode with each call, unless `layer` is frozen by ``trainable=False``.

    Raises
    ------
    ModuleNotFoundError
        If Keras is not installed.
    TypeError
        If `layer` is not a BatchNormalization layer.
    ValueError
        If `layer` is not built, or has ``renorm=True`` and `settings` do not have ``renorm``.

    See Also
    --------
    BatchNorm.to_keras : the inverse.

    Examples
    --------
    >>> import bnstream, keras
    >>> layer = keras.layers.BatchNormalization(momentum=0.9)
    >>> layer.build((None, 3))
    >>> bn = bnstream.BatchNorm.from_keras(layer)
    >>> bn.momentum, bn.eps, bn.channel_axis, bn.running_ddof
    (0.1, 0.001, -1, 0)
    """
    require_type(layer, import_framework("keras").layers.BatchNormalization, "a keras.layers.BatchNormalization")
    if not layer.built:
        raise ValueError(f"the layer {layer.name} has no arrays yet; call it on a batch, or layer.build(input_shape)")
    if getattr(layer, "renorm", False) and "renorm" not in settings:
        raise ValueError("the layer has renorm=True, for which Keras keeps estimates that BatchNorm does not have; "
                         "pass renorm=False for plain batch normalization, or renorm=True to renormalize by the "
                         "running estimates")
    # The value of a Keras variable is an array of the backend.
    arrays = {name: getattr(value, "value", value) for name, value in attributes_of(layer, "keras").items()}
    compute_dtype, dtype = dtype_name(layer.compute_dtype), dtype_name(layer.variable_dtype)
    defaults = {"channel_axis": layer.axis, "dtype": dtype, "result_dtype": None if compute_dtype == dtype else
                compute_dtype}
    return from_arrays(arrays, "keras", **{**defaults, **settings}).train(layer.trainable)


def to_keras(bn: BatchNorm, ndim: int = 4, **settings: Any) -> Any:
    """Convert to a layer of Keras.

    Parameters
    ----------
    ndim : int, default 4
        The number of dimensions of x, which Keras needs to build the layer.
    **settings
        Passed to `keras.layers.BatchNormalization`: name, synchronized, ... They take precedence over those of this
        layer.

    Returns
    -------
    keras.layers.BatchNormalization
        A built layer. All its arrays have the dtype of this layer. The running estimates, float64 here, are rounded
        to it. Its policy is mixed if `result_dtype` is another dtype.

    Raises
    ------
    ModuleNotFoundError
        If Keras is not installed.
    ValueError
        If Keras has no such layer: this one has `renorm` or `virtual_batch`, x with `ndim` dimensions has no axis
        `channel_axis`, or there is no policy of its `dtype` and `result_dtype`.

    See Also
    --------
    BatchNorm.from_keras : the inverse.

    Notes
    -----
    `nan_policy`, `names`, the mode, the number of batches and the pooled statistics are not converted;
    ``momentum=None`` becomes Keras's default, 0.99. The running variance has ddof 0 if it can be computed from pooled
    statistics; otherwise it is copied.

    Examples
    --------
    >>> import bnstream
    >>> bnstream.BatchNorm(3, channel_axis=-1).to_keras(ndim=2, name="normalize").momentum
    0.9
    """
    keras = import_framework("keras")
    require_convertible(bn, "Keras")
    if not -ndim <= bn.channel_axis < ndim:
        raise ValueError(f"x of ndim={ndim} dimensions has no channel axis {bn.channel_axis}")
    arrays, own = arrays_and_settings(bn, "keras")
    defaults = {**own, "axis": bn.channel_axis, "center": bn.beta is not None, "scale": bn.gamma is not None}
    if "dtype" not in settings:
        defaults["dtype"] = dtype_policy(bn)
    layer = keras.layers.BatchNormalization(**{**defaults, **settings})
    shape: list[int | None] = [None] * ndim
    shape[bn.channel_axis] = bn.num_features
    layer.build(tuple(shape))
    for name, values in arrays.items():
        getattr(layer, name).assign(values)
    return layer


def dtype_policy(bn: NormLayer) -> str:
    """The name of Keras's policy with these dtypes of variables and results."""
    dtype, result = bn.dtype.name, bn.dtype.name if bn.result_dtype is None else bn.result_dtype.name
    if result == dtype:
        return dtype
    if dtype != "float32" or result not in ("float16", "bfloat16"):
        raise ValueError(f"Keras has no policy with variables of {dtype} and results of {result}; pass dtype= with one "
                         "of its own")
    return f"mixed_{result}"


def class_for(name: str) -> Any:
    """Keras's class for a layer of this name."""
    layers = import_framework("keras").layers
    if not hasattr(layers, CLASSES[name]):
        raise ValueError(f"this version of Keras has no {CLASSES[name]}; install a newer one")
    return getattr(layers, CLASSES[name])


def norm_from_keras(cls: type[NormLayer], layer: Any, **settings: Any) -> Any:
    """Make a layer from one of Keras: LayerNormalization, RMSNormalization or GroupNormalization, by the class that the
    method is called on.

    Parameters
    ----------
    layer : keras.layers.LayerNormalization, RMSNormalization or GroupNormalization
        A built layer of Keras 3, with any backend. `InstanceNorm` takes a GroupNormalization with a group for every
        channel.
    **settings
        Passed to the class: names, ... They take precedence over those of `layer`.

    Returns
    -------
    LayerNorm, RMSNorm, GroupNorm or InstanceNorm
        With copies of the arrays, in the dtype of `layer`. The compute dtype of mixed precision becomes `result_dtype`.
        In training mode, unless `layer` is frozen by ``trainable=False``.

    Raises
    ------
    ModuleNotFoundError
        If Keras is not installed.
    TypeError
        If `layer` is of another class.
    ValueError
        If `layer` is not built, normalizes other axes than the last ones, or has groups of several channels for
        `InstanceNorm`.

    Examples
    --------
    >>> import bnstream, keras
    >>> layer = keras.layers.LayerNormalization()
    >>> layer.build((None, 3))
    >>> norm = bnstream.LayerNorm.from_keras(layer)
    >>> norm.normalized_shape, norm.eps
    ((3,), 0.001)
    """
    require_type(layer, class_for(cls.__name__), f"a keras.layers.{CLASSES[cls.__name__]}")
    if not layer.built:
        raise ValueError(f"the layer {layer.name} has no arrays yet; call it on a batch, or layer.build(input_shape)")
    shape = layer.get_build_config()["input_shape"]
    compute_dtype, dtype = dtype_name(layer.compute_dtype), dtype_name(layer.variable_dtype)
    given: dict[str, Any] = {"eps": layer.epsilon, "dtype": dtype,
                             "result_dtype": None if compute_dtype == dtype else compute_dtype}
    found = {"weight": getattr(layer, "scale" if issubclass(cls, RMSNorm) else "gamma", None),
             "bias": getattr(layer, "beta", None)}
    state = {name: getattr(value, "value", value) for name, value in found.items() if value is not None}
    if issubclass(cls, ChannelNorm):
        n = shape[layer.axis]
        groups = n if layer.groups == -1 else layer.groups
        if issubclass(cls, InstanceNorm) and groups != n:
            raise ValueError(f"the layer has {groups} groups of {n} channels; use GroupNorm.from_keras")
        given |= {"num_features": n} if issubclass(cls, InstanceNorm) else {"num_groups": groups, "num_channels": n}
        given["channel_axis"] = layer.axis
    else:
        axes = [axis % len(shape) for axis in (layer.axis if isinstance(layer.axis, list | tuple) else [layer.axis])]
        if axes != [*range(len(shape) - len(axes), len(shape))]:
            raise ValueError(f"the layer normalizes the axes {axes} of {len(shape)}, a {cls.__name__} the last ones in "
                             "their order; transpose x")
        given["normalized_shape"] = tuple(shape[axis] for axis in axes)
    given[cls._affine] = bool(state)
    if "bias" in cls._settings:
        given |= {"scale": "weight" in state, "bias": "bias" in state}
    made = cls(**{**given, **settings})
    made.load_state_dict(state)
    return made.train(layer.trainable)


def norm_to_keras(norm: NormLayer, ndim: int = 4, **settings: Any) -> Any:
    """Convert to a layer of Keras: LayerNormalization, RMSNormalization or GroupNormalization.

    Parameters
    ----------
    ndim : int, default 4
        The number of dimensions of x, which Keras needs to build the layer.
    **settings
        Passed to Keras's class: name, ... They take precedence over those of this layer.

    Returns
    -------
    keras.layers.Layer
        A built layer, in the dtype of this one, with a mixed policy if `result_dtype` is another. `InstanceNorm`
        becomes a GroupNormalization with a group for every channel.

    Raises
    ------
    ModuleNotFoundError
        If Keras is not installed.
    ValueError
        If Keras has no such layer: x with `ndim` dimensions is too small, an `InstanceNorm` tracks running estimates,
        the eps of `RMSNorm` is None, or it has no gamma; or there is no policy of its dtypes.

    Notes
    -----
    `names` and the mode are not converted.

    Examples
    --------
    >>> import bnstream
    >>> bnstream.GroupNorm(2, 4, channel_axis=-1).to_keras().groups
    2
    """
    cls = class_for(type(norm).__name__)
    if norm.eps is None or (isinstance(norm, RMSNorm) and norm.gamma is None):
        raise ValueError("Keras's RMSNormalization has a number for eps, and a scale; set eps on a copy, or make the "
                         "layer with elementwise_affine=True")
    if isinstance(norm, InstanceNorm) and norm.track_running_stats:
        raise ValueError("Keras has no layer with running estimates of instances; a BatchNorm with these estimates "
                         "does this layer's inference")
    shape: list[int | None] = [None] * ndim
    options: dict[str, Any] = {"epsilon": norm.eps, "dtype": dtype_policy(norm)}
    if isinstance(norm, ChannelNorm):
        if ndim < 2 or not -ndim < norm.channel_axis < ndim:
            raise ValueError(f"x of ndim={ndim} dimensions has no channel axis {norm.channel_axis}")
        shape[norm.channel_axis] = norm._shape[0]
        options |= {"groups": norm.num_groups if isinstance(norm, GroupNorm) else norm._shape[0],
                    "axis": norm.channel_axis}
    else:
        n = len(norm._shape)
        if ndim < n:
            raise ValueError(f"x of ndim={ndim} dimensions is too small for a normalized_shape of {norm._shape}")
        shape[ndim - n:] = norm._shape
        options["axis"] = -1 if n == 1 else [*range(-n, 0)]
    if not isinstance(norm, RMSNorm):
        options |= {"center": norm.beta is not None, "scale": norm.gamma is not None}
    layer = cls(**{**options, **settings})
    layer.build(tuple(shape))
    for name, values in (("scale" if isinstance(norm, RMSNorm) else "gamma", norm.gamma), ("beta", norm.beta)):
        if values is not None:
            getattr(layer, name).assign(values)
    return layer
