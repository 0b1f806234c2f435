"""A GAN that draws textures of any size: one z is an image, a map of z a picture (Jetchev et al. 2016, lecture 0).

    training:   z ~ N(0, I) in R^(latent x 1 x 1),   the game of gan.py on crops of one size
    sampling:   z ~ N(0, I) in R^(latent x h x w),   a picture of any size, cut from the next larger one

Works for what looks the same everywhere. The generator (networks/fully_convolutional.py) says how large a map a picture
takes, and how much memory. Pictures of a size that is asked for are made one after the other.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import tinygen as tg
from tinygen.free_memory import require
from tinygen.step import Step

from .gan import GANStep
from .rates import falling


class TextureGANStep(GANStep):
    """A GANStep whose generator takes maps of noise, and has `size` and `cells(size)`. Further arguments are GANStep's.

    figures: functions of (Step, test batches), which `summary` adds. steps: after these the rates of both players are 0
    (rates.py), None for constant ones.
    """

    def __init__(
        self,
        generator: Any,
        *rules: Any,
        figures: Sequence[Callable] = (),
        steps: int | None = None,
        **numbers: Any,
    ) -> None:
        super().__init__(generator, *rules, **numbers)
        self.figures = figures
        self.generator_schedule = falling(self.generator_optimizer, steps)
        self.discriminator_schedule = falling(
            self.discriminator_optimizer, steps
        )

    def __call__(self, batch: tuple) -> dict[str, tg.Tensor]:
        metrics = super().__call__(batch)
        for schedule in (self.generator_schedule, self.discriminator_schedule):
            if schedule:
                schedule.step()
        return metrics

    def noise(
        self, n: int, size: tuple[int, int] | None = None
    ) -> tg.Tensor:
        """z ~ N(0, I), (n, latent, h, w): maps for pictures of that size, of the training's where none is given."""
        cells = self.generator.cells(size or self.generator.size)
        return tg.randn(n, self.latent, *cells, device=self.device)

    def sample(
        self, n: int, size: tuple[int, int] | None = None
    ) -> tg.Tensor:
        """n pictures in [0, 1] of size (height, width), of the training's where none is given."""
        if size is None:
            return self.generator(self.noise(n))
        require(
            self.generator.memory(size, n),
            f"samples of {size[0]}x{size[1]} pixels",
            "give a smaller size",
        )
        return tg.cat(
            [self.generator(self.noise(1, size), size) for _ in range(n)]
        )

    def summary(self, batches: Iterable[tuple]) -> dict[str, float]:
        """The critic's slopes, where there is a penalty, and what the figures say."""
        return super().summary(batches) | Step.summary(self, batches)
