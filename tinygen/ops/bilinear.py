"""`bilinear`: a form in two vectors for each output, y[o] = x1^T W[o] x2 + b[o].

One product of matrices folds x1 into W, a second one x2 into the result; their derivatives are those of matmul.
"""

from __future__ import annotations

from ..tape import Tensor
from .matmul import matmul
from .view import unsqueeze

__all__ = ["bilinear"]


def bilinear(input1: Tensor, input2: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """y[..., o] = sum over i, j of input1[..., i] weight[o, i, j] input2[..., j] + bias[o].

    input1 (..., I), input2 (..., J), weight (O, I, J), bias (O,); ValueError where the shapes disagree.
    """
    lead, given = tuple(input1.shape[:-1]), (input1.shape, input2.shape, weight.shape)
    fits = weight.ndim == 3 and input1.ndim and input2.ndim and tuple(input2.shape[:-1]) == lead
    if not fits or (input1.shape[-1], input2.shape[-1]) != tuple(weight.shape[1:]):
        raise ValueError(f"bilinear: expected (..., I), (..., J) and weight (O, I, J), got {given}")
    if bias is not None and tuple(bias.shape) != tuple(weight.shape[:1]):
        raise ValueError(f"bilinear: bias should be {tuple(weight.shape[:1])}, got {tuple(bias.shape)}")
    o, i, j = weight.shape
    forms = matmul(input1, weight.permute(1, 0, 2).reshape(i, o * j)).reshape((*lead, o, j))
    y = matmul(forms, unsqueeze(input2, -1)).reshape((*lead, o))
    return y if bias is None else y + bias
