"""The discriminator with noise: its forward in NumPy, where noise enters, and that it is for training alone."""

from __future__ import annotations

import by_hand
import numpy as np
import pytest

import tinygen as tg
from tinygen import nn
from tinygen.networks.noisy import GaussianNoise, NoisyDiscriminator


@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 9, 11), (2,)])
def test_the_forward_without_noise(shape):
    network = NoisyDiscriminator(shape, (5, 7), 6).eval()
    by_hand.stir(network)
    x = tg.randn(4, *shape)
    w1, b1, w2, b2, v, c = by_hand.arrays(network)
    h = by_hand.relu(by_hand.linear(x.numpy().reshape(4, -1), w1, b1))
    features = by_hand.relu(by_hand.linear(h, w2, b2))
    np.testing.assert_allclose(network.features(x).detach().numpy(), features, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(network(x).detach().numpy(), by_hand.linear(features, v, c), rtol=1e-4, atol=1e-4)
    assert np.array_equal(network(x).detach().numpy(), network(x).detach().numpy())


def test_noise_has_its_deviation_in_training_and_none_in_evaluation():
    layer, x = GaussianNoise(0.3), tg.full((200, 100), 2.0)
    noise = (layer(x) - x).numpy()
    assert noise.mean() == pytest.approx(0, abs=0.02) and noise.std() == pytest.approx(0.3, rel=0.02)
    assert not np.array_equal(layer(x).numpy(), layer(x).numpy())
    assert np.array_equal(layer.eval()(x).numpy(), x.numpy())


def test_noise_enters_before_every_linear_layer_but_not_the_features():
    network = NoisyDiscriminator((1, 8, 8), (5, 7), 6, noise=0.25, hidden_noise=0.75)
    layers = [m for m in network.modules() if isinstance(m, GaussianNoise | nn.Linear)]
    assert [type(m) for m in layers] == [GaussianNoise, nn.Linear] * 3
    assert [m.deviation for m in layers[::2]] == [0.25, 0.75, 0.75]
    usual = NoisyDiscriminator((1, 8, 8), (5, 7), 6)  # the paper's
    assert [m.deviation for m in usual.modules() if isinstance(m, GaussianNoise)] == [0.3, 0.5, 0.5]
    assert isinstance(network.features[-1], nn.ReLU) and isinstance(network.classify[0], GaussianNoise)


def test_it_begins_with_he_s_weights():
    weight = NoisyDiscriminator((1, 8, 8), (500, 7), 6).features[2].weight.detach().numpy()
    assert weight.std() == pytest.approx((2 / 64) ** 0.5, rel=0.03)


def test_a_negative_deviation_is_refused():
    with pytest.raises(ValueError, match="at least 0, it is -1"):
        GaussianNoise(-1)
