"""Variational autoencoders (lectures 2, 3, 4).

    tinygen train vae
    tinygen train conv-vae --data mnist --set likelihood=gaussian
    tinygen train iwae --data mnist                 # images in black and white, five draws a training image
    tinygen sample vae-d2 --pretrained              # weights that ship with the package
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from tinygen.data import Dataset
from tinygen.data.corruptions import binarised
from tinygen.models import Bernoulli, Gaussian, IWAEStep, VAEStep
from tinygen.networks.convolutional import ConvDecoder, ConvEncoder
from tinygen.networks.mlp import MLPDecoder, MLPEncoder, gaussian

from . import baselines
from .recipe import Given, nearest, recipe

LIKELIHOODS = {"bernoulli": Bernoulli, "gaussian": Gaussian}
MEAN_IMAGE = {"bernoulli": baselines.bernoulli_mean, "gaussian": baselines.gaussian_mean}


def mean_image(dataset: Dataset, arguments: Mapping[str, Any]) -> baselines.Baseline:
    """Nats of the mean image under the likelihood that is trained."""
    return MEAN_IMAGE[arguments["likelihood"]](dataset, arguments)


def floor(dataset: Dataset, arguments: Mapping[str, Any]) -> baselines.Baseline | None:
    """The floor of a Bernoulli likelihood on grey images; a Gaussian has none."""
    return baselines.bernoulli_floor(dataset, arguments) if arguments["likelihood"] == "bernoulli" else None


def binary_mean(dataset: Dataset, arguments: Mapping[str, Any]) -> baselines.Baseline:
    """Nats of the mean image on images in black and white: no grey is left, so the floor is 0."""
    train, test = ((dataset.floats(split) > 0.5).astype("f4") for split in ("train", "test"))
    return baselines.bernoulli_mean(replace(dataset, train_images=train, test_images=test), arguments)


TRIVIAL = (mean_image, floor, baselines.real_images, baselines.pixel_noise)


# The embedded digits have 64 pixels: too few for a Bernoulli likelihood to make an image of, hence the Gaussian.
@recipe(
    "variational autoencoder, fully connected", lectures=(2, 3, 4), baselines=TRIVIAL,
    small={"epochs": 60, "batch_size": 32, "hidden": (512, 256, 128), "latent": 6, "likelihood": "gaussian"},
    tiny={"hidden": (16,), "latent": 3},
)  # fmt: skip
def vae(
    given: Given, hidden: Sequence[int] = (400,), latent: int = 20, likelihood: str = "bernoulli", beta: float = 1.0,
    lr: float = 1e-3,
) -> VAEStep:  # fmt: skip
    """hidden: widths of the encoder's layers; the decoder's in reverse
    latent: numbers in a code
    likelihood: of a pixel, bernoulli or gaussian
    beta: weight of the KL term; its honest value is 1
    lr: learning rate of Adam
    """
    encoder = gaussian(MLPEncoder(given.pixels, hidden[:-1], hidden[-1]), hidden[-1], latent)
    decoder = MLPDecoder(given.pixels, hidden[::-1], latent)
    rule = nearest(likelihood, LIKELIHOODS, "likelihood")()
    return VAEStep(encoder, decoder, rule, latent=latent, beta=beta, lr=lr)


# Of 8x8 pixels, halved twice, too little is left of where a stroke lies: one convolution on the embedded digits. Chosen
# by 300 of their training images, trained on the other 1,200: -23.7 nats after 60 epochs (seeds 0-2); two convolutions
# -14.6 at their best (one seed), the `vae` -22.0 (two seeds). Longer trainings learn the 1,200 by heart.
@recipe(
    "variational autoencoder with convolutions", lectures=(2, 3, 4), baselines=TRIVIAL,
    small={"epochs": 60, "batch_size": 32, "channels": (32,), "hidden": (256, 128), "latent": 6,
           "likelihood": "gaussian"},
    tiny={"channels": (4, 6), "hidden": (8,), "latent": 3},
)  # fmt: skip
def conv_vae(
    given: Given, channels: Sequence[int] = (32, 64), hidden: Sequence[int] = (256,), latent: int = 20,
    likelihood: str = "bernoulli", beta: float = 1.0, lr: float = 1e-3,
) -> VAEStep:  # fmt: skip
    """channels: of the encoder's convolutions; the decoder's in reverse
    hidden: widths of the linear layers after the convolutions
    latent: numbers in a code
    likelihood: of a pixel, bernoulli or gaussian
    beta: weight of the KL term; its honest value is 1
    lr: learning rate of Adam
    """
    encoder = gaussian(ConvEncoder(given.shape, channels, hidden[:-1], hidden[-1]), hidden[-1], latent)
    decoder = ConvDecoder(given.shape, channels, hidden[::-1], latent)
    rule = nearest(likelihood, LIKELIHOODS, "likelihood")()
    return VAEStep(encoder, decoder, rule, latent=latent, beta=beta, lr=lr)


@recipe(
    "variational autoencoder with two numbers in a code", like=vae, epochs=20,
    small={"epochs": 100, "batch_size": 32, "hidden": (512, 256, 128), "latent": 2, "likelihood": "gaussian"},
    tiny={"hidden": (16,)},
)  # fmt: skip
def vae_d2(
    given: Given, hidden: Sequence[int] = (512, 256), latent: int = 2, likelihood: str = "bernoulli",
    beta: float = 1.0, lr: float = 1e-3,
) -> VAEStep:  # fmt: skip
    return vae(given, hidden, latent, likelihood, beta, lr)


# In black and white even 64 pixels suffice for a Bernoulli likelihood.
@recipe(
    "variational autoencoder of black and white images (a pixel is on above 1/2)", like=vae, epochs=20,
    baselines=(binary_mean, baselines.real_images, baselines.pixel_noise),
    small={"epochs": 100, "batch_size": 32, "latent": 6},
)  # fmt: skip
def vae_binarised(
    given: Given, hidden: Sequence[int] = (400,), latent: int = 20, beta: float = 1.0, lr: float = 1e-3
) -> VAEStep:
    encoder = gaussian(MLPEncoder(given.pixels, hidden[:-1], hidden[-1]), hidden[-1], latent)
    decoder = MLPDecoder(given.pixels, hidden[::-1], latent)
    return VAEStep(encoder, decoder, Bernoulli(), binarised(), latent=latent, beta=beta, lr=lr)


@recipe("importance weighted autoencoder of black and white images (Burda et al. 2016)", like=vae_binarised)
def iwae(
    given: Given, hidden: Sequence[int] = (400,), latent: int = 20, samples: int = 5, lr: float = 1e-3
) -> IWAEStep:
    """samples: draws of a code for a training image; 1 gives the ELBO
    """
    encoder = gaussian(MLPEncoder(given.pixels, hidden[:-1], hidden[-1]), hidden[-1], latent)
    decoder = MLPDecoder(given.pixels, hidden[::-1], latent)
    return IWAEStep(encoder, decoder, Bernoulli(), binarised(), latent=latent, samples=samples, lr=lr)
