"""A classifier trained by maximum likelihood (lecture 4).

    loss = -mean log softmax(logits)[label]

With `steps` the learning rate falls linearly to 0 over so many updates. A constant one leaves LeNet-5 below 98.9 % on
MNIST with one seed in two.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import tinygen as tg
from tinygen import nn, optim
from tinygen.nn import functional as F
from tinygen.step import Captioned, Step


class ClassifierStep(Step):
    """One update. `names` are the classes'; `augment(classifier, x, labels)` gives the images that are learned.

    Update t of `steps` has learning rate lr (1 - t / steps).
    """

    def __init__(
        self,
        classifier: nn.Module,
        names: Sequence[str],
        augment: Callable | None = None,
        *,
        steps: int | None = None,
        lr: float = 1e-3,
    ) -> None:
        self.classifier, self.names, self.augment = (
            classifier,
            tuple(names),
            augment,
        )
        self.optimizer = optim.Adam(classifier.parameters(), lr=lr)
        rate = lambda t: max(0.0, 1 - t / steps) if steps else 1.0
        self.schedule = optim.lr_scheduler.LambdaLR(self.optimizer, rate)

    def __call__(self, batch: tuple) -> dict[str, tg.Tensor]:
        x, labels = batch
        if self.augment:
            x = self.augment(self.classifier, x, labels)
        logits = self.classifier(x)
        loss = F.cross_entropy(logits, labels)
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        self.schedule.step()
        with tg.no_grad():
            return {
                "loss": loss.detach(),
                "accuracy": share_right(logits, labels),
            }

    def measure(self, batch: tuple) -> dict[str, tg.Tensor]:
        """loss in nats and accuracy."""
        x, labels = batch
        logits = self.classifier(x)
        return {
            "loss": F.cross_entropy(logits, labels),
            "accuracy": share_right(logits, labels),
        }

    def pictures(self, batch: tuple) -> dict[str, Any]:
        """The images of the batch with the largest loss, the hardest first, with true and predicted class."""
        x, labels = batch
        logits = self.classifier(x)
        order = F.cross_entropy(logits, labels, reduction="none").argsort(
            descending=True
        )[:32]
        pairs = zip(labels[order].tolist(), logits.argmax(1)[order].tolist())
        return {
            "hardest": Captioned(
                x[order],
                [
                    f"{self.names[a]}, not {self.names[b]}"
                    if a != b
                    else f"{self.names[a]}, right"
                    for a, b in pairs
                ],
            )
        }


def share_right(logits: tg.Tensor, labels: tg.Tensor) -> tg.Tensor:
    """The share of rows whose largest logit is the label's."""
    return (logits.argmax(1) == labels).float().mean()
