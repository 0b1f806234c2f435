"""LeNet-5, the convolutional classifier of lecture 4 (LeCun 1998), as it is written today: ReLU and max pooling.

    image - conv 5x5 to 6, pool 2 - conv 5x5 to 16, pool 2 - 120 - 84 - classes        loss = -mean log
    softmax(logits)[label]

28x28 images are padded by 2, as the original's 32x32; with full connections between the planes of C3 it has 61,706
parameters. Learning rate falls linearly to 0: with a constant one, one seed in two stays below 98.9 % on MNIST.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import tinygen as tg
from tinygen import nn, optim
from tinygen.nn import functional as F

from .display import ShowsModules


class LeNet5(nn.Sequential):
    """Images (N, C, H, W), sides of at least 8 pixels, to logits (N, classes).

    Below 12 pixels the second convolution pads, too, since nothing would be left of them.
    """

    def __init__(self, shape: Sequence[int], classes: int = 10) -> None:
        channels, *sides = shape
        padding = 0 if min(sides) >= 12 else 2
        h, w = ((side // 2 - 4 + 2 * padding) // 2 for side in sides)
        super().__init__(
            nn.Conv2d(channels, 6, 5, padding=2), nn.ReLU(), nn.MaxPool2d(2),
            nn.Conv2d(6, 16, 5, padding=padding), nn.ReLU(), nn.MaxPool2d(2),
            nn.Flatten(),
            nn.Linear(16 * h * w, 120), nn.ReLU(),
            nn.Linear(120, 84), nn.ReLU(),
            nn.Linear(84, classes),
        )  # fmt: skip


class ClassifierStep(ShowsModules):
    """One update of LeNet-5. Update t has learning rate lr max(0, 1 - t / decay_steps); lr without `decay_steps`."""

    units = {"loss": "nats per image", "accuracy": "share of images"}

    def __init__(
        self, shape: Sequence[int], classes: int = 10, lr: float = 1e-3, decay_steps: int | None = None
    ) -> None:
        self.model = LeNet5(shape, classes)
        self.optimizer = optim.Adam(self.model.parameters(), lr=lr)
        self.modules = {"classifier": self.model}
        self.optimizers = {"classifier": self.optimizer}
        self.schedules = {}
        if decay_steps:
            rate = optim.lr_scheduler.LambdaLR(self.optimizer, lambda t: max(0.0, 1 - t / decay_steps))
            self.schedules["classifier"] = rate

    def __call__(self, batch: tuple) -> dict[str, tg.Tensor]:
        x, labels = batch
        logits = self.model(x)
        loss = F.cross_entropy(logits, labels)
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        for schedule in self.schedules.values():
            schedule.step()
        with tg.no_grad():
            return {"loss": loss.detach(), "accuracy": (logits.argmax(1) == labels).float().mean()}

    def pictures(self, batch: tuple) -> dict[str, tg.Tensor]:
        """The 32 images of the batch with the largest loss, the hardest first."""
        x, labels = batch
        loss = F.cross_entropy(self.model(x), labels, reduction="none")
        return {"hardest": x[loss.argsort(descending=True)[:32]]}

    def evaluate(self, batches: Iterable[tuple]) -> dict[str, float]:
        """Test loss and accuracy."""
        loss = right = count = 0.0
        for x, labels in batches:
            logits = self.model(x)
            loss += F.cross_entropy(logits, labels, reduction="sum").item()
            right += (logits.argmax(1) == labels).sum().item()
            count += len(x)
        return {"loss": loss / count, "accuracy": right / count}
