"""Crops of one picture: halves that share no pixel, uniform places, names, and where a named picture is found."""

import sys

import numpy as np
import pytest
from PIL import Image

from tinygen import data
from tinygen.data import DataError
from tinygen.data import crops as module
from tinygen.data.crops import crops


def numbered(height, width):
    """A picture whose every pixel tells its place: red row, green column, blue the rest of both."""
    y, x = np.mgrid[:height, :width]
    return np.stack([y % 256, x % 256, y // 256 * 16 + x // 256], axis=-1).astype(np.uint8)


def places(images):
    """(rows, columns) of the upper left corners."""
    first = images[:, :, 0, 0].astype(int)
    return first[:, 0] + 256 * (first[:, 2] // 16), first[:, 1] + 256 * (first[:, 2] % 16)


@pytest.mark.parametrize(("height", "width"), [(100, 301), (301, 100)])
def test_every_crop_is_a_piece_of_its_half(height, width):
    picture = numbered(height, width)
    made = crops(picture, size=16, count=3000)
    assert made.shape == (3, 16, 16) and made.count() == 3000 and made.count("test") == 600
    assert made.train_labels is None
    for split in ("train", "test"):
        images = made.split(split)[0]
        rows, columns = places(images)
        for image, top, left in zip(images[:200], rows, columns):
            np.testing.assert_array_equal(image.transpose(1, 2, 0), picture[top : top + 16, left : left + 16])
        long, short = (columns, rows) if width > height else (rows, columns)
        start, end = (0, 150) if split == "train" else (150, 301)
        assert long.min() == start and long.max() == end - 16  # every place can come, and none beyond the half
        assert short.min() == 0 and short.max() == 84
        for found, low, high in ((long, start, end - 16), (short, 0, 84)):
            spread = (high - low + 1) / 12**0.5
            assert abs(found.mean() - (low + high) / 2) < 4 * spread / len(found) ** 0.5


def test_crops_depend_on_the_seed_alone():
    picture = numbered(64, 64)
    assert crops(picture, 16, 50).sha == crops(picture, 16, 50).sha != crops(picture, 16, 50, seed=1).sha
    np.testing.assert_array_equal(crops(picture[..., 0], 16, 5).train_images[:, 0],
                                  crops(picture, 16, 5).train_images[:, 0])


def test_a_picture_from_a_file(tmp_path):
    Image.fromarray(numbered(80, 40)).save(tmp_path / "wall.png")
    Image.fromarray(numbered(80, 40)[..., 0]).convert("RGB").save(tmp_path / "grey.png")
    made = crops(tmp_path / "wall.png", size=8, count=10)
    assert made.name == "wall" and str(tmp_path) in made.source
    np.testing.assert_array_equal(made.train_images, crops(numbered(80, 40), 8, 10).train_images)
    assert crops(str(tmp_path / "grey.png"), 8, 10).shape == (1, 8, 8)
    (tmp_path / "broken.png").write_bytes((tmp_path / "wall.png").read_bytes()[:-30])
    with pytest.raises(DataError, match=r"broken\.png: "):
        crops(tmp_path / "broken.png")
    with pytest.raises(DataError, match=r"none\.png"):
        crops(tmp_path / "none.png")


def test_the_path_of_a_picture_is_a_data_set_of_crops(tmp_path):
    Image.fromarray(numbered(200, 140)).save(tmp_path / "wall.PNG")
    made = data.load(str(tmp_path / "wall.PNG"))
    assert made.sha == crops(numbered(200, 140), 64).sha and made.name == "wall"
    few = data.load(tmp_path / "wall.PNG", size=16, channels=1, limit=30)
    assert few.shape == (1, 16, 16) and few.count() == 30
    Image.fromarray(numbered(28, 28)).save(tmp_path / "digit.png")
    with pytest.raises(DataError, match=r"28x28 pixels.*for a set of pictures, give the folder that holds them"):
        data.load(tmp_path / "digit.png")


def test_what_cannot_be_cut():
    with pytest.raises(DataError, match=r"40x100 pixels.*crops of 64x64; choose a size of at most 40"):
        crops(numbered(40, 100))
    with pytest.raises(DataError, match="at most 30"):
        crops(numbered(60, 60), 31)
    assert crops(numbered(60, 60), 30, 2).shape == (3, 30, 30)
    for bad in (np.zeros((60, 60), np.float32), np.zeros((60, 60, 4), np.uint8), np.zeros(60, np.uint8)):
        with pytest.raises(DataError, match="a picture is uint8"):
            crops(bad, 8)
    with pytest.raises(DataError, match="size must be"):
        crops(numbered(60, 60), 7)
    with pytest.raises(DataError, match="count must be"):
        crops(numbered(60, 60), 8, 0)


# ---- named pictures ------------------------------------------------------------------------------------------------


@pytest.fixture
def fake_skimage(tmp_path, monkeypatch):
    """A package of that name whose brick is all 77, and whose coins it would have to download."""
    package = tmp_path / "packages" / "skimage"
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    (package / "data.py").write_text("import numpy as np\ndef brick():\n    return np.full((64, 64), 77, np.uint8)\n"
                                     "def hubble_deep_field():\n    return np.full((64, 64, 3), 9, np.uint8)\n"
                                     "def coins():\n    raise ModuleNotFoundError('pooch')\n")
    saved = {name: sys.modules.pop(name) for name in list(sys.modules) if name.split(".")[0] == "skimage"}
    monkeypatch.syspath_prepend(package.parent)
    monkeypatch.delenv("TINYGEN_DATA", raising=False)
    yield
    for name in [name for name in sys.modules if name.split(".")[0] == "skimage"]:
        del sys.modules[name]
    sys.modules.update(saved)


def test_a_named_picture_comes_from_scikit_image(fake_skimage):
    brick = data.load("brick", size=16)
    assert brick.name == "brick" and brick.shape == (1, 16, 16) and (brick.train_images == 77).all()
    assert brick.source.startswith("crops of skimage.data.brick(), one half to train")
    assert (data.load("Hubble_Deep_Field", size=8).train_images == 9).all()
    assert data.load("brick", channels=3, size=16).shape == (3, 16, 16)
    with pytest.raises(DataError, match=r"coins: not found in scikit-image \(ModuleNotFoundError: pooch\).*coins\.png"):
        data.load("coins")


@pytest.mark.parametrize("file", ["textures/brick.png", "photos/brick.jpg"])
def test_local_files_come_first(fake_skimage, tmp_path, monkeypatch, file):
    (tmp_path / file).parent.mkdir()
    Image.new("L", (128, 128), 50).save(tmp_path / file)
    monkeypatch.setenv("TINYGEN_DATA", str(tmp_path))
    brick = data.load("brick")
    assert brick.shape == (1, 64, 64) and (brick.train_images == 50).all()
    assert f"crops of {tmp_path / file}, " in brick.source


def test_without_scikit_image_the_error_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "find_spec", lambda name: None)
    monkeypatch.setenv("TINYGEN_DATA", str(tmp_path))
    with pytest.raises(DataError, match=r"pip install 'tinygen\[images\]'") as caught:
        data.load("astronaut")
    assert str(tmp_path / "textures") in str(caught.value) and str(tmp_path / "photos") in str(caught.value)
    with pytest.raises(DataError, match="pip install scikit-learn"):
        data.load("china")
    monkeypatch.delenv("TINYGEN_DATA")
    with pytest.raises(DataError, match="not set"):
        data.load("astronaut")


def test_scikit_learns_photographs_need_nothing_more(monkeypatch):
    from sklearn.datasets import load_sample_image

    monkeypatch.delenv("TINYGEN_DATA", raising=False)
    flower = data.load("flower", size=32)
    assert flower.sha == crops(load_sample_image("flower.jpg"), 32).sha and flower.shape == (3, 32, 32)
    assert "sklearn" in flower.source and "flower.jpg, one half" in flower.source
    assert crops(numbered(64, 64), 16).source.startswith("crops of an array, ")
