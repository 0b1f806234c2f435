"""python -m benchmarks.gpu_check: everything about the CUDA backend that only a GPU can prove, in one command.

    python -m benchmarks.gpu_check                        # under ten minutes on an H200
    python -m benchmarks.gpu_check --only contractions --budget 200
    python -m benchmarks.gpu_check --rehearse             # the same on the emulator, small: proves this program

Sections, in this order, each with a JSON file of its own in the folder of results; a section whose file is there, from
the same commit and device, is not run again (--again runs it). `--budget` (seconds) leaves out what would begin later.

    primitives    the instructions of device.h, bit by bit against the emulator's twins
    kernels       the kernel tests of all backends, and every route of products, on CuPy arrays
    models        tensors, training steps and captured graphs on the GPU
    sanitizer     compute-sanitizer's four tools over every kernel, small shapes (left out where it is not installed)
    ceilings      what this GPU reaches: copies, float32, TF32 and bfloat16 products of torch
    tour          the steps of csrc/cuda/tour, on one layer
    contractions  every layer of benchmarks.cases, DCGAN-64 at batch 128 and a U-Net at 128 x 128, beside torch
    steps         whole training steps, eager and captured, beside torch eager and compiled

Needs the source tree, CuPy, torch and pytest. Times are CUDA events around a graph of repetitions, on both sides.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from .cases import LARGE, LAYERS, PASSES, Layer
from .libraries import Tinygen, Torch, operands
from .machine import ROOT, commit
from .networks import STEPS

SECTIONS = ("primitives", "kernels", "models", "sanitizer", "ceilings", "tour", "contractions", "steps")
EXTRA_LAYERS = [
    Layer("dc64b128_d1", 128, 3, 64, 64, 64, 4, 2, 1),
    Layer("dc64b128_d2", 128, 64, 32, 32, 128, 4, 2, 1),
    Layer("dc64b128_d3", 128, 128, 16, 16, 256, 4, 2, 1),
    Layer("dc64b128_d4", 128, 256, 8, 8, 512, 4, 2, 1),
    Layer("dc64b128_g2", 128, 512, 4, 4, 256, 4, 2, 1, transposed=True),
    Layer("dc64b128_g5", 128, 64, 32, 32, 3, 4, 2, 1, transposed=True),
    Layer("unet128_1", 16, 64, 128, 128, 64, 3, 1, 1),
    Layer("unet128_2", 16, 128, 64, 64, 128, 3, 1, 1),
    Layer("unet128_3", 16, 256, 32, 32, 256, 3, 1, 1),
    Layer("unet128_4", 16, 512, 16, 16, 512, 3, 1, 1),
]
# Ours -> (precision, engine for "highest") and, beside it, whether torch may round to TF32.
ENGINES = {
    "float32": ("highest", "simt", False),
    "float32 by 3 x tf32": ("highest", "tf32x3", False),
    "tf32": ("high", "simt", True),
    "bfloat16": ("medium", "simt", True),
}


class Check:
    """What the sections share: the place, the options, the clock."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.rehearse, self.options = options.rehearse, options
        self.place = "cuda-emulated" if self.rehearse else "cuda"
        self.started = time.monotonic()
        import tinygen

        self.tinygen, self.kernels = tinygen, tinygen.device(self.place).kernels
        if self.rehearse:
            self.machine = "emulator"
        else:
            properties = self.kernels.xp.cuda.runtime.getDeviceProperties(0)
            self.machine = properties["name"].decode().replace(" ", "-").lower()
        self.folder = Path(options.out or ROOT / "benchmarks" / "results" / self.machine)

    @property
    def left(self) -> float:
        return self.options.budget - (time.monotonic() - self.started)

    def pytest(self, *arguments: str) -> dict[str, Any]:
        """Runs tests with the CUDA place set; {"passed": ..., "summary": last lines}."""
        env = {**os.environ, "TINYGEN_TEST_PLACE": self.place, "CI": ""}
        command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *arguments]
        try:
            limit = max(30, self.left)
            done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, timeout=limit)
        except subprocess.TimeoutExpired:
            return {"passed": False, "summary": "out of time"}
        return {"passed": done.returncode == 0, "summary": "\n".join(done.stdout.strip().splitlines()[-25:])}

    def seconds(self, job: Callable[[], Any], least: float = 0.05) -> float:
        """Seconds of one call of our `job` on the device: a graph of several calls between two events."""
        job()
        if self.rehearse:
            begin = time.perf_counter()
            job()
            return time.perf_counter() - begin
        cuda, calls = self.kernels.xp.cuda, 10
        _, launch = self.kernels.launcher.capture(lambda: [job() for _ in range(calls)][-1])
        return best_of(launch, calls, cuda.Event, cuda.get_elapsed_time, least)

    def torch_seconds(self, torch: Any, job: Callable[[], Any], least: float = 0.05) -> float:
        """The same for torch; without a graph where a job cannot be captured."""
        if self.rehearse:
            begin = time.perf_counter()
            job()
            return time.perf_counter() - begin
        event, calls = (lambda: torch.cuda.Event(enable_timing=True)), 10
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            for _ in range(3):
                job()
        torch.cuda.current_stream().wait_stream(side)
        try:
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph):
                for _ in range(calls):
                    job()
            launch: Callable = graph.replay
        except RuntimeError:
            launch, calls = job, 1
        return best_of(launch, calls, event, lambda a, b: a.elapsed_time(b), least)


def best_of(launch: Callable, calls: int, event: Callable, elapsed: Callable, least: float) -> float:
    """The best of five measurements that last at least `least` seconds each, per call."""
    repeats, best = 1, math.inf
    for attempt in range(12):
        begin, end = event(), event()
        begin.record()
        for _ in range(repeats):
            launch()
        end.record()
        end.synchronize()
        took = elapsed(begin, end) / 1e3
        if took < least and attempt < 7:
            repeats = max(repeats + 1, min(1000, int(repeats * 1.2 * least / max(took, 1e-6))))
            continue
        best = min(best, took / repeats / calls)
    return best


# ---------------------------------------------------------------- sections: each returns what goes into its file


def primitives(check: Check) -> dict[str, Any]:
    return check.pytest("tests/test_cuda_kernels.py", "-k", "primitives")


def kernels(check: Check) -> dict[str, Any]:
    quick = ["-k", "primitives or precision"] if check.rehearse else ["-k", "not cpu- and not reference"]
    return check.pytest("tests/test_cuda_kernels.py", "tests/test_backends.py", *quick)


def models(check: Check) -> dict[str, Any]:
    quick = ["-k", "ae or tensors"] if check.rehearse else []
    return check.pytest("tests/test_cuda_device.py", "tests/test_cuda_graph.py", *quick)


def sanitizer(check: Check) -> dict[str, Any]:
    tool = shutil.which("compute-sanitizer")
    program = "import test_cuda_kernels as t; t.every_kernel(t.on_device.table())"
    env = {**os.environ, "TINYGEN_TEST_PLACE": check.place, "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'tests'}"}
    if check.rehearse:
        tools: dict[str, list[str]] = {"none": []}
    elif tool is None:
        return {"passed": None, "summary": "compute-sanitizer is not installed"}
    else:
        names = ("memcheck", "racecheck", "initcheck", "synccheck")
        tools = {name: [tool, "--tool", name, "--error-exitcode", "9"] for name in names}
    results = {}
    for name, command in tools.items():
        try:
            done = subprocess.run(
                [*command, sys.executable, "-c", program], cwd=ROOT, env=env, capture_output=True, text=True,
                timeout=max(30, check.left),
            )  # fmt: skip
            results[name] = {"passed": done.returncode == 0, "summary": (done.stdout + done.stderr)[-1500:]}
        except subprocess.TimeoutExpired:
            results[name] = {"passed": False, "summary": "out of time"}
    return {"passed": all(r["passed"] for r in results.values()), "tools": results}


def ceilings(check: Check) -> dict[str, Any]:
    """FLOP/s of square products and bytes/s of a copy, by torch: what percentages are of."""
    import torch

    size = 256 if check.rehearse else 8192
    device, found = "cpu" if check.rehearse else "cuda", {}
    a = torch.randn(size, size, device=device)
    b, c = torch.randn_like(a), torch.empty_like(a)
    for name, allowed in (("float32", False), ("tf32", True)):
        torch.backends.cuda.matmul.allow_tf32 = allowed
        found[name] = 2 * size**3 / check.torch_seconds(torch, lambda: torch.mm(a, b, out=c))
    torch.backends.cuda.matmul.allow_tf32 = False
    half, other = a.bfloat16(), b.bfloat16()
    out = torch.empty_like(half)
    found["bfloat16"] = 2 * size**3 / check.torch_seconds(torch, lambda: torch.mm(half, other, out=out))
    found["bytes"] = 2 * 4 * size * size / check.torch_seconds(torch, lambda: c.copy_(a))
    return {"passed": True, "ceilings": found}


def tour_steps() -> list[str]:
    """The files of csrc/cuda/tour, in order."""
    from tinygen.backends import cuda

    return sorted(p.name for p in (cuda.folder() / "tour").glob("*.cu"))


def tour_job(kernels: Any, step: str, layer: Layer) -> tuple[Callable[[], Any], Any]:
    """(a function that launches one step of the tour on a layer, the array that holds its result)."""
    from tinygen.backends import cuda, emulated, gather
    from tinygen.backends.geometry import Geometry

    x, w, _ = operands(layer)
    geo = Geometry(layer.x_shape, layer.weight_shape, layer.y_shape, (layer.stride,) * 2, pad=(layer.pad,) * 2)
    tables, upload = gather.convolution(geo, weight=False), kernels.launcher.upload
    y = upload(np.full(layer.y_shape, np.nan, np.float32))
    n, k, p, q = layer.y_shape
    arguments = [upload(x), upload(w), y, n, layer.c, layer.h, layer.w, k, layer.size, layer.stride, layer.pad, p, q]
    if step >= "4":
        arguments += [upload(tables.b_k), upload(tables.b_j), tables.limit, tables.signs]
    tile = 1 if step < "2" else 16 if step < "3" else 64
    blocks = -(-n * k * p * q // 256) if tile == 1 else -(-k // tile) * -(-n * p * q // tile)
    if kernels.name == "cuda":
        module = kernels.xp.RawModule(code=cuda.source(f"tour/{step}"), options=cuda.OPTIONS)
        function = module.get_function("convolution")
    else:
        function = emulated.Library(cuda.folder() / "tour" / step)["convolution"]
    return lambda: function((blocks,), (256,), tuple(arguments)), y


def tour(check: Check) -> dict[str, Any]:
    layer = LAYERS[0] if check.rehearse else next(one for one in LAYERS if one.name == "dc64_d2")
    records, results = [], []
    for step in tour_steps():
        job, y = tour_job(check.kernels, step, layer)
        took = check.seconds(job)
        records.append({"step": step, "layer": layer.name, "seconds": took, "flops_per_second": layer.flops / took})
        results.append(y.get())
    worst = max(float(np.abs(r - results[0]).max()) for r in results)
    return {"passed": worst < 1e-3, "records": records, "deviation": worst}


def contractions(check: Check) -> dict[str, Any]:
    """Times of every layer and pass by every engine, beside torch with TF32 off (float32) and on (the others)."""
    import torch

    ours = Tinygen(1, check.place)
    theirs = Torch(1, "cpu" if check.rehearse else "cuda")
    layers = [*LAYERS, *EXTRA_LAYERS]
    if check.rehearse:
        layers = [Layer("rehearsal", 2, 3, 8, 8, 5, 3, 1, 1), Layer("rehearsal_t", 2, 3, 4, 4, 5, 4, 2, 1, True)]
    records = []
    for layer in layers:
        if check.left < 30:
            return {"passed": None, "summary": "out of time: incomplete", "records": records}
        their_times = {}
        for tf32 in (False, True):
            torch.backends.cudnn.allow_tf32 = tf32
            torch.backends.cudnn.benchmark = True
            for name, job in theirs.conv(layer).items():
                their_times[name, tf32] = check.torch_seconds(torch, job)
        torch.backends.cudnn.allow_tf32 = False
        wanted = {name: theirs.array(job()) for name, job in theirs.conv(layer).items()}
        for engine, (precision, single, tf32) in ENGINES.items():
            check.tinygen.set_float32_matmul_precision(precision)
            check.kernels.single = single
            check.kernels._plan.cache_clear()
            for name, job in ours.conv(layer).items():
                got = ours.array(job())
                error = float(np.abs(got - wanted[name]).max() / np.abs(wanted[name]).max())
                took = check.seconds(job)
                records.append(
                    {"layer": layer.name, "pass": name, "engine": engine, "flops": layer.flops, "bytes": layer.bytes,
                     "seconds": took, "torch_seconds": their_times[name, tf32], "deviation": error}
                )  # fmt: skip
    check.tinygen.set_float32_matmul_precision("highest")
    check.kernels.single = "simt"
    check.kernels._plan.cache_clear()
    limits = {"float32": 1e-4, "float32 by 3 x tf32": 1e-4, "tf32": 5e-3, "bfloat16": 4e-2}
    wrong = [r for r in records if not r["deviation"] < limits[r["engine"]]]
    return {"passed": not wrong, "wrong": wrong, "records": records, "summary": summary(records)}


def summary(records: list[dict[str, Any]]) -> str:
    """Geometric means of torch's time over ours, by engine: all layers, small and large ones, each pass."""


    def mean(rows: list[dict[str, Any]]) -> float:
        logs = [math.log(r["torch_seconds"] / r["seconds"]) for r in rows]
        return math.exp(sum(logs) / len(logs)) if logs else math.nan

    lines = []
    for engine in ENGINES:
        mine = [r for r in records if r["engine"] == engine]
        large = [r for r in mine if r["flops"] >= LARGE * 1e6]
        small = [r for r in mine if r["flops"] < LARGE * 1e6]
        passes = ", ".join(f"{p} {mean([r for r in mine if r['pass'] == p]):.2f}" for p in PASSES)
        sizes = f"{mean(mine):.2f}, large {mean(large):.2f}, small {mean(small):.2f}"
        lines.append(f"{engine}: torch / ours {sizes}; {passes}")
    return "\n".join(lines)


class Capturable(Tinygen):
    """tinygen as the networks of benchmarks.step see it, which remembers optimizers for tg.capture."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.made: list[Any] = []

    def adam(self, parameters: Any, lr: float, betas: tuple[float, float] = (0.9, 0.999)) -> Any:
        self.made.append(super().adam(parameters, lr, betas))
        return self.made[-1]


class CapturableStep:
    def __init__(self, step: Any, optimizers: list[Any]) -> None:
        self.update = step.update
        self.modules = {str(i): m for i, m in enumerate(step.modules)}
        self.optimizers = {str(i): o for i, o in enumerate(optimizers)}

    def __call__(self, batch: tuple) -> dict[str, Any]:
        return {str(i): loss.detach() for i, loss in enumerate(self.update(*batch))}


def steps(check: Check) -> dict[str, Any]:
    """Seconds of whole training steps: ours eager and captured; torch eager (TF32 off, on) and compiled."""
    records: list[dict[str, Any]] = []
    for name in ["mlp_ae"] if check.rehearse else list(STEPS):
        if check.left < 40:
            return {"passed": None, "summary": "out of time: incomplete", "records": records}
        records.append({"model": name, **our_steps(check, name), **torch_steps(check, name)})
    return {"passed": True, "records": records}


def our_steps(check: Check, name: str) -> dict[str, Any]:
    library, record = Capturable(1, check.place), {}
    _, step, _ = library.step(name, small=check.rehearse)
    batches = [tuple(library.tensor(a) for a in batch) for batch in step.batches]
    record["tinygen eager"] = wall(lambda i: step.update(*batches[i % 4]), library.synchronize, check.rehearse)
    captured = check.tinygen.capture(CapturableStep(step, library.made))
    for precision, label in (("highest", "tinygen captured"), ("high", "tinygen captured, tf32")):
        check.tinygen.set_float32_matmul_precision(precision)
        captured.graphs.clear()
        for i in range(3):
            captured(batches[i % 4])
        record[label] = wall(lambda i: captured(batches[i % 4]), library.synchronize, check.rehearse)
    check.tinygen.set_float32_matmul_precision("highest")
    return record


def torch_steps(check: Check, name: str) -> dict[str, Any]:
    import torch

    record: dict[str, Any] = {}
    for label, tf32, compiled in (
        ("torch", False, False), ("torch, tf32", True, False), ("torch compiled, tf32", True, True),
    ):  # fmt: skip
        if compiled and (check.rehearse or check.left < 90):
            continue
        torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = tf32
        rival = Torch(1, "cpu" if check.rehearse else "cuda", fused=True)
        if compiled:
            rival.compiled = lambda f: torch.compile(f, mode="reduce-overhead")  # type: ignore[method-assign]
        try:
            job = rival.step(name, small=check.rehearse)[0]
            record[label] = wall(lambda i, job=job: job(), rival.synchronize, check.rehearse)
        except Exception as error:  # torch.compile does not take every model
            record[label] = f"{type(error).__name__}: {str(error)[:200]}"
    return record


def wall(job: Callable[[int], Any], synchronize: Callable[[], None], rehearse: bool) -> float:
    """Seconds of a step by the wall clock, the best of five rounds of twenty."""
    best, rounds, count = math.inf, *((1, 1) if rehearse else (5, 20))
    for i in range(3):
        job(i)
    for _ in range(rounds):
        synchronize()
        begin = time.perf_counter()
        for i in range(count):
            job(i)
        synchronize()
        best = min(best, (time.perf_counter() - begin) / count)
    return best


# ---------------------------------------------------------------- pictures and the program


def picture(folder: Path) -> None:
    """contractions.png: torch's time over ours for every layer, one panel for each engine."""
    try:
        records = json.loads((folder / "gpu_contractions.json").read_text())["records"]
        import matplotlib

        matplotlib.use("Agg")
        from matplotlib import pyplot as plt
    except (OSError, KeyError, ImportError):
        return
    layers = list(dict.fromkeys(r["layer"] for r in records))
    figure, panels = plt.subplots(len(ENGINES), 1, figsize=(12, 3 * len(ENGINES)), sharex=True, squeeze=False)
    for engine, panel in zip(ENGINES, panels[:, 0], strict=True):
        for i, name in enumerate(PASSES):
            ratio = {r["layer"]: r["torch_seconds"] / r["seconds"] for r in records
                     if r["engine"] == engine and r["pass"] == name}  # fmt: skip
            panel.bar(np.arange(len(layers)) + 0.27 * (i - 1), [ratio.get(n, 0) for n in layers], 0.26, label=name)
        panel.axhline(1, color="black", linewidth=0.8)
        panel.set_ylabel("torch / tinygen")
        panel.set_title(engine, fontsize=10)
    panels[0, 0].legend(fontsize=8)
    panels[-1, 0].set_xticks(range(len(layers)), layers, rotation=60, ha="right", fontsize=8)
    figure.tight_layout()
    figure.savefig(folder / "gpu_contractions.png", dpi=110)


def build() -> None:
    """The C++ extension, where a clone lies there unbuilt: the tests compare with it."""
    if not list((ROOT / "tinygen").glob("_cpu*")):
        subprocess.run([sys.executable, "setup.py", "-q", "build_ext", "--inplace"], cwd=ROOT, check=False)


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="benchmarks.gpu_check", description=__doc__.split("\n\n")[0])  # type: ignore
    parser.add_argument("--only", help=f"sections, separated by commas, of {', '.join(SECTIONS)}")
    parser.add_argument("--budget", type=float, default=570, help="seconds for all sections (default 570)")
    parser.add_argument("--again", action="store_true", help="run sections whose results are there already")
    parser.add_argument("--out", help="folder of results (default benchmarks/results/<GPU>)")
    parser.add_argument("--rehearse", action="store_true", help="on the emulator, smallest sizes; times mean nothing")
    options = parser.parse_args(argv)
    chosen = options.only.split(",") if options.only else list(SECTIONS)
    if unknown := set(chosen) - set(SECTIONS):
        parser.error(f"unknown section {', '.join(sorted(unknown))}; known are {', '.join(SECTIONS)}")
    build()
    try:
        check = Check(options)
    except RuntimeError as error:
        sys.exit(f"benchmarks.gpu_check: {error}")
    check.folder.mkdir(parents=True, exist_ok=True)
    failed = False
    for name in SECTIONS:
        path = check.folder / f"gpu_{name}.json"
        if name not in chosen:
            continue
        if path.exists() and not options.again:
            before = json.loads(path.read_text())
            if before.get("commit") == commit() and before.get("passed"):
                print(f"{name}: passed before, at this commit", flush=True)
                continue
        if check.left < 20:
            print(f"{name}: left out, the budget is spent", flush=True)
            continue
        begin = time.monotonic()
        try:
            result = globals()[name](check)
        except Exception as error:  # the other sections still have something to say
            result = {"passed": False, "summary": f"{type(error).__name__}: {error}"}
        took = time.monotonic() - begin
        path.write_text(json.dumps({**result, "seconds": took, "machine": check.machine, "commit": commit()}, indent=1))
        word = {True: "passed", False: "FAILED", None: "incomplete"}[result["passed"]]
        print(f"{name}: {word} in {took:.0f} s", flush=True)
        if result["passed"] is not True or name == "contractions":
            print(result.get("summary", json.dumps(result)[:2000]), flush=True)
        failed = failed or result["passed"] is False
    picture(check.folder)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
