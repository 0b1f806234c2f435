"""Settings: values checked against annotations, plans, config.json."""

from __future__ import annotations

import dataclasses
import inspect
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from tinygen import data
from tinygen.data import Dataset
from tinygen.data.unpaired import Unpaired
from tinygen.recipes import RunError, find, prepare, read_settings, recipe, start
from tinygen.recipes.settings import KINDS, annotation, check_arguments, value_of, write_settings

GOOD = {
    "int": [1, 7],
    "float": [0.5, 2, -1.0],
    "bool": [True, False],
    "str": ["a", ""],
    "Sequence[int]": [[1], (2, 3), []],
    "tuple[float, float]": [[0.5, 0.9], (0, 1)],
    "tuple[int, int]": [[512, 768], (8, 8)],
}
BAD = {
    "int": [0, -1, 1.5, True, "1", None, [1]],
    "float": [True, "x", float("nan"), float("inf"), None, [0.5]],
    "bool": [0, 1, "true", None],
    "str": [1, None, ["a"]],
    "Sequence[int]": [1, [0], [1.5], "12", [True]],
    "tuple[float, float]": [0.5, [0.5], [1, 2, 3], ["a", "b"]],
    "tuple[int, int]": [512, [512], [0, 8], [8.5, 8], "8x8"],
}


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_argument_takes_its_values_and_no_others(kind):
    parameters = {"it": inspect.Parameter("it", inspect.Parameter.KEYWORD_ONLY, annotation=kind)}
    for value in GOOD[kind]:
        check_arguments("toy", parameters, {"it": value})
    for value in BAD[kind]:
        with pytest.raises(RunError, match=rf"it of toy must be {KINDS[kind][0][:12]}.*; it is") as error:
            check_arguments("toy", parameters, {"it": value})
        assert "\n" not in str(error.value)
    optional = {"it": inspect.Parameter("it", inspect.Parameter.KEYWORD_ONLY, annotation=f"{kind} | None")}
    check_arguments("toy", optional, {"it": None})


def test_an_annotation_reads_as_in_the_source():
    def toy(a: int, b: float | None, c: float | None, d: Sequence[int], e: tuple[int, int], f): ...

    toy.__annotations__ |= {"a": int, "c": float | None, "d": Sequence[int], "e": tuple[int, int]}
    found = [annotation(p) for p in inspect.signature(toy).parameters.values()]
    assert found[:1] + found[2:5] == ["int", "float | None", "Sequence[int]", "tuple[int, int]"]


@pytest.mark.parametrize(
    ("text", "value"),
    [("3", 3), ("0.5", 0.5), ("true", True), ("null", None), ("[1,2]", [1, 2]), ("512x768", (512, 768)),
     ("gaussian", "gaussian"), ("x", "x"), ("1x2x3", "1x2x3"), ("ax8", "ax8"), ("8x", "8x"), ('"7"', "7")],
)  # fmt: skip
def test_the_value_of_an_options_text(text, value):
    assert value_of(text) == value and type(value_of(text)) is type(value)


def test_an_unknown_argument_is_named_with_the_nearest():
    parameters = find("vae").arguments()
    with pytest.raises(RunError, match=r"vae has no argument 'latnet'\. Did you mean latent\? It has: hidden, latent"):
        check_arguments("vae", parameters, {"latnet": 3})
    options = {"label": inspect.Parameter("label", inspect.Parameter.KEYWORD_ONLY)}
    with pytest.raises(RunError, match=r"no argument --labl\. Did you mean --label\? It has: --label"):
        check_arguments("sampling", options, {"labl": 1}, "--")


def plan_of(name, count=100, shape=(1, 28, 28), labels=True, limit=None, **options):
    images = np.zeros((count, *shape), np.uint8)
    y = np.arange(count) % 10 if labels else None
    dataset = Dataset("mine", images, y, images, y, tuple("0123456789") if labels else ())
    return prepare(find(name), dataset, {"name": "mine", "limit": limit}, **options)


def test_few_images_are_shown_more_often():
    own = find("vae").epochs
    assert plan_of("vae", 100).epochs == 200
    assert plan_of("vae", 12_000).epochs == max(own, 50)
    assert plan_of("vae", 60_000).epochs == own
    assert plan_of("vae", 100, limit=100).epochs == own and plan_of("vae", 100, epochs=3).epochs == 3


def short(epochs, **plan):
    """The name of a toy recipe of so many epochs."""

    def toy_short(given): ...

    recipe("a toy", epochs=epochs, **plan)(toy_short)
    return "toy-short"


@pytest.mark.parametrize(
    ("own", "count", "epochs"),
    [(4, 60_000, 4), (4, 12_000, 20), (4, 13_000, 18), (4, 1_000, 200), (4, 100_000, 4), (1, 1_000, 60),
     (10, 6_000, 100), (20, 12_000, 50), (20, 60_000, 20), (300, 1_000, 300)],
)  # fmt: skip
def test_a_short_plan_stays_short(own, count, epochs):
    """Few images are shown as often as the recipe's epochs of MNIST, or ten of them, show theirs: 200 times at most."""
    assert plan_of(short(own), count, (1, 16, 16)).epochs == epochs


def test_presets_and_what_is_given_are_stronger_than_the_number_of_images():
    name = short(4, small={"epochs": 30}, tiny={"epochs": 3})
    assert plan_of(name, 1_000, (1, 8, 8)).epochs == 30 and plan_of(name, 1_000, preset="tiny").epochs == 3
    assert plan_of(name, 1_000, epochs=7).epochs == 7 and plan_of(name, 1_000, limit=1_000).epochs == 4


def pair_of(first, second):
    sets = [Dataset(n, np.zeros((c, 1, 16, 16), np.uint8), None, np.zeros((2, 1, 16, 16), np.uint8), None)
            for n, c in (("a", first), ("b", second))]  # fmt: skip
    return Unpaired(*sets)


@pytest.mark.parametrize("counts", [(3_000, 600), (600, 3_000)])
def test_a_plan_for_a_pair_is_that_of_the_smaller_set(counts):
    name = short(4, pair=True, batch_size=1_000, drop_last=True)
    settings = prepare(find(name), pair_of(*counts), {"name": "a+b"})
    assert settings.batch_size == 600 and settings.epochs == settings.given["steps"] == 200
    few = prepare(find(name), pair_of(*counts), {"name": "a+b"}, batch_size=70)
    assert few.given["steps"] == 200 * (600 // 70)


def test_a_recipe_gets_as_many_data_sets_as_it_learns_from():
    single = Dataset("a", np.zeros((9, 1, 16, 16), np.uint8), None, np.zeros((2, 1, 16, 16), np.uint8), None)
    name = short(4, pair=True, data="digits+slanted")
    words = r"toy-short learns from two data sets; give both, such as --data digits\+slanted, or two folders: a\+b"
    with pytest.raises(RunError, match=words):
        prepare(find(name), single, {"name": "a"})
    with pytest.raises(RunError, match=r"toy-short learns from one data set, and a\+b is a pair; give one of them"):
        prepare(find(short(4)), pair_of(9, 9), {"name": "a+b"})


@pytest.mark.parametrize(
    ("name", "arguments", "most"), [("cyclegan", {"pool": 8}, 8), ("refiner", {"history": 5}, 11)]
)
def test_a_batch_is_no_larger_than_the_store_of_older_images(name, arguments, most):
    options = {"preset": "tiny", "limit": 40, "epochs": 1, "arguments": arguments}
    data = "digits+slanted"
    words = f"{name}: batch of {most + 1}, and its store of older images takes batches of {most} at most; give a"
    with pytest.raises(RunError, match=words):
        start(name, data, folder="run", batch_size=most + 1, **options)
    assert not Path("run").exists()
    start(name, data, folder="run", batch_size=most, **options).fit()


def test_a_batch_is_no_larger_than_the_images_that_are_learned():
    assert plan_of("vae", 100).batch_size == 100 and plan_of("vae", 1000).batch_size == find("vae").batch_size
    settings = plan_of("lenet", 100, keep="accuracy", epochs=3)
    assert settings.batch_size == 64 and settings.given["steps"] == 3 * 2  # 90 images are learned
    assert plan_of("dcgan", 70, keep="mse", batch_size=70).batch_size == 63


def test_given_is_what_data_and_plan_say():
    settings = plan_of("lenet", 100, epochs=2, batch_size=30)
    assert settings.given == {"shape": (1, 28, 28), "classes": tuple("0123456789"), "steps": 8}
    assert plan_of("dcgan", 100, labels=False, epochs=2, batch_size=30).given["steps"] == 6  # the last is dropped
    assert plan_of("vae", 100, labels=False).given["classes"] == ()


def test_what_cannot_be_planned_is_said():
    with pytest.raises(RunError, match="no preset is called 'tpu'; presets: cpu, gpu, tiny"):
        plan_of("vae", preset="tpu")
    with pytest.raises(RunError, match="lenet needs labels, and mine has none; put the images in one folder per class"):
        plan_of("lenet", labels=False)
    with pytest.raises(RunError, match="lenet needs a label of every image; leave out --labels"):
        prepare(find("lenet"), data.load("digits", labels=20), {"name": "digits"})


def test_settings_are_read_as_they_were_written(tmp_path):
    settings = plan_of("vae", seed=3, arguments={"hidden": [7, 8]}, lr=0.5)
    write_settings(tmp_path, settings)
    again = read_settings(tmp_path)
    assert json.dumps(dataclasses.asdict(again)) == json.dumps(dataclasses.asdict(settings))
    assert again.arguments["lr"] == 0.5 and again.arguments["hidden"] == [7, 8] and again.seed == 3
    assert not (tmp_path / "config.json.part").exists()


OLD = {"recipe": "vae", "data": {"name": "digits", "size": None, "channels": None, "limit": None, "sha": "x"},
       "shape": [1, 8, 8], "model": {"latent": 2}, "epochs": 2, "batch_size": 3, "drop_last": False, "seed": 0,
       "preset": "cpu", "device": "cpu", "threads": 1, "version": "0.1.0"}  # fmt: skip


@pytest.mark.parametrize(
    ("content", "words"),
    [("{", "cannot be read"), ("[]", "cannot be read"), ('{"recipe": "vae"}', "cannot be read: it lacks data, given"),
     (json.dumps(OLD), "older tinygen, whose runs this one cannot read; train it anew: tinygen train vae")],
)  # fmt: skip
def test_a_config_that_cannot_be_used_is_said_in_one_line(content, words, tmp_path):
    (tmp_path / "config.json").write_text(content)
    with pytest.raises(RunError, match=words) as error:
        read_settings(tmp_path)
    assert "\n" not in str(error.value) and str(tmp_path) in str(error.value)
