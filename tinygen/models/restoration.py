"""Restoration: a network learns to undo what images have lost: pixels, colours, a hole (lecture 2).

    y = degrade(x),   x^ = G(y)
    minimise over G   content(x^, x) + adversarial * game.generator(D(x^))
    minimise over D   game.discriminator(D(x), D(x^))

The mean of squares as content gives the mean of all images that y may come from, which is no image: it is blurred, or
grey. A perceptual content compares what a trained network sees in both, and D judges what the others leave open. So
SRResNet (Ledig et al. 2017) is this Step without D, SRGAN is it with one; a regression of colours is it without. D
sees x^ alone; one that sees y beside it is in pix2pix.py.

With `steps` the rate of G falls to 0 in their last third, as an autoencoder's.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import tinygen as tg
from tinygen import nn, optim
from tinygen.nn import functional as F
from tinygen.step import AnySize, Step

from .games import Game
from .gan import gradient_norm
from .health import of_a_game
from .rates import falling

ADAM = optim.Adam
LEAST = 1e-10  # of a squared error: 100 dB
DECIBEL = 10 / math.log(10)


class RestorationStep(Step):
    """One update of G, and of D where there is one. content(restored, x): a loss.

    `figures`, functions of (step, batches), are what `summary` adds over the test set.
    """

    least_batch = 2  # one alone has no statistics to normalise by

    def __init__(
        self,
        generator: nn.Module,
        degrade: Callable,
        content: Callable = F.mse_loss,
        discriminator: nn.Module | None = None,
        game: Game | None = None,
        figures: Sequence[Callable] = (),
        *,
        adversarial: float = 1e-3,
        steps: int | None = None,
        lr: float = 1e-3,
        d_lr: float | None = None,
        betas: tuple[float, float] = (0.9, 0.999),
    ) -> None:
        self.generator, self.degrade, self.content = (
            generator,
            degrade,
            content,
        )
        self.discriminator: Any = discriminator
        self.game: Any = game
        self.figures, self.adversarial = figures, adversarial
        self.optimizer = ADAM(generator.parameters(), lr=lr, betas=betas)
        self.schedule = falling(self.optimizer, steps)
        if discriminator:
            self.discriminator_optimizer = ADAM(
                discriminator.parameters(),
                lr=lr if d_lr is None else d_lr,
                betas=betas,
            )

    def __call__(self, batch: tuple) -> dict[str, tg.Tensor]:
        x = batch[0]
        restored = self.generator(self.degrade(x))
        metrics = {}
        if self.discriminator:
            metrics = self.update_discriminator(x, restored.detach())
        loss = content = self.content(restored, x)
        if self.discriminator:
            with tg.frozen(self.discriminator):
                judged = self.game.generator(self.discriminator(restored))
            loss = content + self.adversarial * judged
            metrics["g_loss"] = judged.detach()
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        if self.schedule:
            self.schedule.step()
        if self.discriminator:
            metrics["g_grad"] = gradient_norm(self.generator)
        return {"content": content.detach()} | metrics

    def update_discriminator(
        self, real: tg.Tensor, fake: tg.Tensor
    ) -> dict[str, tg.Tensor]:
        """One step of D."""
        on_real, on_fake = self.discriminator(real), self.discriminator(fake)
        loss = self.game.discriminator(on_real, on_fake)
        self.discriminator_optimizer.zero_grad()
        loss.backward()
        self.discriminator_optimizer.step()
        with tg.no_grad():
            judged = self.game.judge(on_real, on_fake)
        norm = gradient_norm(self.discriminator)
        return {"d_loss": loss.detach()} | judged | {"d_grad": norm}

    def restored(self, x: tg.Tensor) -> tg.Tensor:
        """Images in [0, 1]: x degraded, and restored."""
        return self.generator(self.degrade(x)).clamp(0, 1)

    def apply(self, images: tg.Tensor) -> tg.Tensor:
        """Restored images in [0, 1] of images that are degraded already."""
        return self.generator(images).clamp(0, 1)

    @property
    def any_size(self) -> AnySize:
        """What the generator says of itself."""
        return AnySize.of(self.generator)

    def measure(self, batch: tuple) -> dict[str, tg.Tensor]:
        """mse per pixel; psnr in dB, the mean over images of each one's; of restored images in [0, 1]."""
        x = batch[0]
        return likeness(self.restored(x), x)

    def pictures(self, batch: tuple) -> dict[str, Any]:
        """What G sees, what it makes of it, and the truth."""
        x = batch[0]
        seen = self.degrade(x)
        shown = seen[:, : x.shape[1]]  # without a mask
        if shown.shape[2:] != x.shape[2:]:
            shown = F.interpolate(shown, size=x.shape[2:])
        if shown.shape[1] != x.shape[1]:
            shown = shown.expand(*x.shape)
        restored = self.generator(seen).clamp(0, 1)
        return {"restored": (shown, restored, x)}

    def health(self, metrics: Mapping[str, float]) -> str | None:
        """What these means over an epoch say about the game; of a network alone, nothing."""
        if self.game is None:
            return None
        return of_a_game(metrics, self.game.floor)


def likeness(x: tg.Tensor, y: tg.Tensor) -> dict[str, tg.Tensor]:
    """mse: mean (x - y)^2; psnr: the mean over images of -10 log10 of each one's, at most 100 dB; l1: mean |x - y|."""
    error = (x - y).square().flatten(1).mean(1)
    psnr = -DECIBEL * error.clamp(min=LEAST).log()
    return {
        "mse": error.mean(),
        "psnr": psnr.mean(),
        "l1": (x - y).abs().mean(),
    }


class Perceptual(nn.Module):
    """A content: mean (x^ - x)^2 + weight * mean (features(x^) - features(x))^2 (Johnson 2016, Ledig 2017).

    features: a frozen network; gradients flow through it to x^. A module, so that it lies where the networks lie.
    """

    def __init__(self, features: nn.Module, weight: float) -> None:
        super().__init__()
        self.features, self.weight = features, weight

    def forward(self, restored: tg.Tensor, x: tg.Tensor) -> tg.Tensor:
        with tg.no_grad():
            wanted = self.features(x)
        seen = F.mse_loss(self.features(restored), wanted)
        return F.mse_loss(restored, x) + self.weight * seen
