"""Masks of anomalies: the level that is kept in a run's folder, masks and overlays, what is looked at and how."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import tinygen as tg
from tinygen import nn, training
from tinygen.data import Dataset, pixels
from tinygen.recipes import RunError, load_run, marked, read_settings, start
from tinygen.recipes.marked import FILE, Level, Marked, level_of, looked_at, marked_in, overlay, scaled, scores_of
from tinygen.recipes.run import data_of
from tinygen.recipes.stored import trace
from tinygen.step import AnySize, Step
from tinygen.training import aside

DATA = np.random.default_rng(0).random((57, 1, 8, 9)).astype(np.float32)


class Known(Step):
    """scores(x) is a function of arrays; it remembers what it was asked about, and in which mode."""

    any_size = None

    def __init__(self, function=lambda x: x, any_size=None):
        self.net, self.function, self.asked, self.any_size = nn.Dropout(), function, [], any_size

    def scores(self, images):
        assert not self.net.training and not tg.is_grad_enabled()
        self.asked.append(images.numpy())
        return tg.tensor(np.ascontiguousarray(self.function(images.numpy()), np.float32))


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """The folder of a tiny run that finds anomalies in digits."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(training.run, "draw_curves", lambda *arguments: None)
        folder = tmp_path_factory.mktemp("here") / "run"
        start("fully-convolutional-bigan", "digits", folder=folder, preset="tiny", limit=60, epochs=1).fit()
    return folder


@pytest.fixture
def fresh(run):
    """The same, with nothing kept of a threshold."""
    (run / FILE).unlink(missing_ok=True)
    return run


@pytest.fixture
def counted(monkeypatch):
    """The rates of which a level was computed."""
    rates, real = [], marked.level_of
    monkeypatch.setattr(marked, "level_of", lambda step, dataset, rate: rates.append(rate) or real(step, dataset, rate))
    return rates


def held_scores(folder):
    """Scores of every tenth training image, the tenth first."""
    images = data_of(read_settings(folder)).floats("train")[9::10]
    step = load_run(folder)
    with aside(step, 0):
        return step.scores(tg.tensor(images)).numpy()


# ---------------------------------------------------------------------------------- the level


def test_images_are_scored_in_pieces_and_in_their_order_by_any_function():
    many = np.random.default_rng(0).random((117, 1, 4, 6)).astype(np.float32)
    step = Known(lambda x: 2 * x)
    assert np.array_equal(scores_of(step, many), 2 * many)
    assert [len(piece) for piece in step.asked] == [50, 50, 17] and step.net.training
    assert np.array_equal(scores_of(step, many, lambda x: x[:, :, :1]), many[:, :, :1])


def test_a_level_is_the_quantile_of_held_back_images_alone():
    step = Known(lambda x: x**2)
    dataset = Dataset("mine", DATA, None, 1 - DATA[:3], None)
    level = level_of(step, dataset, 0.2)
    held = DATA[9::10]
    assert np.array_equal(np.concatenate(step.asked), held) and level.pixels == held.size == 5 * 72
    assert level.rate == 0.2 and (held**2 > level.value).sum() == held.size // 5


@pytest.mark.parametrize("rate", [0.0, 1.0, -0.1, 1.5])
def test_a_rate_of_false_alarms_lies_between_0_and_1(rate):
    step = Known()
    words = rf"the rate of false alarms lies between 0 and 1, it is {rate:g}; 0.01 is usual"
    with pytest.raises(RunError, match=words):
        level_of(step, Dataset("mine", DATA, None, DATA[:3], None), rate)
    assert not step.asked


# ---------------------------------------------------------------------------------- kept in threshold.json


def test_a_level_is_computed_once_and_kept(fresh, counted):
    level = marked.threshold(fresh, 0.05)
    scores = held_scores(fresh)
    assert level == Level(float(np.quantile(scores, 0.95)), 0.05, scores.size)
    kept = json.loads((fresh / "threshold.json").read_text())
    assert kept == {"sha": trace(fresh)["sha"], "pixels": 6 * 64, "values": {"0.05": level.value}}
    assert marked.threshold(fresh, 0.05) == level and counted == [0.05]
    assert marked.threshold(fresh).rate == 0.01 and counted == [0.05, 0.01]


def test_levels_of_several_rates_are_kept_beside_each_other(fresh, counted):
    rates = [0.5, 0.1, 0.024, 0.021]
    found = {rate: marked.threshold(fresh, rate) for rate in rates}
    assert sorted(level.value for level in found.values()) == [level.value for level in found.values()]
    kept = json.loads((fresh / FILE).read_text())["values"]
    assert kept == {f"{rate:g}": level.value for rate, level in found.items()}
    assert {rate: marked.threshold(fresh, rate) for rate in found} == found and counted == rates


def test_a_level_of_other_weights_is_computed_anew_and_those_kept_of_them_go(fresh, counted):
    level = marked.threshold(fresh, 0.1)
    content = json.loads((fresh / FILE).read_text())
    (fresh / FILE).write_text(json.dumps(content | {"sha": "other", "values": {"0.1": 7.0, "0.5": 8.0}}))
    assert marked.threshold(fresh, 0.1) == level and counted == [0.1, 0.1]
    assert json.loads((fresh / FILE).read_text()) == content


@pytest.mark.parametrize("damage", [
    b"", b"{", b"\xff\xfe", b"[]", b"7", b"null", b'"text"', b"{}", b'{"sha": "SHA"}', b'{"sha": "SHA", "values": {}}',
    b'{"sha": "SHA", "pixels": 384, "values": []}', b'{"sha": "SHA", "pixels": 384, "values": {"0.1": "high"}}',
    b'{"sha": "SHA", "pixels": null, "values": {"0.1": 1.5}}', b'{"sha": "SHA", "pixels": 384, "values": 3}',
    b'{"sha": "SHA", "pixels": 384, "values": {"0.1": null}}',
    b'{"sha": "SHA", "pixels": 384, "values": {"0.1": NaN}}',
], ids=lambda b: b.decode("latin1")[:60])  # fmt: skip
def test_a_damaged_file_is_written_anew(fresh, damage, counted):
    level = marked.threshold(fresh, 0.1)
    good = (fresh / FILE).read_bytes()
    (fresh / FILE).write_bytes(damage.replace(b"SHA", trace(fresh)["sha"].encode()))
    assert marked.threshold(fresh, 0.1) == level and counted == [0.1, 0.1]
    assert (fresh / FILE).read_bytes() == good


def test_a_refused_rate_leaves_no_file(fresh):
    with pytest.raises(RunError, match="between 0 and 1"):
        marked.threshold(fresh, 1.0)
    assert not (fresh / FILE).exists()


def test_a_step_that_is_given_is_the_one_that_scores(fresh):
    step = Known(lambda x: 1 + x)
    level = marked.threshold(fresh, 0.1, step)
    held = data_of(read_settings(fresh)).floats("train")[9::10]
    assert np.array_equal(np.concatenate(step.asked), held)
    assert level.value == pytest.approx(np.quantile(1 + held, 0.9))


# ---------------------------------------------------------------------------------- a mask, and how it is shown


SCORES = np.float32([[[[0.1, 0.5, 0.2], [0.7, 0.3, 0.9]]]])


def found(picture=None, level=0.5, rate=0.01):
    picture = np.full((1, 1, 2, 3), 0.6, np.float32) if picture is None else picture
    return Marked(picture, SCORES, Level(level, rate, 384))


def test_a_pixel_is_marked_where_its_score_is_above_the_level():
    assert found().mask.tolist() == [[[[False, False, False], [True, False, True]]]]
    assert found().size == "3x2"


def test_what_was_found_is_told_in_words():
    told = ("score 0.9, threshold 0.5; 33.33% of its pixels are above it, of normal ones 0.01: anomalous",
            "score 0.9, threshold 0.5; 33.33% of its pixels are above it, of normal ones 0.2: normal",
            "score 0.9, threshold 0.9; 0.00% of its pixels are above it, of normal ones 0.01: normal")  # fmt: skip
    assert (found().what, found(rate=0.2).what, found(level=SCORES.max()).what) == told


def test_the_threshold_is_grey_and_twice_it_white():
    level = Level(0.4, 0.01, 1)
    scores = np.float32([[[[0, 0.2, 0.4, 0.6, 0.8, 3.0]]]])
    np.testing.assert_allclose(scaled(scores, level), [[[[0, 0.25, 0.5, 0.75, 1, 1]]]], rtol=1e-6)


@pytest.mark.parametrize("channels", [1, 3])
def test_an_overlay_is_grey_and_red_where_the_mask_is(channels):
    picture = np.random.default_rng(1).random((2, channels, 3, 4)).astype(np.float32)
    mask = np.random.default_rng(2).random((2, 1, 3, 4)) < 0.5
    shown = overlay(picture, mask)
    assert shown.shape == (2, 3, 3, 4)
    for n, i, j in np.ndindex(2, 3, 4):
        grey = picture[n, :, i, j].mean()
        expected = [0.5 + 0.5 * grey, 0.5 * grey, 0.5 * grey] if mask[n, 0, i, j] else [grey] * 3
        np.testing.assert_allclose(shown[n, :, i, j], expected, rtol=1e-5)


def test_scores_are_saved_as_numbers_and_three_pictures_as_a_sheet(monkeypatch):
    found().save(Path("a.NPY"))
    assert np.array_equal(np.load("a.NPY"), SCORES)
    given, real = [], marked.panels
    monkeypatch.setattr(marked, "panels", lambda *shown: given.append(shown) or real(*shown))
    picture = np.float32([[[[0.0, 0.2, 0.4], [0.6, 0.8, 1.0]]]])
    found(picture).save(Path("a.png"))
    ((pictures, titles),) = given
    assert titles == ("the picture", "score (grey: the threshold)", "above the threshold")
    with Image.open("a.png") as sheet:
        assert sheet.width > 900 and sheet.height > 200
    levels = [np.asarray(one.convert("RGB")).astype(float) / 255 for one in pictures]
    middles = lambda side, n: [side * (2 * i + 1) // (2 * n) for i in range(n)]
    shown = [image[middles(len(image), 2)][:, middles(image.shape[1], 3)].reshape(6, 3) for image in levels]
    flat, scores = picture.ravel(), np.clip(SCORES.ravel(), 0, 1)  # the level is 1/2
    np.testing.assert_allclose(shown[0], np.stack([flat] * 3, 1), atol=0.01)
    np.testing.assert_allclose(shown[1], np.stack([scores] * 3, 1), atol=0.01)
    red = [[0.5 + 0.5 * v, 0.5 * v, 0.5 * v] if s > 0.5 else [v] * 3 for v, s in zip(flat, SCORES.ravel())]
    np.testing.assert_allclose(shown[2], red, atol=0.01)


# ---------------------------------------------------------------------------------- pictures of a user's


def stored(name, size, channels=1, seed=0):
    """The picture (1, C, H, W) that the file shows."""
    levels = np.random.default_rng(seed).integers(0, 256, (*size, channels), np.uint8)
    Image.fromarray(levels[:, :, 0] if channels == 1 else levels).save(name)
    return levels.transpose(2, 0, 1)[None].astype(np.float32) / np.float32(255)


@pytest.mark.parametrize("size", [(8, 8), (9, 14), (31, 5), (12, 7), (3, 2), (300, 261)])
def test_a_picture_of_any_size_has_the_scores_of_cuts_without_a_mirror(run, size):
    """The last 4 pixels of a side are those of the cut that ends there. Above 256 pixels tiles are the whole."""
    step, level = load_run(run), Level(0.3, 0.01, 10)
    picture = stored("a.png", size)
    looked = marked_in(step, Path("a.png"), level)
    height, width = size
    if min(size) > 3:
        cut = lambda y, x: step.scores(tg.tensor(np.ascontiguousarray(picture[:, :, y, x]))).numpy()
        up, left = slice(height - height % 4), slice(width - width % 4)
        down, right = slice(height % 4, None), slice(width % 4, None)
        with aside(step, 0):
            whole = np.empty((1, 1, *size), np.float32)
            whole[:, :, up, left] = cut(up, left)
            whole[:, :, up, width - 4 :] = cut(up, right)[:, :, :, -4:]
            whole[:, :, height - 4 :, left] = cut(down, left)[:, :, -4:]
            whole[:, :, height - 4 :, width - 4 :] = cut(down, right)[:, :, -4:, -4:]
        np.testing.assert_allclose(looked.scores, whole, rtol=1e-3, atol=1e-5)
    assert np.array_equal(looked.picture, picture) and looked.level is level
    assert looked.scores.shape == (1, 1, height, width) and looked.size == f"{width}x{height}"


def test_it_is_the_scores_that_are_taken_in_evaluation_mode():
    stored("a.png", (6, 10))
    step = Known(lambda x: 0.5 * x, AnySize(1, 1, 4, 2))
    looked = marked_in(step, Path("a.png"), Level(0.3, 0.01, 10))
    np.testing.assert_allclose(looked.scores, 0.5 * looked.picture)
    assert [one.shape[2:] for one in step.asked] == [(4, 8), (4, 8), (4, 8), (4, 8)] and step.net.training


def test_a_picture_that_is_no_picture_or_has_colours_is_refused(run):
    step, level = load_run(run), Level(0.3, 0.01, 10)
    stored("colour.png", (8, 8), 3)
    words = "colour.png: the picture has 3 channels, the run takes 1; convert it to grey first"
    with pytest.raises(RunError, match=words):
        marked_in(step, Path("colour.png"), level)
    Path("text.png").write_text("no picture")
    with pytest.raises(pixels.DataError, match=r"text\.png: not a picture"):
        marked_in(step, Path("text.png"), level)


def test_a_grey_picture_has_as_many_channels_as_a_run_of_colours_takes():
    picture = stored("grey.png", (6, 10))
    step = Known(lambda x: x.mean(1, keepdims=True), AnySize(3, 1, 2, 2))
    looked = marked_in(step, Path("grey.png"), Level(0.3, 0.01, 10))
    np.testing.assert_allclose(looked.picture, picture.repeat(3, 1), atol=1e-6)
    np.testing.assert_allclose(looked.scores, picture, atol=1e-6)


def test_a_run_that_finds_anomalies_looks_with_its_threshold_at_the_rate(fresh):
    stored("a.png", (8, 12))
    step = load_run(fresh)
    for rate, used in ((None, 0.01), (0.2, 0.2)):
        looked = looked_at(step, fresh, rate)(Path("a.png"))
        assert isinstance(looked, Marked) and looked.level == marked.threshold(fresh, used)
    assert not (fresh / FILE).read_bytes().startswith(b"[") and looked.level.rate == 0.2


def test_a_run_is_not_loaded_once_more_for_its_threshold(fresh, monkeypatch):
    step = load_run(fresh)
    monkeypatch.setattr(marked, "load_run", None)
    assert looked_at(step, fresh, 0.3) and json.loads((fresh / FILE).read_text())["values"].keys() == {"0.3"}


def test_other_runs_make_pictures_and_know_no_rate(tmp_path):
    folder = tmp_path / "ae"
    start("autoencoder", folder=folder, preset="tiny", limit=40, epochs=1).fit()
    stored("a.png", (8, 12))
    step = load_run(folder)
    made = looked_at(step, folder)(Path("a.png"))
    assert made.result.shape == (1, 1, 8, 8) and made.what == "and what becomes of it"
    for rate, told in ((0.05, r"0\.05"), (0.0, "0")):
        with pytest.raises(RunError, match=f"ae finds no anomalies; leave --rate {told} out"):
            looked_at(step, folder, rate)
    assert not (folder / FILE).exists()


def test_a_run_that_does_neither_is_refused_with_or_without_a_rate(tmp_path):
    folder = tmp_path / "gan"
    start("dcgan", folder=folder, preset="tiny", limit=40, epochs=1).fit()
    for rate in (None, 0.05):
        with pytest.raises(RunError, match="gan: GANStep does not turn images into images; see: tinygen list"):
            looked_at(load_run(folder), folder, rate)
