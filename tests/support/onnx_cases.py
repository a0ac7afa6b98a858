"""The node test cases that onnx ships for an operator, with the inputs and outputs of its reference."""

import functools
import warnings
from typing import NamedTuple

import numpy as np
import pytest

pytest.importorskip("onnx")
from onnx import numpy_helper
from onnx.backend.test.case.node import collect_testcases


class Case(NamedTuple):
    attributes: dict
    inputs: list
    outputs: list
    rtol: float
    atol: float


@functools.cache
def every():
    """The cases of all operators: onnx can collect them only once in a process."""
    with warnings.catch_warnings(action="ignore"):
        return collect_testcases(None)


def collected(operator):
    """The cases of a single node of this operator, by name."""
    cases = {}
    for case in every():
        nodes = case.model.graph.node
        if len(nodes) != 1 or nodes[0].op_type != operator:
            continue
        attributes = {a.name: a.f if a.type == a.FLOAT else a.i for a in nodes[0].attribute}
        for inputs, outputs in case.data_sets:
            cases[case.name] = Case(attributes, [array(i) for i in inputs], [array(o) for o in outputs], case.rtol,
                                    case.atol)
    return cases


def array(value):
    return value if isinstance(value, np.ndarray) else numpy_helper.to_array(value)
