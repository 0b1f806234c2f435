"""Modules that hold modules: Sequential runs them in turn, ModuleList and ModuleDict only hold them.

encoder = nn.Sequential(nn.Linear(784, 256), nn.ReLU(), nn.Linear(256, 32))
encoder[0].weight, encoder[:2], len(encoder)

Where nobody can see the values in between, Sequential computes several layers in one kernel: see fusion.py.
"""

from __future__ import annotations

import operator
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from ..tape import Tensor
from .fusion import fused
from .module import Module, Parameter

__all__ = ["Sequential", "ModuleList", "ModuleDict", "ParameterList"]


class _Ordered(Module):
    """Modules by position: what Sequential and ModuleList share."""

    def _position(self, index: Any) -> str:
        i, count = operator.index(index), len(self)
        if not -count <= i < count:
            raise IndexError(f"{type(self).__name__}: index {i} is out of range for {count} modules")
        return list(self._modules)[i]

    def _rebuild(self, modules: Iterable[Module]) -> None:
        for name in self._modules:
            delattr(self, name)
        for i, module in enumerate(modules):
            self.add_module(str(i), module)

    def __len__(self) -> int:
        return len(self._modules)

    def __iter__(self) -> Iterator[Module]:
        return iter(self._modules.values())

    def __setitem__(self, index: int, module: Module) -> None:
        self.add_module(self._position(index), module)

    def __delitem__(self, index: int | slice) -> None:
        modules = list(self)
        del modules[index]
        self._rebuild(modules)

    def append(self, module: Module) -> Any:
        """Adds a module at the end; returns the container."""
        self.add_module(str(len(self)), module)
        return self

    def insert(self, index: int, module: Module) -> Any:
        """Puts a module before position `index`; the later ones are renumbered."""
        modules = list(self)
        modules.insert(index, module)
        self._rebuild(modules)
        return self

    def extend(self, modules: Iterable[Module]) -> Any:
        """Appends several modules; returns the container."""
        for module in modules:
            self.append(module)
        return self


class Sequential(_Ordered):
    """x -> m_k(...(m_2(m_1(x)))): the modules in order, given as arguments or as one dict of named modules."""

    def __init__(self, *modules: Any) -> None:
        super().__init__()
        named = (
            modules[0]
            if len(modules) == 1 and isinstance(modules[0], Mapping)
            else {str(i): m for i, m in enumerate(modules)}
        )
        for name, module in named.items():
            self.add_module(name, module)

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return type(self)(dict(list(self._modules.items())[index]))
        return self._modules[self._position(index)]

    def forward(self, x: Any) -> Any:
        for layer in fused(self):
            x = layer(x)
        return x


class ModuleList(_Ordered):
    """A list of modules that belong to the module holding it."""

    def __init__(self, modules: Iterable[Module] | None = None) -> None:
        super().__init__()
        self.extend(modules or ())

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return type(self)(list(self)[index])
        return self._modules[self._position(index)]


class ModuleDict(Module):
    """A dict of modules that belong to the module holding it; keys are strings without dots."""

    def __init__(self, modules: Mapping[str, Module] | None = None) -> None:
        super().__init__()
        self.update(modules or {})

    def __getitem__(self, key: str) -> Module:
        if key not in self._modules:
            raise KeyError(f"ModuleDict: no module {key!r}; there are {list(self._modules)}")
        return self._modules[key]

    def __setitem__(self, key: str, module: Module) -> None:
        self.add_module(key, module)

    def __delitem__(self, key: str) -> None:
        delattr(self, key)

    def __len__(self) -> int:
        return len(self._modules)

    def __iter__(self) -> Iterator[str]:
        return iter(self._modules)

    def __contains__(self, key: str) -> bool:
        return key in self._modules

    def keys(self) -> Iterable[str]:
        return self._modules.keys()

    def values(self) -> Iterable[Module]:
        return self._modules.values()

    def items(self) -> Iterable[tuple[str, Module]]:
        return self._modules.items()

    def update(self, modules: Any) -> None:
        """Adds the modules of a dict, or of (key, module) pairs."""
        for key, module in dict(modules).items():
            self.add_module(key, module)


class ParameterList(Module):
    """A list of parameters that belong to the module holding it."""

    def __init__(self, parameters: Iterable[Tensor] | None = None) -> None:
        super().__init__()
        for parameter in parameters or ():
            self.append(parameter)

    def __len__(self) -> int:
        return len(self._parameters)

    def __iter__(self) -> Iterator[Parameter]:
        return iter(self._parameters.values())

    def __getitem__(self, index: int) -> Parameter:
        return list(self._parameters.values())[index]

    def append(self, parameter: Tensor) -> ParameterList:
        """Adds a parameter (a tensor becomes one) at the end; returns the list."""
        owned = parameter if isinstance(parameter, Parameter) else Parameter(parameter)
        self.register_parameter(str(len(self)), owned)
        return self
