"""How channels and numbers are written where they are shown, and the order of names."""

from collections.abc import Sequence
from typing import Any

import numpy as np


def channel_label(i: int, shape: tuple[int, ...], names: Sequence[str] | None) -> str:
    """The name of the i-th channel, or its index in an array of the shape of the channels."""
    return str(names[i]) if names is not None else ", ".join(map(str, np.unravel_index(i, shape))) or "0"


def counted(count: int, noun: str = "channel", plural: str = "channels") -> str:
    """A count with its noun, as "1 channel" or "1,024 channels"."""
    return f"{count:,} {noun if count == 1 else plural}"


def listed(names: Sequence[str], separator: str = ", ", most: int = 20) -> str:
    """Names in a row; of many the first `most` and how many there are."""
    if len(names) <= most:
        return separator.join(names)
    return f"{separator.join(names[:most])}{separator}... ({len(names):,} in all)"


def require_order(names: Sequence[str] | None, given: Sequence[str] | None, what: str) -> None:
    """Raise ValueError if one of these names is given at another place. Other names may be given instead of these."""
    place = {name: i for i, name in enumerate(names or ())}
    if any(place.get(name, i) != i for i, name in enumerate(given or ())):
        raise ValueError(f"expected {what} in the order {listed(names or ())} as here, got {listed(given or ())}; pass "
                         "them in this order")


def number_text(value: Any) -> str:
    """An integer with commas, any other number to six digits."""
    return f"{value:,}" if isinstance(value, (int, np.integer)) else f"{float(value):.6g}"
