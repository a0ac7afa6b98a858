"""Layers of Keras."""

from __future__ import annotations

from typing import Any

from bnstream.core.batchnorm import BatchNorm
from bnstream.exchange.conventions import from_arrays
from bnstream.exchange.layers import dtype_of, framework, members, opened, require_kind, require_plain


def from_keras(layer: Any, **settings: Any) -> BatchNorm:
    """The same layer as one of Keras.

    Parameters
    ----------
    layer : keras.layers.BatchNormalization
        Of Keras 3, with any backend; built.
    **settings
        For `BatchNorm`, before what the layer says: names, nan_policy, ...

    Returns
    -------
    BatchNorm
        In the layer's dtype, with copies of its arrays and its axis; in training mode, as Keras takes the mode with
        each call, but in inference mode if the layer is frozen by ``trainable=False``.

    Raises
    ------
    ModuleNotFoundError, TypeError, ValueError
        If Keras is missing, or `layer` is something else, or not built, or has ``renorm=True``.

    Examples
    --------
    >>> import bnstream, keras
    >>> layer = keras.layers.BatchNormalization(momentum=0.9)
    >>> layer.build((None, 3))
    >>> bn = bnstream.BatchNorm.from_keras(layer)
    >>> bn.momentum, bn.eps, bn.channel_axis, bn.running_ddof
    (0.1, 0.001, -1, 0)
    """
    require_kind(layer, framework("keras").layers.BatchNormalization, "a keras.layers.BatchNormalization")
    if not layer.built:
        raise ValueError(f"the layer {layer.name} has no arrays yet; call it on a batch, or layer.build(input_shape)")
    if getattr(layer, "renorm", False) and "renorm" not in settings:
        raise ValueError("the layer has renorm=True, and estimates for it that BatchNorm does not have; pass "
                         "renorm=False for plain batch normalization, or renorm=True to renormalize by the moving ones")
    # A variable's value is an array of the backend.
    arrays = {name: getattr(value, "value", value) for name, value in members(layer, "keras").items()}
    given = {"channel_axis": layer.axis, "dtype": dtype_of(layer.variable_dtype)}
    return from_arrays(arrays, "keras", **{**given, **settings}).train(layer.trainable)


def to_keras(bn: BatchNorm, ndim: int = 4, **settings: Any) -> Any:
    """The same layer for Keras.

    Parameters
    ----------
    ndim : int, default 4
        The dimensions of x, by which Keras builds a layer.
    **settings
        For `keras.layers.BatchNormalization`, before what this layer says: name, synchronized, ...

    Returns
    -------
    keras.layers.BatchNormalization
        Built, in the dtype of this layer, running statistics, too, which are float64 here.

    Raises
    ------
    ModuleNotFoundError, ValueError
        If Keras is missing, or its layer cannot do this: `renorm`, or no axis `channel_axis` in `ndim` dimensions.

    Notes
    -----
    `nan_policy`, `names`, the mode, the count of batches and the pooled statistics stay behind; ``momentum=None``
    becomes Keras's default, 0.99. Keras's variance has ddof 0: exactly so where it was made from pooled statistics,
    else it goes on from what it is.

    Examples
    --------
    >>> import bnstream
    >>> bnstream.BatchNorm(3, channel_axis=-1).to_keras(ndim=2, name="normalize").momentum
    0.9
    """
    keras = framework("keras")
    require_plain(bn, "Keras")
    if not -ndim <= bn.channel_axis < ndim:
        raise ValueError(f"x of ndim={ndim} dimensions has no channel axis {bn.channel_axis}")
    arrays, given = opened(bn, "keras")
    given |= {"axis": bn.channel_axis, "center": bn.affine, "scale": bn.affine, "dtype": bn.dtype.name}
    layer = keras.layers.BatchNormalization(**{**given, **settings})
    shape: list[int | None] = [None] * ndim
    shape[bn.channel_axis] = bn.num_features
    layer.build(tuple(shape))
    for name, values in arrays.items():
        getattr(layer, name).assign(values)
    return layer
