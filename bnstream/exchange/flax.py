"""Layers of Flax: NNX and Linen."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from typing import Any

from bnstream.core.batchnorm import BatchNorm
from bnstream.exchange.conventions import from_arrays
from bnstream.exchange.layers import framework, members, opened, require_kind, require_plain, told


def from_flax(layer: Any, variables: Mapping[str, Any] | None = None, **settings: Any) -> BatchNorm:
    """The same layer as one of Flax, in the same mode.

    Parameters
    ----------
    layer : flax.nnx.BatchNorm or flax.linen.BatchNorm
        Of NNX it holds its arrays. Of Linen it holds the settings alone.
    variables : mapping, optional
        Of this one layer, for Linen: ``{"params": ..., "batch_stats": ...}``. A bound module has them.
    **settings
        For `BatchNorm`, before what the layer says: names, nan_policy, ...

    Returns
    -------
    BatchNorm
        In the dtype of the layer's parameters, with copies of its arrays and its axis; in inference mode where
        ``use_running_average=True``.

    Raises
    ------
    ModuleNotFoundError, TypeError, ValueError
        If Flax is missing, or `layer` is something else, or `variables` are missing or those of a network.

    Examples
    --------
    >>> import bnstream
    >>> from flax import nnx
    >>> bn = bnstream.BatchNorm.from_flax(nnx.BatchNorm(3, momentum=0.9, rngs=nnx.Rngs(0)))
    >>> bn.momentum, bn.eps, bn.channel_axis, bn.running_ddof
    (0.1, 1e-05, -1, 0)
    """
    linen, nnx = framework("flax").linen, import_module("flax.nnx")
    require_kind(layer, (linen.BatchNorm, nnx.BatchNorm), "a flax.nnx.BatchNorm or a flax.linen.BatchNorm")
    used = {"scale": layer.use_scale, "bias": layer.use_bias}      # what is not used is a Param of None in Flax 0.10
    arrays = {name: values for name, values in members(layer, "flax").items() if used.get(name, True)}
    if isinstance(layer, linen.BatchNorm):
        if variables is None and layer.scope is None:
            raise ValueError("a flax.linen.BatchNorm has no arrays of its own; pass its variables, as of layer.init")
        variables = layer.variables if variables is None else variables
        if "batch_stats" not in variables or "mean" not in variables["batch_stats"]:
            raise ValueError("expected the variables of this layer alone, {'params': {'scale', 'bias'}, 'batch_stats': "
                             f"{{'mean', 'var'}}}}, got {told(variables)}; of a network take those under its name")
        arrays |= {**variables.get("params", {}), **variables["batch_stats"]}
    given = {"channel_axis": layer.axis}
    return from_arrays(arrays, "flax", **{**given, **settings}).train(not layer.use_running_average)


def to_flax(bn: BatchNorm, **settings: Any) -> Any:
    """A `flax.nnx.BatchNorm` with the same parameters and estimates, in the same mode.

    Parameters
    ----------
    **settings
        Passed to Flax's layer; they take precedence over this layer's settings: dtype, axis_name,
        use_running_average, ...

    Returns
    -------
    flax.nnx.BatchNorm
        Its parameters have the dtype of this layer. Its running statistics are float32, as always in Flax; here they
        are float64.

    Raises
    ------
    ModuleNotFoundError
        If Flax is not installed.
    ValueError
        If Flax has no such layer: `renorm`.

    See Also
    --------
    BatchNorm.to_linen : a layer of Linen.

    Notes
    -----
    `nan_policy`, `names`, the number of batches and the pooled statistics are not converted; ``momentum=None`` becomes
    Flax's default, 0.99. The variance has ddof 0 if it can be computed from pooled statistics; otherwise it is copied.
    JAX has float64 only under jax_enable_x64.

    Examples
    --------
    >>> import bnstream
    >>> bnstream.BatchNorm(3, momentum=0.2, channel_axis=-1).to_flax().momentum
    0.8
    """
    given, params, stats = parts(bn)
    nnx = import_module("flax.nnx")
    given |= {"use_running_average": not bn.training, "rngs": nnx.Rngs(0)}
    layer = nnx.BatchNorm(bn.num_features, **{**given, **settings})
    for name, values in (stats | params).items():
        setattr(layer, name, type(getattr(layer, name))(values))
    return layer


def to_linen(bn: BatchNorm, **settings: Any) -> tuple[Any, dict[str, Any]]:
    """A `flax.linen.BatchNorm` and its variables, with the same parameters and estimates.

    Parameters
    ----------
    **settings
        Passed to Flax's layer; they take precedence over this layer's settings: dtype, axis_name, ...

    Returns
    -------
    layer : flax.linen.BatchNorm
        Linen takes the mode, ``use_running_average``, with each call.
    variables : dict
        ``{"params": {"scale", "bias"}, "batch_stats": {"mean", "var"}}``, in the dtypes that `to_flax` gives.

    Raises
    ------
    ModuleNotFoundError, ValueError
        As `to_flax`.

    See Also
    --------
    BatchNorm.to_flax : a layer of NNX, and what is not converted.

    Examples
    --------
    >>> import numpy as np, bnstream
    >>> layer, variables = bnstream.BatchNorm(3, channel_axis=-1).to_linen()
    >>> layer.apply(variables, np.ones((2, 3)), use_running_average=True).shape
    (2, 3)
    """
    given, params, stats = parts(bn)
    layer = framework("flax").linen.BatchNorm(**{**given, **settings})
    return layer, {"params": params, "batch_stats": stats}


def parts(bn: BatchNorm) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
    """The settings, parameters and statistics of Flax's layer."""
    framework("flax")
    jnp = import_module("jax.numpy")
    require_plain(bn, "Flax")
    arrays, given = opened(bn, "flax")
    given |= {"axis": bn.channel_axis, "use_bias": bn.affine, "use_scale": bn.affine, "param_dtype": bn.dtype}
    params = {name: jnp.asarray(arrays[name], bn.dtype) for name in ("scale", "bias") if bn.affine}
    stats = {name: jnp.asarray(arrays[name], jnp.float32) for name in ("mean", "var")}      # always float32 in Flax
    return given, params, stats
