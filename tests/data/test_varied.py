"""Tinted and rotated digits: colours against colorsys, turns against Pillow, factors independent of the class."""

import colorsys

import numpy as np
import pytest
from PIL import Image

from tinygen import data
from tinygen.data import DataError, Dataset
from tinygen.data.varied import in_hues, rotated, tint, tinted, turn, untinted


def test_a_tint_is_a_hue_at_full_saturation():
    levels = np.random.default_rng(0).random((50, 1, 8, 8)).astype(np.float32)
    hues = np.random.default_rng(1).random(50).astype(np.float32)
    got = tint(levels, hues)
    assert got.shape == (50, 3, 8, 8) and got.dtype == np.float32
    for n in range(50):
        expected = colorsys.hsv_to_rgb(float(hues[n]), 1.0, float(levels[n, 0, 3, 4]))
        np.testing.assert_allclose(got[n, :, 3, 4], expected, atol=1e-5)
    np.testing.assert_allclose(got.max(axis=1, keepdims=True), levels, atol=1e-6)  # the digit is the brightest channel


def test_a_turn_is_pillows():
    images = np.random.default_rng(0).random((4, 2, 14, 14)).astype(np.float32)
    angles = np.array([0, 30, -77.5, 180], np.float32)
    padded = np.pad(images, ((0, 0), (0, 0), (6, 6), (6, 6)))  # the border alone is treated otherwise
    got = turn(padded, angles)
    for n, angle in enumerate(angles):
        for c in range(2):
            theirs = Image.fromarray(padded[n, c]).rotate(float(angle), Image.Resampling.BILINEAR)
            np.testing.assert_allclose(got[n, c][1:-1, 1:-1], np.asarray(theirs)[1:-1, 1:-1], atol=2e-4)
    np.testing.assert_array_equal(got[0], padded[0])


@pytest.mark.parametrize("name", ["tinted-digits", "rotated-digits"])
def test_the_factor_is_known_uniform_and_says_nothing_about_the_class(name):
    made, digits = data.load(name), data.load("digits")
    np.testing.assert_array_equal(made.train_labels, digits.train_labels)
    np.testing.assert_array_equal(made.test_labels, digits.test_labels)
    field, (low, high) = ("hues", (0, 1)) if name == "tinted-digits" else ("angles", (-45, 45))
    for split in ("train", "test"):
        factor = getattr(made, f"{split}_{field}")
        assert factor.dtype == np.float32 and factor.min() >= low and factor.max() < high
        count = len(factor)
        assert abs(factor.mean() - (low + high) / 2) < 4 * (high - low) / (12 * count) ** 0.5
        assert factor.std() == pytest.approx((high - low) / 12**0.5, rel=0.1)
        apply = tint if field == "hues" else turn
        np.testing.assert_allclose(made.floats(split), apply(digits.floats(split), factor), atol=1e-6)
    means = [getattr(made, f"train_{field}")[made.train_labels == k].mean() for k in range(10)]
    assert np.ptp(means) < 0.25 * (high - low)
    kept = made.limited(30)
    again = tint if field == "hues" else turn
    base = digits.limited(30).floats()
    np.testing.assert_allclose(kept.floats(), again(base, getattr(kept, f"train_{field}")), atol=1e-6)
    assert made.name == name and data.load(name).sha == made.sha


def test_the_seed_alone_decides():
    digits = data.load("digits", limit=50)
    shuffled = Dataset("digits", digits.train_images, digits.train_labels[::-1].copy(), digits.test_images,
                       digits.test_labels, digits.classes)
    np.testing.assert_array_equal(tinted(shuffled).train_hues, tinted(digits).train_hues)
    assert (tinted(digits, seed=1).train_hues != tinted(digits).train_hues).any()
    assert (rotated(digits, largest=10).train_angles < 10).all()
    assert not set(tinted(digits).train_hues) & set(tinted(digits).test_hues)


@pytest.mark.parametrize(
    ("name", "colours"),
    [("two-hues-digits", [(1, 0, 0), (0, 1, 1)]), ("three-hues-digits", [(1, 0, 0), (0, 1, 0), (0, 0, 1)])],
)
def test_each_image_is_in_one_of_a_few_equally_likely_hues(name, colours):
    made, digits = data.load(name), data.load("digits")
    assert made.name == name and made.shape == (3, 8, 8) and data.load(name).sha == made.sha
    assert f"in {len(colours)} hues" in made.source
    for split in ("train", "test"):
        hues, images, grey = getattr(made, f"{split}_hues"), made.floats(split), digits.floats(split)
        assert hues.dtype == np.float32
        which = np.searchsorted(np.unique(hues), hues)
        assert np.unique(hues).tolist() == [np.float32(colorsys.rgb_to_hsv(*c)[0]) for c in colours]
        np.testing.assert_allclose(images, grey * np.array(colours, np.float32)[which][:, :, None, None], atol=1e-6)
        shares, k = np.bincount(which) / len(which), len(colours)
        assert abs(shares - 1 / k).max() < 4 * ((k - 1) / k**2 / len(which)) ** 0.5
        np.testing.assert_array_equal(getattr(made, f"{split}_labels"), getattr(digits, f"{split}_labels"))
    of_seven = (which == 0)[made.test_labels == 7].mean()
    assert abs(of_seven - 1 / k) < 0.35  # the hue says nothing about the class


def test_hues_of_ones_own():
    digits = data.load("digits", limit=60)
    one, four = in_hues(digits, (0.7,)), in_hues(digits, [0.1, 0.2, 0.3, 0.9], seed=3)
    assert one.name == "1-hues-digits" and four.name == "4-hues-digits" and "seed 3" in four.source
    np.testing.assert_array_equal(one.train_hues, np.full(60, 0.7, np.float32))
    np.testing.assert_allclose(one.floats(), tint(digits.floats(), np.full(60, 0.7)), atol=1e-6)
    assert set(four.train_hues) == set(np.float32([0.1, 0.2, 0.3, 0.9]))
    np.testing.assert_allclose(four.floats(), tint(digits.floats(), four.train_hues), atol=1e-6)
    assert (in_hues(digits, [0.1, 0.2, 0.3, 0.9]).train_hues != four.train_hues).any()
    few = four.limited(20)
    np.testing.assert_array_equal(few.floats(), tint(digits.limited(20).floats(), few.train_hues))
    with pytest.raises(DataError, match=r"in_hues: give at least one hue, such as \(0, 1/2\) for red and cyan"):
        in_hues(digits, ())
    with pytest.raises(DataError, match=r"expected grey images.*channels=1"):
        in_hues(data.load("digits", channels=3, limit=5), (0.5,))


def test_bytes_stay_bytes_and_batches_stay_images_with_labels(monkeypatch):
    from tinygen.data import mnist

    images = np.random.default_rng(0).integers(0, 256, (1500, 1, 8, 8), np.uint8)
    base = Dataset("mnist", images, np.arange(1500) % 10, images[:9], np.arange(9), tuple("0123456789"))
    monkeypatch.setattr(mnist, "load_published", lambda name: base)
    colour, turned = data.load("tinted-mnist"), data.load("rotated-mnist")
    for made, vary, factor in ((colour, tint, "hues"), (turned, turn, "angles")):
        assert made.train_images.dtype == np.uint8
        expected = np.rint(255 * vary(base.floats(), getattr(made, f"train_{factor}")))
        np.testing.assert_array_equal(made.train_images, expected)  # in pieces as at once
    x, y = colour.batches(64).at(0, 0)
    assert x.shape == (64, 3, 8, 8) and y.shape == (64,)
    assert colour.shape == (3, 8, 8) and turned.shape == (1, 8, 8) and colour.name == "tinted-mnist"


def test_what_cannot_be_varied():
    with pytest.raises(DataError, match=r"expected grey images.*channels=1"):
        tinted(data.load("digits", channels=3, limit=5))
    with pytest.raises(DataError, match="expected images"):
        rotated(data.load("ring"))
    with pytest.raises(DataError, match="expected grey"):
        tinted(data.load("ring"))


def test_what_was_tinted_is_found_again():
    levels = np.random.default_rng(0).random((60, 1, 8, 8)).astype(np.float32)
    hues = np.linspace(0, 1, 60, endpoint=False).astype(np.float32)
    grey, found = untinted(tint(levels, hues))
    np.testing.assert_array_equal(grey, levels)
    np.testing.assert_allclose(found, hues, atol=1e-5)
    mixed = np.random.default_rng(1).random((20, 3, 4, 4)).astype(np.float32)
    expected = [colorsys.rgb_to_hsv(*image.sum((1, 2)))[0] for image in mixed]
    np.testing.assert_allclose(untinted(mixed)[1], expected, atol=1e-5)
    assert untinted(np.zeros((1, 3, 4, 4), np.float32))[1] == 0
