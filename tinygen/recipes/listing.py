"""What there is, in words: the chapters, all that is known of a recipe or a study, and the table of what was reached.

The table is made from expected.json, which `tinygen reproduce --save` writes: no figure is typed.
"""

from __future__ import annotations

import inspect
import json
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

from tinygen.data import OFFERED, load
from tinygen.metrics.names import NAMES
from tinygen.training import duration

from .pretrained import names
from .recipe import RECIPES, Recipe, find
from .reproduce import kept, range_of
from .scores import DRAWS
from .settings import SMALL, TINY, TINY_LIMIT, annotation
from .study import STUDIES, find_study


def overview() -> str:
    """Chapters with their lectures, recipes and studies; the data sets."""
    lines = []
    width = max(map(len, [*RECIPES, *STUDIES]))
    for chapter in dict.fromkeys([r.chapter for r in RECIPES.values()] + [s.chapter for s in STUDIES.values()]):
        recipes = [r for r in RECIPES.values() if r.chapter == chapter]
        studies = [s for s in STUDIES.values() if s.chapter == chapter]
        lectures = sorted({n for one in [*recipes, *studies] for n in one.lectures})  # type: ignore[attr-defined]
        title = chapter.rpartition(".")[2].replace("_", " ")
        lines.append(f"{title} (lecture{'s' if len(lectures) > 1 else ''} {', '.join(map(str, lectures))})")
        lines += [f"  {r.name:<{width}}  {r.summary}" for r in recipes]
        lines += [f"  {s.name:<{width}}  study: {s.summary}" for s in studies]
    lines.append("train: tinygen train NAME    study: tinygen study NAME    all of one: tinygen list NAME")
    lines.append(f"data (--data): {OFFERED}; or a path: image folder, .npz, .zip, idx files, one picture")
    return "\n".join(lines)


def describe_recipe(name: str) -> str:
    """What a recipe is, its arguments, what it reaches and in how long, how its loss goes, and what to do with it."""
    recipe = find(name)
    where = recipe.chapter.replace(".", "/") + ".py"
    lectures = ", ".join(map(str, recipe.lectures))
    lines = [f"{name}: {recipe.summary}", f"  lectures {lectures}; built in {where}; data {recipe.data}"]
    lines.append(f"  {recipe.epochs} epochs, {recipe.batch_size} examples a step")
    lines += [f"  {title}: {_words(values)}" for title, values in presets(recipe).items() if values]
    lines.append("arguments (--set NAME=VALUE):")
    for argument, parameter in recipe.arguments().items():
        default = json.dumps(parameter.default)
        lines.append(f"  {argument + '=' + default:<28} {recipe.meanings.get(argument, '')} ({annotation(parameter)})")
    reached = kept()["recipes"].get(name, {})
    lines += _reached(reached)
    data = "" if recipe.data == "digits" else f"    # on {recipe.data}"
    lines += ["then:", f"  tinygen train {name}{data}"]
    lines += [f"  {command}" for command in further(recipe, f"runs/{name}-001", *_given(recipe.data), recipe.data)]
    lines += [f"  tinygen sample {name} --pretrained    # weights that ship: no training"] if name in names() else []
    commands = [entry["command"] for presets in reached.values() for entry in presets.values()]
    return "\n".join(lines + [f"  {command}" for command in commands or [f"tinygen reproduce {name}"]])


@cache
def _given(data: str) -> tuple[tuple[int, ...], tuple[str, ...]]:
    """(shape, classes) of a data set."""
    own = load(data)
    return tuple(own.shape), tuple(own.classes)


def further(recipe: Recipe, folder: str, shape: Sequence[int], classes: Sequence[str], data: str) -> list[str]:
    """The commands that look at a run of a recipe on such data: what its Step offers, its figures, studies."""
    commands = [f"tinygen sample {folder} -n 64 --seed 1"] if recipe.kind.offers("sample") else []
    looks = recipe.kind.offers("apply") or recipe.kind.offers("scores")
    commands += [f"tinygen apply {folder} picture.png"] if looks else []
    fitting = [one for one in STUDIES.values() if one.fits(recipe) and not one.refuses(shape, classes, data)]
    studies = [one.name for one in fitting if set(one.needs) <= set(recipe.arguments())]
    return [*commands, f"tinygen evaluate {folder}", *(f"tinygen study {name} {folder}" for name in studies)]


def _ordered(metrics: Mapping[str, Any]) -> list[tuple[str, Any]]:
    """The metrics in the order of their table."""
    order = list(NAMES)
    return sorted(metrics.items(), key=lambda item: order.index(item[0]) if item[0] in NAMES else len(order))


def presets(recipe: Recipe) -> dict[str, dict[str, Any]]:
    """{title: what differs there}: only what the recipe has, and of tiny also what is tiny for every recipe."""
    small, gpu, tiny = ({**plan, **values} for plan, values in map(recipe.preset, ("small", "gpu", "tiny")))
    return {
        f"images below {SMALL} pixels": small, "--preset gpu": gpu,
        "--preset tiny": {**TINY, "limit": TINY_LIMIT, **tiny},
    }  # fmt: skip


def _words(values: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {json.dumps(value)}" for name, value in values.items())


def _reached(by_data: Mapping[str, Any]) -> list[str]:
    lines = []
    for data, presets in by_data.items():
        for preset, entry in presets.items():
            seconds = duration(sum(entry["cpu_seconds"]) / len(entry["cpu_seconds"]))
            seeds = ", ".join(map(str, entry["seeds"]))
            threads = f"{entry['threads']} thread{'s' if entry['threads'] > 1 else ''}"
            where = f"{threads}, {entry['machine']}, commit {entry['commit']}"
            timed = "in its updates" if entry.get("timed") == "updates" else "with its pictures"
            took = f"{seconds} of processor time {timed} (seeds {seeds}; {where})"
            lines.append(f"reached on {data}, preset {preset}, in {took}:")
            for metric, found in _ordered(entry["metrics"]):
                low, high = range_of(found["values"])
                mean = sum(found["values"]) / len(found["values"])
                unit = NAMES[metric].unit if metric in NAMES else ""
                unit += f", k = {DRAWS}" if metric == "nll" else ""
                lines.append(f"  {metric:<16} {mean:>10.5g}  {unit:<32} passes from {low:.5g} to {high:.5g}")
            for metric, values in entry.get("curve", {}).items():
                course = ", ".join(f"{v:.4g}" for v in values)
                lines.append(f"  {metric} over the training: {course}")
    return lines


def describe_study(name: str) -> str:
    """What a study is, what it stands on, its arguments and what it found."""
    study = find_study(name)
    lines = [f"{name}: {study.summary}", f"  stands on {', '.join(study.on) or study.data or 'nothing'}"]
    about = (inspect.getdoc(study.run) or "").partition("\n\n")[0]  # its first paragraph: the next lists arguments
    lines += [f"  {line}" for line in about.splitlines()]
    lines.append("arguments (--set NAME=VALUE):")
    for argument, parameter in study.arguments().items():
        default = f"{argument}={json.dumps(parameter.default)}"
        lines.append(f"  {default:<28} {study.meanings.get(argument, '')} ({annotation(parameter)})")
    if study.tiny:
        lines.append(f"  --tiny: {_words(study.tiny)}")
    found = kept()["studies"].get(name, {}).values()
    for entry in found:
        lines.append(f"found by {entry['command']} ({entry['machine']}, commit {entry['commit']}):")
        means = {metric: sum(values) / len(values) for metric, values in entry["metrics"].items()}
        lines += [f"  {metric:<24} {mean:>10.5g}" for metric, mean in means.items()]
    again = [entry["command"] for entry in found] or [f"tinygen reproduce {name}"]
    return "\n".join([*lines, "then:", *(f"  {command}" for command in (f"tinygen study {name}", *again))])


def table(variants: bool = True) -> str:
    """A Markdown table of what is kept: a row for each recipe, data set and preset, PyTorch's figures beside.

    Without `variants` it has the recipes that others are like, and no variant; of each the data with most seeds, or
    else with most figures, and none that has seen the embedded digits alone.

    A recipe's default data are left out where others are kept: they show that it works, the others what it reaches.
    """
    lines = ["| recipe | data | reached on the test set | PyTorch | CPU s |", "|---|---|---|---|--:|"]
    for name, by_data in kept()["recipes"].items():
        own = RECIPES[name].data if name in RECIPES else ""
        if not variants and name in RECIPES and RECIPES[name].root != name:
            continue
        for data, presets in by_data.items() if variants else _fullest(by_data):
            if data == own and len(by_data) > 1:
                continue
            for preset, entry in presets.items():
                shown = f"`{name}`" if preset == "cpu" else f"`{name}` ({preset})"
                headlines = [m for m, metric in NAMES.items() if metric.headline and m in entry["metrics"]]
                metrics = {m: entry["metrics"][m]["values"] for m in headlines}
                others = entry.get("torch", {}).get("metrics", {})
                ours = "; ".join(f"{NAMES[m].title} {_spread(values)}" for m, values in metrics.items())
                theirs = "; ".join(f"{others[m]:.4g}" for m in metrics if m in others)
                seconds = f"{sum(entry['cpu_seconds']) / len(entry['cpu_seconds']):.0f}"
                lines.append(f"| {shown} | {data} | {ours} | {theirs} | {seconds} |")
    return "\n".join(lines)


def _fullest(by_data: Mapping[str, Any]) -> list[tuple[str, Any]]:
    """[(data, presets)] of the data that say most, without the embedded digits; [] where there are no others."""
    size = lambda item: [(len(entry["seeds"]), len(entry["metrics"])) for entry in item[1].values()]
    large = [item for item in by_data.items() if "mnist" in item[0] or "digits" not in item[0]]
    return [max(large, key=size)] if large else []


def _spread(values: list[float]) -> str:
    mean = sum(values) / len(values)
    return f"{mean:.4g}" + (f" ({min(values):.4g} to {max(values):.4g})" if len(values) > 1 else "")
