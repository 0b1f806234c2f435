"""What the slides say of the value of a game, of transport and of G's gradients, against SciPy and closed forms."""

from __future__ import annotations

import math

import by_hand
import numpy as np
import pytest
from scipy import integrate, optimize, special, stats

import tinygen as tg
from tinygen import nn
from tinygen.models import games
from tinygen.studies import divergences, transport
from tinygen.studies import games as theory
from tinygen.studies.transport import Mixture

X = np.linspace(-9, 9, 1801)
WIDTH = X[1] - X[0]
P, Q = stats.norm(-1, 0.8), stats.norm(0.7, 1.3)


def double(array):
    return tg.tensor(np.asarray(array, np.float64))


def coin(heads):
    return double(np.log([heads, 1 - heads]))


# ---------------------------------------------------------------------------------- the value of a game


def test_the_optimal_discriminator_is_p_over_p_plus_q():
    found = theory.optimal_discriminator(double(P.logpdf(X)), double(Q.logpdf(X))).numpy()
    np.testing.assert_allclose(found, P.pdf(X) / (P.pdf(X) + Q.pdf(X)), rtol=1e-9)
    np.testing.assert_allclose(theory.optimal_discriminator(coin(0.5), coin(0.25)).numpy(), [2 / 3, 2 / 5])


def test_the_value_of_any_d_is_its_integral():
    d = lambda x: 1 / (1 + np.exp(-(0.7 - 0.5 * x)))
    on_real = integrate.quad(lambda x: P.pdf(x) * np.log(d(x)), -9, 9)[0]
    on_fake = integrate.quad(lambda x: Q.pdf(x) * np.log(1 - d(x)), -9, 9)[0]
    found = theory.value(double(0.7 - 0.5 * X), double(P.logpdf(X)), double(Q.logpdf(X)), WIDTH).item()
    assert found == pytest.approx(on_real + on_fake, abs=1e-8)
    outcomes = theory.value(double([0.3, -1.0]), coin(0.5), coin(0.25)).item()
    a, b = by_hand.sigmoid(np.array([0.3, -1.0]))
    assert outcomes == pytest.approx(0.5 * np.log(a) + 0.5 * np.log(b) + 0.25 * np.log(1 - a) + 0.75 * np.log(1 - b))


def test_the_value_at_d_star_is_twice_the_jensen_shannon_divergence_less_2_log_2():
    """p = (1/2, 1/2), q = (1/4, 3/4): JS = .0338221, V = -1.3186502."""
    p, q = coin(0.5), coin(0.25)
    assert theory.value(p - q, p, q).item() == pytest.approx(-1.3186502, abs=1e-7)
    assert theory.value_at_optimum(p, q).item() == pytest.approx(-1.3186502, abs=1e-7)
    assert theory.value_at_optimum(p, q).item() == pytest.approx(2 * 0.0338221 - 2 * math.log(2), abs=1e-7)
    log_p, log_q = double(P.logpdf(X)), double(Q.logpdf(X))
    m = lambda x: (P.pdf(x) + Q.pdf(x)) / 2
    halves = [integrate.quad(lambda x, f=f: special.rel_entr(f.pdf(x), m(x)), -9, 9)[0] / 2 for f in (P, Q)]
    exact = 2 * sum(halves) - 2 * math.log(2)
    assert theory.value(log_p - log_q, log_p, log_q, WIDTH).item() == pytest.approx(exact, abs=1e-7)
    assert theory.value_at_optimum(log_p, log_q, WIDTH).item() == pytest.approx(exact, abs=1e-7)


def test_d_star_is_the_maximum_and_not_the_minimum():
    p, q = coin(0.5), coin(0.25)
    best = theory.value(p - q, p, q).item()
    draw = np.random.default_rng(0)
    for _ in range(50):
        assert theory.value(p - q + double(0.1 * draw.normal(size=2)), p, q).item() < best
    found = optimize.minimize(lambda a: -theory.value(double(a), p, q).item(), np.zeros(2)).x
    np.testing.assert_allclose(found, (p - q).numpy(), atol=1e-4)


def test_the_value_falls_to_minus_log_4_where_q_is_p_and_no_further():
    levels = [theory.value_at_optimum(coin(0.5), coin(share)).item() for share in (0.1, 0.25, 0.4, 0.5, 0.6, 0.9)]
    assert levels[3] == pytest.approx(-math.log(4), abs=1e-12) == min(levels)
    assert levels[0] > levels[1] > levels[2] > levels[3] < levels[4] < levels[5]
    assert levels[0] == pytest.approx(levels[5])
    apart = double(stats.norm(-5, 0.3).logpdf(X)), double(stats.norm(5, 0.3).logpdf(X))
    assert theory.value_at_optimum(*apart, WIDTH).item() == pytest.approx(0, abs=1e-9)  # nothing in common: log 1


def test_the_middle_is_where_the_mean_of_both_laws_has_its_mass():
    middle = theory.central(double(P.logpdf(X)), double(Q.logpdf(X)), WIDTH, 0.9).numpy()
    below = lambda x: (P.cdf(x) + Q.cdf(x)) / 2
    ends = [optimize.brentq(lambda x, s=share: below(x) - s, -9, 9) for share in (0.05, 0.95)]
    seen = X[middle]
    assert (seen[0], seen[-1]) == pytest.approx(ends, abs=1.5 * WIDTH) and len(seen) == round(np.ptp(seen) / WIDTH) + 1


def test_equally_likely_points_are_medians_of_equal_parts():
    found = theory.equally_likely(200).numpy()
    assert found.shape == (200, 1)
    np.testing.assert_allclose(found[:, 0], stats.norm.ppf((np.arange(200) + 0.5) / 200), atol=1e-6)


# ---------------------------------------------------------------------------------- gradients of G


@pytest.mark.parametrize("a", [-4.0, -1.5, 0.0, 3.0])
def test_slopes_of_both_objectives_at_a_logit(a):
    """d/da log(1 - s(a)) = -s(a) and d/da -log s(a) = -(1 - s(a)); a = -4: -.018 and -.982."""
    s = 1 / (1 + math.exp(-a))
    found = [theory.slope(game().generator, a) for game in (games.minimax, games.non_saturating)]
    assert found == pytest.approx([-s, s - 1], abs=1e-12)
    if a == -4:
        assert found == pytest.approx([-0.018, -0.982], abs=5e-4)


def test_gradient_norms_are_those_of_every_parameter_together():
    """G(z) = W z + b, D(x) = v x: dL/dW = sum_i L'(a_i) v z_i / n, by hand."""
    tg.manual_seed(0)
    G, D = nn.Linear(3, 2).double(), nn.Linear(2, 1, bias=False).double()
    z = tg.randn(5, 3, dtype=tg.float64)
    a = D(G(z))
    losses = [game().generator(a) for game in (games.minimax, games.non_saturating)]
    found = theory.gradient_norms(losses, list(G.parameters()))
    s = by_hand.sigmoid(a.detach().numpy()[:, 0])
    v = D.weight.detach().numpy()[0]
    for norm, slopes in zip(found, (-s, s - 1)):
        outer = np.einsum("n,k,nj->kj", slopes / 5, v, z.numpy())
        bias = slopes.mean() * v
        assert norm == pytest.approx(math.sqrt((outer**2).sum() + (bias**2).sum()), rel=1e-9)
    assert all(p.grad is None for p in [*G.parameters(), *D.parameters()])


def test_the_ratio_of_both_norms_is_that_of_the_slopes_where_every_logit_is_the_same():
    generator = nn.Linear(2, 1).double()
    for d in (0.5, 0.1, 0.018):
        a = 0 * generator(tg.ones(3, 2, dtype=tg.float64)) + math.log(d / (1 - d))
        a = a + generator(tg.ones(3, 2, dtype=tg.float64)) - generator(tg.ones(3, 2, dtype=tg.float64)).detach()
        losses = [game().generator(a) for game in (games.minimax, games.non_saturating)]
        vanishing, kept = theory.gradient_norms(losses, list(generator.parameters()))
        assert kept / vanishing == pytest.approx((1 - d) / d)


# ---------------------------------------------------------------------------------- transport


def test_the_distance_of_points_is_found_by_sorting():
    draw = np.random.default_rng(0)
    for n in (1, 2, 7, 50):
        x, y = draw.normal(size=n), draw.exponential(size=n) - 0.3
        found = transport.wasserstein(tg.tensor(x), tg.tensor(y)[:, None].flatten())
        assert found == pytest.approx(stats.wasserstein_distance(x, y), abs=1e-12)
        assert transport.wasserstein(tg.tensor(y), tg.tensor(x)) == pytest.approx(found)
        plan = optimize.linear_sum_assignment(abs(x[:, None] - y))
        assert found == pytest.approx(abs(x[plan[0]] - y[plan[1]]).mean())  # the infimum over all couplings
    assert transport.wasserstein(tg.ones(3, 1), tg.zeros(3, 1)) == 1
    with pytest.raises(ValueError, match=r"equally many, .* got \(3,\) and \(4,\): draw as many"):
        transport.wasserstein(tg.ones(3), tg.ones(4))
    with pytest.raises(ValueError, match=r"got \(3, 2\) and \(3, 2\)"):
        transport.wasserstein(tg.ones(3, 2), tg.ones(3, 2))


def test_the_distance_of_gaussians_is_their_closed_form():
    """A shift costs the shift; N(0, s^2) from N(0, t^2) costs |s - t| sqrt(2 / pi); both, E |m + (s - t) z|."""
    normal = lambda mean, sd: Mixture((1.0,), (mean,), (sd,)).points(4000)
    assert transport.wasserstein(normal(0.0, 1.0), normal(-0.7, 1.0)) == pytest.approx(0.7, abs=1e-5)
    wider = 1.5 * math.sqrt(2 / math.pi)
    assert transport.wasserstein(normal(2.0, 1.0), normal(2.0, 2.5)) == pytest.approx(wider, abs=2e-3)
    both = integrate.quad(lambda z: abs(0.4 - 0.6 * z) * stats.norm.pdf(z), -9, 9)[0]
    assert transport.wasserstein(normal(0.0, 1.0), normal(0.4, 0.4)) == pytest.approx(both, abs=2e-3)


def test_points_of_a_mixture_have_its_moments_and_its_shares():
    points = Mixture((0.25, 0.75), (-2.0, 1.0), (0.5, 0.2)).points(2000).numpy()
    assert points.shape == (2000, 1) and (points < -0.3).sum() == 500
    assert points.mean() == pytest.approx(0.25, abs=1e-4)
    assert points.var() == pytest.approx(0.25 * (0.25 + 2.25**2) + 0.75 * (0.04 + 0.75**2), rel=2e-3)


def test_the_best_critic_reaches_the_distance_and_its_slopes_stay_within_1():
    draw = np.random.default_rng(1)
    grid = np.linspace(-6, 6, 4001)
    for shift in (0.0, 1.5, -1.5):
        x, y = draw.normal(size=60), 0.4 * draw.normal(size=60) + shift
        f = transport.potential(tg.tensor(x), tg.tensor(y), tg.tensor(grid)).numpy()
        says = np.interp(x, grid, f).mean() - np.interp(y, grid, f).mean()
        assert says == pytest.approx(stats.wasserstein_distance(x, y), abs=5e-3)
        assert abs(np.diff(f) / np.diff(grid)).max() <= 1 + 1e-9


@pytest.mark.parametrize("theta", [2.5, -0.75, 0.01])
def test_of_two_points_only_the_wasserstein_distance_says_how_far_they_are(theta):
    found = transport.diracs(theta)
    assert found.wasserstein == pytest.approx(abs(theta))
    assert found.js == pytest.approx(math.log(2)) and found.kl == math.inf
    assert transport.diracs(0.0) == (0, 0, 0)


def test_the_divergence_of_outcomes_with_no_mass():
    p, q = np.array([0.5, 0.5, 0.0]), np.array([0.2, 0.3, 0.5])
    found = divergences.kl_of_outcomes(double(p), double(q)).item()
    assert found == pytest.approx(special.rel_entr(p, q).sum())
    assert divergences.kl_of_outcomes(double(q), double(p)).item() == math.inf
