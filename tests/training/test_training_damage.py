"""A run whose files were damaged, cut or lost: it goes back to what is whole, says so, and ends as if nothing was."""

from __future__ import annotations

import io
import re
from pathlib import Path

import pytest
from toys import assert_equal, contents

from tinygen import training
from tinygen.recipes import RunError, load_run, open_run, start
from tinygen.recipes.run import stand_on
from tinygen.training import Display, load_checkpoint

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
