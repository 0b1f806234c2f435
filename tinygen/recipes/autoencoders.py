"""Autoencoders (lectures 0, 1, 3, 4): the recipes of this chapter; codes.py holds its studies.

    tinygen train conv-autoencoder --data mnist
    tinygen train sparse-autoencoder --data mnist --set strength=0      # without its penalty, to compare

Each says in `tinygen evaluate` what needs no network: the mean image, principal components, the best linear denoiser.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from tinygen import nn
from tinygen.data.corruptions import gaussian, masking
from tinygen.metrics.baselines import mask_moments, noise_moments
from tinygen.models import AutoencoderStep, figures, penalties
from tinygen.networks.convolutional import ConvDecoder, ConvEncoder, MapDecoder, MapEncoder
from tinygen.networks.mlp import MLPDecoder, MLPEncoder, TiedDecoder, he_weights

from . import baselines
from .recipe import Given, recipe

TRIVIAL = (baselines.mean_image, baselines.pca("latent"))
NOISE, HOLES = (baselines.with_noise, noise_moments), (baselines.with_holes, mask_moments)
FROM_NOISE = (baselines.mean_image, baselines.linear_denoiser("sd", *NOISE))
FROM_HOLES = (baselines.mean_image, baselines.linear_denoiser("p", *HOLES))
MLP_SMALL = {"epochs": 60, "batch_size": 32, "hidden": (256, 128)}
CONV_TINY, CONV_GPU = {"channels": (4, 6)}, {"channels": (64, 128), "epochs": 40}


def fully_connected(given: Given, hidden: Sequence[int], latent: int, *ends: nn.Module) -> tuple[nn.Module, nn.Module]:
    """An encoder, with `ends` behind it, and its mirror image that ends in [0, 1]."""
    encoder = MLPEncoder(given.pixels, hidden, latent)
    decoder = nn.Sequential(MLPDecoder(given.pixels, hidden[::-1], latent), nn.Sigmoid())
    return nn.Sequential(encoder, *ends) if ends else encoder, decoder


# ---------------------------------------------------------------------------------- fewer numbers than pixels


@recipe(
    "fully connected autoencoder, 32 numbers an image", lectures=(0, 1, 3, 4), baselines=TRIVIAL,
    small=MLP_SMALL | {"latent": 16}, gpu={"epochs": 40}, tiny={"hidden": (16,), "latent": 3},
)  # fmt: skip
def autoencoder(
    given: Given, hidden: Sequence[int] = (512, 256), latent: int = 32, lr: float = 1e-3
) -> AutoencoderStep:
    """min over E, D of mean (x - D(E(x)))^2.

    hidden: widths of the encoder's layers; the decoder's in reverse
    latent: numbers in a code
    lr: learning rate of Adam; in the last third of the updates it falls to 0
    """
    return AutoencoderStep(*fully_connected(given, hidden, latent), steps=given.steps, lr=lr)


@recipe(
    "autoencoder, 2 numbers an image", like=autoencoder, small=MLP_SMALL | {"epochs": 150}, tiny={"hidden": (16,)}
)
def autoencoder_d2(
    given: Given, hidden: Sequence[int] = (512, 256), latent: int = 2, lr: float = 1e-3
) -> AutoencoderStep:
    return autoencoder(given, hidden, latent, lr)


@recipe("autoencoder, 5 numbers an image", like=autoencoder_d2)
def autoencoder_d5(
    given: Given, hidden: Sequence[int] = (512, 256), latent: int = 5, lr: float = 1e-3
) -> AutoencoderStep:
    return autoencoder(given, hidden, latent, lr)


# 784-678-2 has 1,067,958 parameters, 784-512-256-2 has 1,068,306; of 8x8 images 64-743-2 and 64-256-128-2 are alike.
@recipe(
    "one hidden layer, as many parameters as autoencoder-d2", like=autoencoder_d2,
    small={"epochs": 150, "batch_size": 32, "hidden": (743,)},
)  # fmt: skip
def shallow_autoencoder(
    given: Given, hidden: Sequence[int] = (678,), latent: int = 2, lr: float = 1e-3
) -> AutoencoderStep:
    return autoencoder(given, hidden, latent, lr)


@recipe(
    "convolutional autoencoder, 32 numbers an image", like=autoencoder, epochs=12, lectures=(0, 1, 4),
    small={"epochs": 60, "batch_size": 32, "latent": 16}, gpu=CONV_GPU, tiny=CONV_TINY | {"latent": 3},
)  # fmt: skip
def conv_autoencoder(
    given: Given, channels: Sequence[int] = (32, 64), latent: int = 32, lr: float = 1e-3
) -> AutoencoderStep:
    """channels: of the encoder's convolutions; the decoder's in reverse
    """
    encoder = ConvEncoder(given.shape, channels, (), latent)
    decoder = nn.Sequential(ConvDecoder(given.shape, channels, (), latent), nn.Sigmoid())
    return AutoencoderStep(encoder, decoder, steps=given.steps, lr=lr)


# ---------------------------------------------------------------------------------- more numbers than pixels


@recipe(
    "linear autoencoder with more numbers than pixels: the identity", lectures=(1, 3), baselines=TRIVIAL[:1], epochs=20,
    small={"epochs": 60, "batch_size": 32, "latent": 100}, gpu={"epochs": 40}, tiny={"latent": 70},
)  # fmt: skip
def overcomplete_autoencoder(
    given: Given, latent: int = 800, noise: float = 0.0, lr: float = 3e-3
) -> AutoencoderStep:
    """D(E(x)) = A B x, to which x itself is the answer; what it sees may have noise, then it is not.

    latent: numbers in a code
    noise: standard deviation of what is added to the images it sees
    lr: learning rate of Adam; in the last third of the updates it falls to 0
    """
    encoder, decoder = MLPEncoder(given.pixels, (), latent), MLPDecoder(given.pixels, (), latent)
    corrupt = gaussian(noise) if noise else None
    return AutoencoderStep(encoder, decoder, corrupt, figures=(figures.unseen,), steps=given.steps, lr=lr)


@recipe("linear autoencoder that sees noise: not the identity", like=overcomplete_autoencoder, epochs=10,
        baselines=(baselines.mean_image, baselines.linear_denoiser("noise", *NOISE)))  # fmt: skip
def overcomplete_denoising(
    given: Given, latent: int = 800, noise: float = 0.3, lr: float = 3e-3
) -> AutoencoderStep:
    return overcomplete_autoencoder(given, latent, noise, lr)


# ---------------------------------------------------------------------------------- penalties; strength=0: without


@recipe("autoencoder that pays for the squares of its weights", like=autoencoder, lectures=(3,))
def l2_autoencoder(
    given: Given, hidden: Sequence[int] = (512, 256), latent: int = 32, strength: float = 1e-6, lr: float = 1e-3
) -> AutoencoderStep:
    """... + strength sum w^2.

    strength: of the penalty; 0 leaves it out
    """
    networks = fully_connected(given, hidden, latent)
    penalty = penalties.weights_l2(strength)
    return AutoencoderStep(*networks, None, penalty, None, (figures.weight_norms,), steps=given.steps, lr=lr)


@recipe("autoencoder that pays for the sizes of its weights", like=l2_autoencoder)
def l1_autoencoder(
    given: Given, hidden: Sequence[int] = (512, 256), latent: int = 32, strength: float = 1e-7, lr: float = 1e-3
) -> AutoencoderStep:
    """... + strength sum |w|."""
    networks = fully_connected(given, hidden, latent)
    penalty = penalties.weights_l1(strength)
    return AutoencoderStep(*networks, None, penalty, None, (figures.weight_norms,), steps=given.steps, lr=lr)


@recipe(
    "sparse autoencoder: 256 numbers an image, most of them 0", like=l2_autoencoder, lectures=(1, 3, 4),
    small={"epochs": 60, "batch_size": 32, "hidden": (256,), "latent": 128}, tiny={"hidden": (16,), "latent": 8},
)  # fmt: skip
def sparse_autoencoder(
    given: Given, hidden: Sequence[int] = (512,), latent: int = 256, strength: float = 1.2e-4, lr: float = 1e-3
) -> AutoencoderStep:
    """... + strength sum |h|, h = relu(E(x)) >= 0; the decoder's columns have norm 1."""
    encoder, decoder = fully_connected(given, hidden, latent, nn.ReLU())
    encoder.apply(he_weights)
    penalty = penalties.code_l1(strength)
    return AutoencoderStep(
        encoder, decoder, None, penalty, penalties.unit_columns, (figures.sparsity,), steps=given.steps, lr=lr
    )


@recipe(
    "contractive autoencoder: codes that stand still where images move", like=l2_autoencoder, lectures=(1, 4),
    epochs=20, small={"epochs": 60, "batch_size": 32, "latent": 60}, tiny={"latent": 5},
)  # fmt: skip
def contractive_autoencoder(
    given: Given, latent: int = 120, strength: float = 2.5e-4, lr: float = 1e-2
) -> AutoencoderStep:
    """... + strength |dh/dx|^2, h = sigmoid(W x + b), D(h) = sigmoid(W^T h + c)."""
    encoder = nn.Sequential(MLPEncoder(given.pixels, (), latent), nn.Sigmoid())
    layer = next(m for m in encoder.modules() if isinstance(m, nn.Linear))
    decoder = nn.Sequential(TiedDecoder(given.pixels, layer), nn.Sigmoid())
    norm = penalties.of_a_sigmoid
    penalty = penalties.contractive(strength, norm)
    return AutoencoderStep(encoder, decoder, None, penalty, None, (figures.contraction(norm),),
                           steps=given.steps, lr=lr)  # fmt: skip


@recipe(
    "contractive autoencoder of several layers: its penalty by double backward", like=contractive_autoencoder,
    epochs=10, small={"epochs": 60, "batch_size": 32, "hidden": (128,), "latent": 10},
    tiny={"hidden": (16,), "latent": 3},
)  # fmt: skip
def deep_contractive_autoencoder(
    given: Given, hidden: Sequence[int] = (256,), latent: int = 10, strength: float = 1e-3, lr: float = 3e-3
) -> AutoencoderStep:
    """... + strength |dh/dx|^2, h = sigmoid(E(x)); a backward pass for each number of the code, recorded.

    hidden: widths of the encoder's layers; the decoder's in reverse
    """
    networks = fully_connected(given, hidden, latent, nn.Sigmoid())
    norm = penalties.jacobian
    penalty = penalties.contractive(strength, norm)
    return AutoencoderStep(*networks, None, penalty, None, (figures.contraction(norm),), steps=given.steps, lr=lr)


@recipe("autoencoder with smooth reconstructions", like=l2_autoencoder, lectures=(0,))
def smooth_autoencoder(
    given: Given, hidden: Sequence[int] = (512, 256), latent: int = 32, strength: float = 1e-5, lr: float = 1e-3
) -> AutoencoderStep:
    """... + strength sum |differences of neighbours in D(E(x))|."""
    networks = fully_connected(given, hidden, latent)
    penalty = penalties.total_variation(strength)
    return AutoencoderStep(*networks, None, penalty, None, (figures.variation,), steps=given.steps, lr=lr)


# ---------------------------------------------------------------------------------- from spoilt images


@recipe(
    "denoising autoencoder, Gaussian noise of 0.3", lectures=(1, 3, 4), baselines=FROM_NOISE,
    small={"epochs": 60, "batch_size": 32, "hidden": (256,), "latent": 128}, gpu={"epochs": 40},
    tiny={"hidden": (16,), "latent": 8},
)  # fmt: skip
def denoising_gauss30(
    given: Given, hidden: Sequence[int] = (512,), latent: int = 256, sd: float = 0.3, lr: float = 1e-3
) -> AutoencoderStep:
    """min of mean (x - D(E(x + sd n)))^2, n ~ N(0, I).

    hidden: widths of the encoder's layers; the decoder's in reverse
    latent: numbers in a code
    sd: standard deviation of the noise
    lr: learning rate of Adam; in the last third of the updates it falls to 0
    """
    networks = fully_connected(given, hidden, latent, nn.ReLU())
    return AutoencoderStep(*networks, gaussian(sd), steps=given.steps, lr=lr)


@recipe("denoising autoencoder, 30 % of the pixels black", like=denoising_gauss30, baselines=FROM_HOLES)
def denoising_mask30(
    given: Given, hidden: Sequence[int] = (512,), latent: int = 256, p: float = 0.3, lr: float = 1e-3
) -> AutoencoderStep:
    """p: probability of a pixel to be set to 0
    """
    networks = fully_connected(given, hidden, latent, nn.ReLU())
    return AutoencoderStep(*networks, masking(p), steps=given.steps, lr=lr)


@recipe("denoising autoencoder, 50 % of the pixels black", like=denoising_mask30)
def denoising_mask50(
    given: Given, hidden: Sequence[int] = (512,), latent: int = 256, p: float = 0.5, lr: float = 1e-3
) -> AutoencoderStep:
    return denoising_mask30(given, hidden, latent, p, lr)


def convolutional(given: Given, channels: Sequence[int], corrupt: Callable, lr: float) -> AutoencoderStep:
    """A denoiser whose code is a feature map: no linear layer."""
    encoder, decoder = MapEncoder(given.shape, channels), nn.Sequential(MapDecoder(given.shape, channels), nn.Sigmoid())
    for network in (encoder, decoder):
        network.apply(he_weights)
    return AutoencoderStep(encoder, decoder, corrupt, steps=given.steps, lr=lr)


@recipe(
    "convolutional denoiser, Gaussian noise of 0.3", like=denoising_gauss30,
    small={"epochs": 60, "batch_size": 32}, gpu=CONV_GPU, tiny=CONV_TINY,
)  # fmt: skip
def conv_denoising_gauss30(
    given: Given, channels: Sequence[int] = (32, 64), sd: float = 0.3, lr: float = 1e-3
) -> AutoencoderStep:
    """channels: of the encoder's convolutions; the decoder's in reverse
    """
    return convolutional(given, channels, gaussian(sd), lr)


@recipe("convolutional denoiser, 30 % of the pixels black", like=conv_denoising_gauss30, baselines=FROM_HOLES)
def conv_denoising_mask30(
    given: Given, channels: Sequence[int] = (32, 64), p: float = 0.3, lr: float = 1e-3
) -> AutoencoderStep:
    """p: probability of a pixel to be set to 0
    """
    return convolutional(given, channels, masking(p), lr)


@recipe("convolutional denoiser, 50 % of the pixels black", like=conv_denoising_mask30)
def conv_denoising_mask50(
    given: Given, channels: Sequence[int] = (32, 64), p: float = 0.5, lr: float = 1e-3
) -> AutoencoderStep:
    return conv_denoising_mask30(given, channels, p, lr)
