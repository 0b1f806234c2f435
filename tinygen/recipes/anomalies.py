"""BiGAN, and anomalies that it finds (lecture 0).

    tinygen train bigan --data mnist                       # G, its inverse E, and D that sees images with codes
    tinygen study anomaly --data mnist-only-8              # every score of the lecture, and what needs no game
    tinygen train fully-convolutional-bigan --data fibres  # a score for each pixel
    tinygen apply runs/fully-convolutional-bigan-001 picture.png
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import product
from typing import Any

import numpy as np

import tinygen as tg
from tinygen import metrics, observe
from tinygen.data import Dataset
from tinygen.data.drawn import DEFECTS
from tinygen.models import AnomalyMapStep, BiGANStep, games
from tinygen.networks.dcgan import DCGenerator, spectrally_normalised
from tinygen.networks.fully_convolutional import MapCodeEncoder, MapCodeGenerator, MapDiscriminator
from tinygen.networks.joint import DCEncoder, JointDiscriminator
from tinygen.step import Step
from tinygen.studies import anomaly_patches, latents
from tinygen.training import aside

from . import baselines, restored
from .baselines import Baseline
from .images_compared import computed
from .marked import Level, overlay, scaled, scores_of, threshold
from .recipe import Given, all_batches, recipe
from .settings import RunError, Settings
from .study import Findings, Rows, Trained, study

# ---------------------------------------------------------------------------------- N1: the encoder plays beside G


def nearest_codes(step: Step, batches: Iterable[tuple]) -> dict[str, float]:
    """code_1nn: 1-NN among the codes E(s) of the test images themselves: the share whose nearest has their label.

    Only of data with labels, two of a kind at least.
    """
    pairs = [(restored.as_array(step.encode(s)), labels) for s, labels in batches]  # type: ignore[attr-defined]
    if any(labels is None or labels.ndim != 1 for _, labels in pairs):  # masks are no labels
        return {}
    labels = np.concatenate([restored.as_array(labels) for _, labels in pairs])
    share = _nearest(np.concatenate([codes for codes, _ in pairs]), labels)
    return {} if share is None else {"code_1nn": share}


def nearest_pixels(dataset: Dataset, arguments: Mapping[str, Any]) -> Baseline | None:
    """A baseline: 1-NN among the pixels of the test images; None without labels."""
    images = dataset.floats("test")
    labels = dataset.batches(len(images), split="test", shuffle=False).at(0, 0)[1]
    if labels is None or labels.ndim != 1:
        return None
    share = _nearest(images.reshape(len(images), -1), labels)
    return None if share is None else Baseline("code_1nn", "1-NN on pixels", share)


def _nearest(rows: np.ndarray, labels: np.ndarray) -> float | None:
    """The share of rows whose nearest other row has their label; None where no two have one."""
    return metrics.precision_at_1(rows, labels) if len(np.unique(labels)) < len(labels) else None


@recipe(
    "bidirectional GAN: an encoder that inverts the generator (Donahue et al. 2017)", lectures=(0,),
    baselines=(baselines.real_images, baselines.pixel_noise, nearest_pixels), epochs=10, batch_size=64, drop_last=True,
    small={"epochs": 150, "batch_size": 32, "channels": (32, 64), "latent": 16}, gpu={"channels": (64, 128)},
    tiny={"channels": (4, 6), "latent": 4, "hidden": 8},
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
    judge = JointDiscriminator(given.pixels, channels, latent, hidden)
    return BiGANStep(
        DCGenerator(given.pixels, channels, latent), DCEncoder(given.pixels, channels, latent),
        judge.apply(spectrally_normalised), games.non_saturating(), (nearest_codes,), code=(latent,), weight=weight,
        lr=lr,
    )  # fmt: skip


@study(
    "what the encoder of a BiGAN knows: 1-NN on its codes, and z again from G(z)", on=("bigan",), lectures=(0,),
    least={"shown": 1}, exact=True,
)  # fmt: skip
def bigan_codes(trained: Trained, shown: int = 10) -> Findings:
    """The share of test images whose nearest training image, by codes E(s) and by pixels, has their label.

    mse: of G(E(s)) on the test images; code error: mean (E(G(z)) - z)^2 of as many samples, 2 where E says nothing of
    z, since both have variance 1.

    shown: images in the picture
    """
    step, dataset = trained.step, trained.dataset
    images, labels, seen = dataset.floats("test"), dataset.test_labels, dataset.train_labels
    codes = computed(trained, step.encode, images)
    z = step.noise(len(images)).cpu().numpy()
    made = computed(trained, step.decode, z)
    around = computed(trained, step.encode, made)
    again = computed(trained, step.restored, images)
    numbers = {"mse": float(((again - images) ** 2).mean()), "code_error": float(((around - z) ** 2).mean())}
    if labels is not None and seen is not None and np.isin(labels, seen).all():
        there = np.flatnonzero(seen >= 0)  # -1: the label is unknown
        known = dataset.floats("train")[there]
        flat = lambda x: x.reshape(len(x), -1)
        numbers |= {
            "nearest_neighbour": latents.one_nearest_neighbour(
                computed(trained, step.encode, known), seen[there], codes, labels),
            "pixel_nearest_neighbour": latents.one_nearest_neighbour(flat(known), seen[there], flat(images), labels),
        }  # fmt: skip
    rows = {"s": images[:shown], "G(E(s))": again[:shown], "G(z)": made[:shown],
            "G(E(G(z)))": computed(trained, step.decode, around[:shown])}  # fmt: skip
    return Findings(numbers, {"codes": Rows([tg.tensor(row) for row in rows.values()], list(rows))})


@recipe(
    "BiGAN with lecture 0's penalty on what comes back, for anomalies", like=bigan, apart=True, epochs=3,
    small={"epochs": 150, "batch_size": 16, "latent": 8}, tiny={"channels": (4, 6), "latent": 4, "hidden": 8},
)  # fmt: skip
def bigan_penalised(
    given: Given, channels: Sequence[int] = (32, 64), latent: int = 12, hidden: int = 256, weight: float = 100.0,
    lr: float = 4e-4,
) -> BiGANStep:  # fmt: skip
    """latent: numbers of a code; few, so that what is unlike the training does not come back"""
    return bigan(given, channels, latent, hidden, weight, lr)


# ---------------------------------------------------------------------------------- N5: a score for each pixel

SQUARE, COMPONENTS = 8, 8  # of the PCA that a net is measured by: of 8, 16 and 32 axes the best on both textures
NO_MASKS = "it needs images with masks of what is an anomaly, such as gratings or fibres"


def has_masks(shape: Sequence[int], classes: Sequence[str], data: str) -> str | None:
    """Why data cannot be looked at: none but drawn textures come with masks."""
    return None if tuple(classes) == DEFECTS else f"{NO_MASKS}, and {data} has none"


def without_held(dataset: Dataset, settings: Settings) -> Any:
    """Nine of ten training images: the others are held back, for a threshold on what is normal."""
    learned = dataset.divided()[0]
    return all_batches(learned, replace(settings, batch_size=min(settings.batch_size, learned.count("train"))))


def squares(dataset: Dataset, arguments: Mapping[str, Any]) -> Baseline | None:
    """A baseline: the pixel AUROC of PCA of 8x8 squares of normal images; None without masks of what is an anomaly."""
    marked, images = _marked(dataset), dataset.floats("test")
    if marked is None or min(images.shape[2:]) < SQUARE:
        return None
    axes = anomaly_patches.axes(dataset.divided()[0].floats("train"), SQUARE)
    scores = anomaly_patches.residuals(axes, images, COMPONENTS)
    return Baseline("pixel_auroc", f"PCA of {SQUARE}x{SQUARE} squares", metrics.auroc(scores.ravel(), marked.ravel()))


def _marked(dataset: Dataset) -> np.ndarray | None:
    """Which pixels of the test images are anomalies, (N, 1, H, W); None where that is unknown, all or nothing."""
    masks = dataset.batches(dataset.count("test"), split="test", shuffle=False).at(0, 0)[1]
    if masks is None or masks.ndim != 4 or not 0 < masks.mean() < 1:
        return None
    return masks > 0.5


def pixels_found(step: Step, batches: Iterable[tuple]) -> dict[str, float]:
    """pixel_auroc of the score over all pixels of all test images, and of each of its terms alone.

    Only of data with masks of what is an anomaly.
    """
    kinds: dict[str, list[np.ndarray]] = {"pixel_auroc": [], "pixel_auroc_judged": [], "pixel_auroc_error": []}
    masks = []
    for images, mask in batches:
        if mask is None or mask.ndim != 4:
            return {}
        judged, error = step.judged(images), step.error(images)  # type: ignore[attr-defined]
        for found, scores in zip(kinds.values(), (step.scores(images), judged, error)):  # type: ignore[attr-defined]
            found.append(restored.as_array(scores).ravel())
        masks.append(restored.as_array(mask).ravel() > 0.5)
    marked = np.concatenate(masks)
    if marked.all() or not marked.any():
        return {}
    return {name: metrics.auroc(np.concatenate(found), marked) for name, found in kinds.items()}


@recipe(
    "anomalies of textures, pixel by pixel: a BiGAN without a dense layer", lectures=(0,), data="gratings",
    batches=without_held, baselines=(squares,), epochs=1, batch_size=16, drop_last=True,
    small={"channels": (16,)}, gpu={"channels": (64, 128, 256)}, tiny={"channels": (4, 6), "latent": 4, "hidden": 8},
)  # fmt: skip
def fully_convolutional_bigan(
    given: Given, channels: Sequence[int] = (16, 32, 64), latent: int = 16, hidden: int = 64, weight: float = 30.0,
    alpha: float = 0.1, window: int = 11, lr: float = 2e-4,
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
        raise ValueError(f"window is an odd number of pixels, such as 11; it is {window}")
    m = 2 ** len(channels)
    if any(side % m for side in given.pixels[1:]):
        sides = "x".join(map(str, given.pixels[1:]))
        raise ValueError(f"images of {sides} pixels cannot be halved {len(channels)} times; give another --size")
    code = (latent, *(side // m for side in given.pixels[1:]))
    judge = MapDiscriminator(given.pixels, channels, latent, hidden)
    return AnomalyMapStep(
        MapCodeGenerator(given.pixels, channels, latent), MapCodeEncoder(given.pixels, channels, latent),
        judge.apply(spectrally_normalised), games.least_squares(), (pixels_found,), code=code, weight=weight,
        alpha=alpha, window=window, lr=lr,
    )  # fmt: skip


@study(
    "a score for each pixel: what finds defects, false alarms, and what patch by patch costs",
    on=("fully-convolutional-bigan",), lectures=(0,), tiny={"components": 4}, least={"components": 1, "shown": 1},
    above={"rate": 0.0},
    asks=has_masks,
)  # fmt: skip
def anomaly_maps(trained: Trained, rate: float = 0.01, components: int = COMPONENTS, shown: int = 8) -> Findings:
    """AUROC of the score over all pixels of the test images, of its two terms, and of PCA of 8x8 squares beside them.

    false alarms: the share of pixels above the threshold of the test images without a defect; the threshold is what
    a share `rate` of the pixels of held-back normal training images exceeds. found: the share of a defect's pixels.
    The table: the whole picture at once, and for each square of a code's pixels a patch as large as the net looks.

    rate: of false alarms, below 1
    components: of PCA
    shown: images in the picture
    """
    step, dataset = trained.step, trained.dataset
    images = dataset.floats("test")
    marked = _marked(dataset)
    if marked is None:
        raise RunError(f"study anomaly-maps: {NO_MASKS}; {trained.folder} is trained on {dataset.name}")
    judged, error = (scores_of(step, images, term) for term in (step.judged, step.error))
    axes = anomaly_patches.axes(dataset.divided()[0].floats("train"), SQUARE)
    kinds = {
        "D": judged, "error": error, "both": step.alpha * judged + (1 - step.alpha) * error,
        "PCA": anomaly_patches.residuals(axes, images, components)[:, None],
    }  # fmt: skip
    found = {name: metrics.auroc(scores.ravel(), marked.ravel()) for name, scores in kinds.items()}
    level = threshold(trained.folder, rate, step)
    above = kinds["both"] > level.value
    normal = ~marked.any((1, 2, 3))
    numbers = {
        "pixel_auroc": found["both"], "pixel_auroc_judged": found["D"], "pixel_auroc_error": found["error"],
        "pixel_auroc_pca": found["PCA"], "defects_found": float(above[marked].mean()),
    }  # fmt: skip
    if normal.any():
        numbers["false_alarms"] = float(above[normal].mean())
    table, costs = _costs(step, images)
    some = np.flatnonzero(~normal)[:shown]
    usual = normal if normal.any() else ~marked
    rows = [images[some], scores_of(step, images[some], step.restored),
            *(scaled(kinds[name][some], Level(float(np.quantile(kinds[name][usual], 1 - rate)), rate, 0))
              for name in kinds), overlay(images[some], above[some]), overlay(images[some], marked[some])]  # fmt: skip
    titles = ["s", "G(E(s))", "(D - 1)^2", "|G(E(s)) - s|", "both", "PCA", "above the threshold", "the truth"]
    pictures = [tg.tensor(np.ascontiguousarray(row, np.float32)) for row in rows]
    return Findings(numbers | costs, {"maps": Rows(pictures, titles)}, table)


def _costs(step: Any, images: np.ndarray) -> tuple[list[dict[str, Any]], dict[str, float]]:
    """Rows of multiplications a pixel and seconds of a picture of four images, at once and patch by patch.

    Of more than four where these are too small to hold one patch.
    """
    m, reach = step.any_size.multiple, step.any_size.reach
    margin = -(-reach // m) * m
    side = max(2, -(-(m + 2 * margin) // min(images.shape[2:])))
    rows_of = [[images[(i * side + j) % len(images)] for j in range(side)] for i in range(side)]
    picture = np.concatenate([np.concatenate(row, 2) for row in rows_of], 1)[None]
    inside = [range(margin, side - margin - m + 1, m) for side in picture.shape[2:]]
    places = list(product(*inside))
    scores = lambda x: restored.as_array(step.scores(tg.tensor(np.ascontiguousarray(x), device=step.device)))

    def patches() -> np.ndarray:
        found = np.zeros((1, 1, *picture.shape[2:]), np.float32)
        for y, x in places:
            patch = picture[:, :, y - margin : y + m + margin, x - margin : x + m + margin]
            found[:, :, y : y + m, x : x + m] = scores(patch)[:, :, margin : margin + m, margin : margin + m]
        return found

    rows, made = [], []
    for name, function, pixels in (("at once", lambda: scores(picture), picture[0, 0].size),
                                   ("patch by patch", patches, len(places) * m * m)):  # fmt: skip
        with aside(step, 0):
            began = time.perf_counter()
            made.append(function())
            seconds = time.perf_counter() - began
            with observe.count_flops() as flops:
                function()
        rows.append({"a picture": name, "multiplications a pixel": flops.total / 2 / pixels,
                     "microseconds a pixel": 1e6 * seconds / pixels})  # fmt: skip
    crop = (..., slice(margin, inside[0][-1] + m), slice(margin, inside[1][-1] + m))
    apart = float(abs(made[0][crop] - made[1][crop]).max())
    whole, each = (row["multiplications a pixel"] for row in rows)
    return rows, {"multiplications_once": whole, "multiplications_patches": each, "patches_apart": apart}
