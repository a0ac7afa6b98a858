"""The functions by which skl2onnx converts a scaler: those for scikit-learn's scaler.

skl2onnx looks functions up by the class of an estimator, not by its bases. It asks an estimator of an unknown class for
them, by `onnx_shape_calculator` and `onnx_converter`.
"""

from __future__ import annotations

from typing import Any

ALIAS = "SklearnScaler"


def converter(scaler: Any) -> Any:
    """The function that converts a scaler."""
    from skl2onnx.common._registration import get_converter

    register(type(scaler))
    return get_converter(ALIAS)


def shape_calculator(scaler: Any) -> Any:
    """The function that computes the shape of the output."""
    from skl2onnx.common._registration import get_shape_calculator

    register(type(scaler))
    return get_shape_calculator(ALIAS)


def register(kind: type) -> None:
    """Register a class, so that it accepts the options of scikit-learn's scaler."""
    from skl2onnx._supported_operators import sklearn_operator_name_map

    sklearn_operator_name_map.setdefault(kind, ALIAS)
