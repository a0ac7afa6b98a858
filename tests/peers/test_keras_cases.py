"""The cases of Keras's tests of BatchNormalization, for our layer: same data, settings, expectations and tolerances.

Two expectations do not hold, and the contract that takes their place is checked: a batch that is masked wholly is
refused in training, and Batch Renormalization has one pair of running estimates, where Keras has two.
"""

import pickle

import numpy as np
import pytest

from bnstream import BatchNorm


def layer(n, axis=-1, momentum=0.99, epsilon=1e-3, **options):
    """A layer with the defaults of Keras, in its sense of momentum."""
    return BatchNorm(n, channel_axis=axis, momentum=1 - momentum, eps=epsilon, running_ddof=0, **options)


def other_axes(x, axis):
    return tuple(i for i in range(x.ndim) if i != axis % x.ndim)


@pytest.mark.parametrize("shape", [(2, 3), (2, 4, 4, 3)], ids=str)
@pytest.mark.parametrize("options", [{}, {"scale": False}, {"bias": False}, {"affine": False}, {"renorm": True},
                                     {"renorm": True, "r_max": 3.0, "d_max": 5.0}], ids=str)
@pytest.mark.parametrize("masked", [False, True])
def test_basics(shape, options, masked):
    """Shapes, dtypes, the number of arrays, masks, and a copy through a pickle."""
    bn, x = layer(shape[-1], **options), np.random.default_rng(0).random(shape, np.float32)
    where = np.ones(shape[:-1], bool) if masked else None
    y = bn(x, where=where)
    assert (y.shape, y.dtype) == (shape, np.float32)
    assert np.isfinite(y).all()
    n_parameters = sum(values is not None for values in (bn.gamma, bn.beta))
    assert n_parameters == len(bn.state_dict()) - 3         # two estimates and a count
    twin = pickle.loads(pickle.dumps(bn)).eval()
    assert twin(x).tobytes() == bn.eval()(x).tobytes()


@pytest.mark.parametrize("axis", [-1, 1])
@pytest.mark.parametrize("shape", [(5, 2, 3), (5, 3, 3, 2)], ids=str)
@pytest.mark.parametrize("mean", [0.0, 1.0])
@pytest.mark.parametrize("var", [0.0, 1.0])
def test_correctness(axis, shape, mean, var):
    """Three times in a row, with momentum 0 in Keras's sense; then inference."""
    x = np.random.default_rng(0).normal(5, 10, shape)
    bn = layer(shape[axis], axis, momentum=0)
    bn.running_mean, bn.running_var = np.full(shape[axis], mean), np.full(shape[axis], var)
    out, axes = x, other_axes(x, axis)
    for _ in range(3):
        out = bn(out)
    np.testing.assert_allclose(out.mean(axes), 0, atol=1e-3)
    np.testing.assert_allclose(out.std(axes), 1, atol=1e-3)
    np.testing.assert_allclose(bn.running_mean, 0, atol=1e-3)
    np.testing.assert_allclose(bn.running_var, 1, atol=1e-3)
    assert not np.allclose(bn.eval()(x), bn.train()(x))
    trained = bn(x)
    np.testing.assert_allclose(bn.eval()(x), trained, rtol=1e-6, atol=1e-6)
    # Masked positions do not change inference; they do change training.
    x[:, 1] = 0
    where = x.any(axis)         # all True where the row of zeros is a channel
    np.testing.assert_array_equal(bn(x) * np.expand_dims(where, axis), bn(x, where=where))
    if not where.all():
        assert not np.allclose(bn(x), bn.train()(x, where=where))


@pytest.mark.parametrize("momentum", [0.0, 0.99])
def test_input_fully_masked(momentum):
    """Keras returns zeros and makes the estimates those of no value. Here the batch is refused."""
    bn, where = layer(5, momentum=momentum, affine=False), np.zeros(4, bool)
    before = bn.copy()
    with pytest.raises(ValueError, match="where leaves out every value of the batch, and training needs at least 2"):
        bn(np.zeros((4, 5)), where=where)
    assert bn == before
    assert not bn.eval()(np.zeros((4, 5)), where=where).any()


@pytest.mark.parametrize("mask_value", [0.0, 0.1, 1.0])
@pytest.mark.parametrize("epochs", [1, 5])
def test_masked_values_are_ignored(mask_value, epochs):
    row = np.array([[1, 5], [2, 5], [mask_value, mask_value], [mask_value, mask_value]], np.float32)
    data = np.stack([row] * 10)
    bn, where = layer(2, momentum=0.0), (data != np.float32(mask_value)).any(-1)
    for _ in range(epochs):
        bn(data, where=where)
    np.testing.assert_allclose(bn.running_mean, [1.5, 5.0], rtol=1e-6)
    np.testing.assert_allclose(bn.running_var, [0.25, 0.0], rtol=1e-6)


def test_trainable_behavior():
    """A frozen layer is one in inference mode: by mean 0 and variance 1 it returns x."""
    bn = layer(3, momentum=0.8, epsilon=1e-7).eval()
    x = np.random.default_rng(0).normal(5, 10, (200, 4, 4, 3))
    np.testing.assert_allclose(bn(x), x, rtol=1e-6)
    assert bn == layer(3, momentum=0.8, epsilon=1e-7)
    bn.train()
    for _ in range(10):
        out = bn(x)
    np.testing.assert_allclose(out.mean((0, 1, 2)), 0, atol=1e-3)
    np.testing.assert_allclose(out.std((0, 1, 2)), 1, atol=1e-3)


def test_large_values_beside_float16():
    """70000 overflows float16; estimates are float64 in a layer of any dtype."""
    bn = layer(4, dtype="float16", result_dtype="float16")
    bn.running_var = np.full(4, 70000)
    assert bn.running_var.tolist() == [70000] * 4
    assert np.isfinite(bn.eval()(np.ones((2, 4)))).all()


def test_masked_broadcast_normalization():
    """A mask with length 1 along an axis."""
    bn = layer(4, momentum=0.0)
    y = bn(np.ones((1, 2, 3, 4)), where=np.ones((1, 2, 1), bool))
    np.testing.assert_allclose(y, 0, atol=1e-6)
    np.testing.assert_allclose(bn.running_mean, 1, atol=1e-6)
    np.testing.assert_allclose(bn.running_var, 0, atol=1e-6)


@pytest.mark.parametrize("clipping", [{"r_max": 0.5}, {"d_max": -1.0}], ids=str)
def test_renorm_invalid_clipping(clipping):
    with pytest.raises(ValueError, match=f"{next(iter(clipping))} must be at least"):
        layer(3, renorm=True, **clipping)


def test_renorm_inference():
    """It is that of a layer without renorm."""
    r = np.random.default_rng(0)
    bn = layer(10)
    bn.gamma, bn.beta, bn.running_mean, bn.running_var = *r.normal(size=(3, 10)), r.random(10)
    other = layer(10, renorm=True)
    other.load_state_dict(bn.state_dict())
    x = r.normal(size=(4, 10))
    assert bn.eval()(x).tobytes() == other.eval()(x).tobytes()


def test_renorm_correctness():
    """Without limits, by running estimates that are those of Keras's second pair."""
    r, epsilon, momentum = np.random.default_rng(1337), 1e-3, 0.8
    bn = layer(3, momentum=momentum, epsilon=epsilon, renorm=True, r_max=np.inf, d_max=np.inf, dtype="f8")
    mean, sd = r.normal(size=3), 0.1 + np.abs(r.normal(1, 0.5, 3))
    bn.running_mean, bn.running_var = mean, sd**2 - epsilon
    bn.gamma, bn.beta = r.normal(1, 0.1, 3), r.normal(0, 0.1, 3)
    x = np.array([[4, 6, 2], [8, -2, 5], [6, 4, 3]], np.float32)
    batch_sd = np.sqrt(x.var(0) + epsilon)
    wanted = (x - x.mean(0)) / batch_sd * (batch_sd / sd) + (x.mean(0) - mean) / sd
    np.testing.assert_allclose(bn(x), wanted * bn.gamma + bn.beta, atol=1e-5)
    np.testing.assert_allclose(bn.running_mean, mean * momentum + x.mean(0) * (1 - momentum), atol=1e-5)


@pytest.mark.parametrize("options", [{}, {"renorm": True, "r_max": 3.0, "d_max": 5.0}, {"scale": False}], ids=str)
def test_serialization(options):
    """The settings that are shown make the layer again."""
    bn = layer(3, momentum=0.95, **options)
    assert eval(repr(bn).partition("): ")[0] + ")") == bn
