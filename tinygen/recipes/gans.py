"""Generative adversarial networks (lectures 0-4): the game, its variants, and a ring of 8 Gaussians.

    tinygen train dcgan --data mnist
    tinygen train wgan-gp --data mnist
    tinygen train gan-ring                       # modes, on 2-d points
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from tinygen import optim
from tinygen.models import GANStep, ProgressiveGANStep, games
from tinygen.models.critics import clipped, gradient_penalty
from tinygen.networks.dcgan import DCCritic, DCDiscriminator, DCGenerator
from tinygen.networks.growing import GrowingDiscriminator, GrowingGenerator
from tinygen.networks.mlp import MLPDecoder, MLPDiscriminator, MLPEncoder, MLPGenerator

from . import baselines
from .recipe import Given, nearest, recipe

OBJECTIVES = {"non-saturating": games.non_saturating, "minimax": games.minimax}
TRIVIAL = (baselines.real_images, baselines.pixel_noise)


@recipe(
    "fully connected generative adversarial network", lectures=(0, 1, 2, 3, 4), baselines=TRIVIAL,
    epochs=20, batch_size=64, drop_last=True,
    small={"epochs": 100, "batch_size": 32, "latent": 16, "smoothing": 0.1}, tiny={"hidden": (8, 12), "latent": 4},
)  # fmt: skip
def gan(
    given: Given, hidden: Sequence[int] = (256, 512), latent: int = 64, objective: str = "non-saturating",
    smoothing: float = 0.0, rounds: int = 1, lr: float = 2e-4, d_lr: float | None = None,
    betas: tuple[float, float] = (0.5, 0.999),
) -> GANStep:  # fmt: skip
    """hidden: widths of the generator's layers; the discriminator's in reverse
    latent: numbers of noise
    objective: of the generator, non-saturating or minimax
    smoothing: real labels are 1 - smoothing
    rounds: updates of the discriminator for one of the generator
    lr: learning rate of both players
    d_lr: learning rate of the discriminator, where it differs
    betas: of Adam, for the mean of gradients and of their squares
    """
    generator = MLPGenerator(given.pixels, hidden, latent)
    discriminator = MLPDiscriminator(given.pixels, hidden[::-1])
    game = nearest(objective, OBJECTIVES, "objective")(smoothing)
    adam = partial(optim.Adam, betas=(betas[0], betas[1]))  # a list, where it comes from JSON
    return GANStep(generator, discriminator, game, latent=latent, rounds=rounds, lr=lr, d_lr=d_lr, optimizer=adam)


@recipe(
    "deep convolutional GAN, f = 16", lectures=(0, 3, 4), baselines=TRIVIAL, batch_size=64, drop_last=True,
    small={"epochs": 150, "batch_size": 32, "channels": (32, 64), "latent": 16, "smoothing": 0.1},
    gpu={"channels": (64, 128)}, tiny={"channels": (4, 6), "latent": 4},
)  # fmt: skip
def dcgan(
    given: Given, channels: Sequence[int] = (16, 32), latent: int = 100, objective: str = "non-saturating",
    smoothing: float = 0.0, rounds: int = 1, lr: float = 2e-4, d_lr: float | None = None,
    betas: tuple[float, float] = (0.5, 0.999),
) -> GANStep:  # fmt: skip
    """channels: of the discriminator's convolutions; the generator's in reverse
    latent: numbers of noise
    objective: of the generator, non-saturating or minimax
    smoothing: real labels are 1 - smoothing
    rounds: updates of the discriminator for one of the generator
    lr: learning rate of both players
    d_lr: learning rate of the discriminator, where it differs
    betas: of Adam, for the mean of gradients and of their squares
    """
    generator = DCGenerator(given.shape, channels, latent)
    discriminator = DCDiscriminator(given.shape, channels)
    game = nearest(objective, OBJECTIVES, "objective")(smoothing)
    adam = partial(optim.Adam, betas=(betas[0], betas[1]))  # a list, where it comes from JSON
    return GANStep(generator, discriminator, game, latent=latent, rounds=rounds, lr=lr, d_lr=d_lr, optimizer=adam)


@recipe("least-squares GAN (Mao et al. 2017)", like=dcgan, lectures=(0,))
def lsgan(given: Given, channels: Sequence[int] = (16, 32), latent: int = 100, lr: float = 2e-4) -> GANStep:
    generator, discriminator = DCGenerator(given.shape, channels, latent), DCDiscriminator(given.shape, channels)
    return GANStep(generator, discriminator, games.least_squares(), latent=latent, lr=lr)


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
    "Wasserstein GAN with gradient penalty (Gulrajani et al. 2017)", like=wgan, lectures=(0, 2), epochs=15,
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
    "progressive growing of a GAN, from a quarter of the size (Karras et al. 2018)", like=dcgan, lectures=(2, 3, 4),
    epochs=11, small={"epochs": 150, "batch_size": 32, "channels": (32, 64), "latent": 16, "smoothing": 0.1},
    tiny={"channels": (4, 6), "latent": 4, "stay": 0.0, "fade": 0.3},
)  # fmt: skip
def progressive_gan(
    given: Given, channels: Sequence[int] = (16, 32), latent: int = 100, stay: float = 0.1, fade: float = 0.05,
    smoothing: float = 0.0, lr: float = 2e-4,
) -> ProgressiveGANStep:  # fmt: skip
    """stay: share of the updates that is made at each size but the last
    fade: share of the updates in which each size is faded in
    """
    return ProgressiveGANStep(
        GrowingGenerator(given.shape, channels, latent), GrowingDiscriminator(given.shape, channels),
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
