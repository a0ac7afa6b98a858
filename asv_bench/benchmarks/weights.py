"""What weights and masks of batch positions cost, beside the same calls without."""

from functools import partial

import numpy as np

import bnstream

from .base import Timed, named, once
from .data import array

SHAPES = {(65536, 256): 0, (256, 65536): 1, (64, 256, 512): (0, 2)}
SEQUENCES = {"N, L, channels": 2, "N, channels, L": 1}


def need_weights():
    if not hasattr(getattr(bnstream, "Moments", None), "effective_n"):
        raise NotImplementedError("this bnstream knows no weights")


def padded(n_sequences, longest):
    """A mask of sequences of a quarter to the whole of the longest."""
    lengths = np.random.default_rng(1).integers(longest // 4, longest + 1, n_sequences)
    return np.arange(longest) < lengths[:, None]


class Update(Timed):
    """Of float32."""

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


class Sequences(Timed):
    """A batch of 64 sequences of up to 512 steps, 256 channels, float32."""

    params = (list(SEQUENCES), ["all", "where"])
    param_names = ("layout", "steps")

    @once
    def setup(self, layout, steps):
        need_weights()
        self.bn = bnstream.BatchNorm(256, channel_axis=SEQUENCES[layout])
        self.x, self.dy = (array((64, 512, 256) if self.bn.channel_axis == 2 else (64, 256, 512), "float32", seed)
                           for seed in (0, 1))
        self.y, self.dx = np.empty_like(self.x), np.empty_like(self.x)
        self.where = {} if steps == "all" else {"where": padded(64, 512)}
        self.time_training(layout, steps)

    @named("BatchNorm, sequences, training")
    def time_training(self, layout, steps):
        self.bn(self.x, self.y, **self.where)

    @named("BatchNorm, sequences, backward")
    def time_backward(self, layout, steps):
        self.bn.backward(self.dy, self.dx)
