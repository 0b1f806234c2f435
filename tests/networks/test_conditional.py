"""The players of a conditional GAN: forwards against NumPy loops on the joined inputs; a label reaches both."""

from __future__ import annotations

import by_hand
import numpy as np
import pytest

import tinygen as tg
from tinygen.networks.conditional import ConditionalDiscriminator, ConditionalGenerator
from tinygen.networks.dcgan import DCDiscriminator, DCGenerator

LABELS = np.array([0, 2, 1, 2, 0, 2])


@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 9, 11), (1, 28, 28)], ids=lambda s: "x".join(map(str, s)))
@pytest.mark.parametrize("classes", [1, 3, 10])
def test_a_fake_has_the_data_s_size_and_is_judged_by_one_number(shape, classes):
    y = tg.arange(4) % classes
    fake = ConditionalGenerator(shape, classes, (4, 5), 3)(tg.randn(4, 3), y)
    assert fake.shape == (4, *shape) and fake.min().item() >= 0 and fake.max().item() <= 1
    assert ConditionalDiscriminator(shape, classes, (4, 5))(fake, y).shape == (4, 1)


def test_the_generator_s_forward():
    network = ConditionalGenerator((2, 8, 9), 3, (3, 4), 5)
    by_hand.stir(network)
    z = np.random.default_rng(2).normal(size=(6, 5)).astype(np.float32)
    project, s1, t1, s2, t2, w1, w2, b2 = by_hand.arrays(network)
    h = (by_hand.linear(z, project[:, :5]) + project[:, 5:].T[LABELS]).reshape(6, 4, 2, 2)
    h = by_hand.conv_transpose(by_hand.relu(by_hand.batch_norm(h, s1, t1)), w1, (4, 4))
    h = by_hand.conv_transpose(by_hand.relu(by_hand.batch_norm(h, s2, t2)), w2, (8, 9), b2)
    found = network(tg.tensor(z), tg.tensor(LABELS)).detach().numpy()
    np.testing.assert_allclose(found, 0.5 * (np.tanh(h) + 1), rtol=1e-4, atol=1e-5)


def test_the_discriminator_s_forward():
    """The plane of the label holds 1, those of all other labels 0, where the first convolution reads them."""
    network = ConditionalDiscriminator((2, 8, 9), 3, (3, 4))
    by_hand.stir(network)
    x, _ = by_hand.images(6, (2, 8, 9))
    w1, b1, w2, s2, t2, v, c = by_hand.arrays(network)
    plane = np.ones((6, 1, 8, 9))
    of_label = np.concatenate([by_hand.conv(plane[i : i + 1], w1[:, 2 + y : 3 + y], 0.0, 2, 1)
                               for i, y in enumerate(LABELS)])  # fmt: skip
    h = by_hand.leaky(by_hand.conv(2.0 * x.numpy() - 1, w1[:, :2], b1, 2, 1) + of_label, 0.2)
    h = by_hand.leaky(by_hand.batch_norm(by_hand.conv(h, w2, 0.0, 2, 1), s2, t2), 0.2)
    expected = by_hand.linear(h.reshape(6, -1), v, c)
    np.testing.assert_allclose(network(x, tg.tensor(LABELS)).detach().numpy(), expected, rtol=1e-4, atol=1e-4)


def test_every_label_says_something_else_to_both_players():
    tg.manual_seed(0)
    shape = (1, 8, 8)
    generator, discriminator = ConditionalGenerator(shape, 10, (4, 5), 3), ConditionalDiscriminator(shape, 10, (4, 5))
    by_hand.stir(generator, discriminator)
    generator.eval(), discriminator.eval()
    y = tg.arange(10)
    drawn = generator(tg.randn(1, 3).expand(10, 3), y).detach().numpy()
    judged = discriminator(tg.rand(1, 1, 8, 8).expand(10, 1, 8, 8), y).detach().numpy()
    assert len(np.unique(drawn.reshape(10, -1).round(4), axis=0)) == 10
    assert len(np.unique(judged.round(4))) == 10


@pytest.mark.parametrize("label", [-1, 10])
def test_a_label_outside_the_classes_is_refused(label):
    y = tg.tensor([0, label])
    with pytest.raises(IndexError, match=rf"{label}"):
        ConditionalGenerator((1, 8, 8), 10, (4,), 3)(tg.randn(2, 3), y)
    with pytest.raises(IndexError, match=rf"{label}"):
        ConditionalDiscriminator((1, 8, 8), 10, (4,))(tg.rand(2, 1, 8, 8), y)


def test_numbers_of_parameters_on_mnist_are_dcgan_s_and_those_of_ten_labels():
    count = lambda network: sum(p.numel() for p in network.parameters())
    mnist, f = (1, 28, 28), (16, 32)
    more = count(ConditionalGenerator(mnist, 10, f, 100)) - count(DCGenerator(mnist, f, 100))
    assert more == 10 * 32 * 49
    more = count(ConditionalDiscriminator(mnist, 10, f)) - count(DCDiscriminator(mnist, f))
    assert more == 10 * 16 * 16
