"""What the bridges to PyTorch, Keras, Flax and ONNX share: importing a framework, checking a layer, reading its arrays.

    framework   layer                             channels     inference mode if          ddof of the running variance
    PyTorch     torch.nn.BatchNorm1d to 3d, Sync  axis 1       eval() was called          1
    Keras       keras.layers.BatchNormalization   layer.axis   trainable is False         0
    Flax        flax.nnx and flax.linen           layer.axis   use_running_average        0
    ONNX        a BatchNormalization node         axis 1       training_mode is 0         0

Each framework is imported when one of its functions is called.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

from bnstream.core.batchnorm import BatchNorm
from bnstream.core.channelnorms import ChannelNorm
from bnstream.core.dtypes import NamedArrays
from bnstream.core.layer import NormLayer
from bnstream.core.optional import needing
from bnstream.exchange.conventions import to_arrays
from bnstream.exchange.names import LAYERS, Convention

REQUIREMENTS = {"torch": "torch", "keras": '"bnstream[keras]"', "flax": '"bnstream[flax]"', "onnx": '"bnstream[onnx]"'}


def import_framework(name: str) -> Any:
    # A dependency of the framework may be missing as well, such as a backend of Keras.
    with needing("the conversion", REQUIREMENTS[name], package=name):
        return import_module(name)


def require_type(layer: Any, types: Any, expected: str) -> None:
    if not isinstance(layer, types):
        raise TypeError(f"expected {expected}, got {type(layer).__name__}")


def require_convertible(
    bn: BatchNorm, framework: str, channel_axis: int | None = None, inference: bool = False
) -> None:
    """Raise ValueError unless the framework has a layer for `bn`.

    `channel_axis` is the only axis of channels that it supports. With `inference` its layer only infers, where
    Batch Renormalization and virtual batches make no difference.
    """
    if channel_axis is not None and bn.channel_axis != channel_axis:
        raise ValueError(f"{framework} has the channels along axis {channel_axis}, this layer along axis "
                         f"{bn.channel_axis}; if x will have them along axis {channel_axis}, set channel_axis = "
                         f"{channel_axis} on a copy")
    for name, plain in (("renorm", False), ("virtual_batch", None)):
        if getattr(bn, name) != plain and not inference:
            raise ValueError(f"{framework} has no equivalent of {name}={getattr(bn, name)}; set {name} = {plain} on a "
                             "copy, which gives the same results in inference")


def dtype_name(dtype: Any) -> str:
    """The name of a framework's dtype."""
    return str(dtype).removeprefix("torch.")


def attributes_of(layer: Any, convention: Convention) -> dict[str, Any]:
    """The arrays and settings that are attributes of a framework's layer, by name, except those that are None."""
    names = LAYERS[convention]
    wanted = (names.gamma, names.beta, names.mean, names.var, names.eps, names.momentum, names.n_batches)
    found = {name: getattr(layer, name, None) for name in wanted if name is not None}
    return {name: value for name, value in found.items() if value is not None}


def arrays_and_settings(bn: BatchNorm, convention: Convention) -> tuple[NamedArrays, dict[str, float]]:
    """The arrays of `bn` and its settings, both under the names of a convention and in its sense."""
    arrays = to_arrays(bn, convention)
    return arrays, {name: float(arrays.pop(name)) for name in ("momentum", "epsilon") if name in arrays}


def require_channel_axis(norm: NormLayer, framework: str) -> None:
    """Raise ValueError unless the channels lie along axis 1, where a framework has them."""
    if isinstance(norm, ChannelNorm) and norm.channel_axis != 1:
        raise ValueError(f"{framework} has the channels along axis 1, this layer along axis {norm.channel_axis}; if x "
                         "will have them along axis 1, set channel_axis = 1 on a copy")
