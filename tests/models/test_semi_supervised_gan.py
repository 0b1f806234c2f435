"""The semi-supervised game's update: losses and gradients in NumPy, who moves, figures on a test batch."""

from __future__ import annotations

from functools import partial

import by_hand
import numpy as np
import pytest

import tinygen as tg
from tinygen import nn, optim
from tinygen.models import SemiSupervisedGANStep
from tinygen.models.semi_supervised_gan import feature_matching, judged_real

LATENT, INPUTS, CLASSES, LR = 4, 3, 3, 1e-2
OBJECTIVES = {"feature matching": feature_matching, "judged real": judged_real}


class Judge(nn.Module):
    def __init__(self):
        super().__init__()
        self.features = nn.Sequential(nn.Linear(INPUTS, 6), nn.LeakyReLU(0.2))
        self.head = nn.Linear(6, CLASSES)

    def forward(self, x):
        return self.head(self.features(x))


def toy(objective=feature_matching, **options):
    players = nn.Linear(LATENT, INPUTS), Judge()
    by_hand.stir(*players)
    return SemiSupervisedGANStep(*players, objective, latent=LATENT, lr=LR, **options)


def points(n, seed):
    return np.random.default_rng(seed).normal(size=(n, INPUTS)).astype(np.float32) + 1


def batch():
    return tg.tensor(points(8, 1)), tg.tensor(points(5, 2)), tg.tensor(np.array([0, 1, 2, 2, 0]))


def features(weights, x):
    return by_hand.leaky(by_hand.linear(x, *weights[:2]), 0.2)


def log_z(weights, x):
    return np.log(np.exp(by_hand.linear(features(weights, x), *weights[2:])).sum(1))


def of_d(weights, real, few, labels, fake):
    """(cross entropy, the game)"""
    logits = by_hand.linear(features(weights, few), *weights[2:])
    supervised = (np.log(np.exp(logits).sum(1)) - logits[np.arange(len(labels)), labels]).mean()
    z, f = np.exp(log_z(weights, real)), np.exp(log_z(weights, fake))
    return supervised, -np.log(z / (z + 1)).mean() - np.log(1 / (f + 1)).mean()


def of_g(name, weights, real, fake):
    if name == "judged real":
        z = np.exp(log_z(weights, fake))
        return -np.log(z / (z + 1)).mean()
    return ((features(weights, real).mean(0) - features(weights, fake).mean(0)) ** 2).mean()


@pytest.mark.parametrize("name", OBJECTIVES)
def test_a_round_follows_the_slide_in_numpy_with_the_noise_given(name):
    """D's losses and gradients; then G's against the D just updated, on the same fakes."""
    step = toy(OBJECTIVES[name], steps=10)
    tensors = batch()
    real, few, labels = (t.numpy() for t in tensors)
    z = (tg.manual_seed(7), tg.randn(8, LATENT))[1].numpy()
    g, d = by_hand.arrays(step.generator), by_hand.arrays(step.discriminator)
    fake = by_hand.linear(z, *g)
    by_hand.leave_gradients(step.generator, step.discriminator)
    tg.manual_seed(7)
    metrics = step(tensors)
    d_after, g_after = by_hand.arrays(step.discriminator), by_hand.arrays(step.generator)

    supervised, game = of_d(d, real, few, labels, fake)
    assert metrics["loss"].item() == pytest.approx(supervised, rel=1e-4)
    assert metrics["d_loss"].item() == pytest.approx(game, rel=1e-4)
    assert metrics["g_loss"].item() == pytest.approx(of_g(name, d_after, real, fake), rel=1e-3)
    on_d, on_g = by_hand.gradients(step.discriminator), by_hand.gradients(step.generator)
    assert by_hand.same_slopes(lambda weights: sum(of_d(weights, real, few, labels, fake)), d, on_d)
    of_noise = lambda weights: of_g(name, d_after, real, by_hand.linear(z, *weights))
    assert by_hand.same_slopes(of_noise, g, on_g)
    for before, after, gradients in ((d, d_after, on_d), (g, g_after, on_g)):
        for old, new, gradient in zip(before, after, gradients):  # Adam's first step: lr against the gradient
            large = abs(gradient) > 1e-4
            assert (old - new)[large] == pytest.approx(LR * np.sign(gradient[large]), rel=0.02)
    norm = lambda arrays: np.sqrt(sum((a**2).sum() for a in arrays))
    assert metrics["d_grad"].item() == pytest.approx(norm(on_d), rel=1e-5)
    assert metrics["g_grad"].item() == pytest.approx(norm(on_g), rel=1e-5)
    on_real, on_fake = log_z(d, real), log_z(d, fake)
    sigmoid = by_hand.sigmoid
    assert metrics["d_real"].item() == pytest.approx(sigmoid(on_real).mean(), rel=1e-4)
    assert metrics["d_fake"].item() == pytest.approx(sigmoid(on_fake).mean(), rel=1e-4)
    right = 0.5 * ((on_real > 0).mean() + (on_fake < 0).mean())
    assert metrics["d_accuracy"].item() == pytest.approx(right)
    named = by_hand.linear(features(d, few), *d[2:]).argmax(1)
    assert metrics["accuracy"].item() == pytest.approx((named == labels).mean())


@pytest.mark.parametrize("name", OBJECTIVES)
def test_each_player_moves_its_own_weights_alone(name):
    step = toy(OBJECTIVES[name], optimizer=partial(optim.SGD))
    real, few, labels = batch()
    fake = step.generator(step.noise(8))
    everything = lambda: (by_hand.arrays(step.generator), by_hand.arrays(step.discriminator))
    same = lambda a, b: [np.array_equal(x, y) for x, y in zip(a, b)]
    g, d = everything()
    step.update_discriminator(real, fake.detach(), few, labels)
    g_then, d_then = everything()
    assert all(same(g, g_then)) and not any(same(d, d_then))
    left = by_hand.gradients(step.discriminator)
    step.update_generator(real, fake)
    g_last, d_last = everything()
    assert all(same(d_then, d_last)) and not any(same(g_then, g_last))
    assert all(same(left, by_hand.gradients(step.discriminator)))


def test_both_rates_fall_to_0_over_the_steps_or_stay():
    for steps, expected in ((4, [1, 0.75, 0.5, 0.25, 0, 0]), (None, [1] * 6)):
        step, found = toy(steps=steps), []
        for _ in range(6):
            both = step.generator_optimizer, step.discriminator_optimizer
            found.append([optimizer.param_groups[0]["lr"] / LR for optimizer in both])
            step(batch())
        assert found == pytest.approx(np.array([expected, expected]).T)


def test_a_test_batch_is_judged_by_the_labels_it_brings():
    step = toy()
    x, labels = points(9, 4), np.arange(9) % CLASSES
    weights = by_hand.arrays(step.discriminator)
    logits = by_hand.linear(features(weights, x), *weights[2:])
    loss = (np.log(np.exp(logits).sum(1)) - logits[np.arange(9), labels]).mean()
    with tg.no_grad():
        found = step.measure((tg.tensor(x), tg.tensor(labels)))
    assert found["loss"].item() == pytest.approx(loss, rel=1e-5)
    assert found["accuracy"].item() == pytest.approx((logits.argmax(1) == labels).mean())
    assert set(found) == {"loss", "accuracy"}


def test_samples_are_what_the_generator_makes_of_normal_noise():
    step = toy()
    z = (tg.manual_seed(3), tg.randn(4, LATENT))[1].numpy()
    tg.manual_seed(3)
    expected = by_hand.linear(z, *by_hand.arrays(step.generator))
    np.testing.assert_allclose(step.sample(4).detach().numpy(), expected, rtol=1e-5, atol=1e-6)
    assert step.pictures((tg.randn(6, INPUTS), None))["samples"].shape == (6, INPUTS)


def test_health_speaks_of_the_game():
    fine = {"d_loss": 1.0, "d_accuracy": 0.8, "d_grad": 1.0, "g_grad": 1.0}
    assert toy().health(fine).startswith("the game is balanced")
    assert toy().health(fine | {"d_accuracy": 1.0, "d_loss": 0.001}).startswith("D has won")
