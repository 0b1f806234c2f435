"""Figures that are kept, and whether they are reached again."""

from __future__ import annotations

import json
import math
import re

import numpy as np
import pytest
from toys import Toy

import tinygen as tg
from tinygen import data
from tinygen.data import Dataset
from tinygen.data.unpaired import Unpaired
from tinygen.errors import UserError
from tinygen.metrics.names import NAMES, Metric
from tinygen.recipes import RECIPES, STUDIES, Findings, RunError, find, prepare, recipe, reproduce, score, start, study
from tinygen.recipes.baselines import Baseline
from tinygen.recipes.listing import describe_recipe, describe_study, further, overview, table
from tinygen.recipes.reproduce import curve, expected, kept, kept_of, range_of
from tinygen.recipes.run import build
from tinygen.step import Step


@pytest.fixture
def file(tmp_path):
    @recipe("a toy", lectures=(1, 2), epochs=3, batch_size=16, tiny={"epochs": 2})
    def toy(given, lr: float = 0.1):
        """lr: learning rate"""
        return Toy(lr, given.shape)

    return tmp_path / "expected.json"


def told(*given, **options):
    lines = []
    result = reproduce(*given, say=lines.append, **options)
    return result, lines


def test_the_range_of_kept_values():
    assert range_of([2.0, 3.0, 2.5]) == (1.0, 4.0)
    assert range_of([2.0]) == (1.9, 2.1) and range_of([-2.0]) == (-2.1, -1.9)
    assert range_of([1.0, 1.0]) == (1.0, 1.0)


def test_what_is_saved_is_reached_again_and_what_is_changed_is_not(file):
    first, lines = told("toy", seeds=(0, 1), preset="tiny", save=True, file=file)
    assert first.passes and any("nothing kept" in line for line in lines)
    assert lines[-1] == "NOTHING TO COMPARE WITH: no figure of toy is kept for digits, preset tiny"  # no PASS
    again, lines = told("toy", seeds=(0, 1), preset="tiny", file=file)
    assert again.passes and lines[-1] == "PASS" and any(line.endswith(": PASS") for line in lines)
    assert [f.values for f in again.figures] == [f.values for f in first.figures]
    content = json.loads(file.read_text())
    for entry in content["recipes"]["toy"]["digits"]["tiny"]["metrics"].values():
        entry["values"] = [v + 1e6 for v in entry["values"]]
    file.write_text(json.dumps(content))
    wrong, lines = told("toy", seeds=(0,), preset="tiny", file=file)
    assert not wrong.passes and lines[-1].startswith("OUTSIDE: mse, cfid")
    assert any(line.startswith("  mse") and line.endswith(": OUTSIDE") for line in lines)


def test_the_trivial_stands_beside_every_figure_that_has_one(file, monkeypatch):
    """The toy is no better than the first; nothing is below a floor."""

    def bar(dataset, arguments):
        return Baseline("mse", f"{dataset.name} at lr {arguments['lr']}", 1e-9)

    def floor(dataset, arguments):
        return Baseline("mse", "a floor", 1e-9, floor=True)

    monkeypatch.setitem(vars(find("toy")), "baselines", (bar, floor))
    _, lines = told("toy", seeds=(0,), preset="tiny", file=file)
    at = next(i for i, line in enumerate(lines) if line.startswith("  mse "))
    assert lines[at + 1 : at + 3] == ["    digits at lr 0.1: 1e-09  NOT BEATEN", "    a floor: 1e-09"]


def test_what_is_kept(file):
    told("toy", seeds=(3, 5), preset="tiny", save=True, file=file)
    entry = kept_of("toy", "digits", "tiny", file)
    assert entry["seeds"] == [3, 5] and entry["command"] == "tinygen reproduce toy --preset tiny"
    lists = {"seeds", "seconds", "cpu_seconds", "metrics", "curve"}
    assert set(entry) == lists | {"steps", "command", "machine", "commit", "threads", "timed"}
    assert entry["steps"] == 2 * 4 and len(entry["seconds"]) == 2 and entry["threads"] == 1
    assert entry["metrics"]["mse"]["n"] == 64 and len(entry["metrics"]["mse"]["values"]) == 2
    assert entry["metrics"]["cfid"]["n"] == 10_000
    assert list(entry["curve"]) == ["mse"] and len(entry["curve"]["mse"]) == 2
    assert "cores" in entry["machine"] and entry["commit"]
    assert kept_of("toy", "digits", "cpu", file) == kept_of("toy", "mnist", "tiny", file) == {}
    assert not list(file.parent.glob("expected.*k"))  # the lock is gone


def test_a_recipe_is_scored_on_the_way_and_goes_on_as_if_it_had_not_been(file, monkeypatch):
    """At a third and two thirds of three epochs; the figures there are those of shorter trainings."""
    plain = told("toy", seeds=(2,), file=file)[0]
    monkeypatch.setitem(vars(find("toy")), "scored", (0.34, 0.67))
    found, lines = told("toy", seeds=(2,), save=True, file=file)
    assert [f.values for f in found.figures] == [f.values for f in plain.figures]
    entry = kept_of("toy", "digits", "cpu", file)
    steps = entry["steps"] // 3
    assert set(entry["on_the_way"]) == {str(steps), str(2 * steps)} and entry["steps"] == 3 * steps
    for epochs in (1, 2):
        figures = entry["on_the_way"][str(epochs * steps)]
        run = start("toy", seed=2, epochs=epochs)
        run.fit()
        assert figures == {name: value for name, (value, _) in score(run.step, run.dataset, 0).items()}
        assert any(line.startswith(f"  after {epochs * steps} steps: mse {figures['mse']:.5g}") for line in lines)


def test_data_that_are_not_there_leave_no_folder(file, tmp_path):
    with pytest.raises(UserError, match="no data set named 'nodata'"):
        told("toy", "nodata", seeds=(0,), parent=tmp_path / "kept", file=file)
    assert not (tmp_path / "kept").exists() and not (tmp_path / "runs").exists()
    told("toy", seeds=(3,), preset="tiny", parent=tmp_path / "kept", file=file)
    assert [p.name for p in (tmp_path / "kept").iterdir()] == ["reproduce-toy-digits-tiny-3-001"]


def test_seeds_of_several_calls_stand_together(file):
    told("toy", seeds=(0,), preset="tiny", save=True, file=file)
    one = kept_of("toy", "digits", "tiny", file)["metrics"]["mse"]["values"]
    told("toy", seeds=(7,), preset="tiny", save=True, file=file)
    entry = kept_of("toy", "digits", "tiny", file)
    assert entry["seeds"] == [0, 7] and entry["metrics"]["mse"]["values"][:1] == one
    told("toy", seeds=(0,), preset="tiny", save=True, file=file)  # in its place, and not once more
    again = kept_of("toy", "digits", "tiny", file)
    assert again["seeds"] == [0, 7] and again["metrics"] == entry["metrics"] and len(again["seconds"]) == 2


def test_figures_of_another_plan_are_not_mixed(file):
    for seed in (0, 7):
        told("toy", seeds=(seed,), preset="tiny", save=True, file=file)
    content = json.loads(file.read_text())
    entry = content["recipes"]["toy"]["digits"]["tiny"]
    entry |= {"steps": entry["steps"] + 1, "torch": {"metrics": {"mse": 1.0}, "seconds": 1.0}}
    file.write_text(json.dumps(content))
    told("toy", seeds=(7,), preset="tiny", save=True, file=file)
    again = kept_of("toy", "digits", "tiny", file)
    assert again["seeds"] == [7] and all(len(figure["values"]) == 1 for figure in again["metrics"].values())
    assert len(again["seconds"]) == 1 and "torch" not in again


def test_own_data_are_kept_under_their_path(file, tmp_path, monkeypatch):
    np.savez(tmp_path / "my data.npz", images=np.random.default_rng(0).integers(0, 256, (40, 1, 8, 8), np.uint8))
    place = str(tmp_path / "my data.npz")
    told("toy", place, seeds=(0,), preset="tiny", save=True, file=file)
    command = f"tinygen reproduce toy --data '{place}' --preset tiny"
    assert kept_of("toy", place, "tiny", file)["command"] == command
    result, lines = told("toy", seeds=(0,), preset="tiny", file=file)  # on other data
    missing = f"no figure of toy is kept for digits, preset tiny; figures are kept for: {command}"
    assert result.passes and lines[0] == f"note: {missing}" and lines[-1] == f"NOTHING TO COMPARE WITH: {missing}"
    monkeypatch.setattr("tinygen.recipes.listing.kept", lambda: kept(file))
    assert describe_recipe("toy").endswith(f"  {command}")  # and no command that compares with nothing


def test_a_tiny_study_is_tiny(file):
    @study("tiny or not", lectures=(1,), tiny={"count": 2})
    def tiny_or_not(count: int = 9):
        return Findings({"count": count}, {})

    assert told("tiny-or-not", preset="tiny", file=file)[0].figures[0].values == [2.0]
    assert told("tiny-or-not", file=file)[0].figures[0].values == [9.0]
    with pytest.raises(RunError, match="tiny preset are not kept"):
        told("tiny-or-not", preset="tiny", save=True, file=file)


def test_a_study_has_one_value(file, monkeypatch):
    level = [1.0]

    @study("numbers", lectures=(1,))
    def numbers():
        return Findings({"loss": np.float32(level[0])}, {})

    assert told("numbers", save=True, file=file)[0].passes
    entry = kept(file)["studies"]["numbers"]["no data"]
    assert entry["metrics"] == {"loss": [1.0]} and entry["command"] == "tinygen reproduce numbers"
    level[0] = 1.04
    assert told("numbers", file=file)[1][-1] == "PASS"
    level[0] = 1.06
    assert told("numbers", file=file)[1][-1] == "OUTSIDE: loss"
    told("numbers", seeds=(0, 1), save=True, file=file)
    monkeypatch.setattr("tinygen.recipes.listing.kept", lambda: kept(file))
    assert describe_study("numbers").endswith("  tinygen reproduce numbers --seeds 0,1")


def test_a_study_takes_seeds_and_data(file):
    @study("draws", lectures=(1,))
    def draws():
        return Findings({"drawn": float(tg.rand(()))}, {})

    found, _ = told("draws", seeds=(3, 4), save=True, file=file)
    assert found.figures[0].values == [told("draws", seeds=(s,), file=file)[0].figures[0].values[0] for s in (3, 4)]
    assert len(set(found.figures[0].values)) == 2
    entry = kept(file)["studies"]["draws"]["no data"]
    assert entry["metrics"] == {"drawn": found.figures[0].values}
    assert entry["command"] == "tinygen reproduce draws --seeds 3,4"
    with pytest.raises(RunError, match="reads no data; leave out --data digits"):
        told("draws", data="digits", file=file)

    @study("looks", on=("toy",), lectures=(1,))
    def looks(trained):
        return Findings({"gratings": trained.dataset.name == "gratings"}, {})

    assert told("looks", data="gratings", preset="tiny", file=file)[0].figures[0].values == [1.0]


def test_figures_of_a_study_are_kept_for_each_data_set(file, monkeypatch):
    @study("brightness", data="digits", lectures=(1,))
    def brightness(dataset):
        return Findings({"mean": float(dataset.count("train"))}, {})

    digits, _ = told("brightness", save=True, file=file)
    _, lines = told("brightness", data="gratings", file=file)  # not compared with the digits
    assert lines[-1] == ("NOTHING TO COMPARE WITH: no figure of brightness is kept for gratings; there are some of: "
                         "tinygen reproduce brightness")  # fmt: skip
    gratings, _ = told("brightness", data="gratings", save=True, file=file)
    assert digits.figures[0].values != gratings.figures[0].values
    assert told("brightness", file=file)[1][-1] == told("brightness", data="gratings", file=file)[1][-1] == "PASS"
    assert told("brightness", data="digits", file=file)[1][-1] == "PASS"  # its own, by name
    monkeypatch.setattr("tinygen.recipes.listing.kept", lambda: kept(file))
    commands = ["tinygen study brightness",
                "tinygen reproduce brightness", "tinygen reproduce brightness --data gratings"]  # fmt: skip
    assert [line.strip() for line in describe_study("brightness").splitlines()[-3:]] == commands


def test_a_study_of_runs_is_reproduced_on_the_data_of_its_recipe(file, tmp_path, monkeypatch):
    """Not on the newest run, whatever it was trained on."""
    @study("whose", on=("toy",), lectures=(1,))
    def whose(trained):
        return Findings({"gratings": trained.dataset.name == "gratings"}, {})

    told("whose", data="gratings", preset="tiny", file=file)  # makes a run, which is the newest
    assert told("whose", preset="tiny", file=file)[0].figures[0].values == [0.0]


def test_what_a_run_is_expected_to_reach_is_for_the_recipe_as_it_is(file, monkeypatch):
    told("toy", seeds=(0, 1), preset="tiny", save=True, file=file)
    content = json.loads(file.read_text())
    content["recipes"]["toy"]["digits"]["cpu"] = content["recipes"]["toy"]["digits"]["tiny"]
    file.write_text(json.dumps(content))
    monkeypatch.setattr(kept_of, "__defaults__", ("cpu", file))
    digits, own = data.load("digits"), {"name": "digits"}
    values = content["recipes"]["toy"]["digits"]["cpu"]["metrics"]["mse"]["values"]
    settings = prepare(find("toy"), digits, own)
    assert expected(settings, digits)["mse"] == (range_of(values), 64)
    few = prepare(find("toy"), data.load("digits", limit=64), own | {"limit": 64}, preset="tiny")
    assert expected(few, data.load("digits", limit=64))["mse"] == (range_of(values), 64)
    for changed in ({"epochs": 4}, {"batch_size": 8}, {"lr": 0.5}, {"keep": "mse"}):
        assert expected(prepare(find("toy"), digits, own, **changed), digits) == {}
    for option in ({"limit": 600}, {"size": 8}, {"only": "3"}, {"labels": 5}):
        assert expected(prepare(find("toy"), digits, own | option), digits) == {}


def test_the_course_of_a_training_in_about_twenty_values(tmp_path):
    lines = [{"epoch": e, "train": {"loss": 9.0}, "test": {"mse": 1 / e, "kl": 0.0}} for e in range(1, 101)]
    lines = [x for line in lines for x in ({"epoch": line["epoch"] - 0.5, "train": {}}, line)]
    (tmp_path / "log.jsonl").write_text("\n".join(map(json.dumps, lines)) + "\n")
    found = curve(tmp_path / "log.jsonl")
    assert list(found) == ["mse"] and len(found["mse"]) == 20
    assert found["mse"][0] == 0.2 and math.isclose(found["mse"][-1], 0.01)
    assert curve(tmp_path / "none.jsonl") == {}


# ---------------------------------------------------------------------------------- in words


def test_what_is_known_of_a_recipe(file, monkeypatch):
    text = describe_recipe("toy")
    assert "toy: a toy" in text and "lectures 1, 2" in text and "--preset tiny: epochs 2" in text
    assert "lr=0.1" in text and "learning rate (float)" in text and "tinygen reproduce toy" in text
    assert "reached" not in text
    told("toy", seeds=(0, 1), preset="tiny", save=True, file=file)
    monkeypatch.setattr("tinygen.recipes.listing.kept", lambda: kept(file))
    text = describe_recipe("toy")
    assert "reached on digits, preset tiny, in " in text
    assert " of processor time in its updates (seeds 0, 1; 1 thread," in text
    assert "mse over the training: " in text and "passes from" in text
    content = json.loads(file.read_text())
    content["recipes"]["toy"]["digits"]["tiny"]["metrics"]["mse"]["values"] = [2.0, 2.5]
    file.write_text(json.dumps(content))
    mse = next(line for line in describe_recipe("toy").splitlines() if line.startswith("  mse  "))
    assert mse.split()[1] == "2.25" and mse.endswith("passes from 1.5 to 3")
    rows = table().splitlines()
    assert rows[0].startswith("| recipe | data |") and rows[2].startswith("| `toy` (tiny) | digits | squared error ")
    assert len(rows) == 3 and all(row.count("|") == 6 for row in rows)


@pytest.mark.parametrize("name", RECIPES)
def test_what_a_preset_is_said_to_change_is_what_it_changes(name):
    """Against the settings of a run: every value that is listed holds there, and none that holds is left out."""
    chosen = find(name)
    digits = data.load("digits", limit=700)
    large = Dataset("large", *(np.zeros((700, 1, 28, 28), "f4"), np.zeros(700, int)) * 2, ("one",))
    plain = {"epochs": chosen.epochs, "batch_size": chosen.batch_size} | chosen.defaults()
    titles = {"images below 16 pixels": (digits, "cpu"), "--preset gpu": (large, "gpu")}
    for title, (dataset, preset) in (titles | {"--preset tiny": (large, "tiny")}).items():
        line = next((x for x in describe_recipe(name).splitlines() if x.startswith(f"  {title}: ")), "")
        said = {key: json.loads(value) for key, value in re.findall(r"(\w+) (\[.*?\]|[^,]+)", line.partition(": ")[2])}
        limit = said.pop("limit", None)
        assert limit == (64 if preset == "tiny" else None)
        learned = Unpaired(dataset, dataset) if chosen.pair else dataset
        settings = prepare(chosen, learned, {"name": "digits", "limit": 700}, preset=preset, device="cpu")
        found = {"epochs": settings.epochs, "batch_size": settings.batch_size} | settings.arguments
        assert json.loads(json.dumps(found)) == json.loads(json.dumps(plain)) | said, title


@pytest.mark.parametrize("name", RECIPES)
def test_what_can_be_done_with_a_run_is_listed(name):
    """As the Step that is built offers it, and as the studies take it."""
    chosen = find(name)
    dataset = data.load(chosen.data, limit=64)
    made = lambda one, *bases: build(prepare(one, dataset, {"name": one.data, "limit": 64}, preset="tiny"), bases)
    step = made(chosen, *(made(find(base)) for base in chosen.on))
    lines = describe_recipe(name).partition("then:\n")[2].splitlines()
    assert type(step) is chosen.kind
    for option, command in (("sample", "sample RUN -n 64 --seed 1"), ("apply", "apply RUN picture.png")):
        line = f"  tinygen {command}".replace("RUN", f"runs/{name}-001")
        assert (line in lines) == (step.offers(option) or (option == "apply" and step.offers("scores"))), option
    assert f"  tinygen evaluate runs/{name}-001" in lines and f"  tinygen train {name}" in lines[0]
    same = [other.name for other in RECIPES.values() if other.kind is chosen.kind or other.family == chosen.family]
    has = set(chosen.arguments())
    family = {other.name for other in RECIPES.values() if other.family == chosen.family}
    takes = lambda one: not set(one.on).isdisjoint(family if one.exact else same) and not one.refuses(
        dataset.shape, dataset.classes, chosen.data)  # fmt: skip
    looks = [one.name for one in STUDIES.values() if takes(one) and has.issuperset(one.needs)]
    assert [x for x in lines if " study " in x] == [f"  tinygen study {one} runs/{name}-001" for one in looks]


class Scoring(Step):
    """It scores pixels, and turns no images into images."""

    def scores(self, images):
        return images[:, :1]


def test_a_run_that_only_scores_pictures_takes_them_too():
    @recipe("a toy that scores", lectures=(0,))
    def scoring(given) -> Scoring: ...

    assert further(find("scoring"), "run", (1, 8, 8), (), "digits")[0] == "tinygen apply run picture.png"


def test_the_table_shows_the_headlines_of_the_names_in_their_order(monkeypatch):
    """A new figure of a new family needs a line among the names, and none among the recipes."""
    entry = {"metrics": {m: {"values": [v], "n": 1} for m, v in (("sharpness", 7.0), ("mse", 2.0), ("kl", 3.0))},
             "cpu_seconds": [1.0]}  # fmt: skip
    monkeypatch.setattr("tinygen.recipes.listing.kept", lambda: {"recipes": {"one": {"digits": {"cpu": entry}}}})
    assert table().splitlines()[2] == "| `one` | digits | squared error 2 |  | 1 |"
    monkeypatch.setitem(NAMES, "sharpness", Metric("sharpness", "sharpness", "of edges", "high", headline=True))
    assert table().splitlines()[2] == "| `one` | digits | squared error 2; sharpness 7 |  | 1 |"


def test_the_short_table_leaves_variants_out_and_has_one_row_a_recipe():
    rows = lambda lines: [re.match(r"\| `([\w-]+)` \| (\S+)", row).groups() for row in lines.splitlines()[2:]]
    short, every = rows(table(variants=False)), rows(table())
    large = {name for name, place in every if find(name).root == name and ("mnist" in place or "digits" not in place)}
    assert {name for name, _ in short} == large and len(short) == len(large) and set(short) < set(every)


def test_the_short_table_shows_the_data_of_most_seeds_or_of_most_figures(monkeypatch):
    entry = lambda seeds, *names: {"cpu": {
        "seeds": seeds, "metrics": {name: {"values": [1.0], "n": 1} for name in names}, "cpu_seconds": [1.0],
    }}  # fmt: skip
    recipes = {
        "gan": {"digits": entry([0], "cfid"), "fashion-mnist": entry([0], "cfid", "digits"),
                "mnist": entry([0, 1], "cfid")},
        "pix2pix": {"fashion-mnist": entry([0], "psnr"), "mnist": entry([0], "psnr", "accuracy")},
        "cyclegan": {"digits+slanted": entry([0], "cfid"), "mnist+slanted": entry([0], "cfid")},
        "ssgan": {"digits": entry([0], "accuracy")},
    }  # fmt: skip
    monkeypatch.setattr("tinygen.recipes.listing.kept", lambda: {"recipes": recipes})
    shown = [row.split(" | ")[:2] for row in table(variants=False).splitlines()[2:]]
    assert shown == [["| `gan`", "mnist"], ["| `pix2pix`", "mnist"], ["| `cyclegan`", "mnist+slanted"]]


def test_a_variant_whose_runs_stand_apart_is_a_variant_in_the_table(monkeypatch):
    entry = {"metrics": {"mse": {"values": [2.0], "n": 1}}, "cpu_seconds": [1.0], "seeds": [0]}
    recipes = {name: {"mnist": {"cpu": entry}} for name in ("srresnet", "srresnet-x4", "inpaint-l2", "inpaint")}
    monkeypatch.setattr("tinygen.recipes.listing.kept", lambda: {"recipes": recipes})
    names = lambda rows: re.findall(r"^\| `([\w-]+)`", rows, re.M)
    assert names(table()) == list(recipes) and names(table(variants=False)) == ["srresnet", "inpaint"]


def test_every_recipe_has_a_headline_in_the_table():
    for name, by_data in kept()["recipes"].items():
        for presets in by_data.values():
            assert all(any(NAMES[m].headline for m in entry["metrics"]) for entry in presets.values()), name


def test_what_there_is_is_listed_by_chapter(file):
    @study("numbers", on=("toy",), lectures=(3,), tiny={"count": 1})
    def toy_numbers(trained, count: int = 4):
        """How many there are, and
        how many are left.

        count: how many are counted
        """

    text = overview()
    chapter = __name__.rpartition(".")[2].replace("_", " ")
    assert f"{chapter} (lectures 1, 2, 3)" in text and "study: numbers" in text and "a toy" in text
    text = describe_study("toy-numbers")
    assert "stands on toy" in text and "how many are counted" in text
    assert "  How many there are, and\n  how many are left.\narguments" in text
    assert "count=4" in text and "--tiny: count 1" in text and "tinygen study toy-numbers" in text


def test_a_run_is_offered_only_studies_that_accept_it():
    offers = lambda name: {one for one in RECIPES if f"tinygen study {name} runs/" in describe_recipe(one)}
    assert offers("classic-denoisers") == {"denoising-gauss30", "conv-denoising-gauss30"}
    for name in ("codes", "latents", "decoder-as-generator", "classifier-initialisation"):
        assert "autoencoder" in offers(name) and not any("conv-denoising" in one for one in offers(name))


def test_the_tables_rows_are_of_the_data_that_say_more(monkeypatch):
    entry = {"metrics": {"mse": {"values": [2.0], "n": 1}}, "cpu_seconds": [1.0]}
    recipes = {"autoencoder": {"digits": {"cpu": entry}, "mnist": {"cpu": entry}}, "vae": {"digits": {"cpu": entry}}}
    monkeypatch.setattr("tinygen.recipes.listing.kept", lambda: {"recipes": recipes})
    rows = [row.split(" | ")[:2] for row in table().splitlines()[2:]]
    assert rows == [["| `autoencoder`", "mnist"], ["| `vae`", "digits"]]
