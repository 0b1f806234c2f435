"""The two formulas of a variational autoencoder's Gaussians (Kingma and Welling 2014), in one pass each.

    gaussian_kl      KL(N(mu, e^logvar) || N(0, 1)) = 1/2 sum (mu^2 + e^logvar - 1 - logvar)
    reparameterize   mu + e^(logvar / 2) noise, a draw that is differentiable in mu and logvar
"""

from __future__ import annotations

from ...tape import Tensor, op
from ..pointwise import exp

__all__ = ["gaussian_kl", "reparameterize"]


@op(composite=lambda mu, logvar: (mu.square() + exp(logvar) - 1 - logvar).sum(-1) * 0.5)
def _gaussian_kl(k, mu, logvar):
    """1/2 sum over the last axis of mu^2 + e^logvar - 1 - logvar."""
    return k.sum((mu * mu + k.xp.exp(logvar)) - (logvar + 1), (mu.ndim - 1,), 0.5)


@_gaussian_kl.fused_vjp
def _(k, g, mu, logvar):
    g = g[..., None]
    return g * mu, (0.5 * g) * (k.xp.exp(logvar) - 1)


def gaussian_kl(mu: Tensor, logvar: Tensor) -> Tensor:
    """KL(N(mu, e^logvar) || N(0, 1)) over the last axis, in nats: -1/2 sum(1 + logvar - mu^2 - e^logvar).

    mu and logvar (..., D), else ValueError; result (...). Kingma and Welling 2014, appendix B.
    """
    if not mu.array.ndim or mu.array.shape != logvar.array.shape:
        raise ValueError(
            f"gaussian_kl: mu {mu.array.shape} and logvar {logvar.array.shape} should have one shape, of one axis or "
            "more"
        )
    return _gaussian_kl(mu, logvar)


@op(composite=lambda mu, logvar, noise: mu + exp(logvar * 0.5) * noise)
def _reparameterize(k, mu, logvar, noise):
    """mu + e^(logvar / 2) * noise."""
    return mu + k.xp.exp(logvar * 0.5) * noise


@_reparameterize.fused_vjp
def _(k, g, logvar, noise):
    sigma = k.xp.exp(logvar * 0.5)
    return g, (0.5 * g) * (sigma * noise), g * sigma


def reparameterize(mu: Tensor, logvar: Tensor, noise: Tensor) -> Tensor:
    """mu + e^(logvar / 2) * noise: a draw from N(mu, e^logvar), if noise is one from N(0, 1), differentiable in mu and
    logvar. All of one shape, else ValueError. Kingma and Welling 2014.
    """
    if not mu.array.shape == logvar.array.shape == noise.array.shape:
        shapes = ", ".join(f"{n} {t.array.shape}" for n, t in (("mu", mu), ("logvar", logvar), ("noise", noise)))
        raise ValueError(f"reparameterize: {shapes} should have one shape")
    return _reparameterize(mu, logvar, noise)
