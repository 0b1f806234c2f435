"""A run whose files were damaged, cut or lost: it goes back to what is whole, says so, and ends as if nothing was."""

from __future__ import annotations

import io
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from toys import assert_equal, contents

from tinygen import cli, training
from tinygen.errors import UserError
from tinygen.recipes import RunError, load_run, open_run, start
from tinygen.recipes.run import stand_on
from tinygen.training import Display, load_checkpoint
from tinygen.training.log import read_log

TINY = {"limit": 40, "batch_size": 16, "threads": 1, "preset": "tiny"}
LAST, BEFORE = "checkpoint.safetensors", "checkpoint.previous.safetensors"


@pytest.fixture(autouse=True)
def in_a_folder_of_its_own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def run_of(recipe, folder=None, epochs=3, **options):
    return start(recipe, folder=folder, epochs=epochs, **(TINY | options))


def opened(folder, **options):
    """(the run, what was said while it was opened)."""
    stream = io.StringIO()
    run = open_run(folder, display=Display(stream, live=False), **options)
    return run, stream.getvalue()


def flip(path, at=-5):
    content = bytearray(Path(path).read_bytes())
    content[at] ^= 16
    Path(path).write_bytes(content)


# ---------------------------------------------------------------------------------- checkpoints


def test_the_last_two_checkpoints_are_kept():
    run = run_of("vae", "run")
    run.fit()
    assert [load_checkpoint(f"run/{name}")["run"]["position"]["epoch"] for name in (LAST, BEFORE)] == [3, 2]
    assert not list(Path("run").glob("*.part")) and not list(Path("run").glob(".*"))


@pytest.mark.parametrize("damage", ["flipped", "cut", "empty", "gone", "structure"])
def test_a_run_goes_back_to_the_checkpoint_before_and_ends_as_if_nothing_was(damage):
    whole = run_of("vae", "whole")
    whole.fit()
    run_of("vae", "run").fit(2)
    path = Path("run") / LAST
    content = path.read_bytes()
    if damage == "flipped":
        flip(path)
    elif damage == "structure":
        path.write_bytes(re.sub(rb"epoch(.{2,4}) 2", rb"epoch\\1 0", content))
        assert path.read_bytes() != content
    elif damage == "gone":
        path.unlink()
    else:
        path.write_bytes(content[: len(content) // 2] if damage == "cut" else b"")
    run, said = opened("run")
    assert said.startswith("note: ") and f"run/{LAST}" in said
    assert said.endswith(f"; going back to epoch 1, in {BEFORE}\n") and said.count("\n") == 1
    assert run.position.epoch == 1
    run.fit()
    assert_equal(contents(whole), contents(run))
    assert Path("whole/log.jsonl").read_bytes() == Path("run/log.jsonl").read_bytes()
    assert load_checkpoint(f"run/{BEFORE}")["run"]["position"]["epoch"] == 2


def test_a_damaged_checkpoint_never_takes_the_place_of_the_whole_one():
    run_of("vae", "run").fit(2)
    flip(f"run/{LAST}")
    run, _ = opened("run")
    run.save()
    assert load_checkpoint(f"run/{BEFORE}")["run"]["position"]["epoch"] == 1
    assert load_checkpoint(f"run/{LAST}")["run"]["position"]["epoch"] == 1


def test_where_both_are_damaged_both_are_named():
    run_of("vae", "run").fit(2)
    for name in (LAST, BEFORE):
        flip(f"run/{name}")
    with pytest.raises(RunError, match=rf"run/{LAST}' is damaged.*run/{BEFORE}' is damaged.*start anew") as error:
        open_run("run")
    assert "\n" not in str(error.value)


def test_figures_and_samples_never_come_from_another_checkpoint_than_the_last():
    run_of("vae", "run").fit()
    flip(f"run/{LAST}")
    with pytest.raises(RunError, match=r"is damaged.*restore the file.*go on .* before it with: tinygen resume run"):
        load_run("run")


def test_a_damaged_best_epoch_says_what_to_do():
    run_of("lenet", "run", keep="best").fit()
    flip("run/best.safetensors")
    with pytest.raises(RunError, match=r"is damaged.*remove run/best\.safetensors to use the last epoch"):
        load_run("run")


def test_a_damaged_run_is_not_stood_on():
    for seed in (1, 2):
        run_of("vae", epochs=2, seed=seed).fit()
    flip(f"runs/vae-002/{LAST}")
    source = {"name": "digits", "limit": 40}
    assert stand_on("vae", source, "tiny", training.progress.Silent()) == Path("runs/vae-001")


def test_a_file_system_without_links_keeps_two_as_well(monkeypatch):
    def refused(*given):
        raise OSError(1, "not here")

    monkeypatch.setattr("os.link", refused)
    run_of("vae", "run", epochs=2).fit()
    assert load_checkpoint(f"run/{BEFORE}")["run"]["position"]["epoch"] == 1


def test_a_save_that_fails_leaves_both(monkeypatch):
    run_of("vae", "run", epochs=2).fit()
    before = {name: Path("run", name).read_bytes() for name in (LAST, BEFORE)}
    run, _ = opened("run", epochs=3)

    def full(*given):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("tinygen.serialization._write", full)
    with pytest.raises(OSError, match="No space left"):
        run.save()
    assert before == {name: Path("run", name).read_bytes() for name in (LAST, BEFORE)}
    assert not list(Path("run").glob(".*.part"))


# ---------------------------------------------------------------------------------- logs


def lost(folder, damage):
    """The log after some damage."""
    path = Path(folder, "log.jsonl")
    lines = path.read_bytes().splitlines(keepends=True)
    if damage == "gone":
        path.unlink()
    else:
        path.write_bytes({
            "empty": b"", "cut": b"".join(lines)[:-9], "half": b"".join(lines)[: len(lines[0]) + 9],
            "zeros": lines[0] + bytes(len(b"".join(lines[1:]))), "swapped": lines[0] + b"[1]\n" + b"".join(lines[1:]),
        }[damage])  # fmt: skip


@pytest.mark.parametrize("damage", ["gone", "empty", "cut", "half", "zeros", "swapped"])
def test_a_damaged_log_is_repaired_and_what_was_lost_is_said(damage, monkeypatch):
    drawn = []
    monkeypatch.setattr(training.run, "draw_curves", lambda log, target: drawn.append(read_log(log)))
    whole = run_of("vae", "whole")
    whole.fit()
    run_of("vae", "run").fit(2)
    lost("run", damage)
    run, said = opened("run")
    assert said == ""  # nothing is written before it goes on
    run.fit()
    said = run.display.stream.getvalue()
    assert said.count("note: run/log.jsonl is damaged") == 1 and "bytes are whole" in said
    found, wanted = (read_log(Path(folder, "log.jsonl")) for folder in ("run", "whole"))
    assert b"\0" not in Path("run/log.jsonl").read_bytes()
    assert found and all(line in wanted for line in found) and found[-1] == wanted[-1] and drawn[-1] == found
    assert_equal(contents(whole)["parts"], contents(run)["parts"])
    again, _ = opened("run", epochs=4)
    again.fit()
    assert "damaged" not in again.display.stream.getvalue()


def test_a_log_with_a_damaged_line_is_named_with_its_number(tmp_path):
    path = tmp_path / "log.jsonl"
    for line in (b"{", b"[]", b"3", b"{}", b'{"epoch": "1"}', b'{"epoch": 1, "train": [1]}', b"\xff", b"[" * 100000):
        path.write_bytes(b'{"epoch": 1, "train": {"a": 1}}\n' + line + b"\n")
        with pytest.raises(UserError, match=r"log\.jsonl: line 2 is damaged"):
            read_log(path)
    path.write_bytes(b'{"epoch": 1, "train": {"a": NaN}}\n{"epo')
    with pytest.raises(UserError, match="line 2"):
        read_log(path)


def test_a_log_is_on_disk_before_the_checkpoint_that_counts_its_bytes(monkeypatch):
    order = []
    fsync, replace = os.fsync, os.replace
    monkeypatch.setattr("os.fsync", lambda fd: (order.append(os.readlink(f"/proc/self/fd/{fd}")), fsync(fd))[1])
    monkeypatch.setattr("os.replace", lambda a, b: (order.append(str(b)), replace(a, b))[1])
    run_of("vae", "run", epochs=1).fit()
    names = [Path(path).name for path in order]
    last = len(names) - 1 - names[::-1].index(LAST)
    assert "log.jsonl" in names[:last]


def test_times_are_told_once():
    run_of("vae", "run").fit(2)
    flip(f"run/{LAST}")
    with open("run/times.jsonl", "ab") as file:
        file.write(b'{"epo')
    run, _ = opened("run")
    run.fit()
    assert [line["epoch"] for line in read_log(Path("run/times.jsonl"))] == [1, 2, 3]


# ---------------------------------------------------------------------------------- what was left to draw


@pytest.mark.parametrize("left", ["gone", "torn", "frames", "pictures", "log"])
def test_a_run_killed_after_its_last_checkpoint_is_finished(left, monkeypatch, capsys):
    monkeypatch.setattr(training.run, "draw_curves", training.plots.draw_curves)  # the real one: curves are the subject
    whole = run_of("vae", "whole", epochs=2)
    whole.fit()
    shutil.copytree("whole", "run")
    names = ["progress.gif", "curves.png", "samples.png", "reconstructions.png"]
    for name in names[:2] if left in ("gone", "torn") else names[2:] if left == "pictures" else []:
        content = Path("run", name).read_bytes()
        Path("run", name).write_bytes(content[: len(content) // 2])
        if left == "gone":
            Path("run", name).unlink()
    if left == "frames":
        Path("run/frames/00002.png").write_bytes(b"\x89PNG")
        Path("run/progress.gif").unlink()
    if left == "log":
        lines = Path("run/log.jsonl").read_bytes().splitlines(keepends=True)
        Path("run/log.jsonl").write_bytes(b"".join(lines[:-1]))
    strays = [".samples.png.12.part", ".config.json.7.part", "frames/.00002.png.7.part"]
    strays += [".checkpoint.safetensors.abc.part", ".checkpoint.previous.safetensors.part"]
    strays += ["..best.safetensors.part.a_8.part"]
    for stray in strays:
        Path("run", stray).touch()
    assert cli.main(["resume", "run"]) == 0
    out = capsys.readouterr().out
    assert "has all its 2 epochs" in out and "finished what was left to draw: run/" in out
    for name in names:
        same = Path("run", name).read_bytes() == Path("whole", name).read_bytes()
        assert same or (name, left) == ("curves.png", "log")
    assert not [path for path in Path("run").rglob("*") if path.name.endswith(".part")]
    last = read_log(Path("run/log.jsonl"))[-1]
    assert last["test"] == read_log(Path("whole/log.jsonl"))[-1]["test"]
    assert cli.main(["resume", "run"]) == 0
    said = "".join(capsys.readouterr())
    assert "finished" not in said and "damaged" not in said


def test_a_film_of_a_shorter_training_is_drawn_anew(monkeypatch):
    monkeypatch.setattr(training.run, "draw_curves", lambda *given: None)
    run_of("vae", "run", epochs=2).fit()
    longer = open_run("run", epochs=3)
    monkeypatch.setattr(training.Run, "finish", lambda self: None)  # killed before it
    longer.fit()
    from PIL import Image

    assert Path("run/progress.gif") in open_run("run").complete()
    with Image.open("run/progress.gif") as film:
        assert film.n_frames == 3


def test_a_picture_that_cannot_be_drawn_leaves_the_one_before(monkeypatch, tmp_path):
    (tmp_path / "x.png").write_text("before")
    (tmp_path / "x.part").write_text("mine")

    def torn(self, path, **options):
        Path(path).write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("PIL.Image.Image.save", torn)
    words = r"x\.png cannot be written: No space left on device; it needs .* MB are free in"
    with pytest.raises(UserError, match=words):
        training.save_picture(np.zeros((2, 1, 8, 8), "f4"), tmp_path / "x.png")
    assert {path.name: path.read_text() for path in tmp_path.glob("x*")} == {"x.png": "before", "x.part": "mine"}
    assert not list(tmp_path.glob(".*"))


# ---------------------------------------------------------------------------------- something else in a file's place


ODD = ["config.json", "log.jsonl", "times.jsonl", LAST, BEFORE, "best.safetensors", "progress.gif", "lock", "frames",
       "frames/00001.png", "frames/more.png"]  # fmt: skip


def odd(path, kind):
    """Puts something that is not wanted where the file was."""
    shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
    if kind == "link":
        path.symlink_to(path.name)
    elif path.name == "frames" and kind == "folder":
        path.write_text("mine")
    else:
        os.mkfifo(path) if kind == "pipe" else path.mkdir()


@pytest.fixture(scope="module")
def two_epochs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("odd") / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(training.run, "draw_curves", lambda *given: None)
        run_of("vae", folder, epochs=2).fit()
    return folder


@pytest.mark.parametrize("name", ODD)
@pytest.mark.parametrize("kind", ["folder", "pipe", "link"])
def test_what_is_no_file_in_a_run_is_one_line(name, kind, two_epochs, capsys):
    shutil.copytree(two_epochs, "run")
    odd(Path("run", name), kind)
    for command in (["resume", "run"], ["resume", "run", "--epochs", "3"]):
        with pytest.raises(SystemExit):
            cli.main(command)
        error = capsys.readouterr().err
        assert error.count("\n") == 1 and f"run/{name} " in error and "move it away" in error, error
    assert os.path.lexists(f"run/{name}")


@pytest.mark.parametrize("kind", ["folder", "pipe", "link"])
def test_what_stands_about_in_a_run_does_not_keep_it(kind, two_epochs):
    shutil.copytree(two_epochs, "run")
    names = ["x.part", ".samples.png.7.part", "frames/x.part", "notes.png"]
    for name in names:
        odd(Path("run", name), kind)
    assert cli.main(["resume", "run"]) == 0 and cli.main(["resume", "run", "--epochs", "3"]) == 0
    assert all(os.path.lexists(f"run/{name}") for name in names)


@pytest.mark.parametrize(("number", "remedy"), [(21, "move what is there away"), (13, "make it writable"),
                                                (30, "make it writable"), (27, "make room")])  # fmt: skip
def test_the_remedy_is_that_of_the_reason(number, remedy, monkeypatch):
    run = run_of("vae", "run", epochs=1)

    def refuse(*given):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr("os.replace", refuse)
    with pytest.raises(UserError, match=rf"cannot be written: {os.strerror(number)}; .*; {remedy}, and go on with: "):
        run.fit()


# ---------------------------------------------------------------------------------- no room


@pytest.mark.parametrize("name", [LAST, "log.jsonl", "times.jsonl", "samples.png", "progress.gif", "frames/00001.png"])
def test_a_full_disk_is_one_line_and_the_run_goes_on(name, monkeypatch):
    """Whatever the file: the line names it, what is needed and how to go on; then the run ends as if nothing was."""
    whole = run_of("vae", "whole", epochs=2)
    whole.fit()
    run = run_of("vae", "run", epochs=2)
    path = Path("run", name)
    real_open, real_replace, calls = open, os.replace, []

    def full(target, action):
        if Path(target) == path:
            calls.append(target)
            if len(calls) > 1 or name != LAST:  # the first checkpoint is written before the training
                raise OSError(28, "No space left on device")
        return action()

    with monkeypatch.context() as patch, pytest.raises(UserError) as error:
        patch.setattr("os.replace", lambda a, b: full(b, lambda: real_replace(a, b)))
        patch.setattr("builtins.open", lambda p, *a, **k: full(p, lambda: real_open(p, *a, **k))
                      if a[:1] == ("a",) else real_open(p, *a, **k))  # fmt: skip
        run.fit()
    text = str(error.value)
    assert text.startswith(f"run/{name} cannot be written: No space left on device; it needs "), text
    assert text.endswith("; make room, and go on with: tinygen resume run") and "\n" not in text
    again = open_run(run.folder)
    again.fit()
    assert_equal(contents(whole), contents(again))
    assert not [path for path in Path("run").rglob("*") if path.name.endswith(".part")]


def test_too_little_memory_in_a_step_is_one_line():
    run = run_of("vae", "run", epochs=2)

    class Hungry(type(run.step)):
        def __call__(self, batch):
            np.empty(2**60, np.uint8)

    run.step.__class__ = Hungry
    with pytest.raises(UserError, match=r"^run: there is not enough memory in epoch 1, batch 1: Unable to allocate .*; "
                                        r"make room, and go on with: tinygen resume run$"):  # fmt: skip
        run.fit()


def test_a_limit_of_the_size_of_files_is_one_line(tmp_path):
    code = """
import resource, sys
from tinygen import cli
resource.setrlimit(resource.RLIMIT_FSIZE, (20000, resource.RLIM_INFINITY))
sys.exit(cli.main(["train", "vae", "--preset", "tiny", "--out", "run", "--set", "hidden=[64]"]))
"""
    environment = os.environ | {"PYTHONPATH": str(Path(cli.__file__).parents[1])}
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 2 and done.stderr.count("\n") == 1, done.stderr
    assert "run/checkpoint.safetensors cannot be written: File too large; it needs 0." in done.stderr
    assert done.stderr.endswith("go on with: tinygen resume run\n")


def test_an_output_that_is_full_is_one_line():
    environment = os.environ | {"PYTHONPATH": str(Path(cli.__file__).parents[1])}
    with open("/dev/full", "w") as full:
        done = subprocess.run([sys.executable, "-u", "-m", "tinygen.cli", "list"], stdout=full, stderr=subprocess.PIPE,
                              text=True, check=False, env=environment)  # fmt: skip
    assert done.returncode == 2
    assert done.stderr == "tinygen: the output cannot be written: No space left on device; make room, and try again\n"


# ---------------------------------------------------------------------------------- hostile values

HOSTILE = [None, "", "x", -1, 0, 10**40, 1.5, float("nan"), True, [], {}, [None], {"x": None}]
CONFIG = [
    "recipe", "data", "given", "arguments", "epochs", "batch_size", "drop_last", "seed", "preset", "device", "threads",
    "version", "keep", "on", "data.name", "data.sha", "data.size", "data.channels", "data.limit", "data.only",
    "data.labels", "data.folder", "given.shape", "given.classes", "given.steps", "arguments.latent",
    "arguments.hidden", "arguments.likelihood", "arguments.lr", "on.vae",
]  # fmt: skip
RUN = ["run", "run.position", "run.position.epoch", "run.position.index", "run.log", "run.window", "run.sums",
       "run.best", "run.seconds", "run.window.loss", "rng", "parts", "parts.encoder", "parts.optimizer",
       "parts.optimizer.state", "parts.optimizer.param_groups"]  # fmt: skip


def put(tree, path, value):
    *above, last = path.split(".")
    for name in above:
        tree = tree[name] if isinstance(tree.get(name), dict) else tree.setdefault(name + "_", {})
    tree[last] = value


def one_line_or_nothing(capsys, *command):
    """A command that succeeds, or says in one line what is wrong; anything else is a traceback."""
    capsys.readouterr()
    try:
        assert cli.main(list(command)) in (0, None)
    except SystemExit as stop:
        error = capsys.readouterr().err
        assert stop.code == 2 and error.startswith("tinygen: ") and error.count("\n") == 1, (command, error)
        assert len(error) < 1000


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    place = tmp_path_factory.mktemp("trained") / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(training.run, "draw_curves", lambda *given: None)
        run_of("vae", place, epochs=1).fit()
    return place


@pytest.mark.parametrize("entry", CONFIG)
def test_no_value_in_config_json_is_a_traceback(entry, trained, capsys):
    config = json.loads((trained / "config.json").read_text())
    for value in HOSTILE:
        if Path("run").exists():
            shutil.rmtree("run")
        shutil.copytree(trained, "run")
        changed = json.loads(json.dumps(config))
        put(changed, entry, value)
        Path("run/config.json").write_text(json.dumps(changed))
        one_line_or_nothing(capsys, "list")
        one_line_or_nothing(capsys, "evaluate", "run", "-n", "64")
        one_line_or_nothing(capsys, "resume", "run", "--epochs", "2")


@pytest.mark.parametrize("entry", RUN)
def test_no_value_in_a_checkpoint_is_a_traceback(entry, trained, capsys):
    for value in HOSTILE:
        if Path("run").exists():
            shutil.rmtree("run")
        shutil.copytree(trained, "run")
        for name in (LAST, BEFORE):
            state = load_checkpoint(f"run/{name}")
            put(state, entry, value)
            training.save_checkpoint(f"run/{name}", state)
        one_line_or_nothing(capsys, "evaluate", "run", "-n", "64")
        one_line_or_nothing(capsys, "resume", "run", "--epochs", "2")


@pytest.mark.parametrize("content", ["", "{", "[" * 100_000, "\0", "[]", "3", "null", '{"recipe": "vae"}', "9" * 5000])
def test_no_content_of_config_json_is_a_traceback(content, trained, capsys):
    shutil.copytree(trained, "run")
    Path("run/config.json").write_text(content)
    for command in (["list"], ["evaluate", "run"], ["resume", "run"], ["sample", "run"]):
        one_line_or_nothing(capsys, *command)


@pytest.mark.parametrize(
    ("entry", "value", "words"),
    [
        ("epochs", None, "epochs must be a whole number of at least 1; it is null"),
        ("data.channels", 7, "data.channels must be a whole number of at least 1, below 4, or null; it is 7"),
        ("given.shape", [1, 8, 9], "shape of the data is [1, 8, 8], it says [1, 8, 9]"),
        ("preset", "tpu", "preset must be one of cpu, gpu, tiny"),
        ("nonsense", 3, "nobody knows its entry 'nonsense'"),
        ("arguments.latent", "two", "latent of vae must be a whole number of at least 1"),
        ("device", "tpu", "device 'tpu' of vae"),
    ],
)
def test_a_wrong_entry_is_named(entry, value, words, trained):
    shutil.copytree(trained, "run")
    config = json.loads(Path("run/config.json").read_text())
    put(config, entry, value)
    Path("run/config.json").write_text(json.dumps(config))
    with pytest.raises(RunError) as error:
        open_run("run", epochs=2)
    assert words in str(error.value)
