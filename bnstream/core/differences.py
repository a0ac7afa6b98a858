"""Differences of integers of 64 bits, which may need 65."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray


def differences(x: NDArray[Any], y: NDArray[Any]) -> NDArray[np.float64]:
    """``x - y`` of integers of 64 bits, both signed or both unsigned, each rounded once to float64."""
    above = x >= y
    # The magnitude of a difference fits 64 bits without a sign. It is taken modulo 2**64.
    magnitudes = np.where(above, x - y, y - x).view(np.uint64).astype(np.float64)
    return np.negative(magnitudes, out=magnitudes, where=~above)
