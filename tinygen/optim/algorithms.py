"""The rules by which a gradient changes a parameter: SGD, Adam, AdamW, RMSprop, Adagrad.

    optimizer = optim.Adam(model.parameters(), lr=2e-4, betas=(0.5, 0.999))
    optimizer.zero_grad(); loss.backward(); optimizer.step()

Formulas, defaults and names of options are torch.optim's. Each class checks its options and passes them to one kernel.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from ..backends.geometry import Pieces
from .optimizer import Optimizer

__all__ = ["SGD", "Adam", "AdamW", "RMSprop", "Adagrad"]


class SGD(Optimizer):
    """p -= lr * d, d = g + weight_decay * p; with momentum d = b, b = momentum * b + (1 - dampening) * d.

    The first b is d itself; nesterov takes d + momentum * b (Sutskever et al. 2013).
    """

    _state_names = {"momentum_buffer": 0.0}

    def __init__(
        self, params: Iterable, lr: float = 1e-3, momentum: float = 0.0, dampening: float = 0.0,
        weight_decay: float = 0.0, nesterov: bool = False, *, maximize: bool = False,
    ) -> None:  # fmt: skip
        if nesterov and (momentum <= 0 or dampening != 0):
            raise ValueError("SGD: nesterov needs momentum > 0 and dampening = 0")
        super().__init__(params, {
            "lr": lr, "momentum": momentum, "dampening": dampening, "weight_decay": weight_decay, "nesterov": nesterov,
            "maximize": maximize,
        })  # fmt: skip

    def _update(
        self, k: Any, group: dict[str, Any], p: Pieces, g: Pieces, state: Callable[[str], Any], lr: Any, step: Any
    ) -> None:
        buffer = state("momentum_buffer") if group["momentum"] else None
        k.sgd_step(
            p, g, buffer, lr, step, group["momentum"], group["dampening"], group["weight_decay"], group["nesterov"]
        )


class Adam(Optimizer):
    """p -= lr * m' / (sqrt(v') + eps), m and v running means of g and g^2, ' the correction 1 / (1 - beta^t).

    Kingma and Ba 2015. `weight_decay` is added to the gradient as weight_decay * p; AdamW shrinks p directly instead.
    """

    _state_names = {"exp_avg": 0.0, "exp_avg_sq": 0.0}
    _decoupled = False

    def __init__(
        self, params: Iterable, lr: float = 1e-3, betas: tuple[float, float] = (0.9, 0.999), eps: float = 1e-8,
        weight_decay: float = 0.0, *, maximize: bool = False,
    ) -> None:  # fmt: skip
        super().__init__(params, {
            "lr": lr, "betas": tuple(betas), "eps": eps, "weight_decay": weight_decay, "maximize": maximize,
        })  # fmt: skip

    def _update(
        self, k: Any, group: dict[str, Any], p: Pieces, g: Pieces, state: Callable[[str], Any], lr: Any, step: Any
    ) -> None:
        (beta1, beta2), m, v = group["betas"], state("exp_avg"), state("exp_avg_sq")
        k.adam_step(p, g, m, v, lr, step, beta1, beta2, group["eps"], group["weight_decay"], self._decoupled)


class AdamW(Adam):
    """Adam with decoupled weight decay, p *= 1 - lr * weight_decay before the step (Loshchilov and Hutter 2019)."""

    _decoupled = True

    def __init__(
        self, params: Iterable, lr: float = 1e-3, betas: tuple[float, float] = (0.9, 0.999), eps: float = 1e-8,
        weight_decay: float = 1e-2, *, maximize: bool = False,
    ) -> None:  # fmt: skip
        super().__init__(params, lr, betas, eps, weight_decay, maximize=maximize)


class RMSprop(Optimizer):
    """p -= lr * g / (sqrt(v) + eps), v the running mean of g^2 (centered: less the square of that of g).

    With momentum b the steps add up in a buffer: p -= lr * buffer, buffer = b * buffer + step.
    """

    _state_names = {"square_avg": 0.0, "momentum_buffer": 0.0, "grad_avg": 0.0}

    def __init__(
        self, params: Iterable, lr: float = 1e-2, alpha: float = 0.99, eps: float = 1e-8, weight_decay: float = 0.0,
        momentum: float = 0.0, centered: bool = False, *, maximize: bool = False,
    ) -> None:  # fmt: skip
        super().__init__(params, {
            "lr": lr, "alpha": alpha, "eps": eps, "weight_decay": weight_decay, "momentum": momentum,
            "centered": centered, "maximize": maximize,
        })  # fmt: skip

    def _update(
        self, k: Any, group: dict[str, Any], p: Pieces, g: Pieces, state: Callable[[str], Any], lr: Any, step: Any
    ) -> None:
        buffer = state("momentum_buffer") if group["momentum"] else None
        mean = state("grad_avg") if group["centered"] else None
        k.rmsprop_step(
            p,
            g,
            state("square_avg"),
            buffer,
            mean,
            lr,
            group["alpha"],
            group["eps"],
            group["weight_decay"],
            group["momentum"],
        )


class Adagrad(Optimizer):
    """p -= lr / (1 + (t - 1) lr_decay) * g / (sqrt(s) + eps), s the sum of g^2 over all steps (Duchi et al. 2011)."""

    def __init__(
        self, params: Iterable, lr: float = 1e-2, lr_decay: float = 0.0, weight_decay: float = 0.0,
        initial_accumulator_value: float = 0.0, eps: float = 1e-10, *, maximize: bool = False,
    ) -> None:  # fmt: skip
        self._state_names = {"sum": initial_accumulator_value}
        super().__init__(params, {
            "lr": lr, "lr_decay": lr_decay, "weight_decay": weight_decay, "eps": eps, "maximize": maximize,
        })  # fmt: skip

    def _update(
        self, k: Any, group: dict[str, Any], p: Pieces, g: Pieces, state: Callable[[str], Any], lr: Any, step: Any
    ) -> None:
        xp, total = k.xp, state("sum")
        d = g.joined(total)
        if group["weight_decay"]:
            d += group["weight_decay"] * p.joined(total)
        total += d * d
        rate = lr / (1 + (step - 1) * group["lr_decay"])  # 0-d arrays, so nothing waits for the device
        moves = rate.astype(total.dtype) * d / (xp.sqrt(total) + group["eps"])
        for array, move in zip(p.arrays, p.parts(moves), strict=True):
            array -= move
