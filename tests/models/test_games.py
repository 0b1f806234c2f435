"""The games against their formulas, and figures of a judge whose answers are known."""

from __future__ import annotations

import math

import by_hand
import numpy as np
import pytest

import tinygen as tg
from tinygen.models import games

REAL, FAKE = np.float32([[-1.7], [0.3], [2.5]]), np.float32([[-3.0], [0.8], [1.4], [-0.2]])
GAMES = {
    "minimax": games.minimax(),
    "smoothed": games.minimax(0.1),
    "non-saturating": games.non_saturating(),
    "smoothed non-saturating": games.non_saturating(0.25),
    "least squares": games.least_squares(),
    "wasserstein": games.wasserstein(),
    "hinge": games.hinge(),
}


def cross_entropy(real, fake, label):
    p, q = by_hand.sigmoid(real), by_hand.sigmoid(fake)
    return -(label * np.log(p) + (1 - label) * np.log(1 - p)).mean() - np.log(1 - q).mean()


DISCRIMINATOR = {
    "minimax": lambda a, b: cross_entropy(a, b, 1.0),
    "smoothed": lambda a, b: cross_entropy(a, b, 0.9),
    "non-saturating": lambda a, b: cross_entropy(a, b, 1.0),
    "smoothed non-saturating": lambda a, b: cross_entropy(a, b, 0.75),
    "least squares": lambda a, b: ((a - 1) ** 2).mean() + (b**2).mean(),
    "wasserstein": lambda a, b: b.mean() - a.mean(),
    "hinge": lambda a, b: np.maximum(0, 1 - a).mean() + np.maximum(0, 1 + b).mean(),
}
GENERATOR = {
    "minimax": lambda b: np.log(1 - by_hand.sigmoid(b)).mean(),
    "smoothed": lambda b: np.log(1 - by_hand.sigmoid(b)).mean(),
    "non-saturating": lambda b: -np.log(by_hand.sigmoid(b)).mean(),
    "smoothed non-saturating": lambda b: -np.log(by_hand.sigmoid(b)).mean(),
    "least squares": lambda b: ((b - 1) ** 2).mean(),
    "wasserstein": lambda b: -b.mean(),
    "hinge": lambda b: -b.mean(),
}


@pytest.mark.parametrize("name", GAMES)
def test_losses_are_those_of_the_paper(name):
    real, fake = tg.tensor(REAL), tg.tensor(FAKE)
    a, b = REAL.astype(float), FAKE.astype(float)
    assert GAMES[name].discriminator(real, fake).item() == pytest.approx(DISCRIMINATOR[name](a, b), rel=1e-5)
    assert GAMES[name].generator(fake).item() == pytest.approx(GENERATOR[name](b), rel=1e-5)
    assert GAMES[name].discriminator(real, fake).shape == GAMES[name].generator(fake).shape == ()


@pytest.mark.parametrize("name", GAMES)
def test_d_wants_real_numbers_up_and_fake_ones_down_and_g_wants_fake_ones_up(name):
    """At numbers within every margin: no loss pushes either player the other's way."""
    real, fake = (tg.tensor(0.6 * np.float32([[-0.9], [0.2], [0.7]]), requires_grad=True) for _ in range(2))
    on_real, on_fake = tg.grad(GAMES[name].discriminator(real, fake), [real, fake])
    (pleased,) = tg.grad(GAMES[name].generator(fake), [fake])
    assert (on_real.numpy() < 0).all()
    assert (pleased.numpy() < 0).all()
    assert (on_fake.numpy()[1:] > 0).all()
    assert on_fake.numpy()[0] > 0 or name == "least squares"  # whose label is 0: what lies below goes up


def test_only_real_labels_are_smoothed():
    real, fake = tg.tensor(REAL), tg.tensor(FAKE)
    for make in (games.minimax, games.non_saturating):
        plain, smooth = make(), make(0.1)
        nothing = tg.tensor(np.float32([[0.0]]))  # a logit of 0 costs log 2 whatever its label
        assert smooth.discriminator(nothing, fake).item() == pytest.approx(plain.discriminator(nothing, fake).item())
        assert smooth.discriminator(real, nothing).item() != pytest.approx(plain.discriminator(real, nothing).item())
        assert smooth.generator(fake).item() == plain.generator(fake).item()


def test_labels_smoothed_on_both_sides():
    """Fake labels are s instead of 0; G's loss and D's reading stay."""
    a, b = REAL.astype(float), FAKE.astype(float)
    p, q = by_hand.sigmoid(a), by_hand.sigmoid(b)
    expected = -(0.8 * np.log(p) + 0.2 * np.log(1 - p)).mean() - (0.2 * np.log(q) + 0.8 * np.log(1 - q)).mean()
    game = games.two_sided(0.2)
    assert game.discriminator(tg.tensor(REAL), tg.tensor(FAKE)).item() == pytest.approx(expected, rel=1e-5)
    assert game.generator(tg.tensor(FAKE)).item() == pytest.approx(GENERATOR["non-saturating"](b), rel=1e-5)
    sure = tg.full((1, 1), math.log(0.8 / 0.2))  # D says just what the labels are
    assert game.discriminator(sure, -sure).item() == pytest.approx(game.floor, rel=1e-5)
    assert games.two_sided().floor == pytest.approx(-2 * (0.1 * math.log(0.1) + 0.9 * math.log(0.9)))
    for smoothing in (1.5, -0.1, math.nan):
        for make in (games.minimax, games.non_saturating, games.two_sided):
            with pytest.raises(ValueError, match=f"smoothing must lie in .*, it is {smoothing}"):
                make(smoothing)


def test_flipped_labels_are_a_share_of_both_sides_and_smoothing_in_the_mean():
    tg.manual_seed(0)
    real, fake = tg.full((40_000, 1), 2.0), tg.full((40_000, 1), -1.0)
    game = games.flipped(games.non_saturating(), 0.05)
    found = game.discriminator(real, fake).item()
    s = by_hand.softplus
    assert found == pytest.approx(0.95 * (s(-2.0) + s(-1.0)) + 0.05 * (s(2.0) + s(1.0)), rel=0.01)
    assert found == pytest.approx(games.two_sided(0.05).discriminator(real, fake).item(), rel=0.01)
    assert found != game.discriminator(real, fake).item()  # others at the next update
    for share, swapped in ((0.0, False), (1.0, True)):
        x, y = tg.tensor(REAL), tg.tensor(FAKE[:3])
        known = DISCRIMINATOR["non-saturating"](*((FAKE[:3], REAL) if swapped else (REAL, FAKE[:3])))
        assert games.flipped(games.non_saturating(), share).discriminator(x, y).item() == pytest.approx(known, rel=1e-5)
    assert game.generator(y).item() == pytest.approx(GENERATOR["non-saturating"](FAKE[:3]), rel=1e-5)
    sure = games.flipped(games.least_squares()).discriminator(tg.ones(40_000), tg.zeros(40_000)).item()
    assert sure == pytest.approx(2 * 0.05, rel=0.1)  # the share where none is given: each wrong pair costs 2
    for share in (2, -0.5, math.nan):
        with pytest.raises(ValueError, match=rf"a share of flipped labels lies in \[0, 1\], it is {share}"):
            games.flipped(game, share)


LOW = {"least squares": 0.1}  # a number that says fake, and one that says real
HIGH = {"least squares": 0.9}


@pytest.mark.parametrize("name", [name for name in GAMES if name != "wasserstein"])
@pytest.mark.parametrize(
    ("judge", "accuracy"), [("always right", 1.0), ("always fooled", 0.0), ("calls all real", 0.5), ("mixed", 0.625)]
)
def test_the_accuracy_of_a_judge_whose_answers_are_known(name, judge, accuracy):
    low, high = LOW.get(name, -0.2), HIGH.get(name, 0.2)
    on_real, on_fake = {
        "always right": ([high] * 4, [low] * 4),
        "always fooled": ([low] * 4, [high] * 4),
        "calls all real": ([high] * 4, [high] * 4),
        "mixed": ([high] * 4, [low, high, high, high]),
    }[judge]
    found = GAMES[name].judge(tg.tensor(np.float32(on_real)), tg.tensor(np.float32(on_fake)))
    assert set(found) == {"d_real", "d_fake", "d_accuracy"}
    assert found["d_accuracy"].item() == pytest.approx(accuracy)


@pytest.mark.parametrize("name", [name for name in GAMES if name != "wasserstein"])
def test_accuracy_weighs_both_sides_alike_whatever_their_numbers(name):
    low, high = LOW.get(name, -0.2), HIGH.get(name, 0.2)
    found = GAMES[name].judge(tg.tensor(np.float32([high])), tg.tensor(np.float32([high, high, low])))
    assert found["d_accuracy"].item() == pytest.approx(0.5 * (1 + 1 / 3))


def test_what_d_says_of_real_and_fake():
    real, fake = tg.tensor(REAL), tg.tensor(FAKE)
    for name in ("minimax", "smoothed", "non-saturating", "smoothed non-saturating"):
        found = GAMES[name].judge(real, fake)
        assert found["d_real"].item() == pytest.approx(by_hand.sigmoid(REAL).mean(), rel=1e-5)
        assert found["d_fake"].item() == pytest.approx(by_hand.sigmoid(FAKE).mean(), rel=1e-5)
    for name in ("least squares", "hinge"):
        found = GAMES[name].judge(real, fake)
        assert found["d_real"].item() == pytest.approx(REAL.mean()) and found["d_fake"].item() == pytest.approx(
            FAKE.mean()
        )
    found = GAMES["wasserstein"].judge(real, fake)
    assert list(found) == ["critic_estimate"]
    assert found["critic_estimate"].item() == pytest.approx(REAL.mean() - FAKE.mean(), rel=1e-5)


def test_the_floor_is_the_least_that_d_can_lose():
    assert GAMES["minimax"].floor == GAMES["least squares"].floor == GAMES["hinge"].floor == 0
    assert GAMES["wasserstein"].floor == -math.inf
    for name, p in (("smoothed", 0.1), ("smoothed non-saturating", 0.25)):
        best = tg.tensor([math.log((1 - p) / p)])  # sigmoid of it is the label 1 - p
        least = GAMES[name].discriminator(best, tg.tensor([-50.0])).item()
        assert GAMES[name].floor == pytest.approx(least, rel=1e-5)
        assert GAMES[name].floor == pytest.approx(-p * math.log(p) - (1 - p) * math.log(1 - p))
    assert games.minimax(1.0).floor == 0
