"""image_mean and image_std of the image processors of transformers."""

import numpy as np
import pytest

from bnstream import BatchNorm, Moments
from bnstream.exchange import from_arrays, to_arrays
from bnstream.exchange.conventions import import_arrays

IMAGES = np.random.default_rng(0).integers(0, 256, (10, 8, 8, 3)).astype(np.uint8)
SCALED = IMAGES / np.float32(255)


def moments(x=SCALED):
    return Moments((0, 1, 2)).update(x)


def test_statistics():
    arrays = to_arrays(moments(), "transformers")
    assert list(arrays) == ["image_mean", "image_std"]
    assert arrays["image_mean"] == pytest.approx(SCALED.mean((0, 1, 2), float), rel=1e-12)
    assert arrays["image_std"] == pytest.approx(SCALED.std((0, 1, 2), float), rel=1e-12)
    assert to_arrays(moments(), "transformers", dtype="float32")["image_mean"].dtype == np.float32


def test_a_layer_that_normalizes_as_the_processor():
    mean, std = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]
    bn, lacks = import_arrays({"image_mean": mean, "image_std": std}, "transformers")
    assert not bn.training
    assert lacks == ["n", "num_batches_tracked", "momentum"]
    np.testing.assert_allclose(bn(SCALED), (SCALED.astype(float) - mean) / std, rtol=1e-6, atol=1e-7)
    back = to_arrays(bn, "transformers")
    assert back["image_mean"].tolist() == mean
    assert back["image_std"] == pytest.approx(std, rel=1e-15)
    assert from_arrays({"image_mean": mean, "image_std": std}, "transformers", channel_axis=1).channel_axis == 1


def test_constant_images_are_not_divided():
    assert to_arrays(moments(np.full((2, 4, 4, 1), 0.5)), "transformers")["image_std"].tolist() == [1]


@pytest.mark.parametrize(("make", "message"), [
    (lambda: moments(IMAGES), "of images scaled to 0 to 1, got means from 1.* fit the images with scale=True"),
    (lambda: Moments(), "the statistics are empty"),
    (lambda: BatchNorm(3), "an image processor has no gamma and beta, and this layer has; make it with affine=False"),
    (lambda: Moments((0, 1)).update(SCALED), r"channels along one axis, got channels of shape \(8, 3\)"),
])
def test_refused_states(make, message):
    with pytest.raises(ValueError, match=message):
        to_arrays(make(), "transformers")


@pytest.mark.parametrize(("arrays", "message"), [
    ({"image_mean": [0.5]}, "expected the arrays image_mean, image_std, got image_mean"),
    ({"image_mean": [0.5], "image_std": [0.5, 0.5]}, r"of one shape \(channels,\), got image_mean float64 \(1,\)"),
    ({"image_mean": 0.5, "image_std": 0.5}, "of one shape"),
    ({"image_mean": [0.5], "image_std": [0.0]},
     r"image_mean must be finite, and image_std from 1e-150 to 1e\+150, got \[0.5\] and \[0.0\]"),
    ({"image_mean": [0.5], "image_std": [1e200]}, "image_std from 1e-150"),
    ({"image_mean": [np.nan], "image_std": [1.0]}, "must be finite"),
    ({"image_mean": ["a"], "image_std": [1.0]}, "image_mean must hold real numbers"),
])
def test_refused_arrays(arrays, message):
    with pytest.raises(ValueError, match=message):
        from_arrays(arrays, "transformers")
