"""The moments of the blocks of arrays on disk, each of some of the channels, and of all channels."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from bnstream.core.blocks import in_order
from bnstream.core.moments import Moments
from bnstream.streams.accumulator import Accumulator
from bnstream.streams.sources.arrays.blocks import Block


class GridAccumulator(Accumulator):
    """The moments of blocks: one part for all blocks of the same channels.

    Sources may divide the channels in different ways. The parts are then joined, and the channels divided anew.
    """

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.known: Moments | None = None               # of all channels, from before the first part
        self.layout: tuple[Any, ...] | None = None      # how the channels are divided into the parts
        self.blocks: dict[Any, tuple[NDArray[np.intp], Moments]] = {}       # channels and moments of each part

    def block(self, key: Any, layout: tuple[Any, ...], channels: NDArray[np.intp], axes: Any) -> Moments:
        """The moments of a block of channels."""
        if layout is not self.layout and layout != self.layout:
            self.known = self.result() if self.blocks else self.known
            self.layout, self.blocks = layout, {}
        if key not in self.blocks:
            part = self.moments(axes)
            if self.known is not None:
                part.merge(in_order([self.known], channels, axes, None))
            self.blocks[key] = channels, part
        return self.blocks[key][1]

    def update(self, values: Block) -> None:
        """Add a block. The kernel runs on one thread, as the threads work on blocks."""
        part = self.block(values.key, values.layout, values.channels, values.axes)
        part.update(values.batch, **values.positions, n_threads=1)

    def merge(self, other: Accumulator) -> None:
        assert isinstance(other, GridAccumulator)
        for key, (channels, part) in other.blocks.items():
            assert other.layout is not None
            self.block(key, other.layout, channels, part.axis).merge(part)

    def result(self) -> Moments:
        """The moments of all channels, those of which nothing was read yet with n = 0."""
        axes: Any = self.source.batch_axes
        if not self.blocks and self.known is None:
            return self.moments(axes, self.source.names)
        places = [channels.ravel() for channels, _ in self.blocks.values()]
        parts = [part for _, part in self.blocks.values()]
        rest = np.setdiff1d(np.arange(self.source.n_channels), np.concatenate([*places, np.empty(0, np.intp)]))
        if rest.size:
            nothing = self.moments(0).update(np.zeros((1, rest.size)), where=np.zeros((1, 1), np.bool_))
            parts.append(nothing if self.known is None else in_order([self.known], rest, 0, None))
            places.append(rest)
        return in_order(parts, np.argsort(np.concatenate(places)), axes, self.source.names)

    def restore(self, moments: Moments) -> None:
        """Continue from the result of another pass."""
        self.known = None if moments.shape is None else moments.copy()
