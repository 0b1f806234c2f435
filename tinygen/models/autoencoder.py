"""Autoencoder: an encoder E squeezes an image into a few numbers, a decoder D rebuilds it (lectures 0, 1, 3, 4).

    loss = mean over batch and pixels of (x - D(E(x~)))^2 + penalty,    x~ = corrupt(x)

Without a corruption x~ is x. With one this is a denoising autoencoder: it sees x~ and has to return the clean x. A
penalty (penalties.py) makes it sparse, contractive or smooth. With `steps` the rate falls to 0 in their last third.

Absent on purpose: any prior on the codes. So there is nothing to draw samples from; see vae.py.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import chain
from typing import Any

import tinygen as tg
from tinygen import nn, optim
from tinygen.nn import functional as F
from tinygen.step import Step

from .rates import falling


class AutoencoderStep(Step):
    """One update. `corrupt(x)` gives what the encoder sees; `penalty` is one of penalties.py.

    `constrain(decoder)` follows each update; `figures`, of figures.py, are what `summary` adds over the test set.
    Update t of `steps` has learning rate lr min(1, 3 (1 - t / steps)): constant, then linearly down to 0.
    """

    def __init__(
        self,
        encoder: nn.Module,
        decoder: nn.Module,
        corrupt: Callable | None = None,
        penalty: Callable | None = None,
        constrain: Callable | None = None,
        figures: Sequence[Callable] = (),
        *,
        steps: int | None = None,
        lr: float = 1e-3,
    ) -> None:
        self.encoder, self.decoder = encoder, decoder
        self.corrupt, self.penalty = corrupt, penalty
        self.constrain, self.figures = constrain, figures
        self.optimizer = optim.Adam(
            chain(encoder.parameters(), decoder.parameters()), lr=lr
        )
        self.schedule = falling(self.optimizer, steps)

    def __call__(self, batch: tuple) -> dict[str, tg.Tensor]:
        x = batch[0]
        seen = self.corrupt(x) if self.corrupt else x
        code = self.encoder(seen)
        reconstruction = self.decoder(code)
        loss = error = F.mse_loss(reconstruction, x)
        if self.penalty:
            loss = error + self.penalty(
                self.encoder, self.decoder, seen, code, reconstruction
            )
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        if self.constrain:
            self.constrain(self.decoder)
        if self.schedule:
            self.schedule.step()
        metrics = {"mse": error.detach()}
        return (
            metrics | {"penalty": (loss - error).detach()}
            if self.penalty
            else metrics
        )

    def encode(self, x: tg.Tensor) -> tg.Tensor:
        """Codes (N, latent); of a convolutional denoiser a feature map."""
        return self.encoder(x)

    def decode(self, code: tg.Tensor) -> tg.Tensor:
        """Images of codes (N, latent)."""
        return self.decoder(code)

    def apply(self, images: tg.Tensor) -> tg.Tensor:
        """The reconstruction of images as they are: what they lack of the training distribution is lost."""
        return self.decoder(self.encoder(images))

    def measure(self, batch: tuple) -> dict[str, tg.Tensor]:
        """mse, squared error per pixel: against the clean image, where the Step corrupts."""
        x = batch[0]
        return {
            "mse": F.mse_loss(
                self.apply(self.corrupt(x) if self.corrupt else x), x
            )
        }

    def pictures(self, batch: tuple) -> dict[str, Any]:
        """Images beside what the encoder saw, where that differs, and their reconstructions."""
        x = batch[0]
        seen = self.corrupt(x) if self.corrupt else x
        shown = (x, seen.clamp(0, 1)) if self.corrupt else (x,)
        return {"reconstructions": (*shown, self.apply(seen).clamp(0, 1))}
