"""Networks without a dense layer: forwards against NumPy, sizes, the same everywhere, how far each looks."""

from __future__ import annotations

from functools import partial

import by_hand
import numpy as np
import pytest
from by_hand import batch_norm, conv, conv_transpose, leaky, relu

import tinygen as tg
from tinygen import nn
from tinygen.networks.fully_convolutional import MapCodeEncoder, MapCodeGenerator, MapDiscriminator

NEAR = partial(np.testing.assert_allclose, rtol=1e-3, atol=1e-4)
SHAPE, CHANNELS, LATENT, HIDDEN = (2, 8, 12), (3, 4), 5, 7


def codes(size, n=4, seed=3):
    return np.random.default_rng(seed).normal(size=(n, LATENT, *size)).astype(np.float32)


def images(size, n=4, seed=0, channels=2):
    return by_hand.images(n, (channels, *size), seed)[0]


@pytest.fixture
def encoder():
    return MapCodeEncoder(SHAPE, CHANNELS, LATENT)


@pytest.fixture
def generator():
    return MapCodeGenerator(SHAPE, CHANNELS, LATENT)


@pytest.fixture
def judge():
    return MapDiscriminator(SHAPE, CHANNELS, LATENT, HIDDEN)


# ---------------------------------------------------------------------------------- forwards


@pytest.mark.parametrize("size", [(8, 12), (4, 4), (20, 8)])
def test_the_encoder_s_forward(encoder, size):
    by_hand.stir(encoder)
    x = images(size)
    w1, b1, w2, s2, t2, v = by_hand.arrays(encoder)
    h = leaky(conv(2.0 * x.numpy() - 1, w1, b1, 2, 1), 0.2)
    h = conv(leaky(batch_norm(conv(h, w2, 0.0, 2, 1), s2, t2), 0.2), v)
    expected = batch_norm(h, np.ones(LATENT), np.zeros(LATENT))
    NEAR(encoder(x).detach().numpy(), expected)
    assert expected.shape == (4, LATENT, size[0] // 4, size[1] // 4)


@pytest.mark.parametrize("size", [(2, 3), (1, 1), (5, 2)])
def test_the_generator_s_forward(generator, size):
    by_hand.stir(generator)
    z = codes(size)
    v, s1, t1, w1, s2, t2, w2, b2 = by_hand.arrays(generator)
    twice, all_of_it = [2 * side for side in size], [4 * side for side in size]
    h = relu(batch_norm(conv(z, v), s1, t1))
    h = relu(batch_norm(conv_transpose(h, w1, twice), s2, t2))
    expected = 0.5 * (np.tanh(conv_transpose(h, w2, all_of_it, b2)) + 1)
    NEAR(generator(tg.tensor(z)).detach().numpy(), expected)
    assert expected.shape == (4, 2, *all_of_it) and (v.shape[0], w1.shape[:2], w2.shape[:2]) == (4, (4, 3), (3, 2))


@pytest.mark.parametrize("size", [(8, 12), (4, 4), (20, 8)])
def test_the_discriminator_s_features_and_numbers(judge, size):
    by_hand.stir(judge)
    x, z = images(size), codes([side // 4 for side in size])
    w1, b1, w2, b2, u, c, v, d, r, e = by_hand.arrays(judge)
    h = leaky(conv(2.0 * x.numpy() - 1, w1, b1, 2, 1), 0.2)
    h = leaky(conv(h, w2, b2, 2, 1), 0.2)
    f = leaky(conv(np.concatenate([h, leaky(conv(z, u, c), 0.2)], 1), v, d), 0.2)
    NEAR(judge.features(x, tg.tensor(z)).detach().numpy(), f)
    found = judge(x, tg.tensor(z)).detach().numpy()
    NEAR(found, conv(f, r, e))
    assert f.shape[1] == HIDDEN and found.shape == (4, 1, size[0] // 4, size[1] // 4)
    one = tg.cat([judge(x[i : i + 1], tg.tensor(z[i : i + 1])) for i in range(4)])
    NEAR(one.detach().numpy(), found)  # no batch norm


@pytest.mark.parametrize("channels", [(4,), (4, 5), (4, 5, 6)])
def test_a_code_for_each_square_of_m_pixels(channels):
    encoder = MapCodeEncoder((3, 16, 24), channels, LATENT)
    m = 2 ** len(channels)
    assert (encoder.channels, encoder.multiple) == (3, m)
    z = encoder(tg.rand(2, 3, 16, 24))
    assert z.shape == (2, LATENT, 16 // m, 24 // m)
    assert MapCodeGenerator((3, 16, 24), channels, LATENT)(z).shape == (2, 3, 16, 24)
    assert MapDiscriminator((3, 16, 24), channels, LATENT, HIDDEN)(tg.rand(2, 3, 16, 24), z).shape == z[:, :1].shape


def test_codes_of_a_batch_have_mean_0_and_variance_1_over_images_and_places(encoder):
    by_hand.stir(encoder)
    z = encoder(images((12, 8), 9)).detach().numpy()
    assert abs(z.mean((0, 2, 3))).max() < 1e-5 and z.var((0, 2, 3)) == pytest.approx(np.ones(LATENT), rel=1e-3)
    assert [m.affine for m in encoder.modules() if isinstance(m, nn.BatchNorm2d)] == [True, False]


def test_no_layer_depends_on_the_size(encoder, generator, judge):
    for network in (encoder, generator, judge):
        kinds = {type(m) for m in network.modules()}
        assert not kinds & {nn.Linear, nn.Flatten, nn.Unflatten}
    tg.manual_seed(0)
    small = MapCodeEncoder((2, 8, 8), CHANNELS, LATENT)
    tg.manual_seed(0)
    assert by_hand.same(by_hand.state(small), by_hand.state(MapCodeEncoder((2, 64, 32), CHANNELS, LATENT)))


# ---------------------------------------------------------------------------------- the same everywhere


@pytest.mark.parametrize(("down", "right"), [(1, 0), (0, 1), (2, 3)])
def test_what_is_moved_by_m_pixels_has_its_codes_moved_by_one(encoder, generator, judge, down, right):
    for network in (encoder, generator, judge):
        by_hand.stir(network)
        network.eval()
    whole = images((48, 48), 1)
    x, moved = whole[:, :, :32, :32], whole[:, :, 4 * down : 4 * down + 32, 4 * right : 4 * right + 32]
    z, moved_z = encoder(x), encoder(moved)
    pairs = ((z, moved_z, 1, 1), (generator(z), generator(moved_z), 9, 4), (judge(x, z), judge(moved, moved_z), 1, 1))
    for here, there, border, step in pairs:
        a, b = (one.detach().numpy()[:, :, border:-border, border:-border] for one in (here, there))
        height, width = a.shape[2] - step * down, a.shape[3] - step * right
        NEAR(a[:, :, step * down :, step * right :], b[:, :, :height, :width])
        assert a.std() > 0.01


def test_a_code_sees_its_m_pixels_and_m_minus_1_to_each_side():
    for channels in ((3,), (3, 4), (3, 4, 5)):
        encoder = MapCodeEncoder((1, 64, 64), channels, 2).eval()
        by_hand.open_paths(encoder)
        m = encoder.multiple
        place = 32 // m
        seen = by_hand.support(encoder, 64, place)
        for axis in (0, 1):
            pixels = np.flatnonzero(seen.any(axis))
            assert (pixels[0], pixels[-1]) == (m * place - (m - 1), m * place + m - 1 + (m - 1))


@pytest.mark.parametrize("channels", [(3,), (3, 4), (3, 4, 5)])
def test_a_pixel_is_made_of_the_codes_of_two_or_three_places(channels):
    generator = MapCodeGenerator((1, 64, 64), channels, 1).eval()
    by_hand.open_paths(generator)
    m = 2 ** len(channels)
    for pixel in range(m):
        seen = by_hand.support(generator, 9, 4 * m + pixel).any(0)
        places = np.flatnonzero(seen) - 4
        assert places.tolist() == [*[-1] * (pixel < max(1, m - 1)), 0, *[1] * (pixel >= min(1, m - 1))], pixel


def test_dcgan_s_initial_weights():
    tg.manual_seed(0)
    shape = (1, 64, 64)
    networks = (MapCodeEncoder(shape, (16, 32), 40), MapCodeGenerator(shape, (16, 32), 40),
                MapDiscriminator(shape, (16, 32), 40, 64))  # fmt: skip
    norms = {id(m.weight) for n in networks for m in n.modules() if isinstance(m, nn.BatchNorm2d) and m.affine}
    assert len(norms) == 3
    for name, p in [pair for network in networks for pair in network.named_parameters()]:
        values = p.detach().numpy()
        if id(p) in norms:
            assert abs(values.mean() - 1) < 0.02 and 0.01 < values.std() < 0.03
        elif name.endswith("bias"):
            assert not values.any()
        elif values.size > 200:
            assert abs(values.mean()) < 0.004 and values.std() == pytest.approx(0.02, rel=0.15)


def test_images_made_lie_in_0_to_1_and_images_seen_in_minus_1_to_1(encoder, generator, judge):
    by_hand.stir(generator, size=3)
    made = generator(tg.randn(20, LATENT, 2, 3)).detach().numpy()
    assert made.min() >= 0 and made.max() <= 1 and made.min() < 0.1 and made.max() > 0.9
    for network, given in ((encoder, ()), (judge, (tg.zeros(4, LATENT, 2, 2),))):
        seen = []
        first = next(m for m in network.modules() if isinstance(m, nn.Conv2d))
        first.register_forward_pre_hook(lambda module, inputs, seen=seen: seen.append(inputs[0].numpy()))
        network(tg.ones(4, 2, 8, 8), *given)
        network(tg.zeros(4, 2, 8, 8), *given)
        assert (seen[0] == 1).all() and (seen[1] == -1).all()
