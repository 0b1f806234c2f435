"""When the players grow, what they are shown, and that nothing jumps: the count of updates decides it all."""

from __future__ import annotations

import by_hand
import numpy as np
import pytest
from test_games import DISCRIMINATOR, GAMES, GENERATOR

import tinygen as tg
from tinygen.models import ProgressiveGANStep, games
from tinygen.models.critics import gradient_penalty
from tinygen.networks.growing import GrowingDiscriminator, GrowingGenerator
from tinygen.training import aside, checkpoint, evaluate

SHAPE, LATENT = (1, 8, 8), 5
STAY, FADE = 2, 4
# of twelve updates at two updates a size and four a fade, then for ever
ALPHAS = [1, 1, 0, 0.25, 0.5, 0.75, 1, 1, 0, 0.25, 0.5, 0.75, 1, 1]
SIDES = [2, 2, 4, 4, 4, 4, 4, 4, 8, 8, 8, 8, 8, 8]


def made(*rules, stay=STAY, fade=FADE, **options):
    tg.manual_seed(0)
    players = GrowingGenerator(SHAPE, (3, 4), LATENT), GrowingDiscriminator(SHAPE, (3, 4))
    rules = rules or (games.non_saturating(),)
    return ProgressiveGANStep(*players, *rules, latent=LATENT, stay=stay, fade=fade, lr=1e-2, **options)


def trained(updates, *rules, **options):
    step = made(*rules, **options)
    for i in range(updates):
        step(by_hand.images(6, SHAPE, seed=i))
    return step


def halved(x):
    n, c, h, w = x.shape
    return x.reshape(n, c, h // 2, 2, w // 2, 2).mean((3, 5))


def doubled(x):
    return x.repeat(2, 2).repeat(2, 3)


def test_size_and_alpha_follow_from_the_count_of_updates():
    step, phases = made(), []
    history = []
    for _ in ALPHAS:
        phases.append(step.phase)
        history.append(step(by_hand.images(6, SHAPE)))
    assert [m["alpha"].item() for m in history] == ALPHAS
    assert [m["size"].item() for m in history] == SIDES
    stages = [(0, False)] * 2 + [(1, True)] * 4 + [(1, False)] * 2 + [(2, True)] * 4 + [(2, False)] * 2
    assert phases == stages
    assert all(m[key].shape == () and not m[key].requires_grad for m in history for key in m)


def test_real_images_are_means_of_four_and_in_a_fade_mixed_with_the_coarser_ones():
    x = by_hand.images(6, SHAPE)[0]
    full, half = x.numpy(), halved(x.numpy())
    quarter = halved(half)
    expected = [quarter] * 2 + [(1 - a) * doubled(quarter) + a * half for a in ALPHAS[2:6]] + [half] * 2
    expected += [(1 - a) * doubled(half) + a * full for a in ALPHAS[8:12]] + [full] * 2
    step = made()
    shown, update = [], step.update_discriminator
    step.update_discriminator = lambda real, fake: (shown.append(real.numpy().copy()), update(real, fake))[1]
    for _ in ALPHAS:
        step((x, None))
    for found, wanted in zip(shown, expected, strict=True):
        np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("update", [2, 6, 8, 12])
def test_neither_loss_jumps_where_a_fade_begins_or_ends(update):
    """The same weights, noise and images just before and just after: the players' losses are equal."""
    step = trained(update)
    x, z = by_hand.images(64, SHAPE, seed=9)[0], tg.randn(64, LATENT)

    def losses():
        fake = step.generator(z).detach()
        on_real, on_fake = step.discriminator(step.seen(x)), step.discriminator(fake)
        return step.game.discriminator(on_real, on_fake).item(), step.game.generator(on_fake).item()

    step.grow()
    after, now = losses(), step.phase
    if step.generator.fading:  # alpha is 0: before, the size was the half
        step.schedule.last_epoch -= 1
        step.grow()
    else:  # the fade is over: alpha 1 within it is the limit
        for player in (step.generator, step.discriminator):
            player.grow(now[0], True, tg.tensor(1.0))
    before = losses()
    assert step.generator.fading is not now[1]
    assert after == pytest.approx(before, rel=1e-5)


@pytest.mark.parametrize("updates", [3, 9])
def test_a_checkpoint_in_mid_fade_resumes_bit_for_bit(updates, tmp_path):
    step = trained(updates)
    checkpoint.save_checkpoint(tmp_path / "file", checkpoint.state_of(step))
    again = made()
    checkpoint.restore(again, checkpoint.load_checkpoint(tmp_path / "file"))
    assert (again.phase, again.generator.stage, again.discriminator.stage) == (step.phase, *2 * [step.phase[0]])
    courses = []
    for one in (step, again):
        tg.manual_seed(5)
        metrics = [one(by_hand.images(6, SHAPE, seed=i)) for i in range(5)]
        courses.append([{name: value.item() for name, value in m.items()} for m in metrics])
    assert courses[0] == courses[1]
    for name, network in step.networks().items():
        assert by_hand.same(by_hand.state(network), by_hand.state(again.networks()[name]))
    assert again.schedule.last_epoch == again.count.updates.item() == updates + 5


def test_a_longer_training_keeps_the_plan_of_growth():
    """What is grown stays grown, though the new plan would still fade."""
    step, longer = trained(12), made()
    assert step.phase == (len(step.sizes) - 1, False)
    longer.plan.stay, longer.plan.fade = 20, 10
    longer.load_state_dict(step.state_dict())
    assert (longer.plan.stay, longer.plan.fade) == (step.plan.stay, step.plan.fade) and longer.phase == step.phase


@pytest.mark.parametrize("game", ["non-saturating", "least squares"])
def test_the_game_that_is_handed_in_is_played_at_the_present_size(game):
    step = trained(3, GAMES[game])
    x = by_hand.images(6, SHAPE)[0]
    step.grow()
    tg.manual_seed(7)
    fake = step.generator(step.noise(6)).detach()
    on_real, on_fake = (step.discriminator(i).detach().numpy() for i in (step.seen(x), fake))
    tg.manual_seed(7)
    metrics = step((x, None))
    assert metrics["d_loss"].item() == pytest.approx(DISCRIMINATOR[game](on_real, on_fake), rel=1e-4)
    with tg.no_grad():
        after = step.discriminator(fake).numpy()
    assert metrics["g_loss"].item() == pytest.approx(GENERATOR[game](after), rel=1e-3)


@pytest.mark.parametrize("updates", [0, 3, 10, 12])
def test_samples_have_the_data_s_size_and_their_grain_is_that_of_the_stage(updates):
    step = trained(updates)
    with aside(step, 0):
        images = step.sample(7).numpy()
        tg.manual_seed(3)
        one = step.sample(4).numpy()
        tg.manual_seed(3)
        small = step.generator(step.noise(4)).numpy()
    assert images.shape == (7, *SHAPE) and images.min() >= 0 and images.max() <= 1
    grain = 8 // small.shape[2]
    assert np.array_equal(one, small.repeat(grain, 2).repeat(grain, 3))
    assert small.shape[2] == (*SIDES, 8)[updates]
    assert step.pictures((tg.zeros(3, *SHAPE), None))["samples"].shape == (3, *SHAPE)


def test_a_penalty_is_measured_at_the_present_size():
    step = trained(1, games.wasserstein(), gradient_penalty())
    with aside(step, 0):
        found = evaluate(step, [by_hand.images(6, SHAPE), by_hand.images(4, SHAPE)])
    assert found["gradient_norm"] > 0 and set(found) == {"gradient_norm", "gradient_norm_sd"}


@pytest.mark.parametrize("updates", [2, 3, 6])
def test_what_is_shown_and_measured_is_at_the_size_of_the_count(updates):
    """After the last update of a size the next one is shown, as a run that is loaded shows it; no earlier alpha."""
    step = trained(updates, games.wasserstein(), gradient_penalty())
    again = made(games.wasserstein(), gradient_penalty())
    again.load_state_dict(step.state_dict())
    for ask in (lambda one: one.sample(3).numpy().tolist(), lambda one: one.summary([by_hand.images(6, SHAPE)])):
        for player in (step.generator, step.discriminator):  # as the last update left them
            player.grow(0, False, tg.tensor(1.0))
        found = []
        for one in (step, again):
            with aside(one, 3):
                found.append(ask(one))
        assert found[0] == found[1]


def test_slopes_are_measured_at_images_as_the_critic_sees_them_in_a_fade():
    step, seen = trained(3, games.wasserstein(), gradient_penalty()), []
    x = by_hand.images(6, SHAPE)[0]
    step.generator.forward = lambda z: tg.zeros(6, 1, 4, 4)
    step.discriminator.forward = lambda images: seen.append(images.detach().numpy()) or images.sum((1, 2, 3))
    step.summary([(x, None)])
    half = halved(x.numpy())
    wanted = 0.75 * doubled(halved(half)) + 0.25 * half  # times the share of the real image
    shares = (seen[0] / wanted).reshape(6, -1)
    np.testing.assert_allclose(shares, shares[:, :1].repeat(16, 1), rtol=1e-4)


def test_without_updates_at_a_size_the_fade_begins_at_once_and_durations_are_checked():
    step = made(stay=0, fade=1)
    sizes = [step(by_hand.images(6, SHAPE))["size"].item() for _ in range(4)]
    assert sizes == [4, 8, 8, 8]
    for stay, fade in ((-1, 2), (2, 0)):
        with pytest.raises(ValueError, match=f"stay must be at least 0 .* {stay} and {fade}"):
            made(stay=stay, fade=fade)


def test_the_learning_rates_stay_as_given():
    step = made(d_lr=3e-3)
    for i in range(14):
        step(by_hand.images(6, SHAPE, seed=i))
    players = step.generator_optimizer, step.discriminator_optimizer
    assert [o.param_groups[0]["lr"] for o in players] == [1e-2, 3e-3]
