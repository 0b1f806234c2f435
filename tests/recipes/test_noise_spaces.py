"""Studies of noise, on generators of which everything is known."""

from __future__ import annotations

import math
from functools import cache
from pathlib import Path

import numpy as np
import pytest

import tinygen as tg
from tinygen import metrics, nn
from tinygen.data import load
from tinygen.data.selection import subset
from tinygen.data.varied import tint
from tinygen.recipes import RunError, find_study, run_study, start
from tinygen.recipes import noise_spaces as chapter
from tinygen.recipes.study import Trained
from tinygen.step import Step
from tinygen.studies import noise


class Known(Step):
    """What a study of noise needs of a GAN."""

    def __init__(self, latent, generate):
        self.latent, self.generator = latent, generate

    def noise(self, n):
        return tg.randn(n, self.latent)


def study_of(name, data, latent, generate, of=Known, **arguments):
    tg.manual_seed(0)
    trained = Trained(of(latent, generate), load(data), None, Path("run"))
    return find_study(name).run(trained, **arguments)


class Uniform(Known):
    """A GAN with other noise."""

    def noise(self, n):
        return tg.rand(n, self.latent) + 5


class Asked(nn.Module):
    """A generator that remembers what it is asked for, and in which mode."""

    def __init__(self, generate):
        super().__init__()
        self.generate, self.codes, self.modes = generate, [], set()

    def forward(self, z):
        self.codes.append(z.detach().numpy().copy())
        self.modes.add(self.training)
        return self.generate(z)


@pytest.mark.parametrize("name", ["arithmetic", "turn", "chain", "plane", "inversion"])
def test_a_study_asks_the_generator_in_its_evaluation_about_the_training_s_noise(name, monkeypatch):
    monkeypatch.setattr(chapter, "_draw_searches", lambda histories: None)
    few = {"arithmetic": {"pool": 50, "trials": 5, "averaged": 3, "around": 1, "spread": 0.0}, "chain": {},
           "plane": {"side": 3}, "turn": {"pool": 50, "walks": 5, "reach": 0.0},
           "inversion": {"count": 2, "restarts": 1, "evaluations": 1, "anomalies": 2}}[name]  # fmt: skip
    channels = 3 if name == "arithmetic" else 1
    asked = Asked(lambda z: (z[:, :1] * 0.1).sigmoid().reshape(-1, 1, 1, 1) * tg.ones(1, channels, 8, 8))
    study_of(name, "tinted-digits" if name == "arithmetic" else "digits", 3, asked, of=Uniform, **few)
    assert asked.modes == {False} and asked.training
    assert any((codes > 5).all() and (codes < 6).all() for codes in asked.codes)


# ---------------------------------------------------------------------------------- arithmetic


@cache
def examples():
    digits = load("digits")
    return digits.floats("train")[[np.flatnonzero(digits.train_labels == d)[3] for d in range(10)]]


def in_colour(z):
    """The digit that is largest of ten numbers, in the colour of the direction of two more."""
    z = z.numpy()
    hues = np.arctan2(z[:, 11], z[:, 10]) / (2 * math.pi) % 1
    return tg.tensor(tint(examples()[z[:, :10].argmax(1)], hues.astype(np.float32)))


def test_arithmetic_is_right_where_factors_are_directions():
    found = study_of("arithmetic", "tinted-digits", 12, in_colour, pool=3000, around=2, spread=0.0)
    numbers = found.metrics
    assert numbers["arithmetic"] > 0.97 and min(numbers["arithmetic_digit"], numbers["arithmetic_hue"]) > 0.97
    assert numbers["arithmetic_around"] == pytest.approx(numbers["arithmetic"])  # no noise around
    assert numbers["arithmetic_chance"] < 0.06 and numbers["trials"] == 200 and numbers["least_confident"] > 0.9
    assert [row["codes in an average"] for row in found.table] == [1, 3, 10, 30]
    assert found.table[0]["right"] < found.table[1]["right"] < 1  # one code says little
    assert all(row["right"] <= min(row["digit"], row["colour"]) for row in found.table)
    norms = [row["norm"] for row in found.table]
    assert norms == sorted(norms, reverse=True) and 4.5 < norms[0] < math.sqrt(3 * 12)  # of three codes together
    shown = found.pictures["arithmetic"]
    assert shown.titles == ["red 3", "- red 7", "+ green 7", "= green 3"]
    for row, digit, hue in zip(shown.batches, (3, 7, 7, 3), (0, 0, 1 / 3, 1 / 3), strict=True):
        images = row.numpy()
        assert len(images) == 9
        assert (metrics.features(images.max(1, keepdims=True))[1].argmax(1) == digit).all()
        light = images.sum((2, 3))
        assert (light.argmax(1) == round(3 * hue)).all()
    assert [len(row) for row in found.pictures["averages"].batches] == 4 * [12]


def test_noise_around_a_result_can_spoil_it():
    few = {"pool": 600, "trials": 60, "averaged": 10}
    numbers = study_of("arithmetic", "tinted-digits", 12, in_colour, spread=6.0, **few).metrics
    assert numbers["arithmetic"] > 0.8 > 0.3 > numbers["arithmetic_around"] > numbers["arithmetic_chance"]


def test_arithmetic_needs_colour():
    start("gan", folder="run", preset="tiny", epochs=1).fit()
    with pytest.raises(RunError, match=r"needs digits in colour.*these data are 1x8x8; train on tinted"):
        run_study("arithmetic", "run", tiny=True)


def test_arithmetic_with_a_generator_of_one_colour_finds_no_other():
    red = tg.tensor([[[1.0]], [[0.0]], [[0.0]]])
    numbers = study_of("arithmetic", "tinted-digits", 3, lambda z: tg.ones(len(z), 3, 8, 8) * red, pool=50).metrics
    assert numbers["least_confident"] == 0 and numbers["arithmetic_hue"] == pytest.approx(1 / 6, abs=0.1)


def test_a_group_that_is_filled_is_as_sure_as_its_least(monkeypatch):
    """Images 0 to 3 are red, 4 and 5 magenta; of the digits 1 to 9 and the other colours none is seen."""
    sure = np.zeros((6, 10))
    sure[:, 0] = 0.99, 0.5, 0.97, 0.3, 0.98, 0.96
    distances = np.full((6, 6), 0.4)
    distances[:4, 0] = distances[4:, 5] = 0.0
    distances[4:, 0] = 0.2, 0.1
    monkeypatch.setattr(chapter, "_judged", lambda images: (sure, distances))
    groups, doubt = chapter._groups(np.zeros((6, 3, 8, 8)), 1)
    assert groups[0, 0].tolist() == [0, 2] and groups[0, 5].tolist() == [4, 5] and doubt == 0
    assert chapter._groups(np.zeros((6, 3, 8, 8)), 5)[0][0, 0].tolist() == [0, 2, 1, 3, 5]
    monkeypatch.setattr(chapter, "COLOURS", ("red",))
    monkeypatch.setattr(chapter, "_judged", lambda images: (sure[:, :1], distances[:, :1]))
    assert [chapter._groups(np.zeros((6, 3, 8, 8)), least)[1] for least in (1, 5, 6)] == [0.96, 0.5, 0.3]


# ---------------------------------------------------------------------------------- turns, chains, planes


def leaning(z):
    """A stroke whose slope is the code's first number, between -1 and 1."""
    slopes = 0.9 * np.tanh(z.numpy()[:, 0])
    y, x = np.mgrid[:8, :8]
    away = x - 3.5 - slopes[:, None, None] * (3.5 - y)
    return tg.tensor(np.clip(1 - abs(away), 0, 1)[:, None].astype(np.float32))


def test_a_turn_makes_strokes_lean_to_the_right():
    found = study_of("turn", "digits", 4, leaning, pool=1000, walks=50, steps=5)
    numbers = found.metrics
    assert numbers["slant_first"] < -0.2 < 0.2 < numbers["slant_last"] and numbers["turned"] > 0.95
    slopes = 0.9 * np.tanh(np.random.default_rng(0).normal(size=100_000))
    assert numbers["slant_natural"] == pytest.approx(slopes.std(), rel=0.06)
    column = [row["slant"] for row in found.table]
    assert column == sorted(column) and column[0] == numbers["slant_first"] and column[-1] == numbers["slant_last"]
    sheet = found.pictures["turn"]
    assert sheet.columns == 5 and len(sheet.images) == 40 and 0 <= numbers["turn_kept"] <= 1


def dimmed(z):
    """The digit that is largest of ten numbers, more or less bright and more or less upright."""
    z = z.numpy()
    images = examples()[z[:, :10].argmax(1)] / (1 + np.exp(-2 * z[:, 10, None, None, None]))
    return tg.tensor(np.where(z[:, 11, None, None, None] > 1, images[..., ::-1], images).astype(np.float32))


def sure(images):
    return (metrics.features(images.numpy())[1].max(1) >= 0.95).mean()


@pytest.mark.parametrize(("share", "reach"), [(0.2, 1.0), (0.05, 2.5)])
def test_a_turn_is_as_long_as_is_said_and_keeps_the_digits_that_it_keeps(share, reach):
    asked = Asked(dimmed)
    found = study_of("turn", "digits", 12, asked, pool=300, walks=40, steps=3, share=share, reach=reach)
    codes = np.concatenate(asked.codes)
    pool, walks = codes[:300], codes[300:].reshape(40, 3, 12)
    images = dimmed(tg.tensor(pool)).numpy()
    slants, digits = noise.slant(images), metrics.features(images)[1].argmax(1)
    direction = np.zeros(12)
    for digit in range(10):
        own = pool[digits == digit][np.argsort(slants[digits == digit], kind="stable")]
        count = max(1, int(share * len(own)))
        direction += (own[-count:].mean(0) - own[:count].mean(0)) / 10
    np.testing.assert_allclose(walks[:, 2] - walks[:, 0], np.tile(reach * direction, (40, 1)), atol=1e-5)
    np.testing.assert_allclose(walks[:, 1], (walks[:, 0] + walks[:, 2]) / 2, atol=1e-5)
    assert np.abs(walks[:, None, 1] - pool).max(2).min() > 0.1  # further codes
    first, last = (dimmed(tg.tensor(walks[:, i])).numpy() for i in (0, 2))
    kept = (metrics.features(first)[1].argmax(1) == metrics.features(last)[1].argmax(1)).mean()
    numbers = found.metrics
    assert numbers["turn_kept"] == pytest.approx(kept) and 0 < kept < 1
    assert numbers["turned"] == pytest.approx((noise.slant(last) > noise.slant(first)).mean())
    assert numbers["slant_natural"] == pytest.approx(slants.std())


def test_the_frozen_network_is_asked_about_the_images_between_codes():
    found = study_of("chain", "digits", 12, dimmed, points=5, steps=6)
    for name in ("line", "circle"):
        rows = found.pictures[f"{name}s"].images.reshape(5, 7, 1, 8, 8)
        seen = tg.cat([rows[:, :-1].reshape(-1, 1, 8, 8), rows[-1, -1:]])
        assert found.metrics[f"conf95_{name}s"] == pytest.approx(sure(seen)) and 0 < sure(seen) < 1
    found = study_of("plane", "digits", 12, dimmed, side=5)
    seen = found.pictures["plane"].images
    assert found.metrics["conf95_plane"] == pytest.approx(sure(seen)) and 0 < sure(seen) < 1


def soft(z):
    return z.sigmoid().reshape(-1, 1, 8, 8)


def test_a_chain_comes_back_and_great_circles_keep_the_norm():
    found = study_of("chain", "digits", 64, soft, points=5, steps=6)
    assert found.metrics["least_norm_line"] == pytest.approx(math.sqrt(0.5), rel=0.15)
    assert found.metrics["least_norm_circle"] > 0.85
    for name in ("lines", "circles"):
        sheet = found.pictures[name]
        rows = sheet.images.numpy().reshape(5, 7, 64)
        assert sheet.columns == 7 and np.array_equal(rows[:, -1], rows[[1, 2, 3, 4, 0], 0])
        steps = np.diff(rows.astype(float), axis=1)
        two = 2 * 64 * 0.0434  # the variance of a sigmoid of N(0, 1)
        change = found.metrics[f"change_{name[:-1]}"]
        assert change == pytest.approx((steps**2).sum(2).mean() / two, rel=0.03)
    assert found.metrics["conf95_lines"] <= 1


class Square(Known):
    """A GAN whose first codes stand at a right angle."""

    def noise(self, n):
        return 5 * tg.eye(2) if n == 2 else tg.randn(n, 2)


def test_the_least_norm_of_a_chain_is_said():
    flat = lambda z: z[:, :1, None, None] * tg.ones(1, 1, 8, 8)
    numbers = study_of("chain", "digits", 2, flat, of=Square, points=2).metrics
    assert (numbers["least_norm_line"], numbers["least_norm_circle"]) == pytest.approx((math.sqrt(0.5), 1))


def test_a_plane_has_its_neighbours_below_and_beside():
    found = study_of("plane", "digits", 64, soft, side=5)
    sheet = found.pictures["plane"]
    grid = sheet.images.numpy().reshape(5, 5, 64).astype(float)
    pairs = [((grid[i, j] - grid[k, m]) ** 2).sum() for i in range(5) for j in range(5)
             for k, m in ((i + 1, j), (i, j + 1)) if k < 5 and m < 5]  # fmt: skip
    assert sheet.columns == 5 and len(pairs) == 40
    assert found.metrics["change_plane"] == pytest.approx(np.mean(pairs) / (2 * 64 * 0.0434), rel=0.03)


# ---------------------------------------------------------------------------------- inversion


def test_inversion_of_a_linear_generator_is_ridge_regression_in_every_figure():
    digits = load("digits")
    train, test = (digits.floats(split).reshape(-1, 64).astype(float) for split in ("train", "test"))
    mean = train.mean(0)
    weight = np.linalg.svd(train - mean, full_matrices=False)[2][:6]
    both = tg.tensor(weight.astype(np.float32)), tg.tensor(mean.astype(np.float32))
    generate = lambda z: (z @ both[0] + both[1]).reshape(-1, 1, 8, 8)
    options = {"count": 4, "restarts": 2, "evaluations": 40, "c": 30.0, "anomalies": 20}
    found = study_of("inversion", "digits", 6, generate, **options)

    def best(images, known):
        design = (weight * known).T
        return np.linalg.solve(design.T @ design + np.eye(6) / 30, design.T @ (known * (images - mean)).T).T

    x = test[subset(297, 4)]
    everything = np.ones(64)
    below = (np.arange(64) >= 32).astype(float)
    whole, half = (best(x, known) @ weight + mean for known in (everything, below))
    hole = lambda made: ((made - x) ** 2)[:, :32].mean()
    numbers = found.metrics
    assert numbers["inverted_mse"] == pytest.approx(((whole - x) ** 2).mean(), rel=1e-3)
    assert numbers["inverted_mse_adam"] == pytest.approx(((whole - x) ** 2).mean(), rel=0.05)
    assert numbers["hole_mse"] == pytest.approx(hole(half), rel=1e-3)
    assert numbers["hole_mse_averaged"] == pytest.approx(hole(half), rel=1e-3)  # one valley: all starts end there
    assert numbers["hole_mse_inverted"] == pytest.approx(hole(whole), rel=1e-3)
    assert numbers["hole_mse_mean"] == pytest.approx(hole(mean), rel=1e-5)
    assert numbers["sampled_mse"] > numbers["inverted_mse"]
    codes = best(x, everything)
    least = ((codes @ weight + mean - x) ** 2).sum(1) + (codes**2).sum(1) / 30
    assert found.table[-1]["gradients"] == 40 and found.table[-1]["L-BFGS"] == pytest.approx(least.mean(), rel=1e-3)
    assert found.table[0]["L-BFGS"] < found.table[0]["Adam"]
    shown = test[subset(297, 40)].reshape(-1, 8, 8)
    shown[1::2] = shown[1::2, ::-1, ::-1]
    shown = shown.reshape(-1, 64)
    codes = best(shown, everything)
    least = ((codes @ weight + mean - shown) ** 2).sum(1) + (codes**2).sum(1) / 30
    assert numbers["auroc_turned"] == pytest.approx(metrics.auroc(least, np.arange(40) % 2 == 1), abs=0.02)
    restored = found.pictures["restorations"]
    for row, made in zip(restored.batches, (0 * x, half, half, x, 0 * x + mean), strict=True):
        flat = row.numpy().reshape(-1, 64)
        np.testing.assert_allclose(flat[:, :32], made[:, :32], atol=2e-3)
        np.testing.assert_allclose(flat[:, 32:], x[:, 32:], atol=1e-6)  # what is known stays


def test_points_are_refused_and_no_other_run_is_trained_for_them(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    start("gan-ring", folder="run", preset="tiny", epochs=1, limit=200).fit()
    for name in ("turn", "chain", "plane", "inversion", "interpolation", "sample-metrics"):
        with pytest.raises(RunError, match=f"study {name}: it draws images, and these are points; name another run"):
            run_study(name, "run", tiny=True)
    assert not (tmp_path / "runs").exists()
    start("tinted-dcgan", folder="tinted", preset="tiny", epochs=1).fit()
    with pytest.raises(RunError, match="study sample-metrics: no frozen network knows images of 3x8x8"):
        run_study("sample-metrics", "tinted", tiny=True)
    with pytest.raises(RunError, match="study turn: it draws images, and these are points"):
        run_study("turn", data="moons", tiny=True)
    assert not (tmp_path / "runs").exists()


def test_each_search_has_its_images_its_starts_and_its_figures(monkeypatch):
    """Of a generator with many valleys, after a few gradients: starts end in different places."""
    weight = tg.tensor(np.random.default_rng(0).normal(size=(5, 64)).astype(np.float32))
    asked = Asked(lambda z: (3 * z @ weight).sin().square().reshape(-1, 1, 8, 8))
    searched, rates, inverted, by_adam = [], set(), noise.inverted, noise.by_adam

    def watched(generate, y, starts, **options):
        searched.append((y.numpy(), starts.numpy(), options, inverted(generate, y, starts, **options)))
        return searched[-1][-1]

    def at_a_rate(*given, lr=0.1):
        rates.add(lr)
        return by_adam(*given, lr=lr)

    monkeypatch.setattr(noise, "inverted", watched)
    monkeypatch.setattr(noise, "by_adam", at_a_rate)
    options = {"count": 3, "restarts": 2, "evaluations": 7, "c": 4.0, "lr": 0.05, "anomalies": 6}
    found = study_of("inversion", "digits", 5, asked, **options)
    test = load("digits").floats("test")
    x = test[subset(297, 3)]
    turned = test[subset(297, 12)]
    turned[1::2] = np.rot90(turned[1::2], 2, (2, 3))
    below = x * (np.arange(8) >= 4)[:, None]
    for (y, starts, given, _), images in zip(searched, (x, x, below, turned), strict=True):
        np.testing.assert_array_equal(y, images)
        assert starts.shape == (2, len(y), 5) and given["c"] == 4 and given["evaluations"] == 7
    assert ["search" in given for _, _, given, _ in searched] == [False, True, False, True] and rates == {0.05}
    lbfgs, adam, half, ranked = (result for *_, result in searched)
    for row, e in zip(found.table, (5, 7), strict=True):
        expected = [result.history[:e].min(0).mean() for result in (lbfgs, adam)]
        assert (row["gradients"], row["L-BFGS"], row["Adam"]) == (e, *map(pytest.approx, expected))
    assert found.metrics["auroc_turned"] == metrics.auroc(ranked.losses, np.arange(12) % 2 == 1)
    made = np.mean([asked(codes).numpy() for codes in half.every], 0)
    best = asked(half.codes).numpy()
    hole = lambda images: ((images - x) ** 2)[:, :, :4].mean()
    assert found.metrics["hole_mse_averaged"] == pytest.approx(hole(made), rel=1e-4)
    assert found.metrics["hole_mse"] == pytest.approx(hole(best), rel=1e-4) != pytest.approx(hole(made), rel=1e-2)
    (random,) = (codes for codes in asked.codes if len(codes) == 2 * 7)  # as many looks as gradients
    samples = asked(tg.tensor(random)).numpy()
    nearest = [min(((made - image) ** 2).mean() for made in samples) for image in x]
    assert found.metrics["sampled_mse"] == pytest.approx(np.mean(nearest), rel=1e-4)


def test_errors_are_means_over_colours_too(monkeypatch):
    monkeypatch.setattr(chapter, "_draw_searches", lambda histories: None)
    half = lambda z: 0 * z[:, :1, None, None] + 0.5 * tg.ones(1, 3, 8, 8)
    options = {"count": 3, "restarts": 1, "evaluations": 1, "anomalies": 2}
    numbers = study_of("inversion", "tinted-digits", 2, half, **options).metrics
    tinted = load("tinted-digits")
    x, mean = tinted.floats("test")[subset(tinted.count("test"), 3)], tinted.floats("train").mean(0)
    whole, hole = ((0.5 - x) ** 2).mean(), ((0.5 - x) ** 2)[:, :, :4].mean()
    found = [numbers[name] for name in ("inverted_mse", "inverted_mse_adam", "sampled_mse", "hole_mse")]
    assert found == pytest.approx([whole, whole, whole, hole], rel=1e-5)
    assert numbers["hole_mse_mean"] == pytest.approx(((mean - x) ** 2)[:, :, :4].mean(), rel=1e-5)
