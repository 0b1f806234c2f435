"""The studies of the chapter `generated`: which images are measured, learned from and judged."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

import tinygen as tg
from tinygen import data, metrics
from tinygen.models import ConditionalGANStep
from tinygen.recipes import RunError, find, find_study, prepare
from tinygen.recipes import generated as chapter
from tinygen.recipes.study import Trained
from tinygen.step import Step
from tinygen.studies import transfer


class Drawing(Step):
    """Its samples are given images, in their order, again and again."""

    def __init__(self, images):
        self.images = images

    def sample(self, n):
        return tg.tensor(np.resize(self.images, (n, *self.images.shape[1:])))


class Labelling(Drawing):
    """The same, with labels."""

    def __init__(self, images, labels):
        super().__init__(images)
        self.labels = labels

    def labelled(self, n):
        return self.sample(n), tg.tensor(np.resize(self.labels, n))


@pytest.fixture(scope="module")
def digits():
    return data.load("digits", limit=200)


def trained(step, dataset, recipe="cgan"):
    settings = prepare(find(recipe), dataset, {"name": "digits"}, preset="tiny")
    return Trained(step, dataset, settings, Path("run"))


def seeds_of_samples(monkeypatch):
    """The seeds that samples are drawn with."""
    seeds, labelled = [], chapter.labelled
    monkeypatch.setattr(chapter, "labelled", lambda step, n, seed: seeds.append(seed) or labelled(step, n, seed))
    return seeds


class Judging:
    """In the place of the classifier: it remembers what it learned, and its answers are what a function says."""

    def __init__(self, monkeypatch, dataset):
        self.learned, self.judged = [], []
        monkeypatch.setattr(chapter, "classifier", self.learn)
        monkeypatch.setattr(transfer, "judged", self.judge)

    def learn(self, dataset, x, labels, updates, draw):
        self.learned.append((x, labels, updates))
        return SimpleNamespace(number=len(self.learned))

    def judge(self, network, x, labels):
        self.judged.append((network.number, x, labels))
        return network.number / 10


def test_measures_of_three_runs_beside_those_of_real_images(digits, monkeypatch):
    judge = Judging(monkeypatch, digits)
    test, train = digits.floats("test"), digits.floats("train")
    flat = np.full((90, 1, 8, 8), 0.5, np.float32) + np.random.default_rng(0).random((90, 1, 8, 8), np.float32) / 9
    wrong = (digits.test_labels[:120] + (np.arange(120) < 30)) % 10
    runs = [trained(Drawing(flat), digits, "gan"), trained(Drawing(train[:120]), digits, "dcgan"),
            trained(Labelling(test[:120], wrong), digits)]  # fmt: skip
    seeds = seeds_of_samples(monkeypatch)
    findings = chapter.sample_metrics(*runs, n=120, near=80, updates=7)
    assert len(set(seeds)) == len(seeds) == 3
    real, plain, deep, conditional, grey = findings.table
    assert [row["samples of"] for row in findings.table] == ["real images", "gan", "dcgan", "cgan", "grey images"]
    assert [row["n"] for row in findings.table] == [120] * 5
    assert grey["precision"] > 0.8 and grey["recall"] == 0 and grey["C-FID"] > plain["C-FID"]
    known = metrics.features(test)[0]
    images = {"gan": np.resize(flat, (120, 1, 8, 8)), "dcgan": train[:120], "cgan": test[:120]}
    for row in (plain, deep, conditional):
        found = metrics.features(images[row["samples of"]])[0]
        assert row["C-FID"] == metrics.frechet_from_features(known, found)
        assert (row["precision"], row["recall"]) == metrics.precision_recall(known[:80], found[:80])
        assert row["MMD"] == metrics.mmd(known[:80], found[:80])
    assert plain["C-FID"] > deep["C-FID"] and conditional["precision"] == conditional["recall"] == 1
    assert real["C-FID"] < plain["C-FID"] and abs(real["MMD"]) < plain["MMD"]
    # Classifiers learn from real training images and from the conditional run, and are tested on the test images.
    assert len(judge.learned) == 2 and all(updates == 7 for *_, updates in judge.learned)
    (seen, labels, _), (made, told, _) = judge.learned
    places = [np.flatnonzero((train == image).all((1, 2, 3))) for image in seen]
    assert len({p[0] for p in places}) == len(seen) == 120 and max(p[0] for p in places) > 120  # any, none twice
    assert all(label in digits.train_labels[p] for p, label in zip(places, labels))
    assert np.array_equal(made, test[:120]) and np.array_equal(told, wrong)
    assert [(number, x is test or np.array_equal(x, test)) for number, x, _ in judge.judged] == [(1, True), (2, True)]
    assert (real["GAN-train"], conditional["GAN-train"]) == (0.1, 0.2)
    assert real["GAN-test"] == metrics.gan_test(test, digits.test_labels)[0]
    assert conditional["GAN-test"] == metrics.gan_test(test[:120], wrong)[0] == pytest.approx(0.75, abs=0.02)
    assert plain["GAN-train"] == plain["GAN-test"] == deep["GAN-train"] == "-"
    assert findings.metrics == {
        "precision_grey": grey["precision"],
        "cfid": conditional["C-FID"], "precision": 1, "recall": 1, "mmd": conditional["MMD"], "gan_train": 0.2,
        "gan_test": conditional["GAN-test"], "cfid_real": real["C-FID"], "precision_real": real["precision"],
        "recall_real": real["recall"], "mmd_real": real["MMD"], "gan_train_real": 0.1,
        "gan_test_real": real["GAN-test"], "cfid_gan": plain["C-FID"], "cfid_dcgan": deep["C-FID"],
    }  # fmt: skip


def test_classes_that_the_frozen_network_does_not_know_are_tested_by_the_classifier_of_real_images(digits, monkeypatch):
    from dataclasses import replace

    judge = Judging(monkeypatch, digits)
    letters = replace(digits, classes=tuple("abcdefghij"))
    test, labels = letters.floats("test"), letters.test_labels
    runs = [trained(Drawing(test), letters, name) for name in ("gan", "dcgan")]
    samples = Labelling(test[50:150], labels[50:150])
    real, *_, made, _ = chapter.sample_metrics(*runs, trained(samples, letters), n=100, near=50, updates=3).table
    assert (real["GAN-train"], real["GAN-test"], made["GAN-train"], made["GAN-test"]) == (0.1, 0.1, 0.2, 0.1)
    assert [number for number, *_ in judge.judged] == [1, 1, 2, 1]
    assert np.array_equal(judge.judged[1][1], test) and np.array_equal(judge.judged[3][1], test[50:150])


def test_images_that_no_frozen_network_knows_cannot_be_measured():
    dataset = data.Dataset("mine", *[np.zeros((20, 3, 8, 8), "f4"), np.zeros(20, int)] * 2, ("a",))
    run = trained(Drawing(dataset.floats("test")), dataset)
    with pytest.raises(RunError, match="sample-metrics: no frozen network knows images of 3x8x8"):
        chapter.sample_metrics(run, run, run)


def test_classifiers_learn_from_the_few_alone_and_with_samples_of_either_gan(digits, monkeypatch):
    judge, few = Judging(monkeypatch, digits), []
    own = Labelling(np.full((3, 1, 8, 8), 0.25, np.float32), np.array([1, 2, 3]))
    full = Labelling(np.full((3, 1, 8, 8), 0.75, np.float32), np.array([4, 5, 6]))
    seeds, shown = seeds_of_samples(monkeypatch), []
    monkeypatch.setattr(chapter, "picture_of", lambda images, **options: shown.append(images.numpy()))
    monkeypatch.setattr(chapter, "panels", lambda pictures, titles: shown.append(titles))
    monkeypatch.setattr(chapter, "gan_of_few", lambda run, x, y, rounds, seed: few.append((x, y, rounds, seed)) or own)
    findings = chapter.augmentation(trained(full, digits), few=30, draws=2, made=12, rounds=9, updates=5)
    train, seen = digits.floats("train"), digits.train_labels
    assert len(few) == 2 and len(judge.learned) == 6 and all(updates == 5 for *_, updates in judge.learned)
    for i, (x, y, rounds, _) in enumerate(few):
        assert rounds == 9 and np.bincount(y).tolist() == [3] * 10
        for image, label in zip(x, y):
            assert label in seen[(train == image).all((1, 2, 3))]
        ways = zip(judge.learned[3 * i : 3 * i + 3], (0, 0.25, 0.75), ([], own.labels, full.labels))
        for (images, labels, _), level, told in ways:
            assert np.array_equal(images[:30], x) and np.array_equal(labels[:30], y)
            assert len(images) == len(labels) == (42 if level else 30) and (images[30:] == level).all()
            assert labels[30:].tolist() == np.resize(told, 12 if level else 0).tolist()
    assert not np.array_equal(few[0][0], few[1][0]) and few[0][3] != few[1][3]
    assert len(set(seeds)) == len(seeds) == 4
    assert [row["learned from"] for row in findings.table] == ["labels alone", "+ GAN of these 30", "+ GAN of all 200"]
    real, of_few, of_all, titles = shown
    assert titles == ["the 30 of the last draw", "a GAN of these 30", "a GAN of all 200"]
    assert all((x[y == k] == image).all((1, 2, 3)).any() for k in range(10) for image in real[3 * k : 3 * k + 3])
    assert [(len(made), np.unique(made).tolist()) for made in (of_few, of_all)] == [(12, [0.25]), (12, [0.75])]
    assert all(np.array_equal(x, digits.floats("test")) for _, x, _ in judge.judged)
    assert all(np.array_equal(labels, digits.test_labels) for *_, labels in judge.judged)
    assert [row["accuracy"] for row in findings.table] == pytest.approx([0.25, 0.35, 0.45])  # of 1 and 4, 2 and 5, ...
    assert [row["spread"] for row in findings.table] == pytest.approx([0.3 / 2**0.5] * 3)
    assert findings.metrics == pytest.approx(
        {"augmented_alone": 0.25, "augmented_own": 0.35, "augmented_all": 0.45, "gain_own": 0.1, "gain_all": 0.2}
    )


def test_the_gan_of_few_learns_from_these_few_alone_for_so_many_updates(digits, monkeypatch):
    seen, begun, build = [], [], chapter.build
    update = ConditionalGANStep.__call__
    monkeypatch.setattr(ConditionalGANStep, "__call__", lambda step, batch: seen.append(batch) or update(step, batch))
    weight = lambda one: next(iter(one.generator.parameters())).detach().numpy().copy()

    def watched(settings):
        step = build(settings)
        begun.append(weight(step))
        return step

    monkeypatch.setattr(chapter, "build", watched)
    x, y = digits.floats("train")[:40], digits.train_labels[:40]
    run = trained(Drawing(x), digits)
    step = chapter.gan_of_few(run, x, y, 6, seed=3)
    size = run.settings.batch_size
    assert size == 16 and [len(images) for images, _ in seen] == [16] * 6  # three passes of 40 images, 32 of each used
    for images, labels in seen:
        for image, label in zip(images.numpy(), labels.tolist()):
            assert label in y[(x == image).all((1, 2, 3))]
    same, _ = (chapter.gan_of_few(run, x, y, 6, seed=seed) for seed in (3, 4))
    assert np.array_equal(weight(step), weight(same))
    assert np.array_equal(begun[0], begun[1]) and not np.array_equal(begun[0], begun[2])  # weights are drawn anew
    first, again, other = (np.concatenate([images.numpy() for images, _ in seen[i : i + 6]]) for i in (0, 6, 12))
    assert np.array_equal(first, again) and not np.array_equal(first, other)  # and the order
    assert len(chapter.gan_of_few(run, x[:5], y[:5], 2, seed=0).learned()) == len(set(y[:5]))


def test_labels_that_are_too_few_or_too_many_are_refused(digits, monkeypatch):
    run = trained(Drawing(digits.floats("test")), digits)
    monkeypatch.setattr(chapter, "gan_of_few", lambda run, x, *rest: {}[f"begun with {len(x)}"])
    for few in (10, 200):
        with pytest.raises(KeyError, match=f"begun with {few}"):
            chapter.augmentation(run, few=few)
    for few in (9, 201):
        with pytest.raises(RunError, match=f"augmentation: few={few}: give 10 <= few <= 200"):
            chapter.augmentation(run, few=few)


def test_the_first_images_of_each_class_are_shown():
    labels = np.random.default_rng(0).integers(0, 4, 60)
    images = np.arange(60.0)[:, None, None, None] * np.ones((1, 1, 2, 2))
    expected = [i for k in range(4) for i in [i for i in range(60) if labels[i] == k][:7]]
    assert chapter.by_class(images, labels, 7)[:, 0, 0, 0].tolist() == expected


def test_a_classifier_sees_50_images_an_update_and_adam_moves_it_by_a_thousandth(monkeypatch):
    """Adam's first step is its rate, wherever there is a slope. 120 images are three batches."""
    passes, begun = [], []

    class Draw:
        def permutation(self, n):
            return passes.append(n) or np.arange(n)

    lenet = chapter.LeNet5
    weights = lambda network: [p.detach().numpy().copy() for p in network.parameters()]

    def watched(*given):
        begun.append((network := lenet(*given), weights(network)))
        return network

    monkeypatch.setattr(chapter, "LeNet5", watched)
    x = np.random.default_rng(0).random((120, 1, 8, 8), np.float32)
    dataset = data.Dataset("two", x, np.arange(120) % 2, x, np.arange(120) % 2, ("a", "b"))
    for updates, there in ((1, 1), (3, 1), (4, 2)):
        passes.clear()
        network = chapter.classifier(dataset, x, dataset.train_labels, updates, Draw())
        assert passes == [120] * there
        if updates == 1:
            moved = max(abs(a - b).max() for a, b in zip(weights(network), begun[0][1]))
            assert moved == pytest.approx(1e-3, rel=1e-3)


def test_a_classifier_learns_its_images():
    """Two classes, dark and bright."""
    tg.manual_seed(0)
    labels = np.arange(40) % 2
    x = (labels[:, None, None, None] * 0.5 + 0.1 * np.random.default_rng(0).random((40, 1, 8, 8))).astype("f4")
    dataset = data.Dataset("two", x, labels, x, labels, ("dark", "bright"))
    network = chapter.classifier(dataset, x, labels, 20, np.random.default_rng(0))
    assert transfer.judged(network, x, labels) == 1
    assert find_study("augmentation").arguments()["updates"].default == 1000
