"""python -m benchmarks.recipes [NAME ...]: whole trainings of recipes, tinygen beside PyTorch: quality, time, memory.

    python -m benchmarks.recipes vae dcgan --data mnist
    python -m benchmarks.recipes                        # every recipe that has kept figures

The same source files run on both engines (`on_torch`), with the same batches, initial weights and noise. First the
metrics of five steps are compared: the courses agree to rounding, except where a layer drops values by chance, since
torch draws its own masks. Then steps are timed in short bursts that alternate. Torch has its fused optimizers, a malloc
without page faults, its own noise, and the faster memory layout. At last both train by the whole plan, and the same
measures judge them.

"Whole training" is steps times the median step. Memory is what the process takes on top of what it held before its
first step, at its peak: of torch, what it loads at that step, too.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

from tinygen.errors import UserError
from tinygen.recipes import find, start
from tinygen.recipes.reproduce import keep_torch, kept

from . import machine
from .lockstep import Contenders, Times
from .options import unwritable
from .records import columns, count, number

STEPS = 5  # whose metrics are compared
# Of the largest value of a metric. Adam's first step is lr times the sign of a gradient, and the signs of what cancels
# to 0 are rounding: on MNIST dcgan's first steps differ by 3e-3, torch's own two layouts of conv-vae by 8e-4.
AGREE = 1e-2
BURSTS = 20  # of each contender, in turn
COUNTED = ("accuracy", "d_accuracy")  # shares of a batch: rounding moves one image from one side to the other


def main(argv: list[str] | None = None) -> list[dict[str, Any]]:
    """Measures, prints, writes; one entry for each recipe."""
    options = _parsed(argv)
    try:
        found = [measured(name, data, options) for name, data in _chosen(options)]
    except UserError as error:
        sys.exit(f"benchmarks: {error}")
    if options.json:
        options.json.write_text(json.dumps(found, indent=1) + "\n")
    apart = [entry["recipe"] for entry in found if entry["course"] is not None and entry["course"] > AGREE]
    if apart:
        sys.exit(f"benchmarks: both engines should take the same first steps, and do not: {', '.join(apart)}")
    return found


def _parsed(argv: list[str] | None) -> argparse.Namespace:
    p = argparse.ArgumentParser(prog="python -m benchmarks.recipes", description="Whole trainings beside PyTorch.")
    p.add_argument("names", nargs="*", metavar="NAME", help="recipes (default: those that have kept figures)")
    p.add_argument("--data", help="default: the recipe's own")
    p.add_argument("--seeds", default="0", help="one or several: 0,1,2 (default: %(default)s)")
    p.add_argument("--preset", default="cpu", help="cpu or tiny (default: %(default)s)")
    p.add_argument("--epochs", type=int, help="default: the recipe's plan")
    p.add_argument("--threads", type=int, help="default: the recipe's plan")
    p.add_argument("--time-steps", type=int, default=200, help="steps that are timed (default: %(default)s)")
    p.add_argument("--samples", type=int, default=10_000, help="that a generator is judged by (default: %(default)s)")
    p.add_argument("--json", type=Path, metavar="PATH", help="write everything there")
    p.add_argument("--save", action="store_true", help="keep PyTorch's figures in tinygen/recipes/expected.json")
    options = p.parse_args(argv)
    try:
        options.seeds = [int(seed) for seed in options.seeds.split(",")]
    except ValueError:
        p.error("--seeds should be integers, for example 0 or 0,1,2")
    if options.time_steps < BURSTS:
        p.error(f"--time-steps should be at least {BURSTS}")
    if options.json and (problem := unwritable(options.json)):
        p.error(f"--json: {problem}")
    if options.save and options.epochs:
        p.error("--save keeps figures of the recipe's own plan; leave --epochs out")
    machine.refuse_reference("cpu")
    return options


def _chosen(options: argparse.Namespace) -> list[tuple[str, str]]:
    """(recipe, data) of each measurement."""
    if options.names:
        return [(name, options.data or find(name).data) for name in options.names]
    known = kept()["recipes"].items()
    found = [(name, data) for name, by_data in known for data, presets in by_data.items()
             if options.preset in presets and options.data in (None, data)]  # fmt: skip
    if not found:
        sys.exit("benchmarks: no recipe has kept figures for these options; name some: see tinygen list")
    return found


def measured(name: str, data: str, options: argparse.Namespace) -> dict[str, Any]:
    """What one recipe reaches on both engines, and what it costs there; printed on the way."""
    with tempfile.TemporaryDirectory() as folder:
        runs = [_prepared(name, data, seed, options, Path(folder)) for seed in options.seeds]
        settings, _, images = runs[0]
        malloc = "tuned" if machine.has_glibc() else "default"
        variants = [f"{layout}-{malloc}-fused" for layout in ("nchw", "channels_last")[: 1 + images]]
        fair = SimpleNamespace(isa="", device="cpu", quick=False, seconds=1.0)
        with Contenders(fair, settings["threads"], variants) as field:
            if not field.rivals:
                sys.exit(f"benchmarks: {' '.join(field.notes)}")
            entry = _described(name, data, options, settings, field)
            print(f"{name} on {data}, preset {options.preset}: {entry['steps']} steps of {settings['batch_size']}, "
                  f"{count(settings['threads'])}", flush=True)  # fmt: skip
            entry["course"] = _course(field, *runs[0][:2])
            _timed(field, options.time_steps, entry)
            sides = {"tinygen": "tinygen", "torch": entry["torch_variant"]}
            for run in runs:
                _trained(field, *run[:2], sides, options.samples, entry)
        print(_table(entry), flush=True)
    if options.save:
        reached = {metric: found["torch"] for metric, found in _means(entry).items()}
        keep_torch(name, data, options.preset, reached, entry["training_seconds"]["torch"])
    return entry


def _prepared(
    name: str, data: str, seed: int, options: argparse.Namespace, folder: Path
) -> tuple[dict[str, Any], str, bool]:
    """A run that is never trained: (its settings, its weights' file, whether it convolves)."""
    run = start(
        name, data, folder=folder / str(seed), preset=options.preset, seed=seed, epochs=options.epochs,
        threads=options.threads,
    )  # fmt: skip
    return asdict(run.settings), save_weights(run.step, folder / f"{seed}.npz"), _convolves(run.step)


def save_weights(step: Any, path: Path) -> str:
    """Writes the state of a Step's networks; the path."""
    arrays = {f"{part}.{key}": value.numpy() for part, network in step.networks().items()
              for key, value in network.state_dict().items()}  # fmt: skip
    np.savez(path, **arrays)
    return str(path)


def _convolves(step: Any) -> bool:
    return any(p.ndim == 4 for network in step.networks().values() for p in network.parameters())


def _described(
    name: str, data: str, options: argparse.Namespace, settings: dict[str, Any], field: Contenders
) -> dict[str, Any]:
    return {
        "recipe": name, "data": data, "preset": options.preset, "seeds": options.seeds, "settings": settings,
        "steps": settings["given"]["steps"], "machine": machine.machine(), "versions": machine.versions(),
        "commit": machine.commit(), "isa": {name: facts["isa"] for name, facts in field.facts.items()},
        "figures": {}, "trained_seconds": {"tinygen": [], "torch": []},
    }  # fmt: skip


def _course(field: Contenders, settings: dict[str, Any], weights: str) -> float | None:
    """The largest difference of a metric over the first steps; None where layers drop values by chance."""
    made = field.all("recipe", settings=settings, weights=weights, steps=STEPS)
    if made["tinygen"]["drops"]:
        print("  first steps: not compared, torch draws dropout masks of its own")
        return None
    apart = {rival: differences(field, rival) for rival in field.rivals}
    smooth = [(value, name) for found in apart.values() for name, value in found.items() if name not in COUNTED]
    worst, metric = max(smooth)
    print(f"  first {STEPS} steps: metrics differ by at most {worst:.1e} ({metric})")
    return worst


def differences(field: Contenders, rival: str) -> dict[str, float]:
    """{metric: max |tinygen - torch| / max |torch|} over the first steps."""
    ours, theirs = (np.load(Path(field.folder.name, f"{name}.npz")) for name in ("tinygen", rival))
    with ours, theirs:
        assert set(ours.files) == set(theirs.files), (ours.files, theirs.files)
        return {m: float(np.abs(ours[m] - theirs[m]).max() / (np.abs(theirs[m]).max() or 1.0)) for m in ours.files}


def _timed(field: Contenders, steps: int, entry: dict[str, Any]) -> None:
    """Times and memory of every contender; which variant of torch is the fastest."""
    times: dict[str, Times] = {}
    for name, worker in field.workers.items():
        times[name] = Times(repeats=worker.ask("warm", milliseconds=8.0, repeats=steps // BURSTS, **STEP)["repeats"])
    for _ in range(BURSTS):
        field.round("step", list(field.workers), times)
    entry["torch_variant"] = best = min(field.rivals, key=lambda name: times[name].median)
    entry["seconds_per_step"] = {name: t.median for name, t in times.items()}
    entry["iqr"] = {name: t.iqr for name, t in times.items()}
    entry["disturbed"] = any(t.disturbed for t in times.values())
    entry["memory_mb"] = {name: worker.ask("growth")["mb"] for name, worker in field.workers.items()}
    entry["ratio"] = times[best].median / times["tinygen"].median
    entry["training_seconds"] = {"tinygen": times["tinygen"].median * entry["steps"],
                                 "torch": times[best].median * entry["steps"]}  # fmt: skip


STEP = {"pass": "step"}


def _trained(
    field: Contenders, settings: dict[str, Any], weights: str, sides: dict[str, str], samples: int,
    entry: dict[str, Any],
) -> None:  # fmt: skip
    """Trains both engines, one after the other, and adds their figures."""
    for side, name in sides.items():
        answer = field.workers[name].ask("train", settings=settings, weights=weights, samples=samples)
        entry["trained_seconds"][side].append(answer["seconds"])
        for metric, (value, n) in answer["figures"].items():
            found = entry["figures"].setdefault(metric, {"n": n, "tinygen": [], "torch": []})
            found[side].append(value)


def _means(entry: dict[str, Any]) -> dict[str, dict[str, float]]:
    return {metric: {side: statistics.fmean(found[side]) for side in ("tinygen", "torch")}
            for metric, found in entry["figures"].items()}  # fmt: skip


def _table(entry: dict[str, Any]) -> str:
    """Quality, time and memory side by side."""
    best, memory, seconds = entry["torch_variant"], entry["memory_mb"], entry["seconds_per_step"]
    rows = [["", "tinygen", "PyTorch", "ratio"]]
    rows += [[metric, *(f"{found[side]:.5g}" for side in ("tinygen", "torch")), ""]
             for metric, found in _means(entry).items()]  # fmt: skip
    pairs = {
        "ms a step": (1e3 * seconds["tinygen"], 1e3 * seconds[best]),
        "whole training, s": tuple(entry["training_seconds"].values()),
        "memory, MB": (memory["tinygen"], memory[best]),
    }
    rows += [[what, number(a), number(b), number(b / a if a else None)] for what, (a, b) in pairs.items()]
    notes = [f"PyTorch is {best}"]
    notes += [f"{name} takes {1e3 * value:.3g} ms a step" for name, value in seconds.items()
              if name not in ("tinygen", best)]  # fmt: skip
    notes += ["disturbed by other programs"] if entry["disturbed"] else []
    return "\n".join(f"  {line}" for line in [*columns(rows).splitlines(), "; ".join(notes)])


if __name__ == "__main__":
    main()
