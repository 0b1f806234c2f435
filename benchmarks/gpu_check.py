"""python -m benchmarks.gpu_check: everything about the CUDA backend that only a GPU can prove, in one command.

    python -m benchmarks.gpu_check                     # what fits into --budget 570 seconds; again: the rest
    python -m benchmarks.gpu_check --only contractions,steps --budget 200
    python -m benchmarks.gpu_check --rehearse          # the same without a GPU, small: proves this program

Sections, in this order; each is made of items (a layer, a model, a tool), whose results go into gpu_check.json in the
folder of results, written after each item. What passed before, on this GPU and from these sources, is not run again
(--again runs it).

    primitives    the instructions of device.h, bit by bit against the emulator's twins
    kernels       every kernel and route against the reference, results poisoned, on CuPy arrays
    models        tensors, training steps and captured graphs on the GPU
    ceilings      what this GPU reaches: float32, TF32 and bfloat16 products of torch, a copy
    contractions  every layer of benchmarks.cases, DCGAN-64 at batch 128 and a U-Net at 128 x 128, beside torch
    steps         whole training steps, eager and captured, beside torch eager with TF32 off and on
    tour          the steps of csrc/cuda/tour on one layer
    sanitizer     compute-sanitizer's four tools over every kernel, small shapes
    compiled      the training steps by torch.compile(mode="reduce-overhead")
    functions     every public function on the GPU and on the CPU

A section runs in a process of its own, which is ended when its time is up and started anew when a kernel broke it: what
fails is reported at the end, and nothing else is lost. Needs the source tree, CuPy, torch and pytest. Times are CUDA
events around a graph of repetitions, on both sides; whole steps by the clock.
"""

from __future__ import annotations

import argparse
import hashlib
import math
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from . import gpu_report
from .cases import LAYERS, Layer
from .libraries import Tinygen, Torch, operands
from .machine import ROOT, commit
from .networks import NO_COMPILE, STEPS

LIMITS = {  # the sections and the seconds each may take
    "primitives": 60, "kernels": 150, "models": 180, "ceilings": 40, "contractions": 240, "steps": 120, "tour": 40,
    "sanitizer": 240, "compiled": 240, "functions": 240,
}  # fmt: skip
TABLE_TESTS = ("tests/backends/test_backends.py", "-k", "cuda")  # the rows of the device, and no other's
TABLE_LEAST = 140
STAND_IN = ROOT / "tests" / "cuda" / "stand_in"
LAYERS_OF_A_GPU = [
    *LAYERS,
    *(replace(one, name=one.name.replace("dc64", "dc64b128"), n=128) for one in LAYERS if one.name.startswith("dc64")),
    Layer("unet128_1", 16, 64, 128, 128, 64, 3, 1, 1),
    Layer("unet128_2", 16, 128, 64, 64, 128, 3, 1, 1),
    Layer("unet128_3", 16, 256, 32, 32, 256, 3, 1, 1),
    Layer("unet128_4", 16, 512, 16, 16, 512, 3, 1, 1),
    Layer("unet128_up", 16, 128, 64, 64, 64, 2, 2, 0, transposed=True),
    Layer("unet128_join", 16, 128, 128, 128, 64, 3, 1, 1),
]
# Ours -> (precision, engine for "highest", whether torch may round to TF32 beside it, largest deviation from float32).
ENGINES = {
    "float32": ("highest", "simt", False, 1e-4),
    "float32 by 3 x tf32": ("highest", "tf32x3", False, 1e-4),
    "tf32": ("high", "simt", True, 5e-3),
    "bfloat16": ("medium", "simt", True, 4e-2),
}
Items = dict[str, Callable[[], dict[str, Any]]]


def sources() -> str:
    """A digest of all that a result depends on; it is there where git is not."""
    digest = hashlib.sha256()
    for pattern in ("tinygen/**/*.py", "csrc/**/*", "tests/**/*.py", "tests/**/*.cu", "benchmarks/*.py"):
        for path in sorted(p for p in ROOT.glob(pattern) if p.is_file()):
            digest.update(f"{path.relative_to(ROOT)} {path.stat().st_size} ".encode() + path.read_bytes())
    return digest.hexdigest()[:12]


class Results:
    """A section's part of the file: {"items": {name: {"passed": True, False or None, ...}}, ...}, whole at any time.

    `same` is what must be equal for earlier results to hold.
    """

    def __init__(self, folder: Path, section: str, same: dict[str, Any], again: bool = False) -> None:
        self.path, self.section = folder / gpu_report.FILE, section
        self.content: dict[str, Any] = {"section": section, **same, "wanted": None, "running": None, "items": {}}
        before = gpu_report.read(self.path).get(section, {})
        if before and not again and all(before.get(name) == value for name, value in same.items()):
            self.content = before
        self.items: dict[str, Any] = self.content["items"]

    def save(self) -> None:
        names = dict.fromkeys([*(self.content["wanted"] or ["anything"]), *self.items])
        verdicts = [self.items.get(name, {}).get("passed") for name in names]
        self.content["passed"] = False if False in verdicts else None if None in verdicts else True
        gpu_report.write(self.path, {**gpu_report.read(self.path), self.section: self.content})

    def begin(self, item: str) -> None:
        self.content["running"] = item
        self.save()

    def end(self, item: str, result: dict[str, Any]) -> None:
        self.items[item], self.content["running"] = result, None
        self.save()

    def forget_failures(self) -> None:
        for name in [n for n, result in self.items.items() if result["passed"] is not True]:
            del self.items[name]


class Check:
    """What the items of a section share: the place, the options, the clock."""

    def __init__(self, rehearse: bool, seconds: float) -> None:
        import tinygen

        self.rehearse, self.end = rehearse, time.monotonic() + seconds
        self.tinygen, self.kernels = tinygen, tinygen.device("cuda").kernels
        self.torch_device = "cpu" if rehearse else "cuda"

    @property
    def left(self) -> float:
        return self.end - time.monotonic()

    def is_broken(self) -> bool:
        """Whether the GPU no longer answers this process, as after an illegal access."""
        try:
            self.kernels.xp.cuda.Device().synchronize()
            self.kernels.xp.zeros(1).get()
        except Exception:
            return True
        return False

    def run(self, command: list[str], **environment: str) -> dict[str, Any]:
        """Runs a program of the tests on the device; its verdict and the end of what it said."""
        paths = os.pathsep.join(filter(None, [str(ROOT), str(ROOT / "tests"), os.environ.get("PYTHONPATH")]))
        environment = {**os.environ, "PYTHONPATH": paths, "TINYGEN_TEST_PLACE": "cuda", "CI": "", **environment}
        try:
            done = subprocess.run(
                command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                timeout=max(10, self.left),
            )  # fmt: skip
        except subprocess.TimeoutExpired as late:
            said = (late.stdout or b"").decode(errors="replace")
            return {"passed": False, "error": "out of time", "output": said[-4000:]}
        failed = [line for line in done.stdout.splitlines() if line.startswith(("FAILED ", "ERROR "))]
        result: dict[str, Any] = {"passed": done.returncode == 0, "output": done.stdout[-4000:]}
        return result if result["passed"] else {**result, "error": "; ".join(failed) or f"ended {done.returncode}"}

    def pytest(self, *arguments: str, least: int = 1) -> dict[str, Any]:
        """Runs tests; they have passed if none failed and `least` or more passed: a filter may select too few."""
        command = [sys.executable, "-m", "pytest", "-o", "addopts=", "-q", "-m", "not emulated", "--tb=short"]
        result = self.run([*command, "--maxfail=30", "-p", "no:cacheprovider", *arguments])
        found = re.search(r"(\d+) passed", result["output"])
        result["tests"] = int(found[1]) if found else 0
        if result["passed"] and result["tests"] < least:
            why = f"{result['tests']} tests passed, at least {least} must: {result['output'].strip()[-200:]}"
            return {**result, "passed": False, "error": why}
        return result

    def use(self, precision: str, single: str = "simt") -> None:
        self.tinygen.set_float32_matmul_precision(precision)
        self.kernels.single = single

    def seconds(self, job: Callable[[], Any]) -> float:
        """Seconds of one call of our `job` on the device: a graph of ten calls between two events."""
        job()
        cuda, calls = self.kernels.xp.cuda, 10

        def repeated() -> None:  # a result is dropped before the next is made, in the same memory: as on torch's side
            for _ in range(calls):
                job()

        _, launch = self.kernels.launcher.capture(repeated)
        return self.best_of(launch, calls, cuda.Event, cuda.get_elapsed_time)

    def torch_seconds(self, job: Callable[[], Any]) -> float:
        """The same for torch; without a graph where a job cannot be captured."""
        import torch

        if self.rehearse:
            begin = time.perf_counter()
            job()
            return time.perf_counter() - begin
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):  # warm, before the capture
            for _ in range(3):
                job()
        torch.cuda.current_stream().wait_stream(side)
        calls = 10
        try:
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph):
                for _ in range(calls):
                    job()
            launch: Callable = graph.replay
        except RuntimeError:
            launch, calls = job, 1
        event = lambda: torch.cuda.Event(enable_timing=True)
        return self.best_of(launch, calls, event, lambda a, b: a.elapsed_time(b))

    def best_of(self, launch: Callable, calls: int, event: Callable, elapsed: Callable, least: float = 0.01) -> float:
        """Seconds per call, the best of five measurements that last `least` seconds or more."""

        def measured(repeats: int) -> float:
            begin, end = event(), event()
            begin.record()
            for _ in range(repeats):
                launch()
            end.record()
            end.synchronize()
            return elapsed(begin, end) / 1e3

        if self.rehearse:
            return measured(1) / calls
        measured(1)
        repeats = 1
        while (took := measured(repeats)) < least and repeats < 1000:
            repeats = min(1000, max(repeats + 1, int(repeats * 1.2 * least / max(took, 1e-6))))
        return min(took, *(measured(repeats) for _ in range(4))) / repeats / calls

    def wall(self, job: Callable[[int], Any], synchronize: Callable[[], None]) -> float:
        """Seconds of a step by the clock, the best of five rounds of twenty."""
        best, rounds, count = math.inf, *((1, 1) if self.rehearse else (5, 20))
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


# ---------------------------------------------------------------- sections: the items of each


def primitives(check: Check) -> Items:
    return {"primitives": lambda: check.pytest("tests/cuda/test_cuda_kernels.py", "-k", "primitives")}


def kernels(check: Check) -> Items:
    routes = "precision" if check.rehearse else "not primitives"
    return {
        "routes": lambda: check.pytest("tests/cuda/test_cuda_kernels.py", "-k", routes),
        "table": lambda: check.pytest(*TABLE_TESTS, least=TABLE_LEAST),  # a rehearsal runs the very same tests
    }


def models(check: Check) -> Items:
    steps = "tensors or (step and ae)" if check.rehearse else "not on_the_cuda_kernels and not without"
    graphs = "refused or (eager and ae)" if check.rehearse else "captur or replay or graph"
    return {
        "steps": lambda: check.pytest("tests/cuda/test_cuda_device.py", "-k", steps),
        "graphs": lambda: check.pytest("tests/cuda/test_cuda_graph.py", "-k", graphs),
    }


def ceilings(check: Check) -> Items:
    """FLOP/s of square products and bytes/s of a copy, by torch: what percentages are of."""
    import torch

    size = 256 if check.rehearse else 8192
    a = torch.randn(size, size, device=check.torch_device)
    b, c = torch.randn_like(a), torch.empty_like(a)

    def product(tf32: bool, dtype: Any = torch.float32) -> dict[str, Any]:
        x, y, z = (t.to(dtype) for t in (a, b, c))
        allow_tf32(torch, tf32)
        rate = 2 * size**3 / check.torch_seconds(lambda: torch.mm(x, y, out=z))
        return {"passed": True, "per_second": rate}

    def copy() -> dict[str, Any]:
        return {"passed": True, "per_second": 2 * 4 * size * size / check.torch_seconds(lambda: c.copy_(a))}

    return {"float32": lambda: product(False), "tf32": lambda: product(True),
            "bfloat16": lambda: product(False, torch.bfloat16), "bytes": copy}  # fmt: skip


def allow_tf32(torch: Any, allowed: bool) -> None:
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = allowed


def contractions(check: Check) -> Items:
    """A layer: times of its passes by every engine, beside torch with TF32 off (float32) and on (the others)."""
    layers = LAYERS_OF_A_GPU
    if check.rehearse:
        layers = [Layer("rehearsal", 2, 3, 8, 8, 5, 3, 1, 1), Layer("rehearsal_t", 2, 3, 4, 4, 5, 4, 2, 1, True)]
    ours, theirs = Tinygen(1, "cuda"), Torch(1, check.torch_device)
    return {layer.name: lambda layer=layer: one_layer(check, ours, theirs, layer) for layer in layers}  # type: ignore


def one_layer(check: Check, ours: Tinygen, theirs: Torch, layer: Layer) -> dict[str, Any]:
    import torch

    mine, rival, times = ours.conv(layer), theirs.conv(layer), {}
    torch.backends.cudnn.benchmark = True
    for tf32 in (True, False):
        allow_tf32(torch, tf32)
        for name, job in rival.items():
            times[name, tf32] = check.torch_seconds(job)
    wanted = {name: theirs.array(job()) for name, job in rival.items()}  # in float32
    records, wrong = [], []
    try:
        for engine, (precision, single, tf32, limit) in ENGINES.items():
            check.use(precision, single)
            for name, job in mine.items():
                got, want = ours.array(job()), wanted[name]
                deviation = float(np.abs(got - want).max() / np.abs(want).max())
                records.append(
                    {"pass": name, "engine": engine, "seconds": check.seconds(job), "torch_seconds": times[name, tf32],
                     "deviation": deviation}
                )  # fmt: skip
                if not deviation < limit:
                    wrong.append(f"{name} in {engine} is off by {deviation:.2g}")
    finally:
        check.use("highest")
    result = {"passed": not wrong, "flops": layer.flops, "bytes": layer.bytes, "records": records}
    return {**result, "error": ", ".join(wrong)} if wrong else result


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
        self.modules = {f"network {i}": m for i, m in enumerate(step.modules)}
        self.optimizers = {f"optimizer {i}": o for i, o in enumerate(optimizers)}

    def networks(self) -> dict[str, Any]:
        return self.modules

    def parts(self) -> dict[str, Any]:
        return self.modules | self.optimizers

    def __call__(self, batch: tuple) -> dict[str, Any]:
        return {str(i): loss.detach() for i, loss in enumerate(self.update(*batch))}


def steps(check: Check) -> Items:
    """A model: seconds of its training step, ours eager and captured; and torch's eager."""
    items: Items = {}
    for name in ["mlp_ae"] if check.rehearse else list(STEPS):
        items[name] = lambda name=name: our_step(check, name)  # type: ignore[misc]
        items[f"{name}, torch"] = lambda name=name: torch_step(check, name)  # type: ignore[misc]
    return items


def our_step(check: Check, name: str) -> dict[str, Any]:
    library, record = Capturable(1, "cuda"), {}
    _, step, _ = library.step(name, small=check.rehearse)
    batches = [tuple(library.tensor(a) for a in batch) for batch in step.batches]
    captured = check.tinygen.capture(CapturableStep(step, library.made))
    for precision, label in (("highest", "float32"), ("high", "tf32")):
        check.use(precision)
        eagerly = lambda i: step.update(*batches[i % 4])
        record[f"tinygen, {label}"] = check.wall(eagerly, library.synchronize)
        for i in range(3):
            captured(batches[i % 4])
        replay = lambda i: captured(batches[i % 4])
        record[f"tinygen captured, {label}"] = check.wall(replay, library.synchronize)
    check.use("highest")
    return {"passed": True, "seconds": record, "flops": library.count_flops(lambda: step.update(*batches[0]))}


class Compiled(Torch):
    """torch.compile with CUDA graphs, whose results live until the next step begins."""

    def compiled(self, function: Callable) -> Callable:
        return self.T.compile(function, mode="reduce-overhead")

    def begin_step(self) -> None:
        self.T.compiler.cudagraph_mark_step_begin()


def torch_step(check: Check, name: str, compiled: bool = False) -> dict[str, Any]:
    import torch

    record = {}
    for tf32, label in ((False, "float32"), (True, "tf32")):
        if compiled and not tf32:
            continue  # compiling takes long: only what PyTorch's users would do for speed
        allow_tf32(torch, tf32)
        rival = (Compiled if compiled else Torch)(1, check.torch_device, fused=True)
        job = rival.step(name, small=check.rehearse)[0]

        def run(_: int, rival: Torch = rival, job: Callable = job) -> None:
            rival.begin_step()
            job()

        record[f"torch{' compiled' if compiled else ''}, {label}"] = check.wall(run, rival.synchronize)
    return {"passed": True, "seconds": record}


def compiled(check: Check) -> Items:
    names = [n for n in STEPS if "twice" not in NO_COMPILE.get(n, "")]  # what is only slow on a CPU is tried here
    if check.rehearse:  # compiling for a CPU takes a minute
        return {"mlp_ae": lambda: torch_step(check, "mlp_ae")}
    return {name: lambda name=name: torch_step(check, name, compiled=True) for name in names}  # type: ignore[misc]


def functions(check: Check) -> Items:
    chosen = ["-k", "einsum or masked"] if check.rehearse else []
    return {"functions": lambda: check.pytest("tests/cuda/test_cuda_functions.py", *chosen)}


def tour_steps() -> list[str]:
    """The files of csrc/cuda/tour, in order."""
    from tinygen.backends.cuda import sources

    return sorted(p.name for p in (sources.folder() / "tour").glob("*.cu"))


def tour_job(kernels: Any, step: str, layer: Layer) -> tuple[Callable[[], Any], Any]:
    """(a function that launches one step of the tour on a layer, the array that holds its result)."""
    from tinygen.backends.cuda import emulated, gather, sources
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
        module = kernels.xp.RawModule(code=sources.source(f"tour/{step}"), options=sources.OPTIONS)
        function = module.get_function("convolution")
    else:
        function = emulated.Library(sources.folder() / "tour" / step)["convolution"]
    return lambda: function((blocks,), (256,), tuple(arguments)), y


def tour(check: Check) -> Items:
    layer = LAYERS[0] if check.rehearse else next(one for one in LAYERS if one.name == "dc64_d2")

    def one_step(step: str) -> dict[str, Any]:
        job, y = tour_job(check.kernels, step, layer)
        took = check.seconds(job)
        want = Tinygen(1, "cuda").conv(layer)["forward"]().array
        deviation = float(abs(y - want).max() / abs(want).max())
        return {"passed": deviation < 1e-4, "layer": layer.name, "seconds": took, "deviation": deviation,
                "per_second": layer.flops / took}  # fmt: skip

    return {step: lambda step=step: one_step(step) for step in tour_steps()}


def sanitizer(check: Check) -> Items:
    """A tool: memory from the driver, not from CuPy's pool, so that the first byte past an array is nobody's."""
    program = (
        "import cupy; cupy.cuda.set_allocator(None); import test_cuda_kernels as t; "
        "t.every_kernel(t.on_device.table()); print('finished')"
    )
    tool = shutil.which("compute-sanitizer") or shutil.which("compute-sanitizer", path="/usr/local/cuda/bin")

    def watched(name: str) -> dict[str, Any]:
        if tool is None and not check.rehearse:
            return {"passed": None, "error": "compute-sanitizer is not installed"}
        prefix = [] if check.rehearse else [tool, "--tool", name, "--error-exitcode", "9", "--print-limit", "20"]
        if name == "memcheck" and prefix:
            prefix += ["--report-api-errors", "no"]  # CuPy asks CUDA questions that it may answer with an error
        result = check.run([*prefix, sys.executable, "-c", program], TINYGEN_TEST_POISON="0")  # type: ignore[list-item]
        if prefix and not result["passed"] and not re.search("ERROR SUMMARY|Traceback|out of time", str(result)):
            why = f"compute-sanitizer cannot watch here: {result['output'][-300:]}"
            return {**result, "passed": None, "error": why}
        return result

    names = ("memcheck", "racecheck", "synccheck", "initcheck")
    return {name: lambda name=name: watched(name) for name in (names[:1] if check.rehearse else names)}


# ---------------------------------------------------------------- a section's process, and the one that starts them


def work(section: str, results: Results, check: Check) -> int:
    """Runs the items that have no result yet; 0, or 3 where another process must go on."""
    items: Items = globals()[section](check)
    results.content["wanted"] = list(items)
    for name, job in items.items():
        if name in results.items:
            continue
        if check.left < 5:
            break
        results.begin(name)
        begin = time.monotonic()
        try:
            result = job()
        except Exception as error:  # the others still have something to say
            said = "".join(traceback.format_exception(error))[-3000:]
            result = {"passed": False, "error": f"{type(error).__name__}: {error}"[:500], "output": said}
        results.end(name, {**result, "took": time.monotonic() - begin})
        if not result["passed"] and check.is_broken():
            return 3
    results.save()
    return 0


def run_section(results: Results, command: list[str], seconds: float) -> None:
    """Has processes work at a section until all its items have a result, or the time is up."""
    end = time.monotonic() + seconds
    while True:
        left = end - time.monotonic()
        if left < 10:
            return
        worker = subprocess.Popen([*command, "--budget", str(left - 5)], cwd=ROOT, start_new_session=True)
        try:
            code = worker.wait(left)
        except (subprocess.TimeoutExpired, KeyboardInterrupt) as stopped:
            os.killpg(worker.pid, signal.SIGKILL)
            worker.wait()
            if isinstance(stopped, KeyboardInterrupt):
                raise
            code = -signal.SIGKILL
        now = gpu_report.read(results.path)[results.section]
        results.content, results.items = now, now["items"]
        if now["running"] or code not in (0, 3):  # nobody could say how it ended
            item, late = now["running"] or "start", code == -signal.SIGKILL and time.monotonic() > end - 1
            results.end(item, {"passed": False, "error": "out of time" if late else f"its process ended with {code}"})
        if code == 0 or not now["items"] or "start" in now["items"]:
            return


def machine_name() -> str:
    """The GPU's name as a folder's; ends the program where there is none."""
    ask = (
        "import tinygen\nxp = tinygen.device('cuda').kernels.xp\n"
        "print(xp.cuda.runtime.getDeviceProperties(0)['name'].decode())"
    )
    done = subprocess.run([sys.executable, "-c", ask], cwd=ROOT, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"benchmarks.gpu_check: {done.stderr.strip().splitlines()[-1]}")
    return done.stdout.strip().splitlines()[-1].replace(" ", "-").lower()


def build() -> None:
    """The C++ extension, where a clone lies there unbuilt: the tests compare with it."""
    if not list((ROOT / "tinygen").glob("_cpu*.so")):
        subprocess.run([sys.executable, "setup.py", "-q", "build_ext", "--inplace"], cwd=ROOT, check=False)


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="benchmarks.gpu_check", description=__doc__.split("\n\n")[0])  # type: ignore
    parser.add_argument("--only", help=f"sections, separated by commas, of {', '.join(LIMITS)}")
    parser.add_argument("--budget", type=float, default=570, help="seconds for all sections (default 570)")
    parser.add_argument("--again", action="store_true", help="run what passed before, too")
    parser.add_argument("--out", help="folder of results (default benchmarks/results/<GPU>)")
    parser.add_argument("--rehearse", action="store_true", help="on the emulator, smallest sizes; times mean nothing")
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    options = parser.parse_args(argv)
    end = time.monotonic() + options.budget
    if options.rehearse:
        os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(STAND_IN), os.environ.get("PYTHONPATH")]))
    chosen = options.only.split(",") if options.only else list(LIMITS)
    if unknown := set(chosen) - set(LIMITS):
        parser.error(f"unknown section {', '.join(sorted(unknown))}; known are {', '.join(LIMITS)}")
    same = {"sources": sources(), "rehearsal": options.rehearse}
    if options.worker:
        results = Results(Path(options.out), options.worker, same)
        return work(options.worker, results, Check(options.rehearse, options.budget))
    build()
    machine = machine_name()
    folder = Path(options.out or ROOT / "benchmarks" / "results" / machine).resolve()
    folder.mkdir(parents=True, exist_ok=True)
    verdicts = {}
    for section in [name for name in LIMITS if name in chosen]:
        results, begin = Results(folder, section, {"machine": machine, **same}, options.again), time.monotonic()
        results.content["commit"] = commit()
        results.forget_failures()
        results.save()
        if results.content["passed"] is not True:
            command = [sys.executable, "-m", "benchmarks.gpu_check", "--worker", section, "--out", str(folder)]
            command += ["--rehearse"] if options.rehearse else []
            run_section(results, command, min(LIMITS[section], end - time.monotonic()))
        verdicts[section] = results.content["passed"]
        gpu_report.tell(results.content, time.monotonic() - begin)
    gpu_report.conclude(folder, list(LIMITS))
    return int(False in verdicts.values())


if __name__ == "__main__":
    sys.exit(main())
