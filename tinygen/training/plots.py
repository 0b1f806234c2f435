"""What is drawn with axes: the log of a run, and points.

    curves.png      one panel a metric; training means as a line, test values and those of samples as points; an arrow
                    says which way is good
    points          scatter and density of each set, all on the same axes
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tinygen.metrics.names import NAMES

from .log import read_log
from .whole import whole

PANELS = 12
PANEL, BINS = 320, 80  # pixels of a panel of points, squares of its density
COLOURS = {"train": "tab:blue", "test": "tab:orange", "samples": "tab:green"}  # of what a line of the log holds
GOOD = {"low": " ↓", "high": " ↑", None: ""}  # behind a title: which way is good


def scatter(points: np.ndarray, labels: np.ndarray | None, names: Sequence[str], title: str = "") -> Any:
    """A Pillow image of points (N, 2), each class in its colour and named."""
    from matplotlib import colormaps

    figure, finish = _figure((6.2, 5.2))
    axes = figure.add_subplot()
    colours = colormaps["tab10" if len(names) <= 10 else "tab20"]
    for k, name in enumerate(names if labels is not None else [""]):
        chosen = points[labels == k] if labels is not None else points
        axes.scatter(*chosen.T, s=14, alpha=0.6, linewidths=0, color=colours(k % colours.N), label=name)
    if labels is not None and len(names) <= 20:
        axes.legend(frameon=False, markerscale=3, loc="center left", bbox_to_anchor=(1, 0.5))
    axes.set_title(title)
    axes.set_aspect("equal", adjustable="datalim")  # distances are the same in every direction
    axes.spines[["top", "right"]].set_visible(False)
    return finish()


def draw_repeats(values: Mapping[str, Mapping[str, Sequence[float]]], unit: str, title: str = "") -> Any:
    """A Pillow image of {series: {group: values}}: each value a dot, their mean a bar, +- one deviation a line."""
    figure, finish = _figure((6.2, 4.2))
    axes = figure.add_subplot()
    groups = list(next(iter(values.values())))
    width = 0.8 / len(values)
    for i, (series, of_group) in enumerate(values.items()):
        places = np.arange(len(groups)) + (i - (len(values) - 1) / 2) * width
        for place, group in zip(places, groups):
            axes.plot([place] * len(of_group[group]), of_group[group], "k.", markersize=4, zorder=3)
        means = [np.mean(of_group[group]) for group in groups]
        spreads = [np.std(of_group[group], ddof=1) if len(of_group[group]) > 1 else 0.0 for group in groups]
        axes.bar(places, means, 0.9 * width, yerr=spreads, capsize=4, label=series, alpha=0.7)
    lowest = min(min(v) for of_group in values.values() for v in of_group.values())
    axes.set_ylim(bottom=max(0.0, lowest - 0.1))
    axes.set_xticks(range(len(groups)), groups)
    axes.set_ylabel(unit)
    axes.set_title(title)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, loc="upper left", bbox_to_anchor=(1, 1))
    return finish()


def _figure(size: tuple[float, float], layout: Any = "constrained") -> tuple[Any, Any]:
    """(figure, a function that gives it as a Pillow image), drawn without a screen."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from PIL import Image

    figure = Figure(figsize=size, dpi=100, layout=layout)
    canvas = FigureCanvasAgg(figure)

    def finish() -> Any:
        canvas.draw()
        return Image.fromarray(np.asarray(canvas.buffer_rgba())[:, :, :3].copy())

    return figure, finish


def draw_points(sets: Sequence[np.ndarray], titles: Sequence[str] = ("real", "samples"), most: int = 2000) -> Any:
    """A Pillow image of sets of points (N, 2): a scatter of at most `most`, and below it the density of all.

    All axes are a square around the first set; how many points lie outside is said. A pixel of the density is as dark
    as its share of the points, on a root scale. Real points are orange, all others blue.
    """
    from PIL import Image

    low, high = sets[0].min(0), sets[0].max(0)
    reach = 0.65 * float((high - low).max()) or 1.0  # a margin of 15 %
    ranges = [(c - reach, c + reach) for c in (low + high) / 2]
    left, top, under, column = 50, 34, 62, PANEL + 90  # pixels
    width, height = column * len(sets), top + PANEL + under + PANEL + 16
    # Fixed places and a density without axes: a constrained layout of four axes takes three times as long.
    figure, finish = _figure((width / 100, height / 100), layout=None)
    densities = []
    for i, points in enumerate(sets):
        inside = np.all([(a <= x) & (x <= b) for x, (a, b) in zip(points.T, ranges)], axis=0)
        axes = figure.add_axes((
            (column * i + left) / width, 1 - (top + PANEL) / height, PANEL / width, PANEL / height
        ))  # fmt: skip
        shown = points[:most]
        axes.scatter(*shown.T, s=10, alpha=0.4, linewidths=0, color="tab:orange" if titles[i] == "real" else "tab:blue")
        axes.set_title(titles[i] + (f" (the first {most:,})" if len(points) > most else ""))
        axes.set_xlim(*ranges[0])
        axes.set_ylim(*ranges[1])
        axes.spines[["top", "right"]].set_visible(False)
        missing = int((~inside[:most]).sum())
        if missing:
            note = f"not shown: {missing:,} of {len(shown):,}"
            axes.text(0.98, 0.98, note, transform=axes.transAxes, ha="right", va="top", fontsize=9,
                      bbox={"facecolor": "white", "edgecolor": "none", "pad": 2})  # fmt: skip
        counted = f"{inside.sum():,} of {len(points):,}" if not inside.all() else f"{len(points):,}"
        place: dict[str, Any] = {"transform": axes.transAxes, "ha": "center", "va": "center"}
        axes.text(0.5, (14 - under) / PANEL, f"density of {counted}", **place)
        densities.append(_density(points[inside], ranges))
    image = finish()
    for i, density in enumerate(densities):
        image.paste(Image.fromarray(density), (column * i + left, top + PANEL + under))
    return image


def _density(points: np.ndarray, ranges: Sequence[tuple[float, float]]) -> np.ndarray:
    """uint8 (PANEL, PANEL), black where most points lie, with a thin frame."""
    counts, _, _ = np.histogram2d(points[:, 0], points[:, 1], bins=BINS, range=ranges)
    grey = 255 - np.rint(255 * np.sqrt(counts.T[::-1] / max(1, counts.max()))).astype(np.uint8)
    pixels = grey.repeat(PANEL // BINS, 0).repeat(PANEL // BINS, 1)
    pixels[[0, -1]] = np.minimum(pixels[[0, -1]], 160)
    pixels[:, [0, -1]] = np.minimum(pixels[:, [0, -1]], 160)
    return pixels


def draw_curves(log: Path, target: Path) -> None:
    """Draws `target` (PNG) from a log; nothing where there is none."""
    if not log.exists():
        return
    curves: dict[str, dict[str, tuple[list, list]]] = {}
    for line in read_log(log):
        for split in COLOURS:
            if split == "train" and "test" in line:
                continue  # the mean of the epoch, which the finer lines show already
            for name, value in line.get(split, {}).items():
                x, y = curves.setdefault(name, {}).setdefault(split, ([], []))
                x.append(line["epoch"])
                y.append(value)
    names = list(curves)[:PANELS]
    if not names:
        return
    from matplotlib.ticker import MaxNLocator

    columns = len(names) if len(names) <= 3 else 2 if len(names) == 4 else 3
    rows = math.ceil(len(names) / columns)
    figure, _ = _figure((4.2 * columns, 3.1 * rows))
    for i, name in enumerate(names):
        axes = figure.add_subplot(rows, columns, i + 1)
        for split, (x, y) in curves[name].items():
            test = split != "train"
            marker = ("o" if len(x) <= 30 else None) if test or len(x) < 3 else None
            axes.plot(x, y, marker=marker, markersize=3.5, linewidth=1.6 if test else 1.2, label=split,
                      color=COLOURS[split])  # fmt: skip
        known = NAMES.get(name)
        axes.set_title(f"{known.title}{GOOD[known.good]}" if known else name.replace("_", " "))
        axes.set_xlabel("epochs")
        axes.set_ylabel(known.unit if known else "", fontsize=9)
        axes.ticklabel_format(axis="y", useOffset=False)
        if max(x[-1] for x, _ in curves[name].values()) >= 2:
            axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.grid(alpha=0.3)
        axes.spines[["top", "right"]].set_visible(False)
        series = [y for _, y in curves[name].values()]
        lowest, highest = _range(series)
        if highest > lowest:
            axes.set_ylim(lowest, highest)
            cut = [v for y in series for v in y if math.isfinite(v) and not lowest <= v <= highest]
            if cut:
                note = f"not shown: {min(cut):.3g}" + (f" to {max(cut):.3g}" if len(cut) > 1 else "")
                axes.text(0.98, 0.98, note, transform=axes.transAxes, ha="right", va="top", fontsize=7, color="grey")
        axes.legend(frameon=False, loc="best")
    with whole(target) as temporary:
        figure.savefig(temporary, dpi=100, format="png")


def _range(series: list[list[float]]) -> tuple[float, float]:
    """Limits that leave out the first few per cent: a start far away would flatten all that follows."""
    values = [v for y in series for v in y[len(y) // 25 :] if math.isfinite(v)]
    if not values:
        return 0.0, 0.0
    lowest, highest = min(values), max(values)
    margin = 0.05 * (highest - lowest)
    return lowest - margin, highest + margin


def draw_powers(
    curves: Mapping[str, tuple[np.ndarray, np.ndarray]], guides: Mapping[str, tuple[np.ndarray, np.ndarray]],
    across: str, up: str, title: str = "",
) -> Any:  # fmt: skip
    """A Pillow image of curves (x, y) by name on logarithmic axes, where a power of x is a straight line.

    `guides`: curves to compare with, drawn thin and broken.
    """
    figure, finish = _figure((6.2, 4.4))
    axes = figure.add_subplot()
    for name, (x, y) in curves.items():
        axes.loglog(x, y, linewidth=1.8, label=name)
    for (name, (x, y)), style in zip(guides.items(), ("--", ":", "-."), strict=False):
        axes.loglog(x, y, linewidth=1, linestyle=style, color="grey", label=name)
    axes.set_title(title)
    axes.set_xlabel(across)
    axes.set_ylabel(up)
    axes.grid(alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False)
    return finish()
