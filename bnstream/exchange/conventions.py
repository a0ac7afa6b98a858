"""States as the arrays of other tools, and back: `to_arrays`, `from_arrays`.

    Moments    -> moments_to_layer   -+
    BatchNorm <-> batchnorm_to_layer -+-> arrays under the names of PyTorch, Keras, Flax or ONNX
               <- from_layer         -+
    Moments   <-> to_scaler, from_scaler: arrays under the names of scikit-learn
    Moments   <-> to_lerobot, from_lerobot: statistics of the features of a data set of LeRobot
    state     <-> to_processor, from_processor: those of an image processor of transformers

Names, ddof and defaults of each tool are in `names`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, DTypeLike

from bnstream.core.batchnorm import BatchNorm
from bnstream.core.dtypes import NamedArrays, floating
from bnstream.core.groups.grouped import advice_on
from bnstream.core.moments import Moments
from bnstream.exchange import imageprocessors, scaler
from bnstream.exchange.arrays import select, without
from bnstream.exchange.batchnorm import batchnorm_to_layer, from_layer, moments_to_layer
from bnstream.exchange.lerobot import LACKS, from_lerobot, to_lerobot
from bnstream.exchange.names import Convention, layer_names


def to_arrays(state: Moments | BatchNorm, convention: Convention, *, dtype: DTypeLike | None = None) -> NamedArrays:
    """Convert a state to the arrays of another tool, under the names that it uses.

    Parameters
    ----------
    state : Moments or BatchNorm
        Its channels must lie along one axis. Moments become a layer with gamma 1 and beta 0, whose running estimates
        are these statistics and whose number of batches is 1; eps and momentum are omitted.
    convention : {"pytorch", "keras", "flax", "onnx", "scikit-learn", "lerobot", "transformers"}
        The tool.
    dtype : dtype, optional
        The dtype of all floating arrays except the settings. By default gamma and beta keep theirs, bfloat16 becomes
        float32, and the statistics are float64. ONNX Runtime needs one dtype for all.

    Returns
    -------
    dict of str to ndarray
        Copies, of shape (channels,). Settings and counts have shape ().

    Raises
    ------
    TypeError
        If `state` is neither, or `dtype` is not floating.
    ValueError
        If the statistics are empty or have too few values for the variance, if the channels lie along several axes,
        or if a layer without pooled statistics is converted to scikit-learn's or LeRobot's arrays; if the channels are
        not those of whole features for LeRobot, whose min and max must be tracked, or not of images from 0 to 1 for
        transformers.

    See Also
    --------
    from_arrays : the inverse.

    Notes
    -----
    PyTorch stores the variance with ddof 1, the other tools with ddof 0, LeRobot and transformers its root. Where the
    number of values is known (that of Moments, and of a layer whose running estimates are its pooled statistics) the
    variance has exactly the ddof of the convention. The variance of other running estimates is copied. A
    StandardScaler gets the pooled statistics of a layer, not its running estimates; ``scale_`` is 1 where the variance
    is 0, and so is image_std. LeRobot's arrays are named "feature/mean" and so on, and "feature[0]", "feature[1]" are
    the channels of one feature.

    Examples
    --------
    >>> import numpy as np, bnstream
    >>> from bnstream.exchange import to_arrays
    >>> m = bnstream.Moments().update(np.array([[1.0], [3.0]]))
    >>> {name: values.tolist() for name, values in to_arrays(m, "keras").items()}
    {'gamma': [1.0], 'beta': [0.0], 'moving_mean': [2.0], 'moving_variance': [1.0]}
    >>> to_arrays(m, "pytorch")["running_var"].tolist()
    [2.0]
    """
    if not isinstance(state, Moments | BatchNorm):
        raise TypeError(f"expected a Moments or a BatchNorm, got {type(state).__name__}{advice_on(state)}")
    if dtype is not None:
        dtype = floating(dtype)
    if convention == "scikit-learn":
        arrays = scaler.to_scaler(state)
    elif convention == "lerobot":
        arrays = to_lerobot(state)
    elif convention == "transformers":
        arrays = imageprocessors.to_processor(state)
    elif isinstance(state, Moments):
        arrays = moments_to_layer(state, layer_names(convention))
    else:
        arrays = batchnorm_to_layer(state, layer_names(convention))
    for name, values in arrays.items():
        if values.dtype.name == "bfloat16" or (values.dtype.kind == "f" and values.ndim and dtype is not None):
            arrays[name] = values.astype(np.float32 if dtype is None else dtype)
    return arrays


def from_arrays(
    arrays: Mapping[str, ArrayLike], convention: Convention, *, prefix: str | None = None, **settings: Any
) -> Any:
    """Make a state from the arrays of another tool.

    Parameters
    ----------
    arrays : mapping of str to array_like
        The arrays, under the names that the tool uses. Those of one layer may share a prefix and be among others, as
        in the state_dict of a network in PyTorch. Tensors are accepted. Those of LeRobot may also be mappings by
        feature, as in ``dataset.meta.stats``.
    convention : {"pytorch", "keras", "flax", "onnx", "scikit-learn", "lerobot", "transformers"}
        The tool.
    prefix : str, optional
        The prefix of the layer's names, such as "bn1." in "bn1.weight". Required if there are several layers.
    **settings
        Passed to `BatchNorm`: eps, momentum (in the sense of bnstream), channel_axis, names, ... They take precedence
        over the arrays.

    Returns
    -------
    BatchNorm or Moments
        Moments for scikit-learn and LeRobot, a layer in inference for transformers, otherwise a layer in training mode.
        eps and momentum default to those of the tool, num_batches_tracked to 1.

    Raises
    ------
    ValueError
        If arrays are missing or unexpected, if their shapes differ, or if a value is out of range.

    See Also
    --------
    to_arrays : the inverse.

    Examples
    --------
    >>> from bnstream.exchange import from_arrays
    >>> bn = from_arrays({"gamma": [2.0], "beta": [0.0], "moving_mean": [5.0], "moving_variance": [4.0],
    ...                   "momentum": 0.9, "epsilon": 0.0}, "keras")
    >>> bn.momentum, bn.eval()([[7.0]]).tolist()
    (0.1, [[2.0]])
    """
    return import_arrays(arrays, convention, prefix=prefix, **settings)[0]


def import_arrays(
    arrays: Mapping[str, ArrayLike], convention: Convention, *, prefix: str | None = None, **settings: Any
) -> tuple[Any, list[str]]:
    """Make a state from the arrays of another tool, and list what is missing from them.

    Parameters
    ----------
    arrays, convention, prefix, **settings
        As for `from_arrays`.

    Returns
    -------
    state : BatchNorm or Moments
    lacks : list of str
        What is unknown or a default of the tool: "n", "eps", "momentum", ...; for `save`.

    Raises
    ------
    ValueError
        As `from_arrays`.

    Examples
    --------
    >>> from bnstream.exchange.conventions import import_arrays
    >>> import_arrays({"running_mean": [5.0], "running_var": [4.0]}, "pytorch")[1]
    ['n', 'num_batches_tracked', 'eps', 'momentum']
    """
    if convention in ("scikit-learn", "lerobot") and settings:
        tool = "LeRobot" if convention == "lerobot" else convention
        raise ValueError(f"{tool}'s arrays become Moments, which have no {', '.join(settings)}; leave out these "
                         "settings")
    if convention == "lerobot":
        return from_lerobot([without(arrays, prefix or "")]), [*LACKS]
    if convention == "transformers":
        return imageprocessors.from_processor(select(arrays, imageprocessors.REQUIRED, (), prefix), settings)
    if convention == "scikit-learn":
        selected = select(arrays, scaler.REQUIRED, scaler.OPTIONAL, prefix)
        return scaler.from_scaler(selected), ["mean_lo", "m2_lo"]
    names = layer_names(convention)
    required = (names.mean, names.var, *((names.gamma, names.beta) if names.needs_affine else ()))
    others = (names.gamma, names.beta, names.eps, names.momentum, names.n_batches)
    optional = [name for name in others if name and name not in required]
    return from_layer(select(arrays, required, optional, prefix), names, settings)
