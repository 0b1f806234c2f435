"""Studies of noise, on generators of which everything is known."""

from __future__ import annotations

import math
from functools import cache
from pathlib import Path

import numpy as np
import pytest

import tinygen as tg
from tinygen import metrics
from tinygen.data import load
from tinygen.data.selection import subset
from tinygen.data.varied import tint
from tinygen.recipes import RunError, find_study, run_study, start
from tinygen.recipes.study import Trained
from tinygen.step import Step


class Known(Step):
    """What a study of noise needs of a GAN."""

    def __init__(self, latent, generate):
        self.latent, self.generator = latent, generate

    def noise(self, n):
        return tg.randn(n, self.latent)


def study_of(name, data, latent, generate, **arguments):
    tg.manual_seed(0)
    trained = Trained(Known(latent, generate), load(data), None, Path("run"))
    return find_study(name).run(trained, **arguments)


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
