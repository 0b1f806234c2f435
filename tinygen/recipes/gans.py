"""Generative adversarial networks (lectures 0-4): the game, its variants, and a ring of 8 Gaussians.

    tinygen train dcgan --data mnist
    tinygen study interpolation runs/dcgan-001   # between two images, by line and by great circle
    tinygen train wgan-gp --data mnist
    tinygen train cgan                           # then: tinygen sample runs/cgan-001 --label 7
    tinygen train gan-ring                       # modes, on 2-d points
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import tinygen as tg
from tinygen import metrics, optim
from tinygen.models import ConditionalGANStep, GANStep, ProgressiveGANStep, games
from tinygen.models.critics import clipped, gradient_penalty
from tinygen.networks.conditional import ConditionalDiscriminator, ConditionalGenerator
from tinygen.networks.dcgan import DCCritic, DCDiscriminator, DCGenerator, Resized, spectrally_normalised, transposed
from tinygen.networks.growing import GrowingDiscriminator, GrowingGenerator
from tinygen.networks.mlp import MLPDecoder, MLPDiscriminator, MLPEncoder, MLPGenerator
from tinygen.studies import latents
from tinygen.training import aside

from . import baselines
from .recipe import Given, nearest, recipe
from .scores import DIGITS
from .study import Findings, Rows, Trained, images, study

OBJECTIVES = {"non-saturating": games.non_saturating, "minimax": games.minimax}
UPSAMPLINGS = {"transposed": transposed, "resized": Resized}
TRIVIAL = (baselines.real_images, baselines.pixel_noise)


def named(objective: str, smoothing: float, betas: Sequence[float]) -> dict[str, Any]:
    """The game and the optimizer that a GANStep receives, of what `--set` can say."""
    game = nearest(objective, OBJECTIVES, "objective")(smoothing)
    return {"game": game, "optimizer": partial(optim.Adam, betas=(betas[0], betas[1]))}  # a list, from JSON


@recipe(
    "fully connected generative adversarial network", lectures=(0, 1, 2, 3, 4), baselines=TRIVIAL,
    epochs=20, batch_size=64, drop_last=True,
    small={"epochs": 100, "batch_size": 32, "latent": 16, "smoothing": 0.1}, tiny={"hidden": (8, 12), "latent": 4},
)  # fmt: skip
def gan(
    given: Given, hidden: Sequence[int] = (256, 512), latent: int = 64, objective: str = "non-saturating",
    smoothing: float = 0.0, rounds: int = 1, lr: float = 2e-4, d_lr: float | None = None,
    betas: tuple[float, float] = (0.5, 0.999), average: float = 0.0,
) -> GANStep:  # fmt: skip
    """hidden: widths of the generator's layers; the discriminator's in reverse
    latent: numbers of noise
    objective: of the generator, non-saturating or minimax
    smoothing: real labels are 1 - smoothing
    rounds: updates of the discriminator for one of the generator
    lr: learning rate of both players
    d_lr: learning rate of the discriminator, where it differs
    betas: of Adam, for the mean of gradients and of their squares
    average: decay of an average of the generator's weights, which is scored beside the last; 0 keeps none
    """
    generator = MLPGenerator(given.pixels, hidden, latent)
    discriminator = MLPDiscriminator(given.pixels, hidden[::-1])
    rules = named(objective, smoothing, betas)
    return GANStep(
        generator, discriminator, **rules, latent=latent, rounds=rounds, lr=lr, d_lr=d_lr, average=average
    )  # fmt: skip


@recipe(
    "deep convolutional GAN, f = 16", lectures=(0, 3, 4), baselines=TRIVIAL, batch_size=64, drop_last=True,
    small={"epochs": 150, "batch_size": 32, "channels": (32, 64), "latent": 16, "smoothing": 0.1},
    gpu={"channels": (64, 128)}, tiny={"channels": (4, 6), "latent": 4},
)  # fmt: skip
def dcgan(
    given: Given, channels: Sequence[int] = (16, 32), latent: int = 100, objective: str = "non-saturating",
    smoothing: float = 0.0, rounds: int = 1, lr: float = 2e-4, d_lr: float | None = None,
    betas: tuple[float, float] = (0.5, 0.999), average: float = 0.0, upsample: str = "transposed",
) -> GANStep:  # fmt: skip
    """channels: of the discriminator's convolutions; the generator's in reverse
    latent: numbers of noise
    objective: of the generator, non-saturating or minimax
    smoothing: real labels are 1 - smoothing
    rounds: updates of the discriminator for one of the generator
    lr: learning rate of both players
    d_lr: learning rate of the discriminator, where it differs
    betas: of Adam, for the mean of gradients and of their squares
    average: decay of an average of the generator's weights, which is scored beside the last; 0 keeps none
    upsample: how the generator's planes double, transposed (convolution) or resized (and convolved)
    """
    generator = DCGenerator(given.shape, channels, latent, nearest(upsample, UPSAMPLINGS, "upsampling"))
    discriminator = DCDiscriminator(given.shape, channels)
    rules = named(objective, smoothing, betas)
    return GANStep(
        generator, discriminator, **rules, latent=latent, rounds=rounds, lr=lr, d_lr=d_lr, average=average
    )  # fmt: skip


@recipe(
    "DCGAN, f = 32, with an average of G's weights", like=dcgan, gpu={"channels": (64, 128)},
    tiny={"channels": (4, 6), "latent": 4, "average": 0.1},
)  # fmt: skip
def dcgan_averaged(
    given: Given, channels: Sequence[int] = (32, 64), latent: int = 100, smoothing: float = 0.0,
    average: float = 0.999, lr: float = 2e-4,
) -> GANStep:  # fmt: skip
    return dcgan(given, channels, latent, smoothing=smoothing, average=average, lr=lr)


@recipe(
    "deep convolutional GAN on digits in random colours", lectures=(0, 4), data="tinted-digits", batch_size=64,
    drop_last=True, small={"epochs": 80, "batch_size": 32, "channels": (32, 64), "latent": 16, "smoothing": 0.1},
    gpu={"channels": (64, 128)}, tiny={"channels": (4, 6), "latent": 4},
)  # fmt: skip
def tinted_dcgan(
    given: Given, channels: Sequence[int] = (16, 32), latent: int = 32, smoothing: float = 0.0, lr: float = 2e-4
) -> GANStep:
    """channels: of the discriminator's convolutions; the generator's in reverse
    latent: numbers of noise
    smoothing: real labels are 1 - smoothing
    lr: learning rate of both players
    """
    # No variant of dcgan: a study of colours must not take a grey run for a relative.
    return dcgan(given, channels, latent, smoothing=smoothing, lr=lr)


@recipe("least-squares GAN (Mao et al. 2017)", like=dcgan, lectures=(0,))
def lsgan(given: Given, channels: Sequence[int] = (16, 32), latent: int = 100, lr: float = 2e-4) -> GANStep:
    generator, discriminator = DCGenerator(given.shape, channels, latent), DCDiscriminator(given.shape, channels)
    return GANStep(generator, discriminator, games.least_squares(), latent=latent, lr=lr)


@recipe("hinge GAN, D with spectral normalisation (Lim and Ye 2017, Miyato et al. 2018)", like=dcgan)
def hinge_gan(given: Given, channels: Sequence[int] = (16, 32), latent: int = 100, lr: float = 2e-4) -> GANStep:
    generator, discriminator = DCGenerator(given.shape, channels, latent), DCCritic(given.shape, channels)
    discriminator.apply(spectrally_normalised)
    return GANStep(generator, discriminator, games.hinge(), latent=latent, lr=lr)


@recipe(
    "Wasserstein GAN with clipped weights (Arjovsky et al. 2017)", like=dcgan, lectures=(0, 2, 4),
    epochs=25, batch_size=320,
    small={"epochs": 300, "batch_size": 160, "channels": (32, 64), "latent": 16},
)  # fmt: skip
def wgan(
    given: Given, channels: Sequence[int] = (16, 32), latent: int = 100, clip: float = 0.01, rounds: int = 5,
    lr: float = 2e-4,
) -> GANStep:  # fmt: skip
    """clip: weights of the critic are cut to [-clip, clip]
    rounds: updates of the critic for one of the generator, each on its share of the batch
    """
    generator, critic = DCGenerator(given.shape, channels, latent), DCCritic(given.shape, channels)
    return GANStep(
        generator, critic, games.wasserstein(), constrain=clipped(clip), latent=latent, rounds=rounds, lr=lr,
        optimizer=optim.RMSprop,
    )  # fmt: skip


@recipe(
    "Wasserstein GAN with gradient penalty (Gulrajani et al. 2017)", like=wgan, lectures=(0, 2), epochs=50,
    scored=(0.16, 0.32),
)  # fmt: skip
def wgan_gp(
    given: Given, channels: Sequence[int] = (16, 32), latent: int = 100, penalty: float = 10.0, rounds: int = 5,
    lr: float = 2e-4,
) -> GANStep:  # fmt: skip
    """penalty: weight of the gradient penalty
    """
    generator, critic = DCGenerator(given.shape, channels, latent), DCCritic(given.shape, channels)
    adam = partial(optim.Adam, betas=(0.5, 0.9))
    return GANStep(
        generator, critic, games.wasserstein(), gradient_penalty(penalty), latent=latent, rounds=rounds, lr=lr,
        optimizer=adam,
    )  # fmt: skip


@recipe(
    "conditional GAN: digits of the class that is asked for", lectures=(2, 3, 4), labels=True,
    baselines=(*TRIVIAL, baselines.recognised_images), batch_size=64, drop_last=True,
    small={"epochs": 150, "batch_size": 32, "channels": (32, 64), "latent": 16, "smoothing": 0.1},
    gpu={"channels": (64, 128)}, tiny={"channels": (4, 6), "latent": 4},
)  # fmt: skip
def cgan(
    given: Given, channels: Sequence[int] = (16, 32), latent: int = 100, objective: str = "non-saturating",
    smoothing: float = 0.0, lr: float = 2e-4, d_lr: float | None = None, betas: tuple[float, float] = (0.5, 0.999),
) -> ConditionalGANStep:  # fmt: skip
    """channels: of the discriminator's convolutions; the generator's in reverse
    latent: numbers of noise, besides one for each class
    objective: of the generator, non-saturating or minimax
    smoothing: real labels are 1 - smoothing
    lr: learning rate of both players
    d_lr: learning rate of the discriminator, where it differs
    betas: of Adam, for the mean of gradients and of their squares
    """
    generator = ConditionalGenerator(given.pixels, len(given.classes), channels, latent)
    discriminator = ConditionalDiscriminator(given.pixels, len(given.classes), channels)
    rules = named(objective, smoothing, betas)
    return ConditionalGANStep(generator, discriminator, names=given.classes, **rules, latent=latent, lr=lr, d_lr=d_lr)


@recipe(
    "progressive growing of a GAN, from a quarter of the size (Karras et al. 2018)", like=dcgan, apart=True,
    lectures=(2, 3, 4), epochs=11,
    small={"epochs": 150, "batch_size": 32, "channels": (32, 64), "latent": 16, "smoothing": 0.1},
    tiny={"channels": (4, 6), "latent": 4, "stay": 0.0, "fade": 0.28},
)  # fmt: skip
def progressive_gan(
    given: Given, channels: Sequence[int] = (16, 32), latent: int = 100, stay: float = 0.1, fade: float = 0.05,
    smoothing: float = 0.0, lr: float = 2e-4,
) -> ProgressiveGANStep:  # fmt: skip
    """stay: share of the updates that is made at each size but the last
    fade: share of the updates in which each size is faded in
    """
    generator = GrowingGenerator(given.shape, channels, latent)
    growths = len(generator.sizes) - 1
    if stay < 0 or fade <= 0:
        raise ValueError(
            f"stay={stay:g} must be a share of at least 0, fade={fade:g} one above 0; .1 and .05 are usual"
        )
    if growths * (stay + fade) >= 1:
        raise ValueError(
            f"stay={stay:g} and fade={fade:g}, {growths} times, leave no update at the full size; "
            f"give shares whose sum is below 1/{growths}"
        )
    return ProgressiveGANStep(
        generator, GrowingDiscriminator(given.shape, channels),
        games.non_saturating(smoothing), latent=latent, stay=round(stay * given.steps),
        fade=max(1, round(fade * given.steps)), lr=lr,
    )  # fmt: skip


@recipe(
    "GAN on a ring of 8 Gaussians: which modes are found", lectures=(0, 1, 2, 4), data="ring", epochs=60,
    batch_size=128, drop_last=True, tiny={"hidden": (8,), "latent": 2},
    baselines=(baselines.real_points, baselines.gaussian_points),
)  # fmt: skip
def gan_ring(
    given: Given, hidden: Sequence[int] = (128, 128), latent: int = 16, objective: str = "non-saturating",
    lr: float = 1e-3,
) -> GANStep:  # fmt: skip
    """hidden: widths of both players' layers
    latent: numbers of noise
    objective: of the generator, non-saturating or minimax
    lr: learning rate of both players
    """
    generator = MLPDecoder(given.shape, hidden, latent)
    discriminator = MLPEncoder(given.shape, hidden, 1)
    return GANStep(generator, discriminator, nearest(objective, OBJECTIVES, "objective")(), latent=latent, lr=lr)


@recipe("WGAN-GP on a ring of 8 Gaussians", like=gan_ring, epochs=200, batch_size=640)
def wgan_gp_ring(
    given: Given, hidden: Sequence[int] = (128, 128), latent: int = 16, penalty: float = 10.0, rounds: int = 5,
    lr: float = 1e-3,
) -> GANStep:  # fmt: skip
    """penalty: weight of the gradient penalty
    rounds: updates of the critic for one of the generator, each on its share of the batch
    """
    generator, critic = MLPDecoder(given.shape, hidden, latent), MLPEncoder(given.shape, hidden, 1)
    adam = partial(optim.Adam, betas=(0.5, 0.9))
    return GANStep(
        generator, critic, games.wasserstein(), gradient_penalty(penalty), latent=latent, rounds=rounds, lr=lr,
        optimizer=adam,
    )  # fmt: skip


# ---------------------------------------------------------------------------------- from one image to another


@study("from image to image, by line and by great circle", on=("dcgan",), lectures=(0, 4), tiny={"judged": 20},
       asks=images)  # fmt: skip
def interpolation(trained: Trained, pairs: int = 4, steps: int = 10, judged: int = 1000) -> Findings:
    """Images of noise between two points, along a line and along a great circle, and how sure the middle ones are.

    pairs: of points whose images are drawn
    steps: images on a path
    judged: pairs whose path is measured in the middle
    """
    step, shape = trained.step, trained.dataset.shape
    with aside(step, 0):
        draw = lambda codes: step.generator(codes.to(step.device)).cpu()
        ends = step.noise(2 * max(pairs, judged)).reshape(-1, 2, step.latent)
        kinds = {"line": latents.line, "circle": latents.great_circle}
        rows = [draw(path(first, last, steps)) for first, last in ends[:pairs] for path in kinds.values()]
        middle = {
            kind: tg.stack([path(first, last, 3)[1] for first, last in ends[:judged]]) for kind, path in kinds.items()
        }
        length = ends[:judged].norm(2, 2).mean()
        numbers = {f"norm_{kind}": (z.norm(2, 1).mean() / length).item() for kind, z in middle.items()}
        if metrics.scorable(shape) and tuple(trained.dataset.classes) == DIGITS:
            for kind, z in middle.items():
                seen = metrics.features(latents.decoded(draw, z.cpu().numpy()))[1]
                numbers[f"conf95_{kind}"] = metrics.confident(seen)
    return Findings(numbers, {"interpolation": Rows(rows, list(kinds) * pairs)})
