"""pix2pix: what G and D minimise, in NumPy; what D is shown; planes of noise; what is measured and applied."""

from __future__ import annotations

from functools import partial

import by_hand
import numpy as np
import pytest
from test_games import DISCRIMINATOR, GAMES, GENERATOR

import tinygen as tg
from tinygen import nn, optim
from tinygen.models import Pix2PixStep
from tinygen.models.pix2pix import alone, both

SIDE, COLOURS = 4, 3


class Drawing(nn.Sequential):
    """A convolution to colours; what it says of itself are numbers that no default has."""

    scale, multiple, reach = 1, 4, 9

    def __init__(self, channels):
        super().__init__(nn.Conv2d(channels, COLOURS, 3, padding=1), nn.Sigmoid())
        self.channels = channels


def first(y):
    return 0.5 * y[:, :1] + 0.1


def toy(name="non-saturating", shown=both, latent=0, **options):
    drawing = Drawing(1 + latent)
    planes = COLOURS + (shown is both)
    judge = nn.Sequential(nn.Conv2d(planes, 4, 2, 2), nn.LeakyReLU(0.2), nn.Conv2d(4, 1, 1))  # a map of numbers
    by_hand.stir(drawing, judge)
    return Pix2PixStep(drawing, judge, GAMES[name], first, shown, **{"weight": 0.8, "latent": latent} | options)


def drawn(weights, seen):
    return by_hand.sigmoid(by_hand.conv(seen, *weights, padding=1))


def judged(weights, images):
    w, b, v, c = weights
    return by_hand.conv(by_hand.leaky(by_hand.conv(images, w, b, stride=2)), v, c)


def images(n=6):
    return np.random.default_rng(2).random((n, COLOURS, SIDE, SIDE)).astype(np.float32)


def batch(n=6):
    return tg.tensor(images(n)), None


def with_planes(x, z):
    return np.concatenate([x, np.broadcast_to(z[:, :, None, None], (*z.shape, SIDE, SIDE))], 1)


# ---------------------------------------------------------------------------------- the update


@pytest.mark.parametrize("latent", [0, 2])
@pytest.mark.parametrize("shown", [both, alone], ids=["conditional", "unconditional"])
@pytest.mark.parametrize("name", GAMES)
def test_a_round_follows_the_game_in_numpy(name, shown, latent):
    """D is judged before its update, G against the D just updated; L1 is per value."""
    step = toy(name, shown, latent, lr=1e-2)
    y = images().astype(float)
    x = 0.5 * y[:, :1] + 0.1
    z = (tg.manual_seed(5), tg.randn(6, latent, 1, 1))[1].numpy()[:, :, 0, 0] if latent else np.zeros((6, 0))
    seen = with_planes(x, z)
    g, d = by_hand.arrays(step.generator), by_hand.arrays(step.discriminator)
    by_hand.leave_gradients(step.generator, step.discriminator)
    tg.manual_seed(5)
    metrics = step(batch())
    g_after, d_after = by_hand.arrays(step.generator), by_hand.arrays(step.discriminator)

    beside = (lambda made: np.concatenate([x, made], 1)) if shown is both else (lambda made: made)
    fake = drawn(g, seen)
    of_d = lambda weights: DISCRIMINATOR[name](judged(weights, beside(y)), judged(weights, beside(fake)))
    l1 = lambda weights: abs(drawn(weights, seen) - y).mean()
    of_g = lambda weights: GENERATOR[name](judged(d_after, beside(drawn(weights, seen)))) + 0.8 * l1(weights)
    on_g, on_d = by_hand.gradients(step.generator), by_hand.gradients(step.discriminator)
    assert by_hand.same_slopes(of_d, d, on_d)
    assert by_hand.same_slopes(of_g, g, on_g)
    norm = lambda arrays: np.sqrt(sum((a**2).sum() for a in arrays))
    expected = {"l1": l1(g), "d_loss": of_d(d), "g_loss": of_g(g), "d_grad": norm(on_d), "g_grad": norm(on_g)}
    read = GAMES[name].judge(tg.tensor(judged(d, beside(y))), tg.tensor(judged(d, beside(fake))))
    expected |= {key: value.item() for key, value in read.items()}
    assert {key: value.item() for key, value in metrics.items()} == pytest.approx(expected, rel=2e-4, abs=1e-6)
    assert all(value.shape == () and not value.requires_grad for value in metrics.values())
    for before, after, gradients in ((d, d_after, on_d), (g, g_after, on_g)):
        for old, new, gradient in zip(before, after, gradients):  # Adam's first step: lr against the gradient
            large = abs(gradient) > 1e-4
            assert (old - new)[large] == pytest.approx(1e-2 * np.sign(gradient[large]), rel=0.02)


@pytest.mark.parametrize("still", ["generator", "discriminator"])
def test_each_optimizer_moves_its_own_player_alone(still):
    step = toy(optimizer=partial(optim.SGD), lr=0.1)
    getattr(step, f"{still}_optimizer").param_groups[0]["lr"] = 0.0
    before = {name: by_hand.learned(getattr(step, name)) for name in ("generator", "discriminator")}
    step(batch())
    for name, old in before.items():
        law = by_hand.same if name == still else by_hand.all_moved
        assert law(old, by_hand.learned(getattr(step, name)))


@pytest.mark.parametrize("latent", [0, 2])
def test_d_is_told_what_g_saw_but_not_the_noise_and_fakes_are_cut_from_g(latent):
    step, seen = toy(latent=latent), []
    forward = step.discriminator.forward

    def watched(shown):
        frozen = not any(p.requires_grad for p in step.discriminator.parameters())
        seen.append((shown.requires_grad, frozen, shown.detach().numpy().copy()))
        return forward(shown)

    step.discriminator.forward = watched
    step(batch())
    assert [flags[:2] for flags in seen] == [(False, False), (False, False), (True, True)]
    assert all(shown.shape == (6, 1 + COLOURS, SIDE, SIDE) for *_, shown in seen)
    assert all(np.array_equal(shown[:, :1], first(images())) for *_, shown in seen)
    assert np.array_equal(seen[0][2][:, 1:], images()) and np.array_equal(seen[1][2], seen[2][2])


def test_the_rate_and_the_optimizer_reach_both_players():
    adam = lambda step: [(group["lr"], tuple(group["betas"])) for player in
                         (step.generator_optimizer, step.discriminator_optimizer)
                         for group in player.param_groups]  # fmt: skip
    assert adam(toy()) == [(2e-4, (0.5, 0.999))] * 2
    assert adam(toy(lr=1e-3, optimizer=partial(optim.Adam, betas=(0.1, 0.2)))) == [(1e-3, (0.1, 0.2))] * 2


def test_the_rates_of_both_fall_to_0_in_the_last_third_of_the_steps_given():
    step, rates = toy(steps=6, lr=1e-2), []
    for _ in range(7):
        rates.append([o.param_groups[0]["lr"] for o in (step.generator_optimizer, step.discriminator_optimizer)])
        step(batch())
    assert rates == [pytest.approx([rate] * 2) for rate in [1e-2] * 5 + [0.5e-2, 0]]
    assert {"generator_schedule", "discriminator_schedule"} <= set(step.parts())
    assert not {"generator_schedule", "discriminator_schedule"} & set(toy().parts())


def test_what_d_is_shown():
    x, y = tg.rand(2, 1, 3, 3), tg.rand(2, 2, 3, 3)
    assert np.array_equal(both(x, y).numpy(), np.concatenate([x.numpy(), y.numpy()], 1))
    assert alone(x, y) is y


# ---------------------------------------------------------------------------------- noise


def test_planes_of_noise_have_one_value_each_of_their_own_and_are_drawn_anew():
    step = toy(latent=5)
    x = tg.rand(400, 1, 2, 3)
    seen = step.with_noise(x).numpy()
    assert seen.shape == (400, 6, 2, 3) and np.array_equal(seen[:, :1], x.numpy())
    z = seen[:, 1:]
    assert (z == z[:, :, :1, :1]).all() and len(np.unique(z[:, :, 0, 0])) == 2000
    assert abs(z[:, :, 0, 0].mean()) < 0.1 and abs(z[:, :, 0, 0].std() - 1) < 0.06
    assert not np.array_equal(step.with_noise(x).numpy()[:, 1:], z)


def test_without_noise_g_sees_the_image_alone_and_draws_no_number():
    step, x = toy(), tg.rand(3, 1, SIDE, SIDE)
    before = tg.get_rng_state()
    assert step.with_noise(x) is x
    assert np.array_equal(step.apply(x).detach().numpy(), step.apply(x).detach().numpy())
    assert tg.get_rng_state() == before


# ---------------------------------------------------------------------------------- measured, applied, shown


def test_measures_are_of_images_made_of_what_is_observed():
    step = toy()
    y = images().astype(float)
    made = drawn(by_hand.arrays(step.generator), 0.5 * y[:, :1] + 0.1)
    found = {key: value.item() for key, value in step.measure(batch()).items()}
    error = ((made - y) ** 2).reshape(6, -1).mean(1)
    expected = {"mse": error.mean(), "l1": abs(made - y).mean(), "psnr": (-10 * np.log10(error)).mean()}
    assert found == pytest.approx(expected, rel=1e-5)
    np.testing.assert_allclose(step.restored(batch()[0]).detach().numpy(), made, atol=1e-6)


def test_apply_takes_what_g_sees_and_tiles_draw_no_noise_of_their_own():
    step = toy(latent=2)
    x = tg.rand(6, 1, SIDE, SIDE)
    tg.manual_seed(8)
    made = step.apply(x).detach().numpy()
    tg.manual_seed(8)
    z = tg.randn(6, 2, 1, 1).numpy()[:, :, 0, 0]
    expected = drawn(by_hand.arrays(step.generator), with_planes(x.numpy().astype(float), z))
    np.testing.assert_allclose(made, expected, atol=1e-5)
    assert tuple(step.any_size) == (1, 1, 4, None, 1)
    assert tuple(toy().any_size) == (1, 1, 4, 9, 1)


def test_pictures_show_what_g_sees_in_the_channels_of_the_truth():
    step = toy()
    y = images()
    seen, made, truth = (one.detach().numpy() for one in step.pictures(batch())["translated"])
    assert np.array_equal(truth, y) and np.array_equal(seen, np.repeat(first(y), COLOURS, 1))
    np.testing.assert_allclose(made, drawn(by_hand.arrays(step.generator), first(y)), atol=1e-5)


def test_the_summary_is_what_all_figures_say_and_health_reads_the_game():
    figures = (lambda step, batches: {"a": step.weight}, lambda step, batches: {"b": float(len(batches))})
    step = toy("smoothed", figures=figures)
    assert step.summary([1, 2]) == {"a": 0.8, "b": 2.0} and toy().summary([1]) == {}
    numbers = {"d_loss": GAMES["smoothed"].floor, "d_accuracy": 1.0}
    assert "D has won" in step.health(numbers) and "D has won" not in toy().health(numbers)
