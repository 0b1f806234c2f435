"""SimGAN: what refiner and D minimise, in NumPy; several refinements for one update of D; what D sees."""

from __future__ import annotations

from functools import partial

import by_hand
import numpy as np
import pytest
from test_games import DISCRIMINATOR, GAMES, GENERATOR

import tinygen as tg
from tinygen import nn, optim
from tinygen.models import RefinerStep
from tinygen.models.refiner import layout
from tinygen.training import evaluate

SIDE = 4


class Drawing(nn.Sequential):
    """A convolution; what it says of itself are numbers that no default has."""

    channels, scale, multiple, reach = 1, 2, 3, 5

    def __init__(self):
        super().__init__(nn.Conv2d(1, 1, 3, padding=1))


class Past(nn.Module):
    """In the place of the history: it exchanges images for others, and remembers what it was given."""

    def __init__(self):
        super().__init__()
        self.seen = []

    def forward(self, images):
        self.seen.append(images.detach().numpy().copy())
        return (0.5 * images).detach()


def toy(name="non-saturating", **options):
    drawing, judge = Drawing(), nn.Sequential(nn.Conv2d(1, 3, 2, 2), nn.LeakyReLU(0.2), nn.Conv2d(3, 1, 1))
    by_hand.stir(drawing, judge)
    return RefinerStep(drawing, judge, GAMES[name], Past(), **{"weight": 0.6} | options)


def refined(weights, x):
    return by_hand.conv(x, *weights, padding=1)


def judged(weights, images):
    w, b, v, c = weights
    return by_hand.conv(by_hand.leaky(by_hand.conv(images, w, b, stride=2)), v, c)


def pair(n=6):
    rng = np.random.default_rng(5)
    return rng.random((n, 1, SIDE, SIDE)).astype(np.float32), 1 + rng.random((n, 1, SIDE, SIDE)).astype(np.float32)


def batch(n=6):
    return tuple(map(tg.tensor, pair(n)))


@pytest.mark.parametrize("name", GAMES)
def test_a_round_follows_the_game_in_numpy(name):
    """R learns against D as it was, and stays near x; D then sees real images and what the history gives."""
    step = toy(name, lr=1e-2, d_lr=2e-2)
    x, y = (one.astype(float) for one in pair())
    r, d = by_hand.arrays(step.refiner), by_hand.arrays(step.discriminator)
    by_hand.leave_gradients(step.refiner, step.discriminator)
    metrics = step(batch())
    r_after, d_after = by_hand.arrays(step.refiner), by_hand.arrays(step.discriminator)

    fooled = lambda weights: GENERATOR[name](judged(d, refined(weights, x)))
    change = lambda weights: abs(refined(weights, x) - x).mean()
    fake = 0.5 * refined(r, x)
    of_d = lambda weights: DISCRIMINATOR[name](judged(weights, y), judged(weights, fake))
    on_r, on_d = by_hand.gradients(step.refiner), by_hand.gradients(step.discriminator)
    assert by_hand.same_slopes(lambda weights: fooled(weights) + 0.6 * change(weights), r, on_r)
    assert by_hand.same_slopes(of_d, d, on_d)
    norm = lambda arrays: np.sqrt(sum((a**2).sum() for a in arrays))
    expected = {"penalty": change(r), "d_loss": of_d(d), "g_loss": fooled(r), "d_grad": norm(on_d),
                "g_grad": norm(on_r)}  # fmt: skip
    read = GAMES[name].judge(tg.tensor(judged(d, y)), tg.tensor(judged(d, fake)))
    expected |= {key: value.item() for key, value in read.items()}
    assert {key: value.item() for key, value in metrics.items()} == pytest.approx(expected, rel=2e-4, abs=1e-6)
    assert all(value.shape == () and not value.requires_grad for value in metrics.values())
    for before, after, gradients, lr in ((d, d_after, on_d, 2e-2), (r, r_after, on_r, 1e-2)):
        for old, new, gradient in zip(before, after, gradients):  # Adam's first step: lr against the gradient
            large = abs(gradient) > 1e-4
            assert (old - new)[large] == pytest.approx(lr * np.sign(gradient[large]), rel=0.02)


@pytest.mark.parametrize("rounds", [1, 3])
def test_so_many_refinements_precede_one_update_of_d_which_sees_the_last(rounds):
    step, told = toy(rounds=rounds, optimizer=partial(optim.SGD), lr=0.1), []
    for name in ("refiner", "discriminator"):
        optimizer = getattr(step, f"{name}_optimizer")

        def watched(name=name, update=optimizer.step):
            told.append((name, by_hand.arrays(step.refiner)))
            update()

        optimizer.step = watched
    first = by_hand.arrays(step.refiner)
    metrics = step(batch())
    assert [name for name, _ in told] == ["refiner"] * rounds + ["discriminator"]
    last = told[rounds - 1][1]  # the weights by which the last images were refined
    assert np.array_equal(first[0], last[0]) == (rounds == 1)
    (seen,) = step.history.seen
    np.testing.assert_allclose(seen, refined(last, pair()[0]), atol=1e-5)
    assert metrics["penalty"].item() == pytest.approx(abs(refined(last, pair()[0]) - pair()[0]).mean(), rel=1e-4)


@pytest.mark.parametrize("still", ["refiner", "discriminator"])
def test_a_player_whose_rate_is_0_is_not_moved_by_the_other_s_update(still):
    step = toy(**({"lr": 0.0, "d_lr": 0.1} if still == "refiner" else {"lr": 0.1, "d_lr": 0.0}))
    before = {name: by_hand.learned(getattr(step, name)) for name in ("refiner", "discriminator")}
    step(batch())
    for name, old in before.items():
        law = by_hand.same if name == still else by_hand.all_moved
        assert law(old, by_hand.learned(getattr(step, name)))


def test_r_learns_through_a_frozen_d():
    step, seen = toy(rounds=2), []
    forward = step.discriminator.forward

    def watched(images):
        frozen = not any(p.requires_grad for p in step.discriminator.parameters())
        seen.append((images.requires_grad, frozen))
        return forward(images)

    step.discriminator.forward = watched
    step(batch())
    assert seen == [(True, True)] * 2 + [(False, False)] * 2


def test_rates_and_the_optimizer_reach_both_players():
    adam = lambda player: [(group["lr"], tuple(group["betas"])) for group in player.param_groups]
    assert adam(toy().refiner_optimizer) == adam(toy().discriminator_optimizer) == [(2e-4, (0.5, 0.999))]
    other = toy(lr=1e-3, d_lr=0.0, optimizer=partial(optim.Adam, betas=(0.1, 0.2)))
    assert adam(other.refiner_optimizer) == [(1e-3, (0.1, 0.2))]
    assert adam(other.discriminator_optimizer) == [(0.0, (0.1, 0.2))]
    assert toy().rounds == 1


def test_the_change_of_drawn_test_images_is_measured():
    step = toy()
    x, _ = pair()
    made = refined(by_hand.arrays(step.refiner), x)
    assert step.measure(batch())["change"].item() == pytest.approx(abs(made - x).mean(), rel=1e-5)
    parts = [tuple(one[part] for one in batch()) for part in (slice(0, 5), slice(5, 6))]
    assert evaluate(step, parts)["change"] == pytest.approx(abs(made - x).mean(), rel=1e-5)


def test_pictures_show_drawn_refined_and_real_images():
    step = toy()
    x, y = pair()
    made = refined(by_hand.arrays(step.refiner), x)
    shown = [one.detach().numpy() for one in step.pictures(batch())["refined"]]
    assert np.array_equal(shown[0], x) and np.array_equal(shown[2], y)
    np.testing.assert_allclose(shown[1], made, atol=1e-5)
    np.testing.assert_allclose(step.apply(tg.tensor(x)).detach().numpy(), made, atol=1e-5)
    assert tuple(step.any_size) == (1, 2, 3, 5, 1)


def test_health_reads_the_game():
    numbers = {"d_loss": GAMES["smoothed"].floor, "d_accuracy": 1.0}
    assert "D has won" in toy("smoothed").health(numbers) and "D has won" not in toy().health(numbers)


def blurred(x):
    """Two means over 5x5 pixels, zeros beyond the border."""
    for _ in range(2):
        padded = np.pad(x, ((0, 0), (0, 0), (2, 2), (2, 2)))
        windows = np.lib.stride_tricks.sliding_window_view(padded, (5, 5), axis=(2, 3))
        x = windows.mean((4, 5))
    return x


def test_the_layout_is_where_light_is_and_not_how_much():
    x, y = (np.abs(one) for one in pair())
    spread = lambda images: blurred(images) / blurred(images).sum((1, 2, 3), keepdims=True)
    expected = abs(spread(x) - spread(y)).sum((1, 2, 3)).mean()
    assert layout(tg.tensor(x), tg.tensor(y)).item() == pytest.approx(expected, rel=1e-4)
    assert layout(tg.tensor(0.3 * x), tg.tensor(x)).item() == pytest.approx(0, abs=1e-4)
    corners = np.zeros((1, 1, 24, 24), np.float32), np.zeros((1, 1, 24, 24), np.float32)
    corners[0][..., 5, 5] = corners[1][..., 18, 18] = 1
    assert layout(*map(tg.tensor, corners)).item() == pytest.approx(2, rel=1e-4)


def test_what_a_refiner_keeps_is_a_function_that_is_handed_in():
    step = toy(kept=lambda refined, x: (refined - 2 * x).square().mean())
    x, r = pair()[0], by_hand.arrays(step.refiner)
    expected = ((refined(r, x) - 2 * x) ** 2).mean()
    assert step(batch())["penalty"].item() == pytest.approx(expected, rel=1e-4)
