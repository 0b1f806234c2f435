"""Flatten and Unflatten: images to rows and back.

nn.Flatten()                          # (N, C, H, W) to (N, C * H * W)
nn.Unflatten(1, (32, 7, 7))           # (N, 1568) to (N, 32, 7, 7)
"""

from __future__ import annotations

from typing import Any

from ..tape import Tensor
from .module import Module

__all__ = ["Flatten", "Unflatten"]


class Flatten(Module):
    """x with the axes start_dim..end_dim merged: by default all but the batch."""

    def __init__(self, start_dim: int = 1, end_dim: int = -1) -> None:
        super().__init__()
        self.start_dim, self.end_dim = start_dim, end_dim

    def forward(self, input: Tensor) -> Tensor:
        return input.flatten(self.start_dim, self.end_dim)

    def extra_repr(self) -> str:
        return f"start_dim={self.start_dim}, end_dim={self.end_dim}"


class Unflatten(Module):
    """x with axis `dim` split into `unflattened_size`: Unflatten(1, (32, 7, 7)) undoes a Flatten."""

    def __init__(self, dim: int, unflattened_size: Any) -> None:
        super().__init__()
        self.dim, self.unflattened_size = dim, tuple(unflattened_size)

    def forward(self, input: Tensor) -> Tensor:
        return input.unflatten(self.dim, self.unflattened_size)

    def extra_repr(self) -> str:
        return f"dim={self.dim}, unflattened_size={self.unflattened_size}"
