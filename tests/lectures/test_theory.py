"""The slides' facts about divergences, Bayes' rule and the evidence, against SciPy, closed forms and counting."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import integrate, optimize, stats

import tinygen as tg
from tinygen.metrics import k_sample_bound
from tinygen.studies import divergences, evidence

X = np.linspace(-12, 12, 1201)
WIDTH = X[1] - X[0]
RULES = [divergences.kl, divergences.reverse_kl, divergences.js]


def double(array):
    return tg.tensor(np.asarray(array, np.float64))


def two_modes(apart=5.0, share=0.6):
    """(log density on X, the density as a function) of (1 - share) N(-apart/2, .6^2) + share N(apart/2, .9^2)."""
    modes = stats.norm(-apart / 2, 0.6), stats.norm(apart / 2, 0.9)
    p = lambda x: (1 - share) * modes[0].pdf(x) + share * modes[1].pdf(x)
    log_p = divergences.log_mixture(double(X), (1 - share, share), (-apart / 2, apart / 2), (0.6, 0.9))
    return log_p, p


def integral(p, q):
    """KL(p || q) of two densities, by SciPy's Simpson rule."""
    fine = np.linspace(-11, 11, 20_001)
    return integrate.simpson(p(fine) * np.log(p(fine) / q(fine)), x=fine)


# ---------------------------------------------------------------------------------- divergences


def test_a_mixture_has_the_density_of_its_parts():
    log_p, p = two_modes()
    np.testing.assert_allclose(log_p.exp().numpy(), p(X), rtol=1e-9)
    with pytest.raises(ValueError, match=r"shares \(0.3, 0.3\) sum to 0.6; they must sum to 1"):
        divergences.log_mixture(double(X), (0.3, 0.3), (0, 1), (1, 1))


def test_divergences_on_a_grid_are_their_integrals():
    log_p, p = two_modes()
    q = stats.norm(0.4, 2.0)
    log_q = double(q.logpdf(X))
    mean = lambda x: (p(x) + q.pdf(x)) / 2
    assert divergences.kl(log_p, log_q, WIDTH).item() == pytest.approx(integral(p, q.pdf), abs=1e-6)
    assert divergences.reverse_kl(log_p, log_q, WIDTH).item() == pytest.approx(integral(q.pdf, p), abs=1e-4)
    both = (integral(p, mean) + integral(q.pdf, mean)) / 2
    assert divergences.js(log_p, log_q, WIDTH).item() == pytest.approx(both, abs=1e-6)


def test_js_of_two_coins_is_the_lectures_number():
    """p = (1/2, 1/2), q = (1/4, 3/4): JS = 0.0338221; of distributions that share nothing it is log 2."""
    p, q = double(np.log([0.5, 0.5])), double(np.log([0.25, 0.75]))
    assert divergences.js(p, q, 1.0).item() == pytest.approx(0.0338221, abs=1e-7)
    far = double(stats.norm(-9, 0.3).logpdf(X)), double(stats.norm(9, 0.3).logpdf(X))
    assert divergences.js(*far, WIDTH).item() == pytest.approx(math.log(2), abs=1e-9)


@pytest.mark.parametrize("rule", RULES)
def test_a_divergence_is_never_negative_and_zero_for_equals_alone(rule):
    draw = np.random.default_rng(0)
    for _ in range(50):
        p, q = (np.log(draw.dirichlet(np.full(6, 0.7)) + 1e-12) for _ in range(2))
        p, q = double(p - np.logaddexp.reduce(p)), double(q - np.logaddexp.reduce(q))
        assert rule(p, q, 1.0).item() > 1e-3 and rule(p, p, 1.0).item() == pytest.approx(0, abs=1e-12)
        jeffreys = divergences.kl(p, q, 1.0).item() + divergences.kl(q, p, 1.0).item()
        assert divergences.js(p, q, 1.0).item() <= min(jeffreys / 4, math.log(2))  # Lin 1991


def test_kl_is_not_symmetric_and_js_is():
    draw = np.random.default_rng(1)
    for _ in range(20):
        p, q = (double(np.log(draw.dirichlet(np.ones(5)))) for _ in range(2))
        there, back = divergences.kl(p, q, 1.0).item(), divergences.kl(q, p, 1.0).item()
        assert abs(there - back) > 1e-3 and divergences.reverse_kl(p, q, 1.0).item() == pytest.approx(back)
        assert divergences.js(p, q, 1.0).item() == pytest.approx(divergences.js(q, p, 1.0).item())


def test_maximum_likelihood_minimises_the_forward_kl():
    """-E_p log q = H(p) + KL(p || q): the model that is likeliest on draws of p is the nearest to p by KL(p || q)."""
    log_p, p = two_modes()
    q = stats.norm(0.3, 2.2)
    entropy = -integrate.quad(lambda x: p(x) * np.log(p(x)), -9, 9, limit=500)[0]
    cross = -integrate.quad(lambda x: p(x) * q.logpdf(x), -9, 9, limit=500)[0]
    assert divergences.kl(log_p, double(q.logpdf(X)), WIDTH).item() == pytest.approx(cross - entropy, abs=1e-6)


def test_the_forward_fit_has_the_targets_moments():
    for apart, share in ((3.0, 0.5), (5.0, 0.6), (8.0, 0.3)):
        log_p, _ = two_modes(apart, share)
        mean = (2 * share - 1) * apart / 2
        variance = (1 - share) * (0.36 + (apart / 2 + mean) ** 2) + share * (0.81 + (apart / 2 - mean) ** 2)
        assert divergences.moments(log_p, double(X), WIDTH) == pytest.approx((mean, math.sqrt(variance)), abs=1e-6)
        fit = divergences.nearest_gaussian(divergences.kl, log_p, double(X), [(1.0, 1.0)])
        assert (fit.mean, fit.sigma) == pytest.approx((mean, math.sqrt(variance)), abs=1e-6)


def test_the_reverse_fit_picks_one_mode_and_the_forward_fit_covers_both():
    log_p, p = two_modes()
    starts = [(-2.5, 1.0), (0.5, 2.5), (2.5, 1.0)]
    fits = {rule: divergences.nearest_gaussian(rule, log_p, double(X), starts) for rule in RULES}
    reverse, forward, middle = fits[divergences.reverse_kl], fits[divergences.kl], fits[divergences.js]
    assert abs(reverse.mean - 2.5) < 0.02 and abs(reverse.sigma - 0.9) < 0.02  # the heavier mode
    assert reverse.value == pytest.approx(-math.log(0.6), abs=2e-3)  # q = a mode: log of its share is left
    assert abs(forward.mean) < 1 and forward.sigma > 2
    assert forward.mean < middle.mean < reverse.mean and reverse.sigma < middle.sigma < forward.sigma

    def left_over(at):
        log_q = stats.norm.logpdf(X, at[0], math.exp(at[1]))
        return (np.exp(log_q) * (log_q - np.log(p(X)))).sum() * WIDTH

    simplex = optimize.minimize(left_over, (2.0, 0.0), method="Nelder-Mead").x
    assert (reverse.mean, math.log(reverse.sigma)) == pytest.approx(tuple(simplex), abs=1e-3)
    for rule in RULES:  # each fit is the best of the three by its own divergence
        left = {other: rule(log_p, fit.log_density(double(X)), WIDTH).item() for other, fit in fits.items()}
        assert min(left, key=left.get) is rule and left[rule] == pytest.approx(fits[rule].value, abs=1e-9)


def test_what_lies_off_the_target_is_over_generalisation():
    normal, wide = double(stats.norm(0, 1).logpdf(X)), double(stats.norm(0, 2).logpdf(X))
    edge = stats.norm.ppf(0.995)
    assert divergences.outside(normal, wide, WIDTH) == pytest.approx(2 * stats.norm.sf(edge / 2), abs=5e-3)
    assert divergences.outside(normal, normal, WIDTH) == pytest.approx(0.01, abs=1e-3)
    log_p, _ = two_modes()
    between = double(stats.norm(-0.4, 0.2).logpdf(X))  # in the valley
    assert divergences.outside(log_p, between, WIDTH) > 0.9


# ---------------------------------------------------------------------------------- Bayes' rule


def test_bayes_rule_in_a_table_of_two_by_two():
    """Rain .3; there .5 in rain, .9 when dry: p(there) = .78, p(rain | there) = .15 / .78, p(rain | absent) = .68."""
    found = evidence.bayes(double([0.3, 0.7]), double([[0.5, 0.5], [0.9, 0.1]]))
    assert found.marginal.tolist() == pytest.approx([0.78, 0.22])
    np.testing.assert_allclose(found.posterior.numpy(), [[15 / 78, 15 / 22], [63 / 78, 7 / 22]], rtol=1e-12)


def test_posterior_times_marginal_is_likelihood_times_prior():
    draw = np.random.default_rng(0)
    prior, likelihood = draw.dirichlet(np.ones(4)), draw.dirichlet(np.ones(3), 4)
    found = evidence.bayes(double(prior), double(likelihood))
    np.testing.assert_allclose(found.posterior.numpy().sum(0), 1)
    np.testing.assert_allclose(found.posterior.numpy() * found.marginal.numpy(), prior[:, None] * likelihood)


def test_bayes_rule_counts():
    """Among draws with x, the share with z is p(z | x)."""
    draw = np.random.default_rng(0)
    z = draw.random(200_000) < 0.3
    x = draw.random(200_000) < np.where(z, 0.5, 0.9)
    found = evidence.bayes(double([0.3, 0.7]), double([[0.5, 0.5], [0.9, 0.1]])).posterior.numpy()
    assert z[x].mean() == pytest.approx(found[0, 0], abs=5e-3) and z[~x].mean() == pytest.approx(found[0, 1], abs=1e-2)


def test_the_bound_of_a_hidden_event_is_reached_by_its_posterior():
    """log p(x) = sum_z q log(p(x, z) / q) + KL(q || p(z|x)), for every q."""
    found = evidence.bayes(double([0.3, 0.7]), double([[0.5, 0.5], [0.9, 0.1]]))
    joint, posterior = np.array([0.15, 0.63]), found.posterior.numpy()[:, 0]
    for rain in (0.01, 0.3, posterior[0], 0.9):
        q = np.array([rain, 1 - rain])
        bound = (q * np.log(joint / q)).sum()
        gap = divergences.kl(double(np.log(q)), double(np.log(posterior)), 1.0).item()
        assert bound + gap == pytest.approx(math.log(found.marginal[0].item()), abs=1e-9)


def test_tables_that_are_no_distributions_are_refused():
    with pytest.raises(ValueError, match="the prior must be at least 0 and sum to 1"):
        evidence.bayes(double([0.3, 0.3]), double([[1.0], [1.0]]))
    with pytest.raises(ValueError, match="each row of the likelihood must be at least 0"):
        evidence.bayes(double([0.5, 0.5]), double([[1.5, -0.5], [0.5, 0.5]]))


# ---------------------------------------------------------------------------------- the evidence


def model(seed=0, inputs=4, latent=2, sigma=0.6):
    draw = np.random.default_rng(seed)
    w, b, x = draw.normal(size=(inputs, latent)), draw.normal(size=inputs), draw.normal(size=inputs)
    return evidence.LinearGaussian(double(w), double(b), sigma), w, b, x


def some_q(seed, latent=2):
    draw = np.random.default_rng(100 + seed)
    root = draw.normal(size=(latent, latent))
    return draw.normal(size=latent), root @ root.T + 0.1 * np.eye(latent)


def test_gaussian_kl_is_the_expected_log_ratio():
    """Against E_p log p / q: at Gauss-Hermite points, where a quadratic is integrated exactly."""
    roots, shares = np.polynomial.hermite_e.hermegauss(5)
    shares = shares / shares.sum()
    for seed in range(5):
        (mean, covariance), (other, second) = some_q(seed), some_q(seed + 50)
        noise = np.array([(a, b) for a in roots for b in roots])
        z = mean + noise @ np.linalg.cholesky(covariance).T
        log_ratio = stats.multivariate_normal(mean, covariance).logpdf(z) - stats.multivariate_normal(
            other, second
        ).logpdf(z)
        expected = (np.outer(shares, shares).ravel() * log_ratio).sum()
        found = divergences.gaussian_kl(*(double(a) for a in (mean, covariance, other, second))).item()
        assert found == pytest.approx(expected, rel=1e-9) and found > 0
        back = divergences.gaussian_kl(*(double(a) for a in (other, second, mean, covariance))).item()
        assert abs(found - back) > 1e-3
        itself = divergences.gaussian_kl(*(double(a) for a in (mean, covariance) * 2)).item()
        assert itself == pytest.approx(0, abs=1e-12)


def test_the_evidence_is_the_integral_of_the_joint():
    one, w, b, x = model(3, inputs=2, latent=1)
    bell = lambda x: np.exp(-0.5 * x**2) / math.sqrt(2 * math.pi)
    joint = lambda z: bell(z) * (bell((x - w[:, 0] * z - b) / 0.6) / 0.6).prod()
    p = integrate.quad(joint, -12, 12, points=[0], limit=500)[0]
    assert one.evidence(double(x)).item() == pytest.approx(math.log(p), abs=1e-8)
    mean, covariance = one.posterior(double(x))
    first = integrate.quad(lambda z: z * joint(z), -12, 12, points=[0], limit=500)[0] / p
    second = integrate.quad(lambda z: z * z * joint(z), -12, 12, points=[0], limit=500)[0] / p
    assert mean.item() == pytest.approx(first, abs=1e-8)
    assert covariance.item() == pytest.approx(second - first**2, abs=1e-8)


def test_log_p_is_the_bound_plus_the_gap_for_every_q():
    for seed in range(20):
        one, w, b, x = model(seed)
        mean, covariance = some_q(seed)
        log_p = stats.multivariate_normal(b, w @ w.T + 0.36 * np.eye(4)).logpdf(x)
        found = one.evidence(double(x)).item()
        q = double(mean), double(covariance)
        bound, gap = one.elbo(double(x), *q).item(), one.gap(double(x), *q).item()
        assert found == pytest.approx(log_p, abs=1e-9)
        assert bound + gap == pytest.approx(log_p, abs=1e-6) and bound < log_p


def test_the_bound_is_reached_by_the_posterior_and_its_slope_there_is_zero():
    one, _, _, x = model()
    mean, covariance = one.posterior(double(x))
    best = one.elbo(double(x), mean, covariance)
    assert best.item() == pytest.approx(one.evidence(double(x)).item(), abs=1e-9)
    free = tg.tensor(mean.numpy(), requires_grad=True)
    (slope,) = tg.grad(one.elbo(double(x), free, covariance), [free])
    np.testing.assert_allclose(slope.numpy(), 0, atol=1e-9)


def test_the_bound_is_the_mean_of_the_log_weights():
    one, _, _, x = model(1)
    mean, covariance = some_q(1)
    tg.manual_seed(0)
    found = one.log_weights(double(x), double(mean), double(covariance), 100_000).numpy()
    error = found.std() / math.sqrt(len(found))
    assert found.mean() == pytest.approx(one.elbo(double(x), double(mean), double(covariance)).item(), abs=5 * error)
    # where q is the posterior every weight is p(x): the estimate has no variance
    exact = one.log_weights(double(x), *one.posterior(double(x)), 50).numpy()
    np.testing.assert_allclose(exact, one.evidence(double(x)).item(), rtol=1e-9)


def test_the_k_sample_bound_rises_from_the_elbo_to_log_p():
    one, _, _, x = model(2, inputs=2, latent=1, sigma=1.5)
    prior = double([0.0]), double([[1.0]])
    tg.manual_seed(0)
    weights = one.log_weights(double(x), *prior, 100_000).numpy()[:, None]
    bounds = [k_sample_bound(weights, k) for k in (1, 5, 50, 500)]
    assert bounds == sorted(bounds) and bounds[0] < bounds[1] < bounds[2]
    assert bounds[0] == pytest.approx(one.elbo(double(x), *prior).item(), abs=0.05)
    assert bounds[0] < bounds[-1] <= one.evidence(double(x)).item() + 0.02
    assert bounds[-1] == pytest.approx(one.evidence(double(x)).item(), abs=0.05)


def test_more_draws_leave_the_bounds_mean_and_divide_its_variance():
    one, _, _, x = model(1)
    q = tuple(double(a) for a in some_q(1))
    tg.manual_seed(0)
    draws = iter(one.log_weights(double(x), *q, 40_000).tolist())
    estimate = lambda: next(draws)
    single, triple = evidence.averaged(estimate, 1, 10_000), evidence.averaged(estimate, 3, 10_000)
    assert single.shape == triple.shape == (10_000,)
    error = 5 * single.std() / 100
    exact = one.elbo(double(x), *q).item()
    assert single.mean() == pytest.approx(exact, abs=error) and triple.mean() == pytest.approx(exact, abs=error)
    assert triple.var() / single.var() == pytest.approx(1 / 3, rel=0.1)


def test_the_reversed_kl_is_that_of_the_prior_from_q():
    draw = np.random.default_rng(0)
    mean, log_variance = draw.normal(size=(5, 3)), draw.normal(size=(5, 3))
    found = evidence.reversed_kl(double(mean), double(log_variance)).numpy()
    prior = double(np.zeros(3)), double(np.eye(3))
    for m, v, value in zip(mean, log_variance, found):
        full = divergences.gaussian_kl(*prior, double(m), double(np.diag(np.exp(v))))
        assert value == pytest.approx(full.item(), rel=1e-9)
