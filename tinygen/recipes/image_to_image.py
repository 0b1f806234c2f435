"""From image to image (lectures 1, 2, 3): more pixels, holes, colours, outlines, other kinds, drawn digits made real.

    tinygen train srresnet --data mnist                # 14x14 to 28x28; then: tinygen train srgan --data mnist
    tinygen train inpaint --data mnist                 # and inpaint-l2, without a discriminator
    tinygen train colourise                            # red or cyan: what each objective makes of it
    tinygen train pix2pix --data mnist                 # from outlines to digits
    tinygen train cyclegan --data grass+gravel         # without pairs
    tinygen train refiner                              # drawn digits
    tinygen apply runs/srresnet-001 picture.png --out large.png
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

from tinygen import metrics, nn, optim
from tinygen.data import corruptions
from tinygen.models import CycleGANStep, InpaintingStep, Pix2PixStep, RefinerStep, RestorationStep, games
from tinygen.models.history import History, ImagePool
from tinygen.models.pix2pix import alone, both
from tinygen.models.refiner import layout
from tinygen.models.restoration import Perceptual
from tinygen.networks.dcgan import DCDiscriminator
from tinygen.networks.frozen import Features
from tinygen.networks.patchgan import PatchGAN, depth_for
from tinygen.networks.residual import Refiner, ResNetGenerator, SRResNet
from tinygen.networks.unet import Detailed, Filling, UNet
from tinygen.nn import functional as F

from . import restored
from .recipe import Given, nearest, recipe

# ---------------------------------------------------------------------------------- G19: super-resolution


@recipe(
    "super-resolution: twice the side (SRResNet, Ledig et al. 2017)", lectures=(2,), baselines=restored.larger(2),
    epochs=5, batch_size=64, drop_last=True, small={"epochs": 60, "batch_size": 32},
    gpu={"width": 64, "blocks": 16}, tiny={"width": 4, "blocks": 1},
)  # fmt: skip
def srresnet(given: Given, width: int = 24, blocks: int = 3, lr: float = 1e-3) -> RestorationStep:
    """width: planes of every layer
    blocks: residual blocks
    lr: learning rate, falling to 0 in the last third
    """
    return _larger(given, 2, width, blocks, lr)


@recipe(
    "super-resolution: four times the side (SRResNet)", like=srresnet, apart=True, baselines=restored.larger(4)
)
def srresnet_x4(given: Given, width: int = 32, blocks: int = 4, lr: float = 1e-3) -> RestorationStep:
    return _larger(given, 4, width, blocks, lr)


@recipe(
    "super-resolution by a game: SRGAN, on a trained SRResNet (Ledig et al. 2017)", lectures=(2,),
    baselines=restored.larger(2), on=("srresnet",), epochs=3, batch_size=64, drop_last=True,
    small={"epochs": 60, "batch_size": 32}, gpu={"judge": 64}, tiny={"judge": 4},
)  # fmt: skip
def srgan(
    given: Given, base: RestorationStep, judge: int = 16, seen: float = 1.0, adversarial: float = 1e-3,
    lr: float = 2e-4,
) -> RestorationStep:  # fmt: skip
    """judge: planes of the discriminator's first convolution; the second has twice as many
    seen: weight of the difference of what a frozen network sees; that of squared differences is 1
    adversarial: weight of the game
    lr: learning rate of both players, G's falling to 0 in the last third
    """
    _check_weights(seen=seen, adversarial=adversarial)
    generator = base.generator.train()  # a loaded one is in evaluation mode
    return RestorationStep(
        generator, base.degrade, Perceptual(_features(given), seen), _judging(given.pixels, judge),
        games.non_saturating(), (restored.of_images(given),), adversarial=adversarial, steps=given.steps, lr=lr,
        betas=(0.5, 0.999),
    )  # fmt: skip


@recipe(
    "super-resolution by a game, four times the side", like=srgan, apart=True, baselines=restored.larger(4),
    on=("srresnet-x4",),
)  # fmt: skip
def srgan_x4(
    given: Given, base: RestorationStep, judge: int = 16, seen: float = 1.0, adversarial: float = 1e-3,
    lr: float = 2e-4,
) -> RestorationStep:  # fmt: skip
    return srgan(given, base, judge, seen, adversarial, lr)


def _larger(given: Given, factor: int, width: int, blocks: int, lr: float) -> RestorationStep:
    if any(side % factor for side in given.pixels[1:]):
        sides = "x".join(map(str, given.shape[1:]))
        raise ValueError(f"images of {sides} pixels cannot be made {factor} times smaller; give another --size")
    return RestorationStep(
        SRResNet(given.pixels, width, blocks, factor), corruptions.downscaled(factor),
        figures=(restored.of_images(given),), steps=given.steps, lr=lr,
    )  # fmt: skip


def _check_weights(**weights: float) -> None:
    for name, value in weights.items():
        if value < 0:
            raise ValueError(f"{name} is a weight of the loss, at least 0; it is {value:g}")


def _judging(shape: Sequence[int], judge: int) -> DCDiscriminator:
    return DCDiscriminator(shape, (judge, 2 * judge))


def _features(given: Given) -> Features:
    """The convolutions of the frozen network that judges samples: of 8x8 digits for small images, else of 28x28."""
    small = min(given.shape[1:]) < 16
    return Features(metrics.frozen_weights((1, 8, 8) if small else (1, 28, 28)), pooled=not small)


# ---------------------------------------------------------------------------------- G23: inpainting

MASKS = {
    "hole": corruptions.square, "half": lambda size: corruptions.lower_half(),
    "strokes": lambda size: corruptions.stroke_mask(),
}  # fmt: skip
FILLS = (restored.mean_fill(MASKS), restored.recognised_fill(MASKS), restored.recognised_truth)


@recipe(
    "inpainting: a hole is filled, and a discriminator looks", lectures=(2,), baselines=FILLS, epochs=4,
    batch_size=64, drop_last=True,
    small={"epochs": 60, "batch_size": 32, "channels": (32, 64), "size": 4},
    tiny={"channels": (4, 6), "judge": 4},
)  # fmt: skip
def inpaint(
    given: Given, mask: str = "hole", size: int = 8, channels: Sequence[int] = (32, 64, 128),
    judge: int = 16, adversarial: float = 1e-3, lr: float = 1e-3, d_lr: float = 2e-4,
) -> InpaintingStep:  # fmt: skip
    """mask: hole (a square in the centre), half (the lower one) or strokes (random ones)
    size: pixels a side of the square
    channels: planes after each halving of the U-Net
    judge: planes of the discriminator's first convolution; the second has twice as many
    adversarial: weight of the game
    lr: learning rate of G, falling to 0 in the last third
    d_lr: learning rate of D
    """
    _check_weights(adversarial=adversarial)
    return InpaintingStep(
        _filling(given, channels), _concealed(given, mask, size), F.mse_loss, _judging(given.pixels, judge),
        games.non_saturating(), (restored.of_images(given), restored.in_holes), adversarial=adversarial,
        steps=given.steps, lr=lr, d_lr=d_lr, betas=(0.5, 0.999),
    )  # fmt: skip


@recipe("inpainting by squared error alone", like=inpaint, apart=True)
def inpaint_l2(
    given: Given, mask: str = "hole", size: int = 8, channels: Sequence[int] = (32, 64, 128), lr: float = 1e-3
) -> InpaintingStep:
    return InpaintingStep(
        _filling(given, channels), _concealed(given, mask, size),
        figures=(restored.of_images(given), restored.in_holes), steps=given.steps, lr=lr,
    )  # fmt: skip


def _filling(given: Given, channels: Sequence[int]) -> Filling:
    planes, *sides = given.pixels
    return Filling(UNet((planes + 1, *sides), planes, channels))


def _concealed(given: Given, mask: str, size: int) -> corruptions.Corruption:
    if not 1 <= size <= min(given.pixels[1:]):
        raise ValueError(f"a hole of {size} pixels a side does not fit; give a size of 1 to {min(given.shape[1:])}")
    return corruptions.concealed(nearest(mask, MASKS, "mask")(size))


# ---------------------------------------------------------------------------------- G21: colours

@recipe(
    "colours for grey images, as pix2pix: D sees both", lectures=(2,), data="two-hues-digits", epochs=4, batch_size=64,
    drop_last=True, small={"epochs": 40, "batch_size": 32, "channels": (16, 32)}, tiny={"channels": (4, 6), "judge": 4},
)  # fmt: skip
def colourise(
    given: Given, channels: Sequence[int] = (16, 32, 64), judge: int = 16, weight: float = 0.0,
    lr: float = 2e-4,
) -> Pix2PixStep:  # fmt: skip
    """channels: planes after each halving of the U-Net
    judge: planes of the discriminator's first convolution; the second has twice as many
    weight: of the absolute error
    lr: learning rate of both players, falling to 0 in the last third
    """
    return _coloured(given, channels, judge, weight, lr)


@recipe("colours for grey images: D sees the colours alone", like=colourise, apart=True)
def colourise_unconditional(
    given: Given, channels: Sequence[int] = (16, 32, 64), judge: int = 16, weight: float = 0.0,
    lr: float = 2e-4,
) -> Pix2PixStep:  # fmt: skip
    return _coloured(given, channels, judge, weight, lr, conditional=False)


@recipe("colours for grey images and noise", like=colourise, apart=True)
def colourise_z(
    given: Given, channels: Sequence[int] = (16, 32, 64), judge: int = 16, weight: float = 0.0,
    latent: int = 4, lr: float = 2e-4,
) -> Pix2PixStep:  # fmt: skip
    """latent: planes of noise"""
    return _coloured(given, channels, judge, weight, lr, latent=latent)


@recipe("colours for grey images by squared error: the mean of all colours", like=colourise, apart=True)
def colourise_l2(
    given: Given, channels: Sequence[int] = (16, 32, 64), lr: float = 1e-3
) -> RestorationStep:
    """lr: learning rate, falling to 0 in the last third"""
    return _regressed(given, F.mse_loss, channels, lr)


@recipe("colours for grey images by absolute error: the median of each channel", like=colourise, apart=True)
def colourise_l1(
    given: Given, channels: Sequence[int] = (16, 32, 64), lr: float = 1e-3
) -> RestorationStep:
    """lr: learning rate, falling to 0 in the last third"""
    return _regressed(given, F.l1_loss, channels, lr)


def _coloured(
    given: Given, channels: Sequence[int], judge: int, weight: float, lr: float, *,
    conditional: bool = True, latent: int = 0,
) -> Pix2PixStep:  # fmt: skip
    colours, *sides = _in_colour(given)
    _check_weights(weight=weight)
    return Pix2PixStep(
        _colouring(1 + latent, given, channels), _judging((colours + conditional, *sides), judge),
        games.non_saturating(), corruptions.brightness(), both if conditional else alone, (restored.saturation,),
        weight=weight, latent=latent, steps=given.steps, lr=lr,
    )  # fmt: skip


def _regressed(given: Given, content: Callable, channels: Sequence[int], lr: float) -> RestorationStep:
    return RestorationStep(
        _colouring(1, given, channels), corruptions.brightness(), content, figures=(restored.saturation,),
        steps=given.steps, lr=lr,
    )  # fmt: skip


def _colouring(inputs: int, given: Given, channels: Sequence[int]) -> Detailed:
    colours, *sides = _in_colour(given)
    return Detailed(UNet((inputs, *sides), channels[0], channels), channels[0], colours)


def _in_colour(given: Given) -> tuple[int, ...]:
    if given.pixels[0] != 3:
        raise ValueError("grey images have no colours to learn; give --data two-hues-mnist, or images in colour")
    return given.pixels


# ---------------------------------------------------------------------------------- G20, G22: from outlines


OUTLINES = (restored.outline_error, restored.recognised_outlines, restored.recognised_truth)


@recipe(
    "from outlines to images (pix2pix, Isola et al. 2017)", lectures=(2, 3), baselines=OUTLINES, epochs=3,
    batch_size=64, drop_last=True, small={"epochs": 60, "batch_size": 32, "channels": (32, 64)},
    gpu={"channels": (64, 128, 256)}, tiny={"channels": (4, 6), "judge": 4},
)  # fmt: skip
def pix2pix(
    given: Given, channels: Sequence[int] = (24, 48, 96), judge: int = 16, weight: float = 100.0,
    threshold: float = 0.5, dropout: float = 0.0, lr: float = 2e-4,
) -> Pix2PixStep:  # fmt: skip
    """channels: planes after each halving of the U-Net
    judge: planes of PatchGAN's first layer
    weight: of the absolute error
    threshold: steepness, of at most 1, from which on an edge is drawn
    dropout: share of the values that U-Net drops while it learns, in the layers going up but the outer ones
    lr: learning rate of both players
    """
    return _translated(given, channels, judge, weight, threshold, dropout, lr)


@recipe("from outlines and noise to images", like=pix2pix, apart=True)
def pix2pix_z(
    given: Given, channels: Sequence[int] = (24, 48, 96), judge: int = 16, weight: float = 100.0,
    threshold: float = 0.5, dropout: float = 0.0, latent: int = 4, lr: float = 2e-4,
) -> Pix2PixStep:  # fmt: skip
    """latent: planes of noise"""
    return _translated(given, channels, judge, weight, threshold, dropout, lr, latent)


def _translated(
    given: Given, channels: Sequence[int], judge: int, weight: float, threshold: float, dropout: float, lr: float,
    latent: int = 0,
) -> Pix2PixStep:  # fmt: skip
    _check_weights(weight=weight)
    if not 0 <= dropout < 1:
        raise ValueError(f"dropout is the share of values that is dropped, at least 0 and below 1; it is {dropout:g}")
    colours, *sides = given.pixels
    return Pix2PixStep(
        UNet((1 + latent, *sides), colours, channels, partial(nn.Dropout, dropout) if dropout else nn.Identity),
        PatchGAN((1 + colours, *sides), judge, depth_for(given.pixels)), games.non_saturating(),
        corruptions.outlines(threshold), both, (restored.of_images(given),), weight=weight, latent=latent, lr=lr,
    )  # fmt: skip


# ---------------------------------------------------------------------------------- G24: without pairs


@recipe(
    "from one kind of images to another and back, without pairs (CycleGAN, Zhu et al. 2017)", lectures=(0, 1, 2, 3),
    data="digits+slanted", pair=True, baselines=(restored.as_they_are,), epochs=2, batch_size=32, drop_last=True,
    small={"epochs": 60, "batch_size": 16, "channels": (16, 32), "blocks": 2},
    tiny={"channels": (4, 6), "blocks": 1, "judge": 4, "pool": 16},
)  # fmt: skip
def cyclegan(
    given: Given, channels: Sequence[int] = (8, 16, 32), blocks: int = 2, judge: int = 16, pool: int = 256,
    cycle: float = 5.0, identity: float = 0.5, lr: float = 2e-4,
) -> CycleGANStep:  # fmt: skip
    """channels: planes of the generators at the full size and after each halving
    blocks: residual blocks at the smallest size
    judge: planes of each PatchGAN's first layer
    pool: older fakes of each kind that the discriminators may see
    cycle: weight of what comes back
    identity: weight of what needs no change
    lr: learning rate of all
    """
    _check_weights(cycle=cycle, identity=identity)
    # The paper's weights are 10 and 5: with these, after two epochs, upright digits hardly lean.
    generator = lambda: ResNetGenerator(given.pixels, channels, blocks)
    judges = lambda: PatchGAN(given.pixels, judge, depth_for(given.pixels), nn.InstanceNorm2d)
    pools = lambda: ImagePool(given.pixels, pool)
    return CycleGANStep(
        generator(), generator(), judges(), judges(), games.least_squares(), pools(), pools(), (restored.of_kinds,),
        cycle=cycle, identity=identity, lr=lr,
    )  # fmt: skip


# ---------------------------------------------------------------------------------- G18: drawn digits made real


@recipe(
    "drawn digits made real: a refiner (SimGAN, Shrivastava et al. 2017)", lectures=(3,),
    data="rendered-digits+digits", pair=True, baselines=(restored.as_they_are,), epochs=1, batch_size=64,
    drop_last=True,
    small={"epochs": 60, "batch_size": 32}, tiny={"width": 4, "blocks": 1, "judge": 4, "history": 8},
)  # fmt: skip
def refiner(
    given: Given, width: int = 16, blocks: int = 4, judge: int = 16, history: int = 1024, weight: float = 3.0,
    refinements: int = 2, lr: float = 5e-4, d_lr: float = 2e-4,
) -> RefinerStep:  # fmt: skip
    """width: planes of the refiner
    blocks: residual blocks of the refiner
    judge: planes of PatchGAN's first layer
    history: older refined images that the discriminator may see
    weight: of the change of an image's layout: where its light is, not how much
    refinements: updates of the refiner for one of the discriminator
    lr: learning rate of the refiner
    d_lr: learning rate of the discriminator
    """
    _check_weights(weight=weight)
    return RefinerStep(
        Refiner(given.pixels, width, blocks), PatchGAN(given.pixels, judge, depth_for(given.pixels)),
        games.non_saturating(), History(given.pixels, history), layout, (restored.of_refined,),
        weight=weight, rounds=refinements, lr=lr, d_lr=d_lr, optimizer=partial(optim.Adam, betas=(0.5, 0.999)),
    )  # fmt: skip
