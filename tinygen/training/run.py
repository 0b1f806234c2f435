"""A run: a folder that says what was trained, how it went, and from which it goes on.

    runs/vae-001/   config.json             what to build and how to train it (written by the caller)
                    log.jsonl               metrics, one JSON object a line (log.py)
                    times.jsonl             seconds and examples per second of each epoch: apart, they never repeat
                    checkpoint.safetensors  parts of the Step, random numbers, position; the one before it is in
                                            checkpoint.previous.safetensors
                    best.safetensors        the best of them on a validation split, where that was asked for
                    samples.png ...         what the Step calls its pictures
                    progress.gif            the first of them, epoch by epoch
                    curves.png              the log, drawn
"""

from __future__ import annotations

import math
import shlex
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

import tinygen as tg
from tinygen.errors import UserError
from tinygen.free_memory import TooLarge
from tinygen.metrics.names import NAMES

from .checkpoint import BEST, CHECKPOINT, PREVIOUS, has_checkpoint, load_newest, restore, save_checkpoint, state_of
from .evaluate import Tensors, aside, evaluate
from .interrupts import Interrupted, Interrupts
from .lock import Lock, LockedError
from .log import Means, NotFinite, read_log, repair, repair_times, sync, write_line
from .loop import Callback, Position, fit
from .pictures import is_whole, save_film, save_picture, save_pillow
from .plots import draw_curves
from .progress import Display, Silent
from .replay import first_bad_op
from .whole import WriteError, check_kind, take_strays

FRAMES = 50  # at most about so many pictures in progress.gif


class Diverged(UserError, ArithmeticError):
    """A metric became NaN or infinite; the message names step, batch and op."""


class Keep(NamedTuple):
    """Which epoch is kept besides the last: the best `metric` on `batches`, a validation split."""

    metric: str
    batches: Any


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


def check_kinds(folder: Path) -> None:
    """Raises KindError, naming it, where what a run reads and writes in its folder is of another kind."""
    for name in ("config.json", "log.jsonl", "times.jsonl", CHECKPOINT, PREVIOUS, BEST, "progress.gif", "curves.png"):
        check_kind(folder / name)
    check_kind(folder / "frames", folder=True)
    for frame in (folder / "frames").glob("*.png"):
        check_kind(frame)


def _is_stale(picture: Path, shown: Path) -> bool:
    """Whether a picture is missing, torn, or older than the file that it shows."""
    return not is_whole(picture) or picture.stat().st_mtime_ns < shown.stat().st_mtime_ns


def _stamp(path: Path) -> tuple:
    """What tells whether a file has been written again."""
    status = path.stat() if path.exists() else None
    return path.name, status and (status.st_ino, status.st_size, status.st_mtime_ns)


class Run(Callback):
    """Trains a Step in a folder.

    `test`: held-out batches, for figures and pictures; `resume` goes on from the folder's checkpoint; `watch(step)`
    gives further figures for the Step's `health`; `keep` names the best epoch.
    """

    def __init__(
        self, folder: str | Path, step: Any, batches: Any, test: Any, display: Display | None = None, seed: int = 0,
        device: Any = "cpu", resume: bool = False, watch: Callable[[Any], Mapping[str, float]] | None = None,
        keep: Keep | None = None,
    ) -> None:  # fmt: skip
        self.folder, self.step, self.batches = Path(folder), step, batches
        self.test = Tensors(test, device)
        self.display, self.seed, self.device = display or Silent(), seed, device
        self.watch, self.keep = watch, keep
        self.position, self.means, self.interrupts = Position(), Means(), Interrupts()
        self.best: dict[str, list] = {}  # metric: [its best value, the epoch of it]
        self.images = min(len(batches) * batches.batch_size, batches.count)
        self.every = math.ceil(len(batches) / 10) if len(batches) >= 50 else len(batches)
        self.seconds = 0.0
        self.cpu_seconds = 0.0  # of processor time in this process's updates: test figures and pictures not counted
        check_kinds(self.folder)
        (self.folder / "frames").mkdir(parents=True, exist_ok=True)
        self.intact = True  # whether the last checkpoint may take the place of the one before
        self.logged: int | None = None  # bytes of the log that the checkpoint knows, until it is cut to them
        self.opened: tuple | None = None  # the checkpoint that was read, until the training begins
        if resume:
            self._restore()
        self.rng = tg.get_rng_state()  # others may draw before the training begins, or between two calls of fit

    def fit(self, epochs: int) -> None:
        """Trains until `epochs` epochs are done. Raises Interrupted after Ctrl-C, Diverged at the first NaN.

        Raises LockedError where another process trains in the folder, WriteError on a full disk, TooLarge (a
        MemoryError) without memory: each says how to go on.
        """
        self.epochs = epochs
        resume = f"go on with: tinygen resume {shlex.quote(str(self.folder))}"
        try:
            with Lock(self.folder):
                self._fit(epochs)
        except WriteError as error:
            error.remedy = f"; {error.advice}, and {resume}"
            raise
        except MemoryError as error:
            if isinstance(error, UserError):
                raise
            at = f"epoch {self.position.epoch + 1}, batch {self.position.index + 1}"
            reason = f"there is not enough memory in {at}: {error or 'no more can be had'}"
            raise TooLarge(f"{self.folder}: {reason}; make room, and {resume}") from error

    def _fit(self, epochs: int) -> None:
        tg.set_rng_state(self.rng)
        self._begin()
        if not has_checkpoint(self.folder):
            self.save()  # so that a run that is killed in its first epoch can be resumed, too
        self.display.start(epochs, self.position.epoch, self.position.index, len(self.batches), self.images)
        self.clock, self.cpu_clock = time.perf_counter(), time.process_time()
        try:
            with self.interrupts, np.errstate(all="ignore"):  # what is not finite is reported, and only once
                fit(self.step, self.batches, epochs, [self], self.position, self.device)
        except NotFinite as error:
            raise self._diverged(error) from error
        finally:
            self.rng = tg.get_rng_state()
            with suppress(OSError):  # the terminal may be gone
                self.display.close()
        self.finish()

    def after_step(self, step: Any, position: Position, metrics: Mapping[str, tg.Tensor]) -> None:
        self.means.add(position.epoch, position.index - 1, metrics)
        closes = position.index % self.every == 0 or position.index == len(self.batches)
        # On a GPU reading a value waits for the device, so metrics are read when a line of the log is due.
        numbers = self.means.read() if closes or str(self.device) == "cpu" else None
        if closes:
            done = position.epoch + position.index / len(self.batches)
            self._write({"epoch": done, "train": self.means.take_window()})
        if self.interrupts.wanted:  # before anything is shown: the terminal may be gone
            self.means.read()
            self._time()
            self.save()
            self.finish()
            batch = f"batch {position.index} of {len(self.batches)}"
            raise Interrupted(f"stopped in epoch {position.epoch + 1}, after {batch}", self.interrupts.code)
        self.display.step(position.epoch, position.index, numbers)

    def after_epoch(self, step: Any, position: Position) -> None:
        self.cpu_seconds += time.process_time() - self.cpu_clock
        train = self.means.take_epoch()
        with aside(step, self.seed):
            test = evaluate(step, self.test)
            seen = self.watch(step) if self.watch else {}
        health = self._health(train, test, seen)
        figures = {name: value for name, value in seen.items() if name in NAMES}  # and not what they are compared with
        line = {"epoch": position.epoch, "train": train, "test": test}
        self._write(line | ({"samples": figures} if figures else {}) | ({"health": health} if health else {}))
        self._write_time(position.epoch)
        self._take_pictures()
        if self.keep:
            self._keep_best(self.keep)
        self.save()  # it knows the best so far
        self.display.epoch(position.epoch, train, test, health)
        self.cpu_clock = time.process_time()

    def save(self) -> None:
        """Writes the checkpoint: all that a resumed run needs to go on bit for bit. The one before is kept."""
        self._repair()
        self.opened = None
        save_checkpoint(self.folder / CHECKPOINT, self._state(), self.folder / PREVIOUS if self.intact else None)
        self.intact = True

    def finish(self) -> None:
        """Draws what is drawn once: the film and the curves."""
        save_film(sorted((self.folder / "frames").glob("*.png")), self.folder / "progress.gif")
        draw_curves(self.folder / "log.jsonl", self.folder / "curves.png")

    def complete(self, epochs: int) -> list[Path]:
        """Draws what a run with all its `epochs` lacks since it was killed after its last checkpoint; what was drawn.

        Missing, torn or older than what they show: pictures, film, curves. Test figures that the log lost are measured.
        """
        self.epochs = epochs
        with Lock(self.folder):
            return self._complete(epochs)

    def _complete(self, epochs: int) -> list[Path]:
        self._begin()
        self._measure_again()
        drawn: list[Path] = []
        film, curves, log = (self.folder / name for name in ("progress.gif", "curves.png", "log.jsonl"))
        pictures = [path for path in self.folder.glob("*.png") if path != curves and path.is_file()]
        if not (is_whole(self.folder / "frames" / f"{epochs:05d}.png") and all(map(is_whole, pictures)) and pictures):
            drawn += self._take_pictures()
        frames = sorted((self.folder / "frames").glob("*.png"))
        if frames and _is_stale(film, frames[-1]):
            save_film(frames, film)
            drawn.append(film)
        if log.exists() and _is_stale(curves, log):
            draw_curves(log, curves)
            drawn.append(curves)
        return drawn

    def _measure_again(self) -> None:
        lines = read_log(self.folder / "log.jsonl")
        if not any("test" in line and line["epoch"] == self.position.epoch for line in lines):
            with aside(self.step, self.seed):
                test = evaluate(self.step, self.test)
            self._write({"epoch": self.position.epoch, "train": {}, "test": test})
            self.save()  # it counts the bytes of the log

    @property
    def kept(self) -> tuple[float, int] | None:
        """(the best value of `keep`'s metric on its validation split, the epoch of it); None where none is kept."""
        best = self.keep and self.best.get(f"validation {self.keep.metric}")
        return (best[0], best[1]) if best else None

    def _state(self) -> dict[str, Any]:
        state: dict[str, Any] = {"position": vars(self.position), "log": sync(self.folder / "log.jsonl")}
        state |= {"window": self.means.window, "sums": self.means.sums, "best": self.best, "seconds": self.seconds}
        return state_of(self.step) | {"run": state}

    def _restore(self) -> None:
        state, name = load_newest(self.folder, self.display.say)
        self.intact = name == CHECKPOINT
        self.opened = _stamp(self.folder / name)
        restore(self.step, state)
        run = state["run"]
        self.position = Position(**run["position"])
        self.means.window, self.means.sums = run["window"], run["sums"]
        self.best, self.seconds = run["best"], run["seconds"]
        if self.position.index > len(self.batches):
            raise ValueError(f"batch {self.position.index} of an epoch of {len(self.batches)}: other data, or damage")
        self.logged = run["log"]

    def _begin(self) -> None:
        """What is done once the folder is this process's."""
        if self.opened is not None and self.opened != _stamp(self.folder / self.opened[0]):
            raise LockedError(f"{self.folder} has gone on since it was opened: another process has trained in it; "
                              "open it again")  # fmt: skip
        self.opened = None
        check_kinds(self.folder)
        self._repair()
        take_strays(self.folder)

    def _repair(self) -> None:
        """Makes log and frames those of the checkpoint: once, before a resumed run changes its folder."""
        if self.logged is None:
            return
        done = self.position.epoch + self.position.index / len(self.batches)
        lost = repair(self.folder / "log.jsonl", self.logged, done)
        if lost:
            self.display.say(f"note: {lost}")
        repair_times(self.folder / "times.jsonl", self.position.epoch)
        for frame in (self.folder / "frames").glob("*.png"):
            if frame.stem.isdigit() and int(frame.stem) > self.position.epoch:
                frame.unlink()
            elif not is_whole(frame):
                self.display.say(f"note: {frame} is damaged; the film goes without it")
                frame.unlink()
        self.logged = None

    def _health(self, train: Mapping[str, float], test: Mapping[str, float], seen: Mapping[str, float]) -> str | None:
        """The Step's remark, and one on a test figure that no longer improves."""
        remarks = [self.step.health({**test, **train, **seen})]
        name = next((n for n in test if n in NAMES and NAMES[n].good), None)
        if name:
            since = self._improved(f"test {name}", test[name], NAMES[name].good == "low")
            if self.position.epoch - since >= max(5, self.epochs // 10):
                remarks.append(f"the test {name} has not improved since epoch {since}")
        return "; ".join(r for r in remarks if r) or None

    def _improved(self, name: str, value: float, low: bool) -> int:
        """The epoch in which the figure was best; the present one is taken in."""
        best = self.best.get(name)
        if best is None or math.isnan(best[0]) or (value < best[0] if low else value > best[0]):
            self.best[name] = [value, self.position.epoch]
        return self.best[name][1]

    def _keep_best(self, keep: Keep) -> None:
        with aside(self.step, self.seed):
            found = evaluate(self.step, Tensors(keep.batches, self.device))
        if keep.metric not in found:
            known = ", ".join(found) or "nothing"
            raise UserError(f"{keep.metric!r} cannot choose the best epoch: this model measures {known}")
        low = keep.metric not in NAMES or NAMES[keep.metric].good != "high"
        if self._improved(f"validation {keep.metric}", found[keep.metric], low) == self.position.epoch:
            save_checkpoint(self.folder / BEST, self._state())

    def _diverged(self, error: NotFinite) -> Diverged:
        path = self.folder / "not-finite.safetensors"
        save_checkpoint(path, state_of(self.step))
        epoch, index, steps = error.epoch, error.index, len(self.batches)
        self.display.say("a metric is not finite: the epoch is replayed to find the op")
        op = first_bad_op(self.step, self.batches, load_newest(self.folder)[0], epoch, index, self.device)
        return Diverged(
            f"{error.name} became {error.value} at step {epoch * steps + index + 1}: epoch {epoch + 1}, batch "
            f"{index + 1} of {steps}, that is batches.at({epoch}, {index}). {op}The state after it is in {path}; "
            f"{CHECKPOINT} is from before. Try a lower learning rate."
        )

    def _take_pictures(self) -> list[Path]:
        """Draws the Step's pictures, if it is time for them; which files."""
        epoch = self.position.epoch
        frame = epoch % math.ceil(self.epochs / FRAMES) == 0 or epoch == self.epochs
        if not frame and epoch > 1:  # the first one is there to see that something happens
            return []
        with aside(self.step, self.seed):
            pictures = self.step.pictures(next(iter(self.test)))
        for name, content in pictures.items():
            picture = save_picture(content, self.folder / f"{name}.png")
            if frame:
                save_pillow(picture, self.folder / "frames" / f"{epoch:05d}.png")
            frame = False
        return [self.folder / f"{name}.png" for name in pictures]

    def _write(self, line: Mapping[str, Any]) -> None:
        write_line(self.folder / "log.jsonl", line)

    def _write_time(self, epoch: int) -> None:
        seconds = self._time()
        line = {"epoch": epoch, "seconds": round(seconds, 4), "images_per_second": round(self.images / seconds, 1)}
        write_line(self.folder / "times.jsonl", line)

    def _time(self) -> float:
        """Seconds since the last call, taken into the run's total."""
        now = time.perf_counter()
        seconds, self.clock = now - self.clock, now
        self.seconds += seconds
        return seconds
