"""LayerNormalization, RMSNormalization, GroupNormalization and InstanceNormalization of ONNX converted and back."""

import numpy as np
import pytest
from support.arrays import normal
from support.frameworks import with_parameters

from bnstream import GroupNorm, InstanceNorm, LayerNorm, RMSNorm

pytest.importorskip("onnx")
import onnx
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

X = normal((6, 4, 5)).astype("f4")
LAYERS = {
    "layer": lambda: LayerNorm((4, 5), 1e-3), "layer without bias": lambda: LayerNorm(5, bias=False),
    "plain layer": lambda: LayerNorm(5, elementwise_affine=False), "float64": lambda: LayerNorm(5, dtype="f8"),
    "rms": lambda: RMSNorm(5, 1e-4),
    "group": lambda: GroupNorm(2, 4, 1e-2), "plain group": lambda: GroupNorm(1, 4, affine=False),
    "instance": lambda: InstanceNorm(4, affine=True), "plain instance": lambda: InstanceNorm(4),
}


@pytest.mark.parametrize("name", LAYERS)
def test_there_and_back(name):
    """The model is valid, gives our result, and comes back as an equal layer with what ONNX has always."""
    layer = with_parameters(LAYERS[name]())
    model = layer.to_onnx(ndim=3)
    onnx.checker.check_model(model, full_check=True)
    x = X.astype(layer.dtype)
    wanted = ReferenceEvaluator(model).run(None, {"X": x})[0]
    np.testing.assert_allclose(layer(x), wanted, rtol=1e-4, atol=1e-5)
    back = type(layer).from_onnx(model)
    assert not back.training
    assert back.eps == float(np.float32(layer.eps))
    assert np.array_equal(back.gamma, np.ones(layer._shape) if layer.gamma is None else layer.gamma)
    if not isinstance(layer, RMSNorm):
        assert np.array_equal(back.beta, np.zeros(layer._shape) if layer.beta is None else layer.beta)
    assert back.to_onnx(ndim=3) == model


@pytest.mark.parametrize("name", [name for name in LAYERS if name != "float64"])
def test_onnx_runtime(name):
    runtime = pytest.importorskip("onnxruntime")
    layer = with_parameters(LAYERS[name]())
    session = runtime.InferenceSession(layer.to_onnx(ndim=3).SerializeToString(), providers=["CPUExecutionProvider"])
    np.testing.assert_allclose(layer(X), session.run(None, {"X": X})[0], rtol=1e-4, atol=1e-5)


def a_model(operator, opset, scale, bias=None, **attributes):
    arrays = [numpy_helper.from_array(np.asarray(values, "f4"), name)
              for name, values in (("scale", scale), ("bias", bias)) if values is not None]
    node = helper.make_node(operator, ["X", *(array.name for array in arrays)], ["Y"], **attributes)
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", 4, 5]) for name in "XY")
    return helper.make_model(helper.make_graph([node], "one", [x], [y], arrays),
                             opset_imports=[helper.make_opsetid("", opset)])


def test_nodes_of_others(tmp_path):
    layer = LayerNorm.from_onnx(a_model("LayerNormalization", 17, np.arange(5), stash_type=1))
    assert (layer.normalized_shape, layer.eps, layer.beta) == ((5,), 1e-5, None)
    layer = LayerNorm.from_onnx(a_model("LayerNormalization", 17, np.ones((4, 5)), np.ones((4, 5)), axis=1))
    assert layer.normalized_shape == (4, 5)
    onnx.save(a_model("RMSNormalization", 23, np.arange(5), axis=-1, epsilon=0.5), tmp_path / "a.onnx")
    assert RMSNorm.from_onnx(tmp_path / "a.onnx", names=list("abcde")).names == tuple("abcde")
    old = a_model("GroupNormalization", 18, [2, 3], [0, 1], num_groups=2)
    with pytest.raises(ValueError, match="before opset 21 GroupNormalization has a scale for each group; pass"):
        GroupNorm.from_onnx(old)
    assert GroupNorm.from_onnx(old, num_channels=4).gamma.tolist() == [2, 2, 3, 3]


def test_refused():
    for call, message in (
        (lambda: LayerNorm.from_onnx(a_model("RMSNormalization", 23, np.ones(5))), "expected one LayerNormalization"),
        (lambda: LayerNorm.from_onnx(a_model("LayerNormalization", 17, np.ones(5), axis=-2)),
         r"expected a scale of 2 dimensions for axis=-2, got shape \(5,\)"),
        (lambda: RMSNorm(5).to_onnx(), "an eps of None depends on the dtype of x, and ONNX needs a number"),
        (lambda: GroupNorm(2, 4, channel_axis=-1).to_onnx(), "ONNX has the channels along axis 1, this layer along"),
        (lambda: InstanceNorm(4, track_running_stats=True).to_onnx(), "InstanceNormalization has no running estimates"),
        (lambda: LayerNorm((2, 3, 4)).to_onnx(ndim=2), "takes x of at least 3 dimensions, got ndim=2"),
    ):
        with pytest.raises(ValueError, match=message):
            call()
