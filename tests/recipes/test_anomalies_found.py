"""The study of anomalies, on Steps of which everything is known: each number, row, picture and refusal."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

import tinygen as tg
from tinygen import data, nn
from tinygen.data.selection import subset
from tinygen.metrics import NAMES
from tinygen.recipes import RunError, find_study, run_study
from tinygen.recipes import anomalies_found as chapter
from tinygen.recipes.study import Trained
from tinygen.step import Step
from tinygen.studies import noise

DRAW = np.random.default_rng(0)
LATENT, FEATURES = 3, 5
DOWN, UP = DRAW.normal(size=(64, LATENT)) / 8, DRAW.normal(size=(LATENT, 64)) / 8
SEEN, TOLD = DRAW.normal(size=(64, FEATURES)) / 4, DRAW.normal(size=(LATENT, FEATURES))
LOGIT, LEVEL = DRAW.normal(size=FEATURES), 0.3
ROWS = ["prior", "Gaussian", "mixture", "discriminator", "reconstruction", "feature match", "combined", "PCA",
        "autoencoder", "VAE", "inversion of G"]  # fmt: skip


def arrays(*values):
    return [tg.tensor(value.astype(np.float32)) for value in values]


class Judge(nn.Module):
    """f(s, z) = max(A s + B z, 0) and a logit w f."""

    def features(self, images, codes):
        seen, told = arrays(SEEN, TOLD)
        return (images.flatten(1) @ seen + codes @ told).clamp(0, None)

    def forward(self, images, codes):
        return self.features(images, codes) @ arrays(LOGIT)[0]


class Game(Step):
    """A BiGAN of linear networks, which says in which mode it was asked and about which images."""

    def __init__(self):
        self.net, self.discriminator, self.latent, self.asked = nn.Dropout(), Judge(), LATENT, []

    def encode(self, images):
        assert not self.net.training and not tg.is_grad_enabled()
        self.asked.append(images.numpy())
        return images.flatten(1) @ arrays(DOWN)[0]

    def decode(self, codes):
        assert not self.net.training
        return (codes @ arrays(UP)[0] + LEVEL).reshape(-1, 1, 8, 8)

    def restored(self, images):
        return self.decode(self.encode(images))


class Rebuilding(Step):
    """What an autoencoder makes of images: a function of arrays."""

    def __init__(self, function):
        self.net, self.function = nn.Dropout(), function

    def apply(self, images):
        assert not self.net.training and not tg.is_grad_enabled()
        return tg.tensor(self.function(images.numpy()).astype(np.float32))


BLURRED = lambda x: (x + np.roll(x, 1, -1)) / 2
DIMMED = lambda x: x * np.linspace(0, 1, 8)


def trained(step, dataset):
    return Trained(step, dataset, SimpleNamespace(data={"name": dataset.name}), Path("run"))


def study(dataset, game=None, **arguments):
    tg.manual_seed(0)
    options = {"gaussians": 1, "inverted": 60, "evaluations": 2} | arguments
    steps = game or Game(), Rebuilding(BLURRED), Rebuilding(DIMMED)
    return find_study("anomaly").run(*(trained(step, dataset) for step in steps), **options)


@pytest.fixture(scope="module", params=["digits-only-8", "digits-without-3"])
def dataset(request):
    return data.load(request.param)


@pytest.fixture
def undrawn(monkeypatch):
    """Without the curves, which take most of the time; `found` holds what they are drawn of."""
    found = {}
    monkeypatch.setattr(chapter, "_draw_roc", lambda judged: found.setdefault("roc", judged))
    monkeypatch.setattr(chapter, "_draw_sweep", lambda *given: found.setdefault("sweep", given))
    return found


def norm(a):
    return np.sqrt((a.reshape(len(a), -1) ** 2).sum(1))


def terms(x):
    """Codes, logits, |G(E(s)) - s| and |f - f'| in float64."""
    flat = x.reshape(len(x), -1).astype(float)
    codes = flat @ DOWN
    again = codes @ UP + LEVEL
    f, g = (np.maximum(images @ SEEN + codes @ TOLD, 0) for images in (flat, again))
    return codes, f @ LOGIT, norm(again - flat), norm(f - g)


def scores(dataset, alpha=0.1, components=32):
    """Every score but that by inversion, by formulas of its own."""
    train, x = dataset.floats("train"), dataset.floats("test")
    known, (codes, logits, error, match) = terms(train)[0], terms(x)
    away = codes - known.mean(0)
    inverse = np.linalg.inv(np.cov(known.T, ddof=0))
    flat, mean = x.reshape(len(x), -1).astype(float), train.reshape(len(train), -1).mean(0, dtype=float)
    axes = np.linalg.svd(train.reshape(len(train), -1) - mean, full_matrices=False)[2][:components]
    density = np.einsum("ni,ij,nj->n", away, inverse, away)
    return {
        "prior": (codes**2).sum(1), "Gaussian": density, "mixture": density,
        "discriminator": np.log1p(np.exp(-logits)), "reconstruction": error, "feature match": match,
        "combined": (1 - alpha) * error + alpha * match,
        "PCA": norm((flat - mean) - (flat - mean) @ axes.T @ axes), "autoencoder": norm(BLURRED(x) - x),
        "VAE": norm(DIMMED(x) - x),
    }  # fmt: skip


def area(values, positive):
    """The share of pairs in order, a tie counting half, counted one by one."""
    pairs = values[positive][:, None] - values[~positive][None]
    return ((pairs > 0) + 0.5 * (pairs == 0)).mean()


def precision(values, positive):
    order = np.argsort(-values)
    hits = positive[order]
    return ((np.cumsum(hits) / np.arange(1, len(hits) + 1)) * hits).sum() / hits.sum()


def test_every_score_ranks_the_whole_test_split(dataset, undrawn):
    found = study(dataset)
    positive = (dataset.test_labels != 8) if "only" in dataset.name else (dataset.test_labels == 3)
    expected = scores(dataset)
    rows = dict(zip(ROWS, found.table, strict=True))
    combined = area(expected["combined"], positive)
    for name, values in expected.items():
        row = rows[name]
        assert row["AUROC"] == pytest.approx(area(values, positive), abs=2e-4), name
        assert row["AUPRC"] == pytest.approx(precision(values, positive), abs=1e-3), name
        assert row["n"] == 297
        above = row["AUROC"] - combined
        words = "-" if abs(above) < 4e-4 else f"{'wins' if above > 0 else 'loses'} by {abs(above):.3f}"
        assert row["beside combined"] == words or abs(above) < 6e-4
        assert found.metrics[f"auroc_{name.lower().replace(' ', '_')}"] == row["AUROC"]
    assert [row["score"] for row in found.table] == [
        "prior", "Gaussian", "mixture of 1", "discriminator", "reconstruction", "feature match",
        "combined, alpha 0.1", "PCA, 32 axes", "autoencoder", "VAE", "inversion of G",
    ]  # fmt: skip
    numbers = found.metrics
    assert numbers["auprc_combined"] == rows["combined"]["AUPRC"] and numbers["auprc_pca"] == rows["PCA"]["AUPRC"]
    assert numbers["auroc_above_pca"] == pytest.approx(rows["combined"]["AUROC"] - rows["PCA"]["AUROC"])
    assert numbers["auroc_inversion"] == rows["inversion of G"]["AUROC"] and len(numbers) == 14
    assert set(numbers) <= set(NAMES)
    for name, (values, of) in list(undrawn["roc"].items())[:-1]:
        assert np.array_equal(of, positive)
        np.testing.assert_allclose(np.argsort(np.argsort(values)), np.argsort(np.argsort(expected[name])), atol=3)


@pytest.mark.parametrize("alpha", [0.0, 0.35, 1.0])
def test_alpha_is_that_of_the_combined_score_and_all_of_them_are_swept(undrawn, alpha):
    dataset = data.load("digits-only-8")
    found = study(dataset, alpha=alpha)
    positive = dataset.test_labels != 8
    own, ends = scores(dataset, alpha), scores(dataset)
    assert found.metrics["auroc_combined"] == pytest.approx(area(own["combined"], positive), abs=2e-4)
    assert found.table[6]["score"] == f"combined, alpha {alpha:g}"
    swept, fixed, rows = undrawn["sweep"]
    assert fixed == alpha and len(swept) == len(chapter.ALPHAS) == 21 and rows["PCA"]["score"] == "PCA, 32 axes"
    for at, name in ((0, "reconstruction"), (20, "feature match")):
        assert swept[at] == found.metrics[f"auroc_{name.replace(' ', '_')}"]
        assert swept[at] == pytest.approx(area(ends[name], positive), abs=2e-4)
    middle = area(scores(dataset, 0.5)["combined"], positive)
    assert chapter.ALPHAS[10] == 0.5 and swept[10] == pytest.approx(middle, abs=2e-4)
    assert np.argmin(abs(chapter.ALPHAS - 0.1)) == 2


def test_axes_gaussians_and_codes_are_as_many_as_was_said(undrawn):
    dataset = data.load("digits-only-8")
    positive = dataset.test_labels != 8
    found = study(dataset, components=2, gaussians=4, fitted=20)
    assert found.metrics["auroc_pca"] == pytest.approx(area(scores(dataset, components=2)["PCA"], positive), abs=2e-4)
    assert found.table[2]["score"] == "mixture of 4" and found.table[7]["score"] == "PCA, 2 axes"
    few = dataset.picked(subset(dataset.count("train"), 20))
    gaussian = area(scores(few, components=2)["Gaussian"], positive)
    assert found.metrics["auroc_gaussian"] == pytest.approx(gaussian, abs=2e-3)
    assert abs(gaussian - area(scores(dataset)["Gaussian"], positive)) > 4e-3
    assert found.metrics["auroc_mixture"] != found.metrics["auroc_gaussian"]


def test_codes_of_the_training_are_of_training_images_and_ranked_ones_of_the_test(undrawn):
    dataset, game = data.load("digits-only-8"), Game()
    study(dataset, game, shown=3)
    asked = np.concatenate(game.asked)
    assert np.array_equal(asked[:145], dataset.floats("train"))
    assert np.array_equal(asked[145:442], dataset.floats("test"))
    assert len(asked) == 442 + 2 * 3 and game.net.training


def closed_form(x, c):
    """The least |G(z) - s|^2 + |z|^2 / c of a linear G, by the normal equations."""
    design, y = UP.T, x.reshape(len(x), -1) - LEVEL
    codes = np.linalg.solve(design.T @ design + np.eye(LATENT) / c, design.T @ y.T).T
    return ((codes @ UP - y) ** 2).sum(1) + (codes**2).sum(1) / c


@pytest.mark.parametrize("c", [0.2, 30.0])
def test_inversion_ranks_some_test_images_by_the_loss_of_ridge_regression(undrawn, monkeypatch, c):
    monkeypatch.setattr(chapter, "PIECE", 25)
    dataset = data.load("digits-without-3")
    found = study(dataset, inverted=60, evaluations=200, c=c, lr=0.1)
    chosen = subset(297, 60)
    x, positive = dataset.floats("test")[chosen], dataset.test_labels[chosen] == 3
    losses, of = undrawn["roc"]["inversion of G"]
    np.testing.assert_allclose(losses, closed_form(x, c), rtol=1e-3)
    assert np.array_equal(of, positive)
    row = found.table[-1]
    assert row["n"] == 60 and row["AUROC"] == pytest.approx(area(closed_form(x, c), positive), abs=0.01)
    beside = row["AUROC"] - area(scores(dataset)["combined"][chosen], positive)  # on the same images
    assert float(row["beside combined"].split()[-1]) == pytest.approx(abs(beside), abs=2e-3)
    assert row["beside combined"].startswith("wins" if beside > 0 else "loses")


def test_a_search_has_the_steps_and_the_rate_that_were_said(undrawn, monkeypatch):
    asked = {}

    def inverted(generate, y, starts, c, search, evaluations):
        asked.update(images=y.numpy(), starts=starts.numpy(), c=c, rate=search.keywords, evaluations=evaluations)
        return SimpleNamespace(losses=np.arange(len(y)))

    monkeypatch.setattr(noise, "inverted", inverted)
    dataset = data.load("digits-only-8")
    study(dataset, inverted=40, evaluations=7, c=3.0, lr=0.02)
    assert (asked["c"], asked["evaluations"], asked["rate"]) == (3.0, 7, {"lr": 0.02})
    assert np.array_equal(asked["images"], dataset.floats("test", subset(297, 40)))
    starts = asked["starts"]
    assert starts.shape == (1, 40, LATENT) and 0.7 < starts.std() < 1.3 and abs(starts.mean()) < 0.4


def test_the_images_of_the_highest_and_the_lowest_scores_are_shown(dataset, undrawn):
    found = study(dataset, shown=5, alpha=0.6)
    x, positive = dataset.floats("test"), dataset.anomalous()
    order = np.argsort(-scores(dataset, 0.6)["combined"])
    rows = found.pictures["ranked"]
    assert rows.titles == ["most anomalous", "G(E(s))", "least anomalous", "G(E(s))", "normal, highest scores",
                           "anomalous, lowest scores"]  # fmt: skip
    most, again, least, other, alarms, missed = (batch.numpy() for batch in rows.batches)
    assert np.array_equal(most, x[order[:5]]) and np.array_equal(least, x[order[::-1][:5]])
    for images, made in ((most, again), (least, other)):
        np.testing.assert_allclose(made.reshape(5, -1), images.reshape(5, -1) @ DOWN @ UP + LEVEL, atol=1e-5)
    assert np.array_equal(alarms, x[[i for i in order if not positive[i]][:5]])
    assert np.array_equal(missed, x[[i for i in order[::-1] if positive[i]][:5]])


def test_curves_are_drawn_of_every_score(monkeypatch):
    """One line for each, broken where no game was played; the sweep beside the levels of those."""
    lines = {}
    real = chapter.figure

    def figure(size):
        canvas, finish = real(size)

        def finished():
            (axes,) = canvas.axes
            lines[axes.get_xlabel()] = [(one.get_label(), one.get_linestyle(), one.get_xydata()) for one in axes.lines]
            return finish()

        return canvas, finished

    monkeypatch.setattr(chapter, "figure", figure)
    dataset = data.load("digits-only-8")
    found = study(dataset)
    curves = lines["share of normal images"][:-1]
    assert [label.partition(":")[0] for label, *_ in curves] == ROWS
    for (label, style, points), row in zip(curves, found.table, strict=True):
        assert label.endswith(f": {row['AUROC']:.3f}, n = {row['n']}")
        assert (style == "--") == (label.partition(":")[0] in ("PCA", "autoencoder", "VAE"))
        width, height = np.diff(points[:, 0]), (points[1:, 1] + points[:-1, 1]) / 2
        assert (width * height).sum() == pytest.approx(row["AUROC"])
    swept, fixed, *levels = lines["alpha"]
    assert swept[2][0, 1] == found.metrics["auroc_reconstruction"] and len(swept[2]) == 21
    assert (fixed[2][:, 0] == 0.1).all()
    assert {label: points[0, 1] for label, _, points in levels} == {
        "PCA": found.metrics["auroc_pca"], "autoencoder": found.metrics["auroc_autoencoder"],
        "VAE": found.metrics["auroc_vae"],
    }  # fmt: skip


@pytest.mark.parametrize("name", ["digits", "mnist", "digits+slanted", "ring", "/x/mnist-only-8"])
def test_data_of_which_nothing_says_what_is_normal_are_refused(name):
    refused = find_study("anomaly").refuses((1, 8, 8), tuple("0123456789"), name)
    assert "these are" in refused and name in refused and "give --data mnist-only-8, mnist-without-8" in refused


@pytest.mark.parametrize("name", ["digits-only-8", "MNIST_without_3", "fashion-only-Ankle boot"])
def test_data_that_say_what_is_normal_are_taken_however_they_are_written(name):
    assert find_study("anomaly").refuses((1, 8, 8), tuple("0123456789"), name) is None


def test_a_study_of_other_data_is_refused_before_a_run_is_trained(tmp_path):
    with pytest.raises(RunError, match=r"study anomaly: it needs data of which some classes are normal .* are digits;"):
        run_study("anomaly", data="digits", tiny=True)
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(("argument", "value", "words"), [
    ("gaussians", 0, "at least 1"), ("components", 0, "at least 1"), ("fitted", 1, "at least 2"),
    ("inverted", 1, "at least 2"), ("evaluations", 0, "at least 1"), ("shown", 0, "at least 1"),
    ("c", 0.0, "above 0"), ("lr", 0.0, "above 0"),
])  # fmt: skip
def test_arguments_out_of_range_are_refused(argument, value, words):
    with pytest.raises(RunError, match=rf"{argument} .*must be (a whole number of )?{words}[,;] it is {value:g}"):
        run_study("anomaly", arguments={argument: value})


def test_it_stands_on_a_game_and_on_two_autoencoders_and_has_data_of_its_own():
    chosen = find_study("anomaly")
    assert chosen.on == ("bigan-penalised", "autoencoder", "vae")
    assert chosen.data == "digits-only-8" and chosen.lectures == (0,)
    defaults = {name: parameter.default for name, parameter in chosen.arguments().items()}
    assert (defaults["alpha"], defaults["components"], defaults["inverted"]) == (0.1, 32, 1000)
    assert [defaults[name] for name in ("gaussians", "fitted", "evaluations", "c", "lr")] == [5, 10_000, 60, 30, 0.3]
    assert set(defaults) == set(chosen.meanings) and set(chosen.tiny) <= set(defaults)
