"""Semi-supervised GAN: D names the classes of real images, G's are of none of them (Salimans 2016, lecture 2).

D gives K logits l(x), one a class; the logit of "fake" is 0, so that with Z(x) = sum_k exp l_k(x)

    D(y|x) = exp l_y / (Z + 1),     D(x) = sum_y D(y|x) = Z / (Z + 1) = sigmoid(log Z)

    minimise over D   cross entropy on the few labelled images  -  E log D(x)  -  E log(1 - D(G(z)))
    minimise over G   feature_matching   |mean f(x) - mean f(G(z))|^2, f(x) the values below D's logits
                      judged_real        -E log D(G(z)), the slide's sum over y

A batch is (images, labelled images, their labels): the first are all images that are there, whose labels nobody reads.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import tinygen as tg
from tinygen import nn, optim
from tinygen.nn import functional as F
from tinygen.step import Step

from .classifier import share_right
from .gan import ADAM, gradient_norm
from .health import of_a_game


def log_real(logits: tg.Tensor) -> tg.Tensor:
    """log D = log Z - softplus(log Z) of logits (N, K), shape (N,): finite for any logits."""
    log_z = logits.logsumexp(1)
    return log_z - F.softplus(log_z)


def log_fake(logits: tg.Tensor) -> tg.Tensor:
    """log(1 - D) = -softplus(log Z) of logits (N, K), shape (N,)."""
    return -F.softplus(logits.logsumexp(1))


def feature_matching(
    discriminator: nn.Module, real: tg.Tensor, fake: tg.Tensor
) -> tg.Tensor:
    """The mean square of mean f(x) - mean f(G(z)): G makes what D's features have on average."""
    with tg.no_grad():
        wanted = discriminator.features(real).mean(0)
    return F.mse_loss(discriminator.features(fake).mean(0), wanted)


def judged_real(
    discriminator: nn.Module, real: tg.Tensor, fake: tg.Tensor
) -> tg.Tensor:
    """-E log D(G(z)), D(G(z)) a sum over the classes."""
    return -log_real(discriminator(fake)).mean()


class SemiSupervisedGANStep(Step):
    """One round. `discriminator.features(x)` are the values below its logits; `objective(D, x, G(z))` is G's loss.

    Update t of `steps` has learning rate lr (1 - t / steps) for both players.
    """

    least_batch = 2  # one alone has no statistics to normalise by

    def __init__(
        self,
        generator: nn.Module,
        discriminator: nn.Module,
        objective: Callable = feature_matching,
        *,
        latent: int,
        steps: int | None = None,
        lr: float = 1e-3,
        optimizer: Callable = ADAM,
    ) -> None:
        self.generator, self.discriminator = generator, discriminator
        self.objective, self.latent = objective, latent
        self.generator_optimizer = optimizer(generator.parameters(), lr=lr)
        self.discriminator_optimizer = optimizer(
            discriminator.parameters(), lr=lr
        )
        rate = lambda t: max(0.0, 1 - t / steps) if steps else 1.0
        schedule = partial(optim.lr_scheduler.LambdaLR, lr_lambda=rate)
        self.generator_schedule = schedule(self.generator_optimizer)
        self.discriminator_schedule = schedule(self.discriminator_optimizer)

    def __call__(self, batch: tuple) -> dict[str, tg.Tensor]:
        real, few, labels = batch
        fake = self.generator(self.noise(len(real)))
        metrics = self.update_discriminator(real, fake.detach(), few, labels)
        return metrics | self.update_generator(real, fake)

    def update_discriminator(
        self, real: tg.Tensor, fake: tg.Tensor, few: tg.Tensor, labels: tg.Tensor
    ) -> dict[str, tg.Tensor]:
        """One step of D: the classes of the few, and real from fake."""
        named = self.discriminator(few)
        on_real, on_fake = self.discriminator(real), self.discriminator(fake)
        supervised = F.cross_entropy(named, labels)
        game = -log_real(on_real).mean() - log_fake(on_fake).mean()
        self.discriminator_optimizer.zero_grad()
        (supervised + game).backward()
        self.discriminator_optimizer.step()
        self.discriminator_schedule.step()
        with tg.no_grad():
            return {
                "loss": supervised.detach(),
                "accuracy": share_right(named, labels),
                "d_loss": game.detach(),
                **judged(on_real, on_fake),
                "d_grad": gradient_norm(self.discriminator),
            }

    def update_generator(
        self, real: tg.Tensor, fake: tg.Tensor
    ) -> dict[str, tg.Tensor]:
        """One step of G against the D that was just updated, on the fakes D was shown."""
        with tg.frozen(self.discriminator):
            loss = self.objective(self.discriminator, real, fake)
        self.generator_optimizer.zero_grad()
        loss.backward()
        self.generator_optimizer.step()
        self.generator_schedule.step()
        return {
            "g_loss": loss.detach(),
            "g_grad": gradient_norm(self.generator),
        }

    def noise(self, n: int) -> tg.Tensor:
        """z ~ N(0, I), (n, latent)."""
        return tg.randn(n, self.latent, device=self.device)

    def sample(self, n: int) -> tg.Tensor:
        """n images in [0, 1]."""
        return self.generator(self.noise(n))

    def measure(self, batch: tuple) -> dict[str, tg.Tensor]:
        """loss, in nats, and accuracy of D as a classifier."""
        x, labels = batch
        logits = self.discriminator(x)
        return {
            "loss": F.cross_entropy(logits, labels),
            "accuracy": share_right(logits, labels),
        }

    def pictures(self, batch: tuple) -> dict[str, Any]:
        """Samples, as many as there are images in the batch."""
        return {"samples": self.sample(len(batch[0]))}

    def health(self, metrics: Mapping[str, float]) -> str | None:
        """What these means over an epoch say about the game."""
        return of_a_game(metrics)


def judged(on_real: tg.Tensor, on_fake: tg.Tensor) -> dict[str, tg.Tensor]:
    """D(x), D(G(z)) and the share judged right, from logits (N, K)."""
    real, fake = log_real(on_real).exp(), log_real(on_fake).exp()
    right = (real > 0.5).float().mean() + (fake < 0.5).float().mean()
    return {
        "d_real": real.mean(),
        "d_fake": fake.mean(),
        "d_accuracy": 0.5 * right,
    }
