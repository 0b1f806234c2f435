"""Which layers of a Sequential run as one kernel: `for layer in fused(modules): x = layer(x)`.

    Conv, Linear or BatchNorm, then ReLU or LeakyReLU     one kernel, one pass over memory
    Conv, then BatchNorm in training                      the convolution adds up its channels while it writes them
    ReLU, then MaxPool2d                                  exchanged, so that fewer values are rectified

The results are the same bits, except that a GPU adds up a batch norm's sums in another order. Layers stay apart where
somebody can see the value in between: a hook, a subclass, a `forward` of its own. The plan is made anew at each call,
since any of this may have changed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import Any

from ..ops.fused import conv_layer, conv_moments
from .activation import LeakyReLU, ReLU
from .conv import Conv1d, Conv2d, ConvTranspose1d, ConvTranspose2d
from .linear import Linear
from .module import Module
from .normalization import BatchNorm1d, BatchNorm2d
from .pooling import MaxPool2d

_CONVOLUTIONS = (Conv1d, Conv2d, ConvTranspose1d, ConvTranspose2d)  # forward(x, compute=function)
_BATCH_NORMS = (BatchNorm1d, BatchNorm2d)  # forward(x, slope, moments)
_SLOPED = (*_BATCH_NORMS, Linear)  # forward(x, slope=s) ends in leaky_relu


def fused(modules: Iterable[Module]) -> Iterator[Callable]:
    """The layers to call in turn: modules, and functions that stand for several of them."""
    rest = _pooled_first([*modules])[::-1]
    while rest:
        module = rest.pop()
        slope = _take_slope(rest) if _is_plain(module, (*_CONVOLUTIONS, *_SLOPED), hooks_before=True) else 1.0
        if not _is_plain(module, _CONVOLUTIONS, hooks_before=True):
            yield module if slope == 1 else partial(module, slope=slope)
        elif rest and _is_plain(rest[-1], _BATCH_NORMS) and rest[-1].uses_batch:
            norm = rest.pop()
            yield partial(_normalized, module, slope, norm, _take_slope(rest))
        else:
            yield module if slope == 1 else partial(module, compute=partial(conv_layer, slope=slope))


def _normalized(convolution: Module, slope: float, norm: Module, slope_behind: float, x: Any) -> Any:
    """A convolution, perhaps an activation, a batch norm, perhaps another one."""
    y, moments = convolution(x, compute=partial(conv_moments, slope=slope))
    return norm(y, slope=slope_behind, moments=moments)


def _pooled_first(modules: list[Any]) -> list[Any]:
    """The modules with each ReLU behind the MaxPool2d that follows it: max(relu(x)) = relu(max(x)).

    A ReLU in place stays where its input may be somebody else's, so that they see the change.
    """
    for i in range(len(modules) - 1):
        if _slope(modules[i]) == 0 and _pools_values(modules[i + 1]) and _may_move(modules, i):
            modules[i : i + 2] = modules[i + 1], modules[i]
    return modules


def _may_move(modules: list[Any], i: int) -> bool:
    return not modules[i].inplace or (i > 0 and _is_plain(modules[i - 1], (*_CONVOLUTIONS, *_SLOPED)))


def _take_slope(rest: list[Any]) -> float:
    """The slope of the activation that comes next, which is taken off `rest`; 1 where none does."""
    slope = _slope(rest[-1]) if rest else None
    if slope is None:
        return 1.0
    rest.pop()
    return slope


def _slope(module: Any) -> float | None:
    """The slope, from 0 to 1, of a plain ReLU or LeakyReLU; None for anything else."""
    if not _is_plain(module, (ReLU, LeakyReLU)):
        return None
    slope = 0.0 if type(module) is ReLU else module.negative_slope
    return slope if 0 <= slope < 1 else None


def _pools_values(module: Module) -> bool:
    return _is_plain(module, (MaxPool2d,)) and not module._options["return_indices"]


def _is_plain(module: Any, kinds: tuple[type, ...], hooks_before: bool = False) -> bool:
    """Whether a module is exactly of one of these classes, and no hook and no forward of its own sees its values."""
    if type(module) not in kinds or module._forward_hooks or "forward" in module.__dict__:
        return False
    return hooks_before or not module._forward_pre_hooks
