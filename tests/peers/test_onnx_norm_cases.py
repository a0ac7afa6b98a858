"""The node test cases of ONNX's LayerNormalization, RMSNormalization, GroupNormalization and InstanceNormalization."""

import numpy as np
import pytest
from support.onnx_cases import collected

import bnstream
from bnstream import mean_var

OPERATORS = ("LayerNormalization", "RMSNormalization", "GroupNormalization", "InstanceNormalization")
CASES = {name: (operator, case) for operator in OPERATORS for name, case in collected(operator).items()}


def test_there_are_cases():
    """None is lost: each operator, axes from either end, with and without epsilon."""
    found = [operator for operator, _ in CASES.values()]
    assert all(found.count(operator) >= n for operator, n in zip(OPERATORS, (13, 13, 2, 2), strict=True))
    axes = {case.attributes.get("axis", -1) for _, case in CASES.values()}
    assert min(axes) < -1 < 0 in axes


def normalized(operator, case, eps):
    """The result by our function of this operator."""
    x, gamma, *beta = case.inputs
    if operator == "GroupNormalization":
        return bnstream.group_norm(x, case.attributes["num_groups"], gamma, *beta, eps)
    if operator == "InstanceNormalization":
        return bnstream.instance_norm(x, None, None, gamma, *beta, eps=eps)
    function = bnstream.layer_norm if operator == "LayerNormalization" else bnstream.rms_norm
    return function(x, x.shape[case.attributes.get("axis", -1) % x.ndim:], gamma, *beta, eps=eps)


@pytest.mark.parametrize("name", CASES)
def test_case(name):
    operator, case = CASES[name]
    eps = case.attributes.get("epsilon", 1e-5)
    y = normalized(operator, case, eps)
    assert (y.shape, y.dtype) == (case.outputs[0].shape, case.outputs[0].dtype)
    np.testing.assert_allclose(y, case.outputs[0], rtol=case.rtol, atol=case.atol)
    assert not np.allclose(normalized(operator, case, eps + 0.1), case.outputs[0], rtol=case.rtol, atol=case.atol)
    if len(case.outputs) == 3:          # Mean and InvStdDev
        x = case.inputs[0]
        axes = tuple(range(case.attributes.get("axis", -1) % x.ndim, x.ndim))
        mean, var = mean_var(x, axes, keepdims=True)
        for got, wanted in zip((mean, 1 / np.sqrt(var + eps)), case.outputs[1:], strict=True):
            np.testing.assert_allclose(got, wanted, rtol=case.rtol, atol=case.atol)
