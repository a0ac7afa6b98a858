"""Frameworks for the tests of tests/exchange, and bounds on the errors of their single precision."""

import os

import numpy as np
import pytest
from support.arrays import normal

from bnstream import BatchNorm

U = 2.0**-24


def require(name):
    """Import a framework or skip the test. Keras runs on PyTorch, or on KERAS_BACKEND."""
    os.environ.setdefault("KERAS_BACKEND", "torch")
    module = pytest.importorskip(name)
    if module.__file__ is None:         # the folder tests/sklearn, which is on the path
        pytest.skip(f"{name} is not installed")
    return module


def numpy_of(values):
    """A copy as a NumPy array. keras.ops.convert_to_numpy makes PyTorch warn under NumPy 2."""
    values = getattr(values, "value", values)       # Variables have a value.
    if hasattr(values, "detach"):
        values = values.detach()
        return (values.float() if values.dtype.itemsize == 2 else values).numpy().copy()
    return np.array(values)


def a_batch(shape, channel_axis, seed=0):
    """A float32 batch. Each channel has a mean and a scale of its own."""
    r = np.random.default_rng(seed)
    along = [shape[channel_axis] if axis == channel_axis % len(shape) else 1 for axis in range(len(shape))]
    x = r.standard_normal(shape) * r.uniform(0.5, 2, along) + r.uniform(-2, 2, along)
    return x.astype(np.float32)


def with_parameters(layer):
    """The layer, its gamma and beta, where it has them, no longer 1 and 0."""
    for i, values in enumerate((layer.gamma, layer.beta)):
        if values is not None:
            values[...] = normal(values.shape, i)
    return layer


def a_layer(num_features, channel_axis, momentum=0.1, dtype="float32", **settings):
    """A layer whose arrays are not its defaults, with values that are exact in `dtype`."""
    bn = BatchNorm(num_features, channel_axis=channel_axis, momentum=momentum, dtype=dtype, **settings)
    if bn.gamma is not None:
        bn.gamma = np.linspace(-1, 2.5, num_features)
    if bn.beta is not None:
        bn.beta = np.linspace(1, -3, num_features)
    bn.running_mean = np.linspace(-2, 1, num_features).astype(dtype)
    bn.running_var = np.linspace(0.5, 4, num_features).astype(dtype)
    bn.num_batches_tracked = 1
    return bn


class Bounds:
    """Bounds on the difference between a framework in single precision and us, for any order of its sums.

    A sum of n terms has an error of n u times the sum of their magnitudes. Let a be the largest |x| of a channel. The
    error of the mean of a batch is n u a, and that of its variance, at worst computed as E[x**2] - E[x]**2, is
    3 n u a**2. In inference both are given and have no error. The error of xhat is that of the mean in units of sd,
    plus |xhat| d for a relative error d of the variance, as |(1 + d)**-0.5 - 1| < |d| for |d| < 1/2. The rounding of
    mean, var, eps, scale, shift and of each operation adds 8 u times the terms of y, which are s |x|, s |mean| and
    |beta| with s = |gamma| / sd. Our own half an ulp is included in the 8. A batch contributes to the running
    estimates by its weight, and single precision adds 4 u to these.
    """

    def __init__(self, bn, x):
        """Compute the bounds, before the layer is called."""
        axis = bn.channel_axis % x.ndim
        self.axes = tuple(i for i in range(x.ndim) if i != axis)
        wide = x.astype(np.float64)
        a = np.abs(wide).max(self.axes)
        mean, var = (wide.mean(self.axes), wide.var(self.axes)) if bn.training else (bn.running_mean, bn.running_var)
        n_u = x.size // x.shape[axis] * U if bn.training else 0.0
        of_mean, of_var = n_u * a, 3 * n_u * a**2
        assert (of_var < var / 2).all()
        gamma, beta = 1.0 if bn.gamma is None else np.abs(bn.gamma), 0.0 if bn.beta is None else np.abs(bn.beta)
        scale = gamma / np.sqrt(var + bn.eps)
        farthest = np.abs(wide - np.expand_dims(mean, self.axes)).max(self.axes)
        y = scale * of_mean + scale * farthest * of_var / var + 8 * U * (scale * (a + np.abs(mean)) + beta)
        self.y = np.expand_dims(y, self.axes)
        self.running_mean = bn.momentum * of_mean + 4 * U * (np.abs(bn.running_mean) + a)
        self.running_var = bn.momentum * of_var + 4 * U * (bn.running_var + a**2)


def assert_within(ours, theirs, bound):
    share = (np.abs(np.asarray(ours, np.float64) - np.asarray(theirs, np.float64)) / bound).max()
    assert share <= 1, f"the difference is {share:.3g} of the bound"


def compare(bn, x, call):
    """Run one batch through both in the mode of bn. `call(x)` returns y and the running estimates of the other."""
    bounds = Bounds(bn, x)
    y, running_mean, running_var = call(x)
    assert_within(bn(x), y, bounds.y)
    assert_within(bn.running_mean, running_mean, bounds.running_mean)
    assert_within(bn.running_var, running_var, bounds.running_var)


def assert_bounds_break(bn, x, new_call):
    """Check that a wrong setting or parameter breaks the bounds."""
    spoils = {"eps": bn.eps + 2e-3, "gamma": bn.gamma[::-1], "momentum": 1 - bn.momentum,
              "running_ddof": 1 - bn.running_ddof}
    for name, value in spoils.items():
        wrong = bn.copy().train()
        setattr(wrong, name, value)
        with pytest.raises(AssertionError, match="of the bound"):
            compare(wrong, x, new_call(bn))
