"""Optimizers that update all parameters of a group with one kernel call.

    optimizer = optim.Adam(model.parameters(), lr=2e-4, betas=(0.5, 0.999))
    optimizer.zero_grad(); loss.backward(); optimizer.step()

At its first step an optimizer lays the parameters of a group side by side in one array, of which each parameter's
array is from then on a view; Adam's m and v are two more such arrays. The kernel reads the gradients where backward
left them. Parameters without a gradient are left alone, with their state, as in torch. Assigning `p.data` later is
noticed and taken over. Formulas, defaults and state_dict layout are torch.optim's. Also here: learning-rate schedules,
gradient clipping, EMA, LBFGS (SciPy's L-BFGS-B).
"""

from __future__ import annotations

import bisect
import itertools
import math
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from types import ModuleType
from typing import Any

import numpy as np

from .backends.geometry import Pieces
from .nn.clipping import clip_grad_norm_, clip_grad_value_
from .tape import Leaf, Tensor, enable_grad, no_grad

__all__ = [
    "Optimizer", "SGD", "Adam", "AdamW", "RMSprop", "Adagrad", "LBFGS", "lr_scheduler",
    "LRScheduler", "LambdaLR", "StepLR", "MultiStepLR", "ExponentialLR", "LinearLR", "CosineAnnealingLR",
    "SequentialLR", "clip_grad_norm_", "clip_grad_value_", "EMA",
]  # fmt: skip

_ALIGN = 64  # bytes; every parameter begins at a multiple of it, so that kernels may load vectors from weights


class _Flat:
    """Parameters of one group, one device and one dtype, side by side in one array; with their state."""

    def __init__(self, params: list[Tensor]) -> None:
        self.params, self.device, self.dtype = params, params[0].device, params[0].array.dtype
        self.xp = self.device.kernels.xp
        unit = _ALIGN // self.dtype.itemsize
        padded = [-(-p.array.size // unit) * unit for p in params]
        self.starts, self.shapes = [0, *itertools.accumulate(padded)], [p.array.shape for p in params]
        self.values = self.xp.zeros(self.starts[-1], self.dtype)
        self.state: dict[str, Any] = {}  # name -> flat array
        self.counts = [0] * len(params)  # steps taken by each parameter, and the same for the kernels
        self.steps = self.xp.zeros(len(params), np.float64)
        self.lr = self.xp.zeros((), np.float64)  # what the kernels read
        self.rate = math.nan  # what was last written there
        self.views = [self.slice(self.values, i) for i in range(len(params))]
        for i in range(len(params)):
            self.adopt(i)

    def slice(self, flat: Any, i: int) -> Any:
        """The part of a flat array that belongs to parameter i, in its shape."""
        return flat[self.starts[i] : self.starts[i] + math.prod(self.shapes[i])].reshape(self.shapes[i])

    def adopt(self, i: int) -> None:
        """Takes the values of parameter i over into the flat array, and makes the parameter a view of it."""
        self.views[i][...] = self.params[i].array
        self.params[i].array = self.views[i]

    def fits(self, i: int) -> bool:
        p = self.params[i]
        return p.device is self.device and p.array.dtype == self.dtype and p.array.shape == self.shapes[i]

    def buffer(self, name: str, fill: float) -> Any:
        """The flat state array of this name, made when it is first needed."""
        if name not in self.state:
            self.state[name] = self.xp.full_like(self.values, fill)
        return self.state[name]

    def runs(self) -> Iterator[tuple[int, int]]:
        """Index ranges of neighbours that have gradients and have taken equally many steps: one kernel call each."""
        kinds = [None if p.grad is None else count for p, count in zip(self.params, self.counts, strict=True)]
        start = 0
        for kind, run in itertools.groupby(kinds):
            stop = start + len(list(run))
            if kind is not None:
                yield start, stop
            start = stop

    def gradients(self, start: int, stop: int) -> Pieces:
        """The gradients of a run, and where they belong in its part of the flat arrays."""
        arrays = []
        for p in self.params[start:stop]:
            g: Any = p.grad.array if p.grad is not None else None
            if g.shape != p.array.shape or g.dtype != self.dtype:
                raise ValueError(
                    f"step: parameter '{p.name or 'unnamed'}' is {tuple(p.array.shape)} {self.dtype}, its gradient "
                    f"{tuple(g.shape)} {g.dtype}; was the parameter converted after backward()?"
                )
            arrays.append(g)
        first = self.starts[start]
        return Pieces(arrays, [s - first for s in self.starts[start:stop]])


class Optimizer:
    """Base class: parameter groups, their flat arrays, state. A subclass defines `_update` for a run of parameters."""

    _state_names: dict[str, float] = {}  # the per-parameter state arrays, torch's names, and what they start from

    def __init__(self, params: Iterable, defaults: dict[str, Any]) -> None:
        self.defaults = defaults
        self.param_groups: list[dict[str, Any]] = []
        self._flats: list[list[_Flat]] = []
        if isinstance(params, Tensor):
            raise TypeError(
                f"{type(self).__name__}: params should be a list of tensors, got one tensor; write [tensor]"
            )
        entries = list(params)
        if not entries:
            raise ValueError(f"{type(self).__name__}: there are no parameters to optimize")
        for group in entries if isinstance(entries[0], dict) else [{"params": entries}]:
            self.add_param_group(group)

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Adds {"params": [...], option: value ...}; options not given are the optimizer's defaults."""
        name, group = type(self).__name__, {**self.defaults, **param_group}
        given = group["params"]
        group["params"] = [given] if isinstance(given, Tensor) else list(given)
        known = {id(p) for other in self.param_groups for p in other["params"]}
        for p in group["params"]:
            if not isinstance(p, Tensor):
                raise TypeError(f"{name}: parameters should be tensors, got {type(p).__name__}")
            if p.node is not None and type(p.node) is not Leaf:
                raise ValueError(
                    f"{name}: only leaf tensors can be optimized, this one {tuple(p.array.shape)} was computed"
                )
            if p.array.dtype.kind != "f":
                raise TypeError(f"{name}: only floating-point tensors can be optimized, got {p.array.dtype}")
            if id(p) in known:
                raise ValueError(f"{name}: the parameter '{p.name or tuple(p.array.shape)}' appears twice")
            known.add(id(p))
        self._check(group)
        self.param_groups.append(group)
        self._flats.append([])

    def _check(self, group: dict[str, Any]) -> None:
        """Raises ValueError for options out of range."""
        for option in ("lr", "eps", "weight_decay", "momentum", "alpha", "lr_decay"):
            if option in group and not group[option] >= 0:
                raise ValueError(f"{type(self).__name__}: {option}={group[option]} should be at least 0")
        for beta in group.get("betas", ()):
            if not 0 <= beta < 1:
                raise ValueError(f"{type(self).__name__}: betas={group['betas']} should lie in [0, 1)")

    def _prepared(self, index: int) -> list[_Flat]:
        """The flat arrays of a group, made at the first call; replaced arrays of parameters are taken over again."""
        flats, params = self._flats[index], self.param_groups[index]["params"]
        stale = sum(len(f.params) for f in flats) != len(params)
        for flat in flats:
            for i, p in enumerate(flat.params):
                if p.array is not flat.views[i]:
                    if flat.fits(i):
                        flat.adopt(i)
                    else:
                        stale = True
        if not stale:
            return flats
        kinds: dict[Any, list[Tensor]] = {}
        for p in params:
            kinds.setdefault((p.device.name, p.array.dtype), []).append(p)
        fresh = [_Flat(members) for members in kinds.values()]
        state = {p: (old, i) for old in flats for i, p in enumerate(old.params)}
        for flat in fresh:
            for i, p in enumerate(flat.params):
                old, j = state.get(p, (None, 0))
                if old is None or old.shapes[j] != p.array.shape:
                    continue
                self._set_count(flat, i, int(old.steps[j]))
                for name in old.state:
                    piece = Tensor(old.state[name][old.starts[j] : old.starts[j] + p.array.size], None, old.device)
                    held = flat.slice(flat.buffer(name, self._state_names[name]), i)
                    held[...] = piece.to(device=flat.device).array.reshape(p.array.shape)
        self._flats[index] = fresh
        return fresh

    @staticmethod
    def _set_count(flat: _Flat, i: int, count: int) -> None:
        flat.counts[i] = count
        flat.steps[i] = count

    def update_rates(self) -> None:
        """Writes changed learning rates to the device, where `step`, also one in a captured graph, reads them."""
        for group, flats in zip(self.param_groups, self._flats, strict=True):
            for flat in flats:
                if flat.rate != group["lr"]:
                    flat.rate = float(group["lr"])
                    flat.lr.fill(flat.rate)

    def step(self, closure: Callable | None = None) -> Any:
        """One update of all parameters that have a gradient; returns closure(), if there is one, computed before."""
        loss = None
        if closure is not None:
            with enable_grad():
                loss = closure()
        prepared = [self._prepared(i) for i in range(len(self.param_groups))]
        self.update_rates()
        for group, flats in zip(self.param_groups, prepared, strict=True):
            for flat in flats:
                for start, stop in list(flat.runs()):
                    self._run(group, flat, start, stop)
        return loss

    def _run(self, group: dict[str, Any], flat: _Flat, start: int, stop: int) -> None:
        g = flat.gradients(start, stop)
        if group.get("maximize"):
            g = Pieces([-array for array in g.arrays], g.starts)
        flat.steps[start:stop] += 1
        for i in range(start, stop):
            flat.counts[i] += 1
        at = slice(flat.starts[start], flat.starts[stop])

        def state(name: str) -> Any:
            return flat.buffer(name, self._state_names[name])[at]

        self._update(
            flat.device.kernels, group, flat.values[at], g, state, flat.lr, flat.steps[start : start + 1].reshape(())
        )
        for p in flat.params[start:stop]:
            p._version[0] += 1

    def _update(
        self, k: Any, group: dict[str, Any], p: Any, g: Pieces, state: Callable[[str], Any], lr: Any, step: Any
    ) -> None:
        """Changes p in place, given its gradient in pieces, `state(name)` arrays like p, lr and step as 0-d arrays."""
        raise NotImplementedError

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Drops the gradients of all parameters (or fills them with zeros)."""
        for group in self.param_groups:
            for p in group["params"]:
                if set_to_none:
                    p.grad = None
                elif p.grad is not None:
                    p.grad = Tensor(p.device.kernels.xp.zeros_like(p.grad.array), None, p.device)

    def state_dict(self) -> dict[str, Any]:
        """A copy: {"state": {position: {"step", name: tensor}}, "param_groups": [{"params", option: value}]}."""
        state: dict[int, dict[str, Any]] = {}
        groups, first = [], 0
        for index, group in enumerate(self.param_groups):
            options = {k: v for k, v in group.items() if k != "params"}
            positions = {p: first + i for i, p in enumerate(group["params"])}
            for flat in self._flats[index]:
                steps = Tensor(flat.steps, None, flat.device).to(device="cpu").array
                for i, p in enumerate(flat.params):
                    if steps[i] > 0:
                        held = {n: Tensor(flat.slice(a, i).copy(), None, flat.device) for n, a in flat.state.items()}
                        state[positions[p]] = {"step": Tensor(np.array(steps[i], np.float32)), **held}
            groups.append({**options, "params": list(positions.values())})
            first += len(positions)
        return {"state": {i: state[i] for i in sorted(state)}, "param_groups": groups}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restores what `state_dict` (or torch's, of the same optimizer) returned; ValueError where it does not fit."""
        name, groups = type(self).__name__, state_dict["param_groups"]
        sizes, given = [len(g["params"]) for g in self.param_groups], [len(g["params"]) for g in groups]
        if sizes != given:
            raise ValueError(f"{name}: the state is of groups with {given} parameters, this optimizer has {sizes}")
        by_position = {str(position): held for position, held in state_dict["state"].items()}
        places: dict[Tensor, dict[str, Any]] = {}
        for group, saved in zip(self.param_groups, groups, strict=True):
            for p, position in zip(group["params"], saved["params"], strict=True):
                places[p] = by_position.get(str(position), {})
                for key, value in places[p].items():
                    if (
                        key in self._state_names
                        and value is not None
                        and tuple(np.shape(value)) != tuple(p.array.shape)
                    ):
                        shapes = f"{tuple(np.shape(value))}, the parameter {tuple(p.array.shape)}"
                        raise ValueError(f"{name}: {key} of parameter {position} is {shapes}")
        for index, (group, saved) in enumerate(zip(self.param_groups, groups, strict=True)):
            options = {k: tuple(v) if isinstance(group.get(k), tuple) else v for k, v in saved.items() if k != "params"}
            group.update({k: v for k, v in options.items() if k in group or k == "initial_lr"})
            for flat in self._prepared(index):
                flat.state.clear()
                for i, p in enumerate(flat.params):
                    held = places[p]
                    arrays = {k: v for k, v in held.items() if k in self._state_names and v is not None}
                    # torch's SGD does not count; having a momentum buffer means that a step was taken
                    self._set_count(flat, i, int(held.get("step", bool(arrays))))
                    for key, value in arrays.items():
                        source = value if isinstance(value, Tensor) else Tensor(np.asarray(value))
                        flat.slice(flat.buffer(key, self._state_names[key]), i)[...] = source.to(
                            device=flat.device
                        ).array

    def __repr__(self) -> str:
        lines = [f"{type(self).__name__} ("]
        for i, group in enumerate(self.param_groups):
            count = sum(p.array.size for p in group["params"])
            lines.append(f"  group {i}: {len(group['params'])} tensors, {count:,} numbers")
            lines += [f"    {k}: {v}" for k, v in sorted(group.items()) if k != "params"]
        return "\n".join([*lines, ")"])


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
        self, k: Any, group: dict[str, Any], p: Any, g: Pieces, state: Callable[[str], Any], lr: Any, step: Any
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
        self, k: Any, group: dict[str, Any], p: Any, g: Pieces, state: Callable[[str], Any], lr: Any, step: Any
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
        self, k: Any, group: dict[str, Any], p: Any, g: Pieces, state: Callable[[str], Any], lr: Any, step: Any
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
        self, k: Any, group: dict[str, Any], p: Any, g: Pieces, state: Callable[[str], Any], lr: Any, step: Any
    ) -> None:
        xp, total = k.xp, state("sum")
        d = g.joined(p)
        if group["weight_decay"]:
            d += group["weight_decay"] * p
        total += d * d
        rate = (lr / (1 + (step - 1) * group["lr_decay"])).astype(
            p.dtype
        )  # 0-d arrays, so nothing waits for the device
        p -= rate * d / (xp.sqrt(total) + group["eps"])


class LBFGS(Optimizer):
    """Minimises closure() by SciPy's L-BFGS-B, in float64 on the host, optionally within bounds (Zhu et al. 1997).

    `bounds` is a pair (low, high) for all numbers, or one pair (or None) per parameter; each end is a number, an
    array or None. Every `step` is a whole minimisation of at most `max_iter` iterations. SciPy searches along the
    line itself, so there is no learning rate: `lr` is accepted for torch's sake and must be 1.
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
        """Minimises closure() from the present values and leaves the parameters there; returns its first loss."""
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


# Learning rates over time. As in torch, a scheduler's step() comes after the optimizer's; unlike there, each rate is
# computed from the group's initial one and the count alone, so a schedule resumed at any point is exactly the same.


class LRScheduler:
    """Base class: `rate(base, epoch, group)` is the learning rate of a group after `epoch` calls of `step`."""

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
        self._apply()

    def _apply(self) -> None:
        for i, (group, base) in enumerate(zip(self.optimizer.param_groups, self.base_lrs, strict=False)):
            group["lr"] = self.rate(base, self.last_epoch, i)

    def get_last_lr(self) -> list[float]:
        """The learning rates of the groups now."""
        return [group["lr"] for group in self.optimizer.param_groups]

    def state_dict(self) -> dict[str, Any]:
        """The position: plain numbers."""
        return {"last_epoch": self.last_epoch, "base_lrs": list(self.base_lrs)}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continues at a saved position, and sets the learning rates of that point."""
        self.last_epoch, self.base_lrs = state_dict["last_epoch"], list(state_dict["base_lrs"])
        self._apply()


class LambdaLR(LRScheduler):
    """base * lr_lambda(epoch); one function, or one per group."""

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
        self.step_size, self.gamma = step_size, gamma
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
        self.start_factor, self.end_factor, self.total_iters = start_factor, end_factor, total_iters
        super().__init__(optimizer, last_epoch)

    def rate(self, base: float, epoch: int, group: int) -> float:
        done = min(epoch, self.total_iters) / self.total_iters
        return base * (self.start_factor + (self.end_factor - self.start_factor) * done)


class CosineAnnealingLR(LRScheduler):
    """eta_min + (base - eta_min) * (1 + cos(pi * epoch / T_max)) / 2 (Loshchilov and Hutter 2017)."""

    def __init__(self, optimizer: Optimizer, T_max: int, eta_min: float = 0.0, last_epoch: int = -1) -> None:
        self.T_max, self.eta_min = T_max, eta_min
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
        super().__init__(optimizer, last_epoch)

    def rate(self, base: float, epoch: int, group: int) -> float:
        i = bisect.bisect_right(self.milestones, epoch)
        return self.schedulers[i].rate(base, epoch - ([0, *self.milestones][i]), group)


# `from tinygen.optim.lr_scheduler import StepLR`, as model code for torch has it.
lr_scheduler = ModuleType(
    __name__ + ".lr_scheduler", "The learning-rate schedules of tinygen.optim, under torch's name."
)
for _class in (LRScheduler, LambdaLR, StepLR, MultiStepLR, ExponentialLR, LinearLR, CosineAnnealingLR, SequentialLR):
    setattr(lr_scheduler, _class.__name__, _class)
sys.modules[lr_scheduler.__name__] = lr_scheduler


# Averages.


class EMA:
    """Exponential moving average of a module's parameters: `update` makes it decay * average + (1 - decay) * parameter.

        ema = EMA(generator, decay=0.999)
        ...; optimizer.step(); ema.update()
        with ema.average_parameters():
            samples = generator(z)

    With `warmup` the decay of update n is at most (1 + n) / (10 + n), so that the first values are forgotten soon.
    """

    def __init__(self, module: Any, decay: float = 0.999, *, warmup: bool = False) -> None:
        if not 0 <= decay <= 1:
            raise ValueError(f"EMA: decay={decay} should lie in [0, 1]")
        self.module, self.decay, self.warmup, self.updates = module, decay, warmup, 0
        self.averages = {n: Tensor(p.array.copy(), None, p.device) for n, p in module.named_parameters()}

    def update(self) -> None:
        """Takes the present parameters into the average."""
        self.updates += 1
        decay = min(self.decay, (1 + self.updates) / (10 + self.updates)) if self.warmup else self.decay
        for name, p in self.module.named_parameters():
            average = self.averages[name]
            if average.device is not p.device or average.array.dtype != p.array.dtype:
                average = self.averages[name] = average.to(dtype=p.array.dtype, device=p.device)
            average.array += (1 - decay) * (p.array - average.array)

    @contextmanager
    def average_parameters(self) -> Iterator[None]:
        """Context manager: inside, the module's parameters have the averaged values."""
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
        """Copies the averages into another module of the same structure, with the original's buffers."""
        with no_grad():
            for name, p in module.named_parameters():
                p.copy_(self.averages[name].to(device=p.device))
            buffers = dict(self.module.named_buffers())
            for name, buffer in module.named_buffers():
                buffer.copy_(buffers[name].to(device=buffer.device))

    def state_dict(self) -> dict[str, Any]:
        """The averages, and how many updates made them."""
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
        self.updates = int(state_dict["updates"])
