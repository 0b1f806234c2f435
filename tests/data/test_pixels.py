"""Pixels on their way in: to float, to grey or colour, to another size."""

import numpy as np
import pytest
from PIL import Image
from small_sets import small_set

from tinygen.data import DataError, Dataset, as_float


def test_as_float_is_the_correctly_rounded_quotient():
    levels = np.arange(256, dtype=np.uint8).reshape(1, 1, 16, 16)
    expected = (np.arange(256) / 255).astype(np.float32)  # float64 quotient, rounded once
    np.testing.assert_array_equal(as_float(levels).ravel(), expected)
    with pytest.raises(DataError, match="int64"):
        as_float(levels.astype(np.int64))


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_channels_both_ways(dtype):
    one = small_set()
    if dtype == np.float32:
        one = small_set(train_images=one.floats("train"), test_images=one.floats("test"))
    three = one.in_channels(3)
    assert three.shape == (3, 8, 8) and three.train_images.dtype == dtype
    for c in range(3):
        np.testing.assert_array_equal(three.train_images[:, c], one.train_images[:, 0])
    back = three.in_channels(1)
    np.testing.assert_allclose(back.train_images, one.train_images, atol=0 if dtype == np.uint8 else 1e-6)
    assert one.in_channels(1).train_images is not three.train_images
    with pytest.raises(DataError, match="channels must be 1"):
        one.in_channels(2)


def test_grey_weighs_red_green_and_blue():
    images = np.zeros((3, 3, 8, 8), np.uint8)
    for c in range(3):
        images[c, c] = 200
    converted = small_set(train_images=images, train_labels=None, test_images=images, test_labels=None).in_channels(1)
    np.testing.assert_array_equal(converted.train_images[:, 0, 0, 0], [60, 117, 23])  # 200 x (.299, .587, .114)


def test_resizing_keeps_constants_and_does_not_alias():
    flat = small_set(train_images=np.full((2, 1, 20, 12), 77, np.uint8), train_labels=np.zeros(2, np.int64),
                     test_images=np.full((2, 1, 20, 12), 77, np.uint8), test_labels=np.zeros(2, np.int64))
    assert (flat.resized(8).train_images == 77).all() and flat.resized(8).shape == (1, 8, 8)
    # Columns alternate between black and white. Picking pixels would give all of one kind; averaging gives grey.
    stripes = np.zeros((2, 1, 64, 64), np.uint8)
    stripes[..., ::2] = 255
    small = Dataset("s", stripes, None, stripes, None).resized(8).train_images.astype(int)
    assert (abs(small[:, :, :, 1:-1] - 127.5) < 4).all()
    sharp = Dataset("s", as_float(stripes), None, as_float(stripes), None).resized(80).train_images
    assert sharp.min() >= 0 and sharp.max() <= 1 and sharp.dtype == np.float32


def test_resizing_takes_the_centre_of_a_wide_image():
    wide = np.zeros((2, 1, 8, 24), np.uint8)
    wide[..., 8:16] = 200  # the middle third alone is bright
    assert (Dataset("w", wide, None, wide, None).resized(8).train_images == wide[..., 8:16]).all()
    larger = Dataset("w", wide, None, wide, None).resized(16).train_images[0, 0]
    whole = Image.fromarray(wide[0, 0]).resize((48, 16), Image.Resampling.BICUBIC)
    np.testing.assert_array_equal(larger, np.asarray(whole)[:, 16:32])  # shorter side to 16, then the centre


@pytest.mark.parametrize(("shape", "box"), [((8, 11), (1.5, 0, 9.5, 8)), ((11, 8), (0, 1.5, 8, 9.5))])
def test_the_centre_may_lie_between_pixels(shape, box):
    image = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    ours = Dataset("odd", image[None, None], None, image[None, None], None).resized(16).train_images[0, 0]
    theirs = Image.fromarray(image).resize((16, 16), Image.Resampling.BICUBIC, box=box)
    np.testing.assert_array_equal(ours, np.asarray(theirs))
