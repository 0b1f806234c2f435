"""Omniglot: handwritten characters of many alphabets, few images of each (Lake, Salakhutdinov, Tenenbaum 2015).

    data = load("omniglot")           # 28x28, strokes white on black as in MNIST; 20 images of each character

Read from images_background_small1.zip and ..._small2.zip. A class is a character of an alphabet, "Greek/character01".
Training images are the five alphabets of small1; test images are those alphabets of small2 that small1 lacks. So every
test class is unseen, and so is its alphabet: Lake et al. part background and evaluation in the same way. (The two files
share Greek and Latin, whose characters occur once.) The published 30 + 20 alphabets are other files.

Each file is looked for in $TINYGEN_DATA/omniglot/, $TINYGEN_DATA/ and ~/.cache/tinygen/omniglot/.
"""

from __future__ import annotations

import os
from pathlib import Path
from zipfile import ZipFile

import numpy as np

from .archive import Member, members, open_zip
from .dataset import Dataset
from .folder import read_image
from .mnist import cache_folder
from .pixels import DataError

FILES = ("images_background_small1.zip", "images_background_small2.zip")
SIDE = 28


def load_omniglot(size: int | None = None) -> Dataset:
    """The characters as uint8 (N, 1, 28, 28), or at `size`; 2,720 training and 2,120 test images of other classes."""
    with open_zip(_find(FILES[0])) as first, open_zip(_find(FILES[1])) as second:
        train = _characters(first)
        seen = {name.split("/")[0] for name in train}
        test = {name: files for name, files in _characters(second).items() if name.split("/")[0] not in seen}
        for archive, found in ((first, train), (second, test)):
            if not found:
                raise DataError(f"{archive.filename}: no characters; expected folder/alphabet/character/image.png"
                                + (", of alphabets that the other file lacks" if archive is second else ""))
        images = [_images(files, size or SIDE) for files in (train, test)]
        counts = [[len(f) for f in files.values()] for files in (train, test)]
    numbers = np.arange(len(train) + len(test))
    labels = np.repeat(numbers[: len(train)], counts[0]), np.repeat(numbers[len(train) :], counts[1])
    return Dataset("omniglot", images[0], labels[0], images[1], labels[1], (*train, *test),
                   f"{' and '.join(FILES)} in {_find(FILES[0]).parent}; test alphabets unseen")


def _characters(archive: ZipFile) -> dict[str, list[Member]]:
    """{alphabet/character: its images}, sorted."""
    found: dict[str, list[Member]] = {}
    for parts, member in sorted(members(archive).items(), key=lambda item: item[0]):
        if len(parts) >= 3 and parts[-1].lower().endswith(".png") and not parts[-1].startswith("."):
            found.setdefault("/".join(parts[-3:-1]), []).append(member)
    return found


def _images(characters: dict[str, list[Member]], size: int) -> np.ndarray:
    every = [member for files in characters.values() for member in files]
    return np.stack([255 - read_image(member, size, 1).transpose(2, 0, 1) for member in every])


def _find(file: str) -> Path:
    root = os.environ.get("TINYGEN_DATA", "")
    places = [Path(root).expanduser() / "omniglot", Path(root).expanduser()] if root else []
    places.append(cache_folder("omniglot"))
    for folder in places:
        if (folder / file).is_file():
            return folder / file
    raise DataError(f"omniglot: {file} was not found.\nlooked in: {', '.join(map(str, places))}\n"
                    f"TINYGEN_DATA is {root or 'not set'}\nFetch it from github.com/brendenlake/omniglot (python/) and "
                    f"put it into {places[-1]}, or into $TINYGEN_DATA/omniglot")
