"""What `benchmarks.gpu_check` makes of the files that its sections wrote: verdicts, ratios, aims, pictures.

Ratios are torch's time over ours: above 1 tinygen is faster. Percentages are of a layer's floor: the larger of its
operations over the rate of a large product of torch, and its bytes over the rate of a copy, both measured beside it.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from .cases import LARGE, PASSES

FILE = "gpu_check.json"
MNIST = ("mlp_ae", "mlp_vae", "conv_vae", "lenet", "dcgan28", "wgan_gp28")  # steps of models for small images
TRIPLE = "float32 by 3 x tf32"
CEILING = {"float32": ("float32", 1), TRIPLE: ("tf32", 3), "tf32": ("tf32", 1), "bfloat16": ("bfloat16", 1)}


def read(path: Path) -> dict[str, Any]:
    """What the file of results holds, {section: {...}}; nothing where there is none."""
    return json.loads(path.read_text()) if path.exists() else {}


def write(path: Path, contents: dict[str, Any]) -> None:
    part = path.with_suffix(".part")
    part.write_text(json.dumps(contents, indent=1))
    os.replace(part, path)


def tell(content: dict[str, Any], seconds: float) -> None:
    """One line for a section, and one for each item that did not pass."""
    items, wanted = content["items"], content["wanted"] or []
    word = {True: "passed", False: "FAILED", None: "incomplete"}[content["passed"]]
    passed = sum(result["passed"] is True for result in items.values())
    print(f"{content['section']}: {word}, {passed} of {len(wanted) or '?'}, {seconds:.0f} s", flush=True)
    for name, result in items.items():
        if result["passed"] is not True:
            print(f"  {name}: {result.get('error', 'failed')}"[:400], flush=True)


def conclude(folder: Path, sections: list[str]) -> None:
    """Figures, what they say of the aims, and everything that failed or is missing; pictures into the folder."""
    found = read(folder / FILE)
    contents = {s: found[s] for s in sections if s in found}
    layers, models = contractions_of(contents), steps_of(contents)
    write(folder / FILE, {**found, "figures": {"contractions": layers, "steps": models}})
    lines = [*rates(contents, layers), *step_lines(contents, models), *aims(layers, models)]
    failed = [f"{s}: {name}" for s, c in contents.items() for name, r in c["items"].items() if r["passed"] is False]
    missing = [s for s in sections if s not in contents or contents[s]["passed"] is None]
    lines.append(f"failed: {', '.join(failed) or 'nothing'}")
    lines.append(f"missing or incomplete: {', '.join(missing) or 'nothing'}")
    if any(c.get("rehearsal") for c in contents.values()):
        lines.append("A REHEARSAL, without a GPU: times, ratios and what they say of the aims mean nothing.")
    text = "\n".join(lines)
    (folder / "gpu_summary.txt").write_text("\n".join([text, *layer_lines(layers)]) + "\n")
    print(text, flush=True)
    try:
        draw(folder, layers, models)
    except ImportError:
        print("no pictures: matplotlib is not installed")


def mean(values: Iterable[float]) -> float:
    """The geometric mean; NaN of nothing."""
    logs = [math.log(v) for v in values]
    return math.exp(sum(logs) / len(logs)) if logs else math.nan


def contractions_of(contents: dict[str, Any]) -> list[dict[str, Any]]:
    """One record per layer, pass and engine: ratio, and share of the floor where the ceilings are known."""
    found = contents.get("ceilings", {}).get("items", {})
    rates = {name: result["per_second"] for name, result in found.items() if result["passed"]}
    records = []
    for layer, result in contents.get("contractions", {}).get("items", {}).items():
        for record in result.get("records", ()):
            name, times = CEILING[record["engine"]]
            floor = None
            if name in rates and "bytes" in rates:
                floor = max(times * result["flops"] / rates[name], result["bytes"] / rates["bytes"])
            records.append(
                {**record, "layer": layer, "large": result["flops"] >= LARGE * 1e6,
                 "ratio": record["torch_seconds"] / record["seconds"], "share": floor and floor / record["seconds"]}
            )  # fmt: skip
    return records


def steps_of(contents: dict[str, Any]) -> dict[str, dict[str, float]]:
    """{model: {contender: seconds of a step}}."""
    models: dict[str, dict[str, float]] = {}
    for section in ("steps", "compiled"):
        for item, result in contents.get(section, {}).get("items", {}).items():
            models.setdefault(item.split(",")[0], {}).update(result.get("seconds", {}))
    return models


def rates(contents: dict[str, Any], layers: list[dict[str, Any]]) -> list[str]:
    found = contents.get("ceilings", {}).get("items", {})
    lines = [f"ceiling {n}: {r['per_second'] / 1e12:.2f} T{'B' if n == 'bytes' else 'FLOP'}/s"
             for n, r in found.items() if r["passed"]]  # fmt: skip
    for engine in CEILING:
        mine = [r for r in layers if r["engine"] == engine]
        if not mine:
            continue
        parts = {"all": mine, "large": [r for r in mine if r["large"]], "small": [r for r in mine if not r["large"]]}
        parts |= {name: [r for r in mine if r["pass"] == name] for name in PASSES}
        said = ", ".join(f"{name} {mean(r['ratio'] for r in rows):.2f}" for name, rows in parts.items() if rows)
        shares = [r["share"] for r in parts["large"] or mine if r["share"]]
        reach = f"; large ones reach {100 * mean(shares):.0f} % of what the GPU can do" if shares else ""
        lines.append(f"{engine}: torch / tinygen {said}{reach}")
    return [*lines, *fastest_single(layers)]


def fastest_single(layers: list[dict[str, Any]]) -> list[str]:
    """Which engine "highest" should use on this GPU (TINYGEN_CUDA_FLOAT32; default: cuda/contraction.py)."""
    seconds = {(r["layer"], r["pass"], r["engine"]): r["seconds"] for r in layers}
    gains: dict[bool, list[float]] = {True: [], False: []}  # on large layers, on small ones
    for r in layers:
        if r["engine"] == "float32" and (triple := seconds.get((r["layer"], r["pass"], TRIPLE))):
            gains[r["large"]].append(r["seconds"] / triple)
    if not any(gains.values()):
        return []
    best = "tf32x3" if mean([*gains[True], *gains[False]]) > 1 else "simt"
    said = ", ".join(f"{mean(g):.2f} on {'large' if large else 'small'} layers" for large, g in gains.items() if g)
    return [f'"highest": 3 x tf32, times as fast as the ordinary units: {said}: TINYGEN_CUDA_FLOAT32={best}']


def layer_lines(layers: list[dict[str, Any]]) -> list[str]:
    """A line for each layer, pass and engine."""
    lines = ["layer, pass, engine: microseconds, torch's; torch / tinygen; % of the floor"] if layers else []
    for r in layers:
        times = f"{1e6 * r['seconds']:.1f}, {1e6 * r['torch_seconds']:.1f}; {r['ratio']:.2f}"
        share = f"{100 * r['share']:.0f} %" if r["share"] else "-"
        lines.append(f"{r['layer']}, {r['pass']}, {r['engine']}: {times}; {share}")
    return lines


def step_lines(contents: dict[str, Any], models: dict[str, dict[str, float]]) -> list[str]:
    found, made = (contents.get(section, {}).get("items", {}) for section in ("ceilings", "steps"))
    lines = []
    for model, seconds in models.items():
        said = []
        for name, value in seconds.items():
            rate, flops = found.get(name.split(", ")[1], {}).get("per_second"), made.get(model, {}).get("flops")
            share = f" ({100 * flops / rate / value:.0f} % of the ceiling)" if rate and flops else ""
            said.append(f"{name} {1e3 * value:.3f}{share}")
        lines.append(f"{model}: ms per step: {', '.join(said)}")
    return lines


def aims(layers: list[dict[str, Any]], models: dict[str, dict[str, float]]) -> list[str]:
    """Each aim beside what was measured."""

    def step(names: Iterable[str], precision: str, rival: str = "torch") -> float:
        asked = [f"{rival}, {precision}", f"tinygen captured, {precision}"]
        pairs = [[models.get(n, {}).get(name) for name in asked] for n in names]
        return mean(theirs / ours for theirs, ours in pairs if theirs and ours)

    def layer(engine: str, large: bool | None = None) -> float:
        return mean(r["ratio"] for r in layers if r["engine"] == engine and large in (None, r["large"]))

    both = ("float32", "tf32")
    measured = [
        *((f"steps for small images, captured, against eager torch, {p}", 3.0, step(MNIST, p)) for p in both),
        ("the same against torch.compile with CUDA graphs, tf32", 1.0, step(MNIST, "tf32", "torch compiled")),
        *((f"dcgan64's step, {p}", 1.0, step(["dcgan64"], p)) for p in both),
        ("contractions in float32", 0.9, max(layer("float32"), layer(TRIPLE))),
        *((f"small layers in {engine}", 1.0, layer(engine, False)) for engine in ("float32", "tf32", "bfloat16")),
        ("large layers in tf32", 0.6, layer("tf32", True)),
    ]
    word = lambda aim, got: "not measured" if math.isnan(got) else f"{got:.2f}, {'reached' if got >= aim else 'MISSED'}"
    return [f"aim: {what} >= {aim}: {word(aim, got)}" for what, aim, got in measured]


def draw(folder: Path, layers: list[dict[str, Any]], models: dict[str, dict[str, float]]) -> None:
    """gpu_contractions.png: a panel of ratios for each engine; gpu_steps.png: ms per step."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    if layers:
        names = list(dict.fromkeys(r["layer"] for r in layers))
        figure, panels = plt.subplots(len(CEILING), 1, figsize=(14, 3 * len(CEILING)), sharex=True, squeeze=False)
        for engine, panel in zip(CEILING, panels[:, 0], strict=True):
            for i, name in enumerate(PASSES):
                ratio = {r["layer"]: r["ratio"] for r in layers if r["engine"] == engine and r["pass"] == name}
                heights = [ratio.get(n, 0) for n in names]
                panel.bar([x + 0.27 * (i - 1) for x in range(len(names))], heights, 0.26, label=name)
            panel.axhline(1, color="black", linewidth=0.8)
            panel.set_ylabel("torch / tinygen")
            panel.set_title(engine, fontsize=10)
        panels[0, 0].legend(fontsize=8)
        panels[-1, 0].set_xticks(range(len(names)), names, rotation=60, ha="right", fontsize=8)
        figure.tight_layout()
        figure.savefig(folder / "gpu_contractions.png", dpi=110)
    if models:
        contenders = list(dict.fromkeys(c for seconds in models.values() for c in seconds))
        figure, panel = plt.subplots(figsize=(12, 4))
        width = 0.9 / max(1, len(contenders))
        for i, contender in enumerate(contenders):
            heights = [1e3 * seconds.get(contender, 0) for seconds in models.values()]
            panel.bar([x + width * i for x in range(len(models))], heights, width, label=contender)
        panel.set_yscale("log")
        panel.set_ylabel("ms per training step")
        panel.set_xticks([x + 0.4 for x in range(len(models))], list(models))
        panel.legend(fontsize=8)
        figure.tight_layout()
        figure.savefig(folder / "gpu_steps.png", dpi=110)
