"""EMA: the exponential moving average of a module's parameters.

    average += (1 - decay) * (parameter - average)        after every step of the optimizer

Buffers are not averaged: inside `average_parameters` the module keeps its own.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from ..recording import no_grad
from ..tape import Tensor

__all__ = ["EMA"]


class EMA:
    """Averages of a module's parameters; `update` sets each to decay * average + (1 - decay) * parameter.

        ema = EMA(generator, decay=0.999)
        ...; optimizer.step(); ema.update()
        with ema.average_parameters():
            samples = generator(z)

    With `warmup` the decay of update n is at most (1 + n) / (10 + n): the average soon forgets the first values.
    """

    def __init__(self, module: Any, decay: float = 0.999, *, warmup: bool = False) -> None:
        if not 0 <= decay <= 1:
            raise ValueError(f"EMA: decay={decay} should lie in [0, 1]")
        self.module, self.decay, self.warmup = module, decay, warmup
        self._count = Tensor(np.zeros((), np.float64))  # on the device: a captured graph counts along
        self.averages = {n: Tensor(p.array.copy(), None, p.device) for n, p in module.named_parameters()}

    def update(self) -> None:
        """Moves the averages towards the present parameters."""
        first = next(self.module.parameters(), self._count)
        if self._count.device is not first.device:
            self._count = self._count.to(device=first.device)
        self._count.array += 1
        decay = self._warmed_up() if self.warmup else self.decay
        for name, p in self.module.named_parameters():
            average = self.averages[name]
            if average.device is not p.device or average.array.dtype != p.array.dtype:
                average = self.averages[name] = average.to(dtype=p.array.dtype, device=p.device)
            share: Any = 1 - decay
            if self.warmup:
                share = share.astype(average.array.dtype)
            average.array += share * (p.array - average.array)

    def _warmed_up(self) -> Any:
        n = self._count.array
        return self._count.device.kernels.xp.minimum((1 + n) / (10 + n), self.decay)

    @property
    def updates(self) -> int:
        """How often `update` was called, by captured graphs too; asking waits for the device."""
        return int(self._count.item())

    @contextmanager
    def average_parameters(self) -> Iterator[None]:
        """Context manager: the module's parameters have the averaged values inside."""
        held = {n: (p, p.array.copy()) for n, p in self.module.named_parameters()}
        with no_grad():
            for name, (p, _) in held.items():
                p.copy_(self.averages[name].to(device=p.device))
        try:
            yield
        finally:
            with no_grad():
                for p, values in held.values():
                    p.copy_(Tensor(values, None, p.device))

    def copy_to(self, module: Any) -> None:
        """Copies the averages, and the original's buffers, into another module of the same structure."""
        with no_grad():
            for name, p in module.named_parameters():
                p.copy_(self.averages[name].to(device=p.device))
            buffers = dict(self.module.named_buffers())
            for name, buffer in module.named_buffers():
                buffer.copy_(buffers[name].to(device=buffer.device))

    def state_dict(self) -> dict[str, Any]:
        """A copy of the averages, and the number of updates."""
        return {
            "averages": {n: Tensor(t.array.copy(), None, t.device) for n, t in self.averages.items()},
            "updates": self.updates,
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restores what `state_dict` returned; raises ValueError where names or shapes differ."""
        given = state_dict["averages"]
        if list(map(str, given)) != list(self.averages) and set(given) != set(self.averages):
            raise ValueError(f"EMA: the state has other names: {sorted(set(given) ^ set(self.averages))}")
        for name, average in self.averages.items():
            if tuple(given[name].shape) != tuple(average.shape):
                raise ValueError(f"EMA: {name} is {tuple(given[name].shape)} in the state, {tuple(average.shape)} here")
        for name, average in self.averages.items():
            average.copy_(given[name].to(device=average.device))
        self._count.array[...] = int(state_dict["updates"])
