"""One process a folder: the second is refused and changes nothing; what a dead one has left is taken over."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tinygen import cli
from tinygen.errors import UserError
from tinygen.recipes import RunError, open_run, start
from tinygen.training.lock import Lock, LockedError, check_free

TINY = {"limit": 40, "batch_size": 16, "threads": 1, "preset": "tiny"}
PACKAGE = str(Path(cli.__file__).parents[1])


@pytest.fixture(autouse=True)
def in_a_folder_of_its_own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def files(folder):
    return {str(p): p.read_bytes() for p in sorted(Path(folder).rglob("*")) if p.is_file()}


def test_the_second_is_refused_and_named_who_is_first(tmp_path):
    with Lock(tmp_path):
        words = rf"is in use: process {os.getpid()} on {re.escape(socket.gethostname())}, since 20\d\d-.* trains in it"
        for refused in (Lock(tmp_path).__enter__, lambda: check_free(tmp_path)):
            with pytest.raises(LockedError, match=words):
                refused()
    check_free(tmp_path)
    assert not list(tmp_path.iterdir())
    with Lock(tmp_path):
        pass


@pytest.mark.parametrize("content", ["", "{", "[]", json.dumps({"pid": 1, "host": "there", "time": "once"})])
def test_what_a_dead_process_has_left_is_taken_over(content, tmp_path):
    (tmp_path / "lock").write_text(content)
    check_free(tmp_path)
    with Lock(tmp_path):
        assert json.loads((tmp_path / "lock").read_text())["pid"] == os.getpid()


FOREIGN = ["my own notes", '{"pid": "of my cat"}', "3", json.dumps({"lock": [1]})]


@pytest.mark.parametrize("content", FOREIGN)
def test_somebody_elses_lock_is_neither_changed_nor_taken_away(content, tmp_path):
    lock = tmp_path / "lock"
    lock.write_text(content)
    for refused in (Lock(tmp_path).__enter__, lambda: check_free(tmp_path)):
        with pytest.raises(LockedError, match=r"lock has other content than a run's lock; .* move it away"):
            refused()
    assert lock.read_text() == content


def test_a_lock_that_is_a_link_leads_to_nobodys_harm(tmp_path):
    target = tmp_path / "thesis.txt"
    for content in ("", "years of work"):
        target.write_text(content)
        for there in (target, tmp_path / "nowhere"):
            (tmp_path / "lock").symlink_to(there)
            for refused in (Lock(tmp_path).__enter__, lambda: check_free(tmp_path)):
                with pytest.raises(LockedError, match="lock is a link, and no run's lock"):
                    refused()
            assert (tmp_path / "lock").is_symlink() and target.read_text() == content
            (tmp_path / "lock").unlink()
    assert not (tmp_path / "nowhere").exists()


def test_a_file_that_took_the_locks_place_stays(tmp_path):
    with Lock(tmp_path):
        (tmp_path / "lock").unlink()
        (tmp_path / "lock").write_text("mine")
    assert (tmp_path / "lock").read_text() == "mine"


def test_resume_leaves_what_is_no_runs():
    start("vae", folder="run", epochs=2, **TINY).fit(1)
    mine = ["movie.mp4.part", ".film.mp4.part", "samples.part", "frames/.x.part", ".notes.png.part", "config.json.part"]
    for name in mine:
        Path("run", name).write_text("mine")
    open_run("run").fit()
    assert [Path("run", name).read_text() for name in mine] == ["mine"] * len(mine)


def test_a_folder_in_use_is_left_as_it_is():
    run = start("vae", folder="run", epochs=3, **TINY)
    run.fit(1)
    with open("run/log.jsonl", "ab") as log:
        log.write(b'{"epoch": 1.5, "train": {}}\n')  # of the one that trains
    idle = open_run("run")
    with Lock(Path("run")):
        before = files("run")
        for refused in (lambda: open_run("run"), idle.fit, lambda: idle.complete(1)):
            with pytest.raises(LockedError, match="run is in use"):
                refused()
        with pytest.raises(RunError, match="holds a run already"):
            start("vae", folder="run", **TINY)
        assert files("run") == before


def test_a_run_that_went_on_elsewhere_is_opened_again():
    start("vae", folder="run", epochs=3, **TINY).fit(1)
    first, second = open_run("run"), open_run("run")
    first.fit(2)
    before = files("run")
    with pytest.raises(UserError, match="has gone on since it was opened"):
        second.fit()
    assert files("run") == before
    first.fit(3)


def test_two_that_start_in_one_folder_do_not_mix():
    first = start("vae", folder="run", epochs=1, seed=1, **TINY)
    with Lock(Path("run")), pytest.raises(LockedError):
        start("vae", folder="run", epochs=1, seed=2, **TINY)
    assert json.loads(Path("run/config.json").read_text())["seed"] == 1
    first.fit()


# ---------------------------------------------------------------------------------- files that are no run's


@pytest.mark.parametrize("name", ["samples.png", "log.jsonl", "notes.txt", "config.json", "frames/00001.png", "a.part"])
def test_out_never_takes_a_folder_with_other_files(name):
    Path("mine", name).parent.mkdir(parents=True, exist_ok=True)
    Path("mine", name).write_text('{"name": "of a web site"}')
    with pytest.raises(RunError, match=rf"mine holds files that are no run's \({name.split('/')[0]}\).* another --out"):
        start("vae", folder="mine", **TINY)
    assert files("mine") == {f"mine/{name}": b'{"name": "of a web site"}'}


@pytest.mark.parametrize(
    ("name", "content"),
    [("lock", "mine"), (".film.mp4.part", ""), ("config.json", '{"recipe": "my cooking"}'), ("config.json", "[]")],
)
def test_out_knows_its_own_files_by_more_than_half_a_name(name, content):
    Path("mine").mkdir()
    Path("mine", name).write_text(content)
    with pytest.raises(RunError, match=rf"mine holds files that are no run's \({re.escape(name)}\)"):
        start("vae", folder="mine", **TINY)
    assert files("mine") == {f"mine/{name}": content.encode()}


def test_out_takes_what_a_start_that_was_killed_has_left():
    start("vae", folder="run", **TINY)
    Path("run/lock").write_text('{"pid": 1, "host"')
    for name in (".config.json.7.part", ".checkpoint.safetensors.part", "..checkpoint.safetensors.part.x1_.part"):
        Path("run", name).touch()
    start("vae", folder="run", epochs=1, **TINY).fit()
    assert not list(Path("run").glob("*.part")) + list(Path("run").glob(".*"))


def test_out_takes_an_empty_folder_and_a_start_that_came_to_nothing():
    Path("run").mkdir()
    start("vae", folder="run", **TINY)
    start("vae", folder="run", epochs=1, **TINY).fit()


@pytest.mark.parametrize(
    "command",
    [["train", "vae", "--out", ""], ["sample", "run", "--out", ""], ["apply", "run", "a.png", "--out", ""],
     ["check-data", "digits", "--out", ""], ["resume", ""], ["evaluate", ""], ["apply", "run", ""],
     ["study", "codes", ""]],
)  # fmt: skip
def test_an_empty_name_is_no_folder(command, capsys):
    with pytest.raises(SystemExit) as stop:
        cli.main(command)
    error = capsys.readouterr().err
    assert stop.value.code == 2 and error.count("\n") == 1 and "the name is empty" in error
    assert not list(Path().iterdir())


def test_an_empty_folder_name_is_refused_by_the_library_too():
    with pytest.raises(RunError, match="the folder is empty; leave it out"):
        start("vae", folder="", **TINY)


@pytest.mark.parametrize("name", ["photo.png", "notes.png", "data.npy"])
def test_out_writes_over_pictures_of_tinygens_alone(name, capsys):
    from PIL import Image

    start("autoencoder", folder="run", epochs=1, **TINY).fit()
    start("vae", folder="samples", epochs=1, **TINY).fit()
    Image.new("L", (8, 8), 100).save("photo.png")
    Path("notes.png").write_text("mine")
    np.save("data.npy", np.arange(3.0))
    before = Path(name).read_bytes()
    commands = [["sample", "samples", "-n", "4"], ["apply", "run", "photo.png"], ["check-data", "digits"]]
    for command in commands[: 1 if name == "data.npy" else 3]:
        with pytest.raises(SystemExit):
            cli.main([*command, "--out", name])
        error = capsys.readouterr().err
        assert error.count("\n") == 1 and f"{name} " in error and "choose another name" in error
        assert Path(name).read_bytes() == before
        for _ in range(2):
            assert cli.main([*command, "--out", f"new{Path(name).suffix}"]) == 0


def test_apply_never_writes_over_the_picture_it_reads(capsys):
    from PIL import Image

    start("autoencoder", folder="run", epochs=1, **TINY).fit()
    Image.new("L", (8, 8), 100).save("a.png")
    before = Path("a.png").read_bytes()
    with pytest.raises(SystemExit):
        cli.main(["apply", "run", "a.png", "--out", "./a.png"])
    assert "a.png is the picture itself" in capsys.readouterr().err and Path("a.png").read_bytes() == before


# ---------------------------------------------------------------------------------- as programs


def trains():
    """A program that trains in `run` until it is told to stop; it has begun."""
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1", "PYTHONPATH": PACKAGE}
    command = [sys.executable, "-m", "tinygen.cli", "train", "vae", "--epochs", "100000", "--out", "run"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)
    for line in process.stdout:
        if line.startswith("time: about"):
            return process
    raise AssertionError(process.stderr.read())


@pytest.mark.parametrize(("name", "code"), [("SIGTERM", 143), ("SIGHUP", 129)])
def test_a_signal_saves_and_says_so(name, code):
    with trains() as process:
        with pytest.raises(LockedError, match=f"run is in use: process {process.pid} on "):
            open_run("run")
        process.send_signal(getattr(signal, name))
        rest, errors = process.communicate(timeout=60)
    assert process.returncode == code, errors
    assert "Traceback" not in errors and "stopping after this step" in errors
    assert rest.rstrip().endswith("tinygen resume run")
    run = open_run("run")
    assert run.position.epoch or run.position.index
    assert not Path("run/lock").exists()


def test_a_terminal_that_was_closed_saves_too():
    with trains() as process:
        process.stdout.close()
        process.stderr.close()
        process.send_signal(signal.SIGHUP)
        assert process.wait(60) == 129
    assert open_run("run").position != open_run("run").position.__class__()


def test_a_killed_program_leaves_no_lock_that_holds():
    with trains() as process:
        process.kill()
        process.wait(60)
    assert Path("run/lock").exists()
    run = open_run("run")
    run.fit(run.position.epoch + 1)
    assert not Path("run/lock").exists()
