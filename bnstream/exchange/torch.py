"""Batch normalization layers of PyTorch: `BatchNorm.from_torch`, `BatchNorm.to_torch`."""

from __future__ import annotations

from typing import Any

from bnstream.core.batchnorm import BatchNorm
from bnstream.exchange.conventions import from_arrays, to_arrays
from bnstream.exchange.layers import attributes_of, dtype_name, import_framework, require_convertible, require_type


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
        If PyTorch has no such layer: `channel_axis` is not 1, `ndim` is not from 2 to 5, or `renorm` is True.

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
