"""BatchNormalization nodes of ONNX converted to BatchNorm and back, compared with ONNX Runtime."""

import numpy as np
import pytest
from support.frameworks import Bounds, a_batch, a_layer, assert_within

from bnstream import BatchNorm

pytest.importorskip("onnx")
import onnx
from onnx import TensorProto, helper, numpy_helper

SHAPES = [(16, 5), (8, 5, 6), (4, 5, 6, 7), (2, 5, 3, 4, 3)]
INPUTS = ("scale", "B", "input_mean", "input_var")


def run(model, x):
    runtime = pytest.importorskip("onnxruntime")
    session = runtime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, {"X": x})[0]


def an_old_model(opset, outputs=("Y",), **attributes):
    """A node of an older opset, which the checker of today does not accept any more."""
    tensors = [numpy_helper.from_array(np.ones(5, np.float32), key) for key in INPUTS]
    node = helper.make_node("BatchNormalization", ["X", *INPUTS], outputs, **attributes)
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", 5]) for name in "XY")
    return helper.make_model(helper.make_graph([node], "old", [x], [y], tensors),
                             opset_imports=[helper.make_opsetid("ai.onnx.ml", 20), helper.make_opsetid("", opset)])


def a_model(nodes=("bn1", "bn2"), constants=False, training_mode=None, **attributes):
    """A chain of nodes, whose arrays are initializers or outputs of Constant nodes."""
    if training_mode is not None:
        attributes["training_mode"] = training_mode
    made, initializers, before = [], [], "X"
    for i, name in enumerate(nodes):
        keys = [f"{i}.{key}" for key in INPUTS]
        tensors = [numpy_helper.from_array(np.full(5, 1.0 + i + j, np.float32), key) for j, key in enumerate(keys)]
        if constants:
            made += [helper.make_node("Constant", [], [tensor.name], value=tensor) for tensor in tensors]
        else:
            initializers += tensors
        outputs = [f"Y{i}", *([f"mean{i}", f"var{i}"] if training_mode else [])]
        made.append(helper.make_node("BatchNormalization", [before, *keys], outputs, name=name, **attributes))
        before = f"Y{i}"
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", 5]) for name in ("X", before))
    model = helper.make_model(helper.make_graph(made, "chain", [x], [y], initializers),
                              opset_imports=[helper.make_opsetid("", 15)], ir_version=8)
    onnx.checker.check_model(model, full_check=True)
    return model


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("affine", [True, False])
@pytest.mark.parametrize("eps", [1e-5, 1e-3])
def test_to_onnx(shape, affine, eps):
    bn = a_layer(5, 1, affine=affine, eps=eps).eval()
    model = bn.to_onnx(ndim=len(shape))
    onnx.checker.check_model(model, full_check=True)
    x = a_batch(shape, 1)
    assert_within(bn(x), run(model, x), Bounds(bn, x).y)


@pytest.mark.parametrize("spoil", [{"eps": 2e-3}, {"gamma": np.ones(5)}, {"running_mean": np.zeros(5)}], ids=str)
def test_the_bounds_can_be_broken(spoil):
    bn, x = a_layer(5, 1).eval(), a_batch((16, 5), 1)
    model = bn.to_onnx(ndim=2)
    for name, value in spoil.items():
        setattr(bn, name, value)
    with pytest.raises(AssertionError, match="of the bound"):
        assert_within(bn(x), run(model, x), Bounds(bn, x).y)


def test_float64():
    """ONNX Runtime supports float64. eps is float32 in ONNX."""
    bn = a_layer(5, 1, dtype="float64").eval()
    x = a_batch((16, 5), 1).astype("f8")
    y = run(bn.to_onnx(ndim=2), x)
    assert y.dtype == np.float64
    bn.eps = float(np.float32(bn.eps))
    assert_within(bn(x), y, Bounds(bn, x).y * 2**-29)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64"])
@pytest.mark.parametrize("momentum", [0.1, 0.01, 0.37])
def test_round_trip(dtype, momentum):
    """Bit for bit, to ONNX, back and to ONNX again."""
    pytest.importorskip("ml_dtypes")
    bn = a_layer(5, 1, momentum=momentum, dtype=dtype, running_ddof=0, eps=1e-3)
    model = bn.to_onnx(ndim=4)
    onnx.checker.check_model(model, full_check=True)
    again = BatchNorm.from_onnx(model)
    assert again == bn
    assert again.to_onnx(ndim=4).SerializeToString() == model.SerializeToString()


def test_the_model():
    model = BatchNorm(5).to_onnx()
    assert [opset.version for opset in model.opset_import] == [15]
    (node,) = model.graph.node
    assert [dim.dim_param or dim.dim_value for dim in model.graph.input[0].type.tensor_type.shape.dim] == [
        "N", 5, "D1", "D2"]
    assert (list(node.input), list(node.output)) == (["X", *INPUTS], ["Y"])
    assert {attribute.name: np.float32(attribute.f) for attribute in node.attribute} == {
        "epsilon": np.float32(1e-5), "momentum": np.float32(0.9)}


def test_exact_statistics():
    """momentum=None: the variance has ddof 0, and the momentum is ONNX's default."""
    bn = BatchNorm(5, momentum=None)
    bn(a_batch((16, 5), 1))
    model = bn.to_onnx()
    assert [attribute.name for attribute in model.graph.node[0].attribute] == ["epsilon"]
    tensors = {tensor.name: numpy_helper.to_array(tensor).tolist() for tensor in model.graph.initializer}
    assert tensors["input_var"] == bn.pooled.var(0).astype("f4").tolist()
    assert BatchNorm.from_onnx(model).momentum == 0.1


@pytest.mark.parametrize("options", [{"renorm": True}, {"virtual_batch": 4}], ids=str)
def test_what_makes_no_difference_in_inference(options):
    assert BatchNorm(5, **options).to_onnx() == BatchNorm(5).to_onnx()


@pytest.mark.parametrize("constants", [False, True])
@pytest.mark.parametrize("node", ["bn2", "Y1"])
def test_from_onnx(node, constants):
    """A node is chosen by its name or that of its output. Arrays are initializers or outputs of Constant nodes."""
    bn = BatchNorm.from_onnx(a_model(constants=constants, epsilon=1e-3, momentum=0.8), node, names=list("abcde"))
    assert (bn.eps, bn.momentum, bn.channel_axis, bn.running_ddof, bn.training) == (1e-3, 0.2, 1, 0, False)
    assert (bn.gamma[0], bn.beta[0], bn.running_mean[0], bn.running_var[0]) == (2, 3, 4, 5)
    assert (bn.dtype, bn.names) == (np.float32, tuple("abcde"))


def test_inference_as_onnx_runtime():
    model = a_model()
    x = a_batch((16, 5), 1)
    first, second = (BatchNorm.from_onnx(model, node) for node in ("bn1", "bn2"))
    between = first(x)
    bound = Bounds(first, x).y * np.abs(second.gamma / np.sqrt(second.running_var)) + Bounds(second, between).y
    assert_within(second(between), run(model, x), bound)


def test_defaults_of_onnx():
    bn = BatchNorm.from_onnx(a_model(nodes=("",)))
    assert (bn.eps, bn.momentum, bn.training) == (1e-5, 0.1, False)
    for mode in (0, 1):
        assert BatchNorm.from_onnx(a_model(nodes=("",), training_mode=mode)).training == bool(mode)


STATISTICS = ("Y", "mean", "var", "saved_mean", "saved_var")


@pytest.mark.parametrize(("opset", "outputs", "attributes", "training"), [
    (6, ("Y",), {}, False), (6, STATISTICS, {}, True), (6, STATISTICS, {"is_test": 1}, False),
    (6, ("Y",), {"is_test": 0, "spatial": 1}, False), (7, STATISTICS, {}, True), (7, ("Y",), {}, False),
    (9, ("Y",), {}, False), (9, STATISTICS, {}, True), (9, ("Y", "mean", "var"), {}, True),
    (9, ("Y", "", "", "", ""), {}, False), (13, STATISTICS, {}, True),
    (14, ("Y", "mean", "var"), {"training_mode": 1}, True), (15, ("Y",), {"training_mode": 0}, False),
])
def test_mode_of_each_opset(opset, outputs, attributes, training):
    """Before opset 14 outputs for the statistics mean training."""
    assert BatchNorm.from_onnx(an_old_model(opset, outputs, **attributes)).training == training


@pytest.mark.parametrize("opset", [1, 6, 7])
def test_statistics_of_activations(opset):
    with pytest.raises(ValueError, match=r"the node has spatial=0, a mean and a variance of every activation, .*; fla"):
        BatchNorm.from_onnx(an_old_model(opset, spatial=0))
    assert BatchNorm.from_onnx(an_old_model(opset, spatial=1)).num_features == 5


@pytest.mark.parametrize("part", ["scale", "bias"])
def test_one_parameter(part):
    """ONNX needs both: the other one is 1 or 0."""
    bn = a_layer(5, 1, scale=part == "scale", bias=part == "bias").eval()
    model, x = bn.to_onnx(ndim=2), a_batch((16, 5), 1)
    again = BatchNorm.from_onnx(model)
    assert again(x).tobytes() == bn(x).tobytes()
    assert_within(bn(x), run(model, x), Bounds(bn, x).y)


def test_file(tmp_path):
    path = tmp_path / "chain.onnx"
    onnx.save(a_model(), path)
    for given in (path, str(path)):
        assert BatchNorm.from_onnx(given, "bn1") == BatchNorm.from_onnx(a_model(), "bn1")


@pytest.mark.parametrize(("model", "node", "message"), [
    (a_model, None, r"expected one BatchNormalization node in the graph, got 'bn1', 'bn2'; choose one with node="),
    (a_model, "bn3", r"one BatchNormalization node named 'bn3' in the graph, got 'bn1', 'bn2'"),
    (lambda: a_model(nodes=("", "")), "", r"named '' in the graph, got 'Y0', 'Y1'"),
    (lambda: a_model(nodes=("a", "a")), "a", r"named 'a' in the graph, got 'a', 'a'"),
])
def test_no_such_node(model, node, message):
    with pytest.raises(ValueError, match=message):
        BatchNorm.from_onnx(model(), node)


def test_computed_arrays():
    model = a_model(nodes=("bn",))
    model.graph.node[0].input[3] = "X"
    with pytest.raises(ValueError, match=r"expected input_mean of the node to be an initializer .*, got 'X'"):
        BatchNorm.from_onnx(model)


def test_refusals(tmp_path):
    with pytest.raises(ValueError, match=r"in the graph, got none$"):
        BatchNorm.from_onnx(a_model(nodes=()))
    (tmp_path / "a.onnx").write_text("a,b\n1,2\n")
    with pytest.raises(ValueError, match=r"a\.onnx is not an ONNX model: "):
        BatchNorm.from_onnx(tmp_path / "a.onnx")
    with pytest.raises(TypeError, match=r"expected an onnx.ModelProto or the path of a model, got bytes"):
        BatchNorm.from_onnx(b"")
    with pytest.raises(ValueError, match=r"ONNX has the channels along axis 1, this layer along axis -1"):
        BatchNorm(3, channel_axis=-1).to_onnx()
    with pytest.raises(ValueError, match=r"x of at least 2 dimensions, got ndim=1"):
        BatchNorm(3).to_onnx(ndim=1)
