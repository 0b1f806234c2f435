"""The slides' facts about adversarial games: optimal judges, what they tell of distances, slopes of critics."""

from __future__ import annotations

import math
from functools import partial

import by_hand
import numpy as np
import pytest

import tinygen as tg
from tinygen import nn, optim
from tinygen.models import GANStep, games
from tinygen.models.critics import clipped, gradient_penalty, slopes
from tinygen.networks.dcgan import DCCritic, DCDiscriminator, DCGenerator
from tinygen.nn import functional as F
from tinygen.testing import gradcheck, gradgradcheck

P, Q = np.array([0.5, 0.5]), np.array([0.25, 0.75])  # the slide's two distributions over two outcomes
REAL, FAKE = tg.tensor(np.array([0, 0, 1, 1])), tg.tensor(np.array([0, 1, 1, 1]))  # batches of just these shares


def jensen_shannon(p, q):
    m = 0.5 * (p + q)
    divergence = lambda a: sum(x * math.log(x / y) for x, y in zip(a, m) if x > 0)
    return 0.5 * divergence(p) + 0.5 * divergence(q)


def best_answers(game, lr, updates):
    """What D says of each outcome once its loss is least; its loss there."""
    table = tg.zeros(2, requires_grad=True)
    optimizer = optim.SGD([table], lr=lr)
    for _ in range(updates):
        loss = game.discriminator(table[REAL], table[FAKE])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return table.detach(), loss.item()


# ---------------------------------------------------------------------------------- the game of logits


def test_losses_from_logits_are_the_naive_ones_and_finite():
    values = np.linspace(-8, 8, 33)
    a, d = tg.tensor(values), by_hand.sigmoid(values)
    far = tg.tensor(np.array([-50.0]))  # costs nothing on the fake side
    on_real = lambda smoothing: games.minimax(smoothing).discriminator(a, far).item()
    assert on_real(0.0) == pytest.approx(-np.log(d).mean())
    assert on_real(0.1) == pytest.approx(-(0.9 * np.log(d) + 0.1 * np.log(1 - d)).mean())
    assert games.minimax().discriminator(-far, a).item() == pytest.approx(-np.log(1 - d).mean())
    assert games.minimax().generator(a).item() == pytest.approx(np.log(1 - d).mean())
    assert games.non_saturating().generator(a).item() == pytest.approx(-np.log(d).mean())


def test_losses_are_finite_at_logits_of_50():
    both, one = tg.tensor([50.0, -50.0]), tg.tensor([-50.0])
    assert games.minimax().discriminator(-one, both).item() == pytest.approx(25.0)
    for game in (games.minimax(), games.non_saturating(), games.minimax(0.1)):
        assert np.isfinite(game.discriminator(both, both).item()) and np.isfinite(game.generator(both).item())
    assert games.minimax().generator(both).item() == pytest.approx(-25.0)
    assert games.non_saturating().generator(both).item() == pytest.approx(25.0)


def test_the_non_saturating_gradient_survives_where_the_minimax_one_vanishes():
    """At logit a: d/da log(1 - s(a)) = -s(a) and d/da -log s(a) = -(1 - s(a)); a = -4: -0.018 and -0.982."""
    gradients = {}
    for game in (games.minimax, games.non_saturating):
        a = tg.tensor([-4.0], requires_grad=True)
        game().generator(a).backward()
        gradients[game.__name__] = a.grad.item()
    assert gradients["minimax"] == pytest.approx(-0.01799, abs=1e-5)
    assert gradients["non_saturating"] == pytest.approx(-0.98201, abs=1e-5)


def test_the_optimal_discriminator_is_p_over_p_plus_q_and_its_value_tells_the_jensen_shannon_divergence():
    """D* = (2/3, 2/5); V(D*) = 2 JS - 2 log 2 = -1.3186502, JS = 0.0338221."""
    assert jensen_shannon(P, Q) == pytest.approx(0.0338221, abs=1e-7)
    for game in (games.minimax(), games.non_saturating()):
        table, loss = best_answers(game, 4.0, 120)
        assert table.sigmoid().tolist() == pytest.approx(P / (P + Q), abs=1e-3)
        assert -loss == pytest.approx(-1.3186502, abs=1e-6)
        assert -loss == pytest.approx(2 * jensen_shannon(P, Q) - 2 * math.log(2), abs=1e-6)


def test_where_both_are_alike_the_value_is_minus_log_4():
    table = tg.zeros(2)
    loss = games.minimax().discriminator(table[REAL], table[REAL]).item()
    assert -loss == pytest.approx(-1.386294, abs=1e-6)
    gradient = tg.zeros(2, requires_grad=True)
    games.minimax().discriminator(gradient[REAL], gradient[REAL]).backward()
    assert gradient.grad.tolist() == pytest.approx([0, 0], abs=1e-7)  # D = 1/2 is the optimum


def test_the_optimum_of_least_squares_is_p_over_p_plus_q_as_it_stands():
    table, _ = best_answers(games.least_squares(), 0.5, 60)
    assert table.tolist() == pytest.approx(P / (P + Q), abs=1e-6)


def test_smoothing_is_one_sided_since_the_other_side_would_reward_present_fakes():
    """With real labels 1 - s the optimum is (1 - s) p / (p + q): still a function that falls with q."""
    table, _ = best_answers(games.minimax(0.1), 4.0, 120)
    assert table.sigmoid().tolist() == pytest.approx(0.9 * P / (P + Q), abs=1e-3)


def test_d_keeps_its_own_loss_in_the_non_saturating_game():
    """One slide merges both players into E log D(x) - E log D(G(z)), which D must not maximise."""
    fake = tg.tensor([3.0])
    real = tg.tensor([1.0])
    merged = (F.softplus(-real) - F.softplus(-fake)).item()
    found = games.non_saturating().discriminator(real, fake).item()
    assert found == pytest.approx(games.minimax().discriminator(real, fake).item())
    assert abs(found - merged) > 1


# ---------------------------------------------------------------------------------- k updates of D


@pytest.mark.parametrize("k", [1, 3])
def test_algorithm_1_updates_d_k_times_then_g_once_with_d_frozen(k):
    step = GANStep(nn.Linear(2, 2), nn.Linear(2, 1), games.minimax(), latent=2, rounds=k)
    calls = []
    optimizers = {"d": step.discriminator_optimizer, "g": step.generator_optimizer}
    for name, optimizer in optimizers.items():
        take = optimizer.step
        optimizer.step = lambda take=take, name=name: (calls.append(name), take())[1]
    update, frozen = step.update_generator, []

    def watched(fake):
        before = [p.grad.numpy().copy() for p in step.discriminator.parameters()]
        metrics = update(fake)
        after = [p.grad.numpy() for p in step.discriminator.parameters()]
        frozen.append(all(np.array_equal(a, b) for a, b in zip(before, after)))
        return metrics

    step.update_generator = watched
    step((tg.randn(6, 2), None))
    assert calls == ["d"] * k + ["g"]
    assert frozen == [True]


# ---------------------------------------------------------------------------------- Wasserstein


def test_every_weight_of_a_clipped_critic_stays_within_its_limit():
    step = GANStep(
        DCGenerator((1, 8, 8), (3, 4), 3), DCCritic((1, 8, 8), (3, 4)), games.wasserstein(), None, clipped(0.01),
        latent=3, rounds=2, lr=5e-2, optimizer=optim.RMSprop,
    )  # fmt: skip
    update, largest = step.update_discriminator, []
    step.update_discriminator = lambda real, fake: (
        update(real, fake), largest.append(max(abs(w).max() for w in by_hand.arrays(step.discriminator)))
    )[0]  # fmt: skip
    for _ in range(4):
        step(by_hand.images(8))
    assert len(largest) == 8
    assert all(value <= np.float32(0.01) for value in largest)
    assert max(largest) == np.float32(0.01)  # and the limit is reached
    assert max(abs(w).max() for w in by_hand.arrays(step.generator)) > 0.01  # G is free


@pytest.mark.parametrize("theta", [2.5, -0.75, 0.125])
def test_between_two_diracs_the_critic_measures_theta_while_jensen_shannon_stays_log_2(theta):
    """Points at 0 and at theta; critics w x with |w| <= 1, the clipped ones, are the 1-Lipschitz linear ones."""
    critic = nn.Linear(1, 1)
    generator = nn.Linear(1, 1)
    step = GANStep(
        generator, critic, games.wasserstein(), None, clipped(1.0), latent=1, lr=0.5, optimizer=optim.RMSprop
    )  # fmt: skip
    real, fake = tg.full((4, 1), theta), tg.zeros(4, 1)
    for _ in range(20):
        metrics = step.update_discriminator(real, fake)
    assert metrics["critic_estimate"].item() == abs(theta)
    assert metrics["d_loss"].item() == -abs(theta)
    assert jensen_shannon(np.array([1.0, 0.0]), np.array([0.0, 1.0])) == pytest.approx(math.log(2))
    assert critic.weight.item() == math.copysign(1, theta)


def test_the_generator_of_a_wasserstein_game_walks_towards_the_real_point():
    """Not away from it: the sign that ports get wrong."""
    generator = nn.Linear(1, 1)
    with tg.no_grad():
        generator.weight[:], generator.bias[:] = 0, 0
    step = GANStep(
        generator, nn.Linear(1, 1), games.wasserstein(), None, clipped(1.0), latent=1, lr=0.05,
        d_lr=0.5, optimizer=partial(optim.SGD),
    )  # fmt: skip
    for _ in range(60):
        step((tg.full((4, 1), 2.0), None))
    assert generator.bias.item() > 0.5


# ---------------------------------------------------------------------------------- gradient penalty


@pytest.mark.parametrize("shape", [(5,), (2, 3, 4)])
def test_the_penalty_of_a_linear_critic_is_the_square_of_its_norm_less_1(shape):
    size = math.prod(shape)
    critic = nn.Sequential(nn.Flatten(), nn.Linear(size, 1)).double()
    by_hand.stir(critic)
    w = by_hand.arrays(critic)[0]
    real, fake = (tg.randn(6, *shape, dtype=tg.float64) for _ in range(2))
    value = gradient_penalty(1.0)(critic, real, fake).item()
    assert value == pytest.approx((np.linalg.norm(w) - 1) ** 2, rel=1e-12)
    assert gradient_penalty(10.0)(critic, real, fake).item() == pytest.approx(10 * value, rel=1e-12)


def test_the_share_of_a_mixture_is_uniform_and_not_normal():
    class Watching(nn.Module):
        def forward(self, x):
            seen.append(x.detach().numpy()[:, 0].copy())
            return x

    n, seen = 50_000, []
    slopes(Watching(), tg.ones(n, 1), tg.zeros(n, 1))  # a point between 1 and 0 is its share
    share = np.sort(seen[0])
    assert share[0] >= 0 and share[-1] <= 1
    assert abs(share - (np.arange(n) + 0.5) / n).max() < 1.95 / math.sqrt(n)  # Kolmogorov: once in a thousand
    for tail in (0.01, 0.001):
        bound = 5 * math.sqrt(tail / n)
        assert (share < tail).mean() == pytest.approx(tail, abs=bound)
        assert (share > 1 - tail).mean() == pytest.approx(tail, abs=bound)
    assert share.mean() == pytest.approx(0.5, abs=0.007) and share.var() == pytest.approx(1 / 12, abs=0.002)


def test_points_lie_between_a_real_and_its_own_fake():
    class Watching(nn.Module):
        def forward(self, x):
            seen.append(x.detach().numpy().copy())
            return x.sum(1, keepdim=True)

    seen = []
    real, fake = tg.randn(30, 4), 10 + tg.randn(30, 4)
    slopes(Watching(), real, fake)
    share = (seen[0] - fake.numpy()) / (real - fake).numpy()
    assert np.ptp(share, axis=1).max() < 1e-4  # on the line of its pair
    assert (share > -1e-4).all() and (share < 1 + 1e-4).all() and np.ptp(share[:, 0]) > 0.5


def normal(*shape, seed=0):
    return tg.tensor(np.random.default_rng(seed).normal(size=shape))


LAYERS = {  # what critics and generators are made of, away from kinks
    "conv": (lambda x, w: F.conv2d(x, w, stride=2, padding=1), [normal(2, 2, 6, 5), normal(3, 2, 4, 4, seed=1)]),
    "transposed conv": (
        lambda x, w: F.conv_transpose2d(x, w, stride=2, padding=1), [normal(2, 3, 3, 2), normal(3, 2, 4, 4, seed=1)]
    ),
    "leaky relu": (lambda x: F.leaky_relu(x, 0.2) ** 2, [normal(4, 5) + 0.05]),
    "matmul": (lambda x, w: x @ w, [normal(4, 3), normal(3, 5, seed=1)]),
    "linear": (lambda x, w, b: F.linear(x, w, b), [normal(4, 3), normal(5, 3, seed=1), normal(5, seed=2)]),
}  # fmt: skip


@pytest.mark.parametrize("name", LAYERS)
def test_layers_of_critics_can_be_differentiated_twice(name):
    function, inputs = LAYERS[name]
    assert gradcheck(function, [x.clone().requires_grad_() for x in inputs])
    assert gradgradcheck(function, [x.clone().requires_grad_() for x in inputs])


@pytest.mark.parametrize("name", ["conv", "transposed conv", "linear"])
def test_the_penalty_s_gradient_passes_through_layers(name):
    """A critic of layer, LeakyReLU and sum: the penalty's gradient in the weights, against differences."""
    layer = {
        "conv": lambda: nn.Conv2d(2, 3, 4, 2, 1),
        "transposed conv": lambda: nn.ConvTranspose2d(2, 3, 4, 2, 1),
        "linear": lambda: nn.Sequential(nn.Flatten(), nn.Linear(2 * 6 * 5, 4)),
    }[name]
    critic = nn.Sequential(layer(), nn.LeakyReLU(0.2), nn.Flatten()).double()
    by_hand.stir(critic)
    real, fake = normal(3, 2, 6, 5), normal(3, 2, 6, 5, seed=1)

    def penalty(arrays=None):
        for p, value in zip(critic.parameters(), arrays or []):
            p.data.copy_(tg.tensor(value))
        tg.manual_seed(1)  # the same points
        return gradient_penalty(10.0)(critic, real, fake)

    before = by_hand.arrays(critic)
    penalty().backward()
    found = [np.zeros(p.shape) if p.grad is None else p.grad.numpy().copy() for p in critic.parameters()]
    assert abs(found[0]).max() > 0
    assert by_hand.same_slopes(lambda weights: penalty(weights).item(), before, found, rel=1e-5)


# ---------------------------------------------------------------------------------- DCGAN


def test_dcgan_starts_from_normal_weights_of_deviation_0_02_and_its_shapes_halve_and_double():
    tg.manual_seed(0)
    G, D = DCGenerator((1, 28, 28), (16, 32), 100), DCDiscriminator((1, 28, 28), (16, 32))
    for module in [*G.modules(), *D.modules()]:
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d | nn.Linear) and module.weight.numel() > 200:
            w = module.weight.detach().numpy()
            assert w.std() == pytest.approx(0.02, rel=0.15) and abs(w.mean()) < 0.004
    sides = []
    for module in [*G.modules(), *D.modules()]:
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
            module.register_forward_hook(lambda m, inputs, output: sides.append(output.shape[1:]))
    D(G(tg.randn(2, 100)))
    assert sides == [(16, 14, 14), (1, 28, 28), (16, 14, 14), (32, 7, 7)]
