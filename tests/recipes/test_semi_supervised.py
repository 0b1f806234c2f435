"""The semi-supervised recipe and study: whose labels are read, what stands beside the game, on which split."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from toys import assert_equal

from tinygen.data import as_float, load
from tinygen.data.few_labels import FewLabels
from tinygen.errors import UserError
from tinygen.recipes import RunError, find, prepare, run_study, semi_supervised, start
from tinygen.recipes import run as runs
from tinygen.recipes.semi_supervised import few_labels
from tinygen.training import aside

DIGITS = load("digits", limit=200)


def plan(dataset=DIGITS, seed=0, **arguments):
    return prepare(find("ssgan"), dataset, {"name": "digits"}, preset="tiny", seed=seed, arguments=arguments)


def labelled(dataset, settings):
    """Which training images have labels in what is learned from."""
    few = few_labels(dataset, settings).few
    place = {image.tobytes(): i for i, image in enumerate(dataset.train_images)}
    found = np.array([place[image.tobytes()] for image in few.images])
    assert np.array_equal(dataset.train_labels[found], few.labels)
    return found


def test_exactly_100_labels_are_read_ten_of_each_digit_another_draw_with_every_seed():
    draws = [labelled(DIGITS, plan(seed=seed, labelled=100)) for seed in (0, 0, 1)]
    for found in draws:
        assert len(set(found)) == 100 and np.bincount(DIGITS.train_labels[found]).tolist() == [10] * 10
    assert np.array_equal(draws[0], draws[1]) and not np.array_equal(draws[0], draws[2])
    assert find("ssgan").defaults()["labelled"] == 100
    everything = few_labels(DIGITS, plan())
    assert np.array_equal(everything.all.images, DIGITS.train_images)


def test_a_run_is_bit_for_bit_the_same_where_the_other_labels_are_deleted(tmp_path, monkeypatch):
    chosen = labelled(DIGITS, plan(seed=4))
    kept = np.full(200, -1)
    kept[chosen] = DIGITS.train_labels[chosen]
    deleted = replace(DIGITS, train_labels=kept, partly_labelled=True)
    results = []
    for name, dataset in (("all", DIGITS), ("deleted", deleted)):
        monkeypatch.setattr(runs, "load", lambda *a, d=dataset, **k: d)
        run = start("ssgan", folder=tmp_path / name, preset="tiny", seed=4, epochs=1, batch_size=16)
        run.fit()
        results.append(run.step.state_dict())
    assert_equal(*results)


def test_data_whose_labels_are_few_may_be_given():
    some = DIGITS.with_labels(30)
    there = np.flatnonzero(some.train_labels >= 0)
    found = labelled(some, plan(some, labelled=20))
    assert len(found) == 20 and set(found) <= set(there)
    assert set(labelled(some, plan(some, labelled=100))) == set(there)


def test_the_game_and_the_network_alone_begin_alike_and_see_the_same_labelled_batches(monkeypatch):
    """Same draw, weights and number of updates; both are judged on the test images; figures are means over draws."""
    fitted, judged = [], []

    def fit(step, batches, epochs):
        network = step.discriminator if hasattr(step, "discriminator") else step.classifier
        weights = [p.numpy().copy() for p in (p.detach() for p in network.parameters())]
        fitted.append((step, batches, epochs, weights))

    def evaluate(step, batches):
        assert not step.networks()[next(iter(step.networks()))].training
        judged.append((step, [x.numpy() for x, _ in batches], [y.numpy() for _, y in batches]))
        return {"accuracy": len(judged) / 10}

    monkeypatch.setattr(semi_supervised, "fit", fit)
    monkeypatch.setattr(semi_supervised, "evaluate", evaluate)
    findings, _ = run_study("semi-supervision", arguments={"draws": 3, "labelled": 30, "epochs": 2})
    dataset = load("digits")
    assert len(fitted) == len(judged) == 6
    for alone, game in zip(fitted[::2], fitted[1::2]):
        assert isinstance(game[1], FewLabels)
        for a, b in zip(alone[3], game[3], strict=True):
            assert np.array_equal(a, b)
        updates = len(game[1]) * game[2]
        assert len(alone[1]) * alone[2] == updates > 20 and len(alone[1].images) == 30
        assert game[2] == 2  # the epochs that were asked for
        for player in (alone[0].schedule, game[0].discriminator_schedule):  # both rates end at 0 with the last update
            assert [player.rate(1.0, t, 0) for t in (0, updates / 2, updates)] == pytest.approx([1, 0.5, 0])
        for t in range(0, updates, 7):
            for a, b in zip(alone[1].step(t), game[1].at(*divmod(t, len(game[1])))[1:], strict=True):
                assert np.array_equal(a, b)
        rates = {o["lr"] for s in (alone[0].optimizer, game[0].discriminator_optimizer) for o in s.param_groups}
        assert len(rates) == 1
    assert len({f[1].images.tobytes() for f in fitted[::2]}) == 3  # three draws
    for (step, images, labels), (trained, *_) in zip(judged, fitted):
        assert step is trained
        seen = sorted(x.tobytes() for x in np.concatenate(images))
        assert seen == sorted(x.tobytes() for x in dataset.floats("test"))
        assert np.array_equal(np.sort(np.concatenate(labels)), np.sort(dataset.test_labels))
    assert findings.metrics == pytest.approx({"supervised": 0.3, "semi_supervised": 0.4, "gain": 0.1})
    assert [row["accuracy"] for row in findings.table] == pytest.approx([0.3, 0.4])
    assert [row["spread"] for row in findings.table] == pytest.approx([0.2, 0.2])
    assert [row["least"] for row in findings.table] == pytest.approx([0.1, 0.2])


def test_a_labelled_image_of_each_class_is_shown_beside_samples_as_they_are_judged(monkeypatch):
    """Samples in evaluation mode; and the spread of a single draw is 0, not NaN."""
    games = []
    monkeypatch.setattr(semi_supervised, "fit", lambda step, batches, epochs: games.append((step, batches)))
    monkeypatch.setattr(semi_supervised, "evaluate", lambda step, batches: {"accuracy": 0.5})
    findings, _ = run_study("semi-supervision", arguments={"draws": 1, "labelled": 30, "epochs": 1})
    assert [row["spread"] for row in findings.table] == [0.0, 0.0]
    step, batches = games[-1]
    labelled, samples = findings.pictures["samples"].batches
    label = {image.tobytes(): y for image, y in zip(as_float(batches.few.images), batches.few.labels)}
    assert [label[image.tobytes()] for image in labelled.numpy()] == list(range(10))
    with aside(step, 0):
        assert np.array_equal(samples.numpy(), step.sample(10).numpy())


def test_images_without_labels_are_refused():
    np.savez("bare.npz", images=np.random.default_rng(0).integers(0, 256, (60, 1, 8, 8), np.uint8))
    with pytest.raises(RunError, match="needs labels"):
        run_study("semi-supervision", data="bare.npz")
    with pytest.raises(UserError, match="needs labels"):
        start("ssgan", "bare.npz", preset="tiny")


def test_fewer_labels_than_classes_are_refused(tmp_path):
    with pytest.raises(RunError, match="labelled=9 names not even one image of each class; give at least 10"):
        start("ssgan", folder=tmp_path / "run", preset="tiny", arguments={"labelled": 9})
    with pytest.raises(RunError, match="study semi-supervision: labelled=1 names"):
        run_study("semi-supervision", tiny=True, arguments={"labelled": 1})
