"""Autoencoders (lectures 0, 1, 3, 4): the recipes and studies of this chapter.

    tinygen train conv-autoencoder --data mnist
    tinygen study codes
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import numpy as np

import tinygen as tg
from tinygen import nn
from tinygen.data.selection import subset
from tinygen.models import AutoencoderStep
from tinygen.networks.convolutional import ConvDecoder, ConvEncoder
from tinygen.networks.mlp import MLPDecoder, MLPEncoder
from tinygen.studies import latents
from tinygen.training import aside, scatter, track

from . import baselines
from .recipe import Given, recipe
from .settings import RunError
from .study import Findings, Sheet, Trained, study

TRIVIAL = (baselines.mean_image, baselines.pca("latent"))


@recipe(
    "fully connected autoencoder, 32 numbers an image", lectures=(0, 1, 3, 4), baselines=TRIVIAL,
    small={"epochs": 60, "batch_size": 32, "hidden": (256, 128), "latent": 16}, tiny={"hidden": (16,), "latent": 3},
)  # fmt: skip
def autoencoder(
    given: Given, hidden: Sequence[int] = (512, 256), latent: int = 32, lr: float = 1e-3
) -> AutoencoderStep:
    """hidden: widths of the encoder's layers; the decoder's in reverse
    latent: numbers in a code
    lr: learning rate of Adam
    """
    encoder = MLPEncoder(given.pixels, hidden, latent)
    decoder = nn.Sequential(MLPDecoder(given.pixels, hidden[::-1], latent), nn.Sigmoid())
    return AutoencoderStep(encoder, decoder, lr=lr)


@recipe(
    "convolutional autoencoder, 32 numbers an image", lectures=(0, 1, 4), baselines=TRIVIAL,
    small={"epochs": 60, "batch_size": 32, "latent": 16}, gpu={"channels": (32, 64)},
    tiny={"channels": (4, 6), "latent": 3},
)  # fmt: skip
def conv_autoencoder(
    given: Given, channels: Sequence[int] = (16, 32), latent: int = 32, lr: float = 1e-3
) -> AutoencoderStep:
    """channels: of the encoder's convolutions; the decoder's in reverse
    latent: numbers in a code
    lr: learning rate of Adam
    """
    encoder = ConvEncoder(given.shape, channels, (), latent)
    decoder = nn.Sequential(ConvDecoder(given.shape, channels, (), latent), nn.Sigmoid())
    return AutoencoderStep(encoder, decoder, lr=lr)


@study("interpolation and scatter of codes", on=("autoencoder",), lectures=(1, 4))
def codes(trained: Trained, pairs: int = 4, points: int = 2000, steps: int = 8) -> Findings:
    """Images along lines between codes, codes of test images in the plane, and 1-NN where training has their classes.

    pairs: lines between codes of test images
    points: test images whose codes are drawn
    steps: images on a line
    """
    step, dataset = trained.step, trained.dataset
    order = subset(dataset.count("test"), points)
    images = dataset.floats("test")[order]
    labels = None if dataset.test_labels is None else dataset.test_labels[order]
    if 2 * pairs > len(order):
        raise RunError(
            f"{pairs} lines need the codes of {2 * pairs} test images, and there are {len(order)}: give at most "
            f"pairs={len(order) // 2}, or more points"
        )
    encode = lambda x: step.encode(x.to(step.device)).cpu()
    with aside(step, 0):
        found = latents.encoded(encode, images)
        ends = tg.tensor(found[: 2 * pairs])
        lines = [latents.line(ends[2 * i], ends[2 * i + 1], steps) for i in range(pairs)]
        pictures = {"interpolations": Sheet(step.decode(tg.cat(lines).to(step.device)), steps)}
        numbers = {}
        seen = dataset.train_labels
        if labels is not None and seen is not None and np.isin(labels, seen).all():  # no neighbour has a class unseen
            watch = partial(track, what="codes of training images")
            known = latents.encoded(encode, dataset.floats("train"), watch=watch)
            right = latents.one_nearest_neighbour(known, seen, found, labels)
            numbers = {"nearest_neighbour": right, "codes": float(len(known)), "queries": float(len(found))}
    drawn = scatter(latents.in_the_plane(found), labels, dataset.classes,
                    f"codes of {len(found):,} test images")  # fmt: skip
    return Findings(numbers, pictures | {"codes": drawn})
