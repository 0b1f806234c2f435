"""Textures of any size (lecture 0, N6): z in R^128 is trained, z in R^(80 x 120 x 128) is sampled."""

import by_hand
import numpy as np
import pytest

import tinygen as tg
from tinygen import data
from tinygen.data import drawn
from tinygen.data.draws import Draws
from tinygen.networks.fully_convolutional import TextureGenerator
from tinygen.recipes import find
from tinygen.recipes.recipe import Given
from tinygen.studies.spectra import radial_spectrum, random_phase, spectrum_error
from tinygen.training import aside


def test_a_code_is_an_image_and_a_map_of_80_by_120_codes_a_large_picture():
    generator = TextureGenerator((1, 64, 64), (1, 1, 1, 1), 128).eval()
    with tg.no_grad():
        assert generator(tg.randn(1, 128, 1, 1)).shape == (1, 1, 64, 64)
        assert generator(tg.randn(1, 128, 80, 120)).shape == (1, 1, 16 * 83, 16 * 123)


def test_the_recipe_draws_the_slides_size_from_weights_of_crops():
    step = find("texture-gan").build(Given((1, 64, 64), (), 10), (2, 2, 2, 2), 4, 2)
    with aside(step, 0):
        assert step.noise(3).shape == (3, 4, 1, 1) and step.noise(1, (512, 768)).shape == (1, 4, 29, 45)
        assert step.sample(1, (512, 768)).shape == (1, 1, 512, 768)


def test_inside_a_picture_nothing_knows_its_place():
    """Moving all codes by one place moves the picture by the stride: exactly, for every depth."""
    for depth in (1, 2, 3):
        generator = TextureGenerator((1, 16, 16), [3] * depth, 4)
        by_hand.stir(generator)
        generator.eval()
        stride, z = 2**depth, np.random.default_rng(depth).standard_normal((1, 4, 13, 13)).astype(np.float32)
        with tg.no_grad():
            one, two = (generator(tg.tensor(c)).numpy() for c in (z[:, :, :-1, :-1], z[:, :, 1:, 1:]))
        first, last = 5 * stride, 9 * stride
        np.testing.assert_allclose(
            one[:, :, first + stride : last, first + stride : last],
            two[:, :, first : last - stride, first : last - stride], atol=1e-6,
        )  # fmt: skip


def test_the_inside_of_a_large_picture_has_the_same_distribution_everywhere():
    """Mean and variance of a pixel over many maps repeat with the stride: no border reaches it, no code is its own."""
    generator = TextureGenerator((1, 8, 8), (4,), 3)
    by_hand.stir(generator)
    generator.eval()
    with tg.no_grad():
        pictures = generator(tg.tensor(np.random.default_rng(0).standard_normal((4000, 3, 8, 8)), dtype=tg.float32))
    inside = pictures.numpy()[:, 0, 10:16, 10:16]
    for moment in (inside.mean(0), inside.std(0)):
        phases = moment.reshape(3, 2, 3, 2)
        assert phases.std((0, 2)).max() < 0.03 * inside.std()


@pytest.mark.parametrize("name", ["gratings", "fibres"])
def test_a_picture_of_four_times_the_area_has_the_spectrum_of_its_crops(name):
    """And not that of another texture, nor of the same one stretched."""
    large = drawn.TEXTURES[name](30, 128, Draws(0))[:, None]
    crops = np.concatenate([large[:, :, :64, 64:], large[:, :, 64:, :64]])
    other = drawn.TEXTURES[{"gratings": "fibres", "fibres": "gratings"}[name]](30, 128, Draws(0))[:, None]
    assert spectrum_error(crops, large) < 0.12
    assert spectrum_error(crops, other) > 0.5 < spectrum_error(crops, large[:, :, ::2, ::2])


def test_a_spectrum_says_nothing_of_shapes():
    """Gaussian textures with the spectrum of fibres are fibres to it, and so are those of bands with hard edges."""
    images = data.load("fibres", limit=30).floats("train")
    bands = np.where(images > 0.5, 0.65, 0.35)
    for real in (images, bands):
        shapeless = random_phase(real, (128, 128), np.random.default_rng(0))
        assert shapeless.shape == (30, 1, 128, 128) and spectrum_error(real, shapeless) < 0.2
    assert np.ptp(random_phase(bands, (64, 64), np.random.default_rng(0))) > 2 * np.ptp(bands)  # two levels no more


def test_gratings_of_period_8_have_their_power_at_an_eighth():
    images = data.load("gratings", limit=40).floats("train")
    found = radial_spectrum(images)
    parts = found.shares * found.power
    assert found.frequencies[parts.argmax()] == pytest.approx(1 / 8, abs=1 / 32)
    assert found.variance == pytest.approx(0.3**2 / 2 + 0.03**2, rel=0.03)
    assert found.power[-8:] == pytest.approx(np.full(8, 0.03**2), rel=0.1)  # the noise, at every other frequency
