"""What happens around a Step: bit-exact resume, Ctrl-C, the NaN guard, the log, pictures. A run here takes a second."""

from __future__ import annotations

import io
import json
import signal

import numpy as np
import pytest

import tinygen as tg
from tinygen import data, training
from tinygen.recipes import RECIPES, RunError, load_run, open_run, samples, start
from tinygen.recipes.recipe import read_settings
from tinygen.training.curves import read_log
from tinygen.training.display import Display, duration
from tinygen.training.pictures import enlarged, save_film, save_picture, to_pillow

TINY = {"limit": 80, "batch_size": 16, "threads": 1}
SMALL = {
    "autoencoder": {"hidden": [16], "latent": 4},
    "conv-autoencoder": {"channels": [4, 6], "latent": 4},
    "vae": {"hidden": [16], "latent": 3},
    "conv-vae": {"channels": [4, 6], "hidden": [12], "latent": 3},
    "gan": {"hidden": [12, 16], "latent": 4},
    "dcgan": {"channels": [4, 6], "latent": 4},
    "lenet": {},
}


@pytest.fixture(autouse=True)
def curves_are_drawn_once(request, monkeypatch):
    """Matplotlib would take most of the time of these tests; one of them looks at what it draws."""
    if "promised" not in request.node.name:
        monkeypatch.setattr(training.run, "draw_curves", lambda *arguments: None)


def run_of(recipe, folder, epochs=2, **options):
    return start(recipe, folder=folder, epochs=epochs, model=SMALL[recipe], **(TINY | options))


def contents(run):
    return training.load_checkpoint(run.folder / "checkpoint.safetensors")


def assert_equal(a, b, path=""):
    """Two trees of tensors and plain values, bit for bit."""
    assert type(a) is type(b), path
    if isinstance(a, dict):
        assert list(a) == list(b), path
        for key in a:
            assert_equal(a[key], b[key], f"{path}.{key}")
    elif isinstance(a, list | tuple):
        assert len(a) == len(b), path
        for i, (x, y) in enumerate(zip(a, b, strict=True)):
            assert_equal(x, y, f"{path}.{i}")
    elif isinstance(a, tg.Tensor):
        assert a.numpy().tobytes() == b.numpy().tobytes(), path
    elif not path.endswith(".seconds"):
        assert a == b, path


@pytest.mark.parametrize("recipe", RECIPES)
def test_two_epochs_resume_and_two_more_are_four(recipe, tmp_path):
    whole = run_of(recipe, tmp_path / "whole", epochs=4)
    whole.fit(4)
    # A schedule depends on the total, so the first half is told the same total and stopped half way.
    run_of(recipe, tmp_path / "halves", epochs=4).fit(2)
    tg.manual_seed(99)  # another process would not be where this one is
    second = open_run(tmp_path / "halves")
    assert (second.position.epoch, second.position.index) == (2, 0)
    second.fit(4)
    assert_equal(contents(whole), contents(second))
    assert (whole.folder / "log.jsonl").read_bytes() == (second.folder / "log.jsonl").read_bytes()
    assert [line["epoch"] for line in read_log(whole.folder / "log.jsonl") if "test" in line] == [1, 2, 3, 4]
    for name in ("samples.png", "reconstructions.png", "hardest.png", "progress.gif"):
        if (whole.folder / name).exists():
            assert (whole.folder / name).read_bytes() == (second.folder / name).read_bytes()


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
    states = [contents(r)["modules"]["vae"]["mu.weight"].numpy() for r in runs]
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


class Pressing:
    """A Step that gets Ctrl-C during one of its updates."""

    def __init__(self, step, at, times=1):
        self.step, self.at, self.times, self.calls = step, at, times, 0

    def __call__(self, batch):
        self.calls += 1
        if self.calls == self.at:
            for _ in range(self.times):
                signal.raise_signal(signal.SIGINT)
        return self.step(batch)

    def __getattr__(self, name):
        return getattr(self.step, name)


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

    update, calls = killed.step, []

    def dying(batch):
        calls.append(1)
        if len(calls) == 14:  # in the third epoch
            raise MemoryError
        return update(batch)

    dying.modules, dying.optimizers, dying.pictures = update.modules, update.optimizers, update.pictures
    dying.evaluate = update.evaluate
    killed.step = dying
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


def test_the_first_nan_is_named_with_step_and_batch(tmp_path):
    run = run_of("vae", tmp_path / "run")
    update, calls = run.step, []

    class Poisoned(Pressing):
        def __call__(self, batch):
            metrics = self.step(batch)
            calls.append(1)
            return metrics | ({"kl": tg.tensor(float("nan"))} if len(calls) == 8 else {})

    run.step = Poisoned(update, 0)
    with pytest.raises(
        training.NotFinite, match=r"kl became nan at step 8: epoch 2, batch 3 of 5, .*batches.at\(1, 2\)"
    ):
        run.fit(2)
    assert len(calls) == 8
    assert "modules" in training.load_checkpoint(tmp_path / "run" / "not-finite.safetensors")
    assert contents(run)["run"]["position"] == {"epoch": 1, "index": 0}


# ---------------------------------------------------------------------------------- the loop


class Counting:
    """A Step that learns nothing and remembers what it was given."""

    def __init__(self):
        self.modules, self.optimizers, self.seen = {"net": tg.nn.Dropout()}, {}, []

    def __call__(self, batch):
        self.seen.append(batch)
        return {"mean": batch[0].mean()}

    def pictures(self, batch):
        return {"same": batch[0]}


def test_fit_visits_every_batch_once_an_epoch_and_tells_the_callbacks():
    images = np.arange(10, dtype="f4").reshape(10, 1, 1, 1) / 10
    batches = data.Batches(images, np.arange(10), 4, seed=3)
    events = []

    class Listener(training.Callback):
        def after_step(self, step, position, metrics):
            events.append((position.epoch, position.index, round(metrics["mean"].item(), 4)))

        def after_epoch(self, step, position):
            events.append(position.epoch)

    step = Counting()
    end = training.fit(step, batches, 2, [Listener()], training.Position(0, 1))
    assert (end.epoch, end.index) == (2, 0)
    assert [e if isinstance(e, int) else e[:2] for e in events] == [(0, 2), (0, 3), 1, (1, 1), (1, 2), (1, 3), 2]
    for given, (epoch, index) in zip(step.seen, [(0, 1), (0, 2), (1, 0), (1, 1), (1, 2)], strict=True):
        x, labels = batches.at(epoch, index)
        assert np.array_equal(given[0].numpy(), x) and np.array_equal(given[1].numpy(), labels)
    assert training.fit(step, batches, 2, position=end) == end and len(step.seen) == 5


def test_a_run_of_a_step_that_has_only_what_a_step_must_have(tmp_path):
    """No evaluate, sample, units, health or schedules; the log holds means over its windows and over epochs."""
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


def test_looking_aside_leaves_no_trace():
    step = Counting()
    tg.manual_seed(4)
    tg.rand(3)
    state = tg.get_rng_state()
    drawn = []
    for _ in range(2):
        with training.aside(step, 7):
            drawn.append(tg.rand(4).tolist())
            assert not step.modules["net"].training and not tg.is_grad_enabled()
    assert drawn[0] == drawn[1]
    assert tg.get_rng_state() == state and step.modules["net"].training and tg.is_grad_enabled()
    tg.manual_seed(7)
    assert tg.rand(4).tolist() != drawn[0]  # not the numbers that a training with this seed draws


def test_a_checkpoint_of_another_step_is_refused(tmp_path):
    run = run_of("vae", tmp_path / "run")
    with pytest.raises(ValueError, match=r"modules \['vae'\], the step has \['net'\]"):
        training.restore(Counting(), training.state_of(run.step))


# ---------------------------------------------------------------------------------- runs and their folders


def test_a_run_leaves_everything_that_was_promised(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run = start("vae", epochs=3, model=SMALL["vae"], **TINY)
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
    assert config["recipe"] == "vae" and config["data"]["name"] == "digits" and config["model"]["latent"] == 3
    assert start("vae", epochs=1, model=SMALL["vae"], **TINY).folder.name == "vae-002"
    times = [json.loads(line) for line in (run.folder / "times.jsonl").read_text().splitlines()]
    assert [t["epoch"] for t in times] == [1, 2, 3] and all(t["seconds"] > 0 for t in times)


@pytest.mark.parametrize("recipe", ["vae", "dcgan"])
def test_load_run_gives_the_trained_model_back(recipe, tmp_path):
    run = run_of(recipe, tmp_path / "run")
    run.fit(2)
    state = tg.get_rng_state()
    step = tg.load_run(tmp_path / "run")
    assert tg.get_rng_state() == state
    for name, module in run.step.modules.items():
        assert not step.modules[name].training
        for (key, a), b in zip(module.state_dict().items(), step.modules[name].state_dict().values(), strict=True):
            assert np.array_equal(a.numpy(), b.numpy()), key
    a, b = samples(step, 5, seed=3), samples(run.step, 5, seed=3)
    assert np.array_equal(a.numpy(), b.numpy())
    assert not np.array_equal(a.numpy(), samples(step, 5, seed=4).numpy())


def test_sampling_in_pieces_gives_the_number_asked_for(tmp_path):
    run = run_of("vae", tmp_path / "run")
    assert samples(run.step, 1001, 0).shape == (1001, 1, 8, 8)


def test_what_is_wrong_with_a_run_is_said(tmp_path):
    run_of("vae", tmp_path / "vae-001")
    with pytest.raises(RunError, match=r"vae-010 is no run.*Did you mean .*vae-001"):
        load_run(tmp_path / "vae-010")
    with pytest.raises(RunError, match="no checkpoint"):
        load_run(tmp_path / "vae-001")
    run_of("vae", tmp_path / "vae-001").save()  # a start that came to nothing does not take the name
    with pytest.raises(RunError, match="holds a run already"):
        run_of("vae", tmp_path / "vae-001")
    with pytest.raises(RunError, match=r"no recipe.*'vea'.*Did you mean vae"):
        start("vea")
    with pytest.raises(RunError, match="latnet"):
        start("vae", folder=tmp_path / "x", model={"latnet": 3})
    assert not (tmp_path / "x").exists()
    (tmp_path / "vae-001" / "config.json").write_text("{")
    with pytest.raises(RunError, match="cannot be read"):
        load_run(tmp_path / "vae-001")


def test_data_that_changed_are_noticed(tmp_path):
    images = np.random.default_rng(0).random((40, 1, 8, 8)).astype("f4")
    np.savez(tmp_path / "mine.npz", images=images)
    start("vae", tmp_path / "mine.npz", folder=tmp_path / "run", epochs=1, model=SMALL["vae"], batch_size=16).fit(1)
    images[0] = 0
    np.savez(tmp_path / "mine.npz", images=images)
    with pytest.raises(RunError, match="changed"):
        open_run(tmp_path / "run", epochs=2)
    assert load_run(tmp_path / "run").sample(2).shape == (2, 1, 8, 8)  # the data are not needed to use the model


@pytest.mark.parametrize("recipe", ["conv-vae", "dcgan"])
def test_colour_and_odd_sizes_from_the_data(recipe, tmp_path):
    images = np.random.default_rng(0).integers(0, 256, (24, 3, 17, 21), np.uint8)
    np.savez(tmp_path / "mine.npz", images=images)
    run = start(recipe, tmp_path / "mine.npz", folder=tmp_path / "run", epochs=1, model=SMALL[recipe], batch_size=8)
    run.fit(1)
    assert run.step.sample(2).shape == (2, 3, 17, 21)


def test_lenet_needs_labels(tmp_path):
    np.savez(tmp_path / "mine.npz", images=np.zeros((24, 1, 8, 8), np.uint8))
    with pytest.raises(RunError, match="needs labels"):
        start("lenet", tmp_path / "mine.npz", folder=tmp_path / "run")


# ---------------------------------------------------------------------------------- pictures


def test_grid_is_torchvisions():
    """Rows of nrow, padding around each image, grey made colour, one image left alone."""
    x = tg.arange(1, 4).float().reshape(3, 1, 1, 1) / 4
    grid = training.make_grid(x, nrow=2, padding=1, pad_value=0.9)
    p = np.float32(0.9)
    expected = [[p, p, p, p, p], [p, 0.25, p, 0.5, p], [p, p, p, p, p], [p, 0.75, p, p, p], [p, p, p, p, p]]
    assert grid.shape == (3, 5, 5) and np.array_equal(grid.numpy(), np.float32([expected] * 3))
    assert training.make_grid(x[:1]).shape == (3, 1, 1)
    assert training.make_grid([x[0], x[1]], nrow=8).shape == (3, 5, 8)
    spread = training.make_grid(x * 8 - 3, normalize=True, padding=0)
    assert spread.numpy()[0, 0].tolist() == pytest.approx([0, 0.5, 1])
    assert training.make_grid(x, normalize=True, value_range=(0, 0.5), padding=0).numpy()[0, 0].tolist() == [0.5, 1, 1]
    each = training.make_grid(tg.cat([x, 2 * x], 3), normalize=True, scale_each=True, padding=0)
    assert each.numpy()[0, 0].tolist() == pytest.approx([0, 1] * 3)
    with pytest.raises(ValueError, match=r"got shape \(2, 5, 4, 4\)"):
        training.make_grid(tg.zeros(2, 5, 4, 4))


def test_image_files(tmp_path):
    from PIL import Image

    x = np.zeros((1, 3, 2, 2), "f4")
    x[0, :, 0, 0], x[0, 0, 1, 1] = (1.0, 0.5, -3.0), 2.0
    training.save_image(x, tmp_path / "a.png")
    assert np.asarray(Image.open(tmp_path / "a.png")).tolist() == [[[255, 128, 0], [0, 0, 0]], [[0, 0, 0], [255, 0, 0]]]
    buffer = io.BytesIO()
    training.save_image(tg.zeros(4, 1, 2, 2), buffer, format="png")
    assert to_pillow(np.ones((3, 4, 5))).mode == "L"
    digit = np.random.default_rng(0).random((1, 1, 28, 28), np.float32)
    assert np.array_equal(enlarged(digit)[0, 1], np.kron(digit[0, 0], np.ones((2, 2))))
    small = enlarged(digit[:, :, :8, :9])
    assert small.shape == (1, 3, 56, 63) and small.min() >= 0 and small.max() <= 1
    blocks = small[0, 0].reshape(8, 7, 9, 7).mean((1, 3))
    assert np.corrcoef(blocks.ravel(), digit[0, 0, :8, :9].ravel())[0, 1] > 0.9
    assert np.allclose(enlarged(np.full((2, 3, 8, 8), 0.3, "f4")), 0.3)
    assert enlarged(np.zeros((1, 1, 64, 80))).shape == (1, 3, 64, 80)
    frames = [tmp_path / f"{i}.png" for i in range(3)]
    for i, frame in enumerate(frames):
        save_picture(np.full((4, 1, 8, 8), i / 3), frame)
    save_film(frames, tmp_path / "film.gif")
    with Image.open(tmp_path / "film.gif") as film:
        assert film.n_frames == 3


# ---------------------------------------------------------------------------------- what is shown


def test_plain_lines_tell_time_epochs_and_health():
    stream = io.StringIO()
    display = Display(stream)
    assert not display.live
    display.start(epochs=2, epoch=0, index=0, steps=10, images=100)
    for epoch in range(2):
        for index in range(10):
            display.step(epoch, index + 1, {"loss": 1.0})
        display.epoch(epoch + 1, {"loss": 0.5}, {"loss": 0.25}, "all is well")
    display.close()
    lines = stream.getvalue().splitlines()
    assert lines[0].startswith("time: about ") and "images/s" in lines[0]
    assert lines[1:] == ["epoch 1/2  train loss 0.5  test loss 0.25", "  all is well"] + [
        "epoch 2/2  train loss 0.5  test loss 0.25", "  all is well"]  # fmt: skip


def test_live_bar_on_a_terminal():
    stream = io.StringIO()
    display = Display(stream, live=True)
    display.start(epochs=1, epoch=0, index=0, steps=3, images=30)
    for index in range(3):
        display.last = -1.0  # as if a while had passed
        display.step(0, index + 1, {"loss": 1.25})
    display.bar.refresh()
    display.say("a line [with brackets]")
    display.close()
    text = stream.getvalue()
    assert "epoch 1/1" in text and "images/s" in text and "loss 1.25" in text and "a line [with brackets]" in text


def test_durations_in_words():
    assert [duration(s) for s in (0.44, 42.4, 200, 3900)] == ["0.4 s", "42 s", "3 min 20 s", "1 h 05 min"]
