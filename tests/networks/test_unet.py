"""U-Net against NumPy: sizes, skips, dropout; what fills a hole leaves the known pixels bit for bit."""

from __future__ import annotations

from functools import partial

import by_hand
import numpy as np
import pytest
from by_hand import SIZES, batch_norm, conv, conv_transpose, leaky, relu

import tinygen as tg
from tinygen import nn
from tinygen.networks.unet import Detailed, Filling, UNet


class Halving(nn.Module):
    """In the place of dropout: what a formula can follow."""

    def forward(self, x):
        return 0.5 * x


def forward(x, weights, depth, kept=1.0):
    """`weights`: of the layers going down, then of those going up, then of the norms between them."""
    w = iter(weights)
    planes, sizes = [], []
    h = 2.0 * x - 1
    for level in range(depth):
        sizes.append(h.shape[2:])
        h = conv(h if level == 0 else leaky(h), next(w), next(w), 2, 1)
        if 0 < level < depth - 1:
            h = batch_norm(h, next(w), next(w))
        planes.append(h)
    ups = [(next(w), next(w)) for _ in range(depth)]
    for level, (weight, bias) in enumerate(ups):
        if level > 0:
            h = np.concatenate([kept * batch_norm(h, next(w), next(w)), planes[depth - 1 - level]], 1)
        h = conv_transpose(relu(h), weight, sizes[depth - 1 - level], bias)
    assert next(w, None) is None
    return 0.5 * (np.tanh(h) + 1)


@pytest.mark.parametrize("dropout", [nn.Identity, Halving], ids=["whole", "halved"])
@pytest.mark.parametrize(
    ("size", "channels"),
    [((8, 8), (3, 4, 5)), ((9, 11), (3, 4, 5)), ((14, 13), (2, 3, 4)), ((5, 7), (3, 4)), ((6, 5), (3,))],
)
def test_the_forward(size, channels, dropout):
    network = UNet((2, *size), 3, channels, dropout)
    by_hand.stir(network)
    x, _ = by_hand.images(4, (2, *size))
    expected = forward(x.numpy(), by_hand.arrays(network), len(channels), 0.5 if dropout is Halving else 1.0)
    assert expected.shape == (4, 3, *size)
    np.testing.assert_allclose(network(x).detach().numpy(), expected, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("size", SIZES, ids=lambda s: f"{s[0]}x{s[1]}")
def test_every_side_is_restored(size):
    for channels in ((2,), (2, 3), (2, 3, 3)):
        y = UNet((1, *size), 3, channels)(tg.rand(2, 1, *size)).detach().numpy()
        assert y.shape == (2, 3, *size) and y.min() >= 0 and y.max() <= 1


def test_dropout_is_behind_the_inner_layers_going_up_and_only_while_it_learns():
    made = UNet((1, 16, 16), 1, (2, 3, 3, 3), partial(nn.Dropout, 0.5))
    assert [module.p for module in made.modules() if isinstance(module, nn.Dropout)] == [0.5] * 3
    assert all(isinstance(norm[1], nn.Dropout) for norm in made.norms)
    x = tg.rand(2, 1, 16, 16)
    assert not np.array_equal(made(x).detach().numpy(), made(x).detach().numpy())
    made.eval()
    assert np.array_equal(made(x).detach().numpy(), made(x).detach().numpy())


def test_images_that_cannot_be_halved_so_often_are_refused():
    with pytest.raises(ValueError, match="7"):
        UNet((1, 7, 30), 1, (2, 2, 2))
    assert UNet((1, 8, 30), 1, (2, 2, 2)).multiple == 8


# ---------------------------------------------------------------------------------- how far it looks


@pytest.mark.parametrize(("channels", "reach"), [((3,), 3), ((2, 3), 9), ((2, 2, 3), 21)])
def test_it_looks_as_far_as_it_says(channels, reach):
    network = UNet((1, 16, 16), 1, channels).eval()
    by_hand.open_paths(network)
    assert network.reach == reach and by_hand.farthest(network) == [reach] * 4


@pytest.mark.parametrize(("cut", "reach"), [(0, 21), (1, 9), (2, 3), (3, None)])
def test_what_is_fine_passes_by_the_skips(cut, reach):
    """Without the `cut` innermost layers going up the skips remain, each of which sees less far and finer."""
    network = UNet((1, 16, 16), 1, (2, 2, 3)).eval()
    by_hand.open_paths(network)
    for up in network.up[:cut]:
        up.weight.data.zero_()
    if reach is None:
        assert not by_hand.support(network, 40, 20).any()
    else:
        assert by_hand.farthest(network) == [reach] * 4


def test_what_is_computed_moves_with_the_picture_by_multiples():
    network = UNet((1, 16, 16), 1, (3, 4)).eval()
    by_hand.stir(network)
    x = tg.rand(1, 1, 40, 40)
    inner = lambda by: slice(16 - by, 24 - by)
    whole, by_2, by_4 = (network(x[:, :, by:, by:]).detach().numpy()[:, :, inner(by), inner(by)] for by in (0, 2, 4))
    assert network.multiple == 4
    np.testing.assert_allclose(whole, by_4, rtol=1e-5, atol=1e-6)
    assert abs(whole - by_2).max() > 1e-3


# ---------------------------------------------------------------------------------- what is as fine as a pixel


def test_a_detailed_network_mixes_its_planes_and_the_image_itself():
    network = Detailed(UNet((2, 8, 8), 3, (3, 4)), 3, 3)
    by_hand.stir(network)
    x, _ = by_hand.images(4, (2, 9, 8))
    *inner, weight, bias = by_hand.arrays(network)
    planes = np.concatenate([forward(x.numpy(), inner, 2), x.numpy()], 1)
    expected = 0.5 * (np.tanh(conv(planes, weight, bias, 1, 1)) + 1)
    np.testing.assert_allclose(network(x).detach().numpy(), expected, rtol=1e-3, atol=1e-4)


def test_a_detailed_network_looks_one_pixel_farther_than_the_one_within():
    network = Detailed(UNet((2, 8, 8), 3, (2, 3)), 3, 3).eval()
    by_hand.open_paths(network)
    assert by_hand.farthest(network, 2) == [network.reach] * 4 == [10] * 4
    assert (network.channels, network.multiple, network.scale) == (2, 4, 1)


# ---------------------------------------------------------------------------------- filling


def test_known_pixels_are_copied_bit_for_bit_and_hidden_ones_are_the_network_s():
    network = UNet((3, 9, 11), 2, (3, 4))
    by_hand.stir(network)
    filling = Filling(network).eval()
    draw = np.random.default_rng(3)
    x = draw.normal(size=(4, 2, 9, 11)).astype(np.float32)  # not of [0, 1]: a copy knows no range
    hidden = (draw.random((4, 1, 9, 11)) < 0.4).astype(np.float32)
    seen = tg.tensor(np.concatenate([x, hidden], 1))
    made, filled = filling(seen).detach().numpy(), network(seen).detach().numpy()
    where = np.broadcast_to(hidden > 0, x.shape)
    assert made.shape == x.shape
    assert made[~where].tobytes() == x[~where].tobytes()
    assert made[where].tobytes() == filled[where].tobytes() and not np.isin(made[where], x[where]).any()


def test_no_slope_reaches_the_network_by_known_pixels():
    network = UNet((2, 8, 8), 1, (3, 4))
    seen = tg.cat([tg.rand(2, 1, 8, 8), tg.zeros(2, 1, 8, 8)], 1)
    Filling(network)(seen).sum().backward()
    assert all(p.grad is None or not p.grad.numpy().any() for p in network.parameters())


def test_a_filling_takes_what_its_network_takes_but_for_the_mask():
    network = UNet((4, 16, 16), 3, (2, 3))
    filling = Filling(network)
    found = (filling.channels, filling.multiple, filling.reach, filling.scale)
    assert (network.channels, *found) == (4, 3, 4, 9, 1)
