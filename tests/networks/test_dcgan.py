"""DCGAN's players: forwards against NumPy loops, initial weights, sizes from the data."""

from __future__ import annotations

import by_hand
import numpy as np
import pytest
from by_hand import SIZES

import tinygen as tg
from tinygen import nn
from tinygen.metrics import nyquist_share
from tinygen.networks.dcgan import DCCritic, DCDiscriminator, DCGenerator, Resized, dcgan_weights, transposed


@pytest.mark.parametrize("size", SIZES, ids=lambda s: f"{s[0]}x{s[1]}")
def test_a_fake_has_the_data_s_size_and_is_judged_by_one_number(size):
    for channels in (1, 3):
        shape = (channels, *size)
        fake = DCGenerator(shape, (4, 5), 3)(tg.randn(2, 3))
        assert fake.shape == (2, *shape)
        assert DCDiscriminator(shape, (4, 5))(fake).shape == (2, 1)
        assert DCCritic(shape, (4, 5))(fake).shape == (2, 1)


@pytest.mark.parametrize("size", [(8, 8), (9, 11)])
def test_the_generator_s_forward(size):
    network = DCGenerator((2, *size), (3, 4), 5)
    by_hand.stir(network)
    z = np.random.default_rng(2).normal(size=(6, 5)).astype(np.float32)
    project, s1, t1, s2, t2, w1, w2, b2 = by_hand.arrays(network)
    half, quarter = [s // 2 for s in size], [s // 4 for s in size]
    h = by_hand.linear(z, project).reshape(6, 4, *quarter)
    h = by_hand.conv_transpose(by_hand.relu(by_hand.batch_norm(h, s1, t1)), w1, half)
    h = by_hand.conv_transpose(by_hand.relu(by_hand.batch_norm(h, s2, t2)), w2, size, b2)
    found = network(tg.tensor(z)).detach().numpy()
    np.testing.assert_allclose(found, 0.5 * (np.tanh(h) + 1), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("size", [(8, 8), (9, 11)])
def test_the_forward_of_a_generator_that_resizes(size):
    """Each pixel goes to those of the larger plane that lie nearest, then a convolution of kernel 3 keeps the size."""
    network = DCGenerator((2, *size), (3, 4), 5, Resized)
    by_hand.stir(network)
    z = np.random.default_rng(2).normal(size=(6, 5)).astype(np.float32)
    project, s1, t1, s2, t2, w1, w2, b2 = by_hand.arrays(network)
    half, quarter = [s // 2 for s in size], [s // 4 for s in size]

    def resized(h, new):
        rows, columns = (np.arange(n) * old // n for n, old in zip(new, h.shape[2:], strict=True))
        return h[:, :, rows][:, :, :, columns]

    h = by_hand.linear(z, project).reshape(6, 4, *quarter)
    h = by_hand.conv(resized(by_hand.relu(by_hand.batch_norm(h, s1, t1)), half), w1, 0.0, 1, 1)
    h = by_hand.conv(resized(by_hand.relu(by_hand.batch_norm(h, s2, t2)), size), w2, b2, 1, 1)
    found = network(tg.tensor(z)).detach().numpy()
    np.testing.assert_allclose(found, 0.5 * (np.tanh(h) + 1), rtol=1e-4, atol=1e-5)


def test_untrained_transposed_layers_make_checkerboards_and_resized_ones_hardly_any():
    """Constant planes, random weights, away from the border: pixels of four kinds see weights of their own."""
    tg.manual_seed(0)
    shares = {}
    for name, upsample in (("transposed", transposed), ("resized", Resized)):
        pixels = upsample(8, 1, False)(tg.ones(1, 8, 32, 32), output_size=(64, 64)).detach().numpy()
        shares[name] = nyquist_share(pixels[..., 2:-2, 2:-2])
    assert shares["transposed"] == pytest.approx(1) and shares["resized"] == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize("size", [(8, 8), (9, 11)])
def test_the_discriminator_s_forward_with_slope_one_fifth_everywhere(size):
    network = DCDiscriminator((2, *size), (3, 4, 5))
    by_hand.stir(network)
    x, _ = by_hand.images(6, (2, *size))
    w1, b1, w2, s2, t2, w3, s3, t3, v, c = by_hand.arrays(network)
    h = by_hand.leaky(by_hand.conv(2.0 * x.numpy() - 1, w1, b1, 2, 1), 0.2)
    h = by_hand.leaky(by_hand.batch_norm(by_hand.conv(h, w2, 0.0, 2, 1), s2, t2), 0.2)
    h = by_hand.leaky(by_hand.batch_norm(by_hand.conv(h, w3, 0.0, 2, 1), s3, t3), 0.2)
    expected = by_hand.linear(h.reshape(6, -1), v, c)
    np.testing.assert_allclose(network(x).detach().numpy(), expected, rtol=1e-4, atol=1e-4)
    assert [m.negative_slope for m in network.modules() if isinstance(m, nn.LeakyReLU)] == [0.2] * 3


def test_the_critic_has_no_batch_norm():
    network = DCCritic((2, 9, 11), (3, 4))
    by_hand.stir(network)
    x, _ = by_hand.images(6, (2, 9, 11))
    w1, b1, w2, b2, v, c = by_hand.arrays(network)
    h = by_hand.leaky(by_hand.conv(2.0 * x.numpy() - 1, w1, b1, 2, 1), 0.2)
    h = by_hand.leaky(by_hand.conv(h, w2, b2, 2, 1), 0.2)
    expected = by_hand.linear(h.reshape(6, -1), v, c)
    np.testing.assert_allclose(network(x).detach().numpy(), expected, rtol=1e-4, atol=1e-4)
    one = tg.cat([network(x[i : i + 1]) for i in range(6)])
    np.testing.assert_allclose(one.detach().numpy(), expected, rtol=1e-4, atol=1e-4)  # images do not mix
    assert [m.negative_slope for m in network.modules() if isinstance(m, nn.LeakyReLU)] == [0.2] * 2


def test_dcgan_initialisation():
    tg.manual_seed(0)
    shape = (1, 28, 28)
    G, D = DCGenerator(shape, (16, 32), 100), DCDiscriminator(shape, (16, 32))
    norms = {id(m.weight) for network in (G, D) for m in network.modules() if isinstance(m, nn.BatchNorm2d)}
    assert len(norms) == 3
    for name, p in [*G.named_parameters(), *D.named_parameters()]:
        values = p.detach().numpy()
        if id(p) in norms:
            assert abs(values.mean() - 1) < 0.02 and 0.01 < values.std() < 0.03
        elif name.endswith("bias"):
            assert not values.any()
        elif values.size > 200:
            assert abs(values.mean()) < 0.004 and values.std() == pytest.approx(0.02, rel=0.15)
    assert G.apply(dcgan_weights) is G


def test_a_critic_starts_from_torch_s_weights():
    network = DCCritic((1, 28, 28), (16, 32))
    assert network[3].weight.detach().numpy().std() == pytest.approx(1 / np.sqrt(3 * 16 * 16), rel=0.05)


def test_numbers_of_parameters_on_mnist():
    count = lambda network: sum(p.numel() for p in network.parameters())
    mnist = (1, 28, 28)
    generator, discriminator = DCGenerator(mnist, (16, 32), 100), DCDiscriminator(mnist, (16, 32))
    assert count(generator) == 100 * 32 * 49 + 2 * 32 + 32 * 16 * 16 + 2 * 16 + 16 * 16 + 1
    assert count(discriminator) == 16 * 16 + 16 + 16 * 32 * 16 + 2 * 32 + 32 * 49 + 1


def test_images_are_scaled_inside_the_networks_only():
    """White stays 1 and black becomes -1 before the first convolution; fakes lie in [0, 1]."""
    for judge in (DCDiscriminator((1, 8, 8), (4, 5)), DCCritic((1, 8, 8), (4, 5))):
        seen = []
        first = next(m for m in judge.modules() if isinstance(m, nn.Conv2d))
        first.register_forward_pre_hook(lambda module, inputs, seen=seen: seen.append(inputs[0].numpy()))
        judge(tg.ones(4, 1, 8, 8))
        judge(tg.zeros(4, 1, 8, 8))
        assert (seen[0] == 1).all() and (seen[1] == -1).all()
    fakes = DCGenerator((1, 8, 8), (4, 5), 3)(100 * tg.randn(20, 3)).detach().numpy()
    assert fakes.min() >= 0 and fakes.max() <= 1
