"""BiGAN, and anomalies that it finds (lecture 0).

    tinygen train bigan --data mnist                       # G, its inverse E, and D that sees images with codes
    tinygen study anomaly --data mnist-only-8              # every score of the lecture, and what needs no game
    tinygen train fully-convolutional-bigan --data fibres  # a score for each pixel
    tinygen apply runs/fully-convolutional-bigan-001 picture.png
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from tinygen import metrics
from tinygen.data import Dataset
from tinygen.models import AnomalyMapStep, BiGANStep, games
from tinygen.networks.dcgan import DCGenerator
from tinygen.networks.fully_convolutional import MapCodeEncoder, MapCodeGenerator, MapDiscriminator
from tinygen.networks.joint import DCEncoder, JointDiscriminator
from tinygen.step import Step

from . import restored
from .recipe import Given, all_batches, recipe
from .settings import Settings

# ---------------------------------------------------------------------------------- N1: the encoder plays beside G


def nearest_codes(step: Step, batches: Iterable[tuple]) -> dict[str, float]:
    """code_1nn: 1-NN among the codes E(s) of the test images themselves: the share whose nearest has their label."""
    pairs = [(restored.as_array(step.encode(s)), labels) for s, labels in batches]  # type: ignore[attr-defined]
    if any(labels is None for _, labels in pairs):
        return {}
    codes = np.concatenate([codes for codes, _ in pairs])
    labels = np.concatenate([restored.as_array(labels) for _, labels in pairs])
    return {"code_1nn": metrics.precision_at_1(codes, labels)} if len(codes) > 1 else {}


@recipe(
    "bidirectional GAN: an encoder that inverts the generator (Donahue et al. 2017)", lectures=(0,), epochs=10,
    batch_size=64, drop_last=True, small={"epochs": 150, "batch_size": 32, "channels": (32, 64), "latent": 16},
    gpu={"channels": (64, 128)}, tiny={"channels": (4, 6), "latent": 4, "hidden": 8},
)  # fmt: skip
def bigan(
    given: Given, channels: Sequence[int] = (16, 32), latent: int = 50, hidden: int = 256, weight: float = 0.0,
    lr: float = 2e-4,
) -> BiGANStep:  # fmt: skip
    """channels: of the convolutions of D and E; the generator's in reverse
    latent: numbers of a code
    hidden: width of D's layers of codes, and of both
    weight: of the squared error of reconstructions
    lr: learning rate of all
    """
    return BiGANStep(
        DCGenerator(given.pixels, channels, latent), DCEncoder(given.pixels, channels, latent),
        JointDiscriminator(given.pixels, channels, latent, hidden), games.non_saturating(), (nearest_codes,),
        code=(latent,), weight=weight, lr=lr,
    )  # fmt: skip


# ---------------------------------------------------------------------------------- N5: a score for each pixel


def without_held(dataset: Dataset, settings: Settings) -> Any:
    """Nine of ten training images: the others are held back, for a threshold on what is normal."""
    return all_batches(dataset.divided()[0], settings)


def pixels_found(step: Step, batches: Iterable[tuple]) -> dict[str, float]:
    """pixel_auroc of the score over all pixels of all test images, and of each of its terms alone.

    Only of data with masks of what is an anomaly.
    """
    kinds: dict[str, list[np.ndarray]] = {"pixel_auroc": [], "pixel_auroc_judged": [], "pixel_auroc_error": []}
    masks = []
    for images, mask in batches:
        if mask is None or mask.ndim != 4:
            return {}
        judged, error = step.terms(images)  # type: ignore[attr-defined]
        for found, scores in zip(kinds.values(), (step.scores(images), judged, error)):  # type: ignore[attr-defined]
            found.append(restored.as_array(scores).ravel())
        masks.append(restored.as_array(mask).ravel() > 0.5)
    marked = np.concatenate(masks)
    if marked.all() or not marked.any():
        return {}
    return {name: metrics.auroc(np.concatenate(found), marked) for name, found in kinds.items()}


@recipe(
    "anomalies of textures, pixel by pixel: a BiGAN without a dense layer", lectures=(0,), data="fibres",
    batches=without_held, epochs=40, batch_size=16, drop_last=True, small={"channels": (16,)},
    gpu={"channels": (64, 128, 256)}, tiny={"channels": (4, 6), "latent": 4, "hidden": 8},
)  # fmt: skip
def fully_convolutional_bigan(
    given: Given, channels: Sequence[int] = (16, 32, 64), latent: int = 16, hidden: int = 64, weight: float = 10.0,
    alpha: float = 0.1, window: int = 7, lr: float = 2e-4,
) -> AnomalyMapStep:  # fmt: skip
    """channels: of the convolutions of D and E; the generator's in reverse
    latent: numbers of a code, one for each square of 2^(number of channels) pixels a side
    hidden: planes of D's layers of codes, and of both
    weight: of the squared error of reconstructions
    alpha: of D's part in a pixel's score, at most 1; the rest is of the error's
    window: pixels a side over which the error is taken, an odd number
    lr: learning rate of all
    """
    if not 0 <= alpha <= 1:
        raise ValueError(f"alpha is the share of D in the score, from 0 to 1; it is {alpha:g}")
    if window < 1 or window % 2 == 0:
        raise ValueError(f"window is an odd number of pixels, such as 7; it is {window}")
    m = 2 ** len(channels)
    if any(side % m for side in given.pixels[1:]):
        sides = "x".join(map(str, given.pixels[1:]))
        raise ValueError(f"images of {sides} pixels cannot be halved {len(channels)} times; give another --size")
    code = (latent, *(side // m for side in given.pixels[1:]))
    return AnomalyMapStep(
        MapCodeGenerator(given.pixels, channels, latent), MapCodeEncoder(given.pixels, channels, latent),
        MapDiscriminator(given.pixels, channels, latent, hidden), games.least_squares(), (pixels_found,),
        code=code, weight=weight, alpha=alpha, window=window, lr=lr,
    )  # fmt: skip
