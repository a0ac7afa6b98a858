"""LayerNorm, RMSNorm, GroupNorm and InstanceNorm of Flax converted and back: equal results and arrays."""

from importlib import import_module

import numpy as np
import pytest
from support.arrays import normal
from support.frameworks import require, with_parameters

from bnstream import GroupNorm, InstanceNorm, LayerNorm, RMSNorm

require("flax")
nnx, linen = import_module("flax.nnx"), import_module("flax.linen")

X = normal((6, 5, 4)).astype("f4")
LAYERS = {
    "layer": lambda: LayerNorm(4, 1e-4), "layer without bias": lambda: LayerNorm(4, bias=False),
    "plain layer": lambda: LayerNorm(4, elementwise_affine=False), "rms": lambda: RMSNorm(4, 1e-5),
    "group": lambda: GroupNorm(2, 4, 1e-2, channel_axis=-1),
    "plain group": lambda: GroupNorm(1, 4, affine=False, channel_axis=-1),
    "instance": lambda: InstanceNorm(4, affine=True, channel_axis=-1),
    "bfloat16": lambda: LayerNorm(4, dtype="bfloat16", result_dtype="f4"),
}


@pytest.mark.parametrize("name", LAYERS)
def test_there_and_back(name):
    layer = with_parameters(LAYERS[name]())
    if not hasattr(nnx, type(layer).__name__):
        pytest.skip("this version of Flax does not have it")
    theirs = layer.to_flax()
    np.testing.assert_allclose(layer(X), np.asarray(theirs(X), "f4"), rtol=2e-4, atol=2e-5)
    assert type(layer).from_flax(theirs) == layer


@pytest.mark.parametrize("name", LAYERS)
def test_linen(name):
    """A Linen layer has its size only in its arrays."""
    layer = with_parameters(LAYERS[name]())
    module, variables = layer.to_linen()
    np.testing.assert_allclose(layer(X), np.asarray(module.apply(variables, X), "f4"), rtol=2e-4, atol=2e-5)
    made = module.init(import_module("jax.random").key(0), X)
    assert [*made.get("params", {})] == [*variables.get("params", {})]
    convert = type(layer).from_flax
    if layer.affine:
        assert convert(module, variables) == layer
        assert convert(module.bind(variables)) == layer
        with pytest.raises(ValueError, match=f"a flax.linen.{type(layer).__name__} has no arrays of its own; pass its"):
            convert(module)
        with pytest.raises(ValueError, match=r"expected the variables of this layer alone, .* got {'params': \['norm'"):
            convert(module, {"params": {"norm": variables["params"]}})
        with pytest.raises(ValueError, match=r"expected the variables of this layer alone, .* got {'params': \['norm'"):
            convert(module.bind({"params": {"norm": variables["params"]}}))
    else:
        size = "normalized_shape" if isinstance(layer, LayerNorm) else "num_channels"
        assert convert(module, **{size: 4}) == layer
        with pytest.raises(ValueError, match=f"without parameters has no size; pass {size}"):
            convert(module)


def test_layers_of_flax():
    """Its defaults."""
    layer = GroupNorm.from_flax(nnx.GroupNorm(64, rngs=nnx.Rngs(0)), names=None)
    assert (layer.num_groups, layer.num_channels, layer.eps, layer.channel_axis) == (32, 64, 1e-6, -1)
    assert GroupNorm.from_flax(nnx.GroupNorm(64, None, 16, rngs=nnx.Rngs(0))).num_groups == 4
    boxed = linen.RMSNorm(scale_init=linen.with_partitioning(linen.initializers.ones, ("features",)))
    variables = boxed.init(import_module("jax.random").key(0), X)
    assert RMSNorm.from_flax(boxed, variables) == RMSNorm.from_flax(boxed.bind(variables)) == RMSNorm(4, 1e-6)
    layer = linen.GroupNorm(None, 16, use_bias=False, use_scale=False)
    assert GroupNorm.from_flax(layer, num_channels=64).num_groups == 4


def test_refused():
    other = nnx.LayerNorm(5, reduction_axes=1, feature_axes=1, rngs=nnx.Rngs(0))
    for call, error, message in (
        (lambda: LayerNorm.from_flax(other), ValueError, "has feature_axes=1, and LayerNorm takes the last axis"),
        (lambda: LayerNorm.from_flax(linen.LayerNorm(), X), TypeError, "variables must be a mapping, as returned by"),
        (lambda: GroupNorm.from_flax(linen.GroupNorm(2, reduction_axes=-1)), ValueError, "GroupNorm takes all; move"),
        (lambda: GroupNorm.from_flax(other), TypeError, "expected a flax.nnx.GroupNorm or a flax.linen.GroupNorm, got"),
        (lambda: GroupNorm(2, 4).to_flax(), ValueError, "Flax has the channels along the last axis, this layer along"),
        (lambda: LayerNorm((2, 3)).to_flax(), ValueError, "has one axis of features, this layer normalized_shape"),
        (lambda: RMSNorm(4).to_flax(), ValueError, "an eps of None depends on the dtype of x, and Flax needs a number"),
    ):
        with pytest.raises(error, match=message):
            call()
    if hasattr(nnx, "InstanceNorm"):
        with pytest.raises(ValueError, match="no layer with running estimates of instances"):
            InstanceNorm(4, channel_axis=-1, track_running_stats=True).to_flax()
