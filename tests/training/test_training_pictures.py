"""Grids, files, and pictures that can be looked at."""

from __future__ import annotations

import io

import numpy as np
import pytest

import tinygen as tg
from tinygen import training
from tinygen.step import Captioned, Sheet
from tinygen.training.pictures import enlarged, picture_of, rows, save_film, save_picture, to_pillow


def test_grid_is_torchvisions():
    """Rows of nrow, padding around each image, grey made colour, one image left alone."""
    x = tg.arange(1, 4).float().reshape(3, 1, 1, 1) / 4
    grid = training.make_grid(x, nrow=2, padding=1, pad_value=0.9)
    p = np.float32(0.9)
    expected = [[p, p, p, p, p], [p, 0.25, p, 0.5, p], [p, p, p, p, p], [p, 0.75, p, p, p], [p, p, p, p, p]]
    assert grid.shape == (3, 5, 5) and np.array_equal(grid.numpy(), np.float32([expected] * 3))
    assert training.make_grid(x[:1]).shape == (3, 1, 1)
    assert training.make_grid([x[0], x[1]], nrow=8).shape == (3, 5, 8)
    spread = training.make_grid(x * 8 - 3, normalize=True, padding=0)
    assert spread.numpy()[0, 0].tolist() == pytest.approx([0, 0.5, 1])
    assert training.make_grid(x, normalize=True, value_range=(0, 0.5), padding=0).numpy()[0, 0].tolist() == [0.5, 1, 1]
    each = training.make_grid(tg.cat([x, 2 * x], 3), normalize=True, scale_each=True, padding=0)
    assert each.numpy()[0, 0].tolist() == pytest.approx([0, 1] * 3)
    with pytest.raises(ValueError, match=r"got shape \(2, 5, 4, 4\)"):
        training.make_grid(tg.zeros(2, 5, 4, 4))


def test_image_files(tmp_path):
    from PIL import Image

    x = np.zeros((1, 3, 2, 2), "f4")
    x[0, :, 0, 0], x[0, 0, 1, 1] = (1.0, 0.5, -3.0), 2.0
    training.save_image(x, tmp_path / "a.png")
    assert np.asarray(Image.open(tmp_path / "a.png")).tolist() == [[[255, 128, 0], [0, 0, 0]], [[0, 0, 0], [255, 0, 0]]]
    buffer = io.BytesIO()
    training.save_image(tg.zeros(4, 1, 2, 2), buffer, format="png")
    assert to_pillow(np.ones((3, 4, 5))).mode == "L"
    digit = np.random.default_rng(0).random((1, 1, 28, 28), np.float32)
    assert np.array_equal(enlarged(digit)[0, 1], np.kron(digit[0, 0], np.ones((2, 2))))
    small = enlarged(digit[:, :, :8, :9])
    assert small.shape == (1, 3, 56, 63) and small.min() >= 0 and small.max() <= 1
    blocks = small[0, 0].reshape(8, 7, 9, 7).mean((1, 3))
    assert np.corrcoef(blocks.ravel(), digit[0, 0, :8, :9].ravel())[0, 1] > 0.9
    assert np.allclose(enlarged(np.full((2, 3, 8, 8), 0.3, "f4")), 0.3)
    assert enlarged(np.zeros((1, 1, 64, 80))).shape == (1, 3, 64, 80)
    frames = [tmp_path / f"{i}.png" for i in range(3)]
    for i, frame in enumerate(frames):
        save_picture(np.full((4, 1, 8, 8), i / 3), frame)
    save_film(frames, tmp_path / "film.gif")
    with Image.open(tmp_path / "film.gif") as film:
        assert film.n_frames == 3


def test_a_film_of_pictures_in_memory_shows_each_in_its_turn(tmp_path):
    """Grey and colour, about as long as asked for; the last stays for two seconds."""
    from PIL import Image

    for mode, levels in (("L", (0, 128, 255)), ("RGB", ((255, 0, 0), (0, 255, 0), (0, 0, 255)))):
        save_film([Image.new(mode, (20, 10), level) for level in levels], tmp_path / "film.gif", seconds=0.3)
        with Image.open(tmp_path / "film.gif") as film:
            assert (film.n_frames, film.size, film.info["duration"]) == (3, (20, 10), 100)
            for i, level in enumerate(levels):
                film.seek(i)
                assert film.convert(mode).getpixel((3, 3)) == level
            assert film.info["duration"] == 2000


def cells(picture, rows, columns, side=56):
    """The mean level of each place of a grid of squares."""
    pixels = np.asarray(picture.convert("L"), float) / 255
    size = side + 6
    assert pixels.shape == (rows * size + 6, columns * size + 6)
    return [[pixels[6 + r * size : size + r * size, 6 + c * size : size + c * size].mean() for c in range(columns)]
            for r in range(rows)]  # fmt: skip


@pytest.mark.parametrize("count", [3, 8, 11, 40])
def test_equal_batches_stand_row_under_row(count):
    """A row of the first, the same row of the second; at most 32 of each, and no row that is not full."""
    first = np.linspace(0.1, 0.9, count, dtype="f4").reshape(count, 1, 1, 1) * np.ones((1, 28, 28), "f4")
    columns = min(8, count)
    rows = min(4, count // columns)
    found = cells(picture_of((first, 1 - first)), 2 * rows, columns)
    for r in range(rows):
        levels = first[r * columns : (r + 1) * columns, 0, 0, 0]
        assert found[2 * r] == pytest.approx(levels, abs=0.01)
        assert found[2 * r + 1] == pytest.approx(1 - levels, abs=0.01)


def test_grey_beside_colour_and_small_beside_large():
    grey, colour = np.zeros((2, 1, 14, 14), "f4"), np.ones((2, 3, 28, 28), "f4")
    assert np.round(cells(picture_of((grey, colour)), 2, 2)).tolist() == [[0, 0], [1, 1]]


def test_at_most_64_images_are_shown():
    assert cells(picture_of(np.ones((100, 1, 28, 28), "f4")), 8, 8)


@pytest.mark.parametrize(("text", "columns"), [("3, not 5", 8), ("Ankle boot, not T-shirt/top and more", 5)])
def test_captions_do_not_run_into_each_other(text, columns):
    from PIL import ImageFont

    sheet = picture_of(Captioned(tg.ones(16, 1, 28, 28), [text] * 16))
    longest = ImageFont.load_default(size=12).getlength(text)
    assert (sheet.width - 6) / columns >= max(62, longest + 6) and sheet.width <= 1206
    pixels = np.asarray(sheet)
    for c in range(1, columns):  # between two columns nothing is written
        edge = 6 + c * (sheet.width - 6) // columns - 3
        assert (pixels[:, edge] == 64).all()


def test_points_are_drawn_side_by_side():
    points = np.random.default_rng(0).normal(size=(50, 2)).astype("f4")
    one, two = picture_of(points), picture_of((points, points))
    assert two.width == 2 * one.width and one.height > 300
    assert np.unique(np.asarray(two)).size > 10


def test_rows_stand_below_each_other_right_of_their_titles():
    light, dark = tg.ones(3, 1, 28, 28), tg.zeros(2, 1, 28, 28)
    picture = np.asarray(rows((light, dark), ("seen", "a long title")))
    one, other = (np.asarray(picture_of(batch, nrow=3).convert("RGB")) for batch in (light, dark))
    assert picture.shape[0] == len(one) + len(other)
    left = picture.shape[1] - one.shape[1]
    assert left > 60 and np.array_equal(picture[: len(one), left:], one)
    assert np.array_equal(picture[len(one) :, left : left + other.shape[1]], other)
    lines = (picture[:, :left] < 128).any(1)[:, 0]  # where a title is
    assert lines[: len(one)].any() and lines[len(one) :].any() and not lines[len(one) - 20 : len(one) + 20].any()


def test_panels_stand_beside_each_other_below_their_titles():
    from PIL import Image

    red, blue = Image.new("RGB", (200, 30), "red"), Image.new("RGB", (150, 50), "blue")
    sheet = np.asarray(training.panels([red, blue], ["first", "second"]))
    assert sheet.shape == (24 + 50, 200 + 16 + 150, 3)
    assert (sheet[24:54, :200] == [255, 0, 0]).all() and (sheet[24:, 216:] == [0, 0, 255]).all()
    assert (sheet[54:, :200] == 255).all() and (sheet[24:, 200:216] == 255).all()
    assert (sheet[:24, :100] < 128).any() and (sheet[:24, 216:316] < 128).any()
    assert training.panels([red], ["a title that is wider than the picture " * 3]).width > 300


def test_a_sheet_is_shown_whole_in_its_own_columns(tmp_path):
    sheet = Sheet(tg.rand(100, 1, 28, 28), 10)
    assert picture_of(sheet).size == (10 * (56 + 6) + 6, 10 * (56 + 6) + 6)
    assert save_picture(Sheet(tg.rand(6, 1, 28, 28), 2), tmp_path / "sheet.png").size == (130, 192)
