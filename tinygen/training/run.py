"""A run: a folder that says what was trained, how it went, and from which it goes on.

    runs/vae-001/   config.json             what to build and how to train it (written by the caller)
                    log.jsonl               metrics, one JSON object a line: means of the last steps, and of each epoch
                    times.jsonl             seconds and images per second of each epoch: apart, since they never repeat
                    checkpoint.safetensors  weights, optimizers, random numbers, position
                    samples.png ...         what the Step calls its pictures
                    progress.gif            the first of them, epoch by epoch
                    curves.png              the log, drawn

A checkpoint remembers how long the log was: after a crash the log is cut there, and the resumed run writes the same
lines again.
"""

from __future__ import annotations

import json
import math
import os
import signal
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import tinygen as tg

from .checkpoint import load_checkpoint, restore, save_checkpoint, state_of
from .curves import draw_curves
from .display import Display, Silent
from .loop import Callback, Position, Step, aside, fit, to_tensors
from .pictures import save_film, save_picture

FRAMES = 50  # at most about so many pictures in progress.gif


class Interrupted(Exception):
    """The training stopped on Ctrl-C; the run is saved."""


class NotFinite(ArithmeticError):
    """A metric became NaN or infinite."""


def new_folder(parent: Path, name: str) -> Path:
    """parent/name-001, or the first number above all that are there; made."""
    parent.mkdir(parents=True, exist_ok=True)
    taken = [p.name[len(name) + 1 :] for p in parent.glob(f"{name}-*")]
    number = 1 + max((int(t) for t in taken if t.isdigit()), default=0)
    while True:
        folder = parent / f"{name}-{number:03d}"
        try:
            folder.mkdir()
            return folder
        except FileExistsError:  # another run took it just now
            number += 1


class Run(Callback):
    """Trains a Step in a folder. `test`: batches of held-out images; `resume` goes on from the folder's checkpoint."""

    def __init__(
        self, folder: str | Path, step: Any, batches: Any, test: Any, display: Display | None = None, seed: int = 0,
        device: Any = "cpu", resume: bool = False,
    ) -> None:  # fmt: skip
        self.folder, self.step, self.batches, self.test = Path(folder), step, batches, test
        self.display, self.seed, self.device = display or Silent(), seed, device
        self.position = Position()
        self.window: dict[str, list[float]] = {}  # metric: [sum, count] since the last line of the log
        self.sums: dict[str, list[float]] = {}  # ... since the beginning of the epoch
        self.pending: list[tuple[Position, Mapping[str, tg.Tensor]]] = []
        self.images = len(batches) * getattr(batches, "batch_size", 1)  # in an epoch
        if hasattr(batches, "images"):
            self.images = min(self.images, len(batches.images))
        self.every = math.ceil(len(batches) / 10) if len(batches) >= 50 else len(batches)
        self.interrupted = False
        self.seconds = 0.0
        (self.folder / "frames").mkdir(parents=True, exist_ok=True)
        if resume:
            self._restore()
        self.rng = tg.get_rng_state()  # others may draw before the training begins, or between two calls of fit

    def fit(self, epochs: int) -> None:
        """Trains until `epochs` epochs are done. Raises Interrupted after Ctrl-C, NotFinite at the first NaN."""
        self.epochs = epochs
        tg.set_rng_state(self.rng)
        if not (self.folder / "checkpoint.safetensors").exists():
            self.save()  # so that a run that is killed in its first epoch can be resumed, too
        self.display.start(epochs, self.position.epoch, self.position.index, len(self.batches), self.images)
        previous = self._catch_interrupts()
        self.clock = time.perf_counter()
        try:
            fit(self.step, self.batches, epochs, [self], self.position, self.device)
        finally:
            self.rng = tg.get_rng_state()
            self.display.close()
            if previous is not None:
                signal.signal(signal.SIGINT, previous)
        self.finish()

    def after_step(self, step: Step, position: Position, metrics: Mapping[str, tg.Tensor]) -> None:
        self.pending.append((Position(position.epoch, position.index), metrics))
        closes = position.index % self.every == 0 or position.index == len(self.batches)
        # On a GPU reading a value waits for the device, so metrics are read when a line of the log is due.
        numbers = self._read() if closes or str(self.device) == "cpu" else None
        if closes:
            self._write({"epoch": position.epoch + position.index / len(self.batches), "train": means(self.window)})
            self.window = {}
        self.display.step(position.epoch, position.index, numbers)
        if self.interrupted:
            self._read()
            self.save()
            self.finish()
            batch = f"batch {position.index} of {len(self.batches)}"
            raise Interrupted(f"stopped in epoch {position.epoch + 1}, after {batch}")

    def after_epoch(self, step: Step, position: Position) -> None:
        train, self.sums = means(self.sums), {}
        with aside(step, self.seed):
            test = step.evaluate(self._test_batches()) if hasattr(step, "evaluate") else {}
        health = step.health(train) if hasattr(step, "health") else None
        self._write({"epoch": position.epoch, "train": train, "test": test} | ({"health": health} if health else {}))
        self._write_time(position.epoch)
        self._take_pictures()
        self.save()
        self.display.epoch(position.epoch, train, test, health)

    def save(self) -> None:
        """Writes the checkpoint: all that a resumed run needs to go on bit for bit."""
        log = self.folder / "log.jsonl"
        length = log.stat().st_size if log.exists() else 0
        state = {"position": vars(self.position), "log": length, "window": self.window, "sums": self.sums}
        state["seconds"] = self.seconds
        save_checkpoint(self.folder / "checkpoint.safetensors", state_of(self.step) | {"run": state})

    def finish(self) -> None:
        """Draws what is drawn once: the film and the curves."""
        save_film(sorted((self.folder / "frames").glob("*.png")), self.folder / "progress.gif")
        draw_curves(self.folder / "log.jsonl", self.folder / "curves.png", getattr(self.step, "units", {}))

    def _restore(self) -> None:
        state = load_checkpoint(self.folder / "checkpoint.safetensors")
        restore(self.step, state)
        run = state["run"]
        self.position = Position(**run["position"])
        self.window, self.sums, self.seconds = run["window"], run["sums"], run["seconds"]
        with open(self.folder / "log.jsonl", "ab") as log:
            log.truncate(run["log"])
        for frame in (self.folder / "frames").glob("*.png"):
            if frame.stem.isdigit() and int(frame.stem) > self.position.epoch:
                frame.unlink()

    def _read(self) -> dict[str, float]:
        """The newest metrics as numbers; all that waited are added to the sums, and looked at for NaN."""
        numbers: dict[str, float] = {}
        for position, metrics in self.pending:
            numbers = {name: float(value) for name, value in metrics.items()}
            for name, value in numbers.items():
                if not math.isfinite(value):
                    self._report(position, name, value)
                for sums in (self.window, self.sums):
                    entry = sums.setdefault(name, [0.0, 0])
                    entry[0], entry[1] = entry[0] + value, entry[1] + 1
        self.pending = []
        return numbers

    def _report(self, position: Position, name: str, value: float) -> None:
        path = self.folder / "not-finite.safetensors"
        save_checkpoint(path, state_of(self.step))
        epoch, index = position.epoch, position.index - 1
        raise NotFinite(
            f"{name} became {value} at step {epoch * len(self.batches) + index + 1}: epoch {epoch + 1}, batch "
            f"{index + 1} of {len(self.batches)}, that is batches.at({epoch}, {index}). The state after it is in "
            f"{path}; checkpoint.safetensors is from before. Try a lower learning rate."
        )

    def _test_batches(self) -> Any:
        return (to_tensors(self.test.at(0, i), self.device) for i in range(len(self.test)))

    def _take_pictures(self) -> None:
        with aside(self.step, self.seed):
            pictures = self.step.pictures(to_tensors(self.test.at(0, 0), self.device))
        frame = True
        for name, images in pictures.items():
            picture = save_picture(images, self.folder / f"{name}.png")
            epoch = self.position.epoch
            if frame and (epoch % math.ceil(self.epochs / FRAMES) == 0 or epoch == self.epochs):
                picture.save(self.folder / "frames" / f"{self.position.epoch:05d}.png")
            frame = False

    def _write(self, line: Mapping[str, Any]) -> None:
        with open(self.folder / "log.jsonl", "a", encoding="utf-8") as log:
            log.write(json.dumps(line) + "\n")

    def _write_time(self, epoch: int) -> None:
        now = time.perf_counter()
        seconds, self.clock = now - self.clock, now
        self.seconds += seconds
        line = {"epoch": epoch, "seconds": round(seconds, 4), "images_per_second": round(self.images / seconds, 1)}
        with open(self.folder / "times.jsonl", "a", encoding="utf-8") as log:
            log.write(json.dumps(line) + "\n")

    def _catch_interrupts(self) -> Any:
        """The first Ctrl-C lets the step finish and saves, the second stops at once. Returns the previous handler."""
        if threading.current_thread() is not threading.main_thread():
            return None

        def handler(number: int, frame: Any) -> None:
            if self.interrupted:
                signal.default_int_handler(number, frame)
            self.interrupted = True
            # os.write, since print and the bar, interrupted in mid-line, may refuse to be entered again
            os.write(2, b"\nstopping after this step (Ctrl-C again: at once, without saving)\n")

        return signal.signal(signal.SIGINT, handler)


def means(sums: Mapping[str, list[float]]) -> dict[str, float]:
    """The mean of each metric from its [sum, count]."""
    return {name: total / count for name, (total, count) in sums.items()}
