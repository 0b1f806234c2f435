"""Upsample: an image resized to a size or by a factor.

nn.Upsample(scale_factor=2)                          # each pixel becomes 2 x 2
nn.Upsample(size=(28, 28), mode="bilinear")
"""

from __future__ import annotations

from typing import Any

from ..tape import Tensor
from . import functional as F
from .arguments import refuse
from .module import Module

__all__ = ["Upsample", "UpsamplingNearest2d", "UpsamplingBilinear2d"]


class Upsample(Module):
    """`F.interpolate` to `size` or by `scale_factor`; modes nearest, linear, bilinear, bicubic, area."""

    def __init__(
        self,
        size: Any = None,
        *misplaced: Any,
        scale_factor: Any = None,
        mode: str = "nearest",
        align_corners: bool | None = None,
    ) -> None:
        refuse(type(self).__name__, misplaced, "scale_factor, mode, align_corners")
        super().__init__()
        if (size is None) == (scale_factor is None):
            raise ValueError(
                f"Upsample: give either size or scale_factor, got size={size} and scale_factor={scale_factor}"
            )
        self.size, self.scale_factor, self.mode, self.align_corners = size, scale_factor, mode, align_corners

    def forward(self, input: Tensor) -> Tensor:
        return F.interpolate(input, self.size, self.scale_factor, self.mode, self.align_corners)

    def extra_repr(self) -> str:
        how = f"size={self.size}" if self.scale_factor is None else f"scale_factor={self.scale_factor}"
        return f"{how}, mode={self.mode!r}" + (
            "" if self.align_corners is None else f", align_corners={self.align_corners}"
        )


class UpsamplingNearest2d(Upsample):
    """Upsample with mode 'nearest'."""

    def __init__(self, size: Any = None, scale_factor: Any = None) -> None:
        super().__init__(size, scale_factor=scale_factor)


class UpsamplingBilinear2d(Upsample):
    """Upsample with mode 'bilinear' and align_corners=True, as torch's old name means."""

    def __init__(self, size: Any = None, scale_factor: Any = None) -> None:
        super().__init__(size, scale_factor=scale_factor, mode="bilinear", align_corners=True)
