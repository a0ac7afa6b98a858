"""What the channels are called where they are shown."""

from collections.abc import Sequence

import numpy as np


def channel_label(i: int, shape: tuple[int, ...], names: Sequence[str] | None) -> str:
    """The name of the i-th channel, or its index in an array of the shape of the channels."""
    return str(names[i]) if names is not None else ", ".join(map(str, np.unravel_index(i, shape))) or "0"


def counted(n_channels: int) -> str:
    """The number of channels in words, as "1 channel" or "1,024 channels"."""
    return f"{n_channels:,} channel{'s' * (n_channels != 1)}"
