"""The command line that all benchmarks share."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from . import machine, records


def parser(program: str, description: str, variants: tuple[str, ...]) -> argparse.ArgumentParser:
    """An argument parser with the options that every benchmark has."""
    p = argparse.ArgumentParser(prog=f"python -m benchmarks.{program}", description=description)
    p.add_argument(
        "--threads", default=str(machine.cores()), help="number of threads, or several: 1,2 (default: all cores)"
    )
    p.add_argument("--cases", help="only these, comma-separated; * and ? may be used")
    p.add_argument(
        "--variants", default=",".join(variants), help="of torch (default: %(default)s); 'none': tinygen alone"
    )
    p.add_argument("--device", default="cpu", help="cpu or cuda (default: cpu)")
    p.add_argument(
        "--isa", default=os.environ.get("TINYGEN_CPU", ""), help="hold both to avx2 or baseline (default: the best)"
    )
    p.add_argument(
        "--seconds", type=float, default=4.0, help="budget for a cell, all contenders together (default: %(default)s)"
    )
    p.add_argument(
        "--quick", action="store_true", help="tiny cases, two samples: tests the benchmark, measures nothing"
    )
    p.add_argument("--compare", metavar="OLD.json", help="an earlier run's --json: print old / new time of each cell")
    p.add_argument("--json", metavar="PATH", help="write the records there")
    p.add_argument(
        "--save",
        action="store_true",
        help="write the records to benchmarks/results/<machine>/, where report reads them",
    )
    p.set_defaults(program=program, legal_variants=variants)
    return p


def parse(p: argparse.ArgumentParser, argv: list[str] | None) -> argparse.Namespace:
    """The options, checked: `threads` a list of integers, `variants` a list of names."""
    options = p.parse_args(argv)
    try:
        options.threads = [int(t) for t in options.threads.split(",")]
    except ValueError:
        options.threads = [0]
    if min(options.threads) < 1:
        p.error("--threads should be positive integers, for example 2 or 1,2")
    options.variants = [] if options.variants == "none" else [v.strip() for v in options.variants.split(",")]
    for variant in options.variants:
        layout, malloc, more = ([*variant.split("-"), "", ""])[:3]
        if (
            layout not in ("nchw", "channels_last")
            or malloc not in ("default", "tuned")
            or more not in ("", "fused", "compile")
        ):
            p.error(
                f"--variants: {variant!r} is unknown; a variant is nchw or channels_last, -default or -tuned, and in "
                "benchmarks.step perhaps -fused or -compile"
            )
    if options.isa not in ("", "baseline", "avx2", "avx512", "reference"):
        p.error(f"--isa: {options.isa!r} is unknown; use baseline, avx2 or avx512")
    if not options.seconds > 0:
        p.error("--seconds should be positive, for example 2")
    if options.compare and not Path(options.compare).is_file():
        p.error(f"--compare: there is no file {options.compare}")
    options.before = records.load(options.compare) if options.compare else []
    if options.json and (problem := unwritable(Path(options.json))):  # now, not when everything has been measured
        p.error(f"--json: {problem}")
    machine.refuse_reference(options.device, options.isa)
    if not machine.has_glibc() and any("tuned" in v for v in options.variants):
        print("benchmarks: malloc cannot be tuned here (not glibc): the tuned variants are left out", file=sys.stderr)
        options.variants = [v for v in options.variants if "tuned" not in v]
    return options


def unwritable(path: Path) -> str | None:
    """Why a file cannot be written there; None if it can."""
    if path.is_dir():
        return f"{path} is a folder; name a file in it"
    folder = next(p for p in path.resolve().parents if p.exists())
    if not folder.is_dir() or not os.access(folder, os.W_OK):
        return f"nothing can be written in {folder}; name another place"
    return None
