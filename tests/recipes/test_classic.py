"""The studies of the chapter `classic`: which images are learned from, and which are judged."""

from __future__ import annotations

import io
import sys

import numpy as np
import pytest

from tinygen.data.selection import subset
from tinygen.metrics import psnr
from tinygen.recipes import RunError, find_study, recipe, run_study, start
from tinygen.step import Step
from tinygen.studies import denoising
from tinygen.studies import sparse_coding as sparse
from tinygen.training import Display


def dark_to_learn_and_bright_to_test(path, side=16):
    draw = np.random.default_rng(0)
    x_train, x_test = (draw.integers(low, low + 100, (n, 1, side, side), np.uint8) for low, n in ((0, 40), (150, 12)))
    np.savez(path, x_train=x_train, x_test=x_test, y_train=np.arange(40) % 2, y_test=np.arange(12) % 2)
    return x_test[:, 0] / np.float32(255)


def told(*given, **options):
    return run_study(*given, display=Display(io.StringIO(), live=False), **options)[0]


def watched(monkeypatch, module, name):
    """The arguments of each call of a function of `module`, which does its work as before."""
    calls, inner = [], getattr(module, name)

    def outer(*given, **named):
        calls.append((given, named))
        return inner(*given, **named)

    monkeypatch.setattr(module, name, outer)
    return calls


SMALL = dict(find_study("sparse-coding").tiny)


def test_sparse_codes_learn_from_training_images_and_judge_test_images(monkeypatch):
    test = dark_to_learn_and_bright_to_test("mine.npz")
    learned = watched(monkeypatch, sparse, "learned_atoms")
    best, filtered = watched(monkeypatch, denoising, "linear"), watched(monkeypatch, denoising, "wiener")
    restored = watched(monkeypatch, sparse, "averaged")
    findings = told("sparse-coding", data="mine.npz", arguments=SMALL | {"images": 12, "noise": 0.05})
    assert abs(learned[0][0][0].mean()) < 1e-6  # patches without their means
    assert learned[0][0][0].std() == pytest.approx(100 / 255 / 12**0.5, rel=0.05)
    assert len(learned[1][0][0]) == SMALL["patches"] and len(learned) == 2
    assert best[0][0][1].mean() < 0.25 and best[0][0][0].mean() > 0.7  # mean of training patches, noisy test patches
    assert filtered[0][0][1].mean() < 0.25 and filtered[0][0][0].mean() > 0.7
    blurred, _, power, sd, kernel = filtered[0][0]
    train = np.load("mine.npz")["x_train"][:, 0] / np.float32(255)
    np.testing.assert_allclose(power, denoising.spectrum(train), rtol=1e-4)
    np.testing.assert_allclose(kernel, denoising.gaussian_kernel(1.5))
    assert (best[0][0][3], sd) == pytest.approx((0.05, 0.01))  # a fifth of the noise after blurring
    inside = lambda y: psnr(y[:, 4:-4, 4:-4], test[:, 4:-4, 4:-4])  # a margin of a quarter at most
    assert findings.metrics["psnr_blurred"] == pytest.approx(inside(blurred))
    assert findings.metrics["psnr_wiener"] == pytest.approx(inside(denoising.wiener(*filtered[0][0]).clip(0, 1)))
    clean, _, denoised = (batch.numpy() for batch in findings.pictures["denoised"].batches)
    assert len(clean) == 8 and clean.mean() > 0.7 and abs(denoised - clean).mean() < 0.3
    assert findings.metrics["psnr_noisy"] == pytest.approx(-20 * np.log10(0.05), abs=0.3)
    rows = {(row["task"], row["method"]): row for row in findings.table}
    assert {row["n"] for key, row in rows.items() if key[0] != "defects"} == {len(test)}
    assert rows["defects", "objective"]["n"] == SMALL["textured"]
    found = sparse.averaged(*restored[0][0]).clip(0, 1)
    assert findings.metrics["psnr_denoised"] == pytest.approx(psnr(found, test))
    assert 0.7 < findings.metrics["auroc"] < 1 and findings.metrics["fista_gap"] < findings.metrics["ista_gap"]


def test_images_of_any_size_can_be_coded():
    """Wider than high, and not a multiple of the patch."""
    images = np.random.default_rng(1).integers(0, 256, (40, 3, 9, 13), np.uint8)
    np.savez("odd.npz", images=images)
    findings = told("sparse-coding", data="odd.npz", arguments=SMALL | {"side": 4})
    assert findings.pictures["deblurred"].batches[2].shape == (4, 1, 9, 13)
    assert findings.pictures["deblurred"].titles == ("clean", "seen", "deblurred")
    assert all(np.isfinite(v) for v in findings.metrics.values())


def any_run_fits(monkeypatch):
    """The module is hidden behind the decorator of its name."""
    monkeypatch.setattr(sys.modules["tinygen.recipes.study"], "same_kind", lambda one, other: True)


class Known(Step):
    """A denoiser that leaves everything as it is."""

    def __call__(self, batch):
        return {}

    def apply(self, images):
        return images


def known_denoiser(given, sd: float = 0.3) -> Known:
    return Known()


def no_denoiser(given, p: float = 0.3) -> Known:
    return Known()


def test_classic_denoisers_are_fitted_to_training_images_and_judged_on_test_images(monkeypatch):
    chosen = find_study("classic-denoisers")
    any_run_fits(monkeypatch)
    recipe("knows the mean")(known_denoiser)
    test = dark_to_learn_and_bright_to_test("mine.npz")
    start("known-denoiser", "mine.npz", folder="run", epochs=1, arguments={"sd": 0.1}).fit()
    filtered, whole = watched(monkeypatch, denoising, "wiener"), watched(monkeypatch, denoising, "linear")
    inner = denoising.local_polynomial
    tried = watched(monkeypatch, denoising, "local_polynomial")
    findings = told("classic-denoisers", "run", arguments={"tuned": 6})
    for (z, mean, *_, sd), _ in filtered + whole:
        assert mean.mean() < 0.25 and z.mean() > 0.7 and sd == 0.1
    train = np.load("mine.npz")["x_train"][:, 0] / np.float32(255)
    np.testing.assert_allclose(filtered[0][0][2], denoising.spectrum(train), rtol=1e-4)
    np.testing.assert_allclose(whole[0][0][2], np.cov(train.reshape(40, -1).T), atol=1e-6)
    bright = [given[0].mean() > 0.7 for given, _ in tried]
    assert bright.count(True) == 3 and all(len(given[0]) == (12 if b else 6) for (given, _), b in zip(tried, bright))
    assert findings.metrics["psnr_noisy"] == pytest.approx(20, abs=0.5)
    assert findings.metrics["psnr_trained"] == pytest.approx(psnr(filtered[0][0][0].clip(0, 1), test))
    some = np.load("mine.npz")["x_train"][subset(40, 6), 0] / np.float32(255)
    for degree in (0, 1, 2):  # the window that does best on training images is the one that is judged
        calls = [(given[0], named["window"]) for given, named in tried if named["degree"] == degree]
        reached = [psnr(inner(z, window, degree).clip(0, 1), some) for z, window in calls[:-1]]
        assert len(reached) == 6 and calls[-1][1] is calls[np.argmax(reached)][1]
    reached = {row["denoiser"]: row["PSNR"] for row in findings.table}
    names = {"adaptive": "polynomial of degree 0, adaptive neighbourhoods", "bilateral": "bilateral filter",
             "wiener": "Wiener filter", "linear": "best linear map"}  # fmt: skip
    assert all(findings.metrics[f"psnr_{name}"] == reached[row] for name, row in names.items())
    best = max(reached[f"polynomial of degree {degree}"] for degree in (0, 1, 2))
    assert findings.metrics["psnr_polynomial"] == best
    assert [row["denoiser"] for row in findings.table][-1] == "known-denoiser" and chosen.on == ("denoising-gauss30",)
    assert {row["n"] for row in findings.table} == {12}
    pictures = findings.pictures["denoised"].batches
    titles = [f"{row['denoiser']}: {row['PSNR']:.1f} dB" for row in findings.table]
    assert findings.pictures["denoised"].titles == ["clean", *titles]
    assert len(pictures) == 1 + len(findings.table) and np.array_equal(pictures[0].numpy()[:, 0], test[:8])


def test_a_run_that_knows_no_gaussian_noise_is_refused(monkeypatch):
    any_run_fits(monkeypatch)
    recipe("knows the mean")(no_denoiser)
    start("no-denoiser", folder="run", preset="tiny").fit()
    with pytest.raises(RunError, match="run is one of no-denoiser, which has no sd; leave run out, or name another"):
        told("classic-denoisers", "run")


def test_a_run_without_noise_has_nothing_to_remove(monkeypatch):
    any_run_fits(monkeypatch)
    recipe("knows the mean")(known_denoiser)
    start("known-denoiser", folder="run", preset="tiny", arguments={"sd": 0}).fit()
    refused = "study classic-denoisers: sd of run must be above 0, it is 0: .* name another run, or leave it out"
    with pytest.raises(RunError, match=refused):
        told("classic-denoisers", "run")
