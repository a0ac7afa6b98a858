"""Batch normalization layers of Keras: `BatchNorm.from_keras`, `BatchNorm.to_keras`."""

from __future__ import annotations

from typing import Any

from bnstream.core.batchnorm import BatchNorm
from bnstream.exchange.conventions import from_arrays
from bnstream.exchange.layers import (
    arrays_and_settings,
    attributes_of,
    dtype_name,
    import_framework,
    require_convertible,
    require_type,
)


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
        If Keras has no such layer: `renorm` is True, x with `ndim` dimensions has no axis `channel_axis`, or there is
        no policy of its `dtype` and `result_dtype`.

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


def dtype_policy(bn: BatchNorm) -> str:
    """The name of Keras's policy with these dtypes of variables and results."""
    dtype, result = bn.dtype.name, bn.dtype.name if bn.result_dtype is None else bn.result_dtype.name
    if result == dtype:
        return dtype
    if dtype != "float32" or result not in ("float16", "bfloat16"):
        raise ValueError(f"Keras has no policy with variables of {dtype} and results of {result}; pass dtype= with one "
                         "of its own")
    return f"mixed_{result}"
