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

import os
from collections.abc import Mapping
from importlib import import_module
from typing import Any

import numpy as np

from bnstream._dlpack import bfloat16
from bnstream.batchnorm import BatchNorm
from bnstream.conventions import LAYERS, Arrays, Convention, from_arrays, to_arrays

EXTRAS = {"torch": "torch", "keras": '"bnstream[keras]"', "flax": '"bnstream[flax]"', "onnx": '"bnstream[onnx]"'}
ONNX_OPSET, ONNX_IR = 15, 8         # the operator's latest, and the oldest format that has it: all readers know it


def from_torch(layer: Any, settings: dict[str, Any]) -> BatchNorm:
    nn = framework("torch").nn
    kinds = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm)
    require_kind(layer, kinds, "a torch.nn.BatchNorm1d, BatchNorm2d, BatchNorm3d or SyncBatchNorm")
    if layer.running_mean is None:
        raise ValueError("the layer has no running statistics, as of track_running_stats=False: PyTorch normalizes by "
                         "the batch in eval mode, too; a BatchNorm in training mode, with its gamma and beta, does so")
    dtype = (layer.running_mean if layer.weight is None else layer.weight).dtype
    given = {"eps": layer.eps, "momentum": layer.momentum, "dtype": dtype_of(dtype)}
    return from_arrays(members(layer, "pytorch"), "pytorch", **{**given, **settings}).train(layer.training)


def to_torch(bn: BatchNorm, ndim: int) -> Any:
    torch = framework("torch")
    require_plain(bn, "PyTorch", channel_axis=1)
    kinds = {2: torch.nn.BatchNorm1d, 3: torch.nn.BatchNorm1d, 4: torch.nn.BatchNorm2d, 5: torch.nn.BatchNorm3d}
    if ndim not in kinds:
        raise ValueError(f"PyTorch's layers take x of 2 to 5 dimensions, got ndim={ndim}")
    layer = kinds[ndim](bn.num_features, bn.eps, bn.momentum, bn.affine, dtype=getattr(torch, bn.dtype.name))
    layer.load_state_dict({name: torch.from_numpy(values) for name, values in to_arrays(bn, "pytorch").items()})
    return layer.train(bn.training)


def from_keras(layer: Any, settings: dict[str, Any]) -> BatchNorm:
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


def to_keras(bn: BatchNorm, ndim: int, settings: dict[str, Any]) -> Any:
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


def from_flax(layer: Any, variables: Mapping[str, Any] | None, settings: dict[str, Any]) -> BatchNorm:
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


def to_flax(bn: BatchNorm, linen: bool, settings: dict[str, Any]) -> Any:
    flax, jnp = framework("flax"), import_module("jax.numpy")
    require_plain(bn, "Flax")
    arrays, given = opened(bn, "flax")
    given |= {"axis": bn.channel_axis, "use_bias": bn.affine, "use_scale": bn.affine, "param_dtype": bn.dtype}
    stats = {name: jnp.asarray(arrays[name], jnp.float32) for name in ("mean", "var")}      # as ever in Flax
    params = {name: jnp.asarray(arrays[name], bn.dtype) for name in ("scale", "bias") if bn.affine}
    if linen:
        return flax.linen.BatchNorm(**{**given, **settings}), {"params": params, "batch_stats": stats}
    nnx = import_module("flax.nnx")
    given |= {"use_running_average": not bn.training, "rngs": nnx.Rngs(0)}      # Linen takes the mode with each call
    layer = nnx.BatchNorm(bn.num_features, **{**given, **settings})
    for name, values in (stats | params).items():
        setattr(layer, name, type(getattr(layer, name))(values))
    return layer


def from_onnx(model: Any, node: str | None, settings: dict[str, Any]) -> BatchNorm:
    onnx = framework("onnx")
    if isinstance(model, str | os.PathLike):
        path = model
        try:
            model = onnx.load(path)
        except import_module("google.protobuf.message").DecodeError as error:
            raise ValueError(f"{path} is no ONNX model: {error}") from error
    require_kind(model, onnx.ModelProto, "an onnx.ModelProto or the path of one")
    found = [each for each in model.graph.node if each.op_type == "BatchNormalization"]
    chosen = [each for each in found if node in (None, each.name, each.output[0])]
    if len(chosen) != 1:
        names = ", ".join(repr(each.name or each.output[0]) for each in found)
        wanted = "" if node is None else f" of name {node!r}"
        there = f"{names}; choose one with node=, by its name or that of its output" if found else "none"
        raise ValueError(f"expected one node BatchNormalization{wanted} in the graph, got {there}")
    constants = {tensor.name: tensor for tensor in model.graph.initializer}
    constants |= {each.output[0]: attribute.t for each in model.graph.node if each.op_type == "Constant"
                  for attribute in each.attribute if attribute.name == "value"}
    layer, attributes = LAYERS["onnx"], {attribute.name: attribute for attribute in chosen[0].attribute}
    arrays: dict[str, Any] = {
        name: np.float32(attributes[name].f) for name in ("epsilon", "momentum") if name in attributes
    }
    for name, key in zip((layer.gamma, layer.beta, layer.mean, layer.var), chosen[0].input[1:], strict=True):
        if key not in constants:
            raise ValueError(f"expected {name} of the node to be an initializer or a Constant, got {key!r}, which the "
                             "graph computes or takes as an input; fold its constants first")
        arrays[name] = onnx.numpy_helper.to_array(constants[key])
    training = "training_mode" in attributes and bool(attributes["training_mode"].i)
    return from_arrays(arrays, "onnx", **settings).train(training)


def to_onnx(bn: BatchNorm, ndim: int) -> Any:
    onnx = framework("onnx")
    helper = onnx.helper
    require_plain(bn, "ONNX", channel_axis=1, renorm=True)      # which makes no difference in inference
    if ndim < 2:
        raise ValueError(f"ONNX's BatchNormalization takes x of at least 2 dimensions, got ndim={ndim}")
    arrays, attributes = opened(bn, "onnx")
    arrays = {name: values.astype(bn.dtype) for name, values in arrays.items()}
    node = helper.make_node("BatchNormalization", ["X", *arrays], ["Y"], name="BatchNormalization", **attributes)
    shape = ["N", bn.num_features, *(f"D{i}" for i in range(1, ndim - 1))]
    element = helper.np_dtype_to_tensor_dtype(bn.dtype)
    x, y = (helper.make_tensor_value_info(name, element, shape) for name in "XY")
    initializers = [onnx.numpy_helper.from_array(values, name) for name, values in arrays.items()]
    return helper.make_model(
        helper.make_graph([node], "BatchNorm", [x], [y], initializers), producer_name="bnstream", ir_version=ONNX_IR,
        opset_imports=[helper.make_opsetid("", ONNX_OPSET)],
    )


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
