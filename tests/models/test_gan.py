"""The game's update: losses and gradients of both players in NumPy, who moves, what is frozen, who sees which fakes."""

from __future__ import annotations

from functools import partial

import by_hand
import numpy as np
import pytest
from test_games import DISCRIMINATOR, GAMES, GENERATOR

import tinygen as tg
from tinygen import nn, optim
from tinygen.models import GANStep, games
from tinygen.models.critics import clipped, gradient_penalty
from tinygen.models.gan import gradient_norm
from tinygen.networks.dcgan import DCCritic, DCDiscriminator, DCGenerator
from tinygen.networks.mlp import MLPDiscriminator, MLPGenerator
from tinygen.training import aside, evaluate

DIGIT = (1, 8, 8)
LATENT, INPUTS = 4, 3


def toy(game=None, *rules, **options):
    """A linear generator against a discriminator of one hidden layer, on points of three numbers."""
    generator = nn.Linear(LATENT, INPUTS)
    discriminator = nn.Sequential(nn.Linear(INPUTS, 8), nn.LeakyReLU(0.2), nn.Linear(8, 1))
    by_hand.stir(generator, discriminator)
    return GANStep(generator, discriminator, game or games.non_saturating(), *rules, latent=LATENT, **options)


def judged(weights, x):
    w, b, v, c = weights
    return by_hand.linear(by_hand.leaky(by_hand.linear(x, w, b)), v, c)


def points(n=12):
    return np.random.default_rng(6).normal(size=(n, INPUTS)).astype(np.float32) + 1


def digits(kind, game=None, *rules, **options):
    """GANs on 8x8 images, fully connected or DCGAN."""
    if kind == "mlp":
        players = MLPGenerator(DIGIT, (16, 24), 6), MLPDiscriminator(DIGIT, (24, 16))
    else:
        players = DCGenerator(DIGIT, (4, 8), 6), DCDiscriminator(DIGIT, (4, 8))
    return GANStep(*players, game or games.non_saturating(), *rules, latent=6, **options)


# ---------------------------------------------------------------------------------- losses and gradients


@pytest.mark.parametrize("name", GAMES)
def test_a_round_follows_the_game_in_numpy_with_the_noise_given(name):
    """D's loss, figures and gradients on real and fake; then G's against the D just updated, on the same fakes."""
    step = toy(GAMES[name], lr=1e-2, d_lr=2e-2)
    x, z = points(), (tg.manual_seed(7), tg.randn(12, LATENT))[1].numpy()
    g, d = by_hand.arrays(step.generator), by_hand.arrays(step.discriminator)
    fake = by_hand.linear(z, *g)
    by_hand.leave_gradients(step.generator, step.discriminator)
    tg.manual_seed(7)
    metrics = step((tg.tensor(x), None))
    d_after, g_after = by_hand.arrays(step.discriminator), by_hand.arrays(step.generator)

    of_d = lambda weights: DISCRIMINATOR[name](judged(weights, x), judged(weights, fake))
    of_g = lambda weights: GENERATOR[name](judged(d_after, by_hand.linear(z, *weights)))
    assert metrics["d_loss"].item() == pytest.approx(of_d(d), rel=1e-4)
    assert metrics["g_loss"].item() == pytest.approx(of_g(g), rel=1e-4)
    on_d, on_g = by_hand.gradients(step.discriminator), by_hand.gradients(step.generator)
    assert by_hand.same_slopes(of_d, d, on_d)
    assert by_hand.same_slopes(of_g, g, on_g)
    norm = lambda arrays: np.sqrt(sum((a**2).sum() for a in arrays))
    assert metrics["d_grad"].item() == pytest.approx(norm(on_d), rel=1e-5)
    assert metrics["g_grad"].item() == pytest.approx(norm(on_g), rel=1e-5)
    for before, after, gradients, lr in ((d, d_after, on_d, 2e-2), (g, g_after, on_g, 1e-2)):
        for old, new, gradient in zip(before, after, gradients):  # Adam's first step: lr against the gradient
            large = abs(gradient) > 1e-4
            assert (old - new)[large] == pytest.approx(lr * np.sign(gradient[large]), rel=0.02)
    figures = GAMES[name].judge(tg.tensor(judged(d, x)), tg.tensor(judged(d, fake)))
    assert figures and all(metrics[key].item() == pytest.approx(f.item(), rel=1e-4) for key, f in figures.items())


def test_the_penalty_is_part_of_what_d_minimises_and_reported_apart():
    def slope(weights, x):
        w, b, v, _ = weights
        inside = np.where(by_hand.linear(x, w, b) > 0, 1.0, 0.2)
        return np.linalg.norm(np.einsum("nh,h,hi->ni", inside, v[0], w), axis=1)

    step = toy(games.wasserstein(), gradient_penalty(3.0))
    x = points()
    tg.manual_seed(8)
    z, share = tg.randn(12, LATENT).numpy(), tg.rand(12, 1).numpy().astype(float)
    g, d = by_hand.arrays(step.generator), by_hand.arrays(step.discriminator)
    fake = by_hand.linear(z, *g)
    tg.manual_seed(8)
    metrics = step((tg.tensor(x), None))
    estimate = lambda weights: judged(weights, x).mean() - judged(weights, fake).mean()
    term = lambda weights: 3 * ((slope(weights, share * x + (1 - share) * fake) - 1) ** 2).mean()
    assert metrics["penalty"].item() == pytest.approx(term(d), rel=1e-4)
    assert metrics["d_loss"].item() == pytest.approx(-estimate(d), rel=1e-4)  # without the penalty
    assert metrics["critic_estimate"].item() == pytest.approx(estimate(d), rel=1e-4)
    found = by_hand.gradients(step.discriminator)
    assert by_hand.same_slopes(lambda weights: term(weights) - estimate(weights), d, found)


def test_the_penalty_sees_the_critic_the_real_and_the_fake():
    seen = []

    def penalty(critic, real, fake):
        seen.append((critic, real.numpy().copy(), fake.numpy().copy(), fake.requires_grad))
        return 0 * critic(real).sum()

    step = toy(games.wasserstein(), penalty)
    x = points()
    with tg.no_grad():
        tg.manual_seed(9)
        fake = step.generator(tg.randn(12, LATENT)).numpy()
    tg.manual_seed(9)
    step((tg.tensor(x), None))
    ((critic, first, second, recorded),) = seen
    assert critic is step.discriminator and not recorded
    assert np.array_equal(first, x) and np.array_equal(second, fake)


def test_labels_are_smoothed_on_the_real_side_only():
    step = toy(games.non_saturating(0.1))
    x, fake = points(), points(9) - 2
    a, b = (judged(by_hand.arrays(step.discriminator), data) for data in (x, fake))
    expected = -(0.9 * np.log(by_hand.sigmoid(a)) + 0.1 * np.log(1 - by_hand.sigmoid(a))).mean()
    expected -= np.log(1 - by_hand.sigmoid(b)).mean()
    found = step.update_discriminator(tg.tensor(x), tg.tensor(fake))["d_loss"].item()
    assert found == pytest.approx(expected, rel=1e-5)


# ---------------------------------------------------------------------------------- who moves

GAMES_AND_RULES = [(name, None, None) for name in GAMES] + [
    ("wasserstein", None, clipped(0.3)),
    ("wasserstein", gradient_penalty(10.0), None),
    ("hinge", gradient_penalty(1.0), clipped(0.5)),
]
PLAIN = partial(optim.SGD)


@pytest.mark.parametrize(("name", "penalty", "constrain"), GAMES_AND_RULES)
def test_each_player_s_update_moves_its_own_weights_downhill_and_no_others(name, penalty, constrain):
    step = toy(GAMES[name], penalty, constrain, lr=1e-3, optimizer=PLAIN)
    if constrain:
        constrain(step.discriminator)
    real, z = tg.tensor(points()), tg.randn(12, LATENT)

    before_g, before_d = by_hand.learned(step.generator), by_hand.learned(step.discriminator)
    losses = [
        (lambda m: m["d_loss"].item() + (m["penalty"].item() if penalty else 0))(
            (tg.manual_seed(2), step.update_discriminator(real, step.generator(z).detach()))[1]
        )
        for _ in range(20)
    ]
    assert losses[-1] < losses[0]
    assert by_hand.same(before_g, by_hand.learned(step.generator))
    assert all(p.grad is None for p in step.generator.parameters())
    moved = by_hand.learned(step.discriminator)
    assert any((before_d[key] != moved[key]).any() for key in moved)

    left = [None if p.grad is None else p.grad.numpy().copy() for p in step.discriminator.parameters()]
    pleased = []
    for _ in range(20):
        fake = step.generator(z)
        pleased.append(step.discriminator(fake).detach().mean().item())
        step.update_generator(fake)
    assert pleased[-1] > pleased[0]
    assert by_hand.same(moved, by_hand.learned(step.discriminator))
    assert by_hand.all_moved(before_g, by_hand.learned(step.generator))
    for gradient, p in zip(left, step.discriminator.parameters()):  # nothing was added to D's gradients
        assert (gradient is None and p.grad is None) or np.array_equal(gradient, p.grad.numpy())
        assert p.requires_grad


@pytest.mark.parametrize("kind", ["mlp", "dcgan"])
def test_the_discriminators_update_moves_only_d_and_lowers_its_loss(kind):
    tg.manual_seed(0)
    step = digits(kind, lr=1e-3)
    step.discriminator.eval()  # dropout and batch statistics aside, the same batch must be judged better
    real, fake = by_hand.images(32)[0], step.generator(step.noise(32)).detach()
    before_g, before_d = by_hand.state(step.generator), by_hand.learned(step.discriminator)
    losses = [step.update_discriminator(real, fake)["d_loss"].item() for _ in range(10)]
    assert by_hand.same(before_g, by_hand.state(step.generator))
    assert all(p.grad is None for p in step.generator.parameters())
    assert by_hand.all_moved(before_d, by_hand.learned(step.discriminator))
    assert losses[-1] < losses[0]


@pytest.mark.parametrize("game", [games.non_saturating, games.minimax])
@pytest.mark.parametrize("kind", ["mlp", "dcgan"])
def test_the_generators_update_moves_only_g_and_pleases_d(kind, game):
    tg.manual_seed(0)
    step = digits(kind, game(), lr=1e-3)
    step.discriminator.eval()
    step.generator.eval()
    z = step.noise(32)
    before_g, before_d = by_hand.learned(step.generator), by_hand.state(step.discriminator)
    pleased = []
    for _ in range(10):
        fake = step.generator(z)
        pleased.append(step.discriminator(fake.detach()).sigmoid().mean().item())
        step.update_generator(fake)
    assert by_hand.same(before_d, by_hand.state(step.discriminator))
    assert all(p.grad is None for p in step.discriminator.parameters())
    assert by_hand.all_moved(before_g, by_hand.learned(step.generator))
    assert pleased[-1] > pleased[0]


def test_the_generator_s_update_computes_no_gradient_of_d_and_d_s_none_of_g():
    step = toy()
    fake = step.generator(step.noise(5))
    step.update_generator(fake)
    assert all(p.grad is None for p in step.discriminator.parameters())
    step = toy()
    step.update_discriminator(tg.tensor(points()), step.generator(step.noise(12)).detach())
    assert all(p.grad is None for p in step.generator.parameters())
    step((tg.tensor(points()), None))
    assert all(p.grad is not None for network in step.networks().values() for p in network.parameters())


# ---------------------------------------------------------------------------------- rounds


def watched(step):
    """What `step` hands to both updates: [("d", real, fake, recorded), ..., ("g", fake)]."""
    seen = []
    d, g = step.update_discriminator, step.update_generator
    step.update_discriminator = lambda real, fake: (
        seen.append(("d", real.numpy().copy(), fake.numpy().copy(), fake.requires_grad)) or d(real, fake)
    )
    step.update_generator = lambda fake: seen.append(("g", fake.detach().numpy().copy())) or g(fake)
    return seen


def test_d_is_updated_k_times_on_its_shares_of_the_batch():
    step = digits("mlp", rounds=3)
    seen = watched(step)
    x = by_hand.images(12)[0]
    metrics = step((x, None))
    assert [kind for kind, *_ in seen] == ["d", "d", "d", "g"]
    assert [(len(real), len(fake), recorded) for _, real, fake, recorded in seen[:3]] == [(4, 4, False)] * 3
    for i, (_, real, _, _) in enumerate(seen[:3]):
        assert np.array_equal(real, x.numpy()[i::3])  # every image in one of them
    seen.clear()
    step((x[:10], None))  # 10 images in 3 shares: still three updates
    assert [len(real) for _, real, _, _ in seen[:3]] == [4, 3, 3]
    assert {"d_loss", "g_loss", "d_accuracy", "d_real", "d_fake", "d_grad", "g_grad"} == set(metrics)
    assert all(v.shape == () and not v.requires_grad for v in metrics.values())


@pytest.mark.parametrize("kind", ["mlp", "dcgan"])
def test_g_is_judged_on_the_very_fakes_that_d_saw_last(kind):
    step = digits(kind, rounds=2)
    seen = watched(step)
    step(by_hand.images(8))
    (_, _, first, _), (_, _, last, _), (_, judged_on) = seen
    assert np.array_equal(last, judged_on)
    assert not np.array_equal(first, last)


def test_every_round_brings_fresh_noise_and_figures_are_the_last_round_s():
    step = toy(rounds=3)
    seen = watched(step)
    told = []
    d = step.update_discriminator
    step.update_discriminator = lambda real, fake: (told.append(d(real, fake)), told[-1])[1]
    metrics = step((tg.tensor(points()), None))
    fakes = [fake for kind, _, fake, _ in seen[:3]]
    assert len({fake.tobytes() for fake in fakes}) == 3
    assert metrics["d_loss"].item() == told[-1]["d_loss"].item()


def test_the_constraint_follows_every_update_of_d():
    counts = []
    step = toy(games.wasserstein(), None, lambda critic: counts.append(critic), rounds=4)
    step((tg.tensor(points()), None))
    assert counts == [step.discriminator] * 4
    step = toy(games.wasserstein(), None, clipped(0.05), rounds=2, lr=0.1)
    largest = []
    d = step.update_discriminator
    step.update_discriminator = lambda real, fake: (
        d(real, fake),
        largest.append(max(abs(p).max() for p in by_hand.arrays(step.discriminator))),
    )[0]
    for _ in range(5):
        step((tg.tensor(points()), None))
    assert len(largest) == 10 and max(largest) <= np.float32(0.05)


# ---------------------------------------------------------------------------------- options and figures


def test_learning_rates_and_betas_reach_both_optimizers():
    adam = lambda step: [
        (group["lr"], tuple(group["betas"]))
        for player in (step.generator_optimizer, step.discriminator_optimizer)
        for group in player.param_groups
    ]
    assert adam(toy()) == [(2e-4, (0.5, 0.999))] * 2
    assert adam(toy(lr=1e-3)) == [(1e-3, (0.5, 0.999))] * 2
    assert adam(toy(lr=1e-3, d_lr=5e-4)) == [(1e-3, (0.5, 0.999)), (5e-4, (0.5, 0.999))]
    assert adam(toy(d_lr=0.0))[1][0] == 0.0  # a rate of 0 is a rate
    assert adam(toy(optimizer=partial(optim.Adam, betas=(0.1, 0.2)))) == [(2e-4, (0.1, 0.2))] * 2
    other = toy(optimizer=optim.RMSprop, lr=0.3)
    assert type(other.generator_optimizer) is type(other.discriminator_optimizer) is optim.RMSprop
    assert [o.param_groups[0]["lr"] for o in (other.generator_optimizer, other.discriminator_optimizer)] == [0.3] * 2


@pytest.mark.parametrize(("verdict", "accuracy"), [(1.0, 1.0), (-1.0, 0.0)])
def test_a_judge_that_is_always_right_reports_1_and_one_that_is_always_fooled_0(verdict, accuracy):
    """Real points lie at +5, fakes at -5, and D is a multiple of the coordinate."""
    generator, discriminator = nn.Linear(1, 1), nn.Linear(1, 1, bias=False)
    with tg.no_grad():
        generator.weight[:], generator.bias[:] = 0.01, -5.0
        discriminator.weight[:] = verdict
    step = GANStep(generator, discriminator, games.non_saturating(), latent=1)
    metrics = step((tg.full((6, 1), 5.0), None))
    assert metrics["d_accuracy"].item() == accuracy
    sure = 1 / (1 + np.exp(-5.0))
    assert metrics["d_real"].item() == pytest.approx(sure if accuracy else 1 - sure, rel=1e-4)
    assert metrics["d_fake"].item() == pytest.approx(1 - sure if accuracy else sure, rel=0.2)


def test_the_norm_of_gradients_that_are_known():
    network = nn.Linear(2, 1)
    network.weight.grad, network.bias.grad = tg.tensor([[3.0, 0.0]]), tg.tensor([4.0])
    assert gradient_norm(network).item() == 5.0
    network.bias.grad = None  # frozen
    assert gradient_norm(network).item() == 3.0


def test_noise_is_standard_normal_and_samples_are_generated_from_it():
    step = toy()
    z = step.noise(20_000).numpy()
    assert z.shape == (20_000, LATENT)
    assert abs(z.mean()) < 0.02 and z.std() == pytest.approx(1, abs=0.01) and abs(z).max() > 3.8
    tg.manual_seed(4)
    z = tg.randn(9, LATENT).numpy()
    tg.manual_seed(4)
    expected = by_hand.linear(z, *by_hand.arrays(step.generator))
    np.testing.assert_allclose(step.sample(9).detach().numpy(), expected, rtol=1e-4, atol=1e-5)
    samples = digits("dcgan").sample(7).detach().numpy()
    assert samples.shape == (7, *DIGIT) and samples.min() >= 0 and samples.max() <= 1


def test_the_slope_of_a_linear_critic_over_the_test_set_is_its_norm():
    weight = np.float32([[3.0, -4.0, 12.0]])
    step = toy(games.wasserstein(), gradient_penalty())
    step.discriminator = nn.Linear(INPUTS, 1)
    with tg.no_grad():
        step.discriminator.weight[:] = tg.tensor(weight)
    x = tg.tensor(points(37))
    with aside(step, 0):  # where nothing is recorded
        found = evaluate(step, [(x[:32], None), (x[32:], None)])
    assert found["gradient_norm"] == pytest.approx(13, rel=1e-5)
    assert found["gradient_norm_sd"] == pytest.approx(0, abs=1e-4)
    assert step.discriminator.weight.grad is None


def test_slopes_of_all_images_are_counted_alike():
    """A critic x^2 / 2 has slope |x|: mean and deviation over 37 points, not over two batches."""

    class Square(nn.Module):
        def forward(self, x):
            return 0.5 * x.square().sum(1, keepdim=True)

    step = toy(games.wasserstein(), gradient_penalty())
    step.discriminator = Square()
    x = points(37)
    x[32:] *= 5
    batches = [(tg.tensor(x[:32]), None), (tg.tensor(x[32:]), None)]
    tg.manual_seed(5)
    lengths = []
    for real, _ in batches:
        fake = by_hand.linear(tg.randn(len(real), LATENT).numpy(), *by_hand.arrays(step.generator))
        share = tg.rand(len(real), 1).numpy().astype(float)
        lengths.extend(np.linalg.norm(share * real.numpy() + (1 - share) * fake, axis=1))
    tg.manual_seed(5)
    found = step.summary(batches)
    assert found["gradient_norm"] == pytest.approx(np.mean(lengths), rel=1e-4)
    assert found["gradient_norm_sd"] == pytest.approx(np.std(lengths, ddof=1), rel=1e-4)


def test_slopes_are_measured_where_a_penalty_speaks_of_them_only():
    assert toy(games.wasserstein(), None, clipped()).summary([(tg.tensor(points()), None)]) == {}


def test_pictures_are_samples_and_points_are_shown_beside_real_ones():
    shown = digits("mlp").pictures(by_hand.images(6))
    assert list(shown) == ["samples"] and shown["samples"].shape == (6, *DIGIT)
    x = tg.tensor(points(6))
    real, samples = toy().pictures((x, None))["samples"]
    assert real is x and samples.shape == (6, INPUTS)
    shown = toy(average=0.9).pictures((x, None))
    assert all(real is x and samples.shape == (6, INPUTS) for real, samples in shown.values())
    assert list(shown) == ["samples", "averaged"]


def test_health_knows_the_floor_of_smoothed_labels():
    won = {"d_loss": 0.34, "d_accuracy": 1.0, "d_grad": 1.0, "g_grad": 1.0}
    assert "D has won" in toy(games.non_saturating(0.1)).health(won)
    assert "well ahead" in toy(games.non_saturating()).health(won)


def test_a_critic_learns_on_images_with_every_rule():
    for rules in ((None, clipped()), (gradient_penalty(), None)):
        step = GANStep(
            DCGenerator(DIGIT, (4, 6), 5), DCCritic(DIGIT, (4, 6)), games.wasserstein(), *rules, latent=5, rounds=2
        )
        metrics = step(by_hand.images(8))
        expected = {"d_loss", "critic_estimate", "d_grad", "g_loss", "g_grad"} | ({"penalty"} if rules[0] else set())
        assert set(metrics) == expected
        assert all(np.isfinite(v.item()) for v in metrics.values())


# ---------------------------------------------------------------------------------- an average of G's weights


def test_the_average_follows_every_update_of_g_and_of_g_alone():
    """average += (1 - decay) (weight - average) after each step of G; the decay of update n is at most (1+n)/(10+n)."""
    step = toy(rounds=2, average=0.3, lr=0.05)
    expected = by_hand.arrays(step.generator)
    before_d = by_hand.arrays(step.discriminator)
    for n in range(1, 7):
        step((tg.tensor(points()), None))
        decay = min(0.3, (1 + n) / (10 + n))
        expected = [a + (1 - decay) * (w - a) for a, w in zip(expected, by_hand.arrays(step.generator), strict=True)]
    last, judge = by_hand.arrays(step.generator), by_hand.arrays(step.discriminator)
    assert all(abs(a - b).max() > 0 for a, b in zip(before_d, judge, strict=True))
    with step.averaged():
        for found, wanted, now in zip(by_hand.arrays(step.generator), expected, last, strict=True):
            np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-6)
            assert abs(found - now).max() > 1e-4
        assert all(map(np.array_equal, by_hand.arrays(step.discriminator), judge))
    assert all(map(np.array_equal, by_hand.arrays(step.generator), last))


def test_an_average_changes_nothing_of_the_training():
    tg.manual_seed(3)
    plain = toy()
    tg.manual_seed(3)
    averaging = toy(average=0.9)
    assert plain.average is None and "average" not in plain.parts() and "average" in averaging.parts()
    for step in (plain, averaging):
        tg.manual_seed(4)
        for _ in range(3):
            step((tg.tensor(points()), None))
    assert by_hand.same(by_hand.state(plain.generator), by_hand.state(averaging.generator))
    assert by_hand.same(by_hand.state(plain.discriminator), by_hand.state(averaging.discriminator))


def test_samples_of_averaged_weights_are_shown_beside_the_last():
    step = digits("mlp", average=0.9, lr=0.01)
    for _ in range(3):
        step(by_hand.images(6))
    with aside(step, 0):
        shown = step.pictures(by_hand.images(6))
    with aside(step, 0):
        last = step.sample(6).numpy()
        with step.averaged():
            averaged = step.sample(6).numpy()
    assert list(shown) == ["samples", "averaged"]
    assert np.array_equal(shown["samples"].numpy(), last) and np.array_equal(shown["averaged"].numpy(), averaged)


def test_batch_norm_has_what_averaged_weights_make_of_noise():
    """Of W z + b, z ~ N(0, I), the mean is b and the variance of each number the sum of its weights' squares."""
    generator = nn.Sequential(nn.Linear(LATENT, INPUTS), nn.BatchNorm1d(INPUTS), nn.Dropout(0.5))
    step = GANStep(generator, nn.Linear(INPUTS, 1), games.minimax(), latent=LATENT, average=0.9, lr=0.1)
    for _ in range(8):
        step((tg.tensor(points()), None))
    step.eval()
    norm, before, state = generator[1], by_hand.state(generator), tg.get_rng_state()
    with step.averaged():
        weight, bias = by_hand.arrays(generator)[:2]
        np.testing.assert_allclose(norm.running_mean.numpy(), bias, atol=0.1)
        np.testing.assert_allclose(norm.running_var.numpy(), (weight**2).sum(1), rtol=0.15)
        assert norm.momentum == 0.1 and not norm.training
        inside = norm.running_mean.numpy().copy()
    assert abs(inside - norm.running_mean.numpy()).max() > 0.01
    assert by_hand.same(before, by_hand.state(generator)) and tg.get_rng_state() == state
    tg.manual_seed(12)
    with step.averaged():
        assert np.array_equal(norm.running_mean.numpy(), inside)  # the same noise at every look, whatever was drawn
    with pytest.raises(KeyboardInterrupt), step.averaged():
        raise KeyboardInterrupt
    assert by_hand.same(before, by_hand.state(generator))
