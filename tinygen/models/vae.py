"""Variational autoencoder: an autoencoder whose codes follow N(0, I), so that it can be sampled (lectures 2, 3, 4).

    q(z|x) = N(mu(x), diag sigma(x)^2)       z = mu + sigma * eps,  eps ~ N(0, I)
    -ELBO  = E_q[-log p(x|z)] + KL(q(z|x) || N(0, I))
    KL     = -1/2 sum_j (1 + log sigma_j^2 - mu_j^2 - sigma_j^2)

Everything is summed over pixels and latent dimensions and averaged over the batch, in nats per image; a mean over
pixels would weigh the KL hundreds of times too heavily and make it vanish. (The slide prints the KL with the wrong
sign.)

Absent on purpose: tighter bounds, learned priors, KL annealing. `beta` multiplies the KL; its honest value is 1.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import tinygen as tg
from tinygen import nn, optim
from tinygen.nn import functional as F

from .autoencoder import ConvDecoder, ConvEncoder, beside, mlp
from .display import ShowsModules


class VAE(nn.Module):
    """`encode` gives (mu, log sigma^2), each (N, latent), from a trunk of `width` values; `decode` pixels' logits."""

    def __init__(self, trunk: nn.Module, width: int, latent: int, decoder: nn.Module) -> None:
        super().__init__()
        self.trunk, self.decoder = trunk, decoder
        self.mu, self.logvar = nn.Linear(width, latent), nn.Linear(width, latent)

    def encode(self, x: tg.Tensor) -> tuple[tg.Tensor, tg.Tensor]:
        h = self.trunk(x).relu()
        return self.mu(h), self.logvar(h)

    def decode(self, z: tg.Tensor) -> tg.Tensor:
        return self.decoder(z)

    def forward(self, x: tg.Tensor) -> tuple[tg.Tensor, tg.Tensor, tg.Tensor]:
        mu, logvar = self.encode(x)
        z = F.reparameterize(mu, logvar, tg.randn_like(mu))
        return self.decode(z), mu, logvar


def mlp_vae(shape: Sequence[int], hidden: Sequence[int] = (400,), latent: int = 20) -> VAE:
    """The classic pixels - hidden - latent - hidden reversed - pixels net."""
    pixels = math.prod(shape)
    trunk = nn.Sequential(nn.Flatten(), *mlp((pixels, *hidden)))
    decoder = nn.Sequential(*mlp((latent, *reversed(hidden), pixels)), nn.Unflatten(1, tuple(shape)))
    return VAE(trunk, hidden[-1], latent, decoder)


def conv_vae(
    shape: Sequence[int], channels: Sequence[int] = (32, 64), hidden: Sequence[int] = (256,), latent: int = 20
) -> VAE:
    """Stride-2 convolutions, hidden linear layers, and the mirror image of both."""
    trunk = ConvEncoder(shape, channels, hidden[:-1], hidden[-1])
    return VAE(trunk, hidden[-1], latent, ConvDecoder(shape, channels, hidden[::-1], latent))


class VAEStep(ShowsModules):
    """One update of a VAE.

    `likelihood`: "bernoulli" (a pixel in [0,1] is its probability to be on) or "gaussian" (its mean is the sigmoid of
    the decoder, its standard deviation one learned number for all pixels; a density, so its nats may well be negative).
    """

    units = dict.fromkeys(("loss", "recon", "kl"), "nats per image") | {"active": "latent dimensions in use"}

    def __init__(
        self, shape: Sequence[int], conv: bool = False, hidden: Sequence[int] = (400,),
        channels: Sequence[int] = (32, 64), latent: int = 20, likelihood: str = "bernoulli",
        beta: float = 1.0, lr: float = 1e-3,
    ) -> None:  # fmt: skip
        if likelihood not in ("bernoulli", "gaussian"):
            raise ValueError(f"VAEStep: likelihood must be 'bernoulli' or 'gaussian', it is {likelihood!r}")
        self.model = conv_vae(shape, channels, hidden, latent) if conv else mlp_vae(shape, hidden, latent)
        self.shape, self.latent, self.likelihood, self.beta = tuple(shape), latent, likelihood, beta
        if likelihood == "gaussian":
            self.model.log_sigma = nn.Parameter(tg.full((), -1.0))
        self.optimizer = optim.Adam(self.model.parameters(), lr=lr)
        self.modules = {"vae": self.model}
        self.optimizers = {"vae": self.optimizer}

    def negative_log_likelihood(self, logits: tg.Tensor, x: tg.Tensor) -> tg.Tensor:
        """-log p(x|z) summed over pixels, averaged over the batch, in nats."""
        if self.likelihood == "bernoulli":
            return F.binary_cross_entropy_with_logits(logits, x, reduction="sum") / len(x)
        error = (logits.sigmoid() - x).square().sum() / len(x)
        log_sigma = self.model.log_sigma
        return 0.5 * error * (-2 * log_sigma).exp() + math.prod(self.shape) * (log_sigma + 0.5 * math.log(2 * math.pi))

    def terms(self, x: tg.Tensor) -> tuple[tg.Tensor, tg.Tensor, tg.Tensor]:
        """(reconstruction term, KL, mu) with one draw of z for each image."""
        logits, mu, logvar = self.model(x)
        return self.negative_log_likelihood(logits, x), F.gaussian_kl(mu, logvar).mean(), mu

    def __call__(self, batch: tuple) -> dict[str, tg.Tensor]:
        x, _ = batch
        recon, kl, _ = self.terms(x)
        loss = recon + self.beta * kl
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        return {"loss": loss.detach(), "recon": recon.detach(), "kl": kl.detach()}

    def sample(self, n: int) -> tg.Tensor:
        """n images: the decoder's means at z ~ N(0, I), not draws around them."""
        z = tg.randn(n, self.latent, device=next(self.model.parameters()).device)
        return self.model.decode(z).sigmoid()

    def pictures(self, batch: tuple) -> dict[str, tg.Tensor]:
        """64 samples; images in rows of eight, each row followed by its reconstruction from z = mu."""
        x, _ = batch
        return {
            "samples": self.sample(64),
            "reconstructions": beside(x, self.model.decode(self.model.encode(x)[0]).sigmoid()),
        }

    def evaluate(self, batches: Iterable[tuple]) -> dict[str, float]:
        """Test loss (-ELBO, one draw of z an image), its two terms, and the number of active units.

        Active are latent dimensions whose mu has a variance above 0.01 over the images (Burda et al. 2016).
        """
        recon = kl = count = 0.0
        mus = []
        for x, _ in batches:
            r, k, mu = self.terms(x)
            recon, kl, count = recon + r.item() * len(x), kl + k.item() * len(x), count + len(x)
            mus.append(mu)
        active = (tg.cat(mus).var(0, correction=0) > 0.01).sum().item()
        return {"loss": (recon + kl) / count, "recon": recon / count, "kl": kl / count, "active": float(active)}
