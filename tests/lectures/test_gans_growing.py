"""The slides' facts about growing (lectures 2, 3, 4): resolution rises step by step, and nothing leaps meanwhile."""

from __future__ import annotations

import by_hand
import numpy as np
import pytest

import tinygen as tg
from tinygen.models import ProgressiveGANStep, games
from tinygen.networks.growing import GrowingDiscriminator, GrowingGenerator

SHAPE, CHANNELS, LATENT = (1, 28, 28), (3, 4), 5


def step_at(updates, stay=1, fade=4):
    tg.manual_seed(0)
    players = GrowingGenerator(SHAPE, CHANNELS, LATENT), GrowingDiscriminator(SHAPE, CHANNELS)
    step = ProgressiveGANStep(*players, games.non_saturating(), latent=LATENT, stay=stay, fade=fade)
    for i in range(updates):
        step(by_hand.images(4, SHAPE, seed=i))
    step.grow()
    return step


def outputs(step):
    """(G's images, D's logits of them) with the noise given."""
    z = tg.tensor(np.random.default_rng(3).normal(size=(6, LATENT)).astype(np.float32))
    images = step.generator(z).detach()
    return images.numpy(), step.discriminator(images).detach().numpy()


def test_digits_grow_from_7_by_14_to_28_pixels():
    step, sides = step_at(0), []
    for i in range(11):
        sides.append(step(by_hand.images(4, SHAPE, seed=i))["size"].item())
    assert sides == [7] + [14] * 5 + [28] * 5


@pytest.mark.parametrize("updates", [1, 6])
def test_at_alpha_0_g_shows_the_old_images_enlarged_and_d_judges_them_as_before(updates):
    step = step_at(updates)
    new, logits = outputs(step)
    assert step.generator.fading and step.generator.alpha.item() == 0
    step.schedule.last_epoch -= 1  # the update before
    step.grow()
    old, before = outputs(step)
    assert not step.generator.fading and new.shape[2] == 2 * old.shape[2]
    assert np.array_equal(new, np.kron(old, np.ones((1, 1, 2, 2), np.float32)))
    np.testing.assert_allclose(logits, before, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("updates", [5, 10])
def test_at_alpha_1_only_the_new_layers_count(updates):
    step = step_at(updates)
    images, logits = outputs(step)
    assert not step.generator.fading and step.generator.alpha.item() == 1
    for player in (step.generator, step.discriminator):
        player.grow(player.stage, True, tg.tensor(1.0))
    for found, wanted in zip(outputs(step), (images, logits), strict=True):
        assert np.array_equal(found, wanted)


def test_real_images_fade_with_the_generated_ones():
    """At alpha 1/4 a square of four real pixels is 3/4 of its mean and 1/4 of itself."""
    step = step_at(7)
    assert step.generator.alpha.item() == 0.25
    x = by_hand.images(2, SHAPE)[0].numpy()
    means = x.reshape(2, 1, 14, 2, 14, 2).mean((3, 5), keepdims=True)
    expected = 0.75 * np.broadcast_to(means, (2, 1, 14, 2, 14, 2)).reshape(x.shape) + 0.25 * x
    np.testing.assert_allclose(step.seen(tg.tensor(x)).numpy(), expected, rtol=1e-5, atol=1e-6)
