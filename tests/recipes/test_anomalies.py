"""BiGAN's recipes, their figures and baselines, and the study of maps, on Steps of which everything is known."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

import tinygen as tg
from tinygen import data, nn
from tinygen.data import Dataset
from tinygen.data.drawn import DEFECTS, Textures, textures
from tinygen.models import AnomalyMapStep, BiGANStep
from tinygen.nn import functional as F
from tinygen.recipes import RunError, anomalies, find, find_study, marked, run_study, start
from tinygen.recipes.recipe import Given
from tinygen.recipes.scores import baselines
from tinygen.recipes.study import Trained
from tinygen.step import AnySize, Step

TEN = tuple("0123456789")


def built(name, shape=(1, 16, 16), **arguments):
    recipe = find(name)
    return recipe.build(Given(shape, TEN, 10), **recipe.preset("tiny")[1] | arguments)


def batches(*arrays, sizes):
    """Batches of unequal sizes."""
    ends = np.cumsum(sizes)
    assert ends[-1] == len(arrays[0])
    return [tuple(None if a is None else tg.tensor(a[end - size : end]) for a in arrays)
            for size, end in zip(sizes, ends)]  # fmt: skip


@pytest.fixture(scope="module")
def digits():
    return data.load("digits")


def drawn(name="gratings", size=16, train=30, test=12):
    return textures(name, size, train, test)


# ---------------------------------------------------------------------------------- the recipes


def linear_layers(module):
    return [m for m in module.modules() if isinstance(m, nn.Linear | nn.Conv2d | nn.ConvTranspose2d)]


@pytest.mark.parametrize("name", ["bigan", "fully-convolutional-bigan"])
def test_the_step_that_is_built(name):
    step = built(name, (3, 16, 24), channels=(4, 6), latent=5, hidden=7, weight=0.3, lr=0.01)
    maps = name != "bigan"
    assert type(step) is (AnomalyMapStep if maps else BiGANStep)
    assert step.code == ((5, 4, 6) if maps else (5,)) and step.weight == 0.3
    z = step.noise(3)
    made = step.decode(z)
    assert made.shape == (3, 3, 16, 24) and step.encode(made).shape == z.shape
    assert step.discriminator(made, z).shape == ((3, 1, 4, 6) if maps else (3, 1))
    assert step.discriminator.features(made, z).shape[:2] == (3, 7)
    assert all(hasattr(m, "weight_orig") for m in linear_layers(step.discriminator))  # D alone is bounded
    assert not any(hasattr(m, "weight_orig") for n in (step.generator, step.encoder) for m in linear_layers(n))
    assert not any(isinstance(m, nn.BatchNorm2d | nn.BatchNorm1d) for m in step.discriminator.modules())
    rates = [group["lr"] for o in (step.generator_optimizer, step.discriminator_optimizer) for group in o.param_groups]
    assert rates == [0.01, 0.01]
    figures = {"bigan": anomalies.nearest_codes, "fully-convolutional-bigan": anomalies.pixels_found}
    assert list(step.figures) == [figures[name]]


def test_each_plays_the_game_that_it_names():
    real, fake = tg.randn(6, 1), tg.randn(6, 1)
    a, b = real.numpy().astype(float), fake.numpy().astype(float)
    losses = [built(name).game.discriminator(real, fake).item() for name in ("bigan", "fully-convolutional-bigan")]
    expected = [np.logaddexp(0, -a).mean() + np.logaddexp(0, b).mean(), ((a - 1) ** 2).mean() + (b**2).mean()]
    assert losses == pytest.approx(expected, rel=1e-5)


def test_alpha_and_window_reach_the_score():
    step = built("fully-convolutional-bigan", alpha=0.25, window=5)
    assert (step.alpha, step.window, step.any_size.reach) == (0.25, 5, 3 * 4 - 3 + 2)
    defaults = find("fully-convolutional-bigan").defaults()
    assert (defaults["alpha"], defaults["window"], defaults["weight"]) == (0.1, 11, 30)


@pytest.mark.parametrize(("arguments", "words"), [
    ({"alpha": 1.01}, r"alpha is the share of D in the score, from 0 to 1; it is 1\.01"),
    ({"alpha": -0.1}, r"alpha is the share of D in the score, from 0 to 1; it is -0\.1"),
    ({"window": 4}, "window is an odd number of pixels, such as 11; it is 4"),
    ({"window": 0}, "window is an odd number of pixels, such as 11; it is 0"),
    ({"window": -1}, "window is an odd number of pixels, such as 11; it is -1"),
    ({"channels": (2, 3, 4, 5)}, "images of 24x16 pixels cannot be halved 4 times; give another --size"),
])  # fmt: skip
def test_arguments_that_do_not_fit_are_refused(arguments, words):
    with pytest.raises(ValueError, match=words):
        built("fully-convolutional-bigan", (1, 24, 16), **arguments)


def test_alpha_may_be_0_or_1_and_the_window_one_pixel():
    for alpha in (0, 1):
        assert built("fully-convolutional-bigan", alpha=alpha, window=1).alpha == alpha


def test_points_have_no_pixels():
    for name in ("bigan", "fully-convolutional-bigan"):
        with pytest.raises(ValueError, match="points have others; give images"):
            built(name, (2,))


def test_a_tenth_of_the_training_images_is_held_back_for_the_threshold():
    dataset = drawn(train=43)
    settings = start("fully-convolutional-bigan", "digits", folder="run", preset="tiny", limit=40, seed=3).settings
    learned = anomalies.without_held(dataset, replace(settings, batch_size=8, drop_last=False))
    seen = np.concatenate([learned.at(0, i)[0] for i in range(len(learned))])
    held = dataset.divided()[1].floats("train")
    rest = np.delete(dataset.floats("train"), np.arange(9, 43, 10), axis=0)
    assert len(held) == 4 and len(seen) == 39 and len(learned.at(0, 0)[0]) == 8
    order = lambda images: images[np.lexsort(images.reshape(len(images), -1).T)]
    assert np.array_equal(order(seen), order(rest)) and not np.array_equal(seen, rest)
    again, other = (anomalies.without_held(dataset, replace(settings, batch_size=8, seed=s)) for s in (3, 4))
    assert np.array_equal(again.at(0, 0)[0], learned.at(0, 0)[0])
    assert not np.array_equal(other.at(0, 0)[0], learned.at(0, 0)[0])
    assert len(again) == 4 and len(learned) == 5  # drop_last


def test_the_run_learns_from_those_alone():
    run = start("fully-convolutional-bigan", "digits", folder="run", preset="tiny", limit=60, batch_size=9)
    train = run.dataset.floats("train")
    assert run.batches.count == 54 and len(run.batches) == 6
    learned = {image.tobytes() for batch in range(6) for image in run.batches.at(0, batch)[0]}
    assert learned == {image.tobytes() for i, image in enumerate(train) if i % 10 != 9}


# ---------------------------------------------------------------------------------- 1-NN on E


class Encoding(Step):
    """encode(x) is a function of arrays."""

    def __init__(self, function):
        self.function = function

    def encode(self, images):
        return tg.tensor(self.function(images.numpy()))


def nearest_share(rows, labels):
    rows = rows.reshape(len(rows), -1).astype(float)
    apart = ((rows[:, None] - rows[None]) ** 2).sum(2)
    np.fill_diagonal(apart, np.inf)
    return (labels[apart.argmin(1)] == labels).mean()


def test_the_share_of_test_images_whose_nearest_code_has_their_label(digits):
    x, labels = digits.floats("test"), digits.test_labels
    project = np.random.default_rng(0).normal(size=(64, 4)).astype(np.float32)
    codes = lambda images: images.reshape(len(images), -1) @ project
    found = anomalies.nearest_codes(Encoding(codes), batches(x, labels, sizes=[150, 100, len(x) - 250]))
    assert found == {"code_1nn": pytest.approx(nearest_share(codes(x), labels))} and 0.3 < found["code_1nn"] < 0.95


def test_without_labels_of_two_images_a_class_no_share_is_told(digits):
    """Nor where masks stand in the place of labels."""
    x = digits.floats("test")[:6]
    step, masks = Encoding(lambda images: images.reshape(len(images), -1)), np.zeros_like(x)
    for labels in (None, masks, np.arange(6)):
        assert anomalies.nearest_codes(step, batches(x, labels, sizes=[4, 2])) == {}
    assert anomalies.nearest_codes(step, batches(x[:1], np.arange(1), sizes=[1])) == {}
    assert set(anomalies.nearest_codes(step, batches(x, np.int64([0, 1, 2, 3, 4, 0]), sizes=[4, 2]))) == {"code_1nn"}


def test_1_nn_on_pixels_stands_beside_it(digits):
    found = baselines(find("bigan"), digits, {})["code_1nn"]
    (one,) = found
    expected = nearest_share(digits.floats("test"), digits.test_labels)
    assert tuple(one) == ("code_1nn", "1-NN on pixels", pytest.approx(expected), False)
    assert one.beside(expected - 0.01).endswith("NOT BEATEN")
    nothing = Dataset("mine", digits.train_images, None, digits.test_images, None)
    singles = digits.picked(test=np.unique(digits.test_labels, return_index=True)[1])
    for dataset in (nothing, singles, drawn()):
        assert anomalies.nearest_pixels(dataset, {}) is None
    assert set(baselines(find("bigan"), digits, {})) == {"code_1nn", "cfid"}


# ---------------------------------------------------------------------------------- pixels that are found

ALPHA = 0.3


class Known(Step):
    """Maps that are functions of the images; `net` says in which mode it was asked."""

    any_size = AnySize(1, 1, 4, 3)

    def __init__(self, judged=lambda x: x, error=lambda x: 1 - x, alpha=ALPHA):
        self.net, self.alpha = nn.Dropout(), alpha
        self.functions = {"judged": judged, "error": error, "restored": lambda x: 0.5 * x}
        self.sizes = []

    def answer(self, name, images):
        self.sizes.append((len(images), *images.shape[2:], self.net.training or tg.is_grad_enabled()))
        return tg.tensor(np.ascontiguousarray(self.functions[name](images.numpy()), np.float32))

    def judged(self, images):
        return self.answer("judged", images)

    def error(self, images):
        return self.answer("error", images)

    def restored(self, images):
        return self.answer("restored", images)

    def scores(self, images):
        return self.alpha * self.judged(images) + (1 - self.alpha) * self.error(images)


def area(scores, positive):
    """The share of pairs in order, a tie counting half."""
    order = np.sort(scores[~positive])
    below = (np.searchsorted(order, scores[positive]) + np.searchsorted(order, scores[positive], "right")) / 2
    return below.mean() / len(order)


def test_all_pixels_of_all_batches_are_ranked_together(rng):
    x = rng.random((9, 1, 8, 8)).astype(np.float32)
    masks = (rng.random((9, 1, 8, 8)) < 0.2 + 0.3 * x).astype(np.float32)
    step = Known(lambda s: s, lambda s: (s - 0.4) ** 2)
    found = anomalies.pixels_found(step, batches(x, masks, sizes=[4, 2, 3]))
    y, marked_ = x.ravel().astype(float), masks.ravel() > 0.5
    error = (y - 0.4) ** 2
    expected = {"pixel_auroc": area(ALPHA * y + (1 - ALPHA) * error, marked_), "pixel_auroc_judged": area(y, marked_),
                "pixel_auroc_error": area(error, marked_)}  # fmt: skip
    assert found == pytest.approx(expected, abs=1e-4) and list(found) == list(expected)
    assert len(set(np.round(list(found.values()), 3))) == 3


@pytest.mark.parametrize("masks", [
    None, np.arange(6), np.zeros((6, 1, 8, 8), np.float32), np.ones((6, 1, 8, 8), np.float32)
], ids=["none", "labels", "nothing", "all"])  # fmt: skip
def test_without_masks_of_both_kinds_nothing_is_said(masks):
    x = np.random.default_rng(0).random((6, 1, 8, 8)).astype(np.float32)
    assert anomalies.pixels_found(Known(), batches(x, masks, sizes=[4, 2])) == {}


def test_a_mask_s_pixel_is_an_anomaly_above_one_half():
    x = np.float32([[0.9, 0.1, 0.8, 0.2]]).reshape(1, 1, 2, 2)
    masks = np.float32([[0.6, 0.5, 1.0, 0.4]]).reshape(1, 1, 2, 2)
    assert anomalies.pixels_found(Known(alpha=1), batches(x, masks, sizes=[1]))["pixel_auroc"] == 1


def patches_area(dataset, components, side=8):
    """PCA of the squares of nine of ten training images; a pixel has the mean of the squares that hold it."""
    def squares(images):
        n, _, h, w = images.shape
        return np.array([[images[k, 0, i : i + side, j : j + side].ravel() for i in range(h - side + 1)
                          for j in range(w - side + 1)] for k in range(n)], float)  # fmt: skip

    train = np.delete(dataset.floats("train"), np.arange(9, dataset.count("train"), 10), axis=0)
    known = squares(train).reshape(-1, side**2)
    mean = known.mean(0)
    axes = np.linalg.svd(known - mean, full_matrices=False)[2][:components]
    images = dataset.floats("test")
    away = squares(images) - mean
    errors = ((away - away @ axes.T @ axes) ** 2).mean(2)
    total, count = np.zeros(images.shape), np.zeros(images.shape)
    places = [(i, j) for i in range(images.shape[2] - side + 1) for j in range(images.shape[3] - side + 1)]
    for k, (i, j) in enumerate(places):
        total[:, 0, i : i + side, j : j + side] += errors[:, k, None, None]
        count[:, 0, i : i + side, j : j + side] += 1
    return area((total / count).ravel(), dataset.test_masks.ravel() > 0.5)


def test_pca_of_squares_is_what_a_map_has_to_beat(digits):
    dataset = drawn()
    expected = patches_area(dataset, 8)
    (found,) = baselines(find("fully-convolutional-bigan"), dataset, {})["pixel_auroc"]
    assert tuple(found) == ("pixel_auroc", "PCA of 8x8 squares", pytest.approx(expected, abs=1e-3), False)
    assert anomalies.squares(digits, {}) is None
    clean = replace(dataset, test_masks=np.zeros_like(dataset.test_masks))
    assert anomalies.squares(clean, {}) is None


# ---------------------------------------------------------------------------------- the study of maps

JUDGE, ERROR = (lambda x: (x - 0.5) ** 2), (lambda x: abs(x - np.roll(x, 1, 3)))


def study(dataset, step=None, level=0.08, **arguments):
    """The findings, and what was asked of the threshold."""
    asked = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(anomalies, "threshold", lambda *given: asked.append(given) or marked.Level(level, 0.01, 100))
        trained = Trained(step or Known(JUDGE, ERROR), dataset, SimpleNamespace(data={"name": "x"}), Path("run"))
        tg.manual_seed(0)
        return find_study("anomaly-maps").run(trained, **arguments), asked


def both(x):
    return ALPHA * JUDGE(x) + (1 - ALPHA) * ERROR(x)


@pytest.fixture(scope="module")
def gratings():
    return drawn()


def test_every_number_of_the_study(gratings):
    step = Known(JUDGE, ERROR)
    found, asked = study(gratings, step, rate=0.05, components=5)
    x, masks = gratings.floats("test"), gratings.test_masks > 0.5
    above = both(x) > 0.08
    normal = gratings.test_labels == 0
    of = lambda scores: area(scores.ravel(), masks.ravel())
    expected = {
        "pixel_auroc": of(both(x)), "pixel_auroc_judged": of(JUDGE(x)), "pixel_auroc_error": of(ERROR(x)),
        "pixel_auroc_pca": patches_area(gratings, 5),
        "false_alarms": above[normal].mean(), "defects_found": above[masks].mean(),
    }  # fmt: skip
    assert {name: found.metrics[name] for name in expected} == pytest.approx(expected, abs=1e-3)
    assert set(found.metrics) - set(expected) == {"multiplications_once", "multiplications_patches", "patches_apart"}
    ((folder, rate, given),) = asked
    assert (folder, rate) == (Path("run"), 0.05) and given is step
    assert not any(learning for *_, learning in step.sizes)  # in evaluation, nothing recorded


def test_the_maps_are_shown_each_against_its_own_threshold(gratings):
    found, _ = study(gratings, rate=0.1, shown=4)
    x, masks = gratings.floats("test"), gratings.test_masks > 0.5
    rows = dict(zip(found.pictures["maps"].titles, [b.numpy() for b in found.pictures["maps"].batches], strict=True))
    some = [i for i in range(12) if gratings.test_labels[i] != 0][:4]
    assert list(rows) == ["s", "G(E(s))", "(D - 1)^2", "|G(E(s)) - s|", "both", "PCA", "above the threshold",
                          "the truth"]  # fmt: skip
    assert np.array_equal(rows["s"], x[some])
    np.testing.assert_allclose(rows["G(E(s))"], 0.5 * x[some])
    for title, function in (("(D - 1)^2", JUDGE), ("|G(E(s)) - s|", ERROR), ("both", both)):
        level = np.quantile(function(x)[gratings.test_labels == 0], 0.9)
        np.testing.assert_allclose(rows[title], np.clip(function(x)[some] / (2 * level), 0, 1), rtol=1e-3, atol=1e-4)
    assert rows["PCA"].shape == (4, 1, 16, 16) and 0 <= rows["PCA"].min() < 0.3 and rows["PCA"].max() == 1
    np.testing.assert_allclose(rows["above the threshold"], marked.overlay(x[some], both(x)[some] > 0.08), atol=1e-6)
    np.testing.assert_allclose(rows["the truth"], marked.overlay(x[some], masks[some]), atol=1e-6)
    assert all(batch.dtype == np.float32 for batch in rows.values())


def test_where_every_image_has_a_defect_there_are_no_false_alarms_to_count(gratings):
    defects = gratings.picked(test=np.flatnonzero(gratings.test_labels))
    found, _ = study(defects, rate=0.1, shown=2)
    assert "false_alarms" not in found.metrics and 0 < found.metrics["defects_found"] <= 1
    x, masks = defects.floats("test"), defects.test_masks > 0.5
    level = np.quantile(both(x)[~masks], 0.9)
    shown = dict(zip(found.pictures["maps"].titles, found.pictures["maps"].batches))["both"].numpy()
    np.testing.assert_allclose(shown, np.clip(both(x)[:2] / (2 * level), 0, 1), rtol=1e-3, atol=1e-4)


def test_data_without_masks_of_both_kinds_are_refused(gratings, digits):
    words = "study anomaly-maps: it needs images with masks of what is an anomaly, such as gratings or fibres"
    clean = gratings.picked(test=np.flatnonzero(gratings.test_labels == 0))
    full = replace(gratings, test_masks=np.ones_like(gratings.test_masks))
    unknown = Textures(*[getattr(gratings, name) for name in ("name", "train_images", "train_labels", "test_images",
                                                               "test_labels", "classes")])  # fmt: skip
    for dataset in (clean, full, unknown, digits):
        with pytest.raises(RunError, match=f"{words}; run is trained on {dataset.name}"):
            study(dataset)


def test_data_that_cannot_have_masks_are_refused_before_a_run_is_trained(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(RunError, match=r"study anomaly-maps: it needs images with masks .*, and digits has none"):
        run_study("anomaly-maps", data="digits", tiny=True)
    assert not list(tmp_path.iterdir())
    assert anomalies.has_masks((1, 16, 16), list(DEFECTS), "fibres") is None


@pytest.mark.parametrize(("argument", "value", "words"), [
    ("rate", 0.0, r"rate.* must be above 0"), ("rate", -0.5, r"rate.* must be above 0"),
    ("components", 0, "components.* must be .*at least 1"), ("shown", 0, "shown.* must be .*at least 1"),
])  # fmt: skip
def test_arguments_out_of_range_are_refused(argument, value, words):
    with pytest.raises(RunError, match=words):
        run_study("anomaly-maps", arguments={argument: value})


# ---------------------------------------------------------------------------------- what patches cost


class Convolving(Step):
    """The score is a box's sum over 2 reach + 1 pixels a side, by a convolution whose products can be counted."""

    alpha = 1.0

    def __init__(self, reach, multiple, seen=None):
        self.reach, self.multiple, self.kernel = seen or reach, multiple, 2 * reach + 1
        self.asked = []

    @property
    def any_size(self):
        return AnySize(1, 1, self.multiple, self.reach)

    def scores(self, images):
        self.asked.append(tuple(images.shape[2:]))
        box = tg.ones(1, 1, self.kernel, self.kernel)
        return F.conv2d(images, box, padding=self.kernel // 2)


@pytest.mark.parametrize(("reach", "multiple", "size", "side", "patch"), [
    (2, 4, (8, 8), 16, 12), (4, 4, (8, 8), 16, 12), (5, 4, (8, 8), 24, 20), (5, 4, (16, 24), (32, 48), 20),
    (3, 1, (9, 9), 18, 7), (20, 8, (8, 8), 56, 56),
])  # fmt: skip
def test_patches_are_as_wide_as_the_net_looks_and_tile_the_inside(reach, multiple, size, side, patch):
    """margin = reach rounded up to m; a picture of four images, or of as many as one patch needs."""
    step = Convolving(reach, multiple)
    images = np.random.default_rng(0).random((3, 1, *size)).astype(np.float32)
    table, found = anomalies._costs(step, images)
    height, width = side if isinstance(side, tuple) else (side, side)
    margin = (patch - multiple) // 2
    places = [(n - 2 * margin) // multiple for n in (height, width)]
    count = places[0] * places[1]
    assert step.asked[:2] == [(height, width)] * 2  # once for the time, once for the products
    assert step.asked[2:] == [(patch, patch)] * (2 * count)
    assert found["multiplications_once"] == (2 * reach + 1) ** 2
    assert found["multiplications_patches"] == (2 * reach + 1) ** 2 * patch**2 / multiple**2
    assert found["patches_apart"] < 1e-4 * (2 * reach + 1) ** 2
    assert list(table[0]) == ["a picture", "multiplications a pixel", "microseconds a pixel"]


def test_patches_that_are_too_narrow_are_told_apart():
    images = np.random.default_rng(0).random((4, 1, 16, 16)).astype(np.float32)
    assert anomalies._costs(Convolving(6, 4, seen=2), images)[1]["patches_apart"] > 0.1


def test_a_picture_is_made_of_the_first_images_row_by_row():
    step, seen = Convolving(1, 4), []
    scores = step.scores
    step.scores = lambda x: seen.append(x.numpy()) or scores(x)
    images = np.stack([np.full((1, 8, 8), i, np.float32) for i in range(5)])
    anomalies._costs(step, images)
    assert seen[0][0, 0, ::8, ::8].tolist() == [[0, 1], [2, 3]]
    anomalies._costs(step, images[:3])
    assert seen[-1].shape == (1, 1, 12, 12)


def test_seconds_are_of_one_pass_by_its_pixels(monkeypatch):
    """A clock that a score moves by a second: 1 pass over 16x16 pixels; 4 patches over 8x8, of 4x4 each."""
    clock = [0.0]
    step = Convolving(3, 4)
    scores = step.scores
    step.scores = lambda x: clock.__setitem__(0, clock[0] + 1) or scores(x)
    monkeypatch.setattr(anomalies.time, "perf_counter", lambda: clock[0])
    table, _ = anomalies._costs(step, np.zeros((4, 1, 8, 8), np.float32))
    assert [row["microseconds a pixel"] for row in table] == [1e6 / 256, 4e6 / 64]
