"""What restored and translated images are worth: figures over a whole test set, and what is reached without a network.

    step = RestorationStep(..., figures=(of_images(given), in_holes))

A figure is a function of (step, batches) that a Step is handed; a baseline, one of (data set, the recipe's arguments).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

import tinygen as tg
from tinygen import metrics
from tinygen.data import Dataset, as_float, corruptions
from tinygen.data.varied import untinted
from tinygen.nn import functional as F
from tinygen.step import Step

from .baselines import DIGITS, Baseline
from .recipe import Given

GREY = 0.5  # saturation below which an image has no hue
SMALLEST = 11  # pixels of SSIM's window
INTERPOLATIONS = ("nearest", "bilinear", "bicubic")


# ---------------------------------------------------------------------------------- figures


def of_images(given: Given) -> Callable:
    """ssim; cfid where the frozen network knows the images' shape; of digits accuracy, the share recognised.

    These two are judged by the network that a perceptual content looks through: it flatters what learned by that.
    """
    known = metrics.scorable(given.shape)
    digits = known and tuple(given.classes) == DIGITS

    def figures(step: Step, batches: Iterable[tuple]) -> dict[str, float]:
        pairs = [(step.restored(x), x, labels) for x, labels, *_ in batches]  # type: ignore[attr-defined]
        restored, real = (np.concatenate([as_array(pair[i]) for pair in pairs]) for i in (0, 1))
        found = {}
        if min(given.shape[1:]) >= SMALLEST:
            found["ssim"] = metrics.ssim(restored, real)
        if known:
            found |= distance(restored, real)
        if digits:
            labels = np.concatenate([as_array(pair[2]) for pair in pairs])
            found["accuracy"] = metrics.gan_test(restored, labels)[0]
        return found

    return figures


def distance(made: np.ndarray, real: np.ndarray) -> dict[str, float]:
    """{"cfid": Fréchet distance of features}; {} where there are too few images for one."""
    features = [metrics.features(images)[0] for images in (made, real)]
    enough = len(made) >= 2 * features[0].shape[1]
    return {"cfid": metrics.frechet_from_features(*features)} if enough else {}


def of_kinds(step: Any, batches: Iterable[tuple]) -> dict[str, float]:
    """cfid of G(x) from y and of F(y) from x, their mean; {} for images that no frozen network knows, or too few."""
    return _between([(x, y, step.forth(x), step.back(y)) for x, y in batches])


def of_refined(step: Any, batches: Iterable[tuple]) -> dict[str, float]:
    """cfid of refined images from real ones; {} for images that no frozen network knows, or too few."""
    return _between([(x, y, step.apply(x)) for x, y in batches])


def _between(batches: list[tuple]) -> dict[str, float]:
    x, y, *made = (np.concatenate([as_array(part) for part in parts]) for parts in zip(*batches))
    if not metrics.scorable(x.shape[1:]):
        return {}
    apart = [distance(images, real) for images, real in zip(made, (y, x))]
    return {"cfid": float(np.mean([one["cfid"] for one in apart]))} if all(apart) else {}


def as_they_are(dataset: Dataset, arguments: Mapping[str, Any]) -> Baseline | None:
    """A baseline: the distance of both kinds of images, which nothing has translated."""
    if not metrics.scorable(dataset.shape):
        return None
    first, second = (as_float(np.asarray(images)) for images in dataset.split("test"))  # of a pair
    found = distance(first, second)
    return Baseline("cfid", "images as they are", found["cfid"]) if found else None


def in_holes(step: Any, batches: Iterable[tuple]) -> dict[str, float]:
    """hole_mse: squared error per value of hidden pixels, over the whole test set."""
    error = count = 0.0
    for x, *_ in batches:
        seen = step.degrade(x)
        hidden = seen[:, -1:].expand(*x.shape)
        restored = step.generator(seen).clamp(0, 1)
        error += ((restored - x).square() * hidden).sum().item()
        count += hidden.sum().item()
    return {"hole_mse": error / max(count, 1.0)}


def saturation(step: Step, batches: Iterable[tuple]) -> dict[str, float]:
    """saturation: mean over the test images of that of all light of each: 1 for one hue, 0 for grey."""
    found = [saturations(as_array(step.restored(x))) for x, *_ in batches]  # type: ignore[attr-defined]
    return {"saturation": float(np.concatenate(found).mean())}


def saturations(images: np.ndarray) -> np.ndarray:
    """(max - min) / max over the channels of each image's light, (N,); 0 where it is dark."""
    light = images.sum((2, 3), dtype=np.float64)
    return (light.max(1) - light.min(1)) / np.maximum(light.max(1), 1e-12)


def hue_shares(images: np.ndarray, hues: Sequence[float]) -> np.ndarray:
    """The share of images (N, 3, H, W) that belong to each hue: that is the nearest, and the image is not grey."""
    found = untinted(images)[1]
    apart = abs((found[:, None] - np.array(hues) + 0.5) % 1 - 0.5)
    coloured = saturations(images) >= GREY
    return np.array([(coloured & (apart.argmin(1) == k)).mean() for k in range(len(hues))])


def as_array(tensor: Any) -> np.ndarray:
    """A tensor's values."""
    return tensor.detach().cpu().numpy()


# ---------------------------------------------------------------------------------- baselines


def upsampled(images: tg.Tensor, mode: str, size: Sequence[int]) -> tg.Tensor:
    """Images of that size, by "nearest", "bilinear" or "bicubic" (Keys' a = -1/2), in [0, 1]."""
    return F.interpolate(images, size=tuple(size), mode=mode, a=-0.5).clamp(0, 1)


def larger(factor: int) -> tuple[Callable, ...]:
    """Baselines: the PSNR of test images that are made larger again by each kind of interpolation."""
    return tuple(_psnr_of(mode, factor) for mode in INTERPOLATIONS)


def _psnr_of(mode: str, factor: int) -> Callable:
    def fitted(dataset: Dataset, arguments: Mapping[str, Any]) -> Baseline:
        shrink = corruptions.downscaled(factor)
        found = []
        for x, *_ in dataset.batches(500, split="test", shuffle=False).epoch(0):
            made = upsampled(shrink(tg.tensor(x)), mode, x.shape[2:]).numpy()
            found.append(psnrs(made, x))
        return Baseline("psnr", f"{mode} interpolation", float(np.concatenate(found).mean()))

    fitted.__name__ = f"psnr_of({mode}, {factor})"  # under which the figure is kept in the cache
    return fitted


def psnrs(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """PSNR of each image, (N,), at most 100 dB."""
    error = ((x.astype(np.float64) - y) ** 2).reshape(len(x), -1).mean(1)
    return -10 * np.log10(np.maximum(error, 1e-10))


def filled(dataset: Dataset, mask: np.ndarray) -> np.ndarray:
    """The test images, the mean training image where mask (1, 1, H, W) is 1."""
    mean = dataset.floats("train").mean(0, keepdims=True)
    return np.where(mask > 0.5, mean, dataset.floats("test"))


def mean_fill(masks: Mapping[str, Callable]) -> Callable:
    """A baseline: the error in the hole where the mean training image fills it. None for masks that are drawn."""

    def fitted(dataset: Dataset, arguments: Mapping[str, Any]) -> Baseline | None:
        mask = _standing(masks, dataset, arguments)
        if mask is None:
            return None
        error = (filled(dataset, mask) - dataset.floats("test")) ** 2
        value = error.sum(dtype=np.float64) / (mask.sum() * len(error) * error.shape[1])
        return Baseline("hole_mse", "the mean image in the hole", float(value))

    fitted.__name__ = "mean_fill"  # under which the figure is kept in the cache
    return fitted


def recognised_fill(masks: Mapping[str, Callable]) -> Callable:
    """A baseline: the share of digits recognised where the mean training image fills the hole."""

    def fitted(dataset: Dataset, arguments: Mapping[str, Any]) -> Baseline | None:
        mask, labels = _standing(masks, dataset, arguments), dataset.test_labels
        if mask is None or labels is None or not _of_digits(dataset):
            return None
        made = filled(dataset, mask).astype(np.float32)
        return Baseline("accuracy", "the mean image in the hole", metrics.gan_test(made, labels)[0])

    fitted.__name__ = "recognised_fill"  # under which the figure is kept in the cache
    return fitted


def recognised_truth(dataset: Dataset, arguments: Mapping[str, Any]) -> Baseline | None:
    """A baseline: the share of whole test digits recognised."""
    if dataset.test_labels is None or not _of_digits(dataset):
        return None
    share = metrics.gan_test(dataset.floats("test"), dataset.test_labels)[0]
    return Baseline("accuracy", "the images themselves", share, floor=True)


def outline_error(dataset: Dataset, arguments: Mapping[str, Any]) -> Baseline:
    """A baseline: the absolute error of the outlines themselves, in every channel."""
    made = _outlines(dataset, arguments)
    return Baseline("l1", "the outlines themselves", float(abs(made - dataset.floats("test")).mean(dtype=np.float64)))


def recognised_outlines(dataset: Dataset, arguments: Mapping[str, Any]) -> Baseline | None:
    """A baseline: the share of digits recognised by their outlines."""
    if dataset.test_labels is None or not _of_digits(dataset):
        return None
    share = metrics.gan_test(_outlines(dataset, arguments), dataset.test_labels)[0]
    return Baseline("accuracy", "the outlines themselves", share)


def _outlines(dataset: Dataset, arguments: Mapping[str, Any]) -> np.ndarray:
    return corruptions.outlines(arguments["threshold"])(tg.tensor(dataset.floats("test"))).numpy()


def _standing(masks: Mapping[str, Callable], dataset: Dataset, arguments: Mapping[str, Any]) -> np.ndarray | None:
    """The mask of a hole that is the same in every image, (1, 1, H, W); None of one that is drawn."""
    mask = masks[arguments["mask"]](arguments["size"])(tg.zeros(2, *dataset.shape))
    return mask.numpy() if len(mask) == 1 else None


def _of_digits(dataset: Dataset) -> bool:
    return metrics.scorable(dataset.shape) and tuple(dataset.classes) == DIGITS
