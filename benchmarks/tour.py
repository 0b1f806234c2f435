"""python -m benchmarks.tour: one convolution from seven loops to a fast kernel, step by step (csrc/cpu/tour).

    python -m benchmarks.tour                                    two layers, all cores
    python -m benchmarks.tour --shape 64,128,16,16,256,4,2,1     a layer of your own: N,C,H,W,K,k,stride,pad
    python -m benchmarks.tour --cases '5*,6*' --isa avx2         some of the steps, with another instruction set

Every step is compiled as it stands in its file and compared with the reference backend on ragged shapes; then all of
them, tinygen's own kernel and PyTorch are timed in turn. "% of peak": of the FMA peak of the threads that a step uses;
"deviation": from the reference backend, of the largest output.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
import sysconfig
from argparse import Namespace
from concurrent.futures import ThreadPoolExecutor
from dataclasses import astuple, replace
from pathlib import Path

import numpy as np

from . import machine
from . import records as rec
from .cases import LAYERS, Layer, choose, parse
from .libraries import TourStep, operands
from .lockstep import Contenders
from .options import parse as parse_options
from .options import parser

SOURCES = machine.ROOT / "csrc" / "cpu" / "tour"
BUILT = machine.ROOT / "build" / "tour"
SHOWN = ("dc64_d2", "cae3")  # a layer of a DCGAN, and one with a 3 x 3 kernel, for step 8
VARIANTS = ("nchw-tuned", "channels_last-tuned")
FLAGS = {  # as in setup.py
    "baseline": ["-DTINYGEN_VECTOR_BYTES=16"],
    "avx2": ["-mavx2", "-mfma", "-DTINYGEN_VECTOR_BYTES=32"],
    "avx512": [*(f"-mavx512{part}" for part in ("f", "dq", "bw", "vl")), "-mfma", "-DTINYGEN_VECTOR_BYTES=64"],
}
SINGLE = ("1", "2", "3", "4", "5", "6")  # steps that use one thread, whatever --threads says
RAGGED = [  # nothing fits: images, filters, rows, columns, depth; taps that never reach the image; one of each
    replace(parse(text), name=f"ragged{i}")
    for i, text in enumerate(
        ("3,2,7,9,5,3,1,1", "33,3,9,8,9,4,2,1", "2,3,5,6,7,5,3,2", "17,4,6,6,13,1,1,0")
        + ("40,2,5,17,20,3,2,0", "5,19,3,3,3,3,1,3", "1,9,11,10,8,3,1,0", "1,1,1,1,1,1,1,0")
    )
]
TOLERANCE = 1e-5  # max |step - reference| / max |reference|, in float32


def main(argv: list[str] | None = None) -> list[rec.Record]:
    """Compiles, checks, measures, prints, writes; the records."""
    p = parser("tour", "A convolution from naive loops to a fast kernel, step by step.", VARIANTS)
    p.add_argument("--shape", action="append", metavar="N,C,H,W,K,k,stride,pad", help="a layer; may be repeated")
    options = parse_options(p, argv)
    options.from_shell = argv is None
    if options.device != "cpu":
        sys.exit(f"benchmarks: the tour is C++ for the CPU; leave --device {options.device} out")
    named = {layer.name: layer for layer in LAYERS}
    layers = [parse(text) for text in options.shape or []] or [named[name] for name in SHOWN]
    if options.quick and not options.shape:
        layers = RAGGED[:2]
    if any(layer.transposed for layer in layers):
        sys.exit("benchmarks: the tour computes convolutions, not transposed ones; leave ,T out")
    names = choose([path.stem for path in sorted(SOURCES.glob("[0-9]*.cpp"))], options.cases, "step")
    libraries = build(names, options.isa)
    for name, path in libraries.items():
        check(name, path)
    records: list[rec.Record] = []
    notes: list[str] = []
    for threads in options.threads:
        for layer in layers:
            able = {name: path for name, path in libraries.items() if applies(name, layer)}
            with Contenders(options, threads, options.variants, able) as field:
                base = rec.made_at(options, field, field.bandwidth())
                records += measure(field, layer, base)
                notes += field.notes
    report(records, options, notes)
    return records


# ---------------------------------------------------------------------------------- build and check


def find_compiler() -> list[str]:
    """The command of the C++ compiler that setup.py would take; ends the program where there is none."""
    for candidate in filter(None, (os.environ.get("CXX"), sysconfig.get_config_var("CXX"), "g++", "c++", "clang++")):
        command = shlex.split(candidate)
        if shutil.which(command[0]):
            return command
        if candidate == os.environ.get("CXX"):
            sys.exit(f"benchmarks: CXX={candidate}: not found; unset CXX or correct it")
    sys.exit("benchmarks: the tour needs a C++17 compiler (Debian, Ubuntu: apt install g++); none was found")


def build(names: list[str], isa: str = "") -> dict[str, Path]:
    """{step: library}, compiled for an instruction set ("": the best here) where sources or command have changed."""
    from tinygen import _cpu

    isa = isa or _cpu.isa()
    if isa not in _cpu.isas():
        sys.exit(f"benchmarks: this processor has no {isa}; use --isa {' or '.join(_cpu.isas())}")
    folder = BUILT / isa
    folder.mkdir(parents=True, exist_ok=True)
    compiler = [*find_compiler(), "-std=c++17", "-O3", "-fPIC", "-shared", "-pthread", "-Wall", "-Wextra"]
    newest = max(p.stat().st_mtime for p in [*SOURCES.iterdir(), SOURCES.parent / "vector.h"])

    def one(name: str) -> Path:
        target = folder / f"{name}.so"
        command = [*compiler, *FLAGS[isa], f"-DTINYGEN_ISA={isa}", str(SOURCES / f"{name}.cpp")]
        told = target.with_suffix(".command")
        known = target.exists() and told.exists() and told.read_text() == shlex.join(command)
        if not known or target.stat().st_mtime < newest:
            part = folder / f"{name}.{os.getpid()}.part"  # renamed when complete: another run may have it open
            done = subprocess.run([*command, "-o", str(part)], capture_output=True, text=True)
            if done.returncode:
                sys.exit(f"benchmarks: {name}.cpp does not compile\n{shlex.join(command)}\n{done.stderr}")
            told.write_text(shlex.join(command))
            part.replace(target)
        return target

    with ThreadPoolExecutor(machine.cores()) as jobs:
        return dict(zip(names, jobs.map(one, names)))


def applies(name: str, layer: Layer) -> bool:
    """Whether a step computes this layer: Winograd's transforms here are those of 3 x 3 kernels with stride 1."""
    return "winograd" not in name or (layer.size, layer.stride) == (3, 1)


def reference(layer: Layer) -> np.ndarray:
    """The layer's output by the reference backend."""
    from tinygen.backends import reference
    from tinygen.backends.geometry import Geometry

    x, w, _ = operands(layer)
    geo = Geometry.of_convolution("tour", x.shape, w.shape, 1, layer.stride, layer.pad, 1)
    return reference.conv(x, w, geo)


def off(y: np.ndarray, right: np.ndarray) -> float:
    """max |y - right| / max |right|."""
    return float(np.abs(y - right).max() / np.abs(right).max())


def check(name: str, path: Path) -> None:
    """Compares a step with the reference backend on RAGGED; ends the program where they differ by over TOLERANCE."""
    for layer in RAGGED:
        if not applies(name, layer):
            continue
        x, w, _ = operands(layer)
        for threads in (1, 3):
            deviation = off(TourStep(threads, str(path)).job(layer, x, w)(), reference(layer))
            if not deviation <= TOLERANCE:  # NaN too: an output that was never written
                sys.exit(f"benchmarks: step {name} is wrong: {layer.text} is {deviation:.1e} off the reference backend")


# ---------------------------------------------------------------------------------- measure and tell


def measure(field: Contenders, layer: Layer, base: rec.Record) -> list[rec.Record]:
    """A record for each step, pass = its name; then one (of each variant of torch) for pass "tinygen"."""
    field.all("conv", layer=astuple(layer), passes=["forward"])
    times, peak = field.measure("forward")
    alone = field.workers["tinygen"].ask("probe", milliseconds=20.0, threads=1)["gflops"] if peak else None
    told, right = {"shape": layer.text}, reference(layer)
    deviation = {name: off(field.result(name, "forward"), right) for name in times}
    records, before = [], None
    for name in field.tour:
        threads = 1 if name[0] in SINGLE else field.threads
        roof = peak if threads == field.threads else alone
        (r,) = rec.records_of(
            base, layer.name, name, {"tinygen": times[name]}, roof, {}, layer.flops, layer.bytes, **told
        )
        r |= {"deviation": deviation[name], "title": title(name), "own_threads": threads}
        records.append(r | {"gain": before / r["tinygen_ms"] if before else None})
        before = r["tinygen_ms"]
    rivals = {name: t for name, t in times.items() if name not in field.tour}
    for r in rec.records_of(base, layer.name, "tinygen", rivals, peak, {}, layer.flops, layer.bytes, **told):
        r |= {"deviation": deviation["tinygen"], "torch_deviation": deviation.get(r["torch_variant"])}
        records.append(r | {"title": "tinygen's own kernel", "own_threads": field.threads, "gain": None})
    return records


def title(name: str) -> str:
    """What a step is, from the first line of its file: // Step 1: the definition, seven loops."""
    first = (SOURCES / f"{name}.cpp").read_text().splitlines()[0]
    return re.sub(r"^// Step (\w+): |\.$", r"\1  ", first).rstrip()


def staircase(records: list[rec.Record]) -> list[list[str]]:
    """The rows of one layer's table: step, threads, ms, GFLOP/s, % of peak, gain over the step before, deviation."""
    rows = [["", "threads", "ms", "GFLOP/s", "% of peak", "gain", "deviation"]]
    share = lambda value: rec.number(value, 3 if value and value > 10 else 2)
    for r in rec.first_of_each(records):
        rates = [rec.number(r["tinygen_ms"]), rec.number(r["gflops"]), share(r["percent_of_peak"])]
        gain = f"x {rec.number(r['gain'])}" if r["gain"] else ""
        rows.append([r["title"], str(r["own_threads"]), *rates, gain, f"{r['deviation']:.0e}"])
    for r in records:
        if r["torch_variant"]:
            rate, part = rec.number(r["mflop"] / r["torch_ms"]), share(r["torch_percent_of_peak"])
            name, deviation = f"PyTorch {r['torch_variant']}", f"{r['torch_deviation']:.0e}"
            rows.append([name, str(r["threads"]), rec.number(r["torch_ms"]), rate, part, "", deviation])
    return rows


def heading(r: rec.Record) -> str:
    """A layer's name, if it has one, and numbers."""
    return r["shape"] if r["case"] == r["shape"] else f"{r['case']} ({r['shape']})"


def tables(records: list[rec.Record]) -> list[list[rec.Record]]:
    """The records of each layer and number of threads."""
    found: dict[tuple[str, int], list[rec.Record]] = {}
    for r in records:
        found.setdefault((r["shape"], r["threads"]), []).append(r)
    return list(found.values())


def report(records: list[rec.Record], options: Namespace, notes: list[str]) -> None:
    """Prints the staircase of each layer and number of threads, and what the other benchmarks print at their end."""
    for mine in tables(records):
        one = mine[0]
        peaks = {r["own_threads"]: r["peak_gflops"] for r in mine if r["peak_gflops"]}
        roof = ", ".join(f"{peak:.0f} GFLOP/s ({rec.count(threads)})" for threads, peak in peaks.items())
        print(f"\n{heading(one)}, {one['mflop']:.0f} MFLOP; {rec.place(one)}; FMA peak {roof or 'unknown'}")
        print(rec.columns(staircase(mine)))
        if any((r["percent_of_peak"] or 0) > 100 for r in mine):
            print(f"% of peak: {rec.NOMINAL}")
    rec.conclude(records, options, notes)


if __name__ == "__main__":
    main()
