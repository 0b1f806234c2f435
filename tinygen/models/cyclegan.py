"""CycleGAN: from one kind of images to another and back, without pairs (Zhu et al. 2017, lectures 2, 3).

    x of kind A, y of kind B;   G: A to B,   F: B to A
    minimise over D_A, D_B   game.discriminator(D_B(y), D_B(G(x))) + game.discriminator(D_A(x), D_A(F(y)))
    minimise over G, F       game.generator(D_B(G(x))) + game.generator(D_A(F(y)))
                             + cycle (mean |F(G(x)) - x| + mean |G(F(y)) - y|)
                             + identity (mean |G(y) - y| + mean |F(x) - x|)

The slide gives each D one kind of images as real and as fake, and D_B(x) where it is D_B(y): here D_B tells y from
G(x), D_A tells x from F(y). The identity term keeps what needs no change as it is; without it a pair of translators
may invert every image, which no other term sees. Each D sees a pool of older fakes (history.py).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import chain
from typing import Any

import tinygen as tg
from tinygen import nn
from tinygen.nn import functional as F
from tinygen.step import AnySize, Step

from .games import Game
from .gan import ADAM
from .health import of_a_game
from .history import ImagePool


class CycleGANStep(Step):
    """One update of all four networks. forth: G, back: F. A batch is (x, y), of the same size, not paired.

    pool_a, pool_b: older fakes of each kind.
    """

    def __init__(
        self,
        forth: nn.Module,
        back: nn.Module,
        discriminator_a: nn.Module,
        discriminator_b: nn.Module,
        game: Game,
        pool_a: ImagePool,
        pool_b: ImagePool,
        figures: Sequence[Callable] = (),
        *,
        cycle: float = 10.0,
        identity: float = 5.0,
        lr: float = 2e-4,
        optimizer: Callable = ADAM,
    ) -> None:
        self.forth, self.back, self.game = forth, back, game
        self.discriminator_a = discriminator_a
        self.discriminator_b = discriminator_b
        self.pool_a, self.pool_b = pool_a, pool_b
        self.figures = figures
        self.cycle, self.identity = cycle, identity
        both = chain(forth.parameters(), back.parameters())
        self.generator_optimizer = optimizer(both, lr=lr)
        judges = chain(
            discriminator_a.parameters(), discriminator_b.parameters()
        )
        self.discriminator_optimizer = optimizer(judges, lr=lr)

    def __call__(self, batch: tuple) -> dict[str, tg.Tensor]:
        x, y = batch
        to_b, to_a = self.forth(x), self.back(y)
        with tg.frozen(self.discriminator_a, self.discriminator_b):
            judged = self.game.generator(self.discriminator_b(to_b))
            judged = judged + self.game.generator(self.discriminator_a(to_a))
        around = F.l1_loss(self.back(to_b), x) + F.l1_loss(self.forth(to_a), y)
        loss = judged + self.cycle * around
        if self.identity:
            same = F.l1_loss(self.forth(y), y) + F.l1_loss(self.back(x), x)
            loss = loss + self.identity * same
        self.generator_optimizer.zero_grad()
        loss.backward()
        self.generator_optimizer.step()

        on_a = self.discriminator_a(x)
        on_b = self.discriminator_b(y)
        on_fake_a = self.discriminator_a(self.pool_a(to_a.detach()))
        on_fake_b = self.discriminator_b(self.pool_b(to_b.detach()))
        d_loss = self.game.discriminator(on_a, on_fake_a)
        d_loss = d_loss + self.game.discriminator(on_b, on_fake_b)
        self.discriminator_optimizer.zero_grad()
        d_loss.backward()
        self.discriminator_optimizer.step()

        metrics = {"d_loss": d_loss.detach(), "g_loss": judged.detach()}
        with tg.no_grad():
            read = self.game.judge(
                tg.cat([on_a, on_b]), tg.cat([on_fake_a, on_fake_b])
            )
        norms = {
            "d_grad": both_norms(self.discriminator_a, self.discriminator_b),
            "g_grad": both_norms(self.forth, self.back),
        }
        return {"cycle_l1": 0.5 * around.detach()} | metrics | read | norms

    def apply(self, images: tg.Tensor) -> tg.Tensor:
        """Images of kind B, of images of kind A."""
        return self.forth(images)

    @property
    def any_size(self) -> AnySize:
        """What G says of itself."""
        return AnySize.of(self.forth)

    @property
    def most_batch(self) -> int:
        """As many images as a pool holds."""
        return min(self.pool_a.size, self.pool_b.size)

    def measure(self, batch: tuple) -> dict[str, tg.Tensor]:
        """cycle_l1: mean of |F(G(x)) - x| and |G(F(y)) - y| per value; identity_l1: of |G(y) - y| and |F(x) - x|."""
        x, y = batch
        around = F.l1_loss(self.back(self.forth(x)), x)
        around = around + F.l1_loss(self.forth(self.back(y)), y)
        same = F.l1_loss(self.forth(y), y) + F.l1_loss(self.back(x), x)
        return {"cycle_l1": 0.5 * around, "identity_l1": 0.5 * same}

    def pictures(self, batch: tuple) -> dict[str, Any]:
        """Images of each kind, what becomes of them, and what comes back."""
        x, y = batch
        to_b, to_a = self.forth(x), self.back(y)
        return {
            "forth": (x, to_b, self.back(to_b)),
            "back": (y, to_a, self.forth(to_a)),
        }

    def health(self, metrics: Mapping[str, float]) -> str | None:
        """What these means over an epoch say about both games."""
        return of_a_game(metrics, 2 * self.game.floor)


def both_norms(a: nn.Module, b: nn.Module) -> tg.Tensor:
    """The Euclidean norm of all gradients of two networks, 0-d; 0 where nothing has one."""
    learned = [*a.parameters(), *b.parameters()]
    with tg.no_grad():
        squares = [p.grad.square().sum() for p in learned if p.grad is not None]
        return tg.stack(squares).sum().sqrt() if squares else tg.zeros(())
