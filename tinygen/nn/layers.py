"""Layers with weights, and the pooling, resizing, reshaping and dropout between them.

    nn.Conv2d(1, 16, 4, 2, 1, bias=False)        # y = conv(x, w): F.conv2d with a weight of its own
    nn.ConvTranspose2d(16, 1, 4, 2, 1)           # its adjoint: the weight array has the same shape

Names, argument order and initial values are torch's: weights and biases uniform in +-1 / sqrt(fan_in). Options beyond
the leading ones are keyword-only. In torch `BatchNorm2d(64, 0.8)` silently sets eps, which has gone wrong in public
code more than once; here it raises and says so.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from ..backends.geometry import padding_pairs
from ..ops.conv import contract, conv, conv_transpose
from ..ops.fused import linear_leaky_relu
from ..tape import Tensor, no_grad
from . import functional as F
from . import init
from .module import Module, Parameter

__all__ = [
    "Linear", "Conv1d", "Conv2d", "ConvTranspose1d", "ConvTranspose2d", "Embedding", "Identity", "Flatten", "Unflatten",
    "MaxPool1d", "MaxPool2d", "AvgPool1d", "AvgPool2d", "AdaptiveAvgPool1d", "AdaptiveAvgPool2d", "AdaptiveMaxPool1d",
    "AdaptiveMaxPool2d", "Upsample", "UpsamplingNearest2d", "UpsamplingBilinear2d", "PixelShuffle", "PixelUnshuffle",
    "ZeroPad2d", "ConstantPad2d", "ReflectionPad2d", "ReplicationPad2d", "CircularPad2d", "ZeroPad1d",
    "ReflectionPad1d", "Dropout", "Dropout1d", "Dropout2d",
]  # fmt: skip


def refuse(layer: str, misplaced: tuple, options: str) -> None:
    """Raises TypeError for options that were given by position, where they are easily mistaken for one another."""
    if misplaced:
        values, first = ", ".join(map(repr, misplaced)), options.split(", ")[0]
        raise TypeError(
            f"{layer}: the options {options} are keyword-only, but {values} came by position; "
            f"write {first}={misplaced[0]!r} if that is meant"
        )


def empty(*shape: int) -> Parameter:
    """A parameter to be initialised."""
    return Parameter(Tensor(np.zeros(shape, np.float32)))


def _init_as_torch(weight: Parameter, bias: Parameter | None) -> None:
    """Weight and bias uniform in +-1 / sqrt(fan_in)."""
    init.kaiming_uniform_(weight, a=math.sqrt(5))
    if bias is not None:
        fan_in = weight.shape[1] * math.prod(weight.shape[2:])
        bound = 1 / math.sqrt(fan_in) if fan_in else 0.0
        init.uniform_(bias, -bound, bound)


class Linear(Module):
    """y = x W^T + b: (..., in_features) to (..., out_features); weight (out, in), bias (out,).

    With a slope, which torch does not have, the layer returns leaky_relu of that by the same kernel: see Sequential.
    """

    def __init__(self, in_features: int, out_features: int, bias: bool = True) -> None:
        super().__init__()
        self.in_features, self.out_features = in_features, out_features
        self.weight = empty(out_features, in_features)
        self.register_parameter("bias", empty(out_features) if bias else None)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draws new initial values."""
        _init_as_torch(self.weight, self.bias)

    def forward(self, input: Tensor, slope: float = 1.0) -> Tensor:
        if slope == 1:
            return F.linear(input, self.weight, self.bias)
        return linear_leaky_relu(input, self.weight, self.bias, slope)

    def extra_repr(self) -> str:
        return f"in_features={self.in_features}, out_features={self.out_features}, bias={self.bias is not None}"


class _Conv(Module):
    """What the four convolution layers share. `_axes` is the number of image axes."""

    _axes = 2
    _transposed = False

    # forward takes an option that torch does not have, for Sequential: what to compute in the place of `contract`, such
    # as conv_layer with the slope of a leaky ReLU behind the layer.

    def __init__(
        self, in_channels: int, out_channels: int, kernel_size: Any, stride: Any, padding: Any, output_padding: Any,
        dilation: Any, groups: int, bias: bool, padding_mode: str,
    ) -> None:  # fmt: skip
        super().__init__()
        name = type(self).__name__
        for what, channels in (("in_channels", in_channels), ("out_channels", out_channels)):
            if groups < 1 or channels % groups:
                raise ValueError(f"{name}: groups={groups} should divide {what}={channels}")
        if padding_mode not in ("zeros", "reflect", "replicate", "circular"):
            raise ValueError(
                f"{name}: padding_mode={padding_mode!r}; use 'zeros', 'reflect', 'replicate' or 'circular'"
            )
        self.in_channels, self.out_channels, self.groups, self.padding_mode = (
            in_channels,
            out_channels,
            groups,
            padding_mode,
        )
        self.kernel_size, self.stride, self.dilation = (self._each(v) for v in (kernel_size, stride, dilation))
        self.output_padding = self._each(output_padding)
        self.padding = padding if isinstance(padding, str) else self._each(padding)
        shape = (in_channels, out_channels // groups) if self._transposed else (out_channels, in_channels // groups)
        self.weight = empty(*shape, *self.kernel_size)
        self.register_parameter("bias", empty(out_channels) if bias else None)
        self.reset_parameters()

    def _each(self, value: Any) -> tuple:
        values = (value,) * self._axes if isinstance(value, int) else tuple(value)
        if len(values) != self._axes:
            raise ValueError(f"{type(self).__name__}: {value} should be one integer or {self._axes}")
        return values

    def reset_parameters(self) -> None:
        """Draws new initial values."""
        _init_as_torch(self.weight, self.bias)

    def _padded(self, x: Tensor) -> tuple[Tensor, Any]:
        """The input, with borders that are not zeros attached, and the padding that is left to do."""
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

    def __init__(
        self, in_channels: int, out_channels: int, kernel_size: Any, stride: Any = 1, padding: Any = 0, *misplaced: Any,
        dilation: Any = 1, groups: int = 1, bias: bool = True, padding_mode: str = "zeros",
    ) -> None:  # fmt: skip
        refuse(type(self).__name__, misplaced, "dilation, groups, bias, padding_mode")
        super().__init__(
            in_channels, out_channels, kernel_size, stride, padding, 0, dilation, groups, bias, padding_mode
        )

    def forward(self, input: Tensor, compute: Callable = contract) -> Any:
        x, padding = self._padded(input)
        law = self.stride, padding, self.dilation
        return compute(conv, self._axes, x, self.weight, self.bias, self.groups, *law)


class Conv1d(Conv2d):
    """`F.conv1d` with its own weight (out, in / groups, R): (N, in, L) to (N, out, P); options as Conv2d."""

    _axes = 1


class ConvTranspose2d(_Conv):
    """`F.conv_transpose2d` with its own weight (in, out / groups, R, S): (N, in, P, Q) to (N, out, H, W).

    A strided convolution maps several sizes to one; `output_padding`, or `output_size` at the call, says which to
    return to.
    """

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

    def forward(self, input: Tensor, output_size: Any = None, compute: Callable = contract) -> Any:
        law = self.stride, self.padding, self.dilation, self.output_padding, output_size
        return compute(conv_transpose, self._axes, input, self.weight, self.bias, self.groups, *law)


class ConvTranspose1d(ConvTranspose2d):
    """`F.conv_transpose1d` with its own weight (in, out / groups, R): (N, in, P) to (N, out, L)."""

    _axes = 1


class Embedding(Module):
    """A table of vectors: integers (...) to (..., embedding_dim).

    weight (num_embeddings, embedding_dim), initially normal. The row `padding_idx` is 0 and receives no gradient.
    """

    def __init__(
        self, num_embeddings: int, embedding_dim: int, *misplaced: Any, padding_idx: int | None = None
    ) -> None:
        refuse("Embedding", misplaced, "padding_idx")
        super().__init__()
        self.num_embeddings, self.embedding_dim = num_embeddings, embedding_dim
        if padding_idx is not None and not -num_embeddings <= padding_idx < num_embeddings:
            raise ValueError(f"Embedding: padding_idx={padding_idx} is outside the {num_embeddings} rows")
        self.padding_idx = padding_idx if padding_idx is None else padding_idx % num_embeddings
        self.weight = empty(num_embeddings, embedding_dim)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draws new initial values."""
        init.normal_(self.weight)
        if self.padding_idx is not None:
            with no_grad():
                self.weight[self.padding_idx] = 0.0

    def forward(self, input: Tensor) -> Tensor:
        return F.embedding(input, self.weight, self.padding_idx)

    def extra_repr(self) -> str:
        padding = "" if self.padding_idx is None else f", padding_idx={self.padding_idx}"
        return f"{self.num_embeddings}, {self.embedding_dim}{padding}"


class Identity(Module):
    """x itself; any arguments are accepted and ignored."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__()

    def forward(self, input: Any) -> Any:
        return input


class Flatten(Module):
    """x with the axes start_dim..end_dim merged: by default all but the batch."""

    def __init__(self, start_dim: int = 1, end_dim: int = -1) -> None:
        super().__init__()
        self.start_dim, self.end_dim = start_dim, end_dim

    def forward(self, input: Tensor) -> Tensor:
        return input.flatten(self.start_dim, self.end_dim)

    def extra_repr(self) -> str:
        return f"start_dim={self.start_dim}, end_dim={self.end_dim}"


class Unflatten(Module):
    """x with axis `dim` split into `unflattened_size`: Unflatten(1, (32, 7, 7)) undoes a Flatten."""

    def __init__(self, dim: int, unflattened_size: Any) -> None:
        super().__init__()
        self.dim, self.unflattened_size = dim, tuple(unflattened_size)

    def forward(self, input: Tensor) -> Tensor:
        return input.unflatten(self.dim, self.unflattened_size)

    def extra_repr(self) -> str:
        return f"dim={self.dim}, unflattened_size={self.unflattened_size}"


# Pooling.


class _Pool(Module):
    def __init__(self, kernel_size: Any, stride: Any, padding: Any, options: dict[str, Any]) -> None:
        super().__init__()
        self.kernel_size, self.stride, self.padding = kernel_size, kernel_size if stride is None else stride, padding
        self._options = options

    def extra_repr(self) -> str:
        extra = "".join(f", {k}={v}" for k, v in self._options.items())
        return f"kernel_size={self.kernel_size}, stride={self.stride}, padding={self.padding}{extra}"


class MaxPool2d(_Pool):
    """The maximum of each window; ties go to the first. `return_indices` adds their places, for max_unpool2d."""

    _function = staticmethod(F.max_pool2d)

    def __init__(
        self, kernel_size: Any, stride: Any = None, padding: Any = 0, *misplaced: Any, dilation: Any = 1,
        return_indices: bool = False, ceil_mode: bool = False,
    ) -> None:  # fmt: skip
        refuse(type(self).__name__, misplaced, "dilation, return_indices, ceil_mode")
        options = {"dilation": dilation, "ceil_mode": ceil_mode, "return_indices": return_indices}
        super().__init__(kernel_size, stride, padding, options)

    def forward(self, input: Tensor) -> Any:
        return self._function(input, self.kernel_size, self.stride, self.padding, **self._options)


class MaxPool1d(MaxPool2d):
    """MaxPool2d along one axis."""

    _function = staticmethod(F.max_pool1d)


class AvgPool2d(_Pool):
    """The mean of each window; `count_include_pad` says whether the border's zeros count."""

    def __init__(
        self, kernel_size: Any, stride: Any = None, padding: Any = 0, *misplaced: Any, ceil_mode: bool = False,
        count_include_pad: bool = True, divisor_override: int | None = None,
    ) -> None:  # fmt: skip
        refuse("AvgPool2d", misplaced, "ceil_mode, count_include_pad, divisor_override")
        options = {"ceil_mode": ceil_mode, "count_include_pad": count_include_pad, "divisor_override": divisor_override}
        super().__init__(kernel_size, stride, padding, options)

    def forward(self, input: Tensor) -> Tensor:
        return F.avg_pool2d(input, self.kernel_size, self.stride, self.padding, **self._options)


class AvgPool1d(_Pool):
    """AvgPool2d along one axis."""

    def __init__(
        self, kernel_size: Any, stride: Any = None, padding: Any = 0, *misplaced: Any, ceil_mode: bool = False,
        count_include_pad: bool = True,
    ) -> None:  # fmt: skip
        refuse("AvgPool1d", misplaced, "ceil_mode, count_include_pad")
        super().__init__(kernel_size, stride, padding, {"ceil_mode": ceil_mode, "count_include_pad": count_include_pad})

    def forward(self, input: Tensor) -> Tensor:
        return F.avg_pool1d(input, self.kernel_size, self.stride, self.padding, **self._options)


class AdaptiveAvgPool2d(Module):
    """The means of output_size windows that cover the image; output_size 1 is global average pooling."""

    _function = staticmethod(F.adaptive_avg_pool2d)

    def __init__(self, output_size: Any) -> None:
        super().__init__()
        self.output_size = output_size

    def forward(self, input: Tensor) -> Any:
        return self._function(input, self.output_size)

    def extra_repr(self) -> str:
        return f"output_size={self.output_size}"


class AdaptiveAvgPool1d(AdaptiveAvgPool2d):
    """AdaptiveAvgPool2d along one axis."""

    _function = staticmethod(F.adaptive_avg_pool1d)


class AdaptiveMaxPool2d(AdaptiveAvgPool2d):
    """The maxima of output_size windows that cover the image."""

    _function = staticmethod(F.adaptive_max_pool2d)


class AdaptiveMaxPool1d(AdaptiveAvgPool2d):
    """AdaptiveMaxPool2d along one axis."""

    _function = staticmethod(F.adaptive_max_pool1d)


# Resizing and borders.


class Upsample(Module):
    """`F.interpolate` to `size` or by `scale_factor`; modes nearest, linear, bilinear, bicubic, area."""

    def __init__(
        self,
        size: Any = None,
        *misplaced: Any,
        scale_factor: Any = None,
        mode: str = "nearest",
        align_corners: bool | None = None,
    ) -> None:
        refuse(type(self).__name__, misplaced, "scale_factor, mode, align_corners")
        super().__init__()
        if (size is None) == (scale_factor is None):
            raise ValueError(
                f"Upsample: give either size or scale_factor, got size={size} and scale_factor={scale_factor}"
            )
        self.size, self.scale_factor, self.mode, self.align_corners = size, scale_factor, mode, align_corners

    def forward(self, input: Tensor) -> Tensor:
        return F.interpolate(input, self.size, self.scale_factor, self.mode, self.align_corners)

    def extra_repr(self) -> str:
        how = f"size={self.size}" if self.scale_factor is None else f"scale_factor={self.scale_factor}"
        return f"{how}, mode={self.mode!r}" + (
            "" if self.align_corners is None else f", align_corners={self.align_corners}"
        )


class UpsamplingNearest2d(Upsample):
    """Upsample with mode 'nearest'."""

    def __init__(self, size: Any = None, scale_factor: Any = None) -> None:
        super().__init__(size, scale_factor=scale_factor)


class UpsamplingBilinear2d(Upsample):
    """Upsample with mode 'bilinear' and align_corners=True, as torch's old name means."""

    def __init__(self, size: Any = None, scale_factor: Any = None) -> None:
        super().__init__(size, scale_factor=scale_factor, mode="bilinear", align_corners=True)


class PixelShuffle(Module):
    """(N, C r^2, H, W) to (N, C, H r, W r): channels become pixels (Shi et al. 2016)."""

    def __init__(self, upscale_factor: int) -> None:
        super().__init__()
        self.upscale_factor = upscale_factor

    def forward(self, input: Tensor) -> Tensor:
        return F.pixel_shuffle(input, self.upscale_factor)

    def extra_repr(self) -> str:
        return f"upscale_factor={self.upscale_factor}"


class PixelUnshuffle(Module):
    """(N, C, H r, W r) to (N, C r^2, H, W): the inverse of PixelShuffle."""

    def __init__(self, downscale_factor: int) -> None:
        super().__init__()
        self.downscale_factor = downscale_factor

    def forward(self, input: Tensor) -> Tensor:
        return F.pixel_unshuffle(input, self.downscale_factor)

    def extra_repr(self) -> str:
        return f"downscale_factor={self.downscale_factor}"


class _Pad(Module):
    """F.pad by an integer on all sides, or (left, right, top, bottom)."""

    _sides, _mode = 4, "constant"

    def __init__(self, padding: Any) -> None:
        super().__init__()
        self.padding = (padding,) * self._sides if isinstance(padding, int) else tuple(padding)
        if len(self.padding) != self._sides:
            raise ValueError(f"{type(self).__name__}: padding={padding} should be one integer or {self._sides}")

    def forward(self, input: Tensor) -> Tensor:
        return F.pad(input, self.padding, mode=self._mode)

    def extra_repr(self) -> str:
        return str(self.padding)


class ZeroPad2d(_Pad):
    """Zeros around the image: padding, or (left, right, top, bottom)."""


class ZeroPad1d(_Pad):
    """Zeros at the ends: padding, or (left, right)."""

    _sides = 2


class ConstantPad2d(_Pad):
    """`value` around the image: padding, or (left, right, top, bottom)."""

    def __init__(self, padding: Any, value: float) -> None:
        super().__init__(padding)
        self.value = value

    def forward(self, input: Tensor) -> Tensor:
        return F.pad(input, self.padding, value=self.value)


class ReflectionPad2d(_Pad):
    """The image mirrored at its border elements."""

    _mode = "reflect"


class ReflectionPad1d(_Pad):
    """The signal mirrored at its end elements."""

    _sides, _mode = 2, "reflect"


class ReplicationPad2d(_Pad):
    """The border elements repeated."""

    _mode = "replicate"


class CircularPad2d(_Pad):
    """The image continued periodically."""

    _mode = "circular"


# Dropout.


class Dropout(Module):
    """In training 0 with probability p, else x / (1 - p); in eval x (Srivastava et al. 2014)."""

    _function = staticmethod(F.dropout)

    def __init__(self, p: float = 0.5, inplace: bool = False) -> None:
        super().__init__()
        if not 0 <= p <= 1:
            raise ValueError(f"{type(self).__name__}: p={p} should be a probability")
        self.p, self.inplace = p, inplace

    def forward(self, input: Tensor) -> Tensor:
        return self._function(input, self.p, self.training)

    def extra_repr(self) -> str:
        return f"p={self.p}"


class Dropout1d(Dropout):
    """Dropout of whole channels of (N, C, L)."""

    _function = staticmethod(F.dropout1d)


class Dropout2d(Dropout):
    """Dropout of whole channels of (N, C, H, W)."""

    _function = staticmethod(F.dropout2d)
