"""The convolutions of a network that was trained before, to compare images by: they are never learned.

    features = Features(arrays, pooled=True)     # arrays: {"c1.weight": ..., "c1.bias": ..., "c2.weight": ..., ...}
    features(x)                                  # (N, C, H, W) to planes that gradients flow through

    conv 3 - ReLU - [max pool 2] - conv 3 - ReLU - max pool 2

The network knows grey images; every channel of a colour image is looked at by itself.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

import tinygen as tg
from tinygen import nn


class Features(nn.Module):
    """Images (N, C, H, W) in [0, 1] to (C N, 32, h, w). pooled: whether a pool stands between the convolutions."""

    def __init__(
        self, arrays: Mapping[str, np.ndarray], pooled: bool
    ) -> None:
        super().__init__()
        self.pooled = pooled
        for layer in ("c1", "c2"):
            for part in ("weight", "bias"):
                values = arrays[f"{layer}.{part}"].astype(np.float32)
                self.register_buffer(f"{layer}_{part}", tg.tensor(values))

    def forward(self, x: tg.Tensor) -> tg.Tensor:
        conv, pool = nn.functional.conv2d, nn.functional.max_pool2d
        x = x.reshape(-1, 1, *x.shape[2:])
        h = conv(x, self.c1_weight, self.c1_bias, padding=1).relu()
        if self.pooled:
            h = pool(h, 2)
        h = conv(h, self.c2_weight, self.c2_bias, padding=1).relu()
        return pool(h, 2)
