"""Layers of PyTorch."""

from __future__ import annotations

from typing import Any

from bnstream.core.batchnorm import BatchNorm
from bnstream.exchange.conventions import from_arrays, to_arrays
from bnstream.exchange.layers import dtype_of, framework, members, require_kind, require_plain


def from_torch(layer: Any, **settings: Any) -> BatchNorm:
    """The same layer as one of PyTorch, in the same mode.

    Parameters
    ----------
    layer : torch.nn.BatchNorm1d, BatchNorm2d, BatchNorm3d or SyncBatchNorm
        Of any device, with running statistics.
    **settings
        For `BatchNorm`, before what the layer says: channel_axis, names, momentum, ...

    Returns
    -------
    BatchNorm
        In the layer's dtype, with copies of its arrays.

    Raises
    ------
    ModuleNotFoundError, TypeError, ValueError
        If PyTorch is missing, or `layer` is something else, or has no running statistics.

    Notes
    -----
    With ``momentum=None`` PyTorch averages the means and variances of batches, and here they are of all values
    together: such averages serve inference; the next batch in training starts anew, the count of batches, too.

    Examples
    --------
    >>> import bnstream, torch
    >>> bn = bnstream.BatchNorm.from_torch(torch.nn.BatchNorm2d(3, momentum=0.2).eval())
    >>> bn.momentum, bn.training
    (0.2, False)
    """
    nn = framework("torch").nn
    kinds = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm)
    require_kind(layer, kinds, "a torch.nn.BatchNorm1d, BatchNorm2d, BatchNorm3d or SyncBatchNorm")
    if layer.running_mean is None:
        raise ValueError("the layer has no running statistics, as of track_running_stats=False: PyTorch normalizes by "
                         "the batch in eval mode, too; a BatchNorm in training mode, with its gamma and beta, does so")
    dtype = (layer.running_mean if layer.weight is None else layer.weight).dtype
    given = {"eps": layer.eps, "momentum": layer.momentum, "dtype": dtype_of(dtype)}
    return from_arrays(members(layer, "pytorch"), "pytorch", **{**given, **settings}).train(layer.training)


def to_torch(bn: BatchNorm, ndim: int = 4) -> Any:
    """The same layer for PyTorch, in the same mode.

    Parameters
    ----------
    ndim : int, default 4
        The dimensions of x, which say which layer: 2 or 3 BatchNorm1d, 4 BatchNorm2d, 5 BatchNorm3d.

    Returns
    -------
    torch.nn.Module
        In the dtype of this layer, running statistics, too, which are float64 here.

    Raises
    ------
    ModuleNotFoundError, ValueError
        If PyTorch is missing or has no such layer: another `channel_axis` than 1, or `renorm`.

    Notes
    -----
    `nan_policy`, `names` and the pooled statistics stay behind. PyTorch's variance has ddof 1: exactly so where it
    was made from pooled statistics, else it goes on from what it is.

    Examples
    --------
    >>> import bnstream, torch
    >>> bnstream.BatchNorm(3).to_torch(ndim=2)(torch.zeros(2, 3)).shape
    torch.Size([2, 3])
    """
    torch = framework("torch")
    require_plain(bn, "PyTorch", channel_axis=1)
    kinds = {2: torch.nn.BatchNorm1d, 3: torch.nn.BatchNorm1d, 4: torch.nn.BatchNorm2d, 5: torch.nn.BatchNorm3d}
    if ndim not in kinds:
        raise ValueError(f"PyTorch's layers take x of 2 to 5 dimensions, got ndim={ndim}")
    layer = kinds[ndim](bn.num_features, bn.eps, bn.momentum, bn.affine, dtype=getattr(torch, bn.dtype.name))
    layer.load_state_dict({name: torch.from_numpy(values) for name, values in to_arrays(bn, "pytorch").items()})
    return layer.train(bn.training)
