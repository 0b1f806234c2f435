"""What is reached without a network: a baseline is a function of (data set, the recipe's arguments).

    mean_image(dataset, {})                  # Baseline("mse", "the mean image", 0.0675)
    pca("latent")(dataset, {"latent": 32})   # Baseline("mse", "PCA of 32 numbers", 0.0168)

Each is fitted on the training images and judged on the test images; a recipe names those of its kind. One that depends
on an argument is made by a function of that argument's name, which the recipe's chapter knows.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from tinygen.data import Dataset
from tinygen.metrics import baselines as trivial
from tinygen.metrics import gan_test, scorable
from tinygen.metrics.names import NAMES

DIGITS = tuple("0123456789")  # the classes that the frozen networks know


class Baseline(NamedTuple):
    """A figure without a network. `floor`: the best that any model reaches; every other one is there to be beaten."""

    metric: str
    what: str
    value: float
    floor: bool = False

    def beside(self, value: float) -> str:
        """The baseline in words, and whether a model that reaches `value` is no better."""
        good = NAMES[self.metric].good if self.metric in NAMES else None
        worse = (good == "low" and value >= self.value) or (good == "high" and value <= self.value)
        return f"{self.what}: {self.value:.5g}" + ("  NOT BEATEN" if worse and not self.floor else "")


def mean_image(dataset: Dataset, arguments: Mapping[str, Any]) -> Baseline:
    """The error of the mean training image."""
    return Baseline("mse", "the mean image", trivial.mean_image_mse(dataset.floats("train"), dataset.floats("test")))


def pca(argument: str) -> Callable:
    """A baseline: the error of the best linear autoencoder with as many numbers as that argument says."""

    def fitted(dataset: Dataset, arguments: Mapping[str, Any]) -> Baseline:
        d = arguments[argument]
        error = trivial.pca_mse(dataset.floats("train"), dataset.floats("test"), d)
        return Baseline("mse", f"PCA of {d} numbers", error)

    fitted.__name__ = f"pca({argument})"  # under which the figure is kept in the cache
    return fitted


def linear_denoiser(argument: str, corrupt: Callable, moments: Callable) -> Callable:
    """A baseline: the error of the affine map that best restores images from what was spoilt.

    `corrupt(strength, images, draw)` spoils arrays; the strength is what that argument says, `draw` NumPy's generator.
    `moments(strength, mean, covariance)` says what that makes of the images' mean and covariance.
    """

    def fitted(dataset: Dataset, arguments: Mapping[str, Any]) -> Baseline:
        strength = arguments[argument]
        error = trivial.linear_denoiser(
            dataset.floats("train"), dataset.floats("test"), partial(corrupt, strength), partial(moments, strength)
        )
        return Baseline("mse", "the best linear denoiser", error)

    fitted.__name__ = f"exact_linear_denoiser({argument})"  # under which the figure is kept in the cache
    return fitted


def with_noise(sd: float, images: np.ndarray, draw: np.random.Generator) -> np.ndarray:
    """images + sd n, as corruptions.gaussian."""
    return images + sd * draw.standard_normal(images.shape, np.float32)


def with_holes(p: float, images: np.ndarray, draw: np.random.Generator) -> np.ndarray:
    """Images with each value set to 0 with probability p, as corruptions.masking."""
    return np.where(draw.random(images.shape, np.float32) < p, 0, images)


def bernoulli_mean(dataset: Dataset, arguments: Mapping[str, Any]) -> Baseline:
    """Nats of a Bernoulli likelihood with the mean image's probabilities."""
    nats = trivial.mean_image_bernoulli(dataset.floats("train"), dataset.floats("test"))
    return Baseline("loss", "the mean image", nats)


def bernoulli_floor(dataset: Dataset, arguments: Mapping[str, Any]) -> Baseline:
    """Nats that no model of grey images goes below: each against itself."""
    return Baseline("loss", "floor of grey images", trivial.bernoulli_floor(dataset.floats("test")), floor=True)


def gaussian_mean(dataset: Dataset, arguments: Mapping[str, Any]) -> Baseline:
    """Nats of a Gaussian around the mean image."""
    nats = trivial.gaussian_mean_image(dataset.floats("train"), dataset.floats("test"))
    return Baseline("loss", "the mean image", nats)


def largest_class(dataset: Dataset, arguments: Mapping[str, Any]) -> Baseline:
    """The accuracy of always naming the most frequent class."""
    assert dataset.train_labels is not None and dataset.test_labels is not None
    return Baseline("accuracy", "the largest class", trivial.largest_class(dataset.train_labels, dataset.test_labels))


def real_images(dataset: Dataset, arguments: Mapping[str, Any]) -> Baseline | None:
    """The distance of features of real images from real ones: what a perfect generator reaches.

    None for images that no frozen network knows.
    """
    if not scorable(dataset.shape):
        return None
    n = min(10_000, dataset.count("train"))
    distance = trivial.real_against_real(dataset.floats("train"), dataset.floats("test"), n)
    return Baseline("cfid", "real training images", distance, floor=True)


def recognised_images(dataset: Dataset, arguments: Mapping[str, Any]) -> Baseline | None:
    """The share of real test images that the frozen network takes for their class; None for other images."""
    labels = dataset.test_labels
    if not scorable(dataset.shape) or tuple(dataset.classes) != DIGITS or labels is None:
        return None
    return Baseline("gan_test", "real test images", gan_test(dataset.floats("test"), labels)[0], floor=True)


def pixel_noise(dataset: Dataset, arguments: Mapping[str, Any]) -> Baseline | None:
    """The distance of features of images without shapes: each pixel from a training image of its own."""
    if not scorable(dataset.shape):
        return None
    n = min(10_000, dataset.count("train"))
    distance = trivial.pixel_noise(dataset.floats("train"), dataset.floats("test"), n)
    return Baseline("cfid", "pixels of training images, mixed", distance)


def real_points(dataset: Dataset, arguments: Mapping[str, Any]) -> Baseline:
    """The energy distance of training points: what a perfect generator reaches."""
    distance = trivial.real_points(dataset.floats("train"), dataset.floats("test"))
    return Baseline("energy_distance", "real training points", distance, floor=True)


def gaussian_points(dataset: Dataset, arguments: Mapping[str, Any]) -> Baseline:
    """The energy distance of one Gaussian fitted to the training points."""
    distance = trivial.gaussian_points(dataset.floats("train"), dataset.floats("test"))
    return Baseline("energy_distance", "one Gaussian", distance)
