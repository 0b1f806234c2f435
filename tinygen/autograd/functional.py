"""`jacobian`: all derivatives of all outputs of a function, by one backward pass for each number that it returns.

    jacobian(lambda x: x ** 3, tg.tensor([1.0, 2.0]))        # [[3, 0], [0, 12]]
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..ops.creation import zeros
from ..ops.joining import stack
from ..recording import enable_grad
from ..tape import Tensor, grad, identity, leaf

__all__ = ["jacobian"]


def jacobian(func: Callable, inputs: Any, create_graph: bool = False, strict: bool = False) -> Any:
    """d func(*inputs)_i / d inputs_j as a tensor (*output shape, *input shape).

    `inputs` is a tensor or a tuple of them; func returns one or a tuple. The result is a tensor, or a tuple over the
    outputs, over the inputs, or of tuples of both. With `create_graph` it is differentiable itself. It is zero where an
    output does not depend on an input, with `strict` a RuntimeError.
    """
    given = inputs if isinstance(inputs, tuple) else (inputs,)
    with enable_grad():
        xs = tuple([_fresh(x, create_graph) for x in given])
        result = func(*xs)
        outputs = tuple(result) if isinstance(result, tuple | list) else (result,)
        rows = [_rows(y, xs, create_graph, strict) for y in outputs]
    nested = tuple([row if isinstance(inputs, tuple) else row[0] for row in rows])
    return nested if isinstance(result, tuple | list) else nested[0]


def _fresh(x: Tensor, create_graph: bool) -> Tensor:
    """x under a node of its own: connected to what it came from, or a place where gradients end."""
    return identity(x) if create_graph and x.node else leaf(Tensor(x.array, None, x.device))


def _rows(y: Tensor, xs: tuple, create_graph: bool, strict: bool) -> tuple:
    """The Jacobians of one output by all inputs."""
    gradients: list = []
    for i in range(y.numel()):
        seed = y.device.kernels.xp.zeros(y.shape, y.dtype)
        seed.reshape(-1)[i] = 1
        if y.node is None:
            gradients.append((None,) * len(xs))
        else:
            gradients.append(grad(y, xs, Tensor(seed, None, y.device), create_graph, True, True))
    return tuple([_stacked(y, x, [g[j] for g in gradients], strict) for j, x in enumerate(xs)])


def _stacked(y: Tensor, x: Tensor, gradients: list, strict: bool) -> Tensor:
    if strict and any(g is None for g in gradients):
        raise RuntimeError(f"jacobian: an output {tuple(y.shape)} does not depend on an input {tuple(x.shape)}")
    zero = zeros(tuple(x.shape), dtype=x.dtype, device=x.device)
    shape = (*y.shape, *x.shape)
    return stack([zero if g is None else g for g in gradients]).reshape(shape) if gradients else zero.expand(shape)
