"""Restoration: what G and D minimise, in NumPy; when the rate falls; what is measured and shown."""

from __future__ import annotations

import by_hand
import numpy as np
import pytest
from test_games import DISCRIMINATOR, GAMES, GENERATOR

import tinygen as tg
from tinygen import nn
from tinygen.data import corruptions
from tinygen.models import RestorationStep, games
from tinygen.models.restoration import Perceptual, likeness
from tinygen.nn import functional as F
from tinygen.training import evaluate

SIDE = 6


class Drawing(nn.Sequential):
    """Two convolutions; what it says of itself are numbers that no default has."""

    channels, scale, multiple, reach = 1, 3, 2, 7

    def __init__(self):
        super().__init__(nn.Conv2d(1, 3, 3, padding=1), nn.LeakyReLU(0.2), nn.Conv2d(3, 1, 3, padding=1))


class Answering(nn.Module):
    """Returns given images, whatever it sees."""

    def __init__(self, images):
        super().__init__()
        self.images, self.unused = images, nn.Parameter(tg.zeros(1))

    def forward(self, seen):
        return self.images[: len(seen)]


def fade(x):
    return 0.6 * x - 0.1


def players():
    judge = nn.Sequential(nn.Flatten(), nn.Linear(SIDE**2, 5), nn.LeakyReLU(0.2), nn.Linear(5, 1))
    drawing = Drawing()
    by_hand.stir(drawing, judge)
    return drawing, judge


def alone(content=F.mse_loss, **options):
    return RestorationStep(players()[0], fade, content, **options)


def game(name="non-saturating", **options):
    drawing, judge = players()
    return RestorationStep(drawing, fade, F.mse_loss, judge, GAMES[name], **{"adversarial": 0.3} | options)


def drawn(weights, seen):
    w, b, v, c = weights
    return by_hand.conv(by_hand.leaky(by_hand.conv(seen, w, b, padding=1)), v, c, padding=1)


def judged(weights, x):
    w, b, v, c = weights
    return by_hand.linear(by_hand.leaky(by_hand.linear(x.reshape(len(x), -1), w, b)), v, c)


def images(n=7, seed=0):
    return np.random.default_rng(seed).random((n, 1, SIDE, SIDE)).astype(np.float32)


def batch(n=7, seed=0):
    return tg.tensor(images(n, seed)), None


# ---------------------------------------------------------------------------------- G alone


@pytest.mark.parametrize("content", [F.mse_loss, F.l1_loss], ids=["L2", "L1"])
def test_g_alone_minimises_the_content_between_what_it_makes_of_the_degraded_and_the_truth(content):
    step = alone(content, lr=1e-3)
    x = images().astype(float)
    by_hand.leave_gradients(step.generator)
    before = by_hand.arrays(step.generator)
    metrics = step(batch())
    error = (lambda d: (d**2).mean()) if content is F.mse_loss else (lambda d: abs(d).mean())
    objective = lambda weights: error(drawn(weights, fade(x)) - x)
    assert list(metrics) == ["content"] and metrics["content"].shape == () and not metrics["content"].requires_grad
    assert metrics["content"].item() == pytest.approx(objective(before), rel=1e-5)
    found = by_hand.gradients(step.generator)
    assert by_hand.same_slopes(objective, before, found)
    for old, new, gradient in zip(before, by_hand.arrays(step.generator), found):
        large = abs(gradient) > 1e-4
        assert (old - new)[large] == pytest.approx(1e-3 * np.sign(gradient[large]), rel=0.02)


def test_the_content_sees_what_was_restored_first_and_the_truth_second():
    seen = []
    step = alone(lambda restored, x: seen.append((restored, x)) or F.mse_loss(restored, x))
    before = by_hand.arrays(step.generator)
    step(batch())
    ((restored, x),) = seen
    np.testing.assert_allclose(restored.detach().numpy(), drawn(before, fade(images())), atol=1e-5)
    assert np.array_equal(x.numpy(), images()) and restored.requires_grad


def test_the_rate_of_g_falls_to_0_in_the_last_third_and_that_of_d_stays():
    step, rates = game(steps=6, lr=1e-2, d_lr=3e-2), []
    for _ in range(6):
        rates.append(step.optimizer.param_groups[0]["lr"])
        step(batch())
        assert step.discriminator_optimizer.param_groups[0]["lr"] == 3e-2
    assert rates == pytest.approx([1e-2] * 5 + [0.5e-2])
    for _ in range(2):  # beyond the plan nothing moves
        assert step.optimizer.param_groups[0]["lr"] == 0
        step(batch())


def test_without_a_count_of_updates_the_rate_stays():
    step = alone(lr=1e-2)
    assert step.schedule is None
    step(batch())
    assert step.optimizer.param_groups[0]["lr"] == 1e-2


# ---------------------------------------------------------------------------------- with D


@pytest.mark.parametrize("name", GAMES)
def test_a_round_follows_the_game_in_numpy(name):
    """D is judged before its update, on x and what G made; G against the D just updated, beside the content."""
    step = game(name, lr=1e-2, d_lr=2e-2)
    x = images().astype(float)
    g, d = by_hand.arrays(step.generator), by_hand.arrays(step.discriminator)
    by_hand.leave_gradients(step.generator, step.discriminator)
    metrics = step(batch())
    g_after, d_after = by_hand.arrays(step.generator), by_hand.arrays(step.discriminator)

    fake = drawn(g, fade(x))
    of_d = lambda weights: DISCRIMINATOR[name](judged(weights, x), judged(weights, fake))
    content = lambda weights: ((drawn(weights, fade(x)) - x) ** 2).mean()
    fooled = lambda weights: GENERATOR[name](judged(d_after, drawn(weights, fade(x))))
    on_g, on_d = by_hand.gradients(step.generator), by_hand.gradients(step.discriminator)
    assert by_hand.same_slopes(of_d, d, on_d)
    assert by_hand.same_slopes(lambda weights: content(weights) + 0.3 * fooled(weights), g, on_g)
    norm = lambda arrays: np.sqrt(sum((a**2).sum() for a in arrays))
    expected = {"content": content(g), "d_loss": of_d(d), "g_loss": fooled(g), "d_grad": norm(on_d),
                "g_grad": norm(on_g)}  # fmt: skip
    read = GAMES[name].judge(tg.tensor(judged(d, x)), tg.tensor(judged(d, fake)))
    expected |= {key: value.item() for key, value in read.items()}
    assert {key: value.item() for key, value in metrics.items()} == pytest.approx(expected, rel=2e-4, abs=1e-6)
    assert all(value.shape == () and not value.requires_grad for value in metrics.values())
    for before, after, gradients, lr in ((d, d_after, on_d, 2e-2), (g, g_after, on_g, 1e-2)):
        for old, new, gradient in zip(before, after, gradients):  # Adam's first step: lr against the gradient
            large = abs(gradient) > 1e-4
            assert (old - new)[large] == pytest.approx(lr * np.sign(gradient[large]), rel=0.02)


@pytest.mark.parametrize("still", ["generator", "discriminator"])
def test_a_player_whose_rate_is_0_is_not_moved_by_the_other_s_update(still):
    step = game(**({"lr": 0.0, "d_lr": 0.1} if still == "generator" else {"lr": 0.1, "d_lr": 0.0}))
    before = {name: by_hand.learned(getattr(step, name)) for name in ("generator", "discriminator")}
    step(batch())
    for name, old in before.items():
        law = by_hand.same if name == still else by_hand.all_moved
        assert law(old, by_hand.learned(getattr(step, name)))


def test_d_sees_x_and_fakes_cut_from_g_and_frozen_the_same_fakes():
    step, seen = game(), []
    forward = step.discriminator.forward

    def watched(x):
        frozen = not any(p.requires_grad for p in step.discriminator.parameters())
        seen.append((x.requires_grad, frozen, x.detach().numpy().copy()))
        return forward(x)

    step.discriminator.forward = watched
    step(batch())
    assert [flags[:2] for flags in seen] == [(False, False), (False, False), (True, True)]
    assert np.array_equal(seen[0][2], images()) and np.array_equal(seen[1][2], seen[2][2])
    assert not np.array_equal(seen[0][2], seen[1][2])


def test_rates_and_betas_reach_both_players():
    adam = lambda player: [(group["lr"], tuple(group["betas"])) for group in player.param_groups]
    plain, other = game(), game(lr=2e-3, d_lr=0.0, betas=(0.5, 0.9))
    assert adam(plain.optimizer) == adam(plain.discriminator_optimizer) == [(1e-3, (0.9, 0.999))]
    assert adam(other.optimizer) == [(2e-3, (0.5, 0.9))]
    assert adam(other.discriminator_optimizer) == [(0.0, (0.5, 0.9))]
    assert "discriminator_optimizer" not in alone().parts()


def test_the_game_has_its_usual_weight_of_a_thousandth():
    drawing, judge = players()
    assert RestorationStep(drawing, fade, F.mse_loss, judge, games.hinge()).adversarial == 1e-3


# ---------------------------------------------------------------------------------- a perceptual content


def features(x):
    return tg.cat([x[:, :, 1:] - x[:, :, :-1], 2 * x[:, :, 1:]], 1)


def test_the_perceptual_content_adds_the_squared_difference_of_features():
    rng = np.random.default_rng(0)
    made, x = rng.random((4, 1, 5, 5)), rng.random((4, 1, 5, 5))
    edges = lambda a: np.concatenate([a[:, :, 1:] - a[:, :, :-1], 2 * a[:, :, 1:]], 1)
    objective = lambda w: ((w[0] - x) ** 2).mean() + 0.7 * ((edges(w[0]) - edges(x)) ** 2).mean()
    restored, truth = tg.tensor(made, requires_grad=True), tg.tensor(x, requires_grad=True)
    loss = Perceptual(features, 0.7)(restored, truth)
    assert loss.item() == pytest.approx(objective([made]), rel=1e-9)
    (slope,) = tg.grad(loss, [restored])
    assert by_hand.same_slopes(objective, [made], [slope.numpy()])


def test_what_is_wanted_of_the_features_is_not_recorded():
    seen = []
    watched = lambda x: seen.append(tg.is_grad_enabled()) or features(x)
    x = tg.tensor(images(), requires_grad=True)
    Perceptual(watched, 1.0)(x, tg.tensor(images(seed=1)))
    assert sorted(seen) == [False, True]


def test_the_network_of_a_perceptual_content_is_a_part_of_the_step():
    network = nn.Conv2d(1, 1, 3)
    step = alone(Perceptual(network, 1.0))
    assert step.networks()["content"].features is network


# ---------------------------------------------------------------------------------- what is measured


def decibel(made, x):
    return np.mean([-10 * np.log10(((np.clip(a, 0, 1) - b) ** 2).mean()) for a, b in zip(made, x)])


def known():
    """Images of very unlike errors, some values beyond [0, 1]; a step that makes them; the truth."""
    rng = np.random.default_rng(3)
    x = rng.random((5, 1, SIDE, SIDE)).astype(np.float32)
    sizes = np.array([0.01, 0.05, 0.2, 0.5, 1.5], np.float32).reshape(-1, 1, 1, 1)
    made = x + sizes * rng.normal(size=x.shape).astype(np.float32)
    assert made.min() < 0 and made.max() > 1
    step = RestorationStep(players()[0], fade)
    step.generator = Answering(tg.tensor(made))
    return made, step, x


def test_psnr_is_the_mean_over_images_of_each_clamped_image_s():
    made, step, x = known()
    found = step.measure((tg.tensor(x), None))
    clamped = np.clip(made.astype(float), 0, 1)
    assert found["psnr"].item() == pytest.approx(decibel(made, x), rel=1e-5)
    assert found["mse"].item() == pytest.approx(((clamped - x) ** 2).mean(), rel=1e-5)
    assert found["l1"].item() == pytest.approx(abs(clamped - x).mean(), rel=1e-5)
    of_all = -10 * np.log10(((clamped - x) ** 2).mean())
    assert abs(found["psnr"].item() - of_all) > 1


def test_figures_over_unequal_batches_are_those_of_all_images():
    made, step, x = known()
    step.generator, step.degrade = nn.Identity(), lambda y: tg.tensor(made[[find(x, one) for one in y.numpy()]])
    batches = [(tg.tensor(x[:3]), None), (tg.tensor(x[3:]), None)]
    found = evaluate(step, batches)
    assert found["psnr"] == pytest.approx(decibel(made, x), rel=1e-5)
    assert found["mse"] == pytest.approx(((np.clip(made, 0, 1) - x) ** 2).mean(), rel=1e-5)


def find(x, image):
    return int(np.flatnonzero((x == image).all((1, 2, 3)))[0])


def test_equal_images_have_100_decibel():
    x = tg.tensor(images())
    found = likeness(x, x)
    assert found["psnr"].item() == pytest.approx(100.0, abs=1e-3)
    assert found["mse"].item() == found["l1"].item() == 0
    assert likeness(x, x + 1e-3)["psnr"].item() == pytest.approx(60, abs=0.05)


def test_the_summary_is_what_all_figures_say():
    first = lambda step, batches: {"a": float(len(batches)), "b": 1.0}
    second = lambda step, batches: {"c": step.adversarial}
    step = game(figures=(first, second))
    assert step.summary([1, 2, 3]) == {"a": 3.0, "b": 1.0, "c": 0.3}
    assert alone().summary([1]) == {}


def test_apply_takes_what_is_degraded_already_and_answers_in_0_to_1():
    step = alone()
    seen = 3 * images()
    weights = by_hand.arrays(step.generator)
    free = drawn(weights, seen)
    assert free.min() < 0 and free.max() > 1
    np.testing.assert_allclose(step.apply(tg.tensor(seen)).detach().numpy(), np.clip(free, 0, 1), atol=1e-5)
    np.testing.assert_allclose(
        step.restored(tg.tensor(seen)).detach().numpy(), np.clip(drawn(weights, fade(seen)), 0, 1), atol=1e-5
    )
    assert tuple(step.any_size) == (1, 3, 2, 7, 1)


def test_pictures_show_what_g_sees_at_the_size_and_in_the_channels_of_the_truth():
    x = tg.rand(3, 3, 4, 4)
    step = RestorationStep(Answering(3 * x - 1), corruptions.downscaled(2))
    seen, restored, truth = step.pictures((x, None))["restored"]
    assert np.array_equal(truth.numpy(), x.numpy())
    np.testing.assert_allclose(restored.numpy(), np.clip(3 * x.numpy() - 1, 0, 1), atol=1e-6)
    small = x.numpy().reshape(3, 3, 2, 2, 2, 2).mean((3, 5))
    np.testing.assert_allclose(seen.numpy(), small.repeat(2, 2).repeat(2, 3), atol=1e-6)

    step = RestorationStep(Answering(x), corruptions.brightness())
    seen = step.pictures((x, None))["restored"][0]
    np.testing.assert_allclose(seen.numpy(), np.repeat(x.numpy().max(1, keepdims=True), 3, 1))

    step = RestorationStep(Answering(x), corruptions.concealed(corruptions.lower_half()))
    seen = step.pictures((x, None))["restored"][0].numpy()
    assert seen.shape == (3, 3, 4, 4) and np.array_equal(seen[:, :, :2], x.numpy()[:, :, :2])
    assert not seen[:, :, 2:].any()


def test_a_network_alone_says_nothing_of_a_game():
    numbers = {"d_loss": 1.0, "d_accuracy": 1.0, "d_grad": 1.0, "g_grad": 1.0}
    assert alone().health(numbers) is None
    assert "balanced" in game().health(numbers | {"d_accuracy": 0.8})
    smoothed = game("smoothed non-saturating")  # whose loss has a floor
    assert "D has won" in smoothed.health(numbers | {"d_loss": smoothed.game.floor + 0.01})
    assert "D has won" not in game().health(numbers | {"d_loss": smoothed.game.floor + 0.01})
