"""What skl2onnx needs to convert a scaler: its own converter of scikit-learn's scaler, of which ours is a subclass.

skl2onnx looks up converters by the class itself. A class that it does not know is asked for its functions.
"""

from __future__ import annotations

from typing import Any

ALIAS = "SklearnScaler"


def converter(scaler: Any) -> Any:
    """The function that converts a scaler."""
    from skl2onnx.common._registration import get_converter  # type: ignore[import-not-found]

    register(type(scaler))
    return get_converter(ALIAS)


def shape_calculator(scaler: Any) -> Any:
    """The function that computes the shape of the output."""
    from skl2onnx.common._registration import get_shape_calculator

    register(type(scaler))
    return get_shape_calculator(ALIAS)


def register(kind: type) -> None:
    """Make the class known, so that its options are those of scikit-learn's scaler."""
    from skl2onnx._supported_operators import sklearn_operator_name_map  # type: ignore[import-not-found]

    sklearn_operator_name_map.setdefault(kind, ALIAS)
