"""BiGAN: what D, G and E minimise, in NumPy; what D is shown; noise; what is measured; the score of each pixel."""

from __future__ import annotations

from functools import partial

import by_hand
import numpy as np
import pytest
from test_games import DISCRIMINATOR, GAMES

import tinygen as tg
from tinygen import nn, optim
from tinygen.models import AnomalyMapStep, BiGANStep, games
from tinygen.step import Step, Unsupported

PIXELS, LATENT, HIDDEN = 9, 2, 5
PLAYERS = ("generator", "encoder", "discriminator")


class Judge(nn.Module):
    """a = v leaky(W [s, z] + b) + c."""

    def __init__(self):
        super().__init__()
        self.of_both, self.logit = nn.Linear(PIXELS + LATENT, HIDDEN), nn.Linear(HIDDEN, 1)

    def features(self, images, codes):
        return nn.functional.leaky_relu(self.of_both(tg.cat([images.flatten(1), codes], 1)), 0.2)

    def forward(self, images, codes):
        return self.logit(self.features(images, codes))


def toy(name="non-saturating", **options):
    generator = nn.Sequential(nn.Linear(LATENT, PIXELS), nn.Unflatten(1, (1, 3, 3)), nn.Sigmoid())
    encoder, judge = nn.Sequential(nn.Flatten(), nn.Linear(PIXELS, LATENT)), Judge()
    by_hand.stir(generator, encoder, judge)
    return BiGANStep(generator, encoder, judge, GAMES[name], **{"code": [LATENT], "weight": 0.8} | options)


def drawn(g, z):
    return by_hand.sigmoid(by_hand.linear(z, *g))


def encoded(e, s):
    return by_hand.linear(s.reshape(len(s), -1), *e)


def judged(d, s, z):
    w, b, v, c = d
    return by_hand.linear(by_hand.leaky(by_hand.linear(np.concatenate([s, z], 1), w, b)), v, c)


def images(n=6):
    return np.random.default_rng(2).random((n, 1, 3, 3)).astype(np.float32)


def batch(n=6):
    return tg.tensor(images(n)), None


def noise(n=6, seed=5):
    """What an update that begins with this seed draws."""
    tg.manual_seed(seed)
    return tg.randn(n, LATENT).numpy().astype(float)


# ---------------------------------------------------------------------------------- the update


@pytest.mark.parametrize("weight", [0.0, 0.8])
@pytest.mark.parametrize("name", GAMES)
def test_a_round_follows_the_game_in_numpy(name, weight):
    """D is judged before its update; G and E minimise the loss of the D just updated, its arguments changed over."""
    step = toy(name, weight=weight, lr=1e-2)
    s, z = images().reshape(6, -1).astype(float), noise()
    g, e, d = (by_hand.arrays(getattr(step, player)) for player in PLAYERS)
    by_hand.leave_gradients(step.generator, step.encoder, step.discriminator)
    tg.manual_seed(5)
    metrics = step(batch())
    g_after, e_after, d_after = (by_hand.arrays(getattr(step, player)) for player in PLAYERS)

    of_d = lambda w: DISCRIMINATOR[name](judged(w, s, encoded(e, s)), judged(w, drawn(g, z), z))
    swapped = lambda g, e: DISCRIMINATOR[name](judged(d_after, drawn(g, z), z), judged(d_after, s, encoded(e, s)))
    error = lambda g, e: ((drawn(g, encoded(e, s)) - s) ** 2).mean()
    of_both = lambda w: swapped(w[:2], w[2:]) + weight * error(w[:2], w[2:])
    on = {player: by_hand.gradients(getattr(step, player)) for player in PLAYERS}
    assert by_hand.same_slopes(of_d, d, on["discriminator"])
    assert by_hand.same_slopes(of_both, [*g, *e], [*on["generator"], *on["encoder"]])

    norm = lambda arrays: np.sqrt(sum((a**2).sum() for a in arrays))
    expected = {"d_loss": of_d(d), "g_loss": swapped(g, e), "d_grad": norm(on["discriminator"]),
                "g_grad": norm(on["generator"]), "e_grad": norm(on["encoder"])}  # fmt: skip
    expected |= {"mse": error(g, e)} if weight else {}
    real, fake = judged(d, s, encoded(e, s)), judged(d, drawn(g, z), z)
    expected |= {key: value.item() for key, value in GAMES[name].judge(tg.tensor(real), tg.tensor(fake)).items()}
    assert {key: value.item() for key, value in metrics.items()} == pytest.approx(expected, rel=2e-4, abs=1e-6)
    assert all(value.shape == () and not value.requires_grad for value in metrics.values())
    for before, after, gradients in ((d, d_after, on["discriminator"]), (g, g_after, on["generator"]),
                                     (e, e_after, on["encoder"])):  # fmt: skip
        for old, new, gradient in zip(before, after, gradients):  # Adam's first step: lr against the gradient
            large = abs(gradient) > 1e-4
            assert (old - new)[large] == pytest.approx(1e-2 * np.sign(gradient[large]), rel=0.02)


@pytest.mark.parametrize("still", ["generator", "discriminator"])
def test_one_optimizer_moves_d_and_the_other_g_and_e(still):
    step = toy(optimizer=partial(optim.SGD), lr=0.1)
    getattr(step, f"{still}_optimizer").param_groups[0]["lr"] = 0.0
    before = {player: by_hand.learned(getattr(step, player)) for player in PLAYERS}
    step(batch())
    for player, old in before.items():
        stays = (player == "discriminator") == (still == "discriminator")
        assert (by_hand.same if stays else by_hand.all_moved)(old, by_hand.learned(getattr(step, player))), player


def test_the_rates_and_the_optimizer_reach_all_three():
    adam = lambda step: [(group["lr"], tuple(group["betas"])) for player in
                         (step.generator_optimizer, step.discriminator_optimizer)
                         for group in player.param_groups]  # fmt: skip
    assert adam(toy()) == [(2e-4, (0.5, 0.999))] * 2
    assert adam(toy(lr=1e-3, optimizer=partial(optim.Adam, betas=(0.1, 0.2)))) == [(1e-3, (0.1, 0.2))] * 2
    assert [rate for rate, _ in adam(toy(lr=1e-3, d_lr=1e-4))] == [1e-3, 1e-4]


def test_d_sees_images_with_codes_then_samples_with_noise_and_both_again_frozen():
    """First cut from G and E, so that D's update costs nothing of theirs; then the same four, not cut."""
    step, seen = toy(), []
    forward = step.discriminator.forward

    def watched(s, z):
        frozen = not any(p.requires_grad for p in step.discriminator.parameters())
        seen.append((s.requires_grad, z.requires_grad, frozen, s.detach().numpy(), z.detach().numpy()))
        return forward(s, z)

    step.discriminator.forward = watched
    z = noise().astype(np.float32)
    g, e = by_hand.arrays(step.generator), by_hand.arrays(step.encoder)
    tg.manual_seed(5)
    step(batch())
    flags = [one[:3] for one in seen]
    assert flags == [(False, False, False), (False, False, False), (False, True, True), (True, False, True)]
    for real in (seen[0], seen[2]):
        assert np.array_equal(real[3], images())
        np.testing.assert_allclose(real[4], encoded(e, images()), rtol=1e-4, atol=1e-6)
    for fake in (seen[1], seen[3]):
        np.testing.assert_allclose(fake[3].reshape(6, -1), drawn(g, z), rtol=1e-4)
        assert np.array_equal(fake[4], z)
    assert all(p.requires_grad for p in step.discriminator.parameters())


@pytest.mark.parametrize(("weight", "calls"), [(0.0, 1), (0.8, 2)])
def test_without_a_weight_nothing_is_reconstructed(weight, calls):
    step, made = toy(weight=weight), []
    forward = step.generator.forward
    step.generator.forward = lambda z: made.append(z) or forward(z)
    assert ("mse" in step(batch())) == (weight > 0) and len(made) == calls


# ---------------------------------------------------------------------------------- what it answers


@pytest.mark.parametrize("code", [(5,), (3, 4, 2)], ids=["numbers", "a map"])
def test_noise_is_standard_normal_and_of_the_shape_of_a_code(code):
    step = toy(code=code)
    z = step.noise(2000).numpy()
    assert z.shape == (2000, *code) and step.code == code and step.latent == code[0] and step.least_batch == 2
    flat = z.reshape(2000, -1)
    assert abs(flat.mean(0)).max() < 0.1 and abs(flat.std(0) - 1).max() < 0.08
    covariance = np.cov(flat.T)
    assert abs(covariance - np.eye(len(covariance))).max() < 0.12
    tails = abs(z) > 1.959964
    assert tails.mean() == pytest.approx(0.05, abs=0.008)


def test_codes_images_and_the_way_around():
    step, s = toy(), images()
    g, e = by_hand.arrays(step.generator), by_hand.arrays(step.encoder)
    z = np.random.default_rng(1).normal(size=(6, LATENT)).astype(np.float32)
    near = partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-6)
    near(step.encode(tg.tensor(s)).detach().numpy(), encoded(e, s))
    near(step.decode(tg.tensor(z)).detach().numpy().reshape(6, -1), drawn(g, z))
    for again in (step.restored, step.apply):
        near(again(tg.tensor(s)).detach().numpy().reshape(6, -1), drawn(g, encoded(e, s)))
    known = noise(4)
    tg.manual_seed(5)
    near(step.sample(4).detach().numpy().reshape(4, -1), drawn(g, known))
    assert step.offers("sample") and not step.offers("scores")


def test_what_is_measured_of_images_and_of_codes():
    step, s, z = toy(), images().reshape(6, -1), noise()
    g, e = by_hand.arrays(step.generator), by_hand.arrays(step.encoder)
    tg.manual_seed(5)
    found = {name: value.item() for name, value in step.measure(batch()).items()}
    expected = {"mse": ((drawn(g, encoded(e, s)) - s) ** 2).mean(),
                "code_error": ((encoded(e, drawn(g, z)) - z) ** 2).mean()}  # fmt: skip
    assert found == pytest.approx(expected, rel=1e-4)


def test_an_encoder_that_says_nothing_has_a_code_error_of_1_and_the_inverse_of_g_none():
    step = toy()
    step.generator = step.encoder = nn.Identity()
    assert step.measure(batch(500))["code_error"].item() == 0
    assert step.measure(batch())["mse"].item() == 0
    step.encoder = lambda x: 0 * x
    assert step.measure(batch(2000))["code_error"].item() == pytest.approx(1, abs=0.05)


def test_pictures_are_samples_and_images_beside_what_g_makes_of_their_codes():
    step, s = toy(), images()
    tg.manual_seed(5)
    found = step.pictures(batch())
    assert list(found) == ["samples", "reconstructions"]
    tg.manual_seed(5)
    assert np.array_equal(found["samples"].detach().numpy(), step.sample(6).detach().numpy())
    shown, again = found["reconstructions"]
    assert np.array_equal(shown.numpy(), s)
    assert np.array_equal(again.detach().numpy(), step.restored(tg.tensor(s)).detach().numpy())


def test_health_knows_the_floor_of_the_game():
    sure = {"d_loss": 0.34, "d_accuracy": 1.0, "d_grad": 1.0, "g_grad": 1.0}
    assert "well ahead" in toy().health(sure)
    assert "D has won" in toy("smoothed").health(sure)


def test_figures_that_are_handed_in_are_its_summary():
    step = toy(figures=[lambda step, batches: {"latent": step.latent, "batches": len(batches)}])
    assert step.summary([1, 2, 3]) == {"latent": LATENT, "batches": 3} and toy().summary([1]) == {}


# ---------------------------------------------------------------------------------- the score of each pixel


class Halving(nn.Module):
    """E: means of squares of 4x4 pixels."""

    multiple, channels = 4, 3

    def forward(self, images):
        return nn.functional.avg_pool2d(images, 4)[:, :LATENT]


class Doubling(nn.Module):
    """G: a code's first number and what it lacks to 1, for each of its pixels."""

    def forward(self, codes):
        plane = codes[:, :1].repeat_interleave(4, 2).repeat_interleave(4, 3)
        return tg.cat([plane, 1 - plane, 0.5 * plane], 1)


class Numbers(nn.Module):
    """D: a map of numbers, 1 where images and codes agree."""

    def forward(self, images, codes):
        return 1 + 2 * codes[:, 1:2] - nn.functional.avg_pool2d(images, 4)[:, 2:]


def scoring(alpha=0.1, window=7):
    step = AnomalyMapStep.__new__(AnomalyMapStep)
    step.encoder, step.generator, step.discriminator = Halving(), Doubling(), Numbers()
    step.alpha, step.window = alpha, window
    return step


def colours(size=(12, 20), n=3):
    return np.random.default_rng(4).random((n, 3, *size)).astype(np.float32)


def means(x):
    n, c, h, w = x.shape
    return x.reshape(n, c, h // 4, 4, w // 4, 4).mean((3, 5), dtype=float)


def between(numbers, size):
    """Bilinear: the centre of a pixel lies between those of numbers; beyond the outer ones they stay."""
    rows, columns = ([np.clip((i + 0.5) / side * count - 0.5, 0, count - 1) for i in range(side)]
                     for side, count in zip(size, numbers.shape[2:]))  # fmt: skip
    found = np.zeros((*numbers.shape[:2], *size))
    for i, y in enumerate(rows):
        for j, x in enumerate(columns):
            top, left = int(y), int(x)
            below, right = min(top + 1, numbers.shape[2] - 1), min(left + 1, numbers.shape[3] - 1)
            a, b = y - top, x - left
            found[:, :, i, j] = ((1 - a) * (1 - b) * numbers[:, :, top, left] + (1 - a) * b * numbers[:, :, top, right]
                                 + a * (1 - b) * numbers[:, :, below, left]
                                 + a * b * numbers[:, :, below, right])  # fmt: skip
    return found


def of_d(x):
    numbers = 1 + 2 * means(x)[:, 1:2] - means(x)[:, 2:]
    return between((numbers - 1) ** 2, x.shape[2:])


def of_error(x, window):
    """The root of the mean over those pixels of a square that there are, of the sum over channels."""
    plane = means(x)[:, :1].repeat(4, 2).repeat(4, 3)
    squares = ((np.concatenate([plane, 1 - plane, 0.5 * plane], 1) - x) ** 2).sum(1)
    found, half = np.zeros_like(squares), window // 2
    for i in range(squares.shape[1]):
        for j in range(squares.shape[2]):
            near = squares[:, max(0, i - half) : i + half + 1, max(0, j - half) : j + half + 1]
            found[:, i, j] = near.mean((1, 2))
    return np.sqrt(found)[:, None]


@pytest.mark.parametrize("window", [1, 3, 7])
@pytest.mark.parametrize("size", [(12, 20), (8, 4), (16, 16)])
def test_the_score_s_terms_in_numpy(size, window):
    x, step = colours(size), scoring(0.3, window)
    near = partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-6)
    near(step.judged(tg.tensor(x)).numpy(), of_d(x))
    near(step.error(tg.tensor(x)).numpy(), of_error(x, window))
    scores = step.scores(tg.tensor(x))
    assert scores.shape == (3, 1, *size)
    near(scores.numpy(), 0.3 * of_d(x) + 0.7 * of_error(x, window))


def test_alpha_0_and_1_leave_one_term():
    x = tg.tensor(colours())
    for alpha, term in ((0.0, "error"), (1.0, "judged")):
        step = scoring(alpha)
        assert np.array_equal(step.scores(x).numpy(), getattr(step, term)(x).numpy())


def test_the_weight_of_d_is_a_tenth_and_the_window_7_where_nothing_is_said():
    step = AnomalyMapStep(nn.Linear(1, 1), nn.Linear(1, 1), nn.Linear(1, 1), games.least_squares(), code=(3, 2, 4))
    assert (step.alpha, step.window, step.latent, step.code, step.weight) == (0.1, 7, 3, (3, 2, 4), 0)
    assert step.offers("scores") and step.offers("apply")


@pytest.mark.parametrize(("window", "reach"), [(1, 9), (3, 10), (7, 12)])
def test_what_pictures_it_takes(window, reach):
    limits = scoring(window=window).any_size
    assert tuple(limits) == (3, 1, 4, reach, 1)


def test_scores_are_shown_as_a_share_of_the_highest_beside_the_images():
    step, x = scoring(), colours()
    step.code = (LATENT, 3, 5)
    step.noise = lambda n: tg.rand(n, *step.code)
    found = step.pictures((tg.tensor(x), None))
    assert list(found) == ["samples", "scores"]
    shown, again, scores = (part.numpy() for part in found["scores"])
    assert np.array_equal(shown, x) and np.array_equal(again, step.restored(tg.tensor(x)).numpy())
    expected = step.scores(tg.tensor(x)).numpy()
    np.testing.assert_allclose(scores, (expected / expected.max()).repeat(3, 1), rtol=1e-6)
    assert scores.max() == 1


def test_a_step_without_scores_says_so():
    with pytest.raises(Unsupported, match="BiGANStep finds no anomalies"):
        toy().scores(tg.zeros(1, 1, 3, 3))
    assert not Step.offers("scores") and toy().any_size is None
