"""What a person sees while something takes time.

    Display()                                  a training: a live bar with images per second, time left and losses
    for part in track(parts, "samples"): ...   any other job: how long it takes, then a bar

On a terminal the bar is alive; elsewhere plain lines are printed.
"""

from __future__ import annotations

import errno
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

PROBE = 5  # steps that are timed for the first estimate, after one to warm up
QUIET = 20.0  # seconds between plain lines within an epoch


class Display:
    """Prints to a stream; `live` (default: whether the stream is a terminal) chooses between the bar and lines."""

    def __init__(self, stream: Any = None, live: bool | None = None) -> None:
        self.stream = stream or sys.stdout
        self.live = bool(getattr(self.stream, "isatty", bool)()) if live is None else live
        self.bar: Any = None
        self.last = self.probed = self.every = 0.0

    def start(self, epochs: int, epoch: int, index: int, steps: int, images: int) -> None:
        """The training goes from (epoch, index) to `epochs` epochs of `steps` steps and `images` images."""
        self.epochs, self.steps, self.per_step = epochs, steps, images / steps
        self.done = self.first = epoch * steps + index
        self.began = self.last = time.perf_counter()
        self.every = max(1, round((epochs - epoch) / 20))  # epochs between lines: about twenty lines in all
        if self.live:
            from rich.console import Console
            from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

            columns = (
                TextColumn("{task.fields[epoch]}"), BarColumn(), TextColumn("{task.percentage:>3.0f}%"),
                TextColumn("{task.fields[rate]}"), TimeRemainingColumn(compact=True),
                TextColumn("{task.fields[values]}"),
            )  # fmt: skip
            self.bar = Progress(*columns, console=Console(file=self.stream, force_terminal=True), transient=True)
            self.task = self.bar.add_task(
                "", total=epochs * steps, completed=self.done, epoch=f"epoch {epoch + 1}/{epochs}", rate="", values=""
            )
            self.bar.start()

    def step(self, epoch: int, index: int, metrics: Mapping[str, float] | None) -> None:
        """A step is done; `metrics` are its values, where they have been read."""
        self.done += 1
        now = time.perf_counter()
        count = self.done - self.first
        if count == 1:
            self.probed = now
        elif count == 1 + PROBE:
            self._estimate((now - self.probed) / PROBE)
        if self.live and now - self.last > 0.1:
            self.last = now
            rate = self.per_step * count / (now - self.began)
            values = "  ".join(f"{k} {v:.4g}" for k, v in list((metrics or {}).items())[:3])
            self.bar.update(
                self.task,
                completed=self.done,
                epoch=f"epoch {epoch + 1}/{self.epochs}",
                rate=f"{rate:,.0f} images/s",
                values=values,
            )
        elif not self.live and now - self.last > QUIET:
            self.last = now
            left = (now - self.began) / count * (self.epochs * self.steps - self.done)
            self.say(f"  epoch {epoch + 1}/{self.epochs}, batch {index}/{self.steps}, about {duration(left)} left")

    def _estimate(self, seconds: float) -> None:
        left = seconds * (self.epochs * self.steps - self.done)
        self.say(f"time: about {duration(left)} ({self.per_step / seconds:,.0f} images/s at the start)")

    def epoch(self, epoch: int, train: Mapping[str, float], test: Mapping[str, float], health: str | None) -> None:
        """An epoch is done: its mean training metrics, the test metrics, and a remark."""
        if epoch % self.every and epoch != self.epochs:
            return
        self.last = time.perf_counter()
        parts = [f"epoch {epoch:>{len(str(self.epochs))}}/{self.epochs}", f"train {values(train)}"]
        parts += [f"test {values(test)}"] if test else []
        self.say("  ".join(parts) + (f"\n  {health}" if health else ""))

    def say(self, text: str) -> None:
        """A line, above the bar if there is one."""
        try:
            if self.bar is not None:
                self.bar.console.print(text, markup=False, highlight=False)
            else:
                print(text, file=self.stream, flush=True)
        except OSError as error:
            if error.errno != errno.EIO:  # a terminal that was closed: the training is about to be saved
                raise

    def close(self) -> None:
        """Takes the bar away."""
        if self.bar is not None:
            self.bar.stop()
            self.bar = None


class Silent(Display):
    """Shows nothing."""

    def __init__(self) -> None:
        super().__init__(live=False)

    def say(self, text: str) -> None: ...


def track(parts: Sequence[Any], what: str, stream: Any = None, quiet: float = 2.0) -> Iterator[Any]:
    """The parts one by one; says how long those that are left will take, where that is above `quiet` seconds.

    A bar follows on a terminal. Nothing is said of what is done sooner.
    """
    stream = stream or sys.stdout
    began = time.perf_counter()
    bar: Any = None
    said = False
    try:
        for i, part in enumerate(parts):
            yield part
            took = time.perf_counter() - began
            if bar is not None:
                bar.update(0, completed=i + 1)
            elif not said and took / (i + 1) * (len(parts) - i - 1) > quiet:  # the first part may be the quickest
                said = True
                left = took / (i + 1) * (len(parts) - i - 1)
                print(f"{what}: about {duration(left)}", file=stream, flush=True)
                if getattr(stream, "isatty", bool)():
                    from rich.console import Console
                    from rich.progress import Progress

                    bar = Progress(console=Console(file=stream), transient=True)
                    bar.add_task(what, total=len(parts), completed=i + 1)
                    bar.start()
    finally:
        if bar is not None:
            bar.stop()


class Tracked:
    """Parts that can be iterated more than once, each time as `track` does."""

    def __init__(self, parts: Any, what: str, quiet: float = 2.0) -> None:
        self.parts, self.what, self.quiet = parts, what, quiet

    def __len__(self) -> int:
        return len(self.parts)

    def __iter__(self) -> Iterator[Any]:
        return track(self.parts, self.what, quiet=self.quiet)


def values(metrics: Mapping[str, float]) -> str:
    """Metrics on one line."""
    return "  ".join(f"{name} {value:.4g}" for name, value in metrics.items())


def duration(seconds: float) -> str:
    """Seconds in words: 0.4 s, 42 s, 3 min 20 s, 1 h 05 min."""
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    seconds = round(seconds)
    if seconds < 60:
        return f"{seconds} s"
    if seconds < 3600:
        return f"{seconds // 60} min {seconds % 60:02d} s"
    return f"{seconds // 3600} h {seconds // 60 % 60:02d} min"
