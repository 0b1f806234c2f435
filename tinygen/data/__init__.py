"""Data: by name, or your own.

    data = load("digits")                     # 8x8, embedded, no network
    data = load("mnist")                      # or "fashion-mnist"; found, or downloaded and verified
    data = load("~/pictures", size=32)        # a folder of images, any sizes, grey or colour
    data = load("mine.npz", channels=1)       # arrays; a folder of idx files; a .zip of images
    data = load("wall.jpg", size=64)          # crops of one picture
    data = load("ring")                       # points; "gratings", "omniglot", "brick", ...: see KNOWN
    data = load("mnist-only-8")               # one class to learn from; "mnist-without-8": all others
    data = load("grass+gravel")               # two sets, unpaired; "digits+slanted": two halves, the second changed
    for x, y in data.batches(64, seed=0).epoch(0): ...

A `Dataset` holds NumPy arrays; the training loop makes tensors of its batches. Whatever cannot be read for certain
raises a `DataError` that names the file and the reason.
"""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import cast

from . import corruptions, crops, drawn, one_class, points, unpaired, varied
from .batches import Batches
from .dataset import Dataset, check_size
from .found import EXTENSIONS, is_special
from .overview import contact_sheet, summary
from .pixels import DataError, as_float, check_channels

__all__ = [
    "KNOWN", "OFFERED", "Batches", "DataError", "Dataset", "as_float", "contact_sheet", "load", "summary",
    "corruptions", "crops", "drawn", "one_class", "points", "unpaired", "varied",
]  # fmt: skip

KINDS: dict[str, Callable[[Dataset], Dataset]] = {
    "tinted": varied.tinted, "rotated": varied.rotated,
    "two-hues": lambda dataset: varied.in_hues(dataset, varied.TWO_HUES),
    "three-hues": lambda dataset: varied.in_hues(dataset, varied.THREE_HUES),
}  # fmt: skip
ONE_CLASS: dict[str, Callable[[Dataset, str], Dataset]] = {"only": one_class.only, "without": one_class.without}
VARIED = tuple(f"{kind}-{base}" for base in ("digits", "mnist") for kind in KINDS)
SINGLE = ("digits", "mnist", "fashion-mnist", "mnist-5k", "omniglot", "emoji", *VARIED, "rendered-digits",
          *drawn.TEXTURES, *points.NAMES, *crops.NAMES)
PAIRS = ("rendered-digits+digits", "rendered-digits+mnist",
         *(f"{base}+{change}" for base in ("digits", "mnist") for change in unpaired.CHANGES))
KNOWN = (*SINGLE, *PAIRS)
OFFERED = f"{', '.join(KNOWN)}; {one_class.OFFERED}"
_ALIASES = {"fashion": "fashion-mnist", "fashionmnist": "fashion-mnist"}


def load(name_or_path: str | os.PathLike[str], *, size: int | None = None, channels: int | None = None,
         limit: int | None = None, only: str | None = None, without: str | None = None,
         labels: int | None = None) -> Dataset:
    """The data set of a name (`KNOWN`) or a path: image folder, .zip of images, .npz, idx files, or one picture.

    "first+second" is an `Unpaired` of two of these, or of a name of `unpaired.CHANGES` in the second place;
    "mnist-only-8" and "mnist-without-8" are a `OneClass`, which knows what is normal (one_class.py).

    size: pixels a side, at least 8 (shorter side to size, then the centre); channels: 1 grey, 3 colour; limit: at most
    so many training and so many test images, always the same ones. Each is as in the source when None, but for a
    folder of images, whose default `size` folder.py tells, and sets that are drawn or cut out (crops.py), which come at
    that size.

    only, without: the training images of one class alone, or of all others; labels: keep those of so many training
    images, the others become -1 (see `Dataset`). In this order: only, without, limit, labels.

    A name wins over a folder of that name: write ./mnist for the folder. Raises DataError.
    """
    if name_or_path == "":  # which would be the present folder
        raise DataError("the name of the data is empty; give one of data.KNOWN or a path, such as digits or ./pictures")
    if size is not None:
        check_size(size)
    if channels is not None:
        check_channels(channels)
    dataset = _named(name_or_path, size) if isinstance(name_or_path, str) else None
    if dataset is None and is_pair(name_or_path):
        dataset = cast(Dataset, _pair(os.fspath(name_or_path), size, channels))  # of the same interface
    if dataset is None:
        path = Path(name_or_path).expanduser()
        at_once = limit if only is None and without is None else None  # a class is chosen before the limit holds
        dataset = _from_path(path, name_or_path, size, channels, at_once)
    if only is not None:
        dataset = dataset.only(only)
    if without is not None:
        dataset = dataset.without(without)
    if limit is not None:
        dataset = dataset.limited(limit)
    if labels is not None:
        dataset = dataset.with_labels(labels)
    if channels is not None:
        dataset = dataset.in_channels(channels)
    if size is not None:
        dataset = dataset.resized(size)
    return dataset


def _named(text: str, size: int | None) -> Dataset | None:
    name = _plain(text)
    if name == "digits":
        from .digits import load_digits

        return load_digits()
    if name in ("mnist", "fashion-mnist"):
        from .mnist import load_published

        return load_published(name)
    if name == "mnist-5k":
        from .mnist_5k import load_mnist_5k

        return load_mnist_5k()
    if name == "emoji":
        from .emoji import load_emoji

        return load_emoji(size)
    if name == "omniglot":
        from .omniglot import load_omniglot

        return load_omniglot(size)
    if name in VARIED:
        kind, base = name.rsplit("-", 1)
        dataset = _named(base, size)
        assert dataset is not None
        return KINDS[kind](dataset)
    if one := one_class.parts(name):
        base, kind, of_class = one
        whole = _named(base, size)
        assert whole is not None
        return ONE_CLASS[kind](whole, of_class)
    if name == "rendered-digits":
        return drawn.rendered_digits(size or drawn.DIGIT_SIDE)
    if name in drawn.TEXTURES:
        return drawn.textures(name, size or drawn.TEXTURE_SIDE)
    if name in points.NAMES:
        return points.load_points(name)
    if name in crops.NAMES:
        return crops.load_picture(name, size)
    return None


def is_pair(name_or_path: str | os.PathLike[str]) -> bool:
    """Whether this is two sets, "first+second", and not the path of something whose name has a +."""
    text = os.fspath(name_or_path)
    parts = text.split("+")
    return len(parts) == 2 and all(parts) and not Path(text).expanduser().exists()


def place(name_or_path: str | os.PathLike[str]) -> str:
    """What names the same data from any folder: a name as it is, a path whole, of a pair each part."""
    text = os.fspath(name_or_path)
    if is_pair(name_or_path):
        first, second = text.split("+")
        return f"{place(first)}+{_change(second) or place(second)}"
    name = _plain(text)
    is_name = isinstance(name_or_path, str) and (name in SINGLE or one_class.parts(name) is not None)
    return name if is_name else str(Path(text).expanduser().absolute())


def _plain(text: str) -> str:
    name, *of_class = re.split("-(?=only-|without-)", text.lower().replace("_", "-"), maxsplit=1)
    return "-".join([_ALIASES.get(name, name), *map(one_class.plain, of_class)])


def _change(text: str) -> str | None:
    """The name in CHANGES that is meant; None where it is no such name."""
    name = _plain(text)
    return name if name in unpaired.CHANGES else None


def _pair(text: str, size: int | None, channels: int | None) -> unpaired.Unpaired:
    """Two sets: of two names or paths, the first in the size and the channels of the second; or of a name of CHANGES.

    rendered-digits+digits: glyphs of 8x8 pixels, as many as the digits have.
    """
    first, second = text.split("+")
    change = _change(second)
    if change is not None:
        return unpaired.changed(load(first, size=size, channels=channels), change)
    b = load(second, size=size, channels=channels)
    if len(b.shape) == 3:
        size, channels = size or b.shape[1], channels or b.shape[0]
    return unpaired.Unpaired(load(first, size=size, channels=channels), b)


def _from_path(path: Path, given: str | os.PathLike[str], size: int | None, channels: int | None, limit: int | None
               ) -> Dataset:
    if path.is_dir():
        from .folder import load_folder
        from .mnist import idx_files, load_idx_folder

        if idx_files(path):
            return load_idx_folder(path)
        return load_folder(path, size=size, channels=channels, limit=limit)
    if not path.exists():
        text = os.fspath(given)
        names = (*KNOWN, *_ALIASES, *one_class.NAMES)
        near = difflib.get_close_matches(text.lower(), names, n=1, cutoff=0.5)
        guess = f" Did you mean {_ALIASES.get(near[0], near[0])!r}?" if near else ""
        raise DataError(f"no data set named {text!r}, and no file or folder at {path.absolute()}.{guess} "
                        f"Known: {OFFERED}; or give the path of an image folder, a .zip of images, an .npz "
                        f"file, a folder of idx files, or a picture to cut crops from")
    if is_special(path):
        raise DataError(f"{path}: neither a file nor a folder, such as a pipe; give one that can be read again")
    if path.suffix.lower() == ".npz":
        from .npz import load_npz

        return load_npz(path)
    if path.suffix.lower() == ".zip":
        from .archive import load_zip

        return load_zip(path, size=size, channels=channels, limit=limit)
    if path.suffix.lower() in EXTENSIONS:
        try:
            return crops.crops(path, size or crops.DEFAULT_SIZE)
        except DataError as error:
            raise DataError(f"{error}; of one picture, crops are the data: for a set of pictures, give the folder that "
                            f"holds them") from error
    remedy = {".npy": "np.savez('data.npz', images=array) and give that",
              ".gz": "give the folder that holds it", ".tgz": "unpack it and give the folder",
              ".tar": "unpack it and give the folder"}.get(path.suffix.lower(), "give the folder that holds the images")
    raise DataError(f"{path}: data is an image folder, a .zip of images, an .npz file, a folder of idx files, or one "
                    f"picture, not a {path.suffix or 'plain'} file; {remedy}")
