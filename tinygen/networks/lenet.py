"""LeNet-5, the convolutional classifier of lecture 4 (LeCun 1998), as it is written today: ReLU and max pooling.

    image - conv 5x5 to 6, pool 2 - conv 5x5 to 16, pool 2 - 120 - 84 - classes

28x28 images are padded by 2, as the original's 32x32. With full connections between the planes of C3 it has 61,706
parameters.
"""

from __future__ import annotations

from collections.abc import Sequence

from tinygen import nn


class LeNet5(nn.Sequential):
    """Images (N, C, H, W), sides of at least 8 pixels, to logits (N, classes).

    Below 12 pixels the second convolution pads, too, since nothing would be left of them.
    """

    def __init__(self, shape: Sequence[int], classes: int = 10) -> None:
        if len(shape) != 3 or min(shape[1:]) < 8:
            raise ValueError(
                f"LeNet5 needs images (channels, height, width) of at least 8 pixels, not {tuple(shape)}"
            )
        channels, *sides = shape
        padding = 0 if min(sides) >= 12 else 2
        h, w = ((side // 2 - 4 + 2 * padding) // 2 for side in sides)
        super().__init__(
            nn.Conv2d(channels, 6, 5, padding=2),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(6, 16, 5, padding=padding),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Flatten(),
            nn.Linear(16 * h * w, 120),
            nn.ReLU(),
            nn.Linear(120, 84),
            nn.ReLU(),
            nn.Linear(84, classes),
        )
