"""From a recipe to a run and back, what is wrong with one, and runs that stand on others."""

from __future__ import annotations

import hashlib
import io
import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from toys import Pressing, Toy, assert_equal, contents

import tinygen as tg
from tinygen import nn, optim, training
from tinygen.errors import UserError
from tinygen.recipes import RunError, load_run, open_run, recipe, reproduce, samples, start
from tinygen.recipes.run import data_of, epochs_done, runs, stand_on
from tinygen.recipes.settings import read_settings
from tinygen.step import Step
from tinygen.training import Display
from tinygen.training.log import read_log

TINY = {"limit": 40, "batch_size": 16, "threads": 1, "preset": "tiny"}


def run_of(recipe, folder=None, epochs=2, **options):
    return start(recipe, folder=folder, epochs=epochs, **(TINY | options))


@pytest.mark.parametrize("recipe", ["vae", "lenet", "wgan-gp"])
def test_two_epochs_resume_and_two_more_are_four(recipe):
    whole = run_of(recipe, "whole", epochs=4)
    whole.fit(4)
    # A schedule depends on the total, so the first half is told the same total and stopped half way.
    run_of(recipe, "halves", epochs=4).fit(2)
    tg.manual_seed(99)  # another process would not be where this one is
    second = open_run("halves")
    assert (second.position.epoch, second.position.index) == (2, 0)
    second.fit(4)
    assert_equal(contents(whole), contents(second))
    assert [line["epoch"] for line in read_log(whole.folder / "log.jsonl") if "test" in line] == [1, 2, 3, 4]
    for name in ("log.jsonl", "samples.png", "reconstructions.png", "hardest.png", "progress.gif"):
        if (whole.folder / name).exists():
            assert (whole.folder / name).read_bytes() == (second.folder / name).read_bytes()


@pytest.mark.parametrize("recipe", ["lenet", "autoencoder"])
def test_a_run_that_keeps_its_best_epoch_goes_on_bit_for_bit(recipe):
    """The schedule counts the images that are learned, not the tenth that is held."""
    whole = run_of(recipe, "whole", epochs=3, keep="best")
    whole.fit()
    stopped = run_of(recipe, "stopped", epochs=3, keep="best")
    stopped.step = Pressing(stopped.step, 4)
    with pytest.raises(training.Interrupted):
        stopped.fit()
    again = open_run("stopped")
    again.fit()
    assert_equal(contents(whole), contents(again))
    assert_equal(*(training.load_checkpoint(f"{run}/best.safetensors") for run in ("whole", "stopped")))
    if recipe == "lenet":
        assert again.step.optimizer.param_groups[0]["lr"] == 0


def test_what_keeps_the_best_is_a_figure_with_a_way_that_is_good():
    assert run_of("lenet", "a", keep="best:accuracy").settings.keep == "accuracy"
    assert run_of("lenet", "b", keep="best").settings.keep == "loss"
    assert run_of("vae", "c", keep="last").settings.keep is None
    with pytest.raises(RunError, match="--keep best:psnr: epochs of this model are chosen by loss or accuracy"):
        run_of("lenet", "d", keep="best:psnr")
    with pytest.raises(RunError, match=r"chosen by loss or recon$"):  # neither many nor few active units are good
        run_of("vae", "d", keep="best:active")
    for name in ("dcgan", "wgan-gp"):
        with pytest.raises(RunError, match="measures nothing that tells a good epoch; leave --keep out"):
            run_of(name, "d", keep="best")
    with pytest.raises(RunError, match="--keep newest: write last, best, or best:METRIC"):
        run_of("lenet", "d", keep="newest")
    assert not Path("d").exists()


def test_the_best_epoch_is_what_a_run_is_loaded_with():
    run = run_of("lenet", "run", epochs=1, keep="best:accuracy")
    run.fit()
    best = training.load_checkpoint("run/best.safetensors")
    other = run.step.state_dict()
    other["classifier"]["0.bias"] = other["classifier"]["0.bias"] + 1
    training.save_checkpoint("run/checkpoint.safetensors", contents(run) | {"parts": other})
    assert_equal(load_run("run").classifier.state_dict(), best["parts"]["classifier"])


@pytest.mark.parametrize("recipe", ["vae", "dcgan"])
def test_load_run_gives_the_trained_model_back(recipe):
    run = run_of(recipe, "run")
    run.fit(2)
    state = tg.get_rng_state()
    step = tg.load_run("run")
    assert tg.get_rng_state() == state
    for name, module in run.step.networks().items():
        assert not step.networks()[name].training
        for (key, a), b in zip(module.state_dict().items(), step.networks()[name].state_dict().values(), strict=True):
            assert np.array_equal(a.numpy(), b.numpy()), key
    a, b = samples(step, 5, seed=3), samples(run.step, 5, seed=3)
    assert np.array_equal(a.numpy(), b.numpy())
    assert not np.array_equal(a.numpy(), samples(step, 5, seed=4).numpy())


def test_sampling_in_pieces_gives_the_number_asked_for():
    run = run_of("vae", "run")
    assert samples(run.step, 1001, 0).shape == (1001, 1, 8, 8)


# ---------------------------------------------------------------------------------- what is wrong with a run


def test_what_is_wrong_with_a_run_is_said(tmp_path):
    run_of("vae", tmp_path / "vae-001")
    with pytest.raises(RunError, match=r"vae-010 is no run.*Did you mean .*vae-001"):
        load_run(tmp_path / "vae-010")
    with pytest.raises(RunError, match="no checkpoint"):
        load_run(tmp_path / "vae-001")
    run_of("vae", tmp_path / "vae-001").save()  # a start that came to nothing does not take the name
    with pytest.raises(RunError, match="holds a run already"):
        run_of("vae", tmp_path / "vae-001")
    with pytest.raises(ValueError, match=r"no recipe.*'vea'.*Did you mean vae"):
        start("vea")
    with pytest.raises(RunError, match="latnet"):
        start("vae", folder=tmp_path / "x", arguments={"latnet": 3})
    assert not (tmp_path / "x").exists()
    (tmp_path / "vae-001" / "config.json").write_text("{")
    with pytest.raises(RunError, match="cannot be read"):
        load_run(tmp_path / "vae-001")


def test_a_folder_with_a_space_is_quoted_in_the_remedy():
    run_of("vae", "my runs/a").save()
    with pytest.raises(RunError, match=r"go on with: tinygen resume 'my runs/a'$"):
        run_of("vae", "my runs/a")


@pytest.mark.parametrize("use", [load_run, open_run])
def test_a_checkpoint_that_does_not_fit_is_said_in_one_line(use):
    run = run_of("vae", "run")
    run.save()
    good = contents(run)
    old = {"modules": {}, "optimizers": {}, "run": good["run"], "rng": []}
    training.save_checkpoint("run/checkpoint.safetensors", old)
    with pytest.raises(RunError, match=r"run/checkpoint.safetensors: .*older form.*train the model anew") as error:
        use("run")
    assert "\n" not in str(error.value)
    training.save_checkpoint("run/checkpoint.safetensors", good | {"parts": {"net": {}}})
    with pytest.raises(RunError, match=r"run/checkpoint.safetensors: the checkpoint has parts \['net'\]"):
        use("run")
    del good["parts"]["decoder"]["0.weight"]
    training.save_checkpoint("run/checkpoint.safetensors", good)
    with pytest.raises(RunError, match=r"run/checkpoint.safetensors: .*0\.weight") as error:
        use("run")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("use", [start, reproduce])
def test_empty_data_are_not_the_recipe_s_own(use):
    with pytest.raises(UserError, match="the name of the data is empty"):
        use("vae", "", preset="tiny")
    assert not Path("runs").exists()


def test_data_that_changed_are_noticed(tmp_path):
    images = np.random.default_rng(0).random((40, 1, 8, 8)).astype("f4")
    np.savez(tmp_path / "mine.npz", images=images)
    options = {"epochs": 1, "preset": "tiny", "batch_size": 16}
    start("vae", tmp_path / "mine.npz", folder=tmp_path / "run", **options).fit(1)
    images[0] = 0
    np.savez(tmp_path / "mine.npz", images=images)
    with pytest.raises(RunError, match="changed"):
        open_run(tmp_path / "run", epochs=2)
    assert load_run(tmp_path / "run").sample(2).shape == (2, 1, 8, 8)  # the data are not needed to use the model


def test_a_path_is_remembered_whole_and_so_are_its_options(tmp_path, monkeypatch):
    images = np.random.default_rng(0).integers(0, 256, (40, 1, 12, 12), np.uint8)
    np.savez("mine.npz", images=images, labels=np.arange(40) % 2)
    run = start("vae", "mine.npz", folder="run", epochs=1, preset="tiny", limit=20, size=8, without="1")
    run.fit()
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    again = open_run(tmp_path / "run", epochs=2)
    assert again.dataset.sha == run.dataset.sha and again.dataset.shape == (1, 8, 8)
    assert again.settings.data["without"] == "1" and again.dataset.count("train") == 20
    again.fit()


@pytest.mark.parametrize(
    ("recipe", "words", "figure"),
    [("gan-ring", "; G finds {:.0f} of 8 modes", "modes"), ("wgan-gp-ring", "; G finds {:.0f} of 8 modes", "modes"),
     ("vae", "; the decoder makes {:.0f} of 10 classes", "classes_covered"), ("vae", " of 3 dimensions active", None),
     ("conv-vae", " of 3 dimensions active", None), ("gan", "; G makes {:.0f} of 10 classes", "classes_covered")],
)  # fmt: skip
def test_what_is_counted_on_samples_is_told_and_logged(recipe, words, figure):
    """After two epochs of 200 examples: nothing is learned, so few modes and classes are found."""
    run_of(recipe, "run", limit=200).fit()
    lines = [line for line in read_log(Path("run/log.jsonl")) if "test" in line]
    assert len(lines) == 2
    for line in lines:
        assert words.format(line["samples"][figure] if figure else 0) in line["health"]


def test_the_folder_of_the_data_is_remembered(tmp_path, monkeypatch):
    """A run that was trained with $TINYGEN_DATA goes on in a shell where it is not set."""
    looked = []

    def load(name, **options):
        looked.append(__import__("os").environ.get("TINYGEN_DATA"))
        return real("digits", **options)

    real = __import__("tinygen.data", fromlist=["load"]).load
    monkeypatch.setattr("tinygen.recipes.run.load", load)
    monkeypatch.setenv("TINYGEN_DATA", "here")
    run = run_of("vae", "run")
    assert run.settings.data["folder"] == str(tmp_path / "here")
    run.fit()
    monkeypatch.delenv("TINYGEN_DATA")
    open_run("run", epochs=3)
    data_of(run.settings)
    monkeypatch.setenv("TINYGEN_DATA", "there")
    data_of(run.settings)
    assert looked == ["here", str(tmp_path / "here"), str(tmp_path / "here"), "there"]
    assert __import__("os").environ["TINYGEN_DATA"] == "there"


@pytest.mark.parametrize("now", ["without", "of another", None])
def test_data_are_found_where_they_were_though_another_folder_is_named_now(now, tmp_path, monkeypatch):
    """A named picture lies in $TINYGEN_DATA/textures. So for a run that goes on, and for what is trained beside it."""
    from PIL import Image

    registered()
    draw = np.random.default_rng(0)
    for folder in ("then", "of another", "without"):
        (tmp_path / folder / "textures").mkdir(parents=True)
        if folder != "without":
            picture = Image.fromarray(draw.integers(0, 256, (150, 150), np.uint8))
            picture.save(tmp_path / folder / "textures" / "coins.png")
    monkeypatch.setattr("tinygen.data.crops.find_spec", lambda name: None)  # no package ships it
    monkeypatch.setenv("TINYGEN_DATA", str(tmp_path / "then"))
    run = run_of("toy-base", "run", data="coins", size=8)
    run.fit()
    if now:
        monkeypatch.setenv("TINYGEN_DATA", str(tmp_path / now))
    else:
        monkeypatch.delenv("TINYGEN_DATA")
    assert data_of(run.settings).sha == run.dataset.sha
    open_run("run", epochs=3).fit()
    folder = stand_on("toy-base", run.settings.data, "tiny", None)
    beside = read_settings(folder)
    assert beside.data["folder"] == str(tmp_path / "then") == run.settings.data["folder"]
    assert os.environ.get("TINYGEN_DATA") == (now and str(tmp_path / now))


def test_data_that_are_in_neither_folder_are_said(tmp_path, monkeypatch):
    monkeypatch.setattr("tinygen.data.crops.find_spec", lambda name: None)
    settings = run_of("vae", "run").settings
    settings.data |= {"name": "coins", "folder": str(tmp_path / "then")}
    monkeypatch.setenv("TINYGEN_DATA", str(tmp_path / "now"))
    with pytest.raises(UserError, match=r"coins: not found in .*/now/textures"):
        data_of(settings)


@pytest.mark.parametrize("recipe", ["conv-vae", "dcgan"])
def test_colour_and_odd_sizes_from_the_data(recipe, tmp_path):
    images = np.random.default_rng(0).integers(0, 256, (24, 3, 17, 21), np.uint8)
    np.savez(tmp_path / "mine.npz", images=images)
    run = start(recipe, tmp_path / "mine.npz", folder=tmp_path / "run", epochs=1, preset="tiny", batch_size=8)
    run.fit(1)
    assert run.step.sample(2).shape == (2, 3, 17, 21)


def test_lenet_needs_labels(tmp_path):
    np.savez(tmp_path / "mine.npz", images=np.zeros((24, 1, 8, 8), np.uint8))
    with pytest.raises(RunError, match="needs labels"):
        start("lenet", tmp_path / "mine.npz", folder=tmp_path / "run")


def test_test_figures_are_of_the_test_images():
    run = run_of("vae", "run")
    shown = [x for x, _ in (run.test.batches.at(0, i) for i in range(len(run.test)))]
    order = lambda a: a[np.lexsort(a.reshape(len(a), -1).T)]
    assert np.array_equal(order(np.concatenate(shown)), order(run.dataset.floats("test")))


def test_the_first_test_batch_is_of_all_classes_though_files_come_in_order(monkeypatch):
    """Pictures are of the first test batch, and files are sorted by class."""
    monkeypatch.setattr("tinygen.recipes.run.TEST_BATCH", {3: 20})
    draw, labels = np.random.default_rng(0), np.repeat(np.arange(10), 20)
    images = draw.integers(0, 256, (200, 1, 8, 8), np.uint8)
    np.savez("sorted.npz", images=images, labels=labels, test_images=images, test_labels=labels)
    run = run_of("lenet", "run", data="sorted.npz", limit=200)
    assert len(set(run.test.batches.at(0, 0)[1])) > 5
    run.save()
    assert np.array_equal(run.test.batches.at(0, 0)[0], open_run("run").test.batches.at(0, 0)[0])


# ---------------------------------------------------------------------------------- standing on another run


class Standing(Step):
    """Learns one number beside a trained Step that it stands on."""

    def __init__(self, base, lr):
        self.base, self.net = base, nn.Linear(1, 1)
        self.optimizer = optim.SGD(self.net.parameters(), lr=lr)

    def __call__(self, batch):
        return {"mse": self.net.weight.square().mean().detach()}

    def sample(self, n):
        return self.base.sample(n)


def registered():
    @recipe("a toy")
    def toy_base(given, lr: float = 0.1):
        return Toy(lr, given.shape)

    @recipe("stands on it", on=("toy-base",))
    def toy_above(given, base, lr: float = 0.1):
        return Standing(base, lr)


def said(**options):
    """(the run of toy-above, what was said while it was prepared)."""
    stream = io.StringIO()
    display = Display(stream, live=False)
    return start("toy-above", display=display, preset="tiny", **({"limit": 40} | options)), stream.getvalue()


def test_a_recipe_stands_on_the_newest_run_that_fits_and_says_so():
    registered()
    for seed in (1, 2):
        run_of("toy-base", seed=seed).fit()
    run_of("toy-base", seed=3)  # never trained
    run_of("toy-base", seed=4, epochs=5).fit(2)  # not finished
    run_of("toy-base", seed=5, limit=30).fit()  # other data
    run_of("toy-base", seed=6, size=12).fit()
    run_of("vae").fit()
    for at, name in enumerate(("001", "002", "004", "005", "006")):
        path = Path(f"runs/toy-base-{name}/checkpoint.safetensors")
        __import__("os").utime(path, (1e9 + at, 1e9 + at))
    run, text = said()
    assert text == "stands on runs/toy-base-002 (toy-base, seed 2)\n"
    trace = json.loads((run.folder / "config.json").read_text())["on"]["toy-base"]
    content = Path("runs/toy-base-002/checkpoint.safetensors").read_bytes()
    assert trace["path"] == str(Path("runs/toy-base-002").absolute())
    assert trace["sha"] == hashlib.sha256(content).hexdigest() and trace["settings"]["seed"] == 2
    assert_equal(run.step.base.state_dict(), load_run("runs/toy-base-002").state_dict())


def test_a_variant_of_the_recipe_will_do():
    registered()
    from tinygen.recipes import find

    @recipe("a variant", like=find("toy-base").build)
    def toy_variant(given, lr: float = 0.3):
        return Toy(lr, given.shape)

    run_of("toy-variant").fit()
    assert said()[1] == "stands on runs/toy-variant-001 (toy-variant, seed 0)\n"


def test_a_variant_that_stands_apart_will_not_do():
    registered()
    from tinygen.recipes import find

    @recipe("a variant", like=find("toy-base").build, apart=True)
    def toy_apart(given, lr: float = 0.3):
        return Toy(lr, given.shape)

    run_of("toy-apart").fit()
    assert said()[1].startswith("needs a trained toy-base, and there is none here: training one first\n")
    source = read_settings(Path("runs/toy-base-001")).data
    assert stand_on("toy-apart", source, "tiny", None) == Path("runs/toy-apart-001")


@pytest.mark.parametrize(("name", "base"), [("srgan", "srresnet"), ("srgan-x4", "srresnet-x4")])
def test_a_game_stands_on_a_network_of_its_own_scale(name, base):
    """Both kinds of run are there, and the newest is of the other scale."""
    other = {"srresnet": "srresnet-x4", "srresnet-x4": "srresnet"}[base]
    for at, recipe_name in enumerate((base, other)):
        trained = run_of(recipe_name, epochs=1)
        trained.fit()
        os.utime(trained.folder / "checkpoint.safetensors", (1e9 + at, 1e9 + at))
    run = run_of(name, epochs=1)
    assert list(run.settings.on) == [base] and run.step.generator.scale == {"srresnet": 2, "srresnet-x4": 4}[base]
    assert all(module.training for module in run.step.generator.modules())  # its norms are those of a batch again
    assert_equal(run.step.generator.state_dict(), load_run(f"runs/{base}-001").generator.state_dict())


def test_where_there_is_none_one_is_trained_with_the_same_data():
    registered()
    run, text = said(limit=30, size=12)
    assert text.startswith("needs a trained toy-base, and there is none here: training one first\n")
    assert epochs_done("runs/toy-base-001") == 2
    base = load_run("runs/toy-base-001")
    assert base.sample(1).shape == (1, 1, 12, 12) and run.settings.on["toy-base"]["settings"]["data"]["limit"] == 30
    assert said(limit=30, size=12)[1].startswith("stands on runs/toy-base-001")


def test_it_works_when_the_run_it_stands_on_is_gone():
    registered()
    run, _ = said()
    run.fit()
    trained = load_run("runs/toy-base-001")
    shutil.rmtree("runs/toy-base-001")
    step = load_run(run.folder)
    assert_equal(step.base.state_dict(), trained.state_dict())
    assert_equal(samples(step, 3, 0).numpy().tolist(), samples(trained, 3, 0).numpy().tolist())
    again = open_run(run.folder, epochs=3)
    again.fit()
    assert_equal(again.step.base.net.state_dict(), trained.net.state_dict())


def test_ctrl_c_while_the_base_is_trained_names_what_to_finish(monkeypatch):
    registered()
    from tinygen.recipes import find

    build = find("toy-base").build
    object.__setattr__(find("toy-base"), "build", lambda given, lr=0.1: Pressing(build(given, lr), 2))
    with pytest.raises(training.Interrupted, match=r"toy-base: stopped in .*\n  tinygen resume runs/toy-base-001\n"):
        said()
    assert not list(Path("runs").glob("toy-above*"))


def test_runs_come_newest_first():
    import os

    for seed in range(3):
        run_of("vae", seed=seed).save()
    os.utime("runs/vae-002/checkpoint.safetensors", (2e9, 2e9))
    assert next(runs()).name == "vae-002" and len(list(runs())) == 3
