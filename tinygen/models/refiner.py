"""SimGAN: a refiner R makes drawn images look real, and leaves what they show (Shrivastava et al. 2017, lecture 3).

    minimise over D   game.discriminator(D(y), D(R(x)))
    minimise over R   game.generator(D(R(x))) + weight * kept(R(x), x),   kept: mean |R(x) - x|, or `layout`

x is drawn, so whatever a drawing program knows of it (its label) is known of R(x): a network that learns from refined
images needs no labels of real ones. D judges patches, so that R cannot win by one spot; half of the fakes that D sees
are of a history (history.py).

Absent on purpose: pairs of x and y, and labels in the game.
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
from .history import History


class RefinerStep(Step):
    """`rounds` updates of R, then one of D. A batch is (x, y): drawn and real images, of the same number."""

    least_batch = 2  # one half is of the history

    def __init__(
        self,
        refiner: nn.Module,
        discriminator: nn.Module,
        game: Game,
        history: History,
        kept: Callable = F.l1_loss,
        figures: Sequence[Callable] = (),
        *,
        weight: float,
        rounds: int = 1,
        lr: float = 2e-4,
        d_lr: float | None = None,
        optimizer: Callable = ADAM,
    ) -> None:
        self.refiner, self.discriminator = refiner, discriminator
        self.game, self.history, self.kept = game, history, kept
        self.figures, self.weight, self.rounds = figures, weight, rounds
        self.refiner_optimizer = optimizer(refiner.parameters(), lr=lr)
        self.discriminator_optimizer = optimizer(
            discriminator.parameters(), lr=lr if d_lr is None else d_lr
        )

    def __call__(self, batch: tuple) -> dict[str, tg.Tensor]:
        x, y = batch
        for _ in range(self.rounds):
            refined = self.refiner(x)
            with tg.frozen(self.discriminator):
                judged = self.game.generator(self.discriminator(refined))
            change = self.kept(refined, x)
            loss = judged + self.weight * change
            self.refiner_optimizer.zero_grad()
            loss.backward()
            self.refiner_optimizer.step()

        on_real = self.discriminator(y)
        on_fake = self.discriminator(self.history(refined))
        d_loss = self.game.discriminator(on_real, on_fake)
        self.discriminator_optimizer.zero_grad()
        d_loss.backward()
        self.discriminator_optimizer.step()

        losses = {"d_loss": d_loss.detach(), "g_loss": judged.detach()}
        with tg.no_grad():
            read = self.game.judge(on_real, on_fake)
        norms = {
            "d_grad": gradient_norm(self.discriminator),
            "g_grad": gradient_norm(self.refiner),
        }
        return {"penalty": change.detach()} | losses | read | norms

    def apply(self, images: tg.Tensor) -> tg.Tensor:
        """Refined images, of drawn ones."""
        return self.refiner(images)

    @property
    def any_size(self) -> AnySize:
        """What R says of itself."""
        return AnySize.of(self.refiner)

    @property
    def most_batch(self) -> int:
        """Half of a batch, rounded down, goes into the history."""
        return 2 * self.history.size + 1

    def measure(self, batch: tuple) -> dict[str, tg.Tensor]:
        """change: mean |R(x) - x| per value, of the drawn test images."""
        return {"change": F.l1_loss(self.refiner(batch[0]), batch[0])}

    def pictures(self, batch: tuple) -> dict[str, Any]:
        """Drawn images, what they are refined to, and real ones."""
        x, y = batch
        return {"refined": (x, self.refiner(x), y)}

    def health(self, metrics: Mapping[str, float]) -> str | None:
        """What these means over an epoch say about the game."""
        return of_a_game(metrics, self.game.floor)


def layout(refined: tg.Tensor, x: tg.Tensor) -> tg.Tensor:
    """Mean over images of sum |blurred R(x) / its sum - blurred x / its sum|, in [0, 2]: where light is, not how much.

    Strokes may become thinner, rougher, or move by a pixel or two; what they form may not. The blur is two means over
    5x5 pixels.
    """
    return (_spread(refined) - _spread(x)).abs().flatten(1).sum(1).mean()


def _spread(x: tg.Tensor) -> tg.Tensor:
    for _ in range(2):
        x = F.avg_pool2d(x, 5, 1, 2)
    return x / (x.flatten(1).sum(1).reshape(-1, 1, 1, 1) + 1e-6)
