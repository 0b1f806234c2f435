"""Convolution layers: `F.conv2d`, its adjoint `F.conv_transpose2d`, and both along one axis, with weights of their own.

    nn.Conv2d(1, 16, 4, 2, 1, bias=False)        # y = conv(x, w)
    nn.ConvTranspose2d(16, 1, 4, 2, 1)           # its adjoint: the weight array has the same shape

Names, argument order and initial values are torch's: weight and bias uniform in +-1 / sqrt(fan_in). Options beyond the
leading ones are keyword-only.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..backends.geometry import integers, padding_pairs, per_axis
from ..ops.conv import conv, conv_transpose
from ..tape import Tensor
from . import functional as F
from . import init
from .arguments import refuse
from .module import Module, empty

__all__ = ["Conv1d", "Conv2d", "ConvTranspose1d", "ConvTranspose2d"]


class _Conv(Module):
    """What the four convolution layers share: `_function` of nn.functional over `_axes` image axes.

    For Sequential forward takes an option that torch does not have: `compute`, which stands in for the function, such
    as conv_layer with the slope of a leaky ReLU behind the layer.
    """

    _function: Any
    _axes = 2
    _transposed = False

    def __init__(
        self, in_channels: int, out_channels: int, kernel_size: Any, stride: Any, padding: Any, output_padding: Any,
        dilation: Any, groups: int, bias: bool, padding_mode: str,
    ) -> None:  # fmt: skip
        super().__init__()
        name = type(self).__name__
        for what, channels in (("in_channels", in_channels), ("out_channels", out_channels)):
            if channels < 1:
                raise ValueError(f"{name}: {what}={channels} should be at least 1")
            if groups < 1 or channels % groups:
                raise ValueError(f"{name}: groups={groups} should divide {what}={channels} and be at least 1")
        if padding_mode not in ("zeros", "reflect", "replicate", "circular"):
            raise ValueError(
                f"{name}: padding_mode={padding_mode!r}; use 'zeros', 'reflect', 'replicate' or 'circular'"
            )
        self.in_channels, self.out_channels = in_channels, out_channels
        self.groups, self.padding_mode = groups, padding_mode
        self.kernel_size = per_axis(name, "kernel_size", kernel_size, self._axes)
        self.stride = per_axis(name, "stride", stride, self._axes)
        self.dilation = per_axis(name, "dilation", dilation, self._axes)
        self.output_padding = per_axis(name, "output_padding", output_padding, self._axes, 0)
        self.padding = padding if isinstance(padding, str) else self._each(padding)
        shape = (in_channels, out_channels // groups) if self._transposed else (out_channels, in_channels // groups)
        self.weight = empty(*shape, *self.kernel_size)
        self.register_parameter("bias", empty(out_channels) if bias else None)
        self.reset_parameters()

    def _each(self, value: Any) -> tuple:
        try:
            values: tuple = integers(value, self._axes)
        except TypeError:  # pairs (before, after)
            values = tuple([integers(v, 2) for v in value])
        if len(values) != self._axes:
            raise ValueError(f"{type(self).__name__}: {value} should be one integer or {self._axes}")
        return values

    def reset_parameters(self) -> None:
        """Draws new initial values."""
        init.fan_in_(self.weight, self.bias)

    def _padded(self, x: Tensor) -> tuple[Tensor, Any]:
        """The input with its border, unless that is of zeros; and the padding that the convolution adds."""
        if self.padding_mode == "zeros":
            return x, self.padding
        pads = padding_pairs(type(self).__name__, self.padding, self.kernel_size, self.dilation)
        return F.pad(x, [amount for pair in reversed(pads) for amount in pair], mode=self.padding_mode), 0

    def extra_repr(self) -> str:
        parts = [f"{self.in_channels}, {self.out_channels}, kernel_size={self.kernel_size}, stride={self.stride}"]
        defaults = {
            "padding": (0,) * self._axes,
            "dilation": (1,) * self._axes,
            "output_padding": (0,) * self._axes,
            "groups": 1,
        }
        parts += [f"{k}={getattr(self, k)!r}" for k, v in defaults.items() if getattr(self, k) != v]
        parts += ["bias=False"] if self.bias is None else []
        parts += [f"padding_mode={self.padding_mode}"] if self.padding_mode != "zeros" else []
        return ", ".join(parts)


class Conv2d(_Conv):
    """`F.conv2d` with its own weight (out, in / groups, R, S): (N, in, H, W) to (N, out, P, Q).

    padding: an integer, one per axis, a (before, after) pair per axis, 'same' or 'valid'; padding_mode 'zeros',
    'reflect', 'replicate' or 'circular'.
    """

    _function = staticmethod(F.conv2d)

    def __init__(
        self, in_channels: int, out_channels: int, kernel_size: Any, stride: Any = 1, padding: Any = 0, *misplaced: Any,
        dilation: Any = 1, groups: int = 1, bias: bool = True, padding_mode: str = "zeros",
    ) -> None:  # fmt: skip
        refuse(type(self).__name__, misplaced, "dilation, groups, bias, padding_mode")
        super().__init__(
            in_channels, out_channels, kernel_size, stride, padding, 0, dilation, groups, bias, padding_mode
        )

    def forward(self, input: Tensor, compute: Callable | None = None) -> Any:
        x, padding = self._padded(input)
        if compute is None:
            return self._function(x, self.weight, self.bias, self.stride, padding, self.dilation, self.groups)
        law = self.stride, padding, self.dilation
        return compute(conv, self._axes, x, self.weight, self.bias, self.groups, *law)


class Conv1d(Conv2d):
    """`F.conv1d` with its own weight (out, in / groups, R): (N, in, L) to (N, out, P); options as Conv2d."""

    _function = staticmethod(F.conv1d)
    _axes = 1


class ConvTranspose2d(_Conv):
    """`F.conv_transpose2d` with its own weight (in, out / groups, R, S): (N, in, P, Q) to (N, out, H, W).

    A strided convolution maps several sizes to one; `output_padding`, or `output_size` at the call, says which to
    return to.
    """

    _function = staticmethod(F.conv_transpose2d)
    _transposed = True

    def __init__(
        self, in_channels: int, out_channels: int, kernel_size: Any, stride: Any = 1, padding: Any = 0,
        output_padding: Any = 0, *misplaced: Any, groups: int = 1, bias: bool = True, dilation: Any = 1,
        padding_mode: str = "zeros",
    ) -> None:  # fmt: skip
        refuse(type(self).__name__, misplaced, "groups, bias, dilation")
        if padding_mode != "zeros":
            raise ValueError(f"{type(self).__name__}: padding_mode={padding_mode!r} has no meaning here; only 'zeros'")
        super().__init__(
            in_channels,
            out_channels,
            kernel_size,
            stride,
            padding,
            output_padding,
            dilation,
            groups,
            bias,
            padding_mode,
        )

    def forward(self, input: Tensor, output_size: Any = None, compute: Callable | None = None) -> Any:
        if compute is None:
            return self._function(
                input, self.weight, self.bias, self.stride, self.padding, self.output_padding, self.groups,
                self.dilation, output_size,
            )  # fmt: skip
        law = self.stride, self.padding, self.dilation, self.output_padding, output_size
        return compute(conv_transpose, self._axes, input, self.weight, self.bias, self.groups, *law)


class ConvTranspose1d(ConvTranspose2d):
    """`F.conv_transpose1d` with its own weight (in, out / groups, R): (N, in, P) to (N, out, L)."""

    _function = staticmethod(F.conv_transpose1d)
    _axes = 1
