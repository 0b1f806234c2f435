"""CycleGAN: what the four networks minimise, in NumPy; which fakes and images each D sees; what is measured."""

from __future__ import annotations

from functools import partial

import by_hand
import numpy as np
import pytest
from test_games import DISCRIMINATOR, GAMES, GENERATOR

import tinygen as tg
from tinygen import nn, optim
from tinygen.models import CycleGANStep
from tinygen.training import evaluate

SIDE = 4
PLAYERS = ("forth", "back", "discriminator_a", "discriminator_b")


class Translator(nn.Sequential):
    """A convolution; what it says of itself are numbers that no default has."""

    channels, scale, multiple, reach, least = 1, 2, 3, 5, 7

    def __init__(self):
        super().__init__(nn.Conv2d(1, 1, 3, padding=1))


class Pool(nn.Module):
    """Exchanges fakes for others, and remembers what it was given."""

    def __init__(self, factor):
        super().__init__()
        self.factor, self.seen = factor, []

    def forward(self, images):
        self.seen.append(images)
        return self.factor * images


def toy(name="least squares", **options):
    judge = lambda: nn.Sequential(nn.Conv2d(1, 3, 2, 2), nn.LeakyReLU(0.2), nn.Conv2d(3, 1, 1))
    networks = Translator(), Translator(), judge(), judge()
    by_hand.stir(*networks)
    weights = {"cycle": 0.7, "identity": 0.3}
    return CycleGANStep(*networks, GAMES[name], Pool(0.5), Pool(-0.4), **weights | options)


def through(weights, images):
    return by_hand.conv(images, *weights, padding=1)


def judged(weights, images):
    w, b, v, c = weights
    return by_hand.conv(by_hand.leaky(by_hand.conv(images, w, b, stride=2)), v, c)


def pair(n=5):
    rng = np.random.default_rng(4)
    return rng.random((n, 1, SIDE, SIDE)).astype(np.float32), 1 + rng.random((n, 1, SIDE, SIDE)).astype(np.float32)


def batch(n=5):
    return tuple(map(tg.tensor, pair(n)))


def l1(a, b):
    return abs(a - b).mean()


# ---------------------------------------------------------------------------------- the update


@pytest.mark.parametrize("identity", [0.0, 0.3])
@pytest.mark.parametrize("name", GAMES)
def test_a_round_follows_both_games_in_numpy(name, identity):
    """The translators play against both D as they were; each D then sees the images of its own kind and a pool."""
    step = toy(name, identity=identity, lr=1e-2)
    x, y = (one.astype(float) for one in pair())
    before = {player: by_hand.arrays(getattr(step, player)) for player in PLAYERS}
    by_hand.leave_gradients(*(getattr(step, player) for player in PLAYERS))
    metrics = step(batch())
    after = {player: by_hand.arrays(getattr(step, player)) for player in PLAYERS}
    found = {player: by_hand.gradients(getattr(step, player)) for player in PLAYERS}
    of_a, of_b = before["discriminator_a"], before["discriminator_b"]

    def fooled(forth, back):
        return GENERATOR[name](judged(of_b, through(forth, x))) + GENERATOR[name](judged(of_a, through(back, y)))

    def around(forth, back):
        return l1(through(back, through(forth, x)), x) + l1(through(forth, through(back, y)), y)

    def of_translators(forth, back):
        same = l1(through(forth, y), y) + l1(through(back, x), x)
        return fooled(forth, back) + 0.7 * around(forth, back) + identity * same

    forth, back = before["forth"], before["back"]
    assert by_hand.same_slopes(lambda weights: of_translators(weights, back), forth, found["forth"])
    assert by_hand.same_slopes(lambda weights: of_translators(forth, weights), back, found["back"])
    fake_a, fake_b = 0.5 * through(back, y), -0.4 * through(forth, x)  # as the pools exchange them
    on_a = lambda weights: DISCRIMINATOR[name](judged(weights, x), judged(weights, fake_a))
    on_b = lambda weights: DISCRIMINATOR[name](judged(weights, y), judged(weights, fake_b))
    assert by_hand.same_slopes(on_a, of_a, found["discriminator_a"])
    assert by_hand.same_slopes(on_b, of_b, found["discriminator_b"])

    real = np.concatenate([judged(of_a, x), judged(of_b, y)])
    fake = np.concatenate([judged(of_a, fake_a), judged(of_b, fake_b)])
    expected = {"cycle_l1": around(forth, back) / 2, "d_loss": on_a(of_a) + on_b(of_b), "g_loss": fooled(forth, back)}
    expected |= {key: value.item() for key, value in GAMES[name].judge(tg.tensor(real), tg.tensor(fake)).items()}
    norm = lambda *players: np.sqrt(sum((a**2).sum() for player in players for a in found[player]))
    expected |= {"d_grad": norm("discriminator_a", "discriminator_b"), "g_grad": norm("forth", "back")}
    assert {key: value.item() for key, value in metrics.items()} == pytest.approx(expected, rel=2e-4, abs=1e-6)
    assert all(value.shape == () and not value.requires_grad for value in metrics.values())
    for player in PLAYERS:
        for old, new, gradient in zip(before[player], after[player], found[player]):
            large = abs(gradient) > 1e-4  # Adam's first step: lr against the gradient
            assert (old - new)[large] == pytest.approx(1e-2 * np.sign(gradient[large]), rel=0.02)


@pytest.mark.parametrize("still", ["generator", "discriminator"])
def test_each_optimizer_moves_its_own_two_networks_alone(still):
    step = toy(optimizer=partial(optim.SGD), lr=0.1)
    getattr(step, f"{still}_optimizer").param_groups[0]["lr"] = 0.0
    before = {player: by_hand.learned(getattr(step, player)) for player in PLAYERS}
    step(batch())
    own = PLAYERS[:2] if still == "generator" else PLAYERS[2:]
    for player in PLAYERS:
        law = by_hand.same if player in own else by_hand.all_moved
        assert law(before[player], by_hand.learned(getattr(step, player)))


def test_each_pool_gets_the_fakes_of_its_kind_cut_from_the_translators():
    step = toy()
    x, y = pair()
    forth, back = by_hand.arrays(step.forth), by_hand.arrays(step.back)
    step(batch())
    (of_a,), (of_b,) = step.pool_a.seen, step.pool_b.seen
    np.testing.assert_allclose(of_a.numpy(), through(back, y), atol=1e-5)
    np.testing.assert_allclose(of_b.numpy(), through(forth, x), atol=1e-5)
    assert not of_a.requires_grad and not of_b.requires_grad


def test_the_translators_learn_through_a_frozen_d_and_the_d_from_what_is_cut():
    step, seen = toy(), []
    for kind in "ab":
        network = getattr(step, f"discriminator_{kind}")

        def watched(images, kind=kind, network=network, forward=network.forward):
            frozen = not any(p.requires_grad for p in network.parameters())
            seen.append((kind, images.requires_grad, frozen))
            return forward(images)

        network.forward = watched
    step(batch())
    assert sorted(seen) == [(kind, *flags) for kind in "ab" for flags in [(False, False)] * 2 + [(True, True)]]


def test_without_its_weight_the_identity_is_not_computed():
    for identity, times in ((0.0, 2), (0.3, 3)):
        step, asked = toy(identity=identity), []
        forward = step.forth.forward
        step.forth.forward = lambda images, asked=asked, forward=forward: asked.append(1) or forward(images)
        step(batch())
        assert len(asked) == times


def test_the_rate_and_the_optimizer_reach_both_sides():
    adam = lambda step: [(group["lr"], tuple(group["betas"])) for player in
                         (step.generator_optimizer, step.discriminator_optimizer)
                         for group in player.param_groups]  # fmt: skip
    assert adam(toy()) == [(2e-4, (0.5, 0.999))] * 2
    assert adam(toy(lr=1e-3, optimizer=partial(optim.Adam, betas=(0.1, 0.2)))) == [(1e-3, (0.1, 0.2))] * 2
    usual = CycleGANStep(*(getattr(toy(), player) for player in PLAYERS), GAMES["hinge"], Pool(1), Pool(1))
    assert (usual.cycle, usual.identity) == (10, 5)


# ---------------------------------------------------------------------------------- measured and shown


def test_measures_are_means_of_both_ways():
    step = toy()
    x, y = (one.astype(float) for one in pair())
    forth, back = by_hand.arrays(step.forth), by_hand.arrays(step.back)
    around = l1(through(back, through(forth, x)), x), l1(through(forth, through(back, y)), y)
    same = l1(through(forth, y), y), l1(through(back, x), x)
    found = {key: value.item() for key, value in step.measure(batch()).items()}
    assert found == pytest.approx({"cycle_l1": np.mean(around), "identity_l1": np.mean(same)}, rel=1e-5)
    parts = [tuple(one[part] for one in batch()) for part in (slice(0, 4), slice(4, 5))]
    assert evaluate(step, parts) == pytest.approx(found, rel=1e-5)


def test_identities_bring_every_image_back():
    step = toy()
    step.forth = step.back = nn.Identity()
    assert {key: value.item() for key, value in step.measure(batch()).items()} == {"cycle_l1": 0, "identity_l1": 0}


def test_inversions_bring_every_image_back_and_are_seen_by_the_identity_alone():
    class Inverted(nn.Module):
        def forward(self, images):
            return 1 - images

    step = toy()
    step.forth = step.back = Inverted()
    found = step.measure(batch())
    x, y = pair()
    assert found["cycle_l1"].item() < 1e-7
    assert found["identity_l1"].item() == pytest.approx((l1(1 - y, y) + l1(1 - x, x)) / 2, rel=1e-5)


def test_a_picture_is_translated_forth_and_each_way_is_shown_and_back():
    step = toy()
    x, y = pair()
    forth, back = by_hand.arrays(step.forth), by_hand.arrays(step.back)
    near = lambda made, expected: np.testing.assert_allclose(made.detach().numpy(), expected, atol=1e-5)
    near(step.apply(tg.tensor(x)), through(forth, x))
    assert tuple(step.any_size) == (1, 2, 3, 5, 7)
    pictures = step.pictures(batch())
    assert list(pictures) == ["forth", "back"]
    for made, expected in zip(pictures["forth"], (x, through(forth, x), through(back, through(forth, x)))):
        near(made, expected)
    for made, expected in zip(pictures["back"], (y, through(back, y), through(forth, through(back, y)))):
        near(made, expected)


def test_health_knows_that_there_are_two_games():
    step = toy("smoothed")
    numbers = {"d_loss": 2 * GAMES["smoothed"].floor, "d_accuracy": 1.0}
    assert "D has won" in step.health(numbers)
    assert "D has won" not in step.health(numbers | {"d_loss": 2 * GAMES["smoothed"].floor + 0.1})
