"""The node test cases of ONNX's BatchNormalization, with the inputs and outputs of its reference."""

import numpy as np
import pytest
from support.onnx_cases import collected

from bnstream import BatchNorm, batch_norm

CASES = collected("BatchNormalization")


def test_there_are_cases():
    """None is lost: inference and training, with and without epsilon."""
    assert len(CASES) >= 4
    assert {bool(attributes.get("training_mode", 0)) for attributes, *_ in CASES.values()} == {False, True}
    assert {"epsilon" in attributes for attributes, *_ in CASES.values()} == {False, True}
    assert {len(outputs) for _, _, outputs, *_ in CASES.values()} == {1, 3}


def settings(attributes):
    """ONNX's momentum is the weight of the old estimate, 0.9 by default."""
    return attributes.get("epsilon", 1e-5), 1 - attributes.get("momentum", 0.9)


@pytest.mark.parametrize("name", CASES)
def test_batch_norm(name):
    attributes, (x, gamma, beta, mean, var), outputs, rtol, atol = CASES[name]
    eps, momentum = settings(attributes)
    training = bool(attributes.get("training_mode", 0))
    mean, var = mean.copy(), var.copy()
    y = batch_norm(x, mean, var, gamma, beta, training=training, eps=eps, momentum=momentum, running_ddof=0)
    for got, wanted in zip((y, mean, var), outputs, strict=False):
        assert got.shape == wanted.shape
        assert got.dtype == wanted.dtype
        np.testing.assert_allclose(got, wanted, rtol=rtol, atol=atol)
    if training:
        wrong = mean.copy()
        batch_norm(x, wrong, var, training=True, momentum=1 - momentum)
        assert not np.allclose(wrong, outputs[1], rtol=rtol, atol=atol)


@pytest.mark.parametrize("name", CASES)
def test_layer(name):
    attributes, (x, gamma, beta, mean, var), outputs, rtol, atol = CASES[name]
    eps, momentum = settings(attributes)
    bn = BatchNorm(x.shape[1], eps=eps, momentum=momentum, running_ddof=0)
    bn.gamma, bn.beta, bn.running_mean, bn.running_var = gamma, beta, mean, var
    bn.train(bool(attributes.get("training_mode", 0)))
    for got, wanted in zip((bn(x), bn.running_mean, bn.running_var), outputs, strict=False):
        np.testing.assert_allclose(got, wanted, rtol=rtol, atol=atol)
