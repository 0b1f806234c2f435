"""Module: an object whose attributes are parameters, buffers and other modules, and that can be called.

    class Encoder(nn.Module):
        def __init__(self, size):
            super().__init__()
            self.hidden = nn.Linear(784, size)

        def forward(self, x):
            return self.hidden(x.flatten(1)).relu()

There is no registry: an attribute that holds a Parameter or a Module belongs to the module. Every question ("which
parameters?", "what is saved?") is a walk over the attributes in the order of their assignment. Names are dotted paths:
`hidden.weight`. Deliberately absent: lazy shapes, backward hooks, per-module device settings.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterator, Mapping
from html import escape
from typing import Any, NamedTuple

import numpy as np

from ..backends import is_device
from ..backends.arrays import native
from ..backends.geometry import by
from ..memory import share
from ..ops import creation
from ..tape import Tensor

__all__ = ["Module", "Parameter"]


class Parameter(Tensor):
    """A tensor that a module learns: a leaf sharing the memory of `data`."""

    __slots__ = ()

    def __init__(self, data: Any, requires_grad: bool = True) -> None:
        source = data if isinstance(data, Tensor) else creation.tensor(data)
        super().__init__(source.array, None, source.device)
        share(source, self)
        self.requires_grad_(requires_grad)

    def __repr__(self) -> str:
        return f"Parameter containing:\n{super().__repr__()}"


def empty(*shape: int) -> Parameter:
    """A float32 parameter of this shape whose values are still to be drawn (zeros)."""
    return Parameter(Tensor(np.zeros(shape, np.float32)))


class IncompatibleKeys(NamedTuple):
    """What `load_state_dict(strict=False)` did not match."""

    missing_keys: list[str]
    unexpected_keys: list[str]

    def __repr__(self) -> str:
        if self.missing_keys or self.unexpected_keys:
            return f"IncompatibleKeys(missing_keys={self.missing_keys}, unexpected_keys={self.unexpected_keys})"
        return "<All keys matched successfully>"


class HookHandle:
    """What registering a hook returns: `remove()` takes the hook away again."""

    def __init__(self, module: Module, kind: str, hook: Callable) -> None:
        self.module, self.kind, self.hook = module, kind, hook

    def remove(self) -> None:
        hooks = self.module.__dict__.get(self.kind, ())
        self.module.__dict__[self.kind] = tuple(h for h in hooks if h is not self.hook)


class Module:
    """Base class of all networks and layers; subclasses define `forward`."""

    training: bool
    _persistent: dict[str, bool]  # the names of buffers, and whether state_dict holds them
    _forward_pre_hooks: tuple[Callable, ...] = ()
    _forward_hooks: tuple[Callable, ...] = ()

    def __init__(self) -> None:
        self.__dict__["training"] = True
        self.__dict__["_persistent"] = {}

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        raise NotImplementedError(f"{type(self).__name__}: define forward(self, ...) to make this module callable")

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        for before in self._forward_pre_hooks:
            changed = before(self, args)
            if changed is not None:
                args = changed if isinstance(changed, tuple) else (changed,)
        result = self.forward(*args, **kwargs)
        for after in self._forward_hooks:
            changed = after(self, args, result)
            if changed is not None:
                result = changed
        return result

    def register_forward_pre_hook(self, hook: Callable) -> HookHandle:
        """Calls `hook(module, args)` before every forward; what it returns, unless None, replaces the arguments."""
        self.__dict__["_forward_pre_hooks"] = (*self._forward_pre_hooks, hook)
        return HookHandle(self, "_forward_pre_hooks", hook)

    def register_forward_hook(self, hook: Callable) -> HookHandle:
        """Calls `hook(module, args, result)` after every forward; what it returns, unless None, replaces the result."""
        self.__dict__["_forward_hooks"] = (*self._forward_hooks, hook)
        return HookHandle(self, "_forward_hooks", hook)

    # Attributes.

    def __setattr__(self, name: str, value: Any) -> None:
        if isinstance(value, Parameter | Module) and "_persistent" not in self.__dict__:
            raise AttributeError(
                f"{type(self).__name__}: '{name}' was assigned before super().__init__(); call it first in __init__"
            )
        current = self.__dict__.get(name)
        if isinstance(current, Parameter) and not (value is None or isinstance(value, Parameter)):
            raise TypeError(
                f"{type(self).__name__}: '{name}' is a Parameter and cannot become a {type(value).__name__}; assign "
                f"nn.Parameter(...), change its values through {name}.data, or `del` it first"
            )
        if self.__dict__.get("_persistent", {}).get(name) is not None and not (
            value is None or isinstance(value, Tensor)
        ):
            raise TypeError(f"{type(self).__name__}: '{name}' is a buffer and cannot become a {type(value).__name__}")
        if isinstance(value, Parameter | Module):
            self._persistent.pop(name, None)  # it was a buffer until now
        object.__setattr__(self, name, value)

    def __delattr__(self, name: str) -> None:
        object.__delattr__(self, name)
        self._persistent.pop(name, None)

    def __getattr__(self, name: str) -> Any:  # reached only for what is not there
        if name.startswith("__"):
            raise AttributeError(name)
        if "_persistent" not in self.__dict__:
            raise AttributeError(f"{type(self).__name__} has no attribute '{name}': super().__init__() was not called")
        if name in self.__dict__:  # called by its name, as m.__getattr__("0")
            return self.__dict__[name]
        near = difflib.get_close_matches(name, {*self.__dict__, *dir(type(self))}, 1)
        hint = f"; did you mean '{near[0]}'?" if near else ""
        raise AttributeError(f"{type(self).__name__} has no attribute '{name}'{hint}")

    def __getstate__(self) -> dict[str, Any]:
        # A tensor that forward computed and left as an attribute is copied without its graph.
        return {n: v.detach() if isinstance(v, Tensor) and not v.is_leaf else v for n, v in self.__dict__.items()}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)

    def _check_name(self, kind: str, name: str) -> None:
        if "_persistent" not in self.__dict__:
            raise AttributeError(f"{type(self).__name__}: call super().__init__() before registering {kind} '{name}'")
        if not isinstance(name, str) or not name or "." in name:
            raise KeyError(f"{type(self).__name__}: {kind} name {name!r} should be a non-empty string without dots")
        free = not hasattr(self, name) or (
            name in self.__dict__ and isinstance(self.__dict__[name], Tensor | Module | None)
        )
        if not free:
            raise KeyError(f"{type(self).__name__}: attribute '{name}' already exists, so no {kind} can have that name")

    def register_buffer(self, name: str, tensor: Tensor | None, persistent: bool = True) -> None:
        """Makes `tensor` a buffer: state that moves and, if persistent, is saved with the module but is not learned."""
        self._check_name("buffer", name)
        if tensor is not None and (not isinstance(tensor, Tensor) or isinstance(tensor, Parameter)):
            raise TypeError(f"register_buffer: '{name}' should be a tensor or None, got {type(tensor).__name__}")
        self._persistent[name] = persistent
        self.__dict__[name] = tensor

    def register_parameter(self, name: str, param: Parameter | None) -> None:
        """Makes `param` the attribute `name`; None says that this optional parameter is absent."""
        self._check_name("parameter", name)
        if param is not None and not isinstance(param, Parameter):
            raise TypeError(
                f"register_parameter: '{name}' should be an nn.Parameter or None, got {type(param).__name__}"
            )
        self._persistent.pop(name, None)
        self.__dict__[name] = param

    def add_module(self, name: str, module: Module | None) -> None:
        """Makes `module` the attribute `name`; the name may be any string without dots."""
        self._check_name("module", name)
        if module is not None and not isinstance(module, Module):
            raise TypeError(f"add_module: '{name}' should be an nn.Module or None, got {type(module).__name__}")
        self._persistent.pop(name, None)
        self.__dict__[name] = module

    register_module = add_module

    # The walk.

    @property
    def _parameters(self) -> dict[str, Parameter]:
        return {n: v for n, v in self.__dict__.items() if isinstance(v, Parameter)}

    @property
    def _modules(self) -> dict[str, Module]:
        return {n: v for n, v in self.__dict__.items() if isinstance(v, Module)}

    @property
    def _buffers(self) -> dict[str, Tensor]:
        return {n: self.__dict__[n] for n in self._persistent if isinstance(self.__dict__.get(n), Tensor)}

    def named_modules(
        self, memo: set | None = None, prefix: str = "", remove_duplicate: bool = True
    ) -> Iterator[tuple[str, Module]]:
        """Pairs (dotted name, module), this module first under `prefix`; a shared module appears once."""
        seen = set() if memo is None else memo
        if self in seen:
            return
        if remove_duplicate:
            seen.add(self)
        yield prefix, self
        for name, module in self._modules.items():
            yield from module.named_modules(seen, f"{prefix}.{name}" if prefix else name, remove_duplicate)

    def modules(self) -> Iterator[Module]:
        """This module and all below it."""
        return (module for _, module in self.named_modules())

    def named_children(self) -> Iterator[tuple[str, Module]]:
        """Pairs (name, module) of the modules that are attributes of this one; a shared module appears once."""
        seen = set()
        for name, module in self._modules.items():
            if module not in seen:
                seen.add(module)
                yield name, module

    def children(self) -> Iterator[Module]:
        """The modules that are attributes of this one."""
        return (module for _, module in self.named_children())

    def _named(self, kind: str, prefix: str, recurse: bool, remove_duplicate: bool) -> Iterator[tuple[str, Any]]:
        seen = set()
        walk = self.named_modules(None, prefix, remove_duplicate) if recurse else [(prefix, self)]
        for path, module in walk:
            for name, tensor in getattr(module, kind).items():
                if tensor not in seen:
                    if remove_duplicate:
                        seen.add(tensor)
                    yield f"{path}.{name}" if path else name, tensor

    def named_parameters(
        self, prefix: str = "", recurse: bool = True, remove_duplicate: bool = True
    ) -> Iterator[tuple[str, Parameter]]:
        """Pairs (dotted name, parameter); a shared parameter appears once. Gives each its name for error messages."""
        for name, parameter in self._named("_parameters", prefix, recurse, remove_duplicate):
            if parameter.name is None or len(parameter.name) < len(name):
                parameter.name = name
            yield name, parameter

    def parameters(self, recurse: bool = True) -> Iterator[Parameter]:
        """All parameters, each once."""
        return (parameter for _, parameter in self.named_parameters(recurse=recurse))

    def named_buffers(
        self, prefix: str = "", recurse: bool = True, remove_duplicate: bool = True
    ) -> Iterator[tuple[str, Tensor]]:
        """Pairs (dotted name, buffer)."""
        return self._named("_buffers", prefix, recurse, remove_duplicate)

    def buffers(self, recurse: bool = True) -> Iterator[Tensor]:
        """All buffers, each once."""
        return (buffer for _, buffer in self.named_buffers(recurse=recurse))

    def get_submodule(self, target: str) -> Module:
        """The module at a dotted path; "" is this one. Raises AttributeError with the nearest name."""
        module: Any = self
        for name in target.split(".") if target else []:
            module = getattr(module, name)
            if not isinstance(module, Module):
                raise AttributeError(f"get_submodule: '{name}' in '{target}' is not a module")
        return module

    def get_parameter(self, target: str) -> Parameter:
        """The parameter at a dotted path. Raises AttributeError with the nearest name."""
        path, _, name = target.rpartition(".")
        parameter = getattr(self.get_submodule(path), name)
        if not isinstance(parameter, Parameter):
            raise AttributeError(f"get_parameter: '{target}' is not a parameter")
        return parameter

    # Changes to all of them; each returns the module.

    def apply(self, fn: Callable[[Module], Any]) -> Module:
        """Calls `fn(module)` for every module, children first, for instance to initialise weights."""
        for child in self.children():
            child.apply(fn)
        fn(self)
        return self

    def train(self, mode: bool = True) -> Module:
        """Switches dropout, batch statistics and the like on (or off)."""
        for module in self.modules():
            module.training = mode
        return self

    def eval(self) -> Module:
        """The same as `train(False)`."""
        return self.train(False)

    def requires_grad_(self, requires_grad: bool = True) -> Module:
        """Makes all parameters leaves, or constants."""
        for parameter in self.parameters():
            parameter.requires_grad_(requires_grad)
        return self

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Drops the gradients of all parameters (or fills them with zeros)."""
        for parameter in self.parameters():
            if set_to_none:
                parameter.grad = None
            elif parameter.grad is not None:
                parameter.grad = Tensor(
                    parameter.device.kernels.xp.zeros_like(parameter.grad.array), None, parameter.device
                )

    def to(self, *targets: Any, dtype: Any = None, device: Any = None) -> Module:
        """The module itself, moved to a device and (its floating tensors) converted to a dtype; as `Tensor.to`."""
        for target in targets:
            if isinstance(target, Tensor):
                dtype, device = target.dtype, target.device
            elif is_device(target):
                device = target
            else:
                dtype = target
        if dtype is not None and np.dtype(dtype).kind != "f":
            raise TypeError(f"to: parameters should be floating-point, got {np.dtype(dtype)}")
        for tensor in [*self.parameters(), *self.buffers()]:
            for held in (tensor, tensor.grad):
                if held is None:
                    continue
                moved = held.detach().to(dtype=dtype if held.dtype.kind == "f" else None, device=device)
                if moved.array is not held.array:
                    held.array, held.device = moved.array, moved.device
                    held._version[0] += 1  # graphs that kept the old values must not run
                    held._version = [held._version[0]]  # other memory
        return self

    def float(self) -> Module:
        """All floating tensors as float32."""
        return self.to(dtype=np.float32)

    def double(self) -> Module:
        """All floating tensors as float64."""
        return self.to(dtype=np.float64)

    def cpu(self) -> Module:
        """The module on the CPU."""
        return self.to(device="cpu")

    def cuda(self, device: Any = 0) -> Module:
        """The module on the GPU."""
        return self.to(device=device if is_device(device) else f"cuda:{device}")

    # State.

    def _state(self, prefix: str = "") -> Iterator[tuple[str, Tensor]]:
        for name, parameter in self._parameters.items():
            yield prefix + name, parameter
        for name, buffer in self._buffers.items():
            if self._persistent[name]:
                yield prefix + name, buffer
        for name, module in self._modules.items():
            yield from module._state(f"{prefix}{name}.")

    def state_dict(self, *, prefix: str = "", keep_vars: bool = False) -> dict[str, Tensor]:
        """{dotted name: tensor} of all parameters and persistent buffers; the tensors share the module's memory."""
        return {name: tensor if keep_vars else tensor.detach() for name, tensor in self._state(prefix)}

    def load_state_dict(self, state_dict: Mapping[str, Any], strict: bool = True) -> IncompatibleKeys:
        """Copies the values of {dotted name: tensor or array} into the module.

        Raises one RuntimeError that lists every missing, unexpected and mis-shaped name, and then has changed
        nothing. With strict=False missing and unexpected names are returned instead.
        """
        own = dict(self._state())
        given = {n: v if isinstance(v, Tensor) else Tensor(native(np.asarray(v))) for n, v in state_dict.items()}
        missing = [n for n in own if n not in given]
        unexpected = [n for n in given if n not in own]
        misshaped = [n for n in own if n in given and tuple(own[n].shape) != tuple(given[n].shape)]
        if misshaped or (strict and (missing or unexpected)):
            raise RuntimeError(_misfit(type(self).__name__, own, given, missing, unexpected, misshaped))
        values = {n: given[n].detach().to(device=own[n].device).array for n in own if n in given}
        for name, value in values.items():
            own[name].array[...] = value
            own[name]._version[0] += 1
        return IncompatibleKeys(missing, unexpected)

    # Display.

    def extra_repr(self) -> str:
        """What stands between the parentheses of the layer's repr."""
        return ""

    def _count(self) -> int:
        return sum(parameter.numel() for parameter in self.parameters())

    def __repr__(self) -> str:
        count, extra = self._count(), self.extra_repr()
        suffix = f" (params: {count:,})" if count else ""
        lines = [extra] if extra and self._modules else []
        lines += [f"({name}): {module!r}".replace("\n", "\n  ") for name, module in self._modules.items()]
        body = "\n  " + "\n  ".join(lines) + "\n" if lines else extra
        return f"{type(self).__name__}({body}){suffix}"

    def _repr_html_(self) -> str:
        """What a notebook shows: a table of the modules with their settings and parameters."""
        rows = []
        for name, module in self.named_modules():
            shapes = ", ".join(f"{n} {'x'.join(map(str, p.shape))}" for n, p in module._parameters.items())
            label = "&nbsp;" * 4 * (name.count(".") + 1 if name else 0) + escape(name.rpartition(".")[2])
            kind = escape(f"{type(module).__name__}({module.extra_repr()})")
            cells = (label, kind, escape(shapes), f"{module._count():,}")
            rows.append("<tr>" + "".join(f"<td style='text-align:left'>{cell}</td>" for cell in cells) + "</tr>")
        head = "".join(f"<th style='text-align:left'>{h}</th>" for h in ("name", "module", "own parameters", "count"))
        return f"<table><tr>{head}</tr>{''.join(rows)}</table>"


def _misfit(
    name: str,
    own: dict[str, Tensor],
    given: dict[str, Tensor],
    missing: list[str],
    unexpected: list[str],
    misshaped: list[str],
) -> str:
    """The error of `load_state_dict`: every difference, and for a missing name the most similar one that was given."""
    absent = []
    for n in missing:
        same = [u for u in unexpected if given[u].shape == own[n].shape]
        near = difflib.get_close_matches(n, same, 1, 0.5) or difflib.get_close_matches(n, unexpected, 1, 0.7)
        absent.append(f"{n} {by(own[n].shape)}" + (f" (is it '{near[0]}' {by(given[near[0]].shape)}?)" if near else ""))
    extra = [f"{n} {by(given[n].shape)}" for n in unexpected]
    wrong = [f"{n}: the module has {by(own[n].shape)}, the state {by(given[n].shape)}" for n in misshaped]
    lines = [f"load_state_dict: this state does not fit {name}; nothing was changed."]
    for title, entries in (("missing", absent), ("unexpected", extra), ("of another shape", wrong)):
        if entries:
            lines += [f"  {title} ({len(entries)}):", *(f"    {e}" for e in entries)]
    if not misshaped:
        lines.append("  strict=False would ignore missing and unexpected names.")
    return "\n".join(lines)
