"""Variational autoencoder: an autoencoder whose codes follow N(0, I), so that it can be sampled (lectures 2, 3, 4).

    q(z|x) = N(mean(x), diag sigma(x)^2)       z = mean + sigma * eps,  eps ~ N(0, I)
    -ELBO  = E_q[-log p(x|z)] + KL(q(z|x) || N(0, I))
    KL     = -1/2 sum_j (1 + log sigma_j^2 - mean_j^2 - sigma_j^2)

Everything is summed over pixels and latent dimensions and averaged over the batch, in nats per image. A mean over
pixels would weigh the KL hundreds of times too heavily and make it vanish. (The slide prints the KL with the wrong
sign.)

Absent on purpose: learned priors, KL annealing; a tighter bound is iwae.py's. `beta` multiplies the KL; its honest
value is 1.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from itertools import chain
from typing import Any

import tinygen as tg
from tinygen import nn, optim
from tinygen.nn import functional as F
from tinygen.step import Step

from .health import of_codes

ACTIVE = 0.01  # variance of a latent's mean over the images, above which it is in use (Burda et al. 2016)


class VAEStep(Step):
    """One update. `encoder(x)` gives (mean, log variance), each (N, latent); `decoder(z)` gives logits.

    `prepare(images)`: the x that is modelled, in training and in every test figure; by default the images themselves.
    Raises ValueError where beta is below 0.
    """

    def __init__(
        self,
        encoder: nn.Module,
        decoder: nn.Module,
        likelihood: nn.Module,
        prepare: Callable | None = None,
        *,
        latent: int,
        beta: float = 1.0,
        lr: float = 1e-3,
    ) -> None:
        self.encoder, self.decoder, self.likelihood = (
            encoder,
            decoder,
            likelihood,
        )
        if not beta >= 0:
            raise ValueError(
                f"beta weighs the KL term: it must be at least 0, it is {beta}; its honest value is 1"
            )
        self.prepare, self.latent, self.beta = prepare, latent, beta
        weights = chain(
            encoder.parameters(), decoder.parameters(), likelihood.parameters()
        )
        self.optimizer = optim.Adam(weights, lr=lr)

    def __call__(self, batch: tuple) -> dict[str, tg.Tensor]:
        recon, kl = self.terms(self.seen(batch[0]))
        loss = recon + self.beta * kl
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        return {
            "loss": loss.detach(),
            "recon": recon.detach(),
            "kl": kl.detach(),
        }

    def seen(self, images: tg.Tensor) -> tg.Tensor:
        """The x of images."""
        return self.prepare(images) if self.prepare else images

    def terms(self, x: tg.Tensor) -> tuple[tg.Tensor, tg.Tensor]:
        """(reconstruction term, KL) with one draw of z for each image."""
        mean, log_variance = self.encoder(x)
        z = F.reparameterize(mean, log_variance, tg.randn_like(mean))
        return self.likelihood(self.decoder(z), x), F.gaussian_kl(
            mean, log_variance
        ).mean()

    def measure(self, batch: tuple) -> dict[str, tg.Tensor]:
        """loss (-ELBO: beta is 1 here, whatever was trained) and its two terms."""
        recon, kl = self.terms(self.seen(batch[0]))
        return {"loss": recon + kl, "recon": recon, "kl": kl}

    def log_weights(self, batch: tuple, k: int) -> tg.Tensor:
        """log p(x|z_i) p(z_i) / q(z_i|x) for k draws z_i from q(z|x): (k, N), in nats."""
        x = self.seen(batch[0])
        mean, log_variance = (t.unsqueeze(1) for t in self.encoder(x))
        # An image's draws come one after the other: they do not depend on the rest of its batch.
        noise = tg.randn(
            len(x), k, self.latent, dtype=x.dtype, device=x.device
        )
        z = mean + (0.5 * log_variance).exp() * noise
        targets = x.unsqueeze(1).expand(-1, k, *x.shape[1:]).flatten(0, 1)
        logits = self.decoder(z.flatten(0, 1))
        log_p = self.likelihood.log_prob(logits, targets)
        # The 1/2 log 2 pi of p(z) and of q(z|x) cancel.
        ratio = (noise.square() + log_variance - z.square()).sum(-1)
        return (log_p.reshape(len(x), k) + 0.5 * ratio).T

    def summary(self, batches: Iterable[tuple]) -> dict[str, float]:
        """active: latent dimensions whose mean varies over the images."""
        means = tg.cat([self.encode(batch[0]) for batch in batches])
        return {
            "active": float((means.var(0, correction=0) > ACTIVE).sum().item())
        }

    def health(self, metrics: Mapping[str, float]) -> str | None:
        """What the KL and the latent dimensions in use say about the codes."""
        return of_codes(metrics, self.latent)

    def encode(self, images: tg.Tensor) -> tg.Tensor:
        """The mean of q(z|x), (N, latent)."""
        return self.encoder(self.seen(images))[0]

    def decode(self, z: tg.Tensor) -> tg.Tensor:
        """The mean of p(x|z): images in [0, 1]."""
        return self.likelihood.mean(self.decoder(z))

    def apply(self, images: tg.Tensor) -> tg.Tensor:
        """The reconstruction of images from the mean of q(z|x)."""
        return self.decode(self.encode(images))

    def sample(self, n: int) -> tg.Tensor:
        """n images: the decoder's means at z ~ N(0, I), not draws around them."""
        return self.decode(tg.randn(n, self.latent, device=self.device))

    def pictures(self, batch: tuple) -> dict[str, Any]:
        """Samples, and test images beside their reconstructions."""
        x = batch[0]
        return {
            "samples": self.sample(len(x)),
            "reconstructions": (self.seen(x), self.apply(x)),
        }
