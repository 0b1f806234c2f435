"""The evidence and its lower bound, where everything can be computed (lectures 2, 3, 4).

    p(z|x) = p(x|z) p(z) / p(x),    p(x) = sum_z p(x|z) p(z)                            bayes
    z ~ N(0, I),  x|z ~ N(W z + b, s^2 I)   =>   x ~ N(b, W W^T + s^2 I)                LinearGaussian
    log p(x) = ELBO(q) + KL(q || p(z|x)),   ELBO(q) = E_q log p(x|z) - KL(q || p(z))

So the ELBO is at most log p(x), and equal to it where q is the posterior. A network has no such formulas; here they
say what a VAE's bound leaves out. A mean of k weights tightens the bound: it rises with k towards log p(x).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

import tinygen as tg

from .divergences import gaussian_kl


class Bayes(NamedTuple):
    """The four tables of a hidden event z and an observed x; posterior[z, x] = p(z|x), each column sums to 1."""

    prior: tg.Tensor
    likelihood: tg.Tensor
    marginal: tg.Tensor
    posterior: tg.Tensor


def bayes(prior: tg.Tensor, likelihood: tg.Tensor) -> Bayes:
    """Bayes' rule for finitely many events: prior (Z,), likelihood (Z, X) with rows p(.|z).

    Raises ValueError where the prior or a row is no distribution.
    """
    for name, table in (
        ("the prior", prior),
        ("each row of the likelihood", likelihood),
    ):
        sums = table.sum(-1)
        if (table < 0).any().item() or (
            (sums - 1).abs() > 1e-6
        ).any().item():
            raise ValueError(
                f"bayes: {name} must be at least 0 and sum to 1; sums: {sums.tolist()}"
            )
    joint = prior[:, None] * likelihood
    marginal = joint.sum(0)
    return Bayes(prior, likelihood, marginal, joint / marginal)


class LinearGaussian(NamedTuple):
    """z ~ N(0, I_d), x|z ~ N(W z + b, s^2 I_D): `weight` (D, d), `bias` (D,), `sigma` s. All of it has a formula."""

    weight: tg.Tensor
    bias: tg.Tensor
    sigma: float

    def evidence(self, x: tg.Tensor) -> tg.Tensor:
        """log p(x) = log N(x; b, W W^T + s^2 I), x (D,), in nats."""
        noise = self.sigma**2 * _eye(self.weight, 0)
        return log_gaussian(
            x, self.bias, self.weight @ self.weight.T + noise
        )

    def posterior(self, x: tg.Tensor) -> tuple[tg.Tensor, tg.Tensor]:
        """(mean (d,), covariance (d, d)) of p(z|x): C = (I + W^T W / s^2)^-1, mean = C W^T (x - b) / s^2."""
        precision = (
            _eye(self.weight, 1)
            + self.weight.T @ self.weight / self.sigma**2
        )
        covariance = tg.linalg.inv(precision)
        return covariance @ self.weight.T @ (
            x - self.bias
        ) / self.sigma**2, covariance

    def elbo(
        self, x: tg.Tensor, mean: tg.Tensor, covariance: tg.Tensor
    ) -> tg.Tensor:
        """E_q log p(x|z) - KL(q || N(0, I)) of q = N(mean, covariance), exact, in nats.

        E_q |x - W z - b|^2 = |x - W mean - b|^2 + tr(W covariance W^T).
        """
        error = (x - self.weight @ mean - self.bias).square().sum()
        spread = (self.weight @ covariance * self.weight).sum()
        constant = len(x) * (
            math.log(self.sigma) + 0.5 * math.log(2 * math.pi)
        )
        expected = -0.5 * (error + spread) / self.sigma**2 - constant
        prior = tg.zeros_like(mean), _eye(self.weight, 1)
        return expected - gaussian_kl(mean, covariance, *prior)

    def gap(
        self, x: tg.Tensor, mean: tg.Tensor, covariance: tg.Tensor
    ) -> tg.Tensor:
        """KL(q || p(z|x)) of q = N(mean, covariance): what the ELBO lacks of log p(x)."""
        return gaussian_kl(mean, covariance, *self.posterior(x))

    def log_weights(
        self,
        x: tg.Tensor,
        mean: tg.Tensor,
        covariance: tg.Tensor,
        draws: int,
    ) -> tg.Tensor:
        """(draws,): log w = log p(x|z) + log p(z) - log q(z) for z drawn from q = N(mean, covariance).

        Their mean estimates the ELBO; the logarithm of the mean of w is log p(x) in the limit.
        """
        noise = tg.randn(draws, len(mean), dtype=mean.dtype)
        z = mean + noise @ tg.linalg.cholesky(covariance).T
        d, units = len(x), _eye(self.weight, 1)
        around = z @ self.weight.T + self.bias
        log_likelihood = -0.5 * (
            (x - around) / self.sigma
        ).square().sum(1) - d * (
            math.log(self.sigma) + 0.5 * math.log(2 * math.pi)
        )
        prior = log_gaussian(z, tg.zeros_like(mean), units)
        return (
            log_likelihood + prior - log_gaussian(z, mean, covariance)
        )


def averaged(
    estimate: Callable[[], float], k: int, repeats: int
) -> np.ndarray:
    """(repeats,) means of k fresh estimates each: the expectation stays, the variance is divided by k."""
    drawn = [estimate() for _ in range(repeats * k)]
    return np.reshape(drawn, (repeats, k)).mean(1)


def reversed_kl(mean: tg.Tensor, log_variance: tg.Tensor) -> tg.Tensor:
    """(N,): KL(N(0, I) || N(mean, e^log_variance)) in nats, of (N, d); the KL of a VAE is the other way round.

    = 1/2 sum_j ((1 + mean_j^2) / sigma_j^2 - 1 + log sigma_j^2).
    """
    inverse = (-log_variance).exp()
    terms = inverse * (1 + mean.square()) - 1 + log_variance
    return 0.5 * terms.sum(1)


def log_gaussian(
    x: tg.Tensor, mean: tg.Tensor, covariance: tg.Tensor
) -> tg.Tensor:
    """log N(x; mean, covariance) of x (d,), or of each row (n, d)."""
    way = x - mean
    scaled = tg.linalg.solve(covariance, way.T).T
    constant = tg.linalg.slogdet(covariance).logabsdet + len(
        mean
    ) * math.log(2 * math.pi)
    return -0.5 * ((way * scaled).sum(-1) + constant)


def _eye(weight: tg.Tensor, axis: int) -> tg.Tensor:
    return tg.eye(weight.shape[axis], dtype=weight.dtype)
