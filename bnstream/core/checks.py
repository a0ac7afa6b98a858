"""Checks of arguments: one function for each kind, whose messages have the name that the caller uses."""

from __future__ import annotations

import math
import operator
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from bnstream.core.dlpack import detached
from bnstream.core.dtypes import is_real


def integer(name: str, value: Any, first: int | None = None, last: int | None = None) -> int:
    """The argument as an int.

    Raises
    ------
    TypeError
        If it is not an integer.
    ValueError
        If it is less than `first` or more than `last`.
    """
    try:
        found = operator.index(value)
    except TypeError:
        raise TypeError(f"{name} must be an integer, got {value!r:.60}") from None
    if (first is not None and found < first) or (last is not None and found > last):
        expected = f"at least {first}" if last is None else f"from {first} to {last}"
        raise ValueError(f"{name} must be {expected}, got {found}")
    return found


def shape_of(name: str, value: Any) -> tuple[int, ...]:
    """An int of at least 1, or a sequence of them, as a tuple.

    Raises
    ------
    TypeError
        If it is neither.
    ValueError
        If it is empty, or one of them is less than 1.
    """
    if not isinstance(value, tuple | list):
        return (integer(name, value, first=1),)
    if not value:
        raise ValueError(f"{name} must name at least one length, got {value!r}")
    return tuple(integer(name, n, first=1) for n in value)


def require_axis(name: str, axis: int, of: str, shape: tuple[int, ...]) -> None:
    """Check that an array of this shape has the axis.

    Raises
    ------
    numpy.exceptions.AxisError
        If it has not: a ValueError and an IndexError.
    """
    ndim = len(shape)
    if not -ndim <= axis < ndim:
        raise np.exceptions.AxisError(f"{name} {axis} is out of range for {of} of shape {shape}; expected {-ndim} to "
                                      f"{ndim - 1}")


def number(name: str, value: Any, expected: str, accepts: Callable[[float], bool]) -> float:
    """The argument as a float.

    Raises
    ------
    TypeError
        If it is not a real number.
    ValueError
        If it is not accepted.
    """
    try:
        if isinstance(value, (str, bytes)) or np.iscomplexobj(value) or np.ndim(value) > 0:
            raise TypeError
        found = float(value)
    except (TypeError, ValueError):
        raise TypeError(f"{name} must be {expected}, got {value!r:.60}") from None
    except OverflowError:           # an int
        found = math.inf if value > 0 else -math.inf
    if not accepts(found):
        raise ValueError(f"{name} must be {expected}, got {value}")
    return found


def eps_of(name: str, value: Any) -> float:
    """What is added to a variance, as a float."""
    return number(name, value, "a finite number of at least 0", lambda eps: 0 <= eps < math.inf)


def real_values(name: str, values: ArrayLike) -> NDArray[Any]:
    """The argument as an array, without a copy where it is one already; tensors are detached.

    Raises
    ------
    TypeError
        If it is not of real numbers.
    ValueError
        If it is ragged.
    """
    try:
        found = detached(values)
    except ValueError as error:
        raise ValueError(f"{name} must be an array or nested sequences of equal lengths: {error}") from None
    if not is_real(found.dtype):
        raise TypeError(f"{name} must be of real numbers, got dtype {found.dtype}")
    return found


def path_of(name: str, value: str | os.PathLike[str]) -> Path:
    """The argument as a Path.

    Raises
    ------
    TypeError
        If it is neither.
    """
    try:
        return Path(value)
    except TypeError:
        raise TypeError(f"{name} must be a str or an os.PathLike, got {value!r:.60}") from None
