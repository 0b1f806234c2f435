"""The rules that recipes choose: an unknown name is refused, and each recipe hands in those of its paper."""

from __future__ import annotations

import numpy as np
import pytest

import tinygen as tg
from tinygen import optim
from tinygen.models import Bernoulli, Gaussian
from tinygen.recipes import autoencoders, classifiers, gans, vaes
from tinygen.recipes.recipe import Given

GIVEN = Given((1, 8, 8), tuple("0123456789"), 10)


@pytest.mark.parametrize("recipe", [vaes.vae, vaes.conv_vae])
def test_an_unknown_likelihood_is_refused(recipe):
    with pytest.raises(ValueError, match=r"poisson.*bernoulli.*gaussian"):
        recipe(GIVEN, likelihood="poisson")


@pytest.mark.parametrize("recipe", [gans.gan, gans.dcgan, gans.gan_ring])
def test_an_unknown_objective_is_refused(recipe):
    with pytest.raises(ValueError, match=r"hinge.*non-saturating.*minimax"):
        recipe(GIVEN, objective="hinge")


# ---------------------------------------------------------------------------------- what a recipe hands in

REAL, FAKE = np.array([0.5, -2.0], np.float32), np.array([1.5, -0.25], np.float32)
POINTS = Given((2,), tuple("01234567"), 10)


def softplus(a):
    return np.log1p(np.exp(a))


LOSSES = {  # of D and of G, in NumPy
    "non-saturating": (softplus(-REAL).mean() + softplus(FAKE).mean(), softplus(-FAKE).mean()),
    "minimax": (softplus(-REAL).mean() + softplus(FAKE).mean(), -softplus(FAKE).mean()),
    "least squares": (((REAL - 1) ** 2).mean() + (FAKE**2).mean(), ((FAKE - 1) ** 2).mean()),
    "wasserstein": (FAKE.mean() - REAL.mean(), -FAKE.mean()),
}


@pytest.mark.parametrize(
    ("recipe", "given", "options", "losses", "optimizer", "betas"),
    [(gans.gan, GIVEN, {}, "non-saturating", optim.Adam, (0.5, 0.999)),
     (gans.gan, GIVEN, {"objective": "minimax"}, "minimax", optim.Adam, (0.5, 0.999)),
     (gans.dcgan, GIVEN, {}, "non-saturating", optim.Adam, (0.5, 0.999)),
     (gans.lsgan, GIVEN, {}, "least squares", optim.Adam, (0.5, 0.999)),
     (gans.wgan, GIVEN, {}, "wasserstein", optim.RMSprop, None),
     (gans.wgan_gp, GIVEN, {}, "wasserstein", optim.Adam, (0.5, 0.9)),
     (gans.gan_ring, POINTS, {}, "non-saturating", optim.Adam, (0.5, 0.999)),
     (gans.wgan_gp_ring, POINTS, {}, "wasserstein", optim.Adam, (0.5, 0.9))],
)  # fmt: skip
def test_a_game_is_that_of_its_paper(recipe, given, options, losses, optimizer, betas):
    step = recipe(given, **options)
    for_d = step.game.discriminator(tg.tensor(REAL), tg.tensor(FAKE)).item()
    assert (for_d, step.game.generator(tg.tensor(FAKE)).item()) == pytest.approx(LOSSES[losses], rel=1e-5)
    for player in (step.discriminator_optimizer, step.generator_optimizer):
        assert type(player) is optimizer and (betas is None or player.param_groups[0]["betas"] == betas)
    assert bool(step.constrain) is (recipe is gans.wgan)
    assert bool(step.penalty) is (recipe in (gans.wgan_gp, gans.wgan_gp_ring))


def test_the_learning_rate_of_lenet_falls_to_0():
    step = classifiers.lenet(GIVEN, lr=0.5)
    rates = []
    for _ in range(GIVEN.steps + 1):
        rates.append(step.optimizer.param_groups[0]["lr"])
        step.schedule.step()
    assert rates == pytest.approx([0.5 * (1 - t / 10) for t in range(11)])


def test_the_default_likelihood_is_bernoulli():
    for recipe in (vaes.vae, vaes.conv_vae):
        assert isinstance(recipe(GIVEN).likelihood, Bernoulli)
        assert isinstance(recipe(GIVEN, likelihood="gaussian").likelihood, Gaussian)


@pytest.mark.parametrize("recipe", [autoencoders.autoencoder, autoencoders.conv_autoencoder])
def test_an_autoencoder_s_images_lie_in_0_to_1(recipe):
    codes = 1e5 * tg.randn(4, 32)
    images = recipe(GIVEN).decoder(codes).detach().numpy()
    assert 0 <= images.min() < 0.01 and 0.99 < images.max() <= 1
