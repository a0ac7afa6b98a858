"""Batch normalization of arrays larger than the caches, by shape, threads, dtype and layout; PyTorch, NumPy beside."""

import numpy as np

import bnstream

from . import layers
from .data import array, need

IMAGES = (32, 224, 224, 3)
LAYOUTS = {
    "transposed": (lambda: array((256, 16384), "float32").T, 1),
    "every second column": (lambda: array((16384, 512), "float32")[:, ::2], 1),
    "every second row of a plane": (lambda: array((32, 64, 56, 56), "float32")[:, :, ::2], 1),
    "byte-swapped": (lambda: array((16384, 256), "float32").astype(">f4"), 1),
}


class Threads:
    """Sets the number of threads of the layers, which have no argument for it, and back."""

    def setup(self, *parameters):
        need("set_num_threads")
        bnstream.set_num_threads(parameters[-1])

    def teardown(self, *parameters):
        bnstream.set_num_threads(None)


class Layer(Threads):
    """float32, with the two ways to have the result: `out`, and a new array."""

    params = (list(layers.CHANNEL_AXIS), [1, 2])
    param_names = ("shape", "n_threads")

    def setup(self, shape, n_threads):
        super().setup(n_threads)
        self.calls = layers.of_bnstream(array(shape, "float32"), layers.CHANNEL_AXIS[shape])

    def time_training(self, shape, n_threads):
        self.calls["training"]()

    def time_training_fresh(self, shape, n_threads):
        self.calls["training, fresh"]()

    def time_inference(self, shape, n_threads):
        self.calls["inference"]()

    def time_inference_fresh(self, shape, n_threads):
        self.calls["inference, fresh"]()

    def time_backward(self, shape, n_threads):
        self.calls["backward"]()

    def time_backward_fresh(self, shape, n_threads):
        self.calls["backward, fresh"]()


class LayerTorch:
    """Always a new array."""

    params = (list(layers.CHANNEL_AXIS), [1, 2])
    param_names = ("shape", "n_threads")

    def setup(self, shape, n_threads):
        self.calls = layers.of_torch(array(shape, "float32"), layers.CHANNEL_AXIS[shape], n_threads)

    def time_training(self, shape, n_threads):
        self.calls["training"]()

    def time_inference(self, shape, n_threads):
        self.calls["inference"]()

    def time_backward(self, shape, n_threads):
        self.calls["backward"]()


class Dtypes(Threads):
    """Integers give float32."""

    params = (["float64", "float16", "uint8", "int16"], [1, 2])
    param_names = ("dtype", "n_threads")

    def setup(self, dtype, n_threads):
        super().setup(n_threads)
        self.calls = layers.of_bnstream(array((16384, 256), dtype))

    def time_training(self, dtype, n_threads):
        self.calls["training"]()

    def time_inference(self, dtype, n_threads):
        self.calls["inference"]()

    def time_backward(self, dtype, n_threads):
        self.calls["backward"]()


class Layouts(Threads):
    """Of x; dy and the result are laid out as a new result would be."""

    params = (list(LAYOUTS), [1, 2])
    param_names = ("layout", "n_threads")

    def setup(self, layout, n_threads):
        super().setup(n_threads)
        make, axis = LAYOUTS[layout]
        self.calls = layers.of_bnstream(make(), axis)

    def time_training(self, layout, n_threads):
        self.calls["training"]()

    def time_inference(self, layout, n_threads):
        self.calls["inference"]()

    def time_backward(self, layout, n_threads):
        self.calls["backward"]()


class InPlace(Threads):
    """Training with out=x, which must know the statistics, and that all are finite, before it writes."""

    params = (list(layers.CHANNEL_AXIS), [1, 2])
    param_names = ("shape", "n_threads")

    def setup(self, shape, n_threads):
        super().setup(n_threads)
        need("BatchNorm")
        axis = layers.CHANNEL_AXIS[shape]
        self.x = array(shape, "float32")
        self.bn = bnstream.BatchNorm(shape[axis], channel_axis=axis)

    def time_training(self, shape, n_threads):
        self.bn(self.x, self.x)


class Images:
    """uint8 to float32."""

    params = ([1, 2],)
    param_names = ("n_threads",)

    def setup(self, n_threads):
        need("normalize")
        self.x, self.out = array(IMAGES, "uint8"), np.ones(IMAGES, "float32")
        self.mean, self.var = layers.IMAGE_MEAN, layers.IMAGE_SD**2

    def time_normalize(self, n_threads):
        bnstream.normalize(self.x, self.mean, self.var, out=self.out, n_threads=n_threads)

    def time_normalize_fresh(self, n_threads):
        bnstream.normalize(self.x, self.mean, self.var, n_threads=n_threads)


class ImagesNumPy:
    """In float32."""

    def setup(self):
        self.x = array(IMAGES, "uint8")

    def time_subtract_and_divide(self):
        (self.x - layers.IMAGE_MEAN) / layers.IMAGE_SD
