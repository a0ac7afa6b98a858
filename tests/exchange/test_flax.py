"""Layers of Flax, NNX and Linen, converted to BatchNorm and back."""

import numpy as np
import pytest
from support.frameworks import Bounds, a_batch, a_layer, assert_bounds_break, assert_within, compare

from bnstream import BatchNorm

pytest.importorskip("flax")
import jax
import jax.numpy as jnp
from flax import linen, nnx

ARRAYS = ("scale", "bias", "mean", "var")
SHAPES = [((16, 5), -1), ((8, 6, 5), -1), ((4, 3, 6, 5), -1), ((4, 5, 6, 7), 1)]


def values_of(n):
    return dict(zip(ARRAYS, np.linspace(0.5, 2, 4 * n).reshape(4, n).astype(np.float32), strict=True))


def theirs_nnx(n, axis, affine=True):
    """A layer of NNX whose arrays are not its defaults."""
    layer = nnx.BatchNorm(n, axis=axis, momentum=0.9, epsilon=1e-3, use_bias=affine, use_scale=affine, rngs=nnx.Rngs(0))
    for name, values in values_of(n).items():
        if affine or name in ("mean", "var"):
            setattr(layer, name, type(getattr(layer, name))(jnp.asarray(values)))
    return layer


def theirs_linen(n, axis, affine=True):
    values = {name: jnp.asarray(array) for name, array in values_of(n).items()}
    variables = {"batch_stats": {name: values[name] for name in ("mean", "var")}}
    if affine:
        variables["params"] = {name: values[name] for name in ("scale", "bias")}
    module = linen.BatchNorm(axis=axis, momentum=0.9, epsilon=1e-3, use_bias=affine, use_scale=affine)
    return module, variables


def call_nnx(layer, training):
    def call(x):
        y = layer(jnp.asarray(x), use_running_average=not training)
        return y, np.asarray(layer.mean), np.asarray(layer.var)

    return call


def call_linen(module, variables, training):
    """A call that keeps the new running estimates in `variables`."""

    def call(x):
        y, changed = module.apply(variables, jnp.asarray(x), use_running_average=not training, mutable=["batch_stats"])
        variables.update(changed)
        return y, variables["batch_stats"]["mean"], variables["batch_stats"]["var"]

    return call


@pytest.mark.parametrize(("shape", "axis"), SHAPES)
@pytest.mark.parametrize("affine", [True, False])
@pytest.mark.parametrize("kind", ["nnx", "linen"])
def test_from_flax(shape, axis, affine, kind):
    """Inference, a batch of training, inference again."""
    if kind == "nnx":
        layer = theirs_nnx(shape[axis], axis, affine)
        bn = BatchNorm.from_flax(layer)
    else:
        layer = theirs_linen(shape[axis], axis, affine)
        bn = BatchNorm.from_flax(*layer)
    assert (bn.eps, bn.momentum, bn.affine, bn.dtype, bn.training) == (1e-3, 0.1, affine, np.float32, True)
    assert (bn.channel_axis, bn.running_ddof) == (axis, 0)
    for seed, training in enumerate([False, True, False]):
        call = call_nnx(layer, training) if kind == "nnx" else call_linen(*layer, training)
        compare(bn.train(training), a_batch(shape, axis, seed), call)


@pytest.mark.parametrize(("shape", "axis"), SHAPES)
@pytest.mark.parametrize("affine", [True, False])
@pytest.mark.parametrize("kind", ["nnx", "linen"])
def test_to_flax(shape, axis, affine, kind):
    bn = a_layer(shape[axis], axis, momentum=0.2, affine=affine, running_ddof=0)
    layer = bn.to_linen() if kind == "linen" else bn.to_flax()
    module = layer if kind == "nnx" else layer[0]
    assert type(module) is (nnx.BatchNorm if kind == "nnx" else linen.BatchNorm)
    assert (module.epsilon, module.momentum, module.axis) == (1e-5, 0.8, axis)
    assert module.use_scale == module.use_bias == affine
    for seed, training in enumerate([False, True, False]):
        call = call_nnx(layer, training) if kind == "nnx" else call_linen(*layer, training)
        compare(bn.train(training), a_batch(shape, axis, seed), call)


def test_the_bounds_can_be_broken():
    bn = a_layer(5, -1, running_ddof=0)
    assert_bounds_break(bn, a_batch((16, 5), -1), lambda right: call_nnx(right.to_flax(), True))


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32"])
@pytest.mark.parametrize("affine", [True, False])
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("kind", ["nnx", "linen"])
def test_round_trip(dtype, affine, training, kind):
    """Bit for bit, to Flax, back and to Flax again. Without parameters the dtype must be given."""
    bn = a_layer(5, -1, dtype=dtype, affine=affine, running_ddof=0).train(training)

    def there(layer):
        made = layer.to_linen() if kind == "linen" else layer.to_flax()
        return made if kind == "linen" else (made,)

    layer = there(bn)
    assert layer[0].param_dtype == jnp.dtype(dtype)
    # Linen takes the mode with each call.
    assert layer[0].use_running_average == (not training if kind == "nnx" else None)
    again = BatchNorm.from_flax(*layer, **({} if affine else {"dtype": dtype}))
    assert again == bn
    assert again.training == (training or kind == "linen")
    leaves = [jax.tree.leaves(nnx.state(each[0]) if kind == "nnx" else each[1]) for each in (layer, there(again))]
    assert len(leaves[0]) == len(leaves[1]) == (4 if affine else 2)
    for one, other in zip(*leaves, strict=True):
        assert one.dtype == other.dtype
        assert np.asarray(one).tobytes() == np.asarray(other).tobytes()


def test_float64():
    """Under jax_enable_x64; the running estimates are float32 even then."""
    bn = a_layer(5, -1, dtype="float64", running_ddof=0)
    bn.gamma, bn.running_mean = bn.gamma / 3, bn.running_mean.astype("f4")
    bn.running_var, bn.num_batches_tracked = bn.running_var.astype("f4"), 1
    jax.config.update("jax_enable_x64", True)
    try:
        layer = bn.to_flax()
        assert np.asarray(layer.scale).dtype == np.float64
        assert np.asarray(layer.mean).dtype == np.float32
        assert BatchNorm.from_flax(layer) == bn
    finally:
        jax.config.update("jax_enable_x64", False)
    with pytest.warns(UserWarning, match="float64 .* will be truncated to dtype float32"):
        bn.to_flax()


def test_layer_of_a_network():
    """A bound module has its variables. From those of a network the caller selects the ones of the layer."""

    class Network(linen.Module):
        def setup(self):
            self.bn = linen.BatchNorm(use_running_average=True)

        def __call__(self, x):
            return self.bn(x)

    x = a_batch((16, 5), -1)
    network = Network()
    variables = network.init(jax.random.key(0), x)
    bn = BatchNorm.from_flax(network.bind(variables).bn)
    assert not bn.training
    assert bn.num_features == 5
    with pytest.raises(ValueError, match=r"the variables of this layer alone, .* got \{.*'batch_stats': \['bn'\]"):
        BatchNorm.from_flax(linen.BatchNorm(), variables)
    with pytest.raises(ValueError, match=r"got \{'scale': '\w+'\}; from those of a network take the ones under"):
        BatchNorm.from_flax(linen.BatchNorm(), {"scale": jnp.ones(3)})
    own = {kind: tree["bn"] for kind, tree in variables.items()}
    assert BatchNorm.from_flax(linen.BatchNorm(use_running_average=True), own) == bn


def test_scale_or_bias_alone():
    layer = nnx.BatchNorm(3, use_bias=False, rngs=nnx.Rngs(0))
    layer.scale = nnx.Param(jnp.asarray([1.0, 2.0, 3.0]))
    bn = BatchNorm.from_flax(layer)
    assert (bn.gamma.tolist(), bn.beta) == ([1, 2, 3], None)


@pytest.mark.parametrize("part", ["scale", "bias"])
@pytest.mark.parametrize("kind", ["nnx", "linen"])
def test_round_trip_of_one_parameter(part, kind):
    bn = a_layer(5, -1, scale=part == "scale", bias=part == "bias", running_ddof=0)
    layer = bn.to_linen() if kind == "linen" else (bn.to_flax(),)
    assert (layer[0].use_scale, layer[0].use_bias) == (part == "scale", part == "bias")
    assert BatchNorm.from_flax(*layer) == bn
    for seed, training in enumerate([False, True, False]):
        call = call_linen(*layer, training) if kind == "linen" else call_nnx(layer[0], training)
        compare(bn.train(training), a_batch((16, 5), -1, seed), call)


@pytest.mark.parametrize("make", [lambda **options: (nnx.BatchNorm(3, rngs=nnx.Rngs(0), **options),),
                                  lambda **options: (linen.BatchNorm(**options), BatchNorm(3).to_linen()[1])],
                         ids=["nnx", "linen"])
def test_axis_as_a_tuple(make):
    assert BatchNorm.from_flax(*make(axis=(1,))).channel_axis == 1
    with pytest.raises(ValueError, match=r"its channels along the axes \(1, 2\), a BatchNorm along one; reshape x"):
        BatchNorm.from_flax(*make(axis=(1, 2)))


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32"])
@pytest.mark.parametrize("kind", ["nnx", "linen"])
@pytest.mark.parametrize("training", [True, False])
def test_mixed_precision(dtype, kind, training):
    """The dtype of results is kept. Linen computes in float32 and rounds, NNX rounds all that it reads before."""
    theirs = getattr(jnp, dtype)
    layer = theirs_linen(5, -1) if kind == "linen" else (theirs_nnx(5, -1),)
    layer = (layer[0].clone(dtype=theirs), layer[1]) if kind == "linen" else layer
    layer[0].dtype = theirs if kind == "nnx" else layer[0].dtype
    bn = BatchNorm.from_flax(*layer).train(training)
    assert (bn.dtype, bn.result_dtype) == (np.float32, dtype)
    again = bn.to_linen()[0] if kind == "linen" else bn.to_flax()
    assert again.dtype == theirs
    assert again.param_dtype == jnp.float32
    x = a_batch((16, 5), -1)
    bounds = Bounds(bn, x)
    y = np.asarray((call_linen(*layer, training) if kind == "linen" else call_nnx(layer[0], training))(x)[0])
    ours = bn(x)
    assert ours.dtype == y.dtype == np.dtype(theirs)
    eps = float(jnp.finfo(theirs).eps)
    bound = bounds.y * (eps / jnp.finfo(jnp.float32).eps) if kind == "nnx" else bounds.y + eps * np.abs(ours)
    assert_within(ours, y, bound)


def test_arrays_are_copies():
    layer = theirs_nnx(5, -1)
    bn = BatchNorm.from_flax(layer)
    bn(a_batch((16, 5), -1))
    bn.gamma[:] = bn.beta[:] = 0
    for name, values in values_of(5).items():
        assert np.asarray(getattr(layer, name)).tolist() == values.tolist()


def test_settings_take_precedence():
    bn = BatchNorm.from_flax(theirs_nnx(5, -1), channel_axis=1, names=list("abcde"), nan_policy="omit")
    assert (bn.channel_axis, bn.names, bn.nan_policy) == (1, tuple("abcde"), "omit")
    layer = bn.to_flax(use_running_average=True, momentum=0.5, dtype=jnp.bfloat16)
    assert (layer.use_running_average, layer.momentum, layer.dtype, layer.axis) == (True, 0.5, jnp.bfloat16, 1)


def test_exact_statistics():
    """momentum=None: the variance has ddof 0, and the momentum is Flax's default."""
    bn = BatchNorm(5, momentum=None, channel_axis=-1)
    bn(a_batch((16, 5), -1))
    layer = bn.to_flax()
    assert layer.momentum == 0.99
    assert np.asarray(layer.var).tolist() == bn.pooled.var(0).astype("f4").tolist()


def test_refusals():
    with pytest.raises(TypeError, match=r"expected a flax.nnx.BatchNorm or a flax.linen.BatchNorm, got Dense"):
        BatchNorm.from_flax(linen.Dense(3))
    with pytest.raises(ValueError, match=r"flax.linen.BatchNorm has no arrays of its own; pass its variables"):
        BatchNorm.from_flax(linen.BatchNorm())
    with pytest.raises(ValueError, match=r"Flax has no equivalent of renorm=True; set renorm = False on a copy"):
        BatchNorm(3, renorm=True).to_flax()
    for convert in (BatchNorm.to_flax, BatchNorm.to_linen):
        with pytest.raises(ValueError, match=r"no equivalent of virtual_batch=4; set virtual_batch = None on a copy"):
            convert(BatchNorm(3, virtual_batch=4))
