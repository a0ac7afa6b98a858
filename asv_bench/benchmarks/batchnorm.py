"""Batch normalization of arrays of 1 to 17 million elements, by shape, dtype, layout and threads, beside NumPy."""

from fractions import Fraction

import numpy as np

import bnstream

from . import layers
from .base import Timed, named, once
from .data import array, need, set_num_threads
from .reductions import THREADS
from .timing import set_pages

BY = {**THREADS, "bnstream, 2 threads, fresh": 2}
IMAGES = (32, 224, 224, 3)
LAYOUTS = {
    "transposed": (lambda: array((256, 16384), "float32").T, 1),
    "every second column": (lambda: array((16384, 512), "float32")[:, ::2], 1),
    "every second row of a plane": (lambda: array((32, 64, 56, 56), "float32")[:, :, ::2], 1),
    "byte-swapped": (lambda: array((16384, 256), "float32").astype(">f4"), 1),
}


class Layer(Timed):
    """float32. The result goes to `out` or, if "fresh", to a new array on pages that are new to the process. NumPy's
    result is a new array on pages that the C library chooses."""

    params = (list(layers.CHANNEL_AXIS), [*BY, "NumPy"])
    param_names = ("shape", "by")

    @once
    def setup(self, shape, by):
        x, axis = array(shape, "float32"), layers.CHANNEL_AXIS[shape]
        if by == "NumPy":
            self.calls = layers.of_numpy(x, axis)
        else:
            set_num_threads(BY[by])
            fresh = ", fresh" if by.endswith("fresh") else ""
            if fresh:
                set_pages("new")
            calls = layers.of_bnstream(x, axis)
            self.calls = {name: calls[name + fresh] for name in ("training", "inference", "backward")}

    @named("BatchNorm, training")
    def time_training(self, shape, by):
        self.calls["training"]()

    @named("BatchNorm, inference")
    def time_inference(self, shape, by):
        self.calls["inference"]()

    @named("BatchNorm, backward")
    def time_backward(self, shape, by):
        self.calls["backward"]()


class Dtypes(Timed):
    """(16384, 256); the result of integers is float32."""

    params = (["float64", "float16", "uint8", "int16"],)
    param_names = ("dtype",)

    @once
    def setup(self, dtype):
        set_num_threads(2)
        self.calls = layers.of_bnstream(array((16384, 256), dtype))

    @named("BatchNorm, training, other dtypes")
    def time_training(self, dtype):
        self.calls["training"]()

    @named("BatchNorm, inference, other dtypes")
    def time_inference(self, dtype):
        self.calls["inference"]()

    @named("BatchNorm, backward, other dtypes")
    def time_backward(self, dtype):
        self.calls["backward"]()


class Layouts(Timed):
    """Layouts of x, float32; dy and the result are laid out as a new result would be."""

    params = (list(LAYOUTS),)
    param_names = ("layout",)

    @once
    def setup(self, layout):
        set_num_threads(2)
        make, axis = LAYOUTS[layout]
        self.calls = layers.of_bnstream(make(), axis)

    @named("BatchNorm, training, other layouts")
    def time_training(self, layout):
        self.calls["training"]()

    @named("BatchNorm, inference, other layouts")
    def time_inference(self, layout):
        self.calls["inference"]()

    @named("BatchNorm, backward, other layouts")
    def time_backward(self, layout):
        self.calls["backward"]()


class InPlace(Timed):
    """With out=x, the statistics have to be known, and found to be finite, before the first write."""

    params = (list(layers.CHANNEL_AXIS),)
    param_names = ("shape",)

    @once
    def setup(self, shape):
        need("BatchNorm")
        set_num_threads(2)
        axis = layers.CHANNEL_AXIS[shape]
        self.x = array(shape, "float32")
        self.bn = bnstream.BatchNorm(shape[axis], channel_axis=axis)

    @named("BatchNorm, training in place")
    def time_training(self, shape):
        self.bn(self.x, self.x)


class VirtualBatches(Timed):
    """float32, in virtual batches of a fraction of the batch."""

    params = ([(4096, 1024), (32, 64, 56, 56)], ["1/32", "1/4", "1"])
    param_names = ("shape", "virtual_batch")

    @once
    def setup(self, shape, virtual_batch):
        need("BatchNorm")
        if not hasattr(bnstream.BatchNorm, "virtual_batch"):
            raise NotImplementedError("this commit has no virtual batches")
        set_num_threads(2)
        rows = int(shape[0] * Fraction(virtual_batch))
        self.calls = layers.of_bnstream(array(shape, "float32"), virtual_batch=rows)

    @named("BatchNorm, training, virtual batches")
    def time_training(self, shape, virtual_batch):
        self.calls["training"]()

    @named("BatchNorm, backward, virtual batches")
    def time_backward(self, shape, virtual_batch):
        self.calls["backward"]()


class Images(Timed):
    """NumPy subtracts and divides in float32."""

    params = ([*BY, "NumPy"],)
    param_names = ("by",)

    @once
    def setup(self, by):
        need("normalize")
        x, mean, sd = array(IMAGES, "uint8"), layers.IMAGE_MEAN, layers.IMAGE_SD
        self.call = lambda: (x - mean) / sd
        if by in BY:
            out = np.ones(IMAGES, "float32")
            if by.endswith("fresh"):
                set_pages("new")
                out = None
            self.call = lambda: bnstream.normalize(x, mean, sd**2, out=out, n_threads=BY[by])

    @named("normalize, images of uint8 to float32")
    def time_normalize(self, by):
        self.call()
