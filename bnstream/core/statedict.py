"""The state of a layer under PyTorch's names, and the checks of one that comes from elsewhere."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from bnstream.core.dlpack import detached
from bnstream.core.dtypes import NamedArrays, is_real
from bnstream.core.moments import Moments
from bnstream.core.running import require_variances

COUNT = "num_batches_tracked"
IDENTITY = {"weight": 1.0, "bias": 0.0}     # what a parameter that is missing stands for


class StateDict(dict[str, NDArray[Any]]):
    """Parameters and running estimates under PyTorch's names.

    Parameters
    ----------
    arrays : mapping of str to ndarray
    pooled : Moments, optional
        The pooled statistics. They are an attribute, as PyTorch's strict loading refuses a name that it does not know.
    """

    pooled: Moments | None = None

    def __init__(self, arrays: Mapping[str, NDArray[Any]], pooled: Moments | None = None) -> None:
        super().__init__(arrays)
        self.pooled = pooled

    def copy(self) -> Self:
        """Return a shallow copy, as that of a dict."""
        return type(self)(self, self.pooled)


def checked_state(
    state: Mapping[str, ArrayLike], parameters: Iterable[str], shape: tuple[int, ...], estimates: bool = False
) -> NamedArrays:
    """The arrays of a state for a layer with these parameters, of "weight" and "bias", and perhaps running estimates.

    Raises
    ------
    TypeError
        If it is not a mapping.
    ValueError
        If a name is missing or unexpected, a shape differs, or a value is impossible.
    """
    if not isinstance(state, Mapping):
        raise TypeError("state must be a mapping of names to arrays, as state_dict returns it, got "
                        f"{type(state).__name__}")
    required, parameters = {"running_mean", "running_var"} if estimates else set(), set(parameters)
    given = {name: detached(values) for name, values in state.items()}
    expected = required | parameters | ({COUNT} if estimates else set())
    if not required <= given.keys() <= expected or (parameters and not parameters & given.keys()):
        raise ValueError(f"expected {sorted(expected)} in the state, got {sorted(state)}; make the layer with "
                         "affine=True for a state with weight and bias, with scale=False or bias=False for one with "
                         "one of them, with affine=False for one without")
    for name, values in given.items():
        wanted = () if name == COUNT else shape
        if values.shape != wanted or not is_real(values.dtype):
            raise ValueError(f"{name} must be numbers of shape {wanted}, got {values.dtype}, {values.shape}")
    if estimates:
        require_variances(given["running_var"])
    count = given.get(COUNT, np.array(0))
    if not 0 <= count < 2**63 or count != np.rint(count):
        raise ValueError(f"{COUNT} must be a whole number, got {count}")
    return given
