"""Inpainting: a network fills what is hidden, and what is known stays (Pathak et al. 2016, lecture 2).

    y = (1 - m) x, and m beside it;   x^ = (1 - m) x + m G(y, m),   m = 1 where pixels are hidden
    minimise over G   mean |x^ - x|^2 + adversarial * game.generator(D(x^))

It is restoration (restoration.py) whose generator copies the known pixels bit for bit. So the error is that of the hole
alone, as a mean over all pixels. D sees the whole image: whether the filling fits to what surrounds it.
"""

from __future__ import annotations

import tinygen as tg
from tinygen.step import AnySize

from .restoration import RestorationStep


class InpaintingStep(RestorationStep):
    """A RestorationStep whose degrade(x) is (N, C + 1, H, W), the mask behind the channels."""

    def apply(self, images: tg.Tensor) -> tg.Tensor:
        """Images whose hidden pixels are filled; which are hidden, `degrade` says."""
        return self.restored(images)

    @property
    def any_size(self) -> AnySize:
        """Whole pictures as they are: where the hole is depends on their size."""
        limits = super().any_size
        return limits._replace(multiple=1, reach=None, least=limits.multiple)
