"""Textures of any size: figures, baselines and the study on steps of which everything is known."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

import tinygen as tg
from tinygen import data, nn
from tinygen.cli import main
from tinygen.data import Dataset, crops
from tinygen.metrics import NAMES
from tinygen.models import TextureGANStep
from tinygen.recipes import RunError, endless_textures, find, find_study, start
from tinygen.recipes.endless_textures import of_spectra, real_spectrum, shapeless, white
from tinygen.recipes.recipe import Given
from tinygen.recipes.study import Trained
from tinygen.step import Step
from tinygen.studies.spectra import radial_spectrum, spectrum_error


def texture(count, height, width, strength=1.0):
    """Noise whose neighbours are alike, of standard deviation .06 times the strength."""
    draw = np.random.default_rng((count, height, width, int(10 * strength)))
    plane = 0.02 * strength * draw.standard_normal((count, 1, height + 4, width + 4))
    return np.float32(0.5 + sum(np.roll(plane, (i, j), (2, 3)) for i in range(3) for j in range(3))[:, :, 4:, 4:])


class Known(Step):
    """Samples of a known texture, `strength` of them for larger ones."""

    def __init__(self, shape=(16, 16), strength=1.0, large=1.0):
        self.net, self.shape, self.strength, self.large, self.asked = nn.Dropout(), shape, strength, large, []

    def sample(self, n, size=None):
        assert not self.net.training and not tg.is_grad_enabled()
        self.asked.append((n, size))
        return tg.tensor(texture(n, *(size or self.shape), self.large if size else self.strength))


@pytest.fixture
def dataset():
    return Dataset("known", texture(120, 16, 16), None, texture(80, 16, 16, 1.2), None)


def test_the_figures_are_errors_at_the_trainings_size_and_at_twice_its_sides(dataset):
    step = Known(large=2.0)
    step.eval()
    batches = [(tg.tensor(x), None) for x in np.split(dataset.floats("test"), [30])]  # 30 and 50
    with tg.no_grad():
        found = of_spectra(step, batches)
    assert step.asked == [(100, None), (25, (32, 32))]
    p = radial_spectrum(dataset.floats("test"))
    for name, strength in (("spectrum_error", 1.0), ("spectrum_error_4x", 2.0)):
        assert found[name] == pytest.approx(abs((strength / 1.2) ** 2 - 1), abs=0.12)
    assert p.variance > 0 and set(found) <= set(NAMES)


def test_flat_or_tiny_test_images_have_no_figure():
    levels = np.linspace(0, 1, 5, dtype=np.float32).reshape(5, 1, 1, 1)
    assert of_spectra(Known(), [(tg.tensor(levels * np.ones((5, 1, 8, 8), np.float32)),)]) == {}
    assert of_spectra(Known(), [(tg.tensor(texture(5, 3, 9)),)]) == {}


def test_baselines_are_fitted_on_training_images_and_judged_by_test_images(dataset):
    test, train = dataset.floats("test"), dataset.floats("train")
    real = real_spectrum("spectrum_error")(dataset, {})
    assert real.floor and real.metric == "spectrum_error" and real.value == spectrum_error(test, train)
    without = shapeless("spectrum_error_4x")(dataset, {})
    assert not without.floor and without.value == pytest.approx(real.value, abs=0.1)  # the same spectrum
    noise = white("spectrum_error")(dataset, {})
    p, variance = radial_spectrum(test), train.var()
    expected = (p.shares * abs(variance - p.power)).sum() / p.variance
    assert noise.value == pytest.approx(expected, abs=0.05) and noise.value > 2 * real.value
    oblong = Dataset("oblong", texture(20, 16, 20), None, texture(20, 16, 20), None)
    assert shapeless("spectrum_error")(oblong, {}) is None


def test_the_recipe_has_its_baselines_at_both_sizes():
    names = [make.__name__ for make in find("texture-gan").baselines]
    assert len(set(names)) == 6 and {name[:-1].partition("(")[2] for name in names} == {
        "spectrum_error", "spectrum_error_4x"}  # fmt: skip


def test_the_step_that_is_built():
    given = Given((1, 32, 32), (), 10)
    step = find("texture-gan").build(given, channels=(3, 4, 5), latent=6, width=2, depth=2, lr=0.01)
    assert type(step) is TextureGANStep and step.noise(2).shape == (2, 6, 1, 1) and step.figures == (of_spectra,)
    widths = [p.shape[:2] for n in (step.generator.first, *step.generator.up) for p in n.parameters() if p.ndim == 4]
    assert widths == [(6, 5), (5, 4), (4, 3), (3, 1)]
    assert step.discriminator(tg.zeros(1, 1, 32, 32)).shape == (1, 1, 6, 6)  # 32, 16, 8, and twice one less
    assert next(iter(step.discriminator.parameters())).shape[:2] == (2, 1)
    rates = [group["lr"] for o in (step.generator_optimizer, step.discriminator_optimizer) for group in o.param_groups]
    assert rates == [0.01, 0.01]
    real, fake = tg.randn(6, 1), tg.randn(6, 1)
    a, b = real.numpy().astype(float), fake.numpy().astype(float)
    expected = np.logaddexp(0, -a).mean() + np.logaddexp(0, b).mean()
    assert step.game.discriminator(real, fake).item() == pytest.approx(expected, rel=1e-5)


def test_the_study_tells_the_two_splits_apart(dataset):
    step = Known(strength=1.0, large=1.2)
    trained = Trained(step, dataset, SimpleNamespace(data={"name": "known"}), Path("run"))
    tg.manual_seed(0)
    found = find_study("texture-size").run(trained, pictures=80, height=40, width=56)
    assert step.asked == [(80, None), (20, (32, 32)), (1, (40, 56))]
    test, train = (radial_spectrum(dataset.floats(split)).variance for split in ("test", "train"))
    error = lambda strength, real: abs((strength / real) ** 2 - 1)
    expected = {
        "spectrum_error": error(1.0, 1.2), "spectrum_error_4x": error(1.2, 1.2),
        "spectrum_learned": error(1.0, 1.0), "spectrum_learned_4x": error(1.2, 1.0),
        "spectrum_real": spectrum_error(dataset.floats("test"), dataset.floats("train")),
    }  # fmt: skip
    assert found.metrics == pytest.approx(expected, abs=0.13) and test > 1.2 * train
    rows = {row["texture"]: row for row in found.table}
    assert rows["made"]["error, test"] == found.metrics["spectrum_error"]
    assert rows["made, 4 x area"]["error, training"] == found.metrics["spectrum_learned_4x"]
    assert rows["real, training"]["error, training"] == 0
    assert rows["Gaussian, 4 x area"]["error, training"] < 0.15 and rows["white noise"]["error, test"] > 0.5
    assert [rows[name]["pictures"] for name in rows] == [120, 80, 20, 80, 20]
    assert found.pictures["large"].shape == (1, 1, 40, 56)
    assert found.pictures["training_size"].titles == ("real", "made")
    np.testing.assert_array_equal(found.pictures["training_size"].batches[0].numpy(), dataset.floats("test")[:8])
    assert set(found.metrics) <= set(NAMES)


def test_the_curves_are_drawn_on_one_scale_of_frequencies(dataset, monkeypatch):
    seen = {}
    monkeypatch.setattr(endless_textures, "draw_powers", lambda *given: seen.update(zip(("curves", "guides"), given)))
    trained = Trained(Known(), dataset, SimpleNamespace(data={"name": "known"}), Path("run"))
    find_study("texture-size").run(trained, pictures=40, height=20, width=20)
    assert list(seen["curves"]) == ["made, 1 x area", "made, 4 x area"]
    assert list(seen["guides"]) == ["real, test", "real, train"]
    expected = radial_spectrum(dataset.floats("train"))
    np.testing.assert_array_equal(seen["guides"]["real, train"][1], expected.power)
    for x, y in [*seen["curves"].values(), *seen["guides"].values()]:
        np.testing.assert_array_equal(x, expected.frequencies)
        assert y.shape == x.shape


def test_points_and_tiny_images_are_refused():
    asks = find_study("texture-size").refuses
    assert "these are points" in asks((2,), (), "ring") and "4 pixels a side" in asks((1, 3, 9), (), "")
    assert asks((1, 8, 8), (), "digits") is None and asks((1, 4, 9), (), "") is None


# ---------------------------------------------------------------------------------- from the command line


@pytest.fixture
def run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    place = np.random.default_rng(0).integers(0, 256, (40, 80), np.uint8)
    made = crops.crops(place, 16, 40)
    np.savez("mine.npz", images=made.train_images)
    start("texture-gan", "mine.npz", folder="run", preset="tiny", epochs=1, batch_size=8).fit()


def test_a_sample_of_a_size_is_written_pixel_by_pixel(run, capsys):
    from PIL import Image

    assert main(["sample", "run", "-n", "1", "--size", "48x71"]) == 0
    with Image.open("run/sample-1-size-48x71.png") as picture:
        assert picture.size == (71, 48)
    assert main(["sample", "run", "-n", "2", "--size", "5x30", "--out", "x.npy"]) == 0
    found = np.load("x.npy")
    assert found.shape == (2, 1, 5, 30) and (found[0] != found[1]).any()
    assert main(["sample", "run", "-n", "3", "--out", "y.npy"]) == 0 and np.load("y.npy").shape == (3, 1, 16, 16)


@pytest.mark.parametrize(("size", "words"), [
    ("48", "two whole numbers, such as 512x768"), ("large", "two whole numbers"), ("0x5", "two whole numbers"),
    ("900000x900000", "of memory are needed"),
])  # fmt: skip
def test_a_size_that_is_none_or_too_large_is_said_in_one_line(run, capsys, size, words):
    capsys.readouterr()
    with pytest.raises(SystemExit) as left:
        main(["sample", "run", "-n", "1", "--size", size])
    error = capsys.readouterr().err
    assert left.value.code == 2 and words in error and error.count("\n") == 1


def test_textures_come_from_embedded_data():
    dataset = data.load(find("texture-gan").data)
    assert dataset.shape == (1, 64, 64)
    with pytest.raises(RunError, match="depth"):
        start("texture-gan", "digits", folder="never", arguments={"depth": "deep"})
