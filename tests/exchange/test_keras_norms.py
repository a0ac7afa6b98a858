"""LayerNormalization, RMSNormalization and GroupNormalization of Keras converted and back: equal results and arrays."""

import numpy as np
import pytest
from support.arrays import normal
from support.frameworks import numpy_of, require, with_parameters

from bnstream import GroupNorm, InstanceNorm, LayerNorm, RMSNorm

keras = require("keras")

X = normal((6, 5, 4)).astype("f4")
LAYERS = {
    "layer": lambda: LayerNorm(4, 1e-4), "layer of two axes": lambda: LayerNorm((5, 4), bias=False),
    "plain layer": lambda: LayerNorm(4, elementwise_affine=False), "rms": lambda: RMSNorm(4, 1e-5),
    "group": lambda: GroupNorm(2, 4, 1e-2, channel_axis=-1), "plain group": lambda: GroupNorm(1, 5, affine=False),
    "instance": lambda: InstanceNorm(4, affine=True, channel_axis=-1), "mixed": lambda: LayerNorm(4, result_dtype="f2"),
}


@pytest.mark.parametrize("name", LAYERS)
def test_there_and_back(name):
    if name == "rms" and not hasattr(keras.layers, "RMSNormalization"):
        pytest.skip("Keras has it from 3.9 on")
    layer = with_parameters(LAYERS[name]())
    theirs = layer.to_keras(ndim=3)
    tolerance = 2e-3 if layer.result_dtype is not None else 1e-4
    np.testing.assert_allclose(layer(X).astype("f4"), numpy_of(theirs(X)).astype("f4"), rtol=tolerance, atol=tolerance)
    back = type(layer).from_keras(theirs)
    assert back == layer
    assert back.training
    theirs.trainable = False
    assert not type(layer).from_keras(theirs, names=None).training


def test_layers_of_keras():
    """Its defaults, and axes counted from the front."""
    theirs = keras.layers.LayerNormalization(axis=[1, 2])
    theirs.build((None, 5, 4))
    layer = LayerNorm.from_keras(theirs)
    assert (layer.normalized_shape, layer.eps) == ((5, 4), 1e-3)
    theirs = keras.layers.GroupNormalization(groups=-1)
    theirs.build((None, 5, 4))
    assert InstanceNorm.from_keras(theirs).num_features == GroupNorm.from_keras(theirs).num_groups == 4


def test_refused():
    first, groups = keras.layers.LayerNormalization(axis=1), keras.layers.GroupNormalization(groups=2)
    with pytest.raises(ValueError, match="has no arrays yet; call it on a batch"):
        LayerNorm.from_keras(first)
    first.build((None, 5, 4))
    groups.build((None, 5, 4))
    for call, error, message in (
        (lambda: LayerNorm.from_keras(first), ValueError, r"normalizes the axes \[1\] of 3, a LayerNorm the last ones"),
        (lambda: InstanceNorm.from_keras(groups), ValueError, "2 groups of 4 channels; use GroupNorm.from_keras"),
        (lambda: LayerNorm.from_keras(groups), TypeError, "expected a keras.layers.LayerNormalization, got Group"),
        (lambda: InstanceNorm(4, track_running_stats=True).to_keras(), ValueError, "no layer with running estimates"),
        (lambda: GroupNorm(2, 4, channel_axis=3).to_keras(ndim=3), ValueError, "has no channel axis 3"),
        (lambda: LayerNorm((2, 3, 4)).to_keras(ndim=2), ValueError, "is too small for a normalized_shape"),
    ):
        with pytest.raises(error, match=message):
            call()
    if hasattr(keras.layers, "RMSNormalization"):
        with pytest.raises(ValueError, match="has a number for eps, and a scale; set eps on a copy"):
            RMSNorm(4).to_keras()
