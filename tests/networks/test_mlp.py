"""Fully connected networks against the formula of the slide, written out in NumPy."""

from __future__ import annotations

import by_hand
import numpy as np
import pytest

import tinygen as tg
from tinygen import nn
from tinygen.networks.mlp import (
    FromTanh,
    GaussianHead,
    MLPDecoder,
    MLPDiscriminator,
    MLPEncoder,
    MLPGenerator,
    TiedDecoder,
    ToTanh,
    gaussian,
    he_weights,
    linear_layers,
)

SHAPE = (2, 3, 5)


def close(a, b):
    return np.testing.assert_allclose(a.detach().numpy(), b, rtol=2e-5, atol=2e-5)


def drawn(*shape, seed=1):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def test_relu_stands_between_linear_layers_and_not_after_the_last():
    assert [type(layer) for layer in linear_layers((3, 4, 5, 2))] == [nn.Linear, nn.ReLU] * 2 + [nn.Linear]
    assert [layer.weight.shape for layer in linear_layers((3, 4, 5))[::2]] == [(4, 3), (5, 4)]
    assert len(linear_layers((3, 2))) == 1


@pytest.mark.parametrize("hidden", [(), (7,), (7, 6)])
def test_an_encoder_is_linear_layers_with_relu(hidden):
    network = MLPEncoder(SHAPE, hidden, 4)
    by_hand.stir(network)
    x = drawn(6, *SHAPE)
    close(network(tg.tensor(x)), by_hand.mlp(x, by_hand.arrays(network)))


def test_he_s_weights_keep_the_size_of_what_passes_a_relu():
    network = MLPEncoder((1, 20, 20), (300,), 200)
    network.apply(he_weights)
    w, b, v, c = by_hand.arrays(network)
    assert (b == 0).all() and (c == 0).all()
    assert w.std() == pytest.approx(np.sqrt(2 / 400), rel=0.02) and v.std() == pytest.approx(np.sqrt(2 / 300), rel=0.02)
    assert abs(w.mean()) < 1e-3 and ((w / w.std()) ** 4).mean() == pytest.approx(3, rel=0.05)  # normal, not uniform


def test_a_tied_decoder_is_the_transposed_weight_and_a_bias_of_its_own():
    layer = tg.nn.Linear(30, 4)
    network = TiedDecoder(SHAPE, layer)
    by_hand.stir(layer, network)
    h = drawn(6, 4)
    w, _ = by_hand.arrays(layer)
    (c,) = by_hand.arrays(network)
    close(network(tg.tensor(h)), (h @ w + c).reshape(6, *SHAPE))
    assert [name for name, _ in network.named_parameters()] == ["bias"] and c.shape == (30,)
    network(tg.tensor(h)).square().sum().backward()
    assert layer.weight.grad is not None and layer.bias.grad is None  # W learns from both ends
    layer.weight.data.zero_()
    close(network(tg.tensor(h)), np.broadcast_to(c.reshape(SHAPE), (6, *SHAPE)))


@pytest.mark.parametrize("hidden", [(), (7,), (7, 6)])
def test_a_decoder_gives_logits_of_the_data_s_shape(hidden):
    network = MLPDecoder(SHAPE, hidden, 4)
    by_hand.stir(network, size=1.0)
    z = drawn(6, 4)
    y = network(tg.tensor(z))
    close(y, by_hand.mlp(z, by_hand.arrays(network)).reshape(6, *SHAPE))
    assert y.min().item() < 0 and y.max().item() > 1  # no sigmoid


def test_points_need_no_image_shape():
    x = drawn(6, 2)
    encoder, decoder = MLPEncoder((2,), (5,), 1), MLPDecoder((2,), (5,), 3)
    close(encoder(tg.tensor(x)), by_hand.mlp(x, by_hand.arrays(encoder)))
    assert decoder(tg.randn(6, 3)).shape == (6, 2)


def test_a_gaussian_head_gives_the_mean_first_then_the_log_variance():
    head = GaussianHead(5, 3)
    by_hand.stir(head)
    h = drawn(6, 5)
    mean, log_variance = head(tg.tensor(h))
    w, b, v, c = by_hand.arrays(head)
    close(mean, by_hand.linear(h, w, b))
    close(log_variance, by_hand.linear(h, v, c))
    close(head.mean.weight, w)
    close(head.log_variance.weight, v)


def test_the_trunk_of_a_gaussian_encoder_ends_with_relu():
    network = gaussian(MLPEncoder(SHAPE, (7,), 6), 6, 4)
    by_hand.stir(network)
    x = drawn(8, *SHAPE)
    weights = by_hand.arrays(network)
    h = by_hand.mlp(x, weights[:4])
    assert (h < -0.1).any()  # so that a missing ReLU shows
    mean, log_variance = network(tg.tensor(x))
    close(mean, by_hand.linear(by_hand.relu(h), *weights[4:6]))
    close(log_variance, by_hand.linear(by_hand.relu(h), *weights[6:8]))


def test_a_generator_has_batch_norm_and_relu_and_ends_with_tanh_scaled_to_images():
    network = MLPGenerator(SHAPE, (7, 6), 4)
    by_hand.stir(network)
    z = drawn(9, 4)
    w1, b1, s1, t1, w2, b2, s2, t2, w3, b3 = by_hand.arrays(network)
    h = by_hand.relu(by_hand.batch_norm(by_hand.linear(z, w1, b1), s1, t1))
    h = by_hand.relu(by_hand.batch_norm(by_hand.linear(h, w2, b2), s2, t2))
    expected = 0.5 * (np.tanh(by_hand.linear(h, w3, b3)) + 1)
    close(network(tg.tensor(z)), expected.reshape(9, *SHAPE))


def test_a_discriminator_scales_images_leaks_and_drops():
    network = MLPDiscriminator(SHAPE, (7, 6)).eval()
    by_hand.stir(network)
    x = drawn(9, *SHAPE)
    w1, b1, w2, b2, w3, b3 = by_hand.arrays(network)
    h = by_hand.leaky(by_hand.linear((2.0 * x - 1).reshape(9, -1), w1, b1), 0.2)
    h = by_hand.leaky(by_hand.linear(h, w2, b2), 0.2)
    close(network(tg.tensor(x)), by_hand.linear(h, w3, b3))
    assert [m.p for m in network.modules() if isinstance(m, nn.Dropout)] == [0.3, 0.3]
    assert [m.p for m in MLPDiscriminator(SHAPE, (7, 6), dropout=0.1).modules() if isinstance(m, nn.Dropout)] == [
        0.1,
        0.1,
    ]
    network.train()
    assert (network(tg.tensor(x)) != network(tg.tensor(x))).any()


def test_images_are_scaled_to_the_range_of_tanh_and_back():
    x = tg.tensor([0.0, 0.25, 1.0])
    assert ToTanh()(x).tolist() == [-1.0, -0.5, 1.0]
    assert FromTanh()(ToTanh()(x)).tolist() == x.tolist()
    fakes = MLPGenerator(SHAPE, (7,), 4)(100 * tg.randn(50, 4))
    assert fakes.min().item() >= 0 and fakes.max().item() <= 1


def test_numbers_of_parameters_on_mnist():
    count = lambda network: sum(p.numel() for p in network.parameters())
    mnist = (1, 28, 28)
    encoder, decoder = gaussian(MLPEncoder(mnist, (), 400), 400, 20), MLPDecoder(mnist, (400,), 20)
    assert count(encoder) + count(decoder) == 2 * 784 * 400 + 400 + 784 + 3 * 400 * 20 + 2 * 20 + 400
    encoder, decoder = MLPEncoder(mnist, (512, 256), 32), MLPDecoder(mnist, (256, 512), 32)
    weights = 2 * (784 * 512 + 512 * 256 + 256 * 32)
    assert count(encoder) + count(decoder) == weights + 2 * (512 + 256) + 32 + 784


def test_layers_have_the_widths_in_the_order_given():
    widths = lambda network: [m.out_features for m in network.modules() if isinstance(m, nn.Linear)]
    assert widths(MLPEncoder(SHAPE, (7, 6), 4)) == [7, 6, 4]
    assert widths(MLPDecoder(SHAPE, (7, 6), 4)) == [7, 6, 30]
    assert widths(MLPGenerator(SHAPE, (7, 6), 4)) == [7, 6, 30]
    assert widths(MLPDiscriminator(SHAPE, (7, 6))) == [7, 6, 1]


@pytest.mark.parametrize(
    ("layer", "inputs"),
    [
        (nn.Conv2d(3, 400, 4, stride=2, padding=1), 48),  # 3 planes, 16 places
        (nn.ConvTranspose2d(400, 30, 4, stride=2, padding=1), 1600),  # of 16 taps a pixel meets 4
        (nn.ConvTranspose2d(100, 30, 3, stride=1), 900),
    ],
    ids=["convolution", "transposed, stride 2", "transposed, stride 1"],
)
def test_he_s_weights_keep_the_size_of_what_passes_a_convolution(layer, inputs):
    tg.manual_seed(0)
    he_weights(layer)
    assert layer.weight.detach().numpy().std() == pytest.approx((2 / inputs) ** 0.5, rel=0.03)
    assert not layer.bias.detach().numpy().any()
    x = tg.randn(4, layer.in_channels, 16, 16)
    y = layer(x).detach().numpy()[:, :, 2:-2, 2:-2]
    assert (y**2).mean() == pytest.approx(2, rel=0.15)  # a ReLU halves it
