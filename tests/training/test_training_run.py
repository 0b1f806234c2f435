"""A run: bit-exact resume, Ctrl-C, kills, the log and what the folder holds. A run here takes part of a second."""

from __future__ import annotations

import io
import json
import signal
import time
from types import SimpleNamespace

import numpy as np
import pytest
from toys import Counting, Pressing, Toy, Watched, assert_equal, contents

import tinygen as tg
from tinygen import data, training
from tinygen.recipes import open_run, read_settings, start
from tinygen.training import Display, Keep, Run, load_checkpoint
from tinygen.training.log import read_log

TINY = {"limit": 80, "batch_size": 16, "threads": 1}


def run_of(recipe, folder, epochs=2, **options):
    return start(recipe, folder=folder, epochs=epochs, preset="tiny", **(TINY | options))


def toy_run(folder, step=None, **options):
    """A run of a Toy on training images of .25 and test images of .75."""
    train, test = (data.Batches(np.full((12, 1, 8, 8), v, "f4"), None, 4) for v in (0.25, 0.75))
    return Run(folder, step or Toy(), train, test, **options)


def test_more_epochs_than_planned(tmp_path):
    whole = run_of("vae", tmp_path / "whole", epochs=4)
    whole.fit(4)
    run_of("vae", tmp_path / "halves", epochs=2).fit(2)
    second = open_run(tmp_path / "halves", epochs=4)
    second.fit(4)
    assert_equal(contents(whole), contents(second))
    assert read_settings(tmp_path / "halves").epochs == 4


def test_same_seed_same_run_and_another_seed_another(tmp_path):
    runs = [run_of("vae", tmp_path / str(i), seed=seed) for i, seed in enumerate((5, 5, 6))]
    for run in runs:
        run.fit(2)  # all were built before the first was trained: each goes on with its own random numbers
    assert_equal(contents(runs[0]), contents(runs[1]))
    states = [np.concatenate([v.numpy().ravel() for v in contents(r)["parts"]["encoder"].values()]) for r in runs]
    assert not np.allclose(states[0], states[2])


def test_a_run_does_not_depend_on_what_else_was_drawn(tmp_path):
    logs = []
    for i in range(2):
        run = run_of("gan", tmp_path / str(i))
        run.fit(2)
        logs.append((run.folder / "log.jsonl").read_bytes())
        tg.rand(1000)
    assert logs[0] == logs[1]


# ---------------------------------------------------------------------------------- stopping


@pytest.mark.parametrize("at", [1, 3, 5, 8])
def test_ctrl_c_finishes_the_step_saves_and_can_be_resumed(at, tmp_path):
    """Five steps an epoch: at the first step, in the middle of an epoch, at the end of one, in the second."""
    whole = run_of("dcgan", tmp_path / "whole")
    whole.fit(2)
    stopped = run_of("dcgan", tmp_path / "stopped")
    stopped.step = Pressing(stopped.step, at)
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(training.Interrupted, match="epoch"):
        stopped.fit(2)
    assert signal.getsignal(signal.SIGINT) is before
    again = open_run(tmp_path / "stopped")
    assert again.position.epoch * 5 + again.position.index == at
    again.fit(2)
    assert_equal(contents(whole), contents(again))
    assert (whole.folder / "log.jsonl").read_bytes() == (again.folder / "log.jsonl").read_bytes()


def test_a_second_ctrl_c_stops_at_once(tmp_path):
    run = run_of("vae", tmp_path / "run")
    run.step = Pressing(run.step, 7, times=2)
    with pytest.raises(KeyboardInterrupt):
        run.fit(2)
    assert contents(run)["run"]["position"] == {"epoch": 1, "index": 0}  # what the last epoch saved


def test_a_killed_run_goes_on_from_its_checkpoint_and_writes_the_same_log(tmp_path):
    whole = run_of("vae", tmp_path / "whole", epochs=3)
    whole.fit(3)
    killed = run_of("vae", tmp_path / "killed", epochs=3)

    class Dying(Pressing):
        def __call__(self, batch):
            self.calls += 1
            if self.calls == 14:  # in the third epoch
                raise MemoryError
            return self.step(batch)

    killed.step = Dying(killed.step, 0)
    with pytest.raises(MemoryError):
        killed.fit(3)
    with open(killed.folder / "log.jsonl", "a") as log:
        log.write('{"epoch": 2.8, "train": {"loss": 1}}\n{"half a li')  # written after the checkpoint
    again = open_run(tmp_path / "killed")
    again.fit(3)
    assert (whole.folder / "log.jsonl").read_bytes() == (again.folder / "log.jsonl").read_bytes()
    assert_equal(contents(whole), contents(again))


def test_a_run_killed_in_its_first_epoch_can_be_resumed(tmp_path):
    run = run_of("vae", tmp_path / "run")
    run.step = Pressing(run.step, 2, times=2)
    with pytest.raises(KeyboardInterrupt):
        run.fit(2)
    again = open_run(tmp_path / "run")
    again.fit(2)
    whole = run_of("vae", tmp_path / "whole")
    whole.fit(2)
    assert_equal(contents(whole), contents(again))


# ---------------------------------------------------------------------------------- log, pictures, figures


def test_a_run_of_a_step_that_has_only_what_a_step_must_have(tmp_path):
    """No measure, sample, health or schedules; the log holds means over its windows and over epochs."""
    images = np.arange(120, dtype="f4").reshape(120, 1, 1, 1) / 120 * np.ones((1, 1, 8, 8), "f4")
    batches = data.Batches(images, None, 2, seed=1)
    run = training.Run(tmp_path / "run", Counting(), batches, data.Batches(images[:4], None, 4))
    run.fit(epochs=2)
    lines = read_log(tmp_path / "run" / "log.jsonl")
    assert len(lines) == 22  # ten windows of six steps an epoch, and the epoch
    first = np.mean([batches.at(0, i)[0].mean() for i in range(6)])
    assert lines[0]["epoch"] == 0.1 and lines[0]["train"]["mean"] == pytest.approx(first, rel=1e-5)
    assert lines[10] == {"epoch": 1, "train": {"mean": pytest.approx(images.mean(), rel=1e-5)}, "test": {}}
    assert (tmp_path / "run" / "same.png").exists()


def test_a_run_leaves_everything_that_was_promised(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run = start("vae", epochs=3, preset="tiny", arguments={"latent": 3}, **TINY)
    run.fit(3)
    assert run.folder.as_posix() == "runs/vae-001"
    names = {p.name for p in run.folder.iterdir()}
    assert names >= {"config.json", "log.jsonl", "times.jsonl", "checkpoint.safetensors", "samples.png",
                     "reconstructions.png", "progress.gif", "curves.png"}  # fmt: skip
    from PIL import Image

    with Image.open(run.folder / "progress.gif") as film, Image.open(run.folder / "samples.png") as picture:
        assert film.n_frames == 3
        assert picture.size == (8 * 62 + 6, 8 * 62 + 6)
    config = json.loads((run.folder / "config.json").read_text())
    assert config["recipe"] == "vae" and config["data"]["name"] == "digits" and config["arguments"]["latent"] == 3
    assert start("vae", epochs=1, preset="tiny", **TINY).folder.name == "vae-002"
    times = [json.loads(line) for line in (run.folder / "times.jsonl").read_text().splitlines()]
    assert [t["epoch"] for t in times] == [1, 2, 3] and all(t["seconds"] > 0 for t in times)


def test_the_number_of_a_new_folder_is_above_all_others(tmp_path):
    for name in ("vae-001", "vae-007", "vae-x", "vae-gp-012", "gan-030"):
        (tmp_path / name).mkdir()
    assert training.new_folder(tmp_path, "vae").name == "vae-008"
    assert training.new_folder(tmp_path / "new", "vae").name == "vae-001"


def test_a_figure_that_stopped_improving_is_said_with_the_epoch_of_its_best(tmp_path):
    """The Toy learns .25, and is measured at .75: it is best before it has learned."""
    run = toy_run(tmp_path / "run")
    with tg.no_grad():
        run.step.net.weight.fill_(0.75)
    run.fit(8)
    health = [line.get("health") for line in read_log(tmp_path / "run" / "log.jsonl") if "test" in line]
    assert health[:5] == [None] * 5
    assert health[5:] == ["the test mse has not improved since epoch 1"] * 3
    again = toy_run(tmp_path / "run", resume=True)
    again.fit(9)  # the best is remembered
    assert read_log(tmp_path / "run" / "log.jsonl")[-1]["health"] == "the test mse has not improved since epoch 1"


def test_pictures_are_drawn_in_the_first_epoch_and_where_the_film_takes_one(tmp_path, monkeypatch):
    """Ten epochs and about three frames: of epochs 4, 8 and 10."""
    monkeypatch.setattr("tinygen.training.run.FRAMES", 3)
    step = Watched(Toy())
    toy_run(tmp_path / "run", step).fit(10)
    assert len(step.seen["pictures"]) == 4
    assert [p.stem for p in sorted((tmp_path / "run" / "frames").glob("*"))] == ["00004", "00008", "00010"]


def test_processor_time_is_that_of_the_updates(tmp_path, monkeypatch):
    """A clock that is moved by hand: an update takes 2, a picture 100, what is watched 1000."""
    clock = [0.0]

    class Slow(Toy):
        def __call__(self, batch):
            clock[0] += 2
            return super().__call__(batch)

        def pictures(self, batch):
            clock[0] += 100
            return super().pictures(batch)

    def watched(step):
        clock[0] += 1000
        return {}

    monkeypatch.setattr("tinygen.training.run.time", SimpleNamespace(perf_counter=time.perf_counter,
                                                                     process_time=lambda: clock[0]))  # fmt: skip
    run = toy_run(tmp_path / "run", Slow(), watch=watched)
    run.fit(2)
    run.fit(3)
    assert run.cpu_seconds == 3 * len(run.batches) * 2


def test_what_is_watched_reaches_the_health_line(tmp_path):
    class Anxious(Toy):
        def health(self, metrics):
            return f"{metrics['modes']:.0f} modes at an error of {metrics['mse']:.3f}"

    stream = io.StringIO()
    watched = lambda step: {"modes": 3.0, "modes_there": 8}
    run = toy_run(tmp_path / "run", Anxious(), watch=watched, display=Display(stream, live=False))
    run.fit(1)
    line = read_log(tmp_path / "run" / "log.jsonl")[-1]
    assert line["health"] == f"3 modes at an error of {line['train']['mse']:.3f}"
    assert line["health"] in stream.getvalue()
    assert line["samples"] == {"modes": 3.0}  # a figure is logged, what it is compared with is not
    assert "modes" not in line["train"] | line["test"]


def test_test_figures_reach_the_health_line_too(tmp_path):
    class Counted(Toy):
        def summary(self, batches):
            return {"active": 2.0, "mse": 9.0}

        def health(self, metrics):
            return f"{metrics['active']:.0f} at {metrics['mse']:.6f}"

    toy_run(tmp_path / "run", Counted()).fit(1)
    line = read_log(tmp_path / "run" / "log.jsonl")[-1]
    assert line["health"] == f"2 at {line['train']['mse']:.6f}" and "samples" not in line


def test_the_best_epoch_of_a_validation_split_is_kept(tmp_path):
    """Validation images are .5: on its way from 1 to .25 the Toy passes them."""
    validation = data.Batches(np.full((5, 1, 8, 8), 0.5, "f4"), None, 4, shuffle=False)
    run = toy_run(tmp_path / "run", Toy(lr=0.05), keep=Keep("mse", validation))
    with tg.no_grad():
        run.step.net.weight.fill_(1.0)
    weights = []

    class Noting(Display):
        def epoch(self, *given):
            weights.append(run.step.net.weight.item())

    run.display = Noting(io.StringIO(), live=False)
    run.fit(9)
    best = int(np.argmin((np.array(weights) - 0.5) ** 2))
    kept = load_checkpoint(tmp_path / "run" / "best.safetensors")
    assert 0 < best < 8 and kept["run"]["position"]["epoch"] == best + 1
    assert kept["parts"]["net"]["weight"].item() == weights[best]
    assert load_checkpoint(tmp_path / "run" / "checkpoint.safetensors")["run"]["position"]["epoch"] == 9


@pytest.mark.parametrize("values", [[3, float("nan"), 2], [float("nan"), 3, 2], [5, 3, 4, 2]])
def test_the_best_is_the_smallest_or_the_largest_that_is_a_number(values, tmp_path):
    run = toy_run(tmp_path / "run")
    for low, best in ((True, min), (False, max)):
        for epoch, value in enumerate(values):
            run.position.epoch = epoch
            since = run._improved(f"test {low}", value, low)
        assert values[since] == best(v for v in values if v == v)


def test_seconds_count_what_an_interrupted_epoch_took(tmp_path, monkeypatch):
    now = [0.0]
    monkeypatch.setattr(training.run.time, "perf_counter", lambda: now[0])

    class Slow(Toy):
        def __call__(self, batch):
            now[0] += 1.0
            return super().__call__(batch)

    run = toy_run(tmp_path / "run", Slow())  # three steps an epoch
    run.step = Pressing(run.step, 2)
    with pytest.raises(training.Interrupted):
        run.fit(1)
    now[0] += 100  # between the two
    again = toy_run(tmp_path / "run", Slow(), resume=True)
    again.fit(1)
    assert again.seconds == 3
