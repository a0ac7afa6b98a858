"""Layers of PyTorch, Keras, Flax and ONNX: the work of `BatchNorm.from_torch`, `BatchNorm.to_torch` and their kin.

    framework   layer                             channels     in training unless        ddof of the running variance
    PyTorch     torch.nn.BatchNorm1d to 3d, Sync  axis 1       eval() was called         1
    Keras       keras.layers.BatchNormalization   layer.axis   trainable is False        0
    Flax        flax.nnx and flax.linen           layer.axis   use_running_average       0
    ONNX        a node BatchNormalization         axis 1       training_mode is 0        0

Names of arrays, ddof and the sense of momentum are in `conventions`; here is how a layer is opened and made. Each
framework is imported when one of its functions is called.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from typing import Any

from bnstream.core.batchnorm import BatchNorm
from bnstream.core.dtypes import bfloat16
from bnstream.exchange.conventions import LAYERS, Arrays, Convention, to_arrays

EXTRAS = {"torch": "torch", "keras": '"bnstream[keras]"', "flax": '"bnstream[flax]"', "onnx": '"bnstream[onnx]"'}


def framework(name: str) -> Any:
    try:
        return import_module(name)
    except ModuleNotFoundError as error:
        if error.name != name:          # its own trouble, such as a backend of Keras that is not there
            raise
        raise ModuleNotFoundError(f"{name} is not installed; install it with: pip install {EXTRAS[name]}", name=name
                                  ) from error


def require_kind(layer: Any, kinds: Any, expected: str) -> None:
    if not isinstance(layer, kinds):
        raise TypeError(f"expected {expected}, got {type(layer).__name__}")


def require_plain(bn: BatchNorm, name: str, channel_axis: int | None = None, renorm: bool = False) -> None:
    """That a framework can do what the layer does."""
    if channel_axis is not None and bn.channel_axis != channel_axis:
        raise ValueError(f"the channels are axis {channel_axis} in {name}, and axis {bn.channel_axis} in this layer; "
                         f"where x will have them there, set channel_axis = {channel_axis} on a copy")
    if bn.renorm and not renorm:
        raise ValueError(f"{name} has no such Batch Renormalization; set renorm = False on a copy, whose inference is "
                         "the same")


def dtype_of(dtype: Any) -> str:
    name = str(dtype).removeprefix("torch.")
    if name == "bfloat16":
        bfloat16("the layer")
    return name


def members(layer: Any, convention: Convention) -> dict[str, Any]:
    """What a layer has under the names of its convention."""
    names = LAYERS[convention]
    wanted = (names.gamma, names.beta, names.mean, names.var, names.eps, names.momentum, names.n_batches)
    found = {name: getattr(layer, name, None) for name in wanted if name is not None}
    return {name: value for name, value in found.items() if value is not None}


def opened(bn: BatchNorm, convention: Convention) -> tuple[Arrays, dict[str, Any]]:
    """The arrays of a layer, and its settings in the framework's sense, by the names of a convention."""
    arrays = to_arrays(bn, convention)
    return arrays, {name: float(arrays.pop(name)) for name in ("momentum", "epsilon") if name in arrays}


def told(variables: Mapping[str, Any]) -> str:
    """The names in a tree of variables, two levels of it."""
    return str({name: [*inner] if isinstance(inner, Mapping) else type(inner).__name__
                for name, inner in variables.items()})
