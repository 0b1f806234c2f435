"""Activations as modules. `inplace` changes the input, which is returned; how says ops/in_place.py."""

from __future__ import annotations

from typing import Any

from ..ops.in_place import changed
from ..tape import Tensor
from . import functional as F
from .module import Module, Parameter, empty

__all__ = [
    "ReLU", "LeakyReLU", "PReLU", "ELU", "SELU", "GELU", "SiLU", "Mish", "Sigmoid", "Tanh", "Softplus", "Softsign",
    "Softmax", "Softmin", "LogSoftmax", "LogSigmoid", "Hardtanh", "ReLU6", "Threshold", "CELU", "GLU", "Hardsigmoid",
    "Hardswish", "Softshrink", "Tanhshrink",
]  # fmt: skip


class _Activation(Module):
    """A function of x and of the options in `_options`."""

    _function: Any
    inplace = False

    def __init__(self, **options: Any) -> None:
        super().__init__()
        self._options = options
        for name, value in options.items():
            setattr(self, name, value)

    def forward(self, input: Tensor) -> Tensor:
        options = [getattr(self, name) for name in self._options]
        return changed(self._function, input, *options) if self.inplace else self._function(input, *options)

    def extra_repr(self) -> str:
        return ", ".join(f"{name}={getattr(self, name)!r}" for name in self._options)


class _Plain(_Activation):
    """An activation whose only option is `inplace`."""

    def __init__(self, inplace: bool = False) -> None:
        super().__init__()
        self.inplace = inplace


class ReLU(_Plain):
    """max(x, 0)."""

    _function = staticmethod(F.relu)


class ReLU6(_Plain):
    """min(max(x, 0), 6)."""

    _function = staticmethod(F.relu6)


class SELU(_Plain):
    """1.0507 * (x if x > 0 else 1.6733 (e^x - 1))."""

    _function = staticmethod(F.selu)


class SiLU(_Plain):
    """x * sigmoid(x)."""

    _function = staticmethod(F.silu)


class Mish(_Plain):
    """x * tanh(softplus(x))."""

    _function = staticmethod(F.mish)


class LeakyReLU(_Activation):
    """x where x > 0, else negative_slope * x."""

    _function = staticmethod(F.leaky_relu)

    def __init__(self, negative_slope: float = 0.01, inplace: bool = False) -> None:
        super().__init__(negative_slope=negative_slope)
        self.inplace = inplace


class PReLU(Module):
    """x where x > 0, else weight * x; the slope is learned, one for all channels or one for each of axis 1."""

    def __init__(self, num_parameters: int = 1, init: float = 0.25) -> None:
        super().__init__()
        self.num_parameters = num_parameters
        self.weight: Parameter = empty(num_parameters)
        self.weight.data.fill_(init)

    def forward(self, input: Tensor) -> Tensor:
        if self.num_parameters > 1 and (input.ndim < 2 or input.shape[1] != self.num_parameters):
            raise ValueError(
                f"PReLU: expected {self.num_parameters} channels on axis 1, got input {tuple(input.shape)}"
            )
        return F.prelu(input, self.weight)

    def extra_repr(self) -> str:
        return f"num_parameters={self.num_parameters}"


class Hardsigmoid(_Plain):
    """0 up to x = -3, 1 from x = 3 on, x / 6 + 1/2 between."""

    _function = staticmethod(F.hardsigmoid)


class Hardswish(_Plain):
    """x * hardsigmoid(x)."""

    _function = staticmethod(F.hardswish)


class ELU(_Activation):
    """x where x > 0, else alpha (e^x - 1)."""

    _function = staticmethod(F.elu)

    def __init__(self, alpha: float = 1.0, inplace: bool = False) -> None:
        super().__init__(alpha=alpha)
        self.inplace = inplace


class CELU(_Activation):
    """x where x > 0, else alpha (e^(x / alpha) - 1)."""

    _function = staticmethod(F.celu)

    def __init__(self, alpha: float = 1.0, inplace: bool = False) -> None:
        super().__init__(alpha=alpha)
        self.inplace = inplace


class GELU(_Activation):
    """x * Phi(x), Phi the normal distribution function; approximate='tanh' for its approximation."""

    _function = staticmethod(F.gelu)

    def __init__(self, approximate: str = "none") -> None:
        super().__init__(approximate=approximate)


class Sigmoid(_Activation):
    """1 / (1 + e^-x)."""

    _function = staticmethod(F.sigmoid)


class Tanh(_Activation):
    """tanh(x)."""

    _function = staticmethod(F.tanh)


class Tanhshrink(_Activation):
    """x - tanh(x)."""

    _function = staticmethod(F.tanhshrink)


class Softshrink(_Activation):
    """x moved towards 0 by `lambd`, 0 where |x| <= lambd."""

    _function = staticmethod(F.softshrink)

    def __init__(self, lambd: float = 0.5) -> None:
        super().__init__(lambd=lambd)


class GLU(_Activation):
    """a * sigmoid(b), where a and b are the halves of x along `dim`."""

    _function = staticmethod(F.glu)

    def __init__(self, dim: int = -1) -> None:
        super().__init__(dim=dim)


class Softsign(_Activation):
    """x / (1 + |x|)."""

    _function = staticmethod(F.softsign)


class LogSigmoid(_Activation):
    """log(sigmoid(x)), finite at any x."""

    _function = staticmethod(F.logsigmoid)


class Softplus(_Activation):
    """log(1 + e^(beta x)) / beta; x where beta x > threshold."""

    _function = staticmethod(F.softplus)

    def __init__(self, beta: float = 1.0, threshold: float = 20.0) -> None:
        super().__init__(beta=beta, threshold=threshold)


class Softmax(_Activation):
    """e^x / sum(e^x) along `dim`."""

    _function = staticmethod(F.softmax)

    def __init__(self, dim: int | None = None) -> None:
        super().__init__(dim=dim)


class Softmin(_Activation):
    """softmax(-x) along `dim`."""

    _function = staticmethod(F.softmin)

    def __init__(self, dim: int | None = None) -> None:
        super().__init__(dim=dim)


class LogSoftmax(_Activation):
    """log(softmax(x)) along `dim`."""

    _function = staticmethod(F.log_softmax)

    def __init__(self, dim: int | None = None) -> None:
        super().__init__(dim=dim)


class Hardtanh(_Activation):
    """x moved into [min_val, max_val]."""

    _function = staticmethod(F.hardtanh)

    def __init__(self, min_val: float = -1.0, max_val: float = 1.0, inplace: bool = False) -> None:
        if min_val > max_val:
            raise ValueError(f"Hardtanh: min_val={min_val} should not be above max_val={max_val}")
        super().__init__(min_val=min_val, max_val=max_val)
        self.inplace = inplace


class Threshold(_Activation):
    """x where x > threshold, else value."""

    _function = staticmethod(F.threshold)

    def __init__(self, threshold: float, value: float, inplace: bool = False) -> None:
        super().__init__(threshold=threshold, value=value)
        self.inplace = inplace
