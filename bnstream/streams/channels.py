"""Which channels of a state `apply` uses."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from bnstream.core.blocks import channels_of
from bnstream.core.labels import listed
from bnstream.core.moments import Moments
from bnstream.streams.sources.selection import excluded


def without(state: Any, exclude: Sequence[str]) -> Any:
    """The state without some channels.

    Raises
    ------
    ValueError
        If it has no names or no other channels, or if some of these have no values, while others have.
    """
    if not isinstance(state, Moments) or state.names is None or state.shape is None:
        if exclude:
            raise ValueError("exclude (--exclude) leaves out channels of a Moments by their names, which these "
                             "statistics do not have")
        return state
    names = state.names
    left_out = excluded(exclude, names, lambda what: ValueError(
        f"the statistics have no channel {what}; their channels are {listed(names)}"))
    kept = [i for i, name in enumerate(names) if name not in left_out]
    if not kept:
        raise ValueError("exclude (--exclude) leaves out all channels of the statistics; leave fewer out")
    n = state.n
    empty = [repr(names[i]) for i in kept if n[i] == 0]
    if empty and len(empty) < len(kept):
        raise ValueError(f"the statistics have no value of {listed(empty)}; leave out such channels with exclude= "
                         "(--exclude), or fit data that has values of them")
    return channels_of(state, kept) if left_out else state
