"""Layers with a scale and no shift, or the reverse, compute as with the other parameter at 1 or 0."""

import numpy as np
import pytest
from support.arrays import of_dtype

from bnstream import BatchNorm, normalize
from bnstream.core.affine import Affine
from bnstream.core.summary import summary

X, DY = of_dtype("f4", (20, 3)), of_dtype("f4", (20, 3), 1)
KINDS = [{"bias": False}, {"scale": False}, {"scale": False, "bias": False}]
VALUES = {"gamma": [1.5, -2, 0.25], "beta": [0.5, 1, -3]}


def pair(options, **others):
    """A layer, and one that has both parameters, the other one at 1 or 0."""
    bn, whole = BatchNorm(3, **options, **others), BatchNorm(3, **others)
    for name, values in VALUES.items():
        if getattr(bn, name) is not None:
            setattr(bn, name, values)
            setattr(whole, name, values)
    return bn, whole


@pytest.mark.parametrize("options", KINDS, ids=str)
@pytest.mark.parametrize("others", [{}, {"renorm": True}, {"nan_policy": "omit", "momentum": None}], ids=str)
def test_calls_and_gradients(options, others):
    bn, whole = pair(options, **others)
    for training in (True, True, False):
        (y, backward), (wanted, of_whole) = (layer.train(training).vjp(X) for layer in (bn, whole))
        assert y.tobytes() == wanted.tobytes()
        (dx, *gradients), (wanted, *of_both) = backward(DY, accumulate=True), of_whole(DY)
        assert dx.tobytes() == wanted.tobytes()
        for parameter, gradient, other in zip((bn.gamma, bn.beta), gradients, of_both, strict=True):
            assert (gradient is None) == (parameter is None)
            assert gradient is None or gradient.tobytes() == other.tobytes()
    for layer in (bn.train(), whole.train()):
        layer(X)
        layer.backward(DY)
    for parameter, name in ((bn.gamma, "grad_gamma"), (bn.beta, "grad_beta")):
        ours, wanted = getattr(bn, name), getattr(whole, name)
        assert ours is None if parameter is None else ours.tobytes() == wanted.tobytes()
    assert bn.affine == (options != KINDS[2])


@pytest.mark.parametrize("options", KINDS, ids=str)
def test_fold(options):
    weight, bias = of_dtype("f4", (3, 4), 2), np.float32([1, 2, 3])
    folded = [layer.fold(weight, bias) for layer in pair(options)]
    for ours, wanted in zip(*folded, strict=True):
        assert ours.tobytes() == wanted.tobytes()


def test_affine_of_none_of_them():
    """As in PyTorch, affine=False has neither, whatever bias is."""
    for options in ({"affine": False}, {"affine": False, "bias": True}, {"scale": False, "bias": False}):
        bn = BatchNorm(3, **options)
        assert bn == BatchNorm(3, affine=False)
        assert (bn.affine, bn.gamma, bn.beta) == (False, None, None)
    assert BatchNorm(3, bias=False) != BatchNorm(3)


@pytest.mark.parametrize(("options", "name", "message"), [
    ({"bias": False}, "beta", "this layer has no beta; make it with affine=True and bias=True"),
    ({"scale": False}, "gamma", "this layer has no gamma; make it with affine=True and scale=True"),
    ({"affine": False}, "gamma", "this layer has no gamma; make it with affine=True and scale=True"),
])
def test_a_missing_parameter_cannot_be_set(options, name, message, unchanged):
    unchanged(BatchNorm(3, **options), ValueError, message, lambda bn: setattr(bn, name, [1, 2, 3]))


def test_what_is_shown():
    assert "beta" not in summary(BatchNorm(3, bias=False)).columns
    assert summary(BatchNorm(3, bias=False)).columns["gamma"].tolist() == [1, 1, 1]
    assert "scale=False, bias=True" in repr(BatchNorm(3, scale=False))
    assert "gamma" not in BatchNorm(3, scale=False)._repr_html_()
    assert summary(BatchNorm(3, scale=False)).columns["beta"].tolist() == [0, 0, 0]


@pytest.mark.parametrize("options", KINDS, ids=str)
def test_the_affine_map_of_a_layer(options):
    """As `apply` and Dask's `normalize` use it."""
    bn, _ = pair(options)
    bn.recalibrate([X])
    assert Affine(bn).of_array(X, 1).tobytes() == bn.eval()(X).tobytes()


def test_the_affine_map_of_a_layer_in_training(monkeypatch):
    """The statistics are those of one moment, even if another thread trains the layer meanwhile."""
    bn = BatchNorm(3)
    bn(X)
    expected = Affine(bn).parameters

    def train_first(*args, **options):
        bn(X + 1)
        return normalize(*args, **options)

    monkeypatch.setattr("bnstream.core.affine.normalize", train_first)
    found = Affine(bn).parameters
    assert {name: values.tolist() for name, values in found.items()} == {
        name: values.tolist() for name, values in expected.items()}
