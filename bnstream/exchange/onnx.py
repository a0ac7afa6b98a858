"""Nodes of ONNX."""

from __future__ import annotations

import os
from importlib import import_module
from typing import Any

import numpy as np

from bnstream.core.batchnorm import BatchNorm
from bnstream.exchange.conventions import LAYERS, from_arrays
from bnstream.exchange.layers import framework, opened, require_kind, require_plain

OPSET, IR_VERSION = 15, 8       # the operator's latest opset, and the oldest format that has it, which all readers know


def from_onnx(model: Any, node: str | None = None, **settings: Any) -> BatchNorm:
    """The same layer as a node BatchNormalization of ONNX.

    Parameters
    ----------
    model : onnx.ModelProto, str or path-like
        Or the path of one.
    node : str, optional
        The name of the node, or that of its output; needed where the main graph has several.
    **settings
        For `BatchNorm`, before what the node says: names, channel_axis, ...

    Returns
    -------
    BatchNorm
        In the dtype of the node's scale; in inference mode, unless ``training_mode=1``.

    Raises
    ------
    ModuleNotFoundError, TypeError, ValueError
        If onnx is missing, `model` is something else, there is no such node, or its arrays are computed.

    Examples
    --------
    >>> import bnstream
    >>> model = bnstream.BatchNorm(3, momentum=0.2).to_onnx()
    >>> bnstream.BatchNorm.from_onnx(model).momentum
    0.2
    """
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


def to_onnx(bn: BatchNorm, ndim: int = 4) -> Any:
    """A model of ONNX that does this layer's inference, in one node BatchNormalization.

    Parameters
    ----------
    ndim : int, default 4
        The dimensions of x.

    Returns
    -------
    onnx.ModelProto
        From X to Y, with the arrays as initializers, all in the dtype of this layer, running statistics, too, which
        are float64 here; of opset 15. ``onnx.save`` writes it, ``onnx.compose.merge_models`` puts it into another.

    Raises
    ------
    ModuleNotFoundError, ValueError
        If onnx is missing, or its operator cannot do this: another `channel_axis` than 1.

    Notes
    -----
    eps and momentum are float32 in ONNX. Whatever has no part in inference stays behind, but momentum. ONNX's
    variance has ddof 0: exactly so where it was made from pooled statistics, else it is passed on as it is.

    Examples
    --------
    >>> import bnstream
    >>> bnstream.BatchNorm(3).to_onnx(ndim=2).graph.node[0].op_type
    'BatchNormalization'
    """
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
        helper.make_graph([node], "BatchNorm", [x], [y], initializers), producer_name="bnstream", ir_version=IR_VERSION,
        opset_imports=[helper.make_opsetid("", OPSET)],
    )
