"""LBFGS: whole minimisations of a deterministic loss, by SciPy's L-BFGS-B.

    def closure():
        optimizer.zero_grad()
        loss = f(x)
        loss.backward()
        return loss

    optim.LBFGS([x], max_iter=100, bounds=(0, 1)).step(closure)

It computes in float64 on the host. Deliberately absent: parameter groups, a learning rate.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from ..recording import enable_grad
from ..tape import Tensor
from .optimizer import Optimizer

__all__ = ["LBFGS"]


class LBFGS(Optimizer):
    """Minimises closure() by SciPy's L-BFGS-B, in float64 on the host, optionally within bounds (Zhu et al. 1997).

    `bounds` is a pair (low, high) for all numbers, or one pair (or None) per parameter; each end is a number, an
    array or None. Every `step` is a whole minimisation of at most `max_iter` iterations. SciPy searches the step
    length itself, so there is no learning rate: `lr` exists for torch's sake and must be 1.
    """

    def __init__(
        self, params: Iterable, lr: float = 1, max_iter: int = 20, max_eval: int | None = None,
        tolerance_grad: float = 1e-7, tolerance_change: float = 1e-9, history_size: int = 10,
        line_search_fn: str | None = None, *, bounds: Any = None,
    ) -> None:  # fmt: skip
        if lr != 1:
            raise ValueError(f"LBFGS: lr={lr} has no effect, the step length is searched for; leave it out")
        if line_search_fn not in (None, "strong_wolfe"):
            raise ValueError(
                f"LBFGS: line_search_fn={line_search_fn!r}; only 'strong_wolfe' exists, and is always used"
            )
        super().__init__(params, {
            "lr": lr, "max_iter": max_iter, "max_eval": max_iter * 5 // 4 + 5 if max_eval is None else max_eval,
            "tolerance_grad": tolerance_grad, "tolerance_change": tolerance_change, "history_size": history_size,
        })  # fmt: skip
        if len(self.param_groups) != 1:
            raise ValueError("LBFGS: parameter groups are not supported; pass one list of tensors")
        self._bounds = self._flat_bounds(bounds)

    def _flat_bounds(self, bounds: Any) -> Any:
        params = self.param_groups[0]["params"]
        if bounds is None:
            return None
        ends = list(bounds)
        shared = len(ends) == 2 and not any(isinstance(e, tuple | list) for e in ends)
        pairs = [ends] * len(params) if shared else ends
        if len(pairs) != len(params):
            raise ValueError(
                f"LBFGS: {len(pairs)} bounds for {len(params)} parameters; give one (low, high) pair or one each"
            )
        flat = []
        for p, pair in zip(params, pairs, strict=True):
            sides = []
            for end, open_end in zip(pair or (None, None), (-np.inf, np.inf), strict=True):
                value = end.detach().cpu().array if isinstance(end, Tensor) else open_end if end is None else end
                sides.append(np.broadcast_to(np.asarray(value, np.float64), p.array.shape).reshape(-1))
            flat.append(np.stack(sides, 1))
        both = np.concatenate(flat)
        if (both[:, 0] > both[:, 1]).any():
            raise ValueError("LBFGS: a lower bound is above its upper bound")
        return both

    def step(self, closure: Callable | None = None) -> Any:
        """Moves the parameters to a minimum of closure(), from their present values; returns the first loss."""
        if closure is None:
            raise TypeError(
                "LBFGS: step(closure) needs a function that zeroes gradients, computes the loss and calls backward()"
            )
        from scipy import optimize

        group = self.param_groups[0]
        params, losses = group["params"], []

        def assign(x: np.ndarray) -> None:
            start = 0
            for p in params:
                piece = x[start : start + p.array.size].reshape(p.array.shape).astype(p.array.dtype)
                p.array[...] = p.device.kernels.xp.asarray(piece)
                p._version[0] += 1
                start += p.array.size

        def evaluate(x: np.ndarray) -> tuple[float, np.ndarray]:
            assign(x)
            with enable_grad():
                loss = closure()
            losses.append(loss)
            gradients = [np.zeros(p.array.size) if p.grad is None else _host(p.grad).reshape(-1) for p in params]
            return float(loss), np.concatenate(gradients).astype(np.float64)

        start = np.concatenate([_host(p).reshape(-1) for p in params]).astype(np.float64)
        if self._bounds is not None:
            start = np.clip(start, self._bounds[:, 0], self._bounds[:, 1])
        options = {
            "maxiter": group["max_iter"], "maxfun": group["max_eval"], "maxcor": group["history_size"],
            "gtol": group["tolerance_grad"], "ftol": group["tolerance_change"],
        }  # fmt: skip
        found = optimize.minimize(evaluate, start, jac=True, method="L-BFGS-B", bounds=self._bounds, options=options)
        assign(found.x)
        return losses[0]


def _host(tensor: Tensor) -> np.ndarray:
    return tensor.detach().cpu().array
