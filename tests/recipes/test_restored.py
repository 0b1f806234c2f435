"""Figures of restored images and what is reached without a network, against NumPy and known answers on digits."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

import tinygen as tg
from tinygen import data, metrics
from tinygen.data import Dataset, corruptions
from tinygen.data.varied import tint
from tinygen.recipes import find, restored
from tinygen.recipes.image_to_image import MASKS
from tinygen.recipes.recipe import Given
from tinygen.recipes.scores import baselines
from tinygen.step import Step

TEN = tuple("0123456789")


@pytest.fixture(scope="module")
def digits():
    return data.load("digits")


class Restoring(Step):
    """restored(x) is what a function of arrays says."""

    def __init__(self, function):
        self.function = function

    def restored(self, x):
        return tg.tensor(self.function(x.numpy()))


def batches(*arrays, sizes):
    """Batches of unequal sizes."""
    ends = np.cumsum(sizes)
    assert ends[-1] == len(arrays[0])
    return [tuple(None if a is None else tg.tensor(a[end - size : end]) for a in arrays)
            for size, end in zip(sizes, ends)]  # fmt: skip


def given(shape, classes=TEN):
    return Given(shape, classes, 1)


# ---------------------------------------------------------------------------------- figures of images


def test_digits_are_judged_as_they_were_restored_over_all_batches(digits):
    x, labels = digits.floats("test"), digits.test_labels
    dim = lambda images: 0.5 * images[:, :, ::-1].copy()
    found = restored.of_images(given((1, 8, 8)))(Restoring(dim), batches(x, labels, sizes=[150, 100, 47]))
    assert list(found) == ["cfid", "accuracy"]  # SSIM's window has 11 pixels a side
    known, made = metrics.features(x)[0], metrics.features(dim(x))[0]
    assert found["cfid"] == pytest.approx(metrics.frechet_from_features(known, made), rel=1e-6)
    assert found["accuracy"] == pytest.approx((metrics.features(dim(x))[1].argmax(1) == labels).mean())
    assert found["accuracy"] < 0.6 and found["cfid"] > 10


def test_perfect_images_are_at_distance_0_and_as_well_recognised_as_real_ones(digits):
    x, labels = digits.floats("test"), digits.test_labels
    found = restored.of_images(given((1, 8, 8)))(Restoring(lambda images: images), batches(x, labels, sizes=[250, 47]))
    assert found["cfid"] == pytest.approx(0, abs=1e-3) and found["accuracy"] == pytest.approx(0.99, abs=2e-3)


def test_what_the_frozen_network_does_not_know_is_not_judged_by_it(digits):
    x, labels = digits.floats("test"), digits.test_labels
    same = Restoring(lambda images: images)
    letters = restored.of_images(given((1, 8, 8), tuple("abcdefghij")))
    assert list(letters(same, batches(x, labels, sizes=[297]))) == ["cfid"]
    assert list(restored.of_images(given((1, 8, 8), ()))(same, batches(x, None, sizes=[297]))) == ["cfid"]
    few = restored.of_images(given((1, 8, 8)))
    assert list(few(same, batches(x[:63], labels[:63], sizes=[63]))) == ["accuracy"]
    assert list(few(same, batches(x[:64], labels[:64], sizes=[64]))) == ["cfid", "accuracy"]


def test_large_images_have_a_ssim_between_what_was_restored_and_the_truth():
    x = np.random.default_rng(0).random((7, 3, 12, 11)).astype(np.float32)
    darker = lambda images: (0.7 * images).astype(np.float32)
    found = restored.of_images(given((3, 12, 11), ()))(Restoring(darker), batches(x, None, sizes=[5, 2]))
    assert found == pytest.approx({"ssim": metrics.ssim(darker(x), x)}, rel=1e-6)
    assert 0.5 < found["ssim"] < 0.99
    for narrow in (x[:, :, :10], x[:, :, :, :10]):
        shape = narrow.shape[1:]
        assert restored.of_images(given(shape, ()))(Restoring(darker), batches(narrow, None, sizes=[7])) == {}


class Guessing(Step):
    """Fills images under strokes of its own with noise, and spoils the known pixels, too."""

    def __init__(self, masks):
        self.masks, self.asked = masks, 0
        self.guess = np.random.default_rng(1).normal(0.5, 0.6, (len(masks), 2, 5, 4)).astype(np.float32)

    def degrade(self, x):
        self.at = slice(self.asked, self.asked + len(x))
        self.asked += len(x)
        mask = self.masks[self.at]
        return tg.tensor(np.concatenate([x.numpy() * (1 - mask), mask], 1))

    def generator(self, seen):
        assert np.array_equal(seen.numpy()[:, -1:], self.masks[self.at])
        return tg.tensor(self.guess[self.at])


def test_the_error_in_the_hole_is_a_mean_over_all_hidden_values_however_many_each_image_has():
    rng = np.random.default_rng(0)
    x = rng.random((6, 2, 5, 4)).astype(np.float32)
    masks = (rng.random((6, 1, 5, 4)) < np.linspace(0.05, 0.9, 6).reshape(-1, 1, 1, 1)).astype(np.float32)
    step = Guessing(masks)
    found = restored.in_holes(step, batches(x, None, sizes=[4, 2]))
    error = (np.clip(step.guess, 0, 1) - x) ** 2
    hidden = np.broadcast_to(masks == 1, x.shape)
    assert found == pytest.approx({"hole_mse": error[hidden].mean()}, rel=1e-5)
    each = [error[i][hidden[i]].mean() for i in range(6) if hidden[i].any()]
    assert abs(found["hole_mse"] - np.mean(each)) > 1e-3
    assert restored.in_holes(Guessing(0 * masks), batches(x, None, sizes=[6])) == {"hole_mse": 0.0}


# ---------------------------------------------------------------------------------- colours


def flat(*colours):
    """Images of 2x2 pixels, each of one colour."""
    return np.repeat(np.repeat(np.float32(colours)[:, :, None, None], 2, 2), 2, 3)


def test_saturation_is_of_all_light_of_an_image():
    images = flat((1, 0, 0), (0, 0.2, 0), (0.5, 0.5, 0), (0.4, 0.4, 0.4), (1, 0.5, 0.25), (0, 0, 0))
    assert restored.saturations(images).tolist() == pytest.approx([1, 1, 1, 0, 0.75, 0])
    mixed = images[:1].copy()
    mixed[0, :, 0] = [[0, 0], [1, 1], [1, 1]]  # half of the pixels red, half cyan: together grey
    assert restored.saturations(mixed).tolist() == [0]


def test_the_figure_is_the_mean_over_images_of_what_was_restored():
    images = flat(*[(1, s, s) for s in (0, 0.1, 0.3, 0.8, 0.9)])
    swapped = Restoring(lambda x: x[:, ::-1] * 0.5)
    found = restored.saturation(swapped, batches(images, None, sizes=[4, 1]))
    assert found == pytest.approx({"saturation": np.mean([1, 0.9, 0.7, 0.2, 0.1])})
    paler = Restoring(lambda x: 0.5 * x + 0.5)  # the brightest channel stays 1, the others come half as near
    found = restored.saturation(paler, batches(images, None, sizes=[4, 1]))
    assert found == pytest.approx({"saturation": np.mean([1, 0.9, 0.7, 0.2, 0.1]) / 2})


def test_an_image_belongs_to_the_nearest_hue_around_the_circle_unless_it_is_grey():
    grey = np.random.default_rng(0).random((6, 1, 3, 3)).astype(np.float32)
    images = tint(grey, np.float32([0.97, 0.1, 0.3, 0.45, 0.7, 0.5]))
    images[5] = 0.51 * images[5] + 0.49 * grey[5]  # cyan, just grey no longer
    assert restored.hue_shares(images, (0.0, 0.5)).tolist() == pytest.approx([2 / 6, 4 / 6])
    assert restored.hue_shares(images, (0.0, 1 / 3, 2 / 3)).tolist() == pytest.approx([2 / 6, 2 / 6, 2 / 6])
    images[5] = 0.48 * tint(grey[5:], np.float32([0.5]))[0] + 0.52 * grey[5]
    assert restored.hue_shares(images, (0.0, 0.5)).tolist() == pytest.approx([2 / 6, 3 / 6])
    assert restored.hue_shares(np.repeat(grey, 3, 1), (0.0, 0.5)).tolist() == [0, 0]


@pytest.mark.parametrize("name", ["two-hues-digits", "three-hues-digits"])
def test_real_colours_are_saturated_and_equally_likely(name):
    tinted = data.load(name)
    hues = np.unique(tinted.train_hues)
    x = tinted.floats("test")
    shares = restored.hue_shares(x, hues.tolist())
    assert shares.tolist() == pytest.approx([(tinted.test_hues == hue).mean() for hue in hues])
    assert abs(shares - 1 / len(hues)).max() < 0.06 and restored.saturations(x).min() == 1


# ---------------------------------------------------------------------------------- interpolation


def triangle(t):
    return np.maximum(0, 1 - abs(t))


def keys(t, a=-0.5):
    t = abs(t)
    near, far = (a + 2) * t**3 - (a + 3) * t**2 + 1, a * (t**3 - 5 * t**2 + 8 * t - 4)
    return np.where(t <= 1, near, np.where(t < 2, far, 0))


def resized(small, factor, kernel):
    """sum_j kernel(place - j) x_j, j clipped to the image, where the pixel centres of both sizes agree."""
    sides = []
    for side in small.shape[2:]:
        place = (np.arange(factor * side) + 0.5) / factor - 0.5
        weights = np.zeros((factor * side, side))
        for j in range(-3, side + 3):
            weights[:, np.clip(j, 0, side - 1)] += kernel(place - j)
        sides.append(weights)
    return np.einsum("ih,nchw,jw->ncij", sides[0], small, sides[1])


WAYS = {
    "nearest": lambda small, factor: small.repeat(factor, 2).repeat(factor, 3),
    "bilinear": lambda small, factor: resized(small, factor, triangle),
    "bicubic": lambda small, factor: np.clip(resized(small, factor, keys), 0, 1),
}


def means(x, factor):
    n, c, h, w = x.shape
    return x.reshape(n, c, h // factor, factor, w // factor, factor).mean((3, 5))


@pytest.mark.parametrize("mode", WAYS)
@pytest.mark.parametrize("factor", [2, 4])
def test_images_are_made_larger_as_the_kernels_say(mode, factor):
    small = np.random.default_rng(0).random((2, 3, 3, 5))
    made = restored.upsampled(tg.tensor(small), mode, (3 * factor, 5 * factor)).numpy()
    np.testing.assert_allclose(made, WAYS[mode](small, factor), atol=1e-6)
    assert tuple(WAYS) == restored.INTERPOLATIONS


@pytest.mark.parametrize(("factor", "known"), [(2, (13.145, 12.793, 13.426)), (4, (8.893, 8.796, 8.8))])
def test_baselines_are_the_psnr_of_digits_made_small_and_large_again(digits, factor, known):
    x = digits.floats("test").astype(float)
    without, with_d = ("srresnet", "srgan") if factor == 2 else ("srresnet-x4", "srgan-x4")
    found = baselines(find(without), digits, {"width": 4})["psnr"]
    assert baselines(find(with_d), digits, {"width": 4})["psnr"] == found
    for one, (mode, way), near in zip(found, WAYS.items(), known, strict=True):
        made = way(means(x, factor), factor)
        expected = (-10 * np.log10(((made - x) ** 2).reshape(len(x), -1).mean(1))).mean()
        assert (one.metric, one.what, one.floor) == ("psnr", f"{mode} interpolation", False)
        assert one.value == pytest.approx(expected, rel=1e-5) and one.value == pytest.approx(near, abs=1e-3)
    names = {one.__name__ for of in (2, 4) for one in restored.larger(of)}
    assert len(names) == 6  # under which figures are kept


def test_of_many_images_in_unequal_batches_a_baseline_is_the_mean_over_all():
    x = np.random.default_rng(0).random((502, 1, 8, 8)).astype(np.float32)
    x[500:] = 0.5  # nothing is lost: 100 dB
    found = restored.larger(2)[0](Dataset("mine", x[:2], None, x, None), {})
    error = (x - WAYS["nearest"](means(x, 2), 2)).astype(float) ** 2
    expected = (-10 * np.log10(np.maximum(error.mean((1, 2, 3)), 1e-10))).mean()
    assert found.value == pytest.approx(expected, rel=1e-5)


def test_psnr_is_of_each_image_and_ends_at_100_decibel():
    x = np.zeros((3, 2, 4, 4), np.float32)
    y = x + np.float32([0.1, 0.5, 0]).reshape(-1, 1, 1, 1)
    assert restored.psnrs(x, y).tolist() == pytest.approx([20, 20 * np.log10(2), 100])
    y[1, 0] = 0  # one channel of two
    assert restored.psnrs(x, y)[1] == pytest.approx(20 * np.log10(2) + 10 * np.log10(2))


# ---------------------------------------------------------------------------------- holes


def hole(mask, size, side=8):
    where = np.zeros((side, side), bool)
    if mask == "hole":
        start = (side - size) // 2
        where[start : start + size, start : start + size] = True
    else:
        where[side // 2 :] = True
    return where


@pytest.mark.parametrize(("mask", "size", "known"), [("hole", 4, 0.1450), ("hole", 3, None), ("half", 4, 0.0793)])
def test_the_mean_training_image_fills_a_hole_that_stands(digits, mask, size, known):
    where = hole(mask, size)
    train, x, labels = digits.floats("train").astype(float), digits.floats("test").astype(float), digits.test_labels
    error, share = (make(MASKS)(digits, {"mask": mask, "size": size})
                    for make in (restored.mean_fill, restored.recognised_fill))  # fmt: skip
    expected = ((train.mean(0) - x) ** 2)[:, :, where].mean()
    assert (error.metric, error.what, error.floor) == ("hole_mse", "the mean image in the hole", False)
    assert error.value == pytest.approx(expected, rel=1e-5)
    assert known is None or error.value == pytest.approx(known, abs=1e-4)
    filled = x.copy()
    filled[:, :, where] = train.mean(0)[:, where]
    expected = (metrics.features(filled.astype(np.float32))[1].argmax(1) == labels).mean()
    assert (share.metric, share.what, share.floor) == ("accuracy", "the mean image in the hole", False)
    assert share.value == pytest.approx(expected, abs=0.004) and share.value < 0.95


def test_strokes_that_are_drawn_have_no_mean_fill(digits):
    arguments = {"mask": "strokes", "size": 4}
    assert restored.mean_fill(MASKS)(digits, arguments) is restored.recognised_fill(MASKS)(digits, arguments) is None


def test_strokes_in_a_single_test_image_are_drawn_all_the_same(digits):
    lonely = digits.picked(slice(0, 20), slice(0, 1))
    assert restored.mean_fill(MASKS)(lonely, {"mask": "strokes", "size": 4}) is None
    assert restored.mean_fill(MASKS)(lonely, {"mask": "hole", "size": 4}).value > 0


def test_in_colour_the_error_is_per_value():
    rng = np.random.default_rng(0)
    train, x = rng.random((9, 3, 8, 8)).astype(np.float32), rng.random((5, 3, 8, 8)).astype(np.float32)
    dataset = Dataset("mine", train, None, x, None)
    found = restored.mean_fill(MASKS)(dataset, {"mask": "hole", "size": 2})
    assert found.value == pytest.approx(((train.mean(0) - x) ** 2)[:, :, 3:5, 3:5].mean(), rel=1e-5)
    for baseline in (restored.recognised_fill(MASKS), restored.recognised_truth, restored.recognised_outlines):
        assert baseline(dataset, {"mask": "hole", "size": 2, "threshold": 0.5}) is None


@pytest.mark.parametrize("changed", [{"test_labels": None, "train_labels": None}, {"classes": tuple("abcdefghij")}])
def test_only_digits_with_labels_are_recognised(digits, changed):
    other, arguments = replace(digits, **changed), {"mask": "hole", "size": 2, "threshold": 0.5}
    for baseline in (restored.recognised_fill(MASKS), restored.recognised_truth, restored.recognised_outlines):
        assert baseline(digits, arguments) is not None and baseline(other, arguments) is None


def test_whole_test_digits_are_the_best_that_can_be_recognised(digits):
    found = restored.recognised_truth(digits, {})
    assert (found.metric, found.what, found.floor) == ("accuracy", "the images themselves", True)
    assert found.value == pytest.approx(0.99, abs=2e-3)


# ---------------------------------------------------------------------------------- outlines


def sobel(x, threshold):
    """1 where sqrt(gx^2 + gy^2) / 4 of the grey image is above the threshold; borders are replicated."""
    p = np.pad(x[:, 0], ((0, 0), (1, 1), (1, 1)), mode="edge")
    h, w = x.shape[2:]
    at = lambda i, j: p[:, 1 + i : 1 + i + h, 1 + j : 1 + j + w]
    gx = sum(k * (at(i, 1) - at(i, -1)) for i, k in ((-1, 1), (0, 2), (1, 1)))
    gy = sum(k * (at(1, j) - at(-1, j)) for j, k in ((-1, 1), (0, 2), (1, 1)))
    return (np.sqrt(gx**2 + gy**2) / 4 > threshold)[:, None].astype(np.float32)


@pytest.mark.parametrize("threshold", [0.3, 0.5])
def test_outlines_are_compared_with_the_test_images_as_they_are(digits, threshold):
    x, labels = digits.floats("test"), digits.test_labels
    lines = sobel(x, threshold)
    error, share = (one(digits, {"threshold": threshold})
                    for one in (restored.outline_error, restored.recognised_outlines))  # fmt: skip
    assert (error.metric, error.what, error.floor) == ("l1", "the outlines themselves", False)
    assert error.value == pytest.approx(abs(lines - x).mean(), abs=2e-4)
    assert (share.metric, share.what, share.floor) == ("accuracy", "the outlines themselves", False)
    expected = (metrics.features(lines)[1].argmax(1) == labels).mean()
    assert share.value == pytest.approx(expected, abs=0.004) and share.value < 0.9


def test_the_outlines_error_in_colour_is_over_every_channel():
    x = np.random.default_rng(0).random((5, 3, 8, 8)).astype(np.float32)
    dataset = Dataset("mine", x, None, x, None)
    lines = corruptions.outlines(0.3)(tg.tensor(x)).numpy()
    found = restored.outline_error(dataset, {"threshold": 0.3})
    assert found.value == pytest.approx(np.mean([abs(lines[:, 0] - x[:, c]).mean() for c in range(3)]), rel=1e-5)


def test_recipes_stand_beside_what_is_reached_without_them(digits):
    fills = baselines(find("inpaint"), digits, {"mask": "hole", "size": 4})
    assert {metric: [one.what for one in found] for metric, found in fills.items()} == {
        "hole_mse": ["the mean image in the hole"],
        "accuracy": ["the mean image in the hole", "the images themselves"],
    }
    drawn = baselines(find("inpaint-l2"), digits, {"mask": "strokes", "size": 4})
    assert [one.what for one in drawn["accuracy"]] == ["the images themselves"] and "hole_mse" not in drawn
    lines = baselines(find("pix2pix"), digits, {"threshold": 0.5})
    assert [one.what for one in lines["accuracy"]] == ["the outlines themselves", "the images themselves"]
    assert [one.what for one in lines["l1"]] == ["the outlines themselves"]
    assert len(baselines(find("srgan"), digits, {})["psnr"]) == 3


# ---------------------------------------------------------------------------------- two kinds of images


def pair_batches(pair, size):
    x, y = (one.floats("test") for one in (pair.first, pair.second))
    return [(tg.tensor(x[i : i + size]), tg.tensor(y[i : i + size])) for i in range(0, min(len(x), len(y)), size)]


def test_translated_images_are_as_far_from_the_other_kind_as_their_features():
    pair = data.load("digits+inverted")
    batches = pair_batches(pair, 40)
    x, y = (np.concatenate([b[i].numpy() for b in batches]) for i in (0, 1))
    apart = lambda a, b: metrics.frechet_from_features(metrics.features(a)[0], metrics.features(b)[0])
    half = SimpleNamespace(forth=lambda a: 0.5 * a, back=lambda a: 1 - a, apply=lambda a: 0.5 * a)
    expected = (apart(0.5 * x, y) + apart(1 - y, x)) / 2
    assert restored.of_kinds(half, batches) == {"cfid": pytest.approx(expected)}
    assert restored.of_refined(half, batches) == {"cfid": pytest.approx(apart(0.5 * x, y))}
    same = SimpleNamespace(forth=lambda a: a, back=lambda a: a, apply=lambda a: a)
    untouched = restored.as_they_are(pair, {})
    everything = apart(pair.first.floats("test"), pair.second.floats("test"))
    assert untouched.metric == "cfid" and untouched.value == pytest.approx(everything)
    assert restored.of_kinds(same, batches)["cfid"] == pytest.approx(apart(x, y))


def test_kinds_that_no_network_knows_or_of_few_images_have_no_distance():
    same = SimpleNamespace(forth=lambda a: a, back=lambda a: a, apply=lambda a: a)
    for batches in ([(tg.rand(80, 3, 8, 8), tg.rand(80, 3, 8, 8))], [(tg.rand(9, 1, 8, 8), tg.rand(9, 1, 8, 8))]):
        assert restored.of_kinds(same, batches) == restored.of_refined(same, batches) == {}
    assert restored.as_they_are(data.load("digits+tinted"), {}) is None
