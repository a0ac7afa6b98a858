"""Layers of Keras converted to BatchNorm and back. The backend is KERAS_BACKEND, torch by default."""

import numpy as np
import pytest
from support.frameworks import Bounds, a_batch, a_layer, assert_bounds_break, assert_within, compare, numpy_of, require

from bnstream import BatchNorm

keras = require("keras")

ARRAYS = ("gamma", "beta", "moving_mean", "moving_variance")
SHAPES = [((16, 5), -1), ((8, 6, 5), -1), ((4, 3, 6, 5), -1), ((4, 5, 6, 7), 1), ((2, 3, 4, 3, 5), 4)]


def theirs(shape, axis, affine=True):
    """A layer of Keras whose arrays are not its defaults."""
    layer = keras.layers.BatchNormalization(axis=axis, momentum=0.9, center=affine, scale=affine)
    layer.build(shape)
    values = np.linspace(0.5, 2, 4 * shape[axis]).reshape(4, -1).astype(np.float32)
    for name, row in zip(ARRAYS, values, strict=True):
        if getattr(layer, name) is not None:
            getattr(layer, name).assign(row)
    return layer


def call_of(layer, training):
    def call(x):
        y = layer(x, training=training)
        return numpy_of(y), numpy_of(layer.moving_mean), numpy_of(layer.moving_variance)

    return call


def assert_equal_layers(one, other):
    configs = [{**layer.get_config(), "name": None} for layer in (one, other)]
    assert configs[0] == configs[1]
    for name in ARRAYS:
        ours, theirs = getattr(one, name), getattr(other, name)
        assert (ours is None) == (theirs is None)
        if ours is not None:
            assert ours.dtype == theirs.dtype
            assert numpy_of(ours).tobytes() == numpy_of(theirs).tobytes()


@pytest.mark.parametrize(("shape", "axis"), SHAPES)
@pytest.mark.parametrize("affine", [True, False])
def test_from_keras(shape, axis, affine):
    """Inference, a batch of training, inference again."""
    layer = theirs(shape, axis, affine)
    bn = BatchNorm.from_keras(layer)
    assert (bn.eps, bn.momentum, bn.affine, bn.dtype, bn.training) == (1e-3, 0.1, affine, np.float32, True)
    assert (bn.channel_axis, bn.running_ddof) == (axis, 0)
    for seed, training in enumerate([False, True, False]):
        compare(bn.train(training), a_batch(shape, axis, seed), call_of(layer, training))


@pytest.mark.parametrize(("shape", "axis"), SHAPES)
@pytest.mark.parametrize("affine", [True, False])
def test_to_keras(shape, axis, affine):
    bn = a_layer(shape[axis], axis, momentum=0.2, affine=affine, running_ddof=0)
    layer = bn.to_keras(ndim=len(shape))
    assert (layer.epsilon, layer.momentum, layer.axis, layer.center, layer.scale) == (1e-5, 0.8, axis, affine, affine)
    assert layer.built
    for seed, training in enumerate([False, True, False]):
        compare(bn.train(training), a_batch(shape, axis, seed), call_of(layer, training))


def test_the_bounds_can_be_broken():
    bn = a_layer(5, -1, running_ddof=0)
    assert_bounds_break(bn, a_batch((16, 5), -1), lambda right: call_of(right.to_keras(ndim=2), True))


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32"])
@pytest.mark.parametrize("affine", [True, False])
def test_round_trip(dtype, affine):
    """Bit for bit, to Keras, back and to Keras again."""
    pytest.importorskip("ml_dtypes")
    bn = a_layer(5, -1, dtype=dtype, affine=affine, running_ddof=0)
    layer = bn.to_keras(ndim=3)
    assert layer.variable_dtype == dtype
    again = BatchNorm.from_keras(layer)
    assert again == bn
    assert_equal_layers(again.to_keras(ndim=3), layer)


def test_float64():
    if keras.config.backend() == "jax":
        pytest.skip("JAX has float64 only under jax_enable_x64")
    bn = a_layer(5, -1, dtype="float64", running_ddof=0)
    bn.running_mean = bn.running_mean / 3
    assert BatchNorm.from_keras(bn.to_keras()) == bn


def test_gamma_or_beta_alone():
    layer = keras.layers.BatchNormalization(center=False)
    layer.build((None, 3))
    layer.gamma.assign([1.0, 2.0, 3.0])
    bn = BatchNorm.from_keras(layer)
    assert (bn.gamma.tolist(), bn.beta) == ([1, 2, 3], None)


@pytest.mark.parametrize("part", ["scale", "center"])
def test_round_trip_of_one_parameter(part):
    bn = a_layer(5, -1, scale=part == "scale", bias=part == "center", running_ddof=0)
    layer = bn.to_keras(ndim=2)
    assert (layer.scale, layer.center) == (part == "scale", part == "center")
    assert BatchNorm.from_keras(layer) == bn
    for seed, training in enumerate([False, True, False]):
        compare(bn.train(training), a_batch((16, 5), -1, seed), call_of(layer, training))


def test_mode():
    """Keras takes the mode with each call, but a frozen layer is always in inference mode."""
    layer = theirs((16, 5), -1)
    layer.trainable = False
    bn = BatchNorm.from_keras(layer)
    assert not bn.training
    compare(bn, a_batch((16, 5), -1), call_of(layer, True))
    assert bn.to_keras().trainable


def test_arrays_are_copies():
    layer = theirs((16, 5), -1)
    bn = BatchNorm.from_keras(layer)
    before = [numpy_of(getattr(layer, name)) for name in ARRAYS]
    bn(a_batch((16, 5), -1))
    bn.gamma[:] = bn.beta[:] = 0
    for name, values in zip(ARRAYS, before, strict=True):
        assert numpy_of(getattr(layer, name)).tolist() == values.tolist()


def test_settings_take_precedence():
    bn = BatchNorm.from_keras(theirs((16, 5), -1), channel_axis=1, names=list("abcde"), nan_policy="omit")
    assert (bn.channel_axis, bn.names, bn.nan_policy) == (1, tuple("abcde"), "omit")
    layer = bn.to_keras(ndim=2, name="normalize", momentum=0.5, dtype="mixed_float16")
    assert (layer.name, layer.momentum, layer.axis, layer.variable_dtype) == ("normalize", 0.5, 1, "float32")


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
@pytest.mark.parametrize("training", [True, False])
def test_mixed_precision(dtype, training):
    """The dtype of results is kept. Keras rounds x to it before, so here x has this dtype already."""
    ml_dtypes = pytest.importorskip("ml_dtypes")
    layer = keras.layers.BatchNormalization(dtype=f"mixed_{dtype}")
    layer.build((None, 3))
    bn = BatchNorm.from_keras(layer).train(training)
    assert (bn.dtype, bn.result_dtype) == (np.float32, dtype)
    again = bn.to_keras(ndim=2)
    assert (again.compute_dtype, again.variable_dtype) == (dtype, "float32")
    assert again.dtype_policy.name == layer.dtype_policy.name
    x = a_batch((16, 3), -1).astype(dtype if dtype == "float16" else ml_dtypes.bfloat16).astype(np.float32)
    bounds = Bounds(bn, x)
    theirs, ours = layer(x, training=training), bn(x)
    assert str(getattr(theirs, "dtype", "")).endswith(ours.dtype.name)
    ours = ours.astype("f8")
    assert_within(ours, numpy_of(theirs), bounds.y + float(ml_dtypes.finfo(dtype).eps) * np.abs(ours))


def test_policies_that_keras_lacks():
    bn = BatchNorm(3, dtype="float64", result_dtype="float16")
    with pytest.raises(ValueError, match=r"no policy with variables of float64 and results of float16; pass dtype= "):
        bn.to_keras()
    assert bn.to_keras(dtype="mixed_float16").compute_dtype == "float16"
    assert BatchNorm(3, dtype="float16", result_dtype="float16").to_keras().dtype_policy.name == "float16"


def test_exact_statistics():
    """momentum=None: the variance has ddof 0, and the momentum is Keras's default."""
    bn = BatchNorm(5, momentum=None, channel_axis=-1)
    bn(a_batch((16, 5), -1))
    layer = bn.to_keras(ndim=2)
    assert layer.momentum == 0.99
    assert numpy_of(layer.moving_variance).tolist() == bn.pooled.var(0).astype("f4").tolist()


def test_from_keras_refuses():
    with pytest.raises(TypeError, match=r"expected a keras.layers.BatchNormalization, got Dense"):
        BatchNorm.from_keras(keras.layers.Dense(3))
    layer = keras.layers.BatchNormalization(name="bn1")
    with pytest.raises(ValueError, match=r"the layer bn1 has no arrays yet; call it on a batch, or layer.build"):
        BatchNorm.from_keras(layer)


def test_renorm():
    """Keras has renorm from 3.13 on, with estimates that BatchNorm does not have."""
    layer = theirs((16, 5), -1)
    layer.renorm = True
    with pytest.raises(ValueError, match=r"for which Keras keeps estimates .*; pass renorm=False .*, or renorm=True"):
        BatchNorm.from_keras(layer)
    for renorm in (True, False):
        assert BatchNorm.from_keras(layer, renorm=renorm).renorm == renorm
    with pytest.raises(ValueError, match=r"Keras has no equivalent of renorm=True; set renorm = False on a copy"):
        BatchNorm(3, renorm=True).to_keras()
    with pytest.raises(ValueError, match=r"no equivalent of virtual_batch=4; set virtual_batch = None on a copy"):
        BatchNorm(3, virtual_batch=4).to_keras()


@pytest.mark.parametrize(("axis", "ndim"), [(4, 4), (-5, 4), (2, 2)])
def test_no_such_axis(axis, ndim):
    with pytest.raises(ValueError, match=rf"x of ndim={ndim} dimensions has no channel axis {axis}"):
        BatchNorm(3, channel_axis=axis).to_keras(ndim=ndim)
