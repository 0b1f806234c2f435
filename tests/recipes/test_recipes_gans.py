"""Studies of GANs, on players whose answers are known."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import by_hand
import numpy as np
import pytest

import tinygen as tg
from tinygen import data, metrics, nn
from tinygen.models import GANStep, games
from tinygen.recipes import Given, find
from tinygen.recipes.gans import interpolation
from tinygen.recipes.study import Trained
from tinygen.training import aside

LATENT = 64


def linear_gan(name="digits"):
    """A GAN whose images are its noise, scaled."""
    dataset = data.load(name)
    generator = nn.Sequential(nn.Linear(LATENT, 64), nn.Unflatten(1, (1, 8, 8)))
    with tg.no_grad():
        generator[0].weight[:], generator[0].bias[:] = 0.05 * tg.eye(64), 0.5
    step = GANStep(generator, nn.Linear(2, 1), games.minimax(), latent=LATENT)
    return Trained(step, dataset, SimpleNamespace(), Path("run"))


def test_images_of_a_line_and_of_a_great_circle_between_the_same_ends():
    trained = linear_gan()
    findings = interpolation(trained, pairs=2, steps=5, judged=300)
    picture = findings.pictures["interpolation"]
    assert picture.titles == ["line", "circle"] * 2 and len(picture.batches) == 4
    noise = [(20 * (batch.numpy() - 0.5)).reshape(5, LATENT) for batch in picture.batches]
    share = np.linspace(0, 1, 5)[:, None]
    for line, circle in (noise[:2], noise[2:]):
        a, b = line[0], line[-1]
        assert np.array_equal(circle[0], a) and np.array_equal(circle[-1], b)
        np.testing.assert_allclose(line, (1 - share) * a + share * b, atol=1e-5)
        angle = np.arccos(a @ b / np.linalg.norm(a) / np.linalg.norm(b))
        slerp = (np.sin((1 - share) * angle) * a + np.sin(share * angle) * b) / np.sin(angle)
        np.testing.assert_allclose(circle, slerp, atol=1e-4)
    assert abs(noise[0][0] - noise[2][0]).max() > 0.5  # another pair
    ends = np.concatenate([n[[0, -1]] for n in noise])
    assert ends.std() == pytest.approx(1, abs=0.2)


def test_how_long_and_how_sure_the_middle_of_each_path_is():
    """Of N(0, I) in 64 dimensions the middle of a line has 1/sqrt(2) of the norm, that of a great circle all of it."""
    trained = linear_gan()
    found = interpolation(trained, judged=300).metrics
    assert found["norm_line"] == pytest.approx(0.5**0.5, abs=0.01)
    assert found["norm_circle"] == pytest.approx(1, abs=0.01)
    with aside(trained.step, 0):
        ends = trained.step.noise(600).numpy().reshape(300, 2, LATENT)
    shown = by_hand.linear(ends.mean(1), *by_hand.arrays(trained.step.generator)).reshape(-1, 1, 8, 8)
    assert found["conf95_line"] == pytest.approx((metrics.features(shown)[1].max(1) >= 0.95).mean(), abs=0.004)
    assert set(found) == {f"{what}_{path}" for what in ("norm", "conf95") for path in ("line", "circle")}


def test_images_that_are_no_digits_are_not_judged():
    trained = linear_gan()
    trained = trained._replace(dataset=data.Dataset("mine", *[np.zeros((9, 1, 8, 8), "f4"), None] * 2))
    assert set(interpolation(trained, pairs=1, judged=20).metrics) == {"norm_line", "norm_circle"}


@pytest.mark.parametrize(("stay", "fade"), [(0.25, 0.25), (0.0, 0.6), (2.0, 0.05)])
def test_a_plan_that_never_reaches_the_full_size_is_refused(stay, fade):
    given = Given((1, 8, 8), (), 100)
    with pytest.raises(ValueError, match=f"stay={stay:g} and fade={fade:g}, 2 times, leave no update at the full size"):
        find("progressive-gan").build(given, channels=(4, 6), latent=3, stay=stay, fade=fade)
    find("progressive-gan").build(given, channels=(4, 6), latent=3, stay=0.25, fade=0.2)


@pytest.mark.parametrize(("stay", "fade"), [(-0.1, 0.05), (0.1, 0.0), (0.1, -1.0)])
def test_shares_of_the_updates_are_shares(stay, fade):
    with pytest.raises(ValueError, match=f"stay={stay:g} must be a share of at least 0, fade={fade:g} one above 0"):
        find("progressive-gan").build(Given((1, 8, 8), (), 100), channels=(4, 6), latent=3, stay=stay, fade=fade)
