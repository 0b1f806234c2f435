"""Learning rates over time.

    scheduler = optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=epochs)
    ...; optimizer.step(); scheduler.step()

As in torch, a scheduler's step() comes after the optimizer's. A schedule computes each rate from the group's initial
one and the count alone. So a schedule resumed at any point is exactly the same. Where a second schedule or a user has
changed a rate, a step multiplies it by rate(t) / rate(t - 1): schedules compose.
"""

from __future__ import annotations

import bisect
import math
from collections.abc import Sequence
from typing import Any

from .optimizer import Optimizer

__all__ = [
    "LRScheduler", "LambdaLR", "StepLR", "MultiStepLR", "ExponentialLR", "LinearLR", "CosineAnnealingLR",
    "SequentialLR",
]  # fmt: skip


class LRScheduler:
    """Base class: `rate(base, epoch, group)` is the learning rate of a group after `epoch` calls of `step`."""

    composes = True  # with what else changes the rates; otherwise this schedule overwrites them
    floor = 0.0  # what rates are measured from where schedules compose

    def __init__(self, optimizer: Optimizer, last_epoch: int = -1) -> None:
        self.optimizer = optimizer
        self.base_lrs = [group.setdefault("initial_lr", group["lr"]) for group in optimizer.param_groups]
        self.last_epoch = last_epoch
        self.step()

    def rate(self, base: float, epoch: int, group: int) -> float:
        raise NotImplementedError

    def step(self) -> None:
        """Counts one epoch (or whatever the unit is) and sets the groups' learning rates."""
        self.last_epoch += 1
        for i, (group, base) in enumerate(zip(self.optimizer.param_groups, self.base_lrs, strict=False)):
            before = self.rate(base, self.last_epoch - 1, i) if self.last_epoch else base
            group["lr"] = self._moved(group["lr"], before, self.rate(base, self.last_epoch, i))

    def _moved(self, lr: float, before: float, now: float) -> float:
        """A group's rate lr after the schedule's own has gone from `before` to `now`."""
        if lr == before or not self.composes:
            return now
        if now == before:
            return lr
        if before == self.floor:  # no ratio there
            return lr + (now - before)
        return self.floor + (lr - self.floor) * (now - self.floor) / (before - self.floor)

    def get_last_lr(self) -> list[float]:
        """The learning rates of the groups now."""
        return [group["lr"] for group in self.optimizer.param_groups]

    def state_dict(self) -> dict[str, Any]:
        """The position and the learning rates, as plain numbers."""
        return {"last_epoch": self.last_epoch, "base_lrs": list(self.base_lrs), "last_lr": self.get_last_lr()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Resumes at a saved position and sets its learning rates."""
        self.last_epoch, self.base_lrs = state_dict["last_epoch"], list(state_dict["base_lrs"])
        rates = [self.rate(base, self.last_epoch, i) for i, base in enumerate(self.base_lrs)]
        for group, rate in zip(self.optimizer.param_groups, state_dict.get("last_lr", rates), strict=False):
            group["lr"] = rate


def _at_least_one(schedule: str, what: str, value: int) -> int:
    if not value >= 1:
        raise ValueError(f"{schedule}: {what}={value} should be at least 1")
    return value


class LambdaLR(LRScheduler):
    """base * lr_lambda(epoch); one function, or one per group. As in torch it overwrites other changes of the rate."""

    composes = False

    def __init__(self, optimizer: Optimizer, lr_lambda: Any, last_epoch: int = -1) -> None:
        count = len(optimizer.param_groups)
        self.lr_lambdas = list(lr_lambda) if isinstance(lr_lambda, list | tuple) else [lr_lambda] * count
        if len(self.lr_lambdas) != count:
            raise ValueError(f"LambdaLR: {len(self.lr_lambdas)} functions for {count} parameter groups")
        super().__init__(optimizer, last_epoch)

    def rate(self, base: float, epoch: int, group: int) -> float:
        return base * self.lr_lambdas[group](epoch)


class StepLR(LRScheduler):
    """base * gamma^(epoch // step_size)."""

    def __init__(self, optimizer: Optimizer, step_size: int, gamma: float = 0.1, last_epoch: int = -1) -> None:
        self.step_size, self.gamma = _at_least_one("StepLR", "step_size", step_size), gamma
        super().__init__(optimizer, last_epoch)

    def rate(self, base: float, epoch: int, group: int) -> float:
        return base * self.gamma ** (epoch // self.step_size)


class MultiStepLR(LRScheduler):
    """base * gamma^(number of milestones reached)."""

    def __init__(
        self, optimizer: Optimizer, milestones: Sequence[int], gamma: float = 0.1, last_epoch: int = -1
    ) -> None:
        self.milestones, self.gamma = sorted(milestones), gamma
        super().__init__(optimizer, last_epoch)

    def rate(self, base: float, epoch: int, group: int) -> float:
        return base * self.gamma ** bisect.bisect_right(self.milestones, epoch)


class ExponentialLR(LRScheduler):
    """base * gamma^epoch."""

    def __init__(self, optimizer: Optimizer, gamma: float, last_epoch: int = -1) -> None:
        self.gamma = gamma
        super().__init__(optimizer, last_epoch)

    def rate(self, base: float, epoch: int, group: int) -> float:
        return base * self.gamma**epoch


class LinearLR(LRScheduler):
    """base * (start_factor to end_factor, linear over total_iters): a warm-up; a decay with (1, 0, epochs)."""

    def __init__(
        self,
        optimizer: Optimizer,
        start_factor: float = 1 / 3,
        end_factor: float = 1.0,
        total_iters: int = 5,
        last_epoch: int = -1,
    ) -> None:
        if not start_factor > 0:
            raise ValueError(f"LinearLR: start_factor={start_factor} should be positive")
        self.start_factor, self.end_factor = start_factor, end_factor
        self.total_iters = _at_least_one("LinearLR", "total_iters", total_iters)
        super().__init__(optimizer, last_epoch)

    def rate(self, base: float, epoch: int, group: int) -> float:
        done = min(epoch, self.total_iters) / self.total_iters
        return base * (self.start_factor + (self.end_factor - self.start_factor) * done)


class CosineAnnealingLR(LRScheduler):
    """eta_min + (base - eta_min) * (1 + cos(pi * epoch / T_max)) / 2 (Loshchilov and Hutter 2017)."""

    def __init__(self, optimizer: Optimizer, T_max: int, eta_min: float = 0.0, last_epoch: int = -1) -> None:
        self.T_max, self.eta_min = _at_least_one("CosineAnnealingLR", "T_max", T_max), eta_min
        self.floor = eta_min
        super().__init__(optimizer, last_epoch)

    def rate(self, base: float, epoch: int, group: int) -> float:
        return self.eta_min + (base - self.eta_min) * (1 + math.cos(math.pi * epoch / self.T_max)) / 2


class SequentialLR(LRScheduler):
    """One schedule after another, each counting from its milestone, for instance a warm-up and a decay."""

    def __init__(
        self, optimizer: Optimizer, schedulers: Sequence[LRScheduler], milestones: Sequence[int], last_epoch: int = -1
    ) -> None:
        if len(milestones) != len(schedulers) - 1:
            raise ValueError(
                f"SequentialLR: {len(schedulers)} schedules need {len(schedulers) - 1} milestones, "
                f"got {len(milestones)}"
            )
        self.schedulers, self.milestones = list(schedulers), list(milestones)
        for group in optimizer.param_groups:  # each of the schedules has set its own first rate
            group["lr"] = group["initial_lr"]
        super().__init__(optimizer, last_epoch)

    def rate(self, base: float, epoch: int, group: int) -> float:
        i = bisect.bisect_right(self.milestones, epoch)
        return self.schedulers[i].rate(base, epoch - ([0, *self.milestones][i]), group)
