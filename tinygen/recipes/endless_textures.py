"""Textures of any size (lecture 0): a GAN that is trained on single codes, and sampled with maps of codes.

    tinygen train texture-gan --data grass              # or gravel, brick, the crops of a picture of yours
    tinygen sample runs/texture-gan-001 -n 1 --size 512x768
    tinygen study texture-size runs/texture-gan-001     # spectra of real and made textures, at both sizes

A picture of more than the training's size has no real one to be compared with pixel by pixel. What is compared is its
radial spectrum (studies/spectra.py), at the training's size and at four times its area. That asks for the right power
and not for shapes: Gaussian textures with the spectrum of real ones stand beside, and they come first by this figure.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

import tinygen as tg
from tinygen.data import Dataset
from tinygen.data.selection import subset
from tinygen.models import TextureGANStep, games
from tinygen.networks.fully_convolutional import TextureGenerator
from tinygen.networks.patchgan import PatchGAN
from tinygen.studies.spectra import radial_spectrum, random_phase, spectrum_error
from tinygen.training import aside, draw_powers

from .baselines import Baseline
from .recipe import Given, recipe
from .study import Findings, Rows, Sheet, Trained, generator, images, study

FIGURES = {1: "spectrum_error", 2: "spectrum_error_4x"}  # at so many times the training's sides
LEAST = 4  # pixels a side, of what has a spectrum
MADE = {1: 100, 2: 25}  # pictures that a spectrum is taken of
SHOWN = 8  # of a picture


# ---------------------------------------------------------------------------------- figures and baselines


def of_spectra(step: Any, batches: Iterable[tuple]) -> dict[str, float]:
    """spectrum_error and spectrum_error_4x: samples of the training's size, and of twice its sides, by test images.

    {} for test images that have none: flat ones, and those below 4 pixels a side.
    """
    real = np.concatenate([x.cpu().numpy() for x, *_ in batches])
    height, width = real.shape[2:]
    if min(height, width) < LEAST or not np.ptp(real, (2, 3)).any():
        return {}
    made = {1: step.sample(MADE[1]), 2: step.sample(MADE[2], (2 * height, 2 * width))}
    return {FIGURES[k]: spectrum_error(real, images.cpu().numpy()) for k, images in made.items()}


def real_spectrum(figure: str) -> Any:
    """A baseline: the error of training images, cut from another part of the picture: what a perfect generator has."""

    def fitted(dataset: Dataset, arguments: Mapping[str, Any]) -> Baseline:
        error = spectrum_error(dataset.floats("test"), dataset.floats("train"))
        return Baseline(figure, "real training images", error, floor=True)

    fitted.__name__ = f"real_spectrum({figure})"  # under which the figure is kept in the cache
    return fitted


def shapeless(figure: str) -> Any:
    """A baseline: the error of Gaussian textures, at four times the area, that have training images' spectra."""

    def fitted(dataset: Dataset, arguments: Mapping[str, Any]) -> Baseline | None:
        height, width = dataset.shape[1:]
        if height != width:
            return None
        error = spectrum_error(dataset.floats("test"), _shapeless(dataset, np.random.default_rng(0)))
        return Baseline(figure, "Gaussian textures of their spectrum", error)

    fitted.__name__ = f"shapeless({figure})"
    return fitted


def _shapeless(dataset: Dataset, draw: np.random.Generator) -> np.ndarray:
    train = dataset.floats("train", subset(dataset.count("train"), MADE[2]))
    return random_phase(train, (2 * dataset.shape[1], 2 * dataset.shape[2]), draw)


def white(figure: str) -> Any:
    """A baseline: the error of white noise of the training images' variance."""

    def fitted(dataset: Dataset, arguments: Mapping[str, Any]) -> Baseline:
        real = dataset.floats("test")
        draw = np.random.default_rng(0)
        noise = dataset.floats("train").std() * draw.standard_normal((MADE[1], *real.shape[1:]), np.float32)
        return Baseline(figure, "white noise", spectrum_error(real, noise))

    fitted.__name__ = f"white({figure})"
    return fitted


TRIVIAL = tuple(make(figure) for figure in FIGURES.values() for make in (real_spectrum, shapeless, white))


# ---------------------------------------------------------------------------------- the recipe


@recipe(
    "textures of any size: one code in training, maps of codes in sampling", lectures=(0,), data="fibres",
    baselines=TRIVIAL, epochs=2, batch_size=32, drop_last=True,
    small={"channels": (16, 32), "depth": 1}, gpu={"channels": (64, 128, 256, 512), "width": 64},
    tiny={"channels": (3, 4), "latent": 4, "width": 2, "depth": 1},
)  # fmt: skip
def texture_gan(
    given: Given, channels: Sequence[int] = (16, 32, 64, 128), latent: int = 64, width: int = 16, depth: int = 3,
    lr: float = 2e-4,
) -> TextureGANStep:  # fmt: skip
    """channels: of the generator, from the picture back to the map; each doubles the size
    latent: numbers of a code
    width: planes of the discriminator's first layer
    depth: of the discriminator, which judges squares of 16, 34 or 70 pixels at depth 1, 2, 3
    lr: learning rate of both players
    """
    return TextureGANStep(
        TextureGenerator(given.shape, channels, latent), PatchGAN(given.shape, width, depth),
        games.non_saturating(), latent=latent, lr=lr, figures=(of_spectra,), steps=given.steps,
    )  # fmt: skip


# ---------------------------------------------------------------------------------- the study


def textured(shape: Sequence[int], classes: Sequence[str], data: str) -> str | None:
    """Why the study refuses: points, or images that are too small for a spectrum."""
    if images(shape, classes, data) or min(shape[1:]) >= LEAST:
        return images(shape, classes, data)
    return f"a spectrum is taken of images of {LEAST} pixels a side or more; name another run, or other data"


@study(
    "textures of any size: spectra of real and made ones, and a large picture", on=("texture-gan",), lectures=(0,),
    tiny={"pictures": 4, "height": 96, "width": 160}, least={"pictures": 2}, asks=textured,
)  # fmt: skip
def texture_size(trained: Trained, pictures: int = 200, height: int = 384, width: int = 576) -> Findings:
    """Radial spectra of samples at the training's size and at four times its area, beside those of real images, of
    Gaussian textures and of white noise; each judged by the test images and by the training images, which come from
    another part of a picture: what is learned from these cannot come nearer to the test images than they are.

    pictures: samples of the training's size; a quarter as many at four times its area
    height: of the large picture, in pixels
    width: of the large picture, in pixels
    """
    step, dataset = trained.step, trained.dataset
    real = {split: dataset.floats(split) for split in ("test", "train")}
    draw, (h, w) = generator(), dataset.shape[1:]
    sizes = {1: (h, w), 2: (2 * h, 2 * w)}
    counts = {1: pictures, 2: max(1, pictures // 4)}
    with aside(step, int(draw.integers(2**31))):
        made = {1: step.sample(counts[1]).cpu(), 2: step.sample(counts[2], sizes[2]).cpu()}
        large = step.sample(1, (height, width)).cpu()
    some = real["train"][subset(len(real["train"]), counts[2])]
    noise = real["train"].std() * draw.standard_normal((counts[1], *dataset.shape))
    kinds = {
        "real, training": real["train"], "made": made[1].numpy(), "made, 4 x area": made[2].numpy(),
        "white noise": noise,
    }  # fmt: skip
    if h == w:
        kinds["Gaussian, 4 x area"] = random_phase(some, sizes[2], draw)
    table: list[dict[str, Any]] = [
        {"texture": name, "error, test": spectrum_error(real["test"], images),
         "error, training": spectrum_error(real["train"], images), "pictures": len(images)}
        for name, images in kinds.items()
    ]  # fmt: skip
    found = {row["texture"]: row for row in table}
    numbers = {
        "spectrum_error": found["made"]["error, test"], "spectrum_error_4x": found["made, 4 x area"]["error, test"],
        "spectrum_learned": found["made"]["error, training"],
        "spectrum_learned_4x": found["made, 4 x area"]["error, training"],
        "spectrum_real": found["real, training"]["error, test"],
    }  # fmt: skip
    shown = {
        "training_size": Rows([tg.tensor(real["test"][:SHOWN]), made[1][:SHOWN]], ("real", "made")),
        "four_times_the_area": Sheet(made[2][: SHOWN // 2], SHOWN // 2), "large": large,
    }  # fmt: skip
    return Findings(numbers, {"spectra": _draw_spectra(real, made, min(h, w))} | shown, table)


def _draw_spectra(real: Mapping[str, np.ndarray], made: Mapping[int, tg.Tensor], side: int) -> Any:
    """A picture: the radial spectra of real images as broken lines, and of samples at both sizes."""
    curve = lambda images: radial_spectrum(images, side)[:2]
    curves = {f"made, {k * k} x area": curve(images.numpy()) for k, images in made.items()}
    guides = {f"real, {split}": curve(images) for split, images in real.items()}
    return draw_powers(curves, guides, "cycles per pixel", "power", "radial spectrum")
