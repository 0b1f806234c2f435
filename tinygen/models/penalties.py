"""What an autoencoder pays for besides its error: a function of one forward pass each (lectures 0, 1, 3, 4).

    penalty = code_l1(1e-3)
    penalty(encoder, decoder, x, code, reconstruction)      # a 0-d tensor, differentiable

Weight penalties leave biases out: the lecture's Keras note, kernel and bias regularisers are two things. The sparse
penalty is on the code, not on the weights, as one slide has it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import tinygen as tg
from tinygen import nn


def weights_l1(strength: float) -> Callable:
    """strength * sum |w| over all weights."""
    return lambda encoder, decoder, x, code, y: (
        strength * sum(w.abs().sum() for w in _weights(encoder, decoder))
    )


def weights_l2(strength: float) -> Callable:
    """strength * sum w^2 over all weights."""
    return lambda encoder, decoder, x, code, y: (
        strength * sum(w.square().sum() for w in _weights(encoder, decoder))
    )


def code_l1(strength: float) -> Callable:
    """strength * sum_j |h_j|, mean over the batch: most entries of a code become zero (sparse autoencoder)."""
    return lambda encoder, decoder, x, code, y: (
        strength * code.abs().flatten(1).sum(1).mean()
    )


def total_variation(strength: float) -> Callable:
    """strength * sum |y_{i+1,j} - y_ij| + |y_{i,j+1} - y_ij|, mean over the batch: smooth reconstructions."""

    def penalty(
        encoder: nn.Module,
        decoder: nn.Module,
        x: tg.Tensor,
        code: tg.Tensor,
        y: tg.Tensor,
    ) -> tg.Tensor:
        down = (y[:, :, 1:] - y[:, :, :-1]).abs().sum()
        right = (y[:, :, :, 1:] - y[:, :, :, :-1]).abs().sum()
        return strength * (down + right) / len(y)

    return penalty


def contractive(strength: float) -> Callable:
    """strength * sum_ij (d h_j / d x_i)^2, mean over the batch: codes that stand still where x moves (Rifai 2011).

    One backward pass for each entry of the code, differentiated again.
    """

    def penalty(
        encoder: nn.Module,
        decoder: nn.Module,
        x: tg.Tensor,
        code: tg.Tensor,
        y: tg.Tensor,
    ) -> tg.Tensor:
        x = x.detach().requires_grad_()
        h = encoder(x)
        rows: list[Any] = [
            tg.grad(h[:, j].sum(), x, create_graph=True)[0]
            for j in range(h.shape[1])
        ]
        return strength * sum(row.square().sum() for row in rows) / len(x)

    return penalty


def _weights(*networks: nn.Module) -> Iterator[tg.Tensor]:
    for network in networks:
        yield from (p for p in network.parameters() if p.ndim > 1)
