"""The command line: what it prints, what it leaves, and that wrong input gets one clear line and exit code 2."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tinygen import cli
from tinygen.recipes import RECIPES

TINY = ["--limit", "60", "--epochs", "2", "--batch-size", "16"]
PACKAGE = str(Path(cli.__file__).parents[1])


@pytest.fixture(autouse=True)
def in_a_folder_of_its_own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("TINYGEN_DATA", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


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
    assert "parameters:" in out and "digits" in out and "time: about" in out and "epoch 2/2" in out
    for picture in re.findall(r"^  (\S+\.(?:png|gif))$", out, re.M):
        assert Path(picture).stat().st_size > 100
    assert f"{run}/curves.png" in out and f"{run}/progress.gif" in out
    assert f"tinygen resume {run} --epochs 4" in out

    if recipe in ("vae", "conv-vae", "gan", "dcgan"):
        assert f"tinygen sample {run} -n 64 --seed 1" in out
        assert tinygen("sample", run, "-n", 9) == 0
        assert Path(run, "sample-1.png").exists()
        assert tinygen("sample", run, "-n", 3, "--seed", 4, "--out", "x.npy") == 0
        assert np.load("x.npy").shape == (3, 1, 8, 8)
    else:
        assert "sample" not in out.replace("samples", "")
        assert recipe in refused(capsys, "sample", run)

    capsys.readouterr()
    assert tinygen("evaluate", run) == 0
    out = capsys.readouterr().out
    assert ("nothing to measure" in out) == (recipe in ("gan", "dcgan"))
    if recipe not in ("gan", "dcgan"):
        assert "n = 60" in out

    assert tinygen("resume", run) == 0
    assert "has all its 2 epochs" in capsys.readouterr().out
    assert tinygen("resume", run, "--epochs", 3) == 0
    out = capsys.readouterr().out
    assert "from epoch 3" in out and "epoch 3/3" in out


def test_options_reach_the_run():
    import tinygen as tg

    options = ["--set", "latent=3", "--set", "likelihood=gaussian", "--lr", "0.01", "--seed", "7", "--threads", "1"]
    assert tinygen("train", "vae", *TINY, *options, "--out", "here") == 0
    step = tg.load_run("here")
    assert step.latent == 3 and step.likelihood == "gaussian"
    assert step.optimizers["vae"].param_groups[0]["lr"] == 0.01
    assert '"seed": 7' in Path("here/config.json").read_text()


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

    monkeypatch.setitem(cli.CHECKS, "gradients of a small net", broken)
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
        (["train", "vae", "--set", "hidden=[]"], ["hidden"]),
        (["train", "vae", "--set", "beta=[1]"], ["beta", "a number"]),
        (["train", "vae", "--set", "conv=1"], ["conv", "true or false"]),
        (["train", "vae", "--set", "likelihood=3"], ["likelihood", "3"]),
        (["train", "dcgan", "--set", "betas=[0.5]"], ["betas", "two numbers"]),
        (["train", "dcgan", "--set", "channels=[0]"], ["channels", "at least 1"]),
        (["train", "dcgan", "--set", "channels=[]"], ["channels"]),
        (["train", "lenet", "--set", "decay_steps=x"], ["decay_steps", "whole number"]),
        (["train", "vae", "--set", "likelihood=poisson"], ["poisson", "gaussian"]),
        (["train", "vae", "--device", "gpu"], ["'gpu'", "cuda"]),
        (["train", "vae", "--preset", "tpu"], ["tpu", "cpu"]),
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
    small = ["--set", "hidden=[16]", "--epochs", "1"]
    assert tinygen("train", "vae", "--data", "mine.npz", *small, "--out", "run") == 0
    capsys.readouterr()
    assert tinygen("evaluate", "run", "-n", 200) == 0
    out = capsys.readouterr().out
    for name in ("loss", "recon", "kl", "active"):
        assert re.search(rf"^  {name} .* n = 150$", out, re.M)
    assert re.search(r"^  cfid .* n = 200$", out, re.M) and "digits" not in out
    assert "100 fake samples for 64 features" in refused(capsys, "evaluate", "run", "-n", 100)


def test_expected_ranges_are_for_the_recipe_as_it_is():
    from tinygen.recipes import expected, find, prepare
    from tinygen.recipes.recipe import Dataset

    images = np.zeros((600, 1, 28, 28), np.uint8)
    labels = np.arange(600) % 10
    data = Dataset("mnist", images, labels, images, labels, tuple("0123456789"))
    source = {"name": "mnist", "size": None, "channels": None, "limit": None}
    for name in RECIPES:
        settings = prepare(find(name), data, source, epochs=find(name).epochs)
        assert expected(settings) == find(name).expected.get("mnist", {})
        settings.epochs += 1
        assert not expected(settings)
    settings = prepare(find("vae"), data, source, epochs=10, model={"latent": 3})
    assert not expected(settings)
    assert not expected(prepare(find("vae"), data, source | {"limit": 600}, epochs=10))
