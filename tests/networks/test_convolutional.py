"""The convolutional encoder and its mirror image: sizes from the data, forwards against NumPy loops."""

from __future__ import annotations

import by_hand
import numpy as np
import pytest
from by_hand import SIZES

import tinygen as tg
from tinygen import nn
from tinygen.networks.convolutional import ConvDecoder, ConvEncoder, MapDecoder, MapEncoder, halved
from tinygen.networks.mlp import gaussian


@pytest.mark.parametrize("size", SIZES, ids=lambda s: f"{s[0]}x{s[1]}")
def test_what_is_decoded_has_the_size_of_what_was_encoded(size):
    for channels in (1, 3):
        shape = (channels, *size)
        x, _ = by_hand.images(2, shape)
        code = ConvEncoder(shape, (4, 5), (), 3)(x)
        assert code.shape == (2, 3)
        assert ConvDecoder(shape, (4, 5), (), 3)(code).shape == x.shape
        mean, log_variance = gaussian(ConvEncoder(shape, (4, 5), (), 6), 6, 3)(x)
        assert mean.shape == log_variance.shape == (2, 3)
        assert ConvDecoder(shape, (4, 5), (6,), 3)(mean).shape == x.shape


@pytest.mark.parametrize("size", [(8, 8), (9, 11)])
def test_the_encoder_is_strided_convolutions_then_linear_layers(size):
    shape = (2, *size)
    network = ConvEncoder(shape, (3, 4), (6,), 5)
    by_hand.stir(network)
    x, _ = by_hand.images(3, shape)
    w1, b1, w2, b2, *rest = by_hand.arrays(network)
    h = by_hand.relu(by_hand.conv(x.numpy(), w1, b1, stride=2, padding=1))
    h = by_hand.relu(by_hand.conv(h, w2, b2, stride=2, padding=1))
    np.testing.assert_allclose(network(x).detach().numpy(), by_hand.mlp(h, rest), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("size", [(8, 8), (9, 11)])
def test_the_decoder_is_linear_layers_then_transposed_convolutions(size):
    shape = (2, *size)
    network = ConvDecoder(shape, (3, 4), (6,), 5)
    by_hand.stir(network)
    z = np.random.default_rng(2).normal(size=(3, 5)).astype(np.float32)
    *first, w1, b1, w2, b2 = by_hand.arrays(network)
    half, quarter = [s // 2 for s in size], [s // 4 for s in size]
    h = by_hand.relu(by_hand.mlp(z, first)).reshape(3, 4, *quarter)
    h = by_hand.relu(by_hand.conv_transpose(h, w1, half, b1))
    expected = by_hand.conv_transpose(h, w2, size, b2)
    np.testing.assert_allclose(network(tg.tensor(z)).detach().numpy(), expected, rtol=1e-4, atol=1e-4)
    assert expected.min() < 0 and expected.max() > 1  # logits


@pytest.mark.parametrize("size", SIZES, ids=lambda s: f"{s[0]}x{s[1]}")
def test_a_feature_map_leads_back_to_the_image_s_size(size):
    shape = (3, *size)
    code = MapEncoder(shape, (4, 5))(by_hand.images(2, shape)[0])
    assert code.shape == (2, 5, size[0] // 4, size[1] // 4)
    assert MapDecoder(shape, (4, 5))(code).shape == (2, *shape)


@pytest.mark.parametrize("size", [(8, 8), (9, 11)])
def test_a_map_s_networks_are_convolutions_with_relu_and_no_other_layer(size):
    shape = (2, *size)
    encoder, decoder = MapEncoder(shape, (3, 4)), MapDecoder(shape, (3, 4))
    by_hand.stir(encoder, decoder)
    x, _ = by_hand.images(3, shape)
    w1, b1, w2, b2 = by_hand.arrays(encoder)
    h = by_hand.relu(by_hand.conv(x.numpy(), w1, b1, stride=2, padding=1))
    code = by_hand.relu(by_hand.conv(h, w2, b2, stride=2, padding=1))
    np.testing.assert_allclose(encoder(x).detach().numpy(), code, rtol=1e-4, atol=1e-4)
    w1, b1, w2, b2 = by_hand.arrays(decoder)
    z = code - 0.3  # below 0, too: nothing is cut before the first layer
    h = by_hand.relu(by_hand.conv_transpose(z, w1, [s // 2 for s in size], b1))
    expected = by_hand.conv_transpose(h, w2, size, b2)
    found = decoder(tg.tensor(z.astype(np.float32))).detach().numpy()
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)


def test_a_map_of_an_image_that_is_too_small_or_no_image_is_refused():
    for network in (MapEncoder, MapDecoder):
        with pytest.raises(ValueError, match=r"8x8 pixels cannot be halved 4 times.*channels"):
            network((1, 8, 8), (2, 2, 2, 2))
        with pytest.raises(ValueError, match=r"needs images .*the data's shape is \(2,\)"):
            network((2,), (4,))


def test_a_gaussian_encoder_s_trunk_ends_with_relu():
    network = gaussian(ConvEncoder((1, 8, 8), (3,), (), 6), 6, 2)
    by_hand.stir(network)
    x, _ = by_hand.images(5)
    w, b, v, c, wm, bm, wv, bv = by_hand.arrays(network)
    h = by_hand.linear(by_hand.relu(by_hand.conv(x.numpy(), w, b, 2, 1)).reshape(5, -1), v, c)
    assert (h < -0.1).any()
    mean, log_variance = network(x)
    np.testing.assert_allclose(mean.detach().numpy(), by_hand.linear(by_hand.relu(h), wm, bm), rtol=1e-4, atol=1e-4)
    expected = by_hand.linear(by_hand.relu(h), wv, bv)
    np.testing.assert_allclose(log_variance.detach().numpy(), expected, rtol=1e-4, atol=1e-4)


def test_channels_of_the_decoder_are_the_encoder_s_in_reverse():
    decoder = ConvDecoder((3, 16, 16), (4, 5, 6), (), 2)
    found = [m.weight.shape[:2] for m in decoder.modules() if isinstance(m, nn.ConvTranspose2d)]
    assert found == [(6, 5), (5, 4), (4, 3)]


def test_sizes_are_halved_downwards():
    assert halved((1, 28, 13), 2) == [(28, 13), (14, 6), (7, 3)]
    assert halved((1, 4, 4), 2) == [(4, 4), (2, 2), (1, 1)]


def test_an_image_that_cannot_be_halved_so_often_is_refused_with_the_remedy():
    with pytest.raises(ValueError, match=r"8x8 pixels cannot be halved 4 times.*channels"):
        ConvEncoder((1, 8, 8), (2, 2, 2, 2), (), 3)
    with pytest.raises(ValueError, match=r"8x8 pixels cannot be halved 4 times.*channels"):
        ConvDecoder((1, 8, 8), (2, 2, 2, 2), (), 3)


def test_points_are_refused_by_their_shape():
    with pytest.raises(ValueError, match=r"needs images .*the data's shape is \(2,\)"):
        ConvEncoder((2,), (4,), (), 3)


def test_linear_layers_have_the_widths_in_the_order_given():
    widths = lambda network: [m.out_features for m in network.modules() if isinstance(m, nn.Linear)]
    assert widths(ConvEncoder((1, 8, 8), (3,), (6, 7), 5)) == [6, 7, 5]
    assert widths(ConvDecoder((1, 8, 8), (3,), (6, 7), 5)) == [6, 7, 3 * 16]
