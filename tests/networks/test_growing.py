"""Players that grow: forwards against NumPy loops, what they are at alpha 0 and 1, sizes from the data."""

from __future__ import annotations

import by_hand
import numpy as np
import pytest
from by_hand import SIZES

import tinygen as tg
from tinygen.networks.dcgan import DCDiscriminator, DCGenerator
from tinygen.networks.growing import Growing, GrowingDiscriminator, GrowingGenerator


def players(shape=(2, 8, 12), channels=(3, 4)):
    made = GrowingGenerator(shape, channels, 5), GrowingDiscriminator(shape, channels)
    by_hand.stir(*made)
    return made


def at(network, stage, alpha=None):
    network.grow(stage, alpha is not None, tg.tensor(1.0 if alpha is None else alpha))
    return network


def noise(n=6):
    return np.random.default_rng(2).normal(size=(n, 5)).astype(np.float32)


def doubled(x):
    return x.repeat(2, 2).repeat(2, 3)


def halved(x):
    n, c, h, w = x.shape
    return x.reshape(n, c, h // 2, 2, w // 2, 2).mean((3, 5))


def exits(network, z):
    """The generator's image at each of its three sizes."""
    project, s1, t1, s2, t2, w1, w2, b2, v1, c1, v2, c2 = by_hand.arrays(network)
    first = by_hand.relu(by_hand.batch_norm(by_hand.linear(z, project).reshape(len(z), 4, 2, 3), s1, t1))
    second = by_hand.relu(by_hand.batch_norm(by_hand.conv_transpose(first, w1, (4, 6)), s2, t2))
    planes = by_hand.conv(first, v1, c1), by_hand.conv(second, v2, c2), by_hand.conv_transpose(second, w2, (8, 12), b2)
    return [0.5 * (np.tanh(p) + 1) for p in planes]


@pytest.mark.parametrize("stage", [0, 1, 2])
@pytest.mark.parametrize("alpha", [None, 0.3])
def test_the_generator_s_forward_at_every_size(stage, alpha):
    generator, _ = players()
    images = exits(generator, noise())
    expected = images[stage]
    if stage and alpha is not None:
        expected = 0.7 * doubled(images[stage - 1]) + 0.3 * expected
    found = at(generator, stage, alpha if stage else None)(tg.tensor(noise()))
    np.testing.assert_allclose(found.detach().numpy(), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("stage", [0, 1, 2])
@pytest.mark.parametrize("alpha", [None, 0.3])
def test_the_discriminator_s_forward_at_every_size(stage, alpha):
    _, network = players()
    x = by_hand.images(6, (2, 2 << stage, 3 << stage))[0].numpy().astype(float)
    v0, v1, c1, v2, c2, s0, t0, w, s, t, j, k = by_hand.arrays(network)
    enter = [
        lambda x: by_hand.leaky(by_hand.batch_norm(by_hand.conv(2 * x - 1, v0, 0.0, 1, 1), s0, t0)),
        lambda x: by_hand.leaky(by_hand.conv(2 * x - 1, v1, c1, 1, 1)),
        lambda x: by_hand.leaky(by_hand.conv(2 * x - 1, v2, c2, 2, 1)),
    ]
    down = lambda h: by_hand.leaky(by_hand.batch_norm(by_hand.conv(h, w, 0.0, 2, 1), s, t))
    h = enter[stage](x)
    h = down(h) if stage == 1 else h
    if stage and alpha is not None:
        h = 0.7 * enter[stage - 1](halved(x)) + 0.3 * h
    h = down(h) if stage == 2 else h
    found = at(network, stage, alpha if stage else None)(tg.tensor(x.astype(np.float32)))
    np.testing.assert_allclose(
        found.detach().numpy(), by_hand.linear(h.reshape(6, -1), j, k), rtol=1e-4, atol=1e-4
    )


@pytest.mark.parametrize(("stage", "channels"), [(1, (3, 4)), (2, (3, 4)), *((s, (3, 4, 5)) for s in (1, 2, 3))])
def test_at_alpha_0_both_are_exactly_what_they_were_and_at_alpha_1_exactly_the_new_layers(stage, channels):
    generator, discriminator = players((2, 2 << len(channels), 3 << len(channels)), channels)
    z, x = tg.tensor(noise()), by_hand.images(6, (2, 2 << stage, 3 << stage))[0]
    image, judged = (lambda: generator(z).detach().numpy()), (lambda x: discriminator(x).detach().numpy())
    at(generator, stage - 1), at(discriminator, stage - 1)
    old, verdict = doubled(image()), judged(generator.smaller(x, stage - 1))
    at(generator, stage, 0.0), at(discriminator, stage, 0.0)
    assert np.array_equal(image(), old) and np.array_equal(judged(x), verdict)
    at(generator, stage, 1.0), at(discriminator, stage, 1.0)
    new, verdict = image(), judged(x)
    at(generator, stage), at(discriminator, stage)
    assert np.array_equal(image(), new) and np.array_equal(judged(x), verdict)
    assert not np.array_equal(new, old)


def test_fully_grown_they_are_the_networks_of_dcgan():
    shape, channels = (1, 28, 28), (3, 4)
    generator, discriminator = players(shape, channels)
    plain = DCGenerator(shape, channels, 5), DCDiscriminator(shape, channels)
    plain[0].load_state_dict({k: v for k, v in generator.state_dict().items() if not k.startswith("to_image")})
    names = ["from_image.2", "down.0", "judge"]
    learned = [p for name, p in discriminator.named_parameters() if name.startswith(tuple(names))]
    with tg.no_grad():
        for mine, theirs in zip(learned, plain[1].parameters(), strict=True):
            theirs.copy_(mine)
    x = by_hand.images(6, shape)[0]
    assert np.array_equal(generator(tg.tensor(noise())).detach().numpy(), plain[0](tg.tensor(noise())).detach().numpy())
    np.testing.assert_allclose(discriminator(x).detach().numpy(), plain[1](x).detach().numpy(), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("size", SIZES, ids=lambda s: f"{s[0]}x{s[1]}")
def test_they_grow_to_the_data_s_size(size):
    generator, discriminator = players((1, *size), (3, 4))
    assert generator.sizes == [(size[0] >> i, size[1] >> i) for i in (2, 1, 0)]
    for stage, side in enumerate(generator.sizes):
        for alpha in (None, 0.5) if stage else (None,):
            images = at(generator, stage, alpha)(tg.tensor(noise(2)))
            assert images.shape == (2, 1, *side)
            assert at(discriminator, stage, alpha)(images).shape == (2, 1)


def test_a_digit_grows_from_2_by_4_to_8_and_from_4_with_one_layer():
    assert Growing((1, 8, 8), (3, 4)).sizes == [(2, 2), (4, 4), (8, 8)]
    assert Growing((1, 8, 8), (3,)).sizes == [(4, 4), (8, 8)]
    with pytest.raises(ValueError, match="8x8 pixels cannot be halved 4 times; use fewer channels"):
        GrowingGenerator((1, 8, 8), (3, 4, 5, 6), 5)


def test_images_become_smaller_by_means_and_larger_by_repetition():
    x = by_hand.images(2, (2, 8, 12))[0]
    network = Growing((2, 8, 12), (3, 4))
    np.testing.assert_allclose(network.smaller(x, 1).numpy(), halved(x.numpy()), rtol=1e-6)
    np.testing.assert_allclose(network.smaller(x, 0).numpy(), halved(halved(x.numpy())), rtol=1e-6)
    small = network.smaller(x, 0)
    assert np.array_equal(network.larger(small, 2).numpy(), doubled(doubled(small.numpy())))


def test_both_begin_with_dcgan_s_weights():
    """N(0, 0.02), scales of batch norm N(1, 0.02), biases 0."""
    tg.manual_seed(0)
    shape, channels = (1, 28, 28), (16, 32)
    for network in (GrowingGenerator(shape, channels, 100), GrowingDiscriminator(shape, channels)):
        for name, p in network.named_parameters():
            values = p.detach().numpy()
            if name.endswith("bias"):
                assert not values.any()
            elif values.ndim > 1 and values.size > 200:
                assert values.std() == pytest.approx(0.02, rel=0.15) and abs(values.mean()) < 0.004
            elif values.ndim == 1:
                assert abs(values.mean() - 1) < 0.02 and 0.01 < values.std() < 0.03


def test_alpha_is_no_weight_and_follows_from_the_count_so_it_is_not_saved():
    for network in players():
        assert network.alpha.shape == () and network.alpha.item() == 1 and not network.alpha.requires_grad
        assert "alpha" in dict(network.named_buffers()) and "alpha" not in network.state_dict()


def test_layers_that_do_not_count_have_no_gradient():
    """At a stage the exits and entries of the others, and what lies above, are not computed."""
    generator, discriminator = players()
    discriminator.grow(1, False, tg.tensor(1.0))
    generator.grow(1, False, tg.tensor(1.0))
    discriminator(generator(tg.tensor(noise()))).sum().backward()
    idle = lambda network: {name for name, p in network.named_parameters() if p.grad is None}
    assert idle(generator) == {"up.1.weight", "up.1.bias", "to_image.0.weight", "to_image.0.bias"}
    unused = {f"{name}.{kind}" for name in ("from_image.2", "norms.0") for kind in ("weight", "bias")}
    assert idle(discriminator) == unused | {"from_image.0.weight"}


def test_in_a_fade_the_layers_before_and_the_new_ones_learn():
    generator, discriminator = players()
    at(generator, 1, 0.3), at(discriminator, 1, 0.3)
    discriminator(generator(tg.tensor(noise()))).sum().backward()
    idle = lambda network: {name for name, p in network.named_parameters() if p.grad is None}
    exits, entries = ("up.1", "to_image.2"), ("from_image.2",)
    assert idle(generator) == {name for name, _ in generator.named_parameters() if name.startswith(exits)}
    assert idle(discriminator) == {name for name, _ in discriminator.named_parameters() if name.startswith(entries)}
