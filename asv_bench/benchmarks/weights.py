"""The cost of weights and of masks of batch positions, beside the same calls without them."""

from functools import partial

import numpy as np

import bnstream

from .base import Timed, named, once
from .data import array
from .layers import repeatable

SHAPES = {(65536, 256): 0, (256, 65536): 1, (64, 256, 512): (0, 2)}
BATCHES = {
    "N, L, channels": ((64, 512, 256), 2), "N, channels, L": ((64, 256, 512), 1), "images": ((32, 64, 56, 56), 1),
}


def need_weights():
    if not hasattr(getattr(bnstream, "Moments", None), "effective_n"):
        raise NotImplementedError("this bnstream has no weights")


def padded(n_sequences, longest):
    """A mask of sequences whose lengths are between a quarter of the longest and all of it."""
    lengths = np.random.default_rng(1).integers(longest // 4, longest + 1, n_sequences)
    return np.arange(longest) < lengths[:, None]


class Update(Timed):
    """float32."""

    params = (list(SHAPES), ["all", "where", "weights"])
    param_names = ("shape", "rows")

    @once
    def setup(self, shape, rows):
        need_weights()
        axis = SHAPES[shape]
        weights = np.random.default_rng(1).random([shape[i] for i in (axis if isinstance(axis, tuple) else (axis,))])
        given = {"all": {}, "where": {"where": weights < 0.7}, "weights": {"weights": weights}}[rows]
        self.call = partial(bnstream.Moments(axis).update, array(shape, "float32"), **given)

    @named("Moments.update, weights")
    def time_update(self, shape, rows):
        self.call()


class Batches(Timed):
    """Sequences of a quarter of the longest up to all of it, and images with as many of their lines. float32."""

    params = (list(BATCHES), ["all", "where"])
    param_names = ("batch", "positions")

    @once
    def setup(self, batch, positions):
        need_weights()
        shape, channel_axis = BATCHES[batch]
        n_channels = shape[channel_axis]
        self.bn = bnstream.BatchNorm(n_channels, channel_axis=channel_axis)
        self.inference = bnstream.BatchNorm(n_channels, channel_axis=channel_axis).eval()
        self.x, self.dy = (array(shape, "float32", seed) for seed in (0, 1))
        self.y, self.dx = np.empty_like(self.x), np.empty_like(self.x)
        mask = padded(shape[0], 512 if batch != "images" else 56)
        self.where = {} if positions == "all" else {"where": mask if batch != "images" else mask[:, :, None]}
        self.time_training(batch, positions)
        self.backward = repeatable(self.bn, self.dy, self.dx)

    @named("BatchNorm with a mask, training")
    def time_training(self, batch, positions):
        self.bn(self.x, self.y, **self.where)

    @named("BatchNorm with a mask, backward")
    def time_backward(self, batch, positions):
        self.backward()

    @named("BatchNorm with a mask, inference")
    def time_inference(self, batch, positions):
        self.inference(self.x, self.y, **self.where)
