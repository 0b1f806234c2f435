"""Contenders in lockstep: one process each, a sample each in turn, until the medians are steady.

    with Contenders(options, variants) as field:          # tinygen, and torch in each of these variants
        field.all("conv", layer=..., passes=[...])        # everybody prepares the same inputs
        times = field.measure("forward")                  # {"tinygen": Times, "nchw-default": Times, ...}

A round is one sample of every contender, in an order that rotates; between samples all threads are asleep. Rounds end
when every interquartile range is below 2 % of its median, or when the budget of seconds is used up.

Two things are set aside where enough else remains. Rounds in which other programs ran: their time is what is left of
the cores' time after idle time and the contenders' own CPU time, the hypervisor's included. And samples in which the
contender's threads had to wait for a core, mostly for each other: two on one core, where the system had put them. Only
other programs make a cell "disturbed": who starts more threads than there are cores has himself to blame.
"""

from __future__ import annotations

import contextlib
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from . import machine

VARIANTS = ("nchw-default", "nchw-tuned", "channels_last-default", "channels_last-tuned")
STEADY = 0.02  # interquartile range over median
FOREIGN = 0.03  # share of the cores' time that other programs may use in a round
WAITED = 0.02  # share of a sample that threads may wait for a core
TICK = 0.01  # seconds to which the system counts idle time
INSTALL_TORCH = "torch is not installed: tinygen is measured alone. To compare: pip install -e '.[torch]'"


class WorkerFailed(RuntimeError):
    """A contender raised or died; `missing` names a package that could not be imported."""

    def __init__(self, name: str, text: str, missing: str = "") -> None:
        super().__init__(f"{name}: {text}")
        self.missing = missing


class Worker:
    """The parent's end of one contender's process."""

    def __init__(self, name: str, env: dict[str, str]) -> None:
        self.name = name
        self.cpu = 0.0  # seconds of CPU time that it has used, at its last answer
        self.log = tempfile.TemporaryFile("w+")  # noqa: SIM115 (closed with the process)
        self.process: Any = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.log,
            text=True,
            env=env,
            cwd=machine.ROOT,
        )

    def send(self, do: str, **message: Any) -> None:
        try:
            self.process.stdin.write(json.dumps({"do": do, **message}) + "\n")
            self.process.stdin.flush()
        except (BrokenPipeError, ValueError):
            pass  # the process is gone: receive() says why

    def receive(self) -> dict:
        line = self.process.stdout.readline()
        if not line:
            self.log.seek(0)
            raise WorkerFailed(
                self.name, f"the process died ({self.process.wait()}): {self.log.read()[-2000:].strip()}"
            )
        answer = json.loads(line)
        self.cpu = answer["cpu"]
        if "error" in answer:
            raise WorkerFailed(self.name, answer.get("trace", answer["error"]).strip(), answer.get("missing", ""))
        return answer

    def ask(self, do: str, **message: Any) -> dict:
        with contextlib.suppress(BrokenPipeError):  # the process has died: receive() says why
            self.send(do, **message)
        return self.receive()

    def close(self) -> None:
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.close()
        try:
            self.process.wait(5)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.process.stdout.close()
        self.log.close()


@dataclass(frozen=True)
class Usage:
    """Seconds until now: of the clock, of idle time on our cores (None: unknown here), of the contenders' CPU time."""

    clock: float
    idle: float | None
    ours: float


@dataclass(frozen=True)
class Round:
    """What other programs used of `available` seconds of our cores; off by a TICK to either side."""

    foreign: float
    available: float

    @classmethod
    def between(cls, before: Usage, after: Usage, cores: int) -> Round:
        available = cores * (after.clock - before.clock)
        if before.idle is None or after.idle is None:
            return cls(0.0, available)
        return cls(available - (after.idle - before.idle) - (after.ours - before.ours), available)

    @property
    def calm(self) -> bool:
        return self.foreign <= FOREIGN * self.available + TICK


@dataclass
class Times:
    """Samples of one contender, in seconds per call, each with its round and the share spent waiting for a core."""

    samples: list[float] = field(default_factory=list)
    rounds: list[Round] = field(default_factory=list)
    waited: list[float] = field(default_factory=list)
    repeats: int = 1

    @property
    def clean(self) -> list[float]:
        """Samples of calm rounds without waiting; where fewer than three are, of calm rounds; of all rounds."""
        calm = [(s, w) for s, r, w in zip(self.samples, self.rounds, self.waited) if r.calm]
        for found in ([s for s, w in calm if w <= WAITED], [s for s, _ in calm]):
            if len(found) >= 3:
                return found
        return self.samples

    @property
    def disturbed(self) -> bool:
        """Whether samples had to be used while other programs ran: too few calm rounds, or a little in each of them."""
        calm = [r for r in self.rounds if r.calm]
        together = Round(sum(r.foreign for r in calm), sum(r.available for r in calm))
        return len(calm) < min(3, len(self.rounds)) or not together.calm

    @property
    def median(self) -> float:
        return statistics.median(self.clean)

    @property
    def iqr(self) -> float:
        """Interquartile range: the middle half of the samples lies in it."""
        low, high = np.percentile(self.clean, [25, 75])
        return float(high - low)

    @property
    def steady(self) -> bool:
        return not self.disturbed and self.iqr <= STEADY * self.median


class Contenders:
    """tinygen, the variants of torch, and steps of the tour ({name: its library}), each in a process of its own.

    A context manager.
    """

    def __init__(
        self, options: Any, threads: int, variants: list[str], tour: Mapping[str, Path] | None = None
    ) -> None:
        self.options, self.threads, self.variants, self.tour = options, threads, variants, tour or {}
        self.workers: dict[str, Worker] = {}
        self.facts: dict[str, dict] = {}  # what each said when it started
        self.notes: list[str] = []
        self.turn = 0

    def __enter__(self) -> Contenders:
        self.folder = tempfile.TemporaryDirectory()
        self._start("tinygen", "tinygen", {}, False)
        for variant in self.variants:
            layout, malloc, *more = variant.split("-")
            settings = {"layout": layout, "fused": bool(more), "compile": "compile" in more}
            self._start(variant, "torch", settings, malloc == "tuned")
        for name, path in self.tour.items():
            self._start(name, "tour", {"path": str(path)}, True)
        for name, worker in list(self.workers.items()):
            try:
                self.facts[name] = worker.receive()
            except WorkerFailed as error:
                if name == "tinygen":
                    self.__exit__()
                    sys.exit(f"benchmarks: {error}")
                self.drop(name, INSTALL_TORCH if error.missing == "torch" else str(error))
        return self

    def _start(self, name: str, library: str, settings: dict, tuned: bool) -> None:
        env = machine.environment(self.threads, self.options.isa, tuned, library)
        self.workers[name] = Worker(name, env)
        self.workers[name].send("start", library=library, threads=self.threads, device=self.options.device, **settings)

    def __exit__(self, *_: Any) -> None:
        for worker in self.workers.values():
            worker.close()
        self.workers = {}
        self.folder.cleanup()

    def drop(self, name: str, why: str) -> None:
        """Goes on without a contender."""
        self.workers.pop(name).close()
        if why not in self.notes:
            self.notes.append(why)
            print(f"  {why}", file=sys.stderr)

    @property
    def rivals(self) -> list[str]:
        return [name for name in self.workers if name != "tinygen"]

    def all(self, do: str, **message: Any) -> dict[str, dict]:
        """Everybody does the same, side by side; a rival that fails drops out. `deviation` reads the results."""
        answers: dict[str, dict] = {}
        for name, worker in self.workers.items():
            worker.send(do, **message, save=str(Path(self.folder.name, f"{name}.npz")))
        for name, worker in list(self.workers.items()):
            try:
                answers[name] = worker.receive()
            except WorkerFailed as error:
                if name == "tinygen":
                    raise
                self.drop(name, str(error))
        return answers

    def result(self, name: str, key: str) -> np.ndarray:
        """What a contender saved."""
        with np.load(Path(self.folder.name, f"{name}.npz")) as saved:
            return saved[key]

    def deviation(self, name: str, key: str | None = None) -> float:
        """max |tinygen - torch| / max |torch| of one array; inf for another shape or NaN.

        Without `key`, of a training step: the larger of that over its losses (array "0") and over all its gradients
        together, which share one scale, since some of them cancel to 0 and have none of their own.
        """
        with (
            np.load(Path(self.folder.name, "tinygen.npz")) as ours,
            np.load(Path(self.folder.name, f"{name}.npz")) as theirs,
        ):
            groups = [[key]] if key else [["0"], [k for k in theirs.files if k != "0"]]
            worst = 0.0
            for group in filter(None, groups):
                if any(k not in ours or ours[k].shape != theirs[k].shape for k in group):
                    return float("inf")
                scale = max(float(np.abs(theirs[k]).max()) for k in group) or 1.0
                error = max(float(np.abs(ours[k].astype(np.float64) - theirs[k]).max()) for k in group)
                worst = max(worst, error / scale if np.isfinite(error) else float("inf"))
        return worst

    def probe(self) -> float | None:
        return self.workers["tinygen"].ask("probe", milliseconds=1.0 if self.options.quick else 6.0)["gflops"]

    def bandwidth(self) -> float | None:
        return self.workers["tinygen"].ask("bandwidth", megabytes=4.0 if self.options.quick else 128.0)["gbs"]

    def memory(self) -> dict[str, float]:
        return {name: worker.ask("memory")["peak_rss_mb"] for name, worker in self.workers.items()}

    def usage(self) -> Usage:
        ours = time.process_time() + sum(worker.cpu for worker in self.workers.values())
        return Usage(time.perf_counter(), machine.idle_seconds(), ours)

    def measure(self, what: str) -> tuple[dict[str, Times], float | None]:
        """Samples of every contender for one pass, and the best FMA rate that the probe reached between them."""
        quick, budget = self.options.quick, self.options.seconds
        least, most = (2, 2) if quick else (7, 25)
        times: dict[str, Times] = {}
        slow = []  # a sample of these takes an eighth of the budget: three, in rounds of their own, must do
        for name, worker in self.workers.items():
            warm = worker.ask("warm", milliseconds=0.2 if quick else 8.0, **{"pass": what})
            times[name] = Times(repeats=warm["repeats"])
            if warm["seconds"] > budget / 8:
                slow.append(name)
        peaks = [self.round(what, slow, times) for _ in range(3)] if slow else []
        rest = [name for name in self.workers if name not in slow]
        began = time.perf_counter()
        for done in range(most if rest else 0):
            spent = time.perf_counter() - began
            if done >= least and (all(times[name].steady for name in rest) or spent > budget):
                break
            if done >= 3 and spent > 1.5 * budget:
                break
            peaks.append(self.round(what, rest, times))
        known = [p for p in peaks if p]
        return times, max(known) if known else None

    def round(self, what: str, names: list[str], times: dict[str, Times]) -> float | None:
        """A sample of each of these contenders, added to their times; the FMA rate that was probed before."""
        before = self.usage()
        peak = self.probe()
        self.turn += 1
        for i in range(len(names)):
            name = names[(i + self.turn) % len(names)]
            answer = self.workers[name].ask("sample", **{"pass": what})
            times[name].samples.append(answer["seconds"])
            times[name].waited.append(answer["waited"])
        this = Round.between(before, self.usage(), machine.cores())
        for name in names:
            times[name].rounds.append(this)
        return peak
