"""What a measurement leaves: a flat record for each case, pass, number of threads and variant of torch.

    case, pass, threads       what was measured; pass forward, input_grad, weight_grad or step;
                              of overheads unrecorded, recorded or backward_node
    torch_variant             nchw or channels_last, -default or -tuned malloc, of steps -fused, -compile; or null
    tinygen_ms, torch_ms      medians; tinygen_iqr_ms, torch_iqr_ms their interquartile ranges
    ratio                     torch_ms / tinygen_ms: above 1, tinygen is faster
    percent_of_peak           nominal operations per second of the FMA peak probed between the samples; above 100 where
                              fewer are done: taps on padding that are skipped, Winograd
    percent_of_bandwidth      bytes that must move at least per second of the triad probed in the same run
    deviation                 max |tinygen - torch| / max |torch|

and the shape, mflop, intensity, gflops, gbs, memory, machine, versions, commit, command that belong to it.
"""

from __future__ import annotations

import json
import math
import shlex
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from . import machine
from .cases import LARGE, NEVER_TRAINED
from .lockstep import Contenders, Times

Record = dict[str, Any]
FIELDS = (
    "benchmark",
    "case",
    "pass",
    "threads",
    "tinygen_ms",
    "torch_ms",
    "torch_variant",
    "ratio",
    "percent_of_peak",
    "deviation",
    "tinygen_iqr_ms",
    "torch_iqr_ms",
    "disturbed",
    "machine",
    "versions",
    "commit",
)


def made_at(options: Any, field: Contenders, bandwidth: float | None) -> Record:
    """What all records of a run share."""
    return {
        "benchmark": options.program,
        "threads": field.threads,
        "device": options.device,
        "isa": field.facts["tinygen"]["isa"],
        "bandwidth_gbs": bandwidth,
        "quick": options.quick,
        "machine": machine.machine(),
        "versions": machine.versions(),
        "commit": machine.commit(),
        "removed_environment": machine.removed_environment(),
        "command": command(options.program, sys.argv[1:]) if options.from_shell else None,
        "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    }


def command(program: str, arguments: list[str]) -> str:
    """The command line that measures the same again, without the files that were read or written."""
    kept, files = [], ("--json", "--compare")
    for before, word in zip(["", *arguments], arguments):
        if before not in files and word.split("=")[0] not in files:
            kept.append(word)
    return " ".join([f"python -m benchmarks.{program}", *map(shlex.quote, kept)])


def records_of(
    base: Record,
    case: str,
    what: str,
    times: dict[str, Times],
    peak: float | None,
    deviations: dict[str, float],
    flops: int | None = None,
    bytes_moved: int | None = None,
    ops: int = 1,
    **more: Any,
) -> list[Record]:
    """One record for each variant of torch (one without torch where there is none). `ops`: operations in one sample."""
    ours = times["tinygen"]
    milliseconds = lambda seconds: 1e3 * seconds / ops
    percent = lambda t: 100 * flops / t.median / (1e9 * peak) if flops and peak else None
    base = base | {
        "case": case,
        "pass": what,
        "tinygen_ms": milliseconds(ours.median),
        "tinygen_iqr_ms": milliseconds(ours.iqr),
        "samples": len(ours.samples),
        "calls_per_sample": ours.repeats,
        "peak_gflops": peak,
        "percent_of_peak": percent(ours),
        "mflop": flops / 1e6 if flops else None,
        "gflops": flops / ours.median / 1e9 if flops else None,
        "mbytes": bytes_moved / 1e6 if bytes_moved else None,
        "gbs": bytes_moved / ours.median / 1e9 if bytes_moved else None,
        "intensity": flops / bytes_moved if flops and bytes_moved else None,
        **more,
    }
    triad = base.get("bandwidth_gbs")
    base["percent_of_bandwidth"] = 100 * base["gbs"] / triad if triad and base["gbs"] else None
    empty = dict.fromkeys(("torch_variant", "torch_ms", "torch_iqr_ms", "ratio", "torch_percent_of_peak", "deviation"))
    rivals = [name for name in times if name != "tinygen"]
    if not rivals:
        return [base | empty | {"disturbed": ours.disturbed}]
    return [
        base
        | {
            "torch_variant": name,
            "torch_ms": milliseconds(times[name].median),
            "torch_iqr_ms": milliseconds(times[name].iqr),
            "ratio": times[name].median / ours.median,
            "torch_percent_of_peak": percent(times[name]),
            "deviation": deviations.get(name),
            "disturbed": ours.disturbed or times[name].disturbed,
        }
        for name in rivals
    ]


def load(path: str | Path) -> list[Record]:
    """The records of a file; ends the program where it holds none."""
    try:
        records = json.loads(Path(path).read_text())
        if isinstance(records, list) and all({"case", "pass", "threads", "tinygen_ms"} <= set(r) for r in records):
            return records
    except (OSError, ValueError) as error:
        sys.exit(f"benchmarks: {path} cannot be read ({error}); write one with --json {path}")
    sys.exit(f"benchmarks: {path} is not a list of benchmark records; write one with --json {path}")


def save(records: list[Record], options: Any) -> list[Path]:
    """Writes the records where the options ask for them; the paths."""
    suffix = f"-{options.isa}" if options.isa in machine.BLAS_ISA else ""  # held below what the machine has
    paths = [Path(options.json)] if options.json else []
    if options.save:
        paths.append(machine.RESULTS / machine.slug() / f"{options.program}{suffix}.json")
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(records, indent=1, allow_nan=True) + "\n")
        print(f"written: {path}")
    return paths


# ---------------------------------------------------------------------------------- reading records

Key = tuple[str, str, int]
NOMINAL = "operations are nominal; above 100 fewer are done (taps on padding that are skipped, Winograd)"


def cells(records: Iterable[Record]) -> dict[Key, dict[str, Record]]:
    """(case, pass, threads): {variant: record}."""
    found: dict[Key, dict[str, Record]] = {}
    for r in records:
        found.setdefault((r["case"], r["pass"], r["threads"]), {})[r["torch_variant"] or ""] = r
    return found


def first_of_each(records: Iterable[Record]) -> list[Record]:
    """One record of each cell: what it says about tinygen, the others say too."""
    return [next(iter(cell.values())) for cell in cells(records).values()]


def best(cell: dict[str, Record], only: str = "") -> float | None:
    """The smallest ratio of a cell, tinygen against the best of torch's variants (that have `only` in their name)."""
    ratios = [r["ratio"] for name, r in cell.items() if r["ratio"] is not None and only in name]
    return min(ratios) if ratios else None


def geometric_mean(values: Iterable[float]) -> float:
    logs = [math.log(v) for v in values]
    return math.exp(sum(logs) / len(logs)) if logs else math.nan


def rivals_of(records: list[Record]) -> list[tuple[str, Callable[[dict[str, Record]], float | None]]]:
    """Whom ratios are taken against: each variant, the best with tuned malloc, the best of all."""
    names = list(dict.fromkeys(r["torch_variant"] for r in records if r["torch_variant"]))
    found: list[tuple[str, Callable]] = [
        (name, lambda cell, n=name: cell[n]["ratio"] if n in cell else None) for name in names
    ]
    if sum("tuned" in name for name in names) > 1:
        found.append(("best tuned", lambda cell: best(cell, "tuned")))
    if len(names) > 1:
        found.append(("best", best))
    return found


def groups_of(every: dict[Key, dict[str, Record]]) -> list[tuple[str, list[Key]]]:
    """The groups of cells whose means are reported: all, those that training computes, large, small, each pass."""
    first = lambda key: next(iter(every[key].values()))
    large = [k for k in every if (first(k)["mflop"] or 0) >= LARGE]
    groups = [("all", list(every)), ("all that training computes", [k for k in every if k[:2] not in NEVER_TRAINED])]
    groups += [(f"large (>= {LARGE} MFLOP)", large), (f"small (< {LARGE} MFLOP)", [k for k in every if k not in large])]
    groups += [(what, [k for k in every if k[1] == what]) for what in dict.fromkeys(k[1] for k in every)]
    unique: dict[tuple, str] = {}
    for name, keys in groups:
        if keys:
            unique.setdefault(tuple(keys), name)
    return [(name, list(keys)) for keys, name in unique.items()]


# ---------------------------------------------------------------------------------- tables as text


def number(value: float | None, digits: int = 3) -> str:
    """Three significant digits, no exponent: 0.123, 12.3, 1230."""
    if value is None or math.isnan(value):
        return "-"
    if value == 0 or math.isinf(value):
        return f"{value:g}"
    places = max(0, digits - 1 - math.floor(math.log10(abs(value))))
    return f"{value:.{min(places, 6)}f}"


def columns(rows: list[list[str]]) -> str:
    """Rows as aligned columns, the first left, the others right; the first row is the head."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    line = lambda row: "  ".join(
        [row[0].ljust(widths[0]), *(cell.rjust(w) for cell, w in zip(row[1:], widths[1:]))]
    ).rstrip()
    return "\n".join([line(rows[0]), "  ".join("-" * w for w in widths), *map(line, rows[1:])])


def count(threads: int) -> str:
    return f"{threads} thread{'s' * (threads > 1)}"


def _told(rows: list[list[str]]) -> list[int]:
    """The columns in which something stands."""
    return [i for i in range(len(rows[0])) if i < 3 or any(row[i] != "-" for row in rows[1:])]


def table(records: list[Record], unit: str = "ms") -> str:
    """The cells, one a line: case, pass, tinygen, its spread, each variant of torch, ratios, % of peak, deviation."""
    scale = {"ms": 1.0, "us": 1e3}[unit]
    names = list(dict.fromkeys(r["torch_variant"] for r in records if r["torch_variant"]))
    ratios = ["vs default", "vs best", "% peak", "% triad", "deviation"]
    rows = [["case", "pass", f"tinygen {unit}", "+-", *names, *ratios]]
    for (case, what, _), cell in cells(records).items():
        one = next(iter(cell.values()))
        spread = 50 * one["tinygen_iqr_ms"] / one["tinygen_ms"] if one["tinygen_ms"] else math.nan
        theirs = [number(scale * cell[n]["torch_ms"]) if n in cell else "-" for n in names]
        deviations = [r["deviation"] for r in cell.values() if r["deviation"] is not None]
        default = next((r["ratio"] for n, r in cell.items() if n == "nchw-default"), None)
        rows.append(
            [
                case,
                what,
                number(scale * one["tinygen_ms"]) + ("*" if any(r["disturbed"] for r in cell.values()) else ""),
                f"{spread:.0f}%",
                *theirs,
                number(default),
                number(best(cell)),
                number(one["percent_of_peak"], 2),
                number(one.get("percent_of_bandwidth"), 2),
                f"{max(deviations):.0e}" if deviations else "-",
            ]
        )
    text = columns([[row[i] for i in _told(rows)] for row in rows])
    if any((r["percent_of_peak"] or 0) > 100 for r in records):
        text += f"\n% peak: {NOMINAL}"
    return text


def summary(records: list[Record]) -> str:
    """Geometric means of torch / tinygen by group and rival, the smallest cell, % of peak; then the cells below 1."""
    every, against = cells(records), rivals_of(records)
    if not against:
        return ""
    rows = [
        [
            "torch / tinygen, geometric means",
            "cells",
            *(name for name, _ in against),
            "smallest vs best",
            "% peak mean",
            "min",
        ]
    ]
    for name, keys in groups_of(every):
        row = [name, str(len(keys))]
        for _, ratio in against:
            row.append(number(geometric_mean(v for k in keys if (v := ratio(every[k])) is not None)))
        lowest = min((best(every[k]) or math.inf for k in keys), default=math.inf)
        peaks = [p for k in keys if (p := next(iter(every[k].values()))["percent_of_peak"]) is not None]
        shares = [f"{sum(peaks) / len(peaks):.0f}", f"{min(peaks):.0f}"] if peaks else ["-", "-"]
        rows.append([*row, number(lowest), *shares])
    slow = sorted(
        ((v, k) for k, cell in every.items() if (v := best(cell)) is not None and v < 1), key=lambda item: item[0]
    )
    listed = ", ".join(f"{case} {what} {number(v)}" for v, (case, what, _) in slow)
    return (
        columns(rows)
        + f"\ncells below 1.0 against the best torch: {len(slow)} of {len(every)}"
        + (f": {listed}" if slow else "")
    )


def comparison(old: list[Record], new: list[Record]) -> str:
    """Old / new tinygen time for each cell that both have, slowest first; means and extremes by number of threads."""
    before, after = cells(old), cells(new)
    common = [key for key in after if key in before]
    if not common:
        return "compare: the two runs have no cell in common (same case, pass and threads)"
    first = lambda side, key: next(iter(side[key].values()))
    gain = {key: first(before, key)["tinygen_ms"] / first(after, key)["tinygen_ms"] for key in common}
    rows = [["case", "pass", "threads", "old ms", "new ms", "old / new", "old vs best", "new vs best"]]
    for key in sorted(common, key=lambda key: gain[key]):
        times = [number(first(side, key)["tinygen_ms"]) for side in (before, after)]
        rows.append([*map(str, key), *times, number(gain[key]), *(number(best(side[key])) for side in (before, after))])
    lines = [columns([[row[i] for i in _told(rows)] for row in rows])]
    for threads in dict.fromkeys(key[2] for key in common):
        mine = sorted((gain[key], *key[:2]) for key in common if key[2] == threads)
        slowest, fastest = (f"{number(v)} ({case} {what})" for v, case, what in (mine[0], mine[-1]))
        lines.append(
            f"old / new, {count(threads)}, geometric mean of {len(mine)} cells: "
            f"{number(geometric_mean(v for v, _, _ in mine))}; from {slowest} to {fastest}"
        )
    for what, name in (("isa", "instruction set"), ("machine", "machine")):
        if old[0].get(what) != new[0].get(what):
            lines.append(f"the {name} was another: {old[0].get(what)}, now {new[0].get(what)}")
    return "\n".join(lines)


def place(one: Record) -> str:
    """Machine, threads and instruction set, versions and commit of a record, in a line."""
    packages = ", ".join(f"{name} {version or 'not installed'}" for name, version in one["versions"].items())
    where = f"{one['machine']['processor']}, {count(one['threads'])}, {one['isa']}"
    return f"{where}; commit {one['commit']}, {packages}"


def finish(
    records: list[Record], options: Any, notes: Iterable[str] = (), unit: str = "ms", extra: Callable | None = None
) -> None:
    """Prints tables, means and notes for each number of threads, and writes the files that were asked for."""
    for threads in dict.fromkeys(r["threads"] for r in records):
        mine = [r for r in records if r["threads"] == threads]
        one = mine[0]
        probes = [r["peak_gflops"] for r in mine if r["peak_gflops"]]
        roof = [f"FMA peak {max(probes):.0f} GFLOP/s"] if probes else []
        roof += [f"triad {one['bandwidth_gbs']:.0f} GB/s"] if one["bandwidth_gbs"] else []
        print("\n" + "; ".join([place(one), *filter(None, [", ".join(roof)])]))
        print(table(mine, unit))
        text = extra(mine) if extra else summary(mine)
        if text:
            print("\n" + text)
    conclude(records, options, notes)


def conclude(records: list[Record], options: Any, notes: Iterable[str] = ()) -> None:
    """What stands below all tables: notes, the comparison with an earlier run; and the files that were asked for."""
    if any(r["disturbed"] for r in records):
        print("* another program ran meanwhile: measure again on a quiet machine")
    for name, value in machine.removed_environment().items():
        print(f"not handed to the contenders: {name}={value}")
    for note in dict.fromkeys(notes):
        print(note)
    if options.quick:
        print("--quick: these times mean nothing")
    if options.compare:
        print("\n" + comparison(options.before, records))
    save(records, options)
