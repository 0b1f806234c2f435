"""Noto's emoji, 3,583 small colour pictures: what is in colour, and has outlines.

    data = load("emoji")              # 32x32, on white; or at another size

Read from noto-emoji-png32.zip: the folder png/32 of googlefonts/noto-emoji, zipped (SIL Open Font License 1.1). It is
looked for in $TINYGEN_DATA/noto-emoji/, $TINYGEN_DATA/ and ~/.cache/tinygen/noto-emoji/. Some pictures are held back to
test on, always the same ones, as of any folder of images.
"""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

from .archive import load_zip
from .dataset import Dataset
from .mnist import cache_folder
from .pixels import DataError

FILE, FOLDER, SIDE = "noto-emoji-png32.zip", "noto-emoji", 32


def load_emoji(size: int | None = None) -> Dataset:
    """The emoji as uint8 (N, 3, 32, 32), or at `size`, without labels; DataError names the places looked at."""
    root = os.environ.get("TINYGEN_DATA")
    places = [Path(root).expanduser() / FOLDER, Path(root).expanduser()] if root else []
    places.append(cache_folder(FOLDER))
    for place in places:
        if (place / FILE).is_file():
            return replace(load_zip(place / FILE, size=size or SIDE, channels=3), name="emoji")
    looked = ", ".join(map(str, places))
    raise DataError(f"emoji: no {FILE} in {looked}; zip the folder png/32 of googlefonts/noto-emoji and put it there")
