"""What keeps a critic's slope bounded, so that it measures the Wasserstein distance (lectures 0, 2, 4).

    clipped(c)              after each update every weight is cut to [-c, c]                     Arjovsky 2017
    gradient_penalty(l)     l E (|grad D(x^)| - 1)^2, x^ uniform between a real and a fake       Gulrajani 2017

Lecture 2 says "gradient clipping": the weights are clipped.
"""

from __future__ import annotations

from collections.abc import Callable

import tinygen as tg
from tinygen import nn


def clipped(limit: float = 0.01) -> Callable:
    """A function of the critic: cuts each of its parameters to [-limit, limit].

    Raises ValueError where limit is not above 0.
    """
    if not limit > 0:
        raise ValueError(
            f"weights are cut to [-clip, clip]: clip must be above 0, it is {limit}; 0.01 is usual"
        )

    def constrain(critic: nn.Module) -> None:
        for p in critic.parameters():
            p.data.clamp_(-limit, limit)

    return constrain


def gradient_penalty(weight: float = 10.0) -> Callable:
    """A function of (critic, real, fake): weight * mean (slope - 1)^2, to be differentiated again.

    Raises ValueError where weight is below 0: such a term rewards steep slopes.
    """
    if not weight >= 0:
        raise ValueError(
            f"the penalty's weight must be at least 0, it is {weight}; 10 is usual"
        )
    return lambda critic, real, fake: (
        weight * (slopes(critic, real, fake) - 1).square().mean()
    )


def slopes(critic: nn.Module, real: tg.Tensor, fake: tg.Tensor) -> tg.Tensor:
    """|grad critic| at one point between each real and its fake, (N,); the weight of the mixture is uniform."""
    share = tg.rand(
        len(real), *[1] * (real.ndim - 1), dtype=real.dtype, device=real.device
    )
    between = (share * real + (1 - share) * fake).detach().requires_grad_()
    gradient = tg.grad(critic(between).sum(), between, create_graph=True)[0]
    return gradient.flatten(1).norm(2, 1)  # type: ignore[union-attr]
