"""pix2pix: one image is turned into another, and D sees both (Isola et al. 2017, lectures 2, 3).

    x = observed(y),   y^ = G(x, z)
    minimise over D   game.discriminator(D(x, y), D(x, y^))
    minimise over G   game.generator(D(x, y^)) + weight * mean |y^ - y|

D asks whether y^ is real and whether it belongs to x. Where D sees y^ alone, the game is unconditional: nothing but
the weight of L1 ties y^ to x. The lecture writes G(x|y) for G of x, and G(z|y) where noise z joins it. Where x leaves
little open, G learns to leave z out; a GAN has no term that asks for it.

Absent on purpose: what is not paired (cyclegan.py), and contents other than L1 (restoration.py).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import tinygen as tg
from tinygen import nn
from tinygen.nn import functional as F
from tinygen.step import AnySize, Step

from .games import Game
from .gan import ADAM, gradient_norm
from .health import of_a_game
from .rates import falling
from .restoration import likeness


def both(x: tg.Tensor, y: tg.Tensor) -> tg.Tensor:
    """What a conditional D sees: x, and y behind it."""
    return tg.cat([x, y], 1)


def alone(x: tg.Tensor, y: tg.Tensor) -> tg.Tensor:
    """What an unconditional D sees: y."""
    return y


class Pix2PixStep(Step):
    """One round of the game. observed(y): what G sees; shown(x, y): what D sees, `both` or `alone`.

    weight: of L1; latent: planes of noise behind x, each of one value, 0 for none; steps: after these both rates are 0
    (rates.py), None for constant ones.
    """

    least_batch = 2  # one alone has no statistics to normalise by

    def __init__(
        self,
        generator: nn.Module,
        discriminator: nn.Module,
        game: Game,
        observed: Callable,
        shown: Callable = both,
        figures: Sequence[Callable] = (),
        *,
        weight: float,
        latent: int = 0,
        steps: int | None = None,
        lr: float = 2e-4,
        optimizer: Callable = ADAM,
    ) -> None:
        self.generator, self.discriminator = generator, discriminator
        self.game, self.observed, self.shown = game, observed, shown
        self.figures, self.weight, self.latent = figures, weight, latent
        self.generator_optimizer = optimizer(generator.parameters(), lr=lr)
        self.discriminator_optimizer = optimizer(
            discriminator.parameters(), lr=lr
        )
        self.generator_schedule = falling(self.generator_optimizer, steps)
        self.discriminator_schedule = falling(
            self.discriminator_optimizer, steps
        )

    def __call__(self, batch: tuple) -> dict[str, tg.Tensor]:
        y = batch[0]
        x = self.observed(y)
        made = self.generator(self.with_noise(x))

        on_real = self.discriminator(self.shown(x, y))
        on_fake = self.discriminator(self.shown(x, made.detach()))
        d_loss = self.game.discriminator(on_real, on_fake)
        self.discriminator_optimizer.zero_grad()
        d_loss.backward()
        self.discriminator_optimizer.step()

        with tg.frozen(self.discriminator):
            judged = self.discriminator(self.shown(x, made))
        l1 = F.l1_loss(made, y)
        g_loss = self.game.generator(judged) + self.weight * l1
        self.generator_optimizer.zero_grad()
        g_loss.backward()
        self.generator_optimizer.step()
        for schedule in (self.generator_schedule, self.discriminator_schedule):
            if schedule:
                schedule.step()

        losses = {"d_loss": d_loss.detach(), "g_loss": g_loss.detach()}
        with tg.no_grad():
            read = self.game.judge(on_real, on_fake)
        norms = {
            "d_grad": gradient_norm(self.discriminator),
            "g_grad": gradient_norm(self.generator),
        }
        return {"l1": l1.detach()} | losses | read | norms

    def with_noise(self, x: tg.Tensor) -> tg.Tensor:
        """x, and behind it the planes of noise."""
        if not self.latent:
            return x
        z = tg.randn(len(x), self.latent, 1, 1, device=x.device)
        return tg.cat([x, z.expand(len(x), self.latent, *x.shape[2:])], 1)

    def restored(self, y: tg.Tensor) -> tg.Tensor:
        """Images in [0, 1], made of what is observed of y."""
        return self.apply(self.observed(y))

    def apply(self, images: tg.Tensor) -> tg.Tensor:
        """Images in [0, 1] made of images x as `observed` gives them."""
        return self.generator(self.with_noise(images))

    @property
    def any_size(self) -> AnySize:
        """What the generator says of itself; with noise, which a tile would draw anew, whole pictures alone."""
        said = AnySize.of(self.generator)
        if not self.latent:
            return said
        return said._replace(channels=said.channels - self.latent, reach=None)

    def measure(self, batch: tuple) -> dict[str, tg.Tensor]:
        """l1 and mse per value, and psnr, of images made of what is observed of the test images."""
        y = batch[0]
        return likeness(self.restored(y), y)

    def pictures(self, batch: tuple) -> dict[str, Any]:
        """What G sees, what it makes of it, and the truth."""
        y = batch[0]
        x = self.observed(y)
        seen = x if x.shape[1] == y.shape[1] else x.expand(*y.shape)
        return {"translated": (seen, self.apply(x), y)}

    def health(self, metrics: Mapping[str, float]) -> str | None:
        """What these means over an epoch say about the game."""
        return of_a_game(metrics, self.game.floor)
