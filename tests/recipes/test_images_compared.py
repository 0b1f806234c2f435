"""The studies of `images_compared`, on steps of which everything is known: each number, row and refusal."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

import tinygen as tg
from tinygen import data, metrics, nn
from tinygen.data import Dataset, corruptions
from tinygen.data.unpaired import CHANGES, Unpaired
from tinygen.data.varied import tint
from tinygen.recipes import RunError, find_study, run_study, start
from tinygen.recipes import images_compared as chapter
from tinygen.recipes.study import Trained
from tinygen.step import AnySize, Step
from tinygen.studies import noise, transfer

TEN = tuple("0123456789")


class Known(Step):
    """A Step whose answers are given functions of arrays; `net` says in which mode it was asked."""

    def __init__(self, scale=1, **answers):
        self.net, self.scale = nn.Dropout(), scale
        self.degrade = corruptions.downscaled(scale)
        for name, function in answers.items():
            setattr(self, name, lambda x, function=function: self.answer(function, x))

    def answer(self, function, x):
        assert not self.net.training and not tg.is_grad_enabled()
        return tg.tensor(np.ascontiguousarray(function(x.numpy()), np.float32))

    @property
    def any_size(self):
        return AnySize(1, self.scale)


def trained(step, dataset, name="", folder="run"):
    return Trained(step, dataset, SimpleNamespace(data={"name": name}), Path(folder))


def study(name, *given, **arguments):
    tg.manual_seed(0)
    return find_study(name).run(*given, **arguments)


@pytest.fixture(scope="module")
def digits():
    return data.load("digits")


def shown(findings, name):
    """{title: images} of Rows."""
    rows = findings.pictures[name]
    return dict(zip(rows.titles, [batch.numpy() for batch in rows.batches], strict=True))


@pytest.mark.parametrize(("name", "argument", "value", "least"), [
    ("super-resolution", "n", 1, 2), ("super-resolution", "shown", 0, 1), ("super-resolution-x4", "n", 1, 2),
    ("colours", "shown", 0, 1), ("role-of-z", "draws", 1, 2), ("role-of-z", "images", 1, 2),
    ("translation", "shown", 0, 1), ("refined", "draws", 0, 1), ("refined", "updates", 0, 1),
])  # fmt: skip
def test_arguments_out_of_range_are_refused(name, argument, value, least):
    with pytest.raises(RunError, match=rf"{name}.* must be (a whole number of )?at least {least}[,;] it is {value}"):
        run_study(name, arguments={argument: value})


def test_images_are_computed_in_pieces_and_in_their_order(digits):
    sizes, x = [], digits.floats("train")[:617]
    step = Known(apply=lambda images: sizes.append(len(images)) or 1 - images)
    assert np.array_equal(chapter.computed(trained(step, digits), step.apply, x), 1 - x)
    assert sizes == [250, 250, 117] and step.net.training


# ---------------------------------------------------------------------------------- super-resolution


def means(x, factor):
    n, c, h, w = x.shape
    return x.reshape(n, c, h // factor, factor, w // factor, factor).mean((3, 5))


def larger(x, factor):
    return x.repeat(factor, 2).repeat(factor, 3)


def decibel(made, x):
    return (-10 * np.log10(((made.astype(float) - x) ** 2).reshape(len(x), -1).mean(1))).mean()


def lighter(factor):
    return lambda small: np.clip(0.9 * larger(small, factor) + 0.02, 0, 1)


def striped(factor):
    return lambda small: np.clip(larger(small, factor) + 0.3 * (np.arange(factor * small.shape[3]) % 2), 0, 1)


@pytest.mark.parametrize(("name", "factor"), [("super-resolution", 2), ("super-resolution-x4", 4)])
def test_five_ways_back_are_compared_with_the_test_images(digits, name, factor):
    net, game = Known(factor, apply=lighter(factor)), Known(factor, apply=striped(factor))
    found = study(name, trained(net, digits), trained(game, digits), shown=4)
    x = digits.floats("test")
    rows = {row["way"]: row for row in found.table}
    assert list(rows) == ["nearest", "bilinear", "bicubic", "SRResNet", "SRGAN"]
    made = {"nearest": larger(means(x, factor), factor), "SRResNet": lighter(factor)(means(x, factor)),
            "SRGAN": striped(factor)(means(x, factor))}  # fmt: skip
    for way, images in made.items():
        assert rows[way]["PSNR"] == pytest.approx(decibel(images, x), rel=1e-5)
        distance = metrics.frechet_from_features(metrics.features(images.astype("f4"))[0], metrics.features(x)[0])
        assert rows[way]["C-FID"] == pytest.approx(distance, rel=1e-4)
        assert "SSIM" not in rows[way]
    psnr, cfid = ({way: row[title] for way, row in rows.items()} for title in ("PSNR", "C-FID"))
    assert found.metrics == pytest.approx({
        "psnr_bicubic": psnr["bicubic"], "psnr_srresnet": psnr["SRResNet"], "psnr_srgan": psnr["SRGAN"],
        "srgan_above_bicubic": psnr["SRGAN"] - psnr["bicubic"], "cfid_srresnet": cfid["SRResNet"],
        "cfid_srgan": cfid["SRGAN"], "cfid_drop": (cfid["SRResNet"] - cfid["SRGAN"]) / cfid["SRResNet"],
    })  # fmt: skip
    pictures = shown(found, "restored")
    assert list(pictures) == [*rows, "truth"] and np.array_equal(pictures["truth"], x[:4])
    np.testing.assert_allclose(pictures["SRResNet"], made["SRResNet"][:4], atol=1e-6)
    np.testing.assert_allclose(pictures["SRGAN"], made["SRGAN"][:4], atol=1e-6)


def test_of_many_test_images_a_fixed_draw_of_n_is_compared(digits):
    step = Known(2, apply=lighter(2))
    found = study("super-resolution", trained(step, digits), trained(step, digits), n=40)
    x = digits.limited(40).floats("test")
    assert found.metrics["psnr_srresnet"] == pytest.approx(decibel(lighter(2)(means(x, 2)), x), rel=1e-5)
    assert [row["C-FID"] for row in found.table] == ["-"] * 5  # too few for a distance
    assert set(found.metrics) == {"psnr_bicubic", "psnr_srresnet", "psnr_srgan", "srgan_above_bicubic"}


def test_large_images_have_a_ssim_and_unknown_ones_no_distance():
    x = np.random.default_rng(0).random((6, 3, 12, 12)).astype(np.float32)
    step, dataset = Known(2, apply=lighter(2)), Dataset("mine", x, None, x, None)
    found = study("super-resolution", trained(step, dataset), trained(step, dataset))
    row = found.table[3]
    assert row["SSIM"] == pytest.approx(metrics.ssim(lighter(2)(means(x, 2)), x), rel=1e-5) and "C-FID" not in row
    narrow = Dataset("mine", x[:, :, :, :10], None, x[:, :, :, :10], None)
    found = study("super-resolution", trained(step, narrow), trained(step, narrow))
    assert set(found.table[3]) == {"way", "PSNR"}


# ---------------------------------------------------------------------------------- colours


def by_value(hue):
    """Images in another hue, as bright as they were."""
    return lambda x: tint(x.max(1, keepdims=True), np.full(len(x), hue, np.float32))


@pytest.mark.parametrize("name", ["two-hues-digits", "three-hues-digits"])
def test_colours_of_five_objectives_beside_the_truth(name):
    dataset = data.load(name)
    hues = np.unique(dataset.train_hues)
    k = len(hues)
    answers = {
        "unconditional": by_value(hues[1]),  # one colour for all
        "conditional": lambda x: x,
        "z": lambda x: np.roll(x, 1, axis=1) if k == 3 else 1 * x,
        "l2": lambda x: np.repeat(x.max(1, keepdims=True), 3, 1) / k,  # the mean of the colours
        "l1": lambda x: 0 * x,  # the median of each channel
    }
    runs = [trained(Known(restored=answer), dataset) for answer in answers.values()]
    found = study("colours", *runs, shown=3)
    assert [row["objective"] for row in found.table] == ["truth", *chapter.COLOURISERS]
    x, of = dataset.floats("test"), dataset.test_hues
    real = [(of == hue).mean() for hue in hues]
    value = x.max(1).mean()
    error = max(abs(share - 1 / k) for share in real)
    rows = dict(zip(["truth", *answers], found.table))
    shares = {name: [row[f"hue {hue:.2g}"] for hue in hues] for name, row in rows.items()}
    one = [float(i == 1) for i in range(k)]
    turned = [real[i - 1] for i in range(3)] if k == 3 else real
    expected = {  # saturation, hue error, brightness, shares of the hues
        "truth": (1, error, 1, real), "unconditional": (1, 1 - 1 / k, 1, one), "conditional": (1, error, 1, real),
        "z": (1, error, 1, turned), "l2": (0, 1 / k, 1 / k, [0] * k), "l1": (0, 1 / k, 0, [0] * k),
    }  # fmt: skip
    for name, (saturation, hue_error, brightness, share) in expected.items():
        row = rows[name]
        assert (row["saturation"], row["hue error"], row["brightness"]) == pytest.approx(
            (saturation, hue_error, brightness), abs=1e-6), name  # fmt: skip
        assert shares[name] == pytest.approx(share), name
        made = answers[name](x) if name != "truth" else x
        assert row["squared error"] == pytest.approx(((made - x) ** 2).mean(), abs=1e-7)
        assert row["absolute error"] == pytest.approx(abs(made - x).mean(), abs=1e-7)
        if name != "truth":
            got = [found.metrics[f"{what}_{name}"] for what in ("saturation", "hue_error", "brightness")]
            assert got == [row["saturation"], row["hue error"], row["brightness"]]
    assert len(found.metrics) == 15 and value > 0
    pictures = shown(found, "colours")
    assert list(pictures) == ["grey", *chapter.COLOURISERS, "truth"]
    np.testing.assert_allclose(pictures["grey"], np.repeat(x[:3].max(1, keepdims=True), 3, 1))
    assert np.array_equal(pictures["truth"], x[:3]) and not pictures["colourise-l1"].any()
    assert np.array_equal(pictures["colourise"], x[:3])


def test_the_mean_has_the_least_squared_error_and_the_median_the_least_absolute_one():
    dataset = data.load("three-hues-digits")
    ways = [lambda x: x, lambda x: x, by_value(0.0), lambda x: np.repeat(x.max(1, keepdims=True), 3, 1) / 3,
            lambda x: 0 * x]  # fmt: skip
    rows = study("colours", *[trained(Known(restored=way), dataset) for way in ways]).table[3:]
    squared, absolute = ([row[f"{kind} error"] for row in rows] for kind in ("squared", "absolute"))
    assert min(squared) == squared[1] and min(absolute) == absolute[2]


# ---------------------------------------------------------------------------------- the role of noise


def noisy(share):
    """A step whose answer is sqrt(share) z + sqrt(1 - share) x, z new in every call, x of variance 1."""

    def apply(x):
        z = tg.randn(len(x), 1, 1, 1).numpy()
        return share**0.5 * z + (1 - share) ** 0.5 * x

    step = Known(apply=apply)
    step.observed = lambda y: y
    return step


def normal(n=300):
    """Images whose every pixel has variance 1 over the images."""
    levels = np.random.default_rng(0).normal(size=(n, 1, 1, 1))
    levels = (levels - levels.mean()) / levels.std(ddof=1)
    return np.broadcast_to(levels, (n, 1, 8, 8)).astype(np.float32)


@pytest.mark.parametrize("draws", [2, 16])
@pytest.mark.parametrize("share", [0.0, 0.2, 0.7, 1.0])
def test_the_share_of_noise_is_that_of_its_variance(share, draws):
    step, x = noisy(share), normal()
    with tg.no_grad():
        step.net.eval()
        made = np.stack([step.apply(tg.tensor(x)).numpy() for _ in range(draws)])
    found = chapter.share_of_noise(made)
    within = made.var(0, ddof=1).mean()
    assert found == pytest.approx(within / made.reshape(-1, 64).var(0, ddof=1).mean(), rel=1e-5)
    assert found == pytest.approx(share, abs=0.03 if draws > 2 else 0.09)
    assert share > 0 or found < 1e-12


def test_the_share_of_noise_is_of_every_pixel_and_not_of_their_differences():
    x = np.random.default_rng(0).random((1, 1, 1, 8, 8)) * np.ones((5, 4, 1, 1, 1))  # one image, whatever x and z
    assert chapter.share_of_noise(x) < 1e-12


def test_the_role_of_z_is_0_where_g_ignores_it_and_1_where_g_sees_nothing_else(digits):
    ignoring = Known(observed=lambda y: 0.5 * y, apply=lambda x: x + 0.1)
    found = study("role-of-z", trained(ignoring, digits), draws=4, images=30)
    assert found.metrics == {"share_of_z": 0, "deviation_of_z": 0}
    blind = Known(observed=lambda y: 0.5 * y, apply=lambda x: 0 * x + tg.rand(len(x), 1, 1, 1).numpy())
    found = study("role-of-z", trained(blind, digits), draws=12, images=150)
    assert found.metrics["share_of_z"] == pytest.approx(1, abs=0.01)
    assert found.metrics["deviation_of_z"] == pytest.approx(((1 - 1 / 12) / 12) ** 0.5, rel=0.05)


def test_what_is_seen_and_the_draws_of_each_test_image_are_shown(digits):
    asked = []
    step = Known(observed=lambda y: 0.5 * y, apply=lambda x: asked.append(x) or np.repeat(x, 3, 1) + 0.1 * len(asked))
    found = study("role-of-z", trained(step, digits), draws=11, images=7, shown=2)
    x = digits.limited(7).floats("test")
    assert len(asked) == 11 and all(np.array_equal(seen, 0.5 * x) for seen in asked)
    rows = found.pictures["draws"]
    assert len(rows.batches) == len(rows.titles) == 2
    for i, row in enumerate(rows.batches):
        assert row.shape == (10, 3, 8, 8)  # what G sees, and nine draws
        np.testing.assert_allclose(row.numpy()[0], np.repeat(0.5 * x[i], 3, 0))
        for draw in range(9):
            np.testing.assert_allclose(row.numpy()[1 + draw], np.repeat(0.5 * x[i], 3, 0) + 0.1 * (draw + 1), rtol=1e-5)


def test_a_run_without_noise_is_refused():
    study_of = find_study("role-of-z")
    assert study_of.on == ("pix2pix-z",) and study_of.needs == ("latent",)


# ---------------------------------------------------------------------------------- translation


@pytest.mark.parametrize("name", ["slanted", "inverted"])
def test_the_change_itself_keeps_the_digits_and_brings_them_back(name):
    pair, change = data.load(f"digits+{name}"), CHANGES[name]
    step = Known(forth=change.apply, back=change.undo)
    found = study("translation", trained(step, pair, f"digits+{name}"), shown=5)
    x, y = pair.first.floats("test"), pair.second.floats("test")
    assert found.metrics["translation_l1"] == 0
    around = abs(change.undo(change.apply(x)) - x).mean(), abs(change.apply(change.undo(y)) - y).mean()
    assert found.metrics["cycle_l1"] == pytest.approx(np.mean(around), abs=1e-6)
    apart = abs(change.apply(x) - x).mean(), abs(change.undo(y) - y).mean()
    assert found.metrics["untranslated_l1"] == pytest.approx(np.mean(apart), rel=1e-5)
    assert found.metrics["kept_real"] > 0.97
    assert found.metrics["kept_forth"] > 0.9 and found.metrics["kept_back"] > 0.9
    pictures = shown(found, "translation")
    expected = {"x": x, "G(x)": change.apply(x), "x changed": change.apply(x), "F(G(x))": change.undo(change.apply(x)),
                "y": y, "F(y)": change.undo(y), "y changed back": change.undo(y),
                "G(F(y))": change.apply(change.undo(y))}  # fmt: skip
    assert list(pictures) == list(expected)
    for title, images in expected.items():
        np.testing.assert_allclose(pictures[title], images[:5], atol=1e-6)


def test_translators_that_change_nothing_are_told_from_those_that_do():
    pair, change = data.load("digits+slanted"), CHANGES["slanted"]
    same = lambda images: images
    idle = study("translation", trained(Known(forth=same, back=same), pair, "digits+slanted")).metrics
    x, y = pair.first.floats("test"), pair.second.floats("test")
    assert idle["kept"] == idle["kept_untranslated"]
    assert idle["translation_l1"] == pytest.approx(idle["untranslated_l1"])
    right = [metrics.gan_test(images, of)[0] * len(images)
             for images, of in ((change.undo(x), pair.first.test_labels), (y, pair.second.test_labels))]  # fmt: skip
    assert idle["kept_untranslated"] == pytest.approx(sum(right) / (len(x) + len(y)))
    leans = [noise.slant(images).mean() for images in (x, x, change.apply(x))]
    assert [idle[f"slant_{what}"] for what in ("x", "translated", "changed")] == pytest.approx(leans)
    able = study("translation", trained(Known(forth=change.apply, back=change.undo), pair, "digits+slanted")).metrics
    assert able["slant_translated"] == pytest.approx(able["slant_changed"])
    assert able["slant_translated"] > idle["slant_translated"] + 0.2


def test_numbers_of_translators_that_are_wrong_each_in_its_own_way():
    pair, change = data.load("digits+slanted"), CHANGES["slanted"]
    half = len(pair.first.floats("test")) // 2

    def forth(x):  # the second half of what it is given has lost its digits
        return np.concatenate([change.apply(x[:half]), 0 * x[half:]])

    step = Known(forth=forth, back=lambda y: 0.5 * y)
    found = study("translation", trained(step, pair, "digits+slanted")).metrics
    x, y = (one.floats("test").astype(float) for one in (pair.first, pair.second))
    labels = pair.first.test_labels, pair.second.test_labels
    right = lambda images, of: (metrics.features(images.astype(np.float32))[1].argmax(1) == of).mean()
    kept = right(change.undo(forth(x)), labels[0]), right(0.5 * y, labels[1])
    assert (found["kept_forth"], found["kept_back"]) == pytest.approx(kept, abs=0.008)
    assert found["kept"] == pytest.approx(np.mean(kept), abs=0.008) and found["kept_forth"] < 0.7
    assert found["kept_real"] == pytest.approx(right(x, labels[0]))
    assert found["cycle_l1"] == pytest.approx((abs(0.5 * forth(x) - x).mean() + abs(forth(0.5 * y) - y).mean()) / 2)
    wanted = abs(forth(x) - change.apply(x)).mean(), abs(0.5 * y - change.undo(y)).mean()
    assert found["translation_l1"] == pytest.approx(np.mean(wanted), rel=1e-4)


def test_of_unequal_sets_every_digit_counts_the_same_and_every_way():
    pair = data.load("digits+inverted")
    small = Unpaired(pair.first.picked(slice(None), slice(0, 30)), pair.second)
    step = Known(forth=lambda x: 1 - x, back=lambda y: 0 * y)  # forth keeps all, back none but perhaps one class
    found = study("translation", trained(step, small, "digits+inverted")).metrics
    n = len(pair.second.floats("test"))
    assert found["kept_forth"] > 0.9 and found["kept_back"] < 0.2
    assert found["kept"] == pytest.approx((30 * found["kept_forth"] + n * found["kept_back"]) / (30 + n))
    y = pair.second.floats("test")
    x = small.first.floats("test")
    around = abs(0 * x - x).mean(), abs(1 - y).mean()  # F(G(x)) is black; G(F(y)) is white
    assert found["cycle_l1"] == pytest.approx(np.mean(around), rel=1e-5)


def test_tinted_digits_are_recognised_by_their_brightest_channel():
    pair, change = data.load("digits+tinted"), CHANGES["tinted"]
    step = Known(forth=change.apply, back=change.undo)
    found = study("translation", trained(step, pair, "digits+tinted")).metrics
    grey = pair.first.floats("test")[:, :1]
    assert found["kept_forth"] == found["kept_real"] == metrics.gan_test(grey, pair.first.test_labels)[0]
    assert found["kept_back"] > 0.97
    y, labels = pair.second.floats("test"), pair.second.test_labels
    found = study("translation", trained(Known(forth=change.apply, back=lambda y: y), pair, "digits+tinted")).metrics
    assert found["kept_back"] == metrics.gan_test(y.max(1, keepdims=True), labels)[0]  # what is coloured still


def test_images_that_are_no_digits_are_not_recognised():
    x = np.random.default_rng(0).random((6, 1, 9, 9)).astype(np.float32)
    dataset = Dataset("mine", x, np.arange(6), x, np.arange(6), TEN)
    step = Known(forth=lambda a: 1 - a, back=lambda a: 1 - a)
    found = study("translation", trained(step, Unpaired(dataset, dataset), "mine+inverted"))
    assert set(found.metrics) == {"cycle_l1", "translation_l1", "untranslated_l1"}


# ---------------------------------------------------------------------------------- refined drawings


class Judging:
    """In the place of the classifier: it remembers what it learned, and its answers are its number."""

    def __init__(self, monkeypatch):
        self.learned, self.judged = [], []
        monkeypatch.setattr(chapter, "classifier", self.learn)
        monkeypatch.setattr(transfer, "judged", self.judge)

    def learn(self, dataset, x, labels, updates, draw):
        self.learned.append((x, labels, updates, tg.rand(1).item(), draw.random(), dataset))
        return len(self.learned)

    def judge(self, number, x, labels):
        self.judged.append((x, labels))
        return number**2 / 100


@pytest.fixture
def drawn_and_real(digits):
    drawn = data.load("digits", limit=60)
    return Unpaired(drawn, digits)


def test_classifiers_learn_from_drawn_refined_and_real_digits_and_are_tested_on_real_ones(drawn_and_real, monkeypatch):
    judge, pair = Judging(monkeypatch), drawn_and_real
    step = Known(apply=lambda x: 0.9 * x)
    found = study("refined", trained(step, pair), draws=2, updates=7, shown=4)
    x, labels = pair.first.floats("train"), pair.first.train_labels
    train, seen = pair.second.floats("train"), pair.second.train_labels
    assert len(judge.learned) == 6 and all(one[2] == 7 and one[5] is pair.second for one in judge.learned)
    for drawn, refined, real in (judge.learned[:3], judge.learned[3:]):
        assert np.array_equal(drawn[0], x) and np.array_equal(drawn[1], labels)
        np.testing.assert_allclose(refined[0], 0.9 * x, rtol=1e-6)
        assert np.array_equal(refined[1], labels)
        assert len(real[0]) == len(real[1]) == len(x) == 60
        assert not np.array_equal(real[0], train[:60])  # drawn at random: data may lie class by class
        assert all(label in seen[(train == image).all((1, 2, 3))] for image, label in zip(real[0], real[1]))
        assert drawn[3:5] == refined[3:5] == real[3:5]  # the same untrained weights, the same order
    assert judge.learned[0][3] != judge.learned[3][3]
    kept = [judge.judged.pop(i) for i in (5, 1)]  # behind the answers of a network of drawn digits
    for images, of in kept:
        np.testing.assert_allclose(images, 0.9 * x, rtol=1e-6)
        assert np.array_equal(of, labels)
    assert all(np.array_equal(images, pair.second.floats("test")) for images, _ in judge.judged)
    assert all(np.array_equal(of, pair.second.test_labels) for _, of in judge.judged)
    assert [row["learns from"] for row in found.table] == ["drawn", "refined", "real"]
    means = [(1 + 16) / 200, (4 + 25) / 200, (9 + 36) / 200]
    assert [row["accuracy"] for row in found.table] == pytest.approx(means)
    assert [row["deviation"] for row in found.table] == pytest.approx([0.075, 0.105, 0.135])
    assert [row["images"] for row in found.table] == [60] * 3
    known = (metrics.features((0.9 * x).astype(np.float32))[1].argmax(1) == labels).mean()
    assert found.metrics == pytest.approx({
        "learned_from_drawn": means[0], "learned_from_refined": means[1], "learned_from_real": means[2],
        "gain_refined": means[1] - means[0], "labels_kept": (1 + 16) / 200,
        "recognised_refined": known, "recognised_drawn": metrics.gan_test(x, labels)[0],
    })  # fmt: skip
    pictures = shown(found, "refined")
    assert list(pictures) == ["drawn", "refined", "real"]
    assert np.array_equal(pictures["drawn"], x[[0, 19, 39, 59]])
    np.testing.assert_allclose(pictures["refined"], 0.9 * pictures["drawn"], rtol=1e-6)
    assert np.array_equal(pictures["real"], judge.learned[2][0][:4])


def test_labels_are_kept_where_the_refined_digits_are_still_theirs(drawn_and_real, monkeypatch):
    Judging(monkeypatch)
    spoilt = Known(apply=lambda x: 0 * x)
    found = study("refined", trained(spoilt, drawn_and_real), draws=1, updates=1).metrics
    assert found["recognised_refined"] < 0.25 < 0.9 < found["recognised_drawn"]


def test_drawn_and_real_images_of_other_classes_are_refused(digits):
    letters = Dataset("letters", digits.train_images, digits.train_labels, digits.test_images, digits.test_labels,
                      tuple("abcdefghij"))  # fmt: skip
    for dataset, name in ((digits, "digits"), (Unpaired(letters, digits), "letters+digits")):
        with pytest.raises(RunError, match=r"study refined needs drawn digits beside real ones of the same classes; "
                                           rf"run is trained on {name.replace('+', '.')}$"):  # fmt: skip
            study("refined", trained(Known(), dataset, name))


def test_runs_of_other_recipes_and_data_are_refused_before_any_is_trained(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name, place, folder in (("srresnet", "two-hues-digits", "sr"), ("cyclegan", "digits+digits", "cycle"),
                                ("colourise", "tinted-digits", "tinted")):  # fmt: skip
        start(name, place, folder=folder, preset="tiny", epochs=1).fit()
    with pytest.raises(RunError, match=r"study colours looks at a run of .*; sr is one of srresnet"):
        run_study("colours", "sr", tiny=True)
    with pytest.raises(RunError, match=r"study super-resolution-x4 looks at .*; sr is one of srresnet;"):
        run_study("super-resolution-x4", "sr", tiny=True)
    with pytest.raises(RunError, match=r"study colours: it knows the law of hues of .*, and these are tinted-digits"):
        run_study("colours", "tinted", tiny=True)
    for given in ({"folder": "cycle"}, {"data": "digits+digits"}):
        with pytest.raises(RunError, match=r"study translation: it needs digits beside changed ones, .* digits.digits"):
            run_study("translation", tiny=True, **given)
    assert not (tmp_path / "runs").exists()


def test_of_all_runs_the_newest_is_taken_that_the_study_can_look_at(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for place in ("digits+slanted", "digits+digits"):
        start("cyclegan", place, preset="tiny", epochs=1).fit()
    assert run_study("translation", tiny=True)[1] == Path("runs/cyclegan-001/studies/translation")
