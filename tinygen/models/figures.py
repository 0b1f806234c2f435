"""What a penalty reaches, over a whole test set: figures that an AutoencoderStep is handed (lectures 1, 3, 4).

    AutoencoderStep(encoder, decoder, penalty=code_l1(1e-3), figures=(sparsity,))
    sparsity(step, batches)                 # {"near_zero": 0.82, "dead": 3.0}

Each receives the Step and all test batches; none is a mean over batches, whatever their sizes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import tinygen as tg
from tinygen.nn import functional as F
from tinygen.step import Step

from .penalties import jacobian, total_variation, weights_l1, weights_l2

NEAR_ZERO = 0.01  # of a unit's largest code on the test set


def weight_norms(step: Step, batches: Iterable[tuple]) -> dict[str, float]:
    """weight_norm: root of sum w^2; weight_sum: sum |w|; over the weights of both networks, without biases."""
    networks = step.networks()
    pair = networks["encoder"], networks["decoder"]
    square = weights_l2(1.0)(*pair, None, None, None)
    return {
        "weight_norm": square.sqrt().item(),
        "weight_sum": weights_l1(1.0)(*pair, None, None, None).item(),
    }


def sparsity(step: Step, batches: Iterable[tuple]) -> dict[str, float]:
    """near_zero: share of codes below 1 % of their unit's largest, among units alive; dead: units that are always 0."""
    codes = codes_of(step, batches).abs()
    largest = codes.amax(0)
    alive = largest > 0
    small = (codes < NEAR_ZERO * largest).float().mean(0)
    count = alive.sum().item()
    return {
        "near_zero": (small * alive.float()).sum().item() / max(1, count),
        "dead": float(len(largest) - count),
    }


def contraction(norm: Callable = jacobian) -> Callable:
    """jacobian: mean |dh/dx|^2; contraction: that over mean |h - mean h|^2, which no scale of the code changes.

    norm: `jacobian` or `of_a_sigmoid` of penalties.py.
    """

    def figures(step: Step, batches: Iterable[tuple]) -> dict[str, float]:
        norms = []
        for x, *_ in batches:
            code = step.encode(x)  # type: ignore[attr-defined]
            encoder = step.networks()["encoder"]
            with tg.enable_grad():
                norms.append(norm(encoder, x, code).detach())
        mean = tg.cat(norms).mean().item()
        spread = codes_of(step, batches).var(0, correction=0).sum().item()
        return {"jacobian": mean, "contraction": mean / max(spread, 1e-12)}

    return figures


def variation(step: Step, batches: Iterable[tuple]) -> dict[str, float]:
    """variation: of reconstructions, a sum over neighbours, mean over the images; variation_real: of the images."""
    measure = total_variation(1.0)
    rebuilt, real, count = 0.0, 0.0, 0
    for x, *_ in batches:
        y = step.apply(x)
        rebuilt += len(x) * measure(None, None, None, None, y).item()
        real += len(x) * measure(None, None, None, None, x).item()
        count += len(x)
    return {"variation": rebuilt / count, "variation_real": real / count}


def unseen(step: Step, batches: Iterable[tuple]) -> dict[str, float]:
    """mse_clean: error on images as they are; mse_noise: on images of pixels uniform in [0, 1], unlike any of training.

    A network that is the identity rebuilds both; `gap` is what the second is worse.
    """
    clean, noise, count = 0.0, 0.0, 0
    for x, *_ in batches:
        z = tg.rand_like(x)
        clean += len(x) * F.mse_loss(step.apply(x), x).item()
        noise += len(x) * F.mse_loss(step.apply(z), z).item()
        count += len(x)
    clean, noise = clean / count, noise / count
    return {"mse_clean": clean, "mse_noise": noise, "gap": noise - clean}


def codes_of(step: Step, batches: Iterable[tuple]) -> tg.Tensor:
    """The codes of all images, (N, numbers of a code)."""
    return tg.cat([step.encode(x).flatten(1) for x, *_ in batches])  # type: ignore[attr-defined]
