"""Embedding: a table of vectors, one for each integer.

nn.Embedding(10, 16)(labels)        # (N,) to (N, 16)
"""

from __future__ import annotations

import operator
from typing import Any

from ..recording import no_grad
from ..tape import Tensor
from . import functional as F
from . import init
from .arguments import refuse
from .module import Module, empty

__all__ = ["Embedding"]


class Embedding(Module):
    """A table of vectors: integers (...) to (..., embedding_dim).

    weight (num_embeddings, embedding_dim), initially normal. The row `padding_idx` is 0 and receives no gradient.
    """

    def __init__(
        self, num_embeddings: int, embedding_dim: int, *misplaced: Any, padding_idx: int | None = None
    ) -> None:
        refuse("Embedding", misplaced, "padding_idx")
        super().__init__()
        num_embeddings, embedding_dim = operator.index(num_embeddings), operator.index(embedding_dim)
        if padding_idx is not None:
            padding_idx = operator.index(padding_idx)
        if padding_idx is not None and not -num_embeddings <= padding_idx < num_embeddings:
            raise ValueError(f"Embedding: padding_idx={padding_idx} is outside the {num_embeddings} rows")
        self.num_embeddings, self.embedding_dim = num_embeddings, embedding_dim
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
