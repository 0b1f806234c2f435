"""Inpainting: the error of the hole alone, D on the whole image, and where a user's hole is."""

from __future__ import annotations

import by_hand
import numpy as np
import pytest

import tinygen as tg
from tinygen import nn
from tinygen.data import corruptions
from tinygen.models import InpaintingStep, RestorationStep, games
from tinygen.networks.unet import Filling
from tinygen.nn import functional as F

SIDE, HOLE = 6, 2
MASK = np.zeros((1, 1, SIDE, SIDE))
MASK[:, :, 2:4, 2:4] = 1


class Guess(nn.Sequential):
    """One convolution of image and mask."""

    channels, multiple, reach = 2, 4, 9

    def __init__(self):
        super().__init__(nn.Conv2d(2, 1, 3, padding=1))


def made(**options):
    guess, judge = Guess(), nn.Sequential(nn.Flatten(), nn.Linear(SIDE**2, 1))
    by_hand.stir(guess, judge)
    seen = corruptions.concealed(corruptions.square(HOLE))
    return InpaintingStep(Filling(guess), seen, F.mse_loss, judge, games.hinge(), **{"adversarial": 0.3} | options)


def images(n=5):
    return np.random.default_rng(1).random((n, 1, SIDE, SIDE)).astype(np.float32)


def filled(weights, x):
    seen = np.concatenate([(1 - MASK) * x, np.broadcast_to(MASK, x.shape)], 1)
    return (1 - MASK) * x + MASK * by_hand.conv(seen, *weights, padding=1)


def test_the_hole_alone_is_learned_as_a_mean_over_all_pixels_and_d_sees_the_whole_image():
    step = made(lr=1e-2, d_lr=1e-2)
    x = images().astype(float)
    g, d = by_hand.arrays(step.generator), by_hand.arrays(step.discriminator)
    metrics = step((tg.tensor(images()), None))
    d_after = by_hand.arrays(step.discriminator)
    judged = lambda weights, y: by_hand.linear(y.reshape(len(y), -1), *weights)
    of_d = lambda weights: (np.maximum(0, 1 - judged(weights, x)) + np.maximum(0, 1 + judged(weights, filled(g, x))))
    content = lambda weights: (MASK * (filled(weights, x) - x) ** 2).sum() / x.size
    of_g = lambda weights: content(weights) - 0.3 * judged(d_after, filled(weights, x)).mean()
    assert metrics["content"].item() == pytest.approx(content(g), rel=1e-5)
    assert metrics["d_loss"].item() == pytest.approx(of_d(d).mean(), rel=1e-5)
    assert by_hand.same_slopes(lambda weights: of_d(weights).mean(), d, by_hand.gradients(step.discriminator))
    assert by_hand.same_slopes(of_g, g, by_hand.gradients(step.generator))


def test_a_user_s_picture_is_filled_where_training_hides_it_and_the_rest_stays_bit_for_bit():
    step, x = made(), images()
    weights = by_hand.arrays(step.generator)
    answer = step.apply(tg.tensor(x)).detach().numpy()
    np.testing.assert_allclose(answer, np.clip(filled(weights, x), 0, 1), atol=1e-6)
    known = np.broadcast_to(MASK, x.shape) == 0
    assert answer[known].tobytes() == x[known].tobytes() and (answer[~known] != x[~known]).all()
    assert np.array_equal(answer, step.restored(tg.tensor(x)).detach().numpy())


def test_a_picture_is_taken_whole_without_a_mask():
    """A tile would have a hole of its own."""
    step = made()
    limits = step.any_size
    assert (limits.channels, limits.scale, limits.reach) == (1, 1, None)
    assert RestorationStep.any_size.fget(step).reach == 9
