"""Layer, RMS, group and instance norm against exact arithmetic: results, gradients, every dtype and layout."""

import functools

import mpmath
import numpy as np
import pytest
from support.arrays import BFLOAT16, DTYPES, LAYOUTS, NATIVE_PLACES, normal, of_dtype
from support.batchnorm_oracle import assert_within, worst_share
from support.cases import pairwise
from support.norm_oracle import Instances, Kind

import bnstream

KINDS = {
    "rows": Kind("layer_norm", (6, 70)),
    "short rows": Kind("layer_norm", (300, 5)),
    "one row": Kind("layer_norm", (1, 4096)),
    "rows of two axes": Kind("layer_norm", (3, 4, 7, 9), n_axes=2),
    "long rows": Kind("layer_norm", (2, 20011)),
    "rows without parameters": Kind("layer_norm", (5, 33), affine=False),
    "one value": Kind("layer_norm", (7, 1)),
    "rms": Kind("rms_norm", (2, 3, 130)),
    "rms without parameters": Kind("rms_norm", (9, 17), affine=False),
    "long rms": Kind("rms_norm", (2, 20011)),
    "groups": Kind("group_norm", (3, 6, 5, 7), groups=3),
    "groups last": Kind("group_norm", (3, 5, 7, 32), groups=4, channel_axis=-1),
    "few groups last": Kind("group_norm", (3, 5, 7, 6), groups=2, channel_axis=3),
    "groups of a table": Kind("group_norm", (20, 12), groups=3),
    "one group": Kind("group_norm", (2, 3, 5000), groups=1),
    "groups in the middle": Kind("group_norm", (3, 4, 6, 5), groups=2, channel_axis=2),
    "instances": Kind("instance_norm", (3, 5, 4, 7)),
    "instances last": Kind("instance_norm", (2, 300, 20), channel_axis=2),
    "instances without parameters": Kind("instance_norm", (2, 3, 11), affine=False),
}


@functools.cache
def case(name, dtype):
    kind = KINDS[name]
    x, parameters = of_dtype(dtype, kind.dims), kind.parameters()
    return kind, x, parameters, Instances(kind, x, 1e-3, **parameters)


@pytest.mark.parametrize(("layout", "name", "dtype"), pairwise(LAYOUTS, KINDS, DTYPES), ids=str)
def test_grid(layout, name, dtype):
    kind, values, parameters, exact = case(name, dtype)
    x = LAYOUTS[layout](values)
    before = x.tobytes()
    y, backward = kind(x, vjp=True, eps=1e-3, **parameters)
    floating = dtype.kind == "f" or dtype == BFLOAT16
    assert y.dtype == (x.dtype.newbyteorder("=") if floating else np.float32)
    assert_within(kind.table(y), exact.y, exact.slack)
    for place in NATIVE_PLACES.values():
        out = place(x.shape, y.dtype)
        assert kind(x, eps=1e-3, **parameters, out=out) is out
        # Channels last are summed by columns only if they are neighbors in x and in out.
        assert np.array_equal(out, y) or ("last" in name and dtype == np.float64)
        assert_within(kind.table(out), exact.y, exact.slack)
    dy = LAYOUTS[layout](normal(kind.dims, 5).astype(y.dtype))
    dx, grad_gamma, grad_beta = backward(dy)
    of_x, of_gamma, of_beta = exact.gradients(dy)
    assert dx.dtype == y.dtype
    assert_within(kind.table(dx), *of_x)
    for got, wanted, parameter in ((grad_gamma, of_gamma, "gamma"), (grad_beta, of_beta, "beta")):
        assert (got is None) == (parameter not in parameters)
        if got is not None:
            assert_within(got, *wanted)
    assert x.tobytes() == before
    x = LAYOUTS[layout](values.copy())
    if x.flags.writeable and x.dtype == y.dtype:
        assert kind(x, eps=1e-3, **parameters, out=x) is x
        assert np.array_equal(x, y)


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize("ratio", [1e2, 1e4, 1e6])
def test_far_from_zero(name, ratio):
    """float32 is within one ulp at any ratio of mean to sd, absolute where beta cancels the rest."""
    kind = KINDS[name]
    x, parameters = (normal(kind.dims) + ratio).astype("f4"), kind.parameters()
    exact = Instances(kind, x, 1e-5, **parameters)
    y = kind(x, eps=1e-5, **parameters)
    assert_within(kind.table(y), exact.y, exact.slack)
    error = np.abs((kind.table(y) - exact.y[0]) - exact.y[1])
    assert (error <= np.spacing(np.maximum(np.abs(kind.table(y)), np.float32(1e-3)))).all()


@pytest.mark.parametrize("name", ["rows", "groups", "instances last"])
def test_single_precision_exceeds_the_bound(name):
    kind = KINDS[name]
    x = (normal(kind.dims) + 1e4).astype("f4")
    exact = Instances(kind, x, 1e-5)
    z = kind.table(x)
    mean = z.mean(1, keepdims=True)
    y = (z - mean) / np.sqrt(((z - mean) ** 2).mean(1, keepdims=True) + np.float32(1e-5))
    assert worst_share(y, exact.y, exact.slack) > 100


@pytest.mark.parametrize("name", ["short rows", "rms", "groups", "few groups last", "instances"])
def test_gradients_are_slopes(name):
    """Of sum(y * dy), by central differences in 50 digits."""
    kind = KINDS[name]
    x, parameters, dy = normal(kind.dims) + 3, kind.parameters(), normal(kind.dims, 5)
    dx = kind.table(kind(x, vjp=True, eps=1e-3, **parameters)[1](dy)[0])
    z, g, weights = kind.table(x), kind.spread(parameters["gamma"], 1.0), kind.table(dy)

    def loss(values, i):
        mean = 0 if kind.about_zero else mpmath.fsum(values) / len(values)
        var = mpmath.fsum([(v - mean) ** 2 for v in values]) / len(values)
        return mpmath.fsum([(v - mean) * a * b for v, a, b in zip(values, g[i], weights[i], strict=True)]
                           ) / mpmath.sqrt(var + mpmath.mpf(1e-3))

    with mpmath.workdps(50):
        for i, j in ((0, 0), (len(z) - 1, z.shape[1] - 1), (len(z) // 2, 1)):
            low, high = ([mpmath.mpf(v) + (step if k == j else 0) for k, v in enumerate(z[i].tolist())]
                         for step in (-mpmath.mpf(10) ** -15, mpmath.mpf(10) ** -15))
            slope = (loss(high, i) - loss(low, i)) / (2 * mpmath.mpf(10) ** -15)
            assert dx[i, j] == pytest.approx(float(slope), rel=1e-11, abs=1e-11)


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize("dtype", ["f4", "f8"])
def test_gradients_of_parameters_of_equal_terms(name, dtype):
    """Equal terms all round to the same side."""
    kind, _, parameters, _ = case(name, np.dtype(dtype))
    if not parameters:
        return
    x, dy = normal(kind.dims).astype(dtype), np.full(kind.dims, 0.1, dtype)
    exact = Instances(kind, x, 1e-3, **parameters)
    _, grad_gamma, grad_beta = kind(x, vjp=True, eps=1e-3, **parameters)[1](dy)
    assert_within(grad_gamma, *exact.gradients(dy)[1])
    if grad_beta is not None:
        assert_within(grad_beta, *exact.gradients(dy)[2])


def test_eps_of_rms_norm():
    for dtype, eps in (("f2", 2.0**-23), ("f4", 2.0**-23), ("f8", 2.0**-52), ("i4", 2.0**-23)):
        x = np.zeros((1, 4), dtype)
        x[0, 0] = 1
        assert np.array_equal(bnstream.rms_norm(x, 4), bnstream.rms_norm(x, 4, eps=eps))
        assert not np.array_equal(bnstream.rms_norm(x.astype("f8") * 1e-9, 4), bnstream.rms_norm(x * 1e-9, 4, eps=1e-5))


PARAMETERS = {
    "list": [1, 2, 3, 4, 5, 6], "strided": np.arange(1.0, 13)[::2], "swapped": np.arange(1, 7).astype(">f4"),
    **{str(dtype): np.arange(6).astype(dtype) for dtype in DTYPES},
}


@pytest.mark.parametrize("gamma", PARAMETERS.values(), ids=PARAMETERS)
def test_parameters_of_any_dtype(gamma):
    x = normal((4, 6)).astype("f4")
    wanted = bnstream.layer_norm(x, 6, np.asarray(gamma, "f8"), np.asarray(gamma, "f8"))
    assert np.array_equal(bnstream.layer_norm(x, 6, gamma, gamma), wanted)
    y, backward = bnstream.layer_norm_vjp(x, 6, gamma)
    given = np.asarray(gamma).dtype
    floating = given.kind == "f" or given == BFLOAT16
    assert backward(y)[1].dtype == (given.newbyteorder("=") if floating else np.float64)


def test_running_estimates_of_instances():
    """Those of PyTorch: the averages over the instances of mean and unbiased variance."""
    x = normal((4, 3, 50)) * [[[1], [2], [3]]] + 5
    for dtype in ("f4", "f8"):
        mean, var = np.zeros(3, dtype), np.ones(3, dtype)
        y = bnstream.instance_norm(x, mean, var, momentum=0.25)
        assert np.array_equal(y, bnstream.instance_norm(x))
        np.testing.assert_allclose(mean, 0.25 * x.mean((0, 2)), rtol=1e-6)
        np.testing.assert_allclose(var, 0.75 + 0.25 * x.var(2, ddof=1).mean(0), rtol=1e-6)
        again = bnstream.instance_norm(x, mean, var, [1, 2, 3], use_input_stats=False)
        assert np.array_equal(again, bnstream.batch_norm(x, mean, var, [1, 2, 3]))
        before = mean.copy()
        bnstream.instance_norm(x[:0], mean, var)
        assert np.array_equal(mean, before)
