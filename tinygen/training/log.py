"""log.jsonl: the metrics of a run, one JSON object a line.

    {"epoch": 0.1, "train": {...}}                            means over the last tenth of an epoch
    {"epoch": 1, "train": {...}, "test": {...}, "health": ""} an epoch: its means, the test figures, a remark, and
                                                              under "samples" what was counted on a few samples

Values are read when a line is due, since reading one waits for a GPU. A checkpoint remembers how long the log was:
after a crash it is cut there, and the resumed run writes the same lines again.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import tinygen as tg


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
    with open(path, "a", encoding="utf-8") as log:
        log.write(json.dumps(line) + "\n")


def read_log(path: Path) -> list[dict]:
    """The lines of a log, oldest first; none where it does not exist."""
    if not path.exists():
        return []
    with open(path, encoding="utf-8") as log:
        return [json.loads(line) for line in log]
