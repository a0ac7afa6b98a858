"""Arrays that come from other tools: selecting those of one layer, and checking them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any

from numpy.typing import ArrayLike, NDArray

from bnstream.core.dlpack import detached
from bnstream.core.dtypes import NamedArrays, is_real


def select(
    arrays: Mapping[str, ArrayLike], required: Sequence[str], optional: Sequence[str], prefix: str | None
) -> NamedArrays:
    """The arrays of one layer, by their names without the prefix."""
    if prefix is None:
        prefix = only_prefix(arrays, required)
    own = without(arrays, prefix)
    selected = {name: detached(values) for name, values in own.items() if "." not in name and "/" not in name}
    if not selected.keys() >= set(required) or selected.keys() - {*required, *optional}:
        more = f", and optionally {', '.join(optional)}" if optional else ""
        found = ", ".join(list(own)[:20]) + (f" and {len(own) - 20} more" if len(own) > 20 else "")
        raise ValueError(f"expected the arrays {', '.join(required)}{more}, got {found or 'none'}")
    return selected


def without(arrays: Mapping[str, ArrayLike], prefix: str) -> dict[str, Any]:
    """The arrays whose names have a prefix, by their names without it."""
    return {name.removeprefix(prefix): values for name, values in arrays.items() if name.startswith(prefix)}


def only_prefix(arrays: Mapping[str, ArrayLike], required: Sequence[str]) -> str:
    """The prefix under which all required names occur, or "" if there is none."""
    first = required[0]
    ends = {name.removesuffix(first) for name in arrays if name.endswith(first)}
    ends = {end for end in ends if end[-1:] in ("", ".", "/")}
    prefixes = sorted(end for end in ends if all(end + name in arrays for name in required))
    if len(prefixes) > 1:
        raise ValueError(f"the arrays are those of several layers; choose one with prefix=, one of "
                         f"{', '.join(map(repr, prefixes))}")
    return prefixes[0] if prefixes else ""


def as_numbers(arrays: NamedArrays, name: str) -> NDArray[Any]:
    """The array of this name, which must hold floating or integer numbers."""
    values = arrays[name]
    if not is_real(values.dtype) or values.dtype.kind == "b":
        raise ValueError(f"{name} must hold real numbers, got {described(arrays)}")
    return values


def as_decimal(arrays: NamedArrays, name: str) -> Decimal:
    """A setting with the digits that it prints with, so that 1 - 0.9 is 0.1, in float32 as well."""
    values = as_numbers(arrays, name)
    if values.size != 1:
        raise ValueError(f"{name} must be one number, got {described(arrays)}")
    return Decimal(str(values.reshape(())[()]))


def described(arrays: NamedArrays) -> str:
    """The names, dtypes and shapes of arrays, for a message."""
    return ", ".join(f"{name} {values.dtype} {values.shape}" for name, values in arrays.items())
