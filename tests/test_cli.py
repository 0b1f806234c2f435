"""The command line: what it prints, what it leaves, and that wrong input gets one clear line and exit code 2."""

from __future__ import annotations

import io
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from toys import Toy

from tinygen import cli
from tinygen.metrics.digits import scorable
from tinygen.recipes import RECIPES, find, load_run, read_settings, samples

TINY = ["--limit", "60", "--epochs", "2", "--batch-size", "16", "--preset", "tiny"]
PACKAGE = str(Path(cli.__file__).parents[1])


@pytest.fixture(autouse=True)
def in_a_folder_of_its_own(tmp_path, monkeypatch, request):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("TINYGEN_DATA", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    if "every_recipe" not in request.node.name:  # matplotlib would take most of the time
        monkeypatch.setattr("tinygen.training.run.draw_curves", lambda *arguments: None)


def tinygen(*arguments):
    return cli.main([str(a) for a in arguments])


def refused(capsys, *arguments):
    """The one line that a wrong input gets."""
    with pytest.raises(SystemExit) as stop:
        tinygen(*arguments)
    assert stop.value.code == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and error.startswith("tinygen: "), error
    return error


@pytest.mark.parametrize("recipe", RECIPES)
def test_every_recipe_from_training_to_samples(recipe, capsys):
    assert tinygen("train", recipe, *TINY) == 0
    out = capsys.readouterr().out
    run = f"runs/{recipe}-001"
    data = find(recipe).data
    assert "parameters:" in out and data in out and "time: about" in out and "epoch 2/2" in out
    for picture in re.findall(r"^  (\S+\.(?:png|gif))$", out, re.M):
        assert Path(picture).stat().st_size > 100
    assert f"{run}/curves.png" in out and f"{run}/progress.gif" in out
    assert f"tinygen resume {run} --epochs 4" in out

    step = load_run(run)
    shape = tuple(read_settings(Path(run)).given["shape"])
    if step.offers("sample"):
        assert f"tinygen sample {run} -n 64 --seed 1" in out
        assert tinygen("sample", run, "-n", 9) == 0
        assert Path(run, "sample-1.png").exists()
        assert tinygen("sample", run, "-n", 3, "--seed", 4, "--out", "x.npy") == 0
        assert np.load("x.npy").shape == (3, *shape)
    else:
        assert "sample" not in out.replace("samples", "")
        assert recipe in refused(capsys, "sample", run)
    assert (f"tinygen apply {run} picture.png" in out) == (step.offers("apply") or step.offers("scores"))

    capsys.readouterr()
    assert tinygen("evaluate", run, "-n", 200) == 0
    out = capsys.readouterr().out
    # 60 test images are too few for a distance of features
    known = scorable(shape)  # no network knows colours, or large images
    assert ("60 test images are too few, 64 are needed" in out) == (step.offers("sample") and known)
    assert ("nothing to measure" in out) == (not (measures(step) or len(shape) == 1))
    if measures(step):
        assert "n = 60" in out
    elif len(shape) == 1:
        assert "n = 200" in out

    assert tinygen("resume", run) == 0
    assert "has all its 2 epochs" in capsys.readouterr().out
    assert tinygen("resume", run, "--epochs", 3) == 0
    out = capsys.readouterr().out
    assert "from epoch 3" in out and "epoch 3/3" in out


def measures(step):
    return step.offers("measure") or bool(getattr(step, "penalty", None) or step.figures)


@pytest.mark.parametrize("kernels", ["reference", ""])
def test_training_on_plain_numpy_is_said_once(kernels):
    done = subprocess.run(
        [sys.executable, "-m", "tinygen.cli", "train", "vae", *TINY, "--out", "run"],
        capture_output=True, text=True, check=True, env=os.environ | {"TINYGEN_CPU": kernels, "PYTHONPATH": PACKAGE},
    )  # fmt: skip
    import tinygen as tg

    expected = kernels == "reference" or tg.device("cpu").kernels.name == "reference"
    assert done.stdout.count("this runs on plain NumPy") == expected, done.stdout


def test_options_reach_the_run():
    import tinygen as tg
    from tinygen.models import Gaussian

    options = ["--set", "latent=3", "--set", "likelihood=gaussian", "--lr", "0.01", "--seed", "7", "--threads", "1"]
    assert tinygen("train", "vae", *TINY, *options, "--out", "here") == 0
    step = tg.load_run("here")
    assert step.latent == 3 and isinstance(step.likelihood, Gaussian)
    assert step.optimizer.param_groups[0]["lr"] == 0.01
    assert '"seed": 7' in Path("here/config.json").read_text()


def test_points_are_looked_at(capsys):
    from PIL import Image

    assert tinygen("check-data", "ring") == 0
    out = capsys.readouterr().out
    assert "values -2." in out and "pixels" not in out and "look at ring-sheet.png" in out
    with Image.open("ring-sheet.png") as picture:
        assert min(picture.size) >= 300 and np.asarray(picture.convert("L")).min() < 200


def test_a_sheet_shows_test_images_of_classes_that_are_not_learned(capsys):
    """Textures are learned without defects; digits have the same classes on both sides."""
    from tinygen.data import contact_sheet, load

    assert tinygen("check-data", "gratings", "--size", 16, "--limit", 64) == 0
    assert "gratings-sheet.png; training images left, test images right\n" in capsys.readouterr().out
    sheet, size = opened("gratings-sheet.png")
    assert size == (2 * sheet.shape[0], sheet.shape[0])
    textures = load("gratings", size=16, limit=64)
    test = contact_sheet(textures, split="test")
    assert np.array_equal(np.unique(sheet[:, size[0] // 2 :]), np.unique(test))
    assert np.array_equal(np.unique(sheet[:, : size[0] // 2]), np.unique(contact_sheet(textures)))
    assert tinygen("check-data", "digits") == 0
    assert "test images right" not in capsys.readouterr().out and len(set(opened("digits-sheet.png")[1])) == 1


def test_own_pictures():
    from PIL import Image

    Path("mine").mkdir()
    draw = np.random.default_rng(0)
    for i in range(24):
        Image.fromarray(draw.integers(0, 256, (20 + i, 30, 3), np.uint8)).save(f"mine/{i}.png")
    assert tinygen("check-data", "mine", "--size", 16) == 0
    assert Path("mine-sheet.png").exists()
    small = ["--set", "channels=[4,6]", "--set", "hidden=[8]"]
    assert tinygen("train", "conv-vae", "--data", "mine", "--size", 16, "--epochs", 1, "--batch-size", 8, *small) == 0
    assert tinygen("sample", "runs/conv-vae-001", "-n", 2, "--out", "x.npy") == 0
    assert np.load("x.npy").shape == (2, 3, 16, 16)


def test_list_and_check_data(capsys):
    tinygen("train", "lenet", *TINY)
    capsys.readouterr()
    assert tinygen("list") == 0
    out = capsys.readouterr().out
    assert all(name in out for name in RECIPES) and "mnist" in out and "runs/lenet-001" in out
    assert tinygen("check-data", "digits") == 0
    out = capsys.readouterr().out
    assert "1,500 train + 297 test" in out and "0 148" in out.replace("149", "148") and "mean 0.30" in out
    assert tinygen() == 0
    assert "check-data" in capsys.readouterr().out


def test_a_run_is_not_planned_shorter_than_it_is(capsys):
    tinygen("train", "vae", *TINY, "--out", "runs/x")
    config = Path("runs/x/config.json").read_bytes()
    assert "has done 2 epochs already; give --epochs above that" in refused(capsys, "resume", "runs/x", "--epochs", 1)
    assert Path("runs/x/config.json").read_bytes() == config
    Path("runs/x/config.json").write_bytes(config.replace(b'"epochs": 2', b'"epochs": 5'))
    assert tinygen("list") == tinygen("evaluate", "runs/x") == 0
    assert capsys.readouterr().out.count("2 of 5 epochs") == 2
    assert tinygen("resume", "runs/x", "--epochs", 2) == 0
    assert b'"epochs": 5' in Path("runs/x/config.json").read_bytes()


@pytest.mark.parametrize("damage", ["{", "[]", "3", '{"recipe": "vae"}'])
def test_a_damaged_run_does_not_hide_the_others(damage, capsys):
    tinygen("train", "vae", *TINY)
    Path("runs/vae-000").mkdir()
    Path("runs/vae-000/config.json").write_text(damage)
    capsys.readouterr()
    assert tinygen("list") == 0
    out = capsys.readouterr().out
    assert "runs/vae-000  cannot be read" in out and "runs/vae-001  vae on digits, 2 epochs" in out


@pytest.mark.parametrize("place", ["file", "file/below", "/proc/none"])
def test_a_place_that_cannot_be_written_is_named_with_the_remedy(place, capsys):
    tinygen("train", "vae", *TINY, "--out", "run")
    Path("file").write_text("mine")
    capsys.readouterr()
    commands = [("train", "vae", *TINY, "--out", place)]
    if place != "file":
        commands += [("sample", "run", "--out", place + "/x.png"), ("check-data", "digits", "--out", place + "/x.png")]
    for command in commands:
        error = refused(capsys, *command)
        assert f"{command[-1]} cannot be written" in error and "choose another --out" in error
    assert Path("file").read_text() == "mine"


@pytest.mark.parametrize("seed", ["-1", str(2**63), "x"])
def test_a_start_that_fails_leaves_its_name_free(seed, capsys):
    from tinygen.recipes import start

    assert "--seed" in refused(capsys, "train", "vae", *TINY, f"--seed={seed}", "--out", "run")
    with pytest.raises(ValueError):
        start("vae", folder="run", limit=60, seed=-1)
    assert not Path("run").exists()
    Path("run").mkdir()
    Path("run/config.json").write_text("{}")
    assert tinygen("train", "vae", *TINY, "--seed", 2**63 - 1, "--out", "run") == 0


@pytest.mark.parametrize("recipe", ["lenet", "vae"])
def test_a_schedule_that_is_stretched_is_said(recipe, capsys):
    tinygen("train", recipe, *TINY, "--out", "run")
    assert tinygen("resume", "run") == 0
    assert "schedule" not in capsys.readouterr().out
    assert tinygen("resume", "run", "--epochs", 3) == 0
    line = "note: the learning rate schedule is stretched from 2 to 3 epochs"
    assert capsys.readouterr().out.count(line) == (recipe == "lenet")


def test_doctor(capsys):
    assert tinygen("doctor") == 0
    out = capsys.readouterr().out
    assert out.count("  ok    cpu: ") == 3 and "all well" in out
    for word in ("Python", "NumPy", "CPU kernels", "BLAS", "GPU", "torch"):
        assert word in out


def test_doctor_says_when_something_is_wrong(capsys, monkeypatch):
    def broken(device):
        raise ArithmeticError("1 is not 2")

    from tinygen.doctor import CHECKS

    monkeypatch.setitem(CHECKS, "gradients of a small net", broken)
    assert tinygen("doctor") == 1
    assert "WRONG cpu: gradients of a small net: 1 is not 2" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["tarin"], ["'tarin'", "Did you mean train?"]),
        (["train", "vea"], ["'vea'", "Did you mean vae?"]),
        (["train", "vae", "--data", "digit"], ["'digit'", "Did you mean 'digits'?"]),
        (["train", "vae", "--epochs", "0"], ["--epochs", "must be at least 1, it is 0"]),
        (["train", "vae", "--epochs", "many"], ["--epochs", "many"]),
        (["train", "vae", "--lr", "0"], ["--lr", "must be above 0"]),
        (["train", "vae", "--lr", "fast"], ["--lr", "fast"]),
        (["train", "vae", "--set", "latent"], ["NAME=VALUE"]),
        (["train", "vae", "--set", "latnet=3"], ["'latnet'", "Did you mean latent?", "likelihood, beta, lr"]),
        (["train", "vae", "--set", "latent=0"], ["latent", "at least 1", "it is 0"]),
        (["train", "vae", "--set", "latent=two"], ["latent", "whole number", '"two"']),
        (["train", "vae", "--set", "latent=true"], ["latent", "whole number", "true"]),
        (["train", "vae", "--set", "hidden=64"], ["hidden", "a list", "64"]),
        (["train", "vae", "--set", "hidden=[]"], ["hidden", "too short"]),
        (["train", "vae", "--set", "beta=[1]"], ["beta", "a number"]),
        (["train", "vae", "--set", "conv=1"], ["no argument 'conv'", "hidden"]),
        (["train", "vae", "--set", "likelihood=3"], ["likelihood", "3"]),
        (["train", "dcgan", "--set", "betas=[0.5]"], ["betas", "two numbers"]),
        (["train", "dcgan", "--set", "channels=[0]"], ["channels", "at least 1"]),
        (["train", "dcgan", "--set", "channels=[]"], ["channels", "too short"]),
        (["train", "dcgan", "--set", "rounds=x"], ["rounds", "whole number"]),
        (["train", "dcgan", "--set", "objective=hinge"], ["no objective is called 'hinge'", "minimax"]),
        (["train", "dcgan", "--set", "d_lr=fast"], ["d_lr", "a number"]),
        (["train", "lenet", "--labels", "20"], ["lenet needs a label of every image; leave out --labels"]),
        (["train", "vae", "--keep", "newest"], ["--keep newest: write last, best, or best:METRIC"]),
        (["train", "dcgan", "--keep", "best"], ["measures nothing that tells a good epoch"]),
        (["train", "vae", "--only", "11"], ["11"]),
        (["train", "gan-ring", "--size", "16"], ["no pixels", "--size"]),
        (["train", "conv-vae", "--data", "ring"], ["shape"]),
        (["study", "cods"], ["no study is called 'cods'. Did you mean codes?"]),
        (["study", "codes", "runs/nothing"], ["runs/nothing is no run"]),
        (["reproduce", "vea"], ["no recipe or study is called 'vea'. Did you mean vae?"]),
        (["reproduce", "cods"], ["Did you mean codes?"]),
        (["list", "cods"], ["Did you mean codes?"]),
        (["train", "vae", "--data", "ring"], ["shape 2", "points", "give images"]),
        (["train", "autoencoder", "--data", "moons"], ["points", "give images"]),
        (["train", "gan", "--data", "ring"], ["points", "give images"]),
        (["train", "dcgan", "--set", "smoothing=2"], ["smoothing must lie in [0, 1], it is 2"]),
        (["reproduce", "codes", "--preset", "tiny", "--save"], ["tiny preset are not kept"]),
        (["reproduce", "vae", "--seeds", "0,x"], ["--seeds", "whole number"]),
        (["list", "vea"], ["Did you mean vae?"]),
        (["apply", "runs/nothing", "a.png"], ["runs/nothing is no run"]),
        (["train", "vae", "--set", "likelihood=poisson"], ["poisson", "gaussian"]),
        (["train", "vae", "--device", "gpu"], ["'gpu'", "cuda"]),
        (["train", "vae", "--preset", "tpu"], ["tpu", "cpu"]),
        (["train", "vae", "--preset", "gpu", "--device", "cuda:1"], ["cuda:1", "one GPU"]),
        (["train", "vae", "--size", "4"], ["8"]),
        (["train", "vae", "--nonsense"], ["--nonsense"]),
        (["train"], ["recipe"]),
        (["resume", "runs/nothing"], ["runs/nothing", "tinygen train"]),
        (["sample", "runs/nothing"], ["runs/nothing"]),
        (["evaluate", "runs/nothing"], ["runs/nothing"]),
        (["check-data", "nowhere"], ["nowhere"]),
    ],
    ids=lambda value: " ".join(value) if value and " " not in value[0] else "",
)
def test_wrong_input_is_answered_in_one_line(arguments, words, capsys):
    error = refused(capsys, *arguments)
    for word in words:
        assert word in error
    assert not Path("runs").exists()


def test_pretrained_weights_are_sampled_without_a_run_or_data(capsys):
    assert tinygen("sample", "vae-d2", "--pretrained", "-n", 4) == 0
    assert "4 samples (seed 1) in vae-d2-sample-1.png" in capsys.readouterr().out
    assert tinygen("sample", "vae-d2", "--pretrained", "-n", 4, "--seed", 2, "--out", "x.npy") == 0
    assert np.load("x.npy").shape == (4, 1, 28, 28)
    assert [path.name for path in sorted(Path().iterdir()) if path.name != "cache"] == ["vae-d2-sample-1.png", "x.npy"]
    capsys.readouterr()
    assert "no pretrained model is called 'lenet'" in refused(capsys, "sample", "lenet", "--pretrained")
    assert "tinygen sample vae-d2 --pretrained" in refused(capsys, "sample", "vae-d2")


def test_samples_of_one_class_and_of_a_class_that_is_not_there(capsys):
    """Class 0 is asked for by its name; what training has not seen is refused with what it has."""
    assert tinygen("train", "cgan", *TINY, "--without", "7", "--out", "run") == 0
    for label in (0, 9):
        assert tinygen("sample", "run", "--label", label, "-n", 3, "--out", "one.npy") == 0
        assert tinygen("sample", "run", f"--label={label}", "-n", 3, "--out", "same.npy") == 0
        assert np.array_equal(np.load("one.npy"), np.load("same.npy"))
    for label in (7, 10, "seven"):
        error = refused(capsys, "sample", "run", "--label", label)
        assert f"no class is called '{label}'; the model has learned 0, 1, 2, 3, 4, 5, 6, 8, 9" in error
    assert "cgan needs a label of every image; leave out --labels" in refused(capsys, "train", "cgan", "--labels", 100)


def test_samples_are_drawn_with_averaged_weights_where_a_run_keeps_them(capsys):
    for recipe in ("dcgan-averaged", "vae"):
        assert tinygen("train", recipe, *TINY, "--out", recipe) == 0
    for options, out in (([], "last.npy"), (["--averaged"], "averaged.npy")):
        assert tinygen("sample", "dcgan-averaged", "-n", 3, *options, "--out", out) == 0
    step = load_run("dcgan-averaged")
    with step.averaged():
        expected = samples(step, 3, 1).numpy()
    assert np.array_equal(np.load("averaged.npy"), expected) and not np.array_equal(np.load("last.npy"), expected)
    assert tinygen("sample", "dcgan-averaged", "-n", 3, "--averaged") == 0
    assert Path("dcgan-averaged/averaged-1.png").exists() and not Path("dcgan-averaged/sample-1.png").exists()
    capsys.readouterr()
    for command in (("vae", "--averaged"), ("vae-d2", "--pretrained", "--averaged")):
        assert "keeps no average of its weights; leave out --averaged" in refused(capsys, "sample", *command)


def test_a_nan_is_an_error_of_one_line(capsys):
    error = refused(capsys, "train", "autoencoder", *TINY, "--lr", "1e38", "--out", "run")
    assert "became" in error and "epoch 1" in error and "lower learning rate" in error


def test_a_damaged_checkpoint_is_an_error_of_one_line(capsys):
    tinygen("train", "lenet", *TINY, "--out", "run")
    capsys.readouterr()
    checkpoint = Path("run/checkpoint.safetensors")
    content = bytearray(checkpoint.read_bytes())
    content[-3] ^= 1
    for broken, word in ((bytes(content), "damaged"), (content[: len(content) // 2], "cannot be read"), (b"", "read")):
        checkpoint.write_bytes(broken)
        error = refused(capsys, "evaluate", "run")
        assert word in error and "run/checkpoint.safetensors" in error and "restore the file, or start anew" in error


@pytest.mark.parametrize("command", [["train", "vae"], ["train", "vae", "--device", "cpu"], ["sample", "run"]])
def test_a_wrong_environment_variable_is_an_error_of_one_line(command):
    import tinygen as tg

    if tg.device("cpu").kernels.name == "reference":
        pytest.skip("the plain kernels have no instruction sets to choose from")
    tinygen("train", "vae", *TINY, "--out", "run")
    done = subprocess.run(
        [sys.executable, "-m", "tinygen.cli", *command], capture_output=True, text=True, check=False,
        env=os.environ | {"TINYGEN_CPU": "foo", "PYTHONPATH": PACKAGE},
    )  # fmt: skip
    assert done.returncode == 2 and done.stderr.count("\n") == 1, done.stderr
    assert "TINYGEN_CPU='foo'" in done.stderr and "--device None" not in done.stderr


def test_as_a_program_ctrl_c_saves_and_the_run_goes_on(tmp_path):
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1", "PYTHONPATH": PACKAGE}
    command = [sys.executable, "-m", "tinygen.cli", "train", "vae", "--epochs", "100000", "--out", "run"]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if line.startswith("time: about"):
                process.send_signal(signal.SIGINT)
                break
        rest, errors = process.communicate(timeout=60)
    assert process.returncode == 130, errors
    assert "Traceback" not in errors and "stopping after this step" in errors
    assert rest.rstrip().endswith("tinygen resume run")

    epoch = re.search(r"stopped in epoch (\d+)", rest)
    assert epoch is not None
    target = str(int(epoch[1]))
    resume = [*command[:3], "resume", "run", "--epochs", target]
    done = subprocess.run(resume, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr
    assert f"epoch {target}/{target}" in done.stdout


def test_samples_are_scored_on_images_like_mnists(capsys):
    draw = np.random.default_rng(0)
    np.savez("mine.npz", images=draw.random((1500, 1, 28, 28)).astype(np.float32))
    small = ["--set", "hidden=[16]", "--epochs", "1"]  # not tiny, which would limit the images
    assert tinygen("train", "vae", "--data", "mine.npz", *small, "--out", "run") == 0
    capsys.readouterr()
    assert tinygen("evaluate", "run", "-n", 200) == 0
    out = capsys.readouterr().out
    for name in ("loss", "recon", "kl", "active"):
        assert re.search(rf"^  {name} .* n = 150$", out, re.M)
    assert re.search(r"^  cfid .* n = 200$", out, re.M) and "digits" not in out
    assert "100 fake samples for 64 features" in refused(capsys, "evaluate", "run", "-n", 100)


# ---------------------------------------------------------------------------------- own pictures through a model


def picture(name, size=(40, 30), level=200):
    from PIL import Image

    Path(name).parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, (level, 10, 10)).save(name)
    return name


def opened(name):
    from PIL import Image

    with Image.open(name) as image:
        return np.asarray(image.convert("L")), image.size


def test_a_picture_goes_through_an_autoencoder(capsys):
    tinygen("train", "autoencoder", *TINY, "--out", "runs/ae")
    picture("mine/a.png")
    capsys.readouterr()
    assert tinygen("apply", "runs/ae", "mine/a.png") == 0
    assert capsys.readouterr().out == "mine/a.png at 8x8 pixels, and what becomes of it: mine/a-ae.png\n"
    sheet, size = opened("mine/a-ae.png")
    assert size == (658, 332)  # large enough to be seen: the picture, and beside it what becomes of it
    from tinygen.data.folder import read_picture
    from tinygen.training import enlarged

    large = enlarged(read_picture(Path("mine/a.png"), (1, 8, 8)), 320)[0, 0]
    assert np.abs(sheet[6:326, 6:326] / 255 - large).max() < 0.01
    assert np.abs(sheet[6:326, 332:652] / 255 - large).max() > 0.1
    assert refused(capsys, "apply", "runs/ae", "no.png") == "tinygen: no.png: No such file or directory\n"
    assert tinygen("apply", "runs/ae", "mine/a.png", "--out", "new/b.npy") == 0
    step = load_run("runs/ae")
    import tinygen as tg

    with tg.no_grad():
        wanted = step.apply(tg.tensor(read_picture(Path("mine/a.png"), (1, 8, 8)))).numpy()
    assert np.array_equal(np.load("new/b.npy"), wanted) and wanted.shape == (1, 1, 8, 8)


def test_several_pictures_go_into_a_folder(capsys):
    tinygen("train", "conv-vae", *TINY, "--out", "runs/vae")
    files = [picture(f"mine/{name}.png", level=level) for name, level in (("a", 20), ("b", 250))]
    assert tinygen("apply", "runs/vae", *files, "--out", "there") == 0
    assert sorted(p.name for p in Path("there").iterdir()) == ["a-vae.png", "b-vae.png"]
    assert tinygen("apply", "runs/vae", *files) == 0
    assert Path("mine/a-vae.png").exists() and Path("mine/b-vae.png").exists()
    assert tinygen("apply", "runs/vae", files[0], "--out", "there") == 0  # a folder that is there
    assert not (opened("there/a-vae.png")[0] == opened("there/b-vae.png")[0]).all()


def test_two_pictures_of_one_name_do_not_overwrite_each_other(capsys):
    from PIL import Image

    tinygen("train", "autoencoder", "--preset", "tiny", "--out", "run")
    for folder in ("a", "b"):
        Path(folder).mkdir()
        Image.new("L", (8, 8), 100).save(f"{folder}/x.png")
    assert "two pictures are called x" in refused(capsys, "apply", "run", "a/x.png", "b/x.png", "--out", "here")
    assert tinygen("apply", "run", "a/x.png", "b/x.png") == 0
    assert Path("a/x-run.png").exists() and Path("b/x-run.png").exists()


def test_what_cannot_be_applied_is_said_in_one_line(capsys):
    tinygen("train", "autoencoder", *TINY, "--out", "ae")
    tinygen("train", "gan", *TINY, "--out", "gan")
    tinygen("train", "gan-ring", *TINY, "--out", "ring")
    picture("a.png")
    Path("broken.png").write_text("no picture")
    capsys.readouterr()
    assert "broken.png: not a picture" in refused(capsys, "apply", "ae", "broken.png")
    assert "none.png" in refused(capsys, "apply", "ae", "none.png")
    assert "gan: GANStep does not turn images into images" in refused(capsys, "apply", "gan", "a.png")
    assert "ring" in refused(capsys, "apply", "ring", "a.png")
    assert "must end in .png or .npy" in refused(capsys, "apply", "ae", "a.png", "--out", "x.txt")


# ---------------------------------------------------------------------------------- where a picture is unlike the rest


@pytest.fixture(scope="module")
def finder(tmp_path_factory):
    """The folder of a run that finds anomalies in digits."""
    from tinygen.recipes import start

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("tinygen.training.run.draw_curves", lambda *arguments: None)
        folder = tmp_path_factory.mktemp("here") / "finder"
        start("fully-convolutional-bigan", "digits", folder=folder, preset="tiny", limit=60, epochs=1).fit()
    return folder


def grey(name, size=(14, 9), seed=0):
    from PIL import Image

    Path(name).parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, size[::-1], np.uint8)).save(name)
    return name


def test_anomalies_of_a_picture_are_told_and_shown(finder, capsys):
    from tinygen.recipes import marked

    grey("mine/a.png")
    assert tinygen("apply", finder, "mine/a.png") == 0
    level = marked.threshold(finder, 0.01)
    told = marked.marked_in(load_run(finder), Path("mine/a.png"), level)
    assert capsys.readouterr().out == f"mine/a.png at 14x9 pixels, {told.what}: mine/a-finder.png\n"
    assert told.what.endswith((": normal", ": anomalous")) and f"threshold {level.value:.4g}" in told.what
    size = opened("mine/a-finder.png")[1]
    assert size[0] > 900 > size[1]  # three pictures side by side
    assert tinygen("apply", finder, "mine/a.png", "--out", "scores.npy") == 0
    assert np.array_equal(np.load("scores.npy"), told.scores) and told.scores.shape == (1, 1, 9, 14)


def test_a_rate_reaches_the_threshold_which_is_kept(finder, capsys):
    import json

    grey("a.png")
    levels = []
    for rate in (0.5, 0.02):
        assert tinygen("apply", finder, "a.png", "--rate", rate) == 0
        out = capsys.readouterr().out
        assert f"of normal ones {rate:g}: " in out
        levels.append(float(re.search(r"threshold (\S+);", out)[1]))
    assert {"0.5", "0.02"} <= set(json.loads((finder / "threshold.json").read_text())["values"])
    assert levels[0] < levels[1]


def test_several_pictures_are_looked_at_with_one_threshold(finder, capsys):
    files = [grey(f"mine/{name}.png", size, seed) for name, size, seed in (("a", (8, 8), 1), ("b", (31, 12), 2))]
    assert tinygen("apply", finder, *files, "--out", "there") == 0
    assert sorted(p.name for p in Path("there").iterdir()) == ["a-finder.png", "b-finder.png"]
    lines = capsys.readouterr().out.splitlines()
    assert [line.partition(",")[0] for line in lines] == ["mine/a.png at 8x8 pixels", "mine/b.png at 31x12 pixels"]
    assert len({re.search("threshold (.*?);", line)[1] for line in lines}) == 1
    assert tinygen("apply", finder, *files) == 0 and Path("mine/b-finder.png").exists()
    words = refused(capsys, "apply", finder, *files, "--out", "all.png")
    assert "--out all.png: 2 pictures need a folder" in words


@pytest.mark.parametrize(("rate", "words"), [
    ("0", "must be above 0, it is 0"), ("-1", "must be above 0, it is -1"), ("nan", "must be above 0, it is nan"),
    ("x", "invalid positive number value"), ("1", "the rate of false alarms lies between 0 and 1, it is 1"),
    ("2.5", "the rate of false alarms lies between 0 and 1, it is 2.5; 0.01 is usual"),
])  # fmt: skip
def test_a_rate_is_a_share_between_0_and_1(finder, rate, words, capsys):
    grey("a.png")
    assert words in refused(capsys, "apply", finder, "a.png", "--rate", rate)
    assert not Path("a-finder.png").exists()


def test_what_finds_no_anomalies_takes_no_rate(capsys):
    tinygen("train", "autoencoder", *TINY, "--out", "ae")
    picture("a.png")
    capsys.readouterr()
    assert "ae finds no anomalies; leave --rate 0.05 out" in refused(capsys, "apply", "ae", "a.png", "--rate", "0.05")
    assert not Path("a-ae.png").exists() and not Path("ae/threshold.json").exists()


def test_a_picture_in_colour_is_refused_where_grey_ones_were_learned(finder, capsys):
    picture("red.png")
    words = "red.png: the picture has 3 channels, the run takes 1; convert it to grey first"
    assert words in refused(capsys, "apply", finder, "red.png")


# ---------------------------------------------------------------------------------- options of a model's samples


class Labelled(Toy):
    """Samples have a level for each label, and any size."""

    def sample(
        self, n, label: int = 1, size: tuple[int, int] = (8, 8), prompt: str = "", strength: float | None = None
    ):  # fmt: skip
        import tinygen as tg

        self.asked.append((n, label, size, prompt, strength))
        return tg.full((n, 1, *size), label / 10)

    asked = []


@pytest.fixture
def labelled():
    from toys import known

    from tinygen.recipes import recipe

    with known():

        @recipe("samples take options")
        def labelled(given):
            return Labelled(0.1, given.shape)

        Labelled.asked.clear()
        yield tinygen("train", "labelled", *TINY, "--out", "run")


def test_a_models_own_options_reach_its_samples(labelled, capsys):
    command = ["sample", "run", "-n", "2", "--out", "x.npy"]
    assert tinygen(*command, "--label", "7", "--size=16x24", "--strength", "0.5", "--prompt", "7") == 0
    found = np.load("x.npy")
    assert found.shape == (2, 1, 16, 24) and np.allclose(found, 0.7)
    assert Labelled.asked[-1] == (2, 7, (16, 24), "7", 0.5)
    assert tinygen(*command) == 0 and Labelled.asked[-1] == (2, 1, (8, 8), "", None)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--labl", "7"], ["no argument --labl", "Did you mean --label?", "--size, --prompt"]),
        (["--label", "seven"], ["--label", "a whole number of at least 1", '"seven"']),
        (["--size", "12"], ["--size", "two whole numbers, such as 512x768", "12"]),
        (["--label"], ["--label: give a value, such as --label 7"]),
        (["--label", "--size", "8x8"], ["--label: give a value"]),
        (["7"], ["unrecognized argument"]),
        (["--strength", "much"], ["--strength", "a number"]),
    ],
)
def test_a_wrong_option_of_a_sample_is_said_in_one_line(options, words, labelled, capsys):
    capsys.readouterr()
    error = refused(capsys, "sample", "run", *options)
    for word in words:
        assert word in error


def test_other_commands_take_no_unknown_options(capsys):
    assert "unrecognized arguments: --label 7" in refused(capsys, "evaluate", "run", "--label", "7")


# ---------------------------------------------------------------------------------- figures beside what is trivial


def test_what_is_not_better_than_the_trivial_is_said(capsys):
    tinygen("train", "autoencoder", *TINY, "--out", "run")
    capsys.readouterr()
    assert tinygen("evaluate", "run") == 0
    out = capsys.readouterr().out
    assert re.search(r"^    the mean image: 0\.\d+  NOT BEATEN$", out, re.M)
    assert re.search(r"^    PCA of 3 numbers: 0\.\d+  NOT BEATEN$", out, re.M)
    assert out.splitlines()[-1].startswith("measured in ")


def test_a_kept_range_is_shown_for_as_many_samples(capsys, monkeypatch):
    tinygen("train", "vae", *TINY, "--out", "run")
    ranges = {"loss": ((0.0, 1e6), 60), "recon": ((0.0, 1e-6), 60), "kl": ((0.0, 1e6), 10_000)}
    monkeypatch.setattr(sys.modules["tinygen.recipes.reproduce"], "expected", lambda *given: ranges)
    capsys.readouterr()
    assert tinygen("evaluate", "run") == 0
    lines = {line.split()[0]: line for line in capsys.readouterr().out.splitlines()[1:-1]}
    assert lines["loss"].endswith("expected 0 to 1e+06") and lines["recon"].endswith("expected 0 to 1e-06  OUTSIDE")
    assert "expected" not in lines["kl"]


def test_reproduce_ends_with_1_where_a_figure_is_outside(capsys, monkeypatch):
    kept = {"mse": {"values": [9.0], "n": 64}}
    monkeypatch.setattr(sys.modules["tinygen.recipes.reproduce"], "kept_of", lambda *given: {"metrics": kept})
    assert tinygen("reproduce", "autoencoder", "--preset", "tiny", "--seeds", "0") == 1
    assert capsys.readouterr().out.endswith("OUTSIDE: mse\n")
    kept["mse"]["values"] = [-1.0, 1.0]
    assert tinygen("reproduce", "autoencoder", "--preset", "tiny", "--seeds", "0") == 0
    assert capsys.readouterr().out.endswith("PASS\n")


# ---------------------------------------------------------------------------------- lists, studies, hints


def test_what_is_known_of_one(capsys):
    assert tinygen("list", "dcgan") == 0
    out = capsys.readouterr().out
    assert "channels=[16, 32]" in out and "tinygen train dcgan" in out and "--preset tiny" in out
    assert tinygen("list", "codes") == 0
    assert "stands on autoencoder" in capsys.readouterr().out
    assert tinygen("list", "--table") == 0
    assert capsys.readouterr().out.startswith("| recipe | data | reached on the test set |")


def test_a_study_prints_its_numbers_and_where_its_pictures_are(capsys):
    assert tinygen("study") == 0
    assert "codes" in capsys.readouterr().out
    assert tinygen("study", "codes", "--tiny", "--set", "pairs=2") == 0
    out = capsys.readouterr().out
    assert "needs a trained autoencoder" in out and re.search(
        r"^  nearest_neighbour +0\.\d+  share of queries\n(.*\n)?  codes +64  training images\n", out, re.M
    )
    for name in ("codes.png", "interpolations.png", "study.json"):
        assert f"  runs/autoencoder-001/studies/codes/{name}" in out


def test_a_table_is_printed_in_columns(capsys):
    cli._print_table([{"name": "a", "value": 0.123456}, {"name": "longer", "value": 2}])
    assert capsys.readouterr().out == "    name    value\n       a  0.12346\n  longer        2\n"


def test_hints_can_be_pasted_into_a_shell(capsys):
    assert tinygen("train", "vae", *TINY, "--out", "my runs/a b") == 0
    out = capsys.readouterr().out
    assert "tinygen sample 'my runs/a b' -n 64 --seed 1" in out and "tinygen resume 'my runs/a b' --epochs 4" in out
    assert tinygen("resume", "my runs/a b") == 0
    assert "tinygen resume 'my runs/a b' --epochs 4" in capsys.readouterr().out
    assert "tinygen resume 'my runs/a b'" in refused(capsys, "train", "vae", *TINY, "--out", "my runs/a b")


def test_a_run_of_the_older_form_is_said_and_listed(capsys):
    Path("runs/old").mkdir(parents=True)
    Path("runs/old/config.json").write_text('{"recipe": "vae", "model": {"latent": 2}, "shape": [1, 8, 8]}')
    for command in ("evaluate", "sample", "resume"):
        assert "made by an older tinygen" in refused(capsys, command, "runs/old")
    assert tinygen("list") == 0
    assert "runs/old  cannot be read: " in capsys.readouterr().out


def test_the_best_epoch_is_kept_and_used(capsys):
    assert tinygen("train", "lenet", *TINY, "--keep", "best:accuracy", "--out", "run") == 0
    assert Path("run/best.safetensors").exists() and '"keep": "accuracy"' in Path("run/config.json").read_text()
    assert tinygen("evaluate", "run") == tinygen("resume", "run", "--epochs", 3) == 0


def test_the_epoch_that_is_kept_is_named(capsys, monkeypatch):
    """The validation split's figures are given here: the second of three epochs is the best."""
    given = iter([5.0, 3.0, 4.0])
    real = sys.modules["tinygen.training.run"].evaluate
    is_validation = lambda batches: batches.batches.count == 6  # a tenth of 60

    def evaluated(step, batches):
        found = real(step, batches)
        return found | {"loss": next(given)} if is_validation(batches) else found

    monkeypatch.setattr("tinygen.training.run.evaluate", evaluated)
    assert tinygen("train", "vae", *TINY, "--epochs", 3, "--keep", "best", "--out", "run") == 0
    assert "\nkept: epoch 2, validation loss 3\n" in capsys.readouterr().out
    assert tinygen("evaluate", "run") == 0
    assert capsys.readouterr().out.startswith("run: vae on digits, best epoch 2 of 3, seed 0\n")
    assert tinygen("train", "vae", *TINY, "--out", "last") == tinygen("evaluate", "last") == 0
    out = capsys.readouterr().out
    assert "kept: " not in out and "last: vae on digits, 2 epochs, seed 0" in out


def test_ctrl_c_in_a_run_that_another_needs_is_no_traceback(capsys, monkeypatch):
    from tinygen.training import Interrupted

    def interrupted(*given, **options):
        raise Interrupted("stopped in epoch 1")

    monkeypatch.setattr("tinygen.recipes.run_study", interrupted)
    assert tinygen("study", "codes") == 130
    assert "stopped in epoch 1" in capsys.readouterr().out


def test_keys_pressed_twice_end_with_130(capsys, monkeypatch):
    def pressed(*given, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr("tinygen.recipes.start", pressed)
    assert tinygen("train", "vae") == 130
    assert capsys.readouterr().err == "\nstopped at once\n"


def test_a_terminal_without_accents_shows_question_marks(monkeypatch):
    stream = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.setattr(sys, "stdout", stream)
    from tinygen.cli import main

    assert main(["list"]) == 0
    print("Fr\u00e9chet", file=stream)
    stream.flush()
    assert stream.buffer.getvalue().endswith(b"Fr?chet\n")


def test_what_does_not_fit_into_memory_is_refused_with_what_the_command_has(capsys, monkeypatch):
    def full(*given, **options):
        raise MemoryError("112 GiB")

    monkeypatch.setattr("tinygen.recipes.run_study", full)
    monkeypatch.setattr("tinygen.recipes.start", full)
    assert "112 GiB; ask for less with --set" in refused(capsys, "study", "manifold", "--set", "side=9")
    assert "112 GiB; give a smaller -n, --size or --batch-size" in refused(capsys, "train", "vae")
