"""Facts about the hinge game and spectral normalisation: what D looks at, and how steep it can be."""

from __future__ import annotations

import numpy as np
import pytest

import tinygen as tg
from tinygen import nn
from tinygen.models import GANStep, games
from tinygen.networks.dcgan import DCCritic, DCGenerator, spectrally_normalised

DIGIT = (1, 8, 8)


def hinge_players():
    tg.manual_seed(0)
    critic = DCCritic(DIGIT, (4, 6))
    return DCGenerator(DIGIT, (4, 6), 3), critic.apply(spectrally_normalised)


def largest(layer):
    """The largest singular value of what a layer multiplies with, outputs against inputs."""
    w = layer.weight.detach().numpy()
    w = w.swapaxes(0, 1) if isinstance(layer, nn.ConvTranspose2d) else w
    return np.linalg.svd(w.reshape(len(w), -1), compute_uv=False)[0]


def test_hinge_losses_by_hand():
    """D: mean max(0, 1 - a) on real, mean max(0, 1 + a) on fake images; G: -mean a, without a margin."""
    real, fake = tg.tensor([3.0, 0.5, -1.0]), tg.tensor([-2.0, 0.25, -0.5, 5.0])
    assert games.hinge().discriminator(real, fake).item() == pytest.approx((0 + 0.5 + 2) / 3 + (0 + 1.25 + 0.5 + 6) / 4)
    assert games.hinge().generator(fake).item() == pytest.approx(-(-2 + 0.25 - 0.5 + 5) / 4)


def test_d_ignores_images_beyond_the_margin_and_g_does_not():
    real = tg.tensor([1.5, 0.5, -4.0], requires_grad=True)
    fake = tg.tensor([-1.5, 0.5, -0.5], requires_grad=True)
    games.hinge().discriminator(real, fake).backward()
    assert real.grad.tolist() == pytest.approx([0, -1 / 3, -1 / 3])
    assert fake.grad.tolist() == pytest.approx([0, 1 / 3, 1 / 3])
    far = tg.tensor([-50.0, 50.0], requires_grad=True)
    games.hinge().generator(far).backward()
    assert far.grad.tolist() == [-0.5, -0.5]


def test_a_d_that_tells_all_by_more_than_the_margin_learns_nothing_more():
    step = GANStep(nn.Linear(1, 1), nn.Linear(1, 1), games.hinge(), latent=1, lr=0.1)
    with tg.no_grad():
        step.discriminator.weight[:], step.discriminator.bias[:] = 1, 0
    metrics = step.update_discriminator(tg.tensor([[1.5], [3.0]]), tg.tensor([[-1.25], [-2.0]]))
    assert metrics["d_loss"].item() == 0 and metrics["d_grad"].item() == 0 and metrics["d_accuracy"].item() == 1


def test_every_weight_of_d_keeps_a_largest_singular_value_of_1_in_training():
    step = GANStep(*hinge_players(), games.hinge(), latent=3)
    x = tg.rand(8, *DIGIT)
    for _ in range(40):
        step((x, None))
    layers = [m for m in step.discriminator.modules() if isinstance(m, nn.Conv2d | nn.Linear)]
    assert len(layers) == 3
    for layer in layers:
        free = np.linalg.svd(layer.weight_orig.detach().numpy().reshape(len(layer.weight), -1), compute_uv=False)[0]
        assert abs(free - 1) > 0.1  # the weights that are learned are not bounded
        assert largest(layer) == pytest.approx(1, rel=0.05)


@pytest.mark.parametrize("kind", [nn.Conv2d, nn.ConvTranspose2d])
def test_the_matrix_of_a_convolution_has_its_outputs_as_rows(kind):
    tg.manual_seed(0)
    layer = kind(3, 7, 4)
    spectrally_normalised(layer)
    for _ in range(60):
        layer(tg.randn(1, 3, 5, 5))
    assert largest(layer) == pytest.approx(1, rel=1e-3)


def test_the_slope_of_a_normalised_d_of_linear_layers_is_at_most_1():
    """|D(x) - D(y)| <= |x - y|: each layer and LeakyReLU lengthen nothing."""
    tg.manual_seed(0)
    critic = nn.Sequential(nn.Linear(6, 9), nn.LeakyReLU(0.2), nn.Linear(9, 4), nn.LeakyReLU(0.2), nn.Linear(4, 1))
    with tg.no_grad():
        for p in critic.parameters():
            p.mul_(10)
    critic.apply(spectrally_normalised)
    for _ in range(60):
        critic(tg.randn(2, 6))
    x, y = tg.randn(200, 6), tg.randn(200, 6)
    slopes = (critic(x) - critic(y)).abs().flatten() / (x - y).norm(2, 1)
    assert 0.05 < slopes.max().item() <= 1.001
