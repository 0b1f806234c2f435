"""What an autoencoder pays for besides its error: a function of one forward pass each (lectures 0, 1, 3, 4).

    penalty = code_l1(1e-3)
    penalty(encoder, decoder, x, code, reconstruction)      # a 0-d tensor, differentiable

Weight penalties leave biases out: the lecture's Keras note, kernel and bias regularisers are two things. The sparse
penalty is on the code, not on the weights, as one slide has it. A strength below 0 raises ValueError.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import tinygen as tg
from tinygen import nn


def weights_l1(strength: float) -> Callable:
    """strength * sum |w| over all weights."""
    _check(strength, usual=1e-6)
    return lambda encoder, decoder, x, code, y: (
        strength * sum(w.abs().sum() for w in _weights(encoder, decoder))
    )


def weights_l2(strength: float) -> Callable:
    """strength * sum w^2 over all weights."""
    _check(strength, usual=1e-6)
    return lambda encoder, decoder, x, code, y: (
        strength * sum(w.square().sum() for w in _weights(encoder, decoder))
    )


def code_l1(strength: float) -> Callable:
    """strength * sum_j |h_j|, mean over the batch: most entries of a code become zero (sparse autoencoder)."""
    _check(strength, usual=1e-3)
    return lambda encoder, decoder, x, code, y: (
        strength * code.abs().flatten(1).sum(1).mean()
    )


def total_variation(strength: float) -> Callable:
    """strength * sum |y_{i+1,j} - y_ij| + |y_{i,j+1} - y_ij|, mean over the batch: smooth reconstructions."""
    _check(strength, usual=1e-3)

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


def contractive(strength: float, norm: Callable | None = None) -> Callable:
    """strength * sum_ij (d h_j / d x_i)^2, mean over the batch: codes that stand still where x moves (Rifai 2011).

    `norm(encoder, x, code)` gives the sum for each image: `jacobian` for any encoder, the default, or `of_a_sigmoid`.
    """
    _check(strength, usual=1e-3)
    norm = norm or jacobian
    return lambda encoder, decoder, x, code, y: (
        strength * norm(encoder, x, code).mean()
    )


def jacobian(
    encoder: nn.Module, x: tg.Tensor, code: tg.Tensor | None = None
) -> tg.Tensor:
    """sum_ij (d h_j / d x_i)^2, (N,): one backward pass for each entry of the code, recorded again."""
    x = x.detach().requires_grad_()
    h = encoder(x).flatten(1)
    rows: list[Any] = [
        tg.grad(h[:, j].sum(), x, create_graph=True)[0]
        for j in range(h.shape[1])
    ]
    return sum(row.square().flatten(1).sum(1) for row in rows)  # type: ignore[return-value]


def of_a_sigmoid(
    encoder: nn.Module, x: tg.Tensor, code: tg.Tensor
) -> tg.Tensor:
    """The same sum in closed form for h = sigmoid(W x + b): sum_j (h_j (1 - h_j))^2 sum_i W_ji^2, (N,).

    Raises ValueError for an encoder that is more than one linear layer with a sigmoid.
    """
    layers = [m for m in encoder.modules() if not list(m.children())]
    kinds = [type(m).__name__ for m in layers if type(m) is not nn.Flatten]
    if kinds != ["Linear", "Sigmoid"]:
        raise ValueError(
            f"the closed form is that of Linear, Sigmoid; the encoder is {', '.join(kinds)}: use penalties.jacobian"
        )
    weight = next(encoder.parameters())
    slopes = (code * (1 - code)).square()
    return slopes @ weight.square().sum(1)


def unit_columns(decoder: nn.Module) -> None:
    """A constraint: scales the weights that leave each unit of the code to the norm 1, in place.

    Without it the L1 penalty is evaded: codes shrink and the decoder's first layer grows.
    """
    weight = next(m.weight for m in decoder.modules() if type(m) is nn.Linear)
    weight.data.div_(weight.detach().norm(2, 0, keepdim=True))


def _check(strength: float, usual: float) -> None:
    """Raises ValueError below 0: such a term rewards what it is to punish."""
    if not strength >= 0:
        raise ValueError(
            f"a penalty's strength must be at least 0, it is {strength}; {usual:g} is usual, 0 leaves it out"
        )


def _weights(*networks: nn.Module) -> Iterator[tg.Tensor]:
    for network in networks:
        yield from (p for p in network.parameters() if p.ndim > 1)
