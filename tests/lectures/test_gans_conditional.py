"""The slides' facts about conditional GANs: the value function, D of each class, and labels 0 to 9 inclusive."""

from __future__ import annotations

import math

import by_hand
import numpy as np
import pytest

import tinygen as tg
from tinygen import data, optim
from tinygen.data import Batches
from tinygen.models import ConditionalGANStep, games
from tinygen.networks.conditional import ConditionalDiscriminator, ConditionalGenerator


def small():
    players = ConditionalGenerator((1, 8, 8), 10, (3, 4), 3), ConditionalDiscriminator((1, 8, 8), 10, (3, 4))
    return ConditionalGANStep(*players, games.minimax(), tuple("0123456789"), latent=3)


def test_the_optimal_discriminator_of_each_class_is_p_over_p_plus_q_of_that_class():
    """Two outcomes x, two labels y; p(x|y) = (3/4, 1/4) and (1/4, 3/4), q(x|y) = (1/2, 1/2), p(y) = (2/3, 1/3)."""
    game, table = games.minimax(), tg.zeros(2, 2, requires_grad=True)  # logits of [x, y]
    real = np.array([[0, 0]] * 6 + [[1, 0]] * 2 + [[0, 1]] * 1 + [[1, 1]] * 3)
    fake = np.array([[0, 0]] * 4 + [[1, 0]] * 4 + [[0, 1]] * 2 + [[1, 1]] * 2)  # the real labels
    assert real[:, 1].tolist() == fake[:, 1].tolist()
    optimizer = optim.SGD([table], lr=8.0)
    for _ in range(120):
        loss = game.discriminator(table[real[:, 0], real[:, 1]], table[fake[:, 0], fake[:, 1]])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    best = np.array([[0.75, 0.25], [0.25, 0.75]])
    best = best / (best + 0.5)
    np.testing.assert_allclose(table.sigmoid().detach().numpy(), best, atol=1e-3)
    share = np.array([2 / 3, 1 / 3])
    divergence = 0.5 * (0.75 * math.log(0.75 / 0.625) + 0.25 * math.log(0.25 / 0.375)
                        + 0.5 * math.log(0.5 / 0.625) + 0.5 * math.log(0.5 / 0.375))  # fmt: skip
    assert -loss.item() == pytest.approx((share * (2 * divergence - 2 * math.log(2))).sum(), abs=1e-5)


def test_the_value_function_has_one_label_and_no_sum_over_labels():
    """V = E log D(x, y) + E log(1 - D(G(z, y), y)); log(1 - sum_y D) is that of the semi-supervised game."""
    step = small()
    by_hand.stir(step.discriminator, size=0.1)
    x, y = by_hand.images(12)
    tg.manual_seed(4)
    fake = step.generator(step.noise(12), y)
    on_real, on_fake = (by_hand.sigmoid(step.discriminator(a, y).detach().numpy().astype(float)) for a in (x, fake))
    tg.manual_seed(4)
    value = -step((x, y))["d_loss"].item()
    assert value == pytest.approx(np.log(on_real).mean() + np.log(1 - on_fake).mean(), rel=1e-4)


def test_all_labels_are_learned_and_drawn_0_and_9_included():
    """A well-known port drew its labels from randint(0, 9), which leaves 9 out."""
    step, shown = small(), []
    forward = step.generator.forward
    step.generator.forward = lambda z, y: (shown.extend(y.tolist()), forward(z, y))[1]
    digits = data.load("digits")
    batches = Batches(digits.train_images[:64], digits.train_labels[:64], 32, 0)
    for i in range(2):
        images, labels = batches.at(0, i)
        step((tg.tensor(images), tg.tensor(labels)))
    assert sorted(shown) == sorted(digits.train_labels[:64].tolist())  # the labels of the real batches
    assert step.generator.known.tolist() == [1.0] * 10
    assert np.bincount(step.labelled(1000)[1].numpy()).tolist() == [100] * 10
