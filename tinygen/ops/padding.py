"""Borders: `pad` with a constant, the mirrored image, the nearest element, or the periodic image.

A constant border is `_place`, the adjoint of a slice. The other borders are slices of x itself, joined to it by `cat`;
their gradients follow from those of the parts.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from ..tape import Tensor
from .creation import fitting
from .indexing import _whole
from .joining import _cat, _place, _slice, narrow
from .rearranging import flip
from .view import expand, sizes_of

__all__ = ["pad"]


def pad(input: Tensor, pad: Sequence[int], mode: str = "constant", value: float | None = None) -> Tensor:
    """input with elements added at its borders; pad = (before, after) of the last axis, then of the last but one ...

    Modes: 'constant' (`value`, 0 by default; negative amounts crop), 'reflect' (c b | a b c | b a), 'replicate'
    (a a | a b c | c c), 'circular' (b c | a b c | a b). ValueError where the border cannot be filled.
    """
    amounts = sizes_of("pad", (pad,))
    if len(amounts) % 2 or len(amounts) > 2 * input.ndim:
        raise ValueError(
            f"pad: pad={pad} should hold (before, after) for at most the {input.ndim} axes of {tuple(input.shape)}"
        )
    if mode == "constant":
        return _pad_constant(input, amounts, 0 if value is None else value)
    if mode not in ("reflect", "replicate", "circular"):
        raise ValueError(f"pad: mode={mode!r} is not known; use 'constant', 'reflect', 'replicate' or 'circular'")
    if value:
        raise ValueError(f"pad: value={value} has no meaning with mode={mode!r}")
    for i in range(0, len(amounts), 2):
        dim = input.ndim - 1 - i // 2
        before, after = amounts[i : i + 2]
        crops = (min(before, 0), min(after, 0))
        if any(crops):
            input = _pad_constant(input, (0, 0) * (i // 2) + crops, 0)
        input = _pad_border(input, dim, max(before, 0), max(after, 0), mode)
    return input


def _pad_constant(x: Tensor, amounts: tuple, value: float) -> Tensor:
    shape = list(x.shape)
    source, target = [slice(None)] * len(shape), [slice(None)] * len(shape)
    for i in range(0, len(amounts), 2):
        dim = len(shape) - 1 - i // 2
        before, after = amounts[i : i + 2]
        n = shape[dim]
        if n + before + after < 0:
            raise ValueError(
                f"pad: ({before}, {after}) crops more than the {n} elements of axis {dim} in {tuple(x.shape)}"
            )
        source[dim] = slice(max(-before, 0), n + min(after, 0))
        target[dim] = slice(max(before, 0), n + before + after - max(after, 0))
        shape[dim] = n + before + after
    if not all(map(_whole, source)) and any(a < 0 for a in amounts):
        x = _slice(x, index=tuple(source))
    if tuple(x.shape) == tuple(shape):
        return x
    if x.dtype.kind in "iu":
        value = fitting("pad", value, x.dtype)
    return _place(x, shape=tuple(shape), index=tuple(target), value=value)


def _pad_border(x: Tensor, dim: int, before: int, after: int, mode: str) -> Tensor:
    """One axis of `pad`, from slices of x itself."""
    n = x.shape[dim]
    most = {"reflect": n - 1, "circular": n, "replicate": math.inf if n else 0}[mode]
    if max(before, after) > most:
        raise ValueError(
            f"pad: mode='{mode}' adds at most {most} elements on a side of an axis of {n}, not ({before}, {after}): "
            f"axis {dim} of {tuple(x.shape)}"
        )
    if mode == "reflect":
        left, right = flip(narrow(x, dim, 1, before), dim), flip(narrow(x, dim, n - 1 - after, after), dim)
    elif mode == "circular":
        left, right = narrow(x, dim, n - before, before), narrow(x, dim, 0, after)
    else:
        sizes = list(x.shape)
        sizes[dim] = -1
        left, right = narrow(x, dim, 0, min(1, n)), narrow(x, dim, n - min(1, n), min(1, n))
        left, right = expand(left, _with(sizes, dim, before)), expand(right, _with(sizes, dim, after))
    return _cat(*[t for t, m in ((left, before), (x, 1), (right, after)) if m], dim=dim)


def _with(sizes: list[int], dim: int, n: int) -> tuple[int, ...]:
    return (*sizes[:dim], n, *sizes[dim + 1 :])
