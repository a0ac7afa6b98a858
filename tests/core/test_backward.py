"""backward: gradients against exact arithmetic and finite differences; refused calls and the state they leave."""

import functools
import itertools
import warnings
import weakref
from concurrent.futures import ThreadPoolExecutor
from fractions import Fraction

import mpmath
import numpy as np
import pytest
from support.arrays import BFLOAT16, DTYPES, LAYOUTS, NATIVE_PLACES, normal, of_dtype, read_only, rng, swapped
from support.batchnorm_oracle import EPS, Batch, assert_within, worst_share
from support.cases import pairwise, thorough
from support.gradients import gradient
from support.states import layer

from bnstream import BatchNorm, batch_norm, batch_norm_vjp

SHAPES = {
    "table": ((300, 5), 1), "wide": ((9, 600), -1), "7 x 7": ((5, 9, 7, 7), 1), "56 x 56": ((2, 3, 56, 56), 1),
    "channels last": ((3, 8, 9, 3), 3), "rows": ((4, 310), 0), "two rows": ((2, 17), 1),
    "one image": ((1, 70, 7, 15), 1), "long rows": ((130, 270), 0),
}


@functools.cache
def case(shape, dtype):
    dims, channel_axis = SHAPES[shape]
    x = of_dtype(dtype, dims)
    gamma = rng(3).standard_normal(dims[channel_axis])
    dy = (normal(dims, 4) + 0.5).astype(dtype if dtype.kind == "f" or dtype == BFLOAT16 else "f4")
    return x, gamma, dy, channel_axis, Batch(x, gamma, 0 * gamma, 1e-3, channel_axis).gradients(dy)


def check(bn, dx, exact):
    for got, (value, slack) in zip((dx, bn.grad_gamma, bn.grad_beta), exact, strict=True):
        assert_within(got, value, slack)


@pytest.mark.parametrize(("layout", "shape", "dtype"), pairwise(LAYOUTS, SHAPES, DTYPES), ids=str)
def test_grid(layout, shape, dtype):
    """x and dy in every layout; the result in every place, including those of dy and x."""
    values, gamma, of_y, channel_axis, exact = case(shape, dtype)
    x, dy = LAYOUTS[layout](values), LAYOUTS[layout](of_y)
    before = x.tobytes(), dy.tobytes()
    bn = layer(gamma, eps=1e-3, channel_axis=channel_axis)
    native = dy.dtype.newbyteorder("=")
    for out in (None, *(place(dy.shape, native) for place in NATIVE_PLACES.values())):
        bn(x)
        dx = bn.backward(dy, out)
        assert out is None or dx is out
        assert dx.dtype == native
        check(bn, dx, exact)
        bn(x)
        check(bn, bn.backward(of_y, out), exact)
    assert (x.tobytes(), dy.tobytes()) == before
    x, dy = LAYOUTS[layout](values.copy()), LAYOUTS[layout](of_y.copy())
    if not dy.flags.writeable:
        return
    bn(x)
    check(bn, bn.backward(dy, dy).astype(of_y.dtype), exact)
    if x.dtype == dy.dtype:
        bn(x)
        dx = bn.backward(of_y, x)
        assert dx is x
        check(bn, dx.astype(of_y.dtype), exact)


@pytest.mark.parametrize("dy_dtype", DTYPES, ids=str)
@pytest.mark.parametrize("dtype", ["f4", "f8", "u1", "i8", BFLOAT16], ids=str)
def test_dy_of_any_dtype(dtype, dy_dtype):
    x, dy = of_dtype(dtype, (40, 3)), of_dtype(dy_dtype, (40, 3), 1)
    if dy_dtype.kind in "iu":
        dy = dy % 100
    gamma = np.array([1, -2, 3.0])
    bn = layer(gamma, eps=1e-3)
    bn(x)
    check(bn, bn.backward(dy), Batch(x, gamma, 0 * gamma, 1e-3, 1).gradients(dy))


def with_mpmath(x, dy, gamma, eps):
    """Return dx, grad_gamma and grad_beta of one channel by the chain rule, through mean and variance."""
    with mpmath.workdps(60):
        x, dy = ([mpmath.mpf(v) for v in values.tolist()] for values in (x, dy))
        n, gamma = len(x), mpmath.mpf(gamma)
        mean = sum(x) / n
        var = sum((v - mean) ** 2 for v in x) / n
        sd = mpmath.sqrt(var + eps)
        of_var = sum(d * gamma * (v - mean) for v, d in zip(x, dy, strict=True)) * -1 / (2 * sd**3)
        of_mean = -sum(d * gamma for d in dy) / sd
        dx = [d * gamma / sd + of_var * 2 * (v - mean) / n + of_mean / n for v, d in zip(x, dy, strict=True)]
        return dx, sum(d * (v - mean) / sd for v, d in zip(x, dy, strict=True)), sum(dy)


@pytest.mark.parametrize("offset", [0.0, 1e4, 1e8])
@pytest.mark.parametrize("n", [2, 3, 8, 50])
def test_against_mpmath(n, offset):
    """Both backward and the oracle agree with mpmath."""
    x, dy, gamma = normal((n, 4)) + offset, normal((n, 4), 1), np.array([1, -2, 0.3, 5])
    bn = layer(gamma)
    bn(x)
    dx = bn.backward(dy)
    exact = Batch(x, gamma, 0 * gamma, 1e-5, 1).gradients(dy)
    check(bn, dx, exact)
    for c in range(4):
        wanted = with_mpmath(x[:, c], dy[:, c], gamma[c], 1e-5)
        ours = *[(hi[:, c], lo[:, c]) for (hi, lo), _ in exact[:1]], *[(hi[c], lo[c]) for (hi, lo), _ in exact[1:]]
        for (hi, lo), value in zip(ours, wanted, strict=True):
            value = np.array(value, object)
            error = np.abs((hi.astype(object) - value) + lo.astype(object))
            assert float(np.max(error)) < 1e-24 * max(1.0, offset) * max(1.0, float(np.max(np.abs(value))))


@pytest.mark.parametrize("ratio", [1.0, 1e2, 1e4, 1e6])
def test_far_from_zero(ratio):
    """Data far from zero, where single precision exceeds the bound."""
    x, dy = (normal((5000, 3)) + ratio).astype("f4"), (normal((5000, 3), 1) + 1).astype("f4")
    exact = Batch(x, np.ones(3), np.zeros(3), 1e-5, 1).gradients(dy)
    bn = layer(np.ones(3))
    bn(x)
    check(bn, bn.backward(dy), exact)
    xhat = (x - x.mean(0)) / np.sqrt(x.var(0) + np.float32(1e-5))
    single = (dy - dy.mean(0) - xhat * (dy * xhat).mean(0)) / np.sqrt(x.var(0) + np.float32(1e-5))
    if ratio >= 1e2:
        assert worst_share(single, *exact[0]) > 20


LARGE = [(20000, 96), (8, 16, 40, 40), (6, 40, 40, 32), (70000, 3), (3, 2, 300, 300), (2100, 2100)]


@pytest.mark.parametrize(("dtype", "shape"), thorough(
    list(itertools.product(["f4", "u1"], LARGE)),
    [*itertools.product(["f4"], LARGE), ("u1", LARGE[0]), ("u1", LARGE[1])],
), ids=str)
def test_large(dtype, shape):
    """Arrays that several threads process in parts, with the second pass from the cache or from memory."""
    channel_axis = 1 if shape[1] in (2, 16) else -1
    axes = tuple(a for a in range(len(shape)) if a != channel_axis % len(shape))
    x, dy = of_dtype(dtype, shape), (normal(shape, 1) + 0.25).astype("f4")
    bn = layer(np.linspace(-1, 2, shape[channel_axis]), channel_axis=channel_axis)
    bn(x)
    dx = bn.backward(dy)
    wide = x.astype(np.float64)
    d = wide - wide.mean(axes, keepdims=True)
    invstd = 1 / np.sqrt((d * d).mean(axes, keepdims=True) + 1e-5)
    grad_beta, weighted = dy.sum(axes, np.float64), (dy * d * invstd).sum(axes)
    n, gamma = x.size // bn.num_features, np.expand_dims(bn.gamma, axes)
    rest = np.expand_dims(grad_beta, axes) + d * invstd * np.expand_dims(weighted, axes)
    wanted = gamma * invstd * (dy - rest / n)
    assert_within(dx, (wanted, 0 * wanted), 1e-11)
    np.testing.assert_allclose(bn.grad_beta, grad_beta, rtol=1e-12, atol=1e-9)
    np.testing.assert_allclose(bn.grad_gamma, weighted, rtol=1e-11, atol=1e-8)


def loss(bn, x, dy):
    return float((bn(x).astype(np.float64) * dy).sum())


@pytest.mark.parametrize("dy", [0.1, 0.3, 0.7])
def test_equal_dy(dy):
    """Equal terms all round in the same direction, so a long run must not be summed sequentially."""
    n = 1 << 20
    for shape, bound in (((1, 1, n), 5), ((n // 64, 64), 8), ((n // 1024, 1024), 8)):
        bn = BatchNorm(shape[1], dtype="f8")
        bn(np.random.default_rng(0).normal(size=shape))
        bn.backward(np.full(shape, dy))
        wanted = n // shape[1] * Fraction(dy)
        assert abs(Fraction(bn.grad_beta[0]) - wanted) <= bound * np.finfo("f8").eps * wanted


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("shape", [(6, 3), (2, 3, 2, 2)])
def test_finite_differences(shape, training):
    """The gradient of every element of x, gamma and beta agrees with central differences."""
    x, dy, h = normal(shape) * 2 + 3, normal(shape, 1), 1e-5
    bn = layer([1, -2, 0.5], [0.1, 2, -3])
    bn.running_mean, bn.running_var = [2.0, 3.0, 4.0], [1.0, 4.0, 2.0]
    dx = gradient(bn.train(training), x, dy)
    grads = bn.grad_gamma.copy(), bn.grad_beta.copy()

    def slope(values, i):
        kept, ends = values[i], []
        for step in (h, -h):
            values[i] = kept + step
            ends.append(loss(bn, x, dy))
        values[i] = kept
        return (ends[0] - ends[1]) / (2 * h)

    for values, grad in ((x, dx), (bn.gamma, grads[0]), (bn.beta, grads[1])):
        numeric = np.array([slope(values, i) for i in np.ndindex(values.shape)]).reshape(values.shape)
        if not training and values is x:
            assert np.abs(dx).min() > 0
        np.testing.assert_allclose(grad, numeric, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("dtype", ["f2", BFLOAT16, "f4", ">f4", "f8", "u1", "i8"], ids=str)
@pytest.mark.parametrize("layout", ["contiguous", "Fortran", "all reversed", "unaligned"])
def test_inference(layout, dtype):
    """In inference mean and variance are constants: dx = dy * gamma / sqrt(running_var + eps), rounded once."""
    x = LAYOUTS[layout](of_dtype(dtype, (200, 5)))
    dy = LAYOUTS[layout](normal((200, 5), 2).astype(x.dtype if x.dtype.kind in "fV" else "f4"))
    bn = layer([1, -2, 0.5, 3, 1e-3]).eval()
    bn.running_mean, bn.running_var = np.linspace(-1, 3, 5), np.linspace(1, 9, 5)
    scale = bn.gamma / np.sqrt(bn.running_var + 1e-5)
    wanted = dy.astype("f8") * scale
    exact, slack = (wanted, 0 * wanted), 4 * EPS * np.abs(wanted)
    xhat = (x.astype("f8") - bn.running_mean) / np.sqrt(bn.running_var + 1e-5)
    native = dy.dtype.newbyteorder("=")
    for out in (None, *(place(dy.shape, native) for place in NATIVE_PLACES.values())):
        assert_within(gradient(bn, x, dy, out), exact, slack)
        np.testing.assert_allclose(bn.grad_beta, dy.astype("f8").sum(0), rtol=1e-13, atol=1e-12)
        weighted = dy.astype("f8") * xhat
        np.testing.assert_allclose(bn.grad_gamma, weighted.sum(0), rtol=1e-13, atol=1e-13 * np.abs(weighted).sum())
    assert_within(gradient(bn, x, dy, dy).astype(native), exact, slack)


@pytest.mark.parametrize("dtype", ["f2", BFLOAT16, "f4", "f8"], ids=str)
@pytest.mark.parametrize("layout", ["contiguous", "Fortran", "byte-swapped"])
def test_omit(layout, dtype):
    """Omitted elements have gradient 0 and do not enter the sums, whatever dy holds there."""
    x, dy = of_dtype(dtype, (60, 3)), (normal((60, 3), 1) + 1).astype(dtype)
    x[10, 0], x[11:14, 1] = np.nan, [np.inf, -np.inf, np.nan]
    dy[10, 0], dy[11, 1] = np.nan, np.inf
    finite = np.isfinite(x)
    gamma = np.array([1, -2, 0.5])
    bn = layer(gamma, nan_policy="omit")
    bn(LAYOUTS[layout](x))
    dx = bn.backward(LAYOUTS[layout](dy))
    assert not dx[~finite].astype("f8").any()
    for c in range(3):
        kept_x, kept_dy, kept_dx = (a[finite[:, c], c][:, None] for a in (x, dy, dx))
        exact = Batch(kept_x, gamma[[c]], np.zeros(1), 1e-5, 1).gradients(kept_dy)
        for got, (value, slack) in zip((kept_dx, bn.grad_gamma[[c]], bn.grad_beta[[c]]), exact, strict=True):
            assert_within(got, value, slack)


@pytest.mark.parametrize("training", [True, False])
def test_without_affine(training):
    x, dy = of_dtype("f4", (30, 4)), normal((30, 4), 1).astype("f4")
    plain, ones = BatchNorm(4, affine=False).train(training), BatchNorm(4).train(training)
    assert gradient(plain, x, dy).tobytes() == gradient(ones, x, dy).tobytes()
    assert plain.grad_gamma is None
    assert plain.grad_beta is None


@pytest.mark.parametrize("dtype", ["f2", BFLOAT16, "f4", "f8"], ids=str)
def test_gradients_have_the_layer_s_dtype(dtype):
    """The gradients have the dtype of the layer and are new arrays: they do not accumulate."""
    bn = BatchNorm(3, dtype=dtype)
    x, dy = of_dtype("f4", (20, 3)), normal((20, 3)).astype("f4")
    bn(x)
    bn.backward(dy)
    first = bn.grad_gamma
    kept = first.copy()
    bn(x)
    bn.backward(2 * dy)
    assert bn.grad_gamma.dtype == bn.grad_beta.dtype == np.dtype(dtype)
    assert first.tobytes() == kept.tobytes()
    np.testing.assert_array_equal(bn.grad_gamma, 2 * kept)


def test_gamma_is_that_of_the_call():
    x, dy = of_dtype("f8", (20, 3)), normal((20, 3))
    bn = layer([1.0, 2.0, 3.0])
    bn(x)
    wanted = bn.backward(dy)
    bn(x)
    bn.gamma[:] = 7
    bn.eps, bn.momentum = 1.0, 0.5
    bn.eval()
    bn.train()
    assert bn.backward(dy).tobytes() == wanted.tobytes()


def test_no_copy_of_x():
    x = of_dtype("f4", (20, 3))
    bn = BatchNorm(3)
    bn(x)
    assert bn._pending.x is x
    bn.backward(x)
    assert bn._pending is None         # the reference is released


def refused(bn, error, message, dy, out=None):
    """Check that a call raises, leaves the gradients unchanged and writes nothing."""
    bn.grad_gamma, bn.grad_beta = before = np.arange(3.0), np.arange(3.0) + 5
    written = None if out is None else out.tobytes()
    state = {name: a.tobytes() for name, a in bn.state_dict().items()}
    with pytest.raises(error, match=message):
        bn.backward(dy, out)
    assert (bn.grad_gamma, bn.grad_beta) == before
    assert [g.tolist() for g in before] == [[0, 1, 2], [5, 6, 7]]
    assert {name: a.tobytes() for name, a in bn.state_dict().items()} == state
    assert out is None or out.tobytes() == written


X, DY = of_dtype("f4", (8, 3)), normal((8, 3), 1).astype("f4")
NONE = r"belongs to one call in training, got no call since the last backward\(\); with y, backward = layer.vjp\(x\)"


def test_without_a_call():
    bn = BatchNorm(3)
    refused(bn, RuntimeError, NONE, DY)
    bn(X)
    bn.backward(DY)
    refused(bn, RuntimeError, NONE, DY)
    bn(X)
    refused(bn.copy(), RuntimeError, NONE, DY)


@pytest.mark.parametrize("training", [True, False])
def test_estimates_that_change_in_between(training):
    """A backward pass uses the estimates and the gamma of its call."""
    bn = BatchNorm(3).train(training)
    wanted = gradient(bn, X, DY)
    _, backward = bn.vjp(X)
    before = bn.state_dict()
    bn.recalibrate([X * 3 + 1])
    bn.gamma = [7, 8, 9]
    bn.load_state_dict(before | {"running_var": [5, 6, 7]})
    assert backward(DY)[0].tobytes() == wanted.tobytes()


@pytest.mark.parametrize("shape", [(4, 15), (2, 3, 10), (4, 1, 3, 5), (1, 4, 3, 5)])
@pytest.mark.parametrize("options", [{}, {"virtual_batch": 2}], ids=str)
@pytest.mark.parametrize("masked", [False, True])
def test_x_that_changes_its_shape(shape, options, masked):
    x = np.ones((4, 3, 5), "f4")
    bn = BatchNorm(3, **options)
    bn(x, where=x > 0 if masked else None)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        x.shape = shape
    refused(bn, ValueError, "x has changed its shape since the call", np.ones(shape, "f4"))


@pytest.mark.parametrize("shape", [(8, 4), (7, 3), (3,), (8, 3, 1), (1, 3), (0, 3), (3, 8)])
def test_another_shape(shape):
    """A dy of another shape is refused, and the right one is still accepted afterwards."""
    bn = BatchNorm(3)
    y = bn(X)
    wanted = bn.backward(DY)
    bn(X)
    refused(bn, ValueError, r"dy must have the shape of x in the call, \(8, 3\), got \(", np.ones(shape))
    assert bn.backward(DY).tobytes() == wanted.tobytes()
    assert y.shape == X.shape


@pytest.mark.parametrize(("dy", "error", "message"), [
    (DY.astype("c8"), TypeError, "complex64"), (DY.astype(object), TypeError, "object"),
    (DY.astype("U9"), TypeError, "<U9"), (None, TypeError, "expected an array of numbers, got NoneType"),
    (3.5, ValueError, r"got \(\)"), (np.ma.array(DY), TypeError, "masked array"), ([[1, 2], [3]], ValueError, "nested"),
])
def test_no_gradient(dy, error, message):
    bn = BatchNorm(3)
    bn(X)
    refused(bn, error, message, dy)
    refused(bn, error, message, dy, np.ones_like(X))
    bn.backward(DY)


def test_after_out_is_x():
    """After a call with out=x there is no backward; with any other out there is."""
    bn, x = BatchNorm(3), X.copy()
    bn(x, out=x)
    refused(bn, RuntimeError, "the call wrote its result over x, which backward needs; call without out=x", DY)
    bn = BatchNorm(3)
    bn(X, out=x)
    bn.backward(DY)


def test_from_another_thread():
    """A call may have its backward in another thread. The calls of two threads are not told apart."""
    bn = BatchNorm(3)
    wanted = gradient(bn, X, DY)
    bn(X)
    with ThreadPoolExecutor() as pool:
        assert pool.submit(bn.backward, DY).result().tobytes() == wanted.tobytes()
        bn(X)
        pool.submit(bn, X + 1).result()
    refused(bn, RuntimeError, "got several calls, which are forgotten now, since the last backward", DY)
    refused(bn, RuntimeError, NONE, DY)


def test_two_calls():
    """Which of two calls is meant, backward cannot know; each has a backward of its own from vjp."""
    bn = BatchNorm(3, dtype="f8")
    bn(X)
    bn(X + 1)
    refused(bn, RuntimeError, "got several calls, which are forgotten now, since the last backward", DY)
    wanted = [gradient(bn, x, DY) for x in (X, X[::-1] * 2)]
    gradients = bn.grad_gamma.copy()
    passes = [bn.vjp(x)[1] for x in (X, X[::-1] * 2)]
    bn.vjp(X * 7)
    bn.zero_grad()
    for i in (1, 0, 1):
        dx, *of_parameters = passes[i](DY, accumulate=i == 1)
        assert dx.tobytes() == wanted[i].tobytes()
        assert of_parameters[1].tolist() == DY.astype("f8").sum(0).tolist()
    np.testing.assert_array_equal(bn.grad_gamma, 2 * gradients)
    refused(bn, RuntimeError, NONE, DY)         # A vjp leaves the plain case alone.


def test_evaluation_in_between():
    """A call in inference between a call in training and its backward changes nothing, and keeps nothing alive."""
    bn = BatchNorm(3)
    wanted = gradient(bn, X, DY)
    bn(X)
    x = (X * 5).view(Traced)
    alive = weakref.ref(x)
    bn.eval()(x)
    del x
    assert alive() is None
    refused(bn, RuntimeError, r"the layer is in inference mode; use y, backward = layer.vjp\(x\)", DY)
    assert bn.train().backward(DY).tobytes() == wanted.tobytes()


class Traced(np.ndarray):
    """An array that can be referenced weakly."""


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("parameters", [{}, {"gamma": [1, -2, 3]}, {"beta": np.ones(3, "f4")},
                                        {"gamma": np.ones(3, "f4"), "beta": [1.0, 2, 3]}])
def test_without_a_layer(parameters, training):
    """batch_norm_vjp returns what batch_norm does, and the gradients of the parameters that are given."""
    estimates = np.array([0.5, 1, 2]), np.array([1.0, 4, 9])
    y, backward = batch_norm_vjp(X, *(e.copy() for e in estimates), **parameters, training=training)
    moved = [e.copy() for e in estimates]
    assert y.tobytes() == batch_norm(X, *moved, **parameters, training=training).tobytes()
    bn = BatchNorm(3, dtype="f8").train(training)
    for name, values in parameters.items():
        setattr(bn, name, values)
    bn.running_mean, bn.running_var = estimates
    wanted = gradient(bn, X, DY)
    for _ in range(2):
        dx, of_gamma, of_beta = backward(DY)
        assert dx.tobytes() == wanted.tobytes()
        for name, got, of_layer in (("gamma", of_gamma, bn.grad_gamma), ("beta", of_beta, bn.grad_beta)):
            if name not in parameters:
                assert got is None
            else:
                assert got.dtype == ("f4" if isinstance(parameters[name], np.ndarray) else "f8")
                np.testing.assert_array_equal(got, of_layer.astype(got.dtype))
    with pytest.raises(ValueError, match="accumulate=True needs a layer"):
        backward(DY, accumulate=True)
    with pytest.raises(ValueError, match="out is the x of this call, which further calls of its backward pass need"):
        backward(DY, X)


def test_a_call_that_raises():
    """A call that raises leaves the gradients unchanged."""
    bn = BatchNorm(3)
    bn(X)
    bn.backward(DY)
    before = bn.grad_gamma, bn.grad_beta
    values = bn.grad_gamma.tobytes(), bn.grad_beta.tobytes()
    for x in (np.full((8, 3), np.nan), X[:1], X[:, :2], X.astype("c8")):
        with pytest.raises((TypeError, ValueError)):
            bn(x)
        assert (bn.grad_gamma, bn.grad_beta) == before
    assert (bn.grad_gamma.tobytes(), bn.grad_beta.tobytes()) == values


@pytest.mark.parametrize("training", [True, False])
def test_inputs_are_left_alone(training):
    x, dy = read_only(X), read_only(DY)
    bn = BatchNorm(3).train(training)
    gradient(bn, x, dy)
    assert (x.tobytes(), dy.tobytes()) == (X.tobytes(), DY.tobytes())
    assert gradient(bn, swapped(x), swapped(dy)).dtype.isnative


def test_of_lists_and_nothing():
    bn = BatchNorm(2)
    bn([[1, 2], [3, 4]])
    assert bn.backward([[1, 0], [0, 1]]).dtype == np.float32
    bn.eval()
    assert gradient(bn, np.empty((0, 2), "f4"), np.empty((0, 2), "f4")).shape == (0, 2)
    assert bn.grad_gamma.tolist() == bn.grad_beta.tolist() == [0, 0]


def test_gradients_of_tiny_data():
    """No factor of the slope overflows alone."""
    x, dy = normal((6, 2)) * 1e-160, normal((6, 2), 1) * 1e-160
    bn = BatchNorm(2, eps=0, dtype="f8")
    bn(x)
    dx = bn.backward(dy)
    assert np.isfinite(dx).all()
    bn(x * 2.0**500)
    np.testing.assert_allclose(dx, bn.backward(dy) * 2.0**500, rtol=1e-3)      # The variance of 1e-320 has few digits.
