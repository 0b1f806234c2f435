"""python -m benchmarks.report: tables and pictures of the results that were saved with --save.

    python -m benchmarks.report                      prints the tables, writes benchmarks/results/<machine>/README.md
    python -m benchmarks.report --write README.md    and puts two short tables between the marker lines of a file

Either writes benchmarks/results/recipes.md: what every recipe reaches (tinygen/recipes/expected.json). The short tables
are the training steps beside PyTorch, and what recipes reach that are no variant of another.
Every table says which machine, versions and commit it is from, and which command remakes it. `roofline.png` shows what
each kernel reaches of what the machine allows, `conv.png` and `step.png` torch's time over tinygen's, cell by cell,
`tour.png` the steps of the tour. Of several machines the newest is shown, the others are linked.
"""

from __future__ import annotations

import argparse
import math
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from . import machine
from . import records as rec
from .cases import PASSES
from .scaling import LINEAR
from .tour import heading, staircase, tables

MARKS = {part: (f"<!-- {part}: begin -->", f"<!-- {part}: end -->") for part in ("recipes", "benchmarks")}
COLORS = {"forward": "#2f6fb0", "input_grad": "#d1762b", "weight_grad": "#3a8a54", "step": "#2f6fb0"}
MEMORY = "peak memory / PyTorch's least"  # the heading of a share
INK, PALE = "#333333", "#b9c4cf"


def main(argv: list[str] | None = None) -> str:
    """Reads, draws, prints and writes; the markdown."""
    p = argparse.ArgumentParser(
        prog="python -m benchmarks.report", description="Tables and pictures of saved benchmark results."
    )
    p.add_argument("--machine", help="folder of benchmarks/results (default: the one with the newest results)")
    p.add_argument("--results", default=str(machine.RESULTS), help="where the folders are (default: %(default)s)")
    p.add_argument("--write", metavar="FILE", help="replace what is between the marker lines of this file")
    options = p.parse_args(argv)
    folder, others = choose_folder(Path(options.results), options.machine)
    order = lambda path: (list(TABLES).index(path.stem.split("-")[0]), path.stem)
    found = {path.stem: rec.load(path) for path in sorted(result_files(folder), key=order)}
    pictures = draw(found, folder)
    target = Path(options.write) if options.write else None
    text = markdown(found, pictures, folder.resolve(), others)
    made = "Each row: `tinygen reproduce NAME --data DATA --save`; machine and commit: `tinygen/recipes/expected.json`."
    (folder.parent / "recipes.md").write_text(f"# What the recipes reach\n\n{made}\n\n{recipes_table()}\n")
    (folder / "README.md").write_text(f"# Measured here\n\n{text}\n\n{details(found)}")
    print(text)
    if target:
        write_between(target, "recipes", recipes_table(variants=False))
        write_between(target, "benchmarks", short(found, folder, target.resolve().parent))
    return text


def recipes_table(variants: bool = True) -> str:
    """What every recipe reaches; without `variants`, those that others are like."""
    from tinygen.recipes.listing import table

    return table(variants)


def short(found: dict[str, list[rec.Record]], folder: Path, beside: Path) -> str:
    """The training steps, a row each, and where the rest stands."""
    link = Path(os.path.relpath((folder / "README.md").resolve(), beside)).as_posix()
    rest = f"[All results]({link}): convolutions cell by cell, single operations, growth, the tour."
    if not found.get("step"):
        return rest
    rows = [["training step", "images/s", "PyTorch as it comes / tinygen", "PyTorch's best / tinygen", MEMORY]]
    means: list[tuple[float, float]] = []
    for (case, _, threads), cell in rec.cells(found["step"]).items():
        one, default, best = next(iter(cell.values())), cell.get("nchw-default"), rec.best(cell)
        theirs = min((r["torch_peak_rss_mb"] for r in cell.values() if r["torch_ms"] is not None), default=None)
        share = f"{100 * one['tinygen_peak_rss_mb'] / theirs:.0f} %" if theirs else "-"
        ratios = [rec.number(default["ratio"] if default else None), rec.number(best)]
        rows.append([f"{case}, {threads} threads", f"{one['images_per_second']:.0f}", *ratios, share])
        if default and best:
            means.append((default["ratio"], best))
    columns = [rec.number(rec.geometric_mean(column)) for column in zip(*means)] or ["-", "-"]
    rows.append(["geometric mean", "", *columns, ""])
    return f"{provenance(found['step'])}\n\n{rows_to_markdown(rows)}\n\n{rest}"


def choose_folder(results: Path, name: str | None) -> tuple[Path, list[Path]]:
    """The results of the machine of that name, or the newest; and of the others. Ends the program where it has none."""
    folders = [path for path in sorted(results.glob("*")) if path.is_dir() and result_files(path)]
    if not folders:
        sys.exit(f"benchmarks: there are no results in {results}; make some with python -m benchmarks.conv --save")
    named = {path.name: path for path in folders}
    if name and name not in named:
        sys.exit(f"benchmarks: no results of machine {name!r}; there are {', '.join(named)}")
    newest = lambda folder: max(r.get("time", "") for path in result_files(folder) for r in rec.load(path))
    chosen = named[name] if name else max(folders, key=newest)
    return chosen, [path for path in folders if path != chosen]


def result_files(folder: Path) -> list[Path]:
    """conv.json, conv-avx2.json, step.json ...: what --save writes."""
    return [path for path in folder.glob("*.json") if path.stem.split("-")[0] in TABLES]


def write_between(path: Path, part: str, text: str) -> None:
    """Replaces what is between the two marker lines of a part of a file."""
    begin, end = MARKS[part]
    old = path.read_text() if path.is_file() else ""
    if begin not in old or end not in old.split(begin, 1)[1]:
        sys.exit(f"benchmarks: {path} lacks the lines {begin} and {end}; add them where the tables should stand")
    before, rest = old.split(begin, 1)
    path.write_text(f"{before}{begin}\n{text}\n{end}{rest.split(end, 1)[1]}")
    print(f"written: {path}", file=sys.stderr)


# ---------------------------------------------------------------------------------- tables


def rows_to_markdown(rows: list[list[str]]) -> str:
    """A table; the first column left, the others right."""
    head, *body = ["| " + " | ".join(row) + " |" for row in rows]
    return "\n".join([head, "|---" + "|--:" * (len(rows[0]) - 1) + "|", *body])


def provenance(records: list[rec.Record]) -> str:
    """Machine, versions, commit and command, in one line."""
    one = records[-1]
    about, versions = one["machine"], one["versions"]
    warning = (
        " **Another program ran during some of these measurements.**" if any(r["disturbed"] for r in records) else ""
    )
    warning += " **Made with --quick: these times mean nothing.**" if any(r.get("quick") for r in records) else ""
    counts = list(dict.fromkeys(r["threads"] for r in records))
    threads = " and ".join(map(str, counts)) + (" thread" if counts == [1] else " threads")
    return (
        f"{about['processor']}, {about['cores']} cores, {about['memory_gib']} GiB, {one['isa']}, {threads}; "
        f"tinygen {versions['tinygen']} "
        f"(commit {one['commit']}), PyTorch {versions['torch']}, NumPy {versions['numpy']}, {one['time'][:10]}. "
        f"`{one['command'] or 'python -m benchmarks.' + one['benchmark']}`.{warning}"
    )


def about_peak(records: list[rec.Record], table: str) -> str:
    """What a share above 100 means, for a table that has such a column; "" for others."""
    above = any((r["percent_of_peak"] or 0) > 100 for r in records)
    return f" % of peak: {rec.NOMINAL}." if above and "% of peak" in table else ""


def conv_summary(records: list[rec.Record]) -> str:
    """Geometric means of torch's time over tinygen's by group, with % of the FMA peak."""
    rows = [
        [
            "torch's time / tinygen's",
            "cells",
            *(name for name, _ in rec.rivals_of(records)),
            "smallest vs best",
            "% of peak",
            "least",
        ]
    ]
    for threads in dict.fromkeys(r["threads"] for r in records):
        every = rec.cells(r for r in records if r["threads"] == threads)
        for name, keys in rec.groups_of(every):
            means = [
                rec.number(rec.geometric_mean(v for k in keys if (v := ratio(every[k])) is not None))
                for _, ratio in rec.rivals_of(records)
            ]
            lowest = min((v for k in keys if (v := rec.best(every[k])) is not None), default=None)
            peaks = [v for k in keys if (v := next(iter(every[k].values()))["percent_of_peak"]) is not None]
            shares = [f"{sum(peaks) / len(peaks):.0f}", f"{min(peaks):.0f}"] if peaks else ["-", "-"]
            rows.append(
                [f"{name}, {threads} thread{'s' * (threads > 1)}", str(len(keys)), *means, rec.number(lowest), *shares]
            )
    return rows_to_markdown(rows)


def step_table(records: list[rec.Record]) -> str:
    """Milliseconds, images per second, ratios and memory of each training step."""
    rows = [
        [
            "training step",
            "threads",
            "tinygen ms",
            "images/s",
            "torch default ms",
            "torch best ms",
            "vs default",
            "vs best",
            "tinygen MB",
            "torch MB",
        ]
    ]
    for (case, _, threads), cell in rec.cells(records).items():
        one, default = next(iter(cell.values())), cell.get("nchw-default")
        rivals = [r for r in cell.values() if r["torch_ms"] is not None]
        fastest = min(rivals, key=lambda r: r["torch_ms"], default=None)
        rows.append(
            [
                case,
                str(threads),
                rec.number(one["tinygen_ms"]),
                f"{one['images_per_second']:.0f}",
                rec.number(default["torch_ms"] if default else None),
                f"{rec.number(fastest['torch_ms'])} ({fastest['torch_variant']})" if fastest else "-",
                rec.number(default["ratio"] if default else None),
                rec.number(rec.best(cell)),
                rec.number(one["tinygen_peak_rss_mb"]),
                rec.number(min((r["torch_peak_rss_mb"] for r in rivals), default=None)),
            ]
        )
    for threads in dict.fromkeys(r["threads"] for r in records):
        every = [cell for (_, _, t), cell in rec.cells(records).items() if t == threads]
        defaults = [cell["nchw-default"]["ratio"] for cell in every if "nchw-default" in cell]
        bests = [v for cell in every if (v := rec.best(cell)) is not None]
        if bests:
            means = [rec.number(rec.geometric_mean(defaults)), rec.number(rec.geometric_mean(bests))]
            rows.append(["geometric mean", str(threads), "", "", "", "", *means, "", ""])
    return rows_to_markdown(rows)


def tour_table(records: list[rec.Record]) -> str:
    """The staircase of each layer, one below the other."""
    head, *_ = staircase(records[:1])
    rows = [["step of the tour (csrc/cpu/tour)", *head[1:-1]]]
    for mine in tables(records):
        rows.append([f"**{heading(mine[0])}**", *[""] * (len(head) - 2)])
        rows += [row[:-1] for row in staircase(mine)[1:]]
    return rows_to_markdown(rows)


def overhead_table(records: list[rec.Record]) -> str:
    """Microseconds per op, tinygen / torch."""
    every = rec.cells(r for r in records if r["threads"] == records[-1]["threads"])
    passes = list(dict.fromkeys(k[1] for k in every))
    rows = [["us per op, tinygen / torch", *passes]]
    for case in dict.fromkeys(k[0] for k in every):
        row = [case]
        for what in passes:
            one = next((next(iter(cell.values())) for (c, w, _), cell in every.items() if (c, w) == (case, what)), None)
            row.append(
                " / ".join(rec.number(1e3 * v) if v else "-" for v in (one["tinygen_ms"], one["torch_ms"]))
                if one
                else "-"
            )
        rows.append(row)
    return rows_to_markdown(rows)


def scaling_table(records: list[rec.Record]) -> str:
    """Growth per doubling of the work, the mean and the largest of each series."""
    rows = [[f"growth per doubling (1.00: linear; aim: at most {LINEAR})", "threads", "mean", "largest"]]
    ones = [next(iter(cell.values())) for cell in rec.cells(records).values()]
    for key in dict.fromkeys((r["series"], r["pass"], r["threads"]) for r in ones):
        values = [r["growth"] for r in ones if (r["series"], r["pass"], r["threads"]) == key and r["growth"]]
        if values:
            rows.append([f"{key[0]} {key[1]}", str(key[2]), f"{rec.geometric_mean(values):.2f}", f"{max(values):.2f}"])
    return rows_to_markdown(rows)


TABLES: dict[str, tuple[str, Callable[[list[rec.Record]], str]]] = {
    "conv": ("Convolutions", conv_summary),
    "step": ("Training steps", step_table),
    "tour": ("The tour", tour_table),
    "overhead": ("Overhead", overhead_table),
    "scaling": ("Growth", scaling_table),
}


def markdown(
    found: dict[str, list[rec.Record]], pictures: list[Path], beside: Path, others: Sequence[Path] = ()
) -> str:
    """All tables, each with its provenance, the pictures, and other machines' results, linked relative to `beside`."""
    link = lambda path: Path(os.path.relpath(path.resolve(), beside)).as_posix()
    parts = [
        "Above 1, tinygen is faster. A variant of torch is its memory layout and malloc: `default` as users run it, "
        "`tuned` "
        'without page faults; "best" is the fastest of all variants in each cell.'
    ]
    for name, records in found.items():
        title, table = TABLES[records[0]["benchmark"]]
        suffix = name.partition("-")[2]
        text = table(records)
        head = f"**{title}{f' ({suffix})' if suffix else ''}.** {provenance(records)}{about_peak(records, text)}"
        parts += [head, text]
    for path in pictures:
        parts.append(f"![{path.stem}]({link(path)})")
    if others:
        parts.append("Other machines: " + ", ".join(f"[{path.name}]({link(path / 'README.md')})" for path in others))
    return "\n\n".join(parts)


def details(found: dict[str, list[rec.Record]]) -> str:
    """Every cell, for the README beside the results."""
    parts = ["# Every cell", "Written by `python -m benchmarks.report` from the JSON files beside it."]
    for name, records in found.items():
        parts += [f"## {name}", provenance(records)]
        if records[0]["benchmark"] == "tour":
            for mine in tables(records):
                text = rec.columns(staircase(mine))
                parts += [f"{heading(mine[0])}:{about_peak(mine, text)}", f"```\n{text}\n```"]
            continue
        for threads in dict.fromkeys(r["threads"] for r in records):
            mine = [r for r in records if r["threads"] == threads]
            unit = "us" if records[0]["benchmark"] == "overhead" else "ms"
            parts += [
                f"{threads} thread{'s' * (threads > 1)}:",
                f"```\n{rec.table(mine, unit)}\n\n{rec.summary(mine)}\n```",
            ]
    return "\n\n".join(parts) + "\n"


# ---------------------------------------------------------------------------------- pictures


def draw(found: dict[str, list[rec.Record]], folder: Path) -> list[Path]:
    """Draws what `found` has records for: roofline.png, conv.png, step.png, tour.png; their paths."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    made = []
    for picture, name, make in (
        ("roofline", "conv", roofline),
        ("conv", "conv", bars),
        ("step", "step", bars),
        ("tour", "tour", stairs),
    ):
        if found.get(name):
            figure = make(found[name], plt)
            made.append(folder / f"{picture}.png")
            figure.savefig(made[-1], dpi=130, bbox_inches="tight", metadata={"Software": ""})
            plt.close(figure)
    return made


def _caption(figure: Any, records: list[rec.Record], more: str = "") -> None:
    one = records[-1]
    about, versions = one["machine"], one["versions"]
    text = f"{about['processor']}, {one['isa']}, tinygen {one['commit']}, PyTorch {versions['torch']}"
    figure.text(0.01, -0.01, "\n".join(filter(None, [text, more])), fontsize=7, color="#777777", va="top")


def roofline(records: list[rec.Record], plt: Any) -> Any:
    """GFLOP/s over operations per byte moved, a panel for each number of threads; hollow marks are the best torch."""
    from matplotlib.ticker import LogLocator, NullLocator

    every = list(dict.fromkeys(r["threads"] for r in records))
    figure, axes = plt.subplots(
        1, len(every), figsize=(5.6 * len(every), 4.4), squeeze=False, sharey=True, layout="constrained"
    )
    for threads, ax in zip(every, axes[0]):
        mine = [r for r in records if r["threads"] == threads and r["intensity"]]
        peak = max((r["peak_gflops"] for r in mine if r["peak_gflops"]), default=None)
        rate = next((r["bandwidth_gbs"] for r in mine if r["bandwidth_gbs"]), None)
        ends = [min(r["intensity"] for r in mine) / 2, max(r["intensity"] for r in mine) * 2]
        if peak and rate:
            knee = min(max(peak / rate, ends[0]), ends[1])
            x = sorted({*ends, knee})
            ax.plot(x, [min(peak, rate * v) for v in x], color=INK, lw=1.2)
            told = {"textcoords": "offset points", "fontsize": 8, "ha": "left", "va": "bottom"}
            ax.annotate(f"FMA peak {peak:.0f} GFLOP/s", (knee, peak), (0, 3), **told)
            if ends[0] < knee:
                angle = {"rotation": 45, "rotation_mode": "anchor", "transform_rotates_text": True}
                ax.annotate(f"triad {rate:.0f} GB/s", (ends[0], rate * ends[0]), (0, 3), **told, **angle)
        for what in PASSES:
            cells = [cell for (_, w, _), cell in rec.cells(mine).items() if w == what]
            ones = [next(iter(cell.values())) for cell in cells]
            theirs = [
                (o, min(r["torch_ms"] for r in cell.values()))
                for o, cell in zip(ones, cells)
                if o["torch_ms"] is not None
            ]
            for o, ms in theirs:  # the two of a cell stand above each other
                ax.plot([o["intensity"]] * 2, [o["mflop"] / ms, o["gflops"]], color=COLORS[what], lw=0.6, alpha=0.4)
            ax.scatter(
                [o["intensity"] for o, _ in theirs],
                [o["mflop"] / ms for o, ms in theirs],
                s=26,
                facecolors="none",
                edgecolors=COLORS[what],
                linewidths=0.9,
                alpha=0.6,
            )
            ax.scatter(
                [o["intensity"] for o in ones],
                [o["gflops"] for o in ones],
                s=26,
                color=COLORS[what],
                label=what.replace("_", " "),
                zorder=3,
            )
        ax.set_xscale("log")
        ax.set_yscale("log")
        ax.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        ax.yaxis.set_minor_locator(NullLocator())
        for axis in (ax.xaxis, ax.yaxis):
            axis.set_major_formatter(lambda v, _: f"{v:g}")
        ax.set_title(f"{threads} thread{'s' * (threads > 1)}", fontsize=10, loc="left")
        ax.set_xlabel("operations per byte that must move")
        ax.grid(alpha=0.25, lw=0.5)
        ax.spines[["top", "right"]].set_visible(False)
    axes[0][0].set_ylabel("GFLOP/s (filled: tinygen, hollow: best PyTorch)")
    axes[0][0].legend(frameon=False, fontsize=8, loc="lower right")
    _caption(figure, records, "above the roof: fewer operations than counted (taps on padding are skipped, Winograd)")
    return figure


def bars(records: list[rec.Record], plt: Any) -> Any:
    """Torch's time over tinygen's, a column per pass: bars against the best variant in each cell, marks the default."""
    records = [r for r in records if r["threads"] == max(r["threads"] for r in records)]
    every = rec.cells(records)
    passes = list(dict.fromkeys(what for _, what, _ in every))
    cases = list(dict.fromkeys(case for case, _, _ in every))[::-1]
    size = (max(7.5, 1.6 + 2.9 * len(passes)), 1.2 + 0.24 * len(cases))
    figure, axes = plt.subplots(
        1, len(passes), figsize=size, squeeze=False, sharey=True, sharex=True, layout="constrained"
    )
    for what, ax in zip(passes, axes[0]):
        cells = [next((cell for (c, w, _), cell in every.items() if (c, w) == (case, what)), {}) for case in cases]
        bests = [rec.best(cell) or math.nan for cell in cells]
        marks = [cell["nchw-default"]["ratio"] if "nchw-default" in cell else math.nan for cell in cells]
        known = [v for v in bests if not math.isnan(v)]
        ax.barh(
            cases,
            [v - 1 for v in bests],
            left=1,
            height=0.7,
            color=[COLORS.get(what, INK) if not v < 1 else PALE for v in bests],
        )
        ax.scatter(marks, cases, marker="|", s=60, color=INK, zorder=3)
        for case, value in zip(cases, bests):
            if not math.isnan(value):
                ax.annotate(
                    f"{value:.2f}", (1, case), xycoords=("axes fraction", "data"), ha="right", va="center", fontsize=7
                )
        mean = f": geometric mean {rec.geometric_mean(known):.2f}" if known else ""
        ax.set_title(what.replace("_", " ") + mean, fontsize=9, loc="left")
        ax.margins(y=0.02)
        ax.axvline(1, color=INK, lw=0.8)
        ax.set_xscale("log", base=2)
        ax.tick_params(labelsize=7)
        ax.tick_params(axis="y", length=0)
        ax.grid(axis="x", alpha=0.25, lw=0.5)
        ax.spines[["top", "right", "left"]].set_visible(False)
    low, high = axes[0][0].get_xlim()
    low, high = min(low, 0.5), max(high, 2)
    high *= (high / low) ** 0.15  # room for the numbers at the right
    axes[0][0].set_xlim(low, high)
    ticks = (0.25, 0.5, 1, 2, 4, 8, 16, 32) if high / low > 8 else (0.25, 0.5, 0.7, 1, 1.4, 2, 2.8, 4)
    axes[0][0].set_xticks([v for v in ticks if low <= v <= high], [f"{v:g}" for v in ticks if low <= v <= high])
    threads = records[0]["threads"]
    figure.suptitle(
        f"PyTorch's time / tinygen's, {threads} thread{'s' * (threads > 1)}: bar, against the best PyTorch "
        "(pale: below 1); "
        "mark, PyTorch by default",
        fontsize=9,
        x=0.01,
        ha="left",
    )
    _caption(figure, records)
    return figure


def stairs(records: list[rec.Record], plt: Any) -> Any:
    """GFLOP/s of each step of the tour, a panel for each layer; the gain on each step, the FMA peaks as lines."""
    threads = max(r["threads"] for r in records)
    layers = [mine for mine in tables(records) if mine[0]["threads"] == threads]
    longest = max(len(rec.first_of_each(mine)) for mine in layers) + 1
    figure, axes = plt.subplots(
        len(layers), 1, figsize=(7.5, 0.6 + (0.8 + 0.27 * longest) * len(layers)), squeeze=False, layout="constrained"
    )
    for mine, ax in zip(layers, axes[:, 0]):
        ones = rec.first_of_each(mine)
        rows = [(r["title"], r["gflops"], r["gain"], COLORS["forward"]) for r in ones if r["pass"] != "tinygen"]
        rows += [(r["title"], r["gflops"], None, COLORS["weight_grad"]) for r in ones if r["pass"] == "tinygen"]
        rivals = [r for r in mine if r["torch_ms"]]
        if rivals:
            fastest = min(rivals, key=lambda r: r["torch_ms"])
            rows.append((f"PyTorch {fastest['torch_variant']}", fastest["mflop"] / fastest["torch_ms"], None, PALE))
        names = [name for name, *_ in rows]
        ax.barh(names, [rate for _, rate, _, _ in rows], color=[color for *_, color in rows], height=0.7)
        ax.invert_yaxis()
        for name, rate, gain, _ in rows:
            text = f"{rec.number(rate)}" + (f"   x {rec.number(gain, 2)}" if gain else "")
            white = {"facecolor": "white", "edgecolor": "none", "pad": 1}
            ax.annotate(text, (rate, name), (4, 0), textcoords="offset points", va="center", fontsize=7, bbox=white)
        for count, peak in {r["own_threads"]: r["peak_gflops"] for r in mine if r["peak_gflops"]}.items():
            ax.axvline(peak, color=INK, lw=0.8, ls=":")
            ax.annotate(
                f"FMA peak, {rec.count(count)}",
                (peak, 1),
                (0, 2),
                xycoords=("data", "axes fraction"),
                textcoords="offset points",
                fontsize=7,
                ha="center",
            )
        ax.set_xlim(0, 1.2 * max(rate for _, rate, _, _ in rows))
        ax.set_title(heading(mine[0]), fontsize=9, loc="left", pad=14)
        ax.tick_params(labelsize=7)
        ax.tick_params(axis="y", length=0)
        ax.spines[["top", "right", "left"]].set_visible(False)
    axes[-1][0].set_xlabel("GFLOP/s, operations as the definition has them", fontsize=8)
    _caption(figure, records)
    return figure


if __name__ == "__main__":
    main()
