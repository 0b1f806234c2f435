"""All parameters as one vector, and back: what optimizers from other libraries and studies of losses ask for."""

from __future__ import annotations

from collections.abc import Iterable

from ..ops.joining import cat, split
from ..recording import no_grad
from ..tape import Tensor

__all__ = ["parameters_to_vector", "vector_to_parameters"]


def parameters_to_vector(parameters: Iterable[Tensor]) -> Tensor:
    """The parameters one after the other, row-major, as a new vector; differentiable. ValueError for none."""
    return cat([p.reshape(-1) for p in parameters])


def vector_to_parameters(vec: Tensor, parameters: Iterable[Tensor]) -> None:
    """Writes the numbers of vec into the parameters, in order; ValueError unless there are as many."""
    every = list(parameters)
    counts = [p.numel() for p in every]
    if tuple(vec.shape) != (sum(counts),):
        raise ValueError(f"vector_to_parameters: vec should hold {sum(counts)} numbers, got {tuple(vec.shape)}")
    with no_grad():
        for p, piece in zip(every, split(vec.detach(), counts)):
            p.data.copy_(piece.reshape(p.shape))
