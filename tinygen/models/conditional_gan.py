"""Conditional GAN: both players are told the class (Mirza and Osindero 2014, lectures 2, 3, 4).

    V(D, G) = E_{x,y} log D(x, y) + E_{y,z} log(1 - D(G(z, y), y))

    z ~ N(0, I), y: the labels of the real batch
    minimise over D   game.discriminator(D(x, y), D(G(z, y), y))
    minimise over G   game.generator(D(G(z, y), y))

Fakes have the labels of the real images beside them, so D learns nothing from how often a label comes: an image that
does not fit its label gives a fake away. One slide writes log(1 - sum_y D(y, x)): the sum is that of the
semi-supervised GAN. Here D sees one label.

Absent on purpose: real images with wrong labels as a third kind, and a classifier of D's (Odena's AC-GAN).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import tinygen as tg
from tinygen import nn
from tinygen.errors import SettingError
from tinygen.step import Sheet, Step

from .games import Game
from .gan import ADAM, gradient_norm
from .health import of_a_game, of_classes

ROWS, COLUMNS = 10, 10  # of the sheet: classes, and draws of z


class ConditionalGANStep(Step):
    """One round of the game. `names` are the classes'; generator(z, labels), discriminator(x, labels)."""

    least_batch = 2  # one alone has no statistics to normalise by

    def __init__(
        self,
        generator: nn.Module,
        discriminator: nn.Module,
        game: Game,
        names: Sequence[str],
        *,
        latent: int,
        lr: float = 2e-4,
        d_lr: float | None = None,
        optimizer: Callable = ADAM,
    ) -> None:
        self.generator, self.discriminator = generator, discriminator
        self.game, self.names, self.latent = game, tuple(names), latent
        self.generator_optimizer = optimizer(generator.parameters(), lr=lr)
        self.discriminator_optimizer = optimizer(
            discriminator.parameters(), lr=lr if d_lr is None else d_lr
        )

    def __call__(self, batch: tuple) -> dict[str, tg.Tensor]:
        real, labels = batch
        fake = self.generator(self.noise(len(real)), labels)

        on_real = self.discriminator(real, labels)
        on_fake = self.discriminator(fake.detach(), labels)
        d_loss = self.game.discriminator(on_real, on_fake)
        self.discriminator_optimizer.zero_grad()
        d_loss.backward()
        self.discriminator_optimizer.step()

        with tg.frozen(self.discriminator):
            g_loss = self.game.generator(self.discriminator(fake, labels))
        self.generator_optimizer.zero_grad()
        g_loss.backward()
        self.generator_optimizer.step()

        self.generator.known[labels] = 1.0
        losses = {"d_loss": d_loss.detach(), "g_loss": g_loss.detach()}
        with tg.no_grad():
            judged = self.game.judge(on_real, on_fake)
        norms = {
            "d_grad": gradient_norm(self.discriminator),
            "g_grad": gradient_norm(self.generator),
        }
        return losses | judged | norms

    def noise(self, n: int) -> tg.Tensor:
        """z ~ N(0, I), (n, latent)."""
        return tg.randn(n, self.latent, device=self.device)

    def learned(self) -> list[int]:
        """The labels that training has shown; all, before it."""
        known = self.generator.known.tolist()
        return [k for k, seen in enumerate(known) if seen] or list(
            range(len(known))
        )

    def labelled(
        self, n: int, label: str | None = None
    ) -> tuple[tg.Tensor, tg.Tensor]:
        """n images in [0, 1] and their labels (n,): of each learned class in turn, or all of the one with that name.

        Raises SettingError for a name that training has not shown.
        """
        labels = self.learned()
        if label is not None:
            known = [self.names[k] for k in labels]
            if str(label) not in known:
                raise SettingError(
                    f"no class is called {str(label)!r}; the model has learned {listed(known)}"
                )
            labels = [labels[known.index(str(label))]]
        turns = [labels[i % len(labels)] for i in range(n)]
        y = tg.tensor(turns, device=self.device)
        return self.generator(self.noise(n), y), y

    def sample(self, n: int, label: str | None = None) -> tg.Tensor:
        """n images in [0, 1], of each class in turn, or all of the class with the name `label`."""
        return self.labelled(n, label)[0]

    def pictures(self, batch: tuple) -> dict[str, Any]:
        """A row for each class, the first ten; a column shares its z, so it shows what z is without the class."""
        labels = self.learned()[:ROWS]
        y = tg.tensor(labels, device=self.device).repeat_interleave(COLUMNS)
        z = self.noise(COLUMNS).repeat(len(labels), 1)
        return {"samples": Sheet(self.generator(z, y), COLUMNS)}

    def health(self, metrics: Mapping[str, float]) -> str | None:
        """What these means over an epoch say about the game, and which class is drawn worst."""
        game = of_a_game(metrics, self.game.floor)
        return game + of_classes(metrics, self.names)


def listed(names: Sequence[str], most: int = 20) -> str:
    """Names in one line, at most so many."""
    more = ", ..." if len(names) > most else ""
    return ", ".join(names[:most]) + more
