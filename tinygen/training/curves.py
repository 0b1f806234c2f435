"""The log of a run as a picture: one panel per metric, training means as a line, test values as points."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path

PANELS = 8


def read_log(path: Path) -> list[dict]:
    """The lines of a log.jsonl, oldest first."""
    with open(path, encoding="utf-8") as log:
        return [json.loads(line) for line in log]


def draw_curves(log: Path, target: Path, units: Mapping[str, str]) -> None:
    """Draws `target` (PNG) from a log; `units` names what is on the y axis of each metric."""
    if not log.exists():
        return
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    curves: dict[str, dict[str, tuple[list, list]]] = {}
    for line in read_log(log):
        for split in ("train", "test"):
            if split == "train" and "test" in line:
                continue  # the mean of the epoch, which the finer lines show already
            for name, value in line.get(split, {}).items():
                x, y = curves.setdefault(name, {}).setdefault(split, ([], []))
                x.append(line["epoch"])
                y.append(value)
    names = list(curves)[:PANELS]
    if not names:
        return
    columns = len(names) if len(names) <= 3 else 2 if len(names) == 4 else 3
    rows = math.ceil(len(names) / columns)
    figure = Figure(figsize=(4.2 * columns, 3.1 * rows), layout="constrained")
    FigureCanvasAgg(figure)
    for i, name in enumerate(names):
        axes = figure.add_subplot(rows, columns, i + 1)
        for split, (x, y) in curves[name].items():
            test = split == "test"
            marker = ("o" if len(x) <= 30 else None) if test or len(x) < 3 else None
            axes.plot(x, y, marker=marker, markersize=3.5, linewidth=1.6 if test else 1.2, label=split,
                      color="tab:orange" if test else "tab:blue")  # fmt: skip
        axes.set_title(name.replace("d_", "D ").replace("g_", "G ").replace("_", " "))
        axes.set_xlabel("epochs")
        axes.set_ylabel(units.get(name, ""))
        axes.grid(alpha=0.3)
        axes.spines[["top", "right"]].set_visible(False)
        lowest, highest = _range([y for _, y in curves[name].values()])
        if highest > lowest:
            axes.set_ylim(lowest, highest)
        axes.legend(frameon=False)
    figure.savefig(target, dpi=100)


def _range(series: list[list[float]]) -> tuple[float, float]:
    """Limits that leave out the first few per cent: a start far away would flatten all that follows."""
    values = [v for y in series for v in y[len(y) // 25 :] if math.isfinite(v)]
    if not values:
        return 0.0, 0.0
    lowest, highest = min(values), max(values)
    margin = 0.05 * (highest - lowest)
    return lowest - margin, highest + margin
