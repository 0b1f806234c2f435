"""BiGAN's encoder and its D of pairs: forwards against NumPy, codes of mean 0 and variance 1, D without batch norm."""

from __future__ import annotations

import by_hand
import numpy as np
import pytest
from by_hand import SIZES, batch_norm, conv, leaky, linear

import tinygen as tg
from tinygen import nn
from tinygen.networks.dcgan import spectrally_normalised
from tinygen.networks.joint import DCEncoder, JointDiscriminator, halving


def codes(n=6, latent=3):
    return np.random.default_rng(3).normal(size=(n, latent)).astype(np.float32)


def normalised(x, eps=1e-5):
    """Batch norm without a scale."""
    return (x - x.mean(0)) / np.sqrt(x.var(0) + eps)


@pytest.mark.parametrize("size", SIZES, ids=lambda s: f"{s[0]}x{s[1]}")
def test_images_of_any_size_have_a_code_and_pairs_one_number(size):
    for channels in (1, 3):
        x = tg.rand(2, channels, *size)
        assert DCEncoder((channels, *size), (4, 5), 3)(x).shape == (2, 3)
        judge = JointDiscriminator((channels, *size), (4, 5), 3, 7)
        assert judge(x, tg.randn(2, 3)).shape == (2, 1) and judge.features(x, tg.randn(2, 3)).shape == (2, 7)


@pytest.mark.parametrize("size", [(8, 8), (9, 11)])
def test_the_encoder_s_forward(size):
    network = DCEncoder((2, *size), (3, 4, 5), 3)
    by_hand.stir(network)
    x, _ = by_hand.images(6, (2, *size))
    w1, b1, w2, s2, t2, w3, s3, t3, v = by_hand.arrays(network)
    h = leaky(conv(2.0 * x.numpy() - 1, w1, b1, 2, 1), 0.2)
    h = leaky(batch_norm(conv(h, w2, 0.0, 2, 1), s2, t2), 0.2)
    h = leaky(batch_norm(conv(h, w3, 0.0, 2, 1), s3, t3), 0.2)
    expected = normalised(linear(h.reshape(6, -1), v))
    np.testing.assert_allclose(network(x).detach().numpy(), expected, rtol=1e-3, atol=1e-4)


def test_codes_of_a_batch_have_mean_0_and_variance_1_whatever_the_weights():
    network = DCEncoder((1, 8, 8), (3, 4), 5)
    x, _ = by_hand.images(40)
    for size in (None, 0.4, 3.0):
        if size:
            by_hand.stir(network, size=size)
        found = network(x).detach().numpy()
        assert abs(found.mean(0)).max() < 1e-5
        assert found.var(0) == pytest.approx(np.ones(5), rel=1e-3 if size else 0.05)
    for _ in range(60):
        network(x)
    np.testing.assert_allclose(network.eval()(x).detach().numpy(), found, rtol=0.02, atol=0.02)  # its statistics


@pytest.mark.parametrize("size", [(8, 8), (9, 11)])
def test_the_discriminator_s_features_and_number(size):
    network = JointDiscriminator((2, *size), (3, 4), 3, 7)
    by_hand.stir(network)
    (x, _), z = by_hand.images(6, (2, *size)), codes()
    w1, b1, w2, b2, u, c, v, d, r, e = by_hand.arrays(network)
    h = leaky(conv(2.0 * x.numpy() - 1, w1, b1, 2, 1), 0.2)
    h = leaky(conv(h, w2, b2, 2, 1), 0.2).reshape(6, -1)
    f = leaky(linear(np.concatenate([h, leaky(linear(z, u, c), 0.2)], 1), v, d), 0.2)
    assert u.shape == (7, 3) and r.shape == (1, 7)
    np.testing.assert_allclose(network.features(x, tg.tensor(z)).detach().numpy(), f, rtol=1e-4, atol=1e-4)
    found = network(x, tg.tensor(z)).detach().numpy()
    np.testing.assert_allclose(found, linear(f, r, e), rtol=1e-4, atol=1e-4)
    one = tg.cat([network(x[i : i + 1], tg.tensor(z[i : i + 1])) for i in range(6)])
    np.testing.assert_allclose(one.detach().numpy(), found, rtol=1e-4, atol=1e-4)  # pairs do not mix
    assert [m.negative_slope for m in network.modules() if isinstance(m, nn.LeakyReLU)] == [0.2] * 4


def test_a_layer_without_a_norm_has_a_bias_and_the_first_has_no_norm():
    layers = lambda norm: [m for m in halving((1, 8, 8), (3, 4, 5), norm) if isinstance(m, nn.Conv2d | nn.BatchNorm2d)]
    kinds = lambda norm: [(type(m).__name__, m.bias is not None) for m in layers(norm)]
    assert kinds(None) == [("Conv2d", True)] * 3
    assert kinds(nn.BatchNorm2d) == [("Conv2d", True), *[("Conv2d", False), ("BatchNorm2d", True)] * 2]
    assert [m.num_features for m in layers(nn.BatchNorm2d) if isinstance(m, nn.BatchNorm2d)] == [4, 5]


def test_white_stays_1_and_black_becomes_minus_1_before_the_first_convolution():
    z = tg.zeros(4, 3)
    for network, given in ((DCEncoder((1, 8, 8), (4, 5), 3), ()), (JointDiscriminator((1, 8, 8), (4, 5), 3, 7), (z,))):
        seen = []
        first = next(m for m in network.modules() if isinstance(m, nn.Conv2d))
        first.register_forward_pre_hook(lambda module, inputs, seen=seen: seen.append(inputs[0].numpy()))
        network(tg.ones(4, 1, 8, 8), *given)
        network(tg.zeros(4, 1, 8, 8), *given)
        assert (seen[0] == 1).all() and (seen[1] == -1).all()


def test_both_start_from_dcgan_s_weights():
    tg.manual_seed(0)
    shape = (1, 28, 28)
    networks = DCEncoder(shape, (16, 32), 50), JointDiscriminator(shape, (16, 32), 50, 64)
    norms = {id(m.weight) for network in networks for m in network.modules() if isinstance(m, nn.BatchNorm2d)}
    for name, p in [pair for network in networks for pair in network.named_parameters()]:
        values = p.detach().numpy()
        if id(p) in norms:
            assert abs(values.mean() - 1) < 0.02 and 0.01 < values.std() < 0.03
        elif name.endswith("bias"):
            assert not values.any()
        elif values.size > 200:
            assert abs(values.mean()) < 0.004 and values.std() == pytest.approx(0.02, rel=0.15)


def test_all_of_d_is_bounded_by_its_largest_singular_values():
    network = JointDiscriminator((1, 8, 8), (3, 4), 3, 7).apply(spectrally_normalised)
    layers = [m for m in network.modules() if isinstance(m, nn.Conv2d | nn.Linear)]
    assert len(layers) == 5 and all(hasattr(m, "weight_orig") for m in layers)
    x, z = tg.rand(4, 1, 8, 8), tg.randn(4, 3)
    for _ in range(200):
        network(x, z)
    for m in layers:
        weight = m.weight.detach().numpy()
        assert np.linalg.svd(weight.reshape(len(weight), -1))[1][0] == pytest.approx(1, rel=0.01)


def test_images_that_cannot_be_halved_so_often_are_refused():
    for make in (lambda: DCEncoder((1, 8, 3), (4, 5), 3), lambda: JointDiscriminator((1, 8, 3), (4, 5), 3, 7),
                 lambda: halving((1, 8, 3), (4, 5))):  # fmt: skip
        with pytest.raises(ValueError, match="an image of 8x3 pixels cannot be halved 2 times"):
            make()
