"""log.jsonl: the metrics of a run, one JSON object a line.

    {"epoch": 0.1, "train": {...}}                            means over the last tenth of an epoch
    {"epoch": 1, "train": {...}, "test": {...}, "health": ""} an epoch: its means, the test figures, a remark, and
                                                              under "samples" what was counted on a few samples

Values are read when a line is due, since reading one waits for a GPU. A checkpoint remembers how long the log was:
after a crash it is cut there, and the resumed run writes the same lines again. A log that was lost or cut is repaired:
the whole lines of what is done stay, and what is missing is said.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import tinygen as tg
from tinygen.errors import UserError

from .whole import WriteError, check_kind, whole


class NotFinite(ArithmeticError):
    """A metric became NaN or infinite at some step."""

    def __init__(self, name: str, value: float, epoch: int, index: int) -> None:
        super().__init__(f"{name} became {value}")
        self.name, self.value, self.epoch, self.index = name, value, epoch, index


class Means:
    """Means of metrics since the last line and since the beginning of the epoch."""

    def __init__(self) -> None:
        self.window: dict[str, list[float]] = {}  # metric: [sum, count]
        self.sums: dict[str, list[float]] = {}
        self.waiting: list[tuple[int, int, Mapping[str, tg.Tensor]]] = []

    def add(self, epoch: int, index: int, metrics: Mapping[str, tg.Tensor]) -> None:
        """Keeps the metrics of the step (epoch, index), unread."""
        self.waiting.append((epoch, index, metrics))

    def read(self) -> dict[str, float]:
        """The newest metrics as numbers; all that waited are added. Raises NotFinite at the first that is not."""
        numbers: dict[str, float] = {}
        for epoch, index, metrics in self.waiting:
            numbers = {name: float(value) for name, value in metrics.items()}
            for name, value in numbers.items():
                if not math.isfinite(value):
                    raise NotFinite(name, value, epoch, index)
                for sums in (self.window, self.sums):
                    entry = sums.setdefault(name, [0.0, 0])
                    entry[0], entry[1] = entry[0] + value, entry[1] + 1
        self.waiting = []
        return numbers

    def take_window(self) -> dict[str, float]:
        """The means since the last call."""
        found, self.window = _means(self.window), {}
        return found

    def take_epoch(self) -> dict[str, float]:
        """The means since the epoch began."""
        found, self.sums = _means(self.sums), {}
        return found


def _means(sums: Mapping[str, list[float]]) -> dict[str, float]:
    return {name: total / count for name, (total, count) in sums.items()}


def write_line(path: Path, line: Mapping[str, Any]) -> None:
    """Appends one object to a log."""
    text = json.dumps(line) + "\n"
    try:
        with open(path, "a", encoding="utf-8") as log:
            log.write(text)
    except OSError as error:
        raise WriteError(path, error, len(text)) from error


class LogError(UserError, ValueError):
    """A log with a line that is damaged."""


def read_log(path: Path) -> list[dict]:
    """The lines of a log, oldest first; none where it does not exist. Raises LogError, naming the first bad line."""
    check_kind(path)
    if not path.exists():
        return []
    lines = [_parsed(line) for line in path.read_bytes().splitlines(keepends=True)]
    bad = next((number for number, line in enumerate(lines, 1) if line is None), None)
    if bad:
        remedy = f"take line {bad} out, or go on with the run: tinygen resume {path.parent}"
        raise LogError(f"{path}: line {bad} is damaged; {remedy}")
    return [line for line in lines if line is not None]


def _parsed(line: bytes) -> dict | None:
    """The object of a line of a log; None where it is not whole, or holds something else."""
    if not line.endswith(b"\n"):
        return None
    try:
        found = json.loads(line)
    except (ValueError, RecursionError):
        return None
    number = lambda value: isinstance(value, int | float) and not isinstance(value, bool)
    whole = isinstance(found, dict) and number(found.get("epoch")) and math.isfinite(found["epoch"])
    for name in ("train", "test", "samples"):
        values = found.get(name, {}) if whole else {}
        whole = whole and isinstance(values, dict) and all(map(number, values.values()))
    return found if whole else None


def sync(path: Path) -> int:
    """Flushes a log to disk, as a checkpoint is; the number of its bytes, 0 where there is none."""
    if not path.exists():
        return 0
    with open(path, "rb+") as log:
        os.fsync(log.fileno())
        return os.fstat(log.fileno()).st_size


def repair(path: Path, size: int, done: float) -> str | None:
    """Cuts a log to its first `size` bytes, those that the checkpoint knows, and takes out what is damaged in them.

    `done`: the epochs that are done, of which the last line should be. Returns what was lost, in words.
    """
    content = path.read_bytes() if path.exists() else b""
    lines = content[:size].splitlines(keepends=True)
    good = [line for line in lines if (found := _parsed(line)) is not None and found["epoch"] <= done + 1e-9]
    kept = b"".join(good)
    if kept != content or not path.exists():
        _rewrite(path, kept)
    if len(content) >= size and len(good) == len(lines):
        return None
    last = f"its whole lines up to epoch {json.loads(good[-1])['epoch']:g} stay" if good else "nothing of it is left"
    return f"{path} is damaged ({len(kept):,} of {size:,} bytes are whole): {last}"


def repair_times(path: Path, epoch: int) -> None:
    """Takes out of times.jsonl what is not whole, and the epochs that will be done again."""
    lines = path.read_bytes().splitlines(keepends=True) if path.exists() else []
    kept = [line for line in lines if (found := _parsed(line)) is not None and found["epoch"] <= epoch]
    if kept != lines:
        _rewrite(path, b"".join(kept))


def _rewrite(path: Path, content: bytes) -> None:
    with whole(path) as temporary:
        temporary.write_bytes(content)
