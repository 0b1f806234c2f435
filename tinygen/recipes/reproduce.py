"""What every recipe and study reaches, kept in expected.json, and whether it is reached again.

    reproduce("vae", "mnist", seeds=(0, 1, 2))      # trains, evaluates, compares: PASS or OUTSIDE

A figure passes when its mean over the seeds lies in [min - spread, max + spread] of the kept values, spread = max -
min. One kept value has no spread: then 5 % of it stand in. `save` writes after every seed, so nothing is lost.
"""

from __future__ import annotations

import json
import os
import platform
import shlex
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from tinygen.data import Dataset
from tinygen.training import Display, read_log

from .baselines import Baseline
from .recipe import RECIPES, find
from .run import OPTIONS, RecipeRun, start
from .scores import baselines, over, score
from .settings import TINY_LIMIT, RunError, Settings, prepare
from .study import STUDIES, find_study, run_study

FILE = Path(__file__).with_name("expected.json")
NO_DATA = "no data"  # where the figures of a study that needs none are kept


class Figure(NamedTuple):
    """A measured figure beside the kept ones: values over the seeds, (low, high) or None, and over how many."""

    name: str
    values: list[float]
    range: tuple[float, float] | None
    n: int | None

    @property
    def passes(self) -> bool:
        """Whether the mean lies in the range; a figure without one passes."""
        mean = sum(self.values) / len(self.values)
        return self.range is None or self.range[0] <= mean <= self.range[1]


class Reproduced(NamedTuple):
    """All figures, and whether every one passes."""

    figures: list[Figure]
    passes: bool


def kept(file: Path = FILE) -> dict[str, Any]:
    """The content of expected.json."""
    if not file.exists():
        return {"recipes": {}, "studies": {}}
    return json.loads(file.read_text(encoding="utf-8"))


def kept_of(name: str, data: str, preset: str = "cpu", file: Path = FILE) -> dict[str, Any]:
    """What is kept of a recipe on some data; {} for nothing."""
    return kept(file)["recipes"].get(name, {}).get(data, {}).get(preset, {})


def range_of(values: Sequence[float]) -> tuple[float, float]:
    """[min - spread, max + spread] of kept values."""
    low, high = min(values), max(values)
    spread = high - low if len(values) > 1 else 0.05 * abs(low)
    return low - spread, high + spread


def expected(settings: Settings, dataset: Dataset) -> dict[str, tuple[tuple[float, float], int]]:
    """{metric: ((low, high), n)} that the recipe is known to reach, n examples; {} where its settings were changed."""
    source = settings.data
    own = {"limit": TINY_LIMIT} if settings.preset == "tiny" else {}
    if any(source.get(option) != own.get(option) for option in OPTIONS):
        return {}
    plan = prepare(find(settings.recipe), dataset, source, preset=settings.preset)
    same = all(_plain(getattr(plan, key)) == _plain(getattr(settings, key))
               for key in ("arguments", "epochs", "batch_size", "keep"))  # fmt: skip
    found = kept_of(settings.recipe, source["name"], settings.preset)
    metrics = found.get("metrics", {}) if same else {}
    return {name: (range_of(entry["values"]), entry["n"]) for name, entry in metrics.items()}


def _plain(value: Any) -> Any:
    return json.loads(json.dumps(value))


def reproduce(
    name: str, data: str | None = None, seeds: Sequence[int] | None = None, *, preset: str = "cpu", save: bool = False,
    parent: str | os.PathLike = "runs", threads: int | None = None, say: Callable[[str], None] = print,
    file: Path = FILE,
) -> Reproduced:  # fmt: skip
    """Trains a recipe with each seed (0, 1, 2), or runs a study with each (0), and compares with the kept figures."""
    if name in STUDIES and name not in RECIPES:
        if save and preset == "tiny":
            raise RunError(f"study {name}: figures of the tiny preset are not kept; leave out --save or --preset tiny")
        return _study(name, data, (0,) if seeds is None else seeds, preset == "tiny", save, say, file)
    recipe = find(name)
    data = recipe.data if data is None else data
    before = kept_of(name, data, preset, file).get("metrics", {})
    missing = "" if before else _missing(name, data, preset, file)
    if missing and not save:  # before the training, which may take minutes
        say(f"note: {missing}")
    found: dict[str, list[tuple[float, int]]] = {}
    trivial: dict[str, list[Baseline]] = {}
    for seed in (0, 1, 2) if seeds is None else seeds:
        title = f"reproduce-{name}-{Path(data).name}-{preset}-{seed}"
        run = start(
            name, data, title=title, parent=parent, preset=preset, seed=seed, threads=threads, display=Display()
        )  # fmt: skip
        say(f"{name} on {data}, preset {preset}, seed {seed}: {run.folder}")
        on_the_way = _on_the_way(run, [round(share * run.settings.epochs) for share in recipe.scored], say)
        run.fit()
        figures = score(run.step, run.dataset, 0)
        trivial = trivial or baselines(recipe, run.dataset, run.settings.arguments)
        for metric, value in figures.items():
            found.setdefault(metric, []).append(value)
        say(f"  seed {seed}, {run.seconds:.0f} s: " + "  ".join(f"{m} {v:.5g}" for m, (v, _) in figures.items()))
        if save:
            entry = {
                "seconds": round(run.seconds, 1), "cpu_seconds": round(run.cpu_seconds, 1),
                "steps": len(run.batches) * run.settings.epochs, "curve": curve(run.folder / "log.jsonl"),
                "command": f"tinygen reproduce {name}{_options(name, data, preset)}", "threads": run.settings.threads,
                "timed": "updates",
            } | ({"on_the_way": on_the_way} if on_the_way else {})  # fmt: skip
            _keep(name, data, preset, seed, figures, entry, file)
    result = [Figure(metric, [v for v, _ in values], _range(before, metric), values[0][1])
              for metric, values in found.items()]  # fmt: skip
    return _told(result, say, missing, trivial)


def _on_the_way(run: RecipeRun, epochs: Sequence[int], say: Callable[[str], None]) -> dict[str, dict[str, float]]:
    """{updates: {metric: value}} of a run that is stopped after so many epochs, and goes on as if it had not been."""
    found = {}
    for epoch in filter(None, epochs):
        run.fit(epoch)
        steps = str(epoch * len(run.batches))
        found[steps] = {name: float(value) for name, (value, _) in score(run.step, run.dataset, 0).items()}
        say(f"  after {steps} steps: " + "  ".join(f"{m} {v:.5g}" for m, v in found[steps].items()))
    return found


def _missing(name: str, data: str, preset: str, file: Path) -> str:
    """That no figure is kept for these data and this preset, and for which ones there are figures."""
    there = [_options(name, other, of) for other, presets in kept(file)["recipes"].get(name, {}).items()
             for of in presets]  # fmt: skip
    others = "; figures are kept for: " + ", ".join(f"tinygen reproduce {name}{one}" for one in there) if there else ""
    return f"no figure of {name} is kept for {data}, preset {preset}{others}"


def _options(name: str, data: str, preset: str) -> str:
    """The options of `tinygen reproduce NAME` for these data and this preset."""
    own = data == find(name).data
    return ("" if own else f" --data {shlex.quote(data)}") + ("" if preset == "cpu" else f" --preset {preset}")


def _study(
    name: str, data: str | None, seeds: Sequence[int], tiny: bool, save: bool, say: Callable[[str], None], file: Path
) -> Reproduced:
    own = data_of_study(name)
    data = own if data is None else data
    by_data = {} if tiny else kept(file)["studies"].get(name, {})
    before = by_data.get(data or NO_DATA, {}).get("metrics", {})
    found: dict[str, list[float]] = {}
    for seed in seeds:
        findings, folder = run_study(name, tiny=tiny, display=Display(), seed=seed, data=data)
        say(f"study {name}, seed {seed}: {folder}")
        for metric, value in findings.metrics.items():
            found.setdefault(metric, []).append(float(value))
    if save:
        options = ("" if data == own else f" --data {shlex.quote(str(data))}") + (
            "" if tuple(seeds) == (0,) else f" --seeds {','.join(map(str, seeds))}"
        )
        with _changing(file) as content:
            content["studies"].setdefault(name, {})[data or NO_DATA] = {
                "metrics": found, "command": f"tinygen reproduce {name}{options}", **made_by(),
            }  # fmt: skip
    ranges = {metric: range_of(values) for metric, values in before.items()}
    result = [Figure(metric, values, ranges.get(metric), None) for metric, values in found.items()]
    others = "; there are some of: " + ", ".join(entry["command"] for entry in by_data.values()) if by_data else ""
    missing = f"no figure of {name} is kept" + (f" for {data}" if data else "") + others
    return _told(result, say, "figures of the tiny preset are not kept" if tiny else missing)


def data_of_study(name: str) -> str | None:
    """The data that a study, or the run it stands on, has where none are named; None where it needs none."""
    chosen = find_study(name)
    return chosen.data if chosen.data or not chosen.on else find(chosen.on[0]).data


def _range(before: Mapping[str, Any], metric: str) -> tuple[float, float] | None:
    return range_of(before[metric]["values"]) if metric in before else None


def _told(
    figures: list[Figure], say: Callable[[str], None], missing: str, trivial: Mapping[str, list[Baseline]] | None = None
) -> Reproduced:
    for figure in figures:
        mean = sum(figure.values) / len(figure.values)
        line = f"  {figure.name:<16} {mean:>10.5g}"
        line += f"   {min(figure.values):.5g} to {max(figure.values):.5g}" if len(figure.values) > 1 else ""
        line += f"   {over(figure.name, figure.n)}" if figure.n else ""
        if figure.range is None:
            line += "   nothing kept"
        else:
            line += f"   kept {figure.range[0]:.5g} to {figure.range[1]:.5g}: {'PASS' if figure.passes else 'OUTSIDE'}"
        say(line)
        for baseline in (trivial or {}).get(figure.name, []):
            say(f"    {baseline.beside(mean)}")
    passes = all(figure.passes for figure in figures)
    if all(figure.range is None for figure in figures):
        say(f"NOTHING TO COMPARE WITH: {missing or 'no such figure is kept'}")
    else:
        say("PASS" if passes else "OUTSIDE: " + ", ".join(f.name for f in figures if not f.passes))
    return Reproduced(figures, passes)


def curve(log: Path) -> dict[str, list]:
    """{metric: [value at the end of each epoch, ...]} of the first test metric and the first training metric."""
    lines = [line for line in read_log(log) if "test" in line]
    split = "test" if lines and lines[0]["test"] else "train"
    names = list(lines[0][split])[:1] if lines else []
    most = max(1, len(lines) // 20)
    return {name: [round(line[split][name], 6) for line in lines[most - 1 :: most]] for name in names}


def _keep(
    name: str, data: str, preset: str, seed: int, figures: Mapping[str, tuple[float, int]], entry: dict, file: Path
) -> None:
    """Puts one seed's figures in its place among those of the same preset."""
    with _changing(file) as content:
        place = content["recipes"].setdefault(name, {}).setdefault(data, {}).setdefault(preset, {})
        if place.get("steps", entry["steps"]) != entry["steps"]:
            place.clear()  # figures of another plan
        seeds = place.setdefault("seeds", [])
        metrics = place.setdefault("metrics", {})
        if seed not in seeds:
            seeds.append(seed)
        at = seeds.index(seed)
        for metric, (value, n) in figures.items():
            values = metrics.setdefault(metric, {"values": [], "n": n})["values"]
            values[at : at + 1] = [float(value)]
            metrics[metric]["n"] = n
        for clock in ("seconds", "cpu_seconds"):  # the second does not depend on what else runs
            place.setdefault(clock, [])[at : at + 1] = [entry.pop(clock)]
        place.update(entry | made_by())


def keep_torch(
    name: str, data: str, preset: str, metrics: Mapping[str, float], seconds: float, file: Path = FILE
) -> None:
    """Keeps what PyTorch reaches on the same plan beside tinygen's figures: means over seeds, seconds of a training."""
    with _changing(file) as content:
        place = content["recipes"].setdefault(name, {}).setdefault(data, {}).setdefault(preset, {})
        place["torch"] = {"metrics": {m: float(v) for m, v in metrics.items()}, "seconds": round(seconds, 1)}


@contextmanager
def _changing(file: Path) -> Iterator[dict[str, Any]]:
    """Context manager that gives the file's content and writes it back; two processes take turns."""
    lock = file.with_suffix(".lock")
    for _ in range(600):
        try:
            os.close(os.open(lock, os.O_CREAT | os.O_EXCL))
            break
        except FileExistsError:
            time.sleep(0.1)
    try:
        content = kept(file)
        yield content
        temporary = file.with_suffix(".part")
        temporary.write_text(json.dumps(content, indent=1, sort_keys=True) + "\n", encoding="utf-8")
        os.replace(temporary, file)
    finally:
        lock.unlink(missing_ok=True)


def made_by() -> dict[str, str]:
    """The machine and the commit that a figure is from."""
    try:
        models = [line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
        model = models[0].partition(":")[2].strip()
    except (OSError, IndexError):
        model = platform.processor() or platform.machine()
    git = ["git", "-C", str(FILE.parent), "rev-parse", "--short", "HEAD"]
    try:
        commit = subprocess.run(git, capture_output=True, text=True, check=False).stdout.strip()
    except OSError:  # no git here
        commit = ""
    return {"machine": f"{model}, {os.cpu_count()} cores", "commit": commit or "unknown"}
