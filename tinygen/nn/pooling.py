"""Pooling: the maximum or the mean of windows of an image, and adaptive windows that cover it.

    nn.MaxPool2d(2)                   # (N, C, H, W) to (N, C, H / 2, W / 2)
    nn.AdaptiveAvgPool2d(1)           # global average pooling: (N, C, 1, 1)

The stride is the kernel's size unless given. Options beyond the leading ones are keyword-only.
"""

from __future__ import annotations

from typing import Any

from ..tape import Tensor
from . import functional as F
from .arguments import refuse
from .module import Module

__all__ = [
    "MaxPool1d", "MaxPool2d", "AvgPool1d", "AvgPool2d",
    "AdaptiveAvgPool1d", "AdaptiveAvgPool2d", "AdaptiveMaxPool1d", "AdaptiveMaxPool2d",
]  # fmt: skip


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
