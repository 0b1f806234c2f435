"""A GAN on pairs of data and labels: what D is shown, and what the label tells G."""

from __future__ import annotations

import by_hand
import numpy as np
import pytest

import tinygen as tg
from tinygen import nn
from tinygen.models import JointGANStep, games
from tinygen.models.joint_gan import Pairs, joined
from tinygen.nn import functional as F

CLASSES, LATENT = 3, 4


@pytest.mark.parametrize("shape", [(2,), (1, 4, 5)])
def test_a_label_is_a_plane_of_ones_behind_the_data(shape):
    x, labels = np.random.default_rng(0).normal(size=(5, *shape)).astype("f4"), np.array([0, 2, 1, 1, 2])
    found = joined(tg.tensor(x), F.one_hot(tg.tensor(labels), CLASSES)).numpy()
    assert found.shape == (5, shape[0] + CLASSES, *shape[1:])
    assert (found[:, : shape[0]] == x).all()
    for i, label in enumerate(labels):
        for k in range(CLASSES):
            assert (found[i, shape[0] + k] == (k == label)).all()


def test_g_is_told_the_label_that_d_sees_beside_its_data():
    """G copies what it is told: then data and label of every fake agree, and all classes are drawn alike."""

    class Copy(nn.Module):
        def forward(self, told):
            assert told.shape[1] == LATENT + CLASSES
            return told[:, LATENT:]

    drawn = Pairs(Copy(), CLASSES)(tg.randn(6000, LATENT)).numpy()
    assert (drawn[:, :CLASSES] == drawn[:, CLASSES:]).all() and (drawn.sum(1) == 2).all()
    assert drawn[:, CLASSES:].mean(0) == pytest.approx([1 / 3] * 3, abs=0.025)


def step_of(lr=2e-4):
    generator, discriminator = nn.Linear(LATENT + CLASSES, 2), nn.Linear(2 + CLASSES, 1)
    by_hand.stir(generator, discriminator)
    return JointGANStep(generator, discriminator, games.non_saturating(), classes=CLASSES, latent=LATENT, lr=lr)


def test_an_update_is_that_of_the_game_on_pairs():
    step = step_of(lr=3e-3)
    x, labels = np.random.default_rng(1).normal(size=(8, 2)).astype("f4"), np.arange(8) % CLASSES
    tg.manual_seed(3)
    z, drawn = tg.randn(8, LATENT).numpy(), tg.randint(0, CLASSES, (8,)).numpy()
    g, d = by_hand.arrays(step.generator), by_hand.arrays(step.discriminator)
    told = np.eye(CLASSES)[drawn]
    fake = np.hstack([by_hand.linear(np.hstack([z, told]), *g), told])
    real = np.hstack([x, np.eye(CLASSES)[labels]])
    loss = by_hand.softplus(-by_hand.linear(real, *d)).mean() + by_hand.softplus(by_hand.linear(fake, *d)).mean()
    tg.manual_seed(3)
    assert step((tg.tensor(x), tg.tensor(labels)))["d_loss"].item() == pytest.approx(loss, rel=1e-5)
    rates = [o.param_groups[0]["lr"] for o in (step.generator_optimizer, step.discriminator_optimizer)]
    assert rates == [3e-3, 3e-3]


def test_samples_come_without_labels():
    step = step_of()
    tg.manual_seed(4)
    z, drawn = tg.randn(9, LATENT).numpy(), tg.randint(0, CLASSES, (9,)).numpy()
    tg.manual_seed(4)
    expected = by_hand.linear(np.hstack([z, np.eye(CLASSES)[drawn]]), *by_hand.arrays(step.generator))
    np.testing.assert_allclose(step.sample(9).detach().numpy(), expected, rtol=1e-4, atol=1e-5)
