"""Padding: a border of zeros, of a constant, of the mirrored image, of its edge, or of its other side.

nn.ReflectionPad2d(1)                   # one pixel on all sides
nn.ZeroPad2d((1, 2, 0, 3))              # left, right, top, bottom
"""

from __future__ import annotations

from typing import Any

from ..backends.geometry import integers
from ..tape import Tensor
from . import functional as F
from .module import Module

__all__ = [
    "ZeroPad1d", "ZeroPad2d", "ConstantPad2d",
    "ReflectionPad1d", "ReflectionPad2d", "ReplicationPad2d", "CircularPad2d",
]  # fmt: skip


class _Pad(Module):
    """F.pad by an integer on all sides, or (left, right, top, bottom)."""

    _sides, _mode = 4, "constant"

    def __init__(self, padding: Any) -> None:
        super().__init__()
        self.padding = integers(padding, self._sides)
        if len(self.padding) != self._sides:
            raise ValueError(f"{type(self).__name__}: padding={padding} should be one integer or {self._sides}")

    def forward(self, input: Tensor) -> Tensor:
        return F.pad(input, self.padding, mode=self._mode)

    def extra_repr(self) -> str:
        return str(self.padding)


class ZeroPad2d(_Pad):
    """Zeros around the image: padding, or (left, right, top, bottom)."""


class ZeroPad1d(_Pad):
    """Zeros at the ends: padding, or (left, right)."""

    _sides = 2


class ConstantPad2d(_Pad):
    """`value` around the image: padding, or (left, right, top, bottom)."""

    def __init__(self, padding: Any, value: float) -> None:
        super().__init__(padding)
        self.value = value

    def forward(self, input: Tensor) -> Tensor:
        return F.pad(input, self.padding, value=self.value)


class ReflectionPad2d(_Pad):
    """The image mirrored at its border elements."""

    _mode = "reflect"


class ReflectionPad1d(_Pad):
    """The signal mirrored at its end elements."""

    _sides, _mode = 2, "reflect"


class ReplicationPad2d(_Pad):
    """The border elements repeated."""

    _mode = "replicate"


class CircularPad2d(_Pad):
    """The opposite side of the image as its border: a periodic image."""

    _mode = "circular"
