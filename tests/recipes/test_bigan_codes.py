"""BiGAN for anomalies, and the study of its codes on linear networks: which images, whose neighbours, whose errors."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

import tinygen as tg
from tinygen import data, nn
from tinygen.metrics import NAMES
from tinygen.nn import functional as F
from tinygen.recipes import find, find_study
from tinygen.recipes.recipe import Given
from tinygen.recipes.study import Trained
from tinygen.step import Step

LATENT = 5
DRAW = np.random.default_rng(3)
DOWN, UP = (DRAW.normal(size=size).astype(np.float32) / 8 for size in ((64, LATENT), (LATENT, 64)))


class Linear(Step):
    """E(s) = A s, G(z) = 1/2 + B z; `drawn`: the codes it drew."""

    def __init__(self):
        self.net, self.drawn = nn.Dropout(), []

    def noise(self, n):
        self.drawn.append(tg.randn(n, LATENT))
        return self.drawn[-1]

    def encode(self, images):
        assert not self.net.training and not tg.is_grad_enabled()
        return images.flatten(1) @ tg.tensor(DOWN)

    def decode(self, codes):
        assert not self.net.training
        return (0.5 + codes @ tg.tensor(UP)).reshape(-1, 1, 8, 8)

    def restored(self, images):
        return self.decode(self.encode(images))


def encoded(x):
    return x.reshape(len(x), -1) @ DOWN


def decoded(z):
    return (0.5 + z @ UP).reshape(-1, 1, 8, 8)


def share(known, labels, queries, answers):
    """Of queries whose nearest known row has their label."""
    known, queries = (rows.reshape(len(rows), -1).astype(float) for rows in (known, queries))
    nearest = ((queries[:, None] - known[None]) ** 2).sum(2).argmin(1)
    return (labels[nearest] == answers).mean()


def study(dataset, **arguments):
    tg.manual_seed(0)
    step = Linear()
    trained = Trained(step, dataset, SimpleNamespace(data={"name": "digits"}), Path("run"))
    found = find_study("bigan-codes").run(trained, **arguments)
    return step, found


@pytest.fixture(scope="module")
def digits():
    return data.load("digits").limited(130)


def test_the_nearest_training_image_is_found_by_codes_and_by_pixels(digits):
    """An unknown label (-1) is nobody's; errors are of test images, and of the codes that were drawn."""
    hidden = digits.train_labels.copy()
    hidden[:40:2] = -1
    step, found = study(replace(digits, train_labels=hidden, partly_labelled=True))
    known, test = digits.floats("train")[hidden >= 0], digits.floats("test")
    seen, labels = hidden[hidden >= 0], digits.test_labels
    (z,) = (z.numpy() for z in step.drawn)
    assert len(z) == len(test)
    expected = {
        "mse": ((decoded(encoded(test)) - test) ** 2).mean(), "code_error": ((encoded(decoded(z)) - z) ** 2).mean(),
        "nearest_neighbour": share(encoded(known), seen, encoded(test), labels),
        "pixel_nearest_neighbour": share(known, seen, test, labels),
    }  # fmt: skip
    assert found.metrics == pytest.approx(expected, rel=1e-4) and set(found.metrics) <= set(NAMES)
    assert expected["nearest_neighbour"] < expected["pixel_nearest_neighbour"] < 1


def test_without_labels_of_all_classes_there_are_errors_alone(digits):
    zeros = digits.picked(train=np.flatnonzero(digits.train_labels == 0))
    for dataset in (zeros, replace(digits, train_labels=None, test_labels=None)):
        assert set(study(dataset)[1].metrics) == {"mse", "code_error"}


def test_both_ways_around_are_shown(digits):
    step, found = study(digits, shown=4)
    x, z = digits.floats("test")[:4], step.drawn[0].numpy()[:4]
    rows = {"s": x, "G(E(s))": decoded(encoded(x)), "G(z)": decoded(z), "G(E(G(z)))": decoded(encoded(decoded(z)))}
    shown = found.pictures["codes"]
    assert list(shown.titles) == list(rows)
    for batch, row in zip(shown.batches, rows.values(), strict=True):
        np.testing.assert_allclose(batch.numpy(), row, rtol=1e-4, atol=1e-5)


def test_the_penalised_one_is_a_bigan_with_a_weight_and_few_numbers_of_a_code():
    """And none of its options is lost on the way."""
    defaults = find("bigan-penalised").defaults()
    assert defaults["weight"] >= 100 and defaults["latent"] <= 12 < find("bigan").defaults()["latent"]
    build = lambda name, **given: find(name).build(Given((1, 16, 16), tuple("0123456789"), 10), **given)
    given = {"channels": (4, 6), "latent": 3, "hidden": 7, "weight": 2.5, "lr": 0.01}
    step, plain = build("bigan-penalised", **given), build("bigan", **given)
    assert (step.weight, step.code, step.discriminator_optimizer.param_groups[0]["lr"]) == (2.5, (3,), 0.01)
    assert step.discriminator.logit.in_features == 7
    assert [p.shape for n in step.networks().values() for p in n.parameters()] == [
        p.shape for n in plain.networks().values() for p in n.parameters()]  # fmt: skip
    real, fake = tg.randn(6, 1), tg.randn(6, 1)
    expected = F.softplus(-real).mean() + F.softplus(fake).mean()
    assert step.game.discriminator(real, fake).item() == pytest.approx(expected.item(), rel=1e-5)
