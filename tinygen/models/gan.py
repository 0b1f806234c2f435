"""Generative adversarial network: G turns noise into data, D tells it from real data (Goodfellow 2014, lectures 0-4).

    repeat `rounds` times:   minimise over D   game.discriminator(D(x), D(G(z))) + penalty(D, x, G(z))
    then once:               minimise over G   game.generator(D(G(z)))

The game (games.py) is a pair of losses, the penalty and the constraint (critics.py) are functions: so DCGAN, LSGAN,
WGAN and WGAN-GP are this one Step. D sees detached fakes; in G's update D is frozen: neither player computes the
other's gradients, and both see the same fakes. An average of G's weights is kept beside them where it is asked for.

Absent on purpose: labels (conditional_gan.py) and the range of the data, which is the networks' business.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Any

import tinygen as tg
from tinygen import nn, optim
from tinygen.step import Step

from .critics import slopes
from .games import Game
from .health import of_a_game

ADAM = partial(
    optim.Adam, betas=(0.5, 0.999)
)  # with the usual .9 the game circles (Radford 2016)


class GANStep(Step):
    """One round of the game. `optimizer(parameters, lr=)` makes each player's; `d_lr` is D's, where it differs.

    `average`: the decay of a moving average of G's weights, for `averaged()`; 0 keeps none.
    """

    def __init__(
        self,
        generator: nn.Module,
        discriminator: nn.Module,
        game: Game,
        penalty: Callable | None = None,
        constrain: Callable | None = None,
        *,
        latent: int,
        rounds: int = 1,
        lr: float = 2e-4,
        d_lr: float | None = None,
        optimizer: Callable = ADAM,
        average: float = 0.0,
    ) -> None:
        self.generator, self.discriminator = generator, discriminator
        self.game, self.penalty, self.constrain = game, penalty, constrain
        self.latent, self.rounds = latent, rounds
        self.least_batch = 2 * rounds  # one alone has no statistics to normalise by
        self.generator_optimizer = optimizer(generator.parameters(), lr=lr)
        self.discriminator_optimizer = optimizer(
            discriminator.parameters(), lr=lr if d_lr is None else d_lr
        )
        # The game circles its equilibrium; a mean of the path lies nearer (Yazici 2019).
        self.average = (
            optim.EMA(generator, average, warmup=True) if average else None
        )

    def __call__(self, batch: tuple) -> dict[str, tg.Tensor]:
        for i in range(self.rounds):
            real = batch[0][i :: self.rounds]  # each update has its own share
            fake = self.generator(self.noise(len(real)))
            metrics = self.update_discriminator(real, fake.detach())
        return metrics | self.update_generator(fake)

    def update_discriminator(
        self, real: tg.Tensor, fake: tg.Tensor
    ) -> dict[str, tg.Tensor]:
        """One step of D."""
        on_real, on_fake = self.discriminator(real), self.discriminator(fake)
        loss = self.game.discriminator(on_real, on_fake)
        metrics = {"d_loss": loss.detach()}
        if self.penalty:
            term = self.penalty(self.discriminator, real, fake)
            loss = loss + term
            metrics["penalty"] = term.detach()
        self.discriminator_optimizer.zero_grad()
        loss.backward()
        self.discriminator_optimizer.step()
        if self.constrain:
            self.constrain(self.discriminator)
        with tg.no_grad():
            judged = self.game.judge(on_real, on_fake)
        return metrics | judged | {"d_grad": gradient_norm(self.discriminator)}

    def update_generator(self, fake: tg.Tensor) -> dict[str, tg.Tensor]:
        """One step of G against the D that was just updated, on the fakes D was shown."""
        with tg.frozen(self.discriminator):
            loss = self.game.generator(self.discriminator(fake))
        self.generator_optimizer.zero_grad()
        loss.backward()
        self.generator_optimizer.step()
        if self.average:
            self.average.update()
        return {
            "g_loss": loss.detach(),
            "g_grad": gradient_norm(self.generator),
        }

    @contextmanager
    def averaged(self) -> Iterator[None]:
        """Context manager: G has averaged weights, and batch norm what these make of noise (Izmailov 2018)."""
        state = tg.get_rng_state()
        tg.set_rng_state((0, 1, 0))
        noise = [self.noise(200) for _ in range(10)]
        tg.set_rng_state(state)
        with super().averaged(), normalised_by(self.generator, noise):
            yield

    def noise(self, n: int) -> tg.Tensor:
        """z ~ N(0, I), (n, latent)."""
        return tg.randn(n, self.latent, device=self.device)

    def sample(self, n: int) -> tg.Tensor:
        """n images in [0, 1], or points."""
        return self.generator(self.noise(n))

    def summary(self, batches: Iterable[tuple]) -> dict[str, float]:
        """gradient_norm and gradient_norm_sd: |grad D| between real and fake over the test set. Of a penalty only."""
        if not self.penalty:
            return {}
        with tg.enable_grad():
            norms = [
                slopes(
                    self.discriminator, x, self.generator(self.noise(len(x)))
                ).detach()
                for x, *_ in batches
            ]
        norm = tg.cat(norms)
        return {
            "gradient_norm": norm.mean().item(),
            "gradient_norm_sd": norm.std().item(),
        }

    def pictures(self, batch: tuple) -> dict[str, Any]:
        """Samples, and those of averaged weights; points beside the real ones."""
        x = batch[0]
        beside = lambda samples: samples if x.ndim == 4 else (x, samples)
        found = {"samples": beside(self.sample(len(x)))}
        if self.average:
            with self.averaged():
                found["averaged"] = beside(self.sample(len(x)))
        return found

    def health(self, metrics: Mapping[str, float]) -> str | None:
        """What these means over an epoch say about the game."""
        return of_a_game(metrics, self.game.floor)


@contextmanager
def normalised_by(
    network: nn.Module, batches: Iterable[tg.Tensor]
) -> Iterator[None]:
    """Context manager: batch norm in eval has the statistics of these inputs, not those of its training."""
    norms = [
        m
        for m in network.modules()
        if getattr(m, "track_running_stats", False)
    ]
    held = [(m.momentum, m.training) for m in norms]
    buffers = [(b, b.clone()) for m in norms for b in m.buffers()]
    for m in norms:
        m.reset_running_stats()
        m.momentum, m.training = None, True  # a plain mean over the batches
    with tg.no_grad():
        for batch in batches:
            network(batch)
    for m, (momentum, training) in zip(norms, held):
        m.momentum, m.training = momentum, training
    try:
        yield
    finally:
        for buffer, values in buffers:
            buffer.copy_(values)


def gradient_norm(network: nn.Module) -> tg.Tensor:
    """The Euclidean norm of all gradients of a network, 0-d."""
    with tg.no_grad():
        return (
            tg.stack(
                [
                    p.grad.square().sum()
                    for p in network.parameters()
                    if p.grad is not None
                ]
            )
            .sum()
            .sqrt()
        )
