"""Where a picture is unlike what a run has learned: a score, a mask at a rate of false alarms, an overlay (lecture 0).

    level = threshold(folder, 0.01)          # what the scores of 1 % of normal pixels exceed
    marked_in(step, path, level).save("out.png")

    mask(c) = [score(c) > level]

The level is a quantile of the scores of those normal training images that the run has not learned from. It is kept in
the run's threshold.json, beside what it was computed of; other weights ask for another one.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

import tinygen as tg
from tinygen.data import Dataset
from tinygen.step import Step
from tinygen.training import aside, track
from tinygen.training.pictures import panels, picture_of, save_array, save_pillow
from tinygen.training.whole import whole

from .run import data_of, load_run
from .settings import RunError, given_of, read_settings, writing
from .stored import trace
from .tiles import LARGE, applied, made_of, picture_for

RATE, FILE = 0.01, "threshold.json"
PIECE = 50  # images that are scored at once


class Level(NamedTuple):
    """A threshold of scores: a share `rate` of `pixels` normal ones lies above it."""

    value: float
    rate: float
    pixels: int


class Marked(NamedTuple):
    """What a run says of one picture (1, C, H, W): the score of each of its pixels, (1, 1, H, W)."""

    picture: np.ndarray
    scores: np.ndarray
    level: Level

    @property
    def size(self) -> str:
        """Of the picture, width x height."""
        _, _, height, width = self.picture.shape
        return f"{width}x{height}"

    @property
    def mask(self) -> np.ndarray:
        """True where a pixel is an anomaly, (1, 1, H, W)."""
        return self.scores > self.level.value

    @property
    def what(self) -> str:
        """In words, what was found."""
        share, rate = self.mask.mean(), self.level.rate
        verdict = "anomalous" if share > 2 * rate else "normal"  # more than the false alarms that are to be expected
        return (f"score {self.scores.max():.4g}, threshold {self.level.value:.4g}; {share:.2%} of its pixels are above "
                f"it, of normal ones {rate:.3g}: {verdict}")  # fmt: skip

    def save(self, target: Path) -> None:
        """Writes the scores (.npy), or a PNG: the picture, its scores and the overlay side by side."""
        if target.suffix.lower() == ".npy":
            save_array(self.scores, target)
            return
        shown = (self.picture, scaled(self.scores, self.level), overlay(self.picture, self.mask))
        titles = ("the picture", "score (grey: the threshold)", "above the threshold")
        pictures = [picture_of(tg.tensor(np.ascontiguousarray(one, np.float32)), side=LARGE) for one in shown]
        save_pillow(panels(pictures, titles), target)


def scaled(scores: np.ndarray, level: Level) -> np.ndarray:
    """Scores (N, 1, H, W) as brightness: 0 black, the threshold grey, twice that white."""
    return np.clip(scores / (2 * level.value), 0, 1)


def overlay(picture: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Pictures (N, C, H, W) in grey, and in red where the mask (N, 1, H, W) is True: (N, 3, H, W)."""
    grey = picture.mean(1, keepdims=True)
    red = np.concatenate([0.5 + 0.5 * grey, 0.5 * grey, 0.5 * grey], 1)
    return np.where(mask, red, grey)


def scores_of(step: Step, images: np.ndarray, function: Callable | None = None) -> np.ndarray:
    """The scores (N, 1, H, W) of images (N, C, H, W) of the training's size, or what another function of them gives."""
    of = function or step.scores
    with aside(step, 0):
        found = [of(tg.tensor(images[i : i + PIECE], device=step.device)).cpu().numpy()
                 for i in track(range(0, len(images), PIECE), "scores")]  # fmt: skip
    return np.concatenate(found)


def level_of(step: Step, dataset: Dataset, rate: float) -> Level:
    """The threshold that a share `rate` of the pixels of held-back normal images exceeds."""
    if not 0 < rate < 1:
        raise RunError(f"the rate of false alarms lies between 0 and 1, it is {rate:g}; 0.01 is usual")
    found = scores_of(step, dataset.divided()[1].floats("train"))
    return Level(float(np.quantile(found, 1 - rate)), rate, found.size)


def threshold(folder: Path, rate: float = RATE, step: Step | None = None) -> Level:
    """`level_of` a run, as its threshold.json says where that is of the same weights; else computed and kept there."""
    sha, path = trace(folder)["sha"], folder / FILE
    kept = _read(path)
    if kept.get("sha") == sha and f"{rate:g}" in kept["values"]:
        return Level(kept["values"][f"{rate:g}"], rate, kept["pixels"])
    settings = read_settings(folder)
    level = level_of(step or load_run(folder), data_of(settings), rate)
    values = kept["values"] if kept.get("sha") == sha else {}
    content = {"sha": sha, "pixels": level.pixels, "values": values | {f"{rate:g}": level.value}}
    with writing(path), whole(path) as temporary:
        temporary.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    return level


def _read(path: Path) -> Mapping[str, Any]:
    """What the file holds; nothing where it is missing or none of ours."""
    try:
        content = json.loads(path.read_bytes())
        numbers = [*content["values"].values(), content["pixels"]]
        return content if all(abs(n) < math.inf for n in numbers) else {}
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        return {}


def marked_in(step: Step, path: Path, level: Level) -> Marked:
    """What a Step says of the picture of a file, of any size, large ones in tiles.

    Raises DataError for a file that is no whole picture, RunError for a picture that the Step cannot take.
    """
    assert step.any_size is not None
    picture = picture_for(step.any_size, path)
    with aside(step, 0):
        try:
            return Marked(picture, unmirrored(step, picture), level)
        except RunError as error:
            raise RunError(f"{path}: {error}") from error


def unmirrored(step: Step, picture: np.ndarray) -> np.ndarray:
    """The scores (1, 1, H, W) of one picture (1, C, H, W), of any size, without a pixel that is not the picture's.

    Where a side is no multiple of a code's m pixels, `applied` mirrors its end, and a texture in the mirror is an
    anomaly. So the side's last m pixels are scored in a cut that ends with the picture. Sides below m are mirrored.
    """
    assert step.any_size is not None
    found = np.empty((1, 1, *picture.shape[2:]), np.float32)
    rows, columns = (list(_cuts(side, step.any_size.multiple)) for side in picture.shape[2:])
    for (top, bottom, row), (left, right, column) in product(rows, columns):
        piece = applied(step.scores, step, picture[:, :, top:bottom, left:right])
        found[:, :, row:bottom, column:right] = piece[:, :, row - top :, column - left :]
    return found


def _cuts(side: int, multiple: int) -> Iterator[tuple[int, int, int]]:
    """(first, end, the first that counts) of cuts that cover a side; the last counts where two do."""
    rest = side % multiple
    if not rest or side < multiple:
        yield 0, side, 0
    else:
        yield 0, side - rest, 0
        yield rest, side, side - multiple


def looked_at(step: Step, folder: Path, rate: float | None = None) -> Callable:
    """A function of a picture's file: `marked_in` of a run that finds anomalies, else `made_of`.

    Raises RunError for a run that does neither, and for a rate where nothing is found.
    """
    if step.offers("scores"):
        return partial(marked_in, step, level=threshold(folder, RATE if rate is None else rate, step))
    if not step.offers("apply"):
        raise RunError(f"{folder}: {type(step).__name__} does not turn images into images; see: tinygen list")
    if rate is not None:
        raise RunError(f"{folder} finds no anomalies; leave --rate {rate:g} out")
    return partial(made_of, step, shape=given_of(read_settings(folder)).shape)
