"""The emoji: where the file is looked for, what comes of it, and what is said where there is none."""

from __future__ import annotations

import io
import zipfile

import numpy as np
import pytest
from PIL import Image

from tinygen import data
from tinygen.data import DataError
from tinygen.data.emoji import FILE


@pytest.fixture
def place(tmp_path, monkeypatch):
    """place(folder): puts a zip of twelve transparent pictures, a red square in each, into a folder of tmp_path."""
    monkeypatch.setenv("TINYGEN_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))

    def put(folder):
        (tmp_path / folder).mkdir(parents=True)
        with zipfile.ZipFile(tmp_path / folder / FILE, "w") as archive:
            for i in range(12):
                pixels = np.zeros((32, 32, 4), np.uint8)
                pixels[i : i + 8, 4:12] = 255, 0, 0, 255
                content = io.BytesIO()
                Image.fromarray(pixels).save(content, "PNG")
                archive.writestr(f"png/emoji_u{i:04x}.png", content.getvalue())

    return put


@pytest.mark.parametrize("folder", ["data/noto-emoji", "data", "cache/tinygen/noto-emoji"])
def test_emoji_are_in_colour_on_white(place, folder):
    place(folder)
    made = data.load("emoji")
    assert (made.name, made.shape, made.train_labels) == ("emoji", (3, 32, 32), None)
    assert made.count("train") + made.count("test") == 12 and made.count("test") > 0
    for images in (made.floats("train"), made.floats("test")):
        assert (images[:, :, 0, 0] == 1).all()  # transparent pixels are white
        assert (images.min(1) == 0).sum((1, 2)).tolist() == [64] * len(images) and (images[:, 0] == 1).all()
    assert data.load("emoji", size=16).shape == (3, 16, 16) and data.load("Emoji").sha == made.sha


def test_a_missing_file_says_every_place(tmp_path, place):
    with pytest.raises(DataError) as refused:
        data.load("emoji")
    for folder in ("data/noto-emoji", "data", "cache/tinygen/noto-emoji"):
        assert str(tmp_path / folder) in str(refused.value)
    assert FILE in str(refused.value) and "googlefonts/noto-emoji" in str(refused.value)
