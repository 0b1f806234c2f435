"""Scores: against which images, over how many, and beside what is trivial."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from toys import Toy, Watched

import tinygen as tg
from tinygen import data, metrics, nn, optim
from tinygen.data import Dataset
from tinygen.recipes import RECIPES, find, samples, score
from tinygen.recipes import scores as module
from tinygen.recipes.baselines import Baseline, pca
from tinygen.recipes.recipe import Given
from tinygen.recipes.scores import baselines, labelled, over, unscored, watch
from tinygen.step import Step


class Returning(Step):
    """Its samples are the given items, in their order, again and again."""

    def __init__(self, items):
        self.items, self.at = items, 0

    def sample(self, n):
        if n == 500 or self.at + n > len(self.items):
            self.at = 0
        found = np.resize(self.items[self.at :], (n, *self.items.shape[1:]))
        self.at += n
        return tg.tensor(found)


def test_samples_are_scored_against_the_test_images():
    """The test images themselves have distance 0; as many training images do not."""
    digits = data.load("digits")
    found = score(Returning(digits.floats("test")), digits, 0, digits.count("test"))
    assert found["cfid"] == (pytest.approx(0, abs=1e-3), 297)
    assert found["class_kl"] == (pytest.approx(0, abs=1e-6), 297) and found["digits"] == (10, 297)
    assert found["conf95"][0] == pytest.approx(metrics.confident(metrics.features(digits.floats("test"))[1]))
    other = score(Returning(digits.floats("train")[:297]), digits, 0, 297)
    assert other["cfid"][0] > 5


def test_class_frequencies_are_those_of_the_samples_beside_those_of_the_test_images():
    """KL(samples || test): zeros alone cost log 1/share of zeros, and are no infinity."""
    digits = data.load("digits")
    test = digits.floats("test")
    classes = metrics.features(test)[1].argmax(1)
    zeros = test[classes == 0]
    found = score(Returning(np.resize(zeros, (200, 1, 8, 8))), digits, 0, 200)
    assert found["class_kl"][0] == pytest.approx(-np.log((classes == 0).mean()), rel=1e-5)
    assert found["digits"] == (1, 200)


class Doubling(Returning):
    """Of its two sets of items it shows the second one while its averaged weights are in place."""

    def __init__(self, items, averaged):
        super().__init__(items)
        self.net, self.last = nn.Linear(1, 1), (items, averaged)
        self.average = optim.EMA(self.net, 0.5)
        self.net.weight.data.fill_(7.0)

    def sample(self, n):
        self.items = self.last[int(self.net.weight.item() != 7.0)]
        return super().sample(n)


def test_averaged_weights_are_scored_beside_the_last_ones():
    """The last: training images; averaged: the test images themselves, of distance 0."""
    digits = data.load("digits")
    step = Doubling(digits.floats("train")[:297], digits.floats("test"))
    found = score(step, digits, 0, 297)
    plain = score(Returning(digits.floats("train")[:297]), digits, 0, 297)
    assert found["cfid_averaged"] == (pytest.approx(0, abs=1e-3), 297) and found["cfid"] == plain["cfid"]
    assert set(found) == {*plain, *(f"{name}_averaged" for name in plain)} <= set(metrics.NAMES)
    assert found["conf95_averaged"][0] == pytest.approx(metrics.confident(metrics.features(digits.floats("test"))[1]))
    assert step.net.weight.item() == 7.0
    for name in plain:
        one, other = metrics.describe(name), metrics.describe(f"{name}_averaged")
        assert (one.unit, one.good) == (other.unit, other.good) and not other.headline


def test_what_a_step_measures_is_taken_over_the_test_images():
    digits = data.load("digits", limit=50)
    step = Watched(Toy())
    found = score(step, digits, 0, 200)
    mean = np.mean((digits.floats("test") - step.net.weight.item()) ** 2)
    assert found["mse"] == (pytest.approx(mean, rel=1e-5), 50)
    assert sum(map(len, step.seen["measure"])) == 50


class Weighing(Step):
    """Its log weights are the images' first pixel for one draw, and -infinity for all others."""

    def __init__(self):
        self.seen, self.draws = [], set()

    def log_weights(self, batch, k):
        self.seen.append(batch[0].numpy())
        self.draws.add(k)
        first = batch[0][:, 0, 0, :1].T
        return tg.cat([first, tg.full((k - 1, first.shape[1]), -math.inf)])


def test_the_likelihood_is_of_1000_test_images_in_a_drawn_order_with_100_draws():
    """An ordered file: its first 1,000 images would give another number."""
    value = np.linspace(0, 1, 3000, dtype="f4")
    images = value[:, None, None, None] * np.ones((1, 8, 8), "f4")
    ordered = Dataset("ordered", np.zeros((40, 1, 8, 8), "f4"), None, images, None)
    step = Weighing()
    found, n = score(step, ordered, 0, 200)["nll"]
    seen = np.concatenate(step.seen)[:, 0, 0, 0]
    assert n == len(seen) == len(set(seen)) == 1000 and step.draws == {100}
    assert found == pytest.approx(math.log(100) - seen.mean(), rel=1e-5)  # log 1/k sum w, w = e^pixel once
    assert seen.mean() == pytest.approx(0.5, abs=0.03)
    assert score(Weighing(), ordered, 5, 200)["nll"] == (pytest.approx(found), 1000)  # the same images for every seed
    few = ordered.limited(70)
    step = Weighing()
    assert score(step, few)["nll"][1] == 70 and len(np.concatenate(step.seen)) == 70
    assert "nll" not in score(Toy(), few) and over("nll", 70) == "n = 70, k = 100" and over("mse", 1000) == "n = 1,000"


def test_the_likelihood_of_a_trained_vae_lies_above_its_bound():
    digits = data.load("digits", limit=100)
    tg.manual_seed(0)
    recipe = find("vae-binarised")
    step = recipe.build(Given((1, 8, 8), digits.classes, 1), hidden=(16,), latent=2)
    for _ in range(60):
        step((tg.tensor(digits.floats("train")), None))
    found = score(step, digits)
    assert 0 < found["nll"][0] < found["loss"][0] - 0.1


@pytest.mark.parametrize(
    ("images", "reason"),
    [(np.zeros((90, 1, 8, 8)), None), (np.zeros((50, 1, 8, 8)), "50 test images are too few, 64 are needed"),
     (np.zeros((100, 1, 28, 28)), "100 test images are too few, 128 are needed"), (np.zeros((200, 1, 28, 28)), None),
     (np.zeros((200, 3, 28, 28)), "no frozen network knows images of 3x28x28")],
)  # fmt: skip
def test_why_samples_are_not_scored(images, reason):
    dataset = Dataset("mine", images.astype("f4"), None, images.astype("f4"), None)
    assert unscored(dataset) == reason
    found = score(Toy(shape=dataset.shape), dataset, 0, 200)
    assert set(found) == {"mse"} | (set() if reason else {"cfid"})  # whether a digit was recognised says nothing here


def test_points_are_scored_by_their_modes_and_their_distance():
    ring = data.load("ring")
    test = ring.floats("test")
    found = score(Returning(test[:2000]), ring, 0, 2000)
    assert found["modes"] == (8, 2000) and found["within_3_sigma"][0] == pytest.approx(0.989, abs=0.01)
    assert found["energy_distance"][0] == pytest.approx(0, abs=0.01)
    half = test[test[:, 0] > 0.5]
    found = score(Returning(half[:1000]), ring, 0, 1000)
    assert found["modes"] == (3, 1000) and found["energy_distance"][0] > 0.3
    moons = data.load("moons")
    assert set(score(Returning(moons.floats("test")), moons, 0, 100)) == {"energy_distance"}


def test_what_is_watched_are_classes_or_modes():
    digits, ring = data.load("digits"), data.load("ring")
    test = digits.floats("test")
    zeros = test[metrics.features(test)[1].argmax(1) == 0]
    one = {"classes_covered": 1, "classes_there": 10}
    drawn = np.resize(zeros, (500, 1, 8, 8))
    nyquist = {"nyquist": metrics.nyquist_share(drawn), "nyquist_real": metrics.nyquist_share(test[:500])}
    assert watch(Returning(drawn), digits, 0) == nyquist | one and 0 < nyquist["nyquist"] != nyquist["nyquist_real"]
    assert watch(Returning(drawn), digits.only("0"), 0) == nyquist  # all there is: no collapse
    assert watch(Returning(ring.floats("test")[:500]), ring, 0) == {"modes": 8, "modes_there": 8}
    assert watch(Returning(data.load("moons").floats("test")), data.load("moons"), 0) == {}

    class Nothing(Step): ...

    assert watch(Nothing(), digits, 0) == {}


def test_measuring_and_baselines_say_how_long_they_take(monkeypatch, capsys):
    """A clock that is moved by hand: each batch and each baseline takes 10 seconds."""
    clock = [0.0]
    monkeypatch.setattr("tinygen.training.progress.time", SimpleNamespace(perf_counter=lambda: clock[0]))

    class Slow(Toy):
        def measure(self, batch):
            clock[0] += 10
            return super().measure(batch)

    def slow(dataset, arguments):
        clock[0] += 10
        return Baseline("mse", "slow", 1.0)

    digits = data.load("digits", limit=290)
    monkeypatch.setattr(module, "unscored", lambda dataset: "not now")
    score(Slow(), digits)  # batches of 256 and 34
    assert capsys.readouterr().out == "test figures: about 10 s\n"
    recipe = find("autoencoder")
    monkeypatch.setitem(vars(recipe), "baselines", (lambda *given: None, slow, lambda *given: None))
    baselines(recipe, digits, {})  # the first takes no time
    assert capsys.readouterr().out == "baselines: about 5.0 s\n"


def test_samples_of_a_seed_are_the_same_however_many_are_drawn_before():
    step = Toy()
    tg.manual_seed(1)
    first = samples(step, 600, 5).numpy()
    tg.rand(17)
    assert np.array_equal(samples(step, 600, 5).numpy(), first)
    assert not np.array_equal(first[:500][:100], first[500:])


# ---------------------------------------------------------------------------------- baselines


def test_baselines_are_fitted_on_training_images_and_judged_on_test_images():
    digits = data.load("digits", limit=100)
    train, test = digits.floats("train"), digits.floats("test")
    found = baselines(find("autoencoder"), digits, {"latent": 5})
    mean = ((test - train.mean(0)) ** 2).mean()
    centred = (train - train.mean(0)).reshape(100, 64)
    directions = np.linalg.svd(centred, full_matrices=False)[2][:5]
    rows = (test - train.mean(0)).reshape(100, 64)
    pca = ((rows - rows @ directions.T @ directions) ** 2).mean()
    assert found == {"mse": [("mse", "the mean image", pytest.approx(mean, rel=1e-4), False),
                             ("mse", "PCA of 5 numbers", pytest.approx(pca, rel=1e-3), False)]}  # fmt: skip


LEVELS = (0.2, 0.6)  # of the training images, half of them each: mean 0.4, variance 0.04
CHECKERS = np.where(np.indices((8, 8)).sum(0) % 2, 0.1, 0.7)  # 0.4 and 0.3 beside it, orthogonal to what training has
TRAIN = np.repeat(LEVELS, 20)[:, None, None, None] * np.ones((1, 8, 8))
TEST = np.concatenate([np.full((10, 1, 8, 8), 0.9), np.tile(CHECKERS, (10, 1, 1, 1))])
TOY = Dataset("toy", TRAIN.astype("f4"), np.repeat([0, 1, 1, 2], 10), TEST.astype("f4"), np.repeat([0, 1], [15, 5]),
              ("a", "b", "c"))  # fmt: skip
MSE = (0.5**2 + 0.3**2) / 2  # of the mean training image
MEAN = TEST.mean()


def entropy(p):
    return -p * math.log(p) - (1 - p) * math.log(1 - p)


KNOWN = [
    ("autoencoder", {"latent": 1}, "mse", "the mean image", MSE),
    ("autoencoder", {"latent": 1}, "mse", "PCA of 1 numbers", 0.3**2 / 2),
    ("vae", {"likelihood": "bernoulli"}, "loss", "the mean image",
     -64 * (MEAN * math.log(0.4) + (1 - MEAN) * math.log(0.6))),
    ("vae", {"likelihood": "bernoulli"}, "loss", "floor of grey images",
     64 * (entropy(0.9) / 2 + entropy(0.1) / 4 + entropy(0.7) / 4)),
    ("conv-vae", {"likelihood": "gaussian"}, "loss", "the mean image",
     32 * (math.log(2 * math.pi * 0.04) + MSE / 0.04)),
    ("lenet", {}, "accuracy", "the largest class", 5 / 20),
    # on above 1/2: half the training pixels; of the test pixels all of one half, and half of the other's
    ("vae-binarised", {}, "loss", "the mean image", 64 * math.log(2)),
    ("iwae", {}, "loss", "the mean image", 64 * math.log(2)),
]  # fmt: skip


@pytest.mark.parametrize(("name", "arguments", "metric", "what", "value"), KNOWN)
def test_a_baseline_of_known_data_is_what_it_is_by_hand(name, arguments, metric, what, value):
    """Every figure would be another one, were it fitted on the test images or judged on the training images."""
    found = {b.what: b for b in baselines(find(name), TOY, arguments)[metric]}
    assert found[what].metric == metric and found[what].value == pytest.approx(value, rel=1e-4)
    assert found[what].floor is what.startswith("floor")


def test_a_gaussian_likelihood_has_no_floor_of_grey_images():
    whats = {b.what for found in baselines(find("vae"), TOY, {"likelihood": "gaussian"}).values() for b in found}
    assert "the mean image" in whats and "floor of grey images" not in whats


def test_black_and_white_baselines_see_no_grey_in_either_split():
    train = np.repeat(np.float32([0.6, 0.9, 0.8, 0.2]), 64).reshape(4, 1, 8, 8)  # three of four are on
    test = np.full((5, 1, 8, 8), 0.7, np.float32)  # all on
    toy = Dataset("toy", train, np.zeros(4, int), test, np.zeros(5, int), ("a",))
    found = {b.what: b.value for b in baselines(find("vae-binarised"), toy, {})["loss"]}
    assert found["the mean image"] == pytest.approx(-64 * math.log(0.75), rel=1e-4)


def test_the_floor_of_samples_is_the_distance_of_training_images_from_test_images():
    digits = data.load("digits", limit=200)
    found, _ = baselines(find("dcgan"), digits, {})["cfid"]
    moments = [
        (rows.mean(0), np.cov(rows, rowvar=False))
        for rows in (metrics.features(digits.floats(split))[0].astype(float) for split in ("train", "test"))
    ]
    assert found.value == pytest.approx(metrics.frechet_distance(*moments[0], *moments[1]), rel=1e-3)
    assert found.floor and found.value > 5
    one = Dataset("one", digits.train_images, None, digits.train_images, None)
    assert baselines(find("dcgan"), one, {})["cfid"][0].value == pytest.approx(0, abs=1e-3)


def test_pca_has_as_many_numbers_as_the_argument_that_the_chapter_names(monkeypatch):
    digits = data.load("digits", limit=50)
    recipe = find("autoencoder")
    monkeypatch.setitem(vars(recipe), "baselines", (pca("width"), pca("depth")))
    found = baselines(recipe, digits, {"width": 3, "depth": 7, "latent": 5})["mse"]
    assert [b.what for b in found] == ["PCA of 3 numbers", "PCA of 7 numbers"] and found[0].value > found[1].value


def test_a_baseline_that_the_data_do_not_have_is_left_out():
    digits = data.load("digits", limit=20)  # too few for a distance of features
    vae = baselines(find("vae"), digits, {"likelihood": "bernoulli"})
    assert {name: [b.floor for b in found] for name, found in vae.items()} == {"loss": [False, True]}
    assert [b.what for b in baselines(find("autoencoder"), digits, {"latent": 100})["mse"]] == ["the mean image"]
    assert baselines(find("dcgan"), digits, {}) == {}


def test_a_baseline_is_computed_once_for_the_same_data_and_arguments(monkeypatch, tmp_path):
    calls = []

    def counted(dataset, arguments):
        calls.append(dataset.sha)
        return Baseline("mse", "counted", float(len(calls)), floor=True)

    recipe = find("autoencoder")
    monkeypatch.setitem(vars(recipe), "baselines", (counted,))
    few, more = data.load("digits", limit=20), data.load("digits", limit=30)
    for dataset, arguments, value in ((few, {"a": 1}, 1), (few, {"a": 1}, 1), (more, {"a": 1}, 2), (few, {"a": 2}, 3)):
        assert baselines(recipe, dataset, arguments) == {"mse": [("mse", "counted", value, True)]}
    kept = Path(tmp_path / "cache" / "tinygen" / "baselines.json")
    assert len(json.loads(kept.read_text())) == 3
    kept.write_text("{")  # a damaged cache costs time, nothing else
    assert baselines(recipe, few, {"a": 1}) == {"mse": [("mse", "counted", 4, True)]}
    monkeypatch.setenv("XDG_CACHE_HOME", "/proc/none")
    assert baselines(recipe, few, {"a": 1}) == {"mse": [("mse", "counted", 5, True)]}


@pytest.mark.parametrize(
    ("name", "value", "what", "reference", "floor", "beaten"),
    [("mse", 0.1, "the mean image", 0.2, False, True), ("mse", 0.2, "the mean image", 0.2, False, False),
     ("accuracy", 0.5, "largest class", 0.1, False, True), ("accuracy", 0.1, "largest class", 0.1, False, False),
     ("loss", 90.0, "floor of grey images", 50.0, True, True), ("cfid", 90.0, "real training images", 1.0, True, True),
     ("kl", 9.0, "anything", 1.0, False, True)],
)  # fmt: skip
def test_beaten_is_better_and_a_floor_need_not_be(name, value, what, reference, floor, beaten):
    told = Baseline(name, what, reference, floor).beside(value)
    assert told == f"{what}: {reference:.5g}" + ("" if beaten else "  NOT BEATEN")


@pytest.mark.parametrize("name", RECIPES)
def test_every_recipe_has_a_baseline_to_beat_for_a_headline(name):
    """On its own data; a generator has the floor as well."""
    recipe = find(name)
    limit = 300 if recipe.data == "digits" else 2000
    dataset = data.load(recipe.data, limit=limit)
    found = [b for of in baselines(recipe, dataset, recipe.defaults()).values() for b in of]
    if dataset.shape[0] == 3:  # no frozen network knows colours, and that is said instead
        assert not found and "no frozen network knows" in unscored(dataset)
        return
    assert any(not b.floor and metrics.NAMES[b.metric].headline for b in found)
    for distance in {"cfid", "energy_distance"} & {b.metric for b in found} if not recipe.pair else ():
        floor, bar = sorted((b for b in found if b.metric == distance), key=lambda b: b.value)
        assert floor.floor and not bar.floor and bar.value > 10 * abs(floor.value)
    if recipe.kind.offers("sample") and not unscored(dataset):
        assert {"cfid", "energy_distance"} & {b.metric for b in found}


def test_every_recipes_baselines_are_of_known_figures():
    from tinygen.recipes import RECIPES

    digits = data.load("digits", limit=300)
    for recipe in RECIPES.values():
        if data.load(recipe.data).items != "images":
            continue
        for name, found in baselines(recipe, digits, recipe.defaults()).items():
            assert name in metrics.NAMES and all(np.isfinite(b.value) for b in found), recipe.name
    assert module.SAMPLES == 10_000


class Labelled(Step):
    """Samples are digits of the data in their order, and of each label `wrong[label]` of ten are of the next class."""

    def __init__(self, dataset, wrong):
        images, labels = dataset.floats("train"), dataset.train_labels
        known = metrics.features(images)[1].argmax(1) == labels
        by_class = [images[known & (labels == k)] for k in range(10)]
        asked = np.arange(1000) % 10
        drawn = [(k + 1) % 10 if i // 10 % 10 < wrong.get(k, 0) else k for i, k in enumerate(asked)]
        self.images = np.stack([by_class[k][i % len(by_class[k])] for i, k in enumerate(drawn)])
        self.asked, self.at = asked, 0

    def labelled(self, n):
        part = slice(self.at, self.at + n)
        self.at += n
        return tg.tensor(self.images[part]), tg.tensor(self.asked[part])

    def sample(self, n):
        return self.labelled(n)[0]


def test_samples_that_know_their_labels_are_tested_by_them():
    digits = data.load("digits")
    found = score(Labelled(digits, {3: 2, 8: 5}), digits, 0, 1000)
    assert found["gan_test"] == (pytest.approx(0.93), 1000) and found["gan_test_worst"] == (pytest.approx(0.5), 1000)
    plain = metrics.scores(Labelled(digits, {3: 2, 8: 5}).images, digits.floats("test"))
    assert {name: found[name][0] for name in plain} == plain and set(found) == {*plain, "gan_test", "gan_test_worst"}
    images, labels = labelled(Labelled(digits, {}), 700, 0)
    assert len(images) == len(labels) == 700 and labels[:12].tolist() == [*range(10), 0, 1]  # 500 and 200
    assert labelled(Returning(images), 700, 0)[1] is None
    seen = watch(Labelled(digits, {3: 2, 8: 5}), digits, 0)
    energy = {name: seen.pop(name) for name in ("nyquist", "nyquist_real")}
    assert all(value > 0 for value in energy.values())
    assert seen == pytest.approx({"classes_covered": 10, "classes_there": 10, "gan_test": 0.93, "gan_test_worst": 0.5,
                                  "worst_class": 8})  # fmt: skip
    others = replace(digits, classes=tuple("abcdefghij"))
    assert set(score(Labelled(digits, {}), others, 0, 1000)) == {"cfid"}  # the network knows digits alone
    assert set(watch(Labelled(digits, {}), others, 0)) == {"nyquist", "nyquist_real"}


def test_the_ceiling_of_gan_test_is_the_network_on_real_test_images():
    digits = data.load("digits")
    figures = baselines(find("cgan"), digits, {})["gan_test"]
    assert [(b.what, b.floor) for b in figures] == [("real test images", True)]
    found = metrics.features(digits.floats("test"))[1].argmax(1)
    assert figures[0].value == (found == digits.test_labels).mean()
    assert "gan_test" not in baselines(find("cgan"), replace(digits, classes=tuple("abcdefghij")), {})
