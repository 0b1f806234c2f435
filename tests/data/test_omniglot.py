"""Omniglot from small archives of its kind: classes, unseen alphabets, polarity, places."""

import io
import zipfile

import numpy as np
import pytest
from PIL import Image

from tinygen import data
from tinygen.data import DataError
from tinygen.data.omniglot import FILES


def character(seed):
    """Black strokes on white, 105x105, one bit, as published."""
    pixels = np.full((105, 105), 255, np.uint8)
    pixels[30 : 30 + seed, 20:80] = 0
    return Image.fromarray(pixels).convert("1")


def write(path, alphabets):
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w") as out:
        for number, (alphabet, characters) in enumerate(alphabets.items()):
            for c in range(characters):
                for n in range(2):
                    stream = io.BytesIO()
                    character(5 + 10 * number + 2 * c + n).save(stream, "PNG")
                    out.writestr(f"{path.stem}/{alphabet}/character{c + 1:02}/{number:04}_{n + 1:02}.png",
                                 stream.getvalue())
        out.writestr("__MACOSX/._junk", "x")


@pytest.fixture
def small(tmp_path, monkeypatch):
    monkeypatch.setenv("TINYGEN_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))

    def place(folder="data/omniglot"):
        write(tmp_path / folder / FILES[0], {"Greek": 2, "Korean": 1})
        write(tmp_path / folder / FILES[1], {"Greek": 2, "Tagalog": 3})

    return place


@pytest.mark.parametrize("folder", ["data/omniglot", "data", "cache/tinygen/omniglot"])
def test_test_classes_are_characters_of_unseen_alphabets(small, folder):
    small(folder)
    made = data.load("omniglot")
    assert made.name == "omniglot" and made.shape == (1, 28, 28) and made.train_images.dtype == np.uint8
    assert made.classes == ("Greek/character01", "Greek/character02", "Korean/character01",
                            "Tagalog/character01", "Tagalog/character02", "Tagalog/character03")
    assert made.train_labels.tolist() == [0, 0, 1, 1, 2, 2] and made.test_labels.tolist() == [3, 3, 4, 4, 5, 5]
    assert folder in made.source


def test_strokes_are_white_on_black_at_28_pixels(small):
    small()
    image = data.load("omniglot").floats()[3, 0]  # Greek, second character, second image: rows 30..37 of 105
    assert image[0, 0] == 0 and image[9, 13] == 1 and image[20, 13] == 0
    assert image.sum() == pytest.approx(8 * 60 / 105**2 * 28**2, rel=0.03)  # the area is kept
    assert data.load("omniglot", size=32).shape == (1, 32, 32)
    assert data.load("omniglot", size=105).floats()[3, 0].sum() == 8 * 60


def test_missing_files_are_told_with_every_place(small, tmp_path, monkeypatch):
    with pytest.raises(DataError, match=r"small1\.zip was not found") as caught:
        data.load("omniglot")
    for place in ("data/omniglot", "data", "cache/tinygen/omniglot"):
        assert str(tmp_path / place) in str(caught.value)
    small()
    (tmp_path / "data/omniglot" / FILES[1]).unlink()
    with pytest.raises(DataError, match=r"small2\.zip was not found"):
        data.load("omniglot")
    monkeypatch.delenv("TINYGEN_DATA")
    with pytest.raises(DataError, match="TINYGEN_DATA is not set"):
        data.load("omniglot")


def test_archives_without_characters_are_refused(small, tmp_path):
    small()
    write(tmp_path / "data/omniglot" / FILES[1], {"Greek": 1})
    with pytest.raises(DataError, match=r"small2\.zip: no characters; expected.*alphabets that the other file lacks"):
        data.load("omniglot")
    (tmp_path / "data/omniglot" / FILES[0]).write_bytes(b"junk")
    with pytest.raises(DataError, match=r"small1\.zip: damaged or not a zip"):
        data.load("omniglot")
