"""The cases of Flax's tests of BatchNorm, Linen's and NNX's, for our layer.

Two expectations do not hold, and the contract that takes their place is checked: complex numbers are refused, and so is
a mask that leaves a channel without a value, which gives NaN in Flax.
"""

import numpy as np
import pytest

from bnstream import BatchNorm

pytest.importorskip("flax")
import jax.numpy as jnp


def normal(shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


@pytest.mark.parametrize("masked", [False, True])
def test_batch_norm(masked):
    """Mean 0 and variance 1 over the selected values, and estimates that move by a tenth; the others are NaN."""
    x, where = normal((4, 3, 2)), None
    if masked:
        where = np.random.default_rng(1).random((4, 3)) < 0.5
        x[~where] = np.nan
    bn = BatchNorm(2, channel_axis=-1, momentum=0.1, running_ddof=0)
    y = bn(x, where=where if where is None else where[..., None])
    selected, values = (y[where], x[where]) if masked else (y.reshape(-1, 2), x.reshape(-1, 2))
    np.testing.assert_allclose(selected.mean(0), 0, atol=1e-4)
    np.testing.assert_allclose(selected.var(0), 1, rtol=1e-4)
    np.testing.assert_allclose(bn.running_mean, 0.1 * values.mean(0), atol=1e-4)
    np.testing.assert_allclose(bn.running_var, 0.9 + 0.1 * values.var(0), rtol=1e-4)
    module, variables = BatchNorm(2, channel_axis=-1, momentum=0.1).to_linen()
    theirs, changed = module.apply(variables, jnp.asarray(x), use_running_average=False, mutable=["batch_stats"],
                                   mask=None if where is None else where[..., None])
    theirs = np.asarray(theirs)
    np.testing.assert_allclose(selected, theirs[where] if masked else theirs.reshape(-1, 2), atol=1e-5)
    np.testing.assert_allclose(bn.running_var, changed["batch_stats"]["var"], rtol=1e-5)


@pytest.mark.parametrize("masked", [False, True])
def test_batch_norm_complex(masked):
    """Flax normalizes complex numbers by one variance. They are refused here: real and imaginary parts have two."""
    x, where = normal((4, 3, 2)) + 1j, np.ones((4, 3), bool) if masked else None
    with pytest.raises(TypeError, match="complex"):
        BatchNorm(2, channel_axis=-1)(x, where=where)


def test_batch_norm_multi_init():
    """The same layer twice on the same batch gives the same result."""
    bn, x = BatchNorm(4, channel_axis=-1), normal((2, 4))
    assert bn(x).tobytes() == bn(x).tobytes()


@pytest.mark.parametrize("result", ["float32", "float16", "bfloat16"])
@pytest.mark.parametrize("parameters", ["float32", "float16", "bfloat16"])
@pytest.mark.parametrize("fast_variance", [True, False])
@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("kind", ["linen", "nnx"])
@pytest.mark.parametrize("training", [True, False])
def test_equivalence(result, parameters, fast_variance, masked, kind, training):
    """Of ours and both of theirs, for each dtype of results and of parameters."""
    x, where = normal((10, 5)), np.arange(10) % 2 == 0 if masked else None
    made = BatchNorm(5, channel_axis=-1, momentum=0.01, dtype=parameters, running_ddof=0, result_dtype=result)
    made.gamma, made.beta = np.linspace(-1, 2, 5), np.linspace(0, 1, 5)
    made.running_mean, made.running_var = np.linspace(-0.5, 0.5, 5), np.linspace(0.5, 2, 5)
    options = {"use_running_average": not training, "mask": None if where is None else where[:, None]}
    if kind == "linen":
        module, variables = made.to_linen(use_fast_variance=fast_variance)
        bn = BatchNorm.from_flax(module, variables)
        theirs, _ = module.apply(variables, jnp.asarray(x), mutable=["batch_stats"], **options)
    else:
        theirs_layer = made.to_flax(use_fast_variance=fast_variance)
        bn = BatchNorm.from_flax(theirs_layer)
        theirs = theirs_layer(jnp.asarray(x), **options)
    ours = bn.train(training)(x, where=where)
    assert ours.dtype == np.asarray(theirs).dtype == jnp.dtype(result)
    selected = slice(None) if where is None else where
    # NNX rounds x, the estimates and the parameters to the dtype of results, Linen the result.
    tolerance = (16 if kind == "nnx" else 2) * max(float(jnp.finfo(result).eps), 1e-6)
    np.testing.assert_allclose(ours[selected].astype("f8"), np.asarray(theirs)[selected].astype("f8"), rtol=tolerance,
                               atol=tolerance)


def test_a_mask_of_channels():
    """Flax's tests of equivalence mask whole channels, whose statistics are NaN. Here such a batch is refused."""
    bn = BatchNorm(5, channel_axis=-1)
    before = bn.copy()
    with pytest.raises(ValueError, match="at least 2 values in each channel, got 0 in channel 1"):
        bn(normal((10, 5)), where=np.array([True, False, True, False, True]))
    assert bn == before
