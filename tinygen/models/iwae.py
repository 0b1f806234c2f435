"""Importance weighted autoencoder: the VAE's networks under a tighter bound (Burda, Grosse and Salakhutdinov 2016).

    L_k = E[log 1/k sum_i w_i],   w_i = p(x|z_i) p(z_i) / q(z_i|x),   z_1 ... z_k ~ q(z|x)

L_1 is the ELBO. L_k rises with k towards log p(x): a code that explains an image badly costs less, so q may be wider.
The gradient passes the draws (z = mean + sigma * eps), as in the VAE; it weighs sample i by w_i / sum w.

Absent on purpose: `beta`, since there is no KL term to weigh.
"""

from __future__ import annotations

import math
from typing import Any

import tinygen as tg
from tinygen.nn import functional as F

from .vae import VAEStep


class IWAEStep(VAEStep):
    """One update on the bound of k draws a training image; `samples` is k. Further arguments are VAEStep's.

    Raises ValueError where samples is below 1.
    """

    def __init__(self, *networks: Any, samples: int, **options: Any) -> None:
        super().__init__(*networks, **options)
        if samples < 1:
            raise ValueError(
                f"samples is the k of the bound: it must be at least 1, it is {samples}"
            )
        self.samples = samples

    def __call__(self, batch: tuple) -> dict[str, tg.Tensor]:
        loss = self.bound(batch)
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        return {"loss": loss.detach()}

    def bound(self, batch: tuple) -> tg.Tensor:
        """-L_k, the mean over the batch."""
        log_w = self.log_weights(batch, self.samples)
        return (math.log(self.samples) - log_w.logsumexp(0)).mean()

    def measure(self, batch: tuple) -> dict[str, tg.Tensor]:
        """loss (-L_k) and the KL of q(z|x) from the prior."""
        kl = F.gaussian_kl(*self.encoder(self.seen(batch[0]))).mean()
        return {"loss": self.bound(batch), "kl": kl}
