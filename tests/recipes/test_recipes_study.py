"""Studies: which runs they look at, what they leave, and what is refused."""

from __future__ import annotations

import io
import json
import math
import os
import statistics
import sys
from dataclasses import replace
from pathlib import Path

import by_hand
import numpy as np
import pytest
from toys import Toy

import tinygen as tg
from tinygen import metrics
from tinygen.data import load
from tinygen.data.selection import subset
from tinygen.errors import SettingError
from tinygen.free_memory import TooLarge
from tinygen.metrics import NAMES
from tinygen.recipes import (
    STUDIES,
    Findings,
    RunError,
    find_study,
    load_run,
    open_run,
    recipe,
    run_study,
    start,
    study,
)
from tinygen.recipes.reproduce import data_of_study
from tinygen.recipes.run import build
from tinygen.recipes.study import Film, Sheet, Trained
from tinygen.step import Step
from tinygen.training import Display

TINY = {"preset": "tiny", "limit": 64, "epochs": 1}


def build_toy(given, lr: float = 0.1) -> Toy:
    return Toy(lr, given.shape)


def registered():
    recipe("a toy", lectures=(1,))(build_toy)

    @study("what a toy knows", on=("build-toy",), lectures=(2,), tiny={"points": 3})
    def toy_study(trained, points: int = 5, name: str = "x"):
        """How far the toy is from the data.

        points: how many are drawn
        """
        level = trained.step.net.weight.item()
        pictures = {
            "sheet": Sheet(tg.full((points, 1, 8, 8), 0.5), 2),
            "pair": (tg.ones(4, 1, 8, 8), tg.zeros(4, 1, 8, 8)),
            "plane": tg.tensor(np.random.default_rng(0).normal(size=(9, 2)).astype("f4")),
        }
        numbers = {"level": level, "points": np.float32(points), "drawn": tg.rand(1).item()}
        return Findings(numbers, pictures, table=[{"what": name, "value": np.float32(1.5)}])

    return toy_study


def size_of(path):
    from PIL import Image

    with Image.open(path) as picture:
        return picture.size


def told(*given, **options):
    stream = io.StringIO()
    findings, folder = run_study(*given, display=Display(stream, live=False), **options)
    return findings, folder, stream.getvalue()


def test_a_study_leaves_numbers_and_pictures():
    registered()
    run = start("build-toy", folder="run", **TINY)
    run.fit()
    findings, folder, said = told("toy-study", "run", arguments={"points": 6}, seed=4)
    assert said == "" and folder == Path("run/studies/toy-study")
    assert {p.name for p in folder.iterdir()} == {"study.json", "sheet.png", "pair.png", "plane.png"}
    kept = json.loads((folder / "study.json").read_text())
    assert kept["metrics"] == {"level": run.step.net.weight.item(), "points": 6.0, "drawn": findings.metrics["drawn"]}
    assert kept["runs"] == ["run"] and kept["arguments"] == {"points": 6} and kept["seed"] == 4
    assert kept["table"] == [{"what": "x", "value": 1.5}] and kept["study"] == "toy-study"
    assert size_of(folder / "sheet.png") == (2 * 62 + 6, 3 * 62 + 6)
    tg.rand(9)
    assert told("toy-study", "run", seed=4)[0].metrics["drawn"] == findings.metrics["drawn"]
    assert told("toy-study", "run", seed=5)[0].metrics["drawn"] != findings.metrics["drawn"]


def test_without_a_run_the_newest_that_fits_is_taken_or_one_is_trained():
    registered()
    findings, folder, said = told("toy-study", tiny=True)
    assert "needs a trained build-toy, and there is none here: training one first" in said
    assert folder == Path("runs/build-toy-001/studies/toy-study") and findings.metrics["points"] == 3
    assert told("toy-study", tiny=True)[2] == "stands on runs/build-toy-001 (build-toy, seed 0)\n"


def test_a_run_on_a_file_is_found_again_by_the_name_that_is_given(tmp_path):
    registered()
    np.savez("mine.npz", images=np.random.default_rng(0).integers(0, 256, (30, 8, 8), np.uint8))
    start("build-toy", "mine.npz", epochs=1, limit=None, preset="cpu").fit()
    for data in ("mine.npz", "./mine.npz", str(tmp_path / "mine.npz")):
        assert told("toy-study", data=data)[2] == "stands on runs/build-toy-001 (build-toy, seed 0)\n"


def test_a_study_of_one_data_set_takes_no_pair():
    @study("of data", data="digits")
    def of_data(dataset): ...

    words = r"study of-data looks at one data set, and digits\+slanted is a pair; give one of them"
    with pytest.raises(RunError, match=words):
        run_study("of-data", data="digits+slanted")


def test_a_second_run_is_on_the_data_of_the_first():
    registered()

    @study("two of them", on=("build-toy", "build-toy"))
    def of_two(first, second):
        return Findings({"same": float(first.dataset.sha == second.dataset.sha)}, {})

    start("build-toy", folder="run", size=12, **TINY | {"preset": "cpu"}).fit()
    findings, _, said = told("of-two", "run")
    assert findings.metrics["same"] == 1 and "training one first" in said


def test_runs_that_nobody_named_are_on_the_same_data():
    """The newest run of the second recipe is on other data than the newest of the first."""
    registered()

    @recipe("another")
    def other_toy(given):
        return Toy(0.1, given.shape)

    @study("of both", on=("build-toy", "other-toy"))
    def of_both(first, second):
        return Findings({"sizes": float(first.dataset.shape == second.dataset.shape)}, {})

    for at, (name, size) in enumerate((("build-toy", 12), ("other-toy", 12), ("other-toy", 8))):
        run = start(name, folder=f"runs/{at}", size=size, limit=64, epochs=1)
        run.fit()
        os.utime(run.folder / "checkpoint.safetensors", (1e9 + at, 1e9 + at))
    assert told("of-both")[0].metrics == {"sizes": 1}


def test_a_study_on_nothing_is_kept_in_the_folder_studies():
    @study("of nothing")
    def of_nothing(count: int = 2):
        return Findings({"count": count}, {})

    assert told("of-nothing")[1] == Path("studies/of-nothing")
    with pytest.raises(RunError, match="study of-nothing stands on no run; leave runs/x out"):
        run_study("of-nothing", "runs/x")


def test_a_study_on_a_data_set_receives_the_one_that_is_named_or_its_own():
    @study("of data", data="digits")
    def of_data(dataset, factor: int = 1):
        return Findings({"n": factor * dataset.count("train"), "pixels": dataset.shape[-1]}, {})

    np.savez("mine.npz", images=np.zeros((20, 1, 9, 9), np.uint8))
    findings, folder, _ = told("of-data")
    assert findings.metrics == {"n": 1500, "pixels": 8} and folder == Path("studies/of-data")
    assert told("of-data", tiny=True)[0].metrics["n"] == 64
    assert told("of-data", data="mine.npz", arguments={"factor": 2})[0].metrics == {"n": 36, "pixels": 9}
    kept = json.loads((folder / "study.json").read_text())["data"]
    assert [one["name"] for one in kept] == ["mine"] and len(kept[0]["sha"]) > 8
    with pytest.raises(RunError, match="study of-data stands on no run; leave runs/x out"):
        run_study("of-data", "runs/x")


def test_a_study_on_runs_may_say_on_which_data_the_first_is_trained():
    registered()

    @study("of eights", on=("build-toy", "build-toy"), data="digits-only-8",
           asks=lambda shape, classes, data: None if "-only-" in data else f"it looks at one class, not at {data}")
    def of_eights(first, second):
        return Findings({"eights": float(set(first.dataset.train_labels) == {8}),
                         "same": float(first.folder == second.folder)}, {})

    start("build-toy", **TINY).fit()  # on digits: it will not do
    findings, folder, said = told("of-eights", tiny=True)
    assert findings.metrics == {"eights": 1, "same": 1} and said.count("training one first") == 1
    assert folder == Path("runs/build-toy-002/studies/of-eights")
    start("build-toy", "digits-only-3", **TINY).fit()  # the newest that will do comes before the study's own data
    assert told("of-eights", tiny=True)[0].metrics == {"eights": 0, "same": 1}
    assert told("of-eights", tiny=True, data="digits-only-5")[0].metrics["eights"] == 0
    with pytest.raises(RunError, match="study of-eights: it looks at one class, not at digits"):
        run_study("of-eights", "runs/build-toy-001", tiny=True)
    assert data_of_study("of-eights") == "digits-only-8"


def test_data_beside_a_run_are_refused():
    registered()
    start("build-toy", folder="run", **TINY).fit()
    with pytest.raises(RunError, match="study toy-study looks at the data of run; leave out --data mnist"):
        run_study("toy-study", "run", data="mnist")


def test_what_does_not_fit_is_refused():
    registered()
    start("lenet", folder="other", **TINY).fit()
    refused = "study toy-study looks at a run of build-toy; other is one of lenet; name another run, or leave it out"
    with pytest.raises(RunError, match=refused):
        run_study("toy-study", "other")
    with pytest.raises(RunError, match=r"study toy-study has no argument 'pionts'\. Did you mean points\?"):
        run_study("toy-study", "other", arguments={"pionts": 3})
    with pytest.raises(RunError, match="points of study toy-study must be a whole number"):
        run_study("toy-study", "other", arguments={"points": "many"})
    with pytest.raises(SettingError, match=r"no study is called 'toy-stdy'\. Did you mean toy-study\?"):
        find_study("toy-stdy")
    with pytest.raises(RunError, match="runs/none is no run"):
        run_study("toy-study", "runs/none")


RANGES = [
    ("manifold", "side", 1, "at least 2"), ("codes", "steps", 1, "at least 2"), ("latents", "points", 1, "at least 2"),
    ("latents", "repeats", 1, "at least 2"),
    ("classifier-initialisation", "lr", -1, "above 0"), ("classifier-initialisation", "tuned_lr", 0, "above 0"),
    ("classifier-initialisation", "head_lr", -1e-3, "above 0"), ("sparse-coding", "blur", -1, "above 0"),
    ("sparse-coding", "noise", -1, "above 0"), ("sparse-coding", "strength", -1, "above 0"),
    ("sparse-coding", "side", 1, "at least 2"), ("sparse-coding", "atoms", 1, "at least 2"),
    ("sparse-coding", "patches", 1, "at least 2"), ("sparse-coding", "textured", 1, "at least 2"),
    ("turn", "steps", 1, "at least 2"), ("chain", "points", 1, "at least 2"), ("plane", "side", 1, "at least 2"),
    ("inversion", "c", 0, "above 0"), ("inversion", "lr", -0.1, "above 0"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "argument", "value", "words"), RANGES)
def test_arguments_out_of_range_are_refused_before_anything_is_trained(name, argument, value, words):
    usual = find_study(name).arguments()[argument].default
    refused = f"study {name}: {argument} must be {words}.*, it is {value:g}; {usual:g} is usual: --set {argument}="
    with pytest.raises(RunError, match=refused):
        told(name, tiny=True, arguments={argument: value})
    assert not Path("runs").exists()


def fail_with(error):
    @study("fails")
    def failing(side: int = 2, name: str = "x"):
        raise error

    return lambda **arguments: run_study("failing", arguments=arguments)


@pytest.mark.parametrize("error", [ValueError("a\nnumber"), np.linalg.LinAlgError("a number"),
                                   ZeroDivisionError("a number")])  # fmt: skip
def test_what_arguments_lead_to_is_said_in_one_line_with_the_study_s_name(error):
    fails = fail_with(error)
    with pytest.raises(RunError, match=r"study failing with {'side': 3}: a number; change side"):
        fails(side=3)
    with pytest.raises(type(error), match=r"^a\snumber$"):  # nobody gave anything: a fault, with a traceback
        fails()


def test_errors_that_name_their_remedy_stay_as_they_are():
    with pytest.raises(SettingError, match=r"^mend it$"):
        fail_with(SettingError("mend it"))(side=3)


def test_a_study_that_does_not_fit_into_memory_names_its_own_arguments():
    fails = fail_with(MemoryError("112 GiB"))
    for given in ({"side": 9}, {}):
        with pytest.raises(TooLarge, match=r"study failing.* does not fit into memory: 112 GiB; give a smaller side$"):
            fails(**given)


def test_numbers_that_are_not_finite_are_null_in_study_json():
    @study("of no number")
    def of_no_number(count: int = 2):
        table = [{"a": np.float32("nan"), "b": -math.inf, "c": np.int64(3), "d": (1.5, math.nan), "e": None, "f": True}]
        return Findings({"x": math.nan, "y": np.inf, "z": np.float32(0.5)}, {}, table)

    folder = told("of-no-number")[1]
    forbidden = lambda word: pytest.fail(f"{word} is no JSON")
    kept = json.loads((folder / "study.json").read_text(), parse_constant=forbidden)
    assert kept["metrics"] == {"x": None, "y": None, "z": 0.5}
    assert kept["table"] == [{"a": None, "b": None, "c": 3, "d": [1.5, None], "e": None, "f": True}]


def test_a_recipe_of_the_same_kind_will_do_but_not_one_of_an_unknown_kind():
    registered()

    @recipe("builds a Toy, too")
    def other_toy(given) -> Toy:
        return Toy(0.1, given.shape)

    @recipe("does not say what it builds")
    def unknown_kind(given):
        return Toy(0.1, given.shape)

    @study("of the unknown", on=("unknown-kind",))
    def of_unknown(trained):
        return Findings({}, {})

    for name in ("other-toy", "unknown-kind"):
        start(name, folder=name, **TINY).fit()
    told("toy-study", "other-toy")
    told("of-unknown", "unknown-kind")
    with pytest.raises(RunError, match="looks at a run of build-toy; unknown-kind is one of unknown-kind"):
        run_study("toy-study", "unknown-kind")
    with pytest.raises(RunError, match="looks at a run of unknown-kind; other-toy is one of other-toy"):
        run_study("of-unknown", "other-toy")


@pytest.mark.parametrize("name", STUDIES)
def test_every_study_runs_from_nothing(name):
    """At tiny, training what it stands on; its numbers are finite, its pictures there."""
    findings, folder, _ = told(name, tiny=True)
    assert findings.metrics and all(np.isfinite(v) for v in findings.metrics.values())
    ending = {title: "gif" if isinstance(shown, Film) else "png" for title, shown in findings.pictures.items()}
    assert all((folder / f"{title}.{ending[title]}").stat().st_size > 100 for title in findings.pictures)
    chosen = find_study(name)
    assert set(findings.metrics) <= set(NAMES)  # so each has a title and a unit
    assert chosen.summary and chosen.lectures and set(chosen.arguments()) <= set(chosen.meanings)


CLASSIFIED = {"nearest_neighbour", "pixel_nearest_neighbour", "codes", "logistic_regression", "svm", "fitted"}


def reconstructed(run, images):
    with tg.no_grad():
        return run.step.eval().apply(tg.tensor(images)).numpy()


def test_codes_of_images_without_labels():
    np.savez("mine.npz", images=np.random.default_rng(0).integers(0, 256, (60, 1, 8, 8), np.uint8))
    start("conv-autoencoder", "mine.npz", folder="run", preset="tiny").fit()
    findings, folder, _ = told("codes", "run", arguments={"pairs": 2, "steps": 5})
    assert not set(findings.metrics) & CLASSIFIED and (folder / "codes.png").exists()
    assert size_of(folder / "interpolations.png") == (5 * 62 + 6, 2 * 62 + 6)


@pytest.mark.parametrize("unseen", [0, 1, 10])
def test_codes_have_no_neighbours_of_a_class_that_training_lacks(unseen):
    """Ten classes to learn and ten to test; `unseen` of these are new, as all of Omniglot's are."""
    images = np.random.default_rng(0).integers(0, 256, (60, 1, 8, 8), np.uint8)
    labels = np.arange(40) % 10, np.arange(20) % 10 + unseen
    np.savez("mine.npz", x_train=images[:40], y_train=labels[0], x_test=images[40:], y_test=labels[1])
    start("autoencoder", "mine.npz", folder="run", preset="tiny").fit()
    findings, _, _ = told("codes", "run")
    assert set(findings.metrics) & CLASSIFIED == (set() if unseen else CLASSIFIED)
    assert set(findings.pictures) == {"codes", "interpolations", "foreign"}


def test_codes_have_as_many_lines_as_were_asked_for_or_none():
    start("autoencoder", folder="run", **TINY).fit()
    findings, _, _ = told("codes", "run", arguments={"pairs": 5, "points": 10, "steps": 3})
    assert len(findings.pictures["interpolations"].images) == 5 * 3
    for pairs, points, most in ((500, 3, 1), (33, 2000, 32)):
        with pytest.raises(RunError, match=f"{pairs} lines need .* {2 * pairs} test images.*at most pairs={most}"):
            told("codes", "run", arguments={"pairs": pairs, "points": points})


def test_a_run_of_the_same_kind_of_step_fits_where_it_is_named():
    """Unnamed it does not: a study of denoisers would meet any autoencoder."""
    registered()

    @recipe("typed")
    def typed_toy(given) -> Toy:
        return Toy(0.1, given.shape)

    @recipe("a variant", like=typed_toy)
    def typed_variant(given) -> Toy:
        return Toy(0.2, given.shape)

    @recipe("typed as well, of another family")
    def typed_too(given) -> Toy:
        return Toy(0.1, given.shape)

    @study("of a kind", on=("typed-toy",))
    def of_a_kind(trained):
        return Findings({"typed_too": trained.settings.recipe == "typed-too"}, {})

    start("typed-too", folder="runs/other", **TINY).fit()
    assert told("of-a-kind", "runs/other", tiny=True)[0].metrics["typed_too"]
    start("typed-variant", folder="runs/variant", **TINY).fit()
    assert told("of-a-kind", tiny=True)[2] == "stands on runs/variant (typed-variant, seed 0)\n"
    start("typed-toy", folder="runs/toy", **TINY).fit()
    os.utime("runs/toy/checkpoint.safetensors", (1e9, 1e9))  # an older one, and the very recipe
    assert told("of-a-kind", tiny=True)[2] == "stands on runs/toy (typed-toy, seed 0)\n"


# ---------------------------------------------------------------------------------- spaces of codes, and theory


class Squares(Step):
    """A VAE of 8x8 images whose parts are known: codes are three pixels, one unit hardly in use."""

    def __init__(self, digits):
        self.digits = tg.tensor(digits)

    def seen(self, images):
        return images

    def encode(self, images):
        return self.encoder(self.seen(images))[0]

    def encoder(self, images):
        mean = images.flatten(1)[:, 18:21] * tg.tensor([0.02, 1.0, 2.0])
        return mean, tg.full(mean.shape, -1.0)

    def decode(self, z):
        """The digit that the third unit says, from 0 far left to 9 far right."""
        at = (z[:, 2].numpy() + 2.5).clip(0, 4.99) * 2
        return self.digits[tg.tensor(at.astype(np.int64))]

    def measure(self, batch):
        mean, log_variance = self.encoder(batch[0])
        return {"loss": (mean + (0.5 * log_variance).exp() * tg.randn_like(mean)).sum(1).mean()}


def known():
    """(Trained of `Squares`, the test images) on the embedded digits."""
    dataset = load("digits")
    examples = [np.flatnonzero(dataset.train_labels == d)[3] for d in range(10)]
    step = Squares(dataset.floats("train")[examples])
    return Trained(step, dataset, None, Path("run")), dataset.floats("test")


def test_the_manifold_counts_what_the_frozen_network_sees():
    trained, images = known()
    found = find_study("manifold").run(trained, side=12, pairs=20)
    sheet = found.pictures["manifold"]
    assert sheet.columns == 12 and len(sheet.images) == 144
    z = [statistics.NormalDist().inv_cdf((i + 0.5) / 12) for i in range(12)]
    shown = trained.step.decode(tg.tensor([[0.0, 0.0, value] for value in z])).numpy()
    rows = sheet.images.numpy().reshape(12, 12, 1, 8, 8)
    assert all(np.array_equal(row, shown) for row in rows)  # the most active unit is the third: to the right
    labels = metrics.features(sheet.images.numpy())[1].argmax(1)
    shares = [float((labels == d).mean()) for d in range(10)]
    assert [row["share"] for row in found.table] == pytest.approx(shares) and sum(shares) == pytest.approx(1)
    assert found.metrics["rarest_digit"] == min(shares) and found.metrics["active"] == 2
    assert found.metrics["digits"] == sum(share >= 0.01 for share in shares) > 5
    assert [len(row) for row in found.pictures["walks"].batches] == 3 * [12]
    test = tg.tensor(images[subset(len(images), 2000)][:40])
    ends = trained.step.decode(trained.step.encode(test)).numpy()
    lines = found.pictures["interpolations"].images.numpy().reshape(20, 8, 1, 8, 8)
    assert np.array_equal(lines[:, 0], ends[::2]) and np.array_equal(lines[:, 7], ends[1::2])
    with pytest.raises(RunError, match="40000 lines need 80000 test images, and there are 297"):
        find_study("manifold").run(trained, pairs=40_000)


def test_the_manifold_of_images_that_are_no_digits_has_no_digits():
    np.savez("mine.npz", images=np.random.default_rng(0).integers(0, 256, (60, 1, 8, 8), np.uint8))
    start("vae", "mine.npz", folder="run", preset="tiny").fit()
    findings, folder, _ = told("manifold", "run", arguments={"side": 3, "pairs": 2})
    assert set(findings.metrics) == {"active"} and size_of(folder / "manifold.png") == (3 * 62 + 6, 3 * 62 + 6)


def test_a_manifold_needs_two_numbers():
    start("vae", folder="run", arguments={"latent": 1}, **TINY).fit()
    with pytest.raises(RunError, match=r"needs codes of two numbers or more; this run's are \(1,\)"):
        told("manifold", "run")


def test_latents_of_two_runs_and_of_k_draws():
    trained, images = known()
    tg.manual_seed(0)
    found = find_study("latents").run(trained, trained, k=4, repeats=200)
    test = images[subset(len(images), 2000)]
    mean = trained.step.encode(tg.tensor(test[subset(len(test), 50)])).numpy().astype(float)
    log_variance = np.full((50, 3), -1.0)
    assert found.metrics["kl"] == pytest.approx(by_hand.kl(mean, log_variance).mean(), rel=1e-5)
    other = 0.5 * ((1 + mean**2) / np.exp(-1.0) - 1 - 1.0).sum(1)
    assert found.metrics["kl_reversed"] == pytest.approx(other.mean(), rel=1e-5)
    assert found.metrics["variance_ratio"] == pytest.approx(1 / 4, rel=0.4)
    rows = {(row["of"], row["quantity"]): row["value"] for row in found.table}
    codes = trained.step.encode(tg.tensor(test)).numpy().astype(float)
    own, spread = (rows["codes: autoencoder", name] for name in ("norm of the mean", "standard deviation"))
    assert own == pytest.approx(np.linalg.norm(codes.mean(0)), rel=1e-5)
    assert spread == pytest.approx(math.sqrt(codes.var(0, ddof=1).mean()), rel=1e-5)
    assert rows["VAE", "mean of KL(q(z|x) || N(0, I)), nats"] == found.metrics["kl"]
    names = {"mean": "mean, nats", "sd": "standard deviation, nats"}
    one, many = ({short: rows[f"ELBO, {draws} of z", name] for short, name in names.items()}
                 for draws in ("one draw", "4 draws"))  # fmt: skip
    exact, sd = -mean.sum(1).mean(), math.sqrt(3 * math.exp(-1.0) / 50)
    assert one["mean"] == pytest.approx(exact, abs=0.05) and many["mean"] == pytest.approx(exact, abs=0.03)
    assert one["sd"] == pytest.approx(sd, rel=0.2) and many["sd"] == pytest.approx(sd / 2, rel=0.2)
    draws, titles = found.pictures["draws"]
    assert [len(row) for row in draws] == 5 * [12] and titles == ["x", "draw 1", "draw 2", "draw 3", "draw 4"]
    assert np.array_equal(draws[0].numpy(), test[subset(len(test), 50)][:12])
    with pytest.raises(RunError, match="k must be at least 2, it is 1"):
        find_study("latents").run(trained, trained, k=1)


class Darker(Squares):
    """Models images of half the brightness, and draws the code itself into the first pixels."""

    def seen(self, images):
        return 0.5 * images

    def decode(self, z):
        return tg.cat([z, tg.zeros(len(z), 61)], 1).reshape(-1, 1, 8, 8)


def darker():
    trained, images = known()
    return trained._replace(step=Darker(trained.step.digits)), images


def test_a_walk_leaves_the_other_units_where_a_test_image_has_them():
    trained, images = darker()
    found = find_study("manifold").run(trained, side=3, pairs=1, walks=2, points=60)
    first = subset(len(images), 60)[:1]  # drawn, not the file's first
    code = trained.step.encode(tg.tensor(images[first])).numpy()[0]
    assert first[0] > 0 and (code != 0).any()
    z = [statistics.NormalDist().inv_cdf((i + 0.5) / 12) for i in range(12)]
    walks = tg.stack(found.pictures["walks"].batches).numpy().reshape(2, 12, 64)[..., :3]
    for walk, unit in zip(walks, (2, 1)):  # the most active first
        expected = np.tile(code, (12, 1))
        expected[:, unit] = z
        np.testing.assert_allclose(walk, expected, rtol=1e-5)


def test_latents_are_each_its_own_run_s_of_what_it_models(monkeypatch):
    plain, images = known()
    variational, _ = darker()
    counts, true = [], sys.modules["tinygen.studies.evidence"].averaged
    monkeypatch.setattr("tinygen.studies.evidence.averaged", lambda estimate, k, repeats: counts.append((k, repeats))
                        or true(estimate, k, repeats))  # fmt: skip
    found = find_study("latents").run(plain, variational, points=60, k=5, repeats=3)
    test = images[subset(len(images), 60)]
    mean = plain.step.encode(tg.tensor(test)).numpy().astype(float)
    rows = {row["of"]: row["value"] for row in found.table if row["quantity"] == "norm of the mean"}
    assert rows["codes: autoencoder"] == pytest.approx(np.linalg.norm(mean.mean(0)), rel=1e-4)
    assert rows["codes: VAE, the means of q(z|x)"] == pytest.approx(np.linalg.norm(mean.mean(0)) / 2, rel=1e-4)
    some = subset(60, 50)  # not the file's front
    assert found.metrics["kl"] == pytest.approx(by_hand.kl(mean[some] / 2, np.full((50, 3), -1.0)).mean(), rel=1e-5)
    assert np.array_equal(found.pictures["draws"].batches[0].numpy(), 0.5 * test[some][:12])
    assert counts == [(1, 3), (5, 3)]


def test_bayes_by_the_rule_and_counted():
    tg.manual_seed(0)
    found = find_study("bayes").run(rain=0.2, there_in_rain=0.25, there_when_dry=0.75)
    assert found.metrics == pytest.approx({
        "prior": 0.2, "marginal": 0.65, "posterior": 0.05 / 0.65, "posterior_absent": 0.15 / 0.35,
    })  # fmt: skip
    assert [row["by Bayes"] for row in found.table] == pytest.approx(
        [0.2, 0.65, 0.05 / 0.65, 0.6 / 0.65, 0.15 / 0.35, 0.2 / 0.35]
    )
    assert [row["on 10,000 days"] for row in found.table] == pytest.approx(
        [row["by Bayes"] for row in found.table], abs=0.03
    )
    with pytest.raises(RunError, match=r"rain is a probability above 0 and below 1, it is 1\.5"):
        find_study("bayes").run(rain=1.5)


def test_elbo_identities_in_numbers():
    tg.manual_seed(0)
    found = find_study("elbo-identities").run(weight=2.0, sigma=0.5, x=1.0, groups=200)
    log_p = statistics.NormalDist(0, math.sqrt(4.25)).pdf(1.0)
    assert found.metrics["log_p"] == pytest.approx(math.log(log_p), abs=1e-9)
    for row in found.table:
        assert row["ELBO"] <= found.metrics["log_p"] + 1e-9 and abs(row["log p - ELBO - KL"]) < 1e-6
    posterior, half, twice, off, prior = found.table
    assert (posterior["mean"], posterior["sd"]) == pytest.approx((2 / 4.25, math.sqrt(0.25 / 4.25)))
    assert posterior["KL to posterior"] == pytest.approx(0, abs=1e-9)
    assert half["KL to posterior"] == pytest.approx(math.log(2) - 3 / 8)
    assert twice["KL to posterior"] == pytest.approx(3 / 2 - math.log(2))
    assert off["KL to posterior"] == pytest.approx(0.5) and prior["ELBO"] == found.metrics["elbo"]
    lacking = found.metrics["log_p"] - found.metrics["k_sample_bound"]  # the bound of 100 draws closes most of the gap
    assert -0.02 < lacking < 0.1 * prior["KL to posterior"]
    with pytest.raises(RunError, match="sigma is a standard deviation above 0, it is 0"):
        find_study("elbo-identities").run(sigma=0.0)


def test_the_bound_of_one_draw_is_the_elbo_of_the_prior_and_more_draws_raise_it(monkeypatch):
    drawn = []
    monkeypatch.setattr("tinygen.recipes.theory._draw_elbo", lambda *given: drawn.append(given))
    found = find_study("elbo-identities").run(groups=200)
    *_, bounds, elbo = drawn[0]
    assert bounds[0] == pytest.approx(elbo, abs=0.15) and (np.diff(bounds) > 0).all()
    assert elbo == found.metrics["elbo"] and bounds[-1] == found.metrics["k_sample_bound"] > elbo + 0.5


def test_divergences_in_numbers():
    found = find_study("divergences").run(points=401)
    forward, reverse, js, moments = found.table
    assert (forward["mean"], forward["sd"]) == pytest.approx((moments["mean"], moments["sd"]), abs=1e-6)
    assert (moments["mean"], moments["sd"]) == pytest.approx((0.5, math.sqrt(0.63 + 6.0)), abs=1e-3)
    assert reverse["mean"] == pytest.approx(2.5, abs=0.02) and reverse["sd"] == pytest.approx(0.9, abs=0.02)
    for row, name in ((forward, "forward_kl"), (reverse, "reverse_kl"), (js, "js")):
        assert found.metrics[name] == pytest.approx(row[name], abs=1e-9)
        assert all(row[name] <= other[name] + 1e-9 for other in (forward, reverse, js))
    assert reverse["outside"] < 0.02 < 0.2 < forward["outside"] == found.metrics["outside"]
    with pytest.raises(RunError, match="share=1 between 0 and 1"):
        find_study("divergences").run(share=1.0)
    with pytest.raises(RunError, match="modes 100 apart need a grid of 1021 points; it has 401"):
        find_study("divergences").run(apart=100.0, points=401)


@pytest.mark.parametrize("apart", [0.5, 10.0, 40.0])
def test_the_forward_fit_has_the_targets_moments_however_far_apart_the_modes_are(apart):
    forward, _, _, moments = find_study("divergences").run(apart=apart, points=601).table
    exact = math.sqrt(0.4 * 0.36 + 0.6 * 0.81 + 0.24 * apart**2)
    assert (moments["mean"], moments["sd"]) == pytest.approx((0.1 * apart, exact), rel=1e-4)
    assert (forward["mean"], forward["sd"]) == pytest.approx((moments["mean"], moments["sd"]), rel=1e-4)


def test_errors_of_codes_are_those_of_the_test_images_and_of_foreign_ones_over_them():
    # Trained so far that images depend on their codes.
    start("autoencoder", folder="run", preset="tiny", epochs=30, arguments={"lr": 0.02}).fit()
    findings, _, _ = told("codes", "run", arguments={"points": 40, "fitted": 50})
    run, dataset = open_run("run"), load("digits", limit=64)
    images = dataset.floats("test")[subset(64, 40)]
    mse = lambda x: float(((reconstructed(run, x) - x) ** 2).mean())
    assert findings.metrics["mse"] == pytest.approx(mse(images), rel=1e-5)
    turned = np.rot90(images, 2, (2, 3)).copy()
    assert findings.metrics["foreign_upside_down"] == pytest.approx(mse(turned) / mse(images), rel=1e-5)
    noise = mse(np.random.default_rng(0).random((4000, 1, 8, 8), np.float32)) / mse(images)
    assert findings.metrics["foreign_noise"] == pytest.approx(noise, rel=0.05)
    assert findings.metrics["fitted"] == 50 and findings.metrics["codes"] == 64
    whole, *rounded = findings.table
    assert whole == {"bits a number": 32, "bits a code": 96, "ratio": 64 * 8 / 96, "mse": findings.metrics["mse"]}
    with tg.no_grad():
        known, found = (run.step.encode(tg.tensor(x)).numpy() for x in (dataset.floats("train"), images))
    for row in rounded:
        levels = np.linspace(known.min(0), known.max(0), 2 ** row["bits a number"])
        nearest = np.stack([levels[abs(found[:, [k]] - levels[:, k]).argmin(1), k] for k in range(3)], 1)
        with tg.no_grad():
            again = run.step.decode(tg.tensor(nearest.astype("f4"))).numpy()
        assert row["mse"] == pytest.approx(((again - images) ** 2).mean(), rel=1e-4)
        assert row["ratio"] == pytest.approx(64 * 8 / (3 * row["bits a number"]))


def test_pixels_and_codes_have_each_their_own_neighbours():
    start("autoencoder", folder="run", preset="tiny").fit()
    findings, _, _ = told("codes", "run")
    dataset = load("digits", limit=64)
    x, y = (dataset.floats(split).reshape(64, -1).astype(float) for split in ("train", "test"))
    nearest = ((y[:, None] - x[None]) ** 2).sum(-1).argmin(1)
    share = (dataset.train_labels[nearest] == dataset.test_labels).mean()
    assert findings.metrics["pixel_nearest_neighbour"] == pytest.approx(share)
    assert findings.metrics["nearest_neighbour"] != pytest.approx(share)


def test_each_classifier_learns_from_training_codes_and_is_asked_about_test_codes(monkeypatch):
    from tinygen.recipes import codes

    dataset, draw, asked = load("digits", limit=40), np.random.default_rng(0), []
    known, found = draw.random((40, 3)), draw.random((20, 3))
    for rule, share in (("logistic_regression", 0.25), ("support_vectors", 0.75)):
        monkeypatch.setattr(codes.transfer, rule, lambda *given, share=share: asked.append(given) or share)
    labels = dataset.test_labels[:20]
    numbers = codes._classified(dataset, known, found, dataset.floats("test")[:20], labels, 30)
    assert (numbers["logistic_regression"], numbers["svm"], numbers["fitted"]) == (0.25, 0.75, 30)
    for x, seen, queries, answers in asked:
        assert queries is found and answers is labels and len(x) == 30
        places = [int(np.flatnonzero((known == row).all(1))[0]) for row in x]
        assert len(set(places)) == 30 and (dataset.train_labels[places] == seen).all()


def test_foreign_images_are_those_of_the_other_set_where_it_is_there(monkeypatch):
    from tinygen.recipes import codes

    mnist, fashion = (load("digits", limit=20), load("digits", limit=40))
    monkeypatch.setattr(codes, "load", {"fashion-mnist": fashion}.__getitem__)
    images = mnist.floats("test")
    kinds = codes._foreign(replace(mnist, name="mnist"), images, np.random.default_rng(0))
    assert np.array_equal(kinds["fashion-mnist"], fashion.floats("test")[subset(40, 20)])  # not the file's front
    assert set(codes._foreign(replace(mnist, name="fashion-mnist"), images, np.random.default_rng(0))) == {
        "upside down", "uniform noise"
    }  # fmt: skip


def test_every_size_of_code_is_trained_on_the_training_images_and_judged_on_the_test_images():
    findings, folder, _ = told("latent-size", tiny=True, arguments={"sizes": [1, 3], "epochs": 1})
    dataset = load("digits", limit=64)
    x, y = (dataset.floats(split).reshape(64, -1).astype(float) for split in ("train", "test"))
    _, _, axes = np.linalg.svd(x - x.mean(0), full_matrices=False)
    for row, d in zip(findings.table, (1, 3), strict=True):
        kept = (y - x.mean(0)) @ axes[:d].T @ axes[:d]
        assert row["PCA"] == pytest.approx(((y - x.mean(0) - kept) ** 2).mean(), rel=1e-4)
        assert row["d"] == d and row["ratio"] == 64 / d and row["epochs"] == 1
    assert findings.metrics["mse_smallest_code"] == findings.table[0]["mse"]
    assert findings.metrics["mse_largest_code"] == findings.table[1]["mse"]
    assert findings.metrics["pca_beaten"] == np.mean([row["mse"] < row["PCA"] for row in findings.table])
    assert (folder / "reconstructions.png").exists()
    with pytest.raises(RunError, match="a recipe with an argument latent: lenet"):
        told("latent-size", tiny=True, arguments={"recipe": "lenet"})


def test_sizes_of_codes_reach_the_networks(monkeypatch):
    from tinygen.recipes import codes

    built, judged = [], []
    monkeypatch.setattr(codes, "build", lambda settings: built.append(settings) or build(settings))
    monkeypatch.setattr(codes, "error", lambda step, images: judged.append(images) or len(judged) / 8)
    fitted = []
    monkeypatch.setattr(codes, "fit", lambda step, batches, epochs: fitted.append((batches.at(0, 0)[0], epochs)))
    findings, _, _ = told("latent-size", tiny=True, arguments={"sizes": [2, 7]}, seed=3)
    assert all((images == load("digits", limit=64).floats("test")).all() for images in judged)
    assert [row["mse"] for row in findings.table] == [1 / 8, 2 / 8]
    assert [one.arguments["latent"] for one in built] == [2, 7] and built[0].seed == built[1].seed
    assert {one.epochs for one in built} == {2}
    train = {image.tobytes() for image in load("digits", limit=64).floats("train")}
    assert len(fitted) == 2 and all(epochs == 2 and {x.tobytes() for x in seen} <= train for seen, epochs in fitted)


def test_few_labels_in_three_ways(monkeypatch):
    """Same net, same labels, same held-out fifth; the run keeps its weights; the figures are means over draws."""
    from tinygen.recipes import codes

    start("conv-autoencoder", folder="run", preset="tiny").fit()
    step = load_run("run")
    monkeypatch.setattr(sys.modules["tinygen.recipes.study"], "load_run", lambda folder: step)
    before = {k: v.numpy().copy() for k, v in step.encoder.state_dict().items()}
    calls, trained = [], []

    def learned(make, x, labels, held, draw, **options):
        network, _ = make()
        weights = {k: v.numpy().copy() for k, v in network.state_dict().items()}
        calls.append((network, weights, x, labels, held, options))
        return codes.transfer.fit(*make(), x, labels, 2, draw) or (network, len(calls))

    monkeypatch.setattr(codes.transfer, "learned", learned)
    values = iter(np.arange(12) / 20)
    monkeypatch.setattr(codes.transfer, "judged", lambda *given: trained.append(given) or next(values))
    findings, _, _ = told("classifier-initialisation", "run", tiny=True)
    for at, (scratch, frozen, tuned) in enumerate(zip(calls[::3], calls[1::3], calls[2::3])):
        count = 20 if at < 2 else 30
        assert len(scratch[3]) == count and (scratch[3] == tuned[3]).all() and (scratch[3] == frozen[3]).all()
        assert len(scratch[4]) == count // 5 and all(one[4] is scratch[4] for one in (frozen, tuned))
        assert (scratch[2] == tuned[2]).all() and frozen[2].shape == (count, 3)
        assert scratch[1].keys() == tuned[1].keys()
        for name, value in before.items():
            assert (tuned[1][f"0.{name}"] == value).all()
            assert (scratch[1][f"0.{name}"] != value).any() or not value.any()
        assert scratch[5]["most"] == 4
    assert all((v.numpy() == before[k]).all() for k, v in step.encoder.state_dict().items())  # the run's own
    assert calls[0][1]["0.0.weight"].tolist() != calls[3][1]["0.0.weight"].tolist()  # a new start at each draw
    found = np.arange(12).reshape(2, 2, 3) / 20  # labels, draws, ways
    for row, values_of in zip(findings.table, found.transpose(0, 2, 1).reshape(6, 2), strict=True):
        assert row["accuracy"] == pytest.approx(values_of.mean())
        assert row["spread"] == pytest.approx(abs(values_of[1] - values_of[0]) / 2**0.5) and row["draws"] == 2
    names = ("scratch", "frozen", "fine_tuned")
    for k, which in enumerate(("few", "many")):
        for j, name in enumerate(names):
            assert findings.metrics[f"{name}_{which}"] == pytest.approx(found[k, :, j].mean())
        assert findings.metrics[f"gain_{which}"] == pytest.approx(0.1)
    dataset = load("digits", limit=64)
    assert all((given[2] == dataset.test_labels).all() for given in trained)
    assert (trained[0][1] == dataset.floats("test")).all() and trained[1][1].shape == (64, 3)


def test_rates_widths_and_new_labels_reach_the_three_ways(monkeypatch):
    from tinygen.recipes import codes

    start("conv-autoencoder", folder="run", **TINY).fit()
    calls = []

    def learned(make, x, labels, held, draw, **options):
        network, optimizer = make()
        calls.append((network, [group["lr"] for group in optimizer.param_groups], x, options))
        return network, 1

    monkeypatch.setattr(codes.transfer, "learned", learned)
    monkeypatch.setattr(codes.transfer, "judged", lambda *given: 0.5)
    given = {"lr": 0.1, "tuned_lr": 0.2, "head_lr": 0.3, "batch_size": 7, "hidden": 6}
    told("classifier-initialisation", "run", tiny=True, arguments=given)
    scratch, frozen, tuned, again = calls[:4]
    assert [call[1] for call in (scratch, frozen, tuned)] == [[0.1, 0.1], [0.3], [0.2, 0.3]]
    assert {call[3]["size"] for call in calls} == {7}
    for head in (scratch[0][1], frozen[0], tuned[0][1]):
        assert [p.shape for p in head.parameters() if p.ndim == 2] == [(6, 3), (10, 6)]
    assert again[2].shape == scratch[2].shape and not np.array_equal(again[2], scratch[2])


def test_sizes_of_codes_are_those_of_a_recipe_that_reconstructs():
    for name, why in (("gan", "that reconstructs: gan does not"), ("lenet", "with an argument latent: lenet has none")):
        with pytest.raises(RunError, match=f"study latent-size needs a recipe {why}; name an autoencoder, such as re"):
            told("latent-size", tiny=True, arguments={"recipe": name})
    with pytest.raises(RunError, match="study latent-size: sizes is a list of one number or more"):
        told("latent-size", tiny=True, arguments={"sizes": []})


def test_too_few_samples_of_a_decoder_are_refused():
    with pytest.raises(RunError, match=r"study decoder-as-generator: n=50: .* needs at least 64; give a larger n"):
        told("decoder-as-generator", tiny=True, arguments={"n": 50})


def test_too_few_test_images_are_not_scored():
    few = load("digits", limit=64).floats("train")[:50]
    images = (255 * few).astype(np.uint8)
    np.savez("mine.npz", x_train=images, x_test=images[:20])
    findings = told("decoder-as-generator", tiny=True, data="mine.npz", arguments={"n": 80})[0]
    assert findings.metrics == {"samples": 80}


def test_few_labels_need_one_of_each_class_and_no_more_than_there_are():
    start("conv-autoencoder", folder="run", preset="tiny").fit()
    for values in ({"few": 9}, {"few": 40, "many": 30}, {"few": 20, "many": 65}, {"few": 10, "many": 10}):
        with pytest.raises(RunError, match="give 10 <= few < many <= 64, a label of each"):
            told("classifier-initialisation", "run", arguments=values)
    np.savez("mine.npz", images=np.random.default_rng(0).integers(0, 256, (60, 1, 8, 8), np.uint8))
    start("conv-autoencoder", "mine.npz", folder="bare", preset="tiny").fit()
    with pytest.raises(RunError, match="needs labels, and mine has none"):
        told("classifier-initialisation", "bare")


def test_samples_of_a_plain_decoder_are_of_noise_and_of_a_gaussian_of_the_training_codes(monkeypatch):
    from tinygen.metrics import scores
    from tinygen.recipes import codes

    made, fitted, decoded = [], [], []
    inner = codes.latents.decoded
    monkeypatch.setattr(codes.latents, "decoded", lambda decode, z: decoded.append(z) or inner(decode, z))
    monkeypatch.setattr(codes, "judge", lambda images, real: made.append((images, real)) or scores(images, real))
    true = codes.latents.fitted_gaussian
    monkeypatch.setattr(codes.latents, "fitted_gaussian", lambda *given: fitted.append((given, true(*given)))
                        or fitted[-1][1])  # fmt: skip
    findings, folder, _ = told("decoder-as-generator", tiny=True, arguments={"n": 200})
    dataset = load("digits", limit=64)
    step = load_run(folder.parent.parent)
    with tg.no_grad():
        known = step.encode(tg.tensor(dataset.floats("train"))).numpy()
        np.testing.assert_allclose(fitted[0][0][0], known, rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(made[1][0], step.decode(tg.tensor(fitted[0][1])).numpy(), rtol=1e-4, atol=1e-6)
    noise = decoded[0]  # z ~ N(0, I)
    assert noise.shape == (200, 3) and abs(noise.mean()) < 0.2 and noise.std() == pytest.approx(1, abs=0.15)
    assert [len(images) for images, _ in made] == [200] * 3 and findings.metrics["samples"] == 200
    assert all((real == dataset.floats("test")).all() for _, real in made)
    numbers = [findings.metrics[f"cfid_{kind}"] for kind in ("standard_normal", "fitted_gaussian", "vae")]
    assert numbers == pytest.approx([scores(*pair)["cfid"] for pair in made])
    assert findings.metrics["cfid_ratio"] == pytest.approx(numbers[0] / numbers[2])


def test_a_study_of_codes_refuses_feature_maps_and_passes_them_over():
    start("conv-denoising-gauss30", folder="runs/maps", **TINY).fit()
    for name in ("codes", "decoder-as-generator", "classifier-initialisation", "latents"):
        with pytest.raises(RunError, match=f"study {name} looks at .* one of conv-denoising-gauss30, .* no latent"):
            told(name, "runs/maps")
    start("denoising-mask30", folder="runs/holes", **TINY).fit()  # of the family of denoising-gauss30, and without sd
    assert "stands on runs/maps (conv-denoising-gauss30" in told("classic-denoisers", tiny=True)[2]


def test_a_named_run_stands_for_the_recipe_that_it_is_of(tmp_path, monkeypatch):
    """Of the second recipe, it is not taken for the first, though it would fit; what is found lies with it."""
    monkeypatch.chdir(tmp_path)

    @study("which", on=("gan", "dcgan"), lectures=(1,))
    def which(plain, deep):
        return Findings({"deep": deep.settings.recipe == "dcgan", "plain": plain.settings.recipe == "gan"}, {})

    for name in ("dcgan", "hinge-gan"):  # a relative stands for its family
        start(name, folder=name, preset="tiny", epochs=1).fit()
    for name in ("dcgan", "hinge-gan"):
        findings, folder = run_study("which", name, tiny=True)
        assert findings.metrics == {"deep": name == "dcgan", "plain": True}
        assert folder == Path(name) / "studies" / "which"


def test_what_a_study_asks_of_the_data_decides_what_is_proposed():
    from tinygen.recipes import find
    from tinygen.recipes.listing import further

    proposed = lambda name, shape, classes=(): " ".join(further(find(name), "run", shape, classes, "mine"))
    digits = tuple("0123456789")
    grey = proposed("dcgan", (1, 28, 28))
    assert "tinygen study turn run" in grey and "arithmetic" not in grey
    assert "arithmetic" in proposed("tinted-dcgan", (3, 8, 8), digits)
    assert "sample-metrics" not in proposed("tinted-dcgan", (3, 8, 8), digits)
    assert "study" not in proposed("gan-ring", (2,))
