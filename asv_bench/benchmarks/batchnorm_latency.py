"""Batch normalization of (8, 17) float32, where the call itself is what costs; np.add of it is the yardstick."""

import numpy as np

from . import layers
from .data import array


class Small:
    def setup(self):
        self.calls = layers.of_bnstream(array((8, 17), "float32"))

    def time_training(self):
        self.calls["training"]()

    def time_training_fresh(self):
        self.calls["training, fresh"]()

    def time_inference(self):
        self.calls["inference"]()

    def time_inference_fresh(self):
        self.calls["inference, fresh"]()

    def time_backward(self):
        self.calls["backward"]()

    def time_backward_fresh(self):
        self.calls["backward, fresh"]()


class SmallTorch:
    def setup(self):
        self.calls = layers.of_torch(array((8, 17), "float32"))

    def time_training(self):
        self.calls["training"]()

    def time_inference(self):
        self.calls["inference"]()

    def time_backward(self):
        self.calls["backward"]()


class SmallNumPy:
    def setup(self):
        self.x = array((8, 17), "float32")
        self.out = np.ones_like(self.x)

    def time_add(self):
        np.add(self.x, self.x, self.out)

    def time_add_fresh(self):
        np.add(self.x, self.x)
