"""A contender's process: reads one JSON message a line, does it, answers with one line. Started by `lockstep`.

    {"do": "start", "library": "tinygen", "threads": 2, ...}      {"do": "conv", "layer": [...], "save": "path.npz"}
    {"do": "warm", "pass": "forward", "milliseconds": 8}          {"do": "sample", "pass": "forward"}

Each answer carries the CPU time that this process has used so far.
Before it answers a sample it waits until its own threads have stopped spinning, so that the next contender has the
machine.
"""

from __future__ import annotations

import gc
import json
import os
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any


def queued() -> float:
    """Seconds that this process's threads have spent ready to run while something else did (Linux; else 0)."""
    total = 0
    try:
        for task in os.listdir("/proc/self/task"):
            total += int(Path(f"/proc/self/task/{task}/schedstat").read_text().split()[1])
    except (OSError, IndexError):
        pass
    return total / 1e9


def settle(limit: float = 0.25) -> None:
    """Returns when this process uses no processor any more: threads spin for a while after work."""
    end = time.perf_counter() + limit
    while time.perf_counter() < end:
        before = time.process_time()
        time.sleep(0.002)
        if time.process_time() - before < 0.0004:
            return


def peak_rss_mb() -> float:
    """The most memory that this process has held, in MB."""
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (1e6 if sys.platform == "darwin" else 1e3)


def begin_peak() -> float:
    """Begins to watch the peak of `peak_since` (Linux; elsewhere it counts from the start); what is held now, in MB."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return peak_rss_mb()
    return _status("VmRSS")


def peak_since() -> float:
    """The most memory held since `begin_peak`, in MB."""
    try:
        return _status("VmHWM")
    except OSError:
        return peak_rss_mb()


def _status(name: str) -> float:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{name}:")) / 1e3


class Worker:
    """Handles messages; each method is one of them."""

    def __init__(self) -> None:
        self.jobs: dict[str, Callable[[], Callable[[], Any]]] = {}  # pass: prepare() -> what is timed
        self.repeats: dict[str, int] = {}
        self.fill: dict[str, float] = {}  # seconds of calls before a sample; 0 where a call is longer than all that

    def start(self, library: str, **options: Any) -> dict:
        from .libraries import LIBRARIES

        self.library = LIBRARIES[library](**options)
        return {"version": self.library.T.__version__, "isa": self.library.isa, "rss_mb": peak_rss_mb()}

    def _save(self, path: str, arrays: dict[str, Any]) -> None:
        import numpy as np

        np.savez(path, **arrays)

    def conv(self, layer: list, passes: list[str], save: str = "") -> dict:
        """Prepares the passes of a layer, and saves their results where `save` says."""
        from .cases import Layer

        made = self.library.conv(Layer(*layer))
        always = lambda job: lambda: job
        self.jobs = {name: always(made[name]) for name in passes}
        self.inference = True
        if save:
            with self.library.T.no_grad():
                self._save(save, {name: self.library.array(made[name]()) for name in passes})
        return {}

    def step(self, model: str, small: bool, save: str = "") -> dict:
        """Prepares a training step, and saves the losses and gradients that are compared."""
        job, step, compared = self.library.step(model, small)
        self.jobs, self.inference = {"step": lambda: job}, False
        if save:
            self._save(save, {str(i): a for i, a in enumerate(compared)})
        count = getattr(self.library, "count_flops", None)
        parameters = sum(int(p.numel()) for m in step.modules for p in m.parameters())
        return {"images": step.images, "parameters": parameters, "flops": count(job) if count else None}

    def overhead(self, op: str, save: str = "") -> dict:
        """Prepares an op on a tiny tensor: unrecorded, recorded, and backward."""
        self.jobs, self.inference = self.library.overhead(op), False
        if save:
            f, a, b, _ = self.library._tiny(op)
            self._save(save, dict.fromkeys(self.jobs, self.library.array(f(a, b))))
        return {}

    def recipe(self, settings: dict, weights: str, steps: int, save: str = "") -> dict:
        """Prepares an update of a recipe, and saves the metrics of its first steps."""
        training = self._training(settings, weights)
        self.held = begin_peak()
        self._save(save, training.course(steps))
        job = training.job()
        self.jobs, self.inference = {"step": lambda: job}, False
        return {"drops": training.drops}

    def train(self, settings: dict, weights: str, samples: int) -> dict:
        """Trains a recipe by its whole plan; its test figures."""
        self.jobs = {}
        training, began = self._training(settings, weights), time.perf_counter()
        training.train()
        return {"seconds": time.perf_counter() - began, "figures": training.figures(samples)}

    def _training(self, settings: dict, weights: str) -> Any:
        from tinygen.recipes import Settings

        from .trainings import Training

        return Training(self.library, Settings(**settings), Path(weights))

    def growth(self) -> dict:
        """What the steps have taken on top of what was held before the first, in MB."""
        return {"mb": peak_since() - self.held}

    def _run(self, prepare: Callable, count: int) -> float:
        """Seconds per call over `count` calls; what prepare() does is not counted."""
        total, clock = 0.0, time.perf_counter
        with self.library.T.set_grad_enabled(not self.inference):
            for _ in range(count):
                job = prepare()
                self.library.synchronize()
                begin = clock()
                job()
                self.library.synchronize()
                total += clock() - begin
                del job
        return total / count

    def warm(self, milliseconds: float, repeats: int = 0, **message: Any) -> dict:
        """Runs a pass until its time is steady, and fixes how many calls make a sample: `repeats`, or this length."""
        name = message["pass"]
        prepare = self.jobs[name]
        end, best, calls = time.perf_counter() + 3e-3 * milliseconds, float("inf"), 0
        while calls < 1 or (calls < 2 and best < 1.0) or (time.perf_counter() < end and calls < 10_000):
            best, calls = min(best, self._run(prepare, 1)), calls + 1
        self.fill[name] = 0.5e-3 * milliseconds if best < 0.2 else 0.0
        self.repeats[name] = repeats or max(1, min(10_000, round(1e-3 * milliseconds / max(best, 1e-7))))
        gc.collect()
        settle()
        return {"repeats": self.repeats[name], "seconds": best}

    def sample(self, **message: Any) -> dict:
        """Calls that fill the caches and spread the threads over the cores, then the calls that count.

        Linux wakes threads on the core of the one that wakes them, and moves them at its next tick, up to 4 ms later.
        """
        name = message["pass"]
        began = time.perf_counter()
        while time.perf_counter() - began < self.fill[name]:
            self._run(self.jobs[name], 1)
        waited, began = queued(), time.perf_counter()
        seconds = self._run(self.jobs[name], self.repeats[name])
        share = (queued() - waited) / (time.perf_counter() - began)
        settle()
        return {"seconds": seconds, "waited": share}

    def probe(self, milliseconds: float, threads: int = 0) -> dict:
        """The FMA peak now, of this many threads (0: those in use); None where nothing can measure it."""
        from tinygen import _cpu, get_num_threads, set_num_threads

        before = get_num_threads()
        set_num_threads(threads or before)
        peak = _cpu.fma_peak(milliseconds) if self.library.device == "cpu" else None
        set_num_threads(before)
        settle()
        return {"gflops": peak}

    def bandwidth(self, megabytes: float) -> dict:
        from tinygen import _cpu

        if self.library.device != "cpu":
            return {"gbs": None}
        rate = _cpu.bandwidth(megabytes, "triad")
        settle()
        return {"gbs": rate}

    def memory(self) -> dict:
        return {"peak_rss_mb": peak_rss_mb()}


def main() -> None:
    answers = os.fdopen(os.dup(1), "w", buffering=1)  # what libraries print must not mix with the answers
    os.dup2(2, 1)
    worker = Worker()
    for line in sys.stdin:
        message = json.loads(line)
        try:
            answer = getattr(worker, message.pop("do"))(**message)
        except ImportError as error:
            answer = {"error": str(error), "missing": error.name or ""}
        except Exception as error:
            answer = {"error": f"{type(error).__name__}: {error}", "trace": traceback.format_exc()}
        answer["cpu"] = time.process_time()
        answers.write(json.dumps(answer) + "\n")


if __name__ == "__main__":
    main()
