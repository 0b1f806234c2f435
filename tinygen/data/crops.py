"""Crops of one large picture: a texture or a photograph as a data set.

    data = load("brick", size=64)               # grey 512x512; see NAMES
    data = crops("~/wall.jpg", size=64, count=2000)

Training crops come from one half of the picture, test crops from the other; the longer side is cut in two, and no pixel
is in both. A named picture is looked for in $TINYGEN_DATA/textures/ and /photos/, then in the package that ships it:
scikit-image (pip install 'tinygen[images]'), or scikit-learn for china and flower.
"""

from __future__ import annotations

import os
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from .dataset import Dataset, check_size
from .draws import Draws
from .folder import read_whole
from .found import EXTENSIONS
from .pixels import DataError

DEFAULT_SIZE, COUNT = 64, 2000
TEST_EVERY = 5  # a fifth as many test crops
SCIKIT_IMAGE = ("brick", "grass", "gravel", "astronaut", "camera", "chelsea", "coffee", "coins", "hubble-deep-field",
                "moon", "page", "retina", "rocket")
SCIKIT_LEARN = ("china", "flower")
NAMES = (*SCIKIT_IMAGE, *SCIKIT_LEARN)
FOLDERS = ("textures", "photos")


def crops(picture: str | os.PathLike[str] | np.ndarray, size: int = DEFAULT_SIZE, count: int = COUNT, seed: int = 0,
          name: str | None = None, source: str = "an array") -> Dataset:
    """`count` training crops and a fifth as many test crops: uint8 (N, 1 or 3, size, size), a pure function of `seed`.

    picture: a path, or uint8 (H, W) or (H, W, 3), which is from `source`. Positions are uniform. Raises DataError where
    a half is smaller than a crop, or the picture cannot be read.
    """
    check_size(size)
    if count < 1:
        raise DataError(f"crops: count must be at least 1; it is {count!r}")
    if isinstance(picture, np.ndarray):
        pixels = picture
    else:
        path = Path(picture).expanduser()
        pixels, source = read_whole(path), str(path)
        name = name or path.stem
    if pixels.dtype != np.uint8 or pixels.ndim not in (2, 3) or (pixels.ndim == 3 and pixels.shape[2] not in (1, 3)):
        raise DataError(f"crops: a picture is uint8 of shape (H, W) or (H, W, 3); this one is {pixels.dtype} "
                        f"{pixels.shape}")
    planes = pixels.reshape(*pixels.shape[:2], -1).transpose(2, 0, 1)
    height, width = planes.shape[1:]
    if height > width:
        halves = planes[:, : height // 2], planes[:, height // 2 :]
    else:
        halves = planes[:, :, : width // 2], planes[:, :, width // 2 :]
    if min(halves[0].shape[1:]) < size:
        raise DataError(f"crops: the picture has {height}x{width} pixels, so that a half has no room for crops of "
                        f"{size}x{size}; choose a size of at most {min(halves[0].shape[1:])}")
    counts = count, -(-count // TEST_EVERY)
    train, test = (_cut(h, size, n, Draws(seed, stream)) for stream, (h, n) in enumerate(zip(halves, counts)))
    return Dataset(name or "crops", train, None, test, None,
                   source=f"crops of {source}, one half to train and the other to test, seed {seed}")


def _cut(planes: np.ndarray, size: int, count: int, draws: Draws) -> np.ndarray:
    """`count` crops (count, C, size, size) at random places of planes (C, H, W)."""
    top = draws.below(planes.shape[1] - size + 1, count)
    left = draws.below(planes.shape[2] - size + 1, count)
    windows = np.lib.stride_tricks.sliding_window_view(planes, (size, size), axis=(1, 2))
    return np.ascontiguousarray(windows[:, top, left].swapaxes(0, 1))


def load_picture(name: str, size: int | None = None) -> Dataset:
    """Crops of a picture of NAMES, at `size` (64) pixels a side."""
    pixels, source = named_picture(name)
    return crops(pixels, size or DEFAULT_SIZE, name=name, source=source)


def named_picture(name: str) -> tuple[np.ndarray, str]:
    """(pixels, source) of a picture of NAMES: uint8 (H, W) or (H, W, 3), and its path, or the package that ships it.

    DataError says every place that was looked at.
    """
    plain = name.replace("-", "_")
    looked = []
    root = os.environ.get("TINYGEN_DATA", "")
    for folder in [Path(root).expanduser() / folder for folder in FOLDERS] if root else []:
        for extension in EXTENSIONS:
            path = folder / f"{plain}{extension}"
            if path.is_file():
                return read_whole(path), str(path)
        looked.append(str(folder))
    if name in SCIKIT_LEARN:
        path = _inside("sklearn", f"datasets/images/{plain}.jpg")
        return read_whole(path), str(path)
    if find_spec("skimage") is None:
        raise DataError(f"{name}: not found in {', '.join(looked) or '$TINYGEN_DATA (not set)'}, and scikit-image, "
                        f"which ships it, is not installed: pip install 'tinygen[images]'")
    import skimage.data

    try:
        return np.asarray(getattr(skimage.data, plain)()), f"skimage.data.{plain}()"
    except Exception as error:  # an older scikit-image lacks some, and fetches others: no network, no pooch
        places = ", ".join([*looked, "scikit-image"])
        raise DataError(f"{name}: not found in {places} ({type(error).__name__}: {error}); put {plain}.png into "
                        f"$TINYGEN_DATA/{FOLDERS[0]}") from error


def _inside(package: str, file: str) -> Path:
    """The path of a file that an installed package ships, without importing it."""
    spec = find_spec(package)
    for folder in (spec.submodule_search_locations or ()) if spec else ():
        if (Path(folder) / file).is_file():
            return Path(folder) / file
    raise DataError(f"{file} comes with {package}, which is not installed or lacks it: pip install scikit-learn")
