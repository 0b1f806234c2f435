"""BiGAN: an encoder plays beside the generator (Donahue et al. 2017, Dumoulin et al. 2017, lecture 0).

    s real, z ~ N(0, I)
    minimise over D         game.discriminator(D(s, E(s)), D(G(z), z))
    minimise over G and E   game.discriminator(D(G(z), z), D(s, E(s))) + weight * mean (G(E(s)) - s)^2

D sees an image and a code, and asks which of the two was made of the other. G and E win when it takes each pair for
the other kind: so theirs is D's own loss, its arguments changed over. Where D cannot tell the pairs apart, E inverts
G. The slide writes E[1 - log D(G(z), z)] where it is E[log(1 - D(G(z), z))]. The second term, lecture 0's
reconstruction penalty, asks for the inverse directly; with weight 0 nothing but the game does.

Absent on purpose: what the parts say of anomalies, save the last equation of the slide (`scores`).
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
from .gan import ADAM, gradient_norm
from .health import of_a_game


class BiGANStep(Step):
    """One round of the game. `code`: the shape of one z, (latent,) or, of networks without a dense layer, a map's.

    The discriminator takes images and codes; `discriminator.features` are what its last layer sees.
    """

    least_batch = 2  # one alone has no statistics to normalise by

    def __init__(
        self,
        generator: nn.Module,
        encoder: nn.Module,
        discriminator: nn.Module,
        game: Game,
        figures: Sequence[Callable] = (),
        *,
        code: Sequence[int],
        weight: float = 0.0,
        lr: float = 2e-4,
        d_lr: float | None = None,
        optimizer: Callable = ADAM,
    ) -> None:
        self.generator = generator
        self.encoder: Any = encoder
        self.discriminator: Any = discriminator
        self.game, self.figures = game, figures
        self.code, self.weight = tuple(code), weight
        both = chain(generator.parameters(), encoder.parameters())
        self.generator_optimizer = optimizer(both, lr=lr)
        self.discriminator_optimizer = optimizer(
            discriminator.parameters(), lr=lr if d_lr is None else d_lr
        )

    @property
    def latent(self) -> int:
        """Numbers of a code; of a map, at each place."""
        return self.code[0]

    def __call__(self, batch: tuple) -> dict[str, tg.Tensor]:
        s, z = batch[0], self.noise(len(batch[0]))
        code, made = self.encoder(s), self.generator(z)

        on_real = self.discriminator(s, code.detach())
        on_fake = self.discriminator(made.detach(), z)
        d_loss = self.game.discriminator(on_real, on_fake)
        self.discriminator_optimizer.zero_grad()
        d_loss.backward()
        self.discriminator_optimizer.step()

        with tg.frozen(self.discriminator):
            encoded = self.discriminator(s, code)
            generated = self.discriminator(made, z)
        g_loss = loss = self.game.discriminator(generated, encoded)
        metrics = {}
        if self.weight:
            error = F.mse_loss(self.generator(code), s)
            loss = loss + self.weight * error
            metrics["mse"] = error.detach()
        self.generator_optimizer.zero_grad()
        loss.backward()
        self.generator_optimizer.step()

        metrics |= {"d_loss": d_loss.detach(), "g_loss": g_loss.detach()}
        with tg.no_grad():
            read = self.game.judge(on_real, on_fake)
        norms = {
            "d_grad": gradient_norm(self.discriminator),
            "g_grad": gradient_norm(self.generator),
            "e_grad": gradient_norm(self.encoder),
        }
        return metrics | read | norms

    def noise(self, n: int) -> tg.Tensor:
        """z ~ N(0, I), (n, *code)."""
        return tg.randn(n, *self.code, device=self.device)

    def encode(self, images: tg.Tensor) -> tg.Tensor:
        """Codes E(s) of images."""
        return self.encoder(images)

    def decode(self, codes: tg.Tensor) -> tg.Tensor:
        """Images G(z) in [0, 1]."""
        return self.generator(codes)

    def restored(self, images: tg.Tensor) -> tg.Tensor:
        """G(E(s))."""
        return self.generator(self.encoder(images))

    def apply(self, images: tg.Tensor) -> tg.Tensor:
        """G(E(s)): what was learned, as near to the images as it comes."""
        return self.restored(images)

    def sample(self, n: int) -> tg.Tensor:
        """n images in [0, 1]."""
        return self.generator(self.noise(n))

    def measure(self, batch: tuple) -> dict[str, tg.Tensor]:
        """mse of G(E(s)) per value; code_error: mean (E(G(z)) - z)^2, 1 for an E that says 0 of every image."""
        s, z = batch[0], self.noise(len(batch[0]))
        around = self.encoder(self.generator(z))
        return {
            "mse": F.mse_loss(self.restored(s), s),
            "code_error": F.mse_loss(around, z),
        }

    def pictures(self, batch: tuple) -> dict[str, Any]:
        """Samples; images beside what G makes of their codes."""
        s = batch[0]
        found = self.sample(len(s))
        return {"samples": found, "reconstructions": (s, self.restored(s))}

    def health(self, metrics: Mapping[str, float]) -> str | None:
        """What these means over an epoch say about the game."""
        return of_a_game(metrics, self.game.floor)


class AnomalyMapStep(BiGANStep):
    """A BiGAN whose networks have no dense layer, and its score of each pixel (lecture 0).

        scores(s) = alpha (D(s, E(s)) - 1)^2 + (1 - alpha) |G(E(s)) - s|_2

    D gives one number for each code, which is taken for all pixels around it, bilinear between them. The norm is over
    channels and a square of `window` pixels, by the square root of its size: a single grey value says little.
    """

    def __init__(
        self, *args: Any, alpha: float = 0.1, window: int = 7, **options: Any
    ) -> None:
        super().__init__(*args, **options)
        self.alpha, self.window = alpha, window

    def scores(self, images: tg.Tensor) -> tg.Tensor:
        """How anomalous each pixel is, (N, 1, H, W): of normal images near 0."""
        codes = self.encoder(images)
        judged, error = self.judged(images, codes), self.error(images, codes)
        return self.alpha * judged + (1 - self.alpha) * error

    def judged(
        self, images: tg.Tensor, codes: tg.Tensor | None = None
    ) -> tg.Tensor:
        """(D(s, E(s)) - 1)^2 of each pixel, (N, 1, H, W). `codes`: E(s), where it is known."""
        numbers = self.discriminator(
            images, self.encoder(images) if codes is None else codes
        )
        squares = (numbers - 1).square()
        return F.interpolate(squares, size=images.shape[2:], mode="bilinear")

    def error(
        self, images: tg.Tensor, codes: tg.Tensor | None = None
    ) -> tg.Tensor:
        """|G(E(s)) - s|_2 around each pixel, (N, 1, H, W). `codes`: E(s), where it is known."""
        made = self.generator(self.encoder(images) if codes is None else codes)
        squares = (made - images).square().sum(1, keepdim=True)
        half = self.window // 2
        near = F.avg_pool2d(
            squares, self.window, 1, half, count_include_pad=False
        )
        return near.sqrt()

    @property
    def any_size(self) -> AnySize:
        """Pictures whose sides are a multiple of a code's pixels, and how far the score of a pixel looks.

        G makes a pixel of the codes of three places, and E a code of its m pixels and m - 1 to each side. The last but
        one of m pixels is the last to need the code before: so it looks m - 2, m and m - 1 pixels back.
        """
        m = self.encoder.multiple
        reach = 3 * m - 3 + self.window // 2
        return AnySize(self.encoder.channels, 1, m, reach)

    def pictures(self, batch: tuple) -> dict[str, Any]:
        """Samples; images, what G makes of their codes, and their scores as a share of the highest."""
        found = super().pictures(batch)
        scores = self.scores(batch[0])
        shown = (scores / scores.max()).expand(*batch[0].shape)
        return found | {"scores": (*found.pop("reconstructions"), shown)}
