"""Normalization nodes of ONNX: `from_onnx` and `to_onnx` of `BatchNorm` and of the other layers."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from importlib import import_module
from typing import Any

import numpy as np

from bnstream.core.batchnorm import BatchNorm
from bnstream.core.channelnorms import ChannelNorm, GroupNorm, InstanceNorm
from bnstream.core.layer import NormLayer
from bnstream.core.rownorms import RMSNorm, RowNorm
from bnstream.exchange.conventions import from_arrays
from bnstream.exchange.layers import (
    arrays_and_settings,
    import_framework,
    require_channel_axis,
    require_convertible,
    require_type,
)
from bnstream.exchange.names import LAYERS

OPSET = 15          # the latest version of BatchNormalization
OPERATORS = {       # of the other layers, and the opset that `to_onnx` writes
    "LayerNorm": ("LayerNormalization", 17), "RMSNorm": ("RMSNormalization", 23),
    "GroupNorm": ("GroupNormalization", 21), "InstanceNorm": ("InstanceNormalization", 22),
}
SCALE_OF_CHANNELS_FROM = 21     # the opset from which GroupNormalization has a scale for each channel, not each group
NORM_IR_VERSION = 10            # a format with these opsets
TRAINING_MODE_FROM = 14     # the opset with the attribute training_mode
SPATIAL_BEFORE = 9          # the opset without the attribute spatial
IR_VERSION = 8      # the oldest format with this opset


def from_onnx(model: Any, node: str | None = None, **settings: Any) -> BatchNorm:
    """Make a layer from a BatchNormalization node of an ONNX model.

    Parameters
    ----------
    model : onnx.ModelProto, str or path-like
        A model, or the path of its file.
    node : str, optional
        The name of the node, or that of its first output. Required if the main graph has several such nodes.
    **settings
        Passed to `BatchNorm`: names, channel_axis, ... They take precedence over those of the node.

    Returns
    -------
    BatchNorm
        With copies of the arrays, in the dtype of the node's scale; in inference mode, unless ``training_mode=1`` or,
        before opset 14, the node has outputs for its statistics.

    Raises
    ------
    ModuleNotFoundError
        If onnx is not installed.
    TypeError
        If `model` is not a model or a path.
    ValueError
        If the file is not an ONNX model, the graph has no such node, its arrays are not constants, or it has
        ``spatial=0``.

    See Also
    --------
    BatchNorm.to_onnx : the inverse.

    Examples
    --------
    >>> import bnstream
    >>> model = bnstream.BatchNorm(3, momentum=0.2).to_onnx()
    >>> bnstream.BatchNorm.from_onnx(model).momentum
    0.2
    """
    onnx = import_framework("onnx")
    model = loaded(onnx, model)
    found = node_named(model.graph, node, "BatchNormalization")
    attributes = {attribute.name: attribute for attribute in found.attribute}
    names = LAYERS["onnx"]
    arrays = constant_inputs(onnx, model.graph, found, (names.gamma, names.beta, names.mean, names.var))
    arrays |= {name: np.float32(attributes[name].f) for name in ("epsilon", "momentum") if name in attributes}
    return from_arrays(arrays, "onnx", **settings).train(is_training(model, found, attributes))


def loaded(onnx: Any, model: Any) -> Any:
    """A model, or that in a file."""
    if isinstance(model, str | os.PathLike):
        path = model
        try:
            model = onnx.load(path)
        except import_module("google.protobuf.message").DecodeError as error:
            raise ValueError(f"{path} is not an ONNX model: {error}") from error
    require_type(model, onnx.ModelProto, "an onnx.ModelProto or the path of a model")
    return model


def opset_of(model: Any, default: int) -> int:
    return max((each.version for each in model.opset_import if each.domain in ("", "ai.onnx")), default=default)


def is_training(model: Any, node: Any, attributes: Mapping[str, Any]) -> bool:
    """Whether a node is in training mode, and raise ValueError if its statistics are not those of channels."""
    opset = opset_of(model, OPSET)
    numbers = {name: attributes[name].i for name in ("training_mode", "is_test", "spatial") if name in attributes}
    if opset < SPATIAL_BEFORE and numbers.get("spatial", 1) == 0:
        raise ValueError(f"the node has spatial=0, a mean and a variance of every activation, which opset {OPSET} no "
                         "longer has; flatten x to (N, activations) for such a layer. If x has two dimensions, or the "
                         "arrays have one value for each channel, remove the attribute")
    if opset >= TRAINING_MODE_FROM:
        return bool(numbers.get("training_mode", 0))
    # Before, a node in training mode was one with outputs for the statistics, and is_test could overrule it.
    return sum(map(bool, node.output)) > 1 and not numbers.get("is_test", 0)


def node_named(graph: Any, name: str | None, operator: str) -> Any:
    """The node of this operator and name, or the only one of the operator."""
    nodes = [node for node in graph.node if node.op_type == operator]
    matching = [node for node in nodes if name in (None, node.name, node.output[0])]
    if len(matching) != 1:
        names = ", ".join(repr(node.name or node.output[0]) for node in nodes)
        wanted = "" if name is None else f" named {name!r}"
        got = f"{names}; choose one with node=, by its name or that of its output" if nodes else "none"
        raise ValueError(f"expected one {operator} node{wanted} in the graph, got {got}")
    return matching[0]


def constant_inputs(onnx: Any, graph: Any, node: Any, names: Sequence[str]) -> dict[str, Any]:
    """The arrays of a node by name, which must be initializers of the graph or outputs of Constant nodes."""
    constants = {tensor.name: tensor for tensor in graph.initializer}
    constants |= {each.output[0]: attribute.t for each in graph.node if each.op_type == "Constant"
                  for attribute in each.attribute if attribute.name == "value"}
    arrays = {}
    for name, key in zip(names, node.input[1:], strict=True):
        if key not in constants:
            raise ValueError(f"expected {name} of the node to be an initializer or a Constant, got {key!r}, which the "
                             "graph computes or takes as an input; fold the constants of the model first")
        arrays[name] = onnx.numpy_helper.to_array(constants[key])
    return arrays


def to_onnx(bn: BatchNorm, ndim: int = 4) -> Any:
    """Convert to an ONNX model of one BatchNormalization node, which does this layer's inference.

    Parameters
    ----------
    ndim : int, default 4
        The number of dimensions of x.

    Returns
    -------
    onnx.ModelProto
        A model of opset 15 from X to Y. Its arrays are initializers, all in the dtype of this layer. The running
        estimates, float64 here, are rounded to it. ``onnx.save`` writes the model, ``onnx.compose.merge_models`` joins
        it to another.

    Raises
    ------
    ModuleNotFoundError
        If onnx is not installed.
    ValueError
        If ONNX has no such node: `channel_axis` is not 1, or `ndim` is less than 2.

    See Also
    --------
    BatchNorm.from_onnx : the inverse.

    Notes
    -----
    eps and momentum are float32 in ONNX, and every node has a scale and a shift: 1 and 0 where this layer has none.
    Beside momentum, only what inference needs is converted, and `result_dtype` is not. The running
    variance has ddof 0 if it can be computed from pooled statistics; otherwise it is copied.

    Examples
    --------
    >>> import bnstream
    >>> bnstream.BatchNorm(3).to_onnx(ndim=2).graph.node[0].op_type
    'BatchNormalization'
    """
    onnx = import_framework("onnx")
    helper = onnx.helper
    require_convertible(bn, "ONNX", channel_axis=1, inference=True)
    if ndim < 2:
        raise ValueError(f"ONNX's BatchNormalization takes x of at least 2 dimensions, got ndim={ndim}")
    arrays, attributes = arrays_and_settings(bn, "onnx")
    arrays = {name: values.astype(bn.dtype) for name, values in arrays.items()}
    node = helper.make_node("BatchNormalization", ["X", *arrays], ["Y"], name="BatchNormalization", **attributes)
    shape = ["N", bn.num_features, *(f"D{i}" for i in range(1, ndim - 1))]
    element = helper.np_dtype_to_tensor_dtype(bn.dtype)
    x, y = (helper.make_tensor_value_info(name, element, shape) for name in "XY")
    initializers = [onnx.numpy_helper.from_array(values, name) for name, values in arrays.items()]
    return helper.make_model(
        helper.make_graph([node], "BatchNorm", [x], [y], initializers), producer_name="bnstream", ir_version=IR_VERSION,
        opset_imports=[helper.make_opsetid("", OPSET)],
    )


def norm_from_onnx(cls: type[NormLayer], model: Any, node: str | None = None, **settings: Any) -> Any:
    """Make a layer from a node of an ONNX model: LayerNormalization, RMSNormalization, GroupNormalization or
    InstanceNormalization, by the class that the method is called on.

    Parameters
    ----------
    model : onnx.ModelProto, str or path-like
        A model, or the path of its file.
    node : str, optional
        The name of the node, or that of its first output. Required if the main graph has several such nodes.
    **settings
        Passed to the class: names, result_dtype, ... They take precedence over those of the node. A
        GroupNormalization before opset 21, whose scale is of groups, needs `num_channels`.

    Returns
    -------
    LayerNorm, RMSNorm, GroupNorm or InstanceNorm
        With copies of the arrays, in the dtype of the node's scale, in inference mode.

    Raises
    ------
    ModuleNotFoundError
        If onnx is not installed.
    TypeError
        If `model` is not a model or a path.
    ValueError
        If the file is not an ONNX model, the graph has no such node, its arrays are not constants, or its scale does
        not have the shape of the axes that are normalized.

    Notes
    -----
    `stash_type`, the precision of the statistics, is ignored: it is always double here.

    Examples
    --------
    >>> import bnstream
    >>> bnstream.RMSNorm.from_onnx(bnstream.RMSNorm(3, 0.5).to_onnx()).eps
    0.5
    """
    onnx = import_framework("onnx")
    model = loaded(onnx, model)
    operator, opset = OPERATORS[cls.__name__]
    found = node_named(model.graph, node, operator)
    attributes = {attribute.name: attribute for attribute in found.attribute}
    arrays = constant_inputs(onnx, model.graph, found, ("weight", "bias")[:len(found.input) - 1])
    scale = arrays["weight"]
    given: dict[str, Any] = {"eps": float(np.float32(attributes["epsilon"].f)) if "epsilon" in attributes else 1e-5,
                             "dtype": scale.dtype.name}
    if issubclass(cls, RowNorm):
        axis = attributes["axis"].i if "axis" in attributes else -1
        if axis < 0 and scale.ndim != -axis:
            raise ValueError(f"expected a scale of {-axis} dimensions for axis={axis}, got shape {scale.shape}; expand "
                             "it")
        given["normalized_shape"] = scale.shape
    elif issubclass(cls, GroupNorm):
        given |= {"num_groups": attributes["num_groups"].i, "num_channels": scale.size}
        if opset_of(model, opset) < SCALE_OF_CHANNELS_FROM:
            if "num_channels" not in settings:
                raise ValueError("before opset 21 GroupNormalization has a scale for each group; pass num_channels")
            times = settings["num_channels"] // scale.size
            arrays = {name: np.repeat(values, times) for name, values in arrays.items()}
    else:
        given |= {"num_features": scale.size, "affine": True}
    if "bias" in cls._settings:
        given["bias"] = "bias" in arrays
    made = cls(**{**given, **settings})
    made.load_state_dict(arrays)
    return made.eval()


def norm_to_onnx(norm: NormLayer, ndim: int = 4) -> Any:
    """Convert to an ONNX model of one node.

    Parameters
    ----------
    ndim : int, default 4
        The number of dimensions of x.

    Returns
    -------
    onnx.ModelProto
        A model from X to Y: LayerNormalization of opset 17, RMSNormalization 23, GroupNormalization 21 or
        InstanceNormalization 22. Its arrays are initializers, in the dtype of this layer.

    Raises
    ------
    ModuleNotFoundError
        If onnx is not installed.
    ValueError
        If ONNX has no such node: `channel_axis` is not 1, x with `ndim` dimensions is too small, the layer tracks
        running estimates, or the eps of `RMSNorm` is None.

    Notes
    -----
    eps is float32 in ONNX. Every node has a scale, 1 where this layer has none, and those of groups and instances a
    shift. `names`, the mode and `result_dtype` are not converted.

    Examples
    --------
    >>> import bnstream
    >>> bnstream.LayerNorm(3).to_onnx(ndim=2).graph.node[0].op_type
    'LayerNormalization'
    """
    onnx = import_framework("onnx")
    helper = onnx.helper
    require_channel_axis(norm, "ONNX")
    if isinstance(norm, InstanceNorm) and norm.track_running_stats:
        raise ValueError("ONNX's InstanceNormalization has no running estimates; a BatchNorm with these estimates does "
                         "this layer's inference")
    if norm.eps is None:
        raise ValueError("an eps of None depends on the dtype of x, and ONNX needs a number; set eps on a copy")
    operator, opset = OPERATORS[type(norm).__name__]
    attributes: dict[str, Any] = {"epsilon": norm.eps}
    shape: list[Any] = ["N", *(f"D{i}" for i in range(1, ndim))]
    if isinstance(norm, ChannelNorm):
        sizes, least = {1: norm._shape[0]}, 2
    else:
        attributes["axis"] = -len(norm._shape)
        sizes, least = dict(zip(range(ndim - len(norm._shape), ndim), norm._shape, strict=True)), len(norm._shape)
    if ndim < least:
        raise ValueError(f"this layer takes x of at least {least} dimensions, got ndim={ndim}")
    for axis, size in sizes.items():
        shape[axis] = size
    if isinstance(norm, GroupNorm):
        attributes["num_groups"] = norm.num_groups
    arrays = {"scale": np.ones(norm._shape, norm.dtype) if norm.gamma is None else norm.gamma}
    if not isinstance(norm, RMSNorm):
        arrays["bias"] = np.zeros(norm._shape, norm.dtype) if norm.beta is None else norm.beta
    node = helper.make_node(operator, ["X", *arrays], ["Y"], name=operator, **attributes)
    element = helper.np_dtype_to_tensor_dtype(norm.dtype)
    x, y = (helper.make_tensor_value_info(name, element, shape) for name in "XY")
    initializers = [onnx.numpy_helper.from_array(values, name) for name, values in arrays.items()]
    return helper.make_model(
        helper.make_graph([node], type(norm).__name__, [x], [y], initializers), producer_name="bnstream",
        ir_version=NORM_IR_VERSION, opset_imports=[helper.make_opsetid("", opset)],
    )
