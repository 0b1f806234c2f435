"""What all optimizers share: parameter groups, state in flat arrays, learning rates on the device.

Parameters and gradients stay where they are: whoever else holds their memory sees every update. The state of a group
is packed into flat arrays. One kernel call updates a group:

    parameters     | weight of layer 1 | | bias | | weight of layer 2 | ...
    exp_avg        |         m         |    m   |         m           | ...

A parameter without a gradient keeps its value and its state, as in torch. Parameters that share memory (tied weights)
are updated one after the other. The next step notices an assignment to `p.data`. state_dict has torch's layout.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Iterator
from operator import is_not
from typing import Any

import numpy as np

from ..backends.arrays import native
from ..backends.geometry import Pieces
from ..recording import enable_grad
from ..tape import Leaf, Tensor

__all__ = ["Optimizer"]

_ALIGN = 64  # bytes; the state of every parameter begins at a multiple of it: a line of the cache has one owner


class _Flat:
    """The parameters of one group, device and dtype, where they lie, and their state, packed into flat arrays."""

    def __init__(self, params: list[Tensor]) -> None:
        self.params, self.device, self.dtype = params, params[0].device, params[0].array.dtype
        self.xp = self.device.kernels.xp
        unit = _ALIGN // self.dtype.itemsize
        padded = [-(-p.array.size // unit) * unit for p in params]
        self.starts, self.shapes = [0, *itertools.accumulate(padded)], [p.array.shape for p in params]
        self.state: dict[str, Any] = {}  # name -> flat array
        self.counts = [0] * len(params)  # steps taken by each parameter, and the same for the kernels
        self.steps = self.xp.zeros(len(params), np.float64)
        self.lr = self.xp.zeros((), np.float64)  # what the kernels read
        self.rate = math.nan  # what was last written there
        self.offsets: dict[tuple[int, int], list[int]] = {}  # of the ranges updated so far
        self.locate()

    def slice(self, flat: Any, i: int) -> Any:
        """Parameter i's part of a flat array, in its shape."""
        return flat[self.starts[i] : self.starts[i] + math.prod(self.shapes[i])].reshape(self.shapes[i])

    def locate(self) -> None:
        """Notes where the parameters lie now. ValueError for one that cannot be updated there."""
        self.arrays = [p.array for p in self.params]
        self.scattered = [i for i, a in enumerate(self.arrays) if not a.flags.c_contiguous]
        owners: dict[int, list[int]] = {}
        for i, a in enumerate(self.arrays):
            repeats = any(step == 0 and n > 1 for step, n in zip(a.strides, a.shape, strict=True))
            if repeats or not getattr(a.flags, "writeable", True):  # CuPy's flags have no `writeable`
                what = f"parameter '{self.params[i].name or 'unnamed'}' {tuple(a.shape)}"
                raise ValueError(
                    f"step: {what} is read-only or expanded memory; give it its own: p.data = p.data.clone()"
                )
            owners.setdefault(id(_owner(a)), []).append(i)
        pairs = [pair for same in owners.values() for pair in itertools.combinations(same, 2)]
        tied = {i for pair in pairs if self.xp.may_share_memory(*[self.arrays[j] for j in pair]) for i in pair}
        self.places = list(itertools.accumulate(i in tied for i in range(len(self.params)))) if tied else []

    def moved(self) -> bool:
        """Whether a parameter's array is another one than `locate` has found."""
        return any(map(is_not, [p.array for p in self.params], self.arrays))

    def fits(self) -> bool:
        """Whether the parameters still have the device, dtype and shapes of their state."""
        kept = (self.device, self.dtype)
        return all((p.device, p.array.dtype, p.array.shape) == (*kept, s) for p, s in zip(self.params, self.shapes))

    def buffer(self, name: str, fill: float) -> Any:
        """The flat state array of this name; the first call makes it."""
        if name not in self.state:
            self.state[name] = self.xp.full(self.starts[-1], fill, self.dtype)
        return self.state[name]

    def runs(self) -> Iterator[tuple[int, int]]:
        """Ranges of neighbours with gradients, equal counts of steps and no memory in common.

        One kernel call updates a range. A parameter that shares memory with another begins one.
        """
        kinds: list[Any] = [None if p.grad is None else n for p, n in zip(self.params, self.counts, strict=True)]
        if self.places:
            kinds = [kind if kind is None else (kind, at) for kind, at in zip(kinds, self.places, strict=True)]
        start = 0
        for kind, run in itertools.groupby(kinds):
            stop = start + len(list(run))
            if kind is not None:
                yield start, stop
            start = stop

    def pieces(self, start: int, stop: int) -> tuple[Pieces, Pieces]:
        """The parameters of a range and their gradients, as kernels take them: a scattered parameter as a copy."""
        gradients, arrays = [], self.arrays[start:stop]
        for p in self.params[start:stop]:
            g: Any = p.grad.array if p.grad is not None else None
            if g.shape != p.array.shape or g.dtype != self.dtype:
                raise ValueError(
                    f"step: parameter '{p.name or 'unnamed'}' is {tuple(p.array.shape)} {self.dtype}, its gradient "
                    f"{tuple(g.shape)} {g.dtype}; was the parameter converted after backward()?"
                )
            gradients.append(g)
        starts = self.offsets.get((start, stop))
        if starts is None:
            starts = self.offsets[start, stop] = [s - self.starts[start] for s in self.starts[start:stop]]
        for i in self.scattered:
            if start <= i < stop:
                arrays[i - start] = self.xp.ascontiguousarray(arrays[i - start])
        return Pieces(arrays, starts), Pieces(gradients, starts)


def _owner(array: Any) -> Any:
    """Whose memory an array shows: the array at the end of the chain of bases, or what it was made from."""
    while (base := getattr(array, "base", None)) is not None:
        array = base
    return array


class Optimizer:
    """Base class: parameter groups, flat arrays, state. A subclass defines `_update` for a range of parameters."""

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
        """Adds a group {"params": [...], option: value ...}; the optimizer's defaults fill in the rest."""
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
        """The flat arrays of a group. The first call makes them; later calls look for replaced parameters."""
        flats, params = self._flats[index], self.param_groups[index]["params"]
        stale = sum(len(f.params) for f in flats) != len(params)
        for flat in flats:
            if flat.moved():
                if flat.fits():
                    flat.locate()
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
        """Writes changed learning rates to the device. `step` reads them there, in a captured graph too."""
        for group, flats in zip(self.param_groups, self._flats, strict=True):
            for flat in flats:
                if flat.rate != group["lr"]:
                    flat.rate = float(group["lr"])
                    flat.lr.fill(flat.rate)

    def step(self, closure: Callable | None = None) -> Any:
        """Updates all parameters with a gradient. Calls closure() first, if there is one, and returns its value."""
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
        p, g = flat.pieces(start, stop)
        if group.get("maximize"):
            g = Pieces([-array for array in g.arrays], g.starts)
        flat.steps[start:stop] += 1
        for i in range(start, stop):
            flat.counts[i] += 1
        at = slice(flat.starts[start], flat.starts[stop])

        def state(name: str) -> Any:
            return flat.buffer(name, self._state_names[name])[at]

        self._update(flat.device.kernels, group, p, g, state, flat.lr, flat.steps[start : start + 1].reshape(()))
        for i in flat.scattered:
            if start <= i < stop:
                flat.arrays[i][...] = p.arrays[i - start]
        for parameter in flat.params[start:stop]:
            parameter._version[0] += 1

    def _update(
        self, k: Any, group: dict[str, Any], p: Pieces, g: Pieces, state: Callable[[str], Any], lr: Any, step: Any
    ) -> None:
        """Changes the pieces of p in place by those of g. `state(name)` is flat; lr and step are 0-d arrays."""
        raise NotImplementedError

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Sets the gradients of all parameters to None, or fills them with zeros."""
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
        """Restores a state_dict of this optimizer or of torch's. ValueError where it does not fit."""
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
                        source = value if isinstance(value, Tensor) else Tensor(native(np.asarray(value)))
                        flat.slice(flat.buffer(key, self._state_names[key]), i)[...] = source.to(
                            device=flat.device
                        ).array

    def __getstate__(self) -> dict[str, Any]:  # for pickle and copy.deepcopy: the state as tensors
        return {**vars(self), "_flats": self.state_dict()["state"]}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state, _flats=[[] for _ in state["param_groups"]])
        if state["_flats"]:
            position = itertools.count()
            groups = [{"params": [next(position) for _ in group["params"]]} for group in self.param_groups]
            self.load_state_dict({"state": state["_flats"], "param_groups": groups})

    def __repr__(self) -> str:
        lines = [f"{type(self).__name__} ("]
        for i, group in enumerate(self.param_groups):
            count = sum(p.array.size for p in group["params"])
            lines.append(f"  group {i}: {len(group['params'])} tensors, {count:,} numbers")
            lines += [f"    {k}: {v}" for k, v in sorted(group.items()) if k != "params"]
        return "\n".join([*lines, ")"])
