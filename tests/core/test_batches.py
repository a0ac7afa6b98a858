"""Elements of streams: a batch, or a mapping of the arguments of Moments.update."""

import types

import numpy as np
import pytest
from support.arrays import of_dtype, rng
from support.oracle import assert_within, exact_weighted
from support.states import bits

from bnstream import BatchNorm, Moments
from bnstream.core.batches import batch_of

X = of_dtype("f8", (90, 3)) + 1e6
WEIGHTS = rng(1).random(90)
MASK = rng(2).random(90) < 0.7
PARTS = [slice(0, 1), slice(1, 1), slice(1, 40), slice(40, 90)]     # one of them is empty
ELEMENTS = {
    "batches": (lambda part: {"batch": X[part]}, np.ones(90)),
    "weights": (lambda part: {"batch": X[part], "weights": WEIGHTS[part]}, WEIGHTS),
    "where": (lambda part: {"where": MASK[part], "batch": X[part], "weights": None}, MASK.astype(float)),
    "both": (lambda part: types.MappingProxyType({"batch": X[part], "weights": WEIGHTS[part], "where": MASK[part]}),
             WEIGHTS * MASK),
}


def states(x, weights):
    return np.array([exact_weighted(column[weights > 0], weights[weights > 0]) for column in x.T], object)


@pytest.mark.parametrize("ddof", [0, 1])
@pytest.mark.parametrize("momentum", [0.1, None])
@pytest.mark.parametrize("name", ELEMENTS)
def test_recalibrate(name, momentum, ddof):
    element, weights = ELEMENTS[name]
    bn = BatchNorm(3, momentum=momentum, running_ddof=ddof)
    bn(X * 2)
    m = bn.recalibrate(element(part) for part in PARTS)
    lost = ddof * (weights**2).sum() / weights.sum()        # n / effective_n for each degree of freedom
    assert_within(bn.running_mean, bn.running_var, states(X, weights), lost)
    assert m.n == pytest.approx(weights.sum(), rel=1e-15)
    assert m.effective_n == pytest.approx(weights.sum() ** 2 / (weights**2).sum(), rel=1e-14)
    assert bn.num_batches_tracked == len(PARTS) - 1          # One part is empty.
    assert bn.diagnose().effective_n == pytest.approx(m.effective_n, rel=1e-14)
    expected = sum((Moments().update(**element(part)) for part in PARTS), Moments())
    assert bits(m) == bits(expected)


def test_recalibrate_images():
    """The weights have the shape of x without the channel axis, or length 1 along any batch axis."""
    x, weights = of_dtype("f4", (6, 3, 5, 4)), rng(3).random((6, 5, 4))
    bn = BatchNorm(3, running_ddof=0)
    bn.recalibrate([{"batch": x[:2], "weights": weights[:2]}, {"batch": x[2:], "weights": weights[2:]}])
    rows = np.moveaxis(x, 1, -1).reshape(-1, 3)
    assert_within(bn.running_mean, bn.running_var, states(rows, weights.ravel()))
    bn.recalibrate([{"batch": x, "where": np.array([1, 1, 0, 1, 0, 0], bool)[:, None, None]}])
    rows = np.moveaxis(x[[0, 1, 3]], 1, -1).reshape(-1, 3)
    assert_within(bn.running_mean, bn.running_var, states(rows, np.ones(len(rows))))


@pytest.mark.parametrize(("source", "error", "message"), [
    ({"batch": X}, TypeError, "batches must be an iterable of batches, got one dict; put a single batch into a list"),
    ([X, {"batch": X, "weight": WEIGHTS, 3: 4}], ValueError,
     "got a mapping with the unknown keys 'weight', 3; expected 'batch' and, optionally, 'weights' and 'where'"),
    ([X, {"weights": WEIGHTS}], ValueError, "got a mapping without 'batch'; expected 'batch'"),
    ([X, {"batch": X, "weights": -WEIGHTS}], ValueError, "weights must be finite and not negative"),
    ([X, {"batch": X, "weights": WEIGHTS[1:]}], ValueError, r"weights must have the shape of .* \(90,\).*got \(89,\)"),
    ([X, {"batch": X, "where": WEIGHTS}], TypeError, "where must be a mask of bool"),
    ([{"batch": X, "where": np.zeros(90, bool)}], ValueError,
     "running_var with running_ddof=1 needs n > 1 in every channel, got n = 0; give more data"),
])
@pytest.mark.parametrize("momentum", [0.1, None])
def test_recalibrate_refuses(source, error, message, momentum, unchanged):
    bn = BatchNorm(3, momentum=momentum)
    bn(X)
    unchanged(bn, error, message, lambda layer: layer.recalibrate(source))


def weighted():
    bn = BatchNorm(3, momentum=None)
    bn.recalibrate([{"batch": X, "weights": WEIGHTS}])
    return bn


def test_state_dict_of_weighted_statistics():
    """The pooled statistics keep the rows of the weights, also through training that follows."""
    bn, other = weighted(), BatchNorm(3, momentum=None)
    other.load_state_dict(bn.state_dict())
    assert other == bn
    assert bits(other.pooled) == bits(bn.pooled)
    for layer in (bn, other):
        layer(X[:20])
    assert bits(other.pooled) == bits(bn.pooled)
    assert_within(bn.pooled.mean, bn.pooled.var(), states(np.concatenate([X, X[:20]]), np.append(WEIGHTS, np.ones(20))))


def test_whatever_is_no_mapping_is_a_batch():
    for batch in (X, X.tolist(), 3.0, None):
        assert batch_of(batch) == (batch, {})


def test_arguments_that_are_none_are_left_out():
    assert batch_of({"batch": X, "weights": None, "where": None}) == (X, {})
