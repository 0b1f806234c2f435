"""What a BiGAN's encoder knows, on linear networks of which everything is known."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

import tinygen as tg
from tinygen import data, nn
from tinygen.metrics import NAMES
from tinygen.recipes import find_study
from tinygen.recipes.study import Trained
from tinygen.step import Step

LATENT = 6
DRAW = np.random.default_rng(3)
DOWN, UP = DRAW.normal(size=(64, LATENT)) / 4, DRAW.normal(size=(LATENT, 64)) / 16


class Inverse(Step):
    """E(s) = s DOWN, G(z) = 1/2 + z UP; asked in evaluation mode alone."""

    latent = LATENT

    def __init__(self):
        self.net = nn.Dropout()

    def encode(self, images):
        assert not self.net.training
        return images.flatten(1) @ tg.tensor(DOWN.astype(np.float32))

    def decode(self, codes):
        assert not self.net.training
        return (codes @ tg.tensor(UP.astype(np.float32)) + 0.5).reshape(-1, 1, 8, 8)

    def restored(self, images):
        return self.decode(self.encode(images))

    def noise(self, n):
        return tg.randn(n, LATENT)


def found(dataset, **arguments):
    tg.manual_seed(5)
    one = Trained(Inverse(), dataset, SimpleNamespace(data={"name": dataset.name}), Path("run"))
    return find_study("bigan-codes").run(one, **arguments)


@pytest.fixture(scope="module")
def digits():
    return data.load("digits", limit=150)


def nearest(known, labels, queries, answers):
    squares = ((queries[:, None] - known[None]) ** 2).sum(2)
    return np.mean(labels[squares.argmin(1)] == answers)


def test_the_nearest_training_image_by_codes_and_by_pixels(digits):
    numbers = found(digits).metrics
    known, queries = (digits.floats(split).reshape(-1, 64) for split in ("train", "test"))
    labels = digits.train_labels, digits.test_labels
    by_codes = nearest(known @ DOWN, labels[0], queries @ DOWN, labels[1])
    by_pixels = nearest(known, labels[0], queries, labels[1])
    assert numbers["nearest_neighbour"] == pytest.approx(by_codes) and by_codes < by_pixels
    assert numbers["pixel_nearest_neighbour"] == pytest.approx(by_pixels)


def test_what_comes_back_of_test_images_and_of_noise(digits):
    numbers = found(digits).metrics
    s = digits.floats("test").reshape(-1, 64)
    assert numbers["mse"] == pytest.approx(((0.5 + s @ DOWN @ UP - s) ** 2).mean(), rel=1e-4)
    tg.manual_seed(5)
    z = tg.randn(len(s), LATENT).numpy()
    around = (0.5 + z @ UP) @ DOWN
    assert numbers["code_error"] == pytest.approx(((around - z) ** 2).mean(), rel=1e-4)
    assert set(numbers) <= set(NAMES)


def test_images_without_a_label_are_no_neighbours(digits):
    some = digits.with_labels(30)
    there = np.flatnonzero(some.train_labels >= 0)
    known, queries = digits.floats("train").reshape(-1, 64)[there], digits.floats("test").reshape(-1, 64)
    right = nearest(known @ DOWN, digits.train_labels[there], queries @ DOWN, digits.test_labels)
    assert found(some).metrics["nearest_neighbour"] == pytest.approx(right)


def test_without_labels_there_are_no_neighbours_to_count(digits):
    bare = replace(digits, train_labels=None, test_labels=None, classes=())
    assert set(found(bare).metrics) == {"mse", "code_error"}
    assert set(found(digits.only("8")).metrics) == {"mse", "code_error"}  # nine classes of the test are not learned


def test_the_picture_shows_images_and_noise_and_what_comes_back(digits):
    rows = found(digits, shown=4).pictures["codes"]
    assert rows.titles == ["s", "G(E(s))", "G(z)", "G(E(G(z)))"]
    s, again, made, around = (batch.numpy() for batch in rows.batches)
    through = lambda x: (0.5 + x.reshape(4, 64) @ DOWN @ UP).reshape(4, 1, 8, 8)
    np.testing.assert_array_equal(s, digits.floats("test")[:4])
    np.testing.assert_allclose(again, through(s), atol=1e-4)
    np.testing.assert_allclose(around, through(made), atol=1e-4)
