"""Rows of a table by number: `embedding`, and `one_hot`, the matrix that would do the same by a product.

embedding(i, W) = W[i] = one_hot(i) @ W        dW[j] = sum over i = j of g
"""

from __future__ import annotations

import math

import numpy as np

from ..tape import Tensor, op
from .choosing import _where
from .indexing import _index_array, _untake
from .view import dim_of

__all__ = ["embedding", "one_hot"]


@op
def _embedding(k, weight, *, index, padding_idx):
    """weight[index]."""
    return k.xp.take(weight, index, 0)


@_embedding.vjp("weight")
def _(g, weight_shape, index, padding_idx):
    if padding_idx is not None:
        g = _where(0.0, g, condition=(index == padding_idx)[..., None])
    return _untake(g, dim=0, index=index, length=weight_shape[0])


def embedding(input: Tensor, weight: Tensor, padding_idx: int | None = None) -> Tensor:
    """weight[input]: the rows of weight (words, width) that the integers of input (...) name, (..., width).

    The row `padding_idx` receives no gradient. IndexError for an integer outside the rows.
    """
    if weight.ndim != 2:
        raise ValueError(f"embedding: weight should be (words, width), got {tuple(weight.shape)}")
    index = _index_array("embedding", weight, input, weight.shape[0])
    if padding_idx is not None:
        padding_idx = dim_of("embedding", padding_idx, weight.shape[0])
    return _embedding(weight, index=index, padding_idx=padding_idx)


def one_hot(input: Tensor, num_classes: int = -1) -> Tensor:
    """y[..., c] = 1 where input[...] = c, else 0: int64, (*input.shape, num_classes).

    By default there are max(input) + 1 classes. IndexError for a class outside them.
    """
    if num_classes == -1:
        if math.prod(input.shape) == 0:
            raise ValueError(f"one_hot: input {tuple(input.shape)} is empty; say num_classes")
        num_classes = int(input.array.max()) + 1
    index = _index_array("one_hot", input, input, num_classes)
    classes = input.device.kernels.xp.arange(num_classes)
    return Tensor((index[..., None] == classes).astype(np.int64), None, input.device)
