"""Layers of PyTorch converted to BatchNorm and back: equal inference and training, equal bits after a round trip."""

import sys

import numpy as np
import pytest

from bnstream import BatchNorm, Moments

pytest.importorskip("torch")
import torch
from support.parity import SHAPES, Bounds, assert_close, compare, data, pair

KINDS = {2: torch.nn.BatchNorm1d, 3: torch.nn.BatchNorm1d, 4: torch.nn.BatchNorm2d, 5: torch.nn.BatchNorm3d}


def theirs(shape, dtype="f4", momentum=0.1, affine=True, n_batches=2):
    """A layer of PyTorch after `n_batches` of training."""
    layer = pair(shape, dtype, momentum, affine)[1]
    for i in range(n_batches):
        layer(torch.from_numpy(data(shape, dtype, 2, 20 + i)))
    return layer


def assert_equal_states(one, other):
    assert one.state_dict().keys() == other.state_dict().keys()
    for name, values in one.state_dict().items():
        assert values.dtype == other.state_dict()[name].dtype
        assert torch.equal(values, other.state_dict()[name]), name


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize(("momentum", "affine"), [(0.1, True), (0.01, False)])
@pytest.mark.parametrize("dtype", ["f4", "f8"])
def test_from_torch(shape, momentum, affine, dtype):
    """Inference, a batch of training, inference again, each with its backward pass."""
    layer = theirs(shape, dtype, momentum, affine)
    layer.eps = 1e-3
    bn = BatchNorm.from_torch(layer)
    assert (bn.eps, bn.momentum, bn.affine, bn.dtype, bn.training) == (1e-3, momentum, affine, dtype, True)
    assert (bn.channel_axis, bn.running_ddof, bn.num_batches_tracked) == (1, 1, 2)
    for i, training in enumerate([False, True, False]):
        bn.train(training)
        layer.train(training)
        compare(bn, layer, data(shape, dtype, 2, i), data(shape, dtype, 0, 10 + i), "contiguous", dtype)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("affine", [True, False])
@pytest.mark.parametrize("dtype", ["f4", "f8"])
def test_to_torch(shape, affine, dtype):
    bn = BatchNorm(shape[1], eps=1e-3, momentum=0.2, affine=affine, dtype=dtype)
    if affine:
        bn.gamma, bn.beta = np.linspace(-1, 2.5, shape[1]), np.linspace(1, -3, shape[1])
    for i in range(2):
        bn(data(shape, dtype, 2, 20 + i))
    layer = bn.to_torch(ndim=len(shape))
    assert type(layer) is KINDS[len(shape)]
    assert (layer.eps, layer.momentum, layer.affine, layer.training) == (1e-3, 0.2, affine, True)
    assert int(layer.num_batches_tracked) == 2
    for i, training in enumerate([False, True, False]):
        bn.train(training)
        layer.train(training)
        compare(bn, layer, data(shape, dtype, 2, i), data(shape, dtype, 0, 10 + i), "contiguous", dtype)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64"])
@pytest.mark.parametrize("affine", [True, False])
@pytest.mark.parametrize("training", [True, False])
def test_round_trip(dtype, affine, training):
    """Bit for bit, from PyTorch, to PyTorch and back again."""
    pytest.importorskip("ml_dtypes")
    layer = torch.nn.BatchNorm3d(5, eps=1e-3, momentum=0.3, affine=affine, dtype=getattr(torch, dtype)).train(training)
    generator = torch.Generator().manual_seed(0)
    for tensor in layer.state_dict().values():
        if tensor.ndim:
            tensor.copy_(torch.rand(5, generator=generator))
    layer.num_batches_tracked.fill_(7)
    bn = BatchNorm.from_torch(layer)
    assert bn.dtype.name == dtype
    assert bn.num_batches_tracked == 7
    again = bn.to_torch(ndim=5)
    assert_equal_states(again, layer)
    assert repr(again) == repr(layer)
    assert again.training == training
    assert BatchNorm.from_torch(again) == bn


def test_arrays_are_copies():
    layer = theirs((16, 5))
    bn = BatchNorm.from_torch(layer)
    before = {name: values.clone() for name, values in layer.state_dict().items()}
    again = bn.to_torch()
    bn(data((16, 5), "f4", 0, 0))
    bn.gamma[:] = 0
    for name, values in layer.state_dict().items():
        assert torch.equal(values, before[name])
    assert_equal_states(again, layer)


def test_sync_batch_norm():
    layer = torch.nn.SyncBatchNorm.convert_sync_batchnorm(theirs((5, 16, 8, 8))).eval()
    assert isinstance(layer, torch.nn.SyncBatchNorm)
    bn, x = BatchNorm.from_torch(layer), data((5, 16, 8, 8), "f4", 2, 0)
    bounds = Bounds(x, x, bn.running_mean, bn.running_var, bn.gamma, bn.beta, "f4")
    assert_close(bn(x), layer(torch.from_numpy(x)), bounds.of_y())


@pytest.mark.parametrize("missing", ["weight", "bias"])
@pytest.mark.parametrize("dtype", ["f4", "f8"])
def test_one_parameter(missing, dtype):
    """Inference and training with their backward passes, and a round trip; bias=False is in PyTorch from 2.13 on."""
    layer = theirs((16, 5), dtype)
    setattr(layer, missing, None)
    bn = BatchNorm.from_torch(layer)
    assert bn.dtype == dtype
    assert (bn.gamma is None, bn.beta is None) == (missing == "weight", missing == "bias")
    again = bn.to_torch(ndim=2)
    assert_equal_states(again, layer)
    assert repr(again) == repr(layer)
    again.load_state_dict({name: torch.from_numpy(values) for name, values in bn.state_dict().items()}, strict=False)
    for i, training in enumerate([False, True, False]):
        bn.train(training)
        layer.train(training)
        compare(bn, layer, data((16, 5), dtype, 2, i), data((16, 5), dtype, 0, 10 + i), "contiguous", dtype)


def test_parameters_of_another_dtype():
    """The dtype of the parameters becomes that of the layer, as the running estimates are always float64."""
    layer = theirs((16, 5))
    layer.weight, layer.bias = (torch.nn.Parameter(p.detach().half()) for p in (layer.weight, layer.bias))
    bn = BatchNorm.from_torch(layer)
    assert bn.dtype == np.float16
    assert bn.running_var.tolist() == layer.running_var.tolist()


def test_bfloat16_without_ml_dtypes(monkeypatch):
    monkeypatch.setitem(sys.modules, "ml_dtypes", None)
    with pytest.raises(ModuleNotFoundError, match="dtype bfloat16 needs ml_dtypes, which is not installed"):
        BatchNorm.from_torch(torch.nn.BatchNorm1d(3, dtype=torch.bfloat16))


def test_settings_take_precedence():
    bn = BatchNorm.from_torch(theirs((16, 5)), channel_axis=-1, names=list("abcde"), nan_policy="omit", momentum=0.5)
    assert (bn.channel_axis, bn.names, bn.nan_policy, bn.momentum) == (-1, tuple("abcde"), "omit", 0.5)


def test_cumulative_average():
    """PyTorch averages the variances of batches. BatchNorm pools all values, from the next batch on."""
    layer = theirs((16, 5), momentum=None).eval()
    bn = BatchNorm.from_torch(layer)
    assert bn.momentum is None
    assert bn.running_var.tolist() == layer.running_var.tolist()
    batches = [data((16, 5), "f4", 2, seed) for seed in range(2)]
    bn.train()
    for x in batches:
        bn(x)
    assert bn.num_batches_tracked == 2
    assert bn.pooled == Moments().update(batches[0]).merge(Moments().update(batches[1]))
    again = bn.to_torch(ndim=2)
    assert again.momentum is None
    assert int(again.num_batches_tracked) == 2
    assert again.running_var.tolist() == bn.pooled.var(1).astype("f4").tolist()


def test_ddof_of_pooled_statistics():
    bn = BatchNorm(5, momentum=None, running_ddof=0)
    bn(data((16, 5), "f4", 2, 0))
    assert bn.to_torch().running_var.tolist() == bn.pooled.var(1).astype("f4").tolist()
    bn = BatchNorm(5, running_ddof=0)       # n is unknown
    bn(data((16, 5), "f4", 2, 0))
    assert bn.to_torch().running_var.tolist() == bn.running_var.astype("f4").tolist()


def test_default_is_2d():
    assert type(BatchNorm(5).to_torch()) is torch.nn.BatchNorm2d


@pytest.mark.parametrize(("layer", "error", "message"), [
    (lambda: torch.nn.Linear(2, 3), TypeError, r"expected a torch.nn.BatchNorm1d, .* or SyncBatchNorm, got Linear"),
    (lambda: torch.nn.LazyBatchNorm2d(), TypeError, r"got LazyBatchNorm2d"),
    (lambda: torch.nn.InstanceNorm1d(3, track_running_stats=True), TypeError, r"got InstanceNorm1d"),
    (lambda: torch.nn.BatchNorm1d(3, track_running_stats=False), ValueError,
     r"no running statistics \(track_running_stats=False\).*; for the same results make a BatchNorm"),
])
def test_from_torch_refuses(layer, error, message):
    with pytest.raises(error, match=message):
        BatchNorm.from_torch(layer())


def test_to_torch_refuses():
    with pytest.raises(ValueError, match=r"along axis 1, this layer along axis -1; .* set channel_axis = 1 on a copy"):
        BatchNorm(3, channel_axis=-1).to_torch()
    with pytest.raises(ValueError, match=r"PyTorch has no equivalent of renorm=True; set renorm = False on a copy"):
        BatchNorm(3, renorm=True).to_torch()
    with pytest.raises(ValueError, match=r"no equivalent of virtual_batch=4; set virtual_batch = None on a copy"):
        BatchNorm(3, virtual_batch=4).to_torch()
    for ndim in (1, 6):
        with pytest.raises(ValueError, match=f"x of 2 to 5 dimensions, got ndim={ndim}"):
            BatchNorm(3).to_torch(ndim=ndim)
