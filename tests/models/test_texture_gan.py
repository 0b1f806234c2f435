"""The Step of textures: maps of noise in training and sampling, sizes, and the game that stays GANStep's."""

import by_hand
import numpy as np
import pytest

import tinygen as tg
from tinygen import free_memory
from tinygen.models import GANStep, TextureGANStep, games
from tinygen.models.critics import gradient_penalty
from tinygen.networks.fully_convolutional import TextureGenerator
from tinygen.networks.patchgan import PatchGAN
from tinygen.training import aside

SHAPE = (1, 13, 16)


def made(kind=TextureGANStep, shape=SHAPE, penalty=None, **options):
    tg.manual_seed(0)
    generator = TextureGenerator(shape, (3, 5), 4)
    by_hand.stir(generator)
    return kind(generator, PatchGAN(shape, 2, 1), games.non_saturating(), penalty, latent=4, lr=1e-3, **options)


def test_it_is_trained_on_single_codes_and_its_images_are_of_the_datas_size():
    step, seen = made(), []
    forward = step.generator.forward
    step.generator.forward = lambda z, *size: (seen.append(z.shape), forward(z, *size))[1]
    shown = []
    judge = step.discriminator.forward
    step.discriminator.forward = lambda x: (shown.append(x.shape), judge(x))[1]
    step(by_hand.images(6, SHAPE))
    assert seen == [(6, 4, 1, 1)] and set(shown) == {(6, *SHAPE)}


def test_an_update_is_that_of_the_plain_gan_with_the_same_noise():
    """The game is inherited: maps of 1x1 are noise of another shape, and nothing else differs."""
    batch = by_hand.images(6, SHAPE)
    ours, plain = made(), made(GANStep)
    plain.noise = lambda n: tg.randn(n, 4).reshape(n, 4, 1, 1)
    for step in (ours, plain):
        tg.manual_seed(3)
        step.found = {name: value.item() for name, value in step(batch).items()}
    assert ours.found == plain.found
    assert all((a == b).all() for a, b in zip(by_hand.arrays(ours.generator), by_hand.arrays(plain.generator)))


@pytest.mark.parametrize("size", [(16, 16), (13, 40), (1, 1), (33, 18), (64, 5)])
def test_samples_have_the_size_that_is_asked_for(size):
    step = made()
    with aside(step, 0):
        found = step.sample(3, size).numpy()
        assert found.shape == (3, 1, *size) and 0 <= found.min() <= found.max() <= 1
        assert step.sample(2).shape == (2, *SHAPE)
    assert len({x.tobytes() for x in found}) == 3 or size == (1, 1)


def test_a_larger_sample_is_made_of_a_map_of_noise():
    step = made()
    with aside(step, 5):
        found = step.sample(2, (21, 30))
    with aside(step, 5):
        again = [step.generator(tg.randn(1, 4, 3, 5)).numpy()[:, :, :21, :30] for _ in range(2)]
    np.testing.assert_array_equal(found.numpy(), np.concatenate(again))
    assert np.ptp(found.numpy()[0]) > 0.05


def test_a_size_that_does_not_fit_into_memory_is_refused_before_anything_is_computed(monkeypatch):
    step = made()
    needed = step.generator.memory((100, 200), 3)
    monkeypatch.setattr(step, "noise", lambda *given: pytest.fail("computed"))
    monkeypatch.setattr(free_memory, "available", lambda: needed - 1)
    with pytest.raises(free_memory.TooLarge, match=r"samples of 100x200 pixels: .* give a smaller size") as refused:
        step.sample(3, (100, 200))
    assert "\n" not in str(refused.value)
    monkeypatch.undo()
    monkeypatch.setattr(free_memory, "available", lambda: needed + 1)
    with aside(step, 0):
        step.sample(3, (100, 200))


def test_the_memory_is_that_of_the_largest_layer():
    """By hand: 22 + 5 places a side, 5 planes; then 52 of 3; then 100 of 1: 8 x 52 x 52 x 3 and 4 x 102 x 102 bytes."""
    generator = TextureGenerator((1, 16, 16), (3, 5), 4)
    assert generator.cells((100, 100)) == (22, 22)
    layers = 4 * (2 * 5 * 27**2 + 3 * 52**2), 4 * (2 * 3 * 52**2 + 102**2)
    assert generator.memory((100, 100)) == max(layers) + 4 * 100 * 100
    assert generator.memory((100, 100), 4) - generator.memory((100, 100)) == 3 * 4 * 100 * 100


def test_the_summary_holds_what_the_figures_say_and_the_slopes_of_a_penalty():
    batches = [by_hand.images(4, SHAPE), by_hand.images(3, SHAPE, seed=1)]
    figure = lambda step, seen: {"seen": float(sum(len(x) for x, *_ in seen))}
    step = made(figures=(figure, lambda step, seen: {"latent": step.latent}))
    assert step.summary(batches) == {"seen": 7.0, "latent": 4}
    step = made(penalty=gradient_penalty(1.0), figures=(figure,))
    step.eval()
    assert set(step.summary(batches)) == {"seen", "gradient_norm", "gradient_norm_sd"}
    assert made().summary(batches) == {}


def test_averaged_weights_draw_any_size():
    step = made(average=0.9)
    for i in range(3):
        step(by_hand.images(6, SHAPE, seed=i))
    step.eval()
    with step.averaged(), tg.no_grad():
        assert step.sample(1, (30, 20)).shape == (1, 1, 30, 20)


def test_both_rates_fall_to_0_where_the_steps_are_known():
    """lr for two thirds of the steps, then in a line."""
    step = made(steps=6, d_lr=2e-3)
    seen = []
    for i in range(7):
        optimizers = (step.generator_optimizer, step.discriminator_optimizer)
        seen.append([group["lr"] for o in optimizers for group in o.param_groups])
        step(by_hand.images(4, SHAPE, seed=i))
    shares = np.array([1, 1, 1, 1, 1, 0.5, 0])[:, None]
    np.testing.assert_allclose(seen, shares * [1e-3, 2e-3], atol=1e-12)
    constant = made()
    constant(by_hand.images(4, SHAPE))
    assert constant.generator_schedule is None and constant.generator_optimizer.param_groups[0]["lr"] == 1e-3
