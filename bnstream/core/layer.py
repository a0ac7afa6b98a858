"""What every normalization layer keeps: scale and shift, their gradients, the mode, and the names of the channels."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from bnstream.core.checks import eps_of, integer, real_values
from bnstream.core.dtypes import FLOATING, floating
from bnstream.core.labels import counted
from bnstream.core.moments import Moments


class Setting:
    """A setting of a layer, which is checked where it is set and not at each call.

    `check` takes the name and a value, and returns what is kept, under the name with an underscore.
    """

    def __init__(self, check: Callable[[str, Any], Any]) -> None:
        self.check = check

    def __set_name__(self, owner: type, name: str) -> None:
        self.name, self.key = name, f"_{name}"

    def __get__(self, layer: Any, owner: type) -> Any:
        return self if layer is None else getattr(layer, self.key)

    def __set__(self, layer: Any, value: Any) -> None:
        setattr(layer, self.key, self.check(self.name, value))      # Through __dict__, every attribute would be slower.


SEVERAL = "several calls await their backward"


def flag(name: str, value: Any) -> bool:
    """A setting that is on or off."""
    return bool(value)


PARAMETERS = ("_gamma", "_beta", "grad_gamma", "grad_beta")      # the arrays that have the dtype of the layer


class NormLayer:
    """The base of the layers. A subclass adds the call, and what it keeps from call to call."""

    _eps: float
    _channel_axis: int
    _training: bool
    _result_dtype: np.dtype[Any] | None
    eps = Setting(eps_of)
    channel_axis = Setting(partial(integer, first=-64, last=63))
    training = Setting(flag)
    result_dtype = Setting(lambda name, value: None if value is None else floating(value, name))

    def __init__(
        self, num_features: int, *, eps: float, scale: bool, bias: bool, channel_axis: int, dtype: DTypeLike,
        result_dtype: DTypeLike | None, names: Iterable[str] | None,
    ) -> None:
        self._num_features = integer("num_features", num_features, first=1)
        self.eps = eps
        self.channel_axis = channel_axis
        self._dtype = floating(dtype)
        self.result_dtype = result_dtype
        self._gamma: Any = np.ones(self.num_features, self.dtype) if scale else None
        self._beta: Any = np.zeros(self.num_features, self.dtype) if bias else None
        self.grad_gamma: Any = None
        self.grad_beta: Any = None
        self.names = names
        self.training = True
        self._pending: Any = None       # the call in training that awaits its `backward`, or SEVERAL

    @property
    def num_features(self) -> int:
        return self._num_features

    @property
    def affine(self) -> bool:
        """Whether there is a scale, a shift, or both."""
        return self._gamma is not None or self._beta is not None

    @property
    def dtype(self) -> np.dtype[Any]:
        return self._dtype

    @property
    def gamma(self) -> Any:
        return self._gamma

    @gamma.setter
    def gamma(self, values: ArrayLike) -> None:
        if self._gamma is None:
            raise ValueError("this layer has no gamma; make it with affine=True and scale=True")
        self._gamma[:] = self._checked("gamma", values, self.dtype)

    @property
    def beta(self) -> Any:
        return self._beta

    @beta.setter
    def beta(self, values: ArrayLike) -> None:
        if self._beta is None:
            raise ValueError("this layer has no beta; make it with affine=True and bias=True")
        self._beta[:] = self._checked("beta", values, self.dtype)

    @property
    def names(self) -> tuple[str, ...] | None:
        return self._names

    @names.setter
    def names(self, names: Iterable[str] | None) -> None:
        checked: tuple[str, ...] | None = Moments(names=names).names
        if checked is not None and len(checked) != self.num_features:
            raise ValueError(f"expected {counted(self.num_features, 'name', 'names')}, one for each channel, got "
                             f"{len(checked)}")
        self._names = checked

    def _checked(self, name: str, values: ArrayLike, dtype: DTypeLike) -> NDArray[Any]:
        """Values of every channel as a new array."""
        new = real_values(name, values)
        if new.shape != (self.num_features,):
            raise ValueError(f"{name} must have shape ({self.num_features},), got {new.shape}")
        with np.errstate(all="ignore"):
            return new.astype(dtype)

    def train(self, mode: bool = True) -> Self:
        """Set training mode, or with ``mode=False`` inference mode.

        Parameters
        ----------
        mode : bool, default True

        Returns
        -------
        BatchNorm
            The layer itself.

        Examples
        --------
        >>> import bnstream
        >>> bnstream.BatchNorm(3).train(False).training
        False
        """
        self.training = bool(mode)
        return self

    def eval(self) -> Self:
        """Set inference mode: calls normalize by the running estimates and change nothing.

        Returns
        -------
        BatchNorm
            The layer itself.

        Examples
        --------
        >>> import bnstream
        >>> bnstream.BatchNorm(3).eval().training
        False
        """
        return self.train(False)

    def copy(self) -> Self:
        """Return an independent layer with the same parameters and estimates, in the same mode.

        Returns
        -------
        BatchNorm

        Examples
        --------
        >>> import bnstream
        >>> bn = bnstream.BatchNorm(3)
        >>> bn.copy() == bn
        True
        """
        new = type(self).__new__(type(self))
        new.__setstate__({
            name: value.copy() if hasattr(value, "copy") else value for name, value in self.__getstate__().items()
        })
        return new

    __copy__ = copy

    def __getstate__(self) -> dict[str, Any]:
        """Return everything but the reference to the last x, in dtypes that any serializer can write."""
        result = self._result_dtype
        state = {**self.__dict__, "_pending": None, "_dtype": self.dtype.name,
                 "_result_dtype": None if result is None else result.name}
        if self.dtype.name == "bfloat16":
            state |= {name: state[name].view(np.uint16) for name in PARAMETERS if state[name] is not None}
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Restore a state. Arrays are copied because a serializer may return read-only ones, such as memory maps."""
        result = state["_result_dtype"]
        for name, given in (("dtype", state["_dtype"]), ("result_dtype", result)):
            if given not in FLOATING and (given is not None or name == "dtype"):    # np.dtype crashes on some names.
                raise ValueError(f"{name} must be one of {', '.join(FLOATING)}, got {given!r}")
        dtype, n = floating(state["_dtype"]), integer("num_features", state["_num_features"], first=1)
        state = {**state, "_dtype": dtype, "_result_dtype": None if result is None else floating(result)}
        for name in PARAMETERS:
            if state[name] is not None:
                values = np.array(state[name], np.uint16 if dtype.name == "bfloat16" else dtype)
                if values.shape != (n,):
                    raise ValueError(f"{name} must have shape ({n},), got {values.shape}")
                state[name] = values.view(dtype)
        self.__dict__.update(state)
