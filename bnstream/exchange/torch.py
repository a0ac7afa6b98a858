"""Normalization layers of PyTorch: `from_torch` and `to_torch` of `BatchNorm` and of the other layers."""

from __future__ import annotations

from typing import Any

from bnstream.core.batchnorm import BatchNorm
from bnstream.core.channelnorms import InstanceNorm
from bnstream.core.layer import NormLayer
from bnstream.exchange.conventions import from_arrays, to_arrays
from bnstream.exchange.layers import (
    attributes_of,
    dtype_name,
    import_framework,
    require_channel_axis,
    require_convertible,
    require_type,
)


def from_torch(layer: Any, **settings: Any) -> BatchNorm:
    """Make a layer from one of PyTorch, in the same mode.

    Parameters
    ----------
    layer : torch.nn.BatchNorm1d, BatchNorm2d, BatchNorm3d or SyncBatchNorm
        On any device, with running statistics.
    **settings
        Passed to `BatchNorm`: channel_axis, names, momentum, ... They take precedence over those of `layer`.

    Returns
    -------
    BatchNorm
        With copies of the arrays, in the dtype of `layer`.

    Raises
    ------
    ModuleNotFoundError
        If PyTorch is not installed.
    TypeError
        If `layer` is not one of these layers.
    ValueError
        If `layer` has no running statistics.

    See Also
    --------
    BatchNorm.to_torch : the inverse.

    Notes
    -----
    With ``momentum=None`` PyTorch averages the means and variances of batches, while `BatchNorm` pools all values.
    The imported averages serve inference only: the next batch in training replaces them, and restarts the number of
    batches.

    Examples
    --------
    >>> import bnstream, torch
    >>> bn = bnstream.BatchNorm.from_torch(torch.nn.BatchNorm2d(3, momentum=0.2).eval())
    >>> bn.momentum, bn.training
    (0.2, False)
    """
    nn = import_framework("torch").nn
    types = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm)
    require_type(layer, types, "a torch.nn.BatchNorm1d, BatchNorm2d, BatchNorm3d or SyncBatchNorm")
    if layer.running_mean is None:
        raise ValueError("the layer has no running statistics (track_running_stats=False), so that PyTorch normalizes "
                         "by those of the batch in eval mode as well; for the same results make a BatchNorm with its "
                         "gamma and beta, and keep it in training mode")
    arrays = attributes_of(layer, "pytorch")
    dtype = next(arrays[name].dtype for name in ("weight", "bias", "running_mean") if name in arrays)
    defaults = {"eps": layer.eps, "momentum": layer.momentum, "dtype": dtype_name(dtype)}
    return from_arrays(arrays, "pytorch", **{**defaults, **settings}).train(layer.training)


def to_torch(bn: BatchNorm, ndim: int = 4) -> Any:
    """Convert to a layer of PyTorch, in the same mode.

    Parameters
    ----------
    ndim : int, default 4
        The number of dimensions of x: 2 and 3 give a BatchNorm1d, 4 a BatchNorm2d, 5 a BatchNorm3d.

    Returns
    -------
    torch.nn.Module
        All its arrays have the dtype of this layer. The running estimates, float64 here, are rounded to it. A layer
        without gamma has the weight None, one without beta the bias None.

    Raises
    ------
    ModuleNotFoundError
        If PyTorch is not installed.
    ValueError
        If PyTorch has no such layer: `channel_axis` is not 1, `ndim` is not from 2 to 5, or the
        layer has `renorm` or `virtual_batch`.

    See Also
    --------
    BatchNorm.from_torch : the inverse.

    Notes
    -----
    `nan_policy`, `names`, `result_dtype` and the pooled statistics are not converted. The running variance has ddof 1
    if it can be computed from pooled statistics; otherwise it is copied.

    Examples
    --------
    >>> import bnstream, torch
    >>> bnstream.BatchNorm(3).to_torch(ndim=2)(torch.zeros(2, 3)).shape
    torch.Size([2, 3])
    """
    torch = import_framework("torch")
    require_convertible(bn, "PyTorch", channel_axis=1)
    types = {2: torch.nn.BatchNorm1d, 3: torch.nn.BatchNorm1d, 4: torch.nn.BatchNorm2d, 5: torch.nn.BatchNorm3d}
    if ndim not in types:
        raise ValueError(f"PyTorch's layers take x of 2 to 5 dimensions, got ndim={ndim}")
    layer = types[ndim](bn.num_features, bn.eps, bn.momentum, bn.affine, dtype=getattr(torch, bn.dtype.name))
    for name, values in (("weight", bn.gamma), ("bias", bn.beta)):
        if values is None:          # as bias=False does, which PyTorch has from 2.13 on; it has no option for the other
            setattr(layer, name, None)
    layer.load_state_dict({name: torch.from_numpy(values) for name, values in to_arrays(bn, "pytorch").items()})
    return layer.train(bn.training)


def norm_from_torch(cls: type[NormLayer], layer: Any, **settings: Any) -> Any:
    """Make a layer from one of PyTorch of the same name, in the same mode.

    Parameters
    ----------
    layer : torch.nn.LayerNorm, RMSNorm, GroupNorm or InstanceNorm1d, InstanceNorm2d, InstanceNorm3d
        On any device.
    **settings
        Passed to the class: names, result_dtype, channel_axis, ... They take precedence over those of `layer`.

    Returns
    -------
    LayerNorm, RMSNorm, GroupNorm or InstanceNorm
        Of the class that the method is called on, with copies of the arrays, in the dtype of `layer`.

    Raises
    ------
    ModuleNotFoundError
        If PyTorch is not installed.
    TypeError
        If `layer` is of another class.

    Notes
    -----
    Running estimates of ``momentum=None`` serve inference only: PyTorch averages over batches, `InstanceNorm` over
    instances, and the next batch in training replaces them.

    Examples
    --------
    >>> import bnstream, torch
    >>> bnstream.LayerNorm.from_torch(torch.nn.LayerNorm(3, eps=1e-6)).eps
    1e-06
    """
    nn, name = import_framework("torch").nn, cls.__name__
    names = [f"InstanceNorm{n}d" for n in (1, 2, 3)] if issubclass(cls, InstanceNorm) else [name]
    require_type(layer, tuple(getattr(nn, each) for each in names), f"a torch.nn.{', '.join(names)}")
    arrays = layer.state_dict()
    given = same_settings(layer)
    if "normalized_shape" in given:
        given["normalized_shape"] = tuple(given["normalized_shape"])
    if "elementwise_affine" in cls._settings:
        given["elementwise_affine"] = "weight" in arrays
    else:
        given |= {cls._affine: bool({"weight", "bias"} & arrays.keys()), "scale": "weight" in arrays,
                  "bias": "bias" in arrays}
    dtype = next((values.dtype for values in arrays.values() if values.is_floating_point()), None)
    if dtype is not None:
        given["dtype"] = dtype_name(dtype)
    made = cls(**{**given, **settings})
    made.load_state_dict(arrays)
    return made.train(layer.training)


def norm_to_torch(norm: NormLayer, ndim: int = 4) -> Any:
    """Convert to a layer of PyTorch of the same name, in the same mode.

    Parameters
    ----------
    ndim : int, default 4
        The number of dimensions of x, which matters to `InstanceNorm` alone: 3 gives an InstanceNorm1d, 4 an
        InstanceNorm2d, 5 an InstanceNorm3d.

    Returns
    -------
    torch.nn.Module
        All its arrays have the dtype of this layer. A layer without gamma has the weight None, one without beta the
        bias None.

    Raises
    ------
    ModuleNotFoundError
        If PyTorch is not installed.
    ValueError
        If PyTorch has no such layer: `channel_axis` is not 1, or `ndim` is not from 3 to 5 for `InstanceNorm`.

    Notes
    -----
    `names`, `result_dtype` and the averages of ``momentum=None`` are not converted.

    Examples
    --------
    >>> import bnstream, torch
    >>> bnstream.GroupNorm(2, 4).to_torch()(torch.zeros(2, 4, 3)).shape
    torch.Size([2, 4, 3])
    """
    torch = import_framework("torch")
    require_channel_axis(norm, "PyTorch")
    options = same_settings(norm)
    name = type(norm).__name__
    if isinstance(norm, InstanceNorm):
        if ndim not in (3, 4, 5):
            raise ValueError(f"PyTorch's InstanceNorm layers take x of 3 to 5 dimensions, got ndim={ndim}")
        name = f"InstanceNorm{ndim - 2}d"
    layer = getattr(torch.nn, name)(**options, **{norm._affine: norm.affine}, dtype=getattr(torch, norm.dtype.name))
    state = norm.state_dict()
    for each in ("weight", "bias"):
        if each not in state and hasattr(layer, each):
            setattr(layer, each, None)
    layer.load_state_dict({each: tensor_of(torch, values) for each, values in state.items()})
    return layer.train(norm.training)


def same_settings(layer: Any) -> dict[str, Any]:
    """The settings that PyTorch's layer and ours both have, under one name."""
    names = ("normalized_shape", "num_groups", "num_channels", "num_features", "eps", "momentum", "track_running_stats")
    return {name: getattr(layer, name) for name in names if hasattr(layer, name)}


def tensor_of(torch: Any, values: Any) -> Any:
    """An array as a tensor; bfloat16 of NumPy by its bits."""
    if values.dtype.name == "bfloat16":
        return torch.from_numpy(values.view("int16")).view(torch.bfloat16)
    return torch.from_numpy(values)
