"""Linear: a matrix product with a weight of its own; Bilinear, of two inputs; and Identity.

    nn.Linear(784, 32)        # (..., 784) to (..., 32)

Weight and bias start uniform in +-1 / sqrt(in_features), as in torch.
"""

from __future__ import annotations

from typing import Any

from ..ops.fused import linear_leaky_relu
from ..tape import Tensor
from . import functional as F
from . import init
from .module import Module, empty

__all__ = ["Linear", "Bilinear", "Identity"]


class Linear(Module):
    """y = x W^T + b: (..., in_features) to (..., out_features); weight (out, in), bias (out,).

    Sequential gives forward a slope, which torch does not have: the same kernel then returns leaky_relu of that.
    """

    def __init__(self, in_features: int, out_features: int, bias: bool = True) -> None:
        super().__init__()
        self.in_features, self.out_features = in_features, out_features
        self.weight = empty(out_features, in_features)
        self.register_parameter("bias", empty(out_features) if bias else None)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draws new initial values."""
        init.fan_in_(self.weight, self.bias)

    def forward(self, input: Tensor, slope: float = 1.0) -> Tensor:
        if slope == 1:
            return F.linear(input, self.weight, self.bias)
        return linear_leaky_relu(input, self.weight, self.bias, slope)

    def extra_repr(self) -> str:
        return f"in_features={self.in_features}, out_features={self.out_features}, bias={self.bias is not None}"


class Bilinear(Module):
    """y[o] = x1^T W[o] x2 + b[o]; weight (out, in1, in2), bias (out,), both uniform in +-1 / sqrt(in1_features)."""

    def __init__(self, in1_features: int, in2_features: int, out_features: int, bias: bool = True) -> None:
        super().__init__()
        self.in1_features, self.in2_features, self.out_features = in1_features, in2_features, out_features
        self.weight = empty(out_features, in1_features, in2_features)
        self.register_parameter("bias", empty(out_features) if bias else None)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draws new initial values."""
        bound = self.in1_features**-0.5
        for parameter in (self.weight, self.bias):
            if parameter is not None:
                init.uniform_(parameter, -bound, bound)

    def forward(self, input1: Tensor, input2: Tensor) -> Tensor:
        return F.bilinear(input1, input2, self.weight, self.bias)

    def extra_repr(self) -> str:
        sizes = ("in1_features", "in2_features", "out_features")
        return ", ".join(f"{name}={getattr(self, name)}" for name in sizes) + f", bias={self.bias is not None}"


class Identity(Module):
    """x itself; any arguments are accepted and ignored."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__()

    def forward(self, input: Any) -> Any:
        return input
