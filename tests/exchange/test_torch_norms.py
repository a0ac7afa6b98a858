"""LayerNorm, RMSNorm, GroupNorm and InstanceNorm of PyTorch converted and back: equal results, and equal bits."""

import numpy as np
import pytest
from support.arrays import BFLOAT16, normal

from bnstream import BatchNorm, GroupNorm, InstanceNorm, LayerNorm, RMSNorm

torch = pytest.importorskip("torch")
nn = torch.nn
X = normal((6, 4, 5)).astype("f4")
THEIRS = {
    "layer": lambda: nn.LayerNorm((4, 5), 1e-3), "layer without bias": lambda: nn.LayerNorm(5, bias=False),
    "plain layer": lambda: nn.LayerNorm(5, elementwise_affine=False),
    "float64": lambda: nn.LayerNorm(5, dtype=torch.float64),
    "rms": lambda: nn.RMSNorm(5), "rms with eps": lambda: nn.RMSNorm((4, 5), 1e-4, elementwise_affine=False),
    "group": lambda: nn.GroupNorm(2, 4), "plain group": lambda: nn.GroupNorm(4, 4, 1e-2, affine=False),
    "instance": lambda: nn.InstanceNorm1d(4), "instance with parameters": lambda: nn.InstanceNorm1d(4, affine=True),
    "tracked": lambda: nn.InstanceNorm1d(4, 1e-4, 0.3, track_running_stats=True),
    "averaged": lambda: nn.InstanceNorm1d(4, momentum=None, affine=True, track_running_stats=True),
}
CLASSES = {"layer": LayerNorm, "rms": RMSNorm, "group": GroupNorm, "instance": InstanceNorm, "float64": LayerNorm,
           "tracked": InstanceNorm, "averaged": InstanceNorm}


def made(name):
    """A layer of PyTorch with parameters, after a batch."""
    layer = THEIRS[name]()
    with torch.no_grad():
        for i, values in enumerate(layer.parameters()):
            values.copy_(torch.from_numpy(normal(tuple(values.shape), i)))
    layer(torch.from_numpy(X).to(next((p.dtype for p in layer.parameters()), torch.float32)))
    return layer


def ours(name):
    return CLASSES[next(word for word in name.split() if word in CLASSES)]


@pytest.mark.parametrize("name", THEIRS)
@pytest.mark.parametrize("training", [True, False])
def test_there_and_back(name, training):
    theirs = made(name).train(training)
    layer = ours(name).from_torch(theirs)
    assert type(layer) is ours(name)
    assert layer.training == training
    x = X.astype(layer.dtype)
    back = layer.to_torch(ndim=3)
    assert type(back) is type(theirs)
    assert back.training == training
    assert repr(back) == repr(theirs)
    assert back.state_dict().keys() == theirs.state_dict().keys()
    for key, values in theirs.state_dict().items():
        assert back.state_dict()[key].dtype == values.dtype
        assert torch.equal(back.state_dict()[key], values), key
    np.testing.assert_allclose(layer(x), theirs(torch.from_numpy(x)).detach(), rtol=2e-4, atol=2e-5)
    if layer.training and getattr(layer, "momentum", None) is not None and layer.track_running_stats:
        np.testing.assert_allclose(layer.running_var, theirs.running_var, rtol=1e-5)


def test_settings_take_precedence():
    layer = GroupNorm.from_torch(nn.GroupNorm(2, 4), channel_axis=-1, names=list("abcd"), eps=0.5)
    assert (layer.channel_axis, layer.names, layer.eps) == (-1, ("a", "b", "c", "d"), 0.5)
    with pytest.raises(ValueError, match=r"PyTorch has the channels along axis 1, this layer along axis -1; if x will"):
        layer.to_torch()


def test_what_pytorch_has_no_argument_for():
    """A shift without a scale: the weight is None."""
    layer = LayerNorm(5, scale=False)
    layer.beta[...] = 3
    theirs = layer.to_torch()
    assert theirs.weight is None
    np.testing.assert_allclose(theirs(torch.from_numpy(X)).detach(), layer(X), rtol=1e-5, atol=1e-6)
    assert LayerNorm.from_torch(theirs) == layer
    half = LayerNorm(5, dtype=BFLOAT16)
    half.gamma[...] = 1.5
    assert half.to_torch().weight.tolist() == [1.5] * 5
    assert LayerNorm.from_torch(half.to_torch()) == half


def test_other_layers_are_refused():
    for cls, layer, expected in ((LayerNorm, nn.GroupNorm(1, 4), "LayerNorm, got GroupNorm"),
                                 (InstanceNorm, nn.BatchNorm1d(4), "InstanceNorm2d, InstanceNorm3d, got BatchNorm1d"),
                                 (BatchNorm, nn.LayerNorm(4), "SyncBatchNorm, got LayerNorm")):
        with pytest.raises(TypeError, match=f"expected a torch.nn.*{expected}"):
            cls.from_torch(layer)
    with pytest.raises(ValueError, match="take x of 3 to 5 dimensions, got ndim=2"):
        InstanceNorm(3).to_torch(ndim=2)
    assert [type(InstanceNorm(3).to_torch(n)).__name__[-2:] for n in (3, 4, 5)] == ["1d", "2d", "3d"]
