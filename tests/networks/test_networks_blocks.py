"""Players put together from blocks: forwards in NumPy, each block in its place, ranges."""

from __future__ import annotations

import by_hand
import numpy as np
import pytest

import tinygen as tg
from tinygen import nn
from tinygen.networks import blocks
from tinygen.networks.blocks import discriminator, generator, of_images, of_points
from tinygen.networks.dcgan import DCDiscriminator, DCGenerator

RING = of_points((2,), (4, 5), 3, 2.5)
DIGITS = of_images((1, 8, 8), (4, 5), 3)
KITS = pytest.mark.parametrize("kit", [RING, DIGITS], ids=["points", "images"])
Z = np.random.default_rng(0).normal(size=(6, 3)).astype("f4")


def kinds(network):
    return [type(module).__name__ for module in network]


def test_points_go_through_linear_layers_tanh_and_back_to_their_range():
    G, D = generator(RING), discriminator(RING)
    by_hand.stir(G, D)
    w = by_hand.arrays(G)
    h = by_hand.relu(by_hand.linear(Z, *w[:2]))
    x = 2.5 * np.tanh(by_hand.linear(by_hand.relu(by_hand.linear(h, *w[2:4])), *w[4:]))
    found = G(tg.tensor(Z)).detach().numpy()
    np.testing.assert_allclose(found, x, rtol=1e-4, atol=1e-5)
    w = by_hand.arrays(D)
    h = by_hand.leaky(by_hand.linear(x / 2.5, *w[:2]))
    a = by_hand.linear(by_hand.leaky(by_hand.linear(h, *w[2:4])), *w[4:])
    np.testing.assert_allclose(D(tg.tensor(found)).detach().numpy(), a, rtol=1e-4, atol=1e-5)


def test_images_go_through_the_layers_of_dcgan():
    """The same kinds of layers and sizes of weights; biases before batch norm are the only difference."""
    for mine, known in ((generator(DIGITS), DCGenerator((1, 8, 8), (4, 5), 3)),
                        (discriminator(DIGITS), DCDiscriminator((1, 8, 8), (4, 5)))):  # fmt: skip
        shapes = [sorted(p.shape for p in network.parameters() if p.ndim > 1) for network in (mine, known)]
        assert shapes[0] == shapes[1]
        norms = [sum(isinstance(m, nn.BatchNorm2d) for m in network.modules()) for network in (mine, known)]
        assert norms[0] == norms[1] > 0
    assert kinds(discriminator(DIGITS)) == [
        "Scaled", "Conv2d", "LeakyReLU", "Conv2d", "BatchNorm2d", "LeakyReLU", "Flatten", "Linear"
    ]  # fmt: skip
    wide = of_images((1, 28, 28), (16, 32), 100)
    for first in (generator(wide)[0], discriminator(wide)[3]):
        assert first.weight.detach().numpy().std() == pytest.approx(0.02, rel=0.05)  # DCGAN's start
    many = of_points((2,), (300, 300), 3, 2.5)
    for layer in (generator(many)[3], discriminator(many)[3]):  # torch's: uniform in +-1/sqrt(inputs)
        assert layer.weight.detach().numpy().std() == pytest.approx(1 / (3 * 300) ** 0.5, rel=0.05)
    x = generator(DIGITS)(tg.tensor(Z)).detach().numpy()
    assert x.shape == (6, 1, 8, 8) and x.min() >= 0 and x.max() <= 1


@KITS
def test_each_block_stands_in_its_place(kit):
    named = lambda name: lambda *sizes: [type(name, (nn.Identity,), {})()]
    G = generator(kit._replace(norms=named("Norm"), dropout=named("Drop"), outwards=named("Out")))
    up = "Linear" if kit is RING else "ConvTranspose2d"
    assert kinds(G) == ["Linear", "Unflatten", *["Norm", "ReLU", "Drop", up] * 2, "Out"]
    D = discriminator(kit._replace(norms=named("Norm"), inwards=named("In"), activation=nn.Tanh))
    down = "Linear" if kit is RING else "Conv2d"
    assert kinds(D) == ["In", down, "Tanh", down, "Norm", "Tanh", "Flatten", "Linear"]
    assert kinds(discriminator(kit._replace(down=kit.pooled)))[1] == "Sequential"


@pytest.mark.parametrize(("low", "high"), [(0.0, 1.0), (-2.5, 2.5), (1.0, 4.0)])
def test_ranges_are_carried_to_one_another(low, high):
    run = lambda modules, x: nn.Sequential(*modules)(tg.tensor(np.float32(x))).numpy()
    ends, middle = [low, high, (low + high) / 2], [-1.0, 1.0, 0.0]
    assert run(blocks.to_tanh(low, high), ends) == pytest.approx(middle, abs=1e-6)
    assert run(blocks.from_tanh(low, high), [-50.0, 50.0, 0.0]) == pytest.approx(ends, abs=1e-6)
    assert run(blocks.to_unit(low, high), ends) == pytest.approx([0, 1, 0.5], abs=1e-6)
    assert run(blocks.from_unit(low, high), [0.0, 1.0, 0.5, 2.0])[:3] == pytest.approx(ends, abs=1e-6)
    assert run(blocks.from_unit(low, high), [2.0]) == pytest.approx([2 * high - low])  # no limit


def test_a_pooled_layer_has_as_many_values_and_takes_the_larger_of_each_pair():
    layer = RING.pooled(2, 3)
    by_hand.stir(layer)
    x = np.random.default_rng(1).normal(size=(5, 2)).astype("f4")
    expected = by_hand.linear(x, *by_hand.arrays(layer)).reshape(5, 3, 2).max(2)
    np.testing.assert_allclose(layer(tg.tensor(x)).detach().numpy(), expected, rtol=1e-5, atol=1e-6)
    layer = DIGITS.pooled(1, 3)
    by_hand.stir(layer)
    x = by_hand.images(4)[0].numpy()
    expected = by_hand.max_pool(by_hand.conv(x, *by_hand.arrays(layer), 1, 1))
    np.testing.assert_allclose(layer(tg.tensor(x)).detach().numpy(), expected, rtol=1e-4, atol=1e-5)


def test_dropout_that_stays_is_at_work_in_evaluation_mode():
    x = tg.ones(4000)
    for layer, works in ((blocks.AlwaysDropout(0.25), True), (nn.Dropout(0.25), False)):
        y = layer.eval()(x).numpy()
        assert (y == 0).mean() == pytest.approx(0.25 if works else 0, abs=0.03)
        assert y.max() == pytest.approx(1 / 0.75 if works else 1)


def test_sides_that_cannot_be_halved_are_refused():
    with pytest.raises(ValueError, match="images of 9x8 cannot be halved 2 times; give fewer widths"):
        of_images((1, 9, 8), (4, 5), 3)


@KITS
def test_a_label_is_numbers_behind_points_and_planes_behind_images(kit):
    seen = []

    class Watching(nn.Module):
        def forward(self, x):
            seen.append(x.numpy())
            return x

    x, labels = np.random.default_rng(0).normal(size=(5, *kit.shape)).astype("f4"), np.array([0, 2, 1, 1, 2])
    blocks.Told(Watching(), 3)(tg.tensor(x), tg.tensor(labels))
    c = kit.shape[0]
    assert seen[0].shape == (5, c + 3, *kit.shape[1:]) and (seen[0][:, :c] == x).all()
    for i, label in enumerate(labels):
        for k in range(3):
            assert (seen[0][i, c + k] == (k == label)).all()


@KITS
def test_told_players_take_labels_beside_noise_and_data(kit):
    G, D = blocks.told_generator(kit, 7), blocks.told_discriminator(kit, 7)
    labels = tg.tensor([0, 6, 3])
    x = G(tg.randn(3, kit.latent), labels)
    assert x.shape == (3, *kit.shape) and D(x, labels).shape == (3, 1) and G.known.shape == (7,)
    assert G.network[0].weight.shape[1] == kit.latent + 7
