"""Networks of residual blocks: forwards against NumPy, how far each looks, what sizes it takes."""

from __future__ import annotations

import by_hand
import numpy as np
import pytest
from by_hand import SIZES, batch_norm, conv, conv_transpose, instance_norm, leaky, mirrored, relu

import tinygen as tg
from tinygen import nn
from tinygen.networks.residual import Refiner, ResidualBlock, ResNetGenerator, SRResNet, nothing, reflected, zero_padded

OF_ALL = {"rtol": 2e-4, "atol": 2e-5}


def found(network, x):
    return network(x).detach().numpy()


# ---------------------------------------------------------------------------------- blocks


def test_a_block_adds_what_it_makes_to_what_it_gets():
    block = ResidualBlock(3, zero_padded, nn.BatchNorm2d, nn.PReLU)
    by_hand.stir(block)
    x = np.random.default_rng(1).normal(size=(4, 3, 5, 6)).astype(np.float32)
    w1, b1, s1, t1, leak, w2, b2, s2, t2 = by_hand.arrays(block)
    h = leaky(batch_norm(conv(x, w1, b1, 1, 1), s1, t1), leak)
    expected = x + batch_norm(conv(h, w2, b2, 1, 1), s2, t2)
    np.testing.assert_allclose(found(block, tg.tensor(x)), expected, **OF_ALL)


def test_a_mirrored_border_repeats_what_lies_within():
    layer = reflected(2, 3)
    by_hand.stir(layer)
    x = np.random.default_rng(1).normal(size=(2, 2, 4, 5)).astype(np.float32)
    w, b = by_hand.arrays(layer)
    assert np.array_equal(mirrored(x, 3), np.pad(x, [(0, 0), (0, 0), (3, 3), (3, 3)], "reflect"))
    np.testing.assert_allclose(found(layer, tg.tensor(x)), conv(mirrored(x, 1), w, b), **OF_ALL)


def test_a_pixel_shuffle_is_a_permutation():
    """r^2 planes become one of r times the side: every value once, at the place that the index formula says."""
    x = tg.arange(2 * 12 * 3 * 5).float().reshape(2, 12, 3, 5)
    y = nn.PixelShuffle(2)(x)
    assert y.shape == (2, 3, 6, 10)
    assert sorted(y.numpy().ravel()) == sorted(x.numpy().ravel())
    assert np.array_equal(y.numpy(), by_hand.shuffled(x.numpy()))
    assert [y[0, 0, a, b].item() for a in (0, 1) for b in (0, 1)] == [x[0, k, 0, 0].item() for k in range(4)]


# ---------------------------------------------------------------------------------- SRResNet


def enlarged(x, weights, blocks, factor):
    w = iter(weights)
    layer = lambda h, padding: conv(h, next(w), next(w), 1, padding)
    norm = lambda h: batch_norm(h, next(w), next(w))
    h = first = leaky(layer(x, 4), next(w))
    for _ in range(blocks):
        f = leaky(norm(layer(h, 1)), next(w))
        h = h + norm(layer(f, 1))
    h = first + norm(layer(h, 1))
    while factor > 1:
        h, factor = leaky(by_hand.shuffled(layer(h, 1)), next(w)), factor // 2
    return layer(h, 4)


@pytest.mark.parametrize("factor", [2, 4, 8])
@pytest.mark.parametrize(("size", "blocks"), [((3, 5), 2), ((4, 4), 1)])
def test_srresnet_s_forward(size, blocks, factor):
    network = SRResNet((2, *size), 3, blocks, factor)
    by_hand.stir(network, size=0.3)
    x, _ = by_hand.images(3, (2, *size))
    expected = enlarged(x.numpy(), by_hand.arrays(network), blocks, factor)
    assert expected.shape == (3, 2, factor * size[0], factor * size[1])
    np.testing.assert_allclose(found(network, x), expected, rtol=1e-3, atol=1e-4 * abs(expected).max())


def test_srresnet_s_activations_start_at_a_quarter_and_are_learned():
    network = SRResNet((1, 8, 8), 3, 2, 4)
    leaks = [module.weight for module in network.modules() if isinstance(module, nn.PReLU)]
    assert [leak.detach().numpy().tolist() for leak in leaks] == [[0.25]] * 5  # the head's, each block's, two doublings
    network(tg.randn(2, 1, 8, 8)).square().sum().backward()
    assert all(leak.grad.abs().sum().item() > 0 for leak in leaks)


@pytest.mark.parametrize("factor", [0, 1, 3, 6, 16])
def test_factors_are_doublings(factor):
    with pytest.raises(ValueError, match=f"the factor is 2, 4 or 8, it is {factor}; 2 is usual"):
        SRResNet((1, 8, 8), 3, 1, factor)


# ---------------------------------------------------------------------------------- CycleGAN's generator


def translated(x, weights, halvings, blocks):
    w = iter(weights)
    h = relu(instance_norm(conv(mirrored(2.0 * x - 1, 3), next(w), next(w))))
    sizes = []
    for _ in range(halvings):
        sizes.append(h.shape[2:])
        h = relu(instance_norm(conv(h, next(w), next(w), 2, 1)))
    for _ in range(blocks):
        f = relu(instance_norm(conv(mirrored(h, 1), next(w), next(w))))
        h = h + instance_norm(conv(mirrored(f, 1), next(w), next(w)))
    for size in sizes[::-1]:
        weight, bias = next(w), next(w)
        h = relu(instance_norm(conv_transpose(h, weight, size, bias)))
    return 0.5 * (np.tanh(conv(mirrored(h, 3), next(w), next(w))) + 1)


@pytest.mark.parametrize(
    ("size", "channels", "blocks"),
    [((8, 8), (3, 4), 1), ((9, 11), (2, 3, 4), 2), ((10, 13), (2, 3, 4), 1), ((5, 4), (3,), 1)],
)
def test_the_resnet_generator_s_forward(size, channels, blocks):
    network = ResNetGenerator((2, *size), channels, blocks)
    by_hand.stir(network)
    x, _ = by_hand.images(2, (2, *size))
    expected = translated(x.numpy(), by_hand.arrays(network), len(channels) - 1, blocks)
    np.testing.assert_allclose(found(network, x), expected, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("size", SIZES, ids=lambda s: f"{s[0]}x{s[1]}")
def test_a_translated_image_has_the_size_it_had(size):
    x = tg.rand(1, 3, *size)
    for network in (ResNetGenerator((3, *size), (2, 3, 3), 1), Refiner((3, *size), 2, 1)):
        y = found(network, x)
        assert y.shape == (1, 3, *size) and y.min() >= 0 and y.max() <= 1
    assert found(SRResNet((3, *size), 2, 1, 2), x).shape == (1, 3, 2 * size[0], 2 * size[1])


@pytest.mark.parametrize(("channels", "least"), [((3,), 4), ((3, 3), 4), ((3, 3, 3), 5), ((2, 2, 2, 2), 9)])
def test_the_smallest_side_that_can_be_mirrored(channels, least):
    network = ResNetGenerator((1, 28, 28), channels, 1)
    assert network.least == least == ResNetGenerator((1, least, 30), channels, 1).least
    assert network(tg.rand(1, 1, least, least + 1)).shape == (1, 1, least, least + 1)
    for small in ((least - 1, 12), (12, least - 1)):
        with pytest.raises(ValueError, match=r"pad|border"):
            network(tg.rand(1, 1, *small))
        words = rf"images of {small[0]}x{small[1]} pixels are too small for {len(channels) - 1} halvings.*give fewer"
        with pytest.raises(ValueError, match=words):
            ResNetGenerator((1, *small), channels, 1)


# ---------------------------------------------------------------------------------- the refiner


@pytest.mark.parametrize(("size", "blocks"), [((6, 6), 1), ((5, 7), 3)])
def test_the_refiner_s_forward(size, blocks):
    network = Refiner((2, *size), 3, blocks)
    by_hand.stir(network)
    x, _ = by_hand.images(3, (2, *size))
    w = iter(by_hand.arrays(network))
    h = relu(conv(2.0 * x.numpy() - 1, next(w), next(w), 1, 1))
    for _ in range(blocks):
        h = h + conv(relu(conv(h, next(w), next(w), 1, 1)), next(w), next(w), 1, 1)
    expected = 0.5 * (np.tanh(conv(h, next(w), next(w))) + 1)
    np.testing.assert_allclose(found(network, x), expected, **OF_ALL)
    assert next(w, None) is None


def test_no_norm_changes_nothing():
    x = tg.randn(2, 3, 4, 4)
    assert np.array_equal(nothing(3)(x).numpy(), x.numpy()) and not list(nothing(3).parameters())


# ---------------------------------------------------------------------------------- what a network says of itself


@pytest.mark.parametrize(
    ("network", "reach"),
    [(SRResNet((1, 8, 8), 2, 1, 2), 10), (SRResNet((1, 8, 8), 2, 3, 2), 14), (SRResNet((1, 8, 8), 1, 1, 4), 10),
     (SRResNet((1, 8, 8), 1, 1, 8), 10), (Refiner((1, 8, 8), 2, 1), 3), (Refiner((1, 8, 8), 2, 4), 9)],
    ids=["x2", "x2, 3 blocks", "x4", "x8", "refiner", "refiner, 4 blocks"],
)  # fmt: skip
def test_a_network_looks_as_far_as_it_says(network, reach):
    network.eval()
    by_hand.open_paths(network)
    assert network.reach == reach and by_hand.farthest(network) == [reach] * 4


def test_the_norm_of_a_whole_image_looks_everywhere():
    network = ResNetGenerator((1, 28, 28), (2, 3), 1)
    by_hand.stir(network, size=0.2)
    assert network.reach is None and by_hand.support(network, 40, 3).all()


@pytest.mark.parametrize("network", [SRResNet((1, 8, 8), 3, 1, 4), Refiner((1, 8, 8), 3, 2)], ids=["x4", "refiner"])
def test_what_is_computed_moves_with_the_picture(network):
    """`multiple` is 1: a picture that is moved by one pixel has the same result, moved by `scale`."""
    network.eval()
    x, inner, scale = tg.rand(1, 1, 33, 33), network.reach + 1, network.scale
    away = lambda y, start: y[:, :, scale * start : scale * (start + 8), scale * start : scale * (start + 8)]
    whole, moved = found(network, x), found(network, x[:, :, 1:, 1:])
    assert network.multiple == 1
    np.testing.assert_allclose(away(whole, inner + 1), away(moved, inner), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("channels", [1, 3])
def test_a_network_says_its_channels(channels):
    shape = (channels, 8, 8)
    networks = SRResNet(shape, 2, 1, 4), ResNetGenerator(shape, (2, 3), 1), Refiner(shape, 2, 1)
    assert [network.channels for network in networks] == [channels] * 3
    assert [network.scale for network in networks] == [4, 1, 1]


@pytest.mark.parametrize("network", [ResNetGenerator((1, 8, 8), (3, 4), 1), Refiner((1, 8, 8), 3, 1)], ids=["G", "R"])
def test_images_are_scaled_inside_the_network(network):
    """White stays 1 and black becomes -1 before the first convolution, which an instance norm would not tell."""
    seen = []
    first = next(m for m in network.modules() if isinstance(m, nn.Conv2d))
    first.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0].numpy()))
    network(tg.ones(2, 1, 8, 8))
    network(tg.zeros(2, 1, 8, 8))
    assert (seen[0] == 1).all() and (seen[1] == -1).all()
