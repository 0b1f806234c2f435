"""Pictures of the user's through a Step: at the size it was trained at, or at any, large ones in tiles.

    made_of(step, path, shape).save("out.png")
    applied(step.apply, step, picture)      # (1, C, H, W) float32 in [0, 1] to (1, C', scale H, scale W)

A side that is no multiple of what the network halves is mirrored at its end, and the result cut. A tile is computed
with a margin as wide as the network looks, and the margin cut off: so the tiles are the whole, to rounding. A network
that looks everywhere gets the whole picture at once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

import tinygen as tg
from tinygen.data import as_float
from tinygen.data.folder import read_picture, read_whole
from tinygen.data.pixels import in_channels
from tinygen.errors import UserError
from tinygen.step import AnySize, Step
from tinygen.training import aside, save_picture, track
from tinygen.training.pictures import save_array, save_pillow

from .settings import RunError

TILE = 256  # pixels a side, without the margin
LARGE = 320  # pixels: a side of each of two pictures beside each other


class Made(NamedTuple):
    """What became of one picture. `seen`: the picture (1, C, H, W), where it is shown beside the result."""

    result: np.ndarray
    size: str  # of the picture, width x height
    seen: np.ndarray | None = None

    @property
    def what(self) -> str:
        """In words, what the file shows."""
        _, _, height, width = self.result.shape
        return f"made {width}x{height}" if self.seen is None else "and what becomes of it"

    def save(self, target: Path) -> None:
        """Writes numbers (.npy), or a PNG: the picture and the result side by side, or the result pixel by pixel."""
        if target.suffix.lower() == ".npy":
            save_array(self.result, target)
        elif self.seen is not None:
            save_picture((self.seen, self.result), target, side=LARGE)
        else:
            from PIL import Image

            pixels = np.rint(self.result[0].clip(0, 1).transpose(1, 2, 0) * 255).astype(np.uint8)
            save_pillow(Image.fromarray(pixels[:, :, 0] if pixels.shape[2] == 1 else pixels), target)


def made_of(step: Step, path: Path, shape: Sequence[int]) -> Made:
    """What a Step makes of the picture of a file; `shape` is that of its training's images.

    A Step that takes any size gets the picture as it is, grey ones in as many channels as it takes. Raises DataError
    for a file that is no whole picture, RunError for a picture that the Step cannot take.
    """
    limits = step.any_size
    picture = read_picture(path, shape) if limits is None else picture_for(limits, path)
    size = f"{picture.shape[3]}x{picture.shape[2]}"
    with aside(step, 0):
        if limits is None:
            return Made(_computed(step.apply, step, picture), size, picture)
        try:
            return Made(applied(step.apply, step, picture), size)
        except UserError as error:  # a hole that does not fit, too
            raise RunError(f"{path}: {error}") from error


def picture_for(limits: AnySize, path: Path) -> np.ndarray:
    """The picture of a file as it is, (1, C, H, W) float32 in [0, 1]; a grey one in as many channels as are taken."""
    pixels = read_whole(path)
    planes = pixels.reshape(*pixels.shape[:2], -1).transpose(2, 0, 1)[None]
    if planes.shape[1] < limits.channels:
        planes = in_channels(planes, limits.channels)
    return as_float(np.ascontiguousarray(planes))


def applied(function: Callable, step: Any, picture: np.ndarray, tile: int = TILE) -> np.ndarray:
    """What a function of a Step's, such as its `apply`, makes of one picture (1, C, H, W).

    Raises RunError for a picture that the Step cannot take.
    """
    limits, (_, channels, height, width) = step.any_size, picture.shape
    _check(limits, channels, height, width)
    ends = [(0, -side % limits.multiple) for side in (height, width)]
    whole = np.pad(picture, ((0, 0), (0, 0), *ends), mode="symmetric")
    if limits.reach is None or max(whole.shape[2:]) <= tile:
        made = _computed(function, step, whole)
    else:
        made = _in_tiles(function, step, whole, limits, tile)
    return made[:, :, : limits.scale * height, : limits.scale * width]


def _check(limits: AnySize, channels: int, height: int, width: int) -> None:
    if channels != limits.channels:
        raise RunError(f"the picture has {channels} channels, the run takes {limits.channels}; "
                       "convert it to grey first")  # fmt: skip
    if min(height, width) < limits.least:
        raise RunError(f"the picture has {width}x{height} pixels, the run takes {limits.least} a side or more; "
                       "enlarge it first")  # fmt: skip


def _in_tiles(function: Callable, step: Any, whole: np.ndarray, limits: AnySize, tile: int) -> np.ndarray:
    step_of = lambda pixels: -(-pixels // limits.multiple) * limits.multiple  # windows lie as the whole is halved
    assert limits.reach is not None
    core, margin, scale = step_of(tile), step_of(limits.reach), limits.scale
    made: np.ndarray | None = None
    places = list(product(*(_windows(side, core, margin) for side in whole.shape[2:])))
    for (top, bottom, start, end), (left, right, first, last) in track(places, "tiles"):
        piece = _computed(function, step, whole[:, :, start:end, first:last])
        if made is None:
            made = np.empty((1, piece.shape[1], *(scale * side for side in whole.shape[2:])), np.float32)
        made[:, :, scale * top : scale * bottom, scale * left : scale * right] = piece[
            :, :, scale * (top - start) : scale * (bottom - start), scale * (left - first) : scale * (right - first)
        ]
    assert made is not None
    return made


def _windows(side: int, core: int, margin: int) -> Iterator[tuple[int, int, int, int]]:
    """(first, end, first with margin, end with margin) of each tile along a side."""
    for first in range(0, side, core):
        end = min(side, first + core)
        yield first, end, max(0, first - margin), min(side, end + margin)


def _computed(function: Callable, step: Any, picture: np.ndarray) -> np.ndarray:
    return function(tg.tensor(np.ascontiguousarray(picture), device=step.device)).cpu().numpy()
