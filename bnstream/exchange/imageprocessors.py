"""The mean and the standard deviation of an image processor of Hugging Face's transformers.

It scales images to 0 to 1 and computes ``(x - image_mean) / image_std``: the statistics of `fit` with ``scale=True``.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from bnstream.core.batchnorm import BatchNorm
from bnstream.core.dtypes import NamedArrays
from bnstream.core.moments import Moments
from bnstream.exchange.arrays import as_numbers, described
from bnstream.exchange.batchnorm import require_channels

SMALLEST_STD, LARGEST_STD = 1e-150, 1e150       # whose squares have all digits
MEAN, STD = REQUIRED = ("image_mean", "image_std")


def to_processor(state: Moments | BatchNorm) -> NamedArrays:
    """The arrays image_mean and image_std; the latter is 1 where the variance is 0, as nothing is divided there.

    Raises
    ------
    ValueError
        If the channels do not lie along one axis, have no values, or are not those of images from 0 to 1.
    """
    if isinstance(state, Moments):
        require_channels(state)
        mean, std = state.mean, state.std()
    else:
        mean, std = state.running_mean.copy(), np.sqrt(state.running_var + state.eps)
        if any(values is not None for values in (state.gamma, state.beta)):
            raise ValueError("an image processor has no gamma and beta, and this layer has; make it with affine=False, "
                             "or convert the Moments of the images")
    if not ((mean >= 0) & (mean <= 1)).all():
        raise ValueError("an image processor has the statistics of images scaled to 0 to 1, got means from "
                         f"{mean.min():g} to {mean.max():g}; fit the images with scale=True (--scale)")
    return {MEAN: mean, STD: np.where(std == 0, 1.0, std)}


def from_processor(arrays: NamedArrays, settings: dict[str, Any]) -> tuple[BatchNorm, list[str]]:
    """A layer in inference that does what the processor does, for images of channels last, and what is unknown."""
    mean, std = (as_numbers(arrays, name) for name in REQUIRED)
    if mean.ndim != 1 or std.shape != mean.shape or not mean.size:
        raise ValueError(f"expected image_mean and image_std of one shape (channels,), got {described(arrays)}")
    if not (np.isfinite(mean) & (std > SMALLEST_STD) & (std < LARGEST_STD)).all():
        raise ValueError(f"image_mean must be finite, and image_std from {SMALLEST_STD:g} to {LARGEST_STD:g}, got "
                         f"{mean.tolist()!r:.60} and {std.tolist()!r:.60}")
    bn = BatchNorm(mean.size, **{"eps": 0.0, "affine": False, "running_ddof": 0, "channel_axis": -1, **settings})
    bn.running_mean, bn.running_var = mean, np.square(std, dtype=np.float64)
    return bn.eval(), ["n", "num_batches_tracked", "momentum"]
