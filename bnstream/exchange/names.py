"""How other tools name the arrays and settings of a batch normalization layer.

    convention     scale, shift   mean, variance                   ddof   momentum   eps
    pytorch        weight, bias   running_mean, running_var        1      -          -
    keras          gamma, beta    moving_mean, moving_variance     0      momentum   epsilon
    flax           scale, bias    mean, var                        0      momentum   epsilon
    onnx           scale, B       input_mean, input_var            0      momentum   epsilon
    scikit-learn   -              mean_, var_; n_samples_seen_     0      -          -
    lerobot        -              F/mean, F/std; F/count           0      -          -
    transformers   -              image_mean, image_std            0      -          -

In Keras, Flax and ONNX momentum is the weight of the old estimate: 1 minus that of bnstream and PyTorch. PyTorch keeps
no settings among its arrays, but a count, num_batches_tracked. The names of the tools without layers are in
`scaler`, `lerobot`, where F is a feature, and `imageprocessors`. LeRobot and transformers have standard deviations in
place of variances.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

Convention = Literal["pytorch", "keras", "flax", "onnx", "scikit-learn", "lerobot", "transformers"]
WITHOUT_LAYERS = ("scikit-learn", "lerobot", "transformers")


class LayerNames(NamedTuple):
    """The names of a layer's arrays and settings in a tool, its ddof, and the defaults of its settings.

    A name is None if the tool has no such array.
    """

    gamma: str
    beta: str
    mean: str
    var: str
    ddof: int
    default_eps: float
    default_momentum: float
    eps: str | None = "epsilon"
    momentum: str | None = "momentum"
    n_batches: str | None = None
    needs_affine: bool = False


LAYERS = {
    "pytorch": LayerNames("weight", "bias", "running_mean", "running_var", 1, 1e-5, 0.1, None, None,
                          "num_batches_tracked"),
    "keras": LayerNames("gamma", "beta", "moving_mean", "moving_variance", 0, 1e-3, 0.99),
    "flax": LayerNames("scale", "bias", "mean", "var", 0, 1e-5, 0.99),
    "onnx": LayerNames("scale", "B", "input_mean", "input_var", 0, 1e-5, 0.9, needs_affine=True),
}


def layer_names(convention: str) -> LayerNames:
    if convention not in LAYERS:
        raise ValueError(f"convention must be one of {', '.join((*LAYERS, *WITHOUT_LAYERS))}, got {convention!r}")
    return LAYERS[convention]
