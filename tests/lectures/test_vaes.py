"""The slides' facts about the evidence lower bound, the KL, the reparametrisation and the manifold."""

from __future__ import annotations

import math
import statistics

import by_hand
import numpy as np
import pytest

import tinygen as tg
from tinygen import metrics, nn
from tinygen.models import Bernoulli, IWAEStep, VAEStep
from tinygen.networks.mlp import GaussianHead
from tinygen.nn.functional import gaussian_kl
from tinygen.studies import manifold
from tinygen.studies.evidence import averaged

SIGMA = 0.6  # of p(x|z)


class AroundTheDecoder(nn.Module):
    """-log N(x; y, sigma^2 I), y what the decoder gives: the likelihood of a linear-Gaussian model."""

    def forward(self, y, x):
        constant = x.shape[1] * (math.log(SIGMA) + 0.5 * math.log(2 * math.pi))
        return (0.5 * ((x - y) / SIGMA).square().sum(1) + constant).mean()

    def log_prob(self, y, x):
        constant = x.shape[1] * (math.log(SIGMA) + 0.5 * math.log(2 * math.pi))
        return -0.5 * ((x - y) / SIGMA).square().sum(1) - constant

    def mean(self, y):
        return y


def linear_gaussian():
    """z ~ N(0, I), x|z ~ N(W z + b, sigma^2 I), q(z|x) = N(A x + a, e^(B x + c)), float64."""
    step = VAEStep(GaussianHead(4, 2).double(), nn.Linear(2, 4).double(), AroundTheDecoder(), latent=2)
    by_hand.stir(step.encoder, step.decoder)
    return step


def log_density(x, mean, covariance):
    d = x - mean
    return -0.5 * (d @ np.linalg.solve(covariance, d) + np.linalg.slogdet(2 * np.pi * covariance)[1])


def divergence(mean, covariance, other, other_covariance):
    """KL(N(mean, covariance) || N(other, other_covariance))."""
    inverse, d = np.linalg.inv(other_covariance), other - mean
    determinants = np.linalg.slogdet(other_covariance)[1] - np.linalg.slogdet(covariance)[1]
    return 0.5 * (np.trace(inverse @ covariance) + d @ inverse @ d - len(mean) + determinants)


def elbo(step, x, monkeypatch):
    """-(reconstruction + KL), the expectation over z exact: four points +-sqrt(2) e_j have the moments of N(0, I)."""
    noise = math.sqrt(2) * np.array([[1, 0], [-1, 0], [0, 1], [0, -1]])
    monkeypatch.setattr(tg, "randn_like", lambda mean: tg.tensor(noise))
    recon, kl = step.terms(tg.tensor(np.tile(x, (4, 1))))
    return -(recon.item() + kl.item())


def test_log_p_is_the_bound_plus_the_distance_to_the_posterior(monkeypatch):
    """log p(x) = ELBO + KL(q || p(z|x)), to 1e-6, whatever q is; so the bound is below log p."""
    for seed in range(5):
        tg.manual_seed(seed)
        step = linear_gaussian()
        a, c, b, d, w, offset = by_hand.arrays(step.encoder, step.decoder)
        x = np.random.default_rng(seed).normal(size=4)
        evidence = log_density(x, offset, w @ w.T + SIGMA**2 * np.eye(4))
        posterior_covariance = np.linalg.inv(np.eye(2) + w.T @ w / SIGMA**2)
        posterior = posterior_covariance @ w.T @ (x - offset) / SIGMA**2
        mean, variance = a @ x + c, np.exp(b @ x + d)
        gap = divergence(mean, np.diag(variance), posterior, posterior_covariance)
        bound = elbo(step, x, monkeypatch)
        assert evidence == pytest.approx(bound + gap, abs=1e-6)
        assert bound < evidence


def with_the_posterior():
    """(linear-Gaussian model whose q(z|x) is p(z|x), its W and b)."""
    step = linear_gaussian()
    with tg.no_grad():  # columns of W at right angles: a diagonal posterior
        step.decoder.weight[:] = tg.tensor(np.array([[1.0, 0], [1, 0], [0, 2], [0, -1]]))
    _, _, _, _, w, offset = by_hand.arrays(step.encoder, step.decoder)
    variance = 1 / (1 + (w**2).sum(0) / SIGMA**2)
    with tg.no_grad():
        step.encoder.mean.weight[:] = tg.tensor(variance[:, None] * w.T / SIGMA**2)
        step.encoder.mean.bias[:] = tg.tensor(-variance * (w.T @ offset) / SIGMA**2)
        step.encoder.log_variance.weight[:] = 0
        step.encoder.log_variance.bias[:] = tg.tensor(np.log(variance))
    return step, w, offset


def test_the_bound_is_reached_where_q_is_the_posterior(monkeypatch):
    step, w, offset = with_the_posterior()
    x = np.array([0.3, -1.0, 2.0, 0.5])
    evidence = log_density(x, offset, w @ w.T + SIGMA**2 * np.eye(4))
    assert elbo(step, x, monkeypatch) == pytest.approx(evidence, abs=1e-9)


def exact(x, w, offset):
    """log p(x) of images (N, 4)."""
    return np.array([log_density(row, offset, w @ w.T + SIGMA**2 * np.eye(4)) for row in x])


def test_one_importance_sample_of_the_posterior_is_log_p_itself():
    """p(x|z) p(z) / p(z|x) = p(x), whatever z is drawn; for two images, so that none is taken for the other."""
    step, w, offset = with_the_posterior()
    x = np.array([[0.3, -1.0, 2.0, 0.5], [-0.7, 0.1, 0.4, 1.5]])
    weights = step.log_weights((tg.tensor(x), None), 3).detach().numpy()
    np.testing.assert_allclose(weights, np.tile(exact(x, w, offset), (3, 1)), atol=1e-9)
    assert metrics.importance_sampled_nll(weights[:1]) == pytest.approx(-exact(x, w, offset).mean(), abs=1e-9)


def test_importance_sampling_rises_with_k_to_log_p():
    """Any q that is broad enough: L_1 is the ELBO, L_k rises, L_20000 is log p to a hundredth."""
    step, w, offset = with_the_posterior()
    with tg.no_grad():
        step.encoder.mean.bias[:] += 0.3
        step.encoder.log_variance.bias[:] += 0.7
    x = np.random.default_rng(0).normal(size=(3, 4))
    tg.manual_seed(0)
    with tg.no_grad():
        weights = step.log_weights((tg.tensor(x), None), 20_000).numpy()
    bounds = [metrics.k_sample_bound(weights, k) for k in (1, 2, 5, 50, 20_000)]
    assert bounds == sorted(bounds) and bounds[1] > bounds[0] + 0.1
    assert bounds[-1] == pytest.approx(exact(x, w, offset).mean(), abs=0.01)
    with tg.no_grad():
        recon, kl = step.terms(tg.tensor(np.tile(x, (20_000, 1))))
    assert bounds[0] == pytest.approx(-(recon + kl).item(), abs=0.05)


def test_the_objective_of_an_iwae_is_log_p_where_q_is_the_posterior():
    """-L_k = -log p(x) for every k: log of the mean weight, with no constant lost."""
    of, w, offset = with_the_posterior()
    x = np.array([[0.3, -1.0, 2.0, 0.5], [-0.7, 0.1, 0.4, 1.5], [0.0, 0.0, 1.0, 0.0]])
    for k in (1, 5):
        step = IWAEStep(of.encoder, of.decoder, of.likelihood, latent=2, samples=k)
        assert step((tg.tensor(x), None))["loss"].item() == pytest.approx(-exact(x, w, offset).mean(), abs=1e-9)
        of, w, offset = with_the_posterior()


@pytest.mark.parametrize(("mu", "sigma", "kl"), [(1, 1, 0.5), (0, 2, 0.80685), (0.5, 0.5, 0.44315), (0, 1, 0.0)])
def test_kl_of_gaussians(mu, sigma, kl):
    one = tg.tensor([[float(mu)]]), tg.tensor([[2 * math.log(sigma)]])
    assert gaussian_kl(*one).item() == pytest.approx(kl, abs=2e-5)
    three = (t.expand(4, 3) for t in one)
    assert gaussian_kl(*three).tolist() == pytest.approx([3 * kl] * 4, abs=1e-4)  # summed over dimensions only


def test_kl_is_never_negative_and_zero_for_the_prior_alone():
    draw = np.random.default_rng(0)
    mean, log_variance = draw.normal(size=(1000, 3)), draw.normal(size=(1000, 3))
    found = gaussian_kl(tg.tensor(mean), tg.tensor(log_variance)).numpy()
    assert (found > 0).all()
    full = [divergence(m, np.diag(np.exp(v)), np.zeros(3), np.eye(3)) for m, v in zip(mean[:50], log_variance)]
    np.testing.assert_allclose(found[:50], full, rtol=1e-9)
    assert gaussian_kl(tg.zeros(1, 3), tg.zeros(1, 3)).item() == 0


def test_the_slide_s_sign_is_wrong_the_kl_lowers_the_bound():
    """L needs + 1/2 sum(1 + log sigma^2 - mean^2 - sigma^2), which is -KL: the farther from the prior, the lower."""
    losses = []
    for far in (0.0, 3.0):
        head = GaussianHead(4, 2)
        with tg.no_grad():
            for p in head.parameters():
                p[:] = 0
            head.mean.bias[:] = far
        decoder = nn.Linear(2, 4)
        with tg.no_grad():
            decoder.weight[:] = 0  # the reconstruction does not depend on z
        step = VAEStep(head, decoder, Bernoulli(), latent=2)
        losses.append(step.measure((tg.full((3, 4), 0.5), None))["loss"].item())
        assert step.measure((tg.full((3, 4), 0.5), None))["kl"].item() == pytest.approx(far**2)
    assert losses[1] - losses[0] > 8


def test_reparametrisation_gradients():
    """d E[z^2] / d mu = 2 mu and d / d sigma = 2 sigma, within the Monte Carlo error."""
    tg.manual_seed(0)
    n = 200_000
    mu, sigma = tg.tensor([0.7], requires_grad=True), tg.tensor([1.3], requires_grad=True)
    z = mu + sigma * tg.randn(n)
    (z * z).mean().backward()
    assert mu.grad.item() == pytest.approx(1.4, abs=5 * 2 * 1.3 / math.sqrt(n))
    assert sigma.grad.item() == pytest.approx(2.6, abs=5 * 2 * math.sqrt(0.7**2 + 2 * 1.3**2) / math.sqrt(n))


def test_the_gradient_passes_the_draw_of_the_library_s_reparametrisation():
    """The same law through F.reparameterize; the chain rule of log sigma^2 halves and multiplies by sigma."""
    n = 200_000
    mean, log_variance = tg.tensor([0.7], requires_grad=True), tg.tensor([2 * math.log(1.3)], requires_grad=True)
    z = tg.nn.functional.reparameterize(mean.expand(n), log_variance.expand(n), tg.randn(n))
    (z * z).mean().backward()
    assert mean.grad.item() == pytest.approx(1.4, abs=0.03)
    assert log_variance.grad.item() == pytest.approx(1.3**2, abs=0.03)


def test_the_bernoulli_likelihood_from_logits_is_finite_at_50():
    logits, x = tg.tensor([[50.0, -50.0]]), tg.tensor([[0.0, 1.0]])
    assert Bernoulli()(logits, x).item() == pytest.approx(100.0)
    assert Bernoulli()(logits, 1 - x).item() == pytest.approx(0.0, abs=1e-6)


def test_grey_targets_have_a_floor():
    """-x log x - (1 - x) log(1 - x) is the least a Bernoulli likelihood pays for a grey pixel: log 2 at 1/2."""
    assert Bernoulli()(tg.zeros(2, 3), tg.full((2, 3), 0.5)).item() == pytest.approx(3 * math.log(2))
    assert Bernoulli()(tg.full((2, 3), 0.3), tg.full((2, 3), 0.5)).item() > 3 * math.log(2)


# ---------------------------------------------------------------------------------- the manifold


def test_the_grid_is_the_inverse_distribution_function_of_a_uniform_lattice():
    """Phi(z_i) = (i + 1/2) / n: as dense as the prior, whose median is 0 and whose 97.5 % lie below 1.96."""
    found = manifold.quantiles(20)
    normal = statistics.NormalDist()
    assert found == pytest.approx([normal.inv_cdf((i + 0.5) / 20) for i in range(20)], abs=1e-12)
    assert found[19] == pytest.approx(1.959964, abs=1e-6) and (np.diff(found) > 0).all()
    np.testing.assert_allclose(found, -found[::-1], atol=1e-12)
    drawn = np.random.default_rng(0).normal(size=100_000)
    cells = np.searchsorted((found[1:] + found[:-1]) / 2, drawn)  # the nearest of the lattice
    assert np.bincount(cells)[2:-2] / 5000 == pytest.approx(np.ones(16), abs=0.1)  # an equal share of the samples


def test_the_grid_grows_to_the_right_and_upwards_and_leaves_other_units_at_0():
    codes = manifold.grid(4, 5, (3, 1)).numpy().reshape(4, 4, 5)
    z = manifold.quantiles(4)
    np.testing.assert_allclose(codes[:, :, 3], np.tile(z, (4, 1)), rtol=1e-6)
    np.testing.assert_allclose(codes[:, :, 1], np.tile(z[::-1], (4, 1)).T, rtol=1e-6)
    assert (codes[:, :, [0, 2, 4]] == 0).all() and codes.dtype == np.float32
    for units in ((1, 1), (0, 5), (0,)):
        with pytest.raises(ValueError, match="must be two different ones of the 5 of a code"):
            manifold.grid(4, 5, units)


def test_a_walk_moves_one_unit():
    code = tg.tensor([0.3, -1.0, 2.0])
    found = manifold.walk(code, 1, 7).numpy()
    np.testing.assert_allclose(found[:, 1], manifold.quantiles(7), rtol=1e-6)
    assert (found[:, 0] == np.float32(0.3)).all() and (found[:, 2] == 2.0).all()
    assert code.tolist() == pytest.approx([0.3, -1.0, 2.0])  # as it was


def test_a_unit_is_active_where_its_mean_varies_over_images():
    """Not where it is far from 0: a constant mean of 5 says nothing about the image."""
    means = np.random.default_rng(0).normal(size=(500, 4)) * [1.0, 0.05, 2.0, 0.2] + [0, 5, 0, 0]
    assert manifold.most_active(means).tolist() == [2, 0, 3, 1]
    assert manifold.active(means) == 3  # .05^2 is below .01
    assert manifold.active(means, 0.5) == 2


def test_the_bound_of_k_draws_has_the_mean_of_one_draw_and_less_variance(monkeypatch):
    """(lecture 3) z is drawn k times for an image: E_q log p(x|z) is estimated with a k-th of the variance."""
    tg.manual_seed(0)
    step = linear_gaussian()
    x = np.random.default_rng(0).normal(size=4)
    batch = (tg.tensor(np.tile(x, (8, 1))), None)
    estimate = lambda: -step.measure(batch)["loss"].item()
    one, three = averaged(estimate, 1, 600), averaged(estimate, 3, 600)
    exact = elbo(step, x, monkeypatch)
    for values in (one, three):
        assert values.mean() == pytest.approx(exact, abs=5 * values.std() / math.sqrt(len(values)))
    assert three.var() / one.var() == pytest.approx(1 / 3, rel=0.25)
